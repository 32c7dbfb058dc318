//! Limits: each one ends what goes beyond it, is named, and leaves the host alone.

use std::time::{Duration, Instant};

use rung::model::{Layer, Status};

use crate::harness::{Ended, Place, processes_with};

/// Time that a test gives rung beyond the limit it tests.
const SLACK: Duration = Duration::from_secs(10);

fn place_with(level: u8, more: &str) -> Place {
    let place = Place::new();
    place.set_profile(level, &place.profile(level, more));
    place
}

/// Ended by this limit, and everybody says so.
#[track_caller]
fn stopped_by(ended: &Ended, limit: &str) {
    let outcome = ended.outcome();
    assert_eq!(outcome.status, Status::Limited { limit: limit.to_owned() }, "{}", ended.err);
    assert_eq!(ended.code(), 124);
    let denial = ended.denial();
    assert_eq!((denial.layer, denial.rule.as_str()), (Layer::Limit, limit));
    assert!(ended.err.contains(limit), "{}", ended.err);
    ended.recorded();
}

#[track_caller]
fn nothing_is_left(place: &Place) {
    assert_eq!(processes_with(place.root().to_str().unwrap()), Vec::<String>::new());
}

#[test]
fn a_command_that_ends_when_asked_to_gets_the_time_for_it() {
    let place = Place::new();
    let run = place.rung(1).option(&["--timeout", "300 ms"]);
    let ended = run.probe(&["expect", "15"]).end();
    stopped_by(&ended, "limits.wall");
    assert_eq!(ended.text(), "ready\nsignal 15\n");
}

#[test]
fn a_command_that_does_not_end_when_asked_to_is_killed() {
    for words in [&["ignore"][..], &["raise", "19"], &["linger", "late-exit"]] {
        let place = place_with(1, "limits = { grace = \"200 ms\" }");
        let started = Instant::now();
        let ended = place.rung(1).option(&["--timeout", "200 ms"]).probe(words).end();
        stopped_by(&ended, "limits.wall");
        assert!(started.elapsed() < SLACK);
        nothing_is_left(&place);
    }
}

#[test]
fn memory_ends_at_the_limit() {
    let place = place_with(1, "limits = { memory = \"64 MiB\" }");
    let ended = place.rung(1).probe(&["occupy", "400"]).end();
    stopped_by(&ended, "limits.memory");
    nothing_is_left(&place);
}

#[test]
fn memory_below_the_limit_is_free() {
    let place = place_with(1, "limits = { memory = \"400 MiB\" }");
    let run = place.rung(1).option(&["--timeout", "1 s"]);
    let ended = run.probe(&["occupy", "100"]).end();
    stopped_by(&ended, "limits.wall");
    assert!(ended.text().contains("occupied"));
}

#[test]
fn a_fork_bomb_stops_at_the_limit() {
    let place = place_with(1, "limits = { processes = 50 }");
    let ended = place.rung(1).probe(&["fork", "20000"]).end();
    let made: usize = ended.text().trim().parse().unwrap_or(0);
    if nix::unistd::geteuid().is_root() {
        assert!(ended.code() == 124 || made < 20_000, "{made}: {}", ended.err);
    } else {
        let ended = ended.exited(u8::try_from(libc::EAGAIN).unwrap());
        assert!((10..50).contains(&made), "{made}");
        ended.recorded();
    }
    nothing_is_left(&place);
}

#[test]
fn threads_count_as_processes() {
    if nix::unistd::geteuid().is_root() {
        return;
    }
    let place = place_with(1, "limits = { processes = 50 }");
    let ended = place.rung(1).probe(&["threads", "1000"]).end();
    let ended = ended.exited(u8::try_from(libc::EAGAIN).unwrap());
    let made: usize = ended.text().trim().parse().unwrap();
    assert!((10..50).contains(&made), "{made}");
}

#[test]
fn a_file_stops_growing_at_the_limit() {
    let place = place_with(2, "limits = { file = \"1 MiB\" }");
    let ended = place.rung(2).probe(&["fill", "large", "8"]).end();
    stopped_by(&ended, "limits.file");
    let length = std::fs::metadata(place.workspace.join("large")).unwrap().len();
    assert_eq!(length, 1 << 20);
}

#[test]
fn files_stop_opening_at_the_limit() {
    let place = place_with(1, "limits = { open_files = 64 }");
    let ended = place.rung(1).probe(&["open"]).end();
    let ended = ended.exited(u8::try_from(libc::EMFILE).unwrap());
    let opened: usize = ended.text().trim().parse().unwrap();
    assert!((32..64).contains(&opened), "{opened}");
    ended.recorded();
}

#[test]
fn a_full_tmp_is_the_commands_own_affair() {
    let tmp = "filesystem = { tmp = { size = \"1 MiB\", files = 100 } }";
    let place = Place::new();
    let text = place.profile(2, tmp);
    place.set_profile(2, &text);
    let enospc = u8::try_from(libc::ENOSPC).unwrap();
    for directory in ["/tmp", "/dev/shm", place.home.to_str().unwrap()] {
        let file = format!("{directory}/x");
        place.rung(2).probe(&["fill", &file, "8"]).end().exited(enospc).recorded();
        place.rung(2).probe(&["populate", directory]).end().exited(enospc).recorded();
    }
}

#[test]
fn a_limit_can_be_tightened_by_the_caller_and_not_widened() {
    let place = place_with(1, "limits = { wall = \"300 ms\", grace = \"100 ms\" }");
    let ended = place.rung(1).option(&["--timeout", "1 h"]).probe(&["wait"]).end();
    stopped_by(&ended, "limits.wall");
}
