//! What became of a run, and the exit code that says so.

use serde::{Deserialize, Serialize};

use super::{Arg, Bytes, Count, Denial, Ids, Level};

/// The whole result of one `rung run`, as `--report` and `--json` give it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    pub ids: Ids,
    pub level: Level,
    pub status: Status,
    /// Everything that was refused, first seen first; empty for a clean run.
    pub denials: Vec<Denial>,
    /// What the host could not enforce and the profile accepted.
    pub gaps: Vec<String>,
    /// What else the caller should know, a sentence each.
    pub notes: Vec<String>,
    /// What a disposable run changed, and nothing was kept of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Changed>,
    pub usage: Usage,
    /// What the session's layer holds now, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<LayerUse>,
    /// What went out and came in, by destination; empty where nothing was reached.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub network: Vec<Traffic>,
}

/// How much of a session's limits is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerUse {
    pub bytes: Bytes,
    pub bytes_max: Bytes,
    pub files: Count,
    pub files_max: Count,
}

/// What one destination of the profile had of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// As the profile names it.
    pub destination: String,
    pub connections: Count,
    /// HTTP requests that the gateway sent on; null where it reads none. Never left out: the gateway
    /// reports in a form that has no names.
    #[serde(default)]
    pub requests: Option<Count>,
    pub sent: Bytes,
    pub received: Bytes,
}

/// One path that a run would have changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Relative to the workspace.
    pub path: Arg,
    /// `created`, `modified`, `deleted`, `renamed`, `mode`, `attributes` or `replaced`.
    pub kind: String,
    /// Classes that a person should look at.
    pub risks: Vec<String>,
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Status {
    /// The command ran and ended by itself.
    Exited { code: u8 },
    /// The command ran and died by a signal that rung did not send.
    Signaled { signal: i32 },
    /// A limit was reached, and the command was stopped for it or failed by it.
    Limited { limit: String },
    /// The policy said no; nothing ran.
    Refused,
    /// An approval is needed and has been asked for; nothing ran.
    Waiting,
    /// There is no such program; nothing ran.
    NotFound,
    /// Rung could not build what the plan requires; nothing ran.
    Failed { reason: String },
}

/// What the run used, as far as it was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    pub wall_ms: u64,
    pub user_ms: u64,
    pub system_ms: u64,
    /// Largest resident set of one process, in KiB.
    pub peak_rss_kib: u64,
}

impl Status {
    /// The documented exit code of `rung run`.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Exited { code } => *code,
            // Signals are 1 to 64, so this fits.
            Self::Signaled { signal } => {
                128_u8.saturating_add(u8::try_from(*signal).unwrap_or(127))
            }
            Self::Limited { .. } => 124,
            Self::Failed { .. } => 125,
            Self::Refused => 126,
            Self::NotFound => 127,
            Self::Waiting => 75,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ending_has_its_documented_exit_code() {
        let failed = Status::Failed { reason: String::new() };
        let limited = Status::Limited { limit: "wall".to_owned() };
        let codes = [
            (Status::Exited { code: 3 }, 3),
            (Status::Signaled { signal: 9 }, 137),
            (limited, 124),
            (failed, 125),
            (Status::Refused, 126),
            (Status::NotFound, 127),
            (Status::Waiting, 75),
        ];
        for (status, code) in codes {
            assert_eq!(status.exit_code(), code, "{status:?}");
        }
    }
}
