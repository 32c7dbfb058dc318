//! Odd names, odd files and odd times in a session: each comes through the diff, the apply and the
//! rollback as it is, or is refused in words.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::harness::{Place, Run, put};
use crate::session::{contents, id_of, session};

#[track_caller]
fn started(place: &Place) {
    let ended = session(place, &["start", "--name", "s", "--level", "2"]);
    assert_eq!((ended.code(), ended.err.as_str()), (0, ""), "no overlay");
}

fn inside(place: &Place) -> Run<'_> {
    place.rung_with(&["run", "--session", "s"])
}

/// Applied, it is all there; rolled back, nothing of it is.
#[track_caller]
fn there_and_back(place: &Place, check: impl Fn()) {
    let before = contents(&place.workspace);
    for words in [&["status", "s"][..], &["diff", "s"], &["diff", "s", "--stat"]] {
        let ended = session(place, words);
        assert_eq!(ended.code(), 0, "{words:?}: {}", ended.err);
        assert!(!ended.out.contains(&0x1b), "{words:?} shows an escape");
    }
    assert_eq!(contents(&place.workspace), before);
    let applied = session(place, &["apply", "s", "--accept", "all"]);
    assert_eq!(applied.code(), 0, "{}{}", applied.text(), applied.err);
    check();
    let back = session(place, &["rollback", &id_of(&applied)]);
    assert_eq!(back.code(), 0, "{}", back.err);
    assert_eq!(contents(&place.workspace), before);
}

#[test]
fn names_of_every_kind_come_through() {
    let place = Place::new();
    started(&place);
    let long = "n".repeat(255);
    let names: [&[u8]; 8] = [
        b"a\nb",
        b"-rf",
        b"--help",
        b"a\x1b[31mred",
        b"not \xff\xfe text",
        long.as_bytes(),
        b" blanks ",
        "a\u{202e}b".as_bytes(),
    ];
    for name in names {
        let name = OsStr::from_bytes(name);
        let words = ["cp", "--", "README.md"].map(OsStr::new);
        inside(&place).words(&[&words[..], &[name]].concat()).end().exited(0);
    }
    let too_long = format!("{long}n");
    let ended = inside(&place).probe(&["write", &too_long, "text"]).end();
    assert_eq!(ended.code(), libc::ENAMETOOLONG, "the control: no name is longer");
    there_and_back(&place, || {
        for name in names {
            let path = place.workspace.join(OsStr::from_bytes(name));
            assert_eq!(fs::read(&path).unwrap(), b"# A project\n", "{}", path.display());
        }
    });
}

#[test]
fn a_tree_of_long_names_deeper_than_a_path_can_say_is_refused_in_words_and_can_be_discarded() {
    let place = Place::new();
    started(&place);
    inside(&place).probe(&["deep", "."]).end();
    for words in [&["status", "s"][..], &["diff", "s"], &["apply", "s"]] {
        let ended = session(&place, words);
        assert_eq!(ended.code(), 125, "{words:?}: {}", ended.text());
        assert!(ended.err.contains("directories in each other"), "{}", ended.err);
    }
    assert_eq!(session(&place, &["discard", "s"]).code(), 0);
}

#[test]
fn a_directory_of_the_tree_is_moved_by_copying_and_comes_through() {
    let place = Place::new();
    put(&place.workspace.join("old/a/b"), "text");
    put(&place.workspace.join("old/c"), "more");
    started(&place);
    // The kernel moves no directory that lies below; programs copy then.
    let rename = ["do", "renameat2", "-100", "s:old", "-100", "s:new", "0"];
    assert_eq!(inside(&place).probe(&rename).end().code(), libc::EXDEV);
    inside(&place).words(&["mv", "old", "new"]).end().exited(0);
    there_and_back(&place, || {
        assert!(!place.workspace.join("old").exists());
        assert_eq!(fs::read_to_string(place.workspace.join("new/a/b")).unwrap(), "text");
        assert_eq!(fs::read_to_string(place.workspace.join("new/c")).unwrap(), "more");
    });
}

#[test]
fn a_directory_made_anew_hides_what_was_in_the_old_one() {
    let place = Place::new();
    put(&place.workspace.join("d/old"), "text");
    started(&place);
    inside(&place).words(&["rm", "-r", "d"]).end().exited(0);
    inside(&place).words(&["mkdir", "d"]).end().exited(0);
    inside(&place).probe(&["write", "d/new", "x"]).end().exited(0);
    there_and_back(&place, || {
        assert!(!place.workspace.join("d/old").exists(), "it shines through");
        assert!(place.workspace.join("d/new").exists());
    });
}

