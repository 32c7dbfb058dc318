//! What a run can leave behind in a workspace that something outside acts on later (Z01 to Z14), name
//! by name: in the tree itself, where it is held or a known residual, and in a session, where nothing
//! of it reaches the tree unasked.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{Place, Run};
use crate::session::{ACTED_ON, session};

/// Names that a run may make or change in the tree itself, because projects are made of such files.
/// Whoever starts them outside should look first, or have the runs work in a session.
const RESIDUALS: &[(&str, &[&str])] = &[
    ("Z01", &[".gitattributes", ".gitmodules", "HEAD"]),
    ("Z02", &[".bashrc", ".profile", ".zshenv", ".nvmrc", ".autoenv"]),
    ("Z03", &["x.code-workspace"]),
    ("Z04", &["sub/AGENTS.md", "sub/.claude/settings.json"]),
    ("Z05", &[".github/dependabot.yml"]),
    (
        "Z06",
        &[
            "package.json",
            "build.rs",
            "rust-toolchain.toml",
            "conftest.py",
            "sitecustomize.py",
            "x.pth",
            "setup.py",
            "pyproject.toml",
            "Makefile",
            "gradle/wrapper/gradle-wrapper.jar",
            "go.work",
            "Dockerfile",
        ],
    ),
    ("Z07", &["bin/ls", "node_modules/.bin/tsc"]),
    ("Z12", &["-rf", "a\u{1b}[2J", "a\u{202e}b"]),
];

/// (number, what it is, what the probe is told, the name, whether the tree keeps it).
const ACTS: &[(&str, &str, &[&str], &str, bool)] = &[
    (
        "Z09",
        "set-id bits",
        &["do", "fchmodat", "-100", "s:README.md", "0o4755"],
        "README.md",
        false,
    ),
    ("Z09b", "whiteouts", &["do", "mknodat", "-100", "s:white", "0o20644", "0"], "white", false),
    ("Z10", "links out of the tree", &["do", "symlinkat", "s:{out}", "-100", "s:out"], "out", true),
    ("Z11", "pipes", &["do", "mknodat", "-100", "s:pipe", "0o10644", "0"], "pipe", true),
];

/// What lies at a name, as far as somebody would act on it.
fn state(place: &Place, name: &str) -> Option<(u32, Vec<u8>)> {
    let path = place.workspace.join(name);
    let facts = fs::symlink_metadata(&path).ok()?;
    let text = if facts.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
    Some((facts.permissions().mode(), text))
}

fn try_name<'a>(name: &str, run: &dyn Fn() -> Run<'a>) {
    if let Some(above) = Path::new(name).parent().filter(|it| *it != Path::new("")) {
        run().words(&["mkdir", "-p", above.to_str().unwrap()]).end();
    }
    run().probe(&["write", name, "x"]).end();
}

/// Those of the names that are not as they were.
fn changed<'a>(place: &Place, names: &[&'a str], act: impl Fn(&str)) -> Vec<&'a str> {
    let did = |name: &&'a str| {
        let before = state(place, name);
        act(name);
        before != state(place, name)
    };
    names.iter().copied().filter(|name| did(name)).collect()
}

#[test]
fn what_a_run_leaves_in_the_tree_itself_is_held_or_a_known_residual() {
    let place = &Place::new();
    let run = || place.rung(2);
    let (mut tried, mut left) = (0, 0);
    let mut wrong = Vec::new();
    for (id, who, names) in ACTED_ON {
        let residual = changed(place, names, |name| try_name(name, &run));
        println!(
            "{id} {who}: {} run, {} held, residual in the tree itself: {residual:?}",
            names.len(),
            names.len() - residual.len()
        );
        (tried, left) = (tried + names.len(), left + residual.len());
        let known = RESIDUALS.iter().find(|it| it.0 == *id).map_or(&[][..], |it| it.1);
        if residual != known {
            wrong.push(format!("{id}: {residual:?}"));
        }
    }
    for (id, what, words, name, stays) in ACTS {
        let words: Vec<String> = words.iter().map(|it| place.fill_in(it)).collect();
        let residual = changed(place, &[*name], |_| drop(run().probe(&words).end()));
        println!("{id} {what}: 1 run, residual in the tree itself: {residual:?}");
        (tried, left) = (tried + 1, left + residual.len());
        if residual.is_empty() == *stays {
            wrong.push(format!("{id}: {residual:?}"));
        }
    }
    println!("in the tree itself: {tried} run, {} held, {left} residuals", tried - left);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_a_run_leaves_in_a_session_reaches_the_tree_only_when_somebody_agrees() {
    let place = &Place::new();
    assert_eq!(session(place, &["start", "--name", "s", "--level", "2"]).code(), 0);
    let run = || place.rung_with(&["run", "--session", "s"]);
    let names: Vec<&str> =
        ACTED_ON.iter().flat_map(|it| it.2).copied().chain(ACTS.iter().map(|it| it.3)).collect();
    let before: Vec<_> = names.iter().map(|it| state(place, it)).collect();
    for (_, _, names) in ACTED_ON {
        names.iter().for_each(|name| try_name(name, &run));
    }
    for (_, _, words, _, _) in ACTS {
        let words: Vec<String> = words.iter().map(|it| place.fill_in(it)).collect();
        run().probe(&words).end();
    }
    let reached = |when: &str| {
        let now = names.iter().zip(&before).filter(|(name, was)| state(place, name) != **was);
        let now: Vec<&str> = now.map(|(name, _)| *name).collect();
        println!("{when}: {} run, {} in the tree: {now:?}", names.len(), now.len());
        now
    };
    assert_eq!(reached("while the session is open"), [] as [&str; 0]);
    session(place, &["apply", "s", "--no-input"]);
    assert_eq!(reached("applied without an answer"), [] as [&str; 0]);
    session(place, &["apply", "s", "--accept", "all"]);
    // The control: what somebody agrees to is there. What is protected, and what is no file, is not.
    let agreed = reached("applied with every answer");
    assert!(agreed.contains(&"package.json") && agreed.contains(&"out"), "{agreed:?}");
    for name in [".git/hooks/post-checkout", ".envrc", ".vscode/tasks.json", "pipe", "README.md"] {
        assert!(!agreed.contains(&name), "{name}");
    }
}
