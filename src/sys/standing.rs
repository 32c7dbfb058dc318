//! A process among the others, and whether one that somebody remembers is still there.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Errno, descriptor};

/// `/proc/PID/stat`, whose longest part is a name of 16 bytes.
const STAT_BYTES_MAX: usize = 1024;
/// A process that has been killed is gone sooner, unless the machine hangs.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(2);

/// What `/proc/PID/stat` says of a task's place among the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Ended, and kept only until somebody asks how.
    pub(crate) has_ended: bool,
    pub(crate) parent: i32,
    pub(crate) threads: u32,
    /// In ticks since boot: with it a number cannot be taken for the next task that gets it.
    pub(crate) started: u64,
}

impl Standing {
    pub(crate) fn of(task: i32) -> Result<Self, Errno> {
        let path = CString::new(format!("/proc/{task}/stat")).map_err(|_| Errno::EINVAL)?;
        let from = descriptor::open_at(descriptor::HERE, &path, libc::O_RDONLY, 0)?;
        let mut bytes = [0; STAT_BYTES_MAX];
        let count = descriptor::read(from.as_fd(), &mut bytes)?;
        parse(bytes.get(..count).unwrap_or_default()).ok_or(Errno::EBADMSG)
    }
}

/// The name in parentheses may hold anything, parentheses and spaces too.
fn parse(line: &[u8]) -> Option<Standing> {
    let end = line.iter().rposition(|it| *it == b')')?;
    let rest = std::str::from_utf8(line.get(end + 1..)?).ok()?;
    // Counted as proc(5) does, the first one here is the third.
    let mut fields = rest.split_ascii_whitespace();
    let has_ended = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let threads = fields.nth(15)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    Some(Standing { has_ended, parent, threads, started })
}

/// Pid 1 of a sandbox, as somebody remembers it who may outlive its supervisor. It is the last of its
/// processes: the kernel lets it end when the others have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Init {
    process: i32,
    started: u64,
}

impl Init {
    pub(crate) fn of(process: i32) -> Result<Self, Errno> {
        Ok(Self { process, started: Standing::of(process)?.started })
    }

    /// What cannot be told counts as still there.
    fn lives(self) -> bool {
        match Standing::of(self.process) {
            Ok(found) => found.started == self.started && !found.has_ended,
            Err(errno) => !matches!(errno, Errno::ENOENT | Errno::ESRCH),
        }
    }

    /// Gives it the moment that it takes to end behind its supervisor. False: it is still there.
    pub(crate) fn ends(self) -> bool {
        let until = Instant::now() + PATIENCE;
        while self.lives() {
            if Instant::now() > until {
                return false;
            }
            std::thread::sleep(PAUSE);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_forge_the_fields_behind_it() {
        let line = b"42 (a) S 1 (b) S) R 7 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 3 0 9001 0";
        let found = parse(line).unwrap();
        let expected = Standing { has_ended: false, parent: 7, threads: 3, started: 9001 };
        assert_eq!(found, expected);
        let ended = b"42 (a) Z 7 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 9001 0";
        assert!(parse(ended).unwrap().has_ended);
        assert_eq!(parse(b"42 (a) R 7"), None);
    }

    #[test]
    fn a_process_is_there_until_it_has_ended_whether_or_not_anybody_asks_how() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let init = Init::of(child.id().cast_signed()).unwrap();
        assert!(init.lives());
        assert!(!Init { started: init.started + 1, ..init }.lives(), "another of its number");
        child.kill().unwrap();
        assert!(init.ends(), "nobody has waited for it");
        child.wait().unwrap();
        assert!(!init.lives());
    }
}
