//! Acts: what apply and rollback did to the user's tree, kept so that it can be finished and undone.
//!
//! ```text
//! acts/ID/act.json      the steps, written and made durable before the first of them
//!         objects/      what the files said before, and what they say after, by digest
//!         lock          held while the act is carried out
//!         back          it failed, and is being taken back
//!         done          nothing is left to do
//! ```
//!
//! An act without `done` that nobody holds was interrupted: the next start carries it on, or back
//! if it had failed. The inverse of its steps is the rollback, which is an act itself.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::carry::{Hand, Step, Written, going_back, ordered, turning};
use super::changes::{Change, Looks};
use super::place::{Object, Sort, Stamp, Tree, behind, in_spite_of_mode, names, remove_all};
use super::state::{Moment, State};
use super::store::{Backend, Lock, Session, is_private, make_directory};
use super::{SessionError, failed};
use crate::model::{Arg, Digest};

const ACT: &str = "act.json";
const OBJECTS: &str = "objects";
const LOCK: &str = "lock";
const BACK: &str = "back";
const DONE: &str = "done";
/// The steps of one act are never longer.
const ACT_BYTES_MAX: u64 = 256 << 20;
/// A file that is longer is not kept twice.
const FILE_BYTES_MAX: u64 = 4 << 30;

/// What was, or is to be, done to a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    pub id: String,
    pub session: String,
    pub base: PathBuf,
    pub device: u64,
    pub inode: u64,
    pub at: String,
    /// The act that this one takes back.
    pub of: Option<String>,
    /// The directory in which the sessions are that `session` is one of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Arg>,
    /// What the host had changed as well: put back, it is the host's change again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overwritten: Vec<Arg>,
    pub steps: Vec<Step>,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    digest: Digest,
    act: Act,
}

impl Act {
    fn put_back(&self, written: &mut Written) {
        let paths = self.overwritten.iter().map(|it| PathBuf::from(it.as_os_str()));
        written.paths.extend(paths.map(|it| (it, None)));
    }
}

/// All acts that are remembered.
#[derive(Debug, Clone)]
pub struct Acts {
    directory: PathBuf,
}

/// What became of an act that had been interrupted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    pub id: String,
    pub session: String,
    /// Taken back instead of carried on.
    pub back: bool,
    /// What the host has changed meanwhile; it was left alone.
    pub left: Vec<PathBuf>,
    pub(crate) written: Written,
}

/// Ends the work before a change on disk, as a crash would.
type Interrupt<'a> = &'a mut dyn FnMut() -> io::Result<()>;

impl Acts {
    /// `state` is rung's own state directory.
    pub fn new(state: &Path) -> Self {
        Self { directory: state.join("acts") }
    }

    /// Brings these changes of a session into the user's tree. `_lock` shows that no run uses it.
    pub fn apply(
        &self,
        session: &Session,
        _lock: &Lock,
        changes: &[Change],
        id: &str,
        at: Timestamp,
    ) -> Result<Act, SessionError> {
        self.apply_until(session, changes, id, at, &mut || Ok(()))
    }

