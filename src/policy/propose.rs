//! The rule that lessons come to, as a profile's author would write it.
//!
//! It covers what was seen and as little else as it can: words that every line begins with stand
//! as they are, what follows is listed value by value, and only what is another one each time, or
//! names a place that will not be there again, becomes a type. What is proposed here is no
//! permission: it is text for a person, and whether it does what it should is for the rules
//! themselves to say, once it is loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::model::Arg;
use crate::policy::lesson::Lesson;
use crate::policy::value::{self, Form, Place};
use crate::profile::{Profile, ValueType};

/// How many different values a rule lists one by one.
const LISTED_MAX: usize = 8;
/// How many of the lines that were seen become examples.
const EXAMPLES_MAX: usize = 4;
/// An option that no program has been seen with.
const UNSEEN: &str = "--not-seen";

/// Types in the order in which they are tried: the narrowest first.
const TYPES: [(&str, ValueType); 6] = [
    ("uint", ValueType::Uint),
    ("path-workspace", ValueType::PathWorkspace),
    ("path-write", ValueType::PathWrite),
    ("name", ValueType::Name),
    ("path-read", ValueType::PathRead),
    ("text", ValueType::Text),
];

/// One rule, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    pub id: String,
    pub program: String,
    /// Tables of TOML: `[[exec.rule]]` and its keys, behind `[[exec.program]]` where nothing in
    /// force describes the program.
    pub text: String,
}

/// How much one rule takes together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breadth {
    /// All lines of a program.
    Program,
    /// One line, to the letter.
    Line,
}

/// What a proposal is made for.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    pub profile: &'a Profile,
    pub workspace: &'a Path,
    pub cwd: &'a Path,
    pub home: &'a Path,
    /// The reason that each rule is given.
    pub because: &'a str,
}

/// The rules for the lessons about one program. Nothing where some line cannot be written down.
pub fn propose(lessons: &[&Lesson], breadth: Breadth, scene: &Scene<'_>) -> Option<Vec<Proposed>> {
    let program = &lessons.first()?.program;
    let mut lines: BTreeMap<Vec<&str>, BTreeSet<Option<&str>>> = BTreeMap::new();
    for lesson in lessons {
        let words: Option<Vec<&str>> = lesson.words.iter().map(Arg::as_str).collect();
        lines.entry(words?).or_default().insert(lesson.started_by.as_deref());
    }
    let groups: Vec<BTreeMap<_, _>> = match breadth {
        Breadth::Program => vec![lines],
        Breadth::Line => lines.into_iter().map(|it| BTreeMap::from([it])).collect(),
    };
    let mut proposed: Vec<Proposed> = Vec::new();
    for group in groups {
        let id = free_id(program, scene.profile, &proposed);
        let lines: Vec<Vec<&str>> = group.keys().cloned().collect();
        let arguments = match breadth {
            Breadth::Program => grammar(&lines, scene)?,
            Breadth::Line => lines.first()?.iter().map(|it| quoted(it)).collect(),
        };
        // One that nobody can be named for leaves the rule without a caller.
        let callers: Option<BTreeSet<&str>> = group.into_values().flatten().collect();
        let callers = callers.unwrap_or_default();
        let is_described = scene.profile.exec.programs.contains_key(program);
        let mut text = rule_text(&id, program, &callers, &arguments, &lines, scene.because);
        if !is_described && proposed.is_empty() {
            text.insert_str(0, &description(program));
        }
        proposed.push(Proposed { id, program: program.clone(), text });
    }
    Some(proposed)
}

fn free_id(program: &str, profile: &Profile, proposed: &[Proposed]) -> String {
    let plain = |it: char| if it.is_ascii_alphanumeric() { it.to_ascii_lowercase() } else { '-' };
    let base: String = program.chars().map(plain).collect();
    let is_taken = |id: &String| {
        profile.exec.rules.iter().any(|it| it.id == *id) || proposed.iter().any(|it| it.id == *id)
    };
    let numbered = (2_usize..).map(|it| format!("learned.{base}.{it}"));
    let mut ids = std::iter::once(format!("learned.{base}")).chain(numbered);
    ids.find(|it| !is_taken(it)).unwrap_or_default()
}

