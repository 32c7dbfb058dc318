//! Shell text against bash itself: the words that were read, and the command lines that bash ran.
//!
//! The idea: generate texts, keep those that the reader understands completely, work out which of
//! their commands run when every program succeeds and when every program fails, and let bash do it
//! with programs that write down their name, their words and one variable. Any difference is a
//! failure: in what ran, in what it was told, or in which files were written.
//!
//! The seed is printed and can be given back in `RUNG_SHELL_SEED`; `RUNG_SHELL_CASES` asks for a
//! longer run than the few seconds of every day.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use rung::policy::shell::{Connection, Limits, Script, Step, Target, parse};
use serde_json::Value;

use crate::harness::{Place, put};

/// Texts that are understood and run, in a test of every day.
const CASES: usize = 150;

/// Programs that write down how they were called. None of them is a command of the shell itself.
const PROGRAMS: [&str; 8] = ["ls", "rm", "git", "find", "cat", "make", "x-1", "a.b"];

/// `cat` without arguments copies, as texts that come by way of it need.
const RECORDER: &str = r#"#!/bin/sh
printf '%s\0' "$#" "${0##*/}" "$@" "${RV-unset}" >>"$RECORD"
if [ "${0##*/}" = cat ] && [ "$#" = 0 ]; then exec /bin/cat; fi
exit "$STATUS"
"#;

/// One call of a program.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Call {
    argv: Vec<Vec<u8>>,
    variable: Vec<u8>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.argv.iter().chain([&self.variable]);
        f.debug_list().entries(words.map(|it| String::from_utf8_lossy(it))).finish()
    }
}

/// A place in which bash runs with nothing but the recording programs.
struct Bench {
    root: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let root = tempfile::Builder::new().prefix("rung-shell-").tempdir().unwrap();
        let bench = Self { root };
        fs::create_dir(bench.at("bin")).unwrap();
        fs::write(bench.at("bin/recorder"), RECORDER).unwrap();
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(bench.at("bin/recorder"), executable).unwrap();
        for name in PROGRAMS {
            std::os::unix::fs::symlink("recorder", bench.at("bin").join(name)).unwrap();
        }
        bench
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join(name)
    }

    /// What bash ran of the text, and which files it made.
    fn run(&self, text: &str, status: u8) -> (Vec<Call>, BTreeSet<String>) {
        let (record, work) = (self.at("record"), self.at("work"));
        if work.exists() {
            fs::remove_dir_all(&work).unwrap();
        }
        fs::create_dir(&work).unwrap();
        fs::write(work.join("in"), "in\n").unwrap();
        fs::write(&record, "").unwrap();
        let bash = ["/usr/bin/bash", "/bin/bash"].into_iter().find(|it| Path::new(it).exists());
        let mut command = Command::new(bash.expect("bash is installed"));
        command
            .args(["--norc", "--noprofile", "-p", "-c", "--", text])
            .env_clear()
            .env("PATH", self.at("bin"))
            .env("LC_ALL", "C.UTF-8")
            .env("RECORD", &record)
            .env("STATUS", status.to_string())
            .current_dir(&work)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        // Whoever holds the other end is not done yet, so the end of the output is the end of all.
        command.output().expect("bash runs here");
        (calls(&record), names(&work))
    }
}

fn calls(record: &Path) -> Vec<Call> {
    let bytes = fs::read(record).unwrap();
    let mut fields = bytes.split(|it| *it == 0).map(<[u8]>::to_vec);
    let mut calls = Vec::new();
    while let Some(count) = fields.next().filter(|it| !it.is_empty()) {
        let count: usize = String::from_utf8(count).unwrap().parse().unwrap();
        let argv: Vec<Vec<u8>> = fields.by_ref().take(count + 1).collect();
        calls.push(Call { argv, variable: fields.next().unwrap() });
    }
    calls.sort();
    calls
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap();
    let names = entries.map(|it| it.unwrap().file_name().into_string().unwrap());
    names.filter(|it| it != "in").collect()
}

/// What the reading says would run if every program ended with `status`, and what it would write.
/// Nothing where the reading leaves something open.
fn foreseen(script: &Script, status: u8) -> Option<(Vec<Call>, BTreeSet<String>)> {
    let (mut calls, mut files) = (Vec::new(), BTreeSet::new());
    let succeeds = status == 0;
    let mut last = true;
    let mut before = None;
    for pipeline in script.steps.split_inclusive(|it| !it.then.is_pipe()) {
        let runs = match before {
            Some(Connection::And) => last,
            Some(Connection::Or) => !last,
            _ => true,
        };
        before = pipeline.last().map(|it| it.then);
        if !runs {
            continue;
        }
        for step in pipeline {
            last = foreseen_of(step, succeeds, &mut calls, &mut files)?;
        }
    }
    calls.sort();
    Some((calls, files))
}

