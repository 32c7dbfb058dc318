//! Where an entry comes from, kept beside the entry all the way into the plan and the ledger.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The profile line that an entry comes from, and the reason its author gave.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// `level-3.toml`, `packs/rust.toml`, or the path of an override; `rung` for what the program
    /// itself always adds.
    pub file: String,
    /// Counted from 1; 0 where there is no line.
    pub line: u32,
    pub because: String,
}

impl Origin {
    /// What rung itself adds to every plan, whatever the profile says.
    pub fn built_in(because: &str) -> Self {
        Self { file: "rung".to_owned(), line: 0, because: because.to_owned() }
    }
}

/// `level-3.toml:41`
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}
