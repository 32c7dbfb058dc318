//! Learning runs: what a command starts that no rule covers, and the rules that would.
//!
//! A learning run is a run like any other, in the same sandbox, and its record says that it is one.
//! The one difference is that a program that only lacks a rule is let through and noted. What comes
//! of it is a text for the person outside: nothing is permitted by it before somebody has put it
//! where profiles are read.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Ask, EngineError, Surroundings};
use crate::ledger::{LearnObserved, Record, Redactor};
use crate::model::{Arg, ExecFact, Level, Outcome, Request};
use crate::policy::{self, Breadth, ExecVerdict, Lesson, Proposed, Scene};
use crate::profile::{self, Layer, Profile, Source};

/// Different command lines that one run lets through.
const LESSONS_MAX: usize = 256;
/// How often rules are made narrower and tried again.
const ROUNDS_MAX: usize = 3;
/// Set in every run (the plan sees to that), and nowhere else.
const INSIDE: &str = "RUNG_RUN";

/// What a learning run showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Learned {
    #[serde(flatten)]
    pub outcome: Outcome,
    pub observed: Vec<Observed>,
    /// Absent where there is nothing to add.
    pub proposal: Option<Proposal>,
    pub left_out: Vec<LeftOut>,
}

/// A command line that was let through although no rule covers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Observed {
    pub program: String,
    pub argv: Vec<Arg>,
    pub started_by: Option<String>,
    pub count: u64,
}

/// The smallest change of the profile that makes the run pass as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proposal {
    /// Where it would hold from the next run on.
    pub file: PathBuf,
    pub level: Level,
    /// The file as it is; absent if there is none.
    pub before: Option<String>,
    pub after: String,
    /// What the level would permit that it does not now.
    pub permits: Vec<String>,
    /// Why it is not the user's own file.
    pub locked: Option<String>,
}

/// Something that was let through and has no rule in the proposal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LeftOut {
    pub program: String,
    pub why: String,
}

/// Runs one command and learns from it.
pub fn learn(ask: Ask, around: &Surroundings) -> Result<Learned, EngineError> {
    if around.environment.contains_key(OsStr::new(INSIDE)) {
        return Err(EngineError::LearnInside);
    }
    let mut lessons = Lessons::default();
    let ask = Ask { learning: true, ..ask };
    let mut outcome = super::run_learning(ask, around, Some(&mut lessons));
    lessons.seen.retain(|_, it| it.count > 0);
    if lessons.full {
        let note = format!(
            "more than {LESSONS_MAX} command lines lacked a rule; what came after them was refused"
        );
        outcome.notes.push(note);
    }
    let (proposal, left_out) = match lessons.proposal(around) {
        Ok(found) => found,
        Err(error) => {
            outcome.notes.push(format!("nothing can be proposed: {error}"));
            (None, Vec::new())
        }
    };
    Ok(Learned { observed: lessons.observed(), outcome, proposal, left_out })
}

/// Whether a proposal could be written there: to a file that does not exist yet, or to the profile
/// file that it would change.
pub fn may_write(file: &Path, around: &Surroundings) -> Result<(), EngineError> {
    match fs::symlink_metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => has_a_place(file, around),
        Err(source) => Err(EngineError::Read { path: file.to_owned(), source }),
        Ok(_) if is_profile(file, around) => Ok(()),
        Ok(_) => Err(EngineError::InTheWay { path: file.to_owned() }),
    }
}

/// Whether a new file can be put there: its directory exists, or is the user's own for profiles, which
/// is made when it is needed.
fn has_a_place(file: &Path, around: &Surroundings) -> Result<(), EngineError> {
    let directory = match file.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        Some(_) | None => Path::new("."),
    };
    if directory == around.directories.user {
        return Ok(());
    }
    let failed = |source| EngineError::Read { path: directory.to_owned(), source };
    if fs::metadata(directory).map_err(failed)?.is_dir() {
        return Ok(());
    }
    Err(failed(io::ErrorKind::NotADirectory.into()))
}

fn is_profile(file: &Path, around: &Surroundings) -> bool {
    let Ok(file) = fs::canonicalize(file) else { return false };
    let directories = [&around.directories.user, &around.directories.system];
    directories.into_iter().any(|it| {
        let all = Level::ALL.map(|level| it.join(file_name(level)));
        all.iter().any(|it| fs::canonicalize(it).is_ok_and(|it| it == file))
    })
}

/// Writes the changed profile file as a whole.
pub fn write(proposal: &Proposal, to: &Path, around: &Surroundings) -> Result<(), EngineError> {
    may_write(to, around)?;
    let failed = |source| EngineError::Read { path: to.to_owned(), source };
    let create = |path: &Path| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)?;
        file.write_all(proposal.after.as_bytes())?;
        Ok(file)
    };
    let Ok(whole) = fs::canonicalize(to) else {
        if to.parent() == Some(&around.directories.user) {
            fs::create_dir_all(&around.directories.user).map_err(failed)?;
        }
        create(to).map_err(failed)?;
        return Ok(());
    };
    // Another file than the one that was read would lose what only it says.
    let now = fs::read_to_string(&whole).map_err(failed)?;
    if proposal.before.as_ref() != Some(&now) {
        return Err(EngineError::InTheWay { path: to.to_owned() });
    }
    let new = whole.with_extension("toml.new");
    let file = create(&new).map_err(failed)?;
    let kept = fs::metadata(&whole)
        .and_then(|it| file.set_permissions(it.permissions()))
        .and_then(|()| fs::rename(&new, &whole));
    if kept.is_err() {
        fs::remove_file(&new).map_err(failed)?;
    }
    kept.map_err(failed)
}

