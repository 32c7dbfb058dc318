//! How rung speaks: answers on standard output, complaints on standard error behind `rung: `.

use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::FAILED;
use crate::model::printable;

/// Prints; a closed stream is the reader's own choice.
pub(super) fn say(mut to: impl Write, text: &str) {
    if to.write_all(text.as_bytes()).and_then(|()| to.flush()).is_err() {
        tracing::debug!("a message found no reader");
    }
}

/// An answer, and the end of the verb.
pub(super) fn answer(text: &str) -> ExitCode {
    say(io::stdout(), text);
    ExitCode::SUCCESS
}

/// An answer for programs: one line of JSON.
pub(super) fn answer_json(value: &impl Serialize) -> ExitCode {
    match serde_json::to_string(value) {
        Ok(text) => answer(&(text + "\n")),
        Err(error) => complain(&format!("the answer cannot be written as JSON: {error}"), FAILED),
    }
}

/// What is wrong, and the end of the verb.
pub(super) fn complain(problem: &str, code: u8) -> ExitCode {
    say(io::stderr(), &complaint(problem));
    ExitCode::from(code)
}

/// Every line behind `rung: `, but for the lines that show a file, which stay aligned.
pub(super) fn complaint(problem: &str) -> String {
    let line = |(number, line): (usize, &str)| {
        let shows_a_file = number > 0 && line.starts_with([' ', '|']) || starts_with_number(line);
        let prefix = if shows_a_file || line.is_empty() { "" } else { "rung: " };
        format!("{prefix}{}\n", printable(line))
    };
    problem.lines().enumerate().map(line).collect()
}

/// `12 | wall = 3`
fn starts_with_number(line: &str) -> bool {
    let rest = line.trim_start_matches(|it: char| it.is_ascii_digit());
    rest.len() < line.len() && rest.trim_start().starts_with('|')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_says_who_complains_and_leaves_excerpts_alone() {
        assert_eq!(complaint("no such run"), "rung: no such run\n");
        assert_eq!(
            complaint("error: unknown key\n --> a.toml:3:1\n  |\n3 | wal = 1\n  | ^^^"),
            "rung: error: unknown key\n --> a.toml:3:1\n  |\n3 | wal = 1\n  | ^^^\n"
        );
    }

    #[test]
    fn a_complaint_does_nothing_to_the_terminal() {
        assert_eq!(complaint("no `\u{1b}]52;c;x\u{7}`"), "rung: no `\\x1b]52;c;x\\x07`\n");
    }
}
