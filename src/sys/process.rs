//! Processes: fork, clone, exec, wait, signals, limits, prctl.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::{Errno, arena, call, errno, plain, raw, word};

/// `CLONE_*` flags of `clone3` that nix does not name.
pub(crate) const NEW_USER: u64 = 0x1000_0000;
pub(crate) const NEW_MOUNT: u64 = 0x0002_0000;
pub(crate) const NEW_PID: u64 = 0x2000_0000;
pub(crate) const NEW_NET: u64 = 0x4000_0000;
pub(crate) const NEW_IPC: u64 = 0x0800_0000;
pub(crate) const NEW_UTS: u64 = 0x0400_0000;
pub(crate) const NEW_CGROUP: u64 = 0x0200_0000;
/// `RLIMIT_*` of asm-generic/resource.h, which the C libraries type differently.
pub(crate) const LIMIT_FSIZE: u32 = 1;
pub(crate) const LIMIT_CORE: u32 = 4;
pub(crate) const LIMIT_NPROC: u32 = 6;
pub(crate) const LIMIT_NOFILE: u32 = 7;
pub(crate) const LIMIT_MEMLOCK: u32 = 8;
pub(crate) const LIMIT_SIGPENDING: u32 = 11;
pub(crate) const LIMIT_MSGQUEUE: u32 = 12;
pub(crate) const LIMIT_NICE: u32 = 13;
pub(crate) const LIMIT_RTPRIO: u32 = 14;

