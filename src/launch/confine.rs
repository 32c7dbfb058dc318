//! What the supervisor prepares for the walls inside: Landlock rulesets and init's filter.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use landlock::{
    AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, Scope,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use super::LaunchError;
use super::kit::HostRule;
use crate::model::{Arch, PathMap};
use crate::plan::LandlockPlan;
use crate::sys::descriptor;
use crate::sys::seccomp::Instruction;

/// A ruleset that handles exactly what the plan says, or an error: the library would otherwise
/// leave out what an older kernel does not know.
pub(super) fn ruleset(plan: &LandlockPlan) -> Result<RulesetCreated, LaunchError> {
    let wrong = |what: &str| LaunchError::FileRules(format!("{what} has a bit nobody knows"));
    let fs =
        BitFlags::<AccessFs>::from_bits(plan.handled.0).map_err(|_| wrong("the right mask"))?;
    let net = BitFlags::<AccessNet>::from_bits(plan.handled_net)
        .map_err(|_| wrong("the network mask"))?;
    let scope = BitFlags::<Scope>::from_bits(plan.scoped).map_err(|_| wrong("the scope mask"))?;
    let failed = |error: landlock::RulesetError| LaunchError::FileRules(error.to_string());
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    ruleset = ruleset.handle_access(fs).map_err(failed)?;
    if !net.is_empty() {
        ruleset = ruleset.handle_access(net).map_err(failed)?;
    }
    if !scope.is_empty() {
        ruleset = ruleset.scope(scope).map_err(failed)?;
    }
    ruleset.create().map_err(failed)
}

/// Init's own ruleset, which nothing is ever added to. Signals are not scoped: the command's
/// processes are in another domain, and init has to end them.
pub(super) fn init_ruleset(plan: &LandlockPlan) -> Result<RulesetCreated, LaunchError> {
    let scoped = plan.scoped & !BitFlags::from(Scope::Signal).bits();
    ruleset(&LandlockPlan { scoped, rules: PathMap::new(), ..*plan })
}

/// The descriptor of a ruleset, for the child.
pub(super) fn descriptor_of(ruleset: &RulesetCreated) -> Result<OwnedFd, LaunchError> {
    let copy = ruleset.try_clone().map_err(|error| LaunchError::FileRules(error.to_string()))?;
    Option::<OwnedFd>::from(copy)
        .ok_or_else(|| LaunchError::FileRules("the kernel gave no ruleset".to_owned()))
}

/// Adds the rules on host objects. A rule holds on to the object, not to the path, so it is the
/// same object in the view.
pub(super) fn add_host_rules(
    mut ruleset: RulesetCreated,
    rules: &[HostRule],
) -> Result<(), LaunchError> {
    for rule in rules {
        let failed = |error: &dyn std::fmt::Display| {
            LaunchError::FileRules(format!("`{}`: {error}", rule.source.display()))
        };
        let place = PathFd::new(&rule.source).map_err(|error| failed(&error))?;
        let found =
            descriptor::identity(place.as_fd().as_raw_fd(), c"").map_err(|errno| failed(&errno))?;
        if (found.device, found.inode) != (rule.device, rule.inode) {
            return Err(failed(&"it is not what it was when the plan was made"));
        }
        let rights = BitFlags::<AccessFs>::from_bits(rule.rights.0)
            .map_err(|_| failed(&"the right mask has a bit nobody knows"))?;
        ruleset =
            ruleset.add_rule(PathBeneath::new(place, rights)).map_err(|error| failed(&error))?;
    }
    Ok(())
}

/// Init's own filter: what its loop does, and nothing else. Anything else ends the sandbox.
pub(super) fn init_filter(arch: Arch) -> Result<Vec<Instruction>, LaunchError> {
    let allowed = [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_ppoll,
        libc::SYS_wait4,
        libc::SYS_kill,
        libc::SYS_ptrace,
        libc::SYS_getrusage,
        libc::SYS_statfs,
        libc::SYS_close_range,
        libc::SYS_restart_syscall,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> =
        allowed.into_iter().map(|number| (number, Vec::new())).collect();
    let arch = match arch {
        Arch::X86_64 => TargetArch::x86_64,
        Arch::Aarch64 => TargetArch::aarch64,
    };
    let failed = |error: &dyn std::fmt::Display| LaunchError::InitFilter(error.to_string());
    let filter = SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, arch)
        .map_err(|error| failed(&error))?;
    let program = BpfProgram::try_from(filter).map_err(|error| failed(&error))?;
    Ok(program
        .into_iter()
        .map(|it| Instruction { code: it.code, if_true: it.jt, if_false: it.jf, k: it.k })
        .collect())
}
