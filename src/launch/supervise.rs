//! The supervisor's loop: one `poll(2)` over what the sandbox says, the programs it wants to start,
//! the signals rung gets, and the limits that time and memory set.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::cgroup::{Cgroup, Fired};
use super::gate::Gate;
use super::output::Relay;
use super::report::{self, Failure, MESSAGE_BYTES, Message, Step};
use super::terminal::{Passing, Terminal};
use super::{Ended, LaunchError, Wires, init, kit, limits, memory, passed};
use crate::model::{Attempts, Bytes, Denial, Layer, Level, Origin, Status, Streams, Usage};
use crate::plan::{LimitPlan, Limited, SandboxPlan};
use crate::sys::process::{self, Child, mask_of};
use crate::sys::{arena, descriptor};

/// Between two looks at the memory: the first after one interval, so a short run has none.
const MEMORY_LOOK: Duration = Duration::from_millis(100);

/// Signals that are passed on to the command instead of ending rung.
const PASSED_ON: [i32; 9] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGTSTP,
    libc::SIGCONT,
];

/// Never delivered: what they would end rung for comes back as an error of the write too.
const NEVER: u64 = mask_of(libc::SIGPIPE) | mask_of(libc::SIGXFSZ);

/// `struct signalfd_siginfo` (linux/signalfd.h).
const SIGNAL_INFO_BYTES: usize = 128;
/// How many are read at once.
const SIGNALS_MAX: usize = 8;

/// Takes over the signals; whatever the caller ignored or blocked no longer matters.
pub(super) fn block_signals() -> Result<OwnedFd, LaunchError> {
    let failed = |errno| LaunchError::Supervise { doing: "taking over signals", errno };
    let mask = PASSED_ON.into_iter().fold(0, |mask, signal| mask | mask_of(signal));
    // Tasks that the gate has seized tell by it that they have stopped.
    let mask = mask | mask_of(libc::SIGCHLD);
    // An ignored SIGCHLD would make children vanish without their status.
    process::reset_signals().map_err(failed)?;
    process::set_signal_mask(mask | NEVER).map_err(failed)?;
    process::signal_fd(mask).map_err(failed)
}

pub(super) fn unblock_signals() -> Result<(), LaunchError> {
    process::set_signal_mask(NEVER)
        .map_err(|errno| LaunchError::Supervise { doing: "giving signals back", errno })
}

/// What of the plan is still needed while the command runs. The plan itself is not: a run may wait
/// for hours beside a thousand others.
pub(super) struct Supervised {
    level: Level,
    /// The command, in words.
    object: String,
    program: String,
    /// What each operation on the view is about, for the message if it fails.
    view: Vec<Box<str>>,
    pub(super) limits: LimitPlan,
    /// Private places, in the order of init's last word.
    pub(super) places: Vec<limits::Place>,
    cgroup: Option<Cgroup>,
    output_max: Option<Limited<Bytes>>,
    streams: Streams,
}

impl Supervised {
    pub(super) fn of(plan: &SandboxPlan, view: &[kit::Operation], cgroup: Option<Cgroup>) -> Self {
        let words: Vec<String> = plan.command.argv.iter().map(ToString::to_string).collect();
        Self {
            level: plan.level,
            object: words.join(" "),
            program: plan.command.program.display().to_string(),
            view: view.iter().map(|it| it.place().into()).collect(),
            limits: plan.limits.clone(),
            places: limits::places(plan),
            cgroup,
            output_max: plan.output.max.clone(),
            streams: plan.streams,
        }
    }
}

/// What is known so far.
#[derive(Default)]
struct Seen {
    failure: Option<Failure>,
    ended: Option<report::Ended>,
    limit: Option<Denial>,
    /// The command was stopped by job control.
    stopped: bool,
    peak: memory::Occupied,
}

