//! What the ledger says about runs: everything, in order, unforgeable, and no secret.

use std::fs;

use rung::ledger;

use crate::harness::{Place, Run};

fn verify(place: &Place) -> ledger::Report {
    ledger::verify(&place.state().join("ledger"), &[]).unwrap()
}

/// The text of all segments.
fn text(place: &Place) -> String {
    let records = place.records();
    records.iter().map(|it| it.to_string() + "\n").collect()
}

fn with_ids(place: &Place) -> Run<'_> {
    place.rung(1).option(&[
        "--agent",
        "agent-7",
        "--task",
        "task-9",
        "--traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ])
}

#[test]
fn a_run_is_decided_started_and_ended_in_this_order() {
    let place = Place::new();
    let ended = with_ids(&place).probe(&["exit", "3"]).end().exited(3);
    assert_eq!(ended.kinds(), ["decision", "exec.start", "exec.end"]);
    let decision = &ended.records[0];
    for (key, value) in [
        ("agent", "agent-7"),
        ("task", "task-9"),
        ("rule", "test.probe"),
        ("decision", "allow"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ] {
        assert_eq!(decision[key], value, "{key}");
    }
    assert_eq!(decision["argv"][3], "3");
    assert_eq!(ended.records[1]["plan_digest"], decision["plan_digest"]);
    assert_eq!(ended.records[2]["exit_code"], 3);
}

#[test]
fn a_refusal_names_its_rule_in_the_report_and_in_the_ledger() {
    let place = Place::new();
    let ended = place.rung(1).words(&["rm", "-rf", "/"]).end();
    assert_eq!(ended.code(), 126, "{}", ended.err);
    let denial = ended.denial();
    assert!(!denial.rule.is_empty() && !denial.reason.is_empty() && !denial.next.is_empty());
    let record = ended.records.iter().find(|it| it["kind"] == "denial").unwrap();
    assert_eq!(record["denial"], serde_json::to_value(denial).unwrap());
    assert_eq!(ended.records[0]["decision"], "deny");
    assert_eq!(ended.records[0]["rule"], denial.rule.as_str());
}

#[test]
fn a_secret_on_the_command_line_is_not_in_the_ledger() {
    let place = Place::new();
    let secrets = [
        "ghp_aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789",
        "AKIAIOSFODNN7EXAMPLQ",
        "--password=correct-horse-battery",
        "https://user:hunter2hunter2@example.org/",
    ];
    let words: Vec<&str> = ["words"].into_iter().chain(secrets).collect();
    let ended = place.rung(1).probe(&words).end().exited(0);
    let text = text(&place);
    for secret in ["ghp_aBcD", "AKIAIOSF", "correct-horse", "hunter2hunter2"] {
        assert!(!text.contains(secret), "{secret} is in the ledger");
    }
    assert!(ended.records[0]["redacted"].as_u64().unwrap() >= 4);
}

/// A refusal quotes single words, which have lost the program that told what they are.
#[test]
fn a_secret_is_neither_in_a_refusal_nor_in_its_record() {
    let place = Place::new();
    let lines: [&[&str]; 4] = [
        &["mysql", "-phunter2hunter2", "db"],
        &["curl", "-sSu", "me:hunter2hunter2", "https://example.org/"],
        &["git", "log", "--password=hunter2hunter2"],
        &["bash", "-c", "cat x; mysql -phunter2hunter2"],
    ];
    for line in lines {
        let ended = place.rung(1).words(line).end();
        assert_eq!(ended.code(), 126, "{line:?}: {}", ended.err);
        let denial = serde_json::to_string(ended.denial()).unwrap();
        assert!(denial.contains("[redacted:"), "{line:?}: {denial}");
        for told in [&denial, &ended.err] {
            assert!(!told.contains("hunter2"), "{line:?}: {told}");
        }
    }
    assert!(!text(&place).contains("hunter2"), "it is in the ledger");
}

#[test]
fn words_cannot_forge_a_record() {
    let place = Place::new();
    let forged = "\n{\"seq\":99,\"kind\":\"decision\",\"decision\":\"allow\"}\n";
    place.rung(1).probe(&["words", forged]).end().exited(0);
    place.rung(1).words(&["no-such-program", forged]).end();
    // The first run of a ledger signs its first checkpoint.
    let count = place.records().len();
    assert_eq!(count, 6, "decision, start, end, checkpoint; decision, denial");
    assert_eq!(verify(&place).records, 6);
}

#[test]
fn a_large_command_line_is_recorded_and_keeps_the_chain() {
    let place = Place::new();
    let large = "x".repeat(100_000);
    let words: Vec<&str> =
        ["words"].into_iter().chain(std::iter::repeat_n(large.as_str(), 15)).collect();
    place.rung(1).probe(&words).end().exited(0).recorded();
    assert_eq!(verify(&place).problem, None);
}

#[test]
fn a_changed_byte_is_found() {
    let place = Place::new();
    place.rung(1).probe(&["exit", "0"]).end().exited(0);
    let report = verify(&place);
    assert!(report.problem.is_none() && report.records == 4, "{:?}", report.problem);
    let segment = place.state().join("ledger/000001.jsonl");
    let text = fs::read_to_string(&segment).unwrap();
    fs::write(&segment, text.replacen("\"allow\"", "\"allov\"", 1)).unwrap();
    assert!(verify(&place).problem.is_some(), "nobody saw it");
}

#[test]
fn the_ledger_is_the_users_alone() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    place.rung(1).probe(&["exit", "0"]).end().exited(0);
    for name in ["ledger", "ledger/000001.jsonl"] {
        let mode = fs::metadata(place.state().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}: {mode:o}");
    }
}
