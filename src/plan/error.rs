//! Why a permitted request has no plan.
//!
//! One sentence per way to fail, each with the path or the profile line it is about, so that the
//! reader knows what to change. Nothing ran when one of these is returned.

use std::fmt;
use std::path::PathBuf;

use super::Gap;
use crate::model::{Level, Origin};

/// Why there is no plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("the profile is for level {profile} and the request for level {request}")]
    WrongLevel { profile: Level, request: Level },
    #[error("level {level} writes only inside a session ({because}), and this run has none")]
    NeedsSession { level: Level, because: Origin },
    #[error("`{}` cannot be the workspace: {why}", path.display())]
    Workspace { path: PathBuf, why: String },
    #[error("the working directory `{}` lies outside the workspace `{}`", cwd.display(), workspace.display())]
    OutsideWorkspace { cwd: PathBuf, workspace: PathBuf },
    #[error("`{}` cannot be the home directory of a run: {why}", path.display())]
    Home { path: PathBuf, why: String },
    #[error("the path `{}` is not valid UTF-8, and every path of a plan is recorded as text", path.display())]
    NotText { path: PathBuf },
    #[error("{because} names `{name}`: {why}")]
    Entry { name: String, because: Origin, why: String },
    #[error("{because} would let the command write `{}`", protected.display())]
    ReachesProtected { protected: PathBuf, because: Origin },
    #[error("`{}` is {found}, so {because} cannot protect what lies below it", path.display())]
    Unprotectable { path: PathBuf, found: &'static str, because: Origin },
    #[error("`{}` is not in the view of level {level}, or programs there may not be started", path.display())]
    ProgramNotInView { path: PathBuf, level: Level },
    #[error(
        "a shell would start what the text names, and without an exec gate, which this host cannot have, nobody would see what that really is: run each command by itself, as `rung run -- PROGRAM ARGUMENT...`"
    )]
    NeedsGate,
    #[error("there is no program `{name}`")]
    NoProgram { name: String },
    #[error("this host cannot keep what level {level} promises\n{}", listed(gaps))]
    Gaps { level: Level, gaps: Vec<Gap> },
    #[error("the plan has no digest: {why}")]
    Unprintable { why: String },
}

fn listed(gaps: &[Gap]) -> String {
    let lines: Vec<String> = gaps.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}; {}", self.mechanism, self.promise, self.cause, self.fix)
    }
}
