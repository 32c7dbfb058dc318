//! What a session may hold: counted without root, named when it is too much, and nothing runs in it
//! before somebody has made room.

use std::fs;

use rung::model::{Layer, Status};

use crate::harness::{Ended, Place, Run};
use crate::session::{contents, session};

fn place_with(limits: &str) -> Place {
    let place = Place::new();
    place.set_profile(2, &place.profile(2, &format!("limits = {{ {limits} }}")));
    place
}

#[track_caller]
fn started(place: &Place) {
    let ended = session(place, &["start", "--name", "s", "--level", "2"]);
    assert_eq!(ended.code(), 0, "{}", ended.err);
}

fn inside(place: &Place) -> Run<'_> {
    place.rung_with(&["run", "--session", "s"])
}

/// Ended by the limit while it ran, and everybody says so.
#[track_caller]
fn stopped_by(ended: &Ended, limit: &str) {
    let outcome = ended.outcome();
    assert_eq!(outcome.status, Status::Limited { limit: limit.to_owned() }, "{}", ended.err);
    let denial = ended.denial();
    assert_eq!((denial.layer, denial.rule.as_str()), (Layer::Limit, limit));
    assert!(ended.err.contains(limit), "{}", ended.err);
    ended.recorded();
}

/// Nothing runs, and the way out is named.
#[track_caller]
fn refused_by(ended: &Ended, limit: &str) {
    assert_eq!(ended.outcome().status, Status::Refused, "{}", ended.err);
    assert_eq!(ended.code(), 126);
    let denial = ended.denial();
    assert_eq!((denial.layer, denial.rule.as_str()), (Layer::Limit, limit));
    assert!(denial.next.contains("rung session discard s"), "{}", denial.next);
    ended.recorded();
}

#[test]
fn a_run_that_fills_its_session_is_ended_and_the_next_one_refused() {
    let place = place_with("session = \"4 MiB\", wall = \"20 s\"");
    started(&place);
    let ended = inside(&place).probe(&["hold", "fill", "large", "8"]).end();
    stopped_by(&ended, "limits.session");
    refused_by(&inside(&place).probe(&["exit", "0"]).end(), "limits.session");
    // What is worth keeping can still be had, and the rest goes.
    assert!(!place.workspace.join("large").exists());
    let shown = session(&place, &["show", "s"]).text();
    assert!(shown.contains(" of 4 MiB, in "), "{shown}");
    assert_eq!(session(&place, &["apply", "s", "--accept", "all"]).code(), 0);
    assert_eq!(fs::metadata(place.workspace.join("large")).unwrap().len(), 8 << 20);
    assert_eq!(session(&place, &["discard", "s"]).code(), 0);
    started(&place);
    inside(&place).probe(&["exit", "0"]).end().exited(0);
    // The control: in the tree itself nothing counts.
    place.rung(2).probe(&["fill", "other", "8"]).end().exited(0);
}

#[test]
fn a_run_that_was_too_short_to_be_counted_is_told_at_its_end() {
    let place = place_with("session = \"4 MiB\"");
    started(&place);
    let ended = inside(&place).probe(&["fill", "large", "8"]).end();
    assert!([0, 124].contains(&ended.code()), "{}", ended.err);
    assert_eq!(ended.denial().rule, "limits.session");
    let used = ended.outcome().layer.unwrap();
    assert!(used.bytes.0 >= 8 << 20 && used.bytes_max.0 == 4 << 20, "{used:?}");
    ended.recorded();
    refused_by(&inside(&place).probe(&["exit", "0"]).end(), "limits.session");
}

/// What a layer of a cache holds may be thrown away; what a person has in a session may not.
#[test]
fn a_session_that_is_called_like_the_layer_of_a_cache_is_none() {
    let place = place_with("session = \"4 MiB\"");
    assert_eq!(session(&place, &["start", "--name", "cache-s", "--level", "2"]).code(), 0);
    let inside = || place.rung_with(&["run", "--session", "cache-s"]);
    let ended = inside().probe(&["fill", "large", "8"]).end();
    assert_eq!(ended.denial().rule, "limits.session");
    let ended = inside().probe(&["exit", "0"]).end();
    let denial = ended.denial();
    assert_eq!(denial.rule, "limits.session");
    assert!(denial.next.contains("rung session discard cache-s"), "{}", denial.next);
    assert_eq!(session(&place, &["apply", "cache-s", "--accept", "all"]).code(), 0);
    assert_eq!(fs::metadata(place.workspace.join("large")).unwrap().len(), 8 << 20);
}

