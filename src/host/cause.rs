//! Why a mechanism does not work here, and by what one can tell.
//!
//! That something fails is known by trying. Why is a guess from the error number, unless more is
//! looked at: the switches of distributions, the filter around rung, what lies on top of `/proc`.
//! [`Evidence`] is that look; [`explain`] is a pure reading of it.

use std::fs;

use nix::errno::Errno;

use crate::model::{Cause, Mechanism, Probe};
use crate::sys::process;

/// What explains a failure. Gathered only when there is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "observations that do not depend on one another")]
pub(super) struct Evidence {
    /// Major and minor number of the kernel.
    pub(super) kernel: (u32, u32),
    pub(super) root: bool,
    /// A seccomp filter is in force for rung itself.
    pub(super) filtered: bool,
    /// Even a meaningless `clone3` is refused, which only a filter does.
    pub(super) clone3_filtered: bool,
    /// The `user.max_*_namespaces` that is 0.
    pub(super) limit: Option<String>,
    /// `kernel.unprivileged_userns_clone` is 0.
    pub(super) switched_off: bool,
    /// `kernel.apparmor_restrict_unprivileged_userns` is 1.
    pub(super) apparmor: bool,
    /// This process is in a user namespace that does not know its id.
    pub(super) unmapped: bool,
    /// `kernel.yama.ptrace_scope` is 3.
    pub(super) yama: bool,
    /// What is mounted below `/proc`.
    pub(super) covered: Option<String>,
}

/// The limits on namespaces, one sysctl each.
const LIMITS: [&str; 7] = [
    "max_user_namespaces",
    "max_mnt_namespaces",
    "max_pid_namespaces",
    "max_net_namespaces",
    "max_ipc_namespaces",
    "max_uts_namespaces",
    "max_cgroup_namespaces",
];

impl Evidence {
    pub(super) fn gather(kernel: &str) -> Self {
        let status = read("/proc/self/status");
        let limit = LIMITS.into_iter().find(|it| read(&format!("/proc/sys/user/{it}")) == "0");
        Self {
            kernel: version(kernel),
            root: nix::unistd::geteuid().is_root(),
            filtered: status.lines().any(|it| it.starts_with("Seccomp:") && it.ends_with('2')),
            clone3_filtered: process::clone3_is_refused(),
            limit: limit.map(|it| format!("user.{it}")),
            switched_off: read("/proc/sys/kernel/unprivileged_userns_clone") == "0",
            apparmor: read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1",
            unmapped: fs::read_to_string("/proc/self/uid_map").is_ok_and(|it| it.is_empty()),
            yama: read("/proc/sys/kernel/yama/ptrace_scope") == "3",
            covered: covered(&read("/proc/self/mountinfo")),
        }
    }
}

/// Empty where it cannot be read: then it is no evidence.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim_end().to_owned()
}

