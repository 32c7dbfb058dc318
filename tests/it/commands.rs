//! The built-in rules, from outside: what each command line comes to at each level.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;
use rung::model::{Arg, Ids, Level, Origin, ProgramFact, ProgramLocation, Request, Streams, Tree};
use rung::policy::{Verdict, check_examples, decide, words};
use rung::profile::{
    Argument, Decision, Ladder, Power, Profile, Rule, ValueType, When, built_in, built_in_for,
};

/// Loaded once: decoding six levels for every random case is what would take the time.
pub(crate) static LADDER: LazyLock<Ladder> = LazyLock::new(|| Ladder {
    ceiling: Level::ProductionWrites,
    profiles: Level::ALL.into_iter().map(|level| (level, built_in(level).unwrap())).collect(),
});

/// One line of `commands.txt`.
struct Row {
    level: Level,
    argv: Vec<Arg>,
    verdict: &'static str,
    rule: &'static str,
    line: &'static str,
}

fn rows() -> Vec<Row> {
    let lines = include_str!("commands.txt").lines();
    lines.filter(|it| !it.is_empty() && !it.starts_with('#')).map(row).collect()
}

fn row(line: &'static str) -> Row {
    let (level, rest) = line.split_once(" | ").unwrap();
    let (rest, rule) = rest.rsplit_once(" | ").unwrap();
    let (command, verdict) = rest.rsplit_once(" | ").unwrap();
    let words = shell_words::split(command).unwrap();
    let level = Level::try_from(level.parse::<u8>().unwrap()).unwrap();
    let argv = words.into_iter().map(|it| Arg::new(it).unwrap()).collect();
    Row { level, argv, verdict, rule, line }
}

/// Plain names lie in /usr/bin, `./x` in the workspace.
fn program(word: &Arg) -> ProgramFact {
    let name = word.as_str().unwrap();
    let (path, location) = match name.strip_prefix("./") {
        Some(inside) => (PathBuf::from("/ws").join(inside), ProgramLocation::Workspace),
        None => (PathBuf::from("/usr/bin").join(name), ProgramLocation::System),
    };
    ProgramFact::Found {
        canonical: path.clone(),
        path,
        location,
        device: 1,
        inode: 1,
        setid: false,
        executable: true,
    }
}

pub(crate) fn request(level: Level, argv: Vec<Arg>) -> Request {
    Request {
        program: program(&argv[0]),
        argv,
        level,
        cwd: PathBuf::from("/ws"),
        workspace: PathBuf::from("/ws"),
        home: PathBuf::from("/home/user"),
        environment: BTreeMap::new(),
        ids: Ids::default(),
        streams: Streams::Inherit,
        tree: Tree::Itself,
        repository: None,
        caches: BTreeMap::new(),
    }
}

/// The verdict's word in the table, and the rule that made it.
pub(crate) fn named(verdict: &Verdict) -> (&'static str, &str) {
    match verdict {
        Verdict::Allow(permit) => ("allow", permit.rule()),
        Verdict::Ask(question) => ("ask", &question.rule),
        Verdict::Deny(refusal) if refusal.never => ("never", &refusal.denial.rule),
        Verdict::Deny(refusal) => ("deny", &refusal.denial.rule),
    }
}

#[test]
fn every_built_in_rule_does_what_its_examples_say() {
    for profile in LADDER.profiles.values() {
        let failures: Vec<String> =
            check_examples(profile).iter().map(ToString::to_string).collect();
        assert!(failures.is_empty(), "level {}:\n{}", profile.level, failures.join("\n"));
    }
}

