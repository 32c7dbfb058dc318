//! Mounts, by the descriptor-based calls of Linux 5.2 and 5.12 where they exist.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::descriptor::owned_result;
use super::{Errno, raw, word};

const OPEN_TREE_CLONE: i32 = 1;
const AT_RECURSIVE: i32 = 0x8000;
const MOVE_MOUNT_F_EMPTY_PATH: usize = 4;
const MOVE_MOUNT_T_EMPTY_PATH: usize = 0x40;

/// `MOUNT_ATTR_*` (linux/mount.h).
pub(crate) const READ_ONLY: u64 = 0x1;
pub(crate) const NO_SETID: u64 = 0x2;
pub(crate) const NO_DEVICES: u64 = 0x4;
pub(crate) const NO_PROGRAMS: u64 = 0x8;

/// `struct mount_attr` (linux/mount.h).
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// Makes a detached clone of the mount at `path` below `directory` (an empty path: of
/// `directory` itself), never following a final symbolic link. Linux 5.2.
pub(crate) fn clone_tree(directory: RawFd, path: &CStr, recursive: bool) -> Result<OwnedFd, Errno> {
    let flags = OPEN_TREE_CLONE
        | libc::O_CLOEXEC
        | libc::AT_SYMLINK_NOFOLLOW
        | libc::AT_EMPTY_PATH
        | if recursive { AT_RECURSIVE } else { 0 };
    let arguments = [word(directory), path.as_ptr().expose_provenance(), word(flags), 0, 0, 0];
    // SAFETY: `path` is a C string that outlives the call.
    owned_result(unsafe { raw(libc::SYS_open_tree, arguments) })
}

/// Adds attributes to the mount at `path` below `directory`, and to all below it. Linux 5.12.
pub(crate) fn restrict(
    directory: RawFd,
    path: &CStr,
    attributes: u64,
    recursive: bool,
) -> Result<(), Errno> {
    let attr = MountAttr { set: attributes, clear: 0, propagation: 0, userns: 0 };
    set_attributes(directory, path, &attr, recursive)
}

/// Cuts the mount tree at `/` off from mount events of other namespaces, both ways.
pub(crate) fn make_private() -> Result<(), Errno> {
    let attr = MountAttr { set: 0, clear: 0, propagation: libc::MS_PRIVATE, userns: 0 };
    set_attributes(libc::AT_FDCWD, c"/", &attr, true)
}

fn set_attributes(
    directory: RawFd,
    path: &CStr,
    attr: &MountAttr,
    recursive: bool,
) -> Result<(), Errno> {
    let flags =
        libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW | if recursive { AT_RECURSIVE } else { 0 };
    let arguments = [
        word(directory),
        path.as_ptr().expose_provenance(),
        word(flags),
        std::ptr::from_ref(attr).expose_provenance(),
        size_of::<MountAttr>(),
        0,
    ];
    // SAFETY: `path` and `attr` outlive the call, and the size given is the size of `attr`.
    unsafe { raw(libc::SYS_mount_setattr, arguments) }.map(drop)
}

/// Attaches a detached mount at `path` below `directory`; an empty path means the object that
/// `directory` itself is. A final symbolic link is never followed.
pub(crate) fn attach(tree: BorrowedFd<'_>, directory: RawFd, path: &CStr) -> Result<(), Errno> {
    let onto = if path.is_empty() { MOVE_MOUNT_T_EMPTY_PATH } else { 0 };
    let arguments = [
        word(tree.as_raw_fd()),
        c"".as_ptr().expose_provenance(),
        word(directory),
        path.as_ptr().expose_provenance(),
        MOVE_MOUNT_F_EMPTY_PATH | onto,
        0,
    ];
    // SAFETY: both paths are C strings that outlive the call.
    unsafe { raw(libc::SYS_move_mount, arguments) }.map(drop)
}

/// Makes a new file system of a type, as a detached mount. Each option is a key and its value, or
/// a key alone. Linux 5.2.
pub(crate) fn new_filesystem(
    kind: &CStr,
    options: &[(&CStr, Option<&CStr>)],
    attributes: u64,
) -> Result<OwnedFd, Errno> {
    const FSOPEN_CLOEXEC: usize = 1;
    const FSMOUNT_CLOEXEC: usize = 1;
    const FSCONFIG_SET_FLAG: usize = 0;
    const FSCONFIG_SET_STRING: usize = 1;
    const FSCONFIG_CMD_CREATE: usize = 6;
    let arguments = [kind.as_ptr().expose_provenance(), FSOPEN_CLOEXEC, 0, 0, 0, 0];
    // SAFETY: `kind` is a C string that outlives the call.
    let context = owned_result(unsafe { raw(libc::SYS_fsopen, arguments) })?;
    let number = word(context.as_raw_fd());
    for (key, value) in options {
        let key = key.as_ptr().expose_provenance();
        let (command, value) = match value {
            Some(value) => (FSCONFIG_SET_STRING, value.as_ptr().expose_provenance()),
            None => (FSCONFIG_SET_FLAG, 0),
        };
        // SAFETY: key and value are C strings that outlive the call; a flag has no value.
        unsafe { raw(libc::SYS_fsconfig, [number, command, key, value, 0, 0]) }?;
    }
    super::plain(libc::SYS_fsconfig, [number, FSCONFIG_CMD_CREATE, 0, 0, 0, 0])?;
    let attributes = usize::try_from(attributes).map_err(|_| Errno::EINVAL)?;
    owned_result(super::plain(libc::SYS_fsmount, [number, FSMOUNT_CLOEXEC, attributes, 0, 0, 0]))
}

/// `mount(2)` of a new file system at `path`, with its options in one text.
pub(crate) fn make(kind: &CStr, path: &CStr, options: &CStr, attributes: u64) -> Result<(), Errno> {
    // The flags of mount(2) for these four have the same values (linux/mount.h).
    let flags = usize::try_from(attributes).map_err(|_| Errno::EINVAL)?;
    let arguments = [
        kind.as_ptr().expose_provenance(),
        path.as_ptr().expose_provenance(),
        kind.as_ptr().expose_provenance(),
        flags,
        options.as_ptr().expose_provenance(),
        0,
    ];
    // SAFETY: all are C strings that outlive the call.
    unsafe { raw(libc::SYS_mount, arguments) }.map(drop)
}

/// Takes the mount at `path` out of the tree; what still uses it keeps it.
pub(crate) fn detach(path: &CStr) -> Result<(), Errno> {
    const UMOUNT_NOFOLLOW: i32 = 8;
    let flags = word(libc::MNT_DETACH | UMOUNT_NOFOLLOW);
    // SAFETY: `path` is a C string that outlives the call.
    unsafe { raw(libc::SYS_umount2, [path.as_ptr().expose_provenance(), flags, 0, 0, 0, 0]) }
        .map(drop)
}

/// Makes the working directory the root and drops the old root, which nothing uses any more.
pub(crate) fn pivot_here() -> Result<(), Errno> {
    let here = c".".as_ptr().expose_provenance();
    // SAFETY: the path is a C string literal.
    unsafe { raw(libc::SYS_pivot_root, [here, here, 0, 0, 0, 0]) }?;
    // The old root now lies on top of the new one at the same place (pivot_root(2), NOTES).
    // SAFETY: the path is a C string literal.
    unsafe { raw(libc::SYS_umount2, [here, word(libc::MNT_DETACH), 0, 0, 0, 0]) }.map(drop)
}
