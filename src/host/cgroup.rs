//! Finds a cgroup v2 directory in which every run can have limits of its own, by making one there.
//!
//! A directory with processes in it cannot give its children controllers (the rule against internal
//! processes, cgroups(7)), so the place for runs is beside rung's own directory and seldom in it.
//! Where rung is alone in a directory that was delegated to it, it moves into a leaf, and the place
//! is there. Which directory rung is in differs from terminal to terminal, so it is asked each time;
//! that a run's directory can be made in a place is tried once per boot and place.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};

use super::probe;
use crate::model::lies_in;
use crate::sys::{descriptor, process};

/// A mounted hierarchy that has the controllers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hierarchy {
    mount: PathBuf,
    /// Which of its directories lies at the mount point.
    root: PathBuf,
}

/// What a run's limits are kept by.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];
/// What is tried is not filled by anybody, so any numbers will do.
const TRIED: [(&std::ffi::CStr, &[u8]); 3] =
    [(c"memory.max", b"67108864"), (c"memory.oom.group", b"1"), (c"pids.max", b"64")];
/// Where rung goes when a directory is its own.
const LEAF: &str = "rung";

/// The hierarchy of this machine, if its controllers are not all version 1's.
pub(super) fn hierarchy() -> Option<Hierarchy> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    table.lines().filter_map(mounted).find(|it| gives(&it.mount.join("cgroup.controllers")))
}

/// One line of `/proc/self/mountinfo` (proc(5)), if it is a hierarchy's.
fn mounted(line: &str) -> Option<Hierarchy> {
    let (mount, kind) = line.split_once(" - ")?;
    if kind.split(' ').next() != Some("cgroup2") {
        return None;
    }
    let mut fields = mount.split(' ').skip(3);
    let (root, mount) = (fields.next()?, fields.next()?);
    // A blank is written as an escape; nobody mounts a hierarchy there.
    let plain = !root.contains('\\') && !mount.contains('\\');
    plain.then(|| Hierarchy { mount: mount.into(), root: root.into() })
}

/// Whether the file lists both controllers.
fn gives(file: &Path) -> bool {
    let Ok(text) = fs::read_to_string(file) else { return false };
    CONTROLLERS.iter().all(|wanted| text.split_ascii_whitespace().any(|it| it == *wanted))
}

/// The place for runs. `known` are those where a directory was made before.
pub(super) fn place(hierarchy: &Hierarchy, known: &[PathBuf]) -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = hierarchy.directory(&text)?;
    let parent = own.parent().filter(|it| lies_in(it, &hierarchy.mount));
    let beside = [parent, Some(own.as_path())].into_iter().flatten();
    let is_place = |it: &Path| {
        is_ours(it)
            && gives(&it.join("cgroup.subtree_control"))
            && (known.iter().any(|known| known == it) || takes_runs(it))
    };
    beside.into_iter().find(|it| is_place(it)).map(Path::to_path_buf).or_else(|| {
        (is_ours(&own) && move_into_leaf(&own) && takes_runs(&own)).then_some(own.clone())
    })
}

impl Hierarchy {
    /// The directory that `/proc/self/cgroup` says this process is in, if it is mounted.
    fn directory(&self, text: &str) -> Option<PathBuf> {
        let own = Path::new(text.lines().find_map(|it| it.strip_prefix("0::"))?);
        // Above the root of a cgroup namespace it begins with `/..`.
        let inside = own.strip_prefix(&self.root).ok().filter(|it| !it.starts_with(".."))?;
        Some(self.mount.join(inside).components().collect())
    }
}

fn is_ours(directory: &Path) -> bool {
    access(directory, AccessFlags::W_OK).is_ok()
        && access(&directory.join("cgroup.procs"), AccessFlags::W_OK).is_ok()
}

