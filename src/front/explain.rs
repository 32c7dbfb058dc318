//! `rung explain` and `rung levels`: what a level means, here and in general.

use std::process::ExitCode;

use serde::Serialize;

use super::words::{answer, answer_json, complain};
use super::{FAILED, USAGE, arguments, cli};
use crate::engine::inspect::{self, explain_plan};
use crate::engine::{Ask, Considered, Surroundings};
use crate::model::{Ids, Level, Status, Streams};

/// A program that every level allows, for a question about no command in particular.
const ANY_COMMAND: &str = "true";

pub(super) fn explain(options: cli::ExplainOptions, around: &Surroundings) -> ExitCode {
    let command =
        if options.command.is_empty() { vec![ANY_COMMAND.into()] } else { options.command };
    let argv = match options.text {
        Some(text) => arguments::shell_text(text),
        None => arguments::command_line(command.into_iter()),
    };
    let argv = match argv {
        Ok(argv) => argv,
        Err(error) => return complain(&error.to_string(), USAGE),
    };
    let ask = Ask {
        argv,
        level: options.place.level,
        workspace: options.place.workspace,
        directory: options.place.directory,
        wall_max: None,
        ids: Ids::default(),
        streams: Streams::Inherit,
        session: None,
        learning: false,
    };
    match inspect::foresee(ask, around) {
        Ok(Considered::Ready(ready)) if options.json => answer_json(&ready.plan),
        Ok(Considered::Ready(ready)) => {
            let ceiling = match above_ceiling(ready.plan.level, around) {
                Ok(words) => words,
                Err(error) => return complain(&error, FAILED),
            };
            answer(&format!("{ceiling}{}", explain_plan(&ready.plan)))
        }
        Ok(Considered::Refused { refusal, .. }) => {
            let status = if refusal.not_found { Status::NotFound } else { Status::Refused };
            complain(&refusal.denial.to_string(), status.exit_code())
        }
        Ok(Considered::Asked { question, .. }) => {
            complain(&question.denial.to_string(), Status::Waiting.exit_code())
        }
        Err(error) => complain(&error.to_string(), FAILED),
    }
}

fn above_ceiling(level: Level, around: &Surroundings) -> Result<String, String> {
    let ceiling = around.settings().map_err(|error| error.to_string())?.ceiling;
    Ok(if level > ceiling {
        format!("Level {level} is above the ceiling of level {ceiling}: nothing runs at it.\n")
    } else {
        String::new()
    })
}

/// One line of the ladder.
#[derive(Debug, Serialize)]
struct Rung {
    level: Level,
    title: &'static str,
    profile: String,
    summary: String,
    /// Not above the ceiling.
    usable: bool,
    /// Of a run that names no level.
    default: bool,
}

pub(super) fn levels(json: bool, around: &Surroundings) -> ExitCode {
    let ladder = match ladder(around) {
        Ok(ladder) => ladder,
        Err(error) => return complain(&error, FAILED),
    };
    if json {
        return answer_json(&ladder);
    }
    let lines: Vec<String> = ladder
        .iter()
        .map(|it| {
            let mark = match (it.default, it.usable) {
                (true, _) => " (default)",
                (false, true) => "",
                (false, false) => " (above the ceiling)",
            };
            format!("{}  {}{mark}\n   {}\n", it.level, it.title, it.summary)
        })
        .collect();
    answer(&lines.concat())
}

fn ladder(around: &Surroundings) -> Result<Vec<Rung>, String> {
    let settings = around.settings().map_err(|error| error.to_string())?;
    let rung = |level: Level| {
        let profile = around.profile(level).map_err(|error| error.to_string())?;
        Ok(Rung {
            level,
            title: level.title(),
            profile: profile.name,
            summary: profile.summary,
            usable: level <= settings.ceiling,
            default: level == settings.default_level,
        })
    };
    Level::ALL.into_iter().map(rung).collect()
}
