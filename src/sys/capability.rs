//! Capabilities of the calling process.

use super::{Errno, raw};

/// `_LINUX_CAPABILITY_VERSION_3` (linux/capability.h).
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// Gives up every permitted, effective and inheritable capability.
pub(crate) fn drop_all() -> Result<(), Errno> {
    let header = Header { version: VERSION_3, pid: 0 };
    // Two times effective, permitted, inheritable.
    let none = [0_u32; 6];
    let arguments =
        [(&raw const header).expose_provenance(), none.as_ptr().expose_provenance(), 0, 0, 0, 0];
    // SAFETY: both structures have the layout that version 3 prescribes and outlive the call.
    unsafe { raw(libc::SYS_capset, arguments) }.map(drop)
}