/// Whether the command succeeds.
fn foreseen_of(
    Step { command, .. }: &Step,
    succeeds: bool,
    calls: &mut Vec<Call>,
    files: &mut BTreeSet<String>,
) -> Option<bool> {
    for _ in 0..command.copies {
        calls.push(Call { argv: vec![b"cat".to_vec()], variable: b"unset".to_vec() });
    }
    let mut variable = b"unset".to_vec();
    for assignment in &command.assignments {
        if assignment.name != "RV" || command.words.is_empty() {
            return None; // lasts, or makes bash itself behave differently
        }
        variable = assignment.value.literal()?.as_bytes().to_vec();
    }
    for redirect in &command.redirects {
        match &redirect.target {
            Target::Write(path) | Target::ReadWrite(path) => {
                let name = path.as_str()?;
                let plain = name.bytes().all(|it| it.is_ascii_alphanumeric()) && name != "in";
                files.insert(plain.then(|| name.to_owned())?);
            }
            Target::Read(path) if path.as_bytes() == b"in" => {}
            Target::Read(_) => return None,
            Target::Descriptor | Target::Text(_) => {}
        }
    }
    let Some(argv) = command.literal().filter(|it| !it.is_empty()) else {
        return command.words.is_empty().then_some(true);
    };
    let argv: Vec<Vec<u8>> = argv.iter().map(|it| it.as_bytes().to_vec()).collect();
    let program = PROGRAMS.iter().find(|it| it.as_bytes() == argv[0])?;
    let copies = *program == "cat" && argv.len() == 1;
    calls.push(Call { argv, variable });
    Some(succeeds || copies)
}

/// Numbers that look random and come back with their seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(mixed).unwrap() % end
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

const WORDS: [&str; 40] = [
    "-la",
    "x",
    "y z",
    "'a b'",
    "\"c d\"",
    "'it'\\''s'",
    "\"q\\\"r\"",
    "\"s\\\\t\"",
    "\"\\u\"",
    "\\;",
    "{}",
    "HEAD@{1}",
    "HEAD~2",
    "a=b",
    "--k=v",
    "''",
    "\"\"",
    "a'b'\"c\"d",
    "a\\ b",
    "\\#c",
    "d#e",
    "\"$\"",
    "f$",
    "'$(rm)'",
    "'`rm`'",
    "\"a\nb\"",
    "'c\nd'",
    "!",
    "!x",
    "^y^z",
    "-",
    "--",
    "[",
    "]",
    "2",
    "time",
    "if",
    "\u{fc}",
    "'\u{fc}'",
    "\"$(cat <<'EOF'\nl1 \"$x\" `y`\n\nEOF\n)\"",
];
const BETWEEN: [&str; 16] = [
    ";",
    "\n",
    " ; ",
    " && ",
    " || ",
    " | ",
    " |& ",
    " |\n",
    "&&\n",
    ";\n\n",
    " # note\n",
    "\n# note; rm x\n",
    " & ",
    " \\\n",
    "|",
    ";",
];
const REDIRECTS: [&str; 16] = [
    " >o1",
    " >o2 ",
    " 2>o3",
    " >>o1",
    " &>o2",
    " &>>o3",
    " <in",
    " 2>&1",
    " >|o1",
    " <>o2",
    " <<<x",
    " 1>&2",
    " 3>o1",
    " 9>&-",
    " <<'E' \nrm x\nE \nE\n",
    " <<E\nl1\nE\n",
];
const PREFIXES: [&str; 6] = ["RV=1 ", "RV='a b' ", "RV=a\\ b ", "RV=\"c\"d ", ">o1 ", "RV= "];
/// What one byte or two make of a text that was understood before.
const INSERTED: [&str; 46] = [
    "\n", "\r", "\u{b}", "\u{c}", "\t", "\0", "#", "-", ">", "<", "&", "|", ";", "(", ")", "$",
    "`", "'", "\"", "\\", "{", "}", "~", "*", "[", "]", "\u{a0}", "\u{200b}", "\u{202e}", " ", "=",
    "!", ",", "..", "2", "\\\n", " \\\n", "&>", ">&", "<<", "<<<", "||", "|&", ":", "?", "+=",
];

