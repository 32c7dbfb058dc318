//! Objects below a directory, by descriptor.
//!
//! A session's layer is written by code that nobody trusts, and the user's tree may be written by
//! others while rung works on it. So nothing here goes by path: a directory is opened below the
//! root of its tree without passing any symbolic link, and what is looked at is held.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::state::Moment;
use crate::sys::descriptor;

/// How often a lookup is repeated that a rename elsewhere has disturbed.
const RETRIES_MAX: u32 = 16;

/// The root of a tree.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) root: OwnedFd,
    /// Where it lies, for messages.
    pub(super) path: PathBuf,
}

/// An object that is held, whatever becomes of its name.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) held: File,
    pub(super) facts: fs::Metadata,
}

/// Two equal ones are of one object that nobody has written to in between, as far as the file system's
/// clock can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    size: u64,
    pub(super) modified: Moment,
    pub(super) changed: Moment,
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    File,
    Directory,
    Link,
    /// A character device 0:0, by which a layer says that there is nothing.
    Whiteout,
    Special,
}

impl Tree {
    /// Opens the directory at `path`, which must be no link itself.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let root = match openat2(AT_FDCWD, path, how) {
            Err(Errno::ENOSYS) => step_by_step(AT_FDCWD, path, OFlag::O_DIRECTORY),
            result => result,
        }?;
        Ok(Self { root, path: path.to_owned() })
    }

    /// The directory at `inside`; the root itself for an empty path.
    pub(super) fn directory(&self, inside: &Path) -> io::Result<OwnedFd> {
        if inside.as_os_str().is_empty() {
            return self.root.try_clone();
        }
        beneath(self.root.as_fd(), inside, OFlag::O_DIRECTORY)
            .map_err(|errno| blocked(inside, errno))
    }

    /// What lies at `inside`, not following it; nothing if there is no such name, or if a
    /// directory on the way is not one.
    pub(super) fn look(&self, inside: &Path) -> io::Result<Option<Object>> {
        match self.reach(inside) {
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
            result => result,
        }
    }

    /// The same, but what lies behind something that is no directory cannot be said not to be there:
    /// in a tree that somebody else changes, that may last for a moment only. An error then.
    pub(super) fn reach(&self, inside: &Path) -> io::Result<Option<Object>> {
        if inside.as_os_str().is_empty() {
            return Object::of(self.root.try_clone()?).map(Some);
        }
        match beneath(self.root.as_fd(), inside, OFlag::O_NOFOLLOW) {
            Err(errno @ (Errno::ENOTDIR | Errno::ELOOP)) => Err(blocked(inside, errno)),
            result => found(result),
        }
    }

    /// The directory of `inside`, and the name in it.
    pub(super) fn spot(&self, inside: &Path) -> io::Result<(OwnedFd, CString)> {
        let name = inside.file_name().ok_or(Errno::EINVAL)?;
        let parent = self.directory(inside.parent().unwrap_or(Path::new("")))?;
        Ok((parent, c_string(name)?))
    }
}

fn beneath(root: BorrowedFd<'_>, inside: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    // The last name of a path that is not followed may be a link: it is held and not passed.
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | flags)
        .resolve(resolve | ResolveFlag::RESOLVE_NO_SYMLINKS);
    for _ in 0..RETRIES_MAX {
        match openat2(root, inside, how) {
            Err(Errno::EAGAIN) => {}
            // Of the latter, a directory on the way may be one that its own user may not search.
            Err(Errno::ENOSYS | Errno::EACCES) => return step_by_step(root, inside, flags),
            result => return result,
        }
    }
    Err(Errno::EAGAIN)
}

/// The same without `openat2`, which some filters refuse: those of containers, and rung's own. One
/// name after the other, no link is followed, and no name leads up.
fn step_by_step(from: impl AsFd, path: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
    let open = |at: BorrowedFd<'_>, name: &Path, flags: OFlag| {
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | flags;
        let open = || nix::fcntl::openat(at, name, flags, Mode::empty());
        match open() {
            Err(Errno::EACCES) => opened_up(at, || Ok(open())).unwrap_or(Err(Errno::EACCES)),
            result => result,
        }
    };
    let mut held: Option<OwnedFd> = None;
    let mut parts = path.components().peekable();
    while let Some(part) = parts.next() {
        if !matches!(part, Component::RootDir | Component::Normal(_)) {
            return Err(Errno::EXDEV);
        }
        let flags = if parts.peek().is_some() { OFlag::O_DIRECTORY } else { flags };
        let at = held.as_ref().map_or_else(|| from.as_fd(), AsFd::as_fd);
        held = Some(open(at, part.as_ref(), flags)?);
    }
    held.ok_or(Errno::ENOENT)
}

