//! Moves what was made of a protected name out of the way.
//!
//! Other runs may be changing the same tree at the same time, so nothing here goes by path: every
//! level is opened below the one before it, links are never followed, and what is looked at is
//! what is acted on. What cannot be moved into rung's state within bounds stays in its own
//! directory, under a name that nothing looks for.

use std::ffi::{CStr, CString, OsStr};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use crate::sys::descriptor::{self, HERE, Identity};
use crate::sys::process::random;

/// How much is copied when the state lies on another file system.
const BYTES_MAX: u64 = 64 << 20;
const ENTRIES_MAX: u32 = 10_000;
const DEPTH_MAX: u32 = 32;
/// Names tried in a quarantine directory before giving up.
const NAMES_MAX: u32 = 64;

/// An object that is held, whatever becomes of its name.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) held: OwnedFd,
    pub(super) identity: Identity,
}

impl Object {
    fn kind(&self) -> u32 {
        self.identity.mode & libc::S_IFMT
    }

    pub(super) fn is_link(&self) -> bool {
        self.kind() == libc::S_IFLNK
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind() == libc::S_IFDIR
    }

    pub(super) fn is_file(&self) -> bool {
        self.kind() == libc::S_IFREG
    }

    /// Gives the owner the rights in `wanted`.
    fn open_up(&self, wanted: u32) -> io::Result<()> {
        let mode = self.identity.mode & 0o7777;
        if mode & wanted == wanted {
            return Ok(());
        }
        fs::set_permissions(behind(&self.held), Permissions::from_mode(mode | wanted))
    }
}

/// A name in a directory that is held.
#[derive(Debug)]
pub(super) struct Spot {
    pub(super) parent: OwnedFd,
    pub(super) name: CString,
    pub(super) path: PathBuf,
}

/// The path that leads to exactly what a descriptor holds.
fn behind(held: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", held.as_raw_fd()))
}

pub(super) fn c_name(name: &OsStr) -> io::Result<CString> {
    Ok(CString::new(name.as_bytes())?)
}

/// Acts below a directory, whose mode is widened meanwhile if it is in the way.
pub(super) fn below<T>(
    directory: &OwnedFd,
    act: impl Fn(RawFd) -> Result<T, Errno>,
) -> io::Result<T> {
    match act(directory.as_raw_fd()) {
        Err(Errno::EACCES) => {}
        result => return Ok(result?),
    }
    let mode = descriptor::identity(directory.as_raw_fd(), c"")?.mode & 0o7777;
    let set = |mode| fs::set_permissions(behind(directory), Permissions::from_mode(mode));
    set(mode | 0o700)?;
    let result = act(directory.as_raw_fd());
    set(mode)?;
    Ok(result?)
}

/// What has this name, not following it; nothing if there is no such name.
pub(super) fn look(directory: &OwnedFd, name: &CStr) -> io::Result<Option<Object>> {
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let held = match below(directory, |it| descriptor::open_at(it, name, flags, 0)) {
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG) => return Ok(None),
            _ => return Err(error),
        },
        Ok(held) => held,
    };
    let identity = descriptor::identity(held.as_raw_fd(), c"")?;
    Ok(Some(Object { held, identity }))
}

