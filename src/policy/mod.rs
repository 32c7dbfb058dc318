//! Policy: may this command run? Pure functions over plain data.
//!
//! [`decide`] is the only way to get a [`Permit`], and a permit is the only way to a plan.
//! Precedence is `never > deny > confirm > allow`; no match is a denial; the strictest matching
//! rule wins, and neither order nor specificity matters.
//!
//! | file | says |
//! |---|---|
//! | `finding` | what the rules can say about a command |
//! | `decide` | which rules fire, and which of them wins |
//! | `exec` | what of that holds when a task of the run starts a program |
//! | `fetched` | what came from another machine, and is not started |
//! | `callers` | who starts it, for rules that hold only for what somebody starts |
//! | `environment` | which variables it may carry then |
//! | `grammar`, `value` | whether an allow rule covers every word: in doubt, no |
//! | `sed`, `awk` | whether a script does nothing but print and change text |
//! | `loose` | whether a word could be what another rule is about: in doubt, yes |
//! | `refusal` | how a no is worded |
//! | `examples` | whether rules do what their examples say |
//! | `package` | what a script of the project is certain to start |
//! | `lesson` | what a run shows that no rule covers |
//! | `propose` | the rule that would cover it, as text |
//! | `shell` | the words of a text for a shell, where they are certain |
//! | `words` | the words of a string that needs no shell |
//!
//! Reading the command line only narrows what the sandbox permits anyway; nothing here is what
//! keeps a program inside.
#![deny(clippy::wildcard_enum_match_arm)]

mod awk;
mod callers;
mod decide;
mod environment;
mod examples;
mod exec;
mod fetched;
mod finding;
#[cfg(test)]
mod fixture;
mod grammar;
mod lesson;
mod loose;
mod package;
mod propose;
mod refusal;
mod sed;
pub mod shell;
mod value;
pub mod words;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{Denial, Layer, Origin, Request};
use crate::profile::Power;

pub use decide::decide;
pub use examples::{ExampleFailure, check_examples};
pub use exec::{ExecVerdict, Starter, decide_exec, decide_recorded};
pub use fetched::{Dealing, Fetched, File, may_fetch};
pub use lesson::{LEARNED, Lesson, lesson};
pub use package::{NamedScript, PackageScript, decide_package_script, named_script};
pub use propose::{Breadth, Proposed, Scene, propose};

/// "Decided: yes." Only [`decide`] makes one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Permit {
    // INVARIANT: made by `decide` from a rule that allows the request, and only there.
    rule: String,
    power: Power,
    origin: Origin,
    force_environment: BTreeMap<String, String>,
    by_shell: bool,
}

impl Permit {
    /// A permit that nobody decided, for the unit tests of what comes after.
    #[cfg(test)]
    pub(crate) fn undecided(rule: &str, force_environment: BTreeMap<String, String>) -> Self {
        let origin = Origin::built_in("a unit test");
        Self {
            rule: rule.to_owned(),
            power: Power::Exec,
            origin,
            force_environment,
            by_shell: false,
        }
    }

    /// The id of the rule that allowed the command.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    pub fn power(&self) -> Power {
        self.power
    }

    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether a shell starts what is allowed, so that only the exec gate sees what it really is.
    pub fn by_shell(&self) -> bool {
        self.by_shell
    }

    /// What the program's pack sets, over anything the caller or the profile says.
    pub fn force_environment(&self) -> &BTreeMap<String, String> {
        &self.force_environment
    }
}

/// The answer to one request.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum Verdict {
    Allow(Permit),
    /// A person has to answer first.
    Ask(Question),
    Deny(Refusal),
}

/// What has to be approved before the command may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Question {
    pub denial: Denial,
    pub rule: String,
    pub power: Power,
}

/// The refusal of what a rule of level 4 and up allows, as long as rung cannot check the signed grant
/// that these levels need.
pub fn without_grant(request: &Request, permit: &Permit) -> Refusal {
    let level = request.level;
    let denial = Denial {
        layer: Layer::Policy,
        rule: "grant".to_owned(),
        level,
        object: refusal::shown(&request.argv),
        reason: format!(
            "rule `{}` allows it, but level {level} needs a signed grant, which this version cannot check",
            permit.rule()
        ),
        origin: Some(permit.origin().clone()),
        allow_with: None,
        next: "work at level 3 or below; leave the rest to a person".to_owned(),
        count: 1,
    };
    Refusal { denial, not_found: false, never: false }
}

/// Why the command may not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    pub denial: Denial,
    /// There is no such program, which is not a matter of policy.
    pub not_found: bool,
    /// No approval and no grant can lift it.
    pub never: bool,
}

impl Refusal {
    /// Whether no rule speaks against it: only none speaks for it.
    pub fn lacks_a_rule(&self) -> bool {
        self.denial.rule == refusal::DEFAULT
    }
}
