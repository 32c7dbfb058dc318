//! What the rules of one profile can say about a command, before it becomes a verdict.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::model::{Arg, Layer, Level, Origin, ProgramFact, Request};
use crate::policy::grammar::Misfit;
use crate::policy::shell::Undecidable;
use crate::policy::value::Place;
use crate::profile::{Decision, Power, Profile, Rule};

/// A command and where it would run: what a request and an exec of a task have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked<'a> {
    pub argv: &'a [Arg],
    pub program: &'a ProgramFact,
    pub level: Level,
    pub cwd: &'a Path,
    pub workspace: &'a Path,
    pub home: &'a Path,
    /// Who starts it; nobody for what was asked of rung itself.
    pub callers: &'a [&'a str],
    /// It is a program's own call of itself.
    pub own_call: bool,
    /// Which wall a refusal comes from.
    pub layer: Layer,
}

impl<'a> Asked<'a> {
    pub(super) fn place(&self, profile: &'a Profile) -> Place<'a> {
        let Self { cwd, workspace, home, callers, own_call, layer, .. } = *self;
        let at_exec = layer == Layer::Exec;
        Place { profile, workspace, cwd, home, at_exec, callers, own_call }
    }
}

impl<'a> From<&'a Request> for Asked<'a> {
    fn from(request: &'a Request) -> Self {
        Self {
            argv: &request.argv,
            program: &request.program,
            level: request.level,
            cwd: &request.cwd,
            workspace: &request.workspace,
            home: &request.home,
            callers: &[],
            own_call: false,
            layer: Layer::Policy,
        }
    }
}

/// What the rules of one profile say about a command.
#[derive(Debug)]
pub(super) enum Finding<'a> {
    Allowed(Allowed),
    /// A confirm, deny or never rule fired.
    Caught(&'a Rule),
    /// The program itself may not be started, whatever its arguments are.
    BadProgram(ProgramProblem<'a>),
    /// No rule covers it.
    Uncovered(Nearest<'a>),
    /// Text for a shell of which nobody can be certain.
    Undecidable(Undecidable),
    /// One of the commands of a text for a shell.
    Text(Box<InText<'a>>),
}

/// The strictest of the commands of a text, as it is written there.
#[derive(Debug)]
pub(super) struct InText<'a> {
    pub command: Vec<Arg>,
    pub finding: Finding<'a>,
}

/// What a permit is made from.
#[derive(Debug)]
pub(super) struct Allowed {
    pub rule: String,
    pub power: Power,
    pub origin: Origin,
    pub force_environment: BTreeMap<String, String>,
    /// A shell is between rung and what is allowed.
    pub by_shell: bool,
}

/// Why a program may not be started.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ProgramProblem<'a> {
    Missing {
        searched: &'a [PathBuf],
    },
    SetId {
        path: &'a Path,
    },
    NotExecutable {
        path: &'a Path,
    },
    Loader {
        path: &'a Path,
    },
    Workspace {
        path: &'a Path,
    },
    Elsewhere {
        path: &'a Path,
    },
    /// A name that is not text, so no rule can be about it.
    Nameless,
}

/// How close the command came to being allowed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Nearest<'a> {
    /// No allow rule is about the program.
    NoRule {
        program: String,
    },
    /// The rule that covers most of the words, and the first word it does not cover.
    Rule {
        rule: &'a Rule,
        misfit: Misfit,
    },
    /// A wrapper is allowed, but what it starts is named by a path or an assignment.
    Payload {
        word: String,
    },
    /// A shell would open a file for writing that is none of the command's.
    Redirect {
        word: String,
    },
    TooDeep,
}

/// A command as rules see it: names and words.
pub(super) struct Command<'a> {
    /// The one name that allow rules go by.
    pub name: &'a str,
    /// All names that the other rules go by.
    pub names: Vec<&'a str>,
    /// The words after the program.
    pub words: &'a [Arg],
}

/// Stricter is larger; equal findings of different rules go by the rule's id, so that the order
/// of rules never shows.
pub(super) fn precedence<'a>(finding: &'a Finding<'_>) -> (u8, Reverse<&'a str>) {
    match finding {
        Finding::Allowed(allowed) => (0, Reverse(&allowed.rule)),
        Finding::Caught(rule) => match rule.decision {
            Decision::Allow => (0, Reverse(&rule.id)),
            Decision::Confirm => (1, Reverse(&rule.id)),
            Decision::Deny => (4, Reverse(&rule.id)),
            Decision::Never => (5, Reverse(&rule.id)),
        },
        Finding::Undecidable(_) => (2, Reverse("")),
        Finding::Uncovered(_) => (3, Reverse("")),
        Finding::BadProgram(_) => (4, Reverse("")),
        Finding::Text(text) => precedence(&text.finding),
    }
}
