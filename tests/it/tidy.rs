//! Holds the design's rules about the code: layers, purity, places, names, words.
//!
//! The one idea: a check fails on what it does not know. A module, a dependency or a part of the
//! standard library that no table below names is a failure, not a gap in the check. Each check
//! is a function from files to complaints, so that it is tried on a bad sample beside the
//! repository itself.

mod source;

use std::path::Path;

use source::{Found, Source, is_word, occurrences, repository};

/// Which modules each module may name, lowest layer first. A new edge is a design change.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("profile", &["model"]),
    ("policy", &["model", "profile"]),
    ("plan", &["model", "profile", "policy"]),
    ("sys", &[]),
    ("host", &["model", "sys"]),
    ("launch", &["model", "plan", "sys"]),
    ("egress", &["model", "plan", "sys"]),
    ("session", &["model", "plan", "sys"]),
    ("ledger", &["model"]),
    (
        "engine",
        &[
            "model", "profile", "policy", "plan", "sys", "host", "launch", "egress", "session",
            "ledger",
        ],
    ),
    ("front", &["model", "engine"]),
];

/// Files that cargo compiles without a `mod` line; they are no modules and may name any.
const ROOT_FILES: &[&str] =
    &["src/lib.rs", "src/main.rs", "tests/it/main.rs", "integration/main.rs"];

/// Modules that touch neither files, clock, environment, network nor processes.
const PURE: &[&str] = &["model", "profile", "policy", "plan"];

/// What of the standard library a pure module may name.
const PURE_STD: &[&str] = &[
    "any",
    "array",
    "ascii",
    "borrow",
    "cell",
    "char",
    "cmp",
    "collections",
    "convert",
    "error",
    "ffi",
    "fmt",
    "hash",
    "iter",
    "marker",
    "mem",
    "num",
    "ops",
    "option",
    "os::unix::ffi",
    "path",
    "rc",
    "result",
    "slice",
    "str",
    "string",
    "sync",
    "time::Duration",
    "vec",
];

/// Which dependencies a pure module may name: those that only compute.
const PURE_CRATES: &[&str] = &[
    "annotate_snippets",
    "jiff",
    "postcard",
    "schemars",
    "seccompiler",
    "serde",
    "serde_json",
    "sha2",
    "shell_words",
    "thiserror",
    "toml",
];

/// Methods of `std::path::Path` that ask the file system, and macros that print.
const EFFECTS: &[&str] = &[
    ".exists()",
    ".try_exists()",
    ".is_file()",
    ".is_dir()",
    ".is_symlink()",
    ".canonicalize()",
    ".read_link()",
    ".read_dir()",
    ".metadata()",
    ".symlink_metadata()",
    "print!",
    "println!",
    "eprint!",
    "eprintln!",
    "dbg!",
    "Timestamp::now",
    "Zoned::now",
];

/// How often a place may say `unsafe`; a place that is not listed, never. Outside `sys` it starts a
/// child that calls only `sys`: the two clones of `launch` start init and the command's process, the
/// fork of `host` tries what the machine can do.
const UNSAFE: &[(&str, usize)] = &[("src/sys", usize::MAX), ("src/launch", 2), ("src/host", 1)];

/// Where waiting on many strangers happens.
const ASYNC: &[&str] = &["src/egress", "src/front/mcp", "src/front/serve"];

/// File names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] =
    &["common", "helper", "helpers", "manager", "misc", "shared", "util", "utils"];

/// What finished code does not say.
const UNFINISHED: &[&str] = &["todo!", "unimplemented!", "FIXME", "TODO:", "XXX", "for now"];

// ---- the checks: files in, complaints out ----

fn upward_edges(files: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (file, module) in modules(files) {
        let Some((_, allowed)) = LAYERS.iter().find(|it| it.0 == module) else {
            complaints.push(format!("{}: `{module}` has no line in LAYERS", file.path));
            continue;
        };
        for found in file.words() {
            if let Some(complaint) = edge(file, module, allowed, &found) {
                complaints.push(format!("{}: {complaint}", file.place(&found)));
            }
        }
    }
    complaints
}

