//! The ledger for other tools: as it is, or as OCSF events.
//!
//! OCSF 1.8 has no place for a chain of records, so sequence number and fingerprints travel in
//! `metadata` and `unmapped`; whoever wants proof verifies the ledger itself.

use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::line::{Body, Entry};
use super::read::scan;
use super::{
    Answer, Control, Decision, DenialSeen, Exec, ExecEnd, ExecStart, LedgerError, Outcome,
    Quarantine, Record,
};
use crate::model::Arg;
use crate::model::Status;

const OCSF_VERSION: &str = "1.8.0";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The lines as they lie in the segments.
    JsonLines,
    /// One OCSF 1.8 event a line.
    Ocsf,
}

/// Writes every record, oldest first, and says how many there were.
pub fn export(directory: &Path, format: Format, out: &mut dyn Write) -> Result<u64, LedgerError> {
    let mut count = 0;
    scan(directory, &|_| true, &mut |entry| {
        count += 1;
        let line = match format {
            Format::JsonLines => entry.text,
            Format::Ocsf => ocsf(&entry).to_string(),
        };
        writeln!(out, "{line}").map_err(|source| LedgerError::Output { source })
    })?;
    out.flush().map_err(|source| LedgerError::Output { source })?;
    Ok(count)
}

/// What an event is in OCSF's numbers.
struct Class {
    uid: u64,
    activity: u64,
    severity: u64,
}

const PROCESS_ACTIVITY: u64 = 1007;
const LAUNCH: u64 = 1;
const TERMINATE: u64 = 2;
const FILE_ACTIVITY: u64 = 1001;
const DELETE: u64 = 4;
const RENAME: u64 = 5;
const EVENT_LOG_ACTIVITY: u64 = 1008;
const ROTATE: u64 = 5;
const OTHER: u64 = 99;
const BASE_EVENT: u64 = 0;

const INFORMATIONAL: u64 = 1;
const LOW: u64 = 2;

const SUCCESS: u64 = 1;
const FAILURE: u64 = 2;

const ALLOWED: u64 = 1;
const DENIED: u64 = 2;
const BLOCKED: u64 = 2;
const QUARANTINED: u64 = 3;

fn ocsf(entry: &Entry) -> Value {
    match &entry.body {
        Body::Record(Record::Decision(it)) => decision(entry, it),
        Body::Record(Record::ExecStart(it)) => exec_start(entry, it),
        Body::Record(Record::Exec(it)) => exec(entry, it),
        Body::Record(Record::ExecEnd(it)) => exec_end(entry, it),
        Body::Record(Record::Denial(it)) => denial(entry, it),
        Body::Record(Record::Quarantine(it)) => quarantine(entry, it),
        Body::Control(it) => control(entry, it),
        Body::Record(
            Record::Session(_)
            | Record::Credential(_)
            | Record::ProfileLoad(_)
            | Record::ExecCount(_)
            | Record::Connect(_)
            | Record::LearnObserved(_),
        )
        | Body::Other(_) => {
            let class = Class { uid: BASE_EVENT, activity: OTHER, severity: INFORMATIONAL };
            event(entry, &class, json!({ "activity_name": entry.body.kind() }))
        }
    }
}

/// What every event has, and `fields` on top. The record itself is kept whole in `unmapped`.
fn event(entry: &Entry, class: &Class, fields: Value) -> Value {
    let mut event = json!({
        "class_uid": class.uid,
        "category_uid": class.uid / 1000,
        "activity_id": class.activity,
        "type_uid": class.uid * 100 + class.activity,
        "severity_id": class.severity,
        "time": entry.time.as_millisecond(),
        "metadata": {
            "version": OCSF_VERSION,
            "product": { "name": "rung", "vendor_name": "rung", "version": env!("CARGO_PKG_VERSION") },
            "uid": entry.fp,
            "sequence": entry.seq,
            "event_code": entry.body.kind(),
            "log_name": "rung.audit.v1",
        },
        "unmapped": { "record": record_fields(entry) },
    });
    if let Some(metadata) = event.get_mut("metadata").and_then(Value::as_object_mut) {
        if let Some(run) = entry.body.run() {
            metadata.insert("correlation_uid".to_owned(), json!(run));
        }
        if fields.get("action_id").is_some() {
            metadata.insert("profiles".to_owned(), json!(["security_control"]));
        }
    }
    if let (Some(event), Value::Object(fields)) = (event.as_object_mut(), fields) {
        event.extend(fields);
    }
    event
}

fn record_fields(entry: &Entry) -> Map<String, Value> {
    serde_json::from_str(&entry.text).unwrap_or_default()
}

/// The host is named by whoever collects the events.
fn device() -> Value {
    json!({ "type_id": 0 })
}

fn actor() -> Value {
    json!({ "app_name": "rung" })
}

fn command_line(argv: &[Arg]) -> String {
    shell_words::join(argv.iter().map(ToString::to_string))
}