    pub(super) fn apply_until(
        &self,
        session: &Session,
        changes: &[Change],
        id: &str,
        at: Timestamp,
        interrupt: Interrupt<'_>,
    ) -> Result<Act, SessionError> {
        let base = session.base()?;
        let written = session.written();
        let layer = Tree::open(&written).map_err(failed("opening", &written))?;
        let directory = self.directory.join(id);
        make_directory(&directory)?;
        make_directory(&directory.join(OBJECTS))?;
        let held = hold(&directory, id)?;
        let mut steps = Vec::new();
        let mut overwritten = Vec::new();
        let mut changed = Vec::new();
        for change in changes {
            for path in change.paths() {
                if change.both {
                    overwritten.push(word(path)?);
                }
                interrupt().map_err(failed("keeping", path))?;
                // What was renamed is gone under its old name, whatever the layer has there.
                let renamed = change.from.as_deref() == Some(path);
                let (before, found) = keep(&base, path, &directory)?;
                let seen = if renamed { change.from_seen } else { change.seen };
                let after = if renamed { State::Absent } else { keep(&layer, path, &directory)?.0 };
                let was_directory =
                    || change.before.as_ref().is_some_and(|it| it.sort == Looks::Directory);
                let is_as_seen = match (&before, &after) {
                    (State::Directory { .. }, State::Directory { .. }) => true,
                    (State::Directory { .. }, _) => was_directory(),
                    _ => found == seen || before.is_same(&after),
                };
                if !is_as_seen {
                    changed.push(base.path.join(path));
                }
                let after = not_older(&before, after, at);
                steps.push(Step { path: word(path)?, before, after });
            }
        }
        // Between being compared and being kept.
        if !changed.is_empty() {
            self.remove(id)?;
            return Err(SessionError::Changed { paths: changed });
        }
        let manifest = &session.manifest;
        let act = Act {
            id: id.to_owned(),
            session: manifest.name.clone(),
            base: manifest.base.clone(),
            device: manifest.device,
            inode: manifest.inode,
            at: at.to_string(),
            of: None,
            state: session.directory.ancestors().nth(2).map(word).transpose()?,
            overwritten,
            steps: ordered(steps),
        };
        write(&directory, &act, interrupt)?;
        let mut written = Written::default();
        let result = self.carry_out(&act, &base, interrupt, &mut written);
        drop(held);
        if let Err(error) = result {
            // It only spares a question.
            if let Err(why) = session.remember(&written) {
                tracing::debug!(%why, "not remembered");
            }
            return Err(error);
        }
        after_apply(session, &layer, &act, &written)?;
        Ok(act)
    }

    /// Takes an act back, if the tree is as the act left it.
    pub fn rollback(&self, of: &str, id: &str, at: Timestamp) -> Result<Act, SessionError> {
        self.rollback_until(of, id, at, &mut || Ok(()))
    }

