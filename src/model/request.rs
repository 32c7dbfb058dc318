//! What somebody asks rung to run, before anything has been decided.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Arg, Level, ProgramFact};

/// One command to decide about, complete: the decision needs nothing else of the outside world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Request {
    // INVARIANT: never empty; the front refuses an empty command line.
    pub argv: Vec<Arg>,
    /// What `argv[0]` names on this host.
    pub program: ProgramFact,
    pub level: Level,
    /// Absolute, canonical, below or equal to `workspace`.
    pub cwd: PathBuf,
    /// The tree the command works on. Absolute, canonical.
    pub workspace: PathBuf,
    /// The home directory of the user who runs rung. Absolute.
    pub home: PathBuf,
    /// The caller's environment; what passes is the profile's decision.
    pub environment: BTreeMap<String, Arg>,
    pub ids: Ids,
    pub streams: Streams,
    pub tree: Tree,
    /// Where the workspace is a checkout of a repository that lies elsewhere.
    pub repository: Option<Repository>,
    /// Where a session keeps what its runs write into caches of the user's tools, by the cache.
    pub caches: BTreeMap<PathBuf, Store>,
}

/// A git repository outside the workspace that belongs to it: of a linked worktree or a submodule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// What all checkouts of the repository share. Absolute, canonical.
    pub common: PathBuf,
    pub layer: RepositoryLayer,
    /// New objects go straight into the repository.
    pub objects: bool,
}

/// What takes that which the command writes into a repository outside the workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RepositoryLayer {
    /// Nothing: the command only reads.
    Nothing,
    Kept(Store),
    /// One that a run would get; a question makes none.
    OfTheRun,
}

/// What the command finds in place of the workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tree {
    /// The workspace itself, outside every session.
    #[default]
    Itself,
    /// The workspace itself, which is a checkout of its own that a session made.
    Worktree,
    /// The workspace with a layer of a session on top, which takes every write.
    Overlay(Store),
    /// A copy that a session made of the workspace.
    Copy(Store),
}

/// A directory of rung's own in which a session keeps what its runs write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    pub directory: PathBuf,
    pub device: u64,
    pub inode: u64,
}

/// Who asked, and what the run is called in every record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// Unique per run: 26 characters, sortable by time.
    pub run: String,
    pub agent: Option<String>,
    pub task: Option<String>,
    pub session: Option<String>,
    /// W3C trace context as the caller claims it.
    pub traceparent: Option<String>,
}

/// How the command's standard streams are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Streams {
    /// The caller's own descriptors, untouched unless one of them is a terminal.
    Inherit,
    /// The caller's own descriptors, terminals too, because the caller asked for it.
    RawInherit,
    /// A terminal of ours; what the command prints is filtered before it reaches the caller's.
    Terminal,
    /// A terminal of ours, its output passed on unfiltered because the caller asked for it.
    RawTerminal,
}
