//! How much the processes of a run occupy, by looking.
//!
//! Without a cgroup nothing in the kernel adds up the memory of a process tree, so the supervisor
//! walks init's descendants a few times a second. Between two looks a run may overshoot; the plan
//! says so.

use std::fs;
use std::io;

/// Most processes looked at in one walk; more than any profile's limit.
const PROCESSES_MAX: u64 = 65_536;

/// What a look at the tree found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Occupied {
    pub(super) processes: u64,
    pub(super) resident_bytes: u64,
}

/// Adds up `init` and all its descendants. Processes that end meanwhile count as nothing.
pub(super) fn occupied(init: i32, page_bytes: u64) -> io::Result<Occupied> {
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
        }
        found.resident_bytes += resident_pages(pid).unwrap_or(0) * page_bytes;
        for task in tasks.flatten() {
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
