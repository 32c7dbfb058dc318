//! The plan: everything the kernel will be told about one run, as data.
//!
//! [`compile`] turns a permit, the request, the profile and the host's facts into a
//! [`SandboxPlan`]. After that nothing is looked up, decided or defaulted: `launch` only carries
//! out. Every entry keeps the profile line it came from, so the plan can explain itself, be
//! compared with another level's and be tested without root.
#![deny(clippy::wildcard_enum_match_arm)]

mod caches;
mod compile;
pub mod egress;
mod environment;
mod error;
mod exec;
mod explain;
mod gaps;
mod landlock;
mod paths;
mod predict;
mod protect;
mod rights;
mod surface;
pub mod syscalls;
mod view;
mod within;
mod workspace;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use caches::caches;
pub use compile::compile;
use egress::EgressPlan;
pub use environment::search_path;
pub use error::PlanError;
pub use exec::ExecPlan;
pub use explain::explain;
pub use gaps::{Promise, PromiseState, gate, promises};
pub use paths::{
    expand, lasting_paths, protects_repositories, wanted_behind_links, wanted_in_repositories,
    wanted_of_repository, wanted_paths,
};
pub use predict::{Answer, Operation, Prediction, predict};
pub use rights::FsRights;
pub use syscalls::Gate;
pub use within::within;

use crate::model::{
    Arch, Arg, Bytes, Count, Digest, Level, Mechanism, Origin, PathKind, PathMap, Span, Store,
    Streams,
};
use crate::profile::Durable;
pub use crate::profile::{Table, WhenFull};

/// What a sandbox's host is called, in every run.
pub const HOST_NAME: &std::ffi::CStr = c"rung";

/// One run, decided to the last mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxPlan {
    pub level: Level,
    pub profile: String,
    pub profile_digest: Digest,
    /// Id of the rule that allowed the command.
    pub rule: String,
    pub command: CommandPlan,
    pub identity: Identity,
    /// Parents before children; later entries lie on top of earlier ones.
    pub view: Vec<ViewEntry>,
    /// Names in the workspace that are protected but cannot be mounted over, because they do not
    /// exist or are symbolic links. What the run makes of them is undone when it ends.
    pub watched: Vec<Watched>,
    pub landlock: LandlockPlan,
    pub exec: ExecPlan,
    pub syscalls: SyscallPlan,
    pub network: NetworkPlan,
    pub limits: LimitPlan,
    pub output: OutputPlan,
    pub durable: Durable,
    pub streams: Streams,
    /// What this host cannot enforce. Empty, or accepted by the profile.
    pub gaps: Vec<Gap>,
    /// Grants whose path does not exist here: no effect, shown by `explain`.
    pub absent: Vec<Absent>,
}

/// What is executed, and with what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandPlan {
    /// Absolute path inside the view.
    pub program: PathBuf,
    pub argv: Vec<Arg>,
    pub cwd: PathBuf,
    /// Complete: nothing is inherited.
    pub environment: BTreeMap<String, Variable>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    pub value: Arg,
    pub because: Origin,
}

/// Whose files the command's files are, and who it believes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub outer_uid: u32,
    pub outer_gid: u32,
    /// Never 0: real root becomes an ordinary user inside.
    pub inner_uid: u32,
    pub inner_gid: u32,
    pub last_capability: u8,
}

/// One place of the command's file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewEntry {
    /// Absolute, without `.` and `..`.
    pub path: PathBuf,
    pub what: What,
    pub because: Vec<Origin>,
}

/// What lies at a place of the view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// An empty directory of the view's own root, which is read-only when the command starts.
    Directory,
    /// The host's object, with everything mounted below it.
    Bind {
        source: PathBuf,
        kind: PathKind,
        device: u64,
        inode: u64,
        access: Access,
        /// Without it the mount is `noexec`.
        programs: bool,
    },
    /// The host's directory with a layer on top: what is read comes from either, what is written goes
    /// into the layer. Nothing mounted below the directory shows.
    Overlay {
        lower: PathBuf,
        device: u64,
        inode: u64,
        layers: Layers,
        access: Access,
        programs: bool,
    },
    /// A tmpfs of the run's own.
    Private {
        size: Bytes,
        files: Count,
        access: Access,
        programs: bool,
    },
    SymbolicLink {
        target: PathBuf,
    },
    /// A fresh `/proc`, read-only, with the listed names masked.
    Proc {
        masked: Vec<MaskedName>,
    },
    /// `null zero full random urandom tty`, `pts`, `ptmx`, `shm`, and the usual links.
    Devices {
        shm: Bytes,
        files: Count,
    },
    /// A file of the run's own with this text, read-only, on top of what is there.
    Text {
        text: String,
        /// What the file has in place of this text, where that is not known before the run starts.
        late: Option<Late>,
    },
    /// An empty thing of the same kind, on top of what is there.
    Masked {
        kind: PathKind,
    },
    /// The object itself again, as a mount of its own, so that no ancestor of a protected name can
    /// be renamed away.
    Pinned {
        device: u64,
        inode: u64,
    },
    /// The object itself again, read-only.
    Protected {
        kind: PathKind,
        device: u64,
        inode: u64,
    },
}

