//! Files of the workspace and around it: what is protected stays as it is, what was planted
//! beforehand leads nowhere, and rung itself leaves nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rung::model::{Level, Status};

use crate::harness::{Ended, LEVELS, Place, put, tree};

/// Levels at which the workspace can be written to.
const WRITING: [u8; 2] = [2, 3];

/// Every name that the profile of the default level protects.
fn protected_names() -> Vec<String> {
    let profile = rung::profile::built_in(Level::LocalWrites).unwrap();
    let names: Vec<String> = profile.filesystem.protected.into_iter().map(|it| it.name).collect();
    assert!(names.len() > 30, "{names:?}");
    names
}

/// What is at the protected names now.
fn protected_tree(place: &Place) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for name in protected_names() {
        let path = place.workspace.join(&name);
        if fs::symlink_metadata(&path).is_ok() {
            found.extend(tree(&path));
        }
    }
    found
}

/// Steps for the probe that make something of every name, and the directories above it.
fn steps_for_all(make: impl Fn(&str) -> String) -> Vec<String> {
    let mut steps = Vec::new();
    for name in protected_names() {
        let above: Vec<&Path> = Path::new(&name).ancestors().skip(1).collect();
        for directory in above.into_iter().rev().filter(|it| *it != Path::new("")) {
            steps.push(format!("?mkdirat -100 s:{} 0o755", directory.display()));
        }
        steps.push(make(&name));
    }
    let mut words = vec!["do".to_owned()];
    words.extend(steps.join(" , ").split(' ').map(str::to_owned));
    words
}

/// Runs the steps at the writing levels: afterwards every protected name is what it was.
#[track_caller]
fn nothing_comes_of(place: impl Fn() -> Place, make: impl Fn(&str) -> String) {
    for level in WRITING {
        let place = place();
        let before = protected_tree(&place);
        let ended = place.rung(level).probe(&steps_for_all(&make)).end();
        assert!(matches!(ended.outcome().status, Status::Exited { .. }), "{}", ended.err);
        assert_eq!(protected_tree(&place), before, "at level {level}");
        ended.recorded();
    }
}

#[test]
fn a_protected_name_that_does_not_exist_cannot_be_made_a_file() {
    // The control: outside, the same steps make them all.
    let place = Place::new();
    let make = |name: &str| format!("?openat -100 s:{name} 0x41 0o644");
    place.outside_probe(&steps_for_all(make)).end();
    assert!(protected_names().iter().all(|name| place.workspace.join(name).exists()));
    nothing_comes_of(Place::new, make);
}

#[test]
fn a_protected_name_that_does_not_exist_cannot_be_made_a_directory() {
    nothing_comes_of(Place::new, |name| format!("?mkdirat -100 s:{name} 0o755"));
}

#[test]
fn a_protected_name_that_does_not_exist_cannot_be_made_a_link() {
    nothing_comes_of(Place::new, |name| format!("?symlinkat s:{{work}}/src -100 s:{name}"));
}

#[test]
fn a_protected_name_that_does_not_exist_cannot_be_another_name_of_a_file() {
    nothing_comes_of(Place::new, |name| format!("?linkat -100 s:README.md -100 s:{name} 0"));
}

#[test]
fn a_protected_name_that_does_not_exist_cannot_be_made_a_pipe() {
    nothing_comes_of(Place::new, |name| format!("?mknodat -100 s:{name} 0o10644 0"));
}

#[test]
fn nothing_can_be_renamed_to_a_protected_name() {
    let make = |name: &str| {
        format!("?openat -100 s:tmp 0x41 0o644 , ?renameat2 -100 s:tmp -100 s:{name} 0")
    };
    nothing_comes_of(Place::new, make);
}

#[test]
fn nothing_can_be_exchanged_with_a_protected_name() {
    nothing_comes_of(Place::new, |name| format!("?renameat2 -100 s:src -100 s:{name} 2"));
}

