//! `rung why` in front of real sandboxes: the decision and the probe agree, and nothing is changed.

use std::fs;
use std::fs::OpenOptions;
use std::net::TcpStream;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Place, requires};

/// The answers about a subject, by what is done with it.
fn asked(place: &Place, level: u8, words: &[&str]) -> Value {
    let level = level.to_string();
    let all = [&["why", "--json", "--level", &level], words].concat();
    let ended = place.rung_with(&all).end();
    assert_eq!(ended.code(), 0, "{words:?}: {}{}", ended.text(), ended.err);
    serde_json::from_str(&ended.text()).unwrap()
}

#[track_caller]
fn check(place: &Place, level: u8, words: &[&str], doing: &str, allowed: bool) {
    let found = asked(place, level, words);
    let answers = found["answers"].as_array().unwrap();
    let answer =
        answers.iter().find(|it| it["doing"] == doing).unwrap_or_else(|| panic!("{found}"));
    assert_eq!(answer["allowed"], allowed, "{found}");
    let probed = if allowed { "allowed" } else { "refused" };
    assert_eq!(answer["probe"]["answer"], probed, "{found}");
    assert!(answer["alarm"].is_null(), "{found}");
}

/// What the same user may do outside.
fn may_write(path: &Path) -> bool {
    OpenOptions::new().append(true).open(path).is_ok()
}

#[test]
fn a_file_of_the_workspace_is_tried_and_stays_as_it_is() {
    let place = Place::new();
    let readme = place.workspace.join("README.md");
    let before = fs::read(&readme).unwrap();
    assert!(may_write(&readme));
    let path = ["--path", "README.md"];
    check(&place, 1, &path, "read", true);
    check(&place, 1, &path, "write", false);
    check(&place, 2, &path, "write", true);
    assert_eq!(fs::read(&readme).unwrap(), before);
}

#[test]
fn what_is_protected_or_not_in_the_view_is_refused_by_both() {
    let place = Place::new();
    let hook = place.workspace.join(".git/hooks/pre-commit");
    assert!(may_write(&hook));
    check(&place, 2, &["--path", ".git/hooks/pre-commit"], "write", false);
    check(&place, 2, &["--path", ".git/hooks/pre-commit"], "read", true);
    let key = place.home.join(".ssh/id_ed25519");
    assert!(fs::read(&key).is_ok());
    check(&place, 3, &["--path", key.to_str().unwrap()], "read", false);
    let ssh = place.home.join(".ssh");
    assert!(fs::read_dir(&ssh).is_ok());
    check(&place, 3, &["--path", ssh.to_str().unwrap()], "list", false);
    check(&place, 1, &["--path", "src"], "list", true);
}

#[test]
fn of_a_command_only_the_program_is_opened() {
    let place = Place::new();
    let allowed = asked(&place, 2, &["--", "touch", "made"]);
    assert_eq!(allowed["answers"][0]["probe"]["answer"], "allowed", "{allowed}");
    assert!(!place.workspace.join("made").exists());
    let refused = asked(&place, 1, &["--", "touch", "made"]);
    assert_eq!(refused["answers"][0]["allowed"], false, "{refused}");
    assert_eq!(refused["answers"][0]["denial"]["rule"], "default", "{refused}");
    assert_eq!(refused["answers"][0]["probe"]["answer"], "not", "{refused}");
}

#[test]
fn a_probe_is_a_run_and_recorded() {
    let place = Place::new();
    asked(&place, 1, &["--path", "src"]);
    let records = place.records();
    let rules: Vec<&Value> =
        records.iter().map(|it| &it["rule"]).filter(|it| !it.is_null()).collect();
    assert_eq!(rules, ["why.probe"]);
    assert!(records.iter().any(|it| it["kind"] == "exec.end"), "{records:?}");
}

#[test]
fn a_host_is_refused_by_both_and_hears_nothing() {
    let place = Place::new();
    if !requires("curl", Path::new("/usr/bin/curl").exists()) {
        return;
    }
    let end = place.fill_in("127.0.0.1:{tcp}");
    TcpStream::connect(&end).unwrap();
    assert_eq!(place.contacts(), 1);
    check(&place, 1, &["--host", &end], "connect", false);
    assert_eq!(place.contacts(), 0);
}

#[test]
fn above_the_ceiling_nothing_is_started() {
    let place = Place::new();
    let found = asked(&place, 4, &["--path", "README.md"]);
    assert_eq!(found["answers"][0]["probe"]["answer"], "not", "{found}");
    assert_eq!(place.records().len(), 0);
}
