//! The kinds of record, as data.
//!
//! "Allowed", "ran" and "what it did" are three facts and three records: they join by the run's id.
//! [`Record`] is what the engine appends; [`Control`] is what the ledger says about itself and only
//! the ledger can write.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Redactor;
use crate::model::{
    Arg, Attempt, Denial, Digest, Ids, Level, Origin, ProgramLocation, Status, Traffic, Usage,
};

/// One thing that happened. Serialised with its `kind` first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind")]
pub enum Record {
    #[serde(rename = "decision")]
    Decision(Box<Decision>),
    #[serde(rename = "exec.start")]
    ExecStart(ExecStart),
    #[serde(rename = "exec")]
    Exec(Box<Exec>),
    #[serde(rename = "exec.count")]
    ExecCount(ExecCount),
    #[serde(rename = "connect")]
    Connect(Box<Connect>),
    #[serde(rename = "learn.observed")]
    LearnObserved(Box<LearnObserved>),
    #[serde(rename = "exec.end")]
    ExecEnd(ExecEnd),
    #[serde(rename = "denial")]
    Denial(Box<DenialSeen>),
    #[serde(rename = "quarantine")]
    Quarantine(Quarantine),
    #[serde(rename = "credential")]
    Credential(Lease),
    #[serde(rename = "session")]
    Session(Box<SessionAct>),
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
    /// Programs that no rule covers are let through in this run, and told apart.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub learning: bool,
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

/// A program that the run started or wanted to start: the command itself first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    pub run: String,
    pub became: Outcome,
    pub decision: Answer,
    /// Id of the rule that decided.
    pub rule: String,
    /// Where the object lies that runs: for a script, its interpreter.
    pub program: Arg,
    pub device: u64,
    pub inode: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<Arg>,
    pub argv: Vec<Arg>,
    pub cwd: Arg,
    /// The programs above, nearest first.
    pub caller: Vec<Arg>,
    /// There are more, or they could not be told.
    pub caller_cut: bool,
    /// Absent where no rule was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<Box<Judged>>,
}

/// What the rules went by, beside the words: enough to decide again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// The path as it was given to the kernel.
    pub spelled: Arg,
    /// Where the image was found: its name decides.
    pub path: Arg,
    pub location: ProgramLocation,
    /// The same of the script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<(Arg, ProgramLocation)>,
    /// Whoever started it, as rules name them.
    pub started_by: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_call: bool,
}

/// What became of one exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// What runs is what was judged.
    Started,
    /// It was judged by what it asked for; another task traced it.
    Unverified,
    Refused,
    /// It was loaded, and killed before its first instruction.
    Killed,
}

/// The programs of a run that came after those with a record each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecCount {
    pub run: String,
    pub more: Vec<Tally>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub program: String,
    pub became: Outcome,
    pub count: u64,
}

/// Connections of one program to where connections were refused. The refusals themselves are
/// denials; where the gateway refused by what arrived, it may have let others of these pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connect {
    pub run: String,
    /// What the denial is about.
    pub object: String,
    #[serde(flatten)]
    pub attempt: Attempt,
}

/// A program that a learning run let through although no rule covers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnObserved {
    pub run: String,
    /// The name that a rule would go by.
    pub program: String,
    /// Who started it, as a rule would name it.
    pub started_by: Option<String>,
    pub argv: Vec<Arg>,
    pub count: u64,
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

/// What happened to a credential that was lent to a run. Nothing here says what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub run: String,
    pub credential: String,
    /// The one host that it is for.
    pub host: String,
    pub event: LeaseEvent,
    pub count: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseEvent {
    Issued,
    /// In so many requests.
    Used,
    /// The placeholder was where it does not belong.
    Refused,
    Expired,
}

impl LeaseEvent {
    pub fn name(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Used => "used",
            Self::Refused => "refused",
            Self::Expired => "expired",
        }
    }
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

/// Something was done with a session, outside every run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionAct {
    pub act: SessionVerb,
    pub session: String,
    /// Names an apply or a rollback, so that it can be taken back.
    pub id: Option<String>,
    /// The act that was taken back.
    pub of: Option<String>,
    /// The tree that the session works on.
    pub base: Arg,
    pub level: Option<Level>,
    pub backend: String,
    /// How many paths of the tree it was about.
    pub count: u64,
    /// The first of them.
    pub paths: Vec<Arg>,
    /// How many changes were refused, wait for an answer, or have changed on both sides.
    pub withheld: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionVerb {
    Start,
    Apply,
    Discard,
    Rollback,
    /// An act that had been interrupted was carried on, or taken back.
    Recover,
}

impl SessionVerb {
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Apply => "apply",
            Self::Discard => "discard",
            Self::Rollback => "rollback",
            Self::Recover => "recover",
        }
    }
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
            Self::Exec(_) => "exec",
            Self::ExecCount(_) => "exec.count",
            Self::Connect(_) => "connect",
            Self::LearnObserved(_) => "learn.observed",
            Self::ExecEnd(_) => "exec.end",
            Self::Denial(_) => "denial",
            Self::Quarantine(_) => "quarantine",
            Self::Credential(_) => "credential",
            Self::Session(_) => "session",
            Self::ProfileLoad(_) => "profile.load",
        }
    }

    /// The run it belongs to.
    pub fn run(&self) -> Option<&str> {
        match self {
            Self::Decision(it) => Some(&it.ids.run),
            Self::ExecStart(it) => Some(&it.run),
            Self::Exec(it) => Some(&it.run),
            Self::ExecCount(it) => Some(&it.run),
            Self::Connect(it) => Some(&it.run),
            Self::LearnObserved(it) => Some(&it.run),
            Self::ExecEnd(it) => Some(&it.run),
            Self::Denial(it) => Some(&it.run),
            Self::Quarantine(it) => Some(&it.run),
            Self::Credential(it) => Some(&it.run),
            Self::Session(_) | Self::ProfileLoad(_) => None,
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
            Self::Exec(it) => it.redact(by),
            Self::ExecCount(it) => it.more.iter_mut().map(|it| by.text(&mut it.program)).sum(),
            Self::Connect(it) => by.text(&mut it.object) + by.text(&mut it.attempt.program),
            Self::LearnObserved(it) => {
                let names = [Some(&mut it.program), it.started_by.as_mut()].into_iter().flatten();
                let found: usize = names.map(|it| by.text(it)).sum();
                found + by.argv(&mut it.argv)
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
            Self::Credential(it) => by.text(&mut it.credential) + by.text(&mut it.host),
            Self::Session(it) => {
                let paths: usize = it.paths.iter_mut().map(|path| by.word(path)).sum();
                paths + by.word(&mut it.base) + by.text(&mut it.session)
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

impl Exec {
    fn redact(&mut self, by: &Redactor) -> usize {
        let words = [&mut self.program, &mut self.cwd].into_iter();
        let words = words.chain(&mut self.script).chain(&mut self.caller);
        let judged = self.judged.iter_mut().flat_map(|it| {
            let script = it.script.as_mut().map(|it| &mut it.0);
            [Some(&mut it.spelled), Some(&mut it.path), script].into_iter().flatten()
        });
        let found: usize = words.chain(judged).map(|it| by.word(it)).sum();
        found + by.argv(&mut self.argv)
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
