//! Shell text, from outside: what is read out of it, held against what bash made of it.
//!
//! `catalogue.jsonl` has texts that people, agents and attackers write, with the command lines that
//! bash 5.2 executed for each: every branch that was seen in three runs, in which all programs
//! succeeded, failed, and took turns. `valid` says whether bash accepted the text at all.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rung::model::{Arg, Level};
use rung::policy::shell::{self, Limits, Script, Simple, Word, parse};
use rung::policy::{Verdict, decide};
use serde::Deserialize;

use crate::commands;

#[derive(Deserialize)]
struct Row {
    text: Option<String>,
    hex: Option<String>,
    valid: bool,
    argvs: Vec<Vec<String>>,
}

impl Row {
    fn bytes(&self) -> Vec<u8> {
        match (&self.text, &self.hex) {
            (Some(text), _) => text.as_bytes().to_vec(),
            (None, Some(hex)) => hex
                .as_bytes()
                .chunks(2)
                .map(|it| u8::from_str_radix(str::from_utf8(it).unwrap(), 16).unwrap())
                .collect(),
            (None, None) => panic!("a row without a text"),
        }
    }
}

fn catalogue() -> Vec<Row> {
    let lines = include_str!("shell/catalogue.jsonl").lines();
    lines.map(|it| serde_json::from_str(it).unwrap()).collect()
}

/// No text is too long for these.
fn without_limits() -> Limits {
    let max = usize::MAX;
    Limits {
        script_bytes_max: max,
        commands_max: max,
        words_max: max,
        word_bytes_max: max,
        here_documents_max: max,
    }
}

/// Whether the command could have become this command line: words that the shell fills in stand
/// for any number of words that begin with what is certain of them.
fn covers(command: &Simple, argv: &[String]) -> bool {
    fn matches(words: &[Word], argv: &[String]) -> bool {
        let Some((word, words)) = words.split_first() else { return argv.is_empty() };
        match word.literal() {
            Some(literal) => argv.split_first().is_some_and(|(first, rest)| {
                first.as_bytes() == literal.as_bytes() && matches(words, rest)
            }),
            None => (0..=argv.len()).any(|taken| matches(words, &argv[taken..])),
        }
    }
    matches(&command.words, argv)
}

fn covered(script: &Script, argv: &[String]) -> bool {
    let commands = || script.steps.iter().map(|it| &it.command);
    let is_copy = argv == ["cat"] && commands().any(|it| it.copies > 0);
    is_copy || commands().any(|it| covers(it, argv))
}

/// Programs of the shell itself that run what their words say. They are read like any other, and
/// refused by their name when the commands are judged.
fn is_run_by_the_shell(script: &Script) -> bool {
    const NAMES: [&str; 27] = [
        ".",
        "[",
        "alias",
        "bind",
        "builtin",
        "command",
        "compgen",
        "complete",
        "declare",
        "enable",
        "eval",
        "exec",
        "export",
        "hash",
        "let",
        "local",
        "mapfile",
        "printf",
        "read",
        "readarray",
        "readonly",
        "set",
        "shopt",
        "source",
        "test",
        "trap",
        "typeset",
    ];
    let name = |it: &Simple| it.words.first()?.literal()?.as_str().map(str::to_owned);
    script.steps.iter().filter_map(|it| name(&it.command)).any(|it| NAMES.contains(&it.as_str()))
}

