//! Whether one plan allows nothing that another does not, in every dimension that is local.
//!
//! This is what makes the ladder a ladder: each level's plan is within the next one's. What a view
//! shows changes only where an entry lies, so comparing the two plans at every entry of either is
//! comparing them everywhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::surface::{Host, Surface};
use super::{Access, SandboxPlan};

/// Succeeds if everything that `inner` allows, `outer` allows too; otherwise says what does not
/// fit, one sentence each.
pub fn within(inner: &SandboxPlan, outer: &SandboxPlan) -> Result<(), Vec<String>> {
    let mut excess = Vec::new();
    for path in places(inner, outer) {
        excess.extend(view_excess(inner, outer, path));
        let (ours, theirs) = (inner.landlock.rights_at(path), outer.landlock.rights_at(path));
        if !theirs.contains(ours) {
            excess.push(format!("Landlock allows {} more at `{}`", ours - theirs, path.display()));
        }
    }
    excess.extend(watch_excess(inner, outer));
    excess.extend(other_excess(inner, outer));
    excess.extend(limit_excess(inner, outer));
    if excess.is_empty() { Ok(()) } else { Err(excess) }
}

/// Every path where either plan changes its mind.
fn places<'a>(inner: &'a SandboxPlan, outer: &'a SandboxPlan) -> BTreeSet<&'a Path> {
    let of = |plan: &'a SandboxPlan| {
        let view = plan.view.iter().map(|entry| entry.path.as_path());
        view.chain(plan.landlock.places().map(PathBuf::as_path))
    };
    of(inner).chain(of(outer)).collect()
}

fn view_excess(inner: &SandboxPlan, outer: &SandboxPlan, path: &Path) -> Option<String> {
    let (ours, theirs) = (inner.surface(path), outer.surface(path));
    let more = |what: &str| Some(format!("`{}` {what}", path.display()));
    match (ours, theirs) {
        (
            Surface::Nothing
            | Surface::Skeleton
            | Surface::Link
            | Surface::Masked
            | Surface::Text,
            _,
        )
        // Where the way out is open, rung's own resolver stands in for the machine's.
        | (Surface::Host(_), Surface::Text) => None,
        (Surface::Host(ours), Surface::Host(theirs)) => host_excess(&ours, &theirs, path),
        (
            Surface::Private { size, files, access, programs },
            Surface::Private {
                size: size_2,
                files: files_2,
                access: access_2,
                programs: programs_2,
            },
        ) => {
            let fits =
                size <= size_2 && files <= files_2 && access <= access_2 && programs <= programs_2;
            if fits { None } else { more("is a larger private place") }
        }
        // A place inside the run's own scratch that the other covers: there is nothing to see here.
        (Surface::Private { .. }, _) if inner.mount_of(path) != path => None,
        (Surface::Private { access, programs, .. }, Surface::Host(theirs)) => {
            let fits = access <= theirs.access && programs <= theirs.programs;
            if fits { None } else { more("is private and allows more than the host's object") }
        }
        (Surface::Proc { masked }, Surface::Proc { masked: theirs }) => {
            let all = theirs.iter().all(|name| masked.contains(name));
            if all { None } else { more("masks fewer names") }
        }
        (Surface::Devices { shm, files }, Surface::Devices { shm: shm_2, files: files_2 }) => {
            if shm <= shm_2 && files <= files_2 { None } else { more("has more shared memory") }
        }
        (
            Surface::Host(_)
            | Surface::Private { .. }
            | Surface::Proc { .. }
            | Surface::Devices { .. },
            _,
        ) => more("shows something that the other does not"),
    }
}

fn host_excess(ours: &Host<'_>, theirs: &Host<'_>, path: &Path) -> Option<String> {
    let more = |what: &str| Some(format!("`{}` {what}", path.display()));
    if object(ours, path) != object(theirs, path) {
        return more("is another object of the host");
    }
    if ours.root == theirs.root && (ours.device, ours.inode) != (theirs.device, theirs.inode) {
        return more("is another object of the host");
    }
    if ours.access > theirs.access {
        return more("may be written");
    }
    if ours.programs && !theirs.programs {
        return more("may start programs");
    }
    if ours.access == Access::Write && theirs.pinned && !ours.pinned {
        return more("may be moved away");
    }
    None
}

