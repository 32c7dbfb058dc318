//! Protected names that a mount cannot keep, because there is nothing to mount on, or because
//! somebody outside the run may take the mounted object away.
//!
//! A protected name that does not exist would need a placeholder in the user's tree, and rung
//! leaves nothing there. So such names are watched: when the run has ended, and before its result
//! is reported, whatever it made of them is moved out of the tree into rung's own state, and the
//! run says so. Names that exist are guarded: at the end they must still be the same object. While
//! a run lives a marker file, locked by its supervisor, holds the lists; a supervisor that was
//! killed leaves the marker behind, and the next start does its work. Where the index of the
//! workspace's repository names another one at the end that it did not at the beginning, that one's
//! `.git` is such a name too. The processes of a killed supervisor's run end a moment later than it,
//! so that moment is waited for first. One name that cannot be put right stops neither the others
//! nor runs elsewhere.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::linked::{self, Index};
use super::quarantine::{self, Spot, below, c_name, hold, look};
use crate::plan::Watched;
use crate::sys::descriptor;
use crate::sys::standing::Init;

/// A protected object that was there when the run began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guarded {
    pub path: PathBuf,
    pub device: u64,
    pub inode: u64,
}

/// What one run watches, as the marker file holds it.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    run: String,
    workspace: PathBuf,
    watched: Vec<Watched>,
    #[serde(default)]
    guarded: Vec<Guarded>,
    #[serde(default)]
    repositories: Option<Vec<PathBuf>>,
    #[serde(default)]
    index: Option<PathBuf>,
    /// The run is over when this has ended, and not when its supervisor was killed.
    #[serde(default)]
    init: Option<Init>,
}

/// What a run is to leave as it was.
#[derive(Debug, Clone, Copy)]
pub struct List<'a> {
    /// The number of its init, which is there by now.
    pub init: i32,
    pub watched: &'a [Watched],
    pub guarded: &'a [Guarded],
    /// Tops of the repositories that the workspace's index names at the beginning; nothing where
    /// more of them are nobody's business.
    pub repositories: &'a Option<Vec<PathBuf>>,
    /// The directory of the index, if that is not the workspace's own `.git`.
    pub index: Option<&'a Path>,
}

/// A live run's list.
#[derive(Debug)]
pub struct Watch {
    marker: Marker,
    state: PathBuf,
    /// The workspace itself, wherever somebody moves it meanwhile.
    base: OwnedFd,
    /// Locked as long as the supervisor lives.
    file: Flock<File>,
}

/// Something the run made of a protected name, and where it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    pub path: PathBuf,
    pub quarantine: PathBuf,
}

/// A protected name that is not as it was, and still is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    pub path: PathBuf,
    pub why: String,
}

/// What became of the names of one run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settled {
    pub undone: Vec<Undone>,
    /// Not as before, and nothing is to be done about it.
    pub changed: Vec<Left>,
    /// Could not be put right; the next start tries again.
    pub left: Vec<Left>,
}

/// What a killed supervisor's run made of its names.
#[derive(Debug, PartialEq, Eq)]
pub struct Swept {
    pub run: String,
    pub workspace: PathBuf,
    pub settled: Settled,
    /// Processes of it are still there, so nothing has been put right yet.
    pub goes_on: bool,
}

/// The markers themselves could not be used.
#[derive(Debug, thiserror::Error)]
#[error("the list of watched names `{}` could not be used: {source}", path.display())]
pub struct WatchError {
    path: PathBuf,
    source: io::Error,
}

const MARKERS: &str = "live";
const QUARANTINE: &str = "quarantine";
/// Marks a list that is still being made.
const UNFINISHED: &str = ".new-";
/// An unfinished list this old belongs to nobody.
const UNFINISHED_SECONDS: i64 = 3600;

