//! Sessions for a front: start, show, diff, apply, discard, roll back.
//!
//! What these do to the user's tree is decided path by path: the profile's protected names and what
//! the session's classes refuse never get there, what they confirm only with somebody's word. Each
//! is recorded.

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::inside::{self, Inside};
use super::{
    Ask, Considered, EngineError, SessionChoice, Surroundings, consider, new_run, repository, state,
};
use crate::host;
use crate::ledger::{Ledger, Record, SessionAct, SessionVerb};
use crate::model::{Arg, Bytes, Changed, Count, HostFacts, Ids, LayerUse, Level, Outcome, Streams};
use crate::plan;
use crate::profile::{Entry, Profile};
use crate::session::worktree::Worktree;
use crate::session::{self, Act, Acts, Lock, Sessions};
pub use crate::session::{
    Backend, Change, Kind, Manifest, NAME_BYTES_MAX, Patch, Recovered, Risk, Session, SessionError,
    Shown, Verdict, line, shown,
};

/// Paths that one record names.
const PATHS_RECORDED_MAX: usize = 100;
/// How long what an act needs for its rollback is kept.
const ACTS_KEPT_SECONDS: i64 = 7 * 24 * 60 * 60;

/// What a new session is asked to be.
#[derive(Debug, Clone)]
pub struct Start {
    pub name: Option<String>,
    pub level: Option<Level>,
    pub base: Option<PathBuf>,
    /// The branch of a git worktree that the session makes for itself.
    pub worktree: Option<String>,
}

/// Which changes of a session are to reach the user's tree.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Relative to the tree; all changes if there is none.
    pub paths: Vec<PathBuf>,
    /// Classes that somebody has agreed to.
    pub accept: BTreeSet<Risk>,
    /// Changes that somebody has agreed to, one by one.
    pub agreed: BTreeSet<PathBuf>,
    /// Also where the host has changed the same file.
    pub overwrite: bool,
}

/// The changes of a session, by what becomes of them.
#[derive(Debug, Default, Serialize)]
pub struct Sorted {
    pub apply: Vec<Change>,
    /// Somebody has to agree first.
    pub waiting: Vec<Change>,
    pub refused: Vec<Change>,
    /// Both sides changed them.
    pub conflicts: Vec<Change>,
}

/// What an apply did.
#[derive(Debug, Serialize)]
pub struct Applied {
    /// Names the act, for its rollback; absent where there was nothing to do.
    pub id: Option<String>,
    /// The same for the repository of a linked worktree or a submodule, which lies elsewhere.
    pub repository: Option<String>,
    #[serde(flatten)]
    pub sorted: Sorted,
}

/// A session among others.
#[derive(Debug, Serialize)]
pub struct Listed {
    pub name: String,
    /// Absent where it cannot be opened.
    pub manifest: Option<Manifest>,
    pub problem: Option<String>,
}

/// An act that can be rolled back.
#[derive(Debug, Serialize)]
pub struct ActListed {
    pub id: String,
    pub session: String,
    pub at: String,
    pub of: Option<String>,
    pub paths: usize,
}

/// What this host can do, as far as it is remembered.
pub(super) fn host(around: &Surroundings) -> Result<HostFacts, EngineError> {
    Ok(host::facts(&around.directories.state.join("host"), plan::lasting_paths)?)
}

fn sessions(around: &Surroundings) -> Sessions {
    Sessions::new(&around.directories.state)
}

fn acts(around: &Surroundings) -> Acts {
    Acts::new(&around.directories.state)
}

