//! Places inside a text where a secret is expected: `NAME=value`, `"name": "value"`, headers,
//! the user part and the query of an address.

use super::names::{is_harmless, is_secret};
use super::shapes::position;
use super::{Reading, Span, part};

/// A name is never longer.
const NAME_BYTES_MAX: usize = 64;

/// Headers that carry a secret, in small letters. The others are found by their names.
const HEADERS: &[&[u8]] = &[
    b"authorization",
    b"proxy-authorization",
    b"cookie",
    b"set-cookie",
    b"private-token",
    b"job-token",
    b"deploy-token",
    b"api-key",
    b"apikey",
    b"x-api-key",
    b"x-auth-token",
    b"x-vault-token",
    b"x-goog-api-key",
    b"x-amz-security-token",
];

/// First words of an `Authorization` header, which stay.
const SCHEMES: &[&[u8]] = &[
    b"bearer",
    b"basic",
    b"token",
    b"digest",
    b"negotiate",
    b"apikey",
    b"bot",
    b"aws4-hmac-sha256",
];

/// Names that only mean a secret in the query of an address.
const QUERY_NAMES: &[&[u8]] = &[b"key", b"sig", b"signature", b"code", b"auth", b"x-amz-signature"];

pub(super) fn find(bytes: &[u8], reading: Reading, spans: &mut Vec<Span>) {
    let mine = spans.len();
    for (at, byte) in bytes.iter().enumerate() {
        // Inside what is gone already: also what keeps this one pass over the text.
        if spans.get(mine..).and_then(<[Span]>::last).is_some_and(|last| at < last.bytes.end) {
            continue;
        }
        match byte {
            b'=' => assignment(bytes, at, reading, spans),
            b':' if part(bytes, at..at + 3) == b"://" => user_part(bytes, at + 3, spans),
            b':' if !header(bytes, at, reading, spans) => field(bytes, at, spans),
            b'B' | b'b' => bearer(bytes, at, spans),
            _ => {}
        }
    }
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

/// The name that ends before `end`, and where it begins. Blanks, a quote and the `:` of `:=` may
/// stand between.
fn name_before(bytes: &[u8], end: usize) -> (&[u8], usize) {
    let head = part(bytes, 0..end);
    let head = head.strip_suffix(b":").unwrap_or(head);
    let head = head.trim_ascii_end();
    let head = head.strip_suffix(b"\"").or_else(|| head.strip_suffix(b"'")).unwrap_or(head);
    let head = head.strip_suffix(b"\\").unwrap_or(head);
    let length = head.iter().rev().take(NAME_BYTES_MAX).take_while(|byte| is_name(**byte)).count();
    let start = head.len() - length;
    (part(head, start..head.len()), start)
}

/// Where the value that begins at `start` ends: at its closing quote, or where a word ends.
fn value_from(bytes: &[u8], start: usize) -> (usize, usize, bool) {
    let escaped = part(bytes, start..start + 2) == b"\\\"";
    let start = start + usize::from(escaped);
    let quote = bytes.get(start).copied().filter(|byte| matches!(byte, b'"' | b'\''));
    let from = start + usize::from(quote.is_some());
    let rest = part(bytes, from..bytes.len());
    let ends = |byte: &u8| match quote {
        Some(quote) => *byte == quote || (escaped && *byte == b'\\'),
        None => byte.is_ascii_whitespace() || b",;&|\"'<>)}".contains(byte),
    };
    let end = from + rest.iter().position(ends).unwrap_or(rest.len());
    (from, end, quote.is_some())
}

/// `NAME=value`
fn assignment(bytes: &[u8], at: usize, reading: Reading, spans: &mut Vec<Span>) {
    let (name, start) = name_before(bytes, at);
    let before = start.checked_sub(1).and_then(|at| bytes.get(at)).copied();
    let query = matches!(before, Some(b'?' | b'&' | b'#'));
    let lower = name.to_ascii_lowercase();
    if !(is_secret(name) || (query && QUERY_NAMES.contains(&lower.as_slice()))) {
        return;
    }
    let mut value = at + 1;
    while matches!(bytes.get(value), Some(b' ' | b'=')) {
        value += 1;
    }
    let (from, end, _) = value_from(bytes, value);
    // A word that is one assignment has blanks and separators in its value.
    let whole = reading == Reading::Word && part(bytes, 0..start).iter().all(|byte| *byte == b'-');
    let end = if whole { bytes.len() } else { end };
    if !is_harmless(part(bytes, from..end)) {
        spans.push(Span::new(from, end, if query { "query" } else { "assignment" }));
    }
}

/// `"name": "value"`, `name: value`
fn field(bytes: &[u8], at: usize, spans: &mut Vec<Span>) {
    let blanks = part(bytes, at + 1..bytes.len()).iter().take_while(|it| **it == b' ').count();
    let (from, end, quoted) = value_from(bytes, at + 1 + blanks);
    if !(quoted || blanks > 0) {
        return;
    }
    let (name, _) = name_before(bytes, at);
    let value = part(bytes, from..end);
    if !is_secret(name) || is_harmless(value) {
        return;
    }
    // In a sentence a colon is followed by a word; a secret is more than letters.
    let plain = value.iter().all(|byte| byte.is_ascii_lowercase() || b".-`".contains(byte));
    if quoted || !plain {
        spans.push(Span::new(from, end, "field"));
    }
}

/// `Authorization: Bearer value`; says whether this was one.
fn header(bytes: &[u8], at: usize, reading: Reading, spans: &mut Vec<Span>) -> bool {
    let (name, start) = name_before(bytes, at);
    if start + name.len() != at || !HEADERS.contains(&name.to_ascii_lowercase().as_slice()) {
        return false;
    }
    let blank = |from: usize| {
        from + part(bytes, from..bytes.len()).iter().take_while(|it| **it == b' ').count()
    };
    let word = |from: usize| {
        let rest = part(bytes, from..bytes.len());
        from + rest.iter().position(|it| b" \t\r\n\"'".contains(it)).unwrap_or(rest.len())
    };
    let mut from = blank(at + 1);
    let first = word(from);
    if SCHEMES.contains(&part(bytes, from..first).to_ascii_lowercase().as_slice()) {
        from = blank(first);
    }
    let quote = start.checked_sub(1).and_then(|at| bytes.get(at)).copied();
    let quote = quote.filter(|byte| matches!(byte, b'"' | b'\''));
    let rest = part(bytes, from..bytes.len());
    let ends = |it: &u8| *it == b'\n' || Some(*it) == quote;
    let line = from + rest.iter().position(ends).unwrap_or(rest.len());
    let end = if quote.is_some() || reading == Reading::Word { line } else { word(from) };
    if !is_harmless(part(bytes, from..end)) {
        spans.push(Span::new(from, end, "header"));
    }
    true
}

/// `Bearer value`, wherever it stands.
fn bearer(bytes: &[u8], at: usize, spans: &mut Vec<Span>) {
    const LEAST: usize = 16;
    let start = at + b"bearer ".len();
    if !part(bytes, at..start).eq_ignore_ascii_case(b"bearer ") {
        return;
    }
    let rest = part(bytes, start..bytes.len());
    let letters = |it: &&u8| it.is_ascii_alphanumeric() || b"-._~+/=".contains(*it);
    let length = rest.iter().take_while(letters).count();
    if length >= LEAST {
        spans.push(Span::new(start, start + length, "header"));
    }
}

/// `scheme://user:secret@host`
fn user_part(bytes: &[u8], start: usize, spans: &mut Vec<Span>) {
    /// A user without a password is a name, unless it is as long as a token.
    const USER_BYTES_MAX: usize = 20;
    let rest = part(bytes, start..bytes.len());
    let ends = |byte: &u8| byte.is_ascii_whitespace() || b"/?#\"'<>".contains(byte);
    let authority = part(rest, 0..rest.iter().position(ends).unwrap_or(rest.len()));
    let Some(user_end) = authority.iter().rposition(|byte| *byte == b'@') else { return };
    let user = part(authority, 0..user_end);
    match position(user, 0, b":") {
        Some(colon) if !is_harmless(part(user, colon + 1..user_end)) => {
            spans.push(Span::new(start + colon + 1, start + user_end, "url"));
        }
        None if user_end > USER_BYTES_MAX && !is_harmless(user) => {
            spans.push(Span::new(start, start + user_end, "url"));
        }
        Some(_) | None => {}
    }
}
