//! Extended attributes of what a path leads to.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Errno, raw, word};

/// The names and values of one object are never longer together (linux/limits.h).
const LIST_BYTES_MAX: usize = 65536;

/// The value of one attribute; nothing if there is none of that name.
pub(crate) fn get(path: &CStr, name: &CStr) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = vec![0; LIST_BYTES_MAX];
    let arguments = [
        path.as_ptr().expose_provenance(),
        name.as_ptr().expose_provenance(),
        value.as_mut_ptr().expose_provenance(),
        value.len(),
        0,
        0,
    ];
    // SAFETY: both names are C strings, and pointer and length come from one vector; all outlive
    // the call.
    match unsafe { raw(libc::SYS_getxattr, arguments) } {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Where a program's own capabilities are kept (capabilities(7)).
const CAPABILITY: &CStr = c"security.capability";

/// Whether the file gives whoever starts it capabilities. `path` may be a link that only the
/// kernel can follow.
pub(crate) fn gives_capabilities(path: &CStr) -> Result<bool, Errno> {
    let arguments =
        [path.as_ptr().expose_provenance(), CAPABILITY.as_ptr().expose_provenance(), 0, 0, 0, 0];
    // SAFETY: both names are C strings that outlive the call, and without room only the length
    // comes back.
    there(unsafe { raw(libc::SYS_getxattr, arguments) })
}

/// The same of an open file.
pub(crate) fn open_gives_capabilities(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    let arguments = [word(file.as_raw_fd()), CAPABILITY.as_ptr().expose_provenance(), 0, 0, 0, 0];
    // SAFETY: the name is a C string that outlives the call, and without room only the length
    // comes back.
    there(unsafe { raw(libc::SYS_fgetxattr, arguments) })
}

fn there(length: Result<usize, Errno>) -> Result<bool, Errno> {
    match length {
        Ok(_) => Ok(true),
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The names of all attributes, each ended by a NUL byte.
pub(crate) fn list(path: &CStr) -> Result<Vec<u8>, Errno> {
    let mut names = vec![0; LIST_BYTES_MAX];
    let arguments = [
        path.as_ptr().expose_provenance(),
        names.as_mut_ptr().expose_provenance(),
        names.len(),
        0,
        0,
        0,
    ];
    // SAFETY: `path` is a C string, and pointer and length come from one vector; both outlive the
    // call.
    match unsafe { raw(libc::SYS_listxattr, arguments) } {
        Ok(length) => {
            names.truncate(length);
            Ok(names)
        }
        Err(Errno::EOPNOTSUPP) => Ok(Vec::new()),
        Err(errno) => Err(errno),
    }
}

/// Gives an attribute a value.
pub(crate) fn set(path: &CStr, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    let arguments = [
        path.as_ptr().expose_provenance(),
        name.as_ptr().expose_provenance(),
        value.as_ptr().expose_provenance(),
        value.len(),
        0,
        0,
    ];
    // SAFETY: both names are C strings, and pointer and length come from one slice; all outlive
    // the call.
    unsafe { raw(libc::SYS_setxattr, arguments) }.map(drop)
}

/// Takes an attribute away.
pub(crate) fn remove(path: &CStr, name: &CStr) -> Result<(), Errno> {
    let arguments =
        [path.as_ptr().expose_provenance(), name.as_ptr().expose_provenance(), 0, 0, 0, 0];
    // SAFETY: both names are C strings that outlive the call.
    unsafe { raw(libc::SYS_removexattr, arguments) }.map(drop)
}
