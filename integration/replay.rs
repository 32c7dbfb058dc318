//! What was really started, decided again under a changed profile.

use serde_json::Value;

use crate::harness::{Place, put, requires};

impl Place {
    /// The answer of `rung replay` under a level's file with one more rule.
    fn replayed(&self, more: &str) -> Value {
        let file = self.root().join("level-3.toml");
        put(&file, &format!("schema = 1\nlevel = 3\n{more}"));
        let words = ["replay", "--json", "--against", file.to_str().unwrap()];
        let ended = self.rung_with(&words).end();
        let answer: Value = serde_json::from_slice(&ended.out)
            .unwrap_or_else(|error| panic!("{error}: {} {}", ended.text(), ended.err));
        let differs = !answer["changes"].as_array().unwrap().is_empty();
        assert_eq!(ended.code(), i32::from(differs), "{}", ended.err);
        answer
    }
}

fn deny(program: &str) -> String {
    format!(
        "[[exec.rule]]\nid = \"test.{program}\"\nprogram = \"{program}\"\ndecision = \"deny\"\n\
         power = \"exec\"\nbecause = \"the test says so\"\nmatch = [\"{program}\"]\n"
    )
}

#[test]
fn a_tightened_level_says_what_it_would_have_refused_in_the_middle_of_a_run() {
    if !requires("make", std::path::Path::new("/usr/bin/make").exists()) {
        return;
    }
    let place = Place::new();
    let recipe = "all:\n\t@for i in 1 2 3; do sleep 0; done; touch out\n\t@-./nothing\n";
    put(&place.workspace.join("Makefile"), recipe);
    place.rung(3).words(&["make"]).end().exited(0);
    place.rung(3).probe(&["start", "fork", "/usr/bin/true"]).end().exited(0);

    let same = place.replayed("");
    assert_eq!(same["decided"], 2);
    // Two shells, three times sleep, touch; and true.
    assert!(same["execs"].as_u64().unwrap() >= 6, "{same}");
    assert_eq!(same["changes"], serde_json::json!([]));

    let tighter = place.replayed(&deny("sleep"));
    let changes = tighter["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 1, "{tighter}");
    let change = &changes[0];
    assert_eq!(change["argv"], serde_json::json!(["sleep", "0"]));
    assert_eq!((&change["was"], &change["is"]), (&"allow".into(), &"deny".into()));
    assert_eq!(change["is_rule"], "test.sleep");
    assert_eq!(change["cause"], "profile");
    assert_eq!(change["count"], 3);
    let by = change["started_by"].as_array().unwrap();
    assert!(by.contains(&"make".into()), "{by:?}");

    // Where the command itself would not run, nothing is said about what it started.
    let whole = place.replayed(&deny("make"));
    let changes = whole["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 1, "{whole}");
    assert_eq!(changes[0]["argv"], serde_json::json!(["make"]));
    assert_eq!(whole["execs"], 1);
}
