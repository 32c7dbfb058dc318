//! The view: which places of the host the command sees, and what lies where nothing of the host is.
//!
//! The root is empty, so a place is visible only because an entry puts it there. Where grants nest,
//! the deepest one decides about its own tree. Every host object is bound at its canonical path;
//! another spelling of it becomes a symbolic link, so that no mount ever passes through a link
//! that somebody may have planted. What is hidden lies on top of everything and stays there.

use std::path::{Path, PathBuf};

use super::egress::{self, AUTHORITIES, OwnFiles};
use super::paths::{
    HOSTS, PROC_MASKED, PROCESSORS, RESOLVER, VAR_TMP, between, expand, in_proc, overlap,
};
use super::protect::protect;
use super::{
    Absent, Access, Late, Layers, MaskedName, NoEffect, PlanError, ViewEntry, Watched, What, caches,
};
use crate::model::{
    HostFacts, Mechanism, Origin, PathFact, PathKind, PathMap, RepositoryLayer, Request, Tree,
    lies_in, walk_order,
};
use crate::profile::{Profile, WorkspaceMode};

/// Places that are rung's own in every view; nothing of the host can be granted there.
const OWN: [&str; 5] = ["/", "/run", "/tmp", "/var/run", "/var/tmp"];
/// The same for everything below them.
const OWN_TREES: [&str; 3] = ["/dev", "/proc", "/sys"];

/// The finished view with what could not become part of it.
pub(super) struct View {
    pub(super) entries: Vec<ViewEntry>,
    pub(super) watched: Vec<Watched>,
    pub(super) absent: Vec<Absent>,
}

/// One entry per path: the ground that masks and protections lie on.
pub(super) type Ground = PathMap<ViewEntry>;

/// What lies on the ground: at one path, a later layer covers an earlier one.
#[derive(Default)]
pub(super) struct Cover {
    pub(super) pinned: PathMap<ViewEntry>,
    pub(super) protected: PathMap<ViewEntry>,
    masked: PathMap<ViewEntry>,
}

/// A profile line that opens a path.
struct Opening<'a> {
    path: &'a str,
    access: Access,
    programs: bool,
    because: &'a Origin,
}

/// A path of this host that must stay unseen.
struct Hidden {
    path: PathBuf,
    kind: PathKind,
    /// One of rung's own directories need not be there yet.
    exists: bool,
    because: Origin,
}

pub(super) fn build(
    profile: &Profile,
    request: &Request,
    host: &HostFacts,
    workspace: &PathFact,
    files: Option<OwnFiles>,
) -> Result<View, PlanError> {
    let hidden = hidden(profile, request, host)?;
    if let Some(it) = hidden.iter().find(|it| lies_in(&request.workspace, &it.path)) {
        let why = format!("{} hides `{}`", it.because, it.path.display());
        return Err(PlanError::Workspace { path: request.workspace.clone(), why });
    }
    let mut absent = Vec::new();
    let mut links = Vec::new();
    let mut written = Vec::new();
    let mut ground = own_places(profile, host);
    let home = home(profile, request, host, &mut ground, &mut links)?;
    for opening in openings(profile) {
        let path = reserved(&opening, &request.home, &home)?;
        let Some(fact) = object(host, &path) else {
            absent.push(Absent { path, why: NoEffect::NotShown, because: opening.because.clone() });
            continue;
        };
        reserved_place(&opening, &fact.canonical, &home)?;
        if opening.access == Access::Write {
            refuse_writes_to_rung(&opening, &fact.canonical, request, host)?;
            written.push((fact.canonical.clone(), opening.because.clone()));
        }
        if hidden.iter().any(|it| lies_in(&fact.canonical, &it.path)) {
            absent.push(Absent { path, why: NoEffect::NotShown, because: opening.because.clone() });
            continue;
        }
        if path != fact.canonical {
            links.push((path, fact.canonical.clone(), opening.because.clone()));
        }
        open(&mut ground, &opening, fact);
    }
    let is_hidden = |path: &Path| hidden.iter().any(|it| lies_in(path, &it.path));
    caches::lay(profile, request, host, is_hidden, &mut ground, &mut absent);
    ground.insert(request.workspace.clone(), workspace_entry(profile, request, workspace));
    let mut cover = Cover::default();
    repository(profile, request, host, &hidden, (&mut ground, &mut cover), &mut absent);
    merge(&mut ground, request);
    shared_tmp(profile, host, &mut ground);
    if let Some(files) = files {
        own_files(files, host, &home, &mut ground)?;
    }
    link(&mut ground, links);
    mount_points_exist(&ground, host)?;

    let watched = protect(profile, request, host, &ground, &written, &mut cover)?;
    mask(hidden, host, &ground, &mut cover)?;
    Ok(View { entries: stack(ground, cover), watched, absent })
}

