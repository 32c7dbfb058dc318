//! Loading seccomp filters.

use std::os::fd::OwnedFd;

use super::descriptor::owned_result;
use super::{Errno, raw};

/// One BPF instruction, `struct sock_filter` (linux/filter.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    pub(crate) code: u16,
    pub(crate) if_true: u8,
    pub(crate) if_false: u8,
    pub(crate) k: u32,
}

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: u16,
    filter: *const Instruction,
}

/// Puts this process and its descendants under the filter, for good. Needs `no_new_privs`.
pub(crate) fn load(filter: &[Instruction]) -> Result<(), Errno> {
    set(filter, 0).map(drop)
}

/// As [`load`], for a filter that asks a supervisor: returns the descriptor to answer on.
/// Linux 5.0; one per process tree.
pub(crate) fn load_listening(filter: &[Instruction]) -> Result<OwnedFd, Errno> {
    const SECCOMP_FILTER_FLAG_NEW_LISTENER: usize = 1 << 3;
    owned_result(set(filter, SECCOMP_FILTER_FLAG_NEW_LISTENER))
}

fn set(filter: &[Instruction], flags: usize) -> Result<usize, Errno> {
    const SECCOMP_SET_MODE_FILTER: usize = 1;
    let length = u16::try_from(filter.len()).map_err(|_| Errno::EINVAL)?;
    let program = Program { length, filter: filter.as_ptr() };
    let arguments =
        [SECCOMP_SET_MODE_FILTER, flags, (&raw const program).expose_provenance(), 0, 0, 0];
    // SAFETY: pointer and length describe one slice of instructions in the kernel's layout; both
    // it and `program` outlive the call.
    unsafe { raw(libc::SYS_seccomp, arguments) }
}
