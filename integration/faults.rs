//! Faults: every system call of a launch is made to fail in its turn, and nothing may run.
//!
//! A tracer follows the supervisor from the moment the decision is recorded, init from its birth
//! and the command's process until its exec, where the gate takes it over: a task has one tracer. One
//! call per run does not happen and gives an error instead. The command says by a file whether it ever
//! started, and where there is no gate the kernel by an exec event.
//! Where processes run side by side the tracer takes the side of the command: it goes first.
#![cfg(target_arch = "x86_64")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::IoSliceMut;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::harness::{LEVELS, Place, requires, spawn};

/// More calls than any part of a launch makes.
const CALLS_MAX: usize = 2000;
/// How long the command's process may take for its next step before the others go on.
const HEAD_START: Duration = Duration::from_millis(20);

/// Calls whose failure takes nothing away from any wall, with the reason.
const HARMLESS: [(i64, &str); 6] = [
    (libc::SYS_umask, "it cannot fail: the kernel gives no error"),
    (libc::SYS_fcntl, "debug builds ask whether a descriptor is open before they close it"),
    (libc::SYS_flock, "giving the ledger's lock back; the process ends and with it the lock"),
    (libc::SYS_close, "what is not closed here is closed at exec, and init holds it anyway"),
    (libc::SYS_munmap, "memory that is not given back ends with the process"),
    (libc::SYS_madvise, "advice"),
];

/// Of the supervisor alone: it asks by them whether a stream is a terminal, and takes what will not say
/// for one.
const HARMLESS_OUTSIDE: i64 = libc::SYS_ioctl;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Supervisor,
    Init,
    Command,
}

/// What one run with one fault gave.
#[derive(Debug)]
struct Run {
    /// The call that was made to fail; none if there were fewer.
    injected: Option<i64>,
    code: i32,
    /// The kernel executed the program.
    started: bool,
}

/// One traced run.
struct Tracer {
    role: Role,
    index: usize,
    errno: i64,
    roles: BTreeMap<Pid, Role>,
    /// Calls seen of the role.
    seen: usize,
    recorded: bool,
    /// No call of this role matters any more.
    over: BTreeSet<Role>,
    injected: Option<i64>,
    /// The process whose current call is being replaced.
    replacing: Option<Pid>,
    started: bool,
    /// The command's process, which goes on to the program without us.
    leaving: Option<Pid>,
    /// Init, held until the command's process has had its turn.
    held: Option<(Pid, Instant)>,
    code: Option<i32>,
}

