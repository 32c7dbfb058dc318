//! Carries out the steps of an act on the user's tree, each of them atomic for its file.
//!
//! A step says what lies at a path before and after it. What is found there decides: the state
//! after means that the step was done already, the state before that it is to be done, and
//! anything else that the host has changed it, and then it is left alone. So the same list can be
//! carried out again after a crash at any point, and its inverse takes it back.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

use super::place::{Object, Stamp, Tree, behind, c_string, in_spite_of_mode, look_in};
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
    /// Gets what came to be.
    pub(super) written: &'a mut Written,
    /// The steps are taken back.
    pub(super) back: bool,
}

/// What an act has written so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Written {
    /// When what rung put at a path has last changed; nothing where it took away what was there, or
    /// where somebody has written to it since.
    pub(super) paths: BTreeMap<PathBuf, Option<Moment>>,
    /// The same of the directories in which that was.
    pub(super) directories: BTreeMap<PathBuf, Span>,
    /// Where it changed something, or was about to.
    pub(super) tried: BTreeSet<PathBuf>,
}

/// A directory before and after rung's own changes in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: Moment,
    pub(super) to: Moment,
    /// Somebody else has changed it in between.
    pub(super) by_others: bool,
}

impl Written {
    fn stirred(&mut self, directory: &Path, from: Moment, to: Moment) {
        self.directories
            .entry(directory.to_owned())
            .and_modify(|it| {
                it.by_others |= it.to != from;
                it.to = to;
            })
            .or_insert(Span { from, to, by_others: false });
    }
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

/// The steps that take these back. Objects of a repository that was there stay: nobody is hurt by them,
/// and somebody may have come to need them.
pub(super) fn going_back(steps: &[&Step]) -> Vec<Step> {
    let was_there = |path: &Path| {
        let made = |it: &&Step| it.before == State::Absent && !is_object(it.path());
        !steps.iter().copied().filter(made).any(|it| path.starts_with(it.path()))
    };
    let stays =
        |it: &Step| it.after == State::Absent && is_object(it.path()) && was_there(it.path());
    ordered(steps.iter().map(|it| it.inverse()).filter(|it| !stays(it)).collect())
}

/// In a checkout, or in a repository that lies elsewhere.
fn is_object(path: &Path) -> bool {
    path.starts_with(".git/objects") || path.starts_with("objects")
}

impl Hand<'_> {
    /// What lies at a path now, and its stamp; nothing where something else has the place of a directory
    /// above it. Where the act itself puts that there or takes it away (`turning`),
    /// nothing lies behind it.
    pub(super) fn state(
        &self,
        path: &Path,
        turning: &BTreeSet<PathBuf>,
    ) -> io::Result<Option<(State, Option<Stamp>)>> {
        match self.tree.reach(path) {
            Ok(found) => {
                let state = State::of(found.as_ref(), None)?;
                let at = found.map(|it| it.stamp());
                Ok(Some((state, at)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                let by_us = path.ancestors().skip(1).any(|it| turning.contains(it));
                Ok(by_us.then_some((State::Absent, None)))
            }
            Err(error) => Err(error),
        }
    }

    /// How far the step has come.
    fn progress(&self, step: &Step, turning: &BTreeSet<PathBuf>) -> io::Result<Progress> {
        let Some((found, at)) = self.state(step.path(), turning)? else {
            return Ok(Progress::Foreign);
        };
        let directories = |a: &State, b: &State| {
            matches!((a, b), (State::Directory { .. }, State::Directory { .. }))
        };
        if found.is_same(&step.after) {
            return Ok(Progress::Done(at));
        }
        // One directory is as good as another until the end, when it gets its mode. What it is made
        // with is not that mode where the file mask takes some of it.
        if directories(&found, &step.after) {
            return Ok(Progress::Done(at));
        }
        // Between taking one kind of thing away and putting another there.
        let halfway = found == State::Absent && step.after != State::Absent;
        if found.is_same(&step.before) || (halfway && half_done(step)) {
            return Ok(Progress::ToDo(at));
        }
        Ok(Progress::Foreign)
    }

    /// Carries out what is not done yet; returns what the host has changed and was left alone.
    pub(super) fn carry_out(&mut self, steps: &[Step]) -> io::Result<Vec<PathBuf>> {
        let turning = turning(steps);
        let mut left = BTreeSet::new();
        let mut directories = BTreeSet::new();
        for (number, step) in steps.iter().enumerate() {
            match self.carry_out_one(step, number, &turning) {
                Ok(true) => {
                    directories.insert(step.path().parent().unwrap_or(Path::new("")).to_owned());
                }
                Ok(false) => {}
                Err(error) if is_by_the_host(&error) => {
                    left.insert(step.path().to_owned());
                }
                Err(error) => return Err(error),
            }
        }
        for step in steps.iter().rev() {
            if !self.finish_directory(step)? {
                left.insert(step.path().to_owned());
            }
        }
        for directory in directories {
            // It may have been removed by a later step.
            let Ok(held) = self.tree.directory(&directory) else { continue };
            let sync = || File::open(behind(held.as_fd()))?.sync_all();
            in_spite_of_mode(held.as_fd(), sync)?;
        }
        Ok(left.into_iter().collect())
    }

    /// Whether something was left to do.
    fn carry_out_one(
        &mut self,
        step: &Step,
        number: usize,
        turning: &BTreeSet<PathBuf>,
    ) -> io::Result<bool> {
        self.forget_unfinished(step, number)?;
        match self.progress(step, turning)? {
            Progress::ToDo(at) => self.one(step, number, at).map(|()| true),
            Progress::Done(at) => {
                // On the way back it may be the host's, unless rung has been there.
                if !self.back || self.written.paths.contains_key(step.path()) {
                    self.written.paths.insert(step.path().to_owned(), at.map(|it| it.changed));
                }
                Ok(false)
            }
            Progress::Foreign => Err(by_the_host()),
        }
    }

    fn one(&mut self, step: &Step, number: usize, at: Option<Stamp>) -> io::Result<()> {
        let (parent, name) = match self.tree.spot(step.path()) {
            // Directories come first, so it was there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(by_the_host()),
            result => result?,
        };
        let spot = Spot { parent: &parent, name: &name, number, at };
        let above = || Ok::<_, io::Error>(Object::of(parent.try_clone()?)?.changed());
        let from = above()?;
        self.written.tried.insert(step.path().to_owned());
        let put = in_spite_of_mode(parent.as_fd(), || self.one_in(spot, step))?;
        self.written.paths.insert(step.path().to_owned(), put);
        let directory = step.path().parent().unwrap_or(Path::new(""));
        self.written.stirred(directory, from, above()?);
        Ok(())
    }

    /// Returns when what it put there last changed.
    fn one_in(&mut self, spot: Spot<'_>, step: &Step) -> io::Result<Option<Moment>> {
        let Spot { parent, name, .. } = spot;
        let in_the_way = match (&step.before, &step.after) {
            (State::Directory { .. }, State::Directory { .. }) => return Ok(None),
            (State::Directory { .. }, _) => true,
            (_, State::Directory { .. }) => step.before != State::Absent,
            _ => false,
        };
        let mut spot = spot;
        if in_the_way || step.after == State::Absent {
            (self.interrupt)()?;
            spot.is_as_found()?;
            remove(parent, name, &step.before)?;
            spot.at = None;
        }
        match &step.after {
            State::Absent => Ok(None),
            State::Directory { mode, .. } => {
                (self.interrupt)()?;
                // Writable until everything is in it.
                match descriptor::make_directory(parent.as_raw_fd(), name, *mode | 0o700) {
                    Err(Errno::EEXIST) => return Err(by_the_host()),
                    result => result?,
                }
                Ok(spot.found()?.map(|it| it.changed))
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
                self.put(spot, &make)
            }
            State::Link { target } => {
                let target = target.as_os_str().to_owned();
                let make = |path: &Path| std::os::unix::fs::symlink(&target, path);
                self.put(spot, &make)
            }
            State::Special => Err(Errno::EOPNOTSUPP.into()),
        }
    }

    /// Makes something aside and gives it its name, which takes that away from what had it. Rung's
    /// own state is aside; only where that is another file system, the directory itself.
    fn put(
        &mut self,
        spot: Spot<'_>,
        make: &dyn Fn(&Path) -> io::Result<()>,
    ) -> io::Result<Option<Moment>> {
        let Spot { parent, number, .. } = spot;
        let staged = self.staging.join(format!("staged-{number}"));
        (self.interrupt)()?;
        make(&staged)?;
        (self.interrupt)()?;
        match spot.take(descriptor::HERE, staged.as_os_str()) {
            Ok(put) => return Ok(put),
            Err(error) => {
                fs::remove_file(&staged)?;
                if error.raw_os_error() != Some(libc::EXDEV) {
                    return Err(error);
                }
            }
        }
        let aside = self.aside(number);
        // Taking the act back goes by other numbers, so it would not find what is left here.
        let gone = |error| match unlinkat(parent, OsStr::new(&aside), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => error,
            Err(errno) => errno.into(),
        };
        (self.interrupt)()?;
        make(&behind(parent.as_fd()).join(&aside)).map_err(gone)?;
        (self.interrupt)()?;
        spot.take(parent.as_raw_fd(), OsStr::new(&aside)).map_err(gone)
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
        let (parent, _) = match self.tree.spot(step.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            result => result?,
        };
        let aside = self.aside(number);
        let gone = || Ok(unlinkat(&parent, OsStr::new(&aside), UnlinkatFlags::NoRemoveDir)?);
        forget(in_spite_of_mode(parent.as_fd(), gone))
    }

    /// Gives a directory its mode and attributes, when nothing is put into it any more. False where
    /// the host has something else in its place.
    fn finish_directory(&mut self, step: &Step) -> io::Result<bool> {
        let State::Directory { attributes, mode } = &step.after else { return Ok(true) };
        let Some(found) = self.tree.look(step.path())? else { return Ok(false) };
        let state = State::of(Some(&found), None)?;
        if state.is_same(&step.after) {
            return Ok(true);
        }
        if !matches!(state, State::Directory { .. }) {
            return Ok(false);
        }
        (self.interrupt)()?;
        self.written.tried.insert(step.path().to_owned());
        set_attributes(&found, attributes)?;
        fs::set_permissions(behind(found.held.as_fd()), Permissions::from_mode(*mode))?;
        let now = Object::of(OwnedFd::from(found.held))?.changed();
        self.written.paths.insert(step.path().to_owned(), Some(now));
        Ok(true)
    }
}

/// Paths at which a directory takes the place of something else, or the other way round.
pub(super) fn turning(steps: &[Step]) -> BTreeSet<PathBuf> {
    let turns =
        |it: &&Step| half_done(it) && it.before != State::Absent && it.after != State::Absent;
    steps.iter().filter(turns).map(|it| it.path().to_owned()).collect()
}

/// What one meets in a tree that somebody else changes at the same time.
fn is_by_the_host(error: &io::Error) -> bool {
    use io::ErrorKind::{DirectoryNotEmpty, IsADirectory, NotADirectory};
    matches!(error.kind(), DirectoryNotEmpty | IsADirectory | NotADirectory)
        || matches!(error.get_ref(), Some(it) if it.is::<ByTheHost>())
}

/// Where one step is carried out.
#[derive(Clone, Copy)]
struct Spot<'a> {
    parent: &'a OwnedFd,
    name: &'a CString,
    /// Of the step.
    number: usize,
    /// Of what was found there; nothing if nothing was.
    at: Option<Stamp>,
}

impl Spot<'_> {
    fn found(&self) -> io::Result<Option<Stamp>> {
        let found = look_in(self.parent.as_fd(), OsStr::from_bytes(self.name.to_bytes()))?;
        Ok(found.map(|it| it.stamp()))
    }

