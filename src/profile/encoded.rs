//! A profile as bytes, of which a run decodes the part that concerns its command.
//!
//! Programs and rules are encoded one by one, because a run asks about one command and a thousand
//! options of other programs would only be decoded to be dropped. Of each program there is either
//! everything that the profile says or nothing, so a missing name can only turn a yes into a no.
//!
//! Two things are kept in this form: the built-in levels, embedded in the binary, and what a machine
//! remembers of the levels that somebody changed. What is remembered lies in a file, so every part of
//! it has a digest, and a part that does not fit is an error and not a profile.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::rule::{Program, Rule};
use super::{Layer, Profile};
use crate::model::{Digest, Level};

/// Why bytes are no profile.
#[derive(Debug, thiserror::Error)]
pub enum EncodedError {
    #[error("the bytes are cut off")]
    Short,
    #[error("the bytes are not those that were written")]
    Changed,
    #[error(transparent)]
    Form(#[from] postcard::Error),
}

/// A stretch of the bytes, from and up to.
pub(crate) type Stretch = (usize, usize);

/// What lies where in the bytes of a profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index<Name> {
    /// The profile without programs and rules.
    pub(crate) head: Stretch,
    pub(crate) programs: Vec<(Name, Stretch)>,
    /// With the names of the programs that each rule is about.
    pub(crate) rules: Vec<(Vec<Name>, Stretch)>,
}

/// The bytes of a profile and their index.
pub(crate) fn encode(mut profile: Profile) -> Result<(Vec<u8>, Index<String>), postcard::Error> {
    fn put(bytes: &mut Vec<u8>, value: &impl Serialize) -> Result<Stretch, postcard::Error> {
        let from = bytes.len();
        bytes.extend(postcard::to_stdvec(value)?);
        Ok((from, bytes.len()))
    }
    let programs = std::mem::take(&mut profile.exec.programs);
    let rules = std::mem::take(&mut profile.exec.rules);
    let mut bytes = Vec::new();
    let head = put(&mut bytes, &profile)?;
    let programs = programs
        .into_iter()
        .map(|(name, program)| Ok((name, put(&mut bytes, &program)?)))
        .collect::<Result<_, postcard::Error>>()?;
    let rules = rules
        .into_iter()
        .map(|rule| Ok((rule.programs.clone(), put(&mut bytes, &rule)?)))
        .collect::<Result<_, postcard::Error>>()?;
    Ok((bytes, Index { head, programs, rules }))
}

/// Decodes what `wanted` names, or everything. `part` gives the bytes of a stretch.
pub(super) fn decode<'a, Name: AsRef<str> + 'a, Names: AsRef<[Name]> + 'a>(
    head: Stretch,
    programs: impl Iterator<Item = &'a (Name, Stretch)>,
    rules: impl Iterator<Item = &'a (Names, Stretch)>,
    wanted: Option<&[&str]>,
    part: impl Fn(Stretch) -> Result<&'a [u8], EncodedError>,
) -> Result<Profile, EncodedError> {
    // A rule may name its programs by how they begin.
    let concerns = |name: &str| match (wanted, name.strip_suffix('*')) {
        (None, _) => true,
        (Some(wanted), None) => wanted.contains(&name),
        (Some(wanted), Some(start)) => wanted.iter().any(|it| it.starts_with(start)),
    };
    let mut profile: Profile = postcard::from_bytes(part(head)?)?;
    let mut found: BTreeMap<String, Program> = BTreeMap::new();
    for (name, stretch) in programs.filter(|it| concerns(it.0.as_ref())) {
        found.insert(name.as_ref().to_owned(), postcard::from_bytes(part(*stretch)?)?);
    }
    let mut ruled: Vec<Rule> = Vec::new();
    for (names, stretch) in rules {
        if names.as_ref().iter().any(|it| concerns(it.as_ref())) {
            ruled.push(postcard::from_bytes(part(*stretch)?)?);
        }
    }
    profile.exec.programs = found;
    profile.exec.rules = ruled;
    Ok(profile)
}

/// What is remembered of a profile that was loaded from files, beside its bytes.
#[derive(Debug, Serialize, Deserialize)]
struct Kept<Name> {
    index: Index<Name>,
    /// Where each stretch begins, in order, and what its bytes add up to.
    sums: Vec<(usize, u64)>,
}

/// A number and a digest stand before what is remembered.
const LENGTH_BYTES: usize = size_of::<u32>();
const DIGEST_BYTES: usize = 32;

/// Names what a level was loaded from: every text of every layer, in order, and the code that reads
/// them.
#[cfg(rung_built)]
pub fn key(level: Level, layers: &[Layer]) -> Digest {
    let (build, level) = (env!("RUNG_PROFILES"), [level.number()]);
    let mut parts: Vec<Vec<u8>> = vec![build.into(), level.into()];
    for layer in layers {
        parts.push(layer.name.as_bytes().into());
        parts.push(layer.sources.len().to_le_bytes().into());
        let sources = layer.sources.iter().flat_map(|it| [&it.name, &it.text]);
        parts.extend(sources.map(|it| it.as_bytes().to_vec()));
    }
    // Each with its length, so that no two lists are one text.
    let lengths: Vec<[u8; 8]> = parts.iter().map(|it| it.len().to_le_bytes()).collect();
    let all = lengths.iter().zip(&parts).flat_map(|(length, part)| [length.as_slice(), part]);
    Digest::of("profile-key", &all.collect::<Vec<_>>())
}

