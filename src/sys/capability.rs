//! Capabilities of the calling process.

use super::{Errno, plain, raw, word};

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

/// The highest capability that the kernel knows, by asking for one after the other.
pub(crate) fn last() -> u8 {
    /// As many as fit into a capability set.
    const NUMBERS: u8 = 64;
    let known = |number: u8| {
        let arguments = [word(libc::PR_CAPBSET_READ), usize::from(number), 0, 0, 0, 0];
        plain(libc::SYS_prctl, arguments).is_ok()
    };
    (0..NUMBERS).take_while(|it| known(*it)).last().unwrap_or(0)
}
