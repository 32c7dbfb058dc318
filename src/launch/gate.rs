//! The gate: every program that the run starts is decided before its first instruction.
//!
//! The filter of the run puts each call of exec to this process. What the call asks for is read and
//! judged at once, so that an honest caller gets an honest error. That judgement is a courtesy: until
//! the kernel has copied the path and the words, another thread, or any process that shares the
//! memory, can change them. So a task that may go on is seized first (`ptrace(2)`), and behind its
//! exec, where the old memory is gone and the new image has not run, the gate looks at what was
//! really loaded: the object, its words, its variables. If that is what was judged, the task is let
//! go; if it is something else, it is judged again, and killed where it may not be.
//!
//! Everything that fails on the way refuses. The gate never waits: it answers one question or looks
//! at the tasks that have stopped, and goes back to the supervisor's loop.

mod connect;
mod lineage;
mod opens;
mod resolve;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use self::connect::Connects;
use self::lineage::{Lineage, Place};
pub(super) use self::opens::Opens;
use self::resolve::{Program, Resolved, View};
use self::task::{Memory, PATH_BYTES_MAX, Words};
use super::passed;
use crate::model::{
    Ancestor, Arg, Attempts, Denial, ExecFact, Image, Layer, Level, Look, Object, Spot,
};
use crate::plan::egress::EgressPlan;
use crate::plan::{ExecPlan, SandboxPlan, Table};
use crate::sys::descriptor::{self, Identity};
use crate::sys::process;
use crate::sys::seccomp::{self, Question};
use crate::sys::standing::Standing;
use crate::sys::trace::{self, Stop};
use crate::sys::xattr;

/// A task whose exec has failed stays seized this long, if nothing happens to it.
const SEIZED_MAX: Duration = Duration::from_secs(1);

/// As many paths are remembered with what they lead to.
const PROGRAMS_MAX: usize = 256;

/// Dynamic loaders of the usual systems. Started as programs, they load any file past every rule
/// about which files may be started. Those that programs name are added as they are seen.
const LOADERS: [&str; 6] = [
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-linux.so.2",
    "/lib/ld-linux-armhf.so.3",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
];

/// The answer to one exec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecAnswer {
    /// By the rule with this id.
    Allow {
        rule: String,
    },
    Deny(Denial),
}

/// What became of an exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    /// It runs, and it is what was judged.
    Started,
    /// It was let on by what it asked for: another task of the run traces it, so nobody else can see
    /// what was loaded.
    Unverified,
    /// The call failed.
    Refused,
    /// It was loaded, and killed before its first instruction.
    Killed,
}

/// Who decides about the programs of a run, and who is told.
pub struct Judge<'a> {
    pub decide: &'a mut dyn FnMut(&ExecFact, &Look<'_>) -> ExecAnswer,
    pub told: &'a mut dyn FnMut(&ExecFact, &ExecAnswer, Became),
}

impl std::fmt::Debug for Judge<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Judge").finish_non_exhaustive()
    }
}

/// What of the plan the gate goes by.
#[derive(Debug)]
pub(super) struct Orders {
    level: Level,
    exec: ExecPlan,
    table: Table,
    egress: Option<EgressPlan>,
    opens: Option<Opens>,
}

impl Orders {
    pub(super) fn of(plan: &SandboxPlan, opens: Option<Opens>) -> Self {
        Self {
            level: plan.level,
            exec: plan.exec.clone(),
            table: plan.syscalls.table,
            egress: plan.network.egress.clone(),
            opens,
        }
    }
}

/// The gate of one run.
pub(super) struct Gate<'a> {
    orders: Orders,
    judge: Judge<'a>,
    /// Pid 1 of the sandbox, which nothing above a program goes beyond.
    init: i32,
    line: Line,
    /// The root of the view, which every task of the run has: none can change its own.
    root: Option<OwnedFd>,
    loaders: BTreeSet<(u64, u64)>,
    loaders_seen: BTreeSet<Vec<u8>>,
    /// Tasks that this process traces, by their numbers.
    seized: BTreeMap<i32, Seized>,
    lineage: Lineage,
    memory: Memory,
    connects: Connects,
    /// What paths led to, where the run can change nothing of it.
    programs: BTreeMap<Vec<u8>, Program>,
}