/// Makes a session, if a run in it could do anything.
pub fn start(start: Start, around: &Surroundings) -> Result<Session, EngineError> {
    let mut ledger = state::open_ledger(around)?;
    recover(&mut ledger, around)?;
    let name = match start.name {
        Some(name) => name,
        None => new_name(around)?,
    };
    let level = start.level.unwrap_or(around.settings()?.default_level);
    // What no run could work on is no tree for a session.
    let mut question = ask(vec![word(Path::new("true"))?], Some(level), start.base);
    question.session = Some(SessionChoice::Discard);
    let considered = consider(question, around)?;
    let Considered::Ready(ready) = considered else {
        let why =
            format!("level {level} allows no run here; `rung explain --level {level}` says why");
        return Err(EngineError::Profile(why));
    };
    let base = ready.request.workspace;
    let overlay = inside::overlay(&host(around)?);
    let sessions = sessions(around);
    if let Some(branch) = start.worktree {
        let worktree = session::worktree::make(&base, &branch, &name)?;
        return fill(&worktree, (name, branch), level, &mut ledger, around).or_else(|error| {
            worktree.undo()?;
            Err(error)
        });
    }
    let manifest = sessions.manifest(name, &base, level, around.now, overlay)?;
    let session = sessions.create(manifest)?;
    repository::start(&session, around)?;
    record(&mut ledger, around, SessionVerb::Start, &session.manifest, None, &[], 0)?;
    Ok(session)
}

/// Makes the session of a new worktree, whose first run puts the branch's files there.
fn fill(
    worktree: &Worktree,
    (name, branch): (String, String),
    level: Level,
    ledger: &mut Ledger,
    around: &Surroundings,
) -> Result<Session, EngineError> {
    let sessions = sessions(around);
    let none = Err("it is a worktree".to_owned());
    let mut manifest = sessions.manifest(name.clone(), &worktree.tree, level, around.now, none)?;
    manifest.backend =
        Backend::Worktree { branch: branch.clone(), repository: worktree.common.clone() };
    "a branch was named for it".clone_into(&mut manifest.reason);
    let session = sessions.create(manifest)?;
    let argv = ["git", "checkout", "-q", &branch]
        .map(|it| word(Path::new(it)))
        .into_iter()
        .collect::<Result<_, _>>()?;
    let mut question = ask(argv, Some(level.max(Level::LocalWrites)), None);
    question.session = Some(SessionChoice::Fill(name.clone()));
    let outcome = super::run(question, around);
    if outcome.status.exit_code() != 0 {
        sessions.remove(&name, &session.lock(false)?)?;
        let denials = outcome.denials.iter().map(|it| it.reason.clone());
        let why: Vec<String> = denials.chain([format!("git: {:?}", outcome.status)]).collect();
        let why = format!("its files could not be put there: {}", why.join("; "));
        return Err(EngineError::Profile(why));
    }
    record(ledger, around, SessionVerb::Start, &session.manifest, None, &[], 0)?;
    Ok(session)
}

fn ask(argv: Vec<Arg>, level: Option<Level>, workspace: Option<PathBuf>) -> Ask {
    Ask {
        argv,
        level,
        workspace,
        directory: None,
        wall_max: None,
        ids: Ids::default(),
        streams: Streams::Inherit,
        session: None,
        learning: false,
    }
}

/// A short name that nobody has: the random end of a run's id.
fn new_name(around: &Surroundings) -> Result<String, EngineError> {
    const LETTERS: usize = 6;
    let run = new_run(around.now)?.to_lowercase();
    let letters: String = run.chars().rev().take(LETTERS).collect();
    Ok(format!("s-{letters}"))
}

pub fn list(around: &Surroundings) -> Result<Vec<Listed>, EngineError> {
    let sessions = sessions(around);
    let listed = sessions.names()?.into_iter().map(|name| match sessions.open(&name) {
        Ok(session) => Listed { name, manifest: Some(session.manifest), problem: None },
        Err(error) => Listed { name, manifest: None, problem: Some(error.to_string()) },
    });
    Ok(listed.collect())
}

pub fn open(name: &str, around: &Surroundings) -> Result<Session, EngineError> {
    Ok(sessions(around).open(name)?)
}

/// Whether a run is going on in it.
pub fn is_in_use(session: &Session) -> bool {
    matches!(session.lock(false), Err(SessionError::Busy { .. }))
}

/// How much it holds, and how much it may; nothing for a worktree, which has no layer.
pub fn used(session: &Session, around: &Surroundings) -> Result<Option<LayerUse>, EngineError> {
    if matches!(session.manifest.backend, Backend::Worktree { .. }) {
        return Ok(None);
    }
    let limits = around.profile(session.manifest.level)?.limits;
    let used = session.used()?;
    Ok(Some(LayerUse {
        bytes: Bytes(used.bytes),
        bytes_max: limits.session.max,
        files: Count(used.files),
        files_max: limits.session_files.max,
    }))
}