/// What every view has, whatever the profile says.
fn own_places(profile: &Profile, host: &HostFacts) -> Ground {
    let tmp = &profile.filesystem.tmp;
    let masked = PROC_MASKED
        .iter()
        .filter_map(|name| {
            let fact = host.path(&in_proc(name))?;
            Some(MaskedName { name: (*name).to_owned(), kind: fact.canonical_kind })
        })
        .collect();
    let own = |because: &str| vec![Origin::built_in(because)];
    let mut ground = Ground::new();
    for (path, what, because) in [
        (
            "/dev",
            What::Devices { shm: tmp.size, files: tmp.files },
            own("the devices that programs expect, none of the machine's own"),
        ),
        ("/proc", What::Proc { masked }, own("programs look at themselves there")),
        ("/run", What::Directory, own("the host's sockets are not in the view")),
        ("/sys", What::Directory, own("the machine's devices are not in the view")),
        ("/tmp", private(profile), vec![tmp.origin.clone()]),
        ("/var", What::Directory, own("a place for what is mounted below it")),
    ] {
        let path = PathBuf::from(path);
        ground.insert(path.clone(), ViewEntry { path, what, because });
    }
    if let Some(fact) = host.path(Path::new(PROCESSORS)) {
        let path = fact.canonical.clone();
        let what = bind(fact, Access::Read, false);
        let because = own("runtimes count the processors there");
        ground.insert(path.clone(), ViewEntry { path, what, because });
    }
    ground
}

fn private(profile: &Profile) -> What {
    let tmp = &profile.filesystem.tmp;
    What::Private {
        size: tmp.size,
        files: tmp.files,
        access: Access::Write,
        programs: tmp.run_programs,
    }
}

fn bind(fact: &PathFact, access: Access, programs: bool) -> What {
    What::Bind {
        source: fact.canonical.clone(),
        kind: fact.canonical_kind,
        device: fact.device,
        inode: fact.inode,
        access,
        programs,
    }
}

/// Puts an empty directory of the run's own where the home directory is, and says where that is.
fn home(
    profile: &Profile,
    request: &Request,
    host: &HostFacts,
    ground: &mut Ground,
    links: &mut Vec<(PathBuf, PathBuf, Origin)>,
) -> Result<PathBuf, PlanError> {
    let spelled = request.home.clone();
    let place = host.path(&spelled).map_or(&spelled, |fact| &fact.canonical).clone();
    let because = Origin::built_in("an empty home, so that nothing of the real one is in the view");
    if place == Path::new("/tmp") {
        return Ok(place);
    }
    let own_tree = OWN_TREES.iter().any(|tree| lies_in(&place, Path::new(tree)));
    if own_tree || ground.contains(&place) || OWN.iter().any(|own| place == Path::new(own)) {
        let why = "that place is rung's own in every run; set HOME to another".to_owned();
        return Err(PlanError::Home { path: spelled, why });
    }
    if place != spelled {
        links.push((spelled, place.clone(), because.clone()));
    }
    let entry = ViewEntry { path: place.clone(), what: private(profile), because: vec![because] };
    ground.insert(place.clone(), entry);
    Ok(place)
}

/// Every profile line that opens something, in the profile's order.
fn openings(profile: &Profile) -> Vec<Opening<'_>> {
    let filesystem = &profile.filesystem;
    let read = filesystem.read.iter().map(|it| (it, Access::Read));
    let write = filesystem.write.iter().map(|it| (it, Access::Write));
    let grants = read.chain(write).map(|(grant, access)| Opening {
        path: &grant.path,
        access,
        programs: grant.programs,
        because: &grant.origin,
    });
    let toolchains = filesystem.toolchains.iter().flat_map(|it| {
        it.directories.iter().map(|path| Opening {
            path,
            access: Access::Read,
            programs: true,
            because: &it.origin,
        })
    });
    grants.chain(toolchains).collect()
}