/// The path on the host that a path of the view is.
fn object(host: &Host<'_>, path: &Path) -> PathBuf {
    match path.strip_prefix(host.root) {
        Ok(rest) if rest.as_os_str().is_empty() => host.source.to_path_buf(),
        Ok(rest) => host.source.join(rest),
        Err(_) => host.source.to_path_buf(),
    }
}

/// What the other plan undoes at the end, this one must undo or not be able to do.
fn watch_excess(inner: &SandboxPlan, outer: &SandboxPlan) -> Vec<String> {
    let writable = |path: &Path| match inner.surface(path) {
        Surface::Host(host) => host.access == Access::Write,
        Surface::Nothing
        | Surface::Skeleton
        | Surface::Private { .. }
        | Surface::Proc { .. }
        | Surface::Devices { .. }
        | Surface::Link
        | Surface::Text
        | Surface::Masked => false,
    };
    outer
        .watched
        .iter()
        .filter(|it| writable(&it.path))
        .filter(|it| !inner.watched.iter().any(|ours| ours.path == it.path))
        .map(|it| format!("`{}` is not watched", it.path.display()))
        .collect()
}

fn other_excess(inner: &SandboxPlan, outer: &SandboxPlan) -> Vec<String> {
    let mut excess = Vec::new();
    let mut check = |fits: bool, what: String| {
        if !fits {
            excess.push(what);
        }
    };
    for name in inner.command.environment.keys() {
        let known = outer.command.environment.contains_key(name);
        check(known, format!("the variable `{name}` is passed"));
    }
    let loopback = inner.network.loopback.is_none() || outer.network.loopback.is_some();
    check(loopback, "the loopback interface is up".to_owned());
    let theirs = outer.network.egress.as_ref().map_or(&[][..], |it| &it.destinations);
    for destination in inner.network.egress.iter().flat_map(|it| &it.destinations) {
        let known = theirs.iter().any(|it| destination.is_within(it));
        check(known, format!("the host `{}` is reachable", destination.to));
    }
    let lent = outer.network.egress.as_ref().map_or(&[][..], |it| &it.credentials);
    for credential in inner.network.egress.iter().flat_map(|it| &it.credentials) {
        check(lent.contains(credential), format!("the credential `{}` is lent", credential.name));
    }
    let (ours, theirs) = (&inner.landlock, &outer.landlock);
    check(
        theirs.handled_net & !ours.handled_net == 0 && theirs.scoped & !ours.scoped == 0,
        "Landlock leaves sockets or signals open".to_owned(),
    );
    check(
        inner.syscalls.table <= outer.syscalls.table && inner.syscalls.arch == outer.syscalls.arch,
        "the system call table is wider".to_owned(),
    );
    let gate = inner.exec.gate <= outer.exec.gate;
    check(gate, "nobody decides about the programs that it starts".to_owned());
    check(inner.identity == outer.identity, "it runs as another user".to_owned());
    excess
}

fn limit_excess(inner: &SandboxPlan, outer: &SandboxPlan) -> Vec<String> {
    let (ours, theirs) = (&inner.limits, &outer.limits);
    let output = match (&inner.output.max, &outer.output.max) {
        (_, None) => true,
        (Some(ours), Some(theirs)) => ours.max <= theirs.max,
        (None, Some(_)) => false,
    };
    let layer = match (&ours.layer, &theirs.layer) {
        (Some(ours), Some(theirs)) => {
            ours.size.max <= theirs.size.max && ours.files.max <= theirs.files.max
        }
        // Without a layer what is written goes into the tree itself, or nothing is.
        (None, _) | (Some(_), None) => true,
    };
    [
        ("wall", ours.wall.max <= theirs.wall.max),
        ("grace", ours.grace.max <= theirs.grace.max),
        ("processes", ours.processes.max <= theirs.processes.max),
        ("open_files", ours.open_files.max <= theirs.open_files.max),
        ("memory", ours.memory.max <= theirs.memory.max),
        ("file", ours.file.max <= theirs.file.max),
        ("session", layer),
        ("output", output),
    ]
    .into_iter()
    .filter(|(_, fits)| !fits)
    .map(|(name, _)| format!("the limit `{name}` is higher"))
    .collect()
}