/// The least that can be said of a program: it is itself, and its options are the usual ones.
fn description(program: &str) -> String {
    let name = quoted(program);
    format!("[[exec.program]]\nname  = {name}\nclass = \"plain\"\nstyle = \"gnu\"\n\n")
}

fn rule_text(
    id: &str,
    program: &str,
    callers: &BTreeSet<&str>,
    arguments: &[String],
    lines: &[Vec<&str>],
    because: &str,
) -> String {
    let example = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|it| quoted(it)).collect();
        format!("[{}]", [&[quoted(program)], words.as_slice()].concat().join(", "))
    };
    let matches: Vec<String> = lines.iter().take(EXAMPLES_MAX).map(|it| example(it)).collect();
    let callers: Vec<String> = callers.iter().map(|it| quoted(it)).collect();
    let started_by = match callers.as_slice() {
        [] => None,
        [only] => Some(only.clone()),
        _ => Some(format!("[{}]", callers.join(", "))),
    };
    let keys = [
        ("id", Some(quoted(id))),
        ("program", Some(quoted(program))),
        ("started_by", started_by),
        ("decision", Some(quoted("allow"))),
        ("power", Some(quoted("exec"))),
        ("because", Some(quoted(because))),
        ("arguments", Some(format!("[{}]", arguments.join(", ")))),
        ("match", Some(format!("[{}]", matches.join(", ")))),
        ("not_match", Some(format!("[{}]", example(&[UNSEEN])))),
    ];
    let line = |(key, value): (&str, Option<String>)| Some(format!("{key:<10} = {}\n", value?));
    let lines: String = keys.into_iter().filter_map(line).collect();
    format!("[[exec.rule]]\n{lines}")
}

/// What JSON makes of a text, a TOML reader reads too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The elements of `arguments` that cover all lines.
fn grammar(lines: &[Vec<&str>], scene: &Scene<'_>) -> Option<Vec<String>> {
    let passing = |word: &str| {
        let workspace = scene.workspace.to_str().unwrap_or_default();
        word.contains("/tmp/") || word.contains(workspace)
    };
    let first = lines.first()?;
    let same = |at: &usize| {
        let word = first.get(*at);
        word.is_some_and(|it| !passing(it)) && lines.iter().all(|it| it.get(*at) == word)
    };
    let fixed = (0..first.len()).take_while(same).count();
    let mut elements: Vec<String> = first.iter().take(fixed).map(|it| quoted(it)).collect();

    let mut flags: BTreeSet<&str> = BTreeSet::new();
    let mut options: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut operands: BTreeSet<&str> = BTreeSet::new();
    let (mut least, mut most) = (usize::MAX, 0);
    for line in lines {
        let mut count = 0;
        for word in line.iter().skip(fixed) {
            match word.split_once('=') {
                _ if matches!(*word, "-" | "--") => return None,
                Some((name, value)) if name.starts_with("--") => {
                    options.entry(name).or_default().insert(value);
                }
                _ if word.starts_with('-') => drop(flags.insert(word)),
                _ => {
                    operands.insert(word);
                    count += 1;
                }
            }
        }
        (least, most) = (least.min(count), most.max(count));
    }
    if !flags.is_empty() {
        let flags: Vec<String> = flags.iter().map(|it| quoted(it)).collect();
        elements.push(format!("{{ flags = [{}] }}", flags.join(", ")));
    }
    let values = |values: &BTreeSet<&str>| -> Option<String> {
        if values.len() <= LISTED_MAX && !values.iter().any(|it| passing(it)) {
            let values: Vec<String> = values.iter().map(|it| quoted(it)).collect();
            return Some(format!("{{ enum = [{}] }}", values.join(", ")));
        }
        narrowest(values, scene).map(quoted)
    };
    for (name, given) in &options {
        elements.push(format!("{{ option = {}, value = {} }}", quoted(name), values(given)?));
    }
    if most > 0 {
        let bounds = format!("min = {least}, max = {most}");
        elements.push(format!("{{ operands = {}, {bounds} }}", values(&operands)?));
    }
    Some(elements)
}

