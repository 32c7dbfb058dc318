//! System calls: one small wrapper each, and the only place where the word `unsafe` may stand.
//!
//! A wrapper does one call, turns the result into [`Errno`], and decides nothing. Everything here
//! may be called between fork and exec: nothing allocates, formats or locks. What is not wrapped
//! by a maintained library, or is wrapped in a way that allocates, is called by number.
#![expect(unsafe_code, reason = "the one module that talks to the kernel")]

pub(crate) mod arena;
pub(crate) mod capability;
pub(crate) mod descriptor;
pub(crate) mod landlock;
pub(crate) mod mount;
pub(crate) mod network;

pub(crate) mod process;
pub(crate) mod pty;
pub(crate) mod seccomp;
pub(crate) mod terminal;

use libc::c_long;
pub(crate) use nix::errno::Errno;

/// A system call by number.
///
/// # Safety
///
/// As for the call itself: every argument that the kernel takes as a pointer must be valid for
/// what the call does with it, for as long as it does it.
unsafe fn raw(number: c_long, a: [usize; 6]) -> Result<usize, Errno> {
    let [a0, a1, a2, a3, a4, a5] = a;
    // SAFETY: the arguments are the caller's to vouch for; unused ones are ignored by the kernel.
    let result = unsafe { libc::syscall(number, a0, a1, a2, a3, a4, a5) };
    if result == -1 {
        return Err(Errno::last());
    }
    Ok(result.cast_unsigned().try_into().unwrap_or(usize::MAX))
}

/// A system call without pointer arguments.
fn plain(number: c_long, a: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: callers in this module use it for calls whose arguments are numbers and descriptors
    // only, which the kernel checks itself.
    unsafe { raw(number, a) }
}

/// A descriptor number, a flag word or a signal as the kernel takes it in a register.
fn word(value: i32) -> usize {
    // Sign extension is what the C library does for `int` arguments.
    isize::try_from(value).unwrap_or(-1).cast_unsigned()
}

/// The number of an `ioctl(2)` request, which the C libraries type differently.
fn request(number: libc::Ioctl) -> usize {
    // All requests used here are positive in either type.
    usize::try_from(number).unwrap_or(usize::MAX)
}
