//! The kinds of record, as data.
//!
//! "Allowed", "ran" and "what it did" are three facts and three records: they join by the run's id.
//! [`Record`] is what the engine appends; [`Control`] is what the ledger says about itself and only
//! the ledger can write.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Redactor;
use crate::model::{Arg, Denial, Digest, Ids, Level, Origin, Status, Traffic, Usage};

/// One thing that happened. Serialised with its `kind` first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum Record {
    #[serde(rename = "decision")]
    Decision(Box<Decision>),
    #[serde(rename = "exec.start")]
    ExecStart(ExecStart),
    #[serde(rename = "exec.end")]
    ExecEnd(ExecEnd),
    #[serde(rename = "denial")]
    Denial(Box<DenialSeen>),
    #[serde(rename = "quarantine")]
    Quarantine(Quarantine),
    #[serde(rename = "profile.load")]
    ProfileLoad(ProfileLoad),
}

/// What the policy answered to one request, and everything the answer rested on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    #[serde(flatten)]
    pub ids: Ids,
    pub decision: Answer,
    /// Id of the rule that decided.
    pub rule: String,
    /// One sentence.
    pub reason: String,
    pub origin: Option<Origin>,
    pub level: Level,
    pub profile: String,
    pub profile_digest: Digest,
    /// Absent where nothing was compiled: a denial.
    pub plan_digest: Option<Digest>,
    pub argv: Vec<Arg>,
    pub cwd: Arg,
    pub workspace: Arg,
    /// What this host cannot enforce and the profile accepted.
    pub gaps: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    Allow,
    /// A person has to answer first.
    Ask,
    Deny,
}

/// The command was started: the sandbox stood and exec succeeded. Written together with the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecStart {
    pub run: String,
    /// Path of the program inside the view.
    pub program: Arg,
    pub plan_digest: Digest,
    /// Process id of the sandbox's init, as the host sees it.
    pub pid: Option<u32>,
    /// What the command was given; empty where the engine does not record it.
    #[serde(default)]
    pub environment: BTreeMap<String, Arg>,
}

/// What became of the run, whether or not anything started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecEnd {
    pub run: String,
    pub status: Status,
    pub exit_code: u8,
    pub usage: Usage,
    /// What went out and came in, by destination.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network: Vec<Traffic>,
    /// How many different things were refused; each has a record of its own.
    pub denials: u32,
}

/// Something a layer refused, in the one shape of refusals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenialSeen {
    pub run: String,
    pub denial: Denial,
}

/// Something the run left at a protected name, which was put aside when it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    pub run: String,
    pub path: Arg,
    /// Where it lies now; absent if it was removed.
    pub moved_to: Option<Arg>,
    pub reason: String,
}

/// A profile was read from outside the binary, or changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProfileLoad {
    pub profile: String,
    pub level: Level,
    pub profile_digest: Digest,
    pub sources: Vec<String>,
}

/// What the ledger records about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum Control {
    /// A signature over the chain up to here.
    #[serde(rename = "audit.checkpoint")]
    Checkpoint {
        segment: String,
        /// The last record that the signature covers.
        through: u64,
        /// The fingerprint of that record.
        head: Digest,
        /// How many records were written since the checkpoint before.
        count: u64,
        /// The Ed25519 public key, in hexadecimal digits.
        key: String,
        signature: String,
    },
    /// First record of every segment but the first.
    #[serde(rename = "audit.rotate")]
    Rotate { previous: String, last: u64, head: Digest },
    /// Bytes at the end of the segment were no whole record and were cut off: a crash or a full
    /// disk in the middle of a write.
    #[serde(rename = "audit.recover")]
    Recover { segment: String, bytes: u64, digest: Digest },
}

impl Record {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Decision(_) => "decision",
            Self::ExecStart(_) => "exec.start",
            Self::ExecEnd(_) => "exec.end",
            Self::Denial(_) => "denial",
            Self::Quarantine(_) => "quarantine",
            Self::ProfileLoad(_) => "profile.load",
        }
    }

    /// The run it belongs to.
    pub fn run(&self) -> Option<&str> {
        match self {
            Self::Decision(it) => Some(&it.ids.run),
            Self::ExecStart(it) => Some(&it.run),
            Self::ExecEnd(it) => Some(&it.run),
            Self::Denial(it) => Some(&it.run),
            Self::Quarantine(it) => Some(&it.run),
            Self::ProfileLoad(_) => None,
        }
    }

    /// Takes every secret out, and says how many were found.
    pub(super) fn redact(&mut self, by: &Redactor) -> usize {
        match self {
            Self::Decision(it) => it.redact(by),
            Self::ExecStart(it) => {
                let environment = it.environment.iter_mut();
                let found: usize = environment.map(|(name, value)| by.variable(name, value)).sum();
                found + by.word(&mut it.program)
            }
            Self::ExecEnd(it) => match &mut it.status {
                Status::Failed { reason } => by.text(reason),
                Status::Limited { limit } => by.text(limit),
                Status::Exited { .. }
                | Status::Signaled { .. }
                | Status::Refused
                | Status::Waiting
                | Status::NotFound => 0,
            },
            Self::Denial(it) => it.denial_texts().map(|text| by.text(text)).sum(),
            Self::Quarantine(it) => {
                let moved = it.moved_to.as_mut().map_or(0, |path| by.word(path));
                by.word(&mut it.path) + moved + by.text(&mut it.reason)
            }
            Self::ProfileLoad(it) => it.sources.iter_mut().map(|text| by.text(text)).sum(),
        }
    }
}

impl Decision {
    fn redact(&mut self, by: &Redactor) -> usize {
        let ids = [&mut self.ids.agent, &mut self.ids.task, &mut self.ids.session];
        let claimed: usize = ids.into_iter().flatten().map(|text| by.text(text)).sum();
        let gaps: usize = self.gaps.iter_mut().map(|text| by.text(text)).sum();
        claimed
            + gaps
            + by.argv(&mut self.argv)
            + by.text(&mut self.reason)
            + by.word(&mut self.cwd)
            + by.word(&mut self.workspace)
    }
}

impl DenialSeen {
    fn denial_texts(&mut self) -> impl Iterator<Item = &mut String> {
        let it = &mut self.denial;
        [&mut it.object, &mut it.reason, &mut it.next].into_iter().chain(it.allow_with.as_mut())
    }
}

impl Control {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Checkpoint { .. } => "audit.checkpoint",
            Self::Rotate { .. } => "audit.rotate",
            Self::Recover { .. } => "audit.recover",
        }
    }
}
