//! Loading seccomp filters, and answering the calls that a filter asks about.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::descriptor::owned_result;
use super::{Errno, raw, word};

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
    const NEW_LISTENER: usize = 1 << 3;
    /// A question that has been taken is not withdrawn by a signal that does not kill. Linux 5.19;
    /// without it the call is begun again after the signal, and asked about again.
    const WAIT_KILLABLE_RECV: usize = 1 << 5;
    match set(filter, NEW_LISTENER | WAIT_KILLABLE_RECV) {
        Err(Errno::EINVAL) => owned_result(set(filter, NEW_LISTENER)),
        result => owned_result(result),
    }
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

/// A call that waits for an answer, `struct seccomp_notif` (linux/seccomp.h).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Question {
    pub(crate) id: u64,
    /// The thread that waits, as this process's pid namespace numbers it; 0 where it is not seen.
    pub(crate) pid: u32,
    flags: u32,
    pub(crate) number: i32,
    arch: u32,
    instruction_pointer: u64,
    pub(crate) arguments: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Reply {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

/// `struct seccomp_notif_addfd`.
#[repr(C)]
struct Gift {
    id: u64,
    flags: u32,
    descriptor: u32,
    wanted: u32,
    wanted_flags: u32,
}

// `SECCOMP_IOCTL_NOTIF_*`: direction, size of the structure, `!`, number.
const READ_WRITE: usize = 3 << 30;
const WRITE: usize = 1 << 30;
const NOTIFY: usize = 0x21 << 8;
const RECEIVE: usize = READ_WRITE | size_of::<Question>() << 16 | NOTIFY;
const SEND: usize = READ_WRITE | size_of::<Reply>() << 16 | NOTIFY | 1;
const IS_VALID: usize = WRITE | size_of::<u64>() << 16 | NOTIFY | 2;
const ADD: usize = WRITE | size_of::<Gift>() << 16 | NOTIFY | 3;
const SET_FLAGS: usize = WRITE | size_of::<u64>() << 16 | NOTIFY | 4;

fn control<T>(listener: BorrowedFd<'_>, request: usize, argument: &mut T) -> Result<usize, Errno> {
    let argument = std::ptr::from_mut(argument).expose_provenance();
    let arguments = [word(listener.as_raw_fd()), request, argument, 0, 0, 0];
    // SAFETY: every caller passes the structure that the request is made for, whose size is part of
    // the request, and it outlives the call.
    unsafe { raw(libc::SYS_ioctl, arguments) }
}

/// Takes the next question. `None`: who asked is gone.
pub(crate) fn receive(listener: BorrowedFd<'_>) -> Result<Option<Question>, Errno> {
    let mut question = Question::default();
    loop {
        match control(listener, RECEIVE, &mut question) {
            Ok(_) => return Ok(Some(question)),
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Whether who asked still waits, so that what was read by its pid was its own.
pub(crate) fn still_asks(listener: BorrowedFd<'_>, mut id: u64) -> bool {
    control(listener, IS_VALID, &mut id).is_ok()
}

/// The call fails with `errno` and does nothing.
pub(crate) fn refuse(listener: BorrowedFd<'_>, id: u64, errno: Errno) -> Result<(), Errno> {
    let mut reply = Reply { id, value: 0, error: -(errno as i32), flags: 0 };
    control(listener, SEND, &mut reply).map(drop)
}

/// The kernel goes on with the call, and reads its arguments again. Linux 5.5.
pub(crate) fn go_on(listener: BorrowedFd<'_>, id: u64) -> Result<(), Errno> {
    const CONTINUE: u32 = 1;
    let mut reply = Reply { id, value: 0, error: 0, flags: CONTINUE };
    control(listener, SEND, &mut reply).map(drop)
}

/// The call returns a copy of `descriptor`, made in the process that asked. Linux 5.14.
pub(crate) fn give(
    listener: BorrowedFd<'_>,
    id: u64,
    descriptor: BorrowedFd<'_>,
    close_at_exec: bool,
) -> Result<(), Errno> {
    const AND_ANSWER: u32 = 2;
    let mut gift = Gift {
        id,
        flags: AND_ANSWER,
        descriptor: descriptor.as_raw_fd().cast_unsigned(),
        wanted: 0,
        wanted_flags: if close_at_exec { libc::O_CLOEXEC.cast_unsigned() } else { 0 },
    };
    control(listener, ADD, &mut gift).map(drop)
}

/// Who asks and who answers take turns on one processor. Linux 6.6, and only a matter of speed.
pub(crate) fn take_turns(listener: BorrowedFd<'_>) -> Result<(), Errno> {
    const SYNC_WAKE_UP: usize = 1;
    let arguments = [word(listener.as_raw_fd()), SET_FLAGS, SYNC_WAKE_UP, 0, 0, 0];
    super::plain(libc::SYS_ioctl, arguments).map(drop)
}
