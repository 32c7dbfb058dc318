//! The built-in rules at every exec: what a command's children come to, by who starts them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

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
fn one_decision_takes_less_than_twenty_microseconds() {
    const ROUNDS: u32 = 2000;
    let environment: Vec<String> = (0..60).map(|it| format!("CARGO_PKG_{it}=value")).collect();
    let mut worst = 0.0;
    for row in rows().into_iter().filter(|it| it.verdict == "allow") {
        let mut fact = row.fact;
        let inherited = fact.caller.lineage.iter().any(|it| it.path.ends_with("cargo"));
        if inherited {
            fact.environment
                .extend(environment.iter().map(|it| Arg::try_from(it.as_str()).unwrap()));
        }
        let request = request(row.level);
        let (profile, given) = (&PROFILES[&row.level], given());
        let start = std::time::Instant::now();
        for _ in 0..ROUNDS {
            let verdict = decide_exec(std::hint::black_box(&fact), &request, profile, &given);
            assert!(matches!(std::hint::black_box(verdict), ExecVerdict::Allow { .. }));
        }
        let micros = start.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS);
        println!("{micros:6.2} us  {}", row.line);
        worst = f64::max(worst, micros);
    }
    assert!(worst < 20.0, "{worst} us");
}
