//! SHA-256, the one digest of plans, profiles, programs and records.

use std::fmt;

use postcard::ser_flavors::Flavor;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

/// A SHA-256 value; printed and serialised as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The all-zero value: "nothing before this one" in a chain.
    pub const ZERO: Self = Self([0; 32]);

    /// The digest of the concatenated parts. `domain` keeps digests of different kinds of things
    /// apart; it is hashed first, followed by a NUL byte.
    pub fn of(domain: &str, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        hash.update(domain.as_bytes());
        hash.update([0]);
        for part in parts {
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// The digest of a value's postcard form, which says nothing that the value does not.
    pub fn of_value(domain: &str, value: &impl Serialize) -> Result<Self, postcard::Error> {
        let mut hash = Sha256::new();
        hash.update(domain.as_bytes());
        hash.update([0]);
        let piece = Vec::with_capacity(PIECE_BYTES);
        postcard::serialize_with_flavor(value, Hashed { hash, piece })
    }

    /// The plain SHA-256 of `bytes`, as other tools print it.
    pub fn plain(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// A digest that was taken earlier.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if text.len() != 64 {
            return None;
        }
        for (slot, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let [high, low] = pair else { return None };
            let digit = |byte: u8| match byte {
                b'0'..=b'9' => Some(byte - b'0'),
                b'a'..=b'f' => Some(byte - b'a' + 10),
                _ => None,
            };
            *slot = digit(*high)? * 16 + digit(*low)?;
        }
        Some(Self(bytes))
    }
}

/// Where a value goes that is hashed while it is written.
struct Hashed {
    hash: Sha256,
    /// What is not hashed yet: most writes are of a few bytes, and hashing likes large pieces.
    piece: Vec<u8>,
}

const PIECE_BYTES: usize = 1024;

impl Flavor for Hashed {
    type Output = Digest;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if self.piece.len() + bytes.len() > PIECE_BYTES {
            self.hash.update(&self.piece);
            self.piece.clear();
        }
        self.piece.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(mut self) -> postcard::Result<Digest> {
        self.hash.update(&self.piece);
        Ok(Digest(self.hash.finalize().into()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_hex(&text).ok_or_else(|| D::Error::custom("not 64 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_reads_back_from_its_text() {
        let digest = Digest::of("test", &[b"a", b"b"]);
        assert_eq!(Digest::from_hex(&digest.to_string()), Some(digest));
        assert_eq!(Digest::from_hex("zz"), None);
    }

    #[test]
    fn the_domain_separates_equal_contents() {
        assert_ne!(Digest::of("plan", &[b"x"]), Digest::of("profile", &[b"x"]));
    }

    #[test]
    fn the_digest_of_a_value_is_that_of_its_binary_form() {
        let value = (7_u32, "text", vec!["more than a piece of it"; 100]);
        let bytes = postcard::to_stdvec(&value).unwrap();
        assert_eq!(Digest::of_value("test", &value), Ok(Digest::of("test", &[&bytes])));
        assert_ne!(Digest::of_value("other", &value), Digest::of_value("test", &value));
    }

    /// FIPS 180-2, appendix B.1.
    #[test]
    fn the_plain_digest_is_sha_256() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::plain(b"abc").to_string(), expected);
    }
}
