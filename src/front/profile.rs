//! `rung profile`: what a level says, what is wrong with it, what another one adds.

use std::path::Path;
use std::process::ExitCode;

use super::FAILED;
use super::cli::ProfileVerb;
use super::words::{answer, answer_json, complain, say};
use crate::engine::inspect::profiles::{self, Profile, blast, diff};
use crate::engine::scenarios::{self, Held};
use crate::engine::{EngineError, Surroundings};
use crate::model::Level;

/// The profiles have mistakes, or are not what was expected.
const WRONG: u8 = 1;

pub(super) fn profile(verb: ProfileVerb, around: &Surroundings) -> ExitCode {
    let done = match verb {
        ProfileVerb::Show { level, resolved, json } => show(level, resolved, json, around),
        ProfileVerb::Lint { files, json } => around.lint(&files).map(|found| lint(&found, json)),
        ProfileVerb::Diff { a, b, json } => differ(&a, &b, json, around),
        ProfileVerb::Blast { all: true, json, .. } => blast_of_all(json, around),
        ProfileVerb::Blast { level, json, .. } => blast_of(level, json, around),
        ProfileVerb::Test { file, with, json } => test(&file, with.as_deref(), json, around),
        ProfileVerb::Schema => Ok(answer(&profiles::schema())),
    };
    done.unwrap_or_else(|error| complain(&error.to_string(), FAILED))
}

fn or_default(level: Option<Level>, around: &Surroundings) -> Result<Level, EngineError> {
    level.map_or_else(|| Ok(around.settings()?.default_level), Ok)
}

fn show(
    level: Option<Level>,
    resolved: bool,
    json: bool,
    around: &Surroundings,
) -> Result<ExitCode, EngineError> {
    let level = or_default(level, around)?;
    if json {
        return Ok(answer_json(&around.profile(level)?));
    }
    Ok(answer(&if resolved {
        profiles::show(&around.profile(level)?)
    } else {
        profiles::show_authored(level, &around.all_layers()?)
    }))
}

fn lint(found: &profiles::Findings, json: bool) -> ExitCode {
    if json {
        answer_json(&found.json());
    } else if found.problems().is_empty() {
        answer("nothing is wrong\n");
    } else {
        say(std::io::stdout(), &(found.render(false) + "\n"));
    }
    ExitCode::from(if found.has_errors() { WRONG } else { 0 })
}

fn differ(a: &Path, b: &Path, json: bool, around: &Surroundings) -> Result<ExitCode, EngineError> {
    let changes = diff(&named(a, around)?, &named(b, around)?);
    if json {
        return Ok(answer_json(&changes));
    }
    let lines: Vec<String> = changes.iter().map(|it| format!("{it}\n")).collect();
    Ok(answer(&lines.concat()))
}

/// A level by its number, or what a file would make of its level.
fn named(name: &Path, around: &Surroundings) -> Result<Profile, EngineError> {
    let number = name.to_str().and_then(|it| it.parse::<u8>().ok());
    match number.map(Level::try_from) {
        Some(Ok(level)) => around.profile(level),
        Some(Err(error)) => Err(EngineError::Profile(error.to_string())),
        None => around.profile_with(name),
    }
}

fn blast_of(
    level: Option<Level>,
    json: bool,
    around: &Surroundings,
) -> Result<ExitCode, EngineError> {
    let blast = blast(&around.profile(or_default(level, around)?)?);
    Ok(if json { answer_json(&blast) } else { answer(&blast.to_string()) })
}

fn blast_of_all(json: bool, around: &Surroundings) -> Result<ExitCode, EngineError> {
    let all = Level::ALL.into_iter().map(|level| Ok(blast(&around.profile(level)?)));
    let all = all.collect::<Result<Vec<_>, EngineError>>()?;
    if json {
        return Ok(answer_json(&all));
    }
    let texts: Vec<String> = all.iter().map(ToString::to_string).collect();
    Ok(answer(&texts.join("\n")))
}

fn test(
    file: &Path,
    with: Option<&Path>,
    json: bool,
    around: &Surroundings,
) -> Result<ExitCode, EngineError> {
    let held = scenarios::hold(file, with, around)?;
    let wrong: Vec<&Held> = held.iter().filter(|it| !it.holds).collect();
    let code = ExitCode::from(if wrong.is_empty() { 0 } else { WRONG });
    if json {
        answer_json(&held);
        return Ok(code);
    }
    let unmet: String = wrong.iter().map(|it| unmet(file, it)).collect();
    let all = held.len();
    let summary = match wrong.len() {
        0 => format!("{all} of {all} expectations hold"),
        wrong => format!("{wrong} of {all} expectations do not hold"),
    };
    let text = format!("{unmet}{summary}\n");
    say(std::io::stdout(), &text);
    Ok(code)
}

/// `scenarios.toml:12: git push, level 2`, then the two verdicts.
fn unmet(file: &Path, held: &Held) -> String {
    let Held { line, command, level, expected, found, reason, .. } = held;
    let because = reason.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
    format!(
        "{}:{line}: {command}, level {level}\n- {expected}\n+ {found}{because}\n",
        file.display()
    )
}
