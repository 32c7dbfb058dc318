//! How much the processes of a run occupy, by looking.
//!
//! Without a cgroup nothing in the kernel adds up the memory of a process tree, so the supervisor
//! walks init's descendants a few times a second. Between two looks a run may overshoot; the plan
//! says so.

use std::fs;
use std::io;

/// Most processes looked at in one walk; more than any profile's limit.
const PROCESSES_MAX: u64 = 65_536;

/// What a look at the tree found, or the most that several looks did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Occupied {
    pub(super) processes: u64,
    /// Each thread of each process.
    pub(super) tasks: u64,
    pub(super) resident_bytes: u64,
    /// Of the process that has most.
    pub(super) open_files: u64,
}

impl Occupied {
    pub(super) fn most(self, other: Self) -> Self {
        Self {
            processes: self.processes.max(other.processes),
            tasks: self.tasks.max(other.tasks),
            resident_bytes: self.resident_bytes.max(other.resident_bytes),
            open_files: self.open_files.max(other.open_files),
        }
    }
}

/// Adds up `init` and all its descendants. Processes that end meanwhile count as nothing.
/// `files_max` is as far as open files are counted.
pub(super) fn occupied(init: i32, page_bytes: u64, files_max: u64) -> io::Result<Occupied> {
    let mut found = Occupied::default();
    let mut open = vec![init];
    while let Some(pid) = open.pop() {
        if found.processes >= PROCESSES_MAX {
            break;
        }
        let tasks = match fs::read_dir(format!("/proc/{pid}/task")) {
            Ok(tasks) => tasks,
            // Gone meanwhile; but if init itself cannot be looked at, nothing can be promised.
            Err(error) if pid == init => return Err(error),
            Err(_) => continue,
        };
        if pid != init {
            found.processes += 1;
            found.open_files = found.open_files.max(open_files(pid, files_max));
        }
        found.resident_bytes += resident_pages(pid).unwrap_or(0) * page_bytes;
        for task in tasks.flatten() {
            found.tasks += u64::from(pid != init);
            let Ok(children) = fs::read_to_string(task.path().join("children")) else { continue };
            open.extend(children.split_ascii_whitespace().filter_map(|it| it.parse::<i32>().ok()));
        }
    }
    Ok(found)
}

/// Second field of `/proc/PID/statm` (proc(5)).
fn resident_pages(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The size of `/proc/PID/fd` is how many there are, since Linux 6.2; before, they are counted.
fn open_files(pid: i32, most: u64) -> u64 {
    let directory = format!("/proc/{pid}/fd");
    match fs::metadata(&directory) {
        Ok(found) if found.len() > 0 => found.len(),
        Ok(_) => {
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let counted = fs::read_dir(&directory).map_or(0, |it| it.take(most).count());
            u64::try_from(counted).unwrap_or(u64::MAX)
        }
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_processes_open_files_are_counted() {
        let id = i32::try_from(std::process::id()).unwrap();
        let before = open_files(id, u64::MAX);
        let _more: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        assert!(open_files(id, u64::MAX) >= before + 50 - 10, "{before}");
    }
}