/// Begins to watch. `state` is rung's own state directory.
pub fn arm(
    state: &Path,
    run: &str,
    workspace: &Path,
    list: List<'_>,
) -> Result<Option<Watch>, WatchError> {
    let List { init, watched, guarded, repositories, index } = list;
    if watched.is_empty() && guarded.is_empty() && repositories.is_none() {
        return Ok(None);
    }
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    let base = hold(workspace).and_then(|it| it.ok_or_else(gone));
    let base = base.map_err(|source| WatchError { path: workspace.to_owned(), source })?;
    let directory = state.join(MARKERS);
    let unfinished = directory.join(format!("{UNFINISHED}{run}"));
    let failed = |source| WatchError { path: unfinished.clone(), source };
    let create = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished);
    let file = match create() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(&directory).map_err(failed)?;
            create().map_err(failed)?
        }
        result => result.map_err(failed)?,
    };
    let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| failed(errno.into()))?;
    let marker = Marker {
        run: run.to_owned(),
        workspace: workspace.to_owned(),
        watched: watched.to_vec(),
        guarded: guarded.to_vec(),
        repositories: repositories.clone(),
        index: index.map(Path::to_owned),
        init: Some(Init::of(init).map_err(|errno| failed(errno.into()))?),
    };
    let text = serde_json::to_vec(&marker).map_err(|error| failed(error.into()))?;
    file.write_all(&text).map_err(failed)?;
    // Only a list that is whole and locked has a name that others look at.
    fs::rename(&unfinished, directory.join(run)).map_err(failed)?;
    Ok(Some(Watch { marker, state: state.to_owned(), base, file }))
}

impl Watch {
    /// Puts right what the run made of the watched names, and stops watching.
    pub fn settle(self) -> Settled {
        let mut settled = Settled::default();
        put_right(&self.state, &self.marker, &self.base, true, &mut settled);
        let path = self.state.join(MARKERS).join(&self.marker.run);
        if settled.left.is_empty()
            && let Err(error) = forget(&path)
        {
            settled.left.push(Left { path, why: error.to_string() });
        }
        drop(self.file);
        settled
    }
}

fn forget(marker: &Path) -> io::Result<()> {
    match fs::remove_file(marker) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Does the work of supervisors that were killed. Cheap when there is none.
pub fn sweep(state: &Path, now: Timestamp) -> Result<Vec<Swept>, WatchError> {
    let directory = state.join(MARKERS);
    let failed = |path: &Path, source| WatchError { path: path.to_owned(), source };
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(|source| failed(&directory, source))?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| failed(&directory, source))?;
        let unfinished = entry.file_name().as_bytes().starts_with(UNFINISHED.as_bytes());
        let path = entry.path();
        if let Some(swept) =
            sweep_one(state, &path, unfinished, now).map_err(|source| failed(&path, source))?
        {
            all.push(swept);
        }
    }
    Ok(all)
}