/// The form in which a profile is remembered under its key.
pub fn keep(profile: Profile, key: Digest) -> Result<Vec<u8>, EncodedError> {
    let (bytes, index) = encode(profile)?;
    let stretches = [index.head].into_iter();
    let stretches = stretches.chain(index.programs.iter().map(|it| it.1));
    let stretches = stretches.chain(index.rules.iter().map(|it| it.1));
    let sums = stretches
        .map(|(from, to)| Ok((from, sum(bytes.get(from..to).ok_or(EncodedError::Short)?))))
        .collect::<Result<_, EncodedError>>()?;
    let index = postcard::to_stdvec(&Kept { index, sums })?;
    let length = u32::try_from(index.len()).map_err(|_| EncodedError::Short)?.to_le_bytes();
    let digest = of_index(key, &index);
    Ok([length.as_slice(), digest.as_bytes(), &index, &bytes].concat())
}

/// What was remembered under the key, as far as it concerns these programs.
pub fn kept(bytes: &[u8], key: Digest, programs: Option<&[&str]>) -> Result<Profile, EncodedError> {
    let (length, rest) = bytes.split_at_checked(LENGTH_BYTES).ok_or(EncodedError::Short)?;
    let (digest, rest) = rest.split_at_checked(DIGEST_BYTES).ok_or(EncodedError::Short)?;
    let length = u32::from_le_bytes(length.try_into().map_err(|_| EncodedError::Short)?);
    let length = usize::try_from(length).map_err(|_| EncodedError::Short)?;
    let (index, bytes) = rest.split_at_checked(length).ok_or(EncodedError::Short)?;
    if of_index(key, index).as_bytes() != digest {
        return Err(EncodedError::Changed);
    }
    let Kept::<&str> { index, sums } = postcard::from_bytes(index)?;
    let part = |(from, to): Stretch| {
        let part = bytes.get(from..to).ok_or(EncodedError::Short)?;
        let at = sums.binary_search_by_key(&from, |it| it.0).map_err(|_| EncodedError::Short)?;
        let same = sums.get(at).is_some_and(|it| it.1 == sum(part));
        if same { Ok(part) } else { Err(EncodedError::Changed) }
    };
    decode(index.head, index.programs.iter(), index.rules.iter(), programs, part)
}

fn of_index(key: Digest, index: &[u8]) -> Digest {
    Digest::of("profile-kept", &[key.as_bytes(), index])
}

/// The first bytes of a digest: against a disk that forgets, not against whoever owns the file.
fn sum(bytes: &[u8]) -> u64 {
    let digest = Digest::of("profile-part", &[bytes]);
    digest.as_bytes().first_chunk().map_or(0, |it| u64::from_le_bytes(*it))
}

#[cfg(test)]
#[cfg(rung_built)]
mod tests {
    use super::*;
    use crate::profile::{Source, built_in, built_in_for, built_in_layer, load};

    fn layers(summary: &str) -> Vec<Layer> {
        let text = format!("level = 2\nname = \"local-writes\"\nsummary = \"{summary}\"\n");
        let source = Source { name: "/etc/rung/level-2.toml".to_owned(), text };
        vec![built_in_layer(), Layer { name: "/etc/rung".to_owned(), sources: vec![source] }]
    }

    #[test]
    fn a_profile_comes_back_whole_or_in_part_as_the_built_in_ones_do() {
        for level in Level::ALL {
            let key = key(level, &[built_in_layer()]);
            let bytes = keep(built_in(level).unwrap(), key).unwrap();
            assert_eq!(kept(&bytes, key, None).unwrap(), built_in(level).unwrap());
            for programs in [&[][..], &["git"], &["cargo", "sh"]] {
                let part = kept(&bytes, key, Some(programs)).unwrap();
                assert_eq!(part, built_in_for(level, programs).unwrap());
            }
        }
        let level = Level::LocalWrites;
        let loaded = load(level, &[built_in_layer()]).unwrap();
        assert_eq!(loaded, built_in(level).unwrap());
    }

    #[test]
    fn another_text_level_or_layer_is_another_key() {
        let level = Level::LocalWrites;
        let one = key(level, &layers("one"));
        assert_eq!(one, key(level, &layers("one")));
        assert_ne!(one, key(level, &layers("two")));
        assert_ne!(one, key(Level::TestExecution, &layers("one")));
        let mut renamed = layers("one");
        renamed[1].name = "/home/u/.config/rung".to_owned();
        assert_ne!(one, key(level, &renamed));
        // The same bytes, cut elsewhere.
        let mut moved = layers("one");
        let name = moved[1].sources[0].name.pop().unwrap();
        moved[1].sources[0].text.insert(0, name);
        assert_ne!(one, key(level, &moved));
    }

    #[test]
    fn no_byte_can_change_unseen() {
        let level = Level::ReadOnlyResearch;
        let key = key(level, &[built_in_layer()]);
        let profile = built_in(level).unwrap();
        let bytes = keep(profile.clone(), key).unwrap();
        for at in (0..bytes.len()).step_by(97).chain([0, 3, 4, 35, 36, bytes.len() - 1]) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(kept(&changed, key, None).is_err(), "byte {at}");
        }
        for length in [0, 3, 20, 40, bytes.len() / 2, bytes.len() - 1] {
            assert!(kept(&bytes[..length], key, None).is_err(), "{length} bytes");
        }
        assert!(kept(&bytes, Digest::ZERO, None).is_err(), "another key");
        assert_eq!(kept(&bytes, key, None).unwrap(), profile);
    }
}
