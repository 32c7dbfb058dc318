//! The attempts at protected names, made inside an overlay session: whatever they do to the layer,
//! the tree is not touched while the run lives, and no apply brings them there.
//!
//! Each has three arms as well. *Control*: the same act outside changes the tree. *Held*: after the
//! run the tree is what it was, and after an apply of everything that needs no answer, and again of
//! everything that anybody could agree to, what is protected is. *Recorded*: the run is in the ledger.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::harness::{Place, tree};
use crate::session::{contents, session};

struct Row {
    id: &'static str,
    /// What the probe is told, one run after the other.
    acts: &'static [&'static str],
    /// Names that no apply may bring or change; those of the whole tree that are protected are
    /// always looked at.
    names: &'static [&'static str],
    setup: fn(&Place),
    /// What shows outside that the control has worked: something in the tree, or beside it.
    changes: bool,
}

/// Of the tree: what a profile protects from level 2 on.
const PROTECTED: [&str; 9] = [
    ".git/hooks",
    ".git/config",
    ".git/config.worktree",
    ".git/info",
    ".vscode",
    ".envrc",
    ".claude",
    "CLAUDE.md",
    ".git/commondir",
];

const fn row(id: &'static str, acts: &'static [&'static str]) -> Row {
    Row { id, acts, names: &[], setup: |_| {}, changes: true }
}

fn link_to_root(place: &Place) {
    symlink("/", place.workspace.join("root")).unwrap();
}

fn protected(place: &Place, row: &Row) -> BTreeMap<PathBuf, String> {
    let mut all = contents(&place.workspace);
    let is = |path: &PathBuf| {
        let inside = path.strip_prefix(&place.workspace).unwrap();
        PROTECTED.iter().chain(row.names).any(|it| inside.starts_with(it))
    };
    all.retain(|path, _| is(path));
    all
}

fn run_all(place: &Place, row: &Row, inside: bool) {
    for act in row.acts {
        let words: Vec<String> = act.split_ascii_whitespace().map(|it| place.fill_in(it)).collect();
        if inside {
            place.rung_with(&["run", "--session", "s"]).probe(&words).end().recorded();
        } else {
            place.outside_probe(&words).end();
        }
    }
}

#[track_caller]
fn check(row: &Row) {
    let control = Place::new();
    (row.setup)(&control);
    let before = (contents(&control.workspace), tree(&control.outside));
    run_all(&control, row, false);
    let changed = before != (contents(&control.workspace), tree(&control.outside));
    assert_eq!(changed, row.changes, "{}: the control", row.id);

    let place = Place::new();
    (row.setup)(&place);
    let started = session(&place, &["start", "--name", "s", "--level", "2"]);
    assert_eq!((started.code(), started.err.as_str()), (0, ""), "{}", row.id);
    let (before, guarded) = (contents(&place.workspace), protected(&place, row));
    let outside = tree(&place.outside);
    run_all(&place, row, true);
    assert_eq!(contents(&place.workspace), before, "{}: a run has changed the tree", row.id);
    for agreed in [&["--no-input"][..], &["--accept", "all", "--overwrite"]] {
        session(&place, &[&["apply", "s"], agreed].concat());
        let now = protected(&place, row);
        let mut names =
            now.keys().chain(guarded.keys()).filter(|it| now.get(*it) != guarded.get(*it));
        assert_eq!(names.next(), None, "{}: an apply with {agreed:?} has changed it", row.id);
        if row.names.contains(&"HEAD") {
            // What somebody may agree to is there once somebody has.
            break;
        }
    }
    assert_eq!(tree(&place.outside), outside, "{}: something beside the tree has changed", row.id);
    assert!(!fs::symlink_metadata(place.workspace.join(".git")).unwrap().is_symlink());
}

macro_rules! rows {
    ($($name:ident: $row:expr;)*) => {
        const ALL: &[Row] = &[$($row),*];
        $(
            #[test]
            fn $name() {
                check(&$row);
            }
        )*
    };
}

rows! {
    a_link_does_not_lead_a_write_outside: Row { setup: link_to_root, ..row("F07", &["write {work}/root/{out}/new x"]) };
    a_link_in_place_of_a_protected_directory_is_not_followed: row("F08", &["do symlinkat s:{out} -100 s:.claude", "write .claude/new x"]);
    a_protected_directory_is_not_renamed_from_above: row("F09", &["do renameat2 -100 s:.git -100 s:.g 0", "do mkdirat -100 s:.git 0o755", "do mkdirat -100 s:.git/hooks 0o755", "write .git/hooks/pre-commit x"]);
    a_protected_directory_is_not_renamed: row("F09b", &["do renameat2 -100 s:.git/hooks -100 s:.git/h 0"]);
    a_protected_directory_is_not_exchanged_from_above: row("F10", &["do renameat2 -100 s:.git -100 s:src 2"]);
    a_protected_directory_is_not_exchanged: row("F10b", &["do renameat2 -100 s:.git/hooks -100 s:src 2"]);
    a_protected_file_is_not_replaced: row("F11", &["do renameat2 -100 s:README.md -100 s:.git/config 0"]);
    a_hook_is_not_written: row("F12", &["write .git/hooks/pre-commit x"]);
    a_hook_is_not_added: row("F12b", &["write .git/hooks/post-checkout x"]);
    the_settings_of_the_checkout_are_not_written: row("F12c", &["write .git/config x"]);
    settings_of_the_worktree_are_not_made: row("F12d", &["write .git/config.worktree x"]);
    an_agents_settings_are_not_made: row("F12e", &["do mkdirat -100 s:.claude 0o755", "write .claude/settings.json x"]);
    the_editors_tasks_are_not_made: row("F12f", &["write .vscode/tasks.json x"]);
    the_shells_settings_are_not_made: row("F12g", &["write .envrc x"]);
    another_case_of_a_protected_name_is_not_made: Row { names: &[".GIT", ".Claude", ".ENVRC"], ..row("F13", &["do mkdirat -100 s:.GIT 0o755", "write .GIT/config x", "do mkdirat -100 s:.Claude 0o755", "write .Claude/settings.json x", "write .ENVRC x"]) };
    a_hook_is_not_made_by_another_spelling: row("F14", &["write {work}/src/../.git//hooks/./pre-push x"]);
    a_hook_is_not_made_by_another_name_of_the_process: row("F14b", &["write /proc/self/cwd/.git/hooks/pre-push x"]);
    the_checkout_is_not_pointed_elsewhere: Row { names: &[".git/HEAD"], ..row("F34", &["do renameat2 -100 s:.git -100 s:.g 0", "write .git gitdir:/tmp/evil"]) };
    a_bare_repository_in_the_tree_waits_for_an_answer: Row { names: &["HEAD"], ..row("F35", &["write HEAD x", "write config x", "do mkdirat -100 s:objects 0o755", "do mkdirat -100 s:refs 0o755"]) };
}

#[test]
fn every_row_has_a_number_of_its_own() {
    let mut ids: Vec<&str> = ALL.iter().map(|it| it.id).collect();
    println!("attempts in a session {}, residuals 0", ids.len());
    ids.sort_unstable();
    assert!(ids.windows(2).all(|it| it[0] != it[1]), "{ids:?}");
}
