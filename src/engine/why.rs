//! Why something may or may not be done, asked twice: of the decision, and of a real sandbox.
//!
//! The decision is what the profile, the rules and the plan say. The probe starts a sandbox of the
//! same level over the same workspace and tries the one thing in it, with a program that opens and
//! changes nothing. Where the two differ something is wrong with rung or with this machine, and
//! that is an alarm. A probe is a run: it is recorded, by the rule `why.probe`.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::consider::{environment, find_paths, places, program, state_directories};
use super::quota::Quotas;
use super::{Ask, Considered, EngineError, Ready, Surroundings, inspect, launch, new_run, state};
use crate::host;
use crate::model::{
    Arg, Denial, Ids, Level, Origin, Outcome, ProgramFact, Request, Span, Status, Streams, Tree,
};
use crate::plan::{self, Answer, Operation, What, egress, syscalls};
use crate::policy::{self, Verdict};
use crate::profile::{
    Argument, Class, Decision, Ladder, Power, Profile, Program, Rule, Style, ValueType, When,
};
use crate::sys;

/// How long a probe may take, in milliseconds.
const PROBE_MS_MAX: u64 = 10_000;
/// How long one connection may take, in seconds.
const CONNECT_S_MAX: &str = "4";

/// What somebody asks about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    Command(Vec<Arg>),
    Path(PathBuf),
    Host { host: String, port: u16 },
}

/// Where, and at which level.
#[derive(Debug, Clone, Default)]
pub struct Place {
    pub level: Option<Level>,
    pub workspace: Option<PathBuf>,
    pub directory: Option<PathBuf>,
}

/// The answers, one for each thing that can be done with the subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Why {
    pub level: Level,
    pub subject: String,
    pub answers: Vec<Twice>,
}

/// One thing, asked twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Twice {
    /// `run`, `read`, `list`, `write`, `connect`.
    pub doing: &'static str,
    pub allowed: bool,
    pub reason: String,
    /// The lines of the profile behind the decision.
    pub because: Vec<Origin>,
    /// The refusal in full, where the command itself is refused.
    pub denial: Option<Denial>,
    pub probe: Probe,
    /// What is wrong, where the two answers differ.
    pub alarm: Option<String>,
}

/// What the sandbox answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Probe {
    Allowed,
    Refused,
    /// Nothing was tried.
    Not {
        why: String,
    },
}

impl Why {
    /// Whether some decision and its probe differ.
    pub fn is_alarming(&self) -> bool {
        self.answers.iter().any(|it| it.alarm.is_some())
    }
}

/// Decides, tries, and compares.
pub fn why(subject: &Subject, at: &Place, around: &Surroundings) -> Result<Why, EngineError> {
    let settings = around.settings()?;
    let level = at.level.unwrap_or(settings.default_level);
    let mut scene = Scene::new(level, at, around)?;
    if level > settings.ceiling || level.needs_grant() {
        let why = format!("nothing is started at level {level} without a signed grant");
        scene.untried = Some(why);
    }
    let (subject, answers) = match subject {
        Subject::Command(argv) => {
            let words: Vec<String> = argv.iter().map(ToString::to_string).collect();
            (words.join(" "), vec![scene.command(argv, at)?])
        }
        Subject::Path(path) => scene.path(path)?,
        Subject::Host { host, port } => (format!("{host}:{port}"), vec![scene.host(host, *port)?]),
    };
    Ok(Why { level, subject, answers })
}

struct Scene<'a> {
    around: &'a Surroundings,
    level: Level,
    /// As it is in force.
    profile: Profile,
    cwd: PathBuf,
    workspace: PathBuf,
    /// Why no sandbox is started at all.
    untried: Option<String>,
}

impl<'a> Scene<'a> {
    fn new(level: Level, at: &Place, around: &'a Surroundings) -> Result<Self, EngineError> {
        let ask = ask(Vec::new(), level, at);
        let (cwd, workspace) = places(&ask, around)?;
        let profile = around.profile(level)?;
        Ok(Self { around, level, profile, cwd, workspace, untried: None })
    }

