//! `rung learn`: a run that proposes the rules it lacked.

use std::io::{self, Write};
use std::process::ExitCode;

use super::words::{complain, complaint, say};
use super::{FAILED, USAGE, cli, run};
use crate::engine::Surroundings;
use crate::engine::learn::{self, Learned, LeftOut, Observed, Proposal};

/// Unchanged lines that a difference shows before the first added one.
const CONTEXT_LINES: usize = 3;

pub(super) fn learn(options: cli::LearnOptions, around: &Surroundings) -> ExitCode {
    let cli::LearnOptions { write, run: options } = options;
    let read = match options.read() {
        Ok(read) => read,
        Err(error) => return complain(&error.to_string(), USAGE),
    };
    // Before anything runs: what could not be written would have been learned for nothing.
    if let Some(file) = &write
        && let Err(error) = learn::may_write(file, around)
    {
        return complain(&error.to_string(), FAILED);
    }
    let report = match read.report.as_ref().map(run::open_report).transpose() {
        Ok(report) => report,
        Err(error) => return complain(&format!("the report cannot be written: {error}"), FAILED),
    };
    let learned = match learn::learn(run::ask(&read), around) {
        Ok(learned) => learned,
        Err(error) => return complain(&error.to_string(), FAILED),
    };
    let json = || serde_json::to_string(&learned).unwrap_or_default() + "\n";
    if let Some(mut report) = report
        && let Err(error) = report.write_all(json().as_bytes())
    {
        say(io::stderr(), &complaint(&format!("the report could not be written: {error}")));
    }
    if read.json {
        say(io::stderr(), &json());
    } else if !read.quiet {
        say(io::stderr(), &run::words(&learned.outcome));
        say(io::stderr(), &words(&learned, write.is_some()));
    }
    if let (Some(file), Some(proposal)) = (&write, &learned.proposal) {
        if let Err(error) = learn::write(proposal, file, around) {
            return complain(&format!("the proposal is not written: {error}"), FAILED);
        }
        if !read.quiet && !read.json {
            let file = file.display();
            say(io::stderr(), &complaint(&format!("the proposal is written to `{file}`")));
        }
    }
    ExitCode::from(learned.outcome.status.exit_code())
}

fn words(learned: &Learned, written: bool) -> String {
    let Learned { outcome, observed, proposal, left_out } = learned;
    let level = outcome.level;
    let count = observed.len();
    let mut text = complaint(&match count {
        0 => format!("level {level} lacks no rule for what this command started"),
        1 => format!("level {level} lacks a rule for 1 command line, which was let through"),
        _ => {
            format!("level {level} lacks a rule for {count} command lines, which were let through")
        }
    });
    text += &observed.iter().map(seen).collect::<String>();
    if let Some(proposal) = proposal {
        text += &difference(proposal);
        text += &adoption(proposal, written);
    }
    let left = |it: &LeftOut| complaint(&format!("no rule for `{}`: {}", it.program, it.why));
    text += &left_out.iter().map(left).collect::<String>();
    text
}

fn seen(observed: &Observed) -> String {
    let Observed { argv, started_by, count, .. } = observed;
    let command = shell_words::join(argv.iter().map(ToString::to_string));
    let by = started_by.as_ref().map(|it| format!(", started by {it}")).unwrap_or_default();
    let times = if *count > 1 { format!(", {count} times") } else { String::new() };
    complaint(&format!("  {command}{by}{times}"))
}

/// The change as `diff -u` would show it: lines are only added, behind all others.
fn difference(proposal: &Proposal) -> String {
    let Proposal { file, before, after, .. } = proposal;
    let old: Vec<&str> = before.as_deref().unwrap_or_default().trim_end().lines().collect();
    let new: Vec<&str> = after.lines().collect();
    let shown = old.len().saturating_sub(CONTEXT_LINES);
    let (file, kept) = (file.display().to_string(), old.len() - shown);
    let from = if before.is_some() { file.as_str() } else { "/dev/null" };
    let start = |lines: usize| if lines == 0 { 0 } else { shown + 1 };
    let mut text = format!(
        "--- {from}\n+++ {file}\n@@ -{},{kept} +{},{} @@\n",
        start(old.len()),
        start(new.len()),
        new.len() - shown
    );
    text.extend(old.iter().skip(shown).map(|it| format!(" {it}\n")));
    text.extend(new.iter().skip(old.len()).map(|it| format!("+{it}\n")));
    text
}

fn adoption(proposal: &Proposal, written: bool) -> String {
    let Proposal { file, level, permits, locked, .. } = proposal;
    let mut text = complaint(&format!("at level {level}, and at the levels that build on it:"));
    text += &permits.iter().map(|it| complaint(&format!("  {it}"))).collect::<String>();
    if locked.is_some() {
        let why =
            "your own profile may not add rules, so this is for whoever answers for that file";
        text += &complaint(why);
    }
    if !written {
        let file = file.display();
        text += &complaint(&format!(
            "nothing has changed: read it, then put it into `{file}`, or learn again with `--write {file}`"
        ));
    }
    text
}
