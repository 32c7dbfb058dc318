//! Rules test themselves: every `match` must fire its rule, every `not_match` must not.
//!
//! An example goes through the same code as a request, judged by names and words. So a rule that
//! says something else than its author meant is found when the profile is loaded.

use std::fmt;
use std::path::Path;

use crate::model::{Arg, Origin};
use crate::policy::decide::{allow_rules, apply, final_name, fires, judge};
use crate::policy::finding::{Command, Finding};
use crate::policy::refusal::{command_text, sentence};
use crate::policy::value::Place;
use crate::profile::{Decision, Example, Profile, Rule};

/// Where examples run, as far as their words depend on it.
const WORKSPACE: &str = "/workspace";
const HOME: &str = "/home/user";

/// A rule and its examples contradict each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExampleFailure {
    pub rule: String,
    pub origin: Origin,
    /// The line of the example, or of the rule.
    pub line: u32,
    /// The example; empty where the rule has none.
    pub command: String,
    pub problem: String,
}

impl fmt::Display for ExampleFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, origin, line, command, problem } = self;
        write!(f, "{}:{line}: rule `{rule}`: ", origin.file)?;
        if !command.is_empty() {
            write!(f, "`{command}`: ")?;
        }
        f.write_str(problem)
    }
}

/// Checks every rule of the profile against its examples, and allow rules against the never
/// rules' examples.
pub fn check_examples(profile: &Profile) -> Vec<ExampleFailure> {
    let check = |rule: &Rule| {
        // An example of what somebody starts is started by all of them.
        let callers: Vec<&str> = rule.started_by.iter().map(String::as_str).collect();
        let is_own_call = rule.programs.iter().any(|it| {
            callers.contains(&it.as_str())
                && profile.exec.programs.get(it).is_some_and(|it| it.starts_itself)
        });
        let place = Place {
            profile,
            workspace: Path::new(WORKSPACE),
            cwd: Path::new(WORKSPACE),
            home: Path::new(HOME),
            callers: &callers,
            own_call: is_own_call,
            at_exec: false,
        };
        check_rule(rule, &place)
    };
    profile.exec.rules.iter().flat_map(check).collect()
}

fn check_rule(rule: &Rule, place: &Place<'_>) -> Vec<ExampleFailure> {
    let mut failures = Vec::new();
    if rule.matches.is_empty() {
        let problem = "has no `match` example, so nothing shows what it is meant for";
        failures.push(ExampleFailure {
            rule: rule.id.clone(),
            origin: rule.origin.clone(),
            line: rule.origin.line,
            command: String::new(),
            problem: problem.to_owned(),
        });
    }
    let wanted = rule.matches.iter().map(|it| (it, check_match(rule, it, place)));
    let unwanted = rule.not_matches.iter().map(|it| (it, check_not_match(rule, it, place)));
    failures.extend(wanted.chain(unwanted).filter_map(|(example, problem)| {
        Some(ExampleFailure {
            rule: rule.id.clone(),
            origin: rule.origin.clone(),
            line: example.line,
            command: command_text(&example.argv),
            problem: problem?,
        })
    }));
    failures
}

/// What is wrong with an example that should fire the rule.
fn check_match(rule: &Rule, example: &Example, place: &Place<'_>) -> Option<String> {
    let Some(command) = command_of(&example.argv) else {
        return Some("does not begin with a program's name".to_owned());
    };
    match rule.decision {
        Decision::Allow => check_allowed(rule, &command, place),
        Decision::Confirm | Decision::Deny => {
            (!is_caught(rule, &command, place)).then(|| NOT_FIRED.to_owned())
        }
        Decision::Never if !is_caught(rule, &command, place) => Some(NOT_FIRED.to_owned()),
        Decision::Never => {
            let about = allow_rules(place.profile, command.name).filter(|it| place.is_about(it));
            let mut shadows = about.filter(|it| {
                matches!(apply(place.profile, it, &command, place, 1), Ok(Finding::Allowed(_)))
            });
            shadows.next().map(|it| {
                format!("allow rule `{}` ({}) covers what is never allowed", it.id, it.origin)
            })
        }
    }
}

const NOT_FIRED: &str = "should fire the rule and does not";

