//! The one shape in which every layer says no.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Level, Origin};

/// A refusal that an agent can act on: what, by which rule, why, and what would change it.
///
/// The same object appears in `--report`, in `--json` output and in the ledger, whichever layer
/// refused. It may quote the command line: the engine redacts known shapes of secrets before it is
/// shown or recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    pub layer: Layer,
    /// Rule id (`git.push.force`), profile key (`limits.wall`) or mechanism.
    pub rule: String,
    pub level: Level,
    /// What was refused, in the user's words: the command, the path, the limit.
    pub object: String,
    /// One sentence, lower case, no full stop.
    pub reason: String,
    /// The profile line, where one decided; absent when nothing matched.
    pub origin: Option<Origin>,
    /// The smallest change that would allow it; absent where nothing can.
    pub allow_with: Option<String>,
    /// What to do instead, as an instruction to the agent.
    pub next: String,
    /// How often the same thing was refused in this run.
    pub count: u32,
}

/// Which wall was hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// The decision about the command, before anything ran.
    Policy,
    /// A program that a running command wanted to start.
    Exec,
    File,
    Network,
    Syscall,
    Limit,
    /// The host cannot give what the level requires, or a set-up step failed.
    Setup,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Policy => "policy",
            Self::Exec => "exec",
            Self::File => "file",
            Self::Network => "network",
            Self::Syscall => "syscall",
            Self::Limit => "limit",
            Self::Setup => "setup",
        })
    }
}

/// At most three lines, each to be printed after `rung: `.
impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "denied by {} (level {}): {} [{}",
            self.layer, self.level, self.object, self.rule
        )?;
        if let Some(origin) = &self.origin {
            write!(f, ", {origin}")?;
        }
        write!(f, "]\n{}", self.reason)?;
        match &self.allow_with {
            Some(change) => write!(f, "\n{}; to allow it: {change}", self.next),
            None => write!(f, "\n{}", self.next),
        }
    }
}
