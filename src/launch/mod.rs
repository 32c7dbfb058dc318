//! From a recorded plan to a process, and back to what became of it.
//!
//! [`run`] lowers the plan to a kit, clones once into new namespaces, and supervises with one
//! `poll(2)` loop. Three processes take part: this one (the supervisor), init (pid 1 of the
//! sandbox) and the command's own. Nothing is decided here: a plan that cannot be carried out to
//! the letter ends in an error, and then nothing ran.
//!
//! Init shares the supervisor's memory and runs on a stack of its own (`CLONE_VM`); so does the
//! command's process, until it executes the program. Init reads the kit as long as it lives, so the
//! kit stays unchanged until init has been waited for. Neither allocates. Descriptors are not shared:
//! each process closes its own copies.
//!
//! The decision is in the ledger before the first clone. Where the profile does not ask for more, it
//! is made durable while the command may already run, and a failure of that ends the command. The
//! start is recorded by the caller together with the end.

mod cgroup;
mod child;
mod confine;
pub mod gate;
mod init;
mod kit;
mod limits;
mod linked;
mod memory;
pub mod output;
mod passed;
mod quarantine;
mod report;
mod router;
pub mod screen;
mod streams;
mod supervise;
mod tail;
pub mod terminal;
mod unblocked;
mod view;
pub mod watched;

pub use output::{Ends, Relay, RelayError, Relayed};
pub use screen::{Removal, Removed, Screen};
pub use terminal::{Passing, Terminal, TerminalError};

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;

use crate::model::{Attempts, Denial, Status, Usage};
use crate::plan::{Gate, MemoryBy, RecordedPlan, syscalls};
use crate::sys::process::{
    self, NEW_CGROUP, NEW_IPC, NEW_MOUNT, NEW_NET, NEW_PID, NEW_USER, NEW_UTS, Sharing,
};
use crate::sys::seccomp::Instruction;
use crate::sys::{descriptor, process::Child};

