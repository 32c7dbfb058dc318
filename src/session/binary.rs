//! Contents that are no text, in the form that `git apply` takes them: `GIT binary patch`.
//!
//! Git believes such a patch only if it names both contents by their object ids. The contents are
//! in a zlib stream, which may store what it holds as it is; nobody reads these lines, so nothing is
//! made smaller here.

use std::fmt::Write as _;

use sha1::{Digest as _, Sha1};
use sha2::Sha256;

/// Longer contents are named and not in the patch.
pub(super) const BINARY_BYTES_MAX: u64 = 16 << 20;
/// A stored block of deflate (RFC 1951) is no longer.
const STORED_BYTES_MAX: usize = 65_535;
/// Bytes of one line.
const LINE_BYTES: usize = 52;
const LETTERS: &[u8; 85] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

/// How a repository names its objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    Sha1,
    Sha256,
}

/// The `index` line and both directions of the patch. A side that is not there has no contents.
pub(super) fn patch(before: Option<&[u8]>, after: Option<&[u8]>, names: Names) -> String {
    let id = |side: Option<&[u8]>| side.map_or_else(|| nobody(names), |it| id_of(it, names));
    let mut text = format!("index {}..{}\nGIT binary patch\n", id(before), id(after));
    for side in [after, before] {
        literal(&mut text, side.unwrap_or_default());
    }
    text
}

fn nobody(names: Names) -> String {
    "0".repeat(match names {
        Names::Sha1 => 40,
        Names::Sha256 => 64,
    })
}

/// What git calls a file with these contents (gitformat-loose(5)).
fn id_of(contents: &[u8], names: Names) -> String {
    let header = format!("blob {}\0", contents.len());
    let parts = [header.as_bytes(), contents];
    match names {
        Names::Sha1 => hex(&parts.iter().fold(Sha1::new(), Sha1::chain_update).finalize()),
        Names::Sha256 => hex(&parts.iter().fold(Sha256::new(), Sha256::chain_update).finalize()),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

fn literal(text: &mut String, contents: &[u8]) {
    writeln!(text, "literal {}", contents.len()).unwrap_or_default();
    for line in stored(contents).chunks(LINE_BYTES) {
        text.push(length(line.len()));
        for word in line.chunks(4) {
            letters(text, word);
        }
        text.push('\n');
    }
    text.push('\n');
}

/// A to Z for 1 to 26, then a to z.
fn length(bytes: usize) -> char {
    let bytes = u8::try_from(bytes).unwrap_or(0);
    char::from(if bytes <= 26 { b'A' + bytes.saturating_sub(1) } else { b'a' + bytes - 27 })
}

/// Four bytes, the most significant first, as five digits of base 85.
fn letters(text: &mut String, word: &[u8]) {
    let mut number = (0..4)
        .fold(0, |number, index| number << 8 | u32::from(word.get(index).copied().unwrap_or(0)));
    let mut digits = [b'0'; 5];
    for digit in digits.iter_mut().rev() {
        let index = usize::try_from(number % 85).unwrap_or(0);
        *digit = LETTERS.get(index).copied().unwrap_or(b'0');
        number /= 85;
    }
    text.extend(digits.map(char::from));
}

/// A zlib stream (RFC 1950) of stored blocks.
fn stored(contents: &[u8]) -> Vec<u8> {
    let mut stream = vec![0x78, 0x01];
    let mut rest = contents;
    loop {
        let (block, after) = rest.split_at(rest.len().min(STORED_BYTES_MAX));
        let length = u16::try_from(block.len()).unwrap_or(0);
        stream.push(u8::from(after.is_empty()));
        stream.extend(length.to_le_bytes());
        stream.extend((!length).to_le_bytes());
        stream.extend(block);
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    stream.extend(checksum(contents).to_be_bytes());
    stream
}

/// Adler-32.
fn checksum(contents: &[u8]) -> u32 {
    const MODULUS: u32 = 65_521;
    /// So many bytes before the sums could overflow.
    const PART: usize = 5_552;
    let (mut low, mut high) = (1_u32, 0_u32);
    for part in contents.chunks(PART) {
        for byte in part {
            low += u32::from(*byte);
            high += low;
        }
        low %= MODULUS;
        high %= MODULUS;
    }
    high << 16 | low
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `git hash-object` says.
    #[test]
    fn contents_have_the_names_that_git_gives_them() {
        assert_eq!(id_of(b"", Names::Sha1), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        assert_eq!(id_of(b"hello\n", Names::Sha1), "ce013625030ba8dba906f756967f9e9ca394464a");
        let long = "473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813";
        assert_eq!(id_of(b"", Names::Sha256), long);
    }

    /// The example of RFC 1950's reference, and as Python's zlib says.
    #[test]
    fn the_checksum_is_that_of_zlib() {
        assert_eq!(checksum(b""), 1);
        assert_eq!(checksum(b"Wikipedia"), 0x11e6_0398);
        assert_eq!(checksum(&vec![0xff; 1 << 20]), 0x8e88_ef11);
    }

    #[test]
    fn lines_are_as_long_as_they_say() {
        assert_eq!((length(1), length(26), length(27), length(52)), ('A', 'Z', 'a', 'z'));
        let mut text = String::new();
        letters(&mut text, &[0xff; 4]);
        letters(&mut text, &[0, 0, 0, 1]);
        letters(&mut text, &[]);
        assert_eq!(text, "|NsC00000100000");
    }

    #[test]
    fn contents_longer_than_a_block_are_in_several() {
        let contents = vec![7; STORED_BYTES_MAX + 1];
        let stream = stored(&contents);
        assert_eq!(stream.len(), 2 + 5 + STORED_BYTES_MAX + 5 + 1 + 4);
        assert_eq!(stream.get(2), Some(&0), "the first is not the last");
    }
}
