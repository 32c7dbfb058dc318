//! What came from another machine is not started: not by name, not by a shell, not through a pipe,
//! and not by the next run.

use std::fs;
use std::path::Path;

use crate::harness::{Ended, Place, make_program, put};

/// Two programs that speak to other machines, as far as the profile knows: they copy and print.
const GETTERS: &str = r#"
[[exec.program]]
name  = ["getter", "teller"]
class = "remote"
style = "gnu"

[[exec.program]]
name  = "keeper"
class = "plain"
style = "gnu"

[[exec.rule]]
id        = "test.getters"
program   = ["getter", "teller", "keeper"]
arguments = [{ rest = "any" }]
decision  = "allow"
power     = "net"
because   = "the tests fetch with it"
match     = ["getter a b"]
not_match = ["getters"]

[[exec.rule]]
id        = "test.shell"
program   = ["sh", "bash", "dash"]
arguments = [{ rest = "any" }]
decision  = "allow"
power     = "exec"
because   = "the tests give it what was fetched"
match     = ["sh x.sh"]
not_match = ["shx"]
"#;

impl Place {
    fn with_getters() -> (Self, String) {
        let place = Self::new();
        for (from, name) in [("cp", "getter"), ("cat", "teller"), ("cp", "keeper")] {
            let from = Path::new("/usr/bin").join(from);
            place.copy_program(&from, &place.probe.with_file_name(name));
        }
        place.set_profile(3, &place.profile(3, GETTERS));
        put(&place.workspace.join("source"), "#!/bin/sh\necho it ran\n");
        make_program(&place.workspace.join("source"));
        let programs = place.probe.parent().unwrap().display().to_string();
        (place, programs)
    }

    fn text(&self, text: &str) -> Ended {
        self.rung_with(&["run", "--level", "3", "-c", text]).end()
    }
}

/// Whether it was refused for where it came from: it says so, it is in the ledger, and nothing ran.
fn refused(place: &Place, ended: &Ended) -> bool {
    let denied = ended.err.contains("[exec.fetched]");
    let of_rule = |it: &serde_json::Value| it["rule"] == "exec.fetched" && it["kind"] == "exec";
    let end = place
        .records()
        .iter()
        .rev()
        .skip_while(|it| it["kind"] != "exec.end")
        .skip(1)
        .find_map(|it| (of_rule(it) || it["kind"] == "exec.start").then(|| of_rule(it)));
    assert_eq!(end.unwrap_or_default(), denied, "{}", ended.err);
    assert_eq!(denied, !ended.text().contains("it ran"), "{}{}", ended.text(), ended.err);
    denied
}

#[test]
fn in_one_text_what_is_fetched_is_neither_started_nor_given_to_a_shell() {
    let (place, programs) = Place::with_getters();
    for (name, fetched) in [("getter", true), ("keeper", false)] {
        let get = format!("{programs}/{name} source x.sh");
        for run in ["sh x.sh", "./x.sh", "sh ./src/../x.sh", "sh < x.sh", "mv x.sh y; sh y"] {
            let ended = place.text(&format!("{get}; {run}; rm -f x.sh y"));
            assert_eq!(refused(&place, &ended), fetched, "{name}; {run}: {}", ended.err);
        }
    }
    for (name, fetched) in [("teller", true), ("keeper", false)] {
        let print = if fetched { "teller source" } else { "keeper source /dev/stdout" };
        for pipe in ["sh", "cat | sh"] {
            let ended = place.text(&format!("{programs}/{print} | {pipe}"));
            assert_eq!(refused(&place, &ended), fetched, "{name} | {pipe}: {}", ended.err);
        }
        let ended = place.text(&format!("{programs}/{print} > z; sh z; rm -f z"));
        assert_eq!(refused(&place, &ended), fetched, "{name} > z: {}", ended.err);
    }
}

#[test]
fn the_next_run_remembers_and_a_persons_copy_is_free() {
    let (place, programs) = Place::with_getters();
    let (getter, keeper) = (format!("{programs}/getter"), format!("{programs}/keeper"));
    place.rung(3).words(&[&keeper, "source", "own.sh"]).end().exited(0);
    assert!(!refused(&place, &place.rung(3).words(&["sh", "own.sh"]).end()));
    place.rung(3).words(&[&getter, "source", "x.sh"]).end().exited(0);
    for words in [&["sh", "x.sh"][..], &["./x.sh"]] {
        let ended = place.rung(3).words(words).end();
        assert!(refused(&place, &ended), "{words:?}: {}", ended.err);
        assert!(ended.err.contains("came from another machine"), "{}", ended.err);
    }
    // What was only read stays what it was.
    assert!(!refused(&place, &place.rung(3).words(&["sh", "source"]).end()));
    let path = place.workspace.join("x.sh");
    let text = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(place.workspace.join("read"), text).unwrap();
    fs::rename(place.workspace.join("read"), &path).unwrap();
    assert!(!refused(&place, &place.rung(3).words(&["sh", "x.sh"]).end()));
}

#[test]
fn a_session_remembers_what_it_fetched() {
    let (place, programs) = Place::with_getters();
    let start = ["session", "start", "--name", "s", "--level", "3"];
    assert_eq!(place.rung_with(&start).end().code(), 0);
    let run = |words: &[&str]| {
        place.rung_with(&["run", "--session", "s", "--level", "3"]).words(words).end()
    };
    let ended = run(&[&format!("{programs}/getter"), "source", "x.sh"]);
    assert_eq!(ended.code(), 0, "{}", ended.err);
    assert!(refused(&place, &run(&["sh", "x.sh"])));
    assert!(!refused(&place, &run(&["sh", "source"])));
    assert!(!place.workspace.join("x.sh").exists());
}

#[test]
fn where_what_was_fetched_cannot_be_known_nothing_is_started() {
    let (place, programs) = Place::with_getters();
    place.rung(3).words(&[&format!("{programs}/getter"), "source", "x.sh"]).end().exited(0);
    let directory = place.state().join("fetched");
    let file = fs::read_dir(&directory).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let ended = place.rung(3).words(&["true"]).end();
    assert_eq!(ended.code(), 125, "{}", ended.err);
    assert!(ended.err.contains("what was fetched before cannot be known"), "{}", ended.err);
    fs::remove_dir(&file).unwrap();
    place.rung(3).words(&["true"]).end().exited(0);
}
