//! Extended attributes of what a path leads to.

use std::ffi::CStr;

use super::{Errno, raw};

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