    // ---- commands

    fn command(&self, argv: &[Arg], at: &Place) -> Result<Twice, EngineError> {
        let refused = |denial: Denial| Twice {
            doing: "run",
            allowed: false,
            reason: denial.reason.clone(),
            because: denial.origin.clone().into_iter().collect(),
            denial: Some(denial),
            probe: Probe::Not { why: "what is refused is not started".to_owned() },
            alarm: None,
        };
        let ready = match inspect::foresee(ask(argv.to_vec(), self.level, at), self.around)? {
            Considered::Ready(ready) => ready,
            Considered::Refused { refusal, .. } => return Ok(refused(refusal.denial)),
            Considered::Asked { question, .. } => return Ok(refused(question.denial)),
        };
        let origin = ready.permit.origin().clone();
        let reason = format!("rule `{}` allows it: {}", ready.permit.rule(), origin.because);
        let started = match &ready.request.program {
            ProgramFact::Found { canonical, .. } => canonical.clone(),
            ProgramFact::Missing { .. } => PathBuf::new(),
        };
        // The command itself is not started: it could do anything it is allowed to.
        let probe = self.opens(&started, Access::Read)?;
        let alarm = alarm(true, &probe, || outside(&started, Access::Read));
        Ok(Twice {
            doing: "run",
            allowed: true,
            reason,
            because: vec![origin],
            denial: None,
            probe,
            alarm,
        })
    }

    // ---- paths

    fn path(&self, path: &Path) -> Result<(String, Vec<Twice>), EngineError> {
        let path = self.cwd.join(path);
        let subject = path.display().to_string();
        let Ok(real) = fs::canonicalize(&path) else {
            let twice = self.missing(&path)?;
            return Ok((subject, vec![twice]));
        };
        let asked: &[Access] =
            if real.is_dir() { &[Access::List] } else { &[Access::Read, Access::Write] };
        let answers = asked.iter().map(|access| self.access(&real, *access));
        Ok((subject, answers.collect::<Result<_, _>>()?))
    }

    fn access(&self, path: &Path, access: Access) -> Result<Twice, EngineError> {
        let operation = match access {
            Access::Read => Operation::Read(path.to_owned()),
            Access::List => Operation::List(path.to_owned()),
            Access::Write => Operation::Write(path.to_owned()),
        };
        let (allowed, reason, because) = self.predicted(path, &operation)?;
        let probe = self.opens(path, access)?;
        let alarm = alarm(allowed, &probe, || outside(path, access));
        let doing = access.word();
        Ok(Twice { doing, allowed, reason, because, denial: None, probe, alarm })
    }

    /// A name that leads nowhere could only be made, which nobody tries for an answer.
    fn missing(&self, path: &Path) -> Result<Twice, EngineError> {
        let (allowed, reason, because) =
            self.predicted(path, &Operation::Create(path.to_owned()))?;
        let why = "there is no such file, and none is made to find out".to_owned();
        let probe = Probe::Not { why };
        Ok(Twice { doing: "create", allowed, reason, because, denial: None, probe, alarm: None })
    }

    fn predicted(
        &self,
        path: &Path,
        operation: &Operation,
    ) -> Result<(bool, String, Vec<Origin>), EngineError> {
        let ready = self.ready(&[word("true")?], &["true"])?.ok_or_else(|| {
            EngineError::Profile("there is no program `true` to make a plan for".to_owned())
        })?;
        // The plan does not know what is in the trees, but of a private one that is nothing.
        let place = ready.plan.view.iter().rev().find(|it| path.starts_with(&it.path));
        let empty = place.filter(|it| it.path != path && matches!(it.what, What::Private { .. }));
        if let (Some(place), false) = (empty, matches!(operation, Operation::Create(_))) {
            let reason = "a place of the run's own lies there, which is empty when it starts";
            return Ok((false, reason.to_owned(), place.because.clone()));
        }
        let found = plan::predict(&ready.plan, operation);
        let reason = match found.answer {
            Answer::Allowed => "the sandbox does not stand in the way",
            Answer::NotInView => "there is no such place in the sandbox",
            Answer::Hidden => "an empty thing lies on top of it",
            Answer::ReadOnly => "it is mounted read-only",
            Answer::NoPrograms => "no programs start there",
            Answer::FileRules => "no file rule allows it",
            Answer::MountPoint => "it is a mount point",
            Answer::OtherMount => "the names lie in different mounts",
        };
        Ok((found.answer == Answer::Allowed, reason.to_owned(), found.because))
    }

