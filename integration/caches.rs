//! Caches of the user's tools: a run profits from them, and leaves nothing there that anybody else
//! would trust. Z08 of the residuals' list.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rung::model::Status;

use crate::harness::{Place, Run, make_program, put};
use crate::session::{contents, session};

/// One in a read-only tree of its toolchain, and one that nothing else would show.
const CACHES: [&str; 2] = [".cargo/registry", ".npm/_cacache"];

fn place() -> Place {
    let place = Place::new();
    for cache in CACHES {
        for name in ["kept", "gone", "directory/inner"] {
            put(&place.home.join(cache).join(name), "as it was");
        }
    }
    place
}

fn caches(place: &Place) -> BTreeMap<PathBuf, String> {
    CACHES.iter().flat_map(|it| contents(&place.home.join(it))).collect()
}

fn inside<'a>(place: &'a Place, session: &str) -> Run<'a> {
    place.rung_with(&["run", "--session", session])
}

/// Everything that poisons a cache: a file that is changed, one that is new, one that is gone, and a
/// directory that is another one.
fn poison<'a>(place: &Place, run: &dyn Fn() -> Run<'a>) {
    for cache in CACHES {
        let at = |name: &str| place.home.join(cache).join(name).to_str().unwrap().to_owned();
        run().probe(&["read", &at("kept")]).end().exited(0);
        run().probe(&["write", &at("kept"), "poison"]).end().exited(0).recorded();
        run().probe(&["write", &at("new"), "poison"]).end().exited(0).recorded();
        let (gone, directory) = (at("gone"), at("directory"));
        let script = format!("rm -r {gone} {directory} && mkdir {directory}");
        run().words(&["sh", "-c", &script]).end().exited(0).recorded();
    }
}

/// As the next run finds it: (what is new is there, what is gone is gone).
fn finds<'a>(place: &Place, run: &dyn Fn() -> Run<'a>) -> (bool, bool) {
    let reads = |name: &str| {
        let all = CACHES.map(|cache| {
            let path = place.home.join(cache).join(name);
            run().probe(&["read", path.to_str().unwrap()]).end().code() == 0
        });
        assert_eq!(all[0], all[1], "the caches differ: {name}");
        all[0]
    };
    assert_eq!(reads("gone"), reads("directory/inner"));
    (reads("new"), !reads("gone"))
}

#[test]
fn what_a_run_writes_into_a_cache_is_gone_with_it() {
    let place = place();
    let before = caches(&place);
    poison(&place, &|| place.rung(3));
    assert_eq!(finds(&place, &|| place.rung(3)), (false, false));
    assert_eq!(caches(&place), before);
    // A run of its own sees what it wrote.
    let name = place.home.join(CACHES[1]).join("new");
    let both = format!("echo text > {0} && cat {0}", name.display());
    let ended = place.rung(3).words(&["sh", "-c", &both]).end().exited(0);
    assert_eq!(ended.text(), "text\n");
    assert_eq!(caches(&place), before);
    // The control: outside it is a file like any other.
    place.outside_probe(&["write", name.to_str().unwrap(), "poison"]).end();
    assert_ne!(caches(&place), before);
}

#[test]
fn what_a_session_writes_into_a_cache_is_there_for_its_next_run_and_for_nobody_else() {
    let place = place();
    let before = caches(&place);
    for name in ["s", "other"] {
        assert_eq!(session(&place, &["start", "--name", name, "--level", "3"]).code(), 0);
    }
    poison(&place, &|| inside(&place, "s"));
    assert_eq!(finds(&place, &|| inside(&place, "s")), (true, true));
    assert_eq!(finds(&place, &|| inside(&place, "other")), (false, false));
    assert_eq!(finds(&place, &|| place.rung(3)), (false, false));
    assert_eq!(finds(&place, &|| inside(&place, "s").option(&["--level", "3"])), (true, true));
    assert_eq!(caches(&place), before);
    // It is no change of the tree, and never applied.
    assert_eq!(session(&place, &["status", "s"]).text(), "nothing has changed\n");
    assert_eq!(session(&place, &["apply", "s", "--accept", "all"]).code(), 0);
    assert_eq!(session(&place, &["discard", "s"]).code(), 0);
    assert_eq!(caches(&place), before);
}

