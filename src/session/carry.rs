//! Carries out the steps of an act on the user's tree, each of them atomic for its file.
//!
//! A step says what lies at a path before and after it. What is found there decides: the state
//! after means that the step was done already, the state before that it is to be done, and
//! anything else that the host has changed it, and then it is left alone. So the same list can be
//! carried out again after a crash at any point, and its inverse takes it back.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

use super::place::{Object, Tree, behind, in_spite_of_mode};
use super::risk;
use super::state::{Moment, State, set_attributes};
use crate::model::Arg;
use crate::sys::descriptor;

/// What happens to one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Relative to the tree.
    pub path: Arg,
    pub before: State,
    pub after: State,
}

impl Step {
    pub fn path(&self) -> &Path {
        Path::new(self.path.as_os_str())
    }

    pub(super) fn inverse(&self) -> Self {
        let Self { path, before, after } = self.clone();
        Self { path, before: after, after: before }
    }
}

/// Where the steps are carried out, and with what.
pub(super) struct Hand<'a> {
    pub(super) tree: &'a Tree,
    /// The contents of files, by digest.
    pub(super) objects: &'a Path,
    /// Where files are made before they get their name; names in the tree that may stand in for it.
    pub(super) staging: &'a Path,
    pub(super) id: &'a str,
    /// Called before each change on disk; an error ends the work there, as a crash would.
    pub(super) interrupt: &'a mut dyn FnMut() -> io::Result<()>,
}

/// The steps in an order in which each can be done: what stands in the way of something else goes
/// first, then directories from the outside in, then files, then whatever else goes from the
/// inside out. Git's objects come before the names that need them.
pub(super) fn ordered(mut steps: Vec<Step>) -> Vec<Step> {
    let is_directory = |state: &State| matches!(state, State::Directory { .. });
    let replaced: BTreeSet<PathBuf> = steps
        .iter()
        .filter(|it| is_directory(&it.before))
        .filter(|it| !is_directory(&it.after) && it.after != State::Absent)
        .map(|it| it.path().to_owned())
        .collect();
    let rank = |step: &Step| {
        let path = step.path();
        let in_the_way = || path.ancestors().skip(1).any(|it| replaced.contains(it));
        match &step.after {
            State::Absent if in_the_way() => 0,
            State::Directory { .. } => 1,
            _ if step.after != State::Absent && is_object(path) => 2,
            State::File { .. } | State::Link { .. } | State::Special if !risk::is_of_git(path) => 3,
            State::File { .. } | State::Link { .. } | State::Special => 4,
            State::Absent => 5,
        }
    };
    steps.sort_by(|a, b| {
        let (first, second) = (rank(a), rank(b));
        let by_path = a.path().cmp(b.path());
        let by_path = if a.after == State::Absent { by_path.reverse() } else { by_path };
        first.cmp(&second).then(by_path)
    });
    steps
}

/// In a checkout, or in a repository that lies elsewhere.
fn is_object(path: &Path) -> bool {
    path.starts_with(".git/objects") || path.starts_with("objects")
}