/// What is wrong with the edge that a word of the code makes, if it makes one.
fn edge(file: &Source, module: &str, allowed: &[&str], found: &Found<'_>) -> Option<String> {
    let path = found.path();
    match found.text {
        "crate" if found.before.ends_with('(') && found.after.starts_with(')') => None, // pub(crate)
        "crate" => {
            let named = *path.get(1).unwrap_or(&"?");
            if !LAYERS.iter().any(|it| it.0 == named) {
                let how = "one `use crate::module::..` each";
                return Some(format!("`crate::{named}` is no module: {how}"));
            }
            if named != module && !allowed.contains(&named) {
                return Some(format!("`{module}` may not use `{named}`"));
            }
            let beyond_permit = path.get(2) != Some(&"Permit");
            ((module, named) == ("plan", "policy") && beyond_permit)
                .then(|| "of `policy`, `plan` may only use `Permit`".to_owned())
        }
        "super" if !found.continues_a_path() => {
            let steps = path.iter().take_while(|it| **it == "super").count();
            let leaves = found.after.starts_with("::") && steps >= file.depth();
            leaves.then(|| format!("`super::` leaves `{module}`: write `crate::`"))
        }
        _ => None,
    }
}

fn effects_in_pure_modules(files: &[Source]) -> Vec<String> {
    let dependencies = dependencies(files);
    let mut complaints = Vec::new();
    for (file, module) in modules(files).filter(|it| PURE.contains(&it.1)) {
        let mut complain = |found: &Found<'_>, what: &str| {
            complaints.push(format!("{}: `{module}` is pure: no `{what}`", file.place(found)));
        };
        for found in file.words().filter(|found| !found.continues_a_path()) {
            let path = found.path();
            let is_dependency = path.len() > 1 && dependencies.iter().any(|it| it == found.text);
            let is_pure = match found.text {
                "std" => is_pure_std(&path),
                name => !is_dependency || PURE_CRATES.contains(&name) || is_local(file, name),
            };
            if !is_pure {
                complain(&found, &path.join("::"));
            }
        }
        for effect in EFFECTS {
            for found in occurrences(&file.code, effect).filter(Found::is_whole) {
                complain(&found, effect);
            }
        }
    }
    complaints
}

fn is_pure_std(path: &[&str]) -> bool {
    let inner = path.join("::");
    let inner = inner.strip_prefix("std::").unwrap_or_default();
    PURE_STD.iter().any(|it| inner.strip_prefix(it).is_some_and(|rest| !rest.starts_with(is_word)))
}

fn files_without_a_purpose(files: &[Source]) -> Vec<String> {
    rust(files)
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| format!("{}: does not begin with `//!` and what it is for", file.path))
        .collect()
}

fn unsafe_outside_its_place(files: &[Source]) -> Vec<String> {
    let uses = |file: &&Source| file.words().any(|it| it.text == "unsafe");
    let mut complaints: Vec<String> = rust(files)
        .filter(|file| file.path.starts_with("src/"))
        .filter(|file| !UNSAFE.iter().any(|it| is_below(&file.path, it.0)))
        .filter(uses)
        .map(|file| format!("{}: `unsafe` belongs in src/sys", file.path))
        .collect();
    for (place, max) in UNSAFE {
        let said = rust(files)
            .filter(|file| is_below(&file.path, place))
            .flat_map(Source::words)
            .filter(|it| it.text == "unsafe")
            .count();
        if said > *max {
            complaints.push(format!("{place}: `unsafe` {said} times, and {max} is allowed"));
        }
    }
    complaints
}

fn async_outside_servers(files: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (file, _) in modules(files) {
        if ASYNC.iter().any(|it| is_below(&file.path, it)) {
            continue;
        }
        if let Some(found) = file.words().find(|it| ["async", "await"].contains(&it.text)) {
            complaints.push(format!(
                "{}: `{}` outside the servers",
                file.place(&found),
                found.text
            ));
        }
    }
    complaints
}

