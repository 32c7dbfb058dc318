//! The six levels of the permission ladder.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One rung of the ladder. A higher level may touch more kinds of things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Level {
    /// Read code, docs and logs with listed reading programs.
    ReadOnlyResearch = 1,
    /// Edit inside the workspace; local git on agent branches.
    LocalWrites = 2,
    /// Run tests, linters, type checks and builds.
    TestExecution = 3,
    /// Push agent branches and open pull requests; risky steps only with an approval.
    ApprovedIntegration = 4,
    /// Read production telemetry with read-only credentials.
    ProductionAdjacent = 5,
    /// One narrow production target, each command approved.
    ProductionWrites = 6,
}

/// A number outside 1 to 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no level {0}: levels are 1 to 6")]
pub struct UnknownLevel(pub u8);

impl Level {
    pub const ALL: [Self; 6] = [
        Self::ReadOnlyResearch,
        Self::LocalWrites,
        Self::TestExecution,
        Self::ApprovedIntegration,
        Self::ProductionAdjacent,
        Self::ProductionWrites,
    ];

    pub fn number(self) -> u8 {
        self as u8
    }

    /// What the level is called in the ladder's table.
    pub fn title(self) -> &'static str {
        match self {
            Self::ReadOnlyResearch => "read-only research",
            Self::LocalWrites => "local sandbox writes",
            Self::TestExecution => "test execution with guardrails",
            Self::ApprovedIntegration => "human-approved integration",
            Self::ProductionAdjacent => "production-adjacent",
            Self::ProductionWrites => "production writes",
        }
    }

    /// Whether rung may only use this level under a signed grant.
    pub fn needs_grant(self) -> bool {
        self >= Self::ApprovedIntegration
    }
}

impl TryFrom<u8> for Level {
    type Error = UnknownLevel;
    fn try_from(number: u8) -> Result<Self, UnknownLevel> {
        Self::ALL.into_iter().find(|it| it.number() == number).ok_or(UnknownLevel(number))
    }
}

impl From<Level> for u8 {
    fn from(level: Level) -> Self {
        level.number()
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_the_numbers_1_to_6() {
        let numbers: Vec<u8> =
            (0..=255).filter(|number| Level::try_from(*number).is_ok()).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    }
}