/// How the gate hears of the run's calls.
enum Line {
    /// The listener is still to come from the command's process.
    Channel(OwnedFd),
    Listener(OwnedFd),
    /// Nobody is left who could ask.
    Closed,
}

/// A task that was let on, until it stops behind its exec.
struct Seized {
    since: Instant,
    /// Absent when its exec has been judged: it is killed, or its exec did not come.
    call: Option<Box<Call>>,
}

/// One call of exec, as it was asked for.
struct Call {
    process: i32,
    started: u64,
    place: Place,
    spelled: Arg,
    /// What it was judged to be; absent where only the kernel could tell.
    expected: Option<Expected>,
}

struct Expected {
    fact: ExecFact,
    rule: String,
    identity: Identity,
    words: Words,
    variables: Words,
    loader: Option<Vec<u8>>,
}

/// What is done with a call of exec.
enum Verdict {
    Fails(Errno),
    GoesOn(Box<Call>),
}

impl<'a> Gate<'a> {
    pub(super) fn new(mut orders: Orders, judge: Judge<'a>, init: i32, channel: OwnedFd) -> Self {
        let connects = Connects::new(orders.egress.take(), orders.opens.take());
        Self {
            orders,
            judge,
            init,
            line: Line::Channel(channel),
            root: None,
            loaders: BTreeSet::new(),
            loaders_seen: BTreeSet::new(),
            seized: BTreeMap::new(),
            lineage: Lineage::default(),
            memory: Memory::default(),
            connects,
            programs: BTreeMap::new(),
        }
    }

