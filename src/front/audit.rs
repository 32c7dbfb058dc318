//! `rung audit`: the ledger, checked and read.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::FAILED;
use super::cli::AuditVerb;
use super::words::{answer, answer_json, complain, say};
use crate::engine::Surroundings;
use crate::engine::inspect::audit::{
    self, Anchor, Answer, Body, Control, Entry, Follow, Format, LedgerError, Outcome as Became,
    Problem, Record, Report,
};
use crate::model::{Attempt, Protocol, Status};

/// The ledger is not what it should be, or does not have what was asked for.
const NOT_SO: u8 = 1;
/// How often `tail -f` looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);

pub(super) fn audit(verb: AuditVerb, around: &Surroundings) -> ExitCode {
    let directory = around.ledger_directory();
    let done = match verb {
        AuditVerb::Verify { anchors, json } => verify(&directory, &anchors, json),
        AuditVerb::Show { run, json } => show(&directory, &run, json),
        AuditVerb::Tail { lines, follow, json } => tail(&directory, lines, follow, json),
        AuditVerb::Export { format } => export(&directory, format.into()),
    };
    done.unwrap_or_else(|error| complain(&with_source(&error), FAILED))
}

fn with_source(error: &LedgerError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}\n{source}"),
        None => error.to_string(),
    }
}

fn verify(directory: &Path, anchors: &[Anchor], json: bool) -> Result<ExitCode, LedgerError> {
    let found = audit::verify(directory, anchors)?;
    let code = if found.problem.is_some() { NOT_SO } else { 0 };
    if json {
        answer_json(&report(&found));
    } else {
        say(io::stdout(), &report_words(&found));
        if let Some(problem) = &found.problem {
            return Ok(complain(&problem_words(problem), code));
        }
    }
    Ok(ExitCode::from(code))
}

fn report(found: &Report) -> serde_json::Value {
    let anchor = |it: &Anchor| json!({ "seq": it.seq, "fingerprint": it.fp });
    json!({
        "holds": found.problem.is_none(),
        "segments": found.segments,
        "records": found.records,
        "head": found.head.as_ref().map(anchor),
        "time_first": found.time_first.map(|it| it.to_string()),
        "time_last": found.time_last.map(|it| it.to_string()),
        "checkpoints": found.checkpoints,
        "signed_through": found.signed_through,
        "key": found.key,
        "anchors": found.anchors,
        "recoveries": found.recoveries,
        "clock_steps_back": found.clock_steps_back,
        "problem": found.problem.as_ref().map(|it| json!({
            "segment": it.segment,
            "line": it.line,
            "seq": it.seq,
            "what": it.what.to_string(),
        })),
    })
}

fn report_words(found: &Report) -> String {
    let span = match (found.time_first, found.time_last) {
        (Some(first), Some(last)) => format!(", from {first} to {last}"),
        (_, _) => String::new(),
    };
    let chain = if found.problem.is_none() { "unbroken" } else { "unbroken up to there" };
    let head = found.head.as_ref().map(|it| format!("; its end is {}:{}", it.seq, it.fp));
    let mut lines = vec![
        format!(
            "{} in {}{span}",
            counted(found.records, "record"),
            counted(found.segments.into(), "segment")
        ),
        format!("chain {chain}{}", head.unwrap_or_default()),
        match (found.signed_through, &found.key) {
            (Some(seq), Some(key)) => {
                let count = counted(found.checkpoints, "checkpoint");
                format!("signed up to record {seq} by {count}, key {key}")
            }
            (_, _) => "not signed yet".to_owned(),
        },
    ];
    if found.anchors > 0 {
        lines.push(format!("anchors found: {}", found.anchors));
    }
    if found.recoveries > 0 {
        lines.push(format!("recovered from {} cut short", counted(found.recoveries, "write")));
    }
    if found.clock_steps_back > 0 {
        lines.push(format!("the clock went back {}", counted(found.clock_steps_back, "time")));
    }
    lines.join("\n") + "\n"
}

