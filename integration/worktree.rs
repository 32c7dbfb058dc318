//! Checkouts whose repository lies elsewhere: linked worktrees, submodules, and sessions that are a
//! worktree. Commits work in them, and nothing else reaches the repository.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Ended, PATIENCE, Place, Run, Started, make_program, put, requires, within};
use crate::session::{contents, id_of, session};

pub(crate) const WHO: [(&str, &str); 4] = [
    ("GIT_AUTHOR_NAME", "a"),
    ("GIT_AUTHOR_EMAIL", "a@example.org"),
    ("GIT_COMMITTER_NAME", "a"),
    ("GIT_COMMITTER_EMAIL", "a@example.org"),
];

/// A repository with a branch `main`, and a linked worktree of it on `feature`.
pub(crate) struct Checkouts {
    pub(crate) place: Place,
    main: PathBuf,
    pub(crate) linked: PathBuf,
}

/// Git on the host, with nobody's settings.
fn git_in(place: &Place, directory: &Path, words: &[&str]) -> Result<String, String> {
    let out = Command::new("git")
        .args(["-c", "protocol.file.allow=always"])
        .args(words)
        .current_dir(directory)
        .env("HOME", place.root())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs(WHO)
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if out.status.success() { Ok(text(out.stdout)) } else { Err(text(out.stderr)) }
}

impl Checkouts {
    pub(crate) fn new() -> Self {
        let place = Place::new();
        let base = place.workspace.parent().unwrap().to_owned();
        let (main, linked) = (base.join("main"), base.join("linked"));
        fs::create_dir(&main).unwrap();
        put(&main.join("src/lib.c"), "int one(void) { return 1; }\n");
        put(&main.join("docs/guide"), "read me\n");
        put(&main.join("old"), "old\n");
        put(&main.join(".github/workflows/ci.yml"), "on: push\n");
        let made = Self { place, main, linked };
        made.git(&made.main, &["init", "-q", "-b", "main"]);
        made.git(&made.main, &["add", "-A"]);
        made.git(&made.main, &["commit", "-q", "-m", "first"]);
        made.git(&made.main, &["branch", "other"]);
        let linked = made.linked.to_str().unwrap();
        made.git(&made.main, &["worktree", "add", "-q", "-b", "feature", linked]);
        made
    }

    /// With a submodule at `sub`, whose repository is in the one around it.
    fn with_submodule() -> (Self, PathBuf) {
        let made = Self::new();
        let library = made.main.with_file_name("library");
        fs::create_dir(&library).unwrap();
        for file in ["src/lib.c", "docs/guide", "old"] {
            put(&library.join(file), "text\n");
        }
        made.git(&library, &["init", "-q", "-b", "main"]);
        made.git(&library, &["add", "-A"]);
        made.git(&library, &["commit", "-q", "-m", "first"]);
        made.git(&made.main, &["submodule", "--quiet", "add", library.to_str().unwrap(), "sub"]);
        made.git(&made.main, &["commit", "-q", "-m", "submodule"]);
        let sub = made.main.join("sub");
        made.git(&sub, &["checkout", "-q", "-b", "feature"]);
        (made, sub)
    }

    #[track_caller]
    pub(crate) fn git(&self, directory: &Path, words: &[&str]) -> String {
        git_in(&self.place, directory, words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// A run outside every session.
    fn run(&self, directory: &Path) -> Run<'_> {
        let mut run = self.place.rung(2);
        run.command.current_dir(directory).envs(WHO);
        run
    }

    fn inside(&self, name: &str) -> Run<'_> {
        let mut run = self.place.rung_with(&["run", "--session", name]);
        run.command.envs(WHO);
        run
    }

    /// The repository without what commits of this checkout may change.
    fn rest(&self) -> BTreeMap<PathBuf, String> {
        let mut all = contents(&self.main.join(".git"));
        let changes = |it: &Path| {
            let text = it.to_str().unwrap();
            ["/objects", "/worktrees", "/modules/sub/", "/refs/heads", "/logs"]
                .iter()
                .any(|part| text.contains(part))
        };
        all.retain(|path, _| !changes(path));
        all
    }
}

#[track_caller]
fn denied(ended: &Ended) -> Vec<String> {
    ended.recorded();
    let of_git = ended.outcome().denials.iter().filter(|it| it.rule == "git.repository");
    of_git.map(|it| it.object.rsplit(".git/").next().unwrap().to_owned()).collect()
}

