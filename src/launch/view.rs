//! Builds the file view inside the new mount namespace, entry by entry.
//!
//! Runs in the child: only `sys`, only what the kit holds. Every host object is cloned off, checked
//! to be the very object the plan was made for, restricted while it is still detached, and only
//! then attached, so there is no moment in which more is reachable than planned.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};

use nix::errno::Errno;

use super::child::{at, at_index};
use super::kit::{Bind, Layer, Operation, Overlay, Part};
use super::report::{Failure, Step};
use crate::sys::descriptor::{self, HERE, Identity};
use crate::sys::mount::{self, NO_DEVICES, NO_PROGRAMS, NO_SETID, READ_ONLY};

/// The empty things that masks are clones of. They lie where every view has its `/proc`, and so below
/// it when that is mounted: what is not part of the mount tree cannot be cloned before Linux 6.15, and
/// what is part of it cannot be removed without waiting for all processors.
const PROC: &CStr = c"proc";
const EMPTY_FILE: &CStr = c"proc/empty-file";
const EMPTY_DIRECTORY: &CStr = c"proc/empty-directory";
/// Where a text is written before it gets its place.
const TEXT_FILE: &CStr = c".rung-text";

const SEALED: u64 = READ_ONLY | NO_SETID | NO_DEVICES | NO_PROGRAMS;

/// What the entries are attached to and cloned from.
struct Base {
    root: OwnedFd,
    /// Sealed mounts of the empty things, of which each mask is a clone.
    empty_file: OwnedFd,
    empty_directory: OwnedFd,
}

/// Makes the new root, fills it, and makes it the root of this process. Returns the sandbox's own
/// `/proc`, still writable, which nobody else can reach.
pub(super) fn build(operations: &[Operation]) -> Result<OwnedFd, Failure> {
    mount::make_private().map_err(at(Step::PrivateMounts))?;
    let base = new_root().map_err(at(Step::NewRoot))?;
    let mut proc = None;
    for (index, operation) in operations.iter().enumerate() {
        let made = carry_out(operation, &base).map_err(at_index(Step::View, index))?;
        if made.is_some() {
            proc = made;
        }
    }
    let parts = operations.iter().find_map(|it| match it {
        Operation::Parts { path, .. } => Some(path.as_c_str()),
        _ => None,
    });
    seal(base, parts).map_err(at(Step::SealRoot))?;
    mount::pivot_here().map_err(at(Step::Pivot))?;
    proc.ok_or(Failure { step: Step::View, index: u32::MAX, errno: Errno::ENOENT })
}

/// A tmpfs on top of the host's `/proc`, entered: nothing of that is in any plan, so hiding it now
/// hides no source. It has room for mount points, links and the run's own files.
fn new_root() -> Result<Base, Errno> {
    let options = c"mode=0755,size=16777216,nr_inodes=4096";
    mount::make(c"tmpfs", c"/proc", options, NO_SETID | NO_DEVICES)?;
    descriptor::enter_path(c"/proc")?;
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let root = descriptor::open_at(HERE, c".", flags, 0)?;
    let here = root.as_raw_fd();
    descriptor::make_directory(here, PROC, 0o555)?;
    leave_open(descriptor::open_at(here, EMPTY_FILE, libc::O_CREAT | libc::O_RDONLY, 0)?);
    descriptor::make_directory(here, EMPTY_DIRECTORY, 0)?;
    let sealed = |name| {
        let tree = mount::clone_tree(here, name, false)?;
        mount::restrict(tree.as_raw_fd(), c"", SEALED, false)?;
        mount::attach(tree.as_fd(), here, name)?;
        Ok(tree)
    };
    let (empty_file, empty_directory) = (sealed(EMPTY_FILE)?, sealed(EMPTY_DIRECTORY)?);
    Ok(Base { root, empty_file, empty_directory })
}

/// Closing a descriptor of a mount costs more than attaching it, and nobody needs to wait for it:
/// init closes them all at once while the command already runs, and exec closes the command's.
pub(super) fn leave_open(descriptor: OwnedFd) {
    _ = descriptor.into_raw_fd();
}

fn seal(base: Base, parts: Option<&CStr>) -> Result<(), Errno> {
    if let Some(parts) = parts {
        mount::detach(parts)?;
        descriptor::remove(base.root.as_raw_fd(), parts, libc::AT_REMOVEDIR)?;
    }
    mount::restrict(HERE, c".", READ_ONLY | NO_PROGRAMS, false)?;
    [base.root, base.empty_file, base.empty_directory].into_iter().for_each(leave_open);
    Ok(())
}

