//! The built-in rules at every exec: what a command's children come to, by who starts them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;
use rung::model::{
    Ancestor, Arg, Caller, ExecFact, Ids, Image, Level, ProgramFact, ProgramLocation, Request,
    Streams,
};
use rung::policy::{ExecVerdict, decide_exec};
use rung::profile::{Profile, built_in};

static PROFILES: LazyLock<BTreeMap<Level, Profile>> =
    LazyLock::new(|| Level::ALL.into_iter().map(|it| (it, built_in(it).unwrap())).collect());

/// One line of `execs.txt`.
struct Row {
    level: Level,
    fact: ExecFact,
    verdict: &'static str,
    rule: &'static str,
    line: &'static str,
}

fn rows() -> Vec<Row> {
    let lines = include_str!("execs.txt").lines();
    lines.filter(|it| !it.is_empty() && !it.starts_with('#')).map(row).collect()
}

fn row(line: &'static str) -> Row {
    let [level, chain, verdict, rule] = line.split(" | ").collect::<Vec<_>>()[..] else {
        panic!("{line}")
    };
    let level = Level::try_from(level.trim().parse::<u8>().unwrap()).unwrap();
    Row { level, fact: fact(chain), verdict: verdict.trim(), rule: rule.trim(), line }
}

/// `make > A=b sh -c x > cc x.c`: who starts whom, the last one being decided. Words with a `=` in
/// front of the program are its environment.
fn fact(chain: &str) -> ExecFact {
    let mut caller = Caller::default();
    let mut links = chain.split(" > ").map(link).peekable();
    while let Some(fact) = links.next() {
        let fact = ExecFact { caller: caller.clone(), ..fact };
        if links.peek().is_none() {
            return fact;
        }
        caller.lineage.insert(0, Ancestor::of(&fact).unwrap());
    }
    panic!("{chain}")
}

fn link(text: &str) -> ExecFact {
    let words = shell_words::split(text.trim()).unwrap();
    let program = words.iter().position(|it| !it.contains('=') || it.starts_with('-')).unwrap();
    let argv: Vec<Arg> =
        words[program..].iter().map(|it| Arg::try_from(it.as_str()).unwrap()).collect();
    let environment = words[..program].iter().map(|it| Arg::try_from(it.as_str()).unwrap());
    ExecFact {
        spelled: argv[0].clone(),
        image: Image::File(program_fact(&words[program])),
        argv,
        script: None,
        cwd: PathBuf::from("/ws"),
        environment: environment.collect(),
        caller: Caller::default(),
    }
}