#[test]
fn a_directory_with_a_protected_name_in_it_cannot_be_moved_into_place() {
    let make = |name: &str| {
        let path = Path::new(name);
        let (above, last) = (path.parent().unwrap(), path.file_name().unwrap().to_str().unwrap());
        format!(
            "?unlinkat -100 s:{0} 0x200 , ?mkdirat -100 s:x 0o755 , ?mkdirat -100 s:x/{last} 0o755 \
             , ?renameat2 -100 s:x -100 s:{0} 0",
            above.display(),
        )
    };
    nothing_comes_of(Place::new, make);
}

#[test]
fn where_no_checkout_is_none_comes_with_hooks() {
    let without = || {
        let place = Place::new();
        fs::remove_dir_all(place.workspace.join(".git")).unwrap();
        place
    };
    nothing_comes_of(without, |name| format!("?openat -100 s:{name} 0x41 0o644"));
}

#[test]
fn where_no_checkout_is_no_pointer_to_one_is_left() {
    let words = ["write", ".git", "gitdir: src"];
    for level in WRITING {
        let place = Place::new();
        let pointer = place.workspace.join(".git");
        fs::remove_dir_all(&pointer).unwrap();
        place.outside_probe(&words).end();
        fs::remove_file(&pointer).expect("the control makes it");
        let ended = place.rung(level).probe(&words).end().exited(0);
        assert!(!pointer.exists(), "at level {level}");
        assert_eq!(ended.denial().rule, "filesystem.protected");
        ended.recorded();
    }
}

#[test]
fn what_is_protected_in_every_way_at_once_is_still_there() {
    let everything = || {
        let place = Place::new();
        for name in protected_names() {
            let path = place.workspace.join(&name);
            if fs::symlink_metadata(&path).is_err() {
                put(&path, "as it was\n");
            }
        }
        place
    };
    for make in [
        |name: &str| format!("?openat -100 s:{name} 0x201 0o644"),
        |name: &str| format!("?unlinkat -100 s:{name} 0"),
        |name: &str| format!("?unlinkat -100 s:{name} 0x200"),
        |name: &str| format!("?renameat2 -100 s:{name} -100 s:gone 0"),
        |name: &str| format!("?truncate s:{name} 0"),
        |name: &str| format!("?fchmodat -100 s:{name} 0o777"),
        |name: &str| format!("?utimensat -100 s:{name} 0 0"),
        |name: &str| format!("?setxattr s:{name} s:user.x s:x 1 0"),
    ] {
        nothing_comes_of(everything, make);
    }
}

#[test]
fn the_pointer_of_a_linked_worktree_cannot_be_rewritten() {
    for level in WRITING {
        let place = Place::new();
        fs::remove_dir_all(place.workspace.join(".git")).unwrap();
        put(&place.workspace.join(".git"), "gitdir: ../elsewhere\n");
        for steps in [
            "do openat -100 s:.git 1",
            "do renameat2 -100 s:README.md -100 s:.git 0",
            "do unlinkat -100 s:.git 0",
            "do renameat2 -100 s:.git -100 s:.g 0",
        ] {
            let words: Vec<&str> = steps.split(' ').collect();
            let ended = place.rung(level).probe(&words).end();
            assert_ne!(ended.code(), 0, "{steps}");
            let text = fs::read_to_string(place.workspace.join(".git")).unwrap();
            assert_eq!(text, "gitdir: ../elsewhere\n");
        }
    }
}

/// Known and accepted: these are ordinary names that every project may use. Git of 2022 and later
/// takes such a directory for a repository only where `safe.bareRepository` lets it.
#[test]
fn the_files_of_a_bare_repository_can_be_made() {
    let place = Place::new();
    place.rung(2).probe(&["write", "HEAD", "x"]).end().exited(0);
    assert!(place.workspace.join("HEAD").exists());
}

/// Plants something in a workspace.
type Plant = fn(&Place);

fn replace(place: &Place, name: &str) -> PathBuf {
    let path = place.workspace.join(name);
    if path.is_dir() {
        fs::remove_dir_all(&path).unwrap();
    } else if path.exists() {
        fs::remove_file(&path).unwrap();
    }
    path
}

fn pipe(path: &Path) {
    mkfifo(path, Mode::from_bits_truncate(0o644)).unwrap();
}

