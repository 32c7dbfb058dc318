//! Sessions: the unit in which an agent works for an hour, and a person decides at its end.
//!
//! The one idea: what the runs of a session write lands in a layer of rung's own, so the user's tree
//! is the same, byte for byte, until somebody applies a change to it. The layer is therefore also
//! the list of what changed: nothing has to be compared, and no tree is walked.
//!
//! | file | does |
//! |---|---|
//! | `store` | where sessions lie on disk: made, opened, locked, removed |
//! | `place` | objects below a directory, by descriptor, never through a link |
//! | `state` | what an object is, as far as a change can be about it |
//! | `copy` | the other backend: a copy of the tree, where there can be no overlay |
//! | `seen` | what a run will find at a path |
//! | `changes` | what a session changed |
//! | `repository` | the repository of a checkout that keeps it elsewhere |
//! | `risk` | which changes a person should see, and which are refused |
//! | `text` | changes as text and as a patch |
//! | `binary` | contents that are no text, in a patch |
//! | `usage` | how much the runs of a session have written |
//! | `worktree` | a git worktree of a session's own |
//! | `act` | apply and rollback as journals, finished after a crash |
//! | `carry` | the steps of an act, each of them atomic for its file |
//!
//! What this module must not do: follow a link that a run may have planted, start a program, or
//! believe a time that a program can set.

mod act;
mod binary;
mod carry;
mod changes;
mod copy;
mod place;
mod repository;
mod risk;
mod seen;
mod state;
mod store;
mod text;
mod usage;
pub mod worktree;

#[cfg(test)]
mod tests;

pub use act::{Act, Acts, Recovered};
pub use carry::Step;
pub use changes::{Change, Kind, changes};
pub use repository::{Kept, Repository, is_shared_branch};
pub use risk::{Class, Risk, Verdict};
pub use seen::{Seen, Sight};
pub use state::{Moment, State};
pub use store::{Backend, Lock, Manifest, NAME_BYTES_MAX, Session, Sessions};
pub use text::{Patch, Shown, diff, line, stat};
pub use usage::{Counter, Over, Quota, Used};

use std::io;
use std::path::{Path, PathBuf};

/// Why a session could not be made, read, applied or removed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("{doing} `{}` failed: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "`{name}` cannot be the name of a session: use 1 to 64 of a-z, 0-9, `.`, `_` and `-`, a letter or digit first"
    )]
    Name { name: String },
    #[error("there is no session `{name}`; `rung session list` shows them all")]
    Missing { name: String },
    #[error(
        "there is a session `{name}` already; apply or discard it, or choose another name with `--name`"
    )]
    Exists { name: String },
    #[error(
        "the session `{name}` cannot be trusted: {why}; `rung session discard {name}` removes it"
    )]
    Tampered { name: String, why: String },
    #[error("the session `{name}` is in use by a run; wait for its end, then try again")]
    Busy { name: String },
    #[error("`{}`, which the session `{name}` works on, {why}", base.display())]
    Base { name: String, base: PathBuf, why: String },
    #[error("`{}` has more than {max} {what}, which is more than rung looks at", path.display())]
    TooMuch { path: PathBuf, max: u64, what: &'static str },
    #[error("no worktree can be on the branch `{branch}`: {why}")]
    Branch { branch: String, why: String },
    #[error(
        "the session `{name}` is a git worktree on the branch `{branch}`: look at it with `git -C {} diff`, and merge the branch to keep it", base.display()
    )]
    IsWorktree { name: String, base: PathBuf, branch: String },
    #[error("there is no act `{id}`; `rung session show --acts` lists them")]
    NoAct { id: String },
    #[error("an apply or rollback in `{}` that was interrupted could not be finished: {source}; mend that and try again, or give it up as it is by removing `{}`", base.display(), directory.display())]
    Unfinished { base: PathBuf, directory: PathBuf, source: io::Error },
    #[error("the act `{id}` cannot be trusted: {why}")]
    TornAct { id: String, why: String },
    #[error("nothing was changed, because the host is not as it was left:\n{}", listed(paths))]
    Changed { paths: Vec<PathBuf> },
    #[error(
        "{why}\nthese could not be put back, because somebody else changed them meanwhile; the next `rung session` that changes something tries once more:\n{}",
        listed(paths)
    )]
    HalfBack { why: Box<SessionError>, paths: Vec<PathBuf> },
    #[error("`{}` cannot be given back: {why}", path.display())]
    Unsupported { path: PathBuf, why: String },
}

fn listed(paths: &[PathBuf]) -> String {
    /// Names that one message has.
    const SHOWN_MAX: usize = 20;
    let mut lines: Vec<String> =
        paths.iter().take(SHOWN_MAX).map(|it| format!("  {}", shown(it))).collect();
    if let more @ 1.. = paths.len().saturating_sub(SHOWN_MAX) {
        lines.push(format!("  and {more} more"));
    }
    lines.join("\n")
}

/// A path as it may be printed: whatever a terminal would obey is escaped.
pub fn shown(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    match crate::model::Arg::new(path.as_os_str().as_bytes()) {
        Ok(word) => word.to_string(),
        // No path of the kernel's has a NUL byte.
        Err(error) => error.to_string(),
    }
}

/// Names the operation and the path of a failure.
fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SessionError {
    move |source| SessionError::Io { doing, path: path.to_owned(), source }
}
