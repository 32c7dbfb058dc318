//! Which backend a tree gets, and the one that is a copy.
//!
//! An overlay costs nothing to start and is what a session should be. It cannot be had where the
//! kernel could not copy a file up: the layer needs a file system with user attributes that is no
//! overlay itself, a mount inside the tree would not show, and a file whose owner is not mapped in
//! the sandbox cannot be written. Then the tree is copied, sharing blocks where the file system
//! can, and the reason is said. Owners are looked at in the tree's root and one level below it:
//! more would be a walk.

use std::fs::{self, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::place::{Object, Sort, Tree, c_behind, look_in, names};
use super::state::{OF_OVERLAY, attributes, set_attributes};
use super::store::Backend;
use super::{SessionError, failed};
use crate::sys::xattr;

/// How much is copied before rung gives up.
const BYTES_MAX: u64 = 16 << 30;
const ENTRIES_MAX: u64 = 1_000_000;
const DEPTH_MAX: usize = 200;
/// Entries of the root whose owners are looked at.
const OWNERS_MAX: usize = 4096;

/// Chooses for a tree whose layer would lie in `directory`, and says why.
pub(super) fn backend(
    base: &Path,
    directory: &Path,
    overlay: Result<(), String>,
) -> Result<(Backend, String), SessionError> {
    let problem = match overlay {
        Err(why) => Some(why),
        Ok(()) => match layer_problem(directory)? {
            None => tree_problem(base)?,
            problem => problem,
        },
    };
    Ok(match problem {
        None => (Backend::Overlay, "nothing is in an overlay's way".to_owned()),
        Some(why) => (Backend::Copy, why),
    })
}

/// What keeps a layer from lying there.
fn layer_problem(directory: &Path) -> Result<Option<String>, SessionError> {
    let tree = Tree::open(directory).map_err(failed("opening", directory))?;
    let kind = nix::sys::statfs::fstatfs(&tree.root)
        .map_err(|errno| failed("looking at", directory)(errno.into()))?
        .filesystem_type();
    if kind == nix::sys::statfs::OVERLAYFS_SUPER_MAGIC {
        return Ok(Some("rung's state lies on an overlay itself".to_owned()));
    }
    // An attribute of a name of its own, so that nothing else is mistaken for it.
    let name = std::ffi::CString::new(format!("{OF_OVERLAY}rung"))
        .map_err(|error| failed("looking at", directory)(error.into()))?;
    let path = c_behind(tree.root.as_fd()).map_err(failed("looking at", directory))?;
    if let Err(errno) = xattr::set(&path, &name, b"y") {
        return Ok(Some(format!("rung's state lies where there are no user attributes ({errno})")));
    }
    match xattr::remove(&path, &name) {
        // Somebody else has tried the same.
        Err(nix::errno::Errno::ENODATA) => {}
        result => result.map_err(|errno| failed("looking at", directory)(errno.into()))?,
    }
    Ok(None)
}

/// What keeps an overlay from lying on top of the tree.
fn tree_problem(base: &Path) -> Result<Option<String>, SessionError> {
    let mounts = fs::read("/proc/self/mountinfo").map_err(failed("reading", base))?;
    if let Some(below) = mount_below(&mounts, base) {
        return Ok(Some(format!("`{}` is a mount of its own", super::shown(&below))));
    }
    let tree = Tree::open(base).map_err(failed("opening", base))?;
    let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let foreign = |facts: &fs::Metadata| (facts.uid(), facts.gid()) != own;
    let say = |path: &Path, facts: &fs::Metadata| {
        let (path, user, group) = (super::shown(path), facts.uid(), facts.gid());
        format!(
            "`{path}` belongs to user {user} and group {group}, which the sandbox does not know"
        )
    };
    let root = tree.look(Path::new("")).map_err(failed("looking at", base))?;
    if let Some(root) = root.filter(|it| foreign(&it.facts)) {
        return Ok(Some(say(base, &root.facts)));
    }
    for name in names(tree.root.as_fd()).map_err(failed("reading", base))?.iter().take(OWNERS_MAX) {
        let found = look_in(tree.root.as_fd(), name).map_err(failed("looking at", base))?;
        if let Some(found) = found.filter(|it| foreign(&it.facts)) {
            return Ok(Some(say(Path::new(name), &found.facts)));
        }
    }
    Ok(None)
}

/// A mount point below `base`, from a text like `/proc/self/mountinfo`.
fn mount_below(mounts: &[u8], base: &Path) -> Option<PathBuf> {
    let points = mounts.split(|byte| *byte == b'\n').filter_map(|line| {
        let point = line.split(|byte| *byte == b' ').nth(4)?;
        Some(PathBuf::from(std::ffi::OsString::from_vec(unescaped(point))))
    });
    points.into_iter().find(|it| it != base && it.starts_with(base))
}

/// Blanks and backslashes are written there as three octal digits.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        let octal = match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                Some((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'))
            }
            _ => None,
        };
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => bytes.push(*first),
        }
    }
    bytes
}

