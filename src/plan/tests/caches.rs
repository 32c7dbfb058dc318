//! Caches: where their layers are, and where there can be none.

use std::path::Path;

use super::*;
use crate::model::ProgramLocation;

const CACHE: &str = "/home/u/.cargo/registry";

fn with_cache() -> (HostFacts, Request, Profile) {
    let mut host = host();
    add(&mut host, CACHE, PathKind::Directory);
    (host, request(Level::TestExecution), profile(Level::TestExecution))
}

fn layers(plan: &SandboxPlan) -> Option<Layers> {
    let entry = plan.view.iter().find(|it| it.path == Path::new(CACHE))?;
    let What::Overlay { layers, access: Access::Write, .. } = &entry.what else { return None };
    Some(layers.clone())
}

fn no_layer(plan: &SandboxPlan) -> bool {
    plan.absent.iter().any(|it| it.path == Path::new(CACHE) && it.why == NoEffect::NoLayer)
}

#[test]
fn a_cache_has_a_layer_of_the_run_or_of_its_session() {
    let (host, mut request, profile) = with_cache();
    let plan = plan_of(&request, &profile, &host).unwrap();
    let (size, files) = (profile.filesystem.tmp.size, profile.filesystem.tmp.files);
    assert_eq!(layers(&plan), Some(Layers::Private { size, files }));
    assert_eq!(plan.limits.layer, None);
    // Programs in it are no part of the toolchain that lies around it.
    let location = |path: &str| plan.exec.location(Path::new(path));
    assert_eq!(location("/home/u/.cargo/registry/x"), ProgramLocation::Workspace);
    assert_eq!(location("/home/u/.cargo/x"), ProgramLocation::Toolchain);

    let store = Store { directory: PathBuf::from("/home/u/.state/c"), device: 8, inode: 9 };
    request.caches.insert(PathBuf::from(CACHE), store.clone());
    let plan = plan_of(&request, &profile, &host).unwrap();
    assert_eq!(layers(&plan), Some(Layers::Kept(store)));
    assert!(plan.limits.layer.is_some());
    assert!(line(&plan, CACHE).contains("write into the session's own layer"));
}

#[test]
fn without_a_layer_a_cache_is_what_the_toolchain_shows_of_it() {
    let (mut host, request, profile) = with_cache();
    let location = |plan: &SandboxPlan| plan.exec.location(Path::new("/home/u/.cargo/registry/x"));
    "6.5.0".clone_into(&mut host.kernel);
    let old = plan_of(&request, &profile, &host).unwrap();
    "6.6.0".clone_into(&mut host.kernel);
    // The control.
    assert!(layers(&plan_of(&request, &profile, &host).unwrap()).is_some());
    let fails = Probe::Fails { cause: Cause::KernelTooOld, detail: String::new() };
    host.probes.insert(Mechanism::Overlay, fails);
    let without = plan_of(&request, &profile, &host).unwrap();
    for plan in [old, without] {
        assert!(layers(&plan).is_none() && no_layer(&plan));
        assert_eq!(location(&plan), ProgramLocation::Toolchain);
        let write = Operation::Write(PathBuf::from(CACHE).join("x"));
        assert_eq!(predict(&plan, &write).answer, Answer::ReadOnly);
    }
}

#[test]
fn a_cache_is_not_merged_into_what_is_writable_around_it() {
    let (host, request, mut profile) = with_cache();
    profile.filesystem.tmp.run_programs = false;
    profile.filesystem.toolchains.clear();
    profile.filesystem.caches = vec![entry("~/.cargo/registry")];
    profile.filesystem.write = vec![grant("~/.cargo", false)];
    assert!(layers(&plan_of(&request, &profile, &host).unwrap()).is_some());
    // Whoever makes that very place writable means it.
    profile.filesystem.write = vec![grant("~/.cargo/registry", false)];
    let plan = plan_of(&request, &profile, &host).unwrap();
    assert!(layers(&plan).is_none());
    assert!(line(&plan, CACHE).ends_with(": read, write"), "{}", line(&plan, CACHE));
}

#[test]
fn what_is_hidden_or_the_workspace_is_no_cache() {
    let (host, request, mut profile) = with_cache();
    profile.filesystem.hidden.push(entry("~/.cargo"));
    let plan = plan_of(&request, &profile, &host).unwrap();
    assert!(layers(&plan).is_none() && !no_layer(&plan));
    let (host, request, mut profile) = with_cache();
    profile.filesystem.caches.push(entry(WORKSPACE));
    let plan = plan_of(&request, &profile, &host).unwrap();
    assert!(line(&plan, WORKSPACE).contains("read, write, start programs"));
}

#[test]
fn a_cache_keeps_the_levels_in_order() {
    let (host, _, _) = with_cache();
    let plan = |level| plan_of(&request(level), &profile(level), &host).unwrap();
    for pair in LEVELS.windows(2) {
        assert_eq!(within(&plan(pair[0]), &plan(pair[1])), Ok(()));
    }
}