/// What a path leads to; nothing for a link to nowhere.
fn object<'a>(host: &'a HostFacts, path: &Path) -> Option<&'a PathFact> {
    host.path(path).filter(|fact| fact.canonical_kind != PathKind::SymbolicLink)
}

/// The path that an opening means, unless nothing of the host can be there.
fn reserved(opening: &Opening<'_>, home: &Path, place: &Path) -> Result<PathBuf, PlanError> {
    let Some(path) = expand(opening.path, home) else {
        let why = "write an absolute path, or one that begins with `~/`, without `..`".to_owned();
        let name = opening.path.to_owned();
        return Err(PlanError::Entry { name, because: opening.because.clone(), why });
    };
    reserved_place(opening, &path, place)?;
    Ok(path)
}

fn reserved_place(opening: &Opening<'_>, path: &Path, home: &Path) -> Result<(), PlanError> {
    let own_tree = OWN_TREES.iter().any(|tree| lies_in(path, Path::new(tree)));
    let own = OWN.iter().any(|own| path.as_os_str() == *own);
    // A profile may say again what every view has.
    if path == Path::new(PROCESSORS) || (!own_tree && !own && path != home) {
        return Ok(());
    }
    let why = format!(
        "`{}` is rung's own in every run; name the places that are needed, one by one",
        path.display()
    );
    let name = opening.path.to_owned();
    Err(PlanError::Entry { name, because: opening.because.clone(), why })
}

/// A write grant may reach neither rung's own files nor the workspace, from above or from below.
fn refuse_writes_to_rung(
    opening: &Opening<'_>,
    path: &Path,
    request: &Request,
    host: &HostFacts,
) -> Result<(), PlanError> {
    let because = opening.because.clone();
    if let Some(own) = host.state_directories.iter().find(|own| overlap(own, path)) {
        return Err(PlanError::ReachesProtected { protected: own.clone(), because });
    }
    if lies_in(&request.workspace, path) && request.workspace != path {
        let why = "it contains the workspace, whose protected names could be moved away".to_owned();
        return Err(PlanError::Entry { name: opening.path.to_owned(), because, why });
    }
    Ok(())
}

/// Adds one opening; two that name the same object add up.
fn open(ground: &mut Ground, opening: &Opening<'_>, fact: &PathFact) {
    let path = fact.canonical.clone();
    let because = opening.because.clone();
    if let Some(ViewEntry { what: What::Bind { access, programs, .. }, because: origins, .. }) =
        ground.get_mut(&path)
    {
        *access = (*access).max(opening.access);
        *programs |= opening.programs;
        add_origin(origins, because);
        return;
    }
    let what = bind(fact, opening.access, opening.programs);
    ground.insert(path.clone(), ViewEntry { path, what, because: vec![because] });
}

/// Drops what an entry above already gives, and what a grant reads inside the workspace, which the
/// workspace itself shows.
fn merge(ground: &mut Ground, request: &Request) {
    let workspace = &request.workspace;
    let paths: Vec<PathBuf> = ground.keys().filter(|it| *it != workspace).cloned().collect();
    for path in paths {
        let Some(bound) = ground.get(&path).and_then(ViewEntry::bound) else { continue };
        let Some((above, entry)) = ground.above(&path) else { continue };
        // What is written into a cache goes elsewhere than what is written around it.
        if entry.is_cache(request) || ground.get(&path).is_some_and(|it| it.is_cache(request)) {
            continue;
        }
        let same = entry.bound() == Some(bound);
        let read_inside = above == workspace && bound.0 == Access::Read;
        if !same && !read_inside {
            continue;
        }
        let above = above.to_path_buf();
        let origins = ground.remove(&path).map(|entry| entry.because).unwrap_or_default();
        if let Some(entry) = ground.get_mut(&above) {
            for origin in origins {
                add_origin(&mut entry.because, origin);
            }
        }
    }
}

fn workspace_entry(profile: &Profile, request: &Request, fact: &PathFact) -> ViewEntry {
    let access = match profile.filesystem.workspace.mode {
        WorkspaceMode::ReadOnly => Access::Read,
        WorkspaceMode::Direct | WorkspaceMode::Session => Access::Write,
    };
    let programs = profile.exec.workspace_programs.is_some();
    let mut because = vec![profile.filesystem.workspace.origin.clone()];
    because.extend(profile.exec.workspace_programs.clone());
    let what = match &request.tree {
        Tree::Itself | Tree::Worktree => bind(fact, access, programs),
        Tree::Overlay(layers) => What::Overlay {
            lower: fact.canonical.clone(),
            device: fact.device,
            inode: fact.inode,
            layers: Layers::Kept(layers.clone()),
            access,
            programs,
        },
        Tree::Copy(copy) => What::Bind {
            source: copy.directory.clone(),
            kind: PathKind::Directory,
            device: copy.device,
            inode: copy.inode,
            access,
            programs,
        },
    };
    ViewEntry { path: request.workspace.clone(), what, because }
}

