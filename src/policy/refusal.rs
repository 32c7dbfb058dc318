//! The words of a refusal: what was not covered, the smallest change that would cover it, and
//! what the agent should do instead.
//!
//! Nothing is decided here, except the question "would another level allow it?", which is put to
//! the same rules.

use std::path::{Path, PathBuf};

use crate::model::{Arg, Denial, ProgramFact};
use crate::policy::decide::{allow_rules, final_name, find, judge};
use crate::policy::finding::{Asked, Command, Finding, Nearest, ProgramProblem};
use crate::policy::grammar::{Misfit, Problem};
use crate::policy::shell::{self, Undecidable};
use crate::policy::{Question, Refusal};
use crate::profile::{Decision, Ladder, Power, Profile, Rule, WORKSPACE_CODE};

/// How much of a command line a refusal quotes.
const OBJECT_CHARACTERS_MAX: usize = 200;

/// The rule name of a refusal that no rule made.
pub(super) const DEFAULT: &str = "default";

pub(super) fn above_ceiling(asked: &Asked<'_>, ladder: &Ladder) -> Refusal {
    let grant = if asked.level.needs_grant() { "; levels 4 to 6 need a signed grant" } else { "" };
    let (level, ceiling) = (asked.level, ladder.ceiling);
    let allowing = level_that_allows(asked, Some(ladder));
    refuse(Denial {
        reason: format!("level {level} is above the ceiling of level {ceiling}{grant}"),
        allow_with: Some(allowing.unwrap_or_else(|| {
            "a higher ceiling, set outside the workspace by the person who starts rung".to_owned()
        })),
        next: format!("run it at level {ceiling} or lower, or ask the person who started you"),
        ..denial(asked, "ceiling")
    })
}

pub(super) fn no_profile(asked: &Asked<'_>) -> Refusal {
    let level = asked.level;
    refuse(Denial {
        reason: format!("there is no profile for level {level}, so nothing is allowed there"),
        allow_with: Some(format!("a profile for level {level}")),
        next: "run it at a level that has a profile, or ask the person who started you".to_owned(),
        ..denial(asked, DEFAULT)
    })
}

/// A confirm rule fired.
pub(super) fn question(asked: &Asked<'_>, rule: &Rule) -> Question {
    let denial = Denial {
        reason: format!("this needs an approval: {}", rule.because),
        origin: Some(rule.origin.clone()),
        allow_with: Some("an approval of exactly this command by a person".to_owned()),
        next: instead_or(rule, "ask a person to approve it, and do not look for a way around"),
        ..denial(asked, &rule.id)
    };
    Question { denial, rule: rule.id.clone(), power: rule.power }
}

/// A deny or never rule fired.
pub(super) fn by_rule(asked: &Asked<'_>, ladder: Option<&Ladder>, rule: &Rule) -> Refusal {
    let never = rule.decision == Decision::Never;
    let narrower = || format!("a narrower condition in rule `{}` ({})", rule.id, rule.origin);
    let next = if never {
        "this is never allowed, at any level and with any approval: do not look for another way \
         to the same effect"
            .to_owned()
    } else {
        deliberate(asked)
    };
    let denial = Denial {
        reason: rule.because.clone(),
        origin: Some(rule.origin.clone()),
        allow_with: (!never).then(|| level_that_allows(asked, ladder).unwrap_or_else(narrower)),
        next: instead_or(rule, &next),
        ..denial(asked, &rule.id)
    };
    Refusal { denial, not_found: false, never }
}

/// Nobody can be certain what a text for a shell would run.
pub(super) fn unsure(asked: &Asked<'_>, ladder: Option<&Ladder>, why: &Undecidable) -> Refusal {
    let level = asked.level;
    refuse(Denial {
        reason: format!(
            "level {level} runs a text for a shell only if it is certain what it runs, and {why} \
             is not"
        ),
        allow_with: level_that_allows(asked, ladder),
        next: "run each command by itself (`rung run -- PROGRAM ARGUMENT...`), or write the text \
               without it"
            .to_owned(),
        ..denial(asked, shell::UNDECIDED)
    })
}

/// The same, where a person can be asked.
pub(super) fn unsure_question(asked: &Asked<'_>, why: &Undecidable) -> Question {
    let denial = Denial {
        reason: format!("this text needs an approval, because {why} is not certain"),
        allow_with: Some("an approval of exactly this text by a person".to_owned()),
        next: "run each command by itself (`rung run -- PROGRAM ARGUMENT...`), or ask a person"
            .to_owned(),
        ..denial(asked, shell::UNDECIDED)
    };
    Question { denial, rule: shell::UNDECIDED.to_owned(), power: Power::Exec }
}