/// Plain names lie in /usr/bin, `./x` in the workspace, a path where it says.
fn program_fact(name: &str) -> ProgramFact {
    let path = match name.strip_prefix("./") {
        Some(inside) => PathBuf::from("/ws").join(inside),
        None => PathBuf::from("/usr/bin").join(name),
    };
    let location = match path.components().nth(1).and_then(|it| it.as_os_str().to_str()) {
        Some("usr") => ProgramLocation::System,
        Some("home") => ProgramLocation::Toolchain,
        Some("ws" | "tmp") => ProgramLocation::Workspace,
        _ => ProgramLocation::Elsewhere,
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

fn request(level: Level) -> Request {
    Request {
        argv: vec![Arg::try_from("sh").unwrap()],
        program: program_fact("sh"),
        level,
        cwd: PathBuf::from("/ws"),
        workspace: PathBuf::from("/ws"),
        home: PathBuf::from("/home/user"),
        environment: BTreeMap::new(),
        ids: Ids::default(),
        streams: Streams::Inherit,
        tree: rung::model::Tree::Itself,
        repository: None,
        caches: BTreeMap::new(),
    }
}

/// What the plan of a run sets.
fn given() -> BTreeMap<String, Arg> {
    BTreeMap::from([("PATH".to_owned(), Arg::try_from("/usr/bin").unwrap())])
}

fn decided(fact: &ExecFact, level: Level) -> (&'static str, String) {
    match decide_exec(fact, &request(level), &PROFILES[&level], &given()) {
        ExecVerdict::Allow { rule, .. } => ("allow", rule),
        ExecVerdict::Deny(denial) => ("deny", denial.rule),
    }
}

#[test]
fn every_exec_of_the_table_is_decided_as_it_says() {
    let mut wrong = Vec::new();
    for row in rows() {
        let (verdict, rule) = decided(&row.fact, row.level);
        if (verdict, rule.as_str()) != (row.verdict, row.rule) {
            wrong.push(format!("{}\n    is {verdict} by {rule}", row.line));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_index_of_the_rules_changes_no_decision() {
    for row in rows() {
        let mut profile = PROFILES[&row.level].clone();
        profile.exec.index_rules();
        let decide = |it: &Profile| decide_exec(&row.fact, &request(row.level), it, &given());
        assert_eq!(decide(&profile), decide(&PROFILES[&row.level]), "{}", row.line);
        // A list that has changed since is read as it is.
        profile.exec.rules.clear();
        let verdict = decide(&profile);
        let own = matches!(&verdict, ExecVerdict::Allow { rule, .. } if rule.starts_with("exec."));
        assert!(own || matches!(verdict, ExecVerdict::Deny(_)), "{}", row.line);
    }
}

#[test]
fn what_a_level_lets_start_the_next_one_does_too() {
    for row in rows().into_iter().filter(|it| it.verdict == "allow") {
        for level in Level::ALL.into_iter().filter(|it| *it >= row.level && it.number() <= 4) {
            assert_eq!(decided(&row.fact, level), ("allow", row.rule.to_owned()), "{}", row.line);
        }
    }
}

#[test]
fn a_refusal_at_an_exec_says_what_why_and_what_next() {
    for row in rows().into_iter().filter(|it| it.verdict == "deny") {
        let profile = &PROFILES[&row.level];
        let verdict = decide_exec(&row.fact, &request(row.level), profile, &given());
        let ExecVerdict::Deny(denial) = verdict else { panic!("{}", row.line) };
        for text in [&denial.object, &denial.reason, &denial.next] {
            assert!(!text.is_empty(), "{}: {denial:?}", row.line);
        }
    }
}

#[test]
fn a_refusal_at_an_exec_names_who_starts_the_program() {
    let told = |chain: &str| {
        let profile = &PROFILES[&Level::TestExecution];
        match decide_exec(&fact(chain), &request(Level::TestExecution), profile, &given()) {
            ExecVerdict::Deny(denial) => (denial.reason, denial.allow_with.unwrap_or_default()),
            ExecVerdict::Allow { .. } => panic!("{chain}"),
        }
    };
    let (reason, change) = told("make > sh -c x > nonesuch");
    assert_eq!(
        reason,
        "no rule at level 3 allows `nonesuch`, started by `sh` and `make` and code of the workspace"
    );
    assert_eq!(
        change,
        "an `[[exec.rule]]` for `nonesuch` with `started_by = [\"sh\", \"make\", \"@workspace\"]` in \
         your `level-3.toml`"
    );
    let (reason, _) = told("cc x.c");
    let only = "rule `cc.compile` allows `cc` only where code of the workspace starts it";
    assert_eq!(reason, only);
    let (reason, _) = told("cc1 x.c");
    assert!(
        reason.starts_with("rule `cc.inner` allows `cc1` only where `cc` or `c++` or `gcc` or ")
    );
}

/// Nobody may be the reason that these run at the levels that an agent has by itself.
#[test]
fn nobody_may_start_what_leaves_the_sandbox() {
    let callers =
        ["git", "make", "cargo", "npm", "python3", "sh", "bash", "env", "cc", "./x", "go"];
    let programs =
        ["curl", "wget", "ssh", "scp", "docker", "sudo", "su", "nc", "mount", "systemctl"];
    for level in Level::ALL.into_iter().take(3) {
        for caller in callers {
            for program in programs {
                let fact = fact(&format!("{caller} > {program} x"));
                assert_eq!(decided(&fact, level).0, "deny", "{caller} > {program} at {level}");
                let fact = self::fact(&format!("{caller} > sh -c x > {program} x"));
                assert_eq!(decided(&fact, level).0, "deny", "{caller} > sh > {program} at {level}");
            }
        }
    }
    // The control: the same callers start what they need.
    assert_eq!(decided(&fact("make > sh -c x > cc x.c"), Level::TestExecution).0, "allow");
}

/// Run it with `cargo test --release --test it execs -- --ignored --nocapture`.
#[test]
#[ignore = "measures: a time belongs to a machine and a release build"]
fn the_median_decision_takes_less_than_twenty_microseconds() {
    const ROUNDS: u32 = 2000;
    let environment: Vec<String> = (0..60).map(|it| format!("CARGO_PKG_{it}=value")).collect();
    let mut all: Vec<f64> = Vec::new();
    for row in rows().into_iter().filter(|it| it.verdict == "allow") {
        let mut fact = row.fact;
        let inherited = fact.caller.lineage.iter().any(|it| it.path.ends_with("cargo"));
        if inherited {
            fact.environment
                .extend(environment.iter().map(|it| Arg::try_from(it.as_str()).unwrap()));
        }
        let request = request(row.level);
        let mut profile = PROFILES[&row.level].clone();
        profile.exec.index_rules();
        let (profile, given) = (&profile, given());
        let start = std::time::Instant::now();
        for _ in 0..ROUNDS {
            let verdict = decide_exec(std::hint::black_box(&fact), &request, profile, &given);
            assert!(matches!(std::hint::black_box(verdict), ExecVerdict::Allow { .. }));
        }
        let micros = start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS);
        println!("{micros:6.2} us  {}", row.line);
        all.push(micros);
    }
    all.sort_by(f64::total_cmp);
    let (median, worst) = (all[all.len() / 2], all[all.len() - 1]);
    println!("median {median:.2} us, worst {worst:.2} us");
    assert!(median < 20.0, "{median} us");
}

/// Programs that a chain goes through, and what stands at its end.
fn any_chain() -> impl Strategy<Value = (Vec<String>, String)> {
    let ends: Vec<String> = rows().iter().map(|it| end_of(it.line)).collect();
    let links =
        ["git log", "make", "cargo test", "sh -c x", "python3 a.py", "./x", "ls", "bash a.sh"];
    let above = prop::collection::vec(prop::sample::select(links.to_vec()), 0..4);
    (above, prop::sample::select(ends))
        .prop_map(|(above, end)| (above.into_iter().map(str::to_owned).collect(), end))
}

fn end_of(line: &str) -> String {
    line.split(" | ").nth(1).unwrap().rsplit(" > ").next().unwrap().to_owned()
}

fn chain(above: &[String], end: &str) -> ExecFact {
    let links: Vec<&str> = above.iter().map(String::as_str).chain([end]).collect();
    fact(&links.join(" > "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_wrapper_or_a_shell_in_between_never_loosens((above, end) in any_chain(), passage in 0usize..4) {
        let passage = ["sh -c x", "env A=b x", "timeout 5 x", "xargs x"][passage];
        let through: Vec<String> = above.iter().cloned().chain([passage.to_owned()]).collect();
        for level in Level::ALL.into_iter().take(3) {
            let straight = decided(&chain(&above, &end), level);
            let around = decided(&chain(&through, &end), level);
            // What a program starts as its own part, it does not start through another.
            prop_assert!(straight.0 == "allow" || around.0 == "deny", "{level}: {above:?} {end}: {around:?}");
        }
    }

    #[test]
    fn up_to_level_three_what_may_start_may_start_higher_up((above, end) in any_chain()) {
        for level in Level::ALL.into_iter().take(2) {
            let fact = chain(&above, &end);
            let higher = Level::ALL[usize::from(level.number())];
            let [lower, higher] = [decided(&fact, level), decided(&fact, higher)];
            prop_assert!(lower.0 == "deny" || higher.0 == "allow", "{level}: {above:?} {end}: {higher:?}");
        }
    }

    #[test]
    fn more_ancestors_of_the_workspace_take_nothing_from_a_refusal_by_name((above, end) in any_chain()) {
        // Whoever is above: what no rule names is refused, and what is never allowed stays so.
        for program in ["curl", "nonesuch"] {
            let fact = chain(&above, &format!("{program} {end}"));
            prop_assert_eq!(decided(&fact, Level::TestExecution).0, "deny");
        }
    }
}
