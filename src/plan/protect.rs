//! Protected names: files in the workspace that others run or trust, such as hooks and editor
//! settings.
//!
//! A read-only mount on the name itself is not enough: whoever renames a directory above it has
//! moved the mount away and may write a new one in its place. So every directory between the
//! workspace and the name is pinned too. A name that does not exist has nothing to mount on, and
//! creating it would litter the user's tree: it is watched, and what the run makes of it is undone.
//! The same goes for a symbolic link, which cannot be mounted over; what it leads to in the
//! workspace is protected like the name itself.

use std::path::{Path, PathBuf};

use super::paths::{GIT, between, leads_to, protected_git_names};
use super::view::{Cover, Ground, covering, pin};
use super::{Access, PlanError, ViewEntry, Watched, What};
use crate::model::{HostFacts, Origin, PathFact, PathKind, PathMap, Request, lies_in};
use crate::profile::Profile;

/// Adds pins and protections to `cover`; returns the names that can only be watched.
pub(super) fn protect(
    profile: &Profile,
    request: &Request,
    host: &HostFacts,
    ground: &Ground,
    written: &[(PathBuf, Origin)],
    cover: &mut Cover,
) -> Result<Vec<Watched>, PlanError> {
    let mut watched = Vec::new();
    let mut names = named(profile, &request.workspace)?;
    add_repositories(profile, host, &mut names);
    let around = Around { request, host, ground, names: &names };
    for (path, because) in &names {
        let (path, because) = (path.clone(), because.clone());
        if !writable(ground, &path) || is_protected(cover, &path) {
            continue;
        }
        // A write grant at or below a protected name says the opposite of it.
        if let Some((_, because)) = written.iter().find(|(it, _)| lies_in(it, &path)) {
            return Err(PlanError::ReachesProtected { protected: path, because: because.clone() });
        }
        match find(request, host, &path, &because, cover)? {
            Found::Object(place, fact) => {
                let what =
                    What::Protected { kind: fact.kind, device: fact.device, inode: fact.inode };
                let entry = ViewEntry { path: place.clone(), what, because: vec![because] };
                cover.protected.insert(place, entry);
            }
            Found::Nothing => watched.push(Watched { path, link: None, because }),
            Found::Link(fact) => {
                let target = protect_target(&around, &path, fact, &because, cover)?;
                watched.extend(target);
                let link = fact.link.clone().unwrap_or_else(|| fact.canonical.clone());
                watched.push(Watched { path, link: Some(link), because });
            }
        }
    }
    Ok(watched)
}

enum Found<'a> {
    /// Something that can be mounted over, at the name or where a directory above it should be.
    Object(PathBuf, &'a PathFact),
    Link(&'a PathFact),
    Nothing,
}

/// The profile's names as paths, sorted, so that a directory comes before what is in it.
fn named(profile: &Profile, workspace: &Path) -> Result<PathMap<Origin>, PlanError> {
    let mut named = PathMap::new();
    for entry in &profile.filesystem.protected {
        let Some(name) = entry.protected_name() else {
            let why = "write a name relative to the workspace, without `..` and patterns; a \
                       directory means all of it";
            return Err(PlanError::Entry {
                name: entry.name.clone(),
                because: entry.origin.clone(),
                why: why.to_owned(),
            });
        };
        named.update(&workspace.join(name), || entry.origin.clone(), |_| ());
    }
    Ok(named)
}

/// Git starts a git in every repository that the workspace's index ties to the tree, so the same
/// names are protected there. A `.git` that is a file says where the rest is: it is protected itself.
fn add_repositories(profile: &Profile, host: &HostFacts, names: &mut PathMap<Origin>) {
    for top in &host.repositories {
        let git = top.join(GIT);
        let is_directory = host.path(&git).is_some_and(|it| it.kind == PathKind::Directory);
        for (name, entry) in protected_git_names(profile) {
            let path = if is_directory { top.join(name) } else { git.clone() };
            names.update(&path, || entry.origin.clone(), |_| ());
        }
    }
}

fn add(path: PathBuf, fact: &PathFact, because: Origin, cover: &mut Cover) {
    let (kind, device, inode) = (fact.canonical_kind, fact.device, fact.inode);
    let what = What::Protected { kind, device, inode };
    let entry = ViewEntry { path: path.clone(), what, because: vec![because] };
    cover.protected.insert(path, entry);
}

/// What does not change from one protected name to the next.
struct Around<'a> {
    request: &'a Request,
    host: &'a HostFacts,
    ground: &'a Ground,
    names: &'a PathMap<Origin>,
}

