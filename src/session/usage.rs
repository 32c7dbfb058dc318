//! How much the runs of a session have written, counted, so that a limit on it needs no root.
//!
//! While a run lives nothing in the kernel adds up what is in a layer. So it is looked at, at a
//! bounded price: every look goes a few steps further on a walk of the layer. What a walk cannot
//! see in time, the file system tells at once: as long as it has not lost what is left of the limit,
//! nobody can have written that much. Only when it has, the whole layer is counted in one go.
//!
//! What this does not see: files that are open and have no name any more, and what was written while
//! somebody else gave the same space back, until the walk has come around.

use std::fs::{self, ReadDir};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use nix::sys::statvfs::{Statvfs, fstatvfs};
use serde::{Deserialize, Serialize};

use super::place::{Sort, Tree, behind, look_in, opened_up};
use super::state::Moment;
use super::store::{Backend, Session};
use super::{SessionError, failed};
use crate::model::{Bytes, Count};

/// Entries of one look. A few milliseconds of work.
const STEPS: usize = 2_000;
/// What one look must not be longer than a fraction of: a count in one go is repeated after as
/// many times what it took.
const PAUSES: u32 = 20;
/// As deep as the changes of a session are followed.
const DEPTH_MAX: usize = super::changes::DEPTH_MAX;
/// A layer with fewer entries is counted at the end of every run, whatever the file system says.
const SMALL: u64 = 20_000;
/// What may be left uncounted at the end of a run: this part of what is left of the limit.
const UNCOUNTED_PART: u64 = 16;
const BLOCK_BYTES: u64 = 512;
/// The last count of a session, beside its layer.
const USED: &str = "used.json";

/// What a session may occupy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    pub bytes: Bytes,
    pub files: Count,
}

/// What it occupies, as far as it has been counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    pub bytes: u64,
    /// Everything that has a name: directories and what stands for a deletion count too.
    pub files: u64,
    /// Something lies deeper than anybody looks.
    pub too_deep: bool,
}

/// What is free in the file system of the layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Room {
    bytes: u64,
    files: u64,
}

/// A count, and what was free when it was made.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Counted {
    used: Used,
    room: Room,
}

/// Which part of a limit is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Bytes,
    Files,
    Depth,
}

impl Used {
    pub fn over(self, quota: Quota) -> Option<Over> {
        if self.too_deep {
            Some(Over::Depth)
        } else if self.bytes > quota.bytes.0 {
            Some(Over::Bytes)
        } else if self.files > quota.files.0 {
            Some(Over::Files)
        } else {
            None
        }
    }

    fn add(&mut self, facts: &fs::Metadata) {
        self.files += 1;
        // Each of its names bears its part.
        self.bytes += facts.blocks() * BLOCK_BYTES / facts.nlink().max(1);
    }
}

impl Room {
    fn of(facts: &Statvfs) -> Self {
        Self {
            bytes: facts.blocks_available() * facts.fragment_size(),
            // Some file systems make them as they are needed and say 0.
            files: facts.files_available(),
        }
    }

    /// Whether somebody may have written this much since then.
    fn lost(self, now: Self, bytes: u64, files: u64) -> bool {
        let lost_files = self.files > 0 && self.files.saturating_sub(now.files) > files;
        self.bytes.saturating_sub(now.bytes) > bytes || lost_files
    }
}

/// Counts what one layer holds, for as long as a run writes to it.
#[derive(Debug)]
pub struct Counter {
    tree: Tree,
    /// In a copy, what has not been touched since counts as nothing.
    copied: Option<Moment>,
    quota: Quota,
    last: Counted,
    walk: Walk,
    whole_after: Instant,
}

impl Counter {
    /// Begins with what is known of the session, which is counted if nothing is.
    pub fn new(session: &Session, quota: Quota) -> Result<Self, SessionError> {
        let written = session.written();
        let tree = Tree::open(&written).map_err(failed("opening", &written))?;
        let copied = session.manifest.copied;
        let nothing = Counted { used: Used::default(), room: Room { bytes: 0, files: 0 } };
        let mut counter =
            Self { tree, copied, quota, last: nothing, walk: Walk::none(), whole_after: now() };
        match session.take_counted()? {
            Some(counted) => counter.last = counted,
            None => counter.count().map_err(failed("counting", &written))?,
        }
        Ok(counter)
    }

    pub fn used(&self) -> Used {
        self.last.used
    }

    pub fn over(&self) -> Option<Over> {
        self.last.used.over(self.quota)
    }

    /// One look, during a run.
    pub fn look(&mut self) -> io::Result<Option<Over>> {
        let now = self.room()?;
        let Used { bytes, files, .. } = self.last.used;
        let left =
            (self.quota.bytes.0.saturating_sub(bytes), self.quota.files.0.saturating_sub(files));
        if self.last.room.lost(now, left.0, left.1) && self::now() >= self.whole_after {
            self.count()?;
            return Ok(self.over());
        }
        if self.walk.is_over() {
            self.walk = Walk::of(&self.tree)?;
        }
        if !self.walk.go_on(STEPS, self.copied, false)? {
            return Ok(None);
        }
        let used = self.walk.used;
        if used.over(self.quota).is_some() {
            // What was moved meanwhile may have been met twice.
            self.count()?;
            return Ok(self.over());
        }
        self.last = Counted { used, room: now };
        Ok(None)
    }

