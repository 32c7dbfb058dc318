//! What can be learned from an exec that nothing but the lack of a rule refuses.
//!
//! A learning run lets such a program through and proposes the rule that was lacking. Whatever a
//! rule refuses, would ask a person about, or cannot be certain of teaches nothing: more than a
//! rule's absence is against it.

use std::collections::BTreeMap;

use crate::model::{Arg, ExecFact, ProgramFact, Request};
use crate::policy::decide::final_name;
use crate::policy::exec::{Weighed, weigh};
use crate::policy::finding::{Asked, Finding, Nearest};
use crate::profile::{Profile, WORKSPACE_CODE};

/// The rule id under which a learning run lets a program through.
pub const LEARNED: &str = "learn.observed";

/// A program, and who started it with which words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lesson {
    /// The name that rules go by.
    pub program: String,
    /// What a rule would call whoever starts it; nobody can be named for an orphan.
    pub started_by: Option<String>,
    pub words: Vec<Arg>,
}

/// What a rule would have to cover for the exec to be allowed. Nothing where it is allowed, and
/// where a rule could not change that it is refused.
pub fn lesson(
    fact: &ExecFact,
    request: &Request,
    profile: &Profile,
    given: &BTreeMap<String, Arg>,
) -> Option<Lesson> {
    weigh(fact, request, profile, given, of_weighed).ok()?
}

fn of_weighed(Weighed { about, finding, .. }: Weighed<'_, '_>) -> Option<Lesson> {
    match finding {
        Finding::Uncovered(Nearest::NoRule { .. } | Nearest::Rule { .. }) => {}
        Finding::Uncovered(
            Nearest::Payload { .. } | Nearest::Redirect { .. } | Nearest::TooDeep,
        )
        | Finding::Allowed(_)
        | Finding::Caught(_)
        | Finding::BadProgram(_)
        | Finding::Undecidable(_)
        | Finding::Text(_) => return None,
    }
    Some(Lesson {
        program: name(&about)?.to_owned(),
        started_by: caller(about.callers).map(str::to_owned),
        words: about.argv.get(1..)?.to_vec(),
    })
}

/// The name that allow rules are looked up by: the object's own, where the workspace could have
/// given it another.
fn name<'a>(asked: &Asked<'a>) -> Option<&'a str> {
    match asked.program {
        ProgramFact::Found { path, canonical, .. } if path.starts_with(asked.workspace) => {
            final_name(canonical)
        }
        ProgramFact::Found { path, .. } => final_name(path),
        ProgramFact::Missing { .. } => None,
    }
}

/// The one caller that says most: the last that the call comes through unchanged, because shells
/// and wrappers in between would stand for everybody who uses them.
fn caller<'a>(callers: &[&'a str]) -> Option<&'a str> {
    let named = callers.iter().rfind(|it| **it != WORKSPACE_CODE);
    named.or(callers.last()).copied()
}
