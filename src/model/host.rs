//! What this machine can enforce and where things are on it, as data.
//!
//! `host` fills these in by doing; everything below takes them as arguments, so that a plan for
//! another machine is a test fixture and not a machine.

use core::net::SocketAddr;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::PathMap;

/// Everything that compiling a plan may know about the machine and the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// `uname -r`.
    pub kernel: String,
    pub arch: Arch,
    pub uid: u32,
    pub gid: u32,
    /// Highest capability number of the kernel.
    pub last_capability: u8,
    /// 0 where the kernel has no Landlock.
    pub landlock_abi: u32,
    /// Each mechanism, by having been tried. A mechanism that is missing from the map was never
    /// tried and counts as not working.
    pub probes: BTreeMap<Mechanism, Probe>,
    /// A cgroup v2 directory that this user may create children in, with the memory and pids
    /// controllers enabled for them.
    pub cgroup: Option<PathBuf>,
    /// Rung's own state and configuration directories, canonical where they exist and then with
    /// their own entry in `paths`. No view shows them and no workspace or write grant may reach
    /// them.
    pub state_directories: Vec<PathBuf>,
    /// Whom the machine asks for the addresses of names. Looked up only for a profile that names
    /// destinations.
    pub nameservers: Vec<SocketAddr>,
    /// A file of certificates that the user's settings add to the machine's own.
    pub authorities: Option<PathBuf>,
    /// What was found at each path that the profile and the request name, keyed by the spelling
    /// after `~` was replaced. A path that is missing from the map does not exist.
    pub paths: PathMap<PathFact>,
    /// Other repositories that the workspace's git index ties to its tree, where there is one:
    /// absolute, in the order of a walk.
    pub repositories: Vec<PathBuf>,
    /// The home directory that the user database names, canonical. `HOME` is only a variable.
    pub user_home: Option<PathBuf>,
}

/// A processor architecture with its own system call table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Arch {
    X86_64,
    Aarch64,
}

/// Something a sandbox is built from, which a host may refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanism {
    /// `clone3` with a new user namespace, identity mapped.
    UserNamespace,
    /// A mount made inside it (Ubuntu's AppArmor restriction stops here).
    Mount,
    /// `open_tree`, `mount_setattr` and `move_mount`, Linux 5.12.
    DetachedMounts,
    PidNamespace,
    /// A new network namespace with `lo` brought up.
    Loopback,
    /// A fresh `/proc` (containers that mask theirs stop here).
    Proc,
    /// A second user namespace below the first, which locks the mounts.
    NestedUserNamespace,
    /// A seccomp filter.
    Seccomp,
    /// A seccomp filter that asks a supervisor.
    SeccompNotify,
    Landlock,
    /// Attaching to one's own descendant with `ptrace` (Yama 3 stops here).
    Ptrace,
    /// `OverlayFS` inside a user namespace, Linux 5.11.
    Overlay,
    /// A pseudo terminal from a new `devpts` instance.
    Devpts,
    /// A second network namespace, joined to the first by a pair of `veth` devices.
    Router,
}

/// What trying a mechanism gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    Works,
    Fails { cause: Cause, detail: String },
}

/// Why a mechanism does not work here, as far as the probe could tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The kernel lacks the system call or the option.
    KernelTooOld,
    /// The kernel lacks the devices that join network namespaces.
    NoVeth,
    /// `user.max_user_namespaces` or a sibling is 0 or used up (ENOSPC).
    NamespaceLimit,
    /// Creating the namespace is refused (EPERM): a distribution's switch, a chroot, or a user
    /// namespace around that does not know the user.
    NamespacesForbidden,
    /// A seccomp filter of whatever started rung, such as Docker's.
    OuterFilter,
    /// Namespaces work but are worth nothing: AppArmor's `restrict_unprivileged_userns`.
    AppArmor,
    /// Part of `/proc` is mounted over, so the kernel refuses a fresh one.
    MaskedProc,
    /// Yama's `ptrace_scope`.
    Yama,
    /// Something this mechanism stands on does not work.
    Needs,
    Unknown,
}

/// What a path led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathFact {
    /// The path itself, not following a final symbolic link.
    pub kind: PathKind,
    /// What the path itself points to, word for word, where it is a symbolic link.
    pub link: Option<PathBuf>,
    /// Without symbolic links. Equal to the spelling where nothing was a link, or where a link
    /// leads nowhere; then `canonical_kind` is a link too.
    pub canonical: PathBuf,
    /// What the canonical path is.
    pub canonical_kind: PathKind,
    /// Of the canonical path.
    pub device: u64,
    pub inode: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathKind {
    Directory,
    File,
    SymbolicLink,
    /// Socket, FIFO or device node.
    Special,
}

/// What the first word of a command names, looked up once before deciding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProgramFact {
    /// No such file in the search path, or at the path given.
    Missing { searched: Vec<PathBuf> },
    Found {
        /// The absolute path it was found at, links not followed: its name decides the rule.
        path: PathBuf,
        /// The object itself.
        canonical: PathBuf,
        location: ProgramLocation,
        device: u64,
        inode: u64,
        /// Would run with other rights than its caller's: it has the set-user-id or set-group-id
        /// bit, or capabilities of its own.
        setid: bool,
        executable: bool,
    },
}

/// Which kind of place a program lies in, which decides how far its name is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProgramLocation {
    /// A directory the profile grants read-only with programs: `/usr/bin`.
    System,
    /// A toolchain directory of the profile, read-only in the view: `~/.cargo/bin`.
    Toolchain,
    /// Inside the workspace, so the agent may have written it.
    Workspace,
    /// Anywhere else: not in the view.
    Elsewhere,
}

impl HostFacts {
    /// Major and minor number of the kernel; 0 where it does not say.
    pub fn kernel_version(&self) -> (u32, u32) {
        let digits = self.kernel.split(|it: char| !it.is_ascii_digit());
        let mut numbers = digits.map(|it| it.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    pub fn works(&self, mechanism: Mechanism) -> bool {
        matches!(self.probes.get(&mechanism), Some(Probe::Works))
    }

    pub fn path(&self, spelled: &Path) -> Option<&PathFact> {
        self.paths.get(spelled)
    }

    pub fn is_root(&self) -> bool {
        self.uid == 0
    }
}

impl Mechanism {
    pub const ALL: [Self; 14] = [
        Self::UserNamespace,
        Self::Mount,
        Self::DetachedMounts,
        Self::PidNamespace,
        Self::Loopback,
        Self::Proc,
        Self::NestedUserNamespace,
        Self::Seccomp,
        Self::SeccompNotify,
        Self::Landlock,
        Self::Ptrace,
        Self::Overlay,
        Self::Devpts,
        Self::Router,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::UserNamespace => "user namespace",
            Self::Mount => "mount namespace",
            Self::DetachedMounts => "detached mounts",
            Self::PidNamespace => "pid namespace",
            Self::Loopback => "network namespace with lo",
            Self::Proc => "own /proc",
            Self::NestedUserNamespace => "second user namespace",
            Self::Seccomp => "seccomp filter",
            Self::SeccompNotify => "seccomp user notification",
            Self::Landlock => "Landlock",
            Self::Ptrace => "ptrace of a descendant",
            Self::Overlay => "OverlayFS in a user namespace",
            Self::Devpts => "own pseudo terminals",
            Self::Router => "second network, by veth",
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        })
    }
}