/// `6.12` of `6.12.3-amd64`.
fn version(kernel: &str) -> (u32, u32) {
    let mut numbers =
        kernel.split(|it: char| !it.is_ascii_digit()).map(|it| it.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The first mount below `/proc` in a text like `/proc/self/mountinfo`.
fn covered(mounts: &str) -> Option<String> {
    let places = mounts.lines().filter_map(|it| it.split(' ').nth(4));
    let mut covering = places.filter(|it| it.starts_with("/proc/"));
    // A filesystem of its own that every system has there, and that hides nothing.
    covering.find(|it| *it != "/proc/sys/fs/binfmt_misc").map(str::to_owned)
}

/// The first kernel that has all of what the mechanism needs.
fn since(mechanism: Mechanism) -> (u32, u32) {
    match mechanism {
        Mechanism::UserNamespace
        | Mechanism::PidNamespace
        | Mechanism::NestedUserNamespace
        | Mechanism::Ptrace
        | Mechanism::Loopback
        | Mechanism::Router => (5, 3),
        Mechanism::Mount | Mechanism::Proc | Mechanism::Devpts => (5, 2),
        Mechanism::DetachedMounts => (5, 12),
        Mechanism::Overlay => (5, 11),
        Mechanism::Seccomp => (3, 17),
        Mechanism::SeccompNotify => (5, 0),
        Mechanism::Landlock => (5, 13),
    }
}

/// What `errno` of this mechanism means, in the light of the evidence. `doing` says at which step.
pub(super) fn explain(
    mechanism: Mechanism,
    doing: &str,
    errno: Errno,
    evidence: &Evidence,
) -> Probe {
    let (cause, why) = cause(mechanism, errno, evidence);
    let why = why.map(|it| format!("; {it}")).unwrap_or_default();
    Probe::Fails { cause, detail: format!("{doing}: {}{why}", errno.desc()) }
}

fn cause(mechanism: Mechanism, errno: Errno, evidence: &Evidence) -> (Cause, Option<String>) {
    let said = |words: &str| Some(words.to_owned());
    let filter = || (Cause::OuterFilter, said("a seccomp filter is in force here"));
    let permission = matches!(errno, Errno::EPERM | Errno::EACCES);
    match errno {
        Errno::ENOSYS if evidence.kernel >= since(mechanism) && evidence.filtered => filter(),
        Errno::ENOSYS if mechanism == Mechanism::Landlock => {
            (Cause::KernelTooOld, said("this kernel is built without it"))
        }
        Errno::EOPNOTSUPP if mechanism == Mechanism::Landlock => {
            (Cause::KernelTooOld, said("built in, but not switched on at boot"))
        }
        Errno::ENOSYS | Errno::ENODEV => (Cause::KernelTooOld, None),
        Errno::EOPNOTSUPP if mechanism == Mechanism::Router => {
            (Cause::NoVeth, said("built without `CONFIG_VETH`, or its module is not there"))
        }
        Errno::ENOSPC | Errno::EUSERS if is_namespace(mechanism) => {
            let limit = evidence.limit.as_ref().map(|it| format!("`{it}` is 0"));
            (Cause::NamespaceLimit, limit)
        }
        Errno::EINVAL if mechanism == Mechanism::UserNamespace => {
            (Cause::KernelTooOld, said("this kernel is built without user namespaces"))
        }
        Errno::EBUSY if mechanism == Mechanism::SeccompNotify => {
            (Cause::OuterFilter, said("another supervisor already listens to this process"))
        }
        _ if !permission => (Cause::Unknown, None),
        _ if mechanism == Mechanism::Ptrace && evidence.yama => {
            (Cause::Yama, said("`kernel.yama.ptrace_scope` is 3"))
        }
        _ if mechanism == Mechanism::UserNamespace && evidence.clone3_filtered => filter(),
        _ if mechanism == Mechanism::UserNamespace && evidence.unmapped => (
            Cause::NamespacesForbidden,
            said("rung itself is in a user namespace that does not map its user"),
        ),
        _ if is_namespace(mechanism) && evidence.switched_off && !evidence.root => {
            (Cause::NamespacesForbidden, said("`kernel.unprivileged_userns_clone` is 0"))
        }
        _ if mechanism == Mechanism::Proc && evidence.covered.is_some() => (
            Cause::MaskedProc,
            evidence.covered.as_ref().map(|it| format!("`{it}` is mounted over")),
        ),
        _ if evidence.apparmor && !evidence.root => {
            (Cause::AppArmor, said("`kernel.apparmor_restrict_unprivileged_userns` is 1"))
        }
        _ if evidence.filtered => filter(),
        Errno::EACCES => (Cause::AppArmor, said("a security module refuses it")),
        _ if mechanism == Mechanism::Proc => {
            (Cause::MaskedProc, said("no whole /proc is visible here"))
        }
        _ if is_namespace(mechanism) => {
            (Cause::NamespacesForbidden, said("in a chroot, or by a security module"))
        }
        _ => (Cause::Unknown, None),
    }
}

fn is_namespace(mechanism: Mechanism) -> bool {
    matches!(
        mechanism,
        Mechanism::UserNamespace | Mechanism::NestedUserNamespace | Mechanism::Router
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here() -> Evidence {
        Evidence { kernel: (6, 8), ..Evidence::default() }
    }

    #[track_caller]
    fn check(mechanism: Mechanism, errno: Errno, evidence: &Evidence, expected: Cause, says: &str) {
        let Probe::Fails { cause, detail } = explain(mechanism, "trying it", errno, evidence)
        else {
            panic!("works");
        };
        assert_eq!(cause, expected, "{detail}");
        assert!(detail.contains(says), "{detail}");
    }

    #[test]
    fn a_container_that_hides_clone3_is_no_old_kernel() {
        let docker = Evidence { filtered: true, clone3_filtered: true, ..here() };
        let mechanism = Mechanism::UserNamespace;
        check(mechanism, Errno::ENOSYS, &docker, Cause::OuterFilter, "seccomp filter");
        check(mechanism, Errno::EPERM, &docker, Cause::OuterFilter, "seccomp filter");
        check(mechanism, Errno::ENOSYS, &here(), Cause::KernelTooOld, "trying it");
    }

    #[test]
    fn a_limit_of_namespaces_is_named() {
        let limited = Evidence { limit: Some("user.max_net_namespaces".to_owned()), ..here() };
        let mechanism = Mechanism::UserNamespace;
        check(mechanism, Errno::ENOSPC, &limited, Cause::NamespaceLimit, "max_net_namespaces");
        check(Mechanism::NestedUserNamespace, Errno::ENOSPC, &here(), Cause::NamespaceLimit, "");
    }

    #[test]
    fn the_switches_of_distributions_are_told_apart() {
        let debian = Evidence { switched_off: true, ..here() };
        let mechanism = Mechanism::UserNamespace;
        let switch = "unprivileged_userns_clone";
        check(mechanism, Errno::EPERM, &debian, Cause::NamespacesForbidden, switch);
        let ubuntu = Evidence { apparmor: true, ..here() };
        let switch = "apparmor_restrict_unprivileged_userns";
        for mechanism in [mechanism, Mechanism::Mount, Mechanism::Loopback] {
            check(mechanism, Errno::EACCES, &ubuntu, Cause::AppArmor, switch);
            check(mechanism, Errno::EPERM, &ubuntu, Cause::AppArmor, switch);
        }
        let nowhere = Evidence { unmapped: true, ..here() };
        check(mechanism, Errno::EPERM, &nowhere, Cause::NamespacesForbidden, "does not map");
        check(mechanism, Errno::EPERM, &here(), Cause::NamespacesForbidden, "chroot");
    }

    #[test]
    fn a_masked_proc_is_named_by_what_masks_it() {
        let mounts = "22 1 0:21 / /proc rw - proc proc rw\n\
                      23 22 0:22 / /proc/sys/fs/binfmt_misc rw - binfmt_misc none rw\n";
        assert_eq!(covered(mounts), None);
        let masked = format!("{mounts}24 22 0:23 / /proc/acpi ro - tmpfs tmpfs ro\n");
        let masked = Evidence { covered: covered(&masked), ..here() };
        check(Mechanism::Proc, Errno::EPERM, &masked, Cause::MaskedProc, "/proc/acpi");
    }

    #[test]
    fn landlock_says_whether_it_is_missing_or_switched_off() {
        let mechanism = Mechanism::Landlock;
        check(mechanism, Errno::ENOSYS, &here(), Cause::KernelTooOld, "built without");
        check(mechanism, Errno::EOPNOTSUPP, &here(), Cause::KernelTooOld, "at boot");
    }

    #[test]
    fn tracing_is_forbidden_by_yama_or_by_a_filter() {
        let yama = Evidence { yama: true, ..here() };
        check(Mechanism::Ptrace, Errno::EPERM, &yama, Cause::Yama, "ptrace_scope");
        let filtered = Evidence { filtered: true, ..here() };
        check(Mechanism::Ptrace, Errno::EPERM, &filtered, Cause::OuterFilter, "filter");
        check(Mechanism::SeccompNotify, Errno::EBUSY, &here(), Cause::OuterFilter, "listens");
    }

    #[test]
    fn a_kernel_without_veth_is_no_old_kernel() {
        check(Mechanism::Router, Errno::EOPNOTSUPP, &here(), Cause::NoVeth, "CONFIG_VETH");
        let limited = Evidence { limit: Some("user.max_net_namespaces".to_owned()), ..here() };
        check(Mechanism::Router, Errno::ENOSPC, &limited, Cause::NamespaceLimit, "max_net");
        let filtered = Evidence { filtered: true, ..here() };
        check(Mechanism::Router, Errno::EPERM, &filtered, Cause::OuterFilter, "filter");
    }

    #[test]
    fn a_kernel_is_as_old_as_its_first_two_numbers() {
        assert_eq!(version("6.12.3-amd64"), (6, 12));
        assert_eq!(version("5.4"), (5, 4));
        assert_eq!(version("odd"), (0, 0));
    }
}
