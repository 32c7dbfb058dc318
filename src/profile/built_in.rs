//! The six levels that rung carries in itself.
//!
//! They are read at build time by the code of this very module tree, so that a broken profile
//! breaks the build and a run only decodes. The texts are carried too: to be shown, and to be the
//! first layer wherever somebody overrides them.
//!
//! Programs and rules are embedded one by one, because a run asks about one command and a
//! thousand options of other programs would only be decoded to be dropped.
#![expect(
    clippy::unreadable_literal,
    reason = "positions in the embedded bytes, written by a program"
)]

use std::collections::BTreeMap;

use super::rule::{Program, Rule};
use super::{Layer, Profile, Source};
use crate::model::Level;

// `LEVELS` and `SOURCES`: name and text of every file.
include!(concat!(env!("OUT_DIR"), "/profiles.rs"));

/// A stretch of a level's bytes, from and up to.
type Stretch = (usize, usize);

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
pub fn built_in(level: Level) -> Result<Profile, postcard::Error> {
    decode(level, None)
}

/// The built-in profile of a level, with only those programs and rules that concern the named
/// programs: enough to decide about a command line whose words name no other.
///
/// Of each program there is either everything that the profile says or nothing, so a missing
/// name can only turn a yes into a no.
pub fn built_in_for(level: Level, programs: &[&str]) -> Result<Profile, postcard::Error> {
    decode(level, Some(programs))
}

fn decode(level: Level, programs: Option<&[&str]>) -> Result<Profile, postcard::Error> {
    // A rule may name its programs by how they begin.
    let concerns = |name: &str| match (programs, name.strip_suffix('*')) {
        (None, _) => true,
        (Some(programs), None) => programs.contains(&name),
        (Some(programs), Some(start)) => programs.iter().any(|it| it.starts_with(start)),
    };
    let missing = postcard::Error::DeserializeUnexpectedEnd;
    let embedded = LEVELS.iter().find(|it| it.level == level.number()).ok_or(missing)?;
    let mut profile: Profile = embedded.decode(embedded.head)?;
    let mut programs: BTreeMap<String, Program> = BTreeMap::new();
    for (name, stretch) in embedded.programs.iter().filter(|it| concerns(it.0)) {
        programs.insert((*name).to_owned(), embedded.decode(*stretch)?);
    }
    let mut rules: Vec<Rule> = Vec::new();
    for (names, stretch) in embedded.rules {
        if names.iter().any(|it| concerns(it)) {
            rules.push(embedded.decode(*stretch)?);
        }
    }
    profile.exec.programs = programs;
    profile.exec.rules = rules;
    Ok(profile)
}

impl Embedded {
    fn decode<T: serde::de::DeserializeOwned>(
        &self,
        (from, to): Stretch,
    ) -> Result<T, postcard::Error> {
        let bytes = self.bytes.get(from..to).ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
        postcard::from_bytes(bytes)
    }
}

/// The texts that the built-in profiles were made from, as the first layer of a load.
pub fn built_in_layer() -> Layer {
    let source =
        |(name, text): &(&str, &str)| Source { name: (*name).to_owned(), text: (*text).to_owned() };
    Layer { name: "built-in".to_owned(), sources: SOURCES.iter().map(source).collect() }
}
