//! System calls: one small wrapper each. Outside of here the word `unsafe` stands only where a child
//! is started: at the two clones in `launch` and at the fork in `host`.
//!
//! A wrapper does one call, turns the result into [`Errno`], and decides nothing. The wrappers that a
//! child calls before exec do not allocate, format or lock. What is not wrapped by a maintained
//! library, or is wrapped in a way that allocates, is called by number.
#![expect(unsafe_code, reason = "the one module that talks to the kernel")]

pub(crate) mod arena;
mod call;
pub(crate) mod capability;
pub(crate) mod descriptor;
pub(crate) mod keyring;
pub(crate) mod landlock;
pub(crate) mod message;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod numbers;

pub(crate) mod process;
pub(crate) mod pty;
pub(crate) mod route;
pub(crate) mod seccomp;
pub(crate) mod standing;
pub(crate) mod terminal;
pub(crate) mod trace;
pub(crate) mod xattr;

use libc::c_long;
pub(crate) use nix::errno::Errno;

/// A system call by number.
///
/// # Safety
///
/// As for the call itself: every argument that the kernel takes as a pointer must be valid for
/// what the call does with it, for as long as it does it.
unsafe fn raw(number: c_long, a: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: the arguments are the caller's to vouch for; unused ones are ignored by the kernel.
    let result = unsafe { call::call(number, a) };
    usize::try_from(result).map_err(|_| errno(result))
}

/// The error that a negative result stands for.
fn errno(result: isize) -> Errno {
    Errno::from_raw(i32::try_from(result.unsigned_abs()).unwrap_or(0))
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
fn request(number: impl TryInto<usize>) -> usize {
    // All requests used here are positive in either type.
    number.try_into().unwrap_or(usize::MAX)
}
