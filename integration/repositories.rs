//! Repositories inside the workspace's own: what a run makes of them starts nothing outside.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{Ended, Place, make_program, put, requires};

/// Outside every sandbox, with no settings but those of the repositories.
fn git(directory: &Path, words: &[&str]) {
    let status = Command::new("git")
        .args(words)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .envs(["AUTHOR", "COMMITTER"].map(|it| (format!("GIT_{it}_NAME"), "t")))
        .envs(["AUTHOR", "COMMITTER"].map(|it| (format!("GIT_{it}_EMAIL"), "t@localhost")))
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "git {words:?}");
}

/// A place whose workspace is a real repository with one commit.
fn place() -> Option<Place> {
    if !requires("git", Path::new("/usr/bin/git").exists()) {
        return None;
    }
    let place = Place::new();
    fs::remove_dir_all(place.workspace.join(".git")).unwrap();
    git(&place.workspace, &["init", "--quiet", "--initial-branch", "main"]);
    git(&place.workspace, &["add", "src"]);
    git(&place.workspace, &["commit", "--quiet", "--message", "one"]);
    Some(place)
}

/// A repository at `top` whose settings make a git that looks into it leave a file outside.
fn plant(place: &Place, top: &str) {
    let top = place.workspace.join(top);
    fs::create_dir(&top).unwrap();
    git(&top, &["init", "--quiet"]);
    git(&top, &["commit", "--quiet", "--allow-empty", "--message", "one"]);
    let trap = place.outside.join("trap");
    put(&trap, &format!("#!/bin/sh\necho > {}/sprung\n", place.outside.display()));
    make_program(&trap);
    git(&top, &["config", "core.fsmonitor", trap.to_str().unwrap()]);
}

/// Whether the user's next look at the tree starts what was planted.
fn springs(place: &Place) -> bool {
    git(&place.workspace, &["status", "--short"]);
    let sprung = place.outside.join("sprung");
    let found = sprung.exists();
    if found {
        fs::remove_file(sprung).unwrap();
    }
    found
}

fn script(place: &Place, text: &str) {
    let script = place.workspace.join("agent.sh");
    put(&script, &format!("#!/bin/sh\n{text}\n"));
    make_program(&script);
}

fn is_protected(ended: &Ended, path: &Path) {
    let denials = &ended.outcome().denials;
    let told = denials
        .iter()
        .any(|it| it.rule == "filesystem.protected" && it.object == path.to_str().unwrap());
    assert!(told, "nobody was told: {denials:?}");
    assert!(ended.records.iter().any(|it| it["kind"] == "quarantine"), "nothing is recorded");
}

/// Makes the index name a repository at `vendor`, as `git add vendor` does: the bytes are prepared
/// outside, and lie in the workspace.
fn prepare_index(place: &Place, split: bool) {
    let index = place.workspace.join(".git/index");
    let before = fs::read(&index).unwrap();
    plant(place, "vendor");
    git(&place.workspace, &["add", "vendor"]);
    if split {
        git(&place.workspace, &["update-index", "--split-index"]);
    }
    fs::rename(place.workspace.join("vendor"), place.workspace.join("planted")).unwrap();
    fs::copy(&index, place.workspace.join(".git/planted-index")).unwrap();
    fs::write(&index, before).unwrap();
}

#[test]
fn a_repository_that_a_run_ties_to_the_tree_does_not_run_its_settings_outside() {
    for split in [false, true] {
        for level in [2, 3] {
            let Some(place) = place() else { return };
            prepare_index(&place, split);
            // The control: done outside, the same springs the trap.
            let before = fs::read(place.workspace.join(".git/index")).unwrap();
            fs::copy(
                place.workspace.join(".git/planted-index"),
                place.workspace.join(".git/index"),
            )
            .unwrap();
            fs::rename(place.workspace.join("planted"), place.workspace.join("vendor")).unwrap();
            assert!(springs(&place), "the trap is none");
            fs::rename(place.workspace.join("vendor"), place.workspace.join("planted")).unwrap();
            fs::write(place.workspace.join(".git/index"), before).unwrap();
            assert!(!springs(&place));

            let steps = "do renameat2 -100 s:planted -100 s:vendor 0 , \
                         renameat2 -100 s:.git/planted-index -100 s:.git/index 0";
            let words: Vec<&str> = steps.split_whitespace().collect();
            let ended = place.rung(level).probe(&words).end().exited(0);
            assert!(!springs(&place), "level {level}");
            is_protected(&ended, &place.workspace.join("vendor/.git"));
            assert!(place.workspace.join("vendor").is_dir(), "more was taken away than that");
        }
    }
}

#[test]
fn a_link_that_stands_where_the_repository_would_be_is_no_way_around() {
    let Some(place) = place() else { return };
    prepare_index(&place, false);
    let steps = "do symlinkat s:planted -100 s:vendor , \
                 renameat2 -100 s:.git/planted-index -100 s:.git/index 0";
    let words: Vec<&str> = steps.split_whitespace().collect();
    let ended = place.rung(3).probe(&words).end().exited(0);
    assert!(!springs(&place));
    is_protected(&ended, &place.workspace.join("vendor"));
}