#[test]
fn every_command_line_that_bash_executed_was_read_out_of_the_text() {
    let (mut read, mut refused, mut wrong) = (0, 0, Vec::new());
    for row in catalogue() {
        let bytes = row.bytes();
        let Ok(script) = parse(&bytes, &Limits::default()) else {
            refused += 1;
            continue;
        };
        read += 1;
        let missing: Vec<_> = row.argvs.iter().filter(|it| !covered(&script, it)).collect();
        if !missing.is_empty() && !is_run_by_the_shell(&script) {
            wrong.push(format!("{:?} executed {missing:?}", String::from_utf8_lossy(&bytes)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(read > 550, "{read} texts were read and {refused} refused");
}

#[test]
fn a_text_that_bash_rejects_is_not_read() {
    let mut wrong = Vec::new();
    for row in catalogue().into_iter().filter(|it| !it.valid) {
        let bytes = row.bytes();
        if parse(&bytes, &Limits::default()).is_ok() {
            wrong.push(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Texts that make other readers slow, deep or loud.
fn hostile() -> Vec<Vec<u8>> {
    const TIMES: usize = 100_000;
    let repeated = |it: &str| it.repeat(TIMES).into_bytes();
    let around = |open: &str, middle: &str, close: &str| {
        [open.repeat(TIMES), middle.to_owned(), close.repeat(TIMES)].concat().into_bytes()
    };
    let mega = 1024 * 1024;
    vec![
        repeated("("),
        around("(", "ls", ")"),
        repeated("$(echo "),
        repeated("{a,"),
        repeated("${x:-"),
        repeated("case x in x) "),
        repeated("if "),
        repeated("<<E$[\t\t"),
        repeated("a | "),
        repeated("a;"),
        repeated("'a' "),
        repeated("\"$a\""),
        repeated("\\\n"),
        repeated(" \\\n"),
        repeated("cat <<'E'\nE\n"),
        repeated("a <<'E' "),
        repeated("\"$(cat <<'E'\n"),
        repeated("# a\n"),
        repeated("~:"),
        repeated("{}"),
        "a".repeat(mega).into_bytes(),
        format!("'{}'", "a".repeat(mega)).into_bytes(),
        format!("\"{}\"", "\\$".repeat(mega / 2)).into_bytes(),
        "a ".repeat(mega / 2).into_bytes(),
        vec![0xff; mega],
        vec![0; mega],
    ]
}

#[test]
fn the_longest_and_deepest_texts_take_linear_time() {
    // In a test build on a busy machine; it is about a hundred times less in a release.
    const PER_TEXT: Duration = Duration::from_secs(5);
    for text in hostile() {
        let start = Instant::now();
        let result = parse(&text, &without_limits());
        let taken = start.elapsed();
        let shown = String::from_utf8_lossy(&text[..12]).into_owned();
        assert!(taken < PER_TEXT, "{shown:?} took {taken:?}: {:?}", result.is_ok());
        assert!(parse(&text, &Limits::default()).is_err(), "{shown:?} is within the limits");
    }
}

/// Tokens that mean something to a shell, in any order.
fn any_text() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "ls",
        "rm",
        "-rf",
        "x",
        "A=1",
        "2",
        "{}",
        "{a,b}",
        "[",
        "]",
        "~",
        "#",
        "!",
        "$",
        "$x",
        "${x}",
        "$(",
        "`",
        "'",
        "\"",
        "\\",
        "\n",
        "\\\n",
        " ",
        "\t",
        ";",
        "&",
        "|",
        "&&",
        "||",
        "|&",
        "<",
        ">",
        ">>",
        "<<",
        "<<<",
        "<>",
        ">&",
        "<&",
        "&>",
        ">|",
        "-",
        "(",
        ")",
        "EOF",
        "<<'EOF'\n",
        "\nEOF\n",
        "\"$(cat <<'EOF'\n",
        ")\"",
        "if",
        "time",
        "\r",
        "\0",
        "\u{a0}",
        "\u{fc}",
    ]);
    prop::collection::vec(token, 0..24).prop_map(|it| it.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused_without_fault(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let limits = Limits::default();
        prop_assert_eq!(parse(&bytes, &limits), parse(&bytes, &limits));
    }

    #[test]
    fn a_refusal_points_into_the_text(text in any_text()) {
        if let Err(error) = parse(text.as_bytes(), &Limits::default()) {
            prop_assert!(error.span.start <= text.len() && error.span.end <= text.len(), "{error:?}");
            prop_assert!(error.line >= 1 && error.column >= 1);
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn words_that_are_quoted_come_back_as_they_were(
        argv in prop::collection::vec("[a-zA-Z0-9 '\"$`\\\\*?~#!{};&|<>()=\n\t\u{fc}-]{0,8}", 0..6),
    ) {
        let mut words = vec!["stub".to_owned()];
        words.extend(argv);
        let quoted: Vec<String> =
            words.iter().map(|it| format!("'{}'", it.replace('\'', "'\\''"))).collect();
        let script = parse(quoted.join(" ").as_bytes(), &Limits::default()).unwrap();
        prop_assert_eq!(script.steps.len(), 1);
        let literal = script.steps[0].command.literal().unwrap();
        let read: Vec<&str> = literal.iter().map(|it| it.as_str().unwrap()).collect();
        prop_assert_eq!(read, words);
    }

    #[test]
    fn a_text_with_one_construct_more_that_is_not_known_is_not_read(
        text in any_text(),
        construct in prop::sample::select(vec![" $(x)", " `x`", " <(x)", " $'x'", " ${x:-y}", " {a,b}", " (x)"]),
    ) {
        // Only where the construct is outside of quotes, comments and here-documents.
        let text = text.replace(['\'', '"', '#', '\\'], "").replace("<<", "");
        let longer = text + construct;
        prop_assert!(parse(longer.as_bytes(), &Limits::default()).is_err(), "{longer:?}");
    }
}

// --- what texts come to ---------------------------------------------------------------------------

fn decided(level: Level, shell: &str, text: &[u8]) -> Verdict {
    let words = [shell.as_bytes(), b"-c", b"--", text];
    let argv = words.into_iter().map(|it| Arg::new(it).unwrap()).collect();
    decide(&commands::request(level, argv), &commands::LADDER)
}

#[test]
fn every_text_of_the_table_is_decided_as_it_says() {
    let lines = include_str!("shell/texts.txt").lines();
    let mut wrong = Vec::new();
    for line in lines.filter(|it| !it.is_empty() && !it.starts_with('#')) {
        let fields: Vec<&str> = line.splitn(4, " | ").collect();
        let [level, verdict, rule, text] = fields[..] else { panic!("{line}") };
        let level = Level::try_from(level.parse::<u8>().unwrap()).unwrap();
        // Where a format has `\n` of its own, it stands in quotes and means the same.
        let text = text.replace("\\n", "\n");
        let decision = decided(level, "bash", text.as_bytes());
        let named = commands::named(&decision);
        if named != (verdict, rule) {
            wrong.push(format!("{line}\n    is {named:?}: {decision:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_refusal_of_a_text_says_what_why_and_what_next() {
    let says = |text: &str| match decided(Level::ReadOnlyResearch, "bash", text.as_bytes()) {
        Verdict::Deny(refusal) => refusal.denial.to_string(),
        other @ (Verdict::Allow(_) | Verdict::Ask(_)) => panic!("{other:?}"),
    };
    assert_eq!(
        says("ls\ncat $(ls)"),
        "denied by policy (level 1): bash -c -- 'ls\\x0acat $(ls)' [shell.undecided]\n\
         level 1 runs a text for a shell only if it is certain what it runs, and a command \
         substitution `$(...)` (line 2, character 5) is not\n\
         run each command by itself (`rung run -- PROGRAM ARGUMENT...`), or write the text without \
         it; to allow it: level 2 allows it by rule `shell.undecided`"
    );
    assert_eq!(
        says("ls | touch x"),
        "denied by policy (level 1): bash -c -- 'ls | touch x' [default]\n\
         in its text, `touch x`: no rule at level 1 allows `touch`\n\
         this is a deliberate limit of level 1: do not retry with other spellings; go on without \
         it and say what was left out; to allow it: level 2 allows it by rule `core.touch`"
    );
}

#[test]
fn another_shell_is_not_taken_for_bash() {
    let verdict = |shell: &str| decided(Level::ReadOnlyResearch, shell, b"ls | wc");
    assert!(matches!(verdict("bash"), Verdict::Allow(permit) if permit.by_shell()));
    for shell in ["sh", "dash", "zsh", "ksh"] {
        assert!(matches!(verdict(shell), Verdict::Deny(_)), "{shell}");
    }
}

#[test]
fn a_shell_is_carried_in_one_form_and_one_command_without_it() {
    let shown = |line: &[&str]| {
        let argv: Vec<Arg> = line.iter().map(|it| Arg::try_from(*it).unwrap()).collect();
        let carried = shell::carried(&argv);
        carried.map(|it| it.iter().map(Arg::to_string).collect::<Vec<_>>().join(" "))
    };
    let bash = |rest: &str| Some(format!("bash --norc --noprofile -p {rest}"));
    assert_eq!(shown(&["bash", "-c", "ls -la 'a b'"]), Some("ls -la a b".to_owned()));
    assert_eq!(shown(&["sh", "-c", "ls\n"]), Some("ls".to_owned()));
    assert_eq!(shown(&["/bin/sh", "-c", "ls | wc"]), bash("-c -- ls | wc"));
    assert_eq!(shown(&["bash", "-lc", "ls | wc"]), bash("-c -- ls | wc"));
    assert_eq!(shown(&["zsh", "-euo", "pipefail", "-c", "ls"]), bash("-c -e -u -o pipefail -- ls"));
    assert_eq!(shown(&["bash", "-c", "--", "-x"]), Some("-x".to_owned()));
    assert_eq!(shown(&["bash", "-c", "cd src"]), bash("-c -- cd src"));
    assert_eq!(shown(&["bash", "-c", "ls >x"]), bash("-c -- ls >x"));
    assert_eq!(shown(&["bash", "-c", "ls &"]), bash("-c -- ls &"));
    assert_eq!(shown(&["bash", "-c", "$(ls)"]), bash("-c -- $(ls)"));
    assert_eq!(shown(&["bash", "-c", "-x", "ls"]), bash("-c -x -- ls"));
    // Not the text alone, or no text at all.
    for line in [
        &["bash", "-c", "ls", "x"][..],
        &["bash", "--rcfile", "x", "-c", "ls"],
        &["bash", "-O", "extglob", "-c", "ls"],
        &["bash", "-s", "-c", "ls"],
        &["bash", "x.sh"],
        &["bash", "-c"],
        &["bash"],
        &["ls", "-c", "x"],
    ] {
        assert_eq!(shown(line), None, "{line:?}");
    }
    let argv = ["bash", "--rcfile", "x", "-c", "ls"].map(|it| Arg::try_from(it).unwrap()).to_vec();
    for level in [Level::ReadOnlyResearch, Level::TestExecution] {
        let verdict = decide(&commands::request(level, argv.clone()), &commands::LADDER);
        assert!(matches!(verdict, Verdict::Deny(_)), "{verdict:?}");
    }
}

#[test]
fn what_a_text_can_become_is_told_from_what_it_cannot() {
    let argv = |words: &[&str]| -> Vec<Arg> {
        words.iter().map(|it| Arg::try_from(*it).unwrap()).collect()
    };
    let foreseen = |text: &str| shell::Foreseen::of(&shell::carried(&argv(&["bash", "-c", text]))?);
    let text = foreseen("rg a src/*.rs \"x $Y\" | head -n 5; cat \"b$Z\"").unwrap();
    for words in [
        &["rg", "a", "src/a.rs", "src/b.rs", "x y"][..],
        &["rg", "a", "src/a.rs", "x "],
        &["head", "-n", "5"],
        &["cat", "bc"],
    ] {
        assert!(text.covers(&argv(words)), "{words:?}");
    }
    for words in [
        &["rg", "b", "src/a.rs", "x y"][..],
        &["rg", "a", "src/a.rs", "y"],
        &["head", "-n", "5", "6"],
        &["head"],
        &["cat", "c"],
        &["cat", "bc", "d"],
        &["rm", "x"],
        &[],
    ] {
        assert!(!text.covers(&argv(words)), "{words:?}");
    }
    assert!(foreseen("git commit -m \"$(cat <<'E'\nx\nE\n)\"; x").unwrap().covers(&argv(&["cat"])));
    assert!(!foreseen("git commit -m x; x").unwrap().covers(&argv(&["cat"])));
    assert_eq!(foreseen("echo $(ls)"), None);
    assert_eq!(shell::Foreseen::of(&argv(&["ls"])), None);
}

/// Whether bash does this without a program.
fn is_builtin(argv: &[String]) -> bool {
    const NAMES: [&str; 17] = [
        ":", "[", "cd", "command", "echo", "exit", "export", "false", "printf", "pwd", "set",
        "test", "true", "type", "unset", "wait", "cat",
    ];
    argv.first().is_some_and(|it| NAMES.contains(&it.as_str()))
}

#[test]
fn an_allowed_text_of_the_catalogue_executed_nothing_that_is_not_allowed() {
    let mut wrong = Vec::new();
    let mut counts: BTreeMap<Level, BTreeMap<&str, usize>> = BTreeMap::new();
    for row in catalogue() {
        let bytes = row.bytes();
        if bytes.is_empty() || bytes.contains(&0) {
            continue;
        }
        for level in Level::ALL {
            let decision = decided(level, "bash", &bytes);
            let word = match commands::named(&decision) {
                ("allow", "shell.undecided") => "left to the gate",
                ("deny", "shell.undecided") => "not certain",
                (word, _) => word,
            };
            *counts.entry(level).or_default().entry(word).or_default() += 1;
            if word != "allow" {
                continue;
            }
            for argv in row.argvs.iter().filter(|it| !is_builtin(it)) {
                let words = argv.iter().map(|it| Arg::try_from(it.as_str()).unwrap()).collect();
                let alone = decide(&commands::request(level, words), &commands::LADDER);
                if !matches!(alone, Verdict::Allow(_)) {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    wrong.push(format!("level {level}: {text:?} executed {argv:?}: {alone:?}"));
                }
            }
        }
    }
    println!("{counts:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
