//! The forked probe: builds a throw-away sandbox step by step and reports each step.
//!
//! The child calls only `sys`, like the launcher's. What it makes vanishes with it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::model::Mechanism;
use crate::sys::process::{
    self, Child, NEW_CGROUP, NEW_IPC, NEW_MOUNT, NEW_NET, NEW_PID, NEW_USER, NEW_UTS,
};
use crate::sys::route::{self, Batch};
use crate::sys::seccomp::Instruction;
use crate::sys::{descriptor, landlock, mount, network, seccomp};

/// The probe itself could not be run, so nothing is known.
#[derive(Debug, thiserror::Error)]
#[error("probing this machine failed: {doing}: {errno}")]
pub struct ProbeError {
    doing: &'static str,
    errno: Errno,
}

/// Allows everything: what is probed is whether a filter can be loaded.
const ALLOW_ALL: [Instruction; 1] =
    [Instruction { code: 0x06, if_true: 0, if_false: 0, k: 0x7fff_0000 }];

struct Kit {
    report: OwnedFd,
    /// Closed by the parent when it has attached, so that the probe is still there then: both ends,
    /// of which the child needs the reading one.
    attached: (OwnedFd, OwnedFd),
    uid_map: Vec<u8>,
    gid_map: Vec<u8>,
    inner_uid_map: Vec<u8>,
    inner_gid_map: Vec<u8>,
    cable: Batch,
}

/// What trying gave: each mechanism, or the error number and the step that gave it.
pub(super) type Tried = BTreeMap<Mechanism, Result<(), Failure>>;

/// Where a mechanism stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Call {
        doing: &'static str,
        errno: Errno,
    },
    /// Not tried, because this one does not work.
    Needs(Mechanism),
}

/// Highest Landlock ABI, or why there is none.
pub(super) fn landlock_abi() -> Result<u32, Failure> {
    let doing = "asking for the version of Landlock";
    landlock::abi().map_err(|errno| Failure::Call { doing, errno })
}

/// Tries every mechanism but Landlock.
pub(super) fn mechanisms(uid: u32, gid: u32) -> Result<Tried, ProbeError> {
    let pipe = || descriptor::pipe().map_err(|errno| ProbeError { doing: "making a pipe", errno });
    let (reports, report) = pipe()?;
    let inner = |id: u32| if uid == 0 { 65_534 } else { id };
    let map = |inside: u32, outside: u32| format!("{inside} {outside} 1").into_bytes();
    let kit = Kit {
        report,
        attached: pipe()?,
        uid_map: map(inner(uid), uid),
        gid_map: map(inner(gid), gid),
        inner_uid_map: map(inner(uid), inner(uid)),
        inner_gid_map: map(inner(gid), inner(gid)),
        cable: Batch::of([route::cable()]),
    };
    let flags = NEW_USER | NEW_MOUNT | NEW_PID | NEW_NET | NEW_IPC | NEW_UTS | NEW_CGROUP;
    let forked = start(flags, None, &kit, child);
    let mut found = BTreeMap::new();
    match forked {
        Err(errno) => {
            let doing = "creating the namespaces";
            found.insert(Mechanism::UserNamespace, Err(Failure::Call { doing, errno }));
        }
        Ok(probe) => {
            found.insert(Mechanism::PidNamespace, Ok(()));
            let doing = "attaching to the probe";
            let traced = process::seize(probe.pid).map_err(|errno| Failure::Call { doing, errno });
            found.insert(Mechanism::Ptrace, traced);
            drop(kit);
            collect(&reports, &mut found)?;
            process::wait_for(probe.pid)
                .map_err(|errno| ProbeError { doing: "waiting for the probe", errno })?;
        }
    }
    for mechanism in Mechanism::ALL.into_iter().filter(|it| *it != Mechanism::Landlock) {
        if !found.contains_key(&mechanism) {
            let needed =
                foundations(mechanism).into_iter().find(|it| found.get(it) != Some(&Ok(())));
            let needed = needed.unwrap_or(Mechanism::UserNamespace);
            found.insert(mechanism, Err(Failure::Needs(needed)));
        }
    }
    Ok(found)
}

/// Starts a process that tries something. `child` calls only `sys`, as both in this module do.
pub(super) fn start<T>(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    kit: &T,
    child: fn(&T) -> !,
) -> Result<Child, Errno> {
    #[expect(unsafe_code, reason = "the only real fork")]
    // SAFETY: `child` calls only `sys`, and rung has one thread when it looks at the host.
    unsafe {
        process::fork(flags, cgroup, kit, child)
    }
}

/// What has to work before the mechanism can be tried, first things first.
fn foundations(mechanism: Mechanism) -> Vec<Mechanism> {
    let mut needed = vec![Mechanism::UserNamespace];
    match mechanism {
        Mechanism::NestedUserNamespace => needed.extend([Mechanism::Mount, Mechanism::Proc]),
        Mechanism::DetachedMounts
        | Mechanism::Devpts
        | Mechanism::Overlay
        | Mechanism::Loopback
        | Mechanism::Router
        | Mechanism::Proc => needed.push(Mechanism::Mount),
        Mechanism::UserNamespace
        | Mechanism::Mount
        | Mechanism::PidNamespace
        | Mechanism::Seccomp
        | Mechanism::SeccompNotify
        | Mechanism::Landlock
        | Mechanism::Ptrace => {}
    }
    needed
}