/// One entry. A new `/proc` is handed back.
fn carry_out(operation: &Operation, base: &Base) -> Result<Option<OwnedFd>, Errno> {
    let here = base.root.as_raw_fd();
    match operation {
        Operation::Directory { path } => descriptor::make_directory(here, path, 0o755)?,
        Operation::Link { path, target } => descriptor::make_link(target, here, path)?,
        Operation::Bind(it) => bind(it, base.root.as_fd())?,
        Operation::Parts { path, options } => {
            descriptor::make_directory(here, path, 0o700)?;
            mount::make(c"tmpfs", path, options, NO_SETID | NO_DEVICES | NO_PROGRAMS)?;
        }
        Operation::Overlay(it) => overlay(it, base.root.as_fd())?,
        Operation::Private { path, options, attributes } => {
            descriptor::make_directory(here, path, 0o755)?;
            mount::make(c"tmpfs", path, options, *attributes)?;
        }
        Operation::Proc { path, masked } => return proc(path, masked, base).map(Some),
        Operation::Devices { path, shm } => devices(path, shm, here)?,
        Operation::Masked { path, directory } => {
            let target = descriptor::open_beneath(base.root.as_fd(), path)?;
            mask(target.as_fd(), c"", *directory, base)?;
            leave_open(target);
        }
        Operation::Text { path, text: words, mode, make } => {
            text(path, (words, *mode), *make, base)?;
        }
        Operation::Again { path, identity, read_only } => {
            let target = descriptor::open_beneath(base.root.as_fd(), path)?;
            if let Some((device, inode)) = identity {
                same(descriptor::identity(target.as_raw_fd(), c"")?, *device, *inode)?;
            }
            let tree = mount::clone_tree(target.as_raw_fd(), c"", false)?;
            if *read_only {
                mount::restrict(tree.as_raw_fd(), c"", READ_ONLY, true)?;
            }
            mount::attach(tree.as_fd(), target.as_raw_fd(), c"")?;
            leave_open(tree);
            leave_open(target);
        }
    }
    Ok(None)
}

/// ESTALE: what lies there now is not what the plan was made for.
fn same(found: Identity, device: u64, inode: u64) -> Result<(), Errno> {
    if found.device == device && found.inode == inode { Ok(()) } else { Err(Errno::ESTALE) }
}

fn bind(it: &Bind, root: BorrowedFd<'_>) -> Result<(), Errno> {
    let tree = mount::clone_tree(HERE, &it.source, true)?;
    same(descriptor::identity(tree.as_raw_fd(), c"")?, it.device, it.inode)?;
    mount::restrict(tree.as_raw_fd(), c"", it.attributes, true)?;
    if it.make {
        mount_point(root, &it.path, it.directory)?;
        mount::attach(tree.as_fd(), root.as_raw_fd(), &it.path)?;
    } else {
        let target = descriptor::open_beneath(root, &it.path)?;
        mount::attach(tree.as_fd(), target.as_raw_fd(), c"")?;
        leave_open(target);
    }
    leave_open(tree);
    Ok(())
}

/// An overlay. Its parts are attached, named relative to the new root, and taken away when the view
/// stands; the overlay has mounts of its own of them. Without `userxattr` it would lose, silently,
/// which directories hide what is below them.
fn overlay(it: &Overlay, root: BorrowedFd<'_>) -> Result<(), Errno> {
    let here = root.as_raw_fd();
    put_part(&it.lower, here)?;
    match &it.layers {
        Layer::Kept(layers) => put_part(layers, here)?,
        Layer::Private { place } => {
            descriptor::make_directory(here, place, 0o700)?;
            for name in [&it.upper, &it.work] {
                descriptor::make_directory(here, name, 0o755)?;
            }
        }
    }
    let options = [
        (c"source", Some(c"rung")),
        (c"lowerdir", Some(it.lower.place.as_c_str())),
        (c"upperdir", Some(it.upper.as_c_str())),
        (c"workdir", Some(it.work.as_c_str())),
        (c"userxattr", None),
    ];
    let tree = mount::new_filesystem(c"overlay", &options, it.attributes)?;
    if it.make {
        mount_point(root, &it.path, true)?;
        mount::attach(tree.as_fd(), here, &it.path)?;
    } else {
        let target = descriptor::open_beneath(root, &it.path)?;
        mount::attach(tree.as_fd(), target.as_raw_fd(), c"")?;
        leave_open(target);
    }
    leave_open(tree);
    Ok(())
}

fn put_part(it: &Part, here: i32) -> Result<(), Errno> {
    let part = mount::clone_tree(HERE, &it.source, false)?;
    same(descriptor::identity(part.as_raw_fd(), c"")?, it.identity.0, it.identity.1)?;
    descriptor::make_directory(here, &it.place, 0)?;
    mount::attach(part.as_fd(), here, &it.place)?;
    leave_open(part);
    Ok(())
}

fn mount_point(root: BorrowedFd<'_>, path: &CStr, directory: bool) -> Result<(), Errno> {
    if directory {
        return descriptor::make_directory(root.as_raw_fd(), path, 0o755);
    }
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    descriptor::open_at(root.as_raw_fd(), path, flags, 0o444).map(drop)
}

