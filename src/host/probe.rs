//! The forked probe: builds a throw-away sandbox step by step and reports each step.
//!
//! The child calls only `sys`, like the launcher's. What it makes vanishes with it.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;

use crate::model::{Cause, Mechanism, Probe};
use crate::sys::process::{
    self, NEW_CGROUP, NEW_IPC, NEW_MOUNT, NEW_NET, NEW_PID, NEW_USER, NEW_UTS,
};
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
    uid_map: Vec<u8>,
    gid_map: Vec<u8>,
    inner_uid_map: Vec<u8>,
    inner_gid_map: Vec<u8>,
}

/// Highest Landlock ABI; 0 without Landlock.
pub(super) fn landlock_abi() -> u32 {
    landlock::abi().unwrap_or(0)
}

/// Tries every mechanism but Landlock.
pub(super) fn mechanisms(uid: u32, gid: u32) -> Result<BTreeMap<Mechanism, Probe>, ProbeError> {
    let (reports, report) =
        descriptor::pipe().map_err(|errno| ProbeError { doing: "making a pipe", errno })?;
    let inner = |id: u32| if uid == 0 { 65_534 } else { id };
    let map = |inside: u32, outside: u32| format!("{inside} {outside} 1").into_bytes();
    let kit = Kit {
        report,
        uid_map: map(inner(uid), uid),
        gid_map: map(inner(gid), gid),
        inner_uid_map: map(inner(uid), inner(uid)),
        inner_gid_map: map(inner(gid), inner(gid)),
    };
    let flags = NEW_USER | NEW_MOUNT | NEW_PID | NEW_NET | NEW_IPC | NEW_UTS | NEW_CGROUP;
    #[expect(unsafe_code, reason = "the probe is a fork like the launcher's")]
    // SAFETY: `child` calls only `sys`, and rung has one thread when it looks at the host.
    let forked = unsafe { process::fork(flags, &kit, child) };
    let mut found = BTreeMap::new();
    match forked {
        Err(errno) => {
            let failed = failure(Mechanism::UserNamespace, errno);
            found.insert(Mechanism::UserNamespace, failed);
        }
        Ok(probe) => {
            found.insert(Mechanism::PidNamespace, Probe::Works);
            let traced = process::seize(probe.pid)
                .map_or_else(|errno| failure(Mechanism::Ptrace, errno), |()| Probe::Works);
            found.insert(Mechanism::Ptrace, traced);
            drop(kit);
            collect(&reports, &mut found)?;
            process::wait_for(probe.pid)
                .map_err(|errno| ProbeError { doing: "waiting for the probe", errno })?;
        }
    }
    for mechanism in Mechanism::ALL {
        found.entry(mechanism).or_insert_with(|| Probe::Fails {
            cause: Cause::Needs,
            detail: "not reached, because something before it does not work".to_owned(),
        });
    }
    Ok(found)
}

fn collect(reports: &OwnedFd, found: &mut BTreeMap<Mechanism, Probe>) -> Result<(), ProbeError> {
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
            0 => Probe::Works,
            errno => failure(*mechanism, Errno::from_raw(i32::from(errno))),
        };
        found.insert(*mechanism, result);
    }
}

/// What an error of a mechanism means, as far as the number tells.
fn failure(mechanism: Mechanism, errno: Errno) -> Probe {
    let cause = match (mechanism, errno) {
        (_, Errno::ENOSYS) => Cause::KernelTooOld,
        (Mechanism::UserNamespace | Mechanism::NestedUserNamespace, Errno::ENOSPC) => {
            Cause::NamespaceLimit
        }
        (Mechanism::UserNamespace, Errno::EPERM | Errno::EINVAL) => Cause::NamespacesForbidden,
        (Mechanism::Mount | Mechanism::Loopback, Errno::EPERM | Errno::EACCES) => Cause::AppArmor,
        (Mechanism::Proc, Errno::EPERM) => Cause::MaskedProc,
        (Mechanism::Ptrace, Errno::EPERM) => Cause::Yama,
        _ => Cause::Unknown,
    };
    Probe::Fails { cause, detail: errno.to_string() }
}

/// Tries the mechanisms in the order in which they stand on one another.
fn child(kit: &Kit) -> ! {
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
    mount::new_filesystem(c"tmpfs", &[(c"size", c"65536")], 0).map(drop)
}

fn detached_mounts() -> Result<(), Errno> {
    let tree = mount::clone_tree(descriptor::HERE, c"/", true)?;
    mount::restrict(tree.as_raw_fd(), c"", mount::READ_ONLY | mount::NO_SETID, true)
}

/// An overlay whose three directories lie on a tmpfs, as a session's might.
fn overlay() -> Result<(), Errno> {
    let base = mount::new_filesystem(c"tmpfs", &[(c"size", c"65536")], 0)?;
    for name in [c"lower", c"upper", c"work"] {
        descriptor::make_directory(base.as_raw_fd(), name, 0o755)?;
    }
    // Overlay takes its directories by path only, so the tmpfs has to be somewhere.
    mount::attach(base.as_fd(), descriptor::HERE, c"/usr")?;
    let options =
        [(c"lowerdir", c"/usr/lower"), (c"upperdir", c"/usr/upper"), (c"workdir", c"/usr/work")];
    mount::new_filesystem(c"overlay", &options, 0).map(drop)
}

fn nested(kit: &Kit, proc: &OwnedFd) -> Result<(), Errno> {
    process::unshare(NEW_USER | NEW_MOUNT)?;
    descriptor::put(proc.as_raw_fd(), c"1/uid_map", &kit.inner_uid_map)?;
    descriptor::put(proc.as_raw_fd(), c"1/gid_map", &kit.inner_gid_map)
}
