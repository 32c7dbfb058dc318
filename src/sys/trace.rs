//! Following a task to the end of one exec: `ptrace(2)`, and its memory.

use super::{Errno, plain, raw, word};

/// What a task that was seized stopped for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Behind a call of exec that worked, before the first instruction of the new image.
    Exec,
    /// A signal is about to be delivered.
    Signal(i32),
    /// Job control, or because it was interrupted.
    Other,
}

// linux/ptrace.h
const SEIZE: usize = 0x4206;
const INTERRUPT: usize = 0x4207;
const GET_EVENT_MESSAGE: usize = 0x4201;
const DETACH: usize = 17;
const EVENT_EXEC: i32 = 4;

/// Becomes the tracer of a task without stopping it. It will stop behind its next exec, and dies with
/// this process.
pub(crate) fn seize_for_exec(task: i32) -> Result<(), Errno> {
    /// `PTRACE_O_TRACEEXEC`, `PTRACE_O_EXITKILL`.
    const OPTIONS: usize = 1 << EVENT_EXEC | 1 << 20;
    plain(libc::SYS_ptrace, [SEIZE, word(task), 0, OPTIONS, 0, 0]).map(drop)
}

/// Stops a seized task where it is next in its own code.
pub(crate) fn interrupt(task: i32) -> Result<(), Errno> {
    plain(libc::SYS_ptrace, [INTERRUPT, word(task), 0, 0, 0, 0]).map(drop)
}

/// Lets a stopped task go for good, with the signal that it stopped for or 0. Where job control has
/// stopped it, it stays so.
pub(crate) fn let_go(task: i32, signal: i32) -> Result<(), Errno> {
    plain(libc::SYS_ptrace, [DETACH, word(task), 0, word(signal), 0, 0]).map(drop)
}

/// The number that the stopped task had before its exec, when it was not its process's first thread.
pub(crate) fn number_before(task: i32) -> Result<i32, Errno> {
    let mut message = 0_usize;
    let address = (&raw mut message).expose_provenance();
    let arguments = [GET_EVENT_MESSAGE, word(task), 0, address, 0, 0];
    // SAFETY: the kernel stores one word at `message`, which outlives the call.
    unsafe { raw(libc::SYS_ptrace, arguments) }?;
    i32::try_from(message).map_err(|_| Errno::ESRCH)
}

/// Where the stack of a stopped task begins. Linux 5.3.
pub(crate) fn stack(task: i32) -> Result<u64, Errno> {
    const GET_SYSCALL_INFO: usize = 0x420e;
    /// The beginning of `struct ptrace_syscall_info`: what kind of stop, which architecture, then
    /// where the next instruction is and where the stack.
    #[repr(C)]
    #[derive(Default)]
    struct Information {
        kind: u32,
        arch: u32,
        instruction: u64,
        stack: u64,
    }
    let mut information = Information::default();
    let address = (&raw mut information).expose_provenance();
    let arguments = [GET_SYSCALL_INFO, word(task), size_of::<Information>(), address, 0, 0];
    // SAFETY: the kernel stores as many bytes as it is told the structure has, which outlives the
    // call.
    unsafe { raw(libc::SYS_ptrace, arguments) }?;
    Ok(information.stack)
}

/// The next stop of any task that this process traces, if there is one. Says nothing of tasks that
/// ended.
pub(crate) fn next_stop() -> Result<Option<(i32, Stop)>, Errno> {
    const ANY: i32 = 0;
    let found = match look(ANY, 0, libc::WSTOPPED) {
        Ok(found) => found,
        Err(Errno::ECHILD) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let stop = match (found.status >> 8, found.status & 0x7f) {
        (EVENT_EXEC, _) => Stop::Exec,
        (0, signal) => Stop::Signal(signal),
        _ => Stop::Other,
    };
    Ok((found.pid > 0).then_some((found.pid, stop)))
}

/// Whether a task that this process traces has ended; then it has been waited for. Its parent hears
/// of the end only after that. A number that is not known any more says nothing: a thread on its way
/// through an exec has taken over that of its process's first (ptrace(2)).
pub(crate) fn has_ended(task: i32) -> bool {
    const ONE: i32 = 1;
    // A tracer is told of stops whatever it asks for, so first it is only looked.
    match look(ONE, task, libc::WEXITED | libc::WNOWAIT) {
        Ok(found) if found.pid == 0 || found.code == libc::CLD_TRAPPED => false,
        Ok(_) => look(ONE, task, libc::WEXITED).is_ok(),
        Err(_) => false,
    }
}

/// Whether this process traces a task with that number.
pub(crate) fn is_traced(task: i32) -> bool {
    const ONE: i32 = 1;
    look(ONE, task, libc::WEXITED | libc::WNOWAIT).is_ok()
}

/// What `waitid(2)` found, without waiting.
struct Found {
    pid: i32,
    code: i32,
    status: i32,
}

fn look(whom: i32, task: i32, options: i32) -> Result<Found, Errno> {
    // SAFETY: all-zero bytes are a valid `siginfo_t`, which is integers and addresses only.
    let mut found: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let options = options | libc::WNOHANG | libc::__WALL;
    let address = (&raw mut found).expose_provenance();
    let arguments = [word(whom), word(task), address, word(options), 0, 0];
    // SAFETY: `found` has the kernel's layout and outlives the call; no usage structure is asked for.
    unsafe { raw(libc::SYS_waitid, arguments) }?;
    // SAFETY: waitid(2) fills in the fields of SIGCHLD, or leaves the zeros.
    let pid = unsafe { found.si_pid() };
    // SAFETY: as above.
    let status = unsafe { found.si_status() };
    Ok(Found { pid, code: found.si_code, status })
}

/// Copies memory of another task: as many bytes as can be read in one piece, at least one.
pub(crate) fn read_memory(task: i32, address: u64, into: &mut [u8]) -> Result<usize, Errno> {
    let local = [into.as_mut_ptr().expose_provenance(), into.len()];
    let remote = [usize::try_from(address).map_err(|_| Errno::EFAULT)?, into.len()];
    let (local, remote) =
        ((&raw const local).expose_provenance(), (&raw const remote).expose_provenance());
    // SAFETY: both are one `struct iovec` each, an address and a length; the local one describes an
    // exclusive slice. The remote address is the other task's and is checked by the kernel.
    match unsafe { raw(libc::SYS_process_vm_readv, [word(task), local, 1, remote, 1, 0]) } {
        Ok(0) => Err(Errno::EFAULT),
        result => result,
    }
}

/// A copy of a descriptor of another process, which is named by its first thread. Linux 5.6.
pub(crate) fn descriptor_of(process: i32, number: i32) -> Result<std::os::fd::OwnedFd, Errno> {
    use std::os::fd::AsRawFd;
    let process = plain(libc::SYS_pidfd_open, [word(process), 0, 0, 0, 0, 0]);
    let process = super::descriptor::owned_result(process)?;
    let arguments = [word(process.as_raw_fd()), word(number), 0, 0, 0, 0];
    super::descriptor::owned_result(plain(libc::SYS_pidfd_getfd, arguments))
}

/// A file in memory of which nobody can make a program.
pub(crate) fn memory_file(
    name: &std::ffi::CStr,
    flags: u32,
) -> Result<std::os::fd::OwnedFd, Errno> {
    let arguments = [name.as_ptr().expose_provenance(), flags as usize, 0, 0, 0, 0];
    // SAFETY: `name` is a C string that outlives the call.
    super::descriptor::owned_result(unsafe { raw(libc::SYS_memfd_create, arguments) })
}
