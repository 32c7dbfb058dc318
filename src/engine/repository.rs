//! Runs in a checkout whose repository lies elsewhere: what they find of it, and what is kept.
//!
//! A run writes to the repository through a layer. Outside sessions, and in a session that is a
//! worktree, what belongs to the checkout is kept as soon as the run has ended. In a session with a
//! layer of its own it waits for the apply like everything else, and of a disposable run nothing is
//! kept.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::inside::{self, Inside};
use super::{EngineError, Surroundings, new_run, session};
use crate::ledger::Ledger;
use crate::model::{self, Denial, Layer, Level, RepositoryLayer};
use crate::session::{
    Acts, Backend, Change, Kept, Lock, Repository, Risk, Session, SessionError, Sessions, Verdict,
};

/// The session in a session's directory that is about the repository.
const NAME: &str = "repository";
/// Where an ordinary checkout has its repository.
const CHECKOUT: &str = ".git";

/// The repository beside a workspace.
#[derive(Debug)]
pub(super) struct Beside {
    repository: Repository,
    layer: Option<(Session, Option<Lock>)>,
    until: Until,
    /// What is to be kept of the layer could not be.
    is_owed: Cell<bool>,
}

/// How long what a run wrote is only in the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    TheEndOfTheRun,
    TheApply,
    Never,
    /// There is none yet: somebody asks what a run would find.
    SomebodyRuns,
}

/// The repository of a workspace, for a question about it, which makes no layer.
pub(super) fn look(workspace: &Path) -> Option<Beside> {
    let repository = Repository::of(workspace).ok().flatten()?;
    Some(Beside { repository, layer: None, until: Until::SomebodyRuns, is_owed: Cell::default() })
}

/// The same for a run, after what killed ones have left there. What keeps it from writing is said
/// in `notes`.
pub(super) fn enter(
    workspace: &Path,
    run: &str,
    inside: Option<&Inside>,
    ledger: &mut Ledger,
    around: &Surroundings,
    notes: &mut Vec<String>,
) -> Result<Option<Beside>, EngineError> {
    let repository = match Repository::of(workspace) {
        Ok(None) => return Ok(None),
        Ok(Some(repository)) => repository,
        Err(why) => {
            notes.push(format!("git does not work in this run: {why}"));
            return Ok(None);
        }
    };
    recover(&repository, ledger, around, notes)?;
    if let Some(inside) = inside.filter(|it| !it.disposable && it.layered()) {
        let layer = match of_session(&inside.session) {
            Ok(layer) => Some((layer, None)),
            Err(EngineError::Session(SessionError::Missing { .. })) => {
                notes.push(read_only("the session has no layer for it"));
                None
            }
            Err(error) => return Err(error),
        };
        return Ok(Some(Beside {
            repository,
            layer,
            until: Until::TheApply,
            is_owed: Cell::default(),
        }));
    }
    let sessions = Sessions::new(&around.directories.state);
    let level = Level::LocalWrites;
    let overlay = inside::overlay(&session::host(around)?);
    let mut manifest =
        sessions.manifest(NAME.to_owned(), &repository.common, level, around.now, overlay)?;
    if manifest.backend != Backend::Overlay {
        notes.push(read_only(&manifest.reason));
        return Ok(Some(Beside {
            repository,
            layer: None,
            until: Until::Never,
            is_owed: Cell::default(),
        }));
    }
    let disposable = inside.is_some_and(|it| it.disposable);
    let until = if disposable { Until::Never } else { Until::TheEndOfTheRun };
    if until == Until::TheEndOfTheRun {
        manifest.checkout = Some(workspace.to_owned());
    }
    let (layer, lock) = sessions.create_disposable(&format!("{NAME}-{run}"), manifest)?;
    Ok(Some(Beside {
        repository,
        layer: Some((layer, Some(lock))),
        until,
        is_owed: Cell::default(),
    }))
}

/// Does for runs that were killed, in this repository, what their ends would have done, and says so
/// in `notes`. Whoever gets the lock of such a run's layer knows that its processes are gone.
fn recover(
    here: &Repository,
    ledger: &mut Ledger,
    around: &Surroundings,
    notes: &mut Vec<String>,
) -> Result<(), EngineError> {
    session::recover(ledger, around)?;
    keep_abandoned(|layer| layer.manifest.base == here.common, ledger, around, notes)
}

/// The same in every repository.
pub(super) fn recover_all(
    ledger: &mut Ledger,
    around: &Surroundings,
) -> Result<Vec<String>, EngineError> {
    let mut notes = Vec::new();
    keep_abandoned(|_| true, ledger, around, &mut notes)?;
    Ok(notes)
}