fn sweep_one(
    state: &Path,
    path: &Path,
    unfinished: bool,
    now: Timestamp,
) -> io::Result<Option<Swept>> {
    let file = match File::open(path) {
        // Its run has just ended.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result?,
    };
    let Ok(mut file) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { return Ok(None) };
    let found = file.metadata()?;
    if unfinished {
        if found.mtime().saturating_add(UNFINISHED_SECONDS) < now.as_second() {
            forget(path)?;
        }
        return Ok(None);
    }
    // Its run has ended, and put its names right, since it was opened.
    if found.nlink() == 0 {
        return Ok(None);
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    // A torn marker can only come from a machine that stopped.
    let Ok(marker) = serde_json::from_slice::<Marker>(&text) else {
        forget(path)?;
        return Ok(None);
    };
    let mut settled = Settled::default();
    if marker.init.is_some_and(|it| !it.ends()) {
        let Marker { run, workspace, .. } = marker;
        return Ok(Some(Swept { run, workspace, settled, goes_on: true }));
    }
    match hold(&marker.workspace) {
        Ok(Some(base)) => put_right(state, &marker, &base, false, &mut settled),
        Ok(None) => {
            let why = "the directory is not there any more, so nobody looked at it".to_owned();
            settled.changed.push(Left { path: marker.workspace.clone(), why });
        }
        Err(error) => {
            settled.left.push(Left { path: marker.workspace.clone(), why: error.to_string() });
        }
    }
    if settled.left.is_empty() {
        forget(path)?;
    }
    Ok(Some(Swept { run: marker.run, workspace: marker.workspace, settled, goes_on: false }))
}

/// Goes through all names, whatever becomes of one of them. Only at the end of a `live` run can
/// what replaced a guarded object be held against the runs of that time: later, its user may have.
fn put_right(state: &Path, marker: &Marker, base: &OwnedFd, live: bool, settled: &mut Settled) {
    // Most runs make none of the names, and most names are not there: then one look says so.
    let mut absent = None;
    for watched in &marker.watched {
        if watched.link.is_none() && is_absent(marker, base, &watched.path, &mut absent) {
            continue;
        }
        if let Err(error) = put_watched_right(state, marker, base, watched, settled) {
            settled.left.push(Left { path: watched.path.clone(), why: error.to_string() });
        }
    }
    if let Some(known) = &marker.repositories
        && let Err(error) = put_repositories_right(state, marker, base, known, settled)
    {
        settled
            .left
            .push(Left { path: marker.workspace.join(".git/index"), why: error.to_string() });
    }
    for guarded in &marker.guarded {
        if let Err(error) = put_guarded_right(state, marker, base, guarded, live, settled) {
            settled.left.push(Left { path: guarded.path.clone(), why: error.to_string() });
        }
    }
}

/// Whether nothing can have the name, because its first component is not there: the `last` one that
/// was not, or one that a look here finds missing.
fn is_absent<'a>(
    marker: &Marker,
    base: &OwnedFd,
    path: &'a Path,
    last: &mut Option<&'a OsStr>,
) -> bool {
    let inside = path.strip_prefix(&marker.workspace).ok();
    let Some(Component::Normal(first)) = inside.and_then(|it| it.components().next()) else {
        return false;
    };
    if *last == Some(first) {
        return true;
    }
    let Ok(name) = c_name(first) else { return false };
    let absent = descriptor::identity(base.as_raw_fd(), &name) == Err(Errno::ENOENT);
    if absent {
        *last = Some(first);
    }
    absent
}

fn put_watched_right(
    state: &Path,
    marker: &Marker,
    base: &OwnedFd,
    watched: &Watched,
    settled: &mut Settled,
) -> io::Result<()> {
    let expected = |spot: &Spot, found: &quarantine::Object| {
        let Some(target) = &watched.link else { return Ok(false) };
        let last = spot.path == watched.path;
        Ok(last && found.is_link() && *target == link_target(spot)?)
    };
    if let Found::Offender(spot) = find(marker, base, &watched.path, expected)? {
        settled.undone.push(quarantine(state, marker, &spot)?);
    }
    let Some(target) = &watched.link else { return Ok(()) };
    match find(marker, base, &watched.path, expected)? {
        Found::Expected => Ok(()),
        Found::Nothing(Some(spot)) => {
            let target = c_name(target.as_os_str())?;
            below(&spot.parent, |it| descriptor::make_link(&target, it, &spot.name))
        }
        Found::Nothing(None) => {
            let why = "the link is gone, and so is its directory".to_owned();
            settled.changed.push(Left { path: watched.path.clone(), why });
            Ok(())
        }
        // Another run has just made it again.
        Found::Offender(_) => Err(Errno::EEXIST.into()),
    }
}

/// An index that cannot be read is moved away whole: `git reset` makes a new one.
fn put_repositories_right(
    state: &Path,
    marker: &Marker,
    base: &OwnedFd,
    known: &[PathBuf],
    settled: &mut Settled,
) -> io::Result<()> {
    let names = match linked::read(base, &marker.workspace, marker.index.as_deref())? {
        Index::Absent => return Ok(()),
        Index::Unreadable(spot) => {
            settled.undone.push(quarantine(state, marker, &spot)?);
            return Ok(());
        }
        Index::Names(names) => names,
    };
    for name in names {
        let top = marker.workspace.join(name);
        if known.contains(&top) {
            continue;
        }
        // A file of that name is no repository, whatever the index says.
        let expected = |spot: &Spot, found: &quarantine::Object| {
            Ok(found.is_file() && top.starts_with(&spot.path))
        };
        let git = top.join(".git");
        match find(marker, base, &git, expected) {
            Ok(Found::Offender(spot)) => settled.undone.push(quarantine(state, marker, &spot)?),
            Ok(Found::Expected | Found::Nothing(_)) => {}
            Err(error) => settled.left.push(Left { path: git, why: error.to_string() }),
        }
    }
    Ok(())
}