/// What an earlier run, or somebody else, may have left where the next run mounts.
const PLANTED: &[(&str, Plant)] = &[
    ("the checkout is a link outside", |place| {
        symlink(&place.outside, replace(place, ".git")).unwrap();
    }),
    ("the checkout is a link to the root", |place| {
        symlink("/", replace(place, ".git")).unwrap();
    }),
    ("the checkout is a link to itself", |place| {
        symlink(".git", replace(place, ".git")).unwrap();
    }),
    ("the checkout is a link to nowhere", |place| {
        symlink("/nowhere/at/all", replace(place, ".git")).unwrap();
    }),
    ("the hooks are a link outside", |place| {
        symlink(&place.outside, replace(place, ".git/hooks")).unwrap();
    }),
    ("the editor's settings are a link outside", |place| {
        symlink(&place.outside, replace(place, ".vscode")).unwrap();
    }),
    ("the shell's settings are a link to a file outside", |place| {
        symlink(place.outside.join("secret"), replace(place, ".envrc")).unwrap();
    }),
    ("the agent's settings are a link to rung's records", |place| {
        symlink(place.state(), replace(place, ".claude")).unwrap();
    }),
    ("the shell's settings are a pipe", |place| pipe(&replace(place, ".envrc"))),
    ("the checkout's settings are a pipe", |place| pipe(&replace(place, ".git/config"))),
    ("the checkout is a pipe", |place| pipe(&replace(place, ".git"))),
    ("the editor's settings are a socket", |place| {
        drop(UnixListener::bind(replace(place, ".vscode")).unwrap());
    }),
    ("the shell's settings are a directory", |place| {
        fs::create_dir(replace(place, ".envrc")).unwrap();
    }),
    ("the hooks are a file", |place| put(&replace(place, ".git/hooks"), "x")),
    ("the editor's settings are a file", |place| put(&replace(place, ".vscode"), "x")),
    ("the checkout cannot be entered", |place| {
        let mode = fs::Permissions::from_mode(0o000);
        fs::set_permissions(place.workspace.join(".git"), mode).unwrap();
    }),
    ("the checkout cannot be written", |place| {
        let mode = fs::Permissions::from_mode(0o555);
        fs::set_permissions(place.workspace.join(".git"), mode).unwrap();
    }),
    ("names are hostile to terminals and to lists", |place| {
        for name in ["a\nb", "-rf", "\u{1b}[2J", " ", "\\", "\"", "..;", "\u{202e}x"] {
            put(&place.workspace.join(name), "x");
        }
    }),
];