#[test]
fn a_disposable_run_keeps_nothing_of_a_cache() {
    let place = place();
    let before = caches(&place);
    poison(&place, &|| place.rung(3).option(&["--discard"]));
    assert_eq!(finds(&place, &|| place.rung(3).option(&["--discard"])), (false, false));
    assert_eq!(caches(&place), before);
    assert!(fs::read_dir(place.state().join("sessions")).unwrap().next().is_none());
}

/// A program that lies in a cache may be what a run has just put there: it is none of the toolchain's.
#[test]
fn no_command_comes_from_a_cache() {
    let place = place();
    let tool = place.home.join(".cargo/registry/tool");
    let trusted = place.home.join(".cargo/bin/tool");
    for path in [&tool, &trusted] {
        put(path, "#!/bin/sh\nexit 7\n");
        make_program(path);
    }
    let rule = "\n[[exec.rule]]\nid = \"test.tool\"\nprogram = \"tool\"\ndecision = \"allow\"\n\
                power = \"exec\"\nbecause = \"a tool\"\narguments = []\nmatch = [\"tool\"]\n\
                not_match = [\"tool x\"]\n\n[[exec.program]]\nname = \"tool\"\nclass = \"plain\"\n\
                style = \"gnu\"\n";
    place.set_profile(3, &place.profile(3, rule));
    let run = |path: &Path| place.rung(3).words(&[path.to_str().unwrap()]).end();
    let ended = run(&tool);
    assert!([125, 126].contains(&ended.code()), "{} {}", ended.code(), ended.err);
    // The control: the same in the toolchain's tree beside it.
    assert_eq!(run(&trusted).code(), 7);
}

#[test]
fn a_cache_that_a_session_has_filled_is_thrown_away_and_the_next_run_begins_anew() {
    let place = place();
    let limits = "limits = { session = \"4 MiB\", wall = \"20 s\" }";
    place.set_profile(3, &place.profile(3, limits));
    let before = caches(&place);
    assert_eq!(session(&place, &["start", "--name", "s", "--level", "3"]).code(), 0);
    let large = place.home.join(CACHES[1]).join("large");
    let large = large.to_str().unwrap();
    let ended = inside(&place, "s").probe(&["hold", "fill", large, "8"]).end();
    let limit = "limits.session".to_owned();
    assert_eq!(ended.outcome().status, Status::Limited { limit }, "{}", ended.err);
    ended.recorded();
    let next = inside(&place, "s").probe(&["read", large]).end();
    assert_eq!(next.code(), libc::ENOENT, "{}", next.err);
    assert_eq!(caches(&place), before);
    // The control: less than the limit stays.
    inside(&place, "s").probe(&["fill", large, "2"]).end().exited(0);
    inside(&place, "s").probe(&["read", large]).end().exited(0);
}

/// A company's own cache, which no pack knows.
#[test]
fn a_profile_names_caches_of_its_own() {
    let place = place();
    let files = "filesystem = { caches = [\"~/.company\"] }\n";
    let package = place.home.join(".company/package");
    put(&package, "as it was");
    let ended = place.rung(3).probe(&["read", package.to_str().unwrap()]).end();
    assert_eq!(ended.code(), libc::ENOENT, "the control: nothing else shows it");
    place.set_profile(3, &place.profile(3, files));
    let ended = place.rung(3).probe(&["write", package.to_str().unwrap(), "poison"]).end();
    assert_eq!(ended.code(), 0, "{}", ended.err);
    assert_eq!(fs::read_to_string(&package).unwrap(), "as it was");
}