    /// The host may have written to it since, and would lose that. What it does between this look and
    /// the call after it is lost: no call of the kernel's compares and replaces.
    fn is_as_found(&self) -> io::Result<()> {
        if self.found()? == self.at { Ok(()) } else { Err(by_the_host()) }
    }

    /// Gives it what rung has made at another name; what comes to be where nothing was stays. Returns when
    /// that last changed, unless somebody else writes to it already.
    fn take(&self, from: RawFd, made: &OsStr) -> io::Result<Option<Moment>> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made = &c_string(made)?;
        let object = Object::of(descriptor::open_at(from, made, flags.bits(), 0)?)?;
        self.is_as_found()?;
        let parent = self.parent.as_raw_fd();
        let over = || descriptor::rename(from, made, parent, self.name);
        let result = match self.at {
            Some(_) => over(),
            None => match descriptor::rename_new(from, made, parent, self.name) {
                // Not every file system can promise that (rename(2)).
                Err(Errno::EINVAL) => over(),
                Err(Errno::EEXIST) => return Err(by_the_host()),
                result => result,
            },
        };
        result?;
        let before = object.stamp().modified;
        let now = Object::of(OwnedFd::from(object.held))?.stamp();
        Ok((now.modified == before).then_some(now.changed))
    }
}

/// How far a step has come.
enum Progress {
    /// With the stamp of what is there, here and below.
    Done(Option<Stamp>),
    ToDo(Option<Stamp>),
    /// The host has put something else there.
    Foreign,
}

#[derive(Debug, thiserror::Error)]
#[error("somebody else has changed it")]
struct ByTheHost;

fn by_the_host() -> io::Error {
    io::Error::other(ByTheHost)
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

fn time(moment: Moment) -> SystemTime {
    let part = Duration::from_nanos(moment.nanoseconds.unsigned_abs());
    let whole = Duration::from_secs(moment.seconds.unsigned_abs());
    if moment.seconds < 0 { UNIX_EPOCH - whole + part } else { UNIX_EPOCH + whole + part }
}