impl Tracer {
    #[expect(clippy::zombie_processes, reason = "`follow` waits for it, and for its children")]
    fn run(place: &Place, role: Role, index: usize) -> Run {
        let errno = if index.is_multiple_of(2) { libc::EIO } else { libc::EPERM };
        let mut run = place.outside_probe(&["caller", "stops", env!("CARGO_BIN_EXE_rung")]);
        let marker = place.workspace.join("marker");
        run.command.args(["run", "--level", "3", "--quiet", "--", "./probe", "write"]);
        run.command.arg(&marker).arg("x").stdout(Stdio::null()).stderr(Stdio::null());
        let child = spawn(&mut run.command);
        // Its tracer waits for it, and for every other process of the run.
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        let stopped = waitpid(pid, Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert_eq!(stopped, WaitStatus::Stopped(pid, Signal::SIGSTOP));
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(pid, options).unwrap();
        kill(pid, Signal::SIGCONT).unwrap();
        let mut tracer = Self {
            role,
            index,
            errno: errno.into(),
            roles: [(pid, Role::Supervisor)].into(),
            seen: 0,
            recorded: false,
            over: BTreeSet::new(),
            injected: None,
            replacing: None,
            started: false,
            leaving: None,
            held: None,
            code: None,
        };
        tracer.follow(pid);
        let made = fs::remove_file(&marker).is_ok();
        let started = tracer.started || made;
        Run { injected: tracer.injected, code: tracer.code.unwrap(), started }
    }

    fn follow(&mut self, supervisor: Pid) {
        let everybody = Pid::from_raw(-1);
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        loop {
            let status = match self.held {
                None => waitpid(everybody, Some(flags)).unwrap(),
                Some((init, until)) => {
                    let status = waitpid(everybody, Some(flags | WaitPidFlag::WNOHANG)).unwrap();
                    if status == WaitStatus::StillAlive {
                        if Instant::now() > until {
                            self.held = None;
                            go_on(init, None);
                        }
                        thread::yield_now();
                        continue;
                    }
                    status
                }
            };
            match status {
                WaitStatus::PtraceSyscall(pid) => self.call(pid),
                WaitStatus::PtraceEvent(pid, _, event) => self.event(pid, event),
                WaitStatus::Stopped(pid, signal) => go_on(pid, Some(signal)),
                WaitStatus::Exited(pid, code) if pid == supervisor => {
                    self.code = Some(code);
                    return;
                }
                WaitStatus::Signaled(pid, signal, _) if pid == supervisor => {
                    self.code = Some(128 + signal as i32);
                    return;
                }
                WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => {
                    if self.roles.get(&pid) == Some(&Role::Command) {
                        self.release();
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// A process was born, or has become another program.
    fn event(&mut self, pid: Pid, event: i32) {
        let role = self.roles.get(&pid).copied();
        if [libc::PTRACE_EVENT_FORK, libc::PTRACE_EVENT_CLONE].contains(&event) {
            let child = ptrace::getevent(pid).unwrap();
            let child = Pid::from_raw(i32::try_from(child).unwrap());
            let born = match role {
                Some(Role::Supervisor) if self.recorded => Some(Role::Init),
                Some(Role::Init) => Some(Role::Command),
                _ => None,
            };
            if let Some(born) = born {
                self.roles.insert(child, born);
            }
            if born == Some(Role::Command) && self.role == Role::Init {
                self.held = Some((pid, Instant::now() + HEAD_START));
                return;
            }
        }
        if event == libc::PTRACE_EVENT_EXEC && role == Some(Role::Command) {
            self.started = true;
            self.over.insert(Role::Command);
            self.release();
        }
        go_on(pid, None);
    }

    /// Init's turn.
    fn release(&mut self) {
        if let Some((init, _)) = self.held.take() {
            go_on(init, None);
        }
    }

    /// Before a call and after it.
    fn call(&mut self, pid: Pid) {
        if self.replacing == Some(pid) {
            self.replacing = None;
            let mut registers = ptrace::getregs(pid).unwrap();
            registers.rax = (-self.errno).cast_unsigned();
            ptrace::setregs(pid, registers).unwrap();
            go_on(pid, None);
            return;
        }
        // The process may have been killed while it stood there.
        let Ok(info) = ptrace::syscall_info(pid) else { return };
        if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
            self.before(pid);
            if self.leaving == Some(pid) {
                self.leaving = None;
                self.over.insert(Role::Command);
                self.release();
                match ptrace::detach(pid, None) {
                    Ok(()) | Err(nix::errno::Errno::ESRCH) => return,
                    Err(errno) => panic!("{errno}"),
                }
            }
        }
        go_on(pid, None);
    }

    fn before(&mut self, pid: Pid) {
        let Ok(mut registers) = ptrace::getregs(pid) else { return };
        let number = registers.orig_rax.cast_signed();
        let Some(role) = self.roles.get(&pid).copied() else { return };
        let counts = match role {
            Role::Supervisor => self.recorded,
            Role::Init | Role::Command => true,
        };
        // A call that ends the process cannot fail.
        let ends = [libc::SYS_exit, libc::SYS_exit_group].contains(&number);
        if role == self.role
            && counts
            && !ends
            && !self.over.contains(&role)
            && self.injected.is_none()
        {
            if self.seen == self.index {
                self.injected = Some(number);
                self.replacing = Some(pid);
                registers.orig_rax = u64::MAX;
                ptrace::setregs(pid, registers).unwrap();
            }
            self.seen += 1;
        }
        match (role, number) {
            (Role::Supervisor, libc::SYS_write) => {
                let text = peek(pid, registers.rsi, registers.rdx);
                self.recorded |= text.starts_with(b"{\"seq\":");
                // From this word on the command may start.
                if self.recorded && text == b"g" {
                    self.over.insert(Role::Supervisor);
                }
            }
            (Role::Command, libc::SYS_execve) if self.replacing != Some(pid) => {
                self.leaving = Some(pid);
            }
            // Its last wall, after which its own filter would judge the fault.
            (Role::Init, libc::SYS_seccomp) => {
                self.over.insert(Role::Init);
            }
            _ => {}
        }
    }
}

/// On to the next call; the process may be gone by now.
fn go_on(pid: Pid, signal: Option<Signal>) {
    match ptrace::syscall(pid, signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
        Err(errno) => panic!("{errno}"),
    }
}

fn peek(pid: Pid, address: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(length.min(16)).unwrap()];
    let remote = RemoteIoVec { base: usize::try_from(address).unwrap(), len: bytes.len() };
    match process_vm_readv(pid, &mut [IoSliceMut::new(&mut bytes)], &[remote]) {
        Ok(count) => bytes.truncate(count),
        Err(_) => bytes.clear(),
    }
    bytes
}

/// Makes each call of a role fail in its turn; gives the number of faults and what went wrong.
fn inject_all(role: Role) -> (usize, Vec<String>) {
    let place = Place::new();
    // Level 3 starts programs of the workspace without an override, which would have to be read.
    place.copy_program(&place.probe, &place.workspace.join("probe"));
    for level in LEVELS {
        place.remove_profile(level);
    }
    // So that no traced run has anything to find out about the host.
    place.rung(3).words(&["./probe", "exit", "0"]).end().exited(0);
    let mut wrong = Vec::new();
    for index in 0..CALLS_MAX {
        let run = Tracer::run(&place, role, index);
        let Some(number) = run.injected else {
            assert!(run.started && run.code == 0, "the untouched run: {run:?}");
            return (index, wrong);
        };
        let harmless = HARMLESS.iter().any(|(harmless, _)| *harmless == number)
            || (role == Role::Supervisor && number == HARMLESS_OUTSIDE);
        if harmless && (run.code == 0 || !run.started) {
            continue;
        }
        if run.started || run.code != 125 {
            wrong.push(format!("{role:?} call {index}, number {number}: {run:?}"));
        }
    }
    panic!("{role:?} makes more than {CALLS_MAX} calls");
}

#[test]
fn whichever_call_of_the_launch_fails_nothing_runs() {
    if !requires("tracing of one's own children", may_trace()) {
        return;
    }
    let roles = [Role::Supervisor, Role::Init, Role::Command];
    let threads = roles.map(|role| thread::spawn(move || inject_all(role)));
    let results: Vec<_> = threads.into_iter().map(|it| it.join().unwrap()).collect();
    let injected: usize = results.iter().map(|it| it.0).sum();
    let wrong: Vec<_> = results.into_iter().flat_map(|it| it.1).collect();
    let starts = wrong.iter().filter(|it| it.contains("started: true")).count();
    println!("injected {injected}, payload starts {starts}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Yama's highest setting forbids it even to parents.
fn may_trace() -> bool {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    scope.map_or(true, |text| text.trim() != "3")
}