fn decision(entry: &Entry, it: &Decision) -> Value {
    let (action, disposition, name, status) = match it.decision {
        Answer::Allow => (ALLOWED, ALLOWED, "Allowed", SUCCESS),
        Answer::Ask => (DENIED, OTHER, "Approval Required", FAILURE),
        Answer::Deny => (DENIED, BLOCKED, "Blocked", FAILURE),
    };
    let mut actor = json!({ "app_name": "rung" });
    if let (Some(actor), Some(agent)) = (actor.as_object_mut(), &it.ids.agent) {
        actor.insert("app_uid".to_owned(), json!(agent));
    }
    let severity = if it.decision == Answer::Allow { INFORMATIONAL } else { LOW };
    let class = Class { uid: PROCESS_ACTIVITY, activity: LAUNCH, severity };
    let program = it.argv.first().map(ToString::to_string).unwrap_or_default();
    let fields = json!({
        "actor": actor,
        "device": device(),
        "process": {
            "uid": it.ids.run,
            "name": program,
            "cmd_line": command_line(&it.argv),
            "working_directory": it.cwd,
        },
        "action_id": action,
        "disposition_id": disposition,
        "disposition": name,
        "status_id": status,
        "status_detail": it.reason,
        "message": it.reason,
        "policy": { "name": it.profile, "uid": it.rule, "version": it.profile_digest },
    });
    event(entry, &class, fields)
}

fn exec_start(entry: &Entry, it: &ExecStart) -> Value {
    let class = Class { uid: PROCESS_ACTIVITY, activity: LAUNCH, severity: INFORMATIONAL };
    let mut process = json!({ "uid": it.run, "path": it.program });
    if let (Some(process), Some(pid)) = (process.as_object_mut(), it.pid) {
        process.insert("pid".to_owned(), json!(pid));
    }
    let fields = json!({
        "actor": actor(), "device": device(), "process": process, "status_id": SUCCESS,
    });
    event(entry, &class, fields)
}

fn exec(entry: &Entry, it: &Exec) -> Value {
    let ran = matches!(it.became, Outcome::Started | Outcome::Unverified);
    let severity = if ran { INFORMATIONAL } else { LOW };
    let class = Class { uid: PROCESS_ACTIVITY, activity: LAUNCH, severity };
    let fields = json!({
        "actor": actor(),
        "device": device(),
        "process": {
            "uid": it.run,
            "path": it.program,
            "cmd_line": command_line(&it.argv),
            "working_directory": it.cwd,
        },
        "action_id": if ran { ALLOWED } else { DENIED },
        "disposition_id": if ran { ALLOWED } else { BLOCKED },
        "disposition": if ran { "Allowed" } else { "Blocked" },
        "status_id": if ran { SUCCESS } else { FAILURE },
        "policy": { "uid": it.rule },
    });
    event(entry, &class, fields)
}

fn exec_end(entry: &Entry, it: &ExecEnd) -> Value {
    let class = Class { uid: PROCESS_ACTIVITY, activity: TERMINATE, severity: INFORMATIONAL };
    let status = if it.status == (Status::Exited { code: 0 }) { SUCCESS } else { FAILURE };
    let fields = json!({
        "actor": actor(),
        "device": device(),
        "process": { "uid": it.run },
        "exit_code": it.exit_code,
        "status_id": status,
        "duration": it.usage.wall_ms,
    });
    event(entry, &class, fields)
}

fn denial(entry: &Entry, it: &DenialSeen) -> Value {
    let class = Class { uid: PROCESS_ACTIVITY, activity: OTHER, severity: LOW };
    let fields = json!({
        "activity_name": format!("denied by {}", it.denial.layer),
        "actor": actor(),
        "device": device(),
        "process": { "uid": it.run },
        "action_id": DENIED,
        "disposition_id": BLOCKED,
        "disposition": "Blocked",
        "status_id": FAILURE,
        "message": format!("{}: {}", it.denial.object, it.denial.reason),
        "policy": { "uid": it.denial.rule },
        "count": it.denial.count,
    });
    event(entry, &class, fields)
}

fn quarantine(entry: &Entry, it: &Quarantine) -> Value {
    let activity = if it.moved_to.is_some() { RENAME } else { DELETE };
    let class = Class { uid: FILE_ACTIVITY, activity, severity: LOW };
    let fields = json!({
        "actor": actor(),
        "device": device(),
        "file": file(&it.path),
        "action_id": DENIED,
        "disposition_id": QUARANTINED,
        "disposition": "Quarantined",
        "message": it.reason,
    });
    event(entry, &class, fields)
}

fn file(path: &Arg) -> Value {
    let path = path.to_string();
    let name = path.rsplit('/').next().unwrap_or(&path);
    json!({ "name": name, "path": path, "type_id": 0 })
}

fn control(entry: &Entry, it: &Control) -> Value {
    let (activity, severity) = match it {
        Control::Rotate { .. } => (ROTATE, INFORMATIONAL),
        Control::Checkpoint { .. } => (OTHER, INFORMATIONAL),
        Control::Recover { .. } => (OTHER, LOW),
    };
    let class = Class { uid: EVENT_LOG_ACTIVITY, activity, severity };
    let fields = json!({
        "activity_name": it.kind(), "log_name": "rung.audit.v1", "log_provider": "rung",
    });
    event(entry, &class, fields)
}
