//! The order of the levels, and what no plan may ever contain, on machines made at random.
//!
//! A failure prints its seed; `RUNG_SEED=<number>` runs the same cases again, `RUNG_CASES` more of
//! them.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rung::model::{Arg, HostFacts, Level, Origin, PathKind, Request};
use rung::plan::{
    Access, Answer, Operation, PlanError, SandboxPlan, What, lasting_paths, predict,
    wanted_behind_links, wanted_paths, within,
};
use rung::profile::{Entry, Grant, OnGap, Profile};

use crate::hosts;

const CASES: u32 = 200;

/// Everything that differs from one machine and one request to the next.
#[derive(Debug, Clone)]
struct Case {
    workspace: &'static str,
    /// Names in the workspace, and what is there.
    names: Vec<(&'static str, Option<PathKind>)>,
    /// Paths of the fixture machine that this one lacks.
    missing: Vec<usize>,
    landlock_abi: u32,
    root: bool,
    cgroup: bool,
    read: Vec<(&'static str, bool)>,
    hidden: Vec<&'static str>,
    variables: Vec<&'static str>,
}

const WORKSPACES: [&str; 6] = [
    "/home/u/src/app",
    "/home/u/src/app/deep/er",
    "/srv/app",
    "/tmp/app",
    "/var/tmp/app",
    "/home/v/app",
];

const NAMES: [&str; 9] = [
    ".git",
    ".git/hooks",
    ".git/config",
    ".git/info",
    ".cargo",
    ".cargo/config.toml",
    ".vscode",
    ".envrc",
    "AGENTS.md",
];

const PLACES: [&str; 8] = [
    "/etc/ssl",
    "/etc/ssl/private",
    "/home",
    "/home/u/data",
    "/srv/shared",
    "/usr/share",
    "/usr/share/doc/secret",
    "/var",
];

fn random_case() -> impl Strategy<Value = Case> {
    let kind = prop_oneof![
        2 => Just(None),
        2 => Just(Some(PathKind::Directory)),
        2 => Just(Some(PathKind::File)),
        1 => Just(Some(PathKind::SymbolicLink)),
    ];
    let names = NAMES.map(|name| kind.clone().prop_map(move |it| (name, it)));
    let places = proptest::sample::select(PLACES.to_vec());
    let variables = ["LANG", "LD_PRELOAD", "GIT_SSH_COMMAND", "RUST_LOG", "TERM", "PATH", "X"];
    (
        proptest::sample::select(WORKSPACES.to_vec()),
        names.to_vec(),
        proptest::collection::vec(0_usize..64, 0..6),
        (0_u32..9, any::<bool>(), any::<bool>()),
        proptest::collection::vec((places.clone(), any::<bool>()), 0..4),
        proptest::collection::vec(places, 0..4),
        proptest::sample::subsequence(variables.to_vec(), 0..=variables.len()),
    )
        .prop_map(|(workspace, names, missing, machine, read, hidden, variables)| Case {
            workspace,
            names,
            missing,
            landlock_abi: machine.0,
            root: machine.1,
            cgroup: machine.2,
            read,
            hidden,
            variables,
        })
}

impl Case {
    fn host(&self) -> HostFacts {
        let mut host = hosts::full();
        let known: Vec<PathBuf> = host.paths.keys().cloned().collect();
        for index in &self.missing {
            if let Some(path) = known.get(*index) {
                host.paths.remove(path);
            }
        }
        for path in PLACES {
            hosts::add(&mut host, path, PathKind::Directory);
        }
        hosts::add(&mut host, "/home/u", PathKind::Directory);
        // Some organisation keeps rung's profiles where a grant may show them.
        hosts::add(&mut host, "/srv/shared/rung", PathKind::Directory);
        host.state_directories.push(PathBuf::from("/srv/shared/rung"));
        host.paths.retain(|path, _| !path.starts_with(self.workspace));
        hosts::add(&mut host, self.workspace, PathKind::Directory);
        for (name, kind) in &self.names {
            let path = format!("{}/{name}", self.workspace);
            let parent = Path::new(&path).parent().unwrap();
            // Only directories hold names.
            if host.path(parent).is_none_or(|it| it.kind != PathKind::Directory) {
                continue;
            }
            match kind {
                Some(PathKind::SymbolicLink) => {
                    hosts::add_link(&mut host, &path, "elsewhere/it", PathKind::File);
                }
                Some(kind) => hosts::add(&mut host, &path, *kind),
                None => {}
            }
        }
        let profile = self.profile(Level::TestExecution);
        for path in wanted_behind_links(&profile, Path::new(self.workspace), &host.paths) {
            if host.path(&path).is_none() {
                hosts::add(&mut host, path.to_str().unwrap(), PathKind::Directory);
            }
        }
        HostFacts {
            landlock_abi: self.landlock_abi,
            uid: if self.root { 0 } else { 1000 },
            cgroup: self.cgroup.then(|| PathBuf::from("/sys/fs/cgroup/rung")),
            ..host
        }
    }

    /// The built-in level with the case's own entries. Gaps are accepted, so that old machines
    /// have plans to compare.
    fn profile(&self, level: Level) -> Profile {
        let mut profile = hosts::profile(level);
        let origin = Origin::built_in("the case says so");
        profile.on_gap = OnGap::Allow;
        profile.filesystem.read.extend(self.read.iter().map(|(path, programs)| Grant {
            path: (*path).to_owned(),
            programs: *programs,
            origin: origin.clone(),
        }));
        profile.filesystem.hidden.extend(
            self.hidden
                .iter()
                .map(|path| Entry { name: (*path).to_owned(), origin: origin.clone() }),
        );
        profile
    }

    fn request(&self, level: Level) -> Request {
        let mut request = hosts::request(level);
        request.workspace = PathBuf::from(self.workspace);
        request.cwd = PathBuf::from(self.workspace);
        request.environment = self
            .variables
            .iter()
            .map(|name| ((*name).to_owned(), Arg::try_from("of the caller").unwrap()))
            .collect();
        request
    }

    fn plan(&self, level: Level) -> Result<SandboxPlan, PlanError> {
        hosts::plan(&self.request(level), &self.profile(level), &self.host())
    }
}

/// Runs `property` on random cases. Cases without a plan pass, but most must have one.
fn check(property: impl Fn(&Case) -> Result<bool, TestCaseError>) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("RUNG_SEED").unwrap_or_else(rand_seed);
    println!("RUNG_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let cases = number("RUNG_CASES").map_or(CASES, |it| u32::try_from(it).unwrap());
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let held = std::cell::Cell::new(0_u32);
    let result = TestRunner::new_with_rng(config, rng).run(&random_case(), |case| {
        if property(&case)? {
            held.set(held.get() + 1);
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    assert!(held.get() > cases / 4, "only {} of {cases} cases had a plan", held.get());
}

/// Different on every run, and printed.
fn rand_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

#[test]
fn each_level_is_within_the_next() {
    check(|case| {
        let mut compared = false;
        for pair in Level::ALL.windows(2) {
            if let (Ok(lower), Ok(upper)) = (case.plan(pair[0]), case.plan(pair[1])) {
                let mut excess = within(&lower, &upper).err().unwrap_or_default();
                // The highest level is the only one that is shorter: a person waits beside it.
                if pair[1] == Level::ProductionWrites {
                    excess.retain(|it| it != "the limit `wall` is higher");
                }
                prop_assert!(excess.is_empty(), "{} in {}: {excess:?}", pair[0], pair[1]);
                compared = true;
            }
        }
        Ok(compared)
    });
}

#[test]
fn every_plan_is_within_itself_and_the_same_twice() {
    check(|case| {
        let Ok(plan) = case.plan(Level::TestExecution) else { return Ok(false) };
        prop_assert_eq!(within(&plan, &plan), Ok(()));
        let again = case.plan(Level::TestExecution).unwrap();
        prop_assert_eq!(plan.digest().unwrap(), again.digest().unwrap());
        Ok(true)
    });
}

#[test]
fn every_entry_comes_after_what_it_lies_on_and_has_a_reason() {
    check(|case| {
        let Ok(plan) = case.plan(Level::TestExecution) else { return Ok(false) };
        for (index, entry) in plan.view.iter().enumerate() {
            prop_assert!(!entry.because.is_empty(), "{entry} has no reason");
            for earlier in &plan.view[..index] {
                prop_assert!(!earlier.path.starts_with(&entry.path) || earlier.path == entry.path);
                let mask = matches!(earlier.what, What::Masked { .. });
                prop_assert!(!mask || !entry.path.starts_with(&earlier.path), "{entry} on a mask");
                let link = matches!(earlier.what, What::SymbolicLink { .. });
                prop_assert!(!link || !entry.path.starts_with(&earlier.path), "{entry} in a link");
            }
        }
        Ok(true)
    });
}

/// Whatever is granted beside it: a hidden place is not there, or is an empty thing.
#[test]
fn nothing_hidden_can_be_read_or_written() {
    check(|case| {
        let Ok(plan) = case.plan(Level::TestExecution) else { return Ok(false) };
        let secrets = ["/etc/shadow", "/home/u/.local/state/rung", "/srv/shared/rung"];
        let host = case.host();
        let there = |path: &&&str| host.path(Path::new(path)).is_some();
        let hidden = case.hidden.iter().filter(there).chain(secrets.iter().filter(there));
        for path in hidden {
            for operation in [
                Operation::List(path.into()),
                Operation::Read(format!("{path}/key").into()),
                Operation::Write(format!("{path}/key").into()),
            ] {
                let answer = predict(&plan, &operation).answer;
                let scratch = is_scratch(&plan, path);
                prop_assert!(answer != Answer::Allowed || scratch, "{operation:?}");
            }
        }
        Ok(true)
    });
}

/// Whether the view has something of its own where the host has `path`.
fn is_scratch(plan: &SandboxPlan, path: &str) -> bool {
    let host_object =
        |what: &What| !matches!(what, What::Private { .. } | What::Directory | What::Masked { .. });
    let top = plan.view.iter().rev().find(|it| Path::new(path).starts_with(&it.path));
    top.is_none_or(|it| !host_object(&it.what))
}

#[test]
fn no_protected_name_can_be_written_replaced_or_moved_away() {
    check(|case| {
        let level = Level::LocalWrites;
        let Ok(plan) = case.plan(level) else { return Ok(false) };
        let workspace = Path::new(case.workspace);
        let host = case.host();
        for entry in &case.profile(level).filesystem.protected {
            let path = workspace.join(&entry.name);
            let watched = plan.watched.iter().any(|it| it.path == path);
            let spare = workspace.join("spare");
            let attempts = [
                Operation::Write(path.clone()),
                Operation::Delete(path.clone()),
                Operation::Rename { from: path.clone(), to: spare.clone() },
                Operation::Rename { from: spare.clone(), to: path.clone() },
                Operation::Create(path.join("below")),
            ];
            for operation in attempts {
                let answer = predict(&plan, &operation).answer;
                prop_assert!(watched || answer != Answer::Allowed, "{operation:?}");
            }
            for above in path.ancestors().skip(1).take_while(|it| *it != workspace) {
                let moved = Operation::Rename { from: above.to_path_buf(), to: spare.clone() };
                let answer = predict(&plan, &moved).answer;
                let absent = host.path(above).is_none();
                prop_assert!(absent || answer != Answer::Allowed, "{moved:?}");
            }
        }
        Ok(true)
    });
}

#[test]
fn nothing_of_the_host_is_writable_but_the_workspace() {
    check(|case| {
        for level in [Level::ReadOnlyResearch, Level::LocalWrites, Level::TestExecution] {
            let Ok(plan) = case.plan(level) else { return Ok(false) };
            for entry in &plan.view {
                if let What::Bind { access: Access::Write, .. } = entry.what {
                    prop_assert_eq!(&entry.path, Path::new(case.workspace));
                    prop_assert!(level > Level::ReadOnlyResearch);
                }
            }
        }
        Ok(true)
    });
}

#[test]
fn no_variable_passes_that_the_profile_does_not_name_or_that_is_code() {
    check(|case| {
        let Ok(plan) = case.plan(Level::TestExecution) else { return Ok(false) };
        for (name, variable) in &plan.command.environment {
            let passed = variable.value == Arg::try_from("of the caller").unwrap();
            let named = ["LANG", "RUST_LOG", "TERM"].contains(&name.as_str());
            prop_assert!(!passed || named, "{name} passed");
        }
        Ok(true)
    });
}

#[test]
fn the_plan_needs_no_path_that_was_not_asked_about() {
    check(|case| {
        let level = Level::TestExecution;
        let (request, profile, mut host) = (case.request(level), case.profile(level), case.host());
        let all = hosts::plan(&request, &profile, &host);
        let own = host.state_directories.clone();
        let mut wanted = wanted_paths(&profile, &request.workspace, &request.home, &own);
        wanted.extend(wanted_behind_links(&profile, &request.workspace, &host.paths));
        wanted.extend(lasting_paths());
        host.paths.retain(|path, _| wanted.iter().any(|it| it == path));
        prop_assert_eq!(&hosts::plan(&request, &profile, &host), &all);
        Ok(all.is_ok())
    });
}
