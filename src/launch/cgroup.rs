//! The cgroup of one run: the kernel keeps its memory and its processes, and says when it had to.
//!
//! Only the command's process is started in it. Init is not: it shares the supervisor's memory, and
//! whoever is killed for want of memory takes along everybody with the same one. The directory is
//! locked for as long as its supervisor lives, so what a killed one left behind is told from what is
//! in use, and the next run removes it.

use std::ffi::{CStr, OsStr};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::LaunchError;
use crate::plan::LimitPlan;
use crate::sys::{descriptor, process};

/// Every run's directory begins with it.
const PREFIX: &str = "rung-run-";
/// Directories looked at for what a killed supervisor left.
const SWEPT_MAX: usize = 4096;
/// A file of the kernel with a few numbers in it.
const TEXT_BYTES_MAX: u64 = 4096;
/// How often a sweep may take away what was just made and not locked yet.
const ATTEMPTS: usize = 4;

/// The directory of this run, removed when it is dropped.
#[derive(Debug)]
pub(super) struct Cgroup {
    path: PathBuf,
    directory: Flock<File>,
}

/// What the kernel had to do to keep the limits.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fired {
    /// Processes killed for want of memory.
    pub(super) killed: u64,
    /// Unknown before Linux 5.19.
    pub(super) memory_peak: Option<u64>,
    /// Forks that this directory's own limit refused.
    pub(super) forks: u64,
    /// Unknown before Linux 6.9.
    pub(super) processes_peak: Option<u64>,
}

impl Cgroup {
    /// A new directory in `place`, with the limits of the plan.
    pub(super) fn make(place: &Path, limits: &LimitPlan) -> Result<Self, LaunchError> {
        sweep(place);
        for _ in 0..ATTEMPTS {
            if let Some(made) = Self::make_locked(place)? {
                made.set(limits)?;
                return Ok(made);
            }
        }
        Err(failed("locking the run's directory in", place, Errno::EAGAIN))
    }

    /// Nothing where a sweep of another run came between.
    fn make_locked(place: &Path) -> Result<Option<Self>, LaunchError> {
        let at = |doing, path: &Path, error: std::io::Error| {
            failed(doing, path, Errno::try_from(error).unwrap_or(Errno::EIO))
        };
        let random: [u8; 8] = process::random()
            .map_err(|errno| failed("naming the run's directory in", place, errno))?;
        let path = place.join(format!("{PREFIX}{:016x}", u64::from_le_bytes(random)));
        fs::create_dir(&path).map_err(|error| at("making the run's directory", &path, error))?;
        let lock = File::open(&path)
            .ok()
            .and_then(|directory| Flock::lock(directory, FlockArg::LockExclusiveNonblock).ok());
        let Some(directory) = lock else { return Ok(None) };
        // A directory that has been removed can be locked and filled no less.
        if !path.exists() {
            return Ok(None);
        }
        Ok(Some(Self { path, directory }))
    }

    fn set(&self, limits: &LimitPlan) -> Result<(), LaunchError> {
        let put = |name: &CStr, value: &str| {
            match descriptor::put(self.directory.as_raw_fd(), name, value.as_bytes()) {
                // Without swap there is nothing to forbid; the host has looked.
                Err(Errno::ENOENT) if name == c"memory.swap.max" => Ok(()),
                result => result.map_err(|errno| {
                    failed(
                        "setting a limit of",
                        &self.path.join(name.to_string_lossy().as_ref()),
                        errno,
                    )
                }),
            }
        };
        put(c"memory.max", &limits.memory.max.0.to_string())?;
        put(c"memory.swap.max", "0")?;
        // All of the run, so that it does not go on without a part of itself.
        put(c"memory.oom.group", "1")?;
        put(c"pids.max", &limits.processes.max.0.to_string())
    }

    /// The directory, for init to start the command's process in.
    pub(super) fn copy(&self) -> Result<OwnedFd, LaunchError> {
        self.directory.as_fd().try_clone_to_owned().map_err(|error| {
            failed("using", &self.path, Errno::try_from(error).unwrap_or(Errno::EIO))
        })
    }

    /// Ends everybody in it. Linux 5.14; before, the end of init does it alone.
    pub(super) fn kill(&self) {
        _ = descriptor::put(self.directory.as_raw_fd(), c"cgroup.kill", b"1");
    }

    pub(super) fn fired(&self) -> Fired {
        let number = |name: &str| self.read(name)?.trim().parse().ok();
        let (memory, forks) = (self.read("memory.events"), self.read("pids.events"));
        let count = |text: Option<&String>, key| text.and_then(|it| value_of(it, key)).unwrap_or(0);
        Fired {
            killed: count(memory.as_ref(), "oom_kill"),
            memory_peak: number("memory.peak"),
            forks: count(forks.as_ref(), "max"),
            processes_peak: number("pids.peak"),
        }
    }

    fn read(&self, name: &str) -> Option<String> {
        let mut text = String::new();
        let file = File::open(self.path.join(name)).ok()?;
        file.take(TEXT_BYTES_MAX).read_to_string(&mut text).ok()?;
        Some(text)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Init has been waited for, so nobody is in it. Whatever else keeps it, the next run's sweep
        // finds it unlocked.
        if let Err(error) = fs::remove_dir(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "cgroup not removed");
        }
    }
}

/// Removes the directories that nobody holds. One that is not empty stays: its processes are being
/// killed, by init's end.
fn sweep(place: &Path) {
    let Ok(entries) = fs::read_dir(place) else { return };
    for entry in entries.take(SWEPT_MAX).flatten() {
        if is_runs(&entry.file_name())
            && let Ok(directory) = File::open(entry.path())
            && let Ok(_held) = Flock::lock(directory, FlockArg::LockExclusiveNonblock)
            && let Err(error) = fs::remove_dir(entry.path())
        {
            tracing::debug!(path = %entry.path().display(), %error, "old cgroup not removed");
        }
    }
}

fn is_runs(name: &OsStr) -> bool {
    name.to_str().is_some_and(|it| it.starts_with(PREFIX))
}

/// The value in a flat keyed file (cgroups, `cgroup-v2.rst`).
fn value_of(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|it| it.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn failed(doing: &'static str, path: &Path, errno: Errno) -> LaunchError {
    LaunchError::Cgroup { doing, path: path.to_owned(), errno }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_whole_key() {
        let text = "low 0\nhigh 3\nmax 17\noom 2\noom_kill 1\noom_group_kill 4\n";
        for (key, value) in [
            ("max", Some(17)),
            ("oom", Some(2)),
            ("oom_kill", Some(1)),
            ("oom_", None),
            ("x", None),
        ] {
            assert_eq!(value_of(text, key), value, "{key}");
        }
        assert_eq!(value_of("max many\n", "max"), None);
    }

    /// On any file system: nothing here is a cgroup's alone.
    #[test]
    fn only_what_nobody_holds_is_swept() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        for name in ["rung-run-left", "rung-run-held", "rung-run-full", "rung", "other"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::create_dir(path("rung-run-full/below")).unwrap();
        let held = File::open(path("rung-run-held")).unwrap();
        let _held = Flock::lock(held, FlockArg::LockExclusiveNonblock).unwrap();
        sweep(place.path());
        let mut left: Vec<_> =
            fs::read_dir(place.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["other", "rung", "rung-run-full", "rung-run-held"]);
    }
}