/// Makes a directory as a run gets it, starts a process in it, and removes it.
fn takes_runs(place: &Path) -> bool {
    let Ok(random) = process::random::<8>() else { return false };
    let tried = place.join(format!("rung-probe-{:016x}", u64::from_le_bytes(random)));
    if fs::create_dir(&tried).is_err() {
        return false;
    }
    let works = open(&tried).is_some_and(|directory| limits_hold(&directory));
    // What cannot be removed is seen by its owner; nothing is lost but a name.
    works & fs::remove_dir(&tried).is_ok()
}

fn open(directory: &Path) -> Option<OwnedFd> {
    let options = nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC;
    nix::fcntl::open(directory, options, nix::sys::stat::Mode::empty()).ok()
}

fn limits_hold(directory: &OwnedFd) -> bool {
    use std::os::fd::AsRawFd;
    let put = |name, text| descriptor::put(directory.as_raw_fd(), name, text).is_ok();
    if !TRIED.iter().all(|(name, text)| put(name, text)) {
        return false;
    }
    // Where the file is missing, only a machine without swap keeps the limit.
    if !put(c"memory.swap.max", b"0") && swaps() {
        return false;
    }
    let forked = probe::start(0, Some(directory.as_fd()), directory, leave);
    forked.is_ok_and(|it| process::wait_for(it.pid) == Ok(0))
}

fn leave(_: &OwnedFd) -> ! {
    process::exit_now(0)
}

/// Whether there is anywhere to swap to; also where that cannot be found out.
fn swaps() -> bool {
    fs::read_to_string("/proc/swaps").map_or(true, |text| text.lines().count() > 1)
}

/// If nobody else is in the directory, moves this process below it, so that the directory can give
/// its children controllers. Undone where that does not work.
fn move_into_leaf(own: &Path) -> bool {
    let id = std::process::id().to_string();
    let alone = fs::read_to_string(own.join("cgroup.procs")).is_ok_and(|it| it.trim() == id);
    if !alone || !gives(&own.join("cgroup.controllers")) {
        return false;
    }
    let leaf = own.join(LEAF);
    if fs::create_dir(&leaf).is_err() && !leaf.is_dir() {
        return false;
    }
    let enter = |directory: &Path| fs::write(directory.join("cgroup.procs"), &id).is_ok();
    let enabled = || {
        let wanted = CONTROLLERS.map(|it| format!("+{it}")).join(" ");
        fs::write(own.join("cgroup.subtree_control"), wanted).is_ok()
    };
    if enter(&leaf) && enabled() {
        return true;
    }
    if !enter(own) || fs::remove_dir(&leaf).is_err() {
        tracing::debug!(leaf = %leaf.display(), "cgroup not left");
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hierarchy_of_version_2_is_found_among_the_mounts() {
        let line = |kind: &str, root: &str| {
            format!(
                "31 24 0:27 {root} /sys/fs/cgroup/unified rw,nosuid shared:9 - {kind} cgroup2 rw"
            )
        };
        let found = Hierarchy { mount: "/sys/fs/cgroup/unified".into(), root: "/a".into() };
        assert_eq!(mounted(&line("cgroup2", "/a")), Some(found));
        assert_eq!(mounted(&line("cgroup", "/")), None);
        assert_eq!(mounted(&line("cgroup2", "/a\\040b")), None);
        assert_eq!(mounted("nonsense"), None);
    }

    #[test]
    fn rungs_own_directory_is_where_the_kernel_says() {
        let at = |root: &str| Hierarchy { mount: "/cg".into(), root: root.into() };
        for (root, text, directory) in [
            ("/", "0::/user.slice/x.scope\n", Some("/cg/user.slice/x.scope")),
            ("/", "4:memory:/\n0::/\n", Some("/cg")),
            ("/pod", "0::/pod/x\n", Some("/cg/x")),
            ("/pod", "0::/other\n", None),
            ("/", "0::/../outside\n", None),
            ("/", "8:pids:/x\n", None),
            ("/", "", None),
        ] {
            assert_eq!(at(root).directory(text), directory.map(PathBuf::from), "{root} {text}");
        }
    }
}
