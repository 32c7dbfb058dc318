//! The texts that people, agents and attackers write, decided at the levels that need no approval.
//!
//! `shell/catalogue.jsonl` has each text with the command lines that bash executed for it. Two
//! things are held: a text is allowed only where every one of its command lines is, by the very
//! rules; and the golden file lists each answer, so that a rule that starts to refuse what is
//! harmless is seen.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use rung::model::{Arg, Level};
use rung::policy::{Verdict, decide};
use serde::Deserialize;

use crate::commands::{LADDER, request};

const LEVELS: [Level; 3] = [Level::ReadOnlyResearch, Level::LocalWrites, Level::TestExecution];

#[derive(Deserialize)]
struct Row {
    text: Option<String>,
    #[serde(default)]
    argvs: Vec<Vec<String>>,
}

/// The rows whose text is UTF-8 without NUL; others reach no command line.
fn rows() -> Vec<(String, Vec<Vec<String>>)> {
    let lines = include_str!("shell/catalogue.jsonl").lines();
    let rows = lines.map(|it| serde_json::from_str::<Row>(it).unwrap());
    rows.filter_map(|it| Some((it.text.filter(|text| !text.contains('\0'))?, it.argvs))).collect()
}

fn argv(words: &[String]) -> Vec<Arg> {
    words.iter().map(|it| Arg::try_from(it.as_str()).unwrap()).collect()
}

/// `a` allowed, `g` not certain and left to the gate, which decides every program by itself, `?` asks
/// first, `d` denied, `n` never.
fn letter(verdict: &Verdict) -> char {
    match verdict {
        Verdict::Allow(permit) if permit.rule() == "shell.undecided" => 'g',
        Verdict::Allow(_) => 'a',
        Verdict::Ask(_) => '?',
        Verdict::Deny(refusal) if refusal.never => 'n',
        Verdict::Deny(_) => 'd',
    }
}

/// The text as `bash -c` gets it.
fn of_text(text: &str, level: Level) -> char {
    let words = ["bash", "-c", text].map(str::to_owned);
    letter(&decide(&request(level, argv(&words)), &LADDER))
}

/// Whether every command line that bash executed is allowed by itself.
fn of_effects(argvs: &[Vec<String>], level: Level) -> bool {
    let allowed = |it: &Vec<String>| {
        // What bash does itself: `[` is `test` by another name, and `echo` takes a dash for text.
        let words = match it.split_first() {
            Some((first, rest)) if first == "[" => {
                let operands = rest.split_last().map_or(rest, |(_, operands)| operands);
                [&["test".to_owned()], operands].concat()
            }
            Some((first, rest)) if first == "echo" => {
                let is_option = |it: &&String| matches!(it.as_str(), "-n" | "-e" | "-E" | "-ne");
                let options = rest.iter().take_while(is_option).count();
                [&it[..=options], &["--".to_owned()], &rest[options..]].concat()
            }
            _ => it.clone(),
        };
        letter(&decide(&request(level, argv(&words)), &LADDER)) == 'a'
    };
    !argvs.is_empty() && argvs.iter().all(allowed)
}

#[test]
fn a_text_is_allowed_only_where_all_that_it_runs_is() {
    let mut wrong = Vec::new();
    let mut allowed = 0;
    for (text, argvs) in rows() {
        for level in LEVELS {
            if of_text(&text, level) != 'a' {
                continue;
            }
            allowed += 1;
            if !argvs.is_empty() && !of_effects(&argvs, level) {
                wrong.push(format!("level {level}: {text:?} ran {argvs:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(allowed > 100, "only {allowed} answers were a yes");
}

/// One line for each text: the answers of levels 1 to 3, and `!` where level 3 refuses although it
/// allows everything that the text ran: a false alarm.
#[test]
fn every_answer_is_as_it_was_and_false_alarms_are_listed() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut lines = String::new();
    for (text, argvs) in rows() {
        let answers: String = LEVELS.iter().map(|level| of_text(&text, *level)).collect();
        let harmless = of_effects(&argvs, Level::TestExecution);
        let runs = answers.ends_with(['a', 'g']);
        let mark = if harmless && !runs { '!' } else { ' ' };
        *counts.entry(format!("{answers}{mark}")).or_default() += 1;
        writeln!(lines, "{answers}{mark} {}", text.escape_debug()).unwrap();
    }
    let mut summary = String::new();
    for (answers, count) in &counts {
        writeln!(summary, "# {answers} {count}").unwrap();
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("catalogue", summary + &lines));
}