fn keep_abandoned(
    wanted: impl Fn(&Session) -> bool,
    ledger: &mut Ledger,
    around: &Surroundings,
    notes: &mut Vec<String>,
) -> Result<(), EngineError> {
    let sessions = Sessions::new(&around.directories.state);
    for (layer, lock) in sessions.abandoned()?.into_iter().filter(|(layer, _)| wanted(layer)) {
        let Some(checkout) = layer.manifest.checkout.clone() else { continue };
        let shown = checkout.display();
        let repository = Repository::of(&checkout).ok().flatten();
        let Some(repository) = repository.filter(|it| it.common == layer.manifest.base) else {
            notes.push(format!(
                "a run in `{shown}` ended before its commits were kept, and nobody can keep \
                 them, because that is no checkout of the same repository any more"
            ));
            continue;
        };
        if keep(&repository, &layer, &lock, ledger, around)?.any {
            notes.push(format!(
                "a run in `{shown}` ended before its commits were kept; they are kept now"
            ));
        }
        sessions.remove_disposable(&layer, &lock)?;
    }
    Ok(())
}

/// What became of what a run has written to a repository.
struct Done {
    any: bool,
    left: Vec<Change>,
}

/// Keeps of a layer what is to be kept. Other runs and the host work in the same repository: what one of
/// them has changed in between is looked at again.
fn keep(
    repository: &Repository,
    layer: &Session,
    lock: &Lock,
    ledger: &mut Ledger,
    around: &Surroundings,
) -> Result<Done, EngineError> {
    const TRIES: usize = 4;
    let acts = Acts::new(&around.directories.state);
    let mut tries = 1;
    loop {
        let Kept { kept, left } = repository.sort(layer)?;
        if kept.is_empty() {
            return Ok(Done { any: false, left });
        }
        match acts.apply(layer, lock, &kept, &new_run(around.now)?, around.now) {
            Ok(act) => {
                session::record_kept(ledger, around, layer, &act, left.len())?;
                return Ok(Done { any: true, left });
            }
            Err(SessionError::Changed { .. }) if tries < TRIES => tries += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

fn read_only(why: &str) -> String {
    format!("git can only read in this run, because {why}")
}

/// Gives a new session a layer for the repository of its tree, if that lies elsewhere.
pub(super) fn start(of: &Session, around: &Surroundings) -> Result<(), EngineError> {
    let Ok(Some(repository)) = Repository::of(&of.manifest.base) else { return Ok(()) };
    let sessions = Sessions::new(&of.directory);
    let overlay = inside::overlay(&session::host(around)?);
    let (common, level) = (&repository.common, of.manifest.level);
    let manifest = sessions.manifest(NAME.to_owned(), common, level, around.now, overlay)?;
    if manifest.backend == Backend::Overlay {
        sessions.create(manifest)?;
    }
    Ok(())
}

fn of_session(session: &Session) -> Result<Session, EngineError> {
    Ok(Sessions::new(&session.directory).open(NAME)?)
}

/// Drops what a session has for the repository of its tree; the next run begins anew. Says whether
/// there was such a layer.
pub(super) fn forget(of: &Session, around: &Surroundings) -> Result<bool, EngineError> {
    let layer = match of_session(of) {
        Err(EngineError::Session(SessionError::Missing { .. })) => return Ok(false),
        result => result?,
    };
    Sessions::new(&of.directory).remove(NAME, &layer.lock(false)?)?;
    start(of, around)?;
    Ok(true)
}

/// What a session has for the repository of its tree: with its layer, so that it can be applied.
fn waiting(of: &Session) -> Result<Option<(Session, Kept)>, EngineError> {
    let layer = match of_session(of) {
        Err(EngineError::Session(SessionError::Missing { .. })) => return Ok(None),
        result => result?,
    };
    let repository = Repository::of(&of.manifest.base).map_err(EngineError::Profile)?;
    let Some(repository) = repository.filter(|it| it.common == layer.manifest.base) else {
        let why = "the session's tree belongs to another repository than when it began";
        return Err(EngineError::Profile(why.to_owned()));
    };
    let kept = repository.sort(&layer)?;
    Ok(Some((layer, kept)))
}

impl Beside {
    pub(super) fn common(&self) -> &Path {
        &self.repository.common
    }

    /// Where a run writes to it.
    pub(super) fn layer(&self) -> Option<&Session> {
        self.layer.as_ref().map(|(layer, _)| layer)
    }

    /// Of that layer, where it is this run's own.
    pub(super) fn lock(&self) -> Option<&Lock> {
        self.layer.as_ref()?.1.as_ref()
    }

    /// Where the index of this checkout is.
    pub(super) fn own(&self) -> &Path {
        &self.repository.own
    }

    pub(super) fn tree(&self) -> Result<model::Repository, EngineError> {
        let layer = match (&self.layer, self.until) {
            (Some((layer, _)), _) => layer.store()?.map(RepositoryLayer::Kept),
            (None, Until::SomebodyRuns) => Some(RepositoryLayer::OfTheRun),
            (None, Until::TheEndOfTheRun | Until::TheApply | Until::Never) => None,
        };
        Ok(model::Repository {
            common: self.repository.common.clone(),
            layer: layer.unwrap_or(RepositoryLayer::Nothing),
            objects: self.until == Until::TheEndOfTheRun,
        })
    }

    /// Keeps what a run has written, if now is the time, and says what was not kept.
    pub(super) fn settle(
        &self,
        level: Level,
        ledger: &mut Ledger,
        around: &Surroundings,
    ) -> Result<Vec<Denial>, EngineError> {
        let (Some((layer, Some(lock))), Until::TheEndOfTheRun) = (&self.layer, self.until) else {
            return Ok(Vec::new());
        };
        let kept = keep(&self.repository, layer, lock, ledger, around);
        self.is_owed.set(kept.is_err());
        let left = kept?.left;
        Ok(left.iter().map(|it| self.not_kept(level, &it.path, it.both)).collect())
    }

    fn not_kept(&self, level: Level, path: &Path, both: bool) -> Denial {
        let why = if both {
            "the host has changed it as well"
        } else {
            "it is not this checkout's own, or something outside would act on it"
        };
        Denial {
            layer: Layer::File,
            rule: "git.repository".to_owned(),
            level,
            object: self.repository.common.join(path).display().to_string(),
            reason: format!("what the run wrote there was not kept, because {why}"),
            origin: None,
            allow_with: None,
            next: "commit to this checkout's own branch or to a new one; a person can do the rest"
                .to_owned(),
            count: 1,
        }
    }

    /// Removes the layer of one run, unless something is still to be kept of it: then the next run does.
    pub(super) fn leave(self, around: &Surroundings) -> Result<(), EngineError> {
        if let (Some((layer, Some(lock))), false) = (&self.layer, self.is_owed.get()) {
            Sessions::new(&around.directories.state).remove_disposable(layer, lock)?;
        }
        Ok(())
    }
}

/// What a session has for the repository of its tree, as changes of an ordinary checkout.
pub(super) fn changes(of: &Session) -> Result<Vec<Change>, EngineError> {
    let Some((_, Kept { kept, left })) = waiting(of)? else { return Ok(Vec::new()) };
    let moves = |it: &Change| it.path.ends_with("HEAD") || it.path.starts_with("refs");
    let kept = kept.into_iter().map(|it| {
        let risks = if moves(&it) { vec![Risk::Branch] } else { Vec::new() };
        let verdict = risks.iter().map(|it| it.verdict()).max().unwrap_or(Verdict::Allow);
        Change { path: Path::new(CHECKOUT).join(&it.path), risks, verdict, ..it }
    });
    let left = left.into_iter().map(|it| Change {
        path: Path::new(CHECKOUT).join(&it.path),
        risks: vec![Risk::Protected],
        verdict: Verdict::Deny,
        ..it
    });
    Ok(kept.chain(left).collect())
}

/// What is to be brought into the repository beside a tree.
#[derive(Debug)]
pub(super) struct Chosen {
    layer: Session,
    changes: Vec<Change>,
}

/// Takes those of the chosen changes out of the list that are about the repository.
pub(super) fn choose(
    of: &Session,
    chosen: &mut Vec<Change>,
) -> Result<Option<Chosen>, EngineError> {
    let Some((layer, Kept { kept, .. })) = waiting(of)? else { return Ok(None) };
    let paths: BTreeSet<PathBuf> = chosen
        .iter()
        .filter_map(|it| Some(it.path.strip_prefix(CHECKOUT).ok()?.to_owned()))
        .collect();
    chosen.retain(|it| !it.path.starts_with(CHECKOUT));
    let changes: Vec<Change> = kept.into_iter().filter(|it| paths.contains(&it.path)).collect();
    Ok((!changes.is_empty()).then_some(Chosen { layer, changes }))
}

impl Chosen {
    pub(super) fn apply(
        self,
        withheld: usize,
        ledger: &mut Ledger,
        around: &Surroundings,
    ) -> Result<String, EngineError> {
        let Self { layer, changes } = self;
        let (id, lock) = (new_run(around.now)?, layer.lock(false)?);
        let acts = Acts::new(&around.directories.state);
        let act = acts.apply(&layer, &lock, &changes, &id, around.now)?;
        session::record_kept(ledger, around, &layer, &act, withheld)?;
        Ok(id)
    }
}