#[test]
fn a_commit_in_a_linked_worktree_is_on_its_branch_when_the_run_has_ended() {
    let it = Checkouts::new();
    let rest = it.rest();
    let main = it.git(&it.main, &["rev-parse", "main"]);
    put(&it.linked.join("src/lib.c"), "int two(void) { return 2; }\n");
    it.run(&it.linked).words(&["git", "add", "-A"]).end().exited(0);
    let ended = it.run(&it.linked).words(&["git", "commit", "-q", "-m", "second"]).end().exited(0);
    assert_eq!(denied(&ended), [] as [&str; 0]);
    assert_eq!(it.git(&it.linked, &["log", "--format=%s", "feature"]), "second\nfirst\n");
    assert_eq!(it.git(&it.linked, &["status", "--porcelain"]), "");
    assert_eq!(it.git(&it.main, &["rev-parse", "main"]), main);
    it.git(&it.main, &["fsck", "--strict"]);
    assert_eq!(it.rest(), rest);
    // A new branch is this checkout's own as well.
    it.run(&it.linked).words(&["git", "checkout", "-q", "-b", "agent/x"]).end().exited(0);
    assert_eq!(it.git(&it.linked, &["branch", "--show-current"]), "agent/x\n");
    assert_eq!(it.git(&it.linked, &["reflog", "--format=%gs", "-1"]).lines().count(), 1);
    // The control: a level that reads reads here too, and commits nowhere.
    let mut read = it.place.rung(1);
    read.command.current_dir(&it.linked);
    let log = read.words(&["git", "log", "--format=%s"]).end().exited(0);
    assert_eq!(log.text(), "second\nfirst\n");
    assert!(fs::read_dir(it.place.state().join("sessions")).unwrap().next().is_none());
}

#[test]
fn a_commit_in_a_submodule_is_on_its_branch_when_the_run_has_ended() {
    let (it, sub) = Checkouts::with_submodule();
    let rest = it.rest();
    put(&sub.join("src/lib.c"), "changed\n");
    it.run(&sub).words(&["git", "commit", "-q", "-a", "-m", "second"]).end().exited(0);
    assert_eq!(it.git(&sub, &["log", "--format=%s"]), "second\nfirst\n");
    assert_eq!(it.git(&sub, &["status", "--porcelain"]), "");
    it.git(&sub, &["fsck", "--strict"]);
    assert_eq!(it.rest(), rest);
}

/// Z01 in a repository that lies elsewhere: what a run plants there never gets there, so git on the
/// host starts none of it.
#[test]
fn hooks_and_settings_that_a_run_plants_are_not_kept_and_never_start() {
    let it = Checkouts::new();
    let common = it.main.join(".git");
    let canary = it.main.with_file_name("canary");
    let program = it.main.with_file_name("evil");
    put(&program, &format!("#!/bin/sh\necho ran >> {}\n", canary.display()));
    make_program(&program);
    let own = "worktrees/linked";
    let at = |name: &str| common.join(name).to_str().unwrap().to_owned();
    let main = it.git(&it.main, &["rev-parse", "main"]);
    let before = contents(&common);
    let settings = format!("[core]\n\tfsmonitor = {0}\n\thooksPath = {0}\n", program.display());
    let zeros = "0".repeat(40);
    for (name, text) in [
        ("hooks/post-commit", "#!/bin/sh\ntrue\n"),
        ("config", settings.as_str()),
        ("config.worktree", settings.as_str()),
        ("worktrees/linked/config.worktree", settings.as_str()),
        ("worktrees/linked/commondir", "/tmp\n"),
        ("worktrees/linked/gitdir", "/tmp/.git\n"),
        ("info/attributes", "* filter=x\n"),
        ("packed-refs", ""),
        ("refs/heads/main", zeros.as_str()),
        ("refs/heads/other", zeros.as_str()),
        ("refs/tags/v1", zeros.as_str()),
        ("HEAD", "ref: refs/heads/other\n"),
        ("index", "DIRC"),
        ("commondir", "/tmp\n"),
    ] {
        let ended = it.run(&it.linked).probe(&["write", &at(name), text]).end().exited(0);
        assert_eq!(denied(&ended), [name], "{}", ended.err);
    }
    // The way to more objects is the one place that is held while the run lives.
    let more = it.run(&it.linked).probe(&["write", &at("objects/info/alternates"), "/tmp\n"]).end();
    assert_eq!(more.code(), libc::EROFS);
    assert_eq!(contents(&common), before, "something was kept");
    // A branch that names no commit, or one of the host's settings, is no branch.
    let odd = it.run(&it.linked).probe(&["write", &at("refs/heads/new"), "ref: config\n"]).end();
    assert_eq!(denied(&odd), ["refs/heads/new"]);
    let head =
        it.run(&it.linked).probe(&["write", &at(&format!("{own}/HEAD")), "ref: refs/heads/main\n"]);
    assert_eq!(denied(&head.end()), [format!("{own}/HEAD")]);
    assert_eq!(contents(&common), before, "something was kept");
    for words in [&["status"][..], &["commit", "-q", "--allow-empty", "-m", "by the host"]] {
        it.git(&it.linked, words);
    }
    assert!(!canary.exists(), "the host's git has started what a run planted");
    assert_eq!(it.git(&it.main, &["rev-parse", "main"]), main);
    // The control: the same words by somebody outside, and git starts it.
    put(&common.join("config"), &settings);
    // Git may fail over such settings; what matters is what it has started.
    drop(git_in(&it.place, &it.linked, &["status"]));
    assert!(canary.exists(), "the control starts nothing");
}

