//! Apply and rollback in a tree that somebody else changes at the same time: whatever a name leads to
//! in the moment in which it is used, nothing outside the tree is touched and nothing is lost.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::harness::{Ended, Place, put, within};
use crate::session::{contents, id_of, session};

const FILES: usize = 16;
/// In each round the directory is in its place a little longer, so that acts come further.
const ROUNDS: u32 = 24;
const SLOWER: Duration = Duration::from_micros(700);
/// The link is never there longer.
const BRIEFLY: Duration = Duration::from_micros(300);
const PATIENCE: Duration = Duration::from_secs(20);

/// Exchanges a directory and a link out of the tree, over and over, while `act` goes on; with the
/// directory back in its place at the end.
fn swapped<T>(
    (directory, link): (&Path, &Path),
    pause: Duration,
    act: impl FnOnce(&AtomicU64) -> T,
) -> T {
    let (stop, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let swapper = scope.spawn(|| {
            std::thread::sleep(pause);
            while !stop.load(Ordering::Relaxed) || !count.load(Ordering::Relaxed).is_multiple_of(2)
            {
                renameat2(AT_FDCWD, directory, AT_FDCWD, link, RenameFlags::RENAME_EXCHANGE)
                    .unwrap();
                let is_back = count.fetch_add(1, Ordering::Relaxed) % 2 == 1;
                std::thread::sleep(if is_back { pause } else { pause.min(BRIEFLY) });
            }
        });
        let result = {
            let _stop = Stop(&stop);
            act(&count)
        };
        swapper.join().unwrap();
        result
    })
}

/// Also where the act panics.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// RT-30: a directory of the tree that is a link in every other moment.
#[test]
fn a_directory_that_turns_into_a_link_and_back_leads_nowhere() {
    let place = Place::new();
    let (directory, link) = (place.workspace.join("d"), place.workspace.join("l"));
    fs::create_dir(&directory).unwrap();
    for n in 0..FILES {
        put(&directory.join(format!("old{n}")), "before");
        put(&place.outside.join(format!("old{n}")), "outside");
    }
    symlink(&place.outside, &link).unwrap();
    let (before, outside) = (contents(&place.workspace), contents(&place.outside));
    let script = format!(
        "cd d || exit 1; for n in $(seq 0 {}); do echo after > old$n; echo new > new$n; done",
        FILES - 1
    );

    // The control: who goes by names ends up outside.
    let stray = place.outside.join("stray");
    swapped((&directory, &link), Duration::ZERO, |_| {
        within(PATIENCE, "a name leads outside", || {
            fs::write(directory.join("stray"), "").unwrap();
            stray.exists()
        });
    });
    for at in [stray, directory.join("stray")] {
        if at.exists() {
            fs::remove_file(at).unwrap();
        }
    }

    let apply = || session(&place, &["apply", "s", "--accept", "all"]);
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
    let exchanges = AtomicU64::new(0);
    let racing = |round: u32, act: &dyn Fn() -> Ended| {
        let ended = swapped((&directory, &link), round * SLOWER, |count| {
            let ended = act();
            exchanges.fetch_add(count.load(Ordering::Relaxed), Ordering::Relaxed);
            ended
        });
        assert_eq!(contents(&place.outside), outside, "{}", ended.err);
        ended
    };
    let mut ends = BTreeMap::new();
    for round in 0..ROUNDS {
        assert_eq!(session(&place, &["start", "--name", "s", "--level", "2"]).code(), 0);
        let inside = place.rung_with(&["run", "--session", "s"]);
        inside.words(&["sh", "-c", &script]).end().exited(0);
        let applied = racing(round, &apply);
        *ends.entry(("apply", applied.code())).or_insert(0) += 1;
        let part = applied.text().contains("rung session rollback ").then(|| id_of(&applied));
        // In peace it comes to its end, whatever the race left of it.
        let whole = if applied.code() == 0 {
            None
        } else {
            let applied = apply();
            assert_eq!(applied.code(), 0, "{}", applied.err);
            Some(id_of(&applied))
        };
        assert!((0..FILES).all(|n| read(&format!("old{n}")) == "after\n"));
        assert!((0..FILES).all(|n| read(&format!("new{n}")) == "new\n"));
        for id in whole.iter().chain(&part) {
            let back = || session(&place, &["rollback", id]);
            let raced = racing(round, &back);
            *ends.entry(("rollback", raced.code())).or_insert(0) += 1;
            if raced.code() != 0 {
                let ended = back();
                assert_eq!(ended.code(), 0, "{}", ended.err);
            }
        }
        assert!(contents(&place.workspace) == before, "something is lost or left");
        assert_eq!(session(&place, &["discard", "s"]).code(), 0);
    }
    assert!(exchanges.load(Ordering::Relaxed) > 100, "hardly anything was exchanged");
    println!("{ends:?} after {} exchanges", exchanges.load(Ordering::Relaxed));
}
