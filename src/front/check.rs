//! `rung check`: the decision of `rung run`, and nothing after it.

use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::arguments::RunArguments;
use super::run::{LINES_MAX, ask, open_report};
use super::words::{answer, complain, say};
use super::{FAILED, USAGE, cli};
use crate::engine::{self, Considered, Surroundings};
use crate::model::{Denial, Level, Origin, Status};

/// The whole answer, as `--json` and `--report` give it.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    decision: Decision,
    exit_code: u8,
    level: Level,
    /// Which rule decided; absent where there is no decision.
    rule: Option<&'a str>,
    origin: Option<&'a Origin>,
    denial: Option<&'a Denial>,
    /// What this host cannot keep and the profile accepts.
    gaps: Vec<String>,
    /// Of the plan that the command would run under.
    plan: Option<String>,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Decision {
    Allow,
    Ask,
    Deny,
}

/// What `--json` gives where there is no decision.
#[derive(Debug, Serialize)]
struct NoAnswer {
    decision: Option<Decision>,
    exit_code: u8,
    reason: String,
}

pub(super) fn check(options: cli::RunOptions, around: &Surroundings) -> ExitCode {
    let read = match options.read() {
        Ok(read) => read,
        Err(error) => return complain(&error.to_string(), USAGE),
    };
    let report = match read.report.as_ref().map(open_report).transpose() {
        Ok(report) => report,
        Err(error) => return complain(&format!("the report cannot be written: {error}"), FAILED),
    };
    match engine::consider(ask(&read), around) {
        Ok(Considered::Ready(ready)) => {
            let digest = match ready.plan.digest() {
                Ok(digest) => digest.to_string(),
                Err(error) => return fails(&read, report, error.to_string()),
            };
            let (rule, origin) = (ready.permit.rule(), ready.permit.origin());
            let words = format!("allowed by rule `{rule}` ({origin}): {}\n", origin.because);
            let given = Answer {
                decision: Decision::Allow,
                exit_code: 0,
                level: ready.plan.level,
                rule: Some(rule),
                origin: Some(origin),
                denial: None,
                gaps: ready.plan.gaps.iter().map(ToString::to_string).collect(),
                plan: Some(digest),
            };
            give(&read, report, &given, 0, &words)
        }
        Ok(Considered::Refused { refusal, .. }) => {
            let status = if refusal.not_found { Status::NotFound } else { Status::Refused };
            refused(&read, report, Decision::Deny, &refusal.denial, &status)
        }
        Ok(Considered::Asked { question, .. }) => {
            refused(&read, report, Decision::Ask, &question.denial, &Status::Waiting)
        }
        Err(error) => fails(&read, report, error.to_string()),
    }
}

fn refused(
    read: &RunArguments,
    report: Option<File>,
    decision: Decision,
    denial: &Denial,
    status: &Status,
) -> ExitCode {
    let exit_code = status.exit_code();
    let given = Answer {
        decision,
        exit_code,
        level: denial.level,
        rule: Some(&denial.rule),
        origin: denial.origin.as_ref(),
        denial: Some(denial),
        gaps: Vec::new(),
        plan: None,
    };
    let lines: Vec<String> =
        denial.to_string().lines().take(LINES_MAX).map(|it| format!("{it}\n")).collect();
    give(read, report, &given, exit_code, &lines.concat())
}

fn fails(read: &RunArguments, report: Option<File>, reason: String) -> ExitCode {
    let words = reason.clone();
    let given = NoAnswer { decision: None, exit_code: FAILED, reason };
    let code = give(read, report, &given, FAILED, "");
    if read.json || read.quiet { code } else { complain(&words, FAILED) }
}

/// The answer, wherever it was asked for.
fn give(
    read: &RunArguments,
    report: Option<File>,
    given: &impl Serialize,
    code: u8,
    words: &str,
) -> ExitCode {
    let json = match serde_json::to_string(given) {
        Ok(json) => json + "\n",
        Err(error) => return complain(&format!("the answer is no JSON: {error}"), FAILED),
    };
    if let Some(mut report) = report
        && let Err(error) = report.write_all(json.as_bytes())
    {
        return complain(&format!("the report could not be written: {error}"), FAILED);
    }
    if read.json {
        answer(&json);
    } else if !read.quiet {
        say(io::stdout(), words);
    }
    ExitCode::from(code)
}