/// The repository of a linked worktree or a submodule, which lies outside the workspace. What the
/// command writes there lands in a layer, of which rung keeps only what belongs to this checkout. New
/// objects may go straight in: their names say what is in them, and nothing else refers to them. What
/// says where more objects are stays as it is.
fn repository(
    profile: &Profile,
    request: &Request,
    host: &HostFacts,
    hidden: &[Hidden],
    (ground, cover): (&mut Ground, &mut Cover),
    absent: &mut Vec<Absent>,
) {
    let Some(repository) = &request.repository else { return };
    let common = &repository.common;
    let because = Origin::built_in("the repository that the workspace is a checkout of");
    let found = |path: &Path| {
        host.path(path).filter(|it| it.kind == PathKind::Directory && it.canonical == *path)
    };
    let reserved = OWN.iter().any(|it| common.as_os_str() == *it)
        || OWN_TREES.iter().any(|it| lies_in(common, Path::new(it)))
        || overlap(common, &request.workspace)
        || host.state_directories.iter().any(|it| overlap(it, common))
        || hidden.iter().any(|it| lies_in(common, &it.path));
    let Some(fact) = found(common).filter(|_| !reserved) else {
        absent.push(Absent { path: common.clone(), why: NoEffect::NotShown, because });
        return;
    };
    let reads = profile.filesystem.workspace.mode == WorkspaceMode::ReadOnly;
    let limits = &profile.limits;
    let layer = match &repository.layer {
        RepositoryLayer::Kept(store) if !reads => Some(Layers::Kept(store.clone())),
        RepositoryLayer::OfTheRun if !reads && host.works(Mechanism::Overlay) => {
            Some(Layers::Private { size: limits.session.max, files: limits.session_files.max })
        }
        RepositoryLayer::Nothing | RepositoryLayer::Kept(_) | RepositoryLayer::OfTheRun => None,
    };
    let what = match &layer {
        None => bind(fact, Access::Read, false),
        Some(layers) => What::Overlay {
            lower: fact.canonical.clone(),
            device: fact.device,
            inode: fact.inode,
            layers: layers.clone(),
            access: Access::Write,
            programs: false,
        },
    };
    let mut put = |path: PathBuf, what: What| {
        ground.insert(path.clone(), ViewEntry { path, what, because: vec![because.clone()] });
    };
    put(common.clone(), what);
    let objects = common.join("objects");
    let info = objects.join("info");
    if let (Some(_), true, Some(fact), Some(elsewhere)) =
        (layer.as_ref(), repository.objects, found(&objects), found(&info))
    {
        put(objects, bind(fact, Access::Write, false));
        let (kind, device, inode) = (elsewhere.kind, elsewhere.device, elsewhere.inode);
        let what = What::Protected { kind, device, inode };
        let entry = ViewEntry { path: info.clone(), what, because: vec![because.clone()] };
        cover.protected.insert(info, entry);
    }
}

/// `/var/tmp` is `/tmp` under another name, or a private place of its own where something lies
/// below it or the host's would show.
fn shared_tmp(profile: &Profile, host: &HostFacts, ground: &mut Ground) {
    let path = PathBuf::from(VAR_TMP);
    let busy = ground.any_in(&path);
    let on_host = ground.get(Path::new("/var")).and_then(ViewEntry::bound).is_some();
    let missing = host.path(&path).is_none_or(|fact| fact.kind != PathKind::Directory);
    if on_host && missing {
        return;
    }
    let what = if busy || on_host {
        private(profile)
    } else {
        What::SymbolicLink { target: PathBuf::from("/tmp") }
    };
    let because = vec![profile.filesystem.tmp.origin.clone()];
    if !ground.contains(&path) {
        ground.insert(path.clone(), ViewEntry { path, what, because });
    }
}