fn put_guarded_right(
    state: &Path,
    marker: &Marker,
    base: &OwnedFd,
    guarded: &Guarded,
    live: bool,
    settled: &mut Settled,
) -> io::Result<()> {
    let expected = |spot: &Spot, found: &quarantine::Object| {
        let same = (found.identity.device, found.identity.inode) == (guarded.device, guarded.inode);
        Ok(same && spot.path == guarded.path)
    };
    let why = match find(marker, base, &guarded.path, expected)? {
        Found::Expected => return Ok(()),
        Found::Nothing(_) => "it is gone",
        Found::Offender(spot) if live => {
            settled.undone.push(quarantine(state, marker, &spot)?);
            return Ok(());
        }
        Found::Offender(_) => "it is another object now",
    };
    settled.changed.push(Left { path: guarded.path.clone(), why: why.to_owned() });
    Ok(())
}

fn link_target(spot: &Spot) -> io::Result<PathBuf> {
    let read = |it: &OwnedFd| nix::fcntl::readlinkat(it, spot.name.as_c_str());
    Ok(PathBuf::from(std::ffi::OsString::from_vec(read(&spot.parent)?.into_vec())))
}

enum Found {
    Expected,
    /// No such name; where it would be, if there is a directory for it.
    Nothing(Option<Spot>),
    Offender(Spot),
}

/// Looks for `path`. An offender is the outermost thing that makes it exist although it should
/// not: the name itself, or what is no directory on the way to it. Links are never followed.
fn find(
    marker: &Marker,
    base: &OwnedFd,
    path: &Path,
    expected: impl Fn(&Spot, &quarantine::Object) -> io::Result<bool>,
) -> io::Result<Found> {
    let Ok(inside) = path.strip_prefix(&marker.workspace) else { return Ok(Found::Expected) };
    let mut parent = base.try_clone()?;
    let mut at = marker.workspace.clone();
    let mut parts = inside.components().peekable();
    while let Some(Component::Normal(part)) = parts.next() {
        at.push(part);
        let last = parts.peek().is_none();
        let spot = Spot { parent, name: c_name(part)?, path: at.clone() };
        let Some(found) = look(&spot.parent, &spot.name)? else {
            return Ok(Found::Nothing(last.then_some(spot)));
        };
        if expected(&spot, &found)? {
            return Ok(Found::Expected);
        }
        // A file can lead on as a link does: a `.git` that is one names another directory.
        if last || !found.is_directory() {
            return Ok(Found::Offender(spot));
        }
        parent = found.held;
    }
    Ok(Found::Nothing(None))
}