fn check_allowed(rule: &Rule, command: &Command<'_>, place: &Place<'_>) -> Option<String> {
    let profile = place.profile;
    if !rule.programs.iter().any(|it| it == command.name) {
        return Some(format!("is about `{}`, which the rule is not", command.name));
    }
    let payload = match apply(profile, rule, command, place, 1) {
        Ok(finding) => finding,
        Err(misfit) => return Some(format!("does not fit: {}", sentence(&misfit.problem, rule))),
    };
    if !matches!(payload, Finding::Allowed(_) | Finding::Caught(_)) {
        return Some("fits, but the command it starts is not allowed".to_owned());
    }
    match judge(profile, command, place, 1) {
        Finding::Caught(stricter) if stricter.decision == Decision::Never => Some(format!(
            "is allowed by this rule and never allowed by rule `{}` ({})",
            stricter.id, stricter.origin
        )),
        Finding::Allowed(_) | Finding::Caught(_) => None,
        Finding::Uncovered(_)
        | Finding::BadProgram(_)
        | Finding::Undecidable(_)
        | Finding::Text(_) => Some("fits, but another rule for the program refuses it".to_owned()),
    }
}

/// What is wrong with an example that should not fire the rule.
fn check_not_match(rule: &Rule, example: &Example, place: &Place<'_>) -> Option<String> {
    let command = command_of(&example.argv)?;
    let fired = match rule.decision {
        Decision::Allow => {
            rule.programs.iter().any(|it| it == command.name)
                && matches!(apply(place.profile, rule, &command, place, 1), Ok(Finding::Allowed(_)))
        }
        Decision::Confirm | Decision::Deny | Decision::Never => is_caught(rule, &command, place),
    };
    fired.then(|| "should not fire the rule and does".to_owned())
}

fn is_caught(rule: &Rule, command: &Command<'_>, place: &Place<'_>) -> bool {
    fires(place.profile, rule, &command.names, command.words, place)
}

fn command_of(argv: &[Arg]) -> Option<Command<'_>> {
    let (first, words) = argv.split_first()?;
    let name = final_name(Path::new(first.as_os_str()))?;
    Some(Command { name, names: vec![name], words })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture::{allow, example, operands, profile, rule};
    use crate::profile::{ValueType, When};

    fn reads() -> Rule {
        let arguments = vec![operands(ValueType::PathRead, 0, 9)];
        let rule = allow("cat", "cat", arguments);
        Rule { matches: vec![example("cat a")], not_matches: vec![example("cat -x")], ..rule }
    }

    fn forbids() -> Rule {
        let when = When { any_option: vec!["--force".to_owned()], ..When::default() };
        let matches = vec![example("cat --forc")];
        let not_matches = vec![example("cat a")];
        Rule { when, matches, not_matches, ..rule("force", "cat", Decision::Never) }
    }

    #[track_caller]
    fn check(rules: Vec<Rule>, problem: &str) {
        let mut profile = profile();
        profile.exec.rules = rules;
        let failures: Vec<String> =
            check_examples(&profile).iter().map(ToString::to_string).collect();
        assert_eq!(failures.join("\n"), problem);
    }

    #[test]
    fn rules_that_do_what_their_examples_say_have_no_failure() {
        check(vec![reads(), forbids()], "");
    }

    #[test]
    fn every_contradiction_is_named_with_its_line() {
        check(
            vec![Rule { matches: Vec::new(), ..reads() }],
            "rules.toml:7: rule `cat`: has no `match` example, so nothing shows what it is meant for",
        );
        check(
            vec![Rule { matches: vec![example("cat -x")], not_matches: Vec::new(), ..reads() }],
            "rules.toml:9: rule `cat`: `cat -x`: does not fit: `-x` is not an option that rule \
             `cat` knows",
        );
        check(
            vec![Rule { matches: vec![example("tac a")], ..reads() }],
            "rules.toml:9: rule `cat`: `tac a`: is about `tac`, which the rule is not",
        );
        check(
            vec![Rule { not_matches: vec![example("cat b")], ..reads() }],
            "rules.toml:9: rule `cat`: `cat b`: should not fire the rule and does",
        );
        check(
            vec![Rule { matches: vec![example("cat a")], not_matches: Vec::new(), ..forbids() }],
            "rules.toml:9: rule `force`: `cat a`: should fire the rule and does not",
        );
    }

    #[test]
    fn what_is_never_allowed_may_not_be_covered_by_an_allow_rule() {
        let never = Rule { matches: vec![example("cat a")], ..rule("no", "cat", Decision::Never) };
        check(
            vec![reads(), never],
            "rules.toml:9: rule `cat`: `cat a`: is allowed by this rule and never allowed by rule \
             `no` (rules.toml:7)\n\
             rules.toml:9: rule `no`: `cat a`: allow rule `cat` (rules.toml:7) covers what is never \
             allowed",
        );
    }
}
