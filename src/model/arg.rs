//! One word of a command line, as the kernel takes it: bytes without NUL.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One word of argv, or the value of an environment variable. Any bytes but NUL.
///
/// Serialised as a JSON string: printable UTF-8 as it is, a backslash doubled, every other byte
/// as `\xNN`, so that two different words never read alike.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arg(Vec<u8>); // INVARIANT: no byte is 0.

/// A word with a NUL byte, which no exec call can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {position} of the word is NUL, which no command line can carry")]
pub struct NulByte {
    pub position: usize,
}

impl Arg {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, NulByte> {
        let bytes = bytes.into();
        match bytes.iter().position(|byte| *byte == 0) {
            Some(position) => Err(NulByte { position }),
            None => Ok(Self(bytes)),
        }
    }

    /// The first bytes of the word.
    #[must_use]
    pub fn cut(&self, bytes_max: usize) -> Self {
        Self(self.0.iter().take(bytes_max).copied().collect())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn as_os_str(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    /// The word as text, if it is UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    pub fn into_os_string(self) -> OsString {
        OsString::from_vec(self.0)
    }

    fn unescape(text: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte != b'\\' {
                bytes.push(byte);
                continue;
            }
            match rest.next()? {
                b'\\' => bytes.push(b'\\'),
                b'x' => {
                    let high = char::from(rest.next()?).to_digit(16)?;
                    let low = char::from(rest.next()?).to_digit(16)?;
                    bytes.push(u8::try_from(high * 16 + low).ok()?);
                }
                _ => return None,
            }
        }
        Some(bytes)
    }
}

impl TryFrom<&str> for Arg {
    type Error = NulByte;
    fn try_from(text: &str) -> Result<Self, NulByte> {
        Self::new(text.as_bytes())
    }
}

impl TryFrom<OsString> for Arg {
    type Error = NulByte;
    fn try_from(word: OsString) -> Result<Self, NulByte> {
        Self::new(word.into_vec())
    }
}

/// The serialised form: safe to print on a terminal, and reversible.
impl fmt::Display for Arg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for letter in chunk.valid().chars() {
                if letter == '\\' {
                    f.write_str("\\\\")?;
                } else {
                    write_printable(f, letter)?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Text as it may stand on one line of a terminal: what would act on the terminal or deceive its
/// reader is escaped as in an [`Arg`].
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    // Writing to a `String` cannot fail.
    _ = text.chars().try_for_each(|letter| write_printable(&mut printable, letter));
    printable
}

fn write_printable(to: &mut impl fmt::Write, letter: char) -> fmt::Result {
    if !letter.is_control() && !is_deceptive(letter) {
        return to.write_char(letter);
    }
    let mut buffer = [0; 4];
    letter.encode_utf8(&mut buffer).bytes().try_for_each(|byte| write!(to, "\\x{byte:02x}"))
}

/// Characters that make a reader see something else than what is there: bidirectional controls,
/// zero-width marks, and blanks that are not the ordinary one.
pub fn is_deceptive(letter: char) -> bool {
    matches!(
        letter,
        '\u{a0}' | '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{1680}' | '\u{180b}'
            ..='\u{180f}' | '\u{2000}'..='\u{200f}' | '\u{2028}'..='\u{202f}' | '\u{205f}'
            ..='\u{206f}' | '\u{3000}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
    )
}

impl fmt::Debug for Arg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl Serialize for Arg {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Arg {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = Self::unescape(&text).ok_or_else(|| {
            D::Error::custom("a backslash that starts neither `\\\\` nor `\\xNN`")
        })?;
        Self::new(bytes).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], shown: &str) {
        let word = Arg::new(bytes).unwrap();
        assert_eq!(word.to_string(), shown);
        let json = serde_json::to_string(&word).unwrap();
        assert_eq!(serde_json::from_str::<Arg>(&json).unwrap(), word, "does not come back");
    }

    #[test]
    fn every_word_is_shown_so_that_it_can_be_read_back() {
        check(b"plain", "plain");
        check("gr\u{fc}n".as_bytes(), "gr\u{fc}n");
        check(b"a\\b", "a\\\\b");
        check(b"\xff\xfe", "\\xff\\xfe");
        check(b"new\nline\x1b[2J", "new\\x0aline\\x1b[2J");
        check("\u{202e}txt.exe".as_bytes(), "\\xe2\\x80\\xaetxt.exe");
        check(b"", "");
    }

    #[test]
    fn a_nul_byte_is_named_by_its_position() {
        assert_eq!(Arg::new(*b"ab\0c"), Err(NulByte { position: 2 }));
        assert!(serde_json::from_str::<Arg>(r#""a\\x00""#).is_err());
    }
}