    /// Whether a sandbox opens the path, without reading or changing anything.
    fn opens(&self, path: &Path, access: Access) -> Result<Probe, EngineError> {
        let (from, to) = match access {
            Access::Read | Access::List => (path, Path::new("/dev/null")),
            Access::Write => (Path::new("/dev/null"), path),
        };
        let keyed = |key: &str, path: &Path| {
            let mut bytes = key.as_bytes().to_vec();
            bytes.extend_from_slice(path.as_os_str().as_encoded_bytes());
            Arg::new(bytes).map_err(|_| EngineError::Profile("the path has a NUL byte".to_owned()))
        };
        let argv = [
            word("dd")?,
            keyed("if=", from)?,
            keyed("of=", to)?,
            word("conv=notrunc")?,
            word("count=0")?,
            word("status=none")?,
        ];
        self.tries(&argv, &["dd"])
    }

    // ---- hosts

    fn host(&self, host: &str, port: u16) -> Result<Twice, EngineError> {
        let own = matches!(host, "localhost" | "127.0.0.1" | "::1");
        let named = egress::would(&self.profile, host, port);
        let mut denial = None;
        let (allowed, reason, because) = match (named, own, &self.profile.network.loopback) {
            (_, true, Some(origin)) => {
                (true, "the loopback is the sandbox's own".to_owned(), vec![origin.clone()])
            }
            (_, true, None) => (false, "this level has no loopback".to_owned(), Vec::new()),
            (Ok(lines), false, _) => (true, "the profile lists it".to_owned(), lines),
            (Err(why), false, _) => {
                denial = Some(why.denial(self.level, host, Some(port)));
                (false, why.reason(), Vec::new())
            }
        };
        let probe = match (allowed, own) {
            // Nobody listens on the loopback of a sandbox that has just been made.
            (true, true) => Probe::Not { why: "the loopback is new for each run".to_owned() },
            (_, _) => self.connects(host, port)?,
        };
        // A host that does not answer is no fault of the sandbox.
        let alarm = alarm(allowed, &probe, || false);
        Ok(Twice { doing: "connect", allowed, reason, because, denial, probe, alarm })
    }

    fn connects(&self, host: &str, port: u16) -> Result<Probe, EngineError> {
        let scheme = if port == 443 { "https" } else { "http" };
        let url = format!("{scheme}://{host}:{port}/");
        let argv = [
            word("curl")?,
            word("-q")?,
            word("-s")?,
            word("-o")?,
            word("/dev/null")?,
            word("-m")?,
            word(CONNECT_S_MAX)?,
            word(&url)?,
        ];
        self.tries(&argv, &["curl"])
    }

    // ---- the sandbox

    /// Runs the words in a sandbox of this level; exit code 0 is a yes.
    fn tries(&self, argv: &[Arg], programs: &[&str]) -> Result<Probe, EngineError> {
        if let Some(why) = &self.untried {
            return Ok(Probe::Not { why: why.clone() });
        }
        let Some(ready) = self.ready(argv, programs)? else {
            let why =
                format!("there is no `{}` in the sandbox to try it with", programs.join(", "));
            return Ok(Probe::Not { why });
        };
        let mut ledger = state::open_ledger(self.around)?;
        let outcome = quietly(|| {
            launch::launch(
                ready,
                (None, None),
                &mut Quotas::default(),
                None,
                &mut ledger,
                self.around,
            )
        })??;
        // Init shared this process's memory and closed it to others, which would keep the next
        // sandbox from getting its user.
        sys::process::dumpable(true).map_err(|errno| EngineError::Read {
            path: PathBuf::from("/proc/self"),
            source: errno.into(),
        })?;
        let Outcome { status, .. } = outcome;
        Ok(match status {
            Status::Exited { code: 0 } => Probe::Allowed,
            Status::Exited { .. } => Probe::Refused,
            other => Probe::Not { why: format!("the probe did not end by itself: {other:?}") },
        })
    }

