//! What this host cannot keep of what the plan promises.
//!
//! Most of the sandbox has no second way to be built: without namespaces, mounts or the filter
//! there is no plan, whatever the profile accepts. Landlock says again what the mounts say, and the
//! exec gate narrows what the sandbox holds anyway; there the profile decides.

use serde::Serialize;

use super::landlock::usable_abi;
use super::{Gap, Gate, PlanError};
use crate::model::{Cause, HostFacts, Mechanism, Probe};
use crate::profile::{OnGap, Profile, WorkspaceMode};

/// What every view, namespace and filter is built from: what it keeps, and what would be lost.
const ESSENTIAL: [(Mechanism, &str, &str); 9] = [
    (
        Mechanism::UserNamespace,
        "the command is isolated without root",
        "nothing can be isolated without root",
    ),
    (
        Mechanism::Mount,
        "the command sees only the files that its profile names",
        "the command would see and reach the whole file system",
    ),
    (
        Mechanism::DetachedMounts,
        "what is read-only is read-only all the way down",
        "read-only trees could hold writable mounts",
    ),
    (
        Mechanism::PidNamespace,
        "no process of the run outlives it or reaches others",
        "processes of the run could outlive it and reach others",
    ),
    (
        Mechanism::Loopback,
        "the command has no network but its own",
        "the command would share the host's network",
    ),
    (
        Mechanism::Proc,
        "the command sees no processes but its own",
        "the command would see the processes of others, or none of its own",
    ),
    (
        Mechanism::NestedUserNamespace,
        "the command cannot undo its own mounts",
        "the command could undo its own mounts",
    ),
    (
        Mechanism::Seccomp,
        "system calls that the level does not need are closed",
        "every system call of the kernel would be open to the command",
    ),
    (
        Mechanism::Devpts,
        "the command reaches no terminal but its own",
        "the command would reach terminals of others, or none",
    ),
];

/// What the exec gate is built from: how it learns of an exec, and how it makes sure of it.
const GATE: [(Mechanism, &str, &str); 2] = [
    (
        Mechanism::SeccompNotify,
        "every program that is started is decided like the command itself",
        "only the command itself is decided; what it starts is held by the sandbox alone",
    ),
    (
        Mechanism::Ptrace,
        "what is decided about a program is what runs, whatever is changed meanwhile",
        "only the command itself is decided, because nobody can make sure of what it starts",
    ),
];

/// What the way out is kept apart by, where there is one.
const ROUTER: (Mechanism, &str, &str) = (
    Mechanism::Router,
    "the way out lies in a network namespace that nobody is in",
    "the way out lies in the run's own network namespace: no server of the run can have a port that \
     a destination lists, and a server at another port answers for every address inside",
);

/// Whether this host can have the exec gate: one half of it would decide about what can still be
/// changed.
pub fn gate(host: &HostFacts) -> Gate {
    if GATE.iter().all(|(mechanism, ..)| host.works(*mechanism)) {
        Gate::With
    } else {
        Gate::Without
    }
}

/// Something that a level promises, and whether this host keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Promise {
    pub mechanism: Mechanism,
    /// What holds while it is kept.
    pub promise: &'static str,
    pub state: PromiseState,
    /// What is lost, why, and what would mend it; absent while it is kept.
    pub gap: Option<Gap>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromiseState {
    Kept,
    /// Runs go on without it, because the profile accepts that.
    Degraded,
    /// Nothing runs at this level.
    Missing,
}

/// Every promise of a level's sandbox, as far as it depends on the host.
pub fn promises(profile: &Profile, host: &HostFacts) -> Vec<Promise> {
    let filesystem = &profile.filesystem;
    let writes =
        filesystem.workspace.mode != WorkspaceMode::ReadOnly || !filesystem.write.is_empty();
    let second_wall = if usable_abi(host, writes) == 0 { landlock(host) } else { None };
    let state = |gap: &Option<Gap>| match gap {
        None => PromiseState::Kept,
        Some(gap) if gap.essential || profile.on_gap == OnGap::Refuse => PromiseState::Missing,
        Some(_) => PromiseState::Degraded,
    };
    let mut promises: Vec<Promise> = ESSENTIAL
        .iter()
        .map(|(mechanism, promise, lost)| {
            let gap = missing(host, *mechanism, lost, true);
            Promise { mechanism: *mechanism, promise, state: state(&gap), gap }
        })
        .collect();
    promises.extend(GATE.iter().map(|(mechanism, promise, lost)| {
        let gap = missing(host, *mechanism, lost, false);
        Promise { mechanism: *mechanism, promise, state: state(&gap), gap }
    }));
    if !profile.network.destinations.is_empty() {
        let (mechanism, promise, _) = ROUTER;
        let gap = router(host);
        promises.push(Promise { mechanism, promise, state: state(&gap), gap });
    }
    promises.push(Promise {
        mechanism: Mechanism::Landlock,
        promise: "the file rules are kept twice: by the mounts and by Landlock",
        state: state(&second_wall),
        gap: second_wall,
    });
    promises
}