    pub(super) fn rollback_until(
        &self,
        of: &str,
        id: &str,
        at: Timestamp,
        interrupt: Interrupt<'_>,
    ) -> Result<Act, SessionError> {
        let undone = self.open(of)?;
        let base = base(&undone)?;
        let steps: Vec<Step> = undone.steps.iter().map(Step::inverse).collect();
        let mut hand = Hand {
            tree: &base,
            objects: &self.directory.join(of).join(OBJECTS),
            staging: &self.directory.join(of),
            id,
            interrupt: &mut || Ok(()),
            written: &mut Written::default(),
            back: false,
        };
        let changed = not_as_left(&mut hand, &steps)?;
        if !changed.is_empty() {
            return Err(SessionError::Changed { paths: changed });
        }
        let directory = self.directory.join(id);
        make_directory(&directory)?;
        make_directory(&directory.join(OBJECTS))?;
        let held = hold(&directory, id)?;
        for digest in steps.iter().flat_map(|it| [&it.before, &it.after]).filter_map(file_digest) {
            interrupt().map_err(failed("keeping", &directory))?;
            let from = self.directory.join(of).join(OBJECTS).join(digest.to_string());
            let to = directory.join(OBJECTS).join(digest.to_string());
            match fs::hard_link(&from, &to) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => result.map_err(failed("keeping", &from))?,
            }
        }
        let act = Act {
            id: id.to_owned(),
            at: at.to_string(),
            of: Some(of.to_owned()),
            steps: ordered(steps),
            ..undone
        };
        write(&directory, &act, interrupt)?;
        self.carry_out(&act, &base, interrupt, &mut Written::default())?;
        drop(held);
        Ok(act)
    }

    fn carry_out(
        &self,
        act: &Act,
        base: &Tree,
        interrupt: Interrupt<'_>,
        written: &mut Written,
    ) -> Result<(), SessionError> {
        let directory = self.directory.join(&act.id);
        let objects = directory.join(OBJECTS);
        let mut interrupted = false;
        let mut may_go_on = || {
            let result = interrupt();
            interrupted |= result.is_err();
            result
        };
        let mut hand = Hand {
            tree: base,
            objects: &objects,
            staging: &directory,
            id: &act.id,
            interrupt: &mut may_go_on,
            written,
            back: false,
        };
        let failure = match hand.carry_out(&act.steps) {
            Ok(left) if left.is_empty() => return finish(&directory, interrupt),
            Ok(left) => {
                SessionError::Changed { paths: left.iter().map(|it| act.base.join(it)).collect() }
            }
            Err(error) if interrupted => return Err(failed("applying to", &act.base)(error)),
            Err(error) => failed("applying to", &act.base)(error),
        };
        // A disk that is full, a file that the host has just changed: all of it, or nothing.
        mark(&directory, BACK)?;
        // What was as it should be before any of it was somebody else's doing, and stays.
        let tried = |it: &&Step| written.tried.contains(it.path());
        let steps = going_back(&act.steps.iter().filter(tried).collect::<Vec<_>>());
        let mut hand = Hand {
            tree: base,
            objects: &objects,
            staging: &directory,
            id: &act.id,
            interrupt,
            written,
            back: true,
        };
        let left = hand.carry_out(&steps);
        act.put_back(written);
        let left = left.map_err(failed("taking back", &act.base))?;
        if left.is_empty() {
            finish(&directory, interrupt)?;
            return Err(failure);
        }
        // The next start tries again: it may have been the matter of a moment.
        let paths = left.iter().map(|it| act.base.join(it)).collect();
        Err(SessionError::HalfBack { why: Box::new(failure), paths })
    }

    /// Carries on, or back, what was interrupted.
    pub fn recover(&self) -> Result<Vec<Recovered>, SessionError> {
        self.recover_until(&mut || Ok(()))
    }

    pub(super) fn recover_until(
        &self,
        interrupt: Interrupt<'_>,
    ) -> Result<Vec<Recovered>, SessionError> {
        let mut all = Vec::new();
        for id in self.ids()? {
            let directory = self.directory.join(&id);
            if fs::symlink_metadata(directory.join(DONE)).is_ok() {
                continue;
            }
            let Ok(held) = hold(&directory, &id) else { continue };
            if fs::symlink_metadata(directory.join(ACT)).is_err() {
                // Nothing had been changed yet.
                self.remove(&id)?;
                continue;
            }
            let act = self.open(&id)?;
            let back = fs::symlink_metadata(directory.join(BACK)).is_ok();
            // Nothing can be finished in a tree that is not there.
            let Ok(base) = base(&act) else { continue };
            let steps = if back {
                going_back(&act.steps.iter().collect::<Vec<_>>())
            } else {
                act.steps.clone()
            };
            let mut written = Written::default();
            let mut hand = Hand {
                tree: &base,
                objects: &directory.join(OBJECTS),
                staging: &directory,
                id: &id,
                interrupt,
                written: &mut written,
                back,
            };
            let left = hand.carry_out(&steps).map_err(|source| SessionError::Unfinished {
                base: act.base.clone(),
                directory: directory.clone(),
                source,
            })?;
            if back {
                act.put_back(&mut written);
            }
            finish(&directory, interrupt)?;
            drop(held);
            all.push(Recovered { id, session: act.session, back, left, written });
        }
        Ok(all)
    }

    /// Whether some act is neither finished nor taken back. Another process may be at it.
    pub fn is_interrupted(&self) -> Result<bool, SessionError> {
        let is_done =
            |id: &String| fs::symlink_metadata(self.directory.join(id).join(DONE)).is_ok();
        Ok(!self.ids()?.iter().all(is_done))
    }

    /// The ids of all acts, oldest first.
    pub fn ids(&self) -> Result<Vec<String>, SessionError> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result.map_err(failed("reading", &self.directory))?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed("reading", &self.directory))?;
            ids.extend(entry.file_name().into_string().ok().filter(|it| !it.starts_with('.')));
        }
        ids.sort();
        Ok(ids)
    }

    /// One act, if it is as rung left it.
    pub fn open(&self, id: &str) -> Result<Act, SessionError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric();
        if id.is_empty() || id.len() > ID_BYTES_MAX || !id.bytes().all(plain) {
            return Err(SessionError::NoAct { id: id.to_owned() });
        }
        let path = self.directory.join(id).join(ACT);
        let torn = |why: String| SessionError::TornAct { id: id.to_owned(), why };
        let facts = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SessionError::NoAct { id: id.to_owned() });
            }
            result => result.map_err(failed("looking at", &path))?,
        };
        is_private(&facts).map_err(torn)?;
        if !facts.is_file() || facts.len() > ACT_BYTES_MAX {
            return Err(torn("it is no file of an act's size".to_owned()));
        }
        let text = fs::read(&path).map_err(failed("reading", &path))?;
        let sealed: Sealed =
            serde_json::from_slice(&text).map_err(|error| torn(error.to_string()))?;
        if digest(&sealed.act)? != sealed.digest || sealed.act.id != id {
            return Err(torn("it was changed".to_owned()));
        }
        Ok(sealed.act)
    }

    /// When an act was, as far as its directory tells.
    fn age_seconds(&self, id: &str, now: Timestamp) -> Option<i64> {
        let facts = fs::symlink_metadata(self.directory.join(id)).ok()?;
        Some(now.as_second().saturating_sub(facts.mtime()))
    }

    /// Forgets acts that are older than this; they cannot be rolled back any more.
    pub fn forget_older(&self, seconds: i64, now: Timestamp) -> Result<usize, SessionError> {
        let mut forgotten = 0;
        for id in self.ids()? {
            let done = fs::symlink_metadata(self.directory.join(&id).join(DONE)).is_ok();
            if done && self.age_seconds(&id, now).is_some_and(|it| it > seconds) {
                self.remove(&id)?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }

    fn remove(&self, id: &str) -> Result<(), SessionError> {
        let tree = Tree::open(&self.directory).map_err(failed("opening", &self.directory))?;
        let failed = failed("removing", &self.directory);
        remove_all(tree.root.as_fd(), OsStr::new(id)).map_err(failed)
    }
}

const ID_BYTES_MAX: usize = 64;

/// The act is being carried out by this process, and no other.
fn hold(directory: &Path, id: &str) -> Result<Flock<File>, SessionError> {
    let path = directory.join(LOCK);
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(failed("locking", &path))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => SessionError::Busy { name: id.to_owned() },
        errno => failed("locking", &path)(errno.into()),
    })
}