/// A text of a few commands, most of which are understood.
fn generated(numbers: &mut Numbers) -> String {
    let mut text = String::new();
    for position in 0..=numbers.below(4) {
        if position > 0 {
            text.push_str(numbers.one_of(&BETWEEN));
        }
        if numbers.below(6) == 0 {
            text.push_str(numbers.one_of(&PREFIXES));
        }
        text.push_str(numbers.one_of(&PROGRAMS));
        for _ in 0..numbers.below(4) {
            text.push_str(numbers.one_of(&[" ", " ", "  ", "\t", " \\\n  "]));
            text.push_str(numbers.one_of(&WORDS));
        }
        for _ in 0..numbers.below(6).saturating_sub(3) {
            text.push_str(numbers.one_of(&REDIRECTS));
            if numbers.below(3) == 0 {
                text.push(' ');
                text.push_str(numbers.one_of(&WORDS));
            }
        }
    }
    for _ in 0..numbers.below(3) {
        let inserted = numbers.one_of(&INSERTED);
        let places: Vec<usize> = text.char_indices().map(|it| it.0).collect();
        text.insert_str(places[numbers.below(places.len())], inserted);
    }
    text
}

/// The background is over before the text is.
fn waiting(text: String) -> String {
    match parse(text.as_bytes(), &Limits::default()) {
        Ok(script) if script.steps.iter().any(|it| it.then == Connection::Background) => {
            text + "\nwait"
        }
        _ => text,
    }
}

fn seed() -> u64 {
    if let Ok(given) = std::env::var("RUNG_SHELL_SEED") {
        return given.parse().unwrap();
    }
    let mut bytes = [0; 8];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom").unwrap(), &mut bytes).unwrap();
    u64::from_le_bytes(bytes) | 1
}

#[test]
fn bash_runs_what_was_read_and_nothing_else() {
    let seed = seed();
    let wanted = std::env::var("RUNG_SHELL_CASES").map_or(CASES, |it| it.parse().unwrap());
    let start = Instant::now();
    let bench = Bench::new();
    let mut numbers = Numbers(seed);
    let (mut cases, mut refused, mut open, mut ran) = (0, 0, 0, 0);
    let mut differences = Vec::new();
    while cases < wanted {
        let text = waiting(generated(&mut numbers));
        let Ok(mut script) = parse(text.as_bytes(), &Limits::default()) else {
            refused += 1;
            continue;
        };
        if text.ends_with("\nwait") {
            script.steps.pop();
        }
        let status = u8::from(numbers.below(3) == 0);
        // Without an output to share, a command does not start: that is no matter of reading.
        let closes = text.replace("9>&-", "").contains("&-");
        let Some(foreseen) = foreseen(&script, status).filter(|_| !closes) else {
            open += 1;
            continue;
        };
        cases += 1;
        let happened = bench.run(&text, status);
        ran += happened.0.len();
        if happened != foreseen {
            differences
                .push(format!("{text:?} ({status})\n  read {foreseen:?}\n  bash {happened:?}"));
        }
    }
    println!(
        "seed {seed}: {cases} texts, {ran} programs run, {refused} texts refused, {open} left open, \
         {} s, {} differences",
        start.elapsed().as_secs(),
        differences.len()
    );
    assert!(differences.is_empty(), "seed {seed}:\n{}", differences.join("\n"));
    assert!(ran > cases / 2, "seed {seed}: only {ran} programs ran");
}

#[test]
fn one_command_of_a_text_runs_without_a_shell() {
    let place = Place::new();
    let run = |text: &str| place.rung_with(&["run", "--level", "1", "-c", text]).end();
    let ended = run("cat 'README'.md");
    assert_eq!((ended.code(), ended.out.as_slice()), (0, &b"# A project\n"[..]), "{}", ended.err);
    let argv = |it: &Value| it["argv"].clone();
    let records = place.records();
    let decisions: Vec<Value> = records.iter().map(argv).filter(|it| !it.is_null()).collect();
    assert_eq!(decisions, [serde_json::json!(["cat", "README.md"])]);

    let refused = run("cat README.md; touch x");
    assert_eq!(refused.code(), 126);
    assert!(refused.err.contains("in its text, `touch x`"), "{}", refused.err);
    assert!(!place.workspace.join("x").exists());
}

/// The programs that the run started, as they were recorded.
fn started(place: &Place) -> Vec<(String, Value)> {
    let records = place.records().into_iter().filter(|it| it["kind"] == "exec");
    records.map(|it| (it["became"].as_str().unwrap().to_owned(), it["argv"].clone())).collect()
}