/// F34: a `.git` file that names somebody else's place opens nothing.
#[test]
fn a_git_file_that_names_a_place_that_does_not_point_back_opens_nothing() {
    let it = Checkouts::new();
    let secret = it.main.join(".git/config");
    // The control: where it points back, the repository can be read.
    it.run(&it.linked).probe(&["read", secret.to_str().unwrap()]).end().exited(0);
    for text in [
        format!("gitdir: {}\n", it.main.join(".git").display()),
        format!("gitdir: {}\n", it.place.home.join(".ssh").display()),
        "gitdir: ./evil\n".to_owned(),
        "no pointer\n".to_owned(),
    ] {
        fs::write(it.linked.join(".git"), &text).unwrap();
        let ended = it.run(&it.linked).probe(&["read", secret.to_str().unwrap()]).end();
        assert_eq!(ended.code(), libc::ENOENT, "{text}: {}", ended.err);
        assert!(ended.err.contains("git does not work in this run"), "{text}: {}", ended.err);
        let key = it.place.home.join(".ssh/id_ed25519");
        let ended = it.run(&it.linked).probe(&["read", key.to_str().unwrap()]).end();
        assert_eq!(ended.code(), libc::ENOENT, "{text}");
    }
    // Nor can a run write the file.
    let ended = it.run(&it.linked).probe(&["write", ".git", "gitdir: ./evil\n"]).end();
    assert_eq!(ended.code(), libc::EROFS);
}

#[test]
fn a_worktree_session_commits_on_its_own_branch_and_goes_without_a_trace() {
    let it = Checkouts::new();
    let main = contents(&it.main);
    let mut start =
        it.place.rung_with(&["session", "start", "--name", "w", "--worktree", "agent/w"]);
    start.command.current_dir(&it.main);
    let started = start.end();
    assert_eq!((started.code(), started.text().as_str()), (0, "w\n"), "{}", started.err);
    let tree = it.main.with_file_name("main.w");
    assert_eq!(it.git(&tree, &["status", "--porcelain"]), "");
    // What a checkout brings is there, protected or not.
    assert!(tree.join(".github/workflows/ci.yml").exists());
    it.inside("w").probe(&["write", "src/lib.c", "int three;\n"]).end().exited(0);
    it.inside("w").words(&["git", "commit", "-q", "-a", "-m", "by the agent"]).end().exited(0);
    let hook = it.inside("w").probe(&["write", ".github/workflows/ci.yml", "x"]).end();
    assert_eq!(hook.code(), libc::EROFS);
    assert_eq!(it.git(&it.main, &["log", "--format=%s", "agent/w"]), "by the agent\nfirst\n");
    assert_eq!(it.git(&tree, &["status", "--porcelain"]), "");
    it.git(&it.main, &["fsck", "--strict"]);
    let status = session(&it.place, &["status", "w"]);
    assert!(status.err.contains("git -C"), "{}", status.err);
    assert_eq!(session(&it.place, &["discard", "w"]).code(), 0);
    assert!(!tree.exists());
    assert_eq!(it.git(&it.main, &["worktree", "list"]).lines().count(), 2);
    // Everything but the repository is as it was, and the branch stays.
    let outside = |all: BTreeMap<PathBuf, String>| -> Vec<_> {
        all.into_iter().filter(|(path, _)| !path.starts_with(it.main.join(".git"))).collect()
    };
    assert_eq!(outside(contents(&it.main)), outside(main));
    assert_eq!(it.git(&it.main, &["log", "--format=%s", "-1", "agent/w"]), "by the agent\n");
    for branch in ["main", "release/1", "feature", "a..b"] {
        let words = ["session", "start", "--name", "no", "--worktree", branch];
        let mut start = it.place.rung_with(&words);
        start.command.current_dir(&it.main);
        let refused = start.end();
        assert_eq!(refused.code(), 125, "{branch}");
        assert!(refused.err.contains("no worktree can be on the branch"), "{}", refused.err);
        assert!(!it.main.with_file_name("main.no").exists());
    }
}