#[test]
fn what_a_killed_run_tied_to_the_tree_is_found_by_the_next() {
    let Some(place) = place() else { return };
    prepare_index(&place, false);
    let state = place.state();
    place.rung(3).probe(&["exit", "0"]).end().exited(0);
    let steps = "do renameat2 -100 s:planted -100 s:vendor 0 , \
                 renameat2 -100 s:.git/planted-index -100 s:.git/index 0 , execve";
    let words: Vec<&str> = steps.split_whitespace().collect();
    let probe = format!("s:{}", place.probe.display());
    let words = [&words[..], &[&probe, "v:probe|--|linger|late-exit", "0"]].concat();
    let mut run = place.rung(3).probe(&words).start();
    run.wait_for_line("ready");
    run.signal(nix::sys::signal::Signal::SIGKILL);
    run.child.wait().unwrap();
    place.rung(3).probe(&["exit", "0"]).end().exited(0);
    assert!(!springs(&place));
    assert!(state.join("quarantine").is_dir());
}

#[test]
fn a_repository_that_is_there_works_and_its_settings_stay_what_they_are() {
    let Some(place) = place() else { return };
    let top = place.workspace.join("vendor");
    fs::create_dir(&top).unwrap();
    git(&top, &["init", "--quiet"]);
    git(&top, &["commit", "--quiet", "--allow-empty", "--message", "one"]);
    git(&place.workspace, &["add", "vendor"]);
    for write in ["vendor/.git/config", "vendor/.git/hooks/pre-commit", "vendor/.git/commondir"] {
        let ended = place.rung(3).probe(&["write", write, "x"]).end();
        let made = place.workspace.join(write);
        let as_before = fs::read(&made).map_or(true, |it| it != b"x");
        assert!(ended.code() != 0 || !made.exists(), "{write} was written");
        assert!(as_before, "{write} is another one now");
    }
    // Its own work goes on, and so does that of the repository around it.
    place.rung(3).probe(&["write", "vendor/.git/description", "x"]).end().exited(0);
    place.rung(3).probe(&["write", ".git/description", "x"]).end().exited(0);
    // The control: outside, they can be written.
    assert_eq!(place.outside_probe(&["write", "vendor/.git/config", "x"]).end().code(), 0);
}

#[test]
fn a_submodules_file_that_names_its_directory_stays_what_it_is() {
    let Some(place) = place() else { return };
    let origin = place.outside.join("origin");
    fs::create_dir(&origin).unwrap();
    git(&origin, &["init", "--quiet"]);
    git(&origin, &["commit", "--quiet", "--allow-empty", "--message", "one"]);
    let from = origin.to_str().unwrap();
    let add = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", from, "vendor"];
    git(&place.workspace, &add);
    let before = fs::read(place.workspace.join("vendor/.git")).unwrap();
    for steps in [
        "do unlinkat -100 s:vendor/.git 0",
        "do renameat2 -100 s:README.md -100 s:vendor/.git 0",
        "do renameat2 -100 s:vendor -100 s:moved 0",
    ] {
        let words: Vec<&str> = steps.split_whitespace().collect();
        let ended = place.rung(3).probe(&words).end();
        assert_ne!(ended.code(), 0, "{steps}");
        assert_eq!(fs::read(place.workspace.join("vendor/.git")).unwrap(), before);
    }
    place.rung(3).probe(&["write", "vendor/.git", "gitdir: ../src"]).end();
    assert_eq!(fs::read(place.workspace.join("vendor/.git")).unwrap(), before);
    place.rung(3).probe(&["write", "vendor/file", "x"]).end().exited(0);
    git(&place.workspace.join("vendor"), &["status", "--short"]);
}

#[test]
fn an_index_that_nobody_can_read_does_not_stay() {
    let Some(place) = place() else { return };
    let index = place.workspace.join(".git/index");
    let ended = place.rung(3).probe(&["write", ".git/index", "DIRC?"]).end().exited(0);
    is_protected(&ended, &index);
    assert!(!index.exists());
    git(&place.workspace, &["reset", "--quiet"]);
    place.rung(3).probe(&["exit", "0"]).end().exited(0);
    // Found there before the run, it is the user's, and the run does not begin.
    fs::write(&index, "DIRC?").unwrap();
    let ended = place.rung(3).probe(&["exit", "0"]).end();
    assert_eq!(ended.code(), 125, "{}", ended.err);
    assert!(ended.err.contains("git index") && ended.err.contains("git ls-files"), "{}", ended.err);
}

#[test]
fn ordinary_work_with_the_index_is_left_alone() {
    let Some(place) = place() else { return };
    script(&place, "git add README.md && git commit --quiet --message two && git status --short");
    let ended = place.rung(3).words(&["./agent.sh"]).env("GIT_AUTHOR_NAME", "t");
    let identity = [
        ("GIT_AUTHOR_EMAIL", "t@localhost"),
        ("GIT_COMMITTER_NAME", "t"),
        ("GIT_COMMITTER_EMAIL", "t@localhost"),
    ];
    let ended = identity.iter().fold(ended, |run, (name, value)| run.env(name, *value));
    let ended = ended.end().exited(0);
    assert_eq!(ended.outcome().denials, []);
    assert!(place.workspace.join(".git/index").exists());
}