/// `1 record`, `2 records`
fn counted(count: u64, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

fn problem_words(problem: &Problem) -> String {
    let seq = problem.seq.map(|it| format!(" (record {it})")).unwrap_or_default();
    format!("{}:{}{seq}: {}", problem.segment, problem.line, problem.what)
}

fn show(directory: &Path, run: &str, json: bool) -> Result<ExitCode, LedgerError> {
    let entries = audit::show(directory, run)?;
    if entries.is_empty() {
        let words = format!(
            "there is no run `{}` in the ledger; `rung audit tail` shows the newest",
            run.escape_debug()
        );
        return Ok(complain(&words, NOT_SO));
    }
    Ok(answer(&lines(&entries, json)))
}

fn tail(directory: &Path, count: usize, follow: bool, json: bool) -> Result<ExitCode, LedgerError> {
    // First the place to go on from, so that nothing is lost between the two looks. What is
    // written between them is shown once, because it is known by its number.
    let follower = if follow { Some(Follow::from_end(directory)?) } else { None };
    let entries = audit::tail(directory, count)?;
    let mut shown = entries.last().map_or(0, |it| it.seq);
    let mut out = io::stdout();
    let mut alive = out.write_all(lines(&entries, json).as_bytes()).is_ok();
    let Some(mut follower) = follower else { return Ok(ExitCode::SUCCESS) };
    // Until nobody listens, or somebody ends it.
    while alive {
        let mut new = follower.poll()?;
        new.retain(|it| it.seq > shown);
        shown = new.last().map_or(shown, |it| it.seq);
        alive = out.write_all(lines(&new, json).as_bytes()).and_then(|()| out.flush()).is_ok();
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(ExitCode::SUCCESS)
}

fn export(directory: &Path, format: Format) -> Result<ExitCode, LedgerError> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    audit::export(directory, format, &mut out)?;
    Ok(ExitCode::SUCCESS)
}

fn lines(entries: &[Entry], json: bool) -> String {
    let line = |it: &Entry| if json { it.text.clone() } else { words(it) };
    entries.iter().map(|it| line(it) + "\n").collect()
}

/// One record on one line.
fn words(entry: &Entry) -> String {
    let run = entry.body.run().unwrap_or("-");
    format!("{} {:.3} {run} {}", entry.seq, entry.time, what(&entry.body))
}

fn what(body: &Body) -> String {
    match body {
        Body::Record(Record::Decision(it)) => {
            let decision = match it.decision {
                Answer::Allow => "allow",
                Answer::Ask => "ask",
                Answer::Deny => "deny",
            };
            let command: Vec<String> = it.argv.iter().map(ToString::to_string).collect();
            let command = shell_words::join(&command);
            let learning = if it.learning { " (learning run)" } else { "" };
            format!("{decision} level {} rule {}{learning}: {command}", it.level, it.rule)
        }
        Body::Record(Record::ExecStart(it)) => format!("start {}", it.program),
        Body::Record(Record::Exec(it)) => {
            let command: Vec<String> = it.argv.iter().map(ToString::to_string).collect();
            let command = shell_words::join(&command);
            let by = it.caller.first().map(|it| format!(" by {it}")).unwrap_or_default();
            format!("exec {} rule {}{by}: {}: {command}", became(it.became), it.rule, it.program)
        }
        Body::Record(Record::ExecCount(it)) => {
            let more = it
                .more
                .iter()
                .map(|it| format!("{} {} {}", it.count, it.program, became(it.became)));
            format!("exec and more: {}", more.collect::<Vec<_>>().join(", "))
        }
        Body::Record(Record::Connect(it)) => {
            let Attempt { address, protocol, program, process, count, .. } = &it.attempt;
            let protocol = match protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
            };
            let times = if *count == 1 { String::new() } else { format!(", {count} times") };
            let object = &it.object;
            format!(
                "refused to connect {program} (process {process}) to {object} ({protocol} {address}){times}"
            )
        }
        Body::Record(Record::LearnObserved(it)) => {
            let command: Vec<String> = it.argv.iter().map(ToString::to_string).collect();
            let command = shell_words::join(&command);
            let by = it.started_by.as_ref().map(|it| format!(" by {it}")).unwrap_or_default();
            format!("let through to learn, {} times{by}: {}: {command}", it.count, it.program)
        }
        Body::Record(Record::ExecEnd(it)) => format!(
            "end {} (exit code {}), {} ms, {}",
            status(&it.status),
            it.exit_code,
            it.usage.wall_ms,
            counted(it.denials.into(), "denial")
        ),
        Body::Record(Record::Denial(it)) => {
            let denial = &it.denial;
            format!(
                "denied by {} [{}]: {}: {}",
                denial.layer, denial.rule, denial.object, denial.reason
            )
        }
        Body::Record(Record::Quarantine(it)) => match &it.moved_to {
            Some(place) => format!("quarantine {} in {place}: {}", it.path, it.reason),
            None => format!("quarantine removed {}: {}", it.path, it.reason),
        },
        Body::Record(Record::Credential(it)) => format!(
            "credential {} {} for {}, {}",
            it.credential,
            it.event.name(),
            it.host,
            counted(it.count, "time")
        ),
        Body::Record(Record::Session(it)) => {
            let id = it.id.as_ref().map(|id| format!(" {id}")).unwrap_or_default();
            let of = it.of.as_ref().map(|of| format!(" of {of}")).unwrap_or_default();
            let count = counted(it.count, "path");
            format!("session {} {}{id}{of}: {count} of {}", it.session, it.act.name(), it.base)
        }
        Body::Record(Record::ProfileLoad(it)) => {
            format!("profile {} level {} {}", it.profile, it.level, it.profile_digest)
        }
        Body::Control(Control::Checkpoint { through, .. }) => {
            format!("checkpoint signed up to record {through}")
        }
        Body::Control(Control::Rotate { previous, .. }) => format!("continues {previous}"),
        Body::Control(Control::Recover { bytes, .. }) => {
            format!("recovered from a write cut short, {bytes} bytes dropped")
        }
        Body::Other(_) => format!("{} (not known to this version)", body.kind()),
    }
}

fn became(it: Became) -> &'static str {
    match it {
        Became::Started => "started",
        Became::Unverified => "started, traced by another task and so not verified,",
        Became::Refused => "refused",
        Became::Killed => "killed before its first instruction",
    }
}

fn status(status: &Status) -> String {
    match status {
        Status::Exited { code } => format!("exited {code}"),
        Status::Signaled { signal } => format!("by signal {signal}"),
        Status::Limited { limit } => format!("stopped by {limit}"),
        Status::Refused => "refused".to_owned(),
        Status::Waiting => "waiting".to_owned(),
        Status::NotFound => "not found".to_owned(),
        Status::Failed { reason } => format!("failed: {}", reason.replace('\n', "; ")),
    }
}