/// The gaps that the profile accepts; an error if there is one it does not, or cannot.
pub(super) fn accepted(
    profile: &Profile,
    host: &HostFacts,
    landlock_abi: u32,
) -> Result<Vec<Gap>, PlanError> {
    let mut gaps: Vec<Gap> = ESSENTIAL
        .iter()
        .filter_map(|(mechanism, _, lost)| missing(host, *mechanism, lost, true))
        .collect();
    gaps.extend(GATE.iter().filter_map(|(it, _, lost)| missing(host, *it, lost, false)));
    if !profile.network.destinations.is_empty() {
        gaps.extend(router(host));
    }
    if landlock_abi == 0 {
        gaps.extend(landlock(host));
    }
    let refused = profile.on_gap == OnGap::Refuse || gaps.iter().any(|gap| gap.essential);
    if refused && !gaps.is_empty() {
        return Err(PlanError::Gaps { level: profile.level, gaps });
    }
    Ok(gaps)
}

fn missing(host: &HostFacts, mechanism: Mechanism, promise: &str, essential: bool) -> Option<Gap> {
    let (cause, fix) = match host.probes.get(&mechanism) {
        Some(Probe::Works) => return None,
        Some(Probe::Fails { cause, detail }) => {
            let (text, fix) = words(*cause, mechanism);
            (format!("{text} ({detail})"), fix.to_owned())
        }
        None => {
            ("it was not tried on this host".to_owned(), "run `rung doctor` to try it".to_owned())
        }
    };
    Some(Gap { mechanism, promise: promise.to_owned(), cause, fix, essential })
}

/// The cause in words, and what mends it.
fn words(cause: Cause, mechanism: Mechanism) -> (&'static str, &'static str) {
    match cause {
        Cause::KernelTooOld if mechanism == Mechanism::Landlock => {
            ("the kernel has no Landlock or does not load it", LANDLOCK_FIX)
        }
        Cause::KernelTooOld => {
            ("the kernel lacks it", "use Linux 5.12 or newer; 6.2 or newer keeps every promise")
        }
        Cause::NoVeth => (
            "the kernel has no devices of the kind veth",
            "load them: `modprobe veth`, or use a kernel with `CONFIG_VETH`",
        ),
        Cause::NamespaceLimit if mechanism == Mechanism::Router => (
            "the limit of network namespaces is used up",
            "raise it: `sysctl user.max_net_namespaces=15000`",
        ),
        Cause::NamespaceLimit => (
            "the limit of namespaces is 0 or used up",
            "raise it: `sysctl user.max_user_namespaces=15000`",
        ),
        Cause::NamespacesForbidden => (
            "creating a namespace is refused",
            "set `sysctl kernel.unprivileged_userns_clone=1`; leave a chroot; in a user namespace, \
             map the user that runs rung",
        ),
        Cause::OuterFilter => (
            "a seccomp filter around rung refuses it",
            "start the container with a seccomp profile that allows `clone3`, `unshare`, `mount` \
             and their kin: `--security-opt seccomp=FILE`, or `unconfined` where the host trusts it",
        ),
        Cause::AppArmor => (
            "AppArmor takes all power from user namespaces of unprivileged programs",
            "install the AppArmor profile that `rung doctor` prints",
        ),
        Cause::MaskedProc => (
            "part of /proc is mounted over, so the kernel refuses a fresh one",
            "start the container with an unmasked /proc (`--security-opt systempaths=unconfined`)",
        ),
        Cause::Yama => (
            "Yama forbids tracing",
            "set `sysctl kernel.yama.ptrace_scope=2` or lower, which needs a restart from 3",
        ),
        Cause::Needs => {
            ("something it stands on does not work here", "mend the mechanism named with it")
        }
        Cause::Unknown => ("the kernel refuses it", "run `rung doctor` for the details"),
    }
}

const LANDLOCK_FIX: &str = "use Linux 5.19 or newer with `landlock` in the `lsm=` list, or set \
                            `on_gap = \"allow\"` in the profile: the mounts keep the same promise \
                            alone";

fn router(host: &HostFacts) -> Option<Gap> {
    let (mechanism, _, lost) = ROUTER;
    let gap = missing(host, mechanism, lost, false)?;
    let fix = format!(
        "{}; or list no destination; or set `on_gap = \"allow\"` in the profile: what may be \
         reached stays the same",
        gap.fix
    );
    Some(Gap { fix, ..gap })
}

fn landlock(host: &HostFacts) -> Option<Gap> {
    let promise = "the file rules are kept by the mounts alone, without Landlock as a second wall";
    if !host.works(Mechanism::Landlock) {
        let gap = missing(host, Mechanism::Landlock, promise, false)?;
        return Some(Gap { fix: LANDLOCK_FIX.to_owned(), ..gap });
    }
    Some(Gap {
        mechanism: Mechanism::Landlock,
        promise: promise.to_owned(),
        cause: format!(
            "Landlock ABI {} of Linux {} forbids every rename between directories",
            host.landlock_abi, host.kernel
        ),
        fix: LANDLOCK_FIX.to_owned(),
        essential: false,
    })
}