fn blocked(inside: &Path, errno: Errno) -> io::Error {
    match errno {
        Errno::ENOTDIR | Errno::ELOOP => io::Error::new(
            io::ErrorKind::NotADirectory,
            format!("`{}` leads through something that is no directory", super::shown(inside)),
        ),
        errno => errno.into(),
    }
}

/// Nothing is an answer; everything else that fails is a failure.
fn found(result: Result<OwnedFd, Errno>) -> io::Result<Option<Object>> {
    match result {
        Ok(held) => Object::of(held).map(Some),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// What has this name in a directory, not following it.
pub(super) fn look_in(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Object>> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let open = || nix::fcntl::openat(directory, name, flags, Mode::empty());
    in_spite_of_mode(directory, || found(open()))
}

/// The names in a directory, sorted.
pub(super) fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
    let read = || -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(behind(directory))? {
            names.push(entry?.file_name());
        }
        names.sort_unstable();
        Ok(names)
    };
    in_spite_of_mode(directory, read)
}

/// Acts on an object, which a run may have left with a mode that is in its own user's way.
pub(super) fn in_spite_of_mode<T>(
    held: BorrowedFd<'_>,
    mut act: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    match act() {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => opened_up(held, act),
        result => result,
    }
}

/// Acts on an object whose mode is in its own user's way, which is widened meanwhile.
pub(super) fn opened_up<T>(
    held: BorrowedFd<'_>,
    act: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    let path = behind(held);
    let mode = fs::metadata(&path)?.mode() & 0o7777;
    fs::set_permissions(&path, Permissions::from_mode(mode | 0o700))?;
    let result = act();
    fs::set_permissions(&path, Permissions::from_mode(mode))?;
    result
}

impl Object {
    pub(super) fn of(held: OwnedFd) -> io::Result<Self> {
        let held = File::from(held);
        let facts = held.metadata()?;
        Ok(Self { held, facts })
    }

    pub(super) fn sort(&self) -> Sort {
        let kind = self.facts.mode() & libc::S_IFMT;
        match kind {
            libc::S_IFREG => Sort::File,
            libc::S_IFDIR => Sort::Directory,
            libc::S_IFLNK => Sort::Link,
            libc::S_IFCHR if self.facts.rdev() == 0 => Sort::Whiteout,
            _ => Sort::Special,
        }
    }

    /// When it last changed (`ctime`). Reading one that its own user may not read takes another mode for a
    /// moment, which is such a change: when it was last written to (`mtime`), then.
    pub(super) fn changed(&self) -> Moment {
        const OWNER_READS: u32 = 0o400;
        let is_closed = self.facts.mode() & OWNER_READS == 0;
        if is_closed { Moment::modified(&self.facts) } else { Moment::changed(&self.facts) }
    }

    pub(super) fn stamp(&self) -> Stamp {
        Stamp {
            inode: self.facts.ino(),
            size: self.facts.len(),
            modified: Moment::modified(&self.facts),
            changed: self.changed(),
        }
    }

    /// The file for reading, whatever its mode says to its own user.
    pub(super) fn open(&self) -> io::Result<File> {
        let path = behind(self.held.as_fd());
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            result => return result,
        }
        let mode = self.facts.mode() & 0o7777;
        fs::set_permissions(&path, Permissions::from_mode(mode | 0o400))?;
        let file = File::open(&path);
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
        file
    }

    /// What a symbolic link says.
    pub(super) fn target(&self) -> io::Result<OsString> {
        Ok(nix::fcntl::readlinkat(&self.held, c"")?)
    }

    /// The value of an extended attribute, whatever the object's mode says to its own user.
    pub(super) fn attribute(&self, name: &std::ffi::CStr) -> io::Result<Option<Vec<u8>>> {
        let held = self.held.as_fd();
        let read = || -> io::Result<_> { Ok(crate::sys::xattr::get(&c_behind(held)?, name)?) };
        in_spite_of_mode(held, read)
    }

    /// Whether this directory of a layer hides all of the one below it.
    pub(super) fn is_opaque(&self) -> io::Result<bool> {
        Ok(self.attribute(c"user.overlay.opaque")?.is_some_and(|it| it == b"y"))
    }
}

