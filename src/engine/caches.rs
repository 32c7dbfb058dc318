//! Caches of the user's tools in a session: the layers that its runs write into, kept from one run
//! to the next and never applied.
//!
//! Such a layer is a session in the session's directory, as the one for a repository is. It is worth
//! nothing that a tool could not make again, so one that has grown past its limit is thrown away.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::inside::{self, Inside};
use super::{EngineError, Surroundings};
use crate::model::{Digest, HostFacts, Level, Store};
use crate::plan;
use crate::profile::Profile;
use crate::session::{Backend, Session, SessionError, Sessions};

/// Names of layers of caches begin like this.
const PREFIX: &str = "cache-";
/// Letters of the digest of a cache's path in the name of its layer.
const DIGEST_LETTERS: usize = 16;

/// The layers of a session for the caches that are there. A question makes none; a run makes those
/// that are missing. A cache that can have no layer there has one in memory.
pub(super) fn layers(
    inside: Option<&Inside>,
    profile: &Profile,
    host: &HostFacts,
    around: &Surroundings,
) -> Result<Vec<Session>, EngineError> {
    let Some(inside) = inside.filter(|it| !it.disposable) else { return Ok(Vec::new()) };
    let caches = plan::caches(profile, &around.home, host);
    let layer = |cache: PathBuf| layer(inside, &cache, host, around).transpose();
    caches.into_iter().filter_map(layer).collect()
}

fn layer(
    inside: &Inside,
    cache: &Path,
    host: &HostFacts,
    around: &Surroundings,
) -> Result<Option<Session>, EngineError> {
    let sessions = Sessions::new(&inside.session.directory);
    let name = name(cache);
    match sessions.open(&name) {
        // Another directory lies there now: what was kept belongs to the one before.
        Ok(layer) if layer.store().is_err() && inside.lock.is_some() => {
            sessions.remove(&name, &layer.lock(false)?)?;
        }
        Ok(layer) => return Ok(Some(layer)),
        Err(SessionError::Missing { .. }) if inside.lock.is_none() => return Ok(None),
        Err(SessionError::Missing { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let (level, overlay) = (Level::LocalWrites, inside::overlay(host));
    let manifest = sessions.manifest(name, cache, level, around.now, overlay)?;
    if manifest.backend != Backend::Overlay {
        return Ok(None);
    }
    Ok(Some(sessions.create(manifest)?))
}

fn name(cache: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let digest = Digest::of("cache", &[cache.as_os_str().as_bytes()]).to_string();
    let letters: String = digest.chars().take(DIGEST_LETTERS).collect();
    format!("{PREFIX}{letters}")
}

pub(super) fn stores(layers: &[Session]) -> Result<BTreeMap<PathBuf, Store>, EngineError> {
    let store = |layer: &Session| {
        let store = layer.store().transpose()?;
        Some(store.map(|store| (layer.manifest.base.clone(), store)))
    };
    Ok(layers.iter().filter_map(store).collect::<Result<_, SessionError>>()?)
}

/// Whether this layer of a run in `session` is one of a cache, of which nobody misses anything. The
/// session itself may have any name.
pub(super) fn is_cache(layer: &Session, session: &str) -> bool {
    layer.manifest.name != session && layer.manifest.name.starts_with(PREFIX)
}

/// Throws a layer away.
pub(super) fn drop_layer(layer: &Session, inside: &Inside) -> Result<(), EngineError> {
    let sessions = Sessions::new(&inside.session.directory);
    Ok(sessions.remove(&layer.manifest.name, &layer.lock(false)?)?)
}