    /// What to wait for.
    pub(super) fn interest(&self) -> Option<BorrowedFd<'_>> {
        match &self.line {
            Line::Channel(line) | Line::Listener(line) => Some(line.as_fd()),
            Line::Closed => None,
        }
    }

    /// What the run has tried to reach so far.
    pub(super) fn attempts(&mut self) -> Attempts {
        std::mem::replace(&mut self.connects, Connects::new(None, None)).attempts()
    }

    /// Until when something has to be done without anybody asking.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.seized.values().map(|it| it.since + SEIZED_MAX).min()
    }

    /// Something has come over the line.
    pub(super) fn hear(&mut self, hung_up: bool) -> Result<(), Errno> {
        match std::mem::replace(&mut self.line, Line::Closed) {
            Line::Channel(channel) => {
                if let Some(listener) = passed::receive(channel.as_fd())? {
                    // Only a matter of speed, and older kernels lack it.
                    _ = seccomp::take_turns(listener.as_fd());
                    self.line = Line::Listener(listener);
                }
            }
            Line::Listener(_) if hung_up => {}
            Line::Listener(listener) => {
                if let Some(question) = seccomp::receive(listener.as_fd())? {
                    self.answer(listener.as_fd(), &question);
                }
                self.line = Line::Listener(listener);
            }
            Line::Closed => {}
        }
        Ok(())
    }

    /// One arm for each call that the filter asks about.
    fn answer(&mut self, listener: BorrowedFd<'_>, question: &Question) {
        let answered = match i64::from(question.number) {
            libc::SYS_execve => self.exec(listener, question),
            libc::SYS_connect => self.connects.connect(listener, question),
            libc::SYS_sendto => self.connects.send(listener, question),
            libc::SYS_memfd_create => memory_file(listener, question),
            _ => seccomp::refuse(listener, question.id, Errno::ENOSYS),
        };
        if let Err(errno) = answered {
            // Who asked is gone, or it must not wait for ever.
            if errno != Errno::ENOENT {
                _ = seccomp::refuse(listener, question.id, errno);
            }
        }
    }

    fn exec(&mut self, listener: BorrowedFd<'_>, question: &Question) -> Result<(), Errno> {
        let first = self.root.is_none();
        if first {
            // Until its exec the command's process has this process's own memory, which nobody may
            // look into but while this is set. Nothing of the command runs yet.
            process::dumpable(true)?;
        }
        let done = self.exec_seen(listener, question);
        if first {
            process::dumpable(false)?;
        }
        done
    }

    fn exec_seen(&mut self, listener: BorrowedFd<'_>, question: &Question) -> Result<(), Errno> {
        let refuse = |errno| seccomp::refuse(listener, question.id, errno);
        let Ok(task) = i32::try_from(question.pid) else { return refuse(Errno::EACCES) };
        let call = match self.consider(listener, question, task) {
            Ok(Verdict::GoesOn(call)) => call,
            Ok(Verdict::Fails(errno)) => return refuse(errno),
            // What cannot be read cannot be judged.
            Err(_) => return refuse(Errno::EACCES),
        };
        // The number may have been that of a task whose exec never came.
        if !self.seized.contains_key(&task) || !trace::is_traced(task) {
            match trace::seize_for_exec(task) {
                Ok(()) => {}
                Err(Errno::EPERM) if self.orders.table == Table::Debug => {
                    return self.let_traced_on(listener, question.id, *call);
                }
                Err(_) => return refuse(Errno::EACCES),
            }
        }
        let seized = Seized { since: Instant::now(), call: Some(call) };
        self.seized.insert(task, seized);
        // The number may have gone to another task before it was seized.
        if !seccomp::still_asks(listener, question.id) {
            return Err(Errno::ENOENT);
        }
        seccomp::go_on(listener, question.id)
    }

    /// A task that another one of the run traces: its tracer has it in hand, before this exec and
    /// behind it, so what it asks for is all that can be judged.
    fn let_traced_on(
        &mut self,
        listener: BorrowedFd<'_>,
        id: u64,
        call: Call,
    ) -> Result<(), Errno> {
        let Some(expected) = call.expected else {
            return seccomp::refuse(listener, id, Errno::EACCES);
        };
        seccomp::go_on(listener, id)?;
        self.connects.started();
        if let Some(program) = Ancestor::of(&expected.fact) {
            self.lineage.started(call.process, call.started, program, &call.place);
        }
        let answer = ExecAnswer::Allow { rule: expected.rule };
        (self.judge.told)(&expected.fact, &answer, Became::Unverified);
        Ok(())
    }

    /// Reads what a call asks for and judges it.
    fn consider(
        &mut self,
        listener: BorrowedFd<'_>,
        question: &Question,
        task: i32,
    ) -> Result<Verdict, Errno> {
        let [path, words, variables, ..] = question.arguments;
        self.memory.turn_to(task);
        let spelled = match self.memory.string(path, PATH_BYTES_MAX) {
            Err(Errno::ENAMETOOLONG) => return Ok(Verdict::Fails(Errno::ENAMETOOLONG)),
            result => result?,
        };
        let cwd = task::link(task, "cwd")?;
        self.find_root(task)?;
        let resolved = self.resolve(task, &spelled, &cwd)?;
        if let Resolved::Fails(errno) = resolved {
            return Ok(Verdict::Fails(errno));
        }
        let words = match self.memory.words(words) {
            Err(Errno::E2BIG) => return Ok(Verdict::Fails(Errno::E2BIG)),
            result => result?,
        };
        let variables = match self.memory.words(variables) {
            Err(Errno::E2BIG) => return Ok(Verdict::Fails(Errno::E2BIG)),
            result => result?,
        };
        let mut standing = Standing::of(task)?;
        let process = task::process_of(task, standing)?;
        if process != task {
            standing = Standing::of(process)?;
        }
        let place = self.lineage.place(process, standing, self.init);
        let spelled = Arg::new(spelled).map_err(|_| Errno::EINVAL)?;
        let call = |place, spelled, expected| {
            let started = standing.started;
            Verdict::GoesOn(Box::new(Call { process, started, place, spelled, expected }))
        };
        let program = match resolved {
            Resolved::Fails(errno) => return Ok(Verdict::Fails(errno)),
            Resolved::Unclear => return Ok(call(place, spelled, None)),
            Resolved::Unreadable(path) => Program::unreadable(path),
            Resolved::Program(program) => *program,
        };
        let words = program.words_of(words);
        let fact = ExecFact {
            spelled: spelled.clone(),
            argv: words.list(),
            image: program.image,
            script: program.script,
            cwd,
            environment: variables.list(),
            caller: place.caller(),
        };
        let (identity, loader) = (program.identity, program.loader);
        match self.judged(task, &fact, Some(identity)) {
            ExecAnswer::Allow { rule } => {
                let expected = Expected { fact, rule, identity, words, variables, loader };
                Ok(call(place, spelled, Some(expected)))
            }
            answer @ ExecAnswer::Deny(_) => {
                // All of it was the memory of whoever waits; if it still does.
                if !seccomp::still_asks(listener, question.id) {
                    return Err(Errno::ESRCH);
                }
                (self.judge.told)(&fact, &answer, Became::Refused);
                Ok(Verdict::Fails(Errno::EACCES))
            }
        }
    }

    /// What a path leads to. In places that the run cannot change a path goes on leading there, as
    /// far as this early look is concerned.
    fn resolve(&mut self, task: i32, spelled: &[u8], cwd: &Path) -> Result<Resolved, Errno> {
        if let Some(known) = self.programs.get(spelled) {
            return Ok(Resolved::Program(Box::new(known.clone())));
        }
        let view = self.view()?;
        let resolved = view.program(task, spelled, cwd);
        if let Resolved::Program(program) = &resolved
            && self.programs.len() < PROGRAMS_MAX
            && view.is_out_of_reach(spelled, program)
        {
            self.programs.insert(spelled.to_owned(), (**program).clone());
        }
        Ok(resolved)
    }

    fn judged(&mut self, task: i32, fact: &ExecFact, identity: Option<Identity>) -> ExecAnswer {
        if identity.is_some_and(|it| self.loaders.contains(&(it.device, it.inode))) {
            return ExecAnswer::Deny(self.by_loader(fact));
        }
        let root = self.root.as_ref();
        (self.judge.decide)(fact, &|spot| seen(task, root?.as_fd(), spot))
    }

    fn by_loader(&self, fact: &ExecFact) -> Denial {
        let words: Vec<String> = fact.argv.iter().map(ToString::to_string).collect();
        Denial {
            layer: Layer::Exec,
            rule: "exec.loader".to_owned(),
            level: self.orders.level,
            object: words.join(" "),
            reason: format!(
                "`{}` is a dynamic loader, which starts any file whatever the rules say of it",
                fact.spelled
            ),
            origin: None,
            allow_with: None,
            next: "start the program itself".to_owned(),
            count: 1,
        }
    }

    fn find_root(&mut self, task: i32) -> Result<(), Errno> {
        if self.root.is_some() {
            return Ok(());
        }
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let path = task::file(task, "root")?;
        self.root = Some(descriptor::open_at(descriptor::HERE, &path, flags, 0)?);
        for path in LOADERS {
            self.learn_loader(path.as_bytes());
        }
        Ok(())
    }

    fn learn_loader(&mut self, path: &[u8]) {
        if self.loaders_seen.contains(path) || !path.starts_with(b"/") {
            return;
        }
        // Nothing there, and so nothing that could be started.
        let found = self.view().and_then(|it| it.identity(path));
        if let Ok(found) = found {
            self.loaders.insert((found.device, found.inode));
            self.loaders_seen.insert(path.to_owned());
        }
    }

    fn view(&self) -> Result<View<'_>, Errno> {
        let root = self.root.as_ref().ok_or(Errno::ESRCH)?.as_fd();
        Ok(View { root, plan: &self.orders.exec })
    }

    /// Tasks that are traced may have stopped or ended.
    pub(super) fn look(&mut self) {
        // Nothing else stops that this process would hear of.
        while !self.seized.is_empty()
            && let Ok(Some((task, stop))) = trace::next_stop()
        {
            match stop {
                Stop::Exec => self.behind_exec(task),
                // Back in its own code: its exec has failed, and the gate has no business with it.
                Stop::Signal(signal) => self.release(task, signal),
                Stop::Other => self.release(task, 0),
            }
        }
        self.seized.retain(|task, _| !trace::has_ended(*task));
    }

    fn release(&mut self, task: i32, signal: i32) {
        // A stopped task that is not one of these is init, which nothing traces.
        if self.seized.remove(&task).is_some() {
            // It has just been killed otherwise.
            _ = trace::let_go(task, signal);
        }
    }

    /// Looks for tasks whose exec has failed long ago: a debugger inside may want them.
    pub(super) fn tidy(&mut self, now: Instant) {
        self.seized.retain(|task, seized| {
            if now.duration_since(seized.since) < SEIZED_MAX {
                return true;
            }
            seized.since = now;
            // It stops when it is back in its own code, if it ever is, and is then let go.
            _ = trace::interrupt(*task);
            trace::is_traced(*task)
        });
    }

    /// The kernel has loaded an image, and nothing of it has run.
    fn behind_exec(&mut self, task: i32) {
        self.connects.started();
        // A thread that is not its process's first takes over the number of the first.
        let alone = self.seized.len() == 1 && self.seized.contains_key(&task);
        let before = if alone { task } else { trace::number_before(task).unwrap_or(task) };
        let call = self.seized.remove(&before).and_then(|it| it.call);
        self.seized.remove(&task);
        let loaded = match call {
            Some(call) => self.verify(task, *call),
            None => Err(Errno::ESRCH),
        };
        let may_run = matches!(loaded, Ok((_, ExecAnswer::Allow { .. })));
        let runs = may_run && trace::let_go(task, 0).is_ok();
        if !runs {
            // Fails only if it has been killed already.
            _ = process::kill(task, libc::SIGKILL);
            self.seized.insert(task, Seized { since: Instant::now(), call: None });
        }
        // The task does not wait while its record is made. If that fails, nothing more is started.
        if let Ok((fact, answer)) = loaded {
            let became = if may_run { Became::Started } else { Became::Killed };
            (self.judge.told)(&fact, &answer, became);
        }
    }

    /// What was loaded, and whether it may run.
    fn verify(&mut self, task: i32, call: Call) -> Result<(ExecFact, ExecAnswer), Errno> {
        let found = descriptor::identity_behind(&task::file(task, "exe")?);
        let Call { process, started, place, spelled, expected } = call;
        let same = expected.filter(|it| {
            let same = |found: &Identity| {
                let of = |it: &Identity| (it.device, it.inode, it.mode);
                of(found) == of(&it.identity) && found.links > 0
            };
            found.as_ref().is_ok_and(same) && self.was_given(task, &it.words, &it.variables)
        });
        let (fact, answer, loader) = if let Some(expected) = same {
            let Expected { fact, rule, loader, .. } = expected;
            (fact, ExecAnswer::Allow { rule }, loader)
        } else {
            self.programs.remove(spelled.as_bytes());
            let words = task::loaded(task, "cmdline");
            let variables = task::loaded(task, "environ");
            let (image, identity) = self.image(task, found);
            let fact = ExecFact {
                spelled,
                argv: words?.list(),
                image,
                script: None,
                cwd: task::link(task, "cwd")?,
                environment: variables?.list(),
                caller: place.caller(),
            };
            let answer = self.judged(task, &fact, identity);
            (fact, answer, None)
        };
        if let ExecAnswer::Allow { .. } = answer {
            if let Some(path) = loader {
                self.learn_loader(&path);
            }
            if let Some(program) = Ancestor::of(&fact) {
                self.lineage.started(process, started, program, &place);
            }
        }
        Ok((fact, answer))
    }

    /// Whether an image got these words and variables. The stack says so at once; `/proc` always.
    fn was_given(&mut self, task: i32, words: &Words, variables: &Words) -> bool {
        trace::stack(task).is_ok_and(|it| self.memory.was_given(task, it, words, variables))
            || (task::loaded(task, "cmdline").as_ref() == Ok(words)
                && task::loaded(task, "environ").as_ref() == Ok(variables))
    }

    /// The object that was loaded.
    fn image(&self, task: i32, found: Result<Identity, Errno>) -> (Image, Option<Identity>) {
        let path = task::link(task, "exe");
        let (Ok(identity), Ok(path), Ok(view)) = (found, path, self.view()) else {
            return (Image::Unreadable { path: PathBuf::from("(unknown)") }, None);
        };
        if identity.links == 0 {
            return (Image::Nameless { shown: path.display().to_string() }, Some(identity));
        }
        let own = CString::new(format!("/proc/{task}/exe")).map_err(|_| Errno::EINVAL);
        let raises = own.and_then(|it| xattr::gives_capabilities(&it));
        (Image::File(view.fact(path.clone(), path, identity, raises)), Some(identity))
    }
}