/// An agent's hour in an overlay session: it edits, builds, tests, deletes, renames and commits.
#[track_caller]
fn an_hour(it: &Checkouts, tree: &Path, acts: usize) {
    let start = ["session", "start", "--name", "s", "--level", "3"];
    let mut start = it.place.rung_with(&start);
    start.command.current_dir(tree);
    assert_eq!(start.end().code(), 0);
    let run = |words: &[&str]| it.inside("s").words(words).end().exited(0);
    let everything = || -> BTreeMap<PathBuf, String> {
        contents(&it.main).into_iter().chain(contents(tree)).collect()
    };
    let same = |expected: &BTreeMap<PathBuf, String>, when: &str| {
        let now = everything();
        let hash = |it| rung::model::Digest::plain(format!("{it:?}").as_bytes()).to_string();
        println!("{when}: tree {:.12}, expected {:.12}", hash(&now), hash(expected));
        let differs = |it: &&PathBuf| now.get(*it) != expected.get(*it);
        let all: Vec<_> = now.keys().chain(expected.keys()).filter(differs).collect();
        assert!(all.is_empty(), "{when}: {all:?}");
    };
    let status = || it.git(tree, &["--no-optional-locks", "status", "--porcelain"]);
    let before = everything();
    it.inside("s").probe(&["write", "src/lib.c", "int main(void) { return 0; }\n"]).end().exited(0);
    it.inside("s")
        .probe(&["write", "Makefile", "check: t\n\t./t\nt: src/lib.c\n\tcc -o t src/lib.c\n"])
        .end()
        .exited(0);
    run(&["make", "check"]);
    run(&["git", "rm", "-q", "old"]);
    run(&["git", "mv", "docs/guide", "docs/manual"]);
    run(&["rm", "t"]);
    run(&["git", "add", "-A"]);
    run(&["git", "commit", "-q", "-m", "second"]);
    assert_eq!(run(&["git", "log", "--format=%s"]).text(), "second\nfirst\n");
    assert_eq!(run(&["git", "status", "--porcelain"]).text(), "");
    same(&before, "before the apply");
    assert_eq!(status(), "");
    let diff = session(&it.place, &["diff", "s"]);
    assert!(
        diff.text().contains("docs/manual") && diff.text().contains("+check: t"),
        "{}",
        diff.text()
    );

    // A part of it.
    let part = session(&it.place, &["apply", "s", "src"]);
    assert_eq!(part.code(), 0, "{}", part.err);
    let mut expected = before.clone();
    let file = |text: &str| format!("100644 {}", rung::model::Digest::plain(text.as_bytes()));
    expected.insert(tree.join("src/lib.c"), file("int main(void) { return 0; }\n"));
    same(&expected, "after a part of it");
    assert_eq!(status(), " M src/lib.c\n");

    // All of it, commits too.
    let waiting = session(&it.place, &["apply", "s", "--no-input"]);
    assert_eq!(waiting.code(), 75, "{}", waiting.err);
    let all = session(&it.place, &["apply", "s", "--accept", "all"]);
    assert_eq!(all.code(), 0, "{}", all.err);
    assert_eq!(it.git(tree, &["log", "--format=%s"]), "second\nfirst\n");
    assert_eq!(status(), "");
    it.git(tree, &["fsck", "--strict"]);

    // And back, in the other order.
    let text = all.text();
    let ids = text.lines().filter_map(|it| it.split("rung session rollback ").nth(1));
    let ids: Vec<&str> = ids.map(|it| it.split('`').next().unwrap()).collect();
    assert_eq!(ids.len(), acts, "{text}");
    for id in ids.into_iter().rev().map(str::to_owned).chain([id_of(&waiting), id_of(&part)]) {
        let back = session(&it.place, &["rollback", &id]);
        assert_eq!(back.code(), 0, "{}", back.err);
    }
    same(&before, "after the rollback");
    assert_eq!(status(), "");
    assert_eq!(session(&it.place, &["discard", "s"]).code(), 0);
    same(&before, "after the discard");
}

