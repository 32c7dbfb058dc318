//! Sessions: what a run writes stays in the session until somebody applies it, and the tree is the
//! one that was expected, byte for byte, at every stage.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rung::model::{Layer, Status};

use crate::harness::{Ended, Place, Run, make_program, put};

/// Kinds, modes and contents below a directory; the time of a directory is nobody's business.
pub(crate) fn contents(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        let facts = fs::symlink_metadata(&path).unwrap();
        let text = match fs::read_link(&path) {
            Ok(target) => format!("{target:?}"),
            Err(_) if facts.is_file() => {
                rung::model::Digest::plain(&fs::read(&path).unwrap()).to_string()
            }
            Err(_) => String::new(),
        };
        found.insert(path.clone(), format!("{:o} {text}", facts.mode()));
        if facts.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
        }
    }
    found
}

/// `rung session` with these words.
#[track_caller]
pub(crate) fn session(place: &Place, words: &[&str]) -> Ended {
    let all: Vec<&str> = ["session"].into_iter().chain(words.iter().copied()).collect();
    place.rung_with(&all).end()
}

#[track_caller]
fn started(place: &Place, level: &str) {
    let ended = session(place, &["start", "--name", "s", "--level", level]);
    assert_eq!((ended.code(), ended.text().as_str()), (0, "s\n"), "{}", ended.err);
    assert!(ended.err.is_empty(), "no overlay: {}", ended.err);
}

fn inside(place: &Place) -> Run<'_> {
    place.rung_with(&["run", "--session", "s"])
}

#[track_caller]
fn writes(place: &Place, name: &str, text: &str) {
    inside(place).probe(&["write", name, text]).end().exited(0).recorded();
}

#[track_caller]
fn status(place: &Place) -> Vec<String> {
    let ended = session(place, &["status", "s"]);
    assert_eq!(ended.code(), 0, "{}", ended.err);
    ended.text().lines().map(str::to_owned).collect()
}

/// The id that an apply or a rollback printed.
#[track_caller]
pub(crate) fn id_of(ended: &Ended) -> String {
    let text = ended.text();
    let after = text.split("rung session rollback ").nth(1);
    let after = after.unwrap_or_else(|| panic!("no id: {text}{}", ended.err));
    after.split('`').next().unwrap().to_owned()
}

#[test]
fn what_a_session_writes_is_seen_by_its_next_run_and_by_nobody_else() {
    let place = Place::new();
    let before = contents(&place.workspace);
    started(&place, "2");
    writes(&place, "src/lib.rs", "changed");
    writes(&place, "new", "text");
    inside(&place).probe(&["read", "new"]).end().exited(0);
    // The control: the same outside the session.
    let outside = place.rung(2).probe(&["read", "new"]).end();
    assert_eq!(outside.code(), libc::ENOENT);
    assert_eq!(contents(&place.workspace), before);
    assert_eq!(status(&place), ["A new", "M src/lib.rs"]);
    place.rung(2).probe(&["write", "new", "text"]).end().exited(0);
    assert!(place.workspace.join("new").exists(), "the control writes nothing");
}