/// Holds a directory; nothing if it is gone, or if a link is on the way to it.
pub(super) fn hold(directory: &Path) -> io::Result<Option<OwnedFd>> {
    let mut at = descriptor::open_at(HERE, c"/", libc::O_PATH | libc::O_DIRECTORY, 0)?;
    for part in directory.components() {
        let Component::Normal(part) = part else { continue };
        match look(&at, &c_name(part)?)? {
            Some(object) if object.is_directory() => at = object.held,
            _ => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// Moves what is at `spot` to `to`, and says where it really is now.
pub(super) fn move_away(spot: &Spot, run: &str, to: &Path) -> io::Result<PathBuf> {
    let Some(object) = look(&spot.parent, &spot.name)? else { return Err(Errno::ENOENT.into()) };
    if object.is_directory() {
        // A directory is moved to another one only by who may write to it. Where that cannot be
        // had, the attempts below say why.
        drop(object.open_up(0o700));
    }
    let moved = free(to).and_then(|to| {
        let into = c_name(to.as_os_str())?;
        below(&spot.parent, |it| descriptor::rename(it, &spot.name, HERE, &into))?;
        Ok(to)
    });
    match moved {
        Ok(to) => Ok(to),
        Err(_) => move_aside(spot, run, to),
    }
}

/// Takes the name away first, in one step, and then tries to copy what it was.
fn move_aside(spot: &Spot, run: &str, to: &Path) -> io::Result<PathBuf> {
    let aside = format!(".rung-quarantine-{run}-{:016x}", u64::from_ne_bytes(random()?));
    let name = CString::new(aside.as_str())?;
    below(&spot.parent, |it| descriptor::rename(it, &spot.name, it, &name))?;
    match free(to).and_then(|to| carry(&spot.parent, &name, &to).map(|()| to)) {
        Ok(to) => Ok(to),
        Err(_) => Ok(spot.path.with_file_name(aside)),
    }
}

/// The first name like `to` that nothing has.
fn free(to: &Path) -> io::Result<PathBuf> {
    let absent = |path: &Path| match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        result => result.map(|_| false),
    };
    for number in 0..NAMES_MAX {
        let mut name = to.as_os_str().to_owned();
        if number > 0 {
            name.push(format!(".{number}"));
        }
        let path = PathBuf::from(name);
        if absent(&path)? {
            return Ok(path);
        }
    }
    Err(Errno::EEXIST.into())
}

/// What may still be copied.
#[derive(Debug)]
struct Budget {
    bytes: u64,
    entries: u32,
    device: u64,
}

/// Moves between file systems: copies all of it, and only then removes it.
fn carry(parent: &OwnedFd, name: &CStr, to: &Path) -> io::Result<()> {
    let Some(object) = look(parent, name)? else { return Err(Errno::ENOENT.into()) };
    let device = object.identity.device;
    let mut budget = Budget { bytes: BYTES_MAX, entries: ENTRIES_MAX, device };
    if let Err(error) = copy(parent, name, &object, to, DEPTH_MAX, &mut budget) {
        // A part of it is worth nothing while the whole is still there.
        drop(fs::remove_dir_all(to).or_else(|_| fs::remove_file(to)));
        return Err(error);
    }
    let mut entries = ENTRIES_MAX;
    // What another run adds meanwhile stays behind, under a name that nothing looks for.
    drop(remove(parent, name, DEPTH_MAX, &mut entries));
    Ok(())
}

fn copy(
    parent: &OwnedFd,
    name: &CStr,
    object: &Object,
    to: &Path,
    depth: u32,
    budget: &mut Budget,
) -> io::Result<()> {
    let deeper = depth.checked_sub(1).ok_or(Errno::ENAMETOOLONG)?;
    budget.entries = budget.entries.checked_sub(1).ok_or(Errno::EFBIG)?;
    if object.identity.device != budget.device {
        return Err(Errno::EXDEV.into());
    }
    match object.kind() {
        libc::S_IFLNK => {
            let target = nix::fcntl::readlinkat(parent, name)?;
            symlink(target, to)
        }
        libc::S_IFDIR => {
            object.open_up(0o700)?;
            fs::create_dir(to)?;
            for entry in fs::read_dir(behind(&object.held))? {
                let entry = entry?.file_name();
                let name = c_name(&entry)?;
                let Some(child) = look(&object.held, &name)? else { continue };
                copy(&object.held, &name, &child, &to.join(entry), deeper, budget)?;
            }
            Ok(())
        }
        libc::S_IFREG => {
            object.open_up(0o400)?;
            let source = File::open(behind(&object.held))?;
            let mut into = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
            // One byte more than allowed shows that there is more.
            let copied = io::copy(&mut source.take(budget.bytes + 1), &mut into)?;
            budget.bytes = budget.bytes.checked_sub(copied).ok_or(Errno::EFBIG)?;
            Ok(())
        }
        // A socket, FIFO or node has nothing worth keeping.
        _ => Ok(()),
    }
}

fn remove(parent: &OwnedFd, name: &CStr, depth: u32, entries: &mut u32) -> io::Result<()> {
    let deeper = depth.checked_sub(1).ok_or(Errno::ENAMETOOLONG)?;
    *entries = entries.checked_sub(1).ok_or(Errno::EFBIG)?;
    let Some(object) = look(parent, name)? else { return Ok(()) };
    if !object.is_directory() {
        return below(parent, |it| descriptor::remove(it, name, 0));
    }
    object.open_up(0o700)?;
    for entry in fs::read_dir(behind(&object.held))? {
        remove(&object.held, &c_name(&entry?.file_name())?, deeper, entries)?;
    }
    below(parent, |it| descriptor::remove(it, name, libc::AT_REMOVEDIR))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        _directory: tempfile::TempDir,
        base: PathBuf,
    }

    fn place() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(directory.path()).unwrap();
        fs::create_dir_all(base.join("tree/evil")).unwrap();
        fs::write(base.join("tree/evil/file"), "evil").unwrap();
        Place { _directory: directory, base }
    }

    fn spot(base: &Path) -> Spot {
        let tree = base.join("tree");
        let parent = hold(&tree).unwrap().unwrap();
        Spot { parent, name: c"evil".to_owned(), path: tree.join("evil") }
    }

    #[test]
    fn a_tree_that_becomes_a_link_leads_nowhere_else() {
        let place = place();
        let spot = spot(&place.base);
        fs::create_dir_all(place.base.join("outside/evil")).unwrap();
        fs::write(place.base.join("outside/evil/file"), "precious").unwrap();
        symlink("../../outside", place.base.join("tree/evil/link")).unwrap();
        fs::rename(place.base.join("tree"), place.base.join("moved")).unwrap();
        symlink("outside", place.base.join("tree")).unwrap();
        carry(&spot.parent, &spot.name, &place.base.join("copy")).unwrap();
        assert_eq!(fs::read(place.base.join("outside/evil/file")).unwrap(), b"precious");
        assert_eq!(fs::read(place.base.join("copy/file")).unwrap(), b"evil");
        assert!(place.base.join("copy/link").is_symlink(), "a link was followed");
        assert!(!place.base.join("moved/evil").exists(), "the offender is still there");
    }

    #[test]
    fn what_is_too_much_to_copy_stays_under_a_name_nothing_looks_for() {
        let check = |make: &dyn Fn(&Path)| {
            let place = place();
            make(&place.base.join("tree/evil"));
            let now = move_aside(&spot(&place.base), "run", &place.base.join("copy")).unwrap();
            let name = now.file_name().unwrap().to_str().unwrap();
            assert!(name.starts_with(".rung-quarantine-run-"), "{name}");
            assert_eq!(now.parent(), Some(&*place.base.join("tree")));
            assert_eq!(fs::read(now.join("file")).unwrap(), b"evil");
            assert!(!place.base.join("copy").exists(), "a part of it was copied");
            assert!(!place.base.join("tree/evil").exists(), "the name is still there");
        };
        check(&|evil| File::create(evil.join("sparse")).unwrap().set_len(1 << 40).unwrap());
        check(&|evil| fs::create_dir_all(evil.join("d/".repeat(DEPTH_MAX as usize))).unwrap());
    }

    #[test]
    fn what_its_owner_closed_is_moved_all_the_same() {
        let place = place();
        let (tree, evil) = (place.base.join("tree"), place.base.join("tree/evil"));
        for path in [&evil.join("file"), &evil, &tree] {
            fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap();
        }
        let copy = place.base.join("copy");
        assert_eq!(move_aside(&spot(&place.base), "run", &copy).unwrap(), copy);
        assert_eq!(fs::metadata(&tree).unwrap().permissions().mode() & 0o777, 0);
        fs::set_permissions(&tree, Permissions::from_mode(0o700)).unwrap();
        assert_eq!(fs::read_dir(&tree).unwrap().count(), 0);
        assert_eq!(fs::read(copy.join("file")).unwrap(), b"evil");
    }

    #[test]
    fn a_quarantine_keeps_what_it_has() {
        let place = place();
        let taken = place.base.join("taken");
        fs::write(&taken, "before").unwrap();
        let now = move_away(&spot(&place.base), "run", &taken).unwrap();
        assert_eq!(now, place.base.join("taken.1"));
        assert_eq!(fs::read(&taken).unwrap(), b"before");
    }
}
