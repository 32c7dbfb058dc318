//! The command line of `rung session`, described.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum, ValueHint};

use super::super::arguments;
use crate::engine::session::Risk;
use crate::model::Level;

#[derive(Debug, Subcommand)]
pub(in crate::front) enum SessionVerb {
    /// Begins a session on a tree; prints its name
    #[command(after_help = "\
The tree itself stays as it is: what runs of the session write lands in a layer of its own, until
somebody applies it. Starting takes the same time for every tree. Where the host can have no such
layer the tree is copied, and rung says why.

With --worktree the session gets a git worktree beside the checkout instead, and what its runs commit
is on the branch when they end. Hooks, settings, other branches and other worktrees stay as they are.

Examples:
  rung session start                             on the checkout around the working directory
  rung session start --name fix-42 --level 3
  rung session start --worktree agent/fix-42     in a git worktree of its own
  rung run --session fix-42 -- cargo test        a run in it

Exit codes:
  0    the session is there
  2    rung's own command line is wrong
  125  it could not be made
")]
    Start {
        /// How it is called (default: a name that nobody has)
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// The level of runs that name none
        #[arg(short, long, value_name = "N", value_parser = arguments::level_of)]
        level: Option<Level>,
        /// The tree (default: the git checkout around the working directory, or that itself)
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        base: Option<PathBuf>,
        /// A git worktree of its own on this branch, which is made if it is not there
        #[arg(long, value_name = "BRANCH")]
        worktree: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },

    /// Reads commands, one a line, and runs each in the session
    #[command(after_help = "\
Each line is a run of its own: decided, recorded and bounded like `rung run --session`. It is split
at blanks as a shell would, and anything else of a shell is refused. `exit` or the end of the input
ends it.

Examples:
  rung session shell fix-42
")]
    Shell {
        /// The session
        name: String,
    },

    /// Lists the sessions
    #[command(after_help = "\
Examples:
  rung session list
  rung session list --json
")]
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },

    /// Shows what a session is, or what can be rolled back
    #[command(after_help = "\
Examples:
  rung session show fix-42
  rung session show --acts          every apply and rollback, with its id
")]
    Show {
        /// The session
        #[arg(required_unless_present = "acts")]
        name: Option<String>,
        /// What can be rolled back, instead
        #[arg(long, conflicts_with = "name")]
        acts: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },

    /// Lists what a session changed, and what changed on both sides
    #[command(after_help = "\
A file of the tree shows in the session as it is, until the session has a copy of its own. What the
host changes afterwards does not reach the copy: such files are listed as changed on both sides.

Examples:
  rung session status fix-42
")]
    Status {
        /// The session
        name: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },

    /// Shows what a session changed, line by line
    #[command(after_help = "\
Whatever a terminal would obey is escaped. On a terminal it is shown in colour and page by page, by
the system's `less`, which starts and writes nothing; no setting names another pager. With --patch
the text is for `git apply`, binary files too, and what no patch can hold is named on standard error.

Examples:
  rung session diff fix-42
  rung session diff fix-42 --stat src
  rung session diff fix-42 --patch > fix.patch && git apply fix.patch
")]
    Diff {
        /// The session
        name: String,
        /// Only what is at or below these, relative to the tree
        #[arg(value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// One line for each change
        #[arg(long, conflicts_with_all = ["patch", "json"])]
        stat: bool,
        /// For `git apply`
        #[arg(long, conflicts_with = "json")]
        patch: bool,
        /// All at once, also on a terminal
        #[arg(long)]
        no_pager: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },

    /// Brings changes of a session into the tree
    #[command(after_help = "\
Every path is decided. Ordinary changes are applied. Changes that somebody should see, such as CI
files, manifests, build hooks or deletions, wait for an answer: on a terminal rung asks, otherwise
name their class with --accept. Protected names, set-id bits, sockets, pipes and devices are
refused. Nothing is overwritten that the host has changed since the session began.
Each file is replaced as a whole or not at all, and an apply that was interrupted is finished by
the next `rung session`. It prints an id, with which `rung session rollback` takes it back.

Examples:
  rung session apply fix-42
  rung session apply fix-42 src tests/new.rs
  rung session apply fix-42 --accept manifest,deletion

Exit codes:
  0    everything that was chosen is in the tree
  1    some of it has changed on both sides, and was left alone
  2    rung's own command line is wrong
  75   some of it waits for an answer
  125  rung failed; the tree is as it was
  126  some of it is refused
")]
    Apply {
        /// The session
        name: String,
        /// Only what is at or below these, relative to the tree
        #[arg(value_name = "PATH")]
        paths: Vec<PathBuf>,
        /// Classes that need no answer, or `all`
        #[arg(long, value_name = "CLASS", value_delimiter = ',')]
        accept: Vec<Accept>,
        /// Also what the host has changed as well
        #[arg(long)]
        overwrite: bool,
        /// Ask nothing; what would need an answer waits
        #[arg(long)]
        no_input: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },

    /// Drops a session and everything it changed, or what it changed at some paths
    #[command(after_help = "\
What was applied stays in the tree, and can still be rolled back. With paths the session stays, and
what is at or below them in the tree shows in it again; this also makes room in one that is full.

Examples:
  rung session discard fix-42
  rung session discard fix-42 build notes.txt

Exit codes:
  0    it is dropped
  1    the session has changed nothing at these paths
  125  rung failed, or a path goes only with the directory above it; nothing was dropped
")]
    Discard {
        /// The session
        name: String,
        /// Only what is at or below these, relative to the tree
        #[arg(value_name = "PATH")]
        paths: Vec<PathBuf>,
    },

    /// Takes an apply, or a rollback, back
    #[command(after_help = "\
Refuses if the tree is not as the act left it, and names the files. A rollback has an id as well.

Examples:
  rung session show --acts
  rung session rollback 01K9XJ4Q6T0V3W8Z5N2M7B1C4D

Exit codes:
  0    the tree is as it was before
  1    the host has changed something since; nothing was done
  125  rung failed
")]
    Rollback {
        /// The id that `apply` printed
        id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },

    /// Writes the changes of a session as a patch
    #[command(after_help = "\
Examples:
  rung session export fix-42 > fix-42.patch
")]
    Export {
        /// The session
        name: String,
    },

    /// Removes what killed runs left behind, and what is too old to be rolled back
    #[command(after_help = "\
Examples:
  rung session gc
")]
    Gc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::front) enum Accept {
    All,
    One(Risk),
}

impl ValueEnum for Accept {
    fn value_variants<'a>() -> &'a [Self] {
        const CLASSES: [Accept; 15] = [
            Accept::All,
            Accept::One(Risk::OddName),
            Accept::One(Risk::Ci),
            Accept::One(Risk::Agent),
            Accept::One(Risk::Editor),
            Accept::One(Risk::Shell),
            Accept::One(Risk::Manifest),
            Accept::One(Risk::Build),
            Accept::One(Risk::Branch),
            Accept::One(Risk::Executable),
            Accept::One(Risk::Path),
            Accept::One(Risk::Leaves),
            Accept::One(Risk::Huge),
            Accept::One(Risk::Deletion),
            Accept::One(Risk::Attributes),
        ];
        &CLASSES
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(match self {
            Self::All => "all",
            Self::One(risk) => risk.name(),
        }))
    }
}