/// Why nothing ran, or why what ran was ended.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("a word of the plan has a NUL byte, which no system call can carry")]
    NulByte,
    #[error("`{}` is not an absolute path", .0.display())]
    NotAbsolute(PathBuf),
    #[error("sandbox not established: the file rules could not be made: {0}")]
    FileRules(String),
    #[error("sandbox not established: init's filter could not be made: {0}")]
    InitFilter(String),
    #[error("sandbox not established: {doing} failed: {errno}")]
    Step { doing: String, errno: Errno },
    #[error("sandbox not established: creating the namespaces failed: {0}; `rung doctor` says why")]
    Namespaces(Errno),
    #[error(
        "sandbox not established: another supervisor of programs already listens to this process; start rung outside of it, or let the outer one do the work"
    )]
    Supervised,
    #[error("{0} is a directory, by which the command could walk around its view; redirect it")]
    DirectoryStream(&'static str),
    #[error("sandbox not established: {doing} `{}` failed: {errno}", path.display())]
    Cgroup { doing: &'static str, path: PathBuf, errno: Errno },
    #[error("the sandbox's init ended before the command was started")]
    InitLost,
    #[error("the protected names could not be watched: {0}")]
    NotWatched(String),
    #[error("the command was ended, because its decision record could not be made durable: {0}")]
    NotDurable(String),
    #[error("sandbox not established: the plan has a way out, and there is no gateway")]
    NoGateway,
    #[error(transparent)]
    Relay(#[from] RelayError),
    #[error(transparent)]
    Terminal(#[from] TerminalError),
    #[error("supervising failed: {doing}: {errno}")]
    Supervise { doing: &'static str, errno: Errno },
}

/// What became of a run.
#[derive(Debug)]
pub struct Ended {
    pub status: Status,
    /// Whether the program was executed at all.
    pub started: bool,
    pub usage: Usage,
    pub denials: Vec<Denial>,
    /// What became of the command's output, where that is worth a sentence.
    pub notes: Vec<String>,
    /// What it tried to reach, where a gate was told.
    pub attempts: Attempts,
}

/// A plan and what the caller gives beside it.
pub struct Launch<'a> {
    pub recorded: RecordedPlan,
    /// The compiled filter that the plan's digest names, as raw instructions.
    pub filter: &'a [syscalls::Instruction],
    /// Where the sockets of the way out go, if the plan has one: the other end is the gateway's.
    pub gateway: Option<OwnedFd>,
    /// What some of the run's own files have in them, where the plan cannot say it.
    pub filling: Filling,
    /// Umask of the caller, which the command gets back.
    pub file_mask: u32,
    /// Called once, with the number of init, while that builds its sandbox; the command starts only
    /// after it.
    pub before_start: &'a mut dyn FnMut(i32) -> Result<(), String>,
    /// Asked about every program that is started, where the plan has a gate.
    pub judge: gate::Judge<'a>,
    /// Called once when the command may be starting: makes the decision record durable.
    pub overlapped: &'a mut dyn FnMut() -> Result<(), String>,
    /// Asked a few times a second while the command runs: an answer ends it.
    pub look: &'a mut dyn FnMut() -> Option<Denial>,
    /// Called once when every process of the run but init has ended, while the kernel takes the
    /// sandbox down. Not called where init did not say so.
    pub over: &'a mut dyn FnMut(),
}

/// What is known only when the gateway is ready.
#[derive(Debug, Default)]
pub struct Filling {
    /// The certificates that programs of the run believe.
    pub authorities: Vec<u8>,
    /// What stands for credentials, by its mark in the texts of the plan.
    pub placeholders: std::collections::BTreeMap<String, String>,
}

impl Filling {
    /// A text of the plan with them.
    pub fn filled(&self, text: &str) -> String {
        let put = |text: String, (mark, value): (&String, &String)| text.replace(mark, value);
        self.placeholders.iter().fold(text.to_owned(), put)
    }
}

impl std::fmt::Debug for Launch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Launch").field("recorded", &self.recorded).finish_non_exhaustive()
    }
}

/// The supervisor's ends of what connects it with the sandbox.
#[derive(Debug)]
struct Wires {
    /// Closing it, in whatever way, ends the sandbox.
    control: OwnedFd,
    status: OwnedFd,
    /// Where the master of the sandbox's terminal arrives.
    terminal: Option<OwnedFd>,
    /// Where the gate's listener arrives.
    gate: Option<OwnedFd>,
}

/// Carries out the plan and waits until nothing of it is left.
pub fn run(launch: Launch<'_>) -> Result<Ended, LaunchError> {
    let signals = supervise::block_signals()?;
    let result = run_blocked(launch, &signals);
    supervise::unblock_signals()?;
    result
}

fn run_blocked(mut launch: Launch<'_>, signals: &OwnedFd) -> Result<Ended, LaunchError> {
    let plan = launch.recorded.plan();
    let rules = kit::rules(plan)?;
    let ruleset = (plan.landlock.abi > 0).then(|| confine::ruleset(&plan.landlock)).transpose()?;
    let (streams, relay) = streams::of(plan)?;
    let (router, opens) = router(&mut launch)?;
    let plan = launch.recorded.plan();
    let (mut kit, mut wires) = prepare(&launch, router, ruleset.as_ref(), rules.inner, streams)?;
    let cgroup = match &plan.limits.memory_by {
        MemoryBy::Cgroup(place) => Some(cgroup::Cgroup::make(place, &plan.limits)?),
        MemoryBy::Polling => None,
    };
    kit.cgroup = cgroup.as_ref().map(cgroup::Cgroup::copy).transpose()?;
    let supervised = supervise::Supervised::of(plan, &kit.view, cgroup);
    let started = std::time::Instant::now();
    let clone = Sharing::new(&kit, child::main).map_err(LaunchError::Namespaces)?;
    let own = if kit.cgroup.is_none() { NEW_CGROUP } else { 0 };
    let flags = NEW_USER | NEW_MOUNT | NEW_PID | NEW_NET | NEW_IPC | NEW_UTS | own;
    #[expect(unsafe_code, reason = "the first of the two clones")]
    // SAFETY: `child::main` calls only `sys`. `kit` and `clone` are dropped after `guard`, which waits
    // until init has ended. `run` is called by the one-thread stage only.
    let child = unsafe { clone.start(flags, None) }.map_err(LaunchError::Namespaces)?;
    let guard = KillOnDrop(&child);
    // From here on the child works by itself; what follows happens meanwhile, and the command
    // starts only after the word below.
    if let Some(ruleset) = ruleset {
        confine::add_host_rules(ruleset, &rules.host)?;
    }
    (launch.before_start)(child.pid).map_err(LaunchError::NotWatched)?;
    let go = descriptor::write_all(wires.control.as_fd(), b"g");
    // A child that failed is gone already; its message says why.
    if let Err(errno) = go
        && errno != Errno::EPIPE
    {
        return Err(LaunchError::Supervise { doing: "starting the command", errno });
    }
    (launch.overlapped)().map_err(LaunchError::NotDurable)?;
    let orders = gate::Orders::of(plan, opens);
    drop((launch.recorded, rules.host));
    let line = wires.gate.take();
    let gate = line.map(|line| gate::Gate::new(orders, launch.judge, child.pid, line));
    let ended = supervise::until_the_end(
        &supervised,
        &child,
        (&wires, signals),
        (relay, gate),
        started,
        (launch.look, launch.over),
    );
    drop(guard);
    ended
}

/// Ends the sandbox on every way out of [`run_blocked`], also by an error.
struct KillOnDrop<'a>(&'a Child);

impl Drop for KillOnDrop<'_> {
    fn drop(&mut self) {
        // Both fail only when it has ended and been waited for, which is what is wanted.
        _ = process::signal(self.0.pidfd.as_fd(), libc::SIGKILL);
        _ = process::wait_for(self.0.pid);
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), LaunchError> {
    descriptor::pipe().map_err(|errno| LaunchError::Supervise { doing: "making a pipe", errno })
}

