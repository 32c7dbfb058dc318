//! Why something may or may not be done, asked twice: of the decision, and of a real sandbox.
//!
//! The decision is what the profile, the rules and the plan say. The probe starts a sandbox of the
//! same level over the same workspace and tries the one thing in it, with a program that opens and
//! changes nothing. Where the two differ something is wrong with rung or with this machine, and
//! that is an alarm. A probe is a run: it is recorded, by the rule `why.probe`.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::consider::places;
use super::trial::{OneRule, Trial};
use super::{Ask, Considered, EngineError, Surroundings, inspect};
use crate::model::{Arg, Denial, Ids, Level, Origin, ProgramFact, Status, Streams};
use crate::plan::{self, Answer, Operation, What, egress};

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
    /// With the profile as it is in force.
    trial: Trial<'a>,
    /// Why no sandbox is started at all.
    untried: Option<String>,
}

const RULE: OneRule = OneRule { id: "why.probe", because: "a probe of `rung why`", after: "-q" };

impl<'a> Scene<'a> {
    fn new(level: Level, at: &Place, around: &'a Surroundings) -> Result<Self, EngineError> {
        let ask = ask(Vec::new(), level, at);
        let (cwd, workspace) = places(&ask, around)?;
        let profile = around.profile(level)?;
        let (nameserver, rule) = (None, RULE);
        let trial = Trial { around, level, profile, cwd, workspace, nameserver, rule };
        Ok(Self { trial, untried: None })
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
        let ready =
            match inspect::foresee(ask(argv.to_vec(), self.trial.level, at), self.trial.around)? {
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
        let path = self.trial.cwd.join(path);
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
        let ready = self.trial.ready(&[word("true")?], &["true"])?.ok_or_else(|| {
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
        let reason = found.answer.words();
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
        let own = egress::is_own(host);
        let named = egress::would(&self.trial.profile, host, port);
        let mut denial = None;
        let (allowed, reason, because) = match (named, own, &self.trial.profile.network.loopback) {
            (_, true, Some(origin)) => {
                (true, "the loopback is the sandbox's own".to_owned(), vec![origin.clone()])
            }
            (_, true, None) => (false, "this level has no loopback".to_owned(), Vec::new()),
            (Ok(lines), false, _) => (true, "the profile lists it".to_owned(), lines),
            (Err(why), false, _) => {
                denial = Some(why.denial(self.trial.level, host, Some(port)));
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
        let Some(outcome) = self.trial.run(argv, programs)? else {
            let why =
                format!("there is no `{}` in the sandbox to try it with", programs.join(", "));
            return Ok(Probe::Not { why });
        };
        Ok(match outcome.status {
            Status::Exited { code: 0 } => Probe::Allowed,
            Status::Exited { .. } => Probe::Refused,
            other => Probe::Not { why: format!("the probe did not end by itself: {other:?}") },
        })
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