/// Runs the loop until init is gone and nothing of the sandbox is left.
pub(super) fn until_the_end(
    run: &Supervised,
    child: &Child,
    (wires, signals): (&Wires, &OwnedFd),
    (mut relay, mut gate): (Option<Relay>, Option<Gate<'_>>),
    started: Instant,
    (others_look, over): (&mut dyn FnMut() -> Option<Denial>, &mut dyn FnMut()),
) -> Result<Ended, LaunchError> {
    let mut terminal = open_terminal(run, wires)?;
    let mut seen = Seen::default();
    let mut clock = Clock::new(run, started);
    loop {
        let own = [&wires.status, &child.pidfd, signals];
        let asking = gate.as_ref().and_then(Gate::interest);
        let until = clock.until(gate.as_ref().and_then(Gate::next_look));
        let ready = wait(own, asking, terminal.as_ref(), relay.as_ref(), Some(until))?;
        if let Some(gate) = &mut gate {
            attend(gate, &ready)?;
        }
        if let Some(terminal) = &mut terminal
            && ready.output
        {
            terminal.ready()?;
        }
        if let Some(relay) = &mut relay
            && ready.output
        {
            relay.ready()?;
            if relay.is_full() {
                clock.output_is_full(run, child, &mut seen);
            }
        }
        if ready.status && listen(wires, &mut seen)? {
            break;
        }
        if ready.init {
            // What it said last may still be in the pipe.
            while !listen(wires, &mut seen)? {}
            break;
        }
        if ready.signal {
            let child_told = pass_on(signals, wires, terminal.as_mut())?;
            if let Some(gate) = gate.as_mut().filter(|_| child_told) {
                gate.look();
            }
        }
        if std::mem::take(&mut seen.stopped)
            && let Some(terminal) = &mut terminal
        {
            stop_with(terminal, wires)?;
        }
        clock.act(run, child, wires, &mut seen, others_look);
    }
    if seen.ended.is_some() {
        over();
    }
    let init = process::wait_for(child.pid)
        .map_err(|errno| LaunchError::Supervise { doing: "waiting for init", errno })?;
    let removed = terminal.map(Terminal::finish).transpose()?;
    let left_out = relay.map(|relay| pass_the_rest(relay, signals)).transpose()?;
    let fired = run.cgroup.as_ref().map(Cgroup::fired).unwrap_or_default();
    killed_for_memory(run, fired, &mut seen);
    let mut ended = conclude(run, &seen, init, started)?;
    ended.attempts = gate.as_mut().map(Gate::attempts).unwrap_or_default();
    if ended.started {
        let full = seen.ended.map_or(0, |it| it.full);
        limited(&mut ended, limits::refused(run, full, seen.peak, fired));
    }
    ended.notes.extend(removed.and_then(|it| it.sentence()));
    ended.notes.extend(left_out.into_iter().flatten());
    Ok(ended)
}

fn attend(gate: &mut Gate<'_>, ready: &Ready) -> Result<(), LaunchError> {
    if let Some(hung_up) = ready.asked {
        gate.hear(hung_up)
            .map_err(|errno| LaunchError::Supervise { doing: "listening at the gate", errno })?;
    }
    gate.tidy(Instant::now());
    Ok(())
}

/// Gives a slow reader all that is left for it; a signal to rung ends the waiting.
fn pass_the_rest(mut relay: Relay, signals: &OwnedFd) -> Result<Vec<String>, LaunchError> {
    relay.end()?;
    relay.ready()?;
    while !relay.is_done() {
        let ready = wait([signals; 3], None, None, Some(&relay), None)?;
        if ready.signal {
            break;
        }
        relay.ready()?;
    }
    let missing = relay.report().left_out;
    let left_out = || format!("{missing} of output were left out by `output.max`");
    let left_out = (missing.0 > 0).then(left_out);
    Ok(relay.removed().sentence().into_iter().chain(left_out).collect())
}

/// Which of the things that the loop waits for have something to say.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "four independent descriptors, not a state")]
struct Ready {
    status: bool,
    init: bool,
    signal: bool,
    /// The terminal or the relay.
    output: bool,
    /// The gate's line; whether nobody is left who could ask.
    asked: Option<bool>,
}

fn wait(
    own: [&OwnedFd; 3],
    asking: Option<BorrowedFd<'_>>,
    terminal: Option<&Terminal>,
    relay: Option<&Relay>,
    timeout_ms: Option<u64>,
) -> Result<Ready, LaunchError> {
    /// What a terminal or a relay adds at most.
    const OUTPUT_ENTRIES: usize = 4;
    let entry = |fd: i32, events: i16| libc::pollfd { fd, events, revents: 0 };
    let mut entries = [entry(-1, 0); 4 + OUTPUT_ENTRIES];
    let own = own.map(|it| entry(it.as_raw_fd(), libc::POLLIN)).into_iter();
    // A negative number is passed over.
    let own = own.chain([entry(asking.map_or(-1, |it| it.as_raw_fd()), libc::POLLIN)]);
    let relayed = relay.into_iter().flat_map(Relay::interest);
    let shown = terminal.into_iter().flat_map(Terminal::interest).chain(relayed);
    let shown = shown.map(|it| entry(it.as_fd().as_raw_fd(), it.events().bits()));
    for (slot, wanted) in entries.iter_mut().zip(own.chain(shown)) {
        *slot = wanted;
    }
    match process::poll(&mut entries, timeout_ms) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok(Ready::default()),
        Err(errno) => return Err(LaunchError::Supervise { doing: "waiting", errno }),
    }
    let [status, init, signal, asked, shown @ ..] = &entries;
    Ok(Ready {
        status: status.revents != 0,
        init: init.revents != 0,
        signal: signal.revents != 0,
        output: shown.iter().any(|it| it.revents != 0),
        asked: (asked.revents != 0).then_some(asked.revents & libc::POLLIN == 0),
    })
}

