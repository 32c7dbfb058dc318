//! `rung replay`: recorded decisions under a changed profile.

use std::path::Path;
use std::process::ExitCode;

use super::FAILED;
use super::words::{answer_json, complain, say};
use crate::engine::Surroundings;
use crate::engine::inspect::audit::Answer;
use crate::engine::replay::{self, Against, Cause, Changed, Replayed};
use crate::model::Level;

/// Something would be different.
const DIFFERENT: u8 = 1;

pub(super) fn replay(
    against: &Path,
    run: Option<String>,
    json: bool,
    around: &Surroundings,
) -> ExitCode {
    let number = against.to_str().and_then(|it| it.parse::<u8>().ok());
    let asked = match number.map(Level::try_from) {
        Some(Ok(level)) => Against::Level(level),
        Some(Err(error)) => return complain(&error.to_string(), FAILED),
        None => Against::File(against.to_owned()),
    };
    let replayed = match replay::replay(&asked, run.as_deref(), around) {
        Ok(replayed) => replayed,
        Err(error) => return complain(&error.to_string(), FAILED),
    };
    let none = replayed.decided + replayed.other_levels + replayed.redacted == 0;
    if let Some(run) = run.filter(|_| none) {
        let run = run.escape_debug();
        let words =
            format!("there is no run `{run}` in the ledger; `rung audit tail` shows the newest");
        return complain(&words, FAILED);
    }
    if json {
        answer_json(&replayed);
    } else {
        say(std::io::stdout(), &words(&replayed, against));
    }
    ExitCode::from(if replayed.changes.is_empty() { 0 } else { DIFFERENT })
}

fn words(replayed: &Replayed, against: &Path) -> String {
    let Replayed { decided, other_levels, redacted, changes } = replayed;
    let count = changes.len();
    let mut lines: Vec<String> = changes.iter().map(change).collect();
    let against = against.display();
    lines.push(format!("of {decided} decisions, {count} would be different under {against}\n"));
    if *other_levels > 0 {
        lines.push(format!("{other_levels} of other levels were left as they are\n"));
    }
    if *redacted > 0 {
        lines.push(format!("{redacted} were not recorded whole and could not be taken again\n"));
    }
    lines.concat()
}

/// The command, then what it was and what it would be.
fn change(changed: &Changed) -> String {
    let Changed { run, time, level, argv, was, was_rule, is, is_rule, reason, cause } = changed;
    let command: Vec<String> = argv.iter().map(ToString::to_string).collect();
    let command = shell_words::join(&command);
    let because = reason.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
    let since = match cause {
        Cause::Profile => "",
        Cause::Since => " (since: under the profile in force, too)",
    };
    format!(
        "{run} {time:.3} level {level}: {command}\n- {} {was_rule}\n+ {} {is_rule}{because}{since}\n",
        word(*was),
        word(*is)
    )
}

fn word(answer: Answer) -> &'static str {
    match answer {
        Answer::Allow => "allow",
        Answer::Ask => "ask",
        Answer::Deny => "deny",
    }
}