/// The tree of an act, if it is the same one.
fn base(act: &Act) -> Result<Tree, SessionError> {
    let wrong =
        |why: String| SessionError::Base { name: act.session.clone(), base: act.base.clone(), why };
    let tree =
        Tree::open(&act.base).map_err(|error| wrong(format!("cannot be opened: {error}")))?;
    let root = tree.look(Path::new("")).map_err(failed("looking at", &act.base))?;
    let is_same =
        root.is_some_and(|it| (it.facts.dev(), it.facts.ino()) == (act.device, act.inode));
    if is_same { Ok(tree) } else { Err(wrong("is another directory now".to_owned())) }
}

/// The paths that are not as a finished act left them.
fn not_as_left(hand: &mut Hand<'_>, steps: &[Step]) -> Result<Vec<PathBuf>, SessionError> {
    let turning = turning(steps);
    let mut changed = Vec::new();
    for step in steps {
        let path = step.path();
        let found = hand.state(path, &turning).map_err(failed("comparing", path))?;
        if !found.is_some_and(|(it, _)| it.is_same(&step.before)) {
            changed.push(hand.tree.path.join(path));
        }
    }
    Ok(changed)
}

fn file_digest(state: &State) -> Option<&Digest> {
    match state {
        State::File { digest, .. } => Some(digest),
        State::Absent | State::Link { .. } | State::Directory { .. } | State::Special => None,
    }
}

/// What lies at a path, and its stamp when it had been read, with what its file says kept among the
/// objects.
fn keep(
    tree: &Tree,
    path: &Path,
    directory: &Path,
) -> Result<(State, Option<Stamp>), SessionError> {
    let found = tree.look(path).map_err(failed("keeping", path))?;
    let is_file = |it: &Object| it.sort() == Sort::File;
    if let Some(object) = found.as_ref().filter(|it| is_file(it))
        && object.facts.len() > FILE_BYTES_MAX
    {
        let why = format!("it has {} bytes, more than {FILE_BYTES_MAX}", object.facts.len());
        return Err(SessionError::Unsupported { path: tree.path.join(path), why });
    }
    let objects = directory.join(OBJECTS);
    let unfinished = objects.join(".new");
    let mut copy = match found.as_ref().filter(|it| is_file(it)) {
        Some(_) => Some(
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&unfinished)
                .map_err(failed("keeping", path))?,
        ),
        None => None,
    };
    let state = State::of(found.as_ref(), copy.as_mut()).map_err(failed("keeping", path))?;
    if state == State::Special {
        let why = "it is a socket, a pipe or a device".to_owned();
        return Err(SessionError::Unsupported { path: tree.path.join(path), why });
    }
    if let (Some(copy), Some(digest)) = (copy, file_digest(&state)) {
        copy.sync_all()
            .and_then(|()| fs::rename(&unfinished, objects.join(digest.to_string())))
            .map_err(failed("keeping", path))?;
    }
    let now = found.map(|it| Object::of(OwnedFd::from(it.held))).transpose();
    let now = now.map_err(failed("keeping", path))?;
    Ok((state, now.map(|it| it.stamp())))
}