/// The narrowest type that all of the words are of.
fn narrowest(words: &BTreeSet<&str>, scene: &Scene<'_>) -> Option<&'static str> {
    let Scene { profile, workspace, cwd, home, .. } = *scene;
    let place =
        Place { profile, workspace, cwd, home, at_exec: true, callers: &[], own_call: false };
    let fits = |it: &ValueType| {
        words.iter().all(|word| value::fits(it, word.as_bytes(), Form::Separate, &place))
    };
    TYPES.iter().find(|it| fits(&it.1)).map(|it| it.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture::{argv, profile};

    fn scene(profile: &Profile) -> Scene<'_> {
        let workspace = Path::new("/ws");
        let home = Path::new("/home/user");
        Scene { profile, workspace, cwd: workspace, home, because: "seen" }
    }

    fn lessons(lines: &[&str]) -> Vec<Lesson> {
        let one = |line: &&str| {
            let (caller, line) = line.split_once(" > ").unwrap();
            let words = argv(line);
            Lesson {
                program: words[0].to_string(),
                started_by: (caller != "nobody").then(|| caller.to_owned()),
                words: words[1..].to_vec(),
            }
        };
        lines.iter().map(one).collect()
    }

    /// The lines of the rules that say what may be started by whom.
    fn said(lines: &[&str], breadth: Breadth) -> Option<Vec<String>> {
        let profile = profile();
        let lessons = lessons(lines);
        let proposed = propose(&lessons.iter().collect::<Vec<_>>(), breadth, &scene(&profile))?;
        let keys = ["id ", "started_by ", "arguments "];
        let lines = proposed.iter().flat_map(|it| it.text.lines().map(str::to_owned));
        Some(lines.filter(|it| keys.iter().any(|key| it.starts_with(key))).collect())
    }

    #[track_caller]
    fn check(lines: &[&str], started_by: &str, arguments: &str) {
        let expected = [
            r#"id         = "learned.x""#.to_owned(),
            format!("started_by = {started_by}"),
            format!("arguments  = [{arguments}]"),
        ];
        assert_eq!(said(lines, Breadth::Program).unwrap(), expected);
    }

    #[test]
    fn one_line_becomes_a_rule_about_exactly_this_line() {
        check(&["make > x"], r#""make""#, "");
        check(&["make > x a --b=c -d"], r#""make""#, r#""a", "--b=c", "-d""#);
    }

    #[test]
    fn what_differs_is_listed_value_by_value() {
        check(
            &["make > x build -v a", "npm > x build b --jobs=2", "make > x build"],
            r#"["make", "npm"]"#,
            r#""build", { flags = ["-v"] }, { option = "--jobs", value = { enum = ["2"] } }, { operands = { enum = ["a", "b"] }, min = 0, max = 1 }"#,
        );
    }

    #[test]
    fn a_place_that_will_not_be_there_again_becomes_a_type() {
        check(
            &["make > x --out=/tmp/a1 /ws/src/a"],
            r#""make""#,
            r#"{ option = "--out", value = "path-write" }, { operands = "path-workspace", min = 1, max = 1 }"#,
        );
        let many: Vec<String> = (0..9).map(|it| format!("make > x {it}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check(&many, r#""make""#, r#"{ operands = "uint", min = 1, max = 1 }"#);
    }

    #[test]
    fn what_has_no_grammar_is_written_line_by_line() {
        let lines = ["make > x -- a", "nobody > x -"];
        assert_eq!(said(&lines, Breadth::Program), None);
        let expected = [
            r#"id         = "learned.x""#,
            r#"arguments  = ["-"]"#,
            r#"id         = "learned.x.2""#,
            r#"started_by = "make""#,
            r#"arguments  = ["--", "a"]"#,
        ];
        assert_eq!(said(&lines, Breadth::Line).unwrap(), expected);
    }
}
