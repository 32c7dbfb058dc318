//! The six levels that rung carries in itself.
//!
//! They are read at build time by the code of this very module tree, so that a broken profile
//! breaks the build and a run only decodes. The texts are carried too: to be shown, and to be the
//! first layer wherever somebody overrides them.
#![expect(
    clippy::unreadable_literal,
    reason = "positions in the embedded bytes, written by a program"
)]

use super::encoded::{EncodedError, Stretch, decode};
use super::{Layer, Profile, Source};
use crate::model::Level;

// `LEVELS` and `SOURCES`: name and text of every file.
include!(concat!(env!("OUT_DIR"), "/profiles.rs"));

/// One level, encoded.
struct Embedded {
    level: u8,
    bytes: &'static [u8],
    /// The profile without programs and rules.
    head: Stretch,
    programs: &'static [(&'static str, Stretch)],
    /// With the names of the programs that each rule is about.
    rules: &'static [(&'static [&'static str], Stretch)],
}

/// The built-in profile of a level.
///
/// Fails only if this binary does not fit itself, which is a reason to run nothing.
pub fn built_in(level: Level) -> Result<Profile, EncodedError> {
    embedded(level, None)
}

/// The built-in profile of a level, with only those programs and rules that concern the named
/// programs: enough to decide about a command line whose words name no other.
///
/// Of each program there is either everything that the profile says or nothing, so a missing
/// name can only turn a yes into a no.
pub fn built_in_for(level: Level, programs: &[&str]) -> Result<Profile, EncodedError> {
    embedded(level, Some(programs))
}

fn embedded(level: Level, wanted: Option<&[&str]>) -> Result<Profile, EncodedError> {
    let it = LEVELS.iter().find(|it| it.level == level.number()).ok_or(EncodedError::Short)?;
    let part = |(from, to): Stretch| it.bytes.get(from..to).ok_or(EncodedError::Short);
    decode(it.head, it.programs.iter(), it.rules.iter(), wanted, part)
}

/// The texts that the built-in profiles were made from, as the first layer of a load.
pub fn built_in_layer() -> Layer {
    let source =
        |(name, text): &(&str, &str)| Source { name: (*name).to_owned(), text: (*text).to_owned() };
    Layer { name: "built-in".to_owned(), sources: SOURCES.iter().map(source).collect() }
}