#[test]
fn an_hour_in_an_ordinary_checkout_is_applied_and_rolled_back() {
    if requires(
        "make and cc",
        Path::new("/usr/bin/make").exists() && Path::new("/usr/bin/cc").exists(),
    ) {
        let it = Checkouts::new();
        it.git(&it.main, &["checkout", "-q", "-b", "agent/hour"]);
        an_hour(&it, &it.main, 1);
    }
}

#[test]
fn an_hour_in_a_linked_worktree_is_applied_and_rolled_back() {
    if requires(
        "make and cc",
        Path::new("/usr/bin/make").exists() && Path::new("/usr/bin/cc").exists(),
    ) {
        let it = Checkouts::new();
        an_hour(&it, &it.linked, 2);
    }
}

#[test]
fn an_hour_in_a_submodule_is_applied_and_rolled_back() {
    if requires(
        "make and cc",
        Path::new("/usr/bin/make").exists() && Path::new("/usr/bin/cc").exists(),
    ) {
        let (it, sub) = Checkouts::with_submodule();
        an_hour(&it, &sub, 2);
    }
}

/// Git starts itself, with the settings it finds, in whatever its index ties to the tree.
#[test]
fn an_index_that_ties_another_repository_to_the_tree_is_not_kept() {
    let it = Checkouts::new();
    let canary = it.main.with_file_name("canary");
    let program = it.main.with_file_name("evil");
    put(&program, &format!("#!/bin/sh\necho ran >> {}\n", canary.display()));
    make_program(&program);
    let index = it.main.join(".git/worktrees/linked/index");
    let trap = it.linked.join("trap");
    it.git(&it.linked, &["init", "-q", "trap"]);
    it.git(&trap, &["commit", "-q", "--allow-empty", "-m", "x"]);
    let settings = format!("[core]\n\tfsmonitor = {}\n", program.display());
    let config = trap.join(".git/config");
    put(&config, &(fs::read_to_string(&config).unwrap() + &settings));
    let before = fs::read(&index).unwrap();
    let ended = it.run(&it.linked).words(&["git", "add", "trap"]).end();
    assert_eq!(denied(&ended), ["worktrees/linked/index"]);
    assert_eq!(fs::read(&index).unwrap(), before);
    it.git(&it.linked, &["status"]);
    assert!(!canary.exists(), "the host's git has started what a run planted");
    // The control: somebody outside sets it, and git walks in.
    it.git(&it.linked, &["-c", "core.fsmonitor=false", "add", "trap"]);
    drop(git_in(&it.place, &it.linked, &["status"]));
    assert!(canary.exists(), "the control starts nothing");
}

/// Several agents, each in a worktree of its own, commit at once, and come to the same objects.
#[test]
fn commits_of_runs_that_end_together_are_all_kept() {
    const AGENTS: usize = 4;
    const ROUNDS: usize = 3;
    let it = Checkouts::new();
    let checkouts: Vec<PathBuf> = (0..AGENTS)
        .map(|n| {
            let checkout = it.main.with_file_name(format!("agent{n}"));
            let branch = format!("agent{n}");
            it.git(&it.main, &["worktree", "add", "-q", "-b", &branch, checkout.to_str().unwrap()]);
            checkout
        })
        .collect();
    for round in 0..ROUNDS {
        let script = format!(
            "for i in $(seq 20); do echo {round} $i > f$i; done; git add -A && git commit -qm {round}"
        );
        let started: Vec<Started> =
            checkouts.iter().map(|at| it.run(at).words(&["bash", "-c", &script]).start()).collect();
        for run in started {
            run.end(&it.place).exited(0);
        }
        for checkout in &checkouts {
            let log = it.git(checkout, &["log", "--format=%s", "-1"]);
            assert_eq!(log.trim(), round.to_string(), "{}", checkout.display());
            assert_eq!(it.git(checkout, &["status", "--porcelain"]), "");
        }
    }
    it.git(&it.main, &["fsck", "--strict"]);
}