/// Where an overlay keeps what is written into it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layers {
    /// In a directory of rung's own, which holds `upper` and `work` and is in no view itself.
    Kept(Store),
    /// In memory that all such layers of the run share, until it ends.
    Private { size: Bytes, files: Count },
}

/// What is known only when the gateway of the run is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Late {
    /// The certificates that this host believes, and that of the run's own authority.
    Authorities,
    /// The text, with the placeholders of its credentials.
    Placeholders,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaskedName {
    pub name: String,
    pub kind: PathKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    Read,
    Write,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    pub path: PathBuf,
    /// What the link pointed to; absent where there was nothing.
    pub link: Option<PathBuf>,
    pub because: Origin,
}

/// The Landlock ruleset: the same promise as the view, kept by another part of the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandlockPlan {
    /// The kernel's ABI that the masks were cut to.
    pub abi: u32,
    /// Refused unless a rule allows it: every right this kernel knows.
    pub handled: FsRights,
    /// `LANDLOCK_ACCESS_NET_*` bits handled; no rule allows any.
    pub handled_net: u64,
    /// `LANDLOCK_SCOPE_*` bits.
    pub scoped: u64,
    /// By path in the view.
    pub rules: PathMap<LandlockRule>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandlockRule {
    pub rights: FsRights,
    pub because: Vec<Origin>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyscallPlan {
    pub table: Table,
    pub arch: Arch,
    /// Of the compiled filter, so that a changed filter is a changed plan.
    pub filter: Digest,
    pub because: Origin,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkPlan {
    /// Bring up the sandbox's own `lo`.
    pub loopback: Option<Origin>,
    /// A way out through the gateway. Absent: there is none at all.
    pub egress: Option<EgressPlan>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitPlan {
    pub wall: Limited<Span>,
    pub grace: Limited<Span>,
    pub processes: Limited<Count>,
    pub processes_by: ProcessesBy,
    pub open_files: Limited<Count>,
    pub memory: Limited<Bytes>,
    pub memory_by: MemoryBy,
    pub file: Limited<Bytes>,
    /// Where the run writes into a layer: of what all runs leave in it.
    pub layer: Option<LayerLimits>,
}

/// What a session's layer may hold. Rung counts it a few times a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerLimits {
    pub size: Limited<Bytes>,
    pub files: Limited<Count>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limited<T> {
    pub max: T,
    pub because: Origin,
}

/// Who keeps the limit on processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessesBy {
    /// `RLIMIT_NPROC`, counted per user namespace since Linux 5.14: the next fork fails.
    Kernel,
    /// The kernel does not count the processes of real root, so rung looks a few times a second
    /// and ends the run.
    Polling,
    /// The cgroup that also keeps the memory: the next fork fails, and the kernel says so.
    Cgroup,
}

/// Who keeps the memory limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryBy {
    /// The kernel, exactly, in a child of this cgroup v2 directory.
    Cgroup(PathBuf),
    /// Rung adds up resident sets a few times a second: a run may overshoot between two looks.
    Polling,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputPlan {
    /// Absent: the caller's descriptors are inherited and rung sees nothing of the output.
    pub max: Option<Limited<Bytes>>,
    pub when_full: WhenFull,
}

/// Something the plan wants and this host cannot do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub mechanism: Mechanism,
    /// What is lost, in one sentence.
    pub promise: String,
    /// Why, and what would mend it.
    pub cause: String,
    pub fix: String,
    /// Rung has no way to run without it, whatever the profile says.
    pub essential: bool,
}

/// A grant that opens nothing in this run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absent {
    pub path: PathBuf,
    pub why: NoEffect,
    pub because: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoEffect {
    /// It does not exist, or another entry hides it.
    NotShown,
    /// A cache that can have no layer of the run's on this host, so the run has none of its own.
    NoLayer,
}

/// Proof that the decision about a plan is in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Number of the decision record in its chain.
    pub sequence: u64,
    /// Fingerprint of that record.
    pub fingerprint: Digest,
}

/// A plan whose decision record has been written: the only thing `launch` carries out.
#[derive(Debug)]
pub struct RecordedPlan {
    plan: SandboxPlan,
    receipt: Receipt,
}

impl RecordedPlan {
    /// Binds a plan to its decision record. Called by the engine alone, with what the ledger
    /// returned for exactly this plan's digest.
    pub(crate) fn new(plan: SandboxPlan, receipt: Receipt) -> Self {
        Self { plan, receipt }
    }

    pub fn plan(&self) -> &SandboxPlan {
        &self.plan
    }

    pub fn receipt(&self) -> Receipt {
        self.receipt
    }
}

impl SandboxPlan {
    /// Names the plan in records: the digest of its binary form.
    pub fn digest(&self) -> Result<Digest, PlanError> {
        Digest::of_value("plan", self)
            .map_err(|error| PlanError::Unprintable { why: error.to_string() })
    }
}
