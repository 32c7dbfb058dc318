//! Caches as the tools themselves fill and use them: what one run of a session fetched or compiled,
//! its next one has, without a network; nobody else has it, and the user's own cache is as it was.

use std::path::Path;
use std::process::Command;

use super::shop::Shop;
use crate::harness::{Ended, Place, has_by_chance, put};
use crate::session::{contents, session};

fn started(place: &Place, names: &[&str]) {
    for name in names {
        assert_eq!(session(place, &["start", "--name", name, "--level", "3"]).code(), 0, "{name}");
    }
}

fn inside(place: &Place, session: &str, words: &[&str]) -> Ended {
    place.rung_with(&["run", "--session", session]).words(words).end()
}

#[test]
fn npm_finds_in_the_cache_what_the_session_has_fetched() {
    if !has_by_chance("/usr/bin/npm", Path::new("/usr/bin/npm").exists()) {
        return;
    }
    let shop = Shop::new("");
    let place = &shop.place;
    // What the user has already makes it a cache.
    let cache = place.home.join(".npm/_cacache");
    put(&cache.join("tmp/own"), "the user's");
    let before = contents(&cache);
    started(place, &["s", "other"]);
    let registry = format!("http://a.test:{}/npm/", shop.net.port);
    let install = |more: &[&str]| {
        let words = ["npm", "install", "--registry", &registry, "thing@1.0.0"];
        [&words[..], more].concat().join(" ")
    };
    let fetch = install(&[]);
    let again = format!("rm -r node_modules && {}", install(&["--offline"]));
    let ended = inside(place, "s", &["sh", "-c", &fetch]);
    assert_eq!(ended.code(), 0, "{} {}", ended.text(), ended.err);
    assert!(shop.asked() > 0);
    let ended = inside(place, "s", &["sh", "-c", &again]);
    assert_eq!(ended.code(), 0, "not in the cache: {} {}", ended.text(), ended.err);
    assert_eq!(shop.asked(), 0, "fetched again");
    let offline = install(&["--offline"]);
    for ended in [
        inside(place, "other", &["sh", "-c", &offline]),
        place.rung(3).words(&["sh", "-c", &offline]).end(),
    ] {
        assert_ne!(ended.code(), 0);
        assert!(ended.err.contains("ENOTCACHED"), "{}", ended.err);
    }
    assert_eq!(contents(&cache), before);
    assert!(!place.workspace.join("node_modules").exists());
}

/// Go keeps what it has compiled; `-x` shows every compiler that it starts.
#[test]
fn go_compiles_nothing_twice_and_nothing_for_others() {
    const COMPILER: &str = "/compile -o ";
    let go = ["/usr/bin/go", "/usr/local/go/bin/go"].into_iter().find(|it| Path::new(it).exists());
    if !has_by_chance("go", go.is_some()) {
        return;
    }
    let place = Place::new();
    put(&place.workspace.join("go.mod"), "module own\n\ngo 1.18\n");
    put(&place.workspace.join("own.go"), "package own\n\nconst Own = 1\n");
    let build = |run: &dyn Fn(&[&str]) -> Ended| {
        let ended = run(&["go", "build", "-x", "."]);
        assert_eq!(ended.code(), 0, "{}", ended.err);
        ended.err.contains(COMPILER)
    };
    let cache = place.home.join(".cache/go-build");
    let warm = Command::new(go.unwrap())
        .args(["build", "."])
        .current_dir(&place.workspace)
        .env("HOME", &place.home)
        .env("GOCACHE", &cache)
        .env("GOFLAGS", "-trimpath=false")
        .status();
    assert!(warm.unwrap().success());
    let before = contents(&cache);
    started(&place, &["s", "other"]);
    let plain = |words: &[&str]| place.rung(3).words(words).end();
    assert!(!build(&plain), "the user's own cache was of no use");
    put(&place.workspace.join("own.go"), "package own\n\nconst Own = 2\n");
    assert!(build(&|words| inside(&place, "s", words)), "it is new to everybody");
    assert!(!build(&|words| inside(&place, "s", words)), "the session has it");
    assert!(build(&|words| inside(&place, "other", words)), "another session has it");
    assert!(build(&plain), "a run of nobody's has it");
    assert!(build(&plain), "what a plain run compiles goes with it");
    assert_eq!(contents(&cache), before);
}