/// A run chooses the times of its files. One whose contents have changed is not older than what it
/// replaces, and not of the future, or build tools outside would believe that nothing had changed.
fn not_older(before: &State, mut after: State, at: Timestamp) -> State {
    let now = Moment { seconds: at.as_second(), nanoseconds: i64::from(at.subsec_nanosecond()) };
    if let State::File { digest, modified, .. } = &mut after {
        let older = match before {
            State::File { digest: was, modified: then, .. } => was != digest && *modified <= *then,
            _ => false,
        };
        if older || *modified > now {
            *modified = now;
        }
    }
    after
}

fn word(path: &Path) -> Result<Arg, SessionError> {
    Arg::new(path.as_os_str().as_bytes())
        .map_err(|error| failed("keeping", path)(io::Error::other(error)))
}

fn digest(act: &Act) -> Result<Digest, SessionError> {
    let text =
        serde_json::to_vec(act).map_err(|error| failed("writing", &act.base)(error.into()))?;
    Ok(Digest::of("act", &[&text]))
}

/// Writes the act and makes it durable, with all that it needs.
fn write(directory: &Path, act: &Act, interrupt: Interrupt<'_>) -> Result<(), SessionError> {
    let path = directory.join(ACT);
    let failed = || failed("writing", &path);
    let sealed = Sealed { digest: digest(act)?, act: act.clone() };
    let text = serde_json::to_vec(&sealed).map_err(|error| failed()(error.into()))?;
    let unfinished = directory.join(".new");
    interrupt().map_err(failed())?;
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(failed())?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed())?;
    sync(&directory.join(OBJECTS))?;
    interrupt().map_err(failed())?;
    fs::rename(&unfinished, &path).map_err(failed())?;
    sync(directory)?;
    sync(directory.parent().unwrap_or(directory))
}

fn sync(directory: &Path) -> Result<(), SessionError> {
    File::open(directory).and_then(|it| it.sync_all()).map_err(failed("writing", directory))
}

fn mark(directory: &Path, name: &str) -> Result<(), SessionError> {
    let path = directory.join(name);
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed("writing", &path))?;
    sync(directory)
}

fn finish(directory: &Path, interrupt: Interrupt<'_>) -> Result<(), SessionError> {
    interrupt().map_err(failed("finishing", directory))?;
    mark(directory, DONE)
}

/// Takes what is in the tree now out of the layer, so that the tree shows through again, and
/// remembers when rung wrote it.
fn after_apply(
    session: &Session,
    layer: &Tree,
    act: &Act,
    written: &Written,
) -> Result<(), SessionError> {
    session.remember(written)?;
    if session.manifest.backend != Backend::Overlay {
        return Ok(());
    }
    let mut deepest_first: Vec<&Step> = act.steps.iter().collect();
    deepest_first.sort_by(|a, b| b.path().cmp(a.path()));
    for step in deepest_first {
        let path = step.path();
        uncover(layer, path).map_err(failed("clearing", path))?;
    }
    Ok(())
}

impl Session {
    /// Remembers what an act of this session, finished or taken back, has written to the tree: it is no
    /// change of the host's.
    pub(crate) fn remember(&self, written: &Written) -> Result<(), SessionError> {
        let mut applied = self.applied()?;
        for (path, at) in &written.paths {
            match at {
                Some(at) => applied.insert(path.clone(), *at),
                None => applied.remove(path),
            };
        }
        for (path, span) in &written.directories {
            let was_known =
                span.from <= self.manifest.since || applied.get(path) == Some(&span.from);
            if was_known && !span.by_others {
                applied.insert(path.clone(), span.to);
            }
        }
        self.set_applied(&applied)
    }

