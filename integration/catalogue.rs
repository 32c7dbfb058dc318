//! Texts that people, agents and attackers write, handed to real runs: whatever becomes of each,
//! nothing changes outside the workspace, and nothing that is protected in it.
//!
//! `RUNG_CATALOGUE=all` runs every text, otherwise a run takes some of them, from another place each
//! time; the place is printed and can be given back as a number.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::{Place, put, tree};

/// Texts that a run of every day takes at each level.
const CASES: usize = 12;

/// What is in the workspace and may not be changed there.
const PROTECTED: [&str; 3] = [".git/hooks", ".git/config", ".vscode"];

fn texts() -> Vec<String> {
    let lines = include_str!("../tests/it/shell/catalogue.jsonl").lines();
    let texts = lines.filter_map(|it| {
        let row: Value = serde_json::from_str(it).unwrap();
        row["text"].as_str().map(str::to_owned)
    });
    texts.filter(|it| !it.contains('\0')).collect()
}

/// Which texts, and how many.
fn chosen(all: Vec<String>) -> Vec<String> {
    let asked = std::env::var("RUNG_CATALOGUE").unwrap_or_default();
    if asked == "all" {
        return all;
    }
    let somewhere = usize::try_from(std::process::id()).unwrap();
    let start = asked.parse().unwrap_or(somewhere) % all.len();
    println!("RUNG_CATALOGUE={start}");
    let step = all.len() / CASES;
    (0..CASES).map(|it| all[(start + it * step) % all.len()].clone()).collect()
}

/// All that no text may change.
fn untouchable(place: &Place) -> Vec<std::collections::BTreeMap<PathBuf, String>> {
    let protected = PROTECTED.map(|it| tree(&place.workspace.join(it)));
    [tree(&place.outside), tree(&place.home)].into_iter().chain(protected).collect()
}

fn held(level: u8) {
    let place = Place::new();
    put(&place.workspace.join("a.txt"), "a\n");
    let texts = chosen(texts());
    // The first run makes rung's own state, which lies beside the home.
    place.rung(level).words(&["true"]).end().exited(0);
    let before = untouchable(&place);
    let workspace = tree(&place.workspace);
    let (mut ran, mut refused) = (0, 0);
    for text in &texts {
        let ended = place.rung(level).option(&["--timeout", "5 s", "-c", text]).end();
        if ended.code() == 126 || ended.code() == 75 {
            refused += 1;
        } else {
            ran += 1;
        }
        assert!(!ended.err.contains("panicked"), "{text:?}: {}", ended.err);
        assert_eq!(untouchable(&place), before, "level {level}: {text:?}");
        if level == 1 {
            assert_eq!(tree(&place.workspace), workspace, "level {level}: {text:?}");
        }
        assert_eq!(place.contacts(), 0, "level {level}: {text:?}");
    }
    // The same look sees what anybody outside does.
    for seen in [place.outside.join("seen"), place.workspace.join(".git/hooks/seen")] {
        put(&seen, "x\n");
        assert_ne!(untouchable(&place), before);
        fs::remove_file(seen).unwrap();
    }
    println!("level {level}: {} texts, {ran} ran, {refused} were refused", texts.len());
}

#[test]
fn at_level_1_no_text_of_the_catalogue_has_an_effect_that_is_not_given() {
    held(1);
}

#[test]
fn at_level_2_no_text_of_the_catalogue_has_an_effect_that_is_not_given() {
    held(2);
}

#[test]
fn at_level_3_no_text_of_the_catalogue_has_an_effect_that_is_not_given() {
    held(3);
}