/// What the child needs for the way out. A plan with one cannot be carried out without a gateway.
/// Where it has ranges of ports, the gate opens them as they are wanted.
fn router(
    launch: &mut Launch<'_>,
) -> Result<(Option<router::RouterKit>, Option<gate::Opens>), LaunchError> {
    let channel = launch.gateway.take();
    let plan = launch.recorded.plan();
    match (&plan.network.egress, channel) {
        (None, _) => Ok((None, None)),
        (Some(_), None) => Err(LaunchError::NoGateway),
        (Some(egress), Some(gateway)) => {
            let wanted = egress.has_ranges() && plan.exec.gate == Gate::With;
            let (ours, theirs) = self::channel(wanted)?;
            let copy = |_: &OwnedFd| gateway.try_clone();
            let copied = ours.as_ref().map(copy).transpose();
            let copied = copied.map_err(|error| LaunchError::Supervise {
                doing: "copying the gateway's channel",
                errno: Errno::try_from(error).unwrap_or(Errno::EIO),
            })?;
            let opens = ours.zip(copied).map(|(spare, gateway)| gate::Opens::new(spare, gateway));
            Ok((Some(router::kit(egress, gateway, theirs)), opens))
        }
    }
}

fn prepare(
    launch: &Launch<'_>,
    router: Option<router::RouterKit>,
    ruleset: Option<&landlock::RulesetCreated>,
    inner_rules: Vec<(std::ffi::CString, u64)>,
    streams: [Option<OwnedFd>; 3],
) -> Result<(kit::Kit, Wires), LaunchError> {
    let plan = launch.recorded.plan();
    let (control_read, control_write) = pipe()?;
    let (status_read, status_write) = pipe()?;
    // The supervisor has a writing end as well, as long as the kit is needed: without this, waiting
    // for a word of an init that was killed would never end.
    unblocked::set_nonblocking(status_read.as_fd())
        .map_err(|errno| LaunchError::Supervise { doing: "making a pipe", errno })?;
    let (terminal, terminal_write) = channel(kit::wants_terminal(plan))?;
    let (gate, gate_write) = channel(plan.exec.gate == Gate::With)?;
    let mut foreign = vec![control_write.as_raw_fd(), status_read.as_raw_fd()];
    foreign.extend(terminal.iter().chain(&gate).map(AsRawFd::as_raw_fd));
    let id = plan.identity;
    let map = |inner: u32, outer: u32| format!("{inner} {outer} 1").into_bytes();
    let init_ruleset = match ruleset {
        Some(_) => Some(confine::descriptor_of(&confine::init_ruleset(&plan.landlock)?)?),
        None => None,
    };
    let kit = kit::Kit {
        foreign,
        control: control_read,
        status: status_write,
        uid_map: map(id.inner_uid, id.outer_uid),
        gid_map: map(id.inner_gid, id.outer_gid),
        inner_uid_map: map(id.inner_uid, id.inner_uid),
        inner_gid_map: map(id.inner_gid, id.inner_gid),
        view: kit::view(plan, &launch.filling)?,
        loopback: plan.network.loopback.is_some(),
        router,
        terminal: terminal_write.map(|channel| kit::TerminalKit {
            channel,
            streams: if streams::error_is_elsewhere() { 2 } else { 3 },
        }),
        gate: gate_write,
        ruleset: ruleset.map(confine::descriptor_of).transpose()?,
        inner_rules,
        confined: pipe()?,
        init_ruleset,
        init_filter: confine::init_filter(plan.syscalls.arch)?,
        last_capability: id.last_capability,
        limits: kit::limits(plan),
        cwd: kit::c_string(std::os::unix::ffi::OsStrExt::as_bytes(plan.command.cwd.as_os_str()))?,
        file_mask: launch.file_mask,
        streams,
        filter: launch
            .filter
            .iter()
            .map(|it| Instruction { code: it.code, if_true: it.jt, if_false: it.jf, k: it.k })
            .collect(),
        image: kit::image(plan, &launch.filling)?,
        cgroup: None,
        places: kit::places(plan)?,
    };
    Ok((kit, Wires { control: control_write, status: status_read, terminal, gate }))
}

/// A way for one descriptor, if it is wanted: the supervisor's end and the sandbox's.
fn channel(wanted: bool) -> Result<(Option<OwnedFd>, Option<OwnedFd>), LaunchError> {
    if !wanted {
        return Ok((None, None));
    }
    let pair = std::os::unix::net::UnixStream::pair();
    let (ours, theirs) = pair.map_err(|error| LaunchError::Supervise {
        doing: "making a socket pair",
        errno: Errno::try_from(error).unwrap_or(Errno::EIO),
    })?;
    Ok((Some(ours.into()), Some(theirs.into())))
}