/// Everything that the session changed.
pub fn changes(session: &Session, around: &Surroundings) -> Result<Vec<Change>, EngineError> {
    let manifest = &session.manifest;
    if let Backend::Worktree { branch, .. } = &manifest.backend {
        let (name, base, branch) = (manifest.name.clone(), manifest.base.clone(), branch.clone());
        return Err(SessionError::IsWorktree { name, base, branch }.into());
    }
    let profile = around.profile(manifest.level)?;
    let mut changes = session::changes(session, &protected(&profile))?;
    changes.extend(repository::changes(session)?);
    Ok(changes)
}

/// Which paths of a tree the profile protects. A file system may take capital letters for small
/// ones, so they count as the same.
fn protected(profile: &Profile) -> impl Fn(&Path) -> bool + use<> {
    let lower = |path: &Path| path.as_os_str().as_bytes().to_ascii_lowercase();
    let names = profile.filesystem.protected.iter().filter_map(Entry::protected_name);
    let names: Vec<Vec<u8>> = names.map(lower).collect();
    move |path| {
        let path = lower(path);
        names.iter().any(|name| {
            let rest = path.strip_prefix(name.as_slice());
            rest.is_some_and(|it| matches!(it, [] | [b'/', ..]))
        })
    }
}

pub fn diff(session: &Session, changes: &[Change], how: Shown) -> Result<Patch, EngineError> {
    Ok(session::diff(session, changes, how)?)
}

pub fn stat(session: &Session, changes: &[Change]) -> Result<String, EngineError> {
    Ok(session::stat(session, changes)?)
}

/// Those of the changes that are about one of the paths, or about something below it.
pub fn select(changes: Vec<Change>, paths: &[PathBuf]) -> Vec<Change> {
    if paths.is_empty() {
        return changes;
    }
    let chosen =
        |change: &Change| change.paths().any(|path| paths.iter().any(|it| path.starts_with(it)));
    changes.into_iter().filter(chosen).collect()
}

/// What becomes of each change. A change goes with those it needs: a file with the directories
/// above it, a directory's removal with that of everything in it, and git's own data as one.
pub fn sort(all: Vec<Change>, choice: &Choice) -> Sorted {
    let mut sorted = Sorted::default();
    let chosen: BTreeSet<PathBuf> = with_directories(&all, &choice.paths);
    for change in all {
        if !chosen.contains(&change.path) {
            continue;
        }
        let agreed = choice.agreed.contains(&change.path)
            || change
                .risks
                .iter()
                .all(|risk| risk.verdict() == Verdict::Allow || choice.accept.contains(risk));
        match change.verdict {
            Verdict::Deny => sorted.refused.push(change),
            _ if change.both && !choice.overwrite => sorted.conflicts.push(change),
            Verdict::Confirm if !agreed => sorted.waiting.push(change),
            Verdict::Confirm | Verdict::Allow => sorted.apply.push(change),
        }
    }
    keep_together(&mut sorted);
    sorted
}

/// The chosen paths, and the directories that have to be there for them.
fn with_directories(all: &[Change], paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let is_chosen = |change: &&Change| {
        paths.is_empty() || change.paths().any(|path| paths.iter().any(|it| path.starts_with(it)))
    };
    let mut chosen: BTreeSet<PathBuf> =
        all.iter().filter(is_chosen).map(|it| it.path.clone()).collect();
    for change in all {
        let needed = matches!(change.kind, Kind::Created | Kind::Replaced);
        let has_chosen = || {
            chosen
                .range(change.path.clone()..)
                .take(2)
                .any(|it| it != &change.path && it.starts_with(&change.path))
        };
        if needed && has_chosen() {
            chosen.insert(change.path.clone());
        }
    }
    chosen
}

