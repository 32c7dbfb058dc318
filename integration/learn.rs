//! Learning runs: what only lacks a rule is let through, the walls stay, and what is proposed works.

use std::fs;
use std::path::{Path, PathBuf};

use rung::model::Layer;

use crate::harness::{Ended, Place, put, requires};

impl Place {
    /// A program that nothing names, beside the probe.
    fn lacking(&self, from: &str, name: &str) -> PathBuf {
        let path = self.probe.with_file_name(name);
        self.copy_program(Path::new(from), &path);
        path
    }

    fn learn(&self, more: &[&str], words: &[&str]) -> Ended {
        let options = [&["learn", "--level", "3"], more].concat();
        self.rung_with(&options).words(words).end()
    }

    fn profile_file(&self) -> PathBuf {
        self.home.join(".config/rung/level-3.toml")
    }

    /// What the proposal adds to the profile in force.
    fn proposed(&self, more: &[&str], words: &[&str]) -> (Ended, String) {
        let file = self.root().join("proposal.toml");
        let write = ["--write", file.to_str().unwrap()];
        let ended = self.learn(&[&write, more].concat(), words);
        let after = fs::read_to_string(&file).unwrap_or_default();
        let before = fs::read_to_string(self.profile_file()).unwrap();
        let added = after.strip_prefix(before.trim_end()).unwrap_or_default().to_owned();
        (ended, added)
    }
}

impl Ended {
    fn observed(&self) -> Vec<(&str, u64)> {
        let all = self.records.iter().filter(|it| it["kind"] == "learn.observed");
        all.map(|it| (it["program"].as_str().unwrap(), it["count"].as_u64().unwrap())).collect()
    }
}

#[test]
fn the_proposal_is_exactly_the_program_that_lacks_a_rule_and_adopting_it_is_enough() {
    let place = Place::new();
    let unlisted = place.lacking("/usr/bin/true", "unlisted");
    let probe = place.probe.to_str().unwrap();
    let command = [probe, "--", "start", "fork", unlisted.to_str().unwrap(), "a", "--b=c"];

    let refused = place.rung(3).words(&command).end().exited(13);
    assert_eq!(refused.denial().rule, "default");
    assert_eq!(refused.records[0].get("learning"), None);

    let before = fs::read_to_string(place.profile_file()).unwrap();
    let (learned, added) = place.proposed(&[], &command);
    let learned = learned.exited(0);
    assert_eq!(learned.observed(), [("unlisted", 1)]);
    assert_eq!(learned.records[0]["learning"], true);
    assert_eq!(learned.execs("started")[0]["rule"], "learn.observed");
    assert!(learned.outcome().denials.is_empty());
    let expected = r#"

[[exec.program]]
name  = "unlisted"
class = "plain"
style = "gnu"

[[exec.rule]]
id         = "learned.unlisted"
program    = "unlisted"
started_by = "probe"
decision   = "allow"
power      = "exec"
because    = "seen in a learning run of probe; say here what it is for"
arguments  = ["a", "--b=c"]
match      = [["unlisted", "a", "--b=c"]]
not_match  = [["unlisted", "--not-seen"]]
"#;
    assert_eq!(added, expected);
    assert!(learned.err.contains("+program    = \"unlisted\""), "{}", learned.err);
    assert_eq!(fs::read_to_string(place.profile_file()).unwrap(), before, "changed by itself");
    place.rung(3).words(&command).end().exited(13);

    let file = place.profile_file();
    place.learn(&["--write", file.to_str().unwrap()], &command).exited(0);
    let adopted = place.rung(3).words(&command).end().exited(0);
    assert_eq!(adopted.execs("started")[0]["rule"], "learned.unlisted");
    // Not a word more than what was seen, and not for everybody.
    let mut other = command;
    other[5] = "b";
    place.rung(3).words(&other).end().exited(13);
    let direct = place.rung(3).words(&[unlisted.to_str().unwrap(), "a", "--b=c"]).end();
    assert_eq!(direct.code(), 126, "{}", direct.err);
}

