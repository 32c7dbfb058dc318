//! `rung profile`: what a level says, what is wrong with it, what another one adds.

use std::path::Path;
use std::process::ExitCode;

use super::FAILED;
use super::cli::ProfileVerb;
use super::words::{answer, answer_json, complain, say};
use crate::engine::inspect::profiles::{self, Profile, blast, diff};
use crate::engine::{EngineError, Surroundings};
use crate::model::Level;

/// The profiles have mistakes.
const WRONG: u8 = 1;

pub(super) fn profile(verb: ProfileVerb, around: &Surroundings) -> ExitCode {
    let done = match verb {
        ProfileVerb::Show { level, resolved, json } => show(level, resolved, json, around),
        ProfileVerb::Lint { files, json } => around.lint(&files).map(|found| lint(&found, json)),
        ProfileVerb::Diff { a, b, json } => differ(&a, &b, json, around),
        ProfileVerb::Blast { level, json } => blast_of(level, json, around),
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