/// Joins the user's terminal with the sandbox's, where the plan wants that.
fn open_terminal(run: &Supervised, wires: &Wires) -> Result<Option<Terminal>, LaunchError> {
    let passing = match run.streams {
        Streams::Inherit | Streams::RawInherit => return Ok(None),
        Streams::Terminal => Passing::Filtered,
        Streams::RawTerminal => Passing::Raw,
    };
    let Some(channel) = &wires.terminal else { return Ok(None) };
    let failed = |errno| LaunchError::Supervise { doing: "receiving the terminal", errno };
    let Some(master) = passed::receive(channel.as_fd()).map_err(failed)? else { return Ok(None) };
    let copy = |number| {
        descriptor::inherited(number)
            .map_err(|errno| LaunchError::Supervise { doing: "taking the terminal", errno })
    };
    Ok(Some(Terminal::open(copy(0)?, copy(1)?, master, passing)?))
}

/// The command has been stopped, so the user gets the terminal back until the run is continued.
/// So does everything else of the run stop: while rung stands still it keeps no limit.
fn stop_with(terminal: &mut Terminal, wires: &Wires) -> Result<(), LaunchError> {
    let everybody = |signal: i32| init::TO_EVERYBODY | u8::try_from(signal).unwrap_or(0);
    send(wires, everybody(libc::SIGSTOP));
    terminal.suspend()?;
    process::kill(0, libc::SIGSTOP)
        .map_err(|errno| LaunchError::Supervise { doing: "stopping", errno })?;
    terminal.resume()?;
    send(wires, everybody(libc::SIGCONT));
    Ok(())
}

/// Takes one message. `true`: nothing more will come.
fn listen(wires: &Wires, seen: &mut Seen) -> Result<bool, LaunchError> {
    let mut bytes = [0; MESSAGE_BYTES];
    match descriptor::read(wires.status.as_fd(), &mut bytes) {
        Ok(0) | Err(Errno::EAGAIN) => return Ok(true),
        Ok(_) => {}
        Err(errno) => {
            return Err(LaunchError::Supervise { doing: "listening to the sandbox", errno });
        }
    }
    match Message::decode(&bytes) {
        Some(Message::Failed(failure)) => {
            seen.failure.get_or_insert(failure);
            Ok(false)
        }
        Some(Message::Stopped) => {
            seen.stopped = true;
            Ok(false)
        }
        Some(Message::Ended(ended)) => {
            seen.ended = Some(ended);
            Ok(true)
        }
        None => Err(LaunchError::Supervise {
            doing: "understanding the sandbox",
            errno: Errno::EBADMSG,
        }),
    }
}