fn names_that_say_nothing(files: &[Source]) -> Vec<String> {
    let empty = |file: &&Source| {
        let path = Path::new(&file.path).with_extension("");
        path.iter().any(|part| EMPTY_NAMES.iter().any(|it| part == *it))
    };
    rust(files)
        .filter(empty)
        .map(|file| format!("{}: the name does not say what is inside", file.path))
        .collect()
}

fn unfinished_work(files: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in rust(files).filter(|file| file.path.starts_with("src/")) {
        for (number, line) in file.text.lines().enumerate() {
            for words in
                UNFINISHED.iter().filter(|it| occurrences(line, it).any(|it| it.is_whole()))
            {
                complaints.push(format!("{}:{}: says `{words}`", file.path, number + 1));
            }
        }
    }
    complaints
}

/// Paths of one developer's machine. The bare `/root` is every Linux machine's and may be named.
fn machine_paths(files: &[Source]) -> Vec<String> {
    let starts = ["work", "root"].map(|name| format!("/{name}"));
    let mut complaints = Vec::new();
    for file in files {
        for found in starts.iter().flat_map(|start| occurrences(&file.text, start)) {
            let goes_on = found.before.ends_with(|it| is_word(it) || "-.~/}".contains(it));
            let is_longer = found.after.starts_with(|it| is_word(it) || it == '-');
            let is_bare_root = found.text.ends_with("root") && !found.after.starts_with('/');
            if !goes_on && !is_longer && !is_bare_root {
                complaints
                    .push(format!("{}: names `{}`, a path of one machine", file.path, found.text));
            }
        }
    }
    complaints
}

/// Rust compiles what a `mod` line names; any other file is dead and nobody is told.
fn forgotten_files(files: &[Source]) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in rust(files).filter(|file| !ROOT_FILES.contains(&file.path.as_str())) {
        let named = parents(&file.path).iter().any(|parent| {
            let parent = files.iter().find(|it| it.path == *parent);
            parent.is_some_and(|it| declares(it, module_name(&file.path)))
        });
        if !named {
            complaints
                .push(format!("{}: no `mod` line names it, so it is never compiled", file.path));
        }
    }
    complaints
}

// ---- how the checks read ----

/// Rust files of the crate and of both test binaries.
fn rust(files: &[Source]) -> impl Iterator<Item = &Source> {
    let places = ["src/", "tests/", "integration/"];
    files
        .iter()
        .filter(|it| it.is_rust())
        .filter(move |it| places.iter().any(|place| it.path.starts_with(place)))
}

/// The crate's files with their modules, without the roots and what is compiled for tests only.
fn modules(files: &[Source]) -> impl Iterator<Item = (&Source, &str)> {
    rust(files)
        .filter(|file| !is_for_tests(files, file))
        .filter_map(|file| Some((file, file.module()?)))
        .filter(|it| !ROOT_FILES.contains(&it.0.path.as_str()))
}

/// A file whose `mod` line stands under `#[cfg(test)]`, or below such a file.
fn is_for_tests(files: &[Source], file: &Source) -> bool {
    let parents = parents(&file.path);
    files.iter().filter(|it| parents.contains(&it.path)).any(|parent| {
        let name = module_name(&file.path);
        let only_for_tests = declares(parent, name)
            && !words_of_mod_lines(&parent.code).any(|declared| declared == name);
        only_for_tests || is_for_tests(files, parent)
    })
}

/// `fs` for `src/plan/fs.rs`, `plan` for `src/plan/mod.rs`.
fn module_name(path: &str) -> &str {
    let path = path.strip_suffix("/mod.rs").or(path.strip_suffix(".rs")).unwrap_or(path);
    path.rsplit('/').next().unwrap_or(path)
}

/// The files that may hold the `mod` line for `path`.
fn parents(path: &str) -> Vec<String> {
    let place = path.strip_suffix("/mod.rs").or(path.strip_suffix(".rs")).unwrap_or(path);
    let Some((directory, _)) = place.rsplit_once('/').filter(|_| !ROOT_FILES.contains(&path))
    else {
        return Vec::new();
    };
    ["/mod.rs", ".rs", "/lib.rs", "/main.rs"].iter().map(|it| format!("{directory}{it}")).collect()
}