/// The path that leads to exactly what a descriptor holds.
pub(super) fn behind(held: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()))
}

pub(super) fn c_behind(held: BorrowedFd<'_>) -> io::Result<CString> {
    c_string(behind(held).as_os_str())
}

pub(super) fn c_string(name: &OsStr) -> io::Result<CString> {
    Ok(CString::new(name.as_bytes())?)
}

/// Removes what has this name in a directory, whatever is in it. However deep it is, only two
/// levels are open at a time: a directory in a directory is moved up before it is emptied.
pub(super) fn remove_all(parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<()> {
    let mut waiting: Vec<OsString> = vec![name.to_owned()];
    let mut moved = 0_u64;
    while let Some(name) = waiting.pop() {
        let Some(object) = look_in(parent, &name)? else { continue };
        if object.sort() != Sort::Directory {
            gone(unlinkat(parent, name.as_os_str(), UnlinkatFlags::NoRemoveDir))?;
            continue;
        }
        fs::set_permissions(behind(object.held.as_fd()), Permissions::from_mode(0o700))?;
        for inner in names(object.held.as_fd())? {
            let Some(it) = look_in(object.held.as_fd(), &inner)? else { continue };
            if it.sort() != Sort::Directory {
                gone(unlinkat(&object.held, inner.as_os_str(), UnlinkatFlags::NoRemoveDir))?;
                continue;
            }
            // A directory is moved by writing to it, too.
            fs::set_permissions(behind(it.held.as_fd()), Permissions::from_mode(0o700))?;
            let (from, inner) = (object.held.as_raw_fd(), c_string(&inner)?);
            let up = loop {
                moved += 1;
                let up = OsString::from(format!(".gone-{}-{moved}", std::process::id()));
                match descriptor::rename_new(from, &inner, parent.as_raw_fd(), &c_string(&up)?) {
                    // The file system cannot promise it, and the name is this process's own.
                    Err(Errno::EINVAL) if look_in(parent, &up)?.is_none() => {
                        gone(descriptor::rename(
                            from,
                            &inner,
                            parent.as_raw_fd(),
                            &c_string(&up)?,
                        ))?;
                        break up;
                    }
                    Err(Errno::EEXIST | Errno::EINVAL) => {}
                    result => {
                        gone(result)?;
                        break up;
                    }
                }
            };
            waiting.push(up);
        }
        gone(unlinkat(parent, name.as_os_str(), UnlinkatFlags::RemoveDir))?;
    }
    Ok(())
}

/// Somebody else may be at the same work.
fn gone(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::ENOENT) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn without_openat2_the_same_is_found() {
        let place = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(place.path()).unwrap();
        fs::create_dir_all(base.join("a/b")).unwrap();
        fs::write(base.join("a/b/file"), "").unwrap();
        symlink("a", base.join("link")).unwrap();
        symlink("file", base.join("a/b/link")).unwrap();
        let root = step_by_step(AT_FDCWD, &base, OFlag::O_DIRECTORY).unwrap();
        let look = |it: &str| step_by_step(root.as_fd(), Path::new(it), OFlag::O_NOFOLLOW);
        let sort = |it: &str| Object::of(look(it).unwrap()).unwrap().sort();
        assert_eq!(sort("a/b/file"), Sort::File);
        assert_eq!(sort("a/b"), Sort::Directory);
        // The last name may be a link, which is held; no other may.
        assert_eq!(sort("a/b/link"), Sort::Link);
        for (path, errno) in [
            ("link/b", Errno::ENOTDIR),
            ("a/b/file/x", Errno::ENOTDIR),
            ("a/x", Errno::ENOENT),
            ("a/../a", Errno::EXDEV),
            ("", Errno::ENOENT),
        ] {
            assert_eq!(look(path).err(), Some(errno), "{path}");
        }
        assert!(step_by_step(root.as_fd(), Path::new("link"), OFlag::O_DIRECTORY).is_err());
    }
}