/// Puts the run's own `/etc/resolv.conf` and `/etc/hosts` where the host's lead to, often in `/run`, and
/// the certificates that are believed inside where the host has its own.
fn own_files(
    files: OwnFiles,
    host: &HostFacts,
    home: &Path,
    ground: &mut Ground,
) -> Result<(), PlanError> {
    let fact = host.path(Path::new(RESOLVER)).filter(|it| it.canonical_kind == PathKind::File);
    let Some(fact) = fact else {
        return Err(PlanError::Entry {
            name: RESOLVER.to_owned(),
            because: files.because,
            why: "names need this file, and it is not there; an empty one is enough".to_owned(),
        });
    };
    let path = fact.canonical.clone();
    let what = What::Text { text: files.resolver, late: None };
    let because = vec![files.because];
    ground.insert(path.clone(), ViewEntry { path, what, because: because.clone() });
    let hosts = host.path(Path::new(HOSTS)).filter(|it| it.canonical_kind == PathKind::File);
    if let Some(path) = hosts.map(|it| it.canonical.clone()) {
        let what = What::Text { text: files.hosts, late: None };
        ground.insert(path.clone(), ViewEntry { path, what, because });
    }
    for (name, text, because) in files.decoys {
        let path = home.join(name);
        let what = What::Text { text, late: Some(Late::Placeholders) };
        ground.insert(path.clone(), ViewEntry { path, what, because });
    }
    let Some(because) = files.authorities else { return Ok(()) };
    let stores = egress::stores(host).map(Path::to_path_buf);
    for path in stores.chain([PathBuf::from(AUTHORITIES)]) {
        let what = What::Text { text: String::new(), late: Some(Late::Authorities) };
        let because = vec![because.clone()];
        ground.insert(path.clone(), ViewEntry { path, what, because });
    }
    Ok(())
}

/// Adds the other spellings, where no bound tree and no other link already shows them.
fn link(ground: &mut Ground, mut links: Vec<(PathBuf, PathBuf, Origin)>) {
    links.sort_by(|a, b| walk_order(&a.0, &b.0));
    for (path, target, because) in links {
        let shown = match covering(ground, &path).map(|entry| &entry.what) {
            Some(What::Bind { .. } | What::Overlay { .. } | What::SymbolicLink { .. }) => true,
            Some(_) | None => ground.contains(&path),
        };
        if !shown && !ground.any_in(&path) {
            let what = What::SymbolicLink { target };
            ground.insert(path.clone(), ViewEntry { path, what, because: vec![because] });
        }
    }
}

/// A mount point inside a bound tree must be there already: nothing is created on the host.
fn mount_points_exist(ground: &Ground, host: &HostFacts) -> Result<(), PlanError> {
    for (path, entry) in ground {
        let bound = |it: &(_, &ViewEntry)| it.1.bound().is_some();
        let Some((above, _)) = ground.above(path).filter(bound) else { continue };
        if host.path(path).is_none_or(|fact| fact.canonical != *path) {
            let why = format!("the place is inside `{}` and does not exist there", above.display());
            let because = entry.because.first().cloned();
            let because = because.unwrap_or_else(|| Origin::built_in("a place of every run"));
            return Err(PlanError::Entry { name: path.display().to_string(), because, why });
        }
    }
    Ok(())
}

/// What the profile, the toolchains and rung itself hide, where it exists, by canonical path.
fn hidden(
    profile: &Profile,
    request: &Request,
    host: &HostFacts,
) -> Result<Vec<Hidden>, PlanError> {
    let filesystem = &profile.filesystem;
    let entries = filesystem.hidden.iter().map(|it| (&it.name, &it.origin));
    let credentials = filesystem
        .toolchains
        .iter()
        .flat_map(|it| it.credentials.iter().map(|name| (name, &it.origin)));
    let mut found = Vec::new();
    for (name, because) in entries.chain(credentials) {
        let Some(path) = expand(name, &request.home) else {
            let why = "write an absolute path, or one that begins with `~/`, without `..`";
            let (name, because, why) = (name.clone(), because.clone(), why.to_owned());
            return Err(PlanError::Entry { name, because, why });
        };
        found.extend(object(host, &path).map(|fact| Hidden {
            path: fact.canonical.clone(),
            kind: fact.canonical_kind,
            exists: true,
            because: because.clone(),
        }));
    }
    found.extend(host.state_directories.iter().map(|path| Hidden {
        path: host.path(path).map_or(path, |fact| &fact.canonical).clone(),
        kind: host.path(path).map_or(PathKind::Directory, |fact| fact.canonical_kind),
        exists: host.path(path).is_some(),
        because: Origin::built_in("rung's own records and profiles"),
    }));
    Ok(found)
}