/// The name is a module's of ours here, whatever dependency is called the same.
fn is_local(file: &Source, name: &str) -> bool {
    let imports = |statement: &str| {
        let imported = statement.rsplit_once("use ").map_or("", |it| it.1);
        let is_ours = ["crate::", "self::", "super::"].iter().any(|it| imported.starts_with(it));
        is_ours && occurrences(imported, name).any(|it| it.is_whole())
    };
    declares(file, name) || file.code.split(';').any(imports)
}

fn declares(parent: &Source, name: &str) -> bool {
    words_of_mod_lines(&parent.text).any(|declared| declared == name)
}

fn words_of_mod_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| {
        let line = line.trim().strip_suffix(';')?;
        let line = line.strip_prefix("pub ").or(line.strip_prefix("pub(crate) ")).unwrap_or(line);
        line.strip_prefix("pub(super) ").unwrap_or(line).strip_prefix("mod ")
    })
}

/// The dependencies of `Cargo.toml`, as code names them.
fn dependencies(files: &[Source]) -> Vec<String> {
    let manifest = files.iter().find(|it| it.path == "Cargo.toml").expect("no Cargo.toml");
    let table = manifest.text.split("\n[dependencies]\n").nth(1).expect("no [dependencies]");
    let table = table.split("\n[").next().unwrap_or_default();
    let names = table.lines().filter_map(|line| line.split_once('='));
    names.map(|(name, _)| name.trim().replace('-', "_")).collect()
}

fn is_below(path: &str, place: &str) -> bool {
    path.strip_prefix(place).is_some_and(|rest| rest.starts_with('/') || rest.starts_with('.'))
}

// ---- the repository, and a bad sample for each check ----

type Check = fn(&[Source]) -> Vec<String>;