impl Hand<'_> {
    /// What lies at a path now.
    pub(super) fn state(&self, path: &Path) -> io::Result<State> {
        State::of(self.tree.look(path)?.as_ref(), None)
    }

    /// Whether the step is done already; nothing if it can be neither.
    fn place_in(&self, step: &Step) -> io::Result<Option<bool>> {
        let found = self.state(step.path())?;
        let directories = |a: &State, b: &State| {
            matches!((a, b), (State::Directory { .. }, State::Directory { .. }))
        };
        if found.is_same(&step.after) {
            return Ok(Some(true));
        }
        // One directory is as good as another until the end, when it gets its mode. What it is made
        // with is not that mode where the file mask takes some of it.
        if directories(&found, &step.after) {
            return Ok(Some(true));
        }
        // Between taking one kind of thing away and putting another there.
        let halfway = found == State::Absent && step.after != State::Absent;
        if found.is_same(&step.before) || (halfway && half_done(step)) {
            return Ok(Some(false));
        }
        Ok(None)
    }

    /// Carries out what is not done yet; returns what the host has changed and was left alone.
    pub(super) fn carry_out(&mut self, steps: &[Step]) -> io::Result<Vec<PathBuf>> {
        let mut left = Vec::new();
        let mut directories = BTreeSet::new();
        for (number, step) in steps.iter().enumerate() {
            self.forget_unfinished(step, number)?;
            match self.place_in(step)? {
                Some(true) => continue,
                Some(false) => {}
                None => {
                    left.push(step.path().to_owned());
                    continue;
                }
            }
            match self.one(step, number) {
                Ok(()) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOTEMPTY) => {
                    left.push(step.path().to_owned());
                    continue;
                }
                Err(error) => return Err(error),
            }
            directories.insert(step.path().parent().unwrap_or(Path::new("")).to_owned());
        }
        for step in steps.iter().rev() {
            self.finish_directory(step)?;
        }
        for directory in directories {
            // It may have been removed by a later step.
            let Ok(held) = self.tree.directory(&directory) else { continue };
            let sync = || File::open(behind(held.as_fd()))?.sync_all();
            in_spite_of_mode(held.as_fd(), sync)?;
        }
        Ok(left)
    }

    fn one(&mut self, step: &Step, number: usize) -> io::Result<()> {
        let (parent, name) = self.tree.spot(step.path())?;
        in_spite_of_mode(parent.as_fd(), || self.one_in(&parent, &name, step, number))
    }

    fn one_in(
        &mut self,
        parent: &OwnedFd,
        name: &CString,
        step: &Step,
        number: usize,
    ) -> io::Result<()> {
        let in_the_way = match (&step.before, &step.after) {
            (State::Directory { .. }, State::Directory { .. }) => return Ok(()),
            (State::Directory { .. }, _) => true,
            (_, State::Directory { .. }) => step.before != State::Absent,
            _ => false,
        };
        if in_the_way || step.after == State::Absent {
            (self.interrupt)()?;
            remove(parent, name, &step.before)?;
        }
        match &step.after {
            State::Absent => Ok(()),
            State::Directory { mode, .. } => {
                (self.interrupt)()?;
                // Writable until everything is in it.
                descriptor::make_directory(parent.as_raw_fd(), name, *mode | 0o700)?;
                Ok(())
            }
            State::File { digest, mode, modified, attributes, .. } => {
                let from = self.objects.join(digest.to_string());
                let make = |path: &Path| -> io::Result<()> {
                    let mut source = File::open(&from)?;
                    let mut new =
                        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
                    io::copy(&mut source, &mut new)?;
                    let object = Object::of(OwnedFd::from(new.try_clone()?))?;
                    set_attributes(&object, attributes)?;
                    new.set_modified(time(*modified))?;
                    new.set_permissions(Permissions::from_mode(*mode))?;
                    new.flush()?;
                    new.sync_all()
                };
                self.put(parent, name, number, &make)
            }
            State::Link { target } => {
                let target = target.as_os_str().to_owned();
                let make = |path: &Path| std::os::unix::fs::symlink(&target, path);
                self.put(parent, name, number, &make)
            }
            State::Special => Err(Errno::EOPNOTSUPP.into()),
        }
    }

    /// Makes something aside and gives it its name, which takes that away from what had it. Rung's
    /// own state is aside; only where that is another file system, the directory itself.
    fn put(
        &mut self,
        parent: &OwnedFd,
        name: &CString,
        number: usize,
        make: &dyn Fn(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let staged = self.staging.join(format!("staged-{number}"));
        (self.interrupt)()?;
        make(&staged)?;
        (self.interrupt)()?;
        let at = nix::fcntl::AT_FDCWD;
        match nix::fcntl::renameat(at, &staged, parent, name.as_c_str()) {
            Err(Errno::EXDEV) => {}
            result => return Ok(result?),
        }
        fs::remove_file(&staged)?;
        let aside = self.aside(number);
        (self.interrupt)()?;
        if let Err(error) = make(&behind(parent.as_fd()).join(&aside)) {
            // Taking the act back goes by other numbers, so it would not find this.
            return match unlinkat(parent, OsStr::new(&aside), UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => Err(error),
                Err(errno) => Err(errno.into()),
            };
        }
        (self.interrupt)()?;
        Ok(nix::fcntl::renameat(parent, OsStr::new(&aside), parent, name.as_c_str())?)
    }

    /// A name that is rung's for as long as the act is not finished.
    fn aside(&self, number: usize) -> String {
        format!(".rung-{}-{number}", self.id)
    }

    /// Removes what an earlier attempt had made aside.
    fn forget_unfinished(&self, step: &Step, number: usize) -> io::Result<()> {
        let forget = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        };
        forget(fs::remove_file(self.staging.join(format!("staged-{number}"))))?;
        if !matches!(step.after, State::File { .. } | State::Link { .. }) {
            return Ok(());
        }
        let Ok((parent, _)) = self.tree.spot(step.path()) else { return Ok(()) };
        let aside = self.aside(number);
        let gone = || Ok(unlinkat(&parent, OsStr::new(&aside), UnlinkatFlags::NoRemoveDir)?);
        forget(in_spite_of_mode(parent.as_fd(), gone))
    }

    /// Gives a directory its mode and attributes, when nothing is put into it any more.
    fn finish_directory(&mut self, step: &Step) -> io::Result<()> {
        let State::Directory { attributes, .. } = &step.after else { return Ok(()) };
        let Some(found) = self.tree.look(step.path())? else { return Ok(()) };
        let state = State::of(Some(&found), None)?;
        if state.is_same(&step.after) || !matches!(state, State::Directory { .. }) {
            return Ok(());
        }
        (self.interrupt)()?;
        set_attributes(&found, attributes)?;
        let State::Directory { mode, .. } = &step.after else { return Ok(()) };
        fs::set_permissions(behind(found.held.as_fd()), Permissions::from_mode(*mode))
    }
}

/// Whether a step takes one thing away before it puts another there.
fn half_done(step: &Step) -> bool {
    let is_directory = |state: &State| matches!(state, State::Directory { .. });
    is_directory(&step.before) != is_directory(&step.after)
}

fn remove(parent: &OwnedFd, name: &CString, what: &State) -> io::Result<()> {
    let how = match what {
        State::Directory { .. } => UnlinkatFlags::RemoveDir,
        State::Absent | State::File { .. } | State::Link { .. } | State::Special => {
            UnlinkatFlags::NoRemoveDir
        }
    };
    match unlinkat(parent, name.as_c_str(), how) {
        // An earlier attempt has done it.
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// What has this name in a directory of the tree, as the file system says when it last changed.
pub(super) fn changed_at(tree: &Tree, path: &Path) -> io::Result<Option<Moment>> {
    let found = tree.look(path)?;
    Ok(found.map(|it| Moment::changed(&it.facts)))
}

fn time(moment: Moment) -> SystemTime {
    let part = Duration::from_nanos(moment.nanoseconds.unsigned_abs());
    let whole = Duration::from_secs(moment.seconds.unsigned_abs());
    if moment.seconds < 0 { UNIX_EPOCH - whole + part } else { UNIX_EPOCH + whole + part }
}