/// The two names of one file become two files: an apply writes each as a whole.
#[test]
fn a_second_name_of_a_file_is_a_file_with_the_same_contents() {
    let place = Place::new();
    started(&place);
    inside(&place).words(&["ln", "README.md", "second"]).end().exited(0);
    inside(&place).probe(&["write", "second", "both"]).end().exited(0);
    there_and_back(&place, || {
        for name in ["README.md", "second"] {
            assert_eq!(fs::read_to_string(place.workspace.join(name)).unwrap(), "both", "{name}");
        }
    });
}

#[test]
fn a_file_that_is_all_holes_ends_at_the_limit_of_one_file() {
    let place = Place::new();
    started(&place);
    let grow = |bytes: &str| {
        inside(&place)
            .probe(&[
                "do",
                "openat",
                "-100",
                "s:sparse",
                "0x41",
                "0o644",
                ",",
                "ftruncate",
                "%1",
                bytes,
            ])
            .end()
    };
    let ended = grow("0x7fffffffffffffff");
    assert_eq!(
        ended.outcome().status,
        rung::model::Status::Limited { limit: "limits.file".into() }
    );
    // The control: what the profile allows is a hole like any other, and costs nothing.
    grow("0x10000000").exited(0);
    let shown = session(&place, &["diff", "s", "--stat"]);
    assert_eq!(shown.code(), 0, "{}", shown.err);
    assert!(shown.text().contains("sparse"), "{}", shown.text());
}

#[test]
fn a_lower_file_that_its_user_may_not_read_stays_what_it_is() {
    if nix::unistd::geteuid().is_root() {
        return;
    }
    let place = Place::new();
    let closed = place.workspace.join("closed");
    put(&closed, "secret");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    started(&place);
    assert_eq!(inside(&place).probe(&["read", "closed"]).end().code(), libc::EACCES);
    inside(&place).probe(&["write", "README.md", "x"]).end().exited(0);
    assert_eq!(session(&place, &["apply", "s"]).code(), 0);
    assert_eq!(fs::metadata(&closed).unwrap().mode() & 0o777, 0);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(fs::read_to_string(&closed).unwrap(), "secret");
    // Looking into it, as a comparison does, is not taken for a change of the host's.
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(session(&place, &["discard", "s"]).code(), 0);
    started(&place);
    inside(&place).words(&["mv", "README.md", "closed"]).end().exited(0);
    inside(&place).words(&["sh", "-c", "printf public > closed"]).end().exited(0);
    let applied = session(&place, &["apply", "s", "--accept", "all"]);
    assert_eq!(applied.code(), 0, "{}", applied.err);
    assert_eq!(fs::read_to_string(&closed).unwrap(), "public");
    let back = session(&place, &["rollback", &id_of(&applied)]);
    assert_eq!(back.code(), 0, "{}", back.err);
    assert_eq!(fs::metadata(&closed).unwrap().mode() & 0o777, 0);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(fs::read_to_string(&closed).unwrap(), "secret");
}

#[test]
fn a_tree_that_was_moved_or_replaced_is_named_and_left_alone() {
    let place = Place::new();
    started(&place);
    inside(&place).probe(&["write", "new", "x"]).end().exited(0);
    let elsewhere = place.outside.join("moved");
    fs::rename(&place.workspace, &elsewhere).unwrap();
    fs::create_dir(&place.workspace).unwrap();
    for words in [&["status", "s"][..], &["apply", "s"]] {
        let ended = session(&place, words);
        assert_eq!(ended.code(), 125, "{}", ended.err);
        assert!(ended.err.contains("another directory"), "{}", ended.err);
    }
    assert!(fs::read_dir(&place.workspace).unwrap().next().is_none());
    assert!(!elsewhere.join("new").exists());
    // The control: the first one is put back.
    fs::remove_dir(&place.workspace).unwrap();
    fs::rename(&elsewhere, &place.workspace).unwrap();
    assert_eq!(session(&place, &["apply", "s"]).code(), 0);
    assert!(place.workspace.join("new").exists());
}