    /// Takes everything at or below these paths out of the layer. `_lock` shows that no run uses it.
    /// Returns those at which there was something.
    pub fn drop_paths(
        &self,
        _lock: &Lock,
        paths: &BTreeSet<PathBuf>,
    ) -> Result<Vec<PathBuf>, SessionError> {
        let manifest = &self.manifest;
        match &manifest.backend {
            Backend::Overlay => {}
            Backend::Copy => {
                let (path, why) = (
                    manifest.base.clone(),
                    "the session is a copy of it, of which \
                    only all can be dropped: leave the name of a path out"
                        .to_owned(),
                );
                return Err(SessionError::Unsupported { path, why });
            }
            Backend::Worktree { branch, .. } => {
                let (name, base) = (manifest.name.clone(), manifest.base.clone());
                return Err(SessionError::IsWorktree { name, base, branch: branch.clone() });
            }
        }
        let written = self.written();
        let layer = Tree::open(&written).map_err(failed("opening", &written))?;
        let base = self.base()?;
        // All of it can be dropped, or nothing is.
        for path in paths {
            if let Some(above) = hidden_by(&layer, path).map_err(failed("reading", path))?
                && !paths.iter().any(|it| above.starts_with(it))
                && base.look(path).map_err(failed("reading", path))?.is_some()
            {
                let above = super::shown(&above);
                let why =
                    format!("`{above}` was made anew in the session; drop `{above}` as a whole");
                return Err(SessionError::Unsupported { path: path.clone(), why });
            }
        }
        let own = Tree::open(&self.directory).map_err(failed("opening", &self.directory))?;
        let mut dropped = Vec::new();
        for path in paths {
            let Some(object) = layer.look(path).map_err(failed("reading", path))? else { continue };
            let all = if path.as_os_str().is_empty() {
                let names = names(object.held.as_fd()).map_err(failed("reading", path))?;
                names.into_iter().map(PathBuf::from).collect()
            } else {
                vec![path.clone()]
            };
            for it in &all {
                take_out(&layer, it, &own).map_err(failed("clearing", it))?;
            }
            dropped.push(path.clone());
        }
        self.forget_counted()?;
        Ok(dropped)
    }
}

/// Takes one object out of the layer at once, and then apart beside it.
fn take_out(layer: &Tree, path: &Path, beside: &Tree) -> io::Result<()> {
    const GONE: &str = ".gone";
    let Some(object) = layer.look(path)? else { return Ok(()) };
    remove_all(beside.root.as_fd(), OsStr::new(GONE))?;
    if object.sort() == Sort::Directory {
        // A directory is moved by writing to it, too.
        fs::set_permissions(behind(object.held.as_fd()), fs::Permissions::from_mode(0o700))?;
    }
    let (parent, name) = layer.spot(path)?;
    in_spite_of_mode(parent.as_fd(), || {
        Ok(nix::fcntl::renameat(&parent, name.as_c_str(), &beside.root, OsStr::new(GONE))?)
    })?;
    remove_all(beside.root.as_fd(), OsStr::new(GONE))
}

/// The closest directory above a path that hides what lies below it in the tree.
fn hidden_by(layer: &Tree, path: &Path) -> io::Result<Option<PathBuf>> {
    for above in path.ancestors().skip(1) {
        let Some(directory) = layer.look(above)? else { continue };
        if directory.is_opaque()? {
            return Ok(Some(above.to_owned()));
        }
    }
    Ok(None)
}

/// Takes one path out of the layer, unless something above hides what would show.
fn uncover(layer: &Tree, path: &Path) -> io::Result<()> {
    if hidden_by(layer, path)?.is_some() {
        return Ok(());
    }
    let Some(object) = layer.look(path)? else { return Ok(()) };
    let (parent, name) = layer.spot(path)?;
    let is_directory = object.sort() == Sort::Directory;
    if is_directory && !names(object.held.as_fd())?.is_empty() {
        return Ok(());
    }
    let how = if is_directory {
        nix::unistd::UnlinkatFlags::RemoveDir
    } else {
        nix::unistd::UnlinkatFlags::NoRemoveDir
    };
    in_spite_of_mode(parent.as_fd(), || Ok(nix::unistd::unlinkat(&parent, name.as_c_str(), how)?))
}