impl Drop for Gate<'_> {
    /// Nothing that is still traced outlives the gate; otherwise nobody could wait for it.
    fn drop(&mut self) {
        for task in self.seized.keys() {
            // Fails only if it has ended.
            _ = process::kill(*task, libc::SIGKILL);
            _ = process::wait_for(*task);
        }
    }
}

impl Program {
    fn unreadable(path: PathBuf) -> Self {
        let identity = Identity { device: 0, inode: 0, mode: 0, node: 0, links: 0 };
        let image = Image::Unreadable { path };
        Self { image, identity, script: None, prefix: None, loader: None }
    }

    /// The words that the image gets, which for an interpreter are not those of the caller.
    fn words_of(&self, mut words: Words) -> Words {
        if words.bytes.is_empty() {
            // The kernel puts an empty word where a caller gives none. Linux 5.18.
            words.push(b"");
        }
        match &self.prefix {
            Some(prefix) => {
                let mut all = prefix.clone();
                all.bytes.extend_from_slice(words.rest());
                all
            }
            None => words,
        }
    }
}

/// The file or the pipe that lies somewhere as the task sees it.
fn seen(task: i32, root: BorrowedFd<'_>, spot: Spot<'_>) -> Option<Object> {
    let stream = |name| task::file(task, name).and_then(|it| descriptor::times_behind(&it));
    let found = match spot {
        Spot::Input => stream("fd/0"),
        Spot::Output => stream("fd/1"),
        Spot::Path(path) => {
            let path = CString::new(path.as_os_str().as_bytes()).ok()?;
            let opened = descriptor::open_inside(root, &path, libc::O_PATH).ok()?;
            descriptor::times(opened.as_raw_fd(), c"", libc::AT_EMPTY_PATH)
        }
    };
    let (found, born, written) = found.ok()?;
    let holds_bytes = matches!(found.mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFIFO);
    holds_bytes.then_some(Object { device: found.device, inode: found.inode, born, written })
}