/// A supervisor that is killed leaves the commits of its run in the layer; whatever rung does next
/// there keeps them.
#[test]
fn commits_of_a_run_whose_supervisor_was_killed_are_kept_by_the_next() {
    for next in ["run", "gc"] {
        let it = Checkouts::new();
        let rest = it.rest();
        put(&it.linked.join("src/lib.c"), "int two(void) { return 2; }\n");
        let mut run = it.place.rung(3);
        run.command.current_dir(&it.linked).envs(WHO);
        let script = "git add -A && git commit -q -m second && echo ready && sleep 60";
        let mut run = run.words(&["sh", "-c", script]).start();
        run.wait_for_line("ready");
        run.signal(nix::sys::signal::Signal::SIGKILL);
        run.child.wait().unwrap();
        // The control: the branch has not moved yet.
        assert_eq!(it.git(&it.linked, &["log", "--format=%s"]), "first\n");
        if next == "run" {
            let log = it.run(&it.linked).words(&["git", "log", "--format=%s"]).end().exited(0);
            assert_eq!(log.text(), "second\nfirst\n");
            assert!(log.err.contains("ended before its commits were kept"), "{}", log.err);
        } else {
            let ended = session(&it.place, &["gc"]);
            assert!(ended.err.contains("they are kept now"), "{}", ended.err);
        }
        assert_eq!(it.git(&it.linked, &["log", "--format=%s"]), "second\nfirst\n");
        let status = ["--no-optional-locks", "status", "--porcelain"];
        assert_eq!(it.git(&it.linked, &status), "");
        it.git(&it.main, &["fsck", "--strict"]);
        assert_eq!(it.rest(), rest);
        // Once, and it can be taken back.
        let again = it.run(&it.linked).words(&["git", "log", "--format=%s"]).end().exited(0);
        assert!(!again.err.contains("killed"), "{}", again.err);
        let acts = session(&it.place, &["show", "--acts"]).text();
        let id = acts.split_whitespace().next().unwrap();
        assert_eq!(session(&it.place, &["rollback", id]).code(), 0, "{acts}");
        assert_eq!(it.git(&it.linked, &["log", "--format=%s"]), "first\n");
        assert!(fs::read_dir(it.place.state().join("sessions")).unwrap().next().is_none());
    }
}

/// What a killed run planted is no more kept than what one that ended did.
#[test]
fn a_killed_run_cannot_smuggle_anything_into_the_repository() {
    let it = Checkouts::new();
    let before = contents(&it.main.join(".git"));
    for name in ["hooks/post-commit", "config", "refs/heads/main", "worktrees/linked/commondir"] {
        let path = it.main.join(".git").join(name);
        let words = ["hold", "write", path.to_str().unwrap(), "x"];
        let mut run = it.run(&it.linked).probe(&words).start();
        let in_layer = || {
            let layers = fs::read_dir(it.place.state().join("sessions"));
            let mut layers = layers.into_iter().flatten().map(|it| it.unwrap().path());
            layers.any(|it| fs::read(it.join("upper").join(name)).is_ok_and(|it| it == b"x"))
        };
        within(PATIENCE, "it is written", in_layer);
        run.signal(nix::sys::signal::Signal::SIGKILL);
        run.child.wait().unwrap();
        it.run(&it.linked).words(&["git", "log"]).end().exited(0);
        assert_eq!(contents(&it.main.join(".git")), before, "{name}");
    }
    assert!(fs::read_dir(it.place.state().join("sessions")).unwrap().next().is_none());
}

/// What a question says is what a run would find, although no layer is made for it.
#[test]
fn what_explain_says_of_the_repository_is_what_a_run_finds() {
    let it = Checkouts::new();
    let says = |level: &str| {
        let words = ["explain", "--level", level, "--", "git", "status"];
        let mut run = it.place.rung_with(&words);
        run.command.current_dir(&it.linked);
        let ended = run.end();
        assert_eq!(ended.code(), 0, "{}", ended.err);
        let place = format!("`{}`", it.main.join(".git").display());
        let text = ended.text();
        let line = text.lines().find(|it| it.trim_start().starts_with(&place));
        line.unwrap_or_else(|| panic!("{place} is not in {text}")).trim().to_owned()
    };
    assert!(says("2").contains(": read, write into a layer of the run's own"), "{}", says("2"));
    it.run(&it.linked).words(&["git", "commit", "-q", "--allow-empty", "-m", "x"]).end().exited(0);
    assert!(says("1").ends_with(": read"), "{}", says("1"));
    assert!(fs::read_dir(it.place.state().join("sessions")).unwrap().next().is_none());
}