#[test]
fn a_text_of_reading_programs_runs_at_level_1_and_each_of_them_is_recorded() {
    let place = Place::new();
    let run = |text: &str| place.rung_with(&["run", "--level", "1", "-c", text]).end();
    let ended = run("cat README.md | wc -l && cd src && ls *.rs");
    assert_eq!((ended.code(), ended.out.as_slice()), (0, &b"1\nlib.rs\n"[..]), "{}", ended.err);
    let mut seen: Vec<String> = started(&place).iter().map(|it| it.1.to_string()).collect();
    seen.sort();
    let wanted = [r#"["cat","README.md"]"#, r#"["ls","lib.rs"]"#, r#"["wc","-l"]"#];
    assert_eq!(seen, wanted);

    // What a pattern found is looked at when it is known: here it is an option that no rule lists.
    put(&place.workspace.join("src/--hyperlink.rs"), "");
    let ended = run("cd src && ls *.rs");
    assert_ne!(ended.code(), 0);
    assert!(ended.err.contains("--hyperlink.rs"), "{}", ended.err);
    assert_eq!(ended.out, b"");
}

#[test]
fn what_nobody_can_be_certain_of_is_decided_program_by_program() {
    let place = Place::new();
    let run =
        |level: &str, text: &str| place.rung_with(&["run", "--level", level, "-c", text]).end();
    let text = "for f in README.md; do cat $f; curl --version; done";
    let refused = run("1", text);
    assert_eq!(refused.code(), 126, "{}", refused.err);
    assert!(refused.err.contains("the keyword `for` (line 1, character 1)"), "{}", refused.err);
    let ended = run("3", text);
    assert_eq!(ended.out, b"# A project\n", "{}", ended.err);
    assert!(ended.err.contains("curl"), "{}", ended.err);
    let refused: Vec<_> = started(&place).into_iter().filter(|it| it.0 != "started").collect();
    assert_eq!(refused.len(), 1, "{refused:?}");

    // Words that are certain, for a part of the shell that makes others of them.
    let ended = run("2", "eval 'cat README.md'; a=rm; $a -rf .git");
    assert_eq!(ended.out, b"# A project\n", "{}", ended.err);
    assert!(ended.err.contains("rm -rf .git [core.rm.git"), "{}", ended.err);
    assert!(place.workspace.join(".git/HEAD").exists());
}

#[test]
fn a_shell_is_no_program_that_anybody_may_start() {
    let place = Place::new();
    for words in [&["bash", "x.sh"][..], &["bash"], &["bash", "--rcfile", "x", "-c", "ls; ls"]] {
        let ended = place.rung(2).words(words).end();
        assert_eq!(ended.code(), 126, "{words:?}: {}", ended.err);
    }
    let ended = place.rung(2).words(&["sh", "-c", "ls src; ls src"]).end();
    assert_eq!(
        (ended.code(), ended.out.as_slice()),
        (0, &b"lib.rs\nlib.rs\n"[..]),
        "{}",
        ended.err
    );
}

#[test]
fn the_callers_settings_for_shells_change_nothing() {
    let place = Place::new();
    let script = place.home.join("start");
    fs::write(&script, "echo started\n").unwrap();
    let mut run = place.rung_with(&["run", "--level", "1", "-c", "echo a; cat README.md"]);
    run.command
        .env("BASH_ENV", &script)
        .env("ENV", &script)
        .env("SHELLOPTS", "xtrace")
        .env("BASH_FUNC_cat%%", "() { echo changed; }");
    let ended = run.end();
    assert_eq!(
        (ended.code(), ended.out.as_slice()),
        (0, &b"a\n# A project\n"[..]),
        "{}",
        ended.err
    );
    // Outside of rung they do.
    let plain = Command::new("bash")
        .args(["-c", "echo a; cat README.md"])
        .env("BASH_ENV", &script)
        .env("BASH_FUNC_cat%%", "() { echo changed; }")
        .current_dir(&place.workspace)
        .output()
        .unwrap();
    assert_eq!(plain.stdout, b"started\na\nchanged\n");
}

/// The reader may be wrong in one direction only where nobody reads: so the comparison itself is
/// tried on a reading that is wrong.
#[test]
fn a_wrong_reading_is_seen() {
    let bench = Bench::new();
    let read = |text: &str| foreseen(&parse(text.as_bytes(), &Limits::default()).unwrap(), 0);
    assert_eq!(Some(bench.run("find . 2>o1 -delete", 0)), read("find . 2>o1 -delete"));
    assert_ne!(Some(bench.run("find . 2>o1 -delete", 0)), read("find . 2>o1"));
    assert_ne!(Some(bench.run("RV=1 git x", 0)), read("git x"));
    assert_ne!(Some(bench.run("git x >o1", 0)), read("git x"));
    assert_ne!(Some(bench.run("git x || ls", 1)), read("git x || ls"));
}