fn collect(reports: &OwnedFd, found: &mut Tried) -> Result<(), ProbeError> {
    let mut message = [0_u8; 2];
    loop {
        let count = descriptor::read(reports.as_fd(), &mut message)
            .map_err(|errno| ProbeError { doing: "listening to the probe", errno })?;
        let [number, errno] = message;
        if count == 0 {
            return Ok(());
        }
        let Some(mechanism) = Mechanism::ALL.get(usize::from(number)) else { continue };
        let result = match errno {
            0 => Ok(()),
            errno => Err(Failure::Call {
                doing: step(*mechanism),
                errno: Errno::from_raw(i32::from(errno)),
            }),
        };
        found.insert(*mechanism, result);
    }
}

/// What the child was doing for this mechanism.
fn step(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::UserNamespace => "mapping the user into the namespace",
        Mechanism::Mount => "mounting a tmpfs",
        Mechanism::DetachedMounts => "cloning the tree of mounts read-only",
        Mechanism::PidNamespace => "creating a pid namespace",
        Mechanism::Loopback => "bringing up lo",
        Mechanism::Proc => "mounting a fresh /proc",
        Mechanism::NestedUserNamespace => "creating a second user namespace",
        Mechanism::Seccomp => "loading a filter",
        Mechanism::SeccompNotify => "loading a filter that asks",
        Mechanism::Landlock => "asking for the version of Landlock",
        Mechanism::Ptrace => "attaching to the probe",
        Mechanism::Overlay => "mounting an overlay",
        Mechanism::Devpts => "mounting a fresh devpts",
        Mechanism::Router => "joining a second network namespace by veth",
    }
}

/// Tries the mechanisms in the order in which they stand on one another.
fn child(kit: &Kit) -> ! {
    let (attached, parents_end) = &kit.attached;
    let number = parents_end.as_raw_fd();
    // Nothing comes over it but its end. Without that, attaching may find nobody, and says so.
    if descriptor::close_between(number, number).is_ok() {
        _ = descriptor::read(attached.as_fd(), &mut [0]);
    }
    let said = |mechanism: Mechanism, result: Result<(), Errno>| -> bool {
        let number = Mechanism::ALL.iter().position(|it| *it == mechanism).unwrap_or(usize::MAX);
        let errno = result.map_or_else(|errno| errno as i32, |()| 0);
        let message =
            [u8::try_from(number).unwrap_or(u8::MAX), u8::try_from(errno).unwrap_or(u8::MAX)];
        // Without a listener there is nothing left to do.
        if descriptor::write_all(kit.report.as_fd(), &message).is_err() {
            process::exit_now(1);
        }
        errno == 0
    };
    if said(Mechanism::UserNamespace, map_ids(kit)) && said(Mechanism::Mount, mounts()) {
        let proc = mount::new_filesystem(c"proc", &[], 0);
        said(Mechanism::DetachedMounts, detached_mounts());
        said(Mechanism::Devpts, mount::new_filesystem(c"devpts", &[], 0).map(drop));
        said(Mechanism::Overlay, overlay());
        said(Mechanism::Loopback, network::loopback_up());
        said(Mechanism::Router, router(kit));
        if let Ok(proc) = &proc {
            said(Mechanism::NestedUserNamespace, nested(kit, proc));
        }
        said(Mechanism::Proc, proc.map(drop));
    }
    if process::no_new_privs().is_ok() {
        said(Mechanism::Seccomp, seccomp::load(&ALLOW_ALL));
        said(Mechanism::SeccompNotify, seccomp::load_listening(&ALLOW_ALL).map(drop));
    }
    process::exit_now(0)
}

fn map_ids(kit: &Kit) -> Result<(), Errno> {
    descriptor::put(descriptor::HERE, c"/proc/self/setgroups", b"deny")?;
    descriptor::put(descriptor::HERE, c"/proc/self/uid_map", &kit.uid_map)?;
    descriptor::put(descriptor::HERE, c"/proc/self/gid_map", &kit.gid_map)
}

fn mounts() -> Result<(), Errno> {
    mount::make_private()?;
    mount::new_filesystem(c"tmpfs", &[(c"size", Some(c"65536"))], 0).map(drop)
}

fn detached_mounts() -> Result<(), Errno> {
    let tree = mount::clone_tree(descriptor::HERE, c"/", true)?;
    mount::restrict(tree.as_raw_fd(), c"", mount::READ_ONLY | mount::NO_SETID, true)
}

/// An overlay whose three directories lie on a tmpfs, as a session's might.
fn overlay() -> Result<(), Errno> {
    let base = mount::new_filesystem(c"tmpfs", &[(c"size", Some(c"65536"))], 0)?;
    for name in [c"lower", c"upper", c"work"] {
        descriptor::make_directory(base.as_raw_fd(), name, 0o755)?;
    }
    // Overlay takes its directories by path only, so the tmpfs has to be somewhere.
    mount::attach(base.as_fd(), descriptor::HERE, c"/usr")?;
    let options = [
        (c"lowerdir", Some(c"/usr/lower")),
        (c"upperdir", Some(c"/usr/upper")),
        (c"workdir", Some(c"/usr/work")),
        (c"userxattr", None),
    ];
    mount::new_filesystem(c"overlay", &options, 0).map(drop)
}

/// As the launch makes it: the process, which is number 1, goes to the second one.
fn router(kit: &Kit) -> Result<(), Errno> {
    let first = network::configuration()?;
    process::unshare(NEW_NET)?;
    kit.cable.send(first.as_fd())
}

fn nested(kit: &Kit, proc: &OwnedFd) -> Result<(), Errno> {
    process::unshare(NEW_USER | NEW_MOUNT)?;
    descriptor::put(proc.as_raw_fd(), c"1/uid_map", &kit.inner_uid_map)?;
    descriptor::put(proc.as_raw_fd(), c"1/gid_map", &kit.inner_gid_map)
}