    /// At the end of a run: remembers how much there is.
    pub fn finish(&mut self, session: &Session) -> Result<(), SessionError> {
        let written = session.written();
        let counting = |error| failed("counting", &written)(error);
        let Used { bytes, files, .. } = self.last.used;
        let part = |max: u64, used: u64| max.saturating_sub(used) / UNCOUNTED_PART;
        let (bytes, much) = (part(self.quota.bytes.0, bytes), part(self.quota.files.0, files));
        let now = self.room().map_err(counting)?;
        if files < SMALL || self.last.room.lost(now, bytes, much) {
            self.count().map_err(counting)?;
        }
        session.set_counted(&self.last)
    }

    fn count(&mut self) -> io::Result<()> {
        let (begin, room) = (now(), self.room()?);
        self.last = Counted { used: whole(&self.tree, self.copied)?, room };
        self.walk = Walk::none();
        let took = now().saturating_duration_since(begin);
        self.whole_after = now() + (took * PAUSES).min(Duration::from_secs(60));
        Ok(())
    }

    fn room(&self) -> io::Result<Room> {
        Ok(Room::of(&fstatvfs(&self.tree.root)?))
    }
}

fn whole(tree: &Tree, copied: Option<Moment>) -> io::Result<Used> {
    let mut walk = Walk::of(tree)?;
    while !walk.go_on(STEPS, copied, true)? {}
    Ok(walk.used)
}

fn now() -> Instant {
    Instant::now()
}

/// A walk that can stop anywhere and go on.
#[derive(Debug)]
struct Walk {
    open: Vec<(OwnedFd, ReadDir)>,
    used: Used,
    /// Directories above the one it began with.
    above: usize,
}

impl Walk {
    fn none() -> Self {
        Self { open: Vec::new(), used: Used::default(), above: 0 }
    }

    fn of(tree: &Tree) -> io::Result<Self> {
        let root = tree.root.try_clone()?;
        let names = fs::read_dir(behind(root.as_fd()))?;
        Ok(Self { open: vec![(root, names)], used: Used::default(), above: 0 })
    }

    fn is_over(&self) -> bool {
        self.open.is_empty()
    }

    /// So many entries further; whether that was the last one. What a run has closed to its own user
    /// is passed over, unless `all` is to be counted.
    fn go_on(&mut self, steps: usize, copied: Option<Moment>, all: bool) -> io::Result<bool> {
        for _ in 0..steps {
            let depth = self.above + self.open.len();
            let Some((directory, names)) = self.open.last_mut() else { return Ok(true) };
            let Some(entry) = names.next() else {
                self.open.pop();
                continue;
            };
            let Ok(entry) = entry else { continue };
            // What vanishes meanwhile is nothing.
            let Ok(facts) = entry.metadata() else { continue };
            if copied.is_none_or(|it| Moment::changed(&facts) > it) {
                self.used.add(&facts);
            }
            if !facts.is_dir() {
                continue;
            }
            if depth >= DEPTH_MAX {
                self.used.too_deep = true;
                continue;
            }
            let found = match look_in(directory.as_fd(), &entry.file_name()) {
                Ok(Some(found)) if found.sort() == Sort::Directory => OwnedFd::from(found.held),
                Ok(_) => continue,
                Err(error) => return Err(error),
            };
            let read = || fs::read_dir(behind(found.as_fd()));
            match read() {
                Ok(names) => self.open.push((found, names)),
                Err(_) if !all => {}
                Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
                    let below = opened_up(found.as_fd(), || {
                        let open = vec![(found.try_clone()?, read()?)];
                        let mut walk = Self { open, used: Used::default(), above: depth };
                        while !walk.go_on(STEPS, copied, true)? {}
                        Ok(walk.used)
                    })?;
                    self.used.bytes += below.bytes;
                    self.used.files += below.files;
                    self.used.too_deep |= below.too_deep;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

impl Session {
    /// What its layer holds, counted now.
    pub fn used(&self) -> Result<Used, SessionError> {
        if matches!(self.manifest.backend, Backend::Worktree { .. }) {
            return Ok(Used::default());
        }
        let written = self.written();
        let tree = Tree::open(&written).map_err(failed("opening", &written))?;
        whole(&tree, self.manifest.copied).map_err(failed("counting", &written))
    }

    /// The last count, if no run has written since. It is taken away: whoever writes now and is
    /// killed leaves none behind.
    fn take_counted(&self) -> Result<Option<Counted>, SessionError> {
        let path = self.directory.join(USED);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result.map_err(failed("reading", &path))?,
        };
        fs::remove_file(&path).map_err(failed("removing", &path))?;
        // What is damaged is counted again.
        Ok(serde_json::from_slice(&text).ok())
    }

    /// What it holds is counted anew before the next run.
    pub(super) fn forget_counted(&self) -> Result<(), SessionError> {
        self.take_counted().map(drop)
    }

    fn set_counted(&self, counted: &Counted) -> Result<(), SessionError> {
        let path = self.directory.join(USED);
        let text = serde_json::to_vec(counted).map_err(|it| failed("writing", &path)(it.into()))?;
        fs::write(&path, text).map_err(failed("writing", &path))
    }
}