/// `true`: a child of this process, or a task that it traces, has changed.
fn pass_on(
    signals: &OwnedFd,
    wires: &Wires,
    mut terminal: Option<&mut Terminal>,
) -> Result<bool, LaunchError> {
    let mut all = [0; SIGNAL_INFO_BYTES * SIGNALS_MAX];
    let mut child_told = false;
    // What does not fit is there at the next look.
    let length = descriptor::read(signals.as_fd(), &mut all).unwrap_or(0);
    for info in all.get(..length).unwrap_or_default().chunks_exact(SIGNAL_INFO_BYTES) {
        let [number, ..] = info else { continue };
        let number = *number;
        match (i32::from(number), &mut terminal) {
            (libc::SIGCHLD, _) => child_told = true,
            // The command's terminal tells its own processes.
            (libc::SIGWINCH, Some(terminal)) => terminal.resize()?,
            (libc::SIGTSTP, None) => {
                // The command's group is told to stop; stop too, and go on when told to.
                send(wires, number);
                // Only this process: its group may be the caller's.
                process::kill(std::process::id().cast_signed(), libc::SIGSTOP)
                    .map_err(|errno| LaunchError::Supervise { doing: "stopping", errno })?;
            }
            _ => send(wires, number),
        }
    }
    Ok(child_told)
}

/// One signal, by init, for the command's process group or for everybody.
fn send(wires: &Wires, signal: u8) {
    // The pipe is broken only when init is gone, which the loop finds out by itself.
    _ = descriptor::write_all(wires.control.as_fd(), &[signal]);
}

/// The limits that rung keeps itself, and when to look next.
struct Clock {
    wall_end: Instant,
    /// Set when the command was asked to end.
    kill_at: Option<Instant>,
    killed: bool,
    look_at: Instant,
    /// The memory that only starting took has been given back.
    trimmed: bool,
    page_bytes: u64,
}

impl Clock {
    fn new(run: &Supervised, started: Instant) -> Self {
        Self {
            wall_end: started + run.limits.wall.max.duration(),
            kill_at: None,
            killed: false,
            look_at: started + MEMORY_LOOK,
            trimmed: false,
            page_bytes: 4096,
        }
    }

