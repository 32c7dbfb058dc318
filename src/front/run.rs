//! `rung run`: one command, decided, recorded, launched, concluded.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;

use super::arguments::{self, Parsed, Report, RunArguments, TerminalChoice};
use super::words::{answer, complain, complaint, say};
use super::{FAILED, USAGE, cli};
use crate::engine::{self, Ask, Surroundings};
use crate::model::{Changed, Outcome, Status, Streams};

/// Lines that rung itself prints about one refusal.
pub(super) const LINES_MAX: usize = 3;

pub(super) fn run(words: impl Iterator<Item = OsString>, around: &Surroundings) -> ExitCode {
    let read = match arguments::parse(words) {
        Ok(Parsed::Run(read)) => *read,
        Ok(Parsed::Help) => {
            return answer(&cli::help_of("run"));
        }
        Err(error) => return complain(&error.to_string(), USAGE),
    };
    // Before anything opens: what is inherited beyond the streams is not the command's business.
    let report = match read.report.as_ref().map(open_report).transpose() {
        Ok(report) => report,
        Err(error) => return complain(&format!("the report cannot be written: {error}"), FAILED),
    };
    let outcome = engine::run(ask(&read), around);
    conclude(&read, report, &outcome)
}

pub(super) fn ask(read: &RunArguments) -> Ask {
    let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let streams = match (read.terminal, terminal) {
        (TerminalChoice::Auto, true) => Streams::Terminal,
        (TerminalChoice::Raw, true) => Streams::RawTerminal,
        (TerminalChoice::Raw, false) => Streams::RawInherit,
        (TerminalChoice::Never, _) | (TerminalChoice::Auto, false) => Streams::Inherit,
    };
    Ask {
        argv: read.argv.clone(),
        level: read.level,
        workspace: read.workspace.clone(),
        directory: read.directory.clone(),
        wall_max: read.timeout,
        ids: read.ids.clone(),
        streams,
        session: read.session.clone(),
        learning: false,
    }
}

pub(super) fn open_report(report: &Report) -> io::Result<File> {
    match report {
        // The place may be one that commands write to, and a link there could lead anywhere.
        Report::File(path) => OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path),
        Report::Descriptor(number) => engine::inherited(*number),
    }
}

/// Says what became of the run, to whoever asked for it, and ends with its exit code.
fn conclude(read: &RunArguments, report: Option<File>, outcome: &Outcome) -> ExitCode {
    let json = || serde_json::to_string(outcome).unwrap_or_default() + "\n";
    if let Some(mut report) = report
        && let Err(error) = report.write_all(json().as_bytes())
    {
        say(io::stderr(), &format!("rung: the report could not be written: {error}\n"));
    }
    if read.json {
        say(io::stderr(), &json());
    } else if !read.quiet {
        say(io::stderr(), &words(outcome));
    }
    ExitCode::from(outcome.status.exit_code())
}

/// Nothing for a clean run; otherwise the most relevant refusal and how many more there were.
pub(super) fn words(outcome: &Outcome) -> String {
    let mut lines: Vec<String> = Vec::new();
    if let Status::Failed { reason } = &outcome.status {
        lines.extend(reason.lines().map(str::to_owned));
    }
    lines.extend(outcome.notes.iter().cloned());
    lines.extend(discarded(&outcome.changes));
    if let Some(denial) = outcome.denials.first() {
        lines.extend(denial.to_string().lines().take(LINES_MAX).map(str::to_owned));
    }
    if let more @ 1.. = outcome.denials.len().saturating_sub(1) {
        lines.push(format!("and {more} more, in `rung audit show {}`", outcome.ids.run));
    }
    lines.iter().map(|it| complaint(it)).collect()
}

/// What a disposable run changed, as far as it is read in a terminal.
fn discarded(changes: &[Changed]) -> Vec<String> {
    const SHOWN_MAX: usize = 20;
    if changes.is_empty() {
        return Vec::new();
    }
    let risks = |it: &Changed| match it.risks.as_slice() {
        [] => String::new(),
        risks => format!("  [{}]", risks.join(", ")),
    };
    let mut lines = vec!["nothing was kept of these changes:".to_owned()];
    lines.extend(
        changes
            .iter()
            .take(SHOWN_MAX)
            .map(|it| format!("{:<10} {}{}", it.kind, it.path, risks(it))),
    );
    if let more @ 1.. = changes.len().saturating_sub(SHOWN_MAX) {
        lines.push(format!("and {more} more, which `--json` lists"));
    }
    lines
}