#[test]
fn a_run_of_a_session_is_recorded_with_its_name() {
    let place = Place::new();
    started(&place, "2");
    let ended = inside(&place).probe(&["exit", "0"]).end().exited(0);
    assert_eq!(ended.outcome().ids.session.as_deref(), Some("s"));
    assert_eq!(ended.records[0]["session"], "s");
    writes(&place, "new", "text");
    let id = id_of(&session(&place, &["apply", "s"]));
    session(&place, &["rollback", &id]);
    session(&place, &["discard", "s"]);
    let acts: Vec<String> = place
        .records()
        .iter()
        .filter(|it| it["kind"] == "session")
        .map(|it| it["act"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(acts, ["start", "apply", "rollback", "discard"]);
}

#[test]
fn a_subset_is_applied_the_rest_discarded_and_the_apply_rolled_back() {
    let place = Place::new();
    put(&place.workspace.join("docs/a"), "a\n");
    let before = contents(&place.workspace);
    started(&place, "2");
    writes(&place, "src/lib.rs", "changed");
    writes(&place, "src/new.rs", "new");
    inside(&place).probe(&["do", "unlinkat", "-100", "s:docs/a", "0"]).end().exited(0);
    inside(&place)
        .probe(&["do", "renameat2", "-100", "s:README.md", "-100", "s:READ.md", "0"])
        .end()
        .exited(0);
    assert_eq!(contents(&place.workspace), before);

    let applied = session(&place, &["apply", "s", "src"]);
    assert_eq!(applied.code(), 0, "{}", applied.err);
    let mut expected = before.clone();
    let at = |name: &str| place.workspace.join(name);
    let file = |text: &str| format!("100644 {}", rung::model::Digest::plain(text.as_bytes()));
    expected.insert(at("src/lib.rs"), file("changed"));
    let mode = fs::metadata(at("src/new.rs")).unwrap().mode();
    expected.insert(at("src/new.rs"), format!("{mode:o} {}", rung::model::Digest::plain(b"new")));
    assert_eq!(contents(&place.workspace), expected);

    // A deletion waits for an answer; its control says yes.
    let waiting = session(&place, &["apply", "s"]);
    assert_eq!(waiting.code(), 75, "{}", waiting.err);
    assert!(at("docs/a").exists() && at("READ.md").exists() && !at("README.md").exists());
    let yes = session(&place, &["apply", "s", "--accept", "deletion"]);
    assert_eq!(yes.code(), 0, "{}", yes.err);
    assert!(!at("docs/a").exists());

    assert_eq!(session(&place, &["discard", "s"]).code(), 0);
    for ended in [yes, waiting, applied] {
        let back = session(&place, &["rollback", &id_of(&ended)]);
        assert_eq!(back.code(), 0, "{}", back.err);
    }
    assert_eq!(contents(&place.workspace), before);
    assert!(fs::read_dir(place.state().join("sessions")).unwrap().next().is_none());
}

#[test]
fn a_file_that_both_sides_changed_is_left_alone_and_named() {
    let place = Place::new();
    started(&place, "2");
    writes(&place, "src/lib.rs", "by the session");
    writes(&place, "src/other.rs", "by the session");
    // What the session has no copy of shows through.
    put(&place.workspace.join("shown"), "by the host");
    inside(&place).probe(&["read", "shown"]).end().exited(0);
    put(&place.workspace.join("src/lib.rs"), "by the host");
    assert!(status(&place).iter().any(|it| it == "M src/lib.rs  [both sides changed]"));
    let ended = session(&place, &["apply", "s"]);
    assert_eq!(ended.code(), 1, "{}", ended.err);
    assert!(ended.err.contains("src/lib.rs"), "{}", ended.err);
    let read = |name: &str| fs::read_to_string(place.workspace.join(name)).unwrap();
    assert_eq!(read("src/lib.rs"), "by the host");
    assert_eq!(read("src/other.rs"), "by the session");
    // The control: somebody insists.
    assert_eq!(session(&place, &["apply", "s", "--overwrite"]).code(), 0);
    assert_eq!(read("src/lib.rs"), "by the session");
}

/// The processes of a run end a moment after its supervisor: until then it changes the session.
#[test]
fn nobody_applies_a_session_while_processes_of_a_killed_run_are_left() {
    let place = Place::new();
    started(&place, "3");
    let script = place.workspace.join("agent");
    put(&script, "#!/bin/sh\necho ready\nwhile :; do echo line >> log; sleep 0.01; done\n");
    make_program(&script);
    let apply = || place.rung_with(&["session", "apply", "s", "--accept", "all"]).start();
    let unnoticed = || {
        let mut run = inside(&place).words(&["./agent"]).start();
        run.wait_for_line("ready");
        run.kill_unnoticed()
    };
    let init = unnoticed();
    let mut waiting = apply();
    std::thread::sleep(Duration::from_millis(300));
    assert!(!waiting.has_ended(), "it did not wait");
    drop(init);
    assert_eq!(waiting.end(&place).code(), 0);
    assert!(fs::read_to_string(place.workspace.join("log")).unwrap().starts_with("line\n"));
    assert_eq!(status(&place), ["nothing has changed"], "somebody went on");
    let init = unnoticed();
    let ended = apply().end(&place);
    assert_ne!(ended.code(), 0);
    assert!(ended.err.contains("`s` is in use"), "{}", ended.err);
    drop(init);
    assert_eq!(apply().end(&place).code(), 0);
}

#[test]
fn two_sessions_on_one_tree_do_not_overwrite_each_other() {
    let place = Place::new();
    for name in ["one", "two"] {
        assert_eq!(session(&place, &["start", "--name", name]).code(), 0);
        let run = place.rung_with(&["run", "--session", name]);
        run.probe(&["write", "README.md", name]).end().exited(0);
    }
    assert_eq!(session(&place, &["apply", "one"]).code(), 0);
    let second = session(&place, &["apply", "two"]);
    assert_eq!(second.code(), 1, "{}", second.err);
    assert_eq!(fs::read_to_string(place.workspace.join("README.md")).unwrap(), "one");
}

#[test]
fn a_rollback_over_a_later_change_is_refused_and_names_the_file() {
    let place = Place::new();
    started(&place, "2");
    writes(&place, "README.md", "by the session");
    let id = id_of(&session(&place, &["apply", "s"]));
    put(&place.workspace.join("README.md"), "by the host");
    let ended = session(&place, &["rollback", &id]);
    assert_eq!(ended.code(), 1, "{}", ended.err);
    assert!(ended.err.contains("README.md"), "{}", ended.err);
    assert_eq!(fs::read_to_string(place.workspace.join("README.md")).unwrap(), "by the host");
}

#[test]
fn a_disposable_run_lists_its_changes_and_keeps_none() {
    let place = Place::new();
    let before = contents(&place.workspace);
    let run = place.rung(2).option(&["--discard"]);
    let ended = run.probe(&["write", "Cargo.toml", "x"]).end().exited(0);
    let changes: Vec<(String, String)> =
        ended.outcome().changes.iter().map(|it| (it.kind.clone(), it.path.to_string())).collect();
    assert_eq!(changes, [("created".to_owned(), "Cargo.toml".to_owned())]);
    assert_eq!(ended.outcome().changes[0].risks, ["manifest"]);
    assert!(ended.err.contains("Cargo.toml"), "{}", ended.err);
    assert_eq!(contents(&place.workspace), before);
    assert!(fs::read_dir(place.state().join("sessions")).unwrap().next().is_none());
    ended.recorded();
}

/// Names by which something outside acts on its own: of git, shells, editors, agents, CI, build
/// tools and search paths. With what an apply does to each unless somebody agrees.
pub(crate) const ACTED_ON: &[(&str, &str, &[&str])] = &[
    (
        "Z01",
        "git",
        &[
            ".git/hooks/post-checkout",
            ".git/config.worktree",
            ".git/info/attributes",
            ".git/modules/x/config",
            "sub/.git/config",
            "sub/.git/hooks/pre-commit",
            ".gitattributes",
            ".gitmodules",
            "HEAD",
            ".git/commondir",
        ],
    ),
    (
        "Z02",
        "shells",
        &[
            ".envrc",
            ".bashrc",
            ".profile",
            ".zshenv",
            ".tool-versions",
            "mise.toml",
            ".mise.toml",
            ".nvmrc",
            ".autoenv",
        ],
    ),
    (
        "Z03",
        "editors",
        &[
            ".vscode/tasks.json",
            "x.code-workspace",
            ".idea/workspace.xml",
            ".nvim.lua",
            ".exrc",
            ".dir-locals.el",
        ],
    ),
    (
        "Z04",
        "agents",
        &[
            "CLAUDE.md",
            ".claude/settings.json",
            ".mcp.json",
            ".cursor/rules",
            ".codex/config.toml",
            "AGENTS.md",
            ".gemini/settings.json",
            ".aider.conf.yml",
            "sub/AGENTS.md",
            "sub/.claude/settings.json",
        ],
    ),
    (
        "Z05",
        "CI",
        &[
            ".github/workflows/x.yml",
            ".gitlab-ci.yml",
            "Jenkinsfile",
            ".circleci/config.yml",
            ".github/dependabot.yml",
        ],
    ),
    (
        "Z06",
        "builds",
        &[
            "package.json",
            ".npmrc",
            ".yarnrc.yml",
            ".pnpmfile.cjs",
            ".cargo/config.toml",
            "build.rs",
            "rust-toolchain.toml",
            "conftest.py",
            "sitecustomize.py",
            "x.pth",
            "setup.py",
            "pyproject.toml",
            "Makefile",
            "gradle/wrapper/gradle-wrapper.jar",
            ".mvn/extensions.xml",
            ".bazelrc",
            "go.work",
            ".pre-commit-config.yaml",
            ".husky/pre-commit",
            "lefthook.yml",
            "Dockerfile",
            ".devcontainer/devcontainer.json",
        ],
    ),
    ("Z07", "search paths", &["bin/ls", "node_modules/.bin/tsc"]),
    ("Z12", "odd names", &["-rf", "a\u{1b}[2J", "a\u{202e}b"]),
];

#[test]
fn nothing_that_something_outside_acts_on_reaches_the_tree_unasked() {
    let place = Place::new();
    let before = contents(&place.workspace);
    started(&place, "2");
    // Everything at once, then a look at each.
    for (_, _, names) in ACTED_ON {
        for name in *names {
            if let Some(above) = Path::new(name).parent().filter(|it| *it != Path::new("")) {
                inside(&place).words(&["mkdir", "-p", above.to_str().unwrap()]).end();
            }
            inside(&place).probe(&["write", name, "x"]).end();
        }
    }
    assert_eq!(contents(&place.workspace), before, "a run wrote into the tree");
    let ended = session(&place, &["apply", "s", "--no-input"]);
    assert!([75, 126].contains(&ended.code()), "{}: {}", ended.code(), ended.err);
    for (id, who, names) in ACTED_ON {
        for name in *names {
            let path = place.workspace.join(name);
            let was = before.contains_key(&path);
            assert_eq!(path.exists(), was, "{id}: `{name}`, which {who} act on, was applied");
        }
    }
    // The control: somebody agrees to all that can be agreed to, and what is protected stays out.
    let agreed = session(&place, &["apply", "s", "--accept", "all"]);
    assert!(place.workspace.join("package.json").exists(), "{}", agreed.err);
    assert!(place.workspace.join("bin/ls").exists(), "{}", agreed.err);
    for name in [".envrc", ".vscode/tasks.json", ".github/workflows/x.yml", "CLAUDE.md"] {
        assert!(!place.workspace.join(name).exists(), "`{name}` is protected");
    }
    assert!(!place.workspace.join("sub/.git/config").exists(), "a checkout with settings");
}

#[test]
fn a_protected_name_that_a_run_made_is_gone_when_it_ends_and_is_recorded() {
    let place = Place::new();
    started(&place, "2");
    for name in [".envrc", "CLAUDE.md", ".npmrc"] {
        let ended = inside(&place).probe(&["write", name, "x"]).end();
        let denial = ended.denial();
        assert_eq!((denial.layer, denial.rule.as_str()), (Layer::File, "filesystem.protected"));
        assert_eq!(denial.object, place.workspace.join(name).display().to_string());
        ended.recorded();
        let next = inside(&place).probe(&["read", name]).end();
        assert_eq!(next.code(), libc::ENOENT, "{name}");
    }
    assert_eq!(status(&place), ["nothing has changed"]);
}

/// Z09, Z11, F23 to F25: what no apply brings into a tree, whoever agrees.
#[test]
fn set_id_bits_and_pipes_and_markers_of_the_layer_never_reach_the_tree() {
    let place = Place::new();
    let before = contents(&place.workspace);
    started(&place, "3");
    // A mode that open(2) gives; chmod is refused by the filter.
    inside(&place).probe(&["do", "openat", "-100", "s:suid", "0x41", "0o4755"]).end();
    inside(&place).probe(&["do", "mknodat", "-100", "s:pipe.rs", "0o10644", "0"]).end();
    let marker = ["do", "setxattr", "s:src", "s:user.overlay.opaque", "s:y", "1", "0"];
    inside(&place).probe(&marker).end();
    let whiteout =
        inside(&place).probe(&["do", "mknodat", "-100", "s:white", "0o20000", "0"]).end();
    assert_ne!(whiteout.code(), 0, "a run can make a whiteout");
    let rename = ["do", "renameat2", "-100", "s:src/lib.rs", "-100", "s:lib.rs", "4"];
    assert_ne!(inside(&place).probe(&rename).end().code(), 0, "a run can rename with a whiteout");
    let ended = session(&place, &["apply", "s", "--accept", "all"]);
    assert_eq!(ended.code(), 126, "{}", ended.err);
    let mut now = contents(&place.workspace);
    // An ordinary attribute that only looks like one of the layer's does no harm.
    now.retain(|path, _| !path.ends_with("src"));
    let mut before = before;
    before.retain(|path, _| !path.ends_with("src"));
    assert_eq!(now, before);
    assert!(place.workspace.join("src/lib.rs").exists());
}

/// Z10: a link that a run planted is never followed, neither by apply nor by rollback.
#[test]
fn a_planted_link_leads_nowhere() {
    let place = Place::new();
    let outside = contents(&place.outside);
    started(&place, "2");
    inside(&place).words(&["ln", "-s", place.outside.to_str().unwrap(), "out"]).end().exited(0);
    let ended = session(&place, &["apply", "s"]);
    assert_eq!(ended.code(), 75, "a link out of the tree needs an answer: {}", ended.err);
    let id = id_of(&session(&place, &["apply", "s", "--accept", "leaves"]));
    assert!(fs::symlink_metadata(place.workspace.join("out")).unwrap().is_symlink());
    // In a second session the name is a directory with a file in it.
    assert_eq!(session(&place, &["start", "--name", "t"]).code(), 0);
    let run = |words: &[&str]| place.rung_with(&["run", "--session", "t"]).words(words).end();
    run(&["rm", "out"]).exited(0);
    run(&["mkdir", "out"]).exited(0);
    run(&["touch", "out/file"]).exited(0);
    assert_eq!(contents(&place.outside), outside);
    // The host puts the link back right before.
    let applied = session(&place, &["apply", "t", "--accept", "all"]);
    assert_eq!(applied.code(), 0, "{}", applied.err);
    assert_eq!(contents(&place.outside), outside);
    assert!(fs::symlink_metadata(place.workspace.join("out")).unwrap().is_dir());
    let refused = session(&place, &["rollback", &id]);
    assert_eq!(refused.code(), 1, "the name is something else by now: {}", refused.err);
    assert_eq!(contents(&place.outside), outside);
}

#[test]
fn a_program_that_was_made_in_the_session_can_be_started_there() {
    let place = Place::new();
    started(&place, "3");
    inside(&place).words(&["cp", "/usr/bin/true", "tool"]).end().exited(0);
    let ended = inside(&place).words(&["./tool"]).end();
    assert!(
        !matches!(ended.outcome().status, Status::NotFound | Status::Failed { .. }),
        "{}",
        ended.err
    );
}

#[test]
fn a_directory_of_the_session_can_be_the_working_directory() {
    let place = Place::new();
    started(&place, "2");
    inside(&place).words(&["mkdir", "made"]).end().exited(0);
    let run = inside(&place).option(&["-C", "made"]);
    run.probe(&["write", "file", "x"]).end().exited(0);
    assert_eq!(status(&place), ["A made/", "A made/file"]);
    inside(&place).option(&["-C", "nowhere"]).probe(&["exit", "0"]).end().failed("nowhere");
    inside(&place).option(&["-C", "/etc"]).probe(&["exit", "0"]).end().failed("/etc");
}

#[test]
fn a_session_that_is_wrong_is_a_clear_error() {
    let place = Place::new();
    let missing = inside(&place).probe(&["exit", "0"]).end();
    missing.failed("there is no session `s`");
    for (words, code, says) in [
        (&["start", "--name", "../x"][..], 2, "cannot be the name"),
        (&["start", "--name=-x"], 2, "cannot be the name"),
        (&["start", "--base", "/etc"], 125, "/etc"),
        (&["start", "--base", "/nowhere"], 125, "/nowhere"),
        (&["status", "nope"], 125, "no session `nope`"),
        (&["apply", "nope"], 125, "no session `nope`"),
        (&["rollback", "nope"], 125, "no act `nope`"),
        (&["rollback", "../../x"], 125, "no act"),
        (&["discard", "nope"], 125, "no session `nope`"),
    ] {
        let ended = session(&place, words);
        assert_eq!(ended.code(), code, "{words:?}: {}", ended.err);
        assert!(ended.err.contains(says), "{words:?} says: {}", ended.err);
    }
    started(&place, "2");
    for (words, code, says) in [
        (&["start", "--name", "s"][..], 125, "already"),
        (&["apply", "s", "../x"], 2, "not relative"),
        (&["apply", "s", "/etc"], 2, "not relative"),
        (&["apply", "s", "--accept", "protected"], 2, "protected"),
        (&["diff", "s", "/etc"], 2, "not relative"),
    ] {
        let ended = session(&place, words);
        assert_eq!(ended.code(), code, "{words:?}: {}", ended.err);
        assert!(ended.err.contains(says), "{words:?} says: {}", ended.err);
    }
    let both = place.rung_with(&["run", "--session", "s", "--discard", "--", "true"]).end();
    assert_eq!(both.code(), 2, "{}", both.err);
    let elsewhere = place.outside.to_str().unwrap();
    inside(&place)
        .option(&["-w", elsewhere])
        .probe(&["exit", "0"])
        .end()
        .failed("cannot name another tree");
}

#[test]
fn a_session_whose_files_were_touched_is_not_used_and_can_be_discarded() {
    let place = Place::new();
    started(&place, "2");
    let manifest = place.state().join("sessions/s/session.json");
    let text = fs::read_to_string(&manifest).unwrap();
    fs::write(&manifest, text.replace("\"name\":\"s\"", "\"name\":\"t\"")).unwrap();
    inside(&place).probe(&["exit", "0"]).end().failed("cannot be trusted");
    assert_eq!(session(&place, &["discard", "s"]).code(), 0);
    started(&place, "2");
}

#[test]
fn a_patch_of_a_session_is_one_that_git_applies() {
    let place = Place::new();
    put(&place.workspace.join("old name"), "line\n");
    put(&place.workspace.join("gone"), "line");
    started(&place, "2");
    writes(&place, "src/lib.rs", "one\ntwo");
    writes(&place, "empty", "");
    writes(&place, "a\tb", "text\n");
    inside(&place).words(&["mv", "old name", "new name"]).end().exited(0);
    inside(&place).words(&["rm", "gone"]).end().exited(0);
    inside(&place).words(&["ln", "-s", "src", "link"]).end().exited(0);
    let patch = session(&place, &["export", "s"]);
    assert_eq!(patch.code(), 0, "{}", patch.err);
    let file = place.outside.join("session.patch");
    fs::write(&file, &patch.out).unwrap();
    let copy = place.outside.join("copy");
    let copied = Command::new("cp").arg("-a").arg(&place.workspace).arg(&copy).status().unwrap();
    assert!(copied.success());
    fs::remove_dir_all(copy.join(".git")).unwrap();
    let applied =
        Command::new("git").args(["apply", "-v"]).arg(&file).current_dir(&copy).output().unwrap();
    let said = String::from_utf8_lossy(&applied.stderr);
    assert!(applied.status.success(), "{said}\n{}", patch.text());
    assert_eq!(session(&place, &["apply", "s", "--accept", "all"]).code(), 0);
    fs::remove_dir_all(place.workspace.join(".git")).unwrap();
    let names = |directory: &Path| -> BTreeMap<PathBuf, String> {
        let inside = |(path, text): (PathBuf, String)| {
            Some((path.strip_prefix(directory).ok()?.to_owned(), text))
        };
        contents(directory).into_iter().filter_map(inside).collect()
    };
    let (mut ours, theirs) = (names(&place.workspace), names(&copy));
    // Modes below the executable bit are the umask's.
    ours.retain(|_, text| !text.starts_with('4'));
    for (path, text) in ours.iter().filter(|it| it.1.starts_with("100")) {
        let digest = |text: &str| text.split(' ').nth(1).map(str::to_owned);
        assert_eq!(theirs.get(path).and_then(|it| digest(it)), digest(text), "{}", path.display());
    }
    assert!(!copy.join("gone").exists() && copy.join("link").is_symlink());
}

/// An hour of an agent's work in a real repository, shortened.
#[test]
fn an_agent_edits_deletes_renames_and_commits_in_a_real_repository() {
    let place = Place::new();
    fs::remove_dir_all(place.workspace.join(".git")).unwrap();
    fs::remove_dir_all(place.workspace.join(".vscode")).unwrap();
    fs::remove_file(place.workspace.join("service.sock")).unwrap();
    let git = |words: &[&str]| {
        let out = Command::new("git")
            .args(["-c", "user.name=n", "-c", "user.email=n@example.org"])
            .args(words)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &place.home)
            .current_dir(&place.workspace)
            .output()
            .unwrap();
        assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    git(&["init", "-q", "-b", "main"]);
    put(&place.workspace.join("docs/guide.md"), "guide\n");
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "first"]);
    let (before, head) = (contents(&place.workspace), git(&["rev-parse", "HEAD"]));
    started(&place, "2");
    let agent = |words: &[&str]| {
        let run = inside(&place)
            .env("GIT_AUTHOR_NAME", "agent")
            .env("GIT_AUTHOR_EMAIL", "agent@example.org")
            .env("GIT_COMMITTER_NAME", "agent")
            .env("GIT_COMMITTER_EMAIL", "agent@example.org");
        run.words(words).end().exited(0)
    };
    agent(&["sed", "-i", "s/Nothing/Something/", "src/lib.rs"]);
    agent(&["git", "mv", "docs/guide.md", "docs/manual.md"]);
    agent(&["cp", "README.md", "NOTES.md"]);
    agent(&["git", "add", "-A"]);
    agent(&["git", "commit", "-q", "-m", "second"]);
    let log = agent(&["git", "log", "--format=%s"]);
    assert_eq!(log.text(), "second\nfirst\n");
    // Meanwhile nothing of it is in the tree.
    assert_eq!(git(&["--no-optional-locks", "status", "--porcelain"]), "");
    assert_eq!(git(&["rev-parse", "HEAD"]), head);
    assert_eq!(contents(&place.workspace), before);
    // The commit waits for an answer as a whole; with it, it is there.
    let asked = session(&place, &["apply", "s", "--no-input"]);
    assert_eq!(asked.code(), 75, "{}{}", asked.text(), asked.err);
    assert_eq!(git(&["rev-parse", "HEAD"]), head);
    let agreed = session(&place, &["apply", "s", "--accept", "all"]);
    assert_eq!(agreed.code(), 0, "{}", agreed.err);
    assert_eq!(git(&["log", "--format=%s"]), "second\nfirst\n");
    assert_eq!(git(&["--no-optional-locks", "status", "--porcelain"]), "");
    git(&["fsck", "--strict"]);
    for ended in [agreed, asked] {
        assert_eq!(session(&place, &["rollback", &id_of(&ended)]).code(), 0);
    }
    assert_eq!(contents(&place.workspace), before);
    assert_eq!(git(&["--no-optional-locks", "status", "--porcelain"]), "");
}