const CLONE_PIDFD: u64 = 0x1000;
const CLONE_VM: u64 = 0x100;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` (linux/sched.h), up to the `cgroup` member of Linux 5.7.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// A child process.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
}

/// Starts `child` in a copy of this process, in the namespaces that `flags` name and in the cgroup
/// whose directory is given.
///
/// `child` cannot return, so nothing that lives here is dropped twice. One `clone3`, Linux 5.3:
/// the kernel makes the user namespace first and lets it own the others.
///
/// # Safety
///
/// From its first line to its end, `child` may call only functions of this module and of its
/// siblings in `sys`. The calling process must have one thread.
pub(crate) unsafe fn fork<T>(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    kit: &T,
    child: fn(&T) -> !,
) -> Result<Child, Errno> {
    let mut pidfd: RawFd = -1;
    let (into, cgroup) = into_cgroup(cgroup);
    let arguments = CloneArgs {
        flags: flags | into | CLONE_PIDFD,
        cgroup,
        pidfd: (&raw mut pidfd).expose_provenance() as u64,
        exit_signal: libc::SIGCHLD.unsigned_abs().into(),
        ..CloneArgs::default()
    };
    let call = [(&raw const arguments).expose_provenance(), size_of::<CloneArgs>(), 0, 0, 0, 0];
    // SAFETY: `arguments` and `pidfd` outlive the call. Without CLONE_VM and without a stack the
    // child goes on with its own copy of this memory, as after fork(2); there is one thread, so no
    // lock is held by anybody else.
    let pid = unsafe { raw(libc::SYS_clone3, call) }?;
    if pid == 0 {
        child(kit);
    }
    // SAFETY: CLONE_PIDFD made the kernel store a descriptor that nothing else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid: i32::try_from(pid).map_err(|_| Errno::EOVERFLOW)?, pidfd })
}

/// The flag and the member of `clone_args` that put a child into a cgroup, Linux 5.7.
fn into_cgroup(directory: Option<BorrowedFd<'_>>) -> (u64, u64) {
    match directory {
        // A descriptor that is open is not negative.
        Some(it) => (CLONE_INTO_CGROUP, u64::from(it.as_raw_fd().unsigned_abs())),
        None => (0, 0),
    }
}

/// A stack for a child that shares this process's memory.
#[derive(Debug)]
pub(crate) struct Stack {
    // INVARIANT: a mapping of `STACK_BYTES` that nothing else uses, unmapped by `drop`.
    base: *mut u8,
}

/// Enough for the deepest child of a debug build several times over.
const STACK_BYTES: usize = 256 << 10;
const GUARD_BYTES: usize = 4096;

impl Stack {
    pub(crate) fn new() -> Result<Self, Errno> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let arguments = [0, STACK_BYTES, word(protection), word(flags), word(-1), 0];
        // SAFETY: a new anonymous mapping wherever the kernel likes.
        let base = unsafe { raw(libc::SYS_mmap, arguments) }?;
        let stack = Self { base: std::ptr::with_exposed_provenance_mut(base) };
        let arguments = [base, GUARD_BYTES, word(libc::PROT_NONE), 0, 0, 0];
        // SAFETY: the lowest page of the mapping made above, which nobody uses yet.
        unsafe { raw(libc::SYS_mprotect, arguments) }?;
        Ok(stack)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let arguments = [self.base.expose_provenance(), STACK_BYTES, 0, 0, 0, 0];
        // SAFETY: the mapping that `new` made; whoever ran on it has ended, which is what the
        // caller of `Sharing::start` vouches for. A failure would only leave it mapped.
        _ = unsafe { raw(libc::SYS_munmap, arguments) };
    }
}

/// What the child's first function finds on the way to its own code.
struct Entry<'a, T> {
    kit: &'a T,
    child: fn(&T) -> !,
}

extern "C" fn enter<T>(entry: usize) -> ! {
    let entry = std::ptr::with_exposed_provenance::<Entry<'_, T>>(entry);
    // SAFETY: `Sharing::start` passed the address of its entry, which `Sharing` keeps until the
    // child has left.
    let entry = unsafe { &*entry };
    (entry.child)(entry.kit)
}

/// A child that shares this process's memory and runs beside it, on a stack of its own, in the
/// namespaces that `flags` name. No page table is copied and no page afterwards.
///
/// The child keeps reading `entry` and the kit for as long as it lives.
pub(crate) struct Sharing<'a, T> {
    entry: Entry<'a, T>,
    stack: Stack,
}

impl<'a, T> Sharing<'a, T> {
    pub(crate) fn new(kit: &'a T, child: fn(&T) -> !) -> Result<Self, Errno> {
        Ok(Self { entry: Entry { kit, child }, stack: Stack::new()? })
    }

    /// Starts the child, in the cgroup whose directory is given.
    ///
    /// # Safety
    ///
    /// The child calls only functions of `sys`, which allocate nothing and store nothing in
    /// thread-local memory. `self` and the kit stay where they are, unchanged, until the child has
    /// ended or become another program. The calling process has one thread.
    pub(crate) unsafe fn start(
        &self,
        flags: u64,
        cgroup: Option<BorrowedFd<'_>>,
    ) -> Result<Child, Errno> {
        let mut pidfd: RawFd = -1;
        let pidfd_at = (&raw mut pidfd).expose_provenance() as u64;
        let (into, cgroup) = into_cgroup(cgroup);
        // SAFETY: passed on to the caller.
        let pid = unsafe { self.clone3(flags | into | CLONE_PIDFD, pidfd_at, cgroup) }?;
        // SAFETY: CLONE_PIDFD made the kernel store a descriptor that nothing else owns.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        Ok(Child { pid, pidfd })
    }

    unsafe fn clone3(&self, flags: u64, pidfd: u64, cgroup: u64) -> Result<i32, Errno> {
        let arguments = CloneArgs {
            flags: flags | CLONE_VM,
            pidfd,
            exit_signal: libc::SIGCHLD.unsigned_abs().into(),
            stack: self.stack.base.expose_provenance() as u64,
            stack_size: STACK_BYTES as u64,
            cgroup,
            ..CloneArgs::default()
        };
        arena::forbid_others();
        let entry = (&raw const self.entry).expose_provenance();
        let arguments = (&raw const arguments).expose_provenance();
        // SAFETY: the arguments name a stack that only this child uses, and `enter` reads the entry
        // that `self` holds.
        let pid = unsafe { call::clone_into(arguments, size_of::<CloneArgs>(), enter::<T>, entry) };
        i32::try_from(pid).ok().filter(|pid| *pid > 0).ok_or_else(|| errno(pid))
    }
}

/// Whether a `clone3` that means nothing is refused otherwise than by saying so: a filter's doing,
/// because the kernel looks at the size of the arguments first.
pub(crate) fn clone3_is_refused() -> bool {
    plain(libc::SYS_clone3, [0; 6]) != Err(Errno::EINVAL)
}

/// A program ready to be executed: everything `execve(2)` reads, built beforehand.
#[derive(Debug)]
pub(crate) struct Image {
    path: CString,
    // INVARIANT: each array holds a pointer into the matching strings, in order, then a null.
    _argv: Vec<CString>,
    _envp: Vec<CString>,
    argv: Vec<usize>,
    envp: Vec<usize>,
}

impl Image {
    pub(crate) fn new(path: CString, argv: Vec<CString>, envp: Vec<CString>) -> Self {
        let pointers = |strings: &[CString]| {
            strings.iter().map(|it| it.as_ptr().expose_provenance()).chain([0]).collect()
        };
        // The strings' own memory does not move when the vectors that hold them do.
        Self { argv: pointers(&argv), envp: pointers(&envp), path, _argv: argv, _envp: envp }
    }

    /// Becomes the program; comes back only with the reason why not.
    pub(crate) fn exec(&self) -> Errno {
        let arguments = [
            self.path.as_ptr().expose_provenance(),
            self.argv.as_ptr().expose_provenance(),
            self.envp.as_ptr().expose_provenance(),
            0,
            0,
            0,
        ];
        // SAFETY: the path is a C string; both arrays end in a null and point into C strings that
        // `self` owns, by the invariant that `new` establishes.
        match unsafe { raw(libc::SYS_execve, arguments) } {
            Ok(_) => Errno::UnknownErrno,
            Err(errno) => errno,
        }
    }
}

/// Ends this process at once: no destructors, no buffers.
pub(crate) fn exit_now(code: i32) -> ! {
    loop {
        // Does not return.
        _ = plain(libc::SYS_exit_group, [word(code), 0, 0, 0, 0, 0]);
    }
}

/// `waitpid(2)` for any child, also one that another thread or a clone made. Without blocking,
/// children that job control stopped are told of too.
/// `Ok(None)`: there are children, but none has changed.
pub(crate) fn wait_any(block: bool) -> Result<Option<(i32, i32)>, Errno> {
    let mut status: i32 = 0;
    let options = libc::__WALL | if block { 0 } else { libc::WNOHANG | libc::WUNTRACED };
    loop {
        let arguments = [word(-1), (&raw mut status).expose_provenance(), word(options), 0, 0, 0];
        // SAFETY: `status` outlives the call; no usage structure is asked for.
        match unsafe { raw(libc::SYS_wait4, arguments) } {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(0) => return Ok(None),
            Ok(pid) => return Ok(Some((i32::try_from(pid).unwrap_or(-1), status))),
        }
    }
}

/// Waits until one child has ended and takes its status.
pub(crate) fn wait_for(pid: i32) -> Result<i32, Errno> {
    let mut status: i32 = 0;
    loop {
        let arguments =
            [word(pid), (&raw mut status).expose_provenance(), word(libc::__WALL), 0, 0, 0];
        // SAFETY: `status` outlives the call; no usage structure is asked for.
        match unsafe { raw(libc::SYS_wait4, arguments) } {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            Ok(_) => return Ok(status),
        }
    }
}

/// What the ended children of this process used: (user ms, system ms, largest RSS in KiB).
pub(crate) fn children_usage() -> (u64, u64, u64) {
    // SAFETY: all-zero bytes are a valid `struct rusage`, which is integers only.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let arguments = [word(libc::RUSAGE_CHILDREN), (&raw mut usage).expose_provenance(), 0, 0, 0, 0];
    // SAFETY: `usage` has the kernel's layout and outlives the call. It cannot fail with these
    // arguments, and then the usage would be 0.
    _ = unsafe { raw(libc::SYS_getrusage, arguments) };
    let ms = |time: libc::timeval| {
        time.tv_sec.unsigned_abs() * 1000 + time.tv_usec.unsigned_abs() / 1000
    };
    (ms(usage.ru_utime), ms(usage.ru_stime), usage.ru_maxrss.unsigned_abs())
}

/// Lets a tracee that stopped go on, giving it the signal it stopped for.
pub(crate) fn continue_tracee(pid: i32, signal: i32) -> Result<(), Errno> {
    plain(libc::SYS_ptrace, [libc::PTRACE_CONT as usize, word(pid), 0, word(signal), 0, 0])
        .map(drop)
}

/// Attaches to a process without stopping it (ptrace(2)).
pub(crate) fn seize(pid: i32) -> Result<(), Errno> {
    /// `PTRACE_SEIZE` (linux/ptrace.h).
    const PTRACE_SEIZE: usize = 0x4206;
    plain(libc::SYS_ptrace, [PTRACE_SEIZE, word(pid), 0, 0, 0, 0]).map(drop)
}

/// `kill(2)`; a negative pid is a process group, -1 everybody this process may signal.
pub(crate) fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    plain(libc::SYS_kill, [word(pid), word(signal), 0, 0, 0, 0]).map(drop)
}

/// `pidfd_send_signal(2)`: the process, not whoever has its number now. Linux 5.1.
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    plain(libc::SYS_pidfd_send_signal, [word(pidfd.as_raw_fd()), word(signal), 0, 0, 0, 0])
        .map(drop)
}

/// `setsid(2)`.
pub(crate) fn new_session() -> Result<(), Errno> {
    plain(libc::SYS_setsid, [0; 6]).map(drop)
}

/// Makes this process the leader of a new process group.
pub(crate) fn new_group() -> Result<(), Errno> {
    plain(libc::SYS_setpgid, [0; 6]).map(drop)
}

/// `unshare(2)`.
pub(crate) fn unshare(flags: u64) -> Result<(), Errno> {
    let flags = usize::try_from(flags).map_err(|_| Errno::EINVAL)?;
    plain(libc::SYS_unshare, [flags, 0, 0, 0, 0, 0]).map(drop)
}

/// `sethostname(2)`.
pub(crate) fn set_host_name(name: &CStr) -> Result<(), Errno> {
    let arguments = [name.as_ptr().expose_provenance(), name.count_bytes(), 0, 0, 0, 0];
    // SAFETY: pointer and length describe the C string, which outlives the call.
    unsafe { raw(libc::SYS_sethostname, arguments) }.map(drop)
}

/// `getpid(2)`, asked each time: a child that shares memory shares every remembered answer.
pub(crate) fn id() -> i32 {
    plain(libc::SYS_getpid, [0; 6]).ok().and_then(|it| i32::try_from(it).ok()).unwrap_or(-1)
}

/// `gettid(2)`: in a process's first thread the same number as [`id`].
pub(crate) fn thread_id() -> i32 {
    plain(libc::SYS_gettid, [0; 6]).ok().and_then(|it| i32::try_from(it).ok()).unwrap_or(-1)
}

/// `umask(2)`; returns the mask that was in force.
pub(crate) fn file_mask(mask: u32) -> u32 {
    let previous = plain(libc::SYS_umask, [mask as usize, 0, 0, 0, 0, 0]);
    // It cannot fail.
    previous.ok().and_then(|it| u32::try_from(it).ok()).unwrap_or(0o077)
}

/// Soft and hard limit of one resource of this process, alike; never above the hard limit that is
/// in force, which cannot be raised.
pub(crate) fn limit(resource: u32, value: u64) -> Result<(), Errno> {
    let mut inherited = [0_u64; 2];
    let old = [0, resource as usize, 0, inherited.as_mut_ptr().expose_provenance(), 0, 0];
    // SAFETY: `inherited` has the layout of `struct rlimit64` and outlives the call; no new value
    // is given.
    unsafe { raw(libc::SYS_prlimit64, old) }?;
    let [_, hard] = inherited;
    let limits = [value.min(hard); 2];
    let arguments = [0, resource as usize, limits.as_ptr().expose_provenance(), 0, 0, 0];
    // SAFETY: `limits` has the layout of `struct rlimit64` and outlives the call; no old value is
    // asked for.
    unsafe { raw(libc::SYS_prlimit64, arguments) }.map(drop)
}

/// Every signal at its default disposition and none blocked, as a new program expects it.
pub(crate) fn reset_signals() -> Result<(), Errno> {
    const SIGNALS: i32 = 64;
    const MASK_BYTES: usize = 8;
    // struct kernel_sigaction, all zero: SIG_DFL, no flags, no mask.
    let default = [0_u64; 4];
    for number in 1..=SIGNALS {
        if number == libc::SIGKILL || number == libc::SIGSTOP {
            continue;
        }
        let arguments = [word(number), default.as_ptr().expose_provenance(), 0, MASK_BYTES, 0, 0];
        // SAFETY: `default` is as large as the kernel's structure and outlives the call.
        unsafe { raw(libc::SYS_rt_sigaction, arguments) }?;
    }
    set_signal_mask(0)
}

/// Blocks exactly the signals whose bits are set (bit 0 is signal 1).
pub(crate) fn set_signal_mask(mask: u64) -> Result<(), Errno> {
    const MASK_BYTES: usize = 8;
    let arguments =
        [word(libc::SIG_SETMASK), (&raw const mask).expose_provenance(), 0, MASK_BYTES, 0, 0];
    // SAFETY: `mask` has the kernel's size of a signal set and outlives the call.
    unsafe { raw(libc::SYS_rt_sigprocmask, arguments) }.map(drop)
}

/// A `signalfd` for the signals of the mask, non-blocking.
pub(crate) fn signal_fd(mask: u64) -> Result<OwnedFd, Errno> {
    const MASK_BYTES: usize = 8;
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    let arguments =
        [word(-1), (&raw const mask).expose_provenance(), MASK_BYTES, word(flags), 0, 0];
    // SAFETY: `mask` has the kernel's size of a signal set and outlives the call.
    super::descriptor::owned_result(unsafe { raw(libc::SYS_signalfd4, arguments) })
}

/// The bit of a signal in a mask.
pub(crate) const fn mask_of(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Waits until one of the descriptors is readable or closed. `None`: for ever.
pub(crate) fn poll(entries: &mut [libc::pollfd], timeout_ms: Option<u64>) -> Result<usize, Errno> {
    let time = timeout_ms.map(|ms| libc::timespec {
        tv_sec: i64::try_from(ms / 1000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(ms % 1000).unwrap_or(0) * 1_000_000,
    });
    let time_pointer = time.as_ref().map_or(0, |it| std::ptr::from_ref(it).expose_provenance());
    let arguments =
        [entries.as_mut_ptr().expose_provenance(), entries.len(), time_pointer, 0, 0, 0];
    // SAFETY: pointer and length come from one exclusive slice; the time, if any, outlives the call.
    unsafe { raw(libc::SYS_ppoll, arguments) }
}

/// `prctl(2)` without pointers.
fn prctl(option: i32, a: usize, b: usize) -> Result<usize, Errno> {
    plain(libc::SYS_prctl, [word(option), a, b, 0, 0, 0])
}

/// No program started from here on can gain privileges. Cannot be undone.
pub(crate) fn no_new_privs() -> Result<(), Errno> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// Whether others may attach to this process and read its memory.
pub(crate) fn dumpable(yes: bool) -> Result<(), Errno> {
    prctl(libc::PR_SET_DUMPABLE, usize::from(yes), 0).map(drop)
}

/// Takes one capability out of the bounding set for good.
pub(crate) fn drop_bounding(capability: u8) -> Result<(), Errno> {
    prctl(libc::PR_CAPBSET_DROP, capability.into(), 0).map(drop)
}

/// Empties the ambient set.
pub(crate) fn clear_ambient() -> Result<(), Errno> {
    let clear = libc::PR_CAP_AMBIENT_CLEAR_ALL.unsigned_abs() as usize;
    prctl(libc::PR_CAP_AMBIENT, clear, 0).map(drop)
}

/// Sets the securebits (capabilities(7)); needs `CAP_SETPCAP`.
pub(crate) fn securebits(bits: u32) -> Result<(), Errno> {
    prctl(libc::PR_SET_SECUREBITS, bits as usize, 0).map(drop)
}

/// The name that `ps` shows, at most 15 bytes.
pub(crate) fn set_name(name: &CStr) -> Result<(), Errno> {
    let arguments = [word(libc::PR_SET_NAME), name.as_ptr().expose_provenance(), 0, 0, 0, 0];
    // SAFETY: `name` is a C string that outlives the call; the kernel reads at most 16 bytes.
    unsafe { raw(libc::SYS_prctl, arguments) }.map(drop)
}

/// A new, empty session keyring instead of the inherited one (keyctl(2)).
pub(crate) fn new_session_keyring() -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: usize = 1;
    match plain(libc::SYS_keyctl, [KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0, 0]) {
        // A kernel without keyrings has none that could be inherited.
        Ok(_) | Err(Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Random bytes (getrandom(2)).
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Errno> {
    let mut bytes = [0; N];
    let arguments = [bytes.as_mut_ptr().expose_provenance(), N, 0, 0, 0, 0];
    // SAFETY: pointer and length describe one array, which outlives the call.
    match unsafe { raw(libc::SYS_getrandom, arguments) } {
        Ok(count) if count == N => Ok(bytes),
        Ok(_) => Err(Errno::EIO),
        Err(errno) => Err(errno),
    }
}