    /// Milliseconds until something has to be done without anybody asking.
    fn until(&self, gate: Option<Instant>) -> u64 {
        let own = self.kill_at.unwrap_or(self.wall_end).min(self.look_at);
        let next = gate.map_or(own, |gate| own.min(gate));
        let left = next.saturating_duration_since(Instant::now());
        // Rounded up, so that the loop does not spin through the last millisecond.
        u64::try_from(left.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
    }

    fn act(
        &mut self,
        run: &Supervised,
        child: &Child,
        wires: &Wires,
        seen: &mut Seen,
        others_look: &mut dyn FnMut() -> Option<Denial>,
    ) {
        let now = Instant::now();
        if now >= self.look_at && !self.killed {
            self.look(run, child, seen);
            if let Some(denial) = others_look() {
                seen.limit.get_or_insert(denial);
                self.kill(run, child);
            }
            if !std::mem::replace(&mut self.trimmed, true) {
                // The wait is a long one, and little of what was needed until here still is.
                arena::trim();
                arena::trim_stack();
            }
            // However long it took, what else there is to do comes in between.
            self.look_at = Instant::now() + MEMORY_LOOK;
        }
        if let Some(at) = self.kill_at {
            if now >= at && !self.killed {
                self.kill(run, child);
            }
        } else if now >= self.wall_end {
            let limit = &run.limits.wall;
            seen.limit.get_or_insert(denial(
                run,
                "limits.wall",
                &limit.because,
                format!("the command ran longer than {}", limit.max),
                "split the work, or ask for a longer `limits.wall`",
            ));
            self.kill_at = Some(now + run.limits.grace.max.duration());
            send(wires, u8::try_from(libc::SIGTERM).unwrap_or(15));
        }
    }

    fn output_is_full(&mut self, run: &Supervised, child: &Child, seen: &mut Seen) {
        let Some(limit) = &run.output_max else { return };
        seen.limit.get_or_insert(denial(
            run,
            "output.max",
            &limit.because,
            format!("it printed more than {}", limit.max),
            "print less, or into a file of the workspace",
        ));
        self.kill(run, child);
    }

    fn kill(&mut self, run: &Supervised, child: &Child) {
        self.killed = true;
        self.kill_at = Some(Instant::now() + Duration::from_secs(3600));
        if let Some(cgroup) = &run.cgroup {
            cgroup.kill();
        }
        // Fails only if init has ended already.
        _ = process::signal(child.pidfd.as_fd(), libc::SIGKILL);
    }

    fn look(&mut self, run: &Supervised, child: &Child, seen: &mut Seen) {
        let limit = &run.limits.memory;
        let files_max = run.limits.open_files.max.0;
        let found = match memory::occupied(child.pid, self.page_bytes, files_max) {
            Ok(found) => found,
            Err(error) => {
                // Init may just have ended. If not, a limit that nobody else keeps cannot be kept, so
                // the run ends.
                if error.kind() != std::io::ErrorKind::NotFound && run.cgroup.is_none() {
                    let reason = format!("the memory of the run cannot be measured: {error}");
                    seen.limit.get_or_insert(denial(
                        run,
                        "limits.memory",
                        &limit.because,
                        reason,
                        "make /proc readable for the user who runs rung",
                    ));
                    self.kill(run, child);
                }
                return;
            }
        };
        seen.peak = seen.peak.most(found);
        if run.cgroup.is_some() {
            return;
        }
        let processes = &run.limits.processes;
        if found.processes > processes.max.0 {
            let (peak, max) = (found.processes, processes.max);
            seen.limit.get_or_insert(denial(
                run,
                "limits.processes",
                &processes.because,
                format!("it had {peak} processes at once; {max} is the limit"),
                "start fewer processes, for example fewer parallel jobs",
            ));
            self.kill(run, child);
        }
        if found.resident_bytes > limit.max.0 {
            let peak = Bytes(found.resident_bytes >> 20 << 20);
            seen.limit.get_or_insert_with(|| too_much_memory(run, peak));
            self.kill(run, child);
        }
    }
}

fn too_much_memory(run: &Supervised, peak: Bytes) -> Denial {
    let limit = &run.limits.memory;
    denial(
        run,
        "limits.memory",
        &limit.because,
        format!("its processes occupied {peak} together; {} is the limit", limit.max),
        "use less memory, for example fewer parallel jobs",
    )
}

pub(super) fn denial(
    run: &Supervised,
    rule: &str,
    origin: &Origin,
    reason: String,
    next: &str,
) -> Denial {
    Denial {
        layer: Layer::Limit,
        rule: rule.to_owned(),
        level: run.level,
        object: run.object.clone(),
        reason,
        origin: Some(origin.clone()),
        allow_with: Some(format!("a larger `{rule}` in the profile")),
        next: next.to_owned(),
        count: 1,
    }
}

/// The kernel ended the run, because there was no memory left for it.
fn killed_for_memory(run: &Supervised, fired: Fired, seen: &mut Seen) {
    if fired.killed == 0 {
        return;
    }
    let limit = &run.limits.memory;
    let peak = fired.memory_peak.map_or(limit.max, |it| Bytes(it >> 20 << 20));
    seen.limit.get_or_insert_with(|| too_much_memory(run, peak));
}

/// Adds what the kernel refused. A command that failed has failed by it, as far as anybody can tell;
/// its own ending is said in the reason.
fn limited(ended: &mut Ended, mut refused: Vec<Denial>) {
    let own = match &ended.status {
        Status::Exited { code: 0 } | Status::Limited { .. } => None,
        Status::Exited { code } => Some(format!("the command then exited with {code}")),
        Status::Signaled { signal } => Some(format!("signal {signal} then ended the command")),
        Status::Refused | Status::Waiting | Status::NotFound | Status::Failed { .. } => return,
    };
    if let (Some(own), Some(first)) = (own, refused.first_mut()) {
        first.reason = format!("{}; {own}", first.reason);
        ended.status = Status::Limited { limit: first.rule.clone() };
    }
    ended.denials.extend(refused);
}

/// What the parts say together. A limit explains every ending; a failure of a step means that
/// nothing ran, whatever else was said.
fn conclude(
    run: &Supervised,
    seen: &Seen,
    init: i32,
    started: Instant,
) -> Result<Ended, LaunchError> {
    let mut usage = Usage {
        wall_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        ..Usage::default()
    };
    if let Some(ended) = seen.ended {
        usage.user_ms = ended.user_ms;
        usage.system_ms = ended.system_ms;
        usage.peak_rss_kib = ended.peak_rss_kib;
    }
    if let Some(limit) = &seen.limit {
        let status = Status::Limited { limit: limit.rule.clone() };
        return Ok(Ended {
            status,
            started: true,
            usage,
            denials: vec![limit.clone()],
            notes: Vec::new(),
            attempts: Attempts::default(),
        });
    }
    if let Some(failure) = seen.failure {
        return failed(run, failure, usage);
    }
    // Init ends with 0 exactly when it has told how the command ended.
    let Some(ended) = seen.ended.filter(|_| libc::WIFEXITED(init) && libc::WEXITSTATUS(init) == 0)
    else {
        return Err(LaunchError::InitLost);
    };
    let mut denials = Vec::new();
    let status = if libc::WIFSIGNALED(ended.status) {
        let signal = libc::WTERMSIG(ended.status);
        if signal == libc::SIGXFSZ {
            let limit = &run.limits.file;
            denials.push(denial(
                run,
                "limits.file",
                &limit.because,
                format!("a file grew beyond {}", limit.max),
                "write smaller files",
            ));
        }
        Status::Signaled { signal }
    } else {
        Status::Exited { code: u8::try_from(libc::WEXITSTATUS(ended.status)).unwrap_or(u8::MAX) }
    };
    let limited = denials.first().map(|it: &Denial| Status::Limited { limit: it.rule.clone() });
    Ok(Ended {
        status: limited.unwrap_or(status),
        started: true,
        usage,
        denials,
        notes: Vec::new(),
        attempts: Attempts::default(),
    })
}

fn failed(run: &Supervised, failure: Failure, usage: Usage) -> Result<Ended, LaunchError> {
    let program = &run.program;
    if failure.step == Step::Exec {
        let reason = match failure.errno {
            Errno::ENOENT => format!("`{program}` needs an interpreter that is not in the view"),
            Errno::ENOEXEC => format!("`{program}` is no program: it has no `#!` line"),
            Errno::EACCES => format!("`{program}` may not be started at this level"),
            Errno::E2BIG => "the words and variables are longer than the kernel takes".to_owned(),
            errno => format!("starting `{program}` failed: {errno}"),
        };
        let status = Status::Failed { reason };
        return Ok(Ended {
            status,
            started: false,
            usage,
            denials: Vec::new(),
            notes: Vec::new(),
            attempts: Attempts::default(),
        });
    }
    let what = match failure.step {
        Step::View => usize::try_from(failure.index).ok().and_then(|it| run.view.get(it)),
        _ => None,
    };
    let doing = match what {
        Some(what) => format!("{} at `{what}`", failure.step.doing()),
        None => failure.step.doing().to_owned(),
    };
    if failure.step == Step::Seccomp && failure.errno == Errno::EBUSY {
        return Err(LaunchError::Supervised);
    }
    Err(LaunchError::Step { doing, errno: failure.errno })
}