/// Z13: what a run says about the time of a file does not make a build outside believe that it is
/// the old one.
#[test]
fn a_changed_file_is_never_older_than_what_it_replaces() {
    let place = Place::new();
    let readme = place.workspace.join("README.md");
    let hour = Duration::from_secs(3600);
    // The place was made just now.
    let now = fs::metadata(&place.home).unwrap().modified().unwrap();
    let old = now - hour;
    fs::File::open(&readme).unwrap().set_modified(old).unwrap();
    started(&place);
    inside(&place).probe(&["write", "README.md", "changed"]).end().exited(0);
    inside(&place).words(&["touch", "-d", "2001-01-01", "README.md"]).end().exited(0);
    inside(&place).probe(&["write", "new", "x"]).end().exited(0);
    inside(&place).words(&["touch", "-d", "2099-01-01", "new"]).end().exited(0);
    let upper = place.state().join("sessions/s/upper");
    let time = |path: &Path| fs::metadata(path).unwrap().modified().unwrap();
    assert!(time(&upper.join("README.md")) < old, "the control: the run has set the time");
    let applied = session(&place, &["apply", "s"]);
    assert_eq!(applied.code(), 0, "{}", applied.err);
    assert!(time(&readme) > old + hour / 2, "it looks older than what it replaced");
    assert!(time(&place.workspace.join("new")) < now + hour, "it is of the future");
    // What was there comes back with its time.
    assert_eq!(session(&place, &["rollback", &id_of(&applied)]).code(), 0);
    assert_eq!(time(&readme), old);
}

/// Z14: a lock that a run holds is one on the session's own copy, and none outlives the run.
#[test]
fn a_lock_of_a_run_holds_nobody_up_outside() {
    let place = Place::new();
    let locks = |inside: Run<'_>, name: &str| -> (bool, bool) {
        let open = format!("s:{name}");
        let words = ["hold", "do", "openat", "-100", &open, "2", ",", "flock", "%1", "2"];
        let mut running = inside.probe(&words).start();
        running.wait_for_line("ready");
        let file = fs::File::open(place.workspace.join(name)).unwrap();
        let free = |file: &fs::File| file.try_lock().is_ok();
        let during = free(&file);
        running.signal(nix::sys::signal::Signal::SIGTERM);
        running.end(&place);
        file.unlock().unwrap();
        (during, free(&file))
    };
    started(&place);
    assert_eq!(locks(inside(&place), "README.md"), (true, true));
    // The control: in the tree itself it is the same file, until the run has ended.
    assert_eq!(locks(place.rung(2), "README.md"), (false, true));
}

/// Files that are no text, too: changed, new, gone.
#[test]
fn a_patch_with_binary_files_is_one_that_git_applies() {
    let place = Place::new();
    fs::remove_dir_all(place.workspace.join(".git")).unwrap();
    let git = |directory: &Path, words: &[&str]| {
        let out = Command::new("git").args(words).current_dir(directory).output().unwrap();
        assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
    };
    git(&place.workspace, &["init", "-q"]);
    let large: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    for name in ["changed", "gone", "emptied"] {
        fs::write(place.workspace.join(name), &large).unwrap();
    }
    started(&place);
    inside(&place).words(&["rm", "gone"]).end().exited(0);
    inside(&place).probe(&["empty", "emptied"]).end().exited(0);
    inside(&place).words(&["touch", "emptied"]).end().exited(0);
    inside(&place).words(&["cp", "changed", "new"]).end().exited(0);
    inside(&place).words(&["sed", "-i", "1s/^/\\x00\\xff/", "changed"]).end().exited(0);
    let copy = place.outside.join("copy");
    assert!(
        Command::new("cp").arg("-a").arg(&place.workspace).arg(&copy).status().unwrap().success()
    );
    let patch = session(&place, &["diff", "s", "--patch"]);
    assert_eq!((patch.code(), patch.err.as_str()), (0, ""));
    let file = place.outside.join("session.patch");
    fs::write(&file, &patch.out).unwrap();
    git(&copy, &["apply", file.to_str().unwrap()]);
    assert_eq!(session(&place, &["apply", "s", "--accept", "all"]).code(), 0);
    for name in ["changed", "new", "emptied"] {
        let (ours, theirs) = (fs::read(place.workspace.join(name)), fs::read(copy.join(name)));
        assert!(ours.unwrap() == theirs.unwrap(), "{name} differs");
    }
    assert!(!copy.join("gone").exists());
    // And back, by the other half of it.
    git(&copy, &["apply", "-R", file.to_str().unwrap()]);
    assert!(fs::read(copy.join("gone")).unwrap() == large);
    assert!(fs::read(copy.join("changed")).unwrap() == large);
}