#[test]
fn a_layer_that_cannot_be_had_is_a_copy_and_the_reason_is_said() {
    let place = Place::new();
    let root = nix::unistd::geteuid().is_root();
    if !root {
        // Only root can give a file away.
        return;
    }
    let foreign = place.workspace.join("foreign");
    put(&foreign, "x");
    std::os::unix::fs::chown(&foreign, Some(12345), Some(12345)).unwrap();
    let ended = session(&place, &["start", "--name", "s"]);
    assert_eq!(ended.code(), 0, "{}", ended.err);
    assert!(ended.err.contains("belongs to user 12345"), "{}", ended.err);
    let before = contents(&place.workspace);
    writes(&place, "src/lib.rs", "changed");
    assert_eq!(contents(&place.workspace), before);
    assert_eq!(status(&place), ["M src/lib.rs"]);
    let hook = inside(&place).probe(&["write", ".git/hooks/pre-commit", "x"]).end();
    assert_eq!(hook.code(), libc::EROFS);
    let ended = inside(&place).probe(&["write", ".envrc", "x"]).end();
    assert_eq!(ended.denial().rule, "filesystem.protected");
    assert_eq!(session(&place, &["apply", "s"]).code(), 0);
    assert_eq!(fs::read_to_string(place.workspace.join("src/lib.rs")).unwrap(), "changed");
}

#[test]
fn a_session_is_seen_by_no_run() {
    let place = Place::new();
    started(&place, "2");
    writes(&place, "new", "x");
    let upper = place.state().join("sessions/s/upper");
    assert!(upper.join("new").exists());
    for run in [inside(&place), place.rung(2)] {
        let ended = run.probe(&["read", upper.join("new").to_str().unwrap()]).end();
        assert_eq!(ended.code(), libc::ENOENT);
    }
    let mode = fs::metadata(place.state().join("sessions/s")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}
