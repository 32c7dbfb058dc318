//! Builds the file view inside the new mount namespace, entry by entry.
//!
//! Runs in the child: only `sys`, only what the kit holds. Every host object is cloned off, checked
//! to be the very object the plan was made for, restricted while it is still detached, and only
//! then attached, so there is no moment in which more is reachable than planned.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::child::{at, at_index};
use super::kit::{Bind, Operation};
use super::report::{Failure, Step};
use crate::sys::descriptor::{self, HERE, Identity};
use crate::sys::mount::{self, NO_DEVICES, NO_PROGRAMS, NO_SETID, READ_ONLY};

/// The empty things that masks are clones of; gone from the view when it is complete.
const EMPTY_FILE: &CStr = c".rung-empty-file";
const EMPTY_DIRECTORY: &CStr = c".rung-empty-directory";

const SEALED: u64 = READ_ONLY | NO_SETID | NO_DEVICES | NO_PROGRAMS;

/// Makes the new root, fills it, and makes it the root of this process. Returns the sandbox's own
/// `/proc`, still writable, which nobody else can reach.
pub(super) fn build(operations: &[Operation]) -> Result<OwnedFd, Failure> {
    mount::make_private().map_err(at(Step::PrivateMounts))?;
    let root = new_root().map_err(at(Step::NewRoot))?;
    // Nothing of the host's `/proc` is in any plan, so hiding it now hides no source.
    mount::attach(root.as_fd(), HERE, c"/proc").map_err(at(Step::NewRoot))?;
    descriptor::enter_directory(root.as_fd()).map_err(at(Step::NewRoot))?;
    let mut proc = None;
    for (index, operation) in operations.iter().enumerate() {
        let made = carry_out(operation, root.as_fd()).map_err(at_index(Step::View, index))?;
        if made.is_some() {
            proc = made;
        }
    }
    seal(root.as_fd()).map_err(at(Step::SealRoot))?;
    mount::pivot_here().map_err(at(Step::Pivot))?;
    proc.ok_or(Failure { step: Step::View, index: u32::MAX, errno: Errno::ENOENT })
}

fn new_root() -> Result<OwnedFd, Errno> {
    // Room for mount points, links and nothing else.
    let options = [(c"mode", c"0755"), (c"size", c"1048576"), (c"nr_inodes", c"4096")];
    let root = mount::new_filesystem(c"tmpfs", &options, NO_SETID | NO_DEVICES)?;
    drop(descriptor::open_at(root.as_raw_fd(), EMPTY_FILE, libc::O_CREAT | libc::O_RDONLY, 0)?);
    descriptor::make_directory(root.as_raw_fd(), EMPTY_DIRECTORY, 0)?;
    Ok(root)
}

fn seal(root: BorrowedFd<'_>) -> Result<(), Errno> {
    descriptor::remove(root.as_raw_fd(), EMPTY_FILE, 0)?;
    descriptor::remove(root.as_raw_fd(), EMPTY_DIRECTORY, libc::AT_REMOVEDIR)?;
    mount::restrict(root.as_raw_fd(), c"", READ_ONLY | NO_PROGRAMS, false)
}