/// The refusal of a command is that of the text in which it stands.
pub(super) fn put_in_text(denial: &mut Denial, asked: &Asked<'_>, command: &[Arg]) {
    denial.object = shown(asked.argv);
    denial.reason = format!("in its text, `{}`: {}", command_text(command), denial.reason);
}

/// The program may not be started, whatever its arguments are.
pub(super) fn by_program(
    asked: &Asked<'_>,
    ladder: Option<&Ladder>,
    profile: &Profile,
    problem: &ProgramProblem<'_>,
) -> Refusal {
    let level = asked.level;
    let file = file_of(profile);
    let shown = |path: &Path| path.display().to_string();
    let (rule, reason, change) = match problem {
        ProgramProblem::Missing { searched } => return missing(asked, ladder, searched),
        ProgramProblem::SetId { path } => (
            "exec.set-id",
            format!(
                "`{}` has a set-id bit or capabilities of its own, and would run with rights that its caller has not",
                shown(path)
            ),
            None,
        ),
        ProgramProblem::NotExecutable { path } => (
            "exec.not-executable",
            format!("`{}` is not an executable file", shown(path)),
            Some(format!("the execute permission on `{}`", shown(path))),
        ),
        ProgramProblem::Loader { path } => (
            "exec.loader",
            format!("`{}` is a program loader: it would run any file as a program", shown(path)),
            None,
        ),
        ProgramProblem::Workspace { path } => (
            "exec.workspace-programs",
            format!("level {level} runs no programs of the workspace, such as `{}`", shown(path)),
            Some(format!("`workspace_programs = true` under `[exec]` in {file}")),
        ),
        ProgramProblem::Elsewhere { path } => {
            let directory = path.parent().unwrap_or(path).display();
            let entry = format!("{{ path = \"{directory}\", programs = true, because = \"...\" }}");
            (
                "filesystem.read",
                format!("`{}` is in no program directory of level {level}", shown(path)),
                Some(format!("the entry `{entry}` in `filesystem.read` of {file}")),
            )
        }
        ProgramProblem::Nameless => {
            (DEFAULT, "the program's name is not text, so no rule covers it".to_owned(), None)
        }
    };
    let may_move =
        matches!(problem, ProgramProblem::Workspace { .. } | ProgramProblem::Elsewhere { .. });
    let other_level = may_move.then(|| level_that_allows(asked, ladder)).flatten();
    refuse(Denial {
        reason,
        allow_with: other_level.or(change),
        next: deliberate(asked),
        ..denial(asked, rule)
    })
}

fn missing(asked: &Asked<'_>, ladder: Option<&Ladder>, searched: &[PathBuf]) -> Refusal {
    const PLACES_SHOWN_MAX: usize = 8;
    let places: Vec<String> =
        searched.iter().take(PLACES_SHOWN_MAX).map(|it| it.display().to_string()).collect();
    let name = asked.argv.first().map(Arg::to_string).unwrap_or_default();
    let denial = Denial {
        reason: format!("there is no program `{name}` in {}", places.join(", ")),
        allow_with: level_that_allows(asked, ladder),
        next: "check the name; nothing can be installed from inside the sandbox".to_owned(),
        ..denial(asked, "exec.search-path")
    };
    Refusal { denial, not_found: true, never: false }
}

/// No rule covers the command.
pub(super) fn by_default(
    asked: &Asked<'_>,
    ladder: Option<&Ladder>,
    profile: &Profile,
    nearest: &Nearest<'_>,
) -> Refusal {
    let level = asked.level;
    let file = file_of(profile);
    let (reason, change) = match nearest {
        Nearest::NoRule { program } => {
            let started = match asked.callers {
                [] => String::new(),
                callers => format!(" with `started_by = {}`", quoted_list(callers)),
            };
            let reason = match only_for_others(program, asked, profile) {
                Some(rule) => format!(
                    "rule `{}` allows `{program}` only where {} starts it",
                    rule.id,
                    who(&rule.started_by, " or ")
                ),
                None => format!("no rule at level {level} allows `{program}`{}", by_whom(asked)),
            };
            (reason, Some(format!("an `[[exec.rule]]` for `{program}`{started} in {file}")))
        }
        Nearest::Rule { misfit, .. } if is_about_subcommand(asked, misfit) => {
            let command = subcommand_text(asked, misfit);
            (
                format!("no rule at level {level} allows `{command}`"),
                Some(format!("an `[[exec.rule]]` for `{command}` in {file}")),
            )
        }
        Nearest::Rule { rule, misfit } => {
            (sentence(&misfit.problem, rule), change_to(rule, &misfit.problem))
        }
        Nearest::Payload { word } => (
            format!(
                "`{word}` would be started by another program, which only a plain program name with a rule may be"
            ),
            None,
        ),
        Nearest::Redirect { word } => (
            format!("the shell would write `{word}`, which commands of level {level} may not"),
            None,
        ),
        Nearest::TooDeep => ("too many programs start one another on this line".to_owned(), None),
    };
    let other_level = level_that_allows(asked, ladder);
    refuse(Denial {
        reason,
        // Where another level allows the words as they are, nothing is wrong with the words.
        next: match other_level {
            Some(_) => deliberate(asked),
            None => advice(asked, nearest),
        },
        allow_with: other_level.or(change),
        ..denial(asked, DEFAULT)
    })
}