/// What a learning run lets through.
#[derive(Debug, Default)]
pub(super) struct Lessons {
    /// The run itself, once it has been decided.
    run: Option<(Request, BTreeMap<String, Arg>)>,
    seen: BTreeMap<Lesson, Sample>,
    full: bool,
}

/// One exec of a lesson, and how many there were.
#[derive(Debug)]
struct Sample {
    fact: ExecFact,
    count: u64,
}

impl Lessons {
    pub(super) fn begin(&mut self, request: &Request, environment: &BTreeMap<String, Arg>) {
        self.run = Some((request.clone(), environment.clone()));
    }

    /// Whether the program may go on, because a rule is all that it lacks.
    pub(super) fn admit(&mut self, lesson: Lesson, fact: &ExecFact) -> bool {
        if self.seen.len() >= LESSONS_MAX && !self.seen.contains_key(&lesson) {
            self.full = true;
            return false;
        }
        self.seen.entry(lesson).or_insert_with(|| Sample { fact: fact.clone(), count: 0 });
        true
    }

    /// Notes that it has started.
    pub(super) fn started(&mut self, lesson: &Lesson) {
        if let Some(sample) = self.seen.get_mut(lesson) {
            sample.count += 1;
        }
    }

    pub(super) fn records(&self, run: &str) -> Vec<Record> {
        let started = self.seen.iter().filter(|it| it.1.count > 0);
        let record = |(lesson, sample): (&Lesson, &Sample)| {
            Record::LearnObserved(Box::new(LearnObserved {
                run: run.to_owned(),
                program: lesson.program.clone(),
                started_by: lesson.started_by.clone(),
                argv: sample.fact.argv.clone(),
                count: sample.count,
            }))
        };
        started.map(record).collect()
    }

    fn observed(&self) -> Vec<Observed> {
        let one = |(lesson, sample): (&Lesson, &Sample)| {
            let mut argv = sample.fact.argv.clone();
            Redactor::default().argv(&mut argv);
            Observed {
                program: lesson.program.clone(),
                argv,
                started_by: lesson.started_by.clone(),
                count: sample.count,
            }
        };
        self.seen.iter().map(one).collect()
    }

    /// The smallest change that covers all of it, tried on every program that was let through.
    fn proposal(
        &self,
        around: &Surroundings,
    ) -> Result<(Option<Proposal>, Vec<LeftOut>), EngineError> {
        let Some((request, environment)) = &self.run else { return Ok((None, Vec::new())) };
        let in_force = around.profile(request.level)?;
        let name = request.argv.first().and_then(|it| Path::new(it.as_os_str()).file_name());
        let name = name.unwrap_or_default().to_string_lossy();
        let because = format!("seen in a learning run of {name}; say here what it is for");
        let scene = Scene {
            profile: &in_force,
            workspace: &request.workspace,
            cwd: &request.cwd,
            home: &request.home,
            because: &because,
        };
        let mut left_out = BTreeSet::new();
        let mut wanted = self.by_program(&mut left_out);
        let mut narrow: BTreeSet<&str> = BTreeSet::new();
        for _ in 0..ROUNDS_MAX {
            let rules = rules(&mut wanted, &narrow, &scene, &mut left_out);
            if rules.is_empty() {
                break;
            }
            let (place, changed) = adopt(request.level, &rules, around)?;
            let held = Held { profile: &changed, request, environment };
            let failing: BTreeMap<&str, String> = wanted
                .iter()
                .filter_map(|(program, samples)| Some((*program, held.problem(samples, &rules)?)))
                .collect();
            if failing.is_empty() {
                let permits = profile::diff(&in_force, &changed);
                let permits = permits.iter().map(ToString::to_string).collect();
                let proposal = place.proposal(request.level, permits);
                return Ok((Some(proposal), left_out.into_iter().collect()));
            }
            for (program, why) in failing {
                if !narrow.insert(program) {
                    wanted.remove(program);
                    left_out.insert(LeftOut { program: program.to_owned(), why });
                }
            }
        }
        Ok((None, left_out.into_iter().collect()))
    }

    fn by_program(&self, left_out: &mut BTreeSet<LeftOut>) -> Wanted<'_> {
        let mut wanted = Wanted::new();
        for (lesson, sample) in &self.seen {
            if Redactor::default().argv(&mut sample.fact.argv.clone()) > 0 {
                let why = "its words look like a secret, which no profile should have".to_owned();
                left_out.insert(LeftOut { program: lesson.program.clone(), why });
                continue;
            }
            wanted.entry(lesson.program.as_str()).or_default().push((lesson, sample));
        }
        wanted
    }
}

