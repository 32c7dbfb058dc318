//! Listed secrets, as they are and as programs usually write them.

use std::fmt;

use super::Span;

/// Shorter values are common words.
const SECRET_BYTES_MIN: usize = 4;

/// The spellings to look for.
#[derive(Default)]
pub(super) struct Listed {
    spellings: Vec<Vec<u8>>,
}

/// Says how many there are and not what they are.
impl fmt::Debug for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listed({} spellings)", self.spellings.len())
    }
}

impl Listed {
    pub(super) fn new(secrets: &[&[u8]]) -> Self {
        let mut spellings = Vec::new();
        for secret in secrets.iter().filter(|it| it.len() >= SECRET_BYTES_MIN) {
            spellings.push(secret.to_vec());
            spellings.push(hex(secret, b"0123456789abcdef"));
            spellings.push(hex(secret, b"0123456789ABCDEF"));
            spellings.push(url(secret, b"0123456789ABCDEF"));
            spellings.push(url(secret, b"0123456789abcdef"));
            spellings.push(json(secret));
            for shift in 0..3 {
                let standard = base64(secret, shift);
                spellings.push(url_alphabet(&standard));
                spellings.push(standard);
            }
        }
        spellings.retain(|it| it.len() >= SECRET_BYTES_MIN);
        spellings.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        spellings.dedup();
        Self { spellings }
    }

    pub(super) fn find(&self, bytes: &[u8], spans: &mut Vec<Span>) {
        for spelling in &self.spellings {
            for (start, window) in bytes.windows(spelling.len()).enumerate() {
                if window == spelling.as_slice() {
                    spans.push(Span::new(start, start + spelling.len(), "listed"));
                }
            }
        }
    }
}

fn hex(secret: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    secret.iter().flat_map(|byte| digits_of(*byte, digits)).collect()
}

fn digits_of(byte: u8, digits: &[u8; 16]) -> [u8; 2] {
    let digit = |half: u8| digits.get(usize::from(half)).copied().unwrap_or(b'0');
    [digit(byte >> 4), digit(byte & 15)]
}

fn url(secret: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    let mut text = Vec::new();
    for byte in secret {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            text.push(*byte);
        } else {
            text.push(b'%');
            text.extend(digits_of(*byte, digits));
        }
    }
    text
}

/// As inside the quotes of a JSON string.
fn json(secret: &[u8]) -> Vec<u8> {
    let quoted = serde_json::to_string(&String::from_utf8_lossy(secret)).unwrap_or_default();
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or_default().as_bytes().to_vec()
}

/// The letters of the encoding that depend on nothing but the secret, when `shift` bytes stand
/// before it in the same group of three.
fn base64(secret: &[u8], shift: usize) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = vec![0; shift];
    bytes.extend_from_slice(secret);
    let mut letters = Vec::new();
    let mut held: u32 = 0;
    let mut bits = 0;
    for byte in bytes {
        held = (held << 8) | u32::from(byte);
        bits += 8;
        while bits >= 6 {
            bits -= 6;
            let index = usize::try_from((held >> bits) & 63).unwrap_or(0);
            letters.extend(ALPHABET.get(index));
        }
        held &= (1 << bits) - 1;
    }
    // Letters that share bits with what stands before.
    letters.split_off(match shift {
        0 => 0,
        1 => 2,
        _ => 3,
    })
}

fn url_alphabet(text: &[u8]) -> Vec<u8> {
    let other = |byte: &u8| match byte {
        b'+' => b'-',
        b'/' => b'_',
        letter => *letter,
    };
    text.iter().map(other).collect()
}
