//! Caches of the user's tools: what they keep for all projects.
//!
//! A run finds a cache as it is, and what it writes there lies in a layer on top: a session's own,
//! kept for its next run, or one in memory, gone with the run. So it profits from what others have
//! fetched or built, and leaves nothing that another run, or the user's own tools, would trust.
//! Where there can be no such layer, the view has what it would have without the cache: that part
//! of a read-only tree, or nothing.

use std::path::{Path, PathBuf};

use super::paths::{expand, overlap};
use super::view::Ground;
use super::{Absent, Access, Layers, NoEffect, ViewEntry, What};
use crate::model::{HostFacts, Mechanism, Origin, PathFact, PathKind, Request};
use crate::profile::Profile;

/// The first Linux whose tmpfs has the attributes that a layer needs.
const TMPFS_ATTRIBUTES: (u32, u32) = (6, 6);

/// A cache that is a directory of this host, and where its layer is.
struct Found<'a> {
    fact: &'a PathFact,
    layers: Layers,
    because: &'a Origin,
}

/// The directories of this host that are caches of this profile, canonical.
pub fn caches(profile: &Profile, home: &Path, host: &HostFacts) -> Vec<PathBuf> {
    let directory = |text: &String| {
        let fact = host.path(&expand(text, home)?)?;
        (fact.canonical_kind == PathKind::Directory).then(|| fact.canonical.clone())
    };
    profile.filesystem.all_caches().filter_map(|(text, _)| directory(text)).collect()
}

/// Lays every cache on the ground that can have a layer; the others have no effect.
pub(super) fn lay(
    profile: &Profile,
    request: &Request,
    host: &HostFacts,
    is_hidden: impl Fn(&Path) -> bool,
    ground: &mut Ground,
    absent: &mut Vec<Absent>,
) {
    for (text, because) in profile.filesystem.all_caches() {
        let Some(path) = expand(text, &request.home) else { continue };
        let found = find(&path, profile, request, host, because)
            .filter(|it| !is_hidden(&it.fact.canonical) && has_place(it.fact, host, ground));
        let Some(Found { fact, layers, because }) = found else {
            let there = host.path(&path).is_some_and(|it| !is_hidden(&it.canonical));
            let why = if there { NoEffect::NoLayer } else { NoEffect::NotShown };
            absent.push(Absent { path, why, because: because.clone() });
            continue;
        };
        let path = fact.canonical.clone();
        let what = What::Overlay {
            lower: path.clone(),
            device: fact.device,
            inode: fact.inode,
            layers,
            access: Access::Write,
            programs: profile.filesystem.tmp.run_programs,
        };
        let because = vec![because.clone()];
        ground.insert(path.clone(), ViewEntry { path, what, because });
    }
}

fn find<'a>(
    path: &Path,
    profile: &Profile,
    request: &Request,
    host: &'a HostFacts,
    because: &'a Origin,
) -> Option<Found<'a>> {
    let fact = host.path(path).filter(|it| it.canonical_kind == PathKind::Directory)?;
    let place = &fact.canonical;
    let own = host.state_directories.iter().any(|it| overlap(it, place));
    if own || overlap(place, &request.workspace) || !host.works(Mechanism::Overlay) {
        return None;
    }
    let tmp = &profile.filesystem.tmp;
    let layers = match request.caches.get(place) {
        Some(store) => Layers::Kept(store.clone()),
        None if host.kernel_version() >= TMPFS_ATTRIBUTES => {
            Layers::Private { size: tmp.size, files: tmp.files }
        }
        None => return None,
    };
    Some(Found { fact, layers, because })
}

/// Whether it can be mounted: where something of the host is around it, at a name that is known to
/// be there, and unless a profile makes that very place writable.
fn has_place(fact: &PathFact, host: &HostFacts, ground: &Ground) -> bool {
    let place = &fact.canonical;
    let writable = |it: &ViewEntry| it.bound().is_some_and(|(access, _)| access == Access::Write);
    if ground.get(place).is_some_and(writable) {
        return false;
    }
    let inside = ground.above(place).is_some_and(|(_, above)| above.bound().is_some());
    !inside || host.path(place).is_some_and(|it| it.canonical == *place)
}

impl ViewEntry {
    /// Whether this is a cache: the only overlay of the run's own whose layer is in memory, or that
    /// is neither the workspace nor its repository.
    pub(super) fn is_cache(&self, request: &Request) -> bool {
        let What::Overlay { layers, .. } = &self.what else { return false };
        match layers {
            Layers::Private { .. } => true,
            Layers::Kept(_) => request.caches.contains_key(&self.path),
        }
    }
}