    /// The plan of this level for a probe: everything as in the profile, but for the rules, of which
    /// there is only one. Nothing where there is no such program.
    fn ready(&self, argv: &[Arg], programs: &[&str]) -> Result<Option<Ready>, EngineError> {
        let mut profile = self.profile.clone();
        profile.exec.programs = programs.iter().map(|it| described(it)).collect();
        profile.exec.rules = vec![rule(programs)];
        profile.limits.wall.max = profile.limits.wall.max.min(Span(PROBE_MS_MAX));
        let directories = &self.around.directories;
        let mut host = host::facts(&directories.state.join("host"), plan::lasting_paths)?;
        host.state_directories = state_directories(directories)?;
        find_paths(&mut host, &profile, &self.workspace, (None, false), self.around)?;
        let places: (&Path, &Path) = (&self.cwd, &self.workspace);
        let program = program(argv, &profile, &host, &self.around.home, places)?;
        let request = Request {
            program,
            argv: argv.to_vec(),
            level: self.level,
            cwd: self.cwd.clone(),
            workspace: self.workspace.clone(),
            home: self.around.home.clone(),
            environment: environment(self.around),
            ids: Ids { run: new_run(self.around.now)?, ..Ids::default() },
            streams: Streams::Inherit,
            tree: Tree::Itself,
            repository: None,
            caches: BTreeMap::new(),
        };
        let ladder =
            Ladder { ceiling: self.level, profiles: [(self.level, profile.clone())].into() };
        let Verdict::Allow(permit) = policy::decide(&request, &ladder) else { return Ok(None) };
        let filter = syscalls::compiled(profile.syscalls.table, host.arch, plan::gate(&host));
        let plan = plan::compile(&permit, &request, &profile, &host, filter.digest())?;
        let minds = plan::protects_repositories(&profile);
        let repositories = minds.then_some(host.repositories);
        let caches = Vec::new();
        Ok(Some(Ready { request, permit, profile, plan, filter, repositories, caches }))
    }
}

/// What is wrong where the decision and the probe differ. `outside` says whether the same would
/// have been possible without a sandbox.
fn alarm(allowed: bool, probe: &Probe, outside: impl FnOnce() -> bool) -> Option<String> {
    match (allowed, probe) {
        (false, Probe::Allowed) => {
            Some("the sandbox lets through what is decided to be refused".to_owned())
        }
        (true, Probe::Refused) if outside() => {
            Some("the sandbox refuses what is decided to be allowed".to_owned())
        }
        (true, Probe::Refused | Probe::Allowed | Probe::Not { .. })
        | (false, Probe::Refused | Probe::Not { .. }) => None,
    }
}

fn ask(argv: Vec<Arg>, level: Level, at: &Place) -> Ask {
    Ask {
        argv,
        level: Some(level),
        workspace: at.workspace.clone(),
        directory: at.directory.clone(),
        wall_max: None,
        ids: Ids::default(),
        streams: Streams::Inherit,
        session: None,
        learning: false,
    }
}

fn word(text: &str) -> Result<Arg, EngineError> {
    Arg::try_from(text).map_err(|error| EngineError::Profile(error.to_string()))
}

fn described(name: &str) -> (String, Program) {
    let program = Program {
        name: name.to_owned(),
        class: Class::Plain,
        style: Style::Gnu,
        global: Vec::new(),
        force_environment: BTreeMap::new(),
        sets_environment: Vec::new(),
        multicall: false,
        starts_itself: false,
        origin: Origin::built_in("a probe of `rung why`"),
    };
    (name.to_owned(), program)
}

