//! The six levels that rung carries in itself.
//!
//! They are read at build time by the code of this very module tree, so that a broken profile
//! breaks the build and a run only decodes. The texts are carried too: to be shown, and to be the
//! first layer wherever somebody overrides them.

use super::{Layer, Profile, Source};
use crate::model::Level;

// `PROFILES`: bytes per level. `SOURCES`: name and text of every file.
include!(concat!(env!("OUT_DIR"), "/profiles.rs"));

/// The built-in profile of a level.
///
/// Fails only if this binary does not fit itself, which is a reason to run nothing.
pub fn built_in(level: Level) -> Result<Profile, postcard::Error> {
    let bytes = PROFILES.iter().find(|(number, _)| *number == level.number());
    bytes.map_or(Err(postcard::Error::DeserializeUnexpectedEnd), |(_, bytes)| {
        postcard::from_bytes(bytes)
    })
}

/// The texts that the built-in profiles were made from, as the first layer of a load.
pub fn built_in_layer() -> Layer {
    let source =
        |(name, text): &(&str, &str)| Source { name: (*name).to_owned(), text: (*text).to_owned() };
    Layer { name: "built-in".to_owned(), sources: SOURCES.iter().map(source).collect() }
}