/// The repository gives the check nothing to complain about.
#[track_caller]
fn holds(check: Check) {
    let complaints = check(&repository());
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// What the check says about these files, beside a manifest with two dependencies.
fn complaints(check: Check, files: &[(&str, &str)]) -> String {
    let manifest = ("Cargo.toml", "[package]\n\n[dependencies]\nserde = \"1\"\nnix = \"0\"\n");
    let files: Vec<Source> =
        files.iter().chain([&manifest]).map(|it| Source::new(it.0, it.1)).collect();
    check(&files).join("\n")
}

#[track_caller]
fn refuses(check: Check, path: &str, text: &str, says: &str) {
    let complaints = complaints(check, &[(path, text)]);
    assert!(complaints.contains(says), "{path}: {text}\nsays: {complaints}");
}

#[track_caller]
fn accepts(check: Check, path: &str, text: &str) {
    assert_eq!(complaints(check, &[(path, text)]), "", "{path}: {text}");
}

#[test]
fn modules_depend_downwards_only() {
    holds(upward_edges);
    let refuses = |path, text, says| refuses(upward_edges, path, text, says);
    refuses(
        "src/model/x.rs",
        "use crate::plan::Y;",
        "src/model/x.rs:1: `model` may not use `plan`",
    );
    refuses("src/host.rs", "fn f() { crate::launch::run() }", "`host` may not use `launch`");
    refuses("src/launch/mod.rs", "\nuse crate::ledger::Y;", "mod.rs:2: `launch` may not use");
    refuses("src/plan/mod.rs", "use crate::policy::decide;", "may only use `Permit`");
    refuses("src/plan/mod.rs", "use crate::policy::{Permit, decide};", "may only use `Permit`");
    refuses("src/plan/mod.rs", "use super::engine::run;", "`super::` leaves `plan`");
    refuses("src/plan/mod.rs", "use super::*;", "`super::` leaves `plan`");
    refuses("src/plan/x.rs", "use super::super::engine::run;", "`super::` leaves `plan`");
    let accepts = |path, text| accepts(upward_edges, path, text);
    accepts("src/plan/mod.rs", "use crate::policy::Permit;\nuse crate::model::{A, B};");
    accepts("src/plan/x.rs", "use super::Y; pub(crate) struct Z; // crate::engine");
    accepts("src/plan/x.rs", "fn f() {}\n#[cfg(test)]\nmod tests { use crate::engine::run; }");
    accepts("src/front/mcp/x.rs", "use super::super::Y;\nuse crate::engine::run;");
}

#[test]
fn a_module_that_the_table_does_not_know_is_refused() {
    refuses(upward_edges, "src/novel.rs", "", "`novel` has no line in LAYERS");
    refuses(upward_edges, "src/novel/mod.rs", "", "`novel` has no line in LAYERS");
    refuses(upward_edges, "src/lib/mod.rs", "", "`lib` has no line in LAYERS");
    refuses(upward_edges, "src/engine.rs", "use crate::novel::X;", "`crate::novel` is no module");
    refuses(upward_edges, "src/engine.rs", "use crate::{model, plan};", "`crate::?` is no module");
    refuses(upward_edges, "src/engine.rs", "use crate::*;", "`crate::?` is no module");
}

#[test]
fn the_layers_themselves_point_downwards() {
    for (index, (module, allowed)) in LAYERS.iter().enumerate() {
        for named in *allowed {
            let is_below = LAYERS[..index].iter().any(|it| it.0 == *named);
            assert!(is_below, "`{module}` names `{named}`, which is not below it");
        }
    }
    for module in PURE {
        let (_, allowed) = LAYERS.iter().find(|it| it.0 == *module).unwrap();
        assert!(allowed.iter().all(|it| PURE.contains(it)), "`{module}` names what is not pure");
    }
}

#[test]
fn the_policy_core_touches_nothing() {
    holds(effects_in_pure_modules);
    for (text, says) in [
        ("use std::fs;", "no `std::fs`"),
        ("use std::fs::File;", "no `std::fs::File`"),
        ("fn f() { std::env::var(x) }", "no `std::env::var`"),
        ("fn f() { ::std::process::id() }", "no `std::process::id`"),
        ("use std::net::IpAddr;", "no `std::net::IpAddr`"),
        ("use std::time::SystemTime;", "no `std::time::SystemTime`"),
        ("use std::time::{Duration, Instant};", "no `std::time`"),
        ("use std::{fmt, io};", "no `std`"),
        ("use std::novel;", "no `std::novel`"),
        ("use nix::unistd;", "no `nix::unistd`"),
        ("use ::nix::unistd;", "no `nix::unistd`"),
        ("use super::a;\nfn f() { nix::x() }", "no `nix::x`"),
        ("fn f(p: &Path) { p.exists() }", "no `.exists()`"),
        ("fn f() { println!() }", "no `println!`"),
    ] {
        refuses(effects_in_pure_modules, "src/plan/x.rs", text, says);
        refuses(effects_in_pure_modules, "src/model.rs", text, says);
        accepts(effects_in_pure_modules, "src/host.rs", text);
    }
    for text in [
        "use std::collections::{BTreeMap, BTreeSet};\nuse std::time::Duration;",
        "use serde::Serialize;",
        "// std::fs\nconst S: &str = \"std::fs\";",
        "mod nix;\nfn f() { nix::x() }",
        "use super::{a, nix};\nfn f() { nix::x() }",
        "#[cfg(test)]\nmod tests { use std::fs; }",
    ] {
        accepts(effects_in_pure_modules, "src/plan/x.rs", text);
    }
}

#[test]
fn a_file_that_says_it_is_for_tests_must_be_declared_so() {
    let text = "use std::fs;";
    let with = |parent| {
        complaints(
            effects_in_pure_modules,
            &[("src/plan/mod.rs", parent), ("src/plan/tests.rs", text)],
        )
    };
    assert_eq!(with("#[cfg(test)]\nmod tests;"), "");
    assert!(with("mod tests;").contains("no `std::fs`"));
}

#[test]
fn every_file_says_what_it_is_for() {
    holds(files_without_a_purpose);
    refuses(files_without_a_purpose, "src/plan/x.rs", "use a;", "does not begin with `//!`");
    refuses(files_without_a_purpose, "integration/x.rs", "\n//! Late.", "does not begin");
    refuses(files_without_a_purpose, "tests/it/x.rs", "", "does not begin");
    accepts(files_without_a_purpose, "src/plan/x.rs", "//! Plans.");
}

#[test]
fn unsafe_stays_in_its_place() {
    holds(unsafe_outside_its_place);
    let block = "fn f() { unsafe { g() } }";
    refuses(unsafe_outside_its_place, "src/ledger.rs", block, "`unsafe` belongs in src/sys");
    refuses(unsafe_outside_its_place, "src/main.rs", block, "`unsafe` belongs in src/sys");
    refuses(unsafe_outside_its_place, "src/system/mod.rs", block, "`unsafe` belongs in src/sys");
    let again = |times| block.repeat(times);
    refuses(unsafe_outside_its_place, "src/launch/x.rs", &again(3), "`unsafe` 3 times");
    refuses(unsafe_outside_its_place, "src/host.rs", &again(2), "`unsafe` 2 times");
    accepts(unsafe_outside_its_place, "src/launch/x.rs", &again(2));
    accepts(unsafe_outside_its_place, "src/sys/mod.rs", &again(9));
    accepts(unsafe_outside_its_place, "src/ledger.rs", "// unsafe\n#![deny(unsafe_code)]");
}

#[test]
fn only_servers_wait_on_many_strangers() {
    holds(async_outside_servers);
    refuses(async_outside_servers, "src/engine.rs", "async fn f() {}", "`async` outside");
    refuses(async_outside_servers, "src/front/cli.rs", "x.await", "`await` outside");
    accepts(async_outside_servers, "src/egress/dns.rs", "async fn f() { x.await }");
    accepts(async_outside_servers, "src/front/mcp.rs", "async fn f() {}");
}

#[test]
fn every_name_says_what_is_inside() {
    holds(names_that_say_nothing);
    refuses(names_that_say_nothing, "src/plan/utils.rs", "", "does not say");
    refuses(names_that_say_nothing, "integration/common/mod.rs", "", "does not say");
    accepts(names_that_say_nothing, "src/plan/utilisation.rs", "");
}

#[test]
fn nothing_is_left_for_later() {
    holds(unfinished_work);
    refuses(unfinished_work, "src/plan/x.rs", "\n    todo!()", "x.rs:2: says `todo!`");
    refuses(unfinished_work, "src/plan/x.rs", "// Good enough for now.", "says `for now`");
    refuses(unfinished_work, "src/main.rs", "// FIXME", "says `FIXME`");
    accepts(unfinished_work, "src/plan/x.rs", "/// `rg TODO`, for nowhere, XXXXXX");
}

#[test]
fn no_file_knows_one_machine() {
    holds(machine_paths);
    let (scratch, home) = (format!("/{}", "work"), format!("/{}/", "root"));
    for text in [format!("cd {scratch}\n"), format!("\"{scratch}/x\""), format!("{home}.cargo")] {
        refuses(machine_paths, "README.md", &text, "a path of one machine");
        refuses(machine_paths, "src/plan/x.rs", &text, "a path of one machine");
    }
    for text in
        [format!("{scratch}space"), format!("a{scratch}"), home.trim_end_matches('/').into()]
    {
        accepts(machine_paths, "README.md", &text);
    }
}

#[test]
fn no_file_is_forgotten() {
    holds(forgotten_files);
    let check = |files: &[(&str, &str)]| complaints(forgotten_files, files);
    for (parent, child) in [
        ("tests/it/main.rs", "tests/it/x.rs"),
        ("integration/main.rs", "integration/x/mod.rs"),
        ("src/plan/mod.rs", "src/plan/x.rs"),
        ("src/plan.rs", "src/plan/x.rs"),
    ] {
        assert!(check(&[(parent, "// mod x;"), (child, "")]).contains("no `mod` line names it"));
        assert_eq!(check(&[("src/lib.rs", "pub mod plan;"), (parent, "mod x;"), (child, "")]), "");
    }
}