/// What has been copied so far.
struct Copied {
    entries: u64,
    bytes: u64,
}

/// Copies a tree: kinds, contents, modes, times and user attributes. What cannot be copied is an
/// error, because what is missing in a copy would look deleted.
pub(super) fn copy(base: &Path, to: &Path) -> Result<(), SessionError> {
    let from = Tree::open(base).map_err(failed("opening", base))?;
    let root = from.look(Path::new("")).map_err(failed("looking at", base))?;
    let mut copied = Copied { entries: 0, bytes: 0 };
    match root {
        Some(root) => copy_directory(&root, base, to, 0, &mut copied),
        None => Ok(()),
    }
}

fn copy_directory(
    from: &Object,
    path: &Path,
    to: &Path,
    depth: usize,
    copied: &mut Copied,
) -> Result<(), SessionError> {
    let too_much = |max, what| SessionError::TooMuch { path: path.to_owned(), max, what };
    if depth > DEPTH_MAX {
        return Err(too_much(DEPTH_MAX as u64, "directories in each other"));
    }
    for name in names(from.held.as_fd()).map_err(failed("reading", path))? {
        let path = path.join(&name);
        let found = look_in(from.held.as_fd(), &name).map_err(failed("copying", &path))?;
        let Some(found) = found else { continue };
        let to = to.join(&name);
        copied.entries += 1;
        if copied.entries > ENTRIES_MAX {
            return Err(too_much(ENTRIES_MAX, "files"));
        }
        match found.sort() {
            Sort::Directory => {
                super::store::make_directory(&to)?;
                copy_directory(&found, &path, &to, depth + 1, copied)?;
            }
            Sort::File => {
                copied.bytes = copied.bytes.saturating_add(found.facts.len());
                if copied.bytes > BYTES_MAX {
                    return Err(too_much(BYTES_MAX, "bytes"));
                }
                copy_file(&found, &to).map_err(failed("copying", &path))?;
            }
            Sort::Link => found
                .target()
                .and_then(|target| std::os::unix::fs::symlink(target, &to))
                .map_err(failed("copying", &path))?,
            // Sockets and pipes belong to whoever listens at them.
            Sort::Special | Sort::Whiteout => {}
        }
    }
    let mode = Permissions::from_mode(from.facts.mode() & 0o1777);
    fs::set_permissions(to, mode).map_err(failed("copying", path))
}

fn copy_file(from: &Object, to: &Path) -> io::Result<()> {
    let mut source = from.open()?;
    let mut target = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    // Shares the blocks where the file system can.
    io::copy(&mut source, &mut target)?;
    let attributes = attributes(from)?;
    if !attributes.is_empty() {
        let copy = Object::of(target.try_clone()?.into())?;
        set_attributes(&copy, &attributes)?;
    }
    target.set_permissions(Permissions::from_mode(from.facts.mode() & 0o777))?;
    target.set_modified(from.facts.modified()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_below_the_tree_is_found_whatever_its_name() {
        let line = |point: &str| format!("36 35 98:0 / {point} rw,noatime shared:1 - ext4 x rw\n");
        let below = |point: &str| mount_below(line(point).as_bytes(), Path::new("/w s"));
        assert_eq!(below("/w\\040s/a\\134b"), Some(PathBuf::from("/w s/a\\b")));
        assert_eq!(below("/w\\040s"), None);
        assert_eq!(below("/w\\040sx"), None);
        assert_eq!(below("/"), None);
    }

    #[test]
    fn a_copy_is_the_tree_again() {
        let place = tempfile::tempdir().unwrap();
        let (base, to) = (place.path().join("base"), place.path().join("to"));
        fs::create_dir_all(base.join("d/e")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(base.join("d/file"), "text").unwrap();
        fs::set_permissions(base.join("d/file"), Permissions::from_mode(0o750)).unwrap();
        std::os::unix::fs::symlink("file", base.join("d/link")).unwrap();
        let base = fs::canonicalize(&base).unwrap();
        copy(&base, &to).unwrap();
        assert_eq!(fs::read(to.join("d/file")).unwrap(), b"text");
        let (a, b) = (fs::metadata(base.join("d/file")), fs::metadata(to.join("d/file")));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!((a.mode(), a.mtime(), a.mtime_nsec()), (b.mode(), b.mtime(), b.mtime_nsec()));
        assert_eq!(fs::read_link(to.join("d/link")).unwrap(), Path::new("file"));
        assert!(to.join("d/e").is_dir());
    }
}