/// Moves what is at `spot` into the quarantine of its run.
fn quarantine(state: &Path, marker: &Marker, spot: &Spot) -> io::Result<Undone> {
    let directory = state.join(QUARANTINE).join(&marker.run);
    fs::create_dir_all(&directory)?;
    let inside = spot.path.strip_prefix(&marker.workspace).unwrap_or(&spot.path);
    let name = inside.as_os_str().as_bytes().iter();
    let name: Vec<u8> = name.map(|byte| if *byte == b'/' { b'%' } else { *byte }).collect();
    let to = directory.join(OsStr::from_bytes(&name));
    let quarantine = quarantine::move_away(spot, &marker.run, &to)?;
    Ok(Undone { path: spot.path.clone(), quarantine })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    use crate::model::Origin;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn watched(path: PathBuf, link: Option<&str>) -> Watched {
        Watched { path, link: link.map(PathBuf::from), because: Origin::built_in("test") }
    }

    fn list_of<'a>(watched: &'a [Watched], guarded: &'a [Guarded]) -> List<'a> {
        // One that has ended, and that nobody asks how.
        let init = std::process::Command::new("true").spawn().unwrap().id().cast_signed();
        List { init, watched, guarded, repositories: &None, index: None }
    }

    struct Place {
        _directory: tempfile::TempDir,
        state: PathBuf,
        tree: PathBuf,
    }

    fn place() -> Place {
        let directory = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(directory.path()).unwrap();
        let (state, tree) = (base.join("state"), base.join("tree"));
        fs::create_dir(&state).unwrap();
        fs::create_dir(&tree).unwrap();
        Place { _directory: directory, state, tree }
    }

    #[test]
    fn what_was_made_of_an_absent_name_is_moved_away() {
        let place = place();
        let names = [".envrc", ".vscode", ".cargo/config.toml", ".git/config"]
            .map(|it| place.tree.join(it));
        let list: Vec<Watched> = names.iter().map(|it| watched(it.clone(), None)).collect();
        let watch = arm(&place.state, "run", &place.tree, list_of(&list, &[])).unwrap().unwrap();
        fs::write(place.tree.join(".envrc"), "evil").unwrap();
        fs::create_dir_all(place.tree.join("elsewhere")).unwrap();
        fs::write(place.tree.join("elsewhere/config.toml"), "evil").unwrap();
        symlink("elsewhere", place.tree.join(".cargo")).unwrap();
        fs::write(place.tree.join(".git"), "gitdir: elsewhere").unwrap();
        let undone = watch.settle().undone;
        let paths: Vec<_> = undone.iter().map(|it| it.path.clone()).collect();
        assert_eq!(paths, [".envrc", ".cargo", ".git"].map(|it| place.tree.join(it)));
        assert_eq!(fs::read(&undone[0].quarantine).unwrap(), b"evil");
        assert!(!names.iter().any(|name| name.exists()), "a protected name is still there");
        assert!(place.tree.join("elsewhere/config.toml").exists(), "an ordinary file is gone");
    }

    #[test]
    fn a_workspace_that_somebody_moves_is_still_the_workspace() {
        let place = place();
        let list = [watched(place.tree.join(".envrc"), None)];
        let watch = arm(&place.state, "run", &place.tree, list_of(&list, &[])).unwrap().unwrap();
        let killed =
            arm(&place.state, "killed", &place.tree, list_of(&list, &[])).unwrap().unwrap();
        let moved = place.state.join("../moved");
        fs::rename(&place.tree, &moved).unwrap();
        fs::write(moved.join(".envrc"), "evil").unwrap();
        assert_eq!(watch.settle().undone.len(), 1);
        assert!(!moved.join(".envrc").exists());
        drop(killed);
        let swept = sweep(&place.state, NOW).unwrap();
        assert_eq!(swept[0].settled.changed.len(), 1, "nobody was told that nobody looked");
        assert_eq!(sweep(&place.state, NOW).unwrap(), []);
    }

    #[test]
    fn a_link_is_what_it_was() {
        let place = place();
        let name = place.tree.join(".envrc");
        symlink("../shared", &name).unwrap();
        let list = [watched(name.clone(), Some("../shared"))];
        let untouched =
            arm(&place.state, "one", &place.tree, list_of(&list, &[])).unwrap().unwrap();
        assert_eq!(untouched.settle(), Settled::default());
        let changed = arm(&place.state, "two", &place.tree, list_of(&list, &[])).unwrap().unwrap();
        fs::remove_file(&name).unwrap();
        fs::write(&name, "evil").unwrap();
        assert_eq!(changed.settle().undone.len(), 1);
        assert_eq!(fs::read_link(&name).unwrap(), Path::new("../shared"));
    }

    #[test]
    fn a_killed_supervisors_work_is_done_at_the_next_start() {
        let place = place();
        let name = place.tree.join(".envrc");
        let list = [watched(name.clone(), None)];
        let watch = arm(&place.state, "run", &place.tree, list_of(&list, &[])).unwrap().unwrap();
        fs::write(&name, "evil").unwrap();
        assert_eq!(sweep(&place.state, NOW).unwrap(), [], "a live run was swept");
        drop(watch);
        let swept = sweep(&place.state, NOW).unwrap();
        assert_eq!(
            swept.iter().map(|it| (it.run.as_str(), it.settled.undone.len())).collect::<Vec<_>>(),
            [("run", 1)]
        );
        assert!(!name.exists());
        assert_eq!(sweep(&place.state, NOW).unwrap(), []);
    }

    #[test]
    fn one_name_that_cannot_be_put_right_leaves_the_others_alone() {
        let place = place();
        // Nothing can be renamed there, whoever tries.
        let stuck = [watched("/proc/version".into(), None)];
        let at_proc =
            arm(&place.state, "proc", Path::new("/proc"), list_of(&stuck, &[])).unwrap().unwrap();
        let name = place.tree.join(".envrc");
        let list = [watched(name.clone(), None)];
        let in_tree = arm(&place.state, "tree", &place.tree, list_of(&list, &[])).unwrap().unwrap();
        fs::write(&name, "evil").unwrap();
        drop(in_tree);
        assert_eq!(at_proc.settle().left.len(), 1);
        for expected in [vec![("/proc", 0, 1), ("tree", 1, 0)], vec![("/proc", 0, 1)]] {
            let mut swept = sweep(&place.state, NOW).unwrap();
            swept.sort_by(|a, b| a.run.cmp(&b.run));
            let short = |it: &Swept| (it.settled.undone.len(), it.settled.left.len());
            let found: Vec<_> = swept.iter().map(short).collect();
            assert_eq!(found, expected.iter().map(|it| (it.1, it.2)).collect::<Vec<_>>());
        }
        assert!(!name.exists());
    }

    #[test]
    fn a_guarded_object_is_the_same_at_the_end() {
        let place = place();
        let path = place.tree.join("CLAUDE.md");
        fs::write(&path, "before").unwrap();
        let found = fs::metadata(&path).unwrap();
        let list = [Guarded { path: path.clone(), device: found.dev(), inode: found.ino() }];
        let begin =
            |run| arm(&place.state, run, &place.tree, list_of(&[], &list)).unwrap().unwrap();
        assert_eq!(begin("same").settle(), Settled::default());
        let (replaced, killed) = (begin("replaced"), begin("killed"));
        fs::rename(&path, place.tree.join("kept")).unwrap();
        let gone = begin("gone").settle();
        assert_eq!((gone.undone.len(), gone.changed.len(), gone.left.len()), (0, 1, 0));
        fs::write(&path, "evil").unwrap();
        drop(killed);
        let swept = sweep(&place.state, NOW).unwrap();
        assert_eq!(swept[0].settled.changed.len(), 1, "a killed run's change was not told");
        assert!(path.exists(), "what its user may have written was taken away");
        let settled = replaced.settle();
        assert_eq!(fs::read(&settled.undone[0].quarantine).unwrap(), b"evil");
        assert!(!path.exists());
    }

    #[test]
    fn a_list_that_is_being_made_is_not_swept() {
        let place = place();
        let unfinished = place.state.join(MARKERS).join(".new-run");
        fs::create_dir(place.state.join(MARKERS)).unwrap();
        fs::write(&unfinished, "").unwrap();
        let made = Timestamp::from_second(fs::metadata(&unfinished).unwrap().mtime()).unwrap();
        assert_eq!(sweep(&place.state, made).unwrap(), []);
        assert!(unfinished.exists(), "another run's list was taken away");
        let later = Timestamp::from_second(made.as_second() + 2 * UNFINISHED_SECONDS).unwrap();
        assert_eq!(sweep(&place.state, later).unwrap(), []);
        assert!(!unfinished.exists(), "a list of nobody is kept for ever");
    }
}