#[test]
fn every_command_line_of_the_table_is_decided_as_it_says() {
    let mut wrong = Vec::new();
    for row in rows() {
        let verdict = decide(&request(row.level, row.argv), &LADDER);
        let (word, rule) = named(&verdict);
        if (word, rule) != (row.verdict, row.rule) {
            wrong.push(format!("{}\n    is {word} by {rule}", row.line));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_a_level_allows_the_next_one_allows_too() {
    for row in rows().into_iter().filter(|it| it.verdict == "allow") {
        for level in Level::ALL.into_iter().filter(|it| *it >= row.level && it.number() <= 4) {
            let verdict = decide(&request(level, row.argv.clone()), &LADDER);
            assert_eq!(named(&verdict), ("allow", row.rule), "{} at level {level}", row.line);
        }
    }
}

#[test]
fn knowing_only_the_programs_that_a_command_line_names_changes_no_decision() {
    for row in rows() {
        let words = row.argv.iter().filter_map(Arg::as_str);
        let names: Vec<&str> = words.map(|it| it.rsplit('/').next().unwrap()).collect();
        let profile = built_in_for(row.level, &names).unwrap();
        let ladder = Ladder {
            ceiling: Level::ProductionWrites,
            profiles: BTreeMap::from([(row.level, profile)]),
        };
        let verdict = decide(&request(row.level, row.argv.clone()), &ladder);
        assert_eq!(named(&verdict), (row.verdict, row.rule), "{}", row.line);
    }
}

#[test]
fn every_refusal_says_what_why_and_what_next() {
    for row in rows().into_iter().filter(|it| matches!(it.verdict, "deny" | "never" | "ask")) {
        let denial = match decide(&request(row.level, row.argv), &LADDER) {
            Verdict::Allow(_) => panic!("{} is allowed", row.line),
            Verdict::Ask(question) => question.denial,
            Verdict::Deny(refusal) => refusal.denial,
        };
        assert!(!denial.object.is_empty() && !denial.next.is_empty(), "{}: {denial:?}", row.line);
        assert!(denial.reason.len() > 10, "{}: {denial:?}", row.line);
        assert!(!denial.reason.ends_with('.'), "{}: {denial:?}", row.line);
        let change = row.verdict != "never" && !is_hint(&denial.next);
        assert_eq!(denial.allow_with.is_some(), change, "{}: {denial:?}", row.line);
        assert!(denial.to_string().lines().count() <= 3, "{denial}");
    }
}

/// Nothing has to be allowed where the command line itself is to be changed.
fn is_hint(next: &str) -> bool {
    ["write the option in full", "complete the command line", "run the inner command"]
        .iter()
        .any(|it| next.starts_with(it))
}

/// `{origin}` in the text stands for the line of the rule `git.log`.
#[track_caller]
fn check_text(line: &str, level: Level, text: &str) {
    let rules = &LADDER.profiles[&level].exec.rules;
    let log = rules.iter().find(|it| it.id == "git.log").unwrap();
    let text = text.replace("{origin}", &log.origin.to_string());
    let argv = words::split(line).unwrap();
    let shown = match decide(&request(level, argv), &LADDER) {
        Verdict::Allow(permit) => format!("allowed by {}", permit.rule()),
        Verdict::Ask(question) => question.denial.to_string(),
        Verdict::Deny(refusal) => refusal.denial.to_string(),
    };
    assert_eq!(shown, text);
}

#[test]
fn a_refusal_reads_like_this() {
    check_text(
        "git log --outp=x",
        Level::ReadOnlyResearch,
        "denied by policy (level 1): git log --outp=x [default]\n\
         `--outp` is not an option that rule `git.log` knows\n\
         this is a deliberate limit of level 1: do not retry with other spellings; go on without \
         it and say what was left out; to allow it: `--outp` among the options of rule `git.log` \
         ({origin})",
    );
    check_text(
        "touch x",
        Level::ReadOnlyResearch,
        "denied by policy (level 1): touch x [default]\n\
         no rule at level 1 allows `touch`\n\
         this is a deliberate limit of level 1: do not retry with other spellings; go on without \
         it and say what was left out; to allow it: level 2 allows it by rule `core.touch`",
    );
}

// --- properties ----------------------------------------------------------------------------------

/// A rule that a profile may have besides: about a few programs and options, of any strictness.
fn any_rule() -> impl Strategy<Value = Rule> {
    let decision = prop_oneof![
        Just(Decision::Allow),
        Just(Decision::Confirm),
        Just(Decision::Deny),
        Just(Decision::Never),
    ];
    let program = prop_oneof![Just("git"), Just("ls"), Just("rm"), Just("cargo"), Just("env")];
    let option = prop_oneof![Just(None), Just(Some("-l")), Just(Some("--force")), Just(Some("-f"))];
    (decision, program, option, "[a-z]{1,6}").prop_map(|(decision, program, option, name)| Rule {
        id: format!("extra.{name}"),
        started_by: Vec::new(),
        programs: vec![program.to_owned()],
        decision,
        power: Power::Exec,
        because: "the test says so".to_owned(),
        arguments: vec![Argument::Operands { value: ValueType::Text, min: 0, max: 9 }],
        when: When {
            any_option: option.into_iter().map(str::to_owned).collect(),
            ..When::default()
        },
        reversible: true,
        touches: Vec::new(),
        instead: None,
        matches: Vec::new(),
        not_matches: Vec::new(),
        origin: Origin::built_in("the test says so"),
    })
}

/// A command line made of the words that the table knows.
fn any_command() -> impl Strategy<Value = Request> {
    let words: Vec<Arg> = rows().into_iter().flat_map(|it| it.argv.into_iter().skip(1)).collect();
    let heads: Vec<(Level, Vec<Arg>)> = rows().into_iter().map(|it| (it.level, it.argv)).collect();
    let tail = prop::collection::vec(prop::sample::select(words), 0..3);
    (prop::sample::select(heads), tail).prop_map(|((level, mut argv), tail)| {
        argv.extend(tail);
        request(level, argv)
    })
}

fn with_rules(level: Level, change: impl FnOnce(&mut Vec<Rule>)) -> Ladder {
    let mut profile: Profile = LADDER.profiles[&level].clone();
    change(&mut profile.exec.rules);
    Ladder { ceiling: Level::ProductionWrites, profiles: BTreeMap::from([(level, profile)]) }
}

fn strictness(verdict: &Verdict) -> u8 {
    match named(verdict).0 {
        "allow" => 0,
        "ask" => 1,
        "deny" => 2,
        _ => 3,
    }
}

/// `@` is where the command goes.
const WRAPPERS: [&str; 8] = [
    "timeout 5 @",
    "nice -n 3 @",
    "env LANG=C @",
    "stdbuf -oL @",
    "time -p @",
    "xargs -0 @",
    "busybox @",
    "find . -name x -exec @ ;",
];

fn wrapped(wrapper: &str, argv: Vec<Arg>) -> Vec<Arg> {
    let words = |text: &str| text.split_whitespace().map(|it| Arg::try_from(it).unwrap()).collect();
    let (before, after) = wrapper.split_once('@').unwrap();
    let [mut all, after]: [Vec<Arg>; 2] = [words(before), words(after)];
    all.extend(argv);
    all.extend(after);
    all
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_stricter_rule_more_never_opens_anything(
        request in any_command(),
        rule in any_rule().prop_filter("stricter", |it| it.decision > Decision::Confirm),
    ) {
        let before = strictness(&decide(&request, &with_rules(request.level, |_| {})));
        let after = decide(&request, &with_rules(request.level, |rules| rules.push(rule)));
        prop_assert!(strictness(&after) >= before, "{:?}: {:?}", request.argv, after);
    }

    #[test]
    fn an_allow_rule_more_never_lifts_a_denial_by_rule(
        request in any_command(),
        rule in any_rule().prop_filter("allow", |it| it.decision == Decision::Allow),
    ) {
        let before = decide(&request, &with_rules(request.level, |_| {}));
        let by_rule = matches!(named(&before), ("deny" | "never", rule) if rule != "default");
        let after = decide(&request, &with_rules(request.level, |rules| rules.push(rule)));
        prop_assert!(!by_rule || strictness(&after) == strictness(&before), "{:?}", request.argv);
    }

    #[test]
    fn the_order_of_rules_never_matters(
        request in any_command(),
        extra in prop::collection::vec(any_rule(), 0..6),
        turn in 0usize..200,
    ) {
        let mut rules = extra;
        rules.sort_by(|a, b| a.id.cmp(&b.id));
        rules.dedup_by(|a, b| a.id == b.id);
        let forward = with_rules(request.level, |all| all.extend(rules.clone()));
        let turned = with_rules(request.level, |all| {
            all.extend(rules);
            let middle = turn % all.len();
            all.rotate_left(middle);
            all.reverse();
        });
        prop_assert_eq!(decide(&request, &forward), decide(&request, &turned));
    }

    #[test]
    fn without_rules_nothing_is_allowed(request in any_command()) {
        let mut ladder = with_rules(request.level, Vec::clear);
        for profile in ladder.profiles.values_mut() {
            profile.exec.workspace_programs = None;
        }
        prop_assert!(matches!(decide(&request, &ladder), Verdict::Deny(_)));
    }

    #[test]
    fn an_option_that_nobody_knows_never_opens_anything(request in any_command(), place in 1usize..9) {
        let before = strictness(&decide(&request, &LADDER));
        let mut longer = request.clone();
        let place = place.min(longer.argv.len());
        longer.argv.insert(place, Arg::try_from("--rung-unknown").unwrap());
        let after = strictness(&decide(&longer, &LADDER));
        prop_assert!(before == 0 || after > 0, "{:?}", longer.argv);
    }

    #[test]
    fn wrapping_never_loosens(
        inner in any_command(),
        wrappers in prop::collection::vec(prop::sample::select(WRAPPERS.to_vec()), 1..4),
    ) {
        let before = strictness(&decide(&inner, &LADDER));
        let argv = wrappers.iter().fold(inner.argv.clone(), |argv, it| wrapped(it, argv));
        let after = decide(&request(inner.level, argv.clone()), &LADDER);
        // What the workspace's own program is told is its affair; behind a wrapper it is refused.
        prop_assert!(strictness(&after) >= before.min(2), "{:?}: {:?}", argv, after);
    }

    #[test]
    fn up_to_level_three_a_higher_level_allows_what_a_lower_one_does(request in any_command()) {
        for level in Level::ALL.into_iter().take(2) {
            let at = |level| decide(&Request { level, ..request.clone() }, &LADDER);
            let [lower, higher] = [at(level), at(Level::ALL[usize::from(level.number())])];
            prop_assert!(strictness(&lower) > 0 || strictness(&higher) == 0, "{:?}: {:?}", request.argv, higher);
        }
    }

    #[test]
    fn a_longer_command_line_with_random_bytes_is_decided_without_fault(
        level in prop::sample::select(Level::ALL.to_vec()),
        head in prop::sample::select(rows().into_iter().map(|it| it.argv[0].clone()).collect::<Vec<_>>()),
        tail in prop::collection::vec(prop::collection::vec(1u8..=255, 0..12), 0..8),
    ) {
        let mut argv = vec![head];
        argv.extend(tail.into_iter().map(|it| Arg::new(it).unwrap()));
        let request = request(level, argv);
        prop_assert_eq!(decide(&request, &LADDER), decide(&request, &LADDER));
    }
}

/// Command lines whose words all go to the command's own grammar: nothing for another program.
fn closed_rows() -> Vec<Row> {
    const OPEN: [&str; 7] = [
        "exec.workspace-programs",
        "node.script",
        "python.script",
        "core.echo",
        "node.npx",
        "core.awk",
        "database.redis.local",
    ];
    let is_open =
        |row: &Row| OPEN.contains(&row.rule) || row.argv.iter().any(|it| it.as_bytes() == b"--");
    rows().into_iter().filter(|it| it.verdict == "allow" && !is_open(it)).collect()
}

#[test]
fn an_unknown_option_is_never_allowed() {
    for row in closed_rows() {
        for option in ["--rung-unknown", "--rung-unknown=x", "-\u{a7}"] {
            let mut argv = row.argv.clone();
            argv.push(Arg::try_from(option).unwrap());
            let verdict = decide(&request(row.level, argv), &LADDER);
            assert!(!matches!(verdict, Verdict::Allow(_)), "{} {option}", row.line);
        }
    }
}

#[test]
fn an_abbreviated_option_is_never_allowed() {
    let mut tried = 0;
    for row in closed_rows() {
        for (index, word) in row.argv.iter().enumerate() {
            let Some(option) = word.as_str().filter(|it| it.starts_with("--")) else { continue };
            let mut shorter = option.split('=').next().unwrap().to_owned();
            shorter.pop();
            let mut argv = row.argv.clone();
            argv[index] = Arg::new(shorter).unwrap();
            let verdict = decide(&request(row.level, argv.clone()), &LADDER);
            assert!(!matches!(verdict, Verdict::Allow(_)), "{argv:?}");
            tried += 1;
        }
    }
    assert!(tried > 20, "only {tried} options were tried");
}
