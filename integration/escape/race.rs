//! Races: what is started is changed while the gate looks at it.
//!
//! One word of the call, or the link that it names, takes turns between something that is allowed and
//! something that is not. *Control*: outside, both run, so the race is one. *Denied*: inside, the
//! second never runs an instruction: its call fails, or it is killed before its first. *Recorded*: the
//! ledger has every one of these.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Ended, Place};

/// Tries of each race; many more for the bench.
fn tries() -> u64 {
    std::env::var("RUNG_RACE_TRIES").map_or(150, |it| it.parse().unwrap())
}

/// Who changes the word.
const WRITERS: [&str; 4] = ["thread", "memory", "shared", "own"];

/// What the probe counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Count {
    allowed: u64,
    denied: u64,
    refused: u64,
    killed: u64,
    /// The kernel or the gate read half of one and half of the other, which names nothing.
    torn: u64,
    other: u64,
}

#[track_caller]
fn count(ended: &Ended) -> Count {
    let text = ended.text();
    let words: Vec<&str> = text.split_whitespace().collect();
    let of = |name: &str| {
        let at = words.iter().position(|it| *it == name);
        let at = at.unwrap_or_else(|| panic!("no count: {} {text} {}", ended.code(), ended.err));
        words[at + 1].parse().unwrap()
    };
    Count {
        allowed: of("allowed"),
        denied: of("denied"),
        refused: of("refused"),
        killed: of("killed"),
        torn: of("torn"),
        other: of("other"),
    }
}

/// A copy of `false` that no rule names: it says by its exit code that it ran.
fn unlisted(place: &Place) -> PathBuf {
    let path = place.probe.with_file_name("unlisted");
    place.copy_program(Path::new("/usr/bin/false"), &path);
    path
}

/// Runs one race outside and inside.
#[track_caller]
fn check(name: &str, place: &Place, words: &[&str], clean: impl Fn()) {
    let outside = count(&place.outside_probe(words).end());
    assert!(outside.allowed > 0 && outside.denied > 0, "{name} is no race: {outside:?}");
    clean();
    let ended = place.rung(3).probe(words).end();
    let inside = count(&ended);
    println!("race {name}: {} tries, {inside:?}", tries());
    assert_eq!(inside.denied, 0, "{name}: the denied program ran: {inside:?}");
    assert_eq!(inside.other, 0, "{name}: {inside:?}");
    assert!(inside.allowed > 0 && inside.refused + inside.killed > 0, "{name}: {inside:?}");
    assert_eq!(ended.exec_count("started"), inside.allowed, "{name}");
    // Half of a path may be a directory, which the kernel refuses by itself.
    let refused = ended.exec_count("refused");
    assert!(refused <= inside.refused && refused * 2 > inside.refused, "{name}: {refused}");
    assert_eq!(ended.exec_count("killed"), inside.killed, "{name}");
    let told: u32 = ended.outcome().denials.iter().map(|it| it.count).sum();
    assert_eq!(u64::from(told), refused + inside.killed, "{name}");
    ended.recorded();
}

#[test]
fn a_path_that_changes_meanwhile_never_starts_what_was_not_allowed() {
    let count = tries().to_string();
    for writer in WRITERS {
        let place = Place::new();
        let evil = unlisted(&place);
        let (true_, evil) = ("/usr/bin/true", evil.to_str().unwrap());
        let words = ["race", "path", writer, &count, true_, true_, evil];
        check(&format!("path by {writer}"), &place, &words, || {});
    }
}

#[test]
fn a_word_that_changes_meanwhile_never_reaches_a_program() {
    let count = tries().to_string();
    for writer in WRITERS {
        let place = Place::new();
        let probe = place.probe.to_str().unwrap();
        // With the second word the probe does not know what to do, and no rule covers it.
        let words = ["race", "word", writer, &count, probe, "--", "xx", "exit", "0"];
        check(&format!("word by {writer}"), &place, &words, || {});
    }
}

#[test]
fn a_link_that_turns_meanwhile_never_leads_to_what_was_not_allowed() {
    let count = tries().to_string();
    for how in ["replace", "exchange"] {
        let place = Place::new();
        let evil = unlisted(&place);
        // At this level a link of the workspace is a program of the workspace, so what may not be
        // started is named.
        let rules = r#"
[[exec.program]]
name  = "unlisted"
class = "plain"
style = "gnu"

[[exec.rule]]
id       = "test.unlisted"
program  = "unlisted"
decision = "deny"
power    = "exec"
because  = "the tests try to start it"
match    = ["unlisted"]
"#;
        place.set_profile(3, &place.profile(3, rules));
        let link = place.workspace.join("link");
        let clean = || {
            for name in ["link", "link.other", "link.new"] {
                drop(fs::remove_file(place.workspace.join(name)));
            }
        };
        let words = [
            "race-link",
            how,
            &count,
            link.to_str().unwrap(),
            "/usr/bin/true",
            evil.to_str().unwrap(),
        ];
        check(&format!("link by {how}"), &place, &words, clean);
    }
}