#[test]
fn the_tests_of_a_project_show_what_they_need() {
    let make = Path::new("/usr/bin/make").exists();
    if !requires("make", make) {
        return;
    }
    let place = Place::new();
    let tool = place.lacking("/usr/bin/touch", "stamp");
    let recipe = format!("test:\n\t@for i in 1 2 3; do {} out-$$i; done\n", tool.display());
    put(&place.workspace.join("Makefile"), &recipe);
    let refused = place.rung(3).words(&["make", "test"]).end();
    assert_ne!(refused.code(), 0, "{}", refused.err);
    let (learned, added) = place.proposed(&[], &["make", "test"]);
    let learned = learned.exited(0);
    assert_eq!(learned.observed(), [("stamp", 1), ("stamp", 1), ("stamp", 1)]);
    let operands =
        r#"arguments  = [{ operands = { enum = ["out-1", "out-2", "out-3"] }, min = 1, max = 1 }]"#;
    assert!(added.contains(operands), "{added}");
    assert!(added.contains(r#"started_by = "make""#), "{added}");
    assert_eq!(added.matches("[[exec.rule]]").count(), 1, "{added}");
    place.set_profile(3, &(fs::read_to_string(place.profile_file()).unwrap() + &added));
    place.rung(3).words(&["make", "test"]).end().exited(0);
}

/// Where a run would be refused at once, because the recipe says what it lacks.
#[test]
fn what_a_recipe_names_is_learned_by_running_it() {
    let has = |name: &str| requires(name, Path::new("/usr/bin").join(name).exists());
    if !has("make") || !has("namei") {
        return;
    }
    let place = Place::new();
    let makefile = place.workspace.join("Makefile");
    put(&makefile, "test:\n\t@namei /usr\n");
    let refused = place.rung(3).words(&["make", "test"]).end();
    assert_eq!(refused.denial().rule, "default", "{}", refused.err);
    assert_eq!(refused.code(), 126);
    let (learned, added) = place.proposed(&[], &["make", "test"]);
    assert_eq!(learned.exited(0).observed(), [("namei", 1)]);
    assert_eq!(added.matches("[[exec.rule]]").count(), 1, "{added}");
    place.set_profile(3, &(fs::read_to_string(place.profile_file()).unwrap() + &added));
    place.rung(3).words(&["make", "test"]).end().exited(0);
    // What a rule speaks against is not even started.
    put(&makefile, "test:\n\t@touch ran\n\tcurl http://127.0.0.1/\n");
    let refused = place.learn(&[], &["make", "test"]);
    assert_eq!((refused.code(), refused.observed().len()), (126, 0), "{}", refused.err);
    assert!(!place.workspace.join("ran").exists());
}

#[test]
fn what_a_rule_refuses_or_the_sandbox_does_not_give_stays_refused() {
    let place = Place::new();
    let unlisted = place.lacking(place.probe.to_str().unwrap(), "unlisted");
    let denied = place.lacking("/usr/bin/true", "forbidden");
    let rule = |id: &str, decision: &str| {
        format!(
            "[[exec.rule]]\nid = \"test.{id}\"\nprogram = \"{id}\"\ndecision = \"{decision}\"\n\
             power = \"exec\"\nbecause = \"the test says so\"\nmatch = [\"{id}\"]\n"
        )
    };
    place.set_profile(3, &place.profile(3, &rule("forbidden", "deny")));
    let (probe, secret) = (place.probe.to_str().unwrap(), place.outside.join("secret"));
    let start = |program: &Path, more: &[&str]| {
        let program = program.to_str().unwrap().to_owned();
        let words = [probe, "--", "start", "fork", &program].map(str::to_owned);
        [words.as_slice(), &more.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>()].concat()
    };
    let learn = |words: &[String]| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        place.proposed(&[], &words)
    };

    let (ended, added) = learn(&start(&denied, &[]));
    let ended = ended.exited(13);
    assert_eq!(ended.denial().rule, "test.forbidden");
    assert_eq!((ended.observed().len(), added.as_str()), (0, ""));

    // What is let through is in the sandbox like everything else.
    let read = ["--", "read", secret.to_str().unwrap()];
    assert_eq!(place.outside_probe(&read[1..]).end().code(), 0);
    let (ended, _) = learn(&start(&unlisted, &read));
    assert_eq!(ended.observed(), [("unlisted", 1)]);
    assert_ne!(ended.code(), 0, "it read what lies outside");
}

#[test]
fn nobody_learns_from_inside_a_run() {
    let place = Place::new();
    let inside = place
        .rung_with(&["learn", "--level", "3"])
        .env("RUNG_RUN", "01K9XJ4Q6T0V3W8Z5N2M7B1C4D")
        .words(&["true"])
        .end();
    assert_eq!(inside.code(), 125);
    assert!(inside.err.contains("for the person outside"), "{}", inside.err);
    assert!(place.records().is_empty(), "something ran");
    place.learn(&[], &["true"]).exited(0);

    // A run cannot start it either: rung is no program of any level.
    let rung = place.lacking(env!("CARGO_BIN_EXE_rung"), "rung");
    let words = ["start", "fork", rung.to_str().unwrap(), "learn", "--", "true"];
    let refused = place.rung(3).probe(&words).end().exited(13);
    assert_eq!(refused.denial().layer, Layer::Exec);
}

#[test]
fn a_proposal_overwrites_nothing_else() {
    let place = Place::new();
    let other = place.root().join("mine.toml");
    put(&other, "mine\n");
    let ended = place.learn(&["--write", other.to_str().unwrap()], &["true"]);
    assert_eq!(ended.code(), 125);
    assert!(ended.err.contains("name another file"), "{}", ended.err);
    assert!(place.records().is_empty(), "something ran");
    assert_eq!(fs::read_to_string(&other).unwrap(), "mine\n");
}

#[test]
fn a_place_that_is_not_there_is_told_before_anything_runs() {
    let place = Place::new();
    let file = place.root().join("missing/level-3.toml");
    let ended = place.learn(&["--write", file.to_str().unwrap()], &["true"]);
    assert_eq!(ended.code(), 125);
    assert!(ended.err.contains("missing"), "{}", ended.err);
    assert!(place.records().is_empty(), "something ran");
    fs::create_dir(file.parent().unwrap()).unwrap();
    place.learn(&["--write", file.to_str().unwrap()], &["true"]).exited(0);
}