/// Tags, stashes and the other half of a split index are nobody's own: a run outside every session
/// names each that is not kept, and an apply each that it refuses.
#[test]
fn what_is_not_kept_of_a_linked_worktree_is_named_one_by_one() {
    let it = Checkouts::new();
    let acts: [(&[&str], &str); 3] = [
        (&["git", "tag", "v1"], "refs/tags/v1"),
        (&["git", "stash", "push", "-q"], "refs/stash"),
        (&["git", "update-index", "--split-index"], "worktrees/linked/index"),
    ];
    for (words, name) in acts {
        put(&it.linked.join("old"), "changed\n");
        let ended = it.run(&it.linked).words(words).end();
        if ended.code() == 126 {
            // A rule of the level was before it.
            assert!(!ended.outcome().denials.is_empty());
            continue;
        }
        assert!(denied(&ended).contains(&name.to_owned()), "{words:?}: {}", ended.err);
        it.git(&it.linked, &["status", "--porcelain"]);
    }
    let mut start = it.place.rung_with(&["session", "start", "--name", "s", "--level", "2"]);
    start.command.current_dir(&it.linked);
    assert_eq!(start.end().code(), 0);
    let tag = it.inside("s").words(&["git", "tag", "v2"]).end();
    let planted = it.main.join(".git/refs/tags/v3");
    let oid = it.git(&it.main, &["rev-parse", "main"]);
    it.inside("s").probe(&["write", planted.to_str().unwrap(), &oid]).end().exited(0);
    let ended = session(&it.place, &["apply", "s", "--accept", "all"]);
    assert_eq!(ended.code(), 126, "{}", ended.err);
    for (name, made) in [("refs/tags/v2", tag.code() == 0), ("refs/tags/v3", true)] {
        assert_eq!(ended.err.contains(name), made, "{name}: {}", ended.err);
        assert!(!it.main.join(".git").join(name).exists());
    }
}

/// Between the diff and the apply somebody puts a link where a directory of the tree was.
#[test]
fn a_link_that_is_planted_in_the_tree_before_an_apply_leads_it_nowhere() {
    let it = Checkouts::new();
    let outside = it.place.outside.join("docs");
    for name in ["guide", "other"] {
        put(&outside.join(name), "outside\n");
    }
    let mut start = it.place.rung_with(&["session", "start", "--name", "s", "--level", "2"]);
    start.command.current_dir(&it.main);
    assert_eq!(start.end().code(), 0);
    it.inside("s").probe(&["write", "docs/guide", "by the session"]).end().exited(0);
    it.inside("s").probe(&["write", "docs/new", "by the session"]).end().exited(0);
    it.inside("s").words(&["cp", "old", "kept"]).end().exited(0);
    assert!(session(&it.place, &["diff", "s"]).text().contains("docs/guide"));
    fs::rename(it.main.join("docs"), it.main.join("moved")).unwrap();
    std::os::unix::fs::symlink(&outside, it.main.join("docs")).unwrap();
    let (before, tree) = (contents(&outside), contents(&it.main));
    for how in [&["--no-input"][..], &["--accept", "all"], &["--accept", "all", "--overwrite"]] {
        let ended = session(&it.place, &[&["apply", "s", "docs"], how].concat());
        assert!(!ended.err.contains("--accept \n"), "{how:?}: {}", ended.err);
        assert_eq!(contents(&outside), before, "{how:?}: something outside has changed");
        let link = fs::symlink_metadata(it.main.join("docs")).unwrap();
        assert!(link.is_symlink() || how.contains(&"--overwrite"), "{how:?}: {}", ended.err);
    }
    // The control: what lies elsewhere is applied.
    assert!(!tree.contains_key(&it.main.join("kept")));
    assert_eq!(session(&it.place, &["apply", "s", "kept"]).code(), 0);
    assert!(it.main.join("kept").exists());
    assert_eq!(contents(&outside), before);
}