#[test]
fn below_the_limits_nothing_is_said_and_the_use_is_reported() {
    let place = place_with("session = \"4 MiB\", session_files = 10");
    started(&place);
    for _ in 0..3 {
        let ended = inside(&place).probe(&["fill", "same", "2"]).end().exited(0);
        assert_eq!(ended.outcome().denials, []);
        let used = ended.outcome().layer.unwrap();
        assert!((2 << 20..4 << 20).contains(&used.bytes.0), "{used:?}");
        assert_eq!((used.files.0, used.files_max.0), (1, 10), "{used:?}");
    }
    let outside = place.rung(2).probe(&["exit", "0"]).end().exited(0);
    assert_eq!(outside.outcome().layer, None);
}

#[test]
fn files_without_contents_count_and_so_do_deletions() {
    let place = place_with("session_files = 100, wall = \"20 s\"");
    started(&place);
    fs::create_dir(place.workspace.join("many")).unwrap();
    let ended = inside(&place).probe(&["hold", "populate", "many"]).end();
    stopped_by(&ended, "limits.session_files");
    refused_by(&inside(&place).probe(&["exit", "0"]).end(), "limits.session_files");
    assert!(fs::read_dir(place.workspace.join("many")).unwrap().next().is_none());
}

#[test]
fn a_disposable_run_is_bounded_as_well() {
    let place = place_with("session = \"4 MiB\", wall = \"20 s\"");
    let run = place.rung(2).option(&["--discard"]);
    let ended = run.probe(&["hold", "fill", "large", "8"]).end();
    stopped_by(&ended, "limits.session");
    assert!(fs::read_dir(place.state().join("sessions")).unwrap().next().is_none());
}

/// What nobody could follow, or show, is no place to hide something in.
#[test]
fn what_is_nested_deeper_than_rung_follows_is_named() {
    let place = place_with("wall = \"20 s\"");
    started(&place);
    let ended = inside(&place).probe(&["hold", "deep", "."]).end();
    stopped_by(&ended, "limits.session");
    assert!(ended.denial().reason.contains("nested deeper"), "{}", ended.denial().reason);
    assert_eq!(session(&place, &["discard", "s"]).code(), 0);
}

#[test]
fn what_a_run_closes_to_itself_is_counted_at_its_end() {
    let place = place_with("session = \"4 MiB\"");
    started(&place);
    inside(&place).words(&["mkdir", "closed"]).end().exited(0);
    let before = inside(&place).probe(&["fill", "closed/a", "3"]).end().exited(0);
    assert_eq!(before.outcome().denials, []);
    let chmod = ["do", "fchmodat", "-100", "s:closed", "0"];
    inside(&place).probe(&chmod).end().exited(0);
    let ended = inside(&place).probe(&["fill", "b", "3"]).end();
    assert_eq!(ended.denial().rule, "limits.session", "{:?}", ended.outcome());
    refused_by(&inside(&place).probe(&["exit", "0"]).end(), "limits.session");
}

/// A supervisor that was killed has counted nothing, so the next run does.
#[test]
fn what_a_killed_supervisor_did_not_count_is_counted_by_the_next() {
    let place = place_with("session = \"4 MiB\"");
    started(&place);
    inside(&place).probe(&["fill", "a", "1"]).end().exited(0);
    let used = place.state().join("sessions/s/used.json");
    assert!(used.exists(), "the control: a run that ends remembers");
    fs::remove_file(&used).unwrap();
    fs::write(place.state().join("sessions/s/upper/large"), vec![b'x'; 8 << 20]).unwrap();
    refused_by(&inside(&place).probe(&["exit", "0"]).end(), "limits.session");
}