/// The programs that need a rule, each with all that was seen of it.
type Wanted<'a> = BTreeMap<&'a str, Vec<(&'a Lesson, &'a Sample)>>;

/// The rules for all programs. What no rule can be written for is left out.
fn rules(
    wanted: &mut Wanted<'_>,
    narrow: &BTreeSet<&str>,
    scene: &Scene<'_>,
    left_out: &mut BTreeSet<LeftOut>,
) -> Vec<Proposed> {
    let mut all = Vec::new();
    wanted.retain(|program, samples| {
        let lessons: Vec<&Lesson> = samples.iter().map(|it| it.0).collect();
        let whole = policy::propose(&lessons, Breadth::Program, scene);
        let rules = match whole.filter(|_| !narrow.contains(program)) {
            Some(rules) => Some(rules),
            None => policy::propose(&lessons, Breadth::Line, scene),
        };
        let Some(rules) = rules else {
            let why = "its words are not text, so no rule can list them".to_owned();
            left_out.insert(LeftOut { program: (*program).to_owned(), why });
            return false;
        };
        all.extend(rules);
        true
    });
    all
}

/// A changed profile, and the run that it is tried on.
struct Held<'a> {
    profile: &'a Profile,
    request: &'a Request,
    environment: &'a BTreeMap<String, Arg>,
}

impl Held<'_> {
    /// Why these programs would not be allowed by their rules.
    fn problem(&self, samples: &[(&Lesson, &Sample)], rules: &[Proposed]) -> Option<String> {
        let refused = samples.iter().find_map(|(_, sample)| {
            match policy::decide_exec(&sample.fact, self.request, self.profile, self.environment) {
                ExecVerdict::Allow { .. } => None,
                ExecVerdict::Deny(denial) => Some(denial.reason),
            }
        });
        let is_own = |id: &str| {
            let program = samples.first().map(|it| &it.0.program);
            rules.iter().any(|it| it.id == id && Some(&it.program) == program)
        };
        refused.or_else(|| {
            let failures = policy::check_examples(self.profile);
            failures.iter().find(|it| is_own(&it.rule)).map(ToString::to_string)
        })
    }
}

/// The file that a person would change, with the change.
struct Adopted {
    file: PathBuf,
    before: Option<String>,
    after: String,
    locked: Option<String>,
}

impl Adopted {
    fn proposal(self, level: Level, permits: Vec<String>) -> Proposal {
        let Self { file, before, after, locked } = self;
        Proposal { file, level, before, after, permits, locked }
    }
}

/// The profile with these rules in it: in the user's own file, or the organisation's where users
/// may not add any.
fn adopt(
    level: Level,
    rules: &[Proposed],
    around: &Surroundings,
) -> Result<(Adopted, Profile), EngineError> {
    let texts: Vec<&str> = rules.iter().map(|it| it.text.as_str()).collect();
    let added = texts.join("\n");
    let own = adopt_in(&around.directories.user, level, &added, around)?;
    let locked = match own {
        Ok(adopted) => return Ok(adopted),
        Err(problem) => problem,
    };
    match adopt_in(&around.directories.system, level, &added, around)? {
        Ok((adopted, profile)) => Ok((Adopted { locked: Some(locked), ..adopted }, profile)),
        Err(_) => Err(EngineError::Profile(locked)),
    }
}

/// The problem is the reader's own words.
fn adopt_in(
    directory: &Path,
    level: Level,
    added: &str,
    around: &Surroundings,
) -> Result<Result<(Adopted, Profile), String>, EngineError> {
    let mut layers = around.layers()?;
    let name = directory.display().to_string();
    let file = directory.join(file_name(level));
    let file_shown = file.display().to_string();
    let at = layers.iter().position(|it| it.name == name).unwrap_or_else(|| {
        // The organisation's lies below the user's.
        let at = if *directory == *around.directories.system { 0 } else { layers.len() };
        layers.insert(at, Layer { name, sources: Vec::new() });
        at
    });
    let mut sources = layers.get_mut(at).map(|it| std::mem::take(&mut it.sources));
    let sources = sources.get_or_insert_default();
    let known = sources.iter_mut().find(|it| it.name == file_shown);
    let before = known.as_ref().map(|it| it.text.clone());
    let after = match &before {
        Some(text) => format!("{}\n\n{added}", text.trim_end()),
        None => format!("schema = 1\nlevel  = {level}\n\n{added}"),
    };
    match known {
        Some(source) => source.text.clone_from(&after),
        None => sources.insert(0, Source { name: file_shown, text: after.clone() }),
    }
    if let Some(layer) = layers.get_mut(at) {
        layer.sources = std::mem::take(sources);
    }
    layers.insert(0, profile::built_in_layer());
    Ok(match profile::load(level, &layers) {
        Ok(profile) => Ok((Adopted { file, before, after, locked: None }, profile)),
        Err(findings) => Err(findings.render(false)),
    })
}

fn file_name(level: Level) -> String {
    format!("level-{level}.toml")
}