/// Makes a file in memory for a task, sealed so that nobody can ever start it. What compiles while
/// it runs maps such files, which needs no right to start them.
fn memory_file(listener: BorrowedFd<'_>, question: &Question) -> Result<(), Errno> {
    const NAME_BYTES_MAX: usize = 250;
    const CLOSE_AT_EXEC: u32 = 1;
    const NEVER_A_PROGRAM: u32 = 8;
    const A_PROGRAM: u32 = 0x10;
    let [name, flags, ..] = question.arguments;
    let task = i32::try_from(question.pid).map_err(|_| Errno::EACCES)?;
    let mut memory = Memory::default();
    memory.turn_to(task);
    let name = match memory.string(name, NAME_BYTES_MAX) {
        Err(Errno::ENAMETOOLONG) => Err(Errno::EINVAL),
        result => result,
    }?;
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    // The kernel reads an `unsigned int`.
    let flags = u32::try_from(flags & u64::from(u32::MAX)).map_err(|_| Errno::EINVAL)?;
    let sealed = (flags & !A_PROGRAM) | NEVER_A_PROGRAM | CLOSE_AT_EXEC;
    let made = match trace::memory_file(&name, sealed) {
        // Before Linux 6.3 there is no such seal, and what is started from memory meets the gate.
        Err(Errno::EINVAL) => trace::memory_file(&name, sealed & !NEVER_A_PROGRAM),
        result => result,
    }?;
    seccomp::give(listener, question.id, made.as_fd(), flags & CLOSE_AT_EXEC != 0)
}