fn open_again(place: &Place) {
    let path = place.workspace.join(".git");
    if fs::symlink_metadata(&path).is_ok_and(|it| it.is_dir()) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Either rung refuses, or the command runs; in no case does anything happen outside.
fn stands(ended: &Ended) -> bool {
    match &ended.outcome().status {
        Status::Exited { .. } => true,
        Status::Failed { .. } => ended.code() == 125,
        _ => false,
    }
}

#[test]
fn whatever_is_planted_leads_nowhere() {
    for (what, plant) in PLANTED {
        for level in LEVELS {
            let place = Place::new();
            plant(&place);
            let before = (tree(&place.outside), tree(&place.home));
            for steps in [
                &["write", ".git/hooks/evil", "x"][..],
                &["write", ".envrc/evil", "x"],
                &["write", ".envrc", "x"],
                &["write", ".vscode/evil", "x"],
                &["write", ".claude/evil", "x"],
            ] {
                // A pipe would keep a writer waiting, and that is its own affair.
                let run = place.rung(level).option(&["--timeout", "200 ms"]).probe(steps);
                let ended = run.end();
                let waited = matches!(ended.outcome().status, Status::Limited { .. });
                assert!(waited || stands(&ended), "{what}, level {level}: {}", ended.err);
            }
            assert_eq!((tree(&place.outside), tree(&place.home)), before, "{what}, level {level}");
            open_again(&place);
        }
    }
}

#[test]
fn a_run_that_does_nothing_leaves_nothing() {
    for level in LEVELS {
        let place = Place::new();
        let before = (tree(&place.workspace), tree(&place.home), tree(&place.outside));
        place.rung(level).probe(&["exit", "0"]).end().exited(0);
        let after = (tree(&place.workspace), tree(&place.home), tree(&place.outside));
        assert_eq!(after, before, "level {level}");
    }
}

#[test]
fn at_the_lowest_level_nothing_can_be_changed() {
    let changes = [
        "openat -100 s:new 0x41 0o644",
        "openat -100 s:README.md 1",
        "mkdirat -100 s:new 0o755",
        "unlinkat -100 s:README.md 0",
        "unlinkat -100 s:.git/refs/heads 0x200",
        "renameat2 -100 s:README.md -100 s:new 0",
        "linkat -100 s:README.md -100 s:new 0",
        "symlinkat s:x -100 s:new",
        "mknodat -100 s:new 0o10644 0",
        "truncate s:README.md 0",
        "fchmodat -100 s:README.md 0o777",
        "utimensat -100 s:README.md 0 0",
        "setxattr s:README.md s:user.x s:x 1 0",
    ];
    let place = Place::new();
    let before = tree(&place.workspace);
    for change in changes {
        let words: Vec<&str> = ["do"].into_iter().chain(change.split(' ')).collect();
        let ended = place.rung(1).probe(&words).end();
        assert_ne!(ended.code(), 0, "{change}");
        ended.recorded();
    }
    assert_eq!(tree(&place.workspace), before);
    place.rung(2).probe(&["write", "new", "x"]).end().exited(0);
    assert!(place.workspace.join("new").exists());
}

#[test]
fn what_is_hidden_cannot_be_read_and_its_neighbour_can() {
    for level in LEVELS {
        let place = Place::new();
        put(&place.outside.join("shown/plain"), "plain\n");
        put(&place.outside.join("shown/secret"), "secret\n");
        put(&place.outside.join("shown/secrets/key"), "secret\n");
        let shown = place.outside.join("shown");
        let grant =
            format!("{{ path = \"{}\", because = \"a test\" }}, {{ path = ", shown.display());
        let hidden = format!("\nhidden = [\"{0}/secret\", \"{0}/secrets\"]\n", shown.display());
        let text = place.profile(1, "").replacen("{ path = ", &grant, 1);
        let text = text.replace("\n[[exec.program]]", &format!("{hidden}\n[[exec.program]]"));
        place.set_profile(1, &text);
        let read =
            |name: &str| place.rung(level).probe(&["read", shown.join(name).to_str().unwrap()]);
        read("plain").end().exited(0);
        for name in ["secret", "secrets/key"] {
            let ended = read(name).end();
            assert!([libc::EACCES, libc::ENOENT].contains(&ended.code()), "{}", ended.err);
        }
    }
}

#[test]
fn a_toolchain_is_in_the_view_without_its_credentials() {
    let place = Place::new();
    put(&place.home.join(".cargo/config.toml"), "# nothing\n");
    let cargo = |name: &str| place.home.join(".cargo").join(name).to_str().unwrap().to_owned();
    place.rung(3).probe(&["read", &cargo("config.toml")]).end().exited(0);
    for name in ["credentials.toml", "credentials"] {
        put(&place.home.join(".cargo").join(name), "token = \"secret\"\n");
        let ended = place.rung(3).probe(&["read", &cargo(name)]).end();
        assert!([libc::EACCES, libc::ENOENT].contains(&ended.code()), "{name}: {}", ended.code());
    }
    let ended = place.rung(3).probe(&["write", &cargo("config.toml"), "x"]).end();
    assert_ne!(ended.code(), 0, "the toolchain can be written to");
}

#[test]
fn a_workspace_that_was_emptied_can_be_worked_in_again() {
    let place = Place::new();
    let before = protected_tree(&place);
    place.rung(2).probe(&["deep", "."]).end().exited(0);
    let words = ["start", "fork", "/bin/rm", "-rf", "d", "src", "README.md"];
    place.rung(2).probe(&words).end().exited(0);
    let ended = place.rung(2).probe(&["empty", ".git"]).end();
    assert_ne!(ended.code(), 0, "even the hooks are gone");
    assert!(!place.workspace.join("d").exists());
    assert_eq!(protected_tree(&place), before);
    place.rung(2).probe(&["write", "new", "x"]).end().exited(0).recorded();
}