/// The rule that would allow the program if somebody else started it.
fn only_for_others<'a>(program: &str, asked: &Asked<'a>, profile: &'a Profile) -> Option<&'a Rule> {
    let place = asked.place(profile);
    allow_rules(profile, program).find(|it| !place.is_about(it))
}

/// `, started by git and sh`; nothing for what was asked of rung itself.
fn by_whom(asked: &Asked<'_>) -> String {
    match asked.callers {
        [] => String::new(),
        callers => format!(", started by {}", who(callers, " and ")),
    }
}

fn who<S: AsRef<str>>(callers: &[S], between: &str) -> String {
    const CALLERS_SHOWN_MAX: usize = 3;
    let name = |it: &S| match it.as_ref() {
        WORKSPACE_CODE => "code of the workspace".to_owned(),
        program => format!("`{program}`"),
    };
    let mut shown: Vec<String> = callers.iter().take(CALLERS_SHOWN_MAX).map(name).collect();
    if callers.len() > CALLERS_SHOWN_MAX {
        shown.push(format!("{} more", callers.len() - CALLERS_SHOWN_MAX));
    }
    shown.join(between)
}

fn quoted_list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|it| format!("\"{it}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

/// Whether the word that no rule covers is the subcommand itself, so that no rule is near.
fn is_about_subcommand(asked: &Asked<'_>, misfit: &Misfit) -> bool {
    let before = asked.argv.get(1..=misfit.covered).unwrap_or_default();
    matches!(misfit.problem, Problem::OtherWord { .. })
        && before.iter().all(|it| it.as_bytes().starts_with(b"-"))
}

fn subcommand_text(asked: &Asked<'_>, misfit: &Misfit) -> String {
    let program = asked.argv.first().map(Arg::to_string).unwrap_or_default();
    let subcommand = asked.argv.get(misfit.covered + 1).map(Arg::to_string).unwrap_or_default();
    format!("{program} {subcommand}")
}

/// What the nearest rule does not cover.
pub(super) fn sentence(problem: &Problem, rule: &Rule) -> String {
    let id = &rule.id;
    match problem {
        Problem::UnknownOption { option, .. } => {
            format!("`{option}` is not an option that rule `{id}` knows")
        }
        Problem::NoValueTaken { option } => {
            format!("rule `{id}` knows `{option}` as an option without a value")
        }
        Problem::ValueMissing { option, wanted } => {
            format!("`{option}` needs {wanted} after it, by rule `{id}`")
        }
        Problem::BadValue { option, value, wanted } => {
            format!("`{value}` is not {wanted}, which rule `{id}` requires after `{option}`")
        }
        Problem::BadOperand { operand, wanted } => {
            format!("`{operand}` is not {wanted}, which rule `{id}` requires there")
        }
        Problem::TooManyOperands { operand } => {
            format!("`{operand}` is one argument more than rule `{id}` allows")
        }
        Problem::TooFewOperands { wanted } => {
            format!("an argument is missing: rule `{id}` requires {wanted}")
        }
        Problem::OtherWord { word, wanted } => {
            format!("`{word}` is not {wanted}, which rule `{id}` requires there")
        }
    }
}

fn change_to(rule: &Rule, problem: &Problem) -> Option<String> {
    let place = format!("rule `{}` ({})", rule.id, rule.origin);
    match problem {
        Problem::UnknownOption { abbreviates: Some(_), .. }
        | Problem::ValueMissing { .. }
        | Problem::TooFewOperands { .. } => None,
        Problem::UnknownOption { option, abbreviates: None } => {
            Some(format!("`{option}` among the options of {place}"))
        }
        Problem::NoValueTaken { option } | Problem::BadValue { option, .. } => {
            Some(format!("another type for `{option}` in {place}"))
        }
        Problem::BadOperand { .. } | Problem::TooManyOperands { .. } => {
            Some(format!("other operands in {place}"))
        }
        Problem::OtherWord { word, .. } => Some(format!("a rule for `{word}` beside {place}")),
    }
}

fn advice(asked: &Asked<'_>, nearest: &Nearest<'_>) -> String {
    match nearest {
        Nearest::Rule { misfit, .. } => match &misfit.problem {
            Problem::UnknownOption { abbreviates: Some(full), .. } => {
                format!("write the option in full: `{full}`")
            }
            Problem::ValueMissing { .. } | Problem::TooFewOperands { .. } => {
                "complete the command line".to_owned()
            }
            Problem::UnknownOption { abbreviates: None, .. }
            | Problem::NoValueTaken { .. }
            | Problem::BadValue { .. }
            | Problem::BadOperand { .. }
            | Problem::TooManyOperands { .. }
            | Problem::OtherWord { .. } => deliberate(asked),
        },
        Nearest::Payload { .. } | Nearest::TooDeep => {
            "run the inner command by itself, by its plain name".to_owned()
        }
        Nearest::NoRule { .. } | Nearest::Redirect { .. } => deliberate(asked),
    }
}

fn deliberate(asked: &Asked<'_>) -> String {
    format!(
        "this is a deliberate limit of level {}: do not retry with other spellings; go on without \
         it and say what was left out",
        asked.level
    )
}

fn instead_or(rule: &Rule, otherwise: &str) -> String {
    rule.instead.clone().unwrap_or_else(|| otherwise.to_owned())
}

/// The lowest other level of the ladder whose rules would let the command through.
fn level_that_allows(asked: &Asked<'_>, ladder: Option<&Ladder>) -> Option<String> {
    let ladder = ladder?;
    let mut others = ladder.profiles.values().filter(|it| it.level != asked.level);
    others.find_map(|profile| permission_at(asked, ladder, profile))
}

fn permission_at(asked: &Asked<'_>, ladder: &Ladder, profile: &Profile) -> Option<String> {
    let how = match find_by_name(asked, profile)? {
        Finding::Allowed(allowed) => format!("allows it by rule `{}`", allowed.rule),
        Finding::Caught(rule) if rule.decision == Decision::Confirm => {
            format!("allows it with an approval, by rule `{}`", rule.id)
        }
        Finding::Caught(_)
        | Finding::BadProgram(_)
        | Finding::Uncovered(_)
        | Finding::Undecidable(_)
        | Finding::Text(_) => return None,
    };
    let ceiling = ladder.ceiling;
    let above = if profile.level > ceiling {
        format!(", above the ceiling of level {ceiling}")
    } else {
        String::new()
    };
    Some(format!("level {} {how}{above}", profile.level))
}

/// Where a program lies was looked up for the request's own level, so a place that this level does
/// not know says nothing about another.
fn find_by_name<'a>(asked: &Asked<'a>, profile: &'a Profile) -> Option<Finding<'a>> {
    let finding = find(asked, profile);
    match finding {
        Finding::BadProgram(ProgramProblem::Elsewhere { .. } | ProgramProblem::Missing { .. }) => {}
        Finding::BadProgram(_)
        | Finding::Allowed(_)
        | Finding::Caught(_)
        | Finding::Undecidable(_)
        | Finding::Text(_)
        | Finding::Uncovered(_) => return Some(finding),
    }
    let (first, words) = asked.argv.split_first()?;
    let name = match asked.program {
        ProgramFact::Missing { .. } => first.as_str().filter(|it| !it.contains('/'))?,
        ProgramFact::Found { path, .. } => final_name(path)?,
    };
    let place = asked.place(profile);
    Some(judge(profile, &Command { name, names: vec![name], words }, &place, 1))
}

/// Where a person would add to the level: the organisation's or the user's own file for it.
fn file_of(profile: &Profile) -> String {
    format!("your `level-{}.toml`", profile.level)
}

fn refuse(denial: Denial) -> Refusal {
    Refusal { denial, not_found: false, never: false }
}

/// What all refusals of a command have in common.
fn denial(asked: &Asked<'_>, rule: &str) -> Denial {
    Denial {
        layer: asked.layer,
        rule: rule.to_owned(),
        level: asked.level,
        object: shown(asked.argv),
        reason: String::new(),
        origin: None,
        allow_with: None,
        next: String::new(),
        count: 1,
    }
}

/// The command line as it was typed: of the words with which rung runs a shell's text, only those
/// that somebody asked for.
pub(super) fn shown(argv: &[Arg]) -> String {
    command_text(&shell::typed(argv).unwrap_or_else(|| argv.to_vec()))
}

/// The command line as a person would write it, cut where it gets long.
pub(super) fn command_text(argv: &[Arg]) -> String {
    let mut text = String::new();
    for (position, word) in argv.iter().enumerate() {
        if position > 0 {
            text.push(' ');
        }
        let shown = word.to_string();
        let plain = !shown.is_empty() && !shown.contains([' ', '\'', '"']);
        if plain {
            text.push_str(&shown);
        } else {
            text.push('\'');
            text.push_str(&shown);
            text.push('\'');
        }
        if text.chars().count() > OBJECT_CHARACTERS_MAX {
            let mut cut: String = text.chars().take(OBJECT_CHARACTERS_MAX).collect();
            cut.push('…');
            return cut;
        }
    }
    text
}
