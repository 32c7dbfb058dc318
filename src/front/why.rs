//! `rung why`: the decision and its probe, side by side.

use std::process::ExitCode;

use super::words::{answer_json, complain, say};
use super::{FAILED, USAGE, arguments, cli};
use crate::engine::Surroundings;
use crate::engine::why::{self, Place, Probe, Subject, Twice, Why};

/// Some decision and its probe differ.
const ALARM: u8 = 1;

pub(super) fn why(options: cli::WhyOptions, around: &Surroundings) -> ExitCode {
    let cli::WhyOptions { place, path, host, json, command } = options;
    let subject = match (path, host) {
        (Some(path), _) => Subject::Path(path),
        (None, Some((host, port))) => Subject::Host { host, port },
        (None, None) => match arguments::command_line(command.into_iter()) {
            Ok(argv) => Subject::Command(argv),
            Err(error) => return complain(&error.to_string(), USAGE),
        },
    };
    let place =
        Place { level: place.level, workspace: place.workspace, directory: place.directory };
    let found = match why::why(&subject, &place, around) {
        Ok(found) => found,
        Err(error) => return complain(&error.to_string(), FAILED),
    };
    if json {
        answer_json(&found);
    } else {
        say(std::io::stdout(), &words(&found));
    }
    ExitCode::from(if found.is_alarming() { ALARM } else { 0 })
}

fn words(found: &Why) -> String {
    let Why { level, subject, answers } = found;
    let answers: String = answers.iter().map(answer_words).collect();
    format!("{subject} at level {level}\n{answers}")
}

fn answer_words(twice: &Twice) -> String {
    let Twice { doing, allowed, reason, because, denial, probe, alarm } = twice;
    let verdict = if *allowed { "allowed" } else { "refused" };
    let mut lines = vec![format!("{doing}: {verdict}: {reason}")];
    lines.extend(because.iter().map(|it| format!("  {it}: {}", it.because)));
    if let Some(denial) = denial {
        lines.push(format!("  {}", denial.next));
        lines.extend(denial.allow_with.iter().map(|it| format!("  to allow it: {it}")));
    }
    lines.push(match probe {
        Probe::Allowed => "  tried in a sandbox: allowed".to_owned(),
        Probe::Refused => "  tried in a sandbox: refused".to_owned(),
        Probe::Not { why } => format!("  not tried: {why}"),
    });
    lines.extend(alarm.iter().map(|it| format!("  ALARM: {it}")));
    lines.join("\n") + "\n"
}