fn keep_together(sorted: &mut Sorted) {
    let withheld = |sorted: &Sorted| -> BTreeSet<PathBuf> {
        let all = [&sorted.waiting, &sorted.refused, &sorted.conflicts];
        all.into_iter().flatten().flat_map(Change::paths).map(Path::to_owned).collect()
    };
    let held = withheld(sorted);
    let refused: BTreeSet<PathBuf> = sorted.refused.iter().map(|it| it.path.clone()).collect();
    let git = held.iter().any(|it| it.starts_with(".git") && !refused.contains(it));
    let mut waiting = Vec::new();
    sorted.apply.retain(|change| {
        let gone = matches!(change.kind, Kind::Deleted | Kind::Replaced);
        let below = |it: &PathBuf| it != &change.path && it.starts_with(&change.path);
        let above = |it: &PathBuf| change.path != *it && change.path.starts_with(it);
        let stays = (gone && held.iter().any(below))
            || held.iter().any(above)
            || (git && change.is_of_git());
        if stays {
            waiting.push(change.clone());
        }
        !stays
    });
    sorted.waiting.append(&mut waiting);
    sorted.waiting.sort_by(|a, b| a.path.cmp(&b.path));
}

/// Brings the chosen changes into the user's tree.
pub fn apply(name: &str, choice: &Choice, around: &Surroundings) -> Result<Applied, EngineError> {
    let mut ledger = state::open_ledger(around)?;
    recover(&mut ledger, around)?;
    let session = sessions(around).open(name)?;
    let lock = session.lock(false)?;
    let sorted = sort(changes(&session, around)?, choice);
    let withheld = sorted.waiting.len() + sorted.refused.len() + sorted.conflicts.len();
    let mut in_tree = sorted.apply.clone();
    let beside = repository::choose(&session, &mut in_tree)?;
    let mut applied = Applied { id: None, repository: None, sorted };
    // The tree first: what is there and not yet in a commit is what people are used to. What a crash
    // leaves undone in between stays in the session, and the next apply brings it.
    if !in_tree.is_empty() {
        let id = new_run(around.now)?;
        let act = acts(around).apply(&session, &lock, &in_tree, &id, around.now)?;
        let manifest = &session.manifest;
        record(&mut ledger, around, SessionVerb::Apply, manifest, Some(&act), &[], withheld)?;
        applied.id = Some(id);
    }
    if let Some(beside) = beside {
        let done = beside.apply(withheld, &mut ledger, around);
        applied.repository = Some(done.map_err(|why| match &applied.id {
            Some(id) => EngineError::HalfApplied { id: id.clone(), why: Box::new(why) },
            None => why,
        })?);
    }
    Ok(applied)
}

