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
    let run = place.rung(1).option(&["--timeout", "5 s"]);
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
        stopped_short(&ended, libc::EAGAIN, "limits.processes");
        assert!((10..50).contains(&made), "{made}");
        ended.recorded();
    }
    nothing_is_left(&place);
}

/// The kernel said no with this error; whether anybody saw it depends on when rung looked.
#[track_caller]
fn stopped_short(ended: &Ended, errno: i32, limit: &str) {
    let own = Status::Exited { code: u8::try_from(errno).unwrap() };
    let seen = Status::Limited { limit: limit.to_owned() };
    let status = &ended.outcome().status;
    assert!(*status == own || *status == seen, "{status:?}: {}", ended.err);
}

#[test]
fn threads_count_as_processes() {
    if nix::unistd::geteuid().is_root() {
        return;
    }
    let place = place_with(1, "limits = { processes = 50 }");
    let ended = place.rung(1).probe(&["threads", "1000"]).end();
    stopped_short(&ended, libc::EAGAIN, "limits.processes");
    let made: usize = ended.text().trim().parse().unwrap();
    assert!((10..50).contains(&made), "{made}");
}

/// What one of rung's looks finds is named, whatever ended the run.
#[track_caller]
fn named_when_seen(act: &[&str], more: &str, limit: &str) {
    let place = place_with(1, more);
    let words: Vec<&str> = ["hold"].iter().chain(act).copied().collect();
    let ended = place.rung(1).option(&["--timeout", "1 s"]).probe(&words).end();
    let denial = ended.outcome().denials.iter().find(|it| it.rule == limit);
    let denial = denial.unwrap_or_else(|| panic!("{:?}", ended.outcome().denials));
    assert!(denial.reason.contains("which is the limit"), "{}", denial.reason);
    ended.recorded();
}

#[test]
fn processes_and_threads_at_the_limit_are_named() {
    // Without a cgroup the kernel does not keep this limit for root: rung does, and ends the run.
    if nix::unistd::geteuid().is_root() {
        return;
    }
    let limits = "limits = { processes = 50 }";
    named_when_seen(&["fork", "1000"], limits, "limits.processes");
    named_when_seen(&["threads", "1000"], limits, "limits.processes");
}

#[test]
fn open_files_at_the_limit_are_named() {
    named_when_seen(&["hoard"], "limits = { open_files = 64 }", "limits.open_files");
}

#[test]
fn below_the_limits_nothing_is_named() {
    let limits = "limits = { processes = 50, open_files = 64 }";
    let place = place_with(1, limits);
    let run = place.rung(1).option(&["--timeout", "1 s"]);
    let ended = run.probe(&["hold", "fork", "20"]).end();
    stopped_by(&ended, "limits.wall");
    assert_eq!(ended.outcome().denials.len(), 1, "{:?}", ended.outcome().denials);
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
    stopped_short(&ended, libc::EMFILE, "limits.open_files");
    let opened: usize = ended.text().trim().parse().unwrap();
    assert!((32..64).contains(&opened), "{opened}");
    ended.recorded();
}

/// The private places, each with what fills it.
fn small_tmp() -> (Place, Vec<(String, [String; 2])>) {
    let place = place_with(2, "filesystem = { tmp = { size = \"1 MiB\", files = 100 } }");
    let home = place.home.to_str().unwrap().to_owned();
    let ways = ["/tmp".to_owned(), "/dev/shm".to_owned(), home].map(|directory| {
        let file = format!("{directory}/x");
        (directory, [file, "8".to_owned()])
    });
    (place, ways.to_vec())
}

#[test]
fn a_full_tmp_is_named_by_its_limit() {
    let (place, ways) = small_tmp();
    for (directory, [file, mebibytes]) in &ways {
        for (act, limit) in [
            (&["fill", file, mebibytes][..], "filesystem.tmp.size"),
            (&["populate", directory], "filesystem.tmp.files"),
        ] {
            let ended = place.rung(2).probe(act).end();
            stopped_by(&ended, limit);
            let reason = &ended.denial().reason;
            assert!(reason.contains(directory) && reason.contains("exited with 28"), "{reason}");
        }
    }
}

#[test]
fn a_command_that_copes_with_a_full_tmp_keeps_its_status() {
    let (place, ways) = small_tmp();
    for (_, [file, mebibytes]) in &ways {
        let ended = place.rung(2).probe(&["cope", "fill", file, mebibytes]).end().exited(0);
        assert_eq!(ended.denial().rule, "filesystem.tmp.size");
        ended.recorded();
        let ended = place.rung(2).probe(&["fill", file, "0"]).end().exited(0);
        assert_eq!(ended.outcome().denials, []);
    }
}

#[test]
fn a_limit_can_be_tightened_by_the_caller_and_not_widened() {
    let place = place_with(1, "limits = { wall = \"300 ms\", grace = \"100 ms\" }");
    let ended = place.rung(1).option(&["--timeout", "1 h"]).probe(&["wait"]).end();
    stopped_by(&ended, "limits.wall");
}
