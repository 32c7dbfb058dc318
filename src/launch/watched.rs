//! Protected names that cannot be mounted over, because there is nothing to mount on.
//!
//! A protected name that does not exist would need a placeholder in the user's tree, and rung
//! leaves nothing there. So such names are watched: when the run has ended, and before its result
//! is reported, whatever it made of them is moved out of the tree into rung's own state, and the
//! run says so. While a run lives a marker file, locked by its supervisor, holds the list; a
//! supervisor that was killed leaves the marker behind, and the next start does its work.

use std::ffi::{CString, OsStr};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::plan::Watched;
use crate::sys::descriptor;

/// What one run watches, as the marker file holds it.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    run: String,
    workspace: PathBuf,
    watched: Vec<Watched>,
}

/// A live run's list.
#[derive(Debug)]
pub struct Watch {
    marker: Marker,
    state: PathBuf,
    /// Locked as long as the supervisor lives.
    file: Flock<File>,
}

/// Something the run made of a protected name, and where it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    pub path: PathBuf,
    pub quarantine: PathBuf,
}

/// A watched name could not be put right.
#[derive(Debug, thiserror::Error)]
#[error("the protected name `{}` could not be put right after the run: {source}", path.display())]
pub struct WatchError {
    path: PathBuf,
    source: io::Error,
}

const MARKERS: &str = "live";
const QUARANTINE: &str = "quarantine";

/// Begins to watch. `state` is rung's own state directory.
pub fn arm(
    state: &Path,
    run: &str,
    workspace: &Path,
    watched: &[Watched],
) -> Result<Option<Watch>, WatchError> {
    if watched.is_empty() {
        return Ok(None);
    }
    let directory = state.join(MARKERS);
    let path = directory.join(run);
    let failed = |source| WatchError { path: path.clone(), source };
    let create = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    let mut file = match create() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir_all(&directory).map_err(failed)?;
            create().map_err(failed)?
        }
        result => result.map_err(failed)?,
    };
    let marker =
        Marker { run: run.to_owned(), workspace: workspace.to_owned(), watched: watched.to_vec() };
    let text = serde_json::to_vec(&marker).map_err(|error| failed(error.into()))?;
    file.write_all(&text).map_err(failed)?;
    let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, errno)| failed(errno.into()))?;
    Ok(Some(Watch { marker, state: state.to_owned(), file }))
}

impl Watch {
    /// Puts right what the run made of the watched names, and stops watching.
    pub fn settle(self) -> Result<Vec<Undone>, WatchError> {
        let undone = put_right(&self.state, &self.marker)?;
        let path = self.state.join(MARKERS).join(&self.marker.run);
        fs::remove_file(&path).map_err(|source| WatchError { path, source })?;
        drop(self.file);
        Ok(undone)
    }
}

/// Does the work of supervisors that were killed. Cheap when there is none.
pub fn sweep(state: &Path) -> Result<Vec<(String, Vec<Undone>)>, WatchError> {
    let directory = state.join(MARKERS);
    let failed = |path: &Path, source| WatchError { path: path.to_owned(), source };
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(|source| failed(&directory, source))?,
    };
    let mut undone = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| failed(&directory, source))?.path();
        let file = match File::open(&path) {
            // Its run has just ended.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            result => result.map_err(|source| failed(&path, source))?,
        };
        let Ok(mut file) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else { continue };
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(|source| failed(&path, source))?;
        // An empty or torn marker belongs to a supervisor that was killed before the run started.
        if let Ok(marker) = serde_json::from_slice::<Marker>(&text) {
            undone.push((marker.run.clone(), put_right(state, &marker)?));
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result.map_err(|source| failed(&path, source))?,
        }
    }
    Ok(undone)
}

fn put_right(state: &Path, marker: &Marker) -> Result<Vec<Undone>, WatchError> {
    let mut undone = Vec::new();
    for watched in &marker.watched {
        let failed = |source| WatchError { path: watched.path.clone(), source };
        if let Some(offender) = offender(marker, watched).map_err(failed)? {
            let quarantine = quarantine(state, marker, &offender).map_err(failed)?;
            undone.push(Undone { path: offender, quarantine });
        }
        if let Some(target) = &watched.link
            && fs::symlink_metadata(&watched.path).is_err()
        {
            symlink(target, &watched.path).map_err(failed)?;
        }
    }
    Ok(undone)
}