/// Removes a session and all that it changed, also one that cannot be opened any more.
pub fn discard(name: &str, around: &Surroundings) -> Result<(), EngineError> {
    let mut ledger = state::open_ledger(around)?;
    recover(&mut ledger, around)?;
    let sessions = sessions(around);
    match sessions.open(name) {
        Ok(session) => {
            let lock = session.lock(false)?;
            session::worktree::discard(&session.manifest)?;
            sessions.remove(name, &lock)?;
            record(&mut ledger, around, SessionVerb::Discard, &session.manifest, None, &[], 0)
        }
        Err(SessionError::Tampered { .. }) => {
            let lock: Lock = sessions.lock_whatever_it_is(name)?;
            Ok(sessions.remove(name, &lock)?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Drops what a session has at or below these paths of its tree, so that the tree shows there again.
/// A rename goes as a whole, and so does git's data where the repository lies elsewhere. Returns what
/// was dropped.
pub fn discard_paths(
    name: &str,
    paths: &[PathBuf],
    around: &Surroundings,
) -> Result<Vec<PathBuf>, EngineError> {
    let mut ledger = state::open_ledger(around)?;
    recover(&mut ledger, around)?;
    let session = sessions(around).open(name)?;
    let lock = session.lock(false)?;
    let mut dropped: BTreeSet<PathBuf> = paths.iter().cloned().collect();
    match changes(&session, around) {
        Ok(all) => {
            let renamed = select(all, paths).into_iter().filter(|it| it.from.is_some());
            dropped
                .extend(renamed.flat_map(|it| it.paths().map(Path::to_owned).collect::<Vec<_>>()));
        }
        // Who has made too much to be shown must be able to drop some of it.
        Err(EngineError::Session(SessionError::TooMuch { .. })) => {}
        Err(error) => return Err(error),
    }
    let mut done = session.drop_paths(&lock, &dropped)?;
    if dropped.iter().any(|it| it.as_os_str() == ".git") && repository::forget(&session, around)? {
        done.push(PathBuf::from(".git"));
    }
    if !done.is_empty() {
        record(&mut ledger, around, SessionVerb::Discard, &session.manifest, None, &done, 0)?;
    }
    Ok(done)
}

/// Takes an apply, or a rollback, back.
pub fn rollback(of: &str, around: &Surroundings) -> Result<Act, EngineError> {
    let mut ledger = state::open_ledger(around)?;
    recover(&mut ledger, around)?;
    let id = new_run(around.now)?;
    let act = acts(around).rollback(of, &id, around.now)?;
    let paths: Vec<PathBuf> = act.steps.iter().map(|it| it.path().to_owned()).collect();
    record_act(&mut ledger, around, SessionVerb::Rollback, &act, &paths)?;
    Ok(act)
}

/// Everything that can be rolled back, oldest first.
pub fn list_acts(around: &Surroundings) -> Result<Vec<ActListed>, EngineError> {
    let acts = acts(around);
    let mut listed = Vec::new();
    for id in acts.ids()? {
        let Act { id, session, at, of, steps, .. } = acts.open(&id)?;
        listed.push(ActListed { id, session, at, of, paths: steps.len() });
    }
    Ok(listed)
}

/// What was put in order.
#[derive(Debug)]
pub struct Collected {
    /// What killed runs had left behind.
    pub swept: usize,
    /// Acts that are too old to be rolled back.
    pub forgotten: usize,
    /// What somebody should know.
    pub notes: Vec<String>,
}

/// Removes what killed runs left, but for the commits in it, and what rollbacks needed too long ago.
pub fn collect(around: &Surroundings) -> Result<Collected, EngineError> {
    let mut ledger = state::open_ledger(around)?;
    recover(&mut ledger, around)?;
    let notes = repository::recover_all(&mut ledger, around)?;
    let swept = sessions(around).sweep()?;
    let forgotten = acts(around).forget_older(ACTS_KEPT_SECONDS, around.now)?;
    Ok(Collected { swept, forgotten, notes })
}

/// Finishes what was interrupted, and says what had to be left alone.
pub fn finish_interrupted(around: &Surroundings) -> Result<Vec<String>, EngineError> {
    if !acts(around).is_interrupted()? {
        return Ok(Vec::new());
    }
    let recovered = recover(&mut state::open_ledger(around)?, around)?;
    let notes = recovered.iter().filter(|it| !it.left.is_empty()).map(|it| {
        let paths: Vec<String> = it.left.iter().map(|path| shown(path)).collect();
        let did = if it.back { "taken back" } else { "finished" };
        format!(
            "the act `{}` of the session `{}` was {did}, but for what somebody else has changed \
             meanwhile: {}",
            it.id,
            it.session,
            paths.join(", ")
        )
    });
    Ok(notes.collect())
}

/// Finishes what was interrupted, and records it.
pub(super) fn recover(
    ledger: &mut Ledger,
    around: &Surroundings,
) -> Result<Vec<Recovered>, EngineError> {
    super::outlive_limits();
    let acts = acts(around);
    let recovered = acts.recover()?;
    for it in &recovered {
        let act = acts.open(&it.id)?;
        record_act(ledger, around, SessionVerb::Recover, &act, &it.left)?;
        if act.of.is_none() {
            remember(&act, it);
        }
    }
    Ok(recovered)
}

/// Tells its session what an act has written. The session may be gone or in use, and what it is not told
/// only counts as a change of the host's, as a rollback does.
fn remember(act: &Act, recovered: &Recovered) {
    let Some(state) = &act.state else { return };
    let told = || -> Result<(), SessionError> {
        let session = Sessions::new(Path::new(state.as_os_str())).open(&act.session)?;
        let _lock = session.lock(false)?;
        session.remember(&recovered.written)
    };
    if let Err(why) = told() {
        tracing::debug!(%why, session = act.session, "not remembered");
    }
}

/// What a disposable run changed; nothing of it is kept.
pub(super) fn drop_disposable(
    inside: Inside,
    level: Level,
    around: &Surroundings,
) -> Result<Vec<Changed>, EngineError> {
    let Inside { session, lock, .. } = inside;
    let profile = around.profile(level)?;
    let changes = session::changes(&session, &protected(&profile))?;
    if let Some(lock) = &lock {
        sessions(around).remove_disposable(&session, lock)?;
    }
    changes.iter().map(changed).collect()
}

fn changed(change: &Change) -> Result<Changed, EngineError> {
    let kind = serde_json::to_value(change.kind).ok();
    let kind = kind.and_then(|it| it.as_str().map(str::to_owned)).unwrap_or_default();
    let risks = change.risks.iter().map(|it| it.name().to_owned()).collect();
    Ok(Changed { path: word(&change.path)?, kind, risks })
}

fn word(path: &Path) -> Result<Arg, EngineError> {
    super::record::word(path)
}

fn record(
    ledger: &mut Ledger,
    around: &Surroundings,
    verb: SessionVerb,
    manifest: &Manifest,
    act: Option<&Act>,
    paths: &[PathBuf],
    withheld: usize,
) -> Result<(), EngineError> {
    let stepped: Vec<PathBuf> = act
        .map(|it| it.steps.iter().map(|step| step.path().to_owned()).collect())
        .unwrap_or_default();
    let paths = if paths.is_empty() { &stepped } else { paths };
    let (count, paths) = recorded(paths)?;
    let record = SessionAct {
        act: verb,
        session: manifest.name.clone(),
        id: act.map(|it| it.id.clone()),
        of: None,
        base: word(&manifest.base)?,
        level: Some(manifest.level),
        backend: manifest.backend.name().to_owned(),
        count,
        paths,
        withheld: withheld as u64,
    };
    append(ledger, around, record)
}

fn record_act(
    ledger: &mut Ledger,
    around: &Surroundings,
    verb: SessionVerb,
    act: &Act,
    paths: &[PathBuf],
) -> Result<(), EngineError> {
    let (count, paths) = recorded(paths)?;
    let record = SessionAct {
        act: verb,
        session: act.session.clone(),
        id: Some(act.id.clone()),
        of: act.of.clone(),
        base: word(&act.base)?,
        level: None,
        backend: String::new(),
        count,
        paths,
        withheld: 0,
    };
    append(ledger, around, record)
}

/// How many paths there are, and those that a record names.
fn recorded(paths: &[PathBuf]) -> Result<(u64, Vec<Arg>), EngineError> {
    let named = paths.iter().take(PATHS_RECORDED_MAX).map(|it| word(it));
    Ok((paths.len() as u64, named.collect::<Result<_, _>>()?))
}

/// Records what was kept of a run in a repository outside its workspace.
pub(super) fn record_kept(
    ledger: &mut Ledger,
    around: &Surroundings,
    layer: &Session,
    act: &Act,
    left: usize,
) -> Result<(), EngineError> {
    record(ledger, around, SessionVerb::Apply, &layer.manifest, Some(act), &[], left)
}

fn append(
    ledger: &mut Ledger,
    around: &Surroundings,
    record: SessionAct,
) -> Result<(), EngineError> {
    ledger.append(around.now, &[Record::Session(Box::new(record))])?;
    Ok(ledger.sync()?)
}

/// Runs one line of somebody's in a session: decided, recorded and bounded like any other run.
pub fn run_line(
    name: &str,
    line: &str,
    streams: Streams,
    around: &Surroundings,
) -> Result<Outcome, super::NeedsShell> {
    let mut question = ask(super::split(line)?, None, None);
    question.session = Some(SessionChoice::Named(name.to_owned()));
    question.streams = streams;
    Ok(super::run(question, around))
}