/// Lays a mask on everything hidden that a bound tree would show.
fn mask(
    hidden: Vec<Hidden>,
    host: &HostFacts,
    ground: &Ground,
    cover: &mut Cover,
) -> Result<(), PlanError> {
    for Hidden { path, kind, because, .. } in hidden.into_iter().filter(|it| it.exists) {
        let Some(shown) = covering(ground, &path) else { continue };
        let Some((access, _)) = shown.bound() else { continue };
        if access == Access::Write {
            for directory in between(&shown.path, &path) {
                pin(directory, host, &because, cover)?;
            }
        }
        let kind = if kind == PathKind::Directory { kind } else { PathKind::File };
        lay(&mut cover.masked, &path, What::Masked { kind }, |origins| origins.push(because));
    }
    Ok(())
}

/// Keeps a directory where it is by making it a mount point.
pub(super) fn pin(
    directory: &Path,
    host: &HostFacts,
    because: &Origin,
    cover: &mut Cover,
) -> Result<(), PlanError> {
    let refuse = |found| PlanError::Unprotectable {
        path: directory.to_path_buf(),
        found,
        because: because.clone(),
    };
    let fact = host.path(directory).ok_or_else(|| refuse("not there any more"))?;
    match fact.kind {
        PathKind::Directory => {}
        PathKind::SymbolicLink => return Err(refuse("a symbolic link")),
        PathKind::File => return Err(refuse("a file")),
        PathKind::Special => return Err(refuse("no directory")),
    }
    let what = What::Pinned { device: fact.device, inode: fact.inode };
    lay(&mut cover.pinned, directory, what, |origins| add_origin(origins, because.clone()));
    Ok(())
}

/// Lays something on a path, unless it lies there already, and adds why.
fn lay(
    layer: &mut PathMap<ViewEntry>,
    path: &Path,
    what: What,
    add: impl FnOnce(&mut Vec<Origin>),
) {
    let new = || ViewEntry { path: path.to_path_buf(), what, because: Vec::new() };
    layer.update(path, new, |entry| add(&mut entry.because));
}

fn add_origin(origins: &mut Vec<Origin>, origin: Origin) {
    if !origins.contains(&origin) {
        origins.push(origin);
    }
}

/// The ground entry that decides what is at `path`: the deepest one at or above it.
pub(super) fn covering<'a>(ground: &'a Ground, path: &Path) -> Option<&'a ViewEntry> {
    ground.covering(path).map(|(_, entry)| entry)
}

/// All entries in the order of mounting. Nothing lies below a mask, and no directory is pinned
/// inside a protected one, where it would be writable again.
fn stack(ground: Ground, cover: Cover) -> Vec<ViewEntry> {
    let Cover { pinned, protected, masked } = cover;
    let hidden = |path: &Path| masked.above(path).is_some();
    let buried = |path: &Path| masked.covering(path).is_some();
    let ground = ground.into_iter().filter(|(path, _)| !hidden(path));
    let frozen = |path: &Path| protected.covering(path).is_some();
    let pinned = pinned.into_iter().filter(|(path, _)| !buried(path) && !frozen(path));
    let mut stacked: Vec<ViewEntry> = ground.chain(pinned).map(|(_, entry)| entry).collect();
    stacked.extend(protected.iter().filter(|it| !buried(it.0)).map(|it| it.1.clone()));
    stacked.extend(masked.iter().filter(|it| !hidden(it.0)).map(|it| it.1.clone()));
    // The sort is stable, so at one path the layers stay in their order.
    stacked.sort_by(|a, b| walk_order(&a.path, &b.path));
    stacked
}

impl ViewEntry {
    /// The access to a host object that is bound here, and whether its programs may be started.
    pub(super) fn bound(&self) -> Option<(Access, bool)> {
        match &self.what {
            What::Bind { access, programs, .. } | What::Overlay { access, programs, .. } => {
                Some((*access, *programs))
            }
            What::Directory
            | What::Private { .. }
            | What::SymbolicLink { .. }
            | What::Proc { .. }
            | What::Devices { .. }
            | What::Text { .. }
            | What::Masked { .. }
            | What::Pinned { .. }
            | What::Protected { .. } => None,
        }
    }
}