fn rule(programs: &[&str]) -> Rule {
    let because = "a probe of `rung why`";
    Rule {
        id: "why.probe".to_owned(),
        programs: programs.iter().map(|it| (*it).to_owned()).collect(),
        started_by: Vec::new(),
        decision: Decision::Allow,
        power: Power::Read,
        because: because.to_owned(),
        arguments: vec![
            Argument::AfterAny("-q".to_owned()),
            Argument::Operands { value: ValueType::Text, min: 0, max: 8 },
        ],
        when: When::default(),
        reversible: true,
        touches: Vec::new(),
        instead: None,
        matches: Vec::new(),
        not_matches: Vec::new(),
        origin: Origin::built_in(because),
    }
}

/// What is done with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    List,
    Write,
}

impl Access {
    fn word(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::List => "list",
            Self::Write => "write",
        }
    }
}

/// Whether the file's own rights allow it: what refuses outside the sandbox too is not the sandbox.
fn outside(path: &Path, access: Access) -> bool {
    let opened = match access {
        Access::Read | Access::List => File::open(path),
        Access::Write => OpenOptions::new().append(true).open(path),
    };
    // The sandbox has no capabilities, so root's reach beyond the mode is not its own.
    opened.is_ok() && path.ancestors().all(|it| mode_allows(it, it == path, access))
}

fn mode_allows(path: &Path, last: bool, access: Access) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return false };
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let shift = match (metadata.uid() == uid, metadata.gid() == gid) {
        (true, _) => 6,
        (false, true) => 3,
        (false, false) => 0,
    };
    let wanted = match (last, access) {
        (true, Access::Read | Access::List) => 0o4,
        (true, Access::Write) => 0o2,
        (false, _) => 0o1,
    };
    (metadata.mode() >> shift) & wanted == wanted
}

/// Keeps what the probe prints from standard output and error.
fn quietly<T>(act: impl FnOnce() -> T) -> Result<T, EngineError> {
    let failed = |errno: nix::errno::Errno| EngineError::Read {
        path: PathBuf::from("/dev/null"),
        source: errno.into(),
    };
    let null = OpenOptions::new()
        .write(true)
        .open("/dev/null")
        .map_err(|source| EngineError::Read { path: PathBuf::from("/dev/null"), source })?;
    let kept = [1, 2].map(|number| (number, sys::descriptor::inherited(number)));
    for (number, _) in &kept {
        sys::descriptor::put_at(null.as_fd(), *number).map_err(failed)?;
    }
    let done = act();
    for (number, old) in kept {
        let old = old.map_err(failed)?;
        sys::descriptor::put_at(old.as_fd(), number).map_err(failed)?;
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_answers_that_differ_are_an_alarm_unless_the_file_itself_refuses() {
        let not = Probe::Not { why: "a test".to_owned() };
        let says = |allowed, probe: &Probe, outside: bool| alarm(allowed, probe, || outside);
        assert!(says(false, &Probe::Allowed, true).unwrap().contains("lets through"));
        assert!(says(false, &Probe::Allowed, false).is_some());
        assert!(says(true, &Probe::Refused, true).unwrap().contains("refuses"));
        assert_eq!(says(true, &Probe::Refused, false), None);
        assert_eq!(says(true, &Probe::Allowed, true), None);
        assert_eq!(says(false, &Probe::Refused, true), None);
        assert_eq!((says(true, &not, true), says(false, &not, true)), (None, None));
    }

    #[test]
    fn the_mode_of_a_file_and_of_its_directories_counts() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(outside(&file, Access::Read) && outside(&file, Access::Write));
        let mut rights = fs::metadata(&file).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut rights, 0o400);
        fs::set_permissions(&file, rights).unwrap();
        assert!(outside(&file, Access::Read) && !outside(&file, Access::Write));
        assert!(!outside(&home.path().join("none"), Access::Read));
    }
}