#[test]
fn single_paths_of_a_full_session_are_dropped_and_it_runs_again() {
    let place = place_with("session = \"4 MiB\"");
    started(&place);
    inside(&place).probe(&["write", "kept", "text"]).end().exited(0);
    inside(&place).words(&["mkdir", "-p", "build/deep"]).end().exited(0);
    inside(&place).probe(&["fill", "build/deep/large", "8"]).end();
    let refused = inside(&place).probe(&["exit", "0"]).end();
    refused_by(&refused, "limits.session");
    assert!(refused.denial().next.contains("rung session discard s PATH"));
    let dropped = session(&place, &["discard", "s", "build"]);
    assert_eq!((dropped.code(), dropped.text().as_str()), (0, "build\n"), "{}", dropped.err);
    inside(&place).probe(&["read", "kept"]).end().exited(0);
    let gone = inside(&place).probe(&["read", "build/deep/large"]).end();
    assert_eq!(gone.code(), libc::ENOENT);
    assert_eq!(session(&place, &["status", "s"]).text(), "A kept\n");
}

#[test]
fn what_is_dropped_shows_the_tree_again() {
    let place = place_with("");
    let before = contents(&place.workspace);
    let put = |name: &str| {
        crate::harness::put(&place.workspace.join(name), &format!("{name} as it was\n"));
    };
    for name in ["edited", "gone", "old", "anew/one", "anew/two", "other"] {
        put(name);
    }
    let tree = contents(&place.workspace);
    assert_ne!(before, tree);
    started(&place);
    let run = |words: &[&str]| inside(&place).words(words).end().exited(0);
    for name in ["edited", "other"] {
        run(&["sed", "-i", "s/was/is/", name]);
    }
    run(&["rm", "-r", "gone", "anew"]);
    run(&["mkdir", "anew"]);
    run(&["mv", "old", "new"]);
    let status = || session(&place, &["status", "s"]).text();
    inside(&place).probe(&["write", "anew/three", "x"]).end().exited(0);
    // What was made anew hides what lay below it, so a part of that cannot come back alone.
    let part = session(&place, &["discard", "s", "edited", "anew/one"]);
    assert_eq!(part.code(), 125, "{}", part.text());
    assert!(part.err.contains("drop `anew` as a whole"), "{}", part.err);
    assert!(status().contains("M edited"), "something was dropped: {}", status());
    // A file that is new in it can.
    assert_eq!(session(&place, &["discard", "s", "anew/three"]).code(), 0);
    // The old name and the new one of a file are one change.
    for path in ["edited", "gone", "anew", "new"] {
        let ended = session(&place, &["discard", "s", path]);
        assert_eq!(ended.code(), 0, "{path}: {}", ended.err);
    }
    assert_eq!(status(), "M other\n");
    for name in ["edited", "gone", "old", "anew/one", "anew/two"] {
        inside(&place).probe(&["read", name]).end().exited(0);
    }
    let nothing = session(&place, &["discard", "s", "edited"]);
    assert_eq!(nothing.code(), 1, "{}", nothing.err);
    let outside = session(&place, &["discard", "s", "../work"]);
    assert_eq!(outside.code(), 2, "{}", outside.err);
    assert_eq!(contents(&place.workspace), tree);
    let records = place.records();
    let acts = records.iter().filter(|it| it["kind"] == "session" && it["act"] == "discard");
    assert_eq!(acts.count(), 5);
    assert_eq!(session(&place, &["discard", "s"]).code(), 0);
}

/// A run can plant nothing that leads the removal elsewhere.
#[test]
fn what_is_dropped_is_the_sessions_own_whatever_a_run_made_there() {
    let place = place_with("");
    started(&place);
    let outside = contents(&place.outside);
    std::os::unix::fs::symlink(&place.outside, place.workspace.join("link")).unwrap();
    let tree = contents(&place.workspace);
    let link = ["do", "symlinkat", &format!("s:{}", place.outside.display()), "-100", "s:planted"];
    inside(&place).probe(&link).end().exited(0);
    for path in ["planted/secret", "link/secret", "planted"] {
        session(&place, &["discard", "s", path]);
    }
    assert_eq!((contents(&place.outside), contents(&place.workspace)), (outside, tree));
    assert_eq!(session(&place, &["status", "s"]).text(), "nothing has changed\n");
}