/// One entry. A new `/proc` is handed back.
fn carry_out(operation: &Operation, root: BorrowedFd<'_>) -> Result<Option<OwnedFd>, Errno> {
    let here = root.as_raw_fd();
    match operation {
        Operation::Directory { path } => descriptor::make_directory(here, path, 0o755)?,
        Operation::Link { path, target } => descriptor::make_link(target, here, path)?,
        Operation::Bind(it) => bind(it, root)?,
        Operation::Private { path, options, attributes } => {
            descriptor::make_directory(here, path, 0o755)?;
            private(path, options, *attributes, here)?;
        }
        Operation::Proc { path, masked } => return proc(path, masked, root).map(Some),
        Operation::Devices { path, shm } => devices(path, shm, here)?,
        Operation::Masked { path, directory } => {
            let target = descriptor::open_beneath(root, path)?;
            mask(target.as_fd(), c"", *directory, root)?;
        }
        Operation::Again { path, device, inode, read_only } => {
            let target = descriptor::open_beneath(root, path)?;
            same(descriptor::identity(target.as_raw_fd(), c"")?, *device, *inode)?;
            let tree = mount::clone_tree(target.as_raw_fd(), c"", false)?;
            if *read_only {
                mount::restrict(tree.as_raw_fd(), c"", READ_ONLY, true)?;
            }
            mount::attach(tree.as_fd(), target.as_raw_fd(), c"")?;
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
    if !it.make {
        let target = descriptor::open_beneath(root, &it.path)?;
        return mount::attach(tree.as_fd(), target.as_raw_fd(), c"");
    }
    mount_point(root, &it.path, it.directory)?;
    mount::attach(tree.as_fd(), root.as_raw_fd(), &it.path)
}

fn mount_point(root: BorrowedFd<'_>, path: &CStr, directory: bool) -> Result<(), Errno> {
    if directory {
        return descriptor::make_directory(root.as_raw_fd(), path, 0o755);
    }
    let flags = libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW;
    descriptor::open_at(root.as_raw_fd(), path, flags, 0o444).map(drop)
}

/// A tmpfs of the run's own.
fn private(
    path: &CStr,
    options: &[(&'static CStr, std::ffi::CString)],
    attributes: u64,
    root: i32,
) -> Result<(), Errno> {
    let [first, second, third] = options else { return Err(Errno::EINVAL) };
    let options = [first, second, third].map(|(key, value)| (*key, value.as_c_str()));
    let tree = mount::new_filesystem(c"tmpfs", &options, attributes)?;
    mount::attach(tree.as_fd(), root, path)
}

/// A fresh `/proc`: a read-only clone in the view, and the writable original in our hand.
fn proc(
    path: &CStr,
    masked: &[(std::ffi::CString, bool)],
    root: BorrowedFd<'_>,
) -> Result<OwnedFd, Errno> {
    let writable = mount::new_filesystem(c"proc", &[], NO_SETID | NO_DEVICES | NO_PROGRAMS)?;
    let tree = mount::clone_tree(writable.as_raw_fd(), c"", false)?;
    mount::restrict(tree.as_raw_fd(), c"", READ_ONLY, false)?;
    descriptor::make_directory(root.as_raw_fd(), path, 0o555)?;
    mount::attach(tree.as_fd(), root.as_raw_fd(), path)?;
    for (name, directory) in masked {
        mask(tree.as_fd(), name, *directory, root)?;
    }
    Ok(writable)
}

/// Puts an empty thing without permissions on top of `path` below `directory`. A mask of our own
/// making: a mask bound from something that the sandbox can reach could be swapped under us.
fn mask(
    directory: BorrowedFd<'_>,
    path: &CStr,
    is_directory: bool,
    root: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let empty = if is_directory { EMPTY_DIRECTORY } else { EMPTY_FILE };
    let tree = mount::clone_tree(root.as_raw_fd(), empty, false)?;
    mount::restrict(tree.as_raw_fd(), c"", SEALED, false)?;
    mount::attach(tree.as_fd(), directory.as_raw_fd(), path)
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

fn devices(
    path: &CStr,
    shm: &[(&'static CStr, std::ffi::CString)],
    root: i32,
) -> Result<(), Errno> {
    let options = [(c"mode", c"0755"), (c"size", c"65536"), (c"nr_inodes", c"64")];
    let dev = mount::new_filesystem(c"tmpfs", &options, NO_SETID | NO_PROGRAMS)?;
    let here = dev.as_raw_fd();
    descriptor::make_directory(root, path, 0o755)?;
    mount::attach(dev.as_fd(), root, path)?;
    for (name, source, major, minor) in NODES {
        let node = mount::clone_tree(HERE, source, false)?;
        let found = descriptor::identity(node.as_raw_fd(), c"")?;
        let character = found.mode & libc::S_IFMT == libc::S_IFCHR;
        if !character || found.node != libc::makedev(major, minor) {
            return Err(Errno::ENODEV);
        }
        mount::restrict(node.as_raw_fd(), c"", NO_SETID | NO_PROGRAMS, false)?;
        drop(descriptor::open_at(here, name, libc::O_CREAT | libc::O_EXCL, 0o666)?);
        mount::attach(node.as_fd(), here, name)?;
    }
    for (name, target) in LINKS {
        descriptor::make_link(target, here, name)?;
    }
    descriptor::make_directory(here, c"pts", 0o755)?;
    let terminals = [(c"ptmxmode", c"0666"), (c"mode", c"0620")];
    let pts = mount::new_filesystem(c"devpts", &terminals, NO_SETID | NO_PROGRAMS)?;
    mount::attach(pts.as_fd(), here, c"pts")?;
    descriptor::make_directory(here, c"shm", 0o755)?;
    private(c"shm", shm, NO_SETID | NO_DEVICES | NO_PROGRAMS, here)?;
    mount::restrict(here, c"", READ_ONLY, false)
}