/// The outermost thing that makes a watched name exist although it did not: the name itself, or a
/// symbolic link on the way to it. Links are never followed.
fn offender(marker: &Marker, watched: &Watched) -> io::Result<Option<PathBuf>> {
    let Ok(inside) = watched.path.strip_prefix(&marker.workspace) else { return Ok(None) };
    let mut at = marker.workspace.clone();
    let mut parts = inside.components().peekable();
    while let Some(Component::Normal(part)) = parts.next() {
        at.push(part);
        let found = match fs::symlink_metadata(&at) {
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT | libc::ENOTDIR) => return Ok(None),
                _ => return Err(error),
            },
            Ok(found) => found,
        };
        let last = parts.peek().is_none();
        if found.is_symlink() {
            let unchanged = last && watched.link.as_deref() == Some(&*fs::read_link(&at)?);
            return Ok((!unchanged).then_some(at));
        }
        if last {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Moves `path` into the quarantine of its run and says where it is now.
fn quarantine(state: &Path, marker: &Marker, path: &Path) -> io::Result<PathBuf> {
    let directory = state.join(QUARANTINE).join(&marker.run);
    fs::create_dir_all(&directory)?;
    let inside = path.strip_prefix(&marker.workspace).unwrap_or(path);
    let name = inside.as_os_str().as_bytes().iter();
    let name: Vec<u8> = name.map(|byte| if *byte == b'/' { b'%' } else { *byte }).collect();
    let to = directory.join(OsStr::from_bytes(&name));
    let parent = path.parent().ok_or(Errno::EINVAL)?;
    let base = File::open(&marker.workspace)?;
    let parent_inside = parent.strip_prefix(&marker.workspace).unwrap_or(Path::new(""));
    let parent_name = match parent_inside.as_os_str().as_bytes() {
        b"" => c".".to_owned(),
        bytes => CString::new(bytes)?,
    };
    // By descriptor and without following links, so that nothing outside the tree can be moved.
    let parent = descriptor::open_beneath(base.as_fd(), &parent_name)?;
    let name = CString::new(path.file_name().ok_or(Errno::EINVAL)?.as_bytes())?;
    let into = CString::new(to.as_os_str().as_bytes())?;
    match descriptor::rename(parent.as_raw_fd(), &name, &into) {
        Err(Errno::EXDEV) => carry_over(path, &to)?,
        result => result?,
    }
    Ok(to)
}

/// Moves between file systems: copies without following links, then removes.
fn carry_over(from: &Path, to: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(from)?;
    if found.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
        return fs::remove_file(from);
    }
    if found.is_dir() {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            carry_over(&entry.path(), &to.join(entry.file_name()))?;
        }
        return fs::remove_dir(from);
    }
    if found.is_file() {
        let mut source = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(from)?;
        let mut copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
        io::copy(&mut source, &mut copy)?;
    }
    // A socket, FIFO or node has nothing worth keeping.
    fs::remove_file(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Origin;

    fn watched(path: PathBuf, link: Option<&str>) -> Watched {
        Watched { path, link: link.map(PathBuf::from), because: Origin::built_in("test") }
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
        let names = [".envrc", ".vscode", ".cargo/config.toml"].map(|it| place.tree.join(it));
        let list: Vec<Watched> = names.iter().map(|it| watched(it.clone(), None)).collect();
        let watch = arm(&place.state, "run", &place.tree, &list).unwrap().unwrap();
        fs::write(place.tree.join(".envrc"), "evil").unwrap();
        fs::create_dir_all(place.tree.join("elsewhere")).unwrap();
        fs::write(place.tree.join("elsewhere/config.toml"), "evil").unwrap();
        symlink("elsewhere", place.tree.join(".cargo")).unwrap();
        let undone = watch.settle().unwrap();
        let paths: Vec<_> = undone.iter().map(|it| it.path.clone()).collect();
        assert_eq!(paths, [place.tree.join(".envrc"), place.tree.join(".cargo")]);
        assert_eq!(fs::read(&undone[0].quarantine).unwrap(), b"evil");
        assert!(!names.iter().any(|name| name.exists()), "a protected name is still there");
        assert!(place.tree.join("elsewhere/config.toml").exists(), "an ordinary file is gone");
    }

    #[test]
    fn a_link_is_what_it_was() {
        let place = place();
        let name = place.tree.join(".envrc");
        symlink("../shared", &name).unwrap();
        let list = [watched(name.clone(), Some("../shared"))];
        let untouched = arm(&place.state, "one", &place.tree, &list).unwrap().unwrap();
        assert_eq!(untouched.settle().unwrap(), []);
        let changed = arm(&place.state, "two", &place.tree, &list).unwrap().unwrap();
        fs::remove_file(&name).unwrap();
        fs::write(&name, "evil").unwrap();
        assert_eq!(changed.settle().unwrap().len(), 1);
        assert_eq!(fs::read_link(&name).unwrap(), Path::new("../shared"));
    }

    #[test]
    fn a_killed_supervisors_work_is_done_at_the_next_start() {
        let place = place();
        let name = place.tree.join(".envrc");
        let list = [watched(name.clone(), None)];
        let watch = arm(&place.state, "run", &place.tree, &list).unwrap().unwrap();
        fs::write(&name, "evil").unwrap();
        assert_eq!(sweep(&place.state).unwrap(), [], "a live run was swept");
        drop(watch);
        let swept = sweep(&place.state).unwrap();
        assert_eq!(
            swept.iter().map(|(run, it)| (run.as_str(), it.len())).collect::<Vec<_>>(),
            [("run", 1)]
        );
        assert!(!name.exists());
        assert_eq!(sweep(&place.state).unwrap(), []);
    }
}