/// A link that stays the same is worth nothing if what it leads to may be written, or made where
/// there was nothing: that is watched like a name that does not exist. A link on the way could be
/// turned, and no mount can hold it.
fn protect_target(
    around: &Around<'_>,
    link: &Path,
    fact: &PathFact,
    because: &Origin,
    cover: &mut Cover,
) -> Result<Option<Watched>, PlanError> {
    let Around { request, host, ground, names } = *around;
    let refuse = |found| PlanError::Unprotectable {
        path: link.to_path_buf(),
        found,
        because: because.clone(),
    };
    let inside = |path: &Path| {
        lies_in(path, &request.workspace) && path != request.workspace && writable(ground, path)
    };
    let spelled = match &fact.link {
        Some(text) => {
            leads_to(link, text).ok_or_else(|| refuse("a link with `..` after a name"))?
        }
        None => fact.canonical.clone(),
    };
    // Another protected name is looked after by its own entry.
    if names.get(&spelled).is_some() {
        return Ok(None);
    }
    if fact.canonical_kind == PathKind::SymbolicLink {
        if !inside(&spelled) || is_protected(cover, &spelled) {
            return Ok(None);
        }
        return match find(request, host, &spelled, because, cover)? {
            Found::Nothing => {
                Ok(Some(Watched { path: spelled, link: None, because: because.clone() }))
            }
            Found::Object(place, object) => {
                add(place, object, because.clone(), cover);
                Ok(None)
            }
            Found::Link(_) => Err(refuse("a link to another link")),
        };
    }
    let target = &fact.canonical;
    if inside(&spelled) && spelled != *target {
        return Err(refuse("a link that leads through another link"));
    }
    if !inside(target) || is_protected(cover, target) {
        return Ok(None);
    }
    for directory in between(&request.workspace, target) {
        pin(directory, host, because, cover)?;
    }
    add(target.clone(), fact, because.clone(), cover);
    Ok(None)
}

fn writable(ground: &Ground, path: &Path) -> bool {
    let bound = covering(ground, path).and_then(ViewEntry::bound);
    bound.is_some_and(|(access, _)| access == Access::Write)
}

/// Whether the path, or a directory above it, is protected already.
fn is_protected(cover: &Cover, path: &Path) -> bool {
    cover.protected.covering(path).is_some()
}

/// Pins the way from the workspace to `path` as far as it exists, and says what is at its end.
fn find<'a>(
    request: &Request,
    host: &'a HostFacts,
    path: &Path,
    because: &Origin,
    cover: &mut Cover,
) -> Result<Found<'a>, PlanError> {
    for directory in between(&request.workspace, path) {
        match host.path(directory) {
            None => return Ok(Found::Nothing),
            // A `.git` file stands where the directory would be: whoever rewrites it decides
            // which hooks there are.
            Some(fact) if fact.kind == PathKind::File => {
                return Ok(Found::Object(directory.to_path_buf(), fact));
            }
            Some(_) => pin(directory, host, because, cover)?,
        }
    }
    let Some(fact) = host.path(path) else { return Ok(Found::Nothing) };
    match fact.kind {
        PathKind::SymbolicLink => Ok(Found::Link(fact)),
        PathKind::Directory | PathKind::File | PathKind::Special => {
            Ok(Found::Object(path.to_path_buf(), fact))
        }
    }
}