/// Two fresh `/proc`s of the same namespace: a read-only one in the view, and a writable one in our
/// hand, which never becomes part of the mount tree.
fn proc(path: &CStr, masked: &[(CString, bool)], base: &Base) -> Result<OwnedFd, Errno> {
    let here = base.root.as_raw_fd();
    let attributes = NO_SETID | NO_DEVICES | NO_PROGRAMS;
    let writable = mount::new_filesystem(c"proc", &[], attributes)?;
    let tree = mount::new_filesystem(c"proc", &[], attributes | READ_ONLY)?;
    if path != PROC {
        descriptor::make_directory(here, path, 0o555)?;
    }
    mount::attach(tree.as_fd(), here, path)?;
    for (name, directory) in masked {
        mask(tree.as_fd(), name, *directory, base)?;
    }
    leave_open(tree);
    Ok(writable)
}

/// Puts an empty thing without permissions on top of `path` below `directory`. A mask of our own
/// making: a mask bound from something that the sandbox can reach could be swapped under us.
fn mask(
    directory: BorrowedFd<'_>,
    path: &CStr,
    is_directory: bool,
    base: &Base,
) -> Result<(), Errno> {
    let empty = if is_directory { &base.empty_directory } else { &base.empty_file };
    let tree = mount::clone_tree(empty.as_raw_fd(), c"", false)?;
    mount::attach(tree.as_fd(), directory.as_raw_fd(), path)?;
    leave_open(tree);
    Ok(())
}

/// Attaches a new file with this text, which nobody can write to.
fn text(path: &CStr, (words, mode): (&[u8], u32), make: bool, base: &Base) -> Result<(), Errno> {
    let here = base.root.as_raw_fd();
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_WRONLY | libc::O_NOFOLLOW;
    let file = descriptor::open_at(here, TEXT_FILE, flags, mode)?;
    descriptor::write_all(file.as_fd(), words)?;
    // The root cannot become read-only while somebody could still write there.
    drop(file);
    let tree = mount::clone_tree(here, TEXT_FILE, false)?;
    mount::restrict(tree.as_raw_fd(), c"", SEALED, false)?;
    if make {
        mount_point(base.root.as_fd(), path, false)?;
    }
    let target = descriptor::open_beneath(base.root.as_fd(), path)?;
    mount::attach(tree.as_fd(), target.as_raw_fd(), c"")?;
    // Only now: what has no name cannot be attached.
    descriptor::remove(here, TEXT_FILE, 0)?;
    [tree, target].into_iter().for_each(leave_open);
    Ok(())
}

/// (name, host path, major, minor): the nodes that every program may expect.
const NODES: [(&CStr, &CStr, u32, u32); 6] = [
    (c"null", c"/dev/null", 1, 3),
    (c"zero", c"/dev/zero", 1, 5),
    (c"full", c"/dev/full", 1, 7),
    (c"random", c"/dev/random", 1, 8),
    (c"urandom", c"/dev/urandom", 1, 9),
    (c"tty", c"/dev/tty", 5, 0),
];

const LINKS: [(&CStr, &CStr); 5] = [
    (c"fd", c"/proc/self/fd"),
    (c"stdin", c"/proc/self/fd/0"),
    (c"stdout", c"/proc/self/fd/1"),
    (c"stderr", c"/proc/self/fd/2"),
    (c"ptmx", c"pts/ptmx"),
];

fn devices(path: &CStr, shm: &CStr, root: i32) -> Result<(), Errno> {
    descriptor::make_directory(root, path, 0o755)?;
    let options = c"mode=0755,size=65536,nr_inodes=64";
    mount::make(c"tmpfs", path, options, NO_SETID | NO_PROGRAMS)?;
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let dev = descriptor::open_at(root, path, flags, 0)?;
    let here = dev.as_raw_fd();
    for (name, source, major, minor) in NODES {
        let node = mount::clone_tree(HERE, source, false)?;
        let found = descriptor::identity(node.as_raw_fd(), c"")?;
        let character = found.mode & libc::S_IFMT == libc::S_IFCHR;
        if !character || found.node != libc::makedev(major, minor) {
            return Err(Errno::ENODEV);
        }
        // The node is the host's own, and whoever owns it could change its mode or times; writing
        // to what it stands for does not ask the mount.
        mount::restrict(node.as_raw_fd(), c"", READ_ONLY | NO_SETID | NO_PROGRAMS, false)?;
        leave_open(descriptor::open_at(here, name, libc::O_CREAT | libc::O_EXCL, 0o666)?);
        mount::attach(node.as_fd(), here, name)?;
        leave_open(node);
    }
    for (name, target) in LINKS {
        descriptor::make_link(target, here, name)?;
    }
    descriptor::make_directory(here, c"pts", 0o755)?;
    descriptor::make_directory(here, c"shm", 0o755)?;
    // mount(2) knows no directory to start from, and the working directory is the new root.
    descriptor::enter_directory(dev.as_fd())?;
    mount::make(c"devpts", c"pts", c"ptmxmode=0666,mode=0620", NO_SETID | NO_PROGRAMS)?;
    mount::make(c"tmpfs", c"shm", shm, NO_SETID | NO_DEVICES | NO_PROGRAMS)?;
    mount::restrict(HERE, c".", READ_ONLY, false)?;
    descriptor::enter_path(c"/proc")?;
    leave_open(dev);
    Ok(())
}
