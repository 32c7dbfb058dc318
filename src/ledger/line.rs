//! One record as one line: how it is written, and how a line is read back and checked.
//!
//! The fingerprint is the SHA-256 of `rung.audit.v1`, a NUL byte and the line without its `fp`
//! field, and that field is always the last one. What is hashed is what lies on the disk: checking
//! never serialises anything again, so there is no second spelling of a record to argue about.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Control, LedgerError, Record};
use crate::model::Digest;

/// A line is never longer than this, its newline included.
pub const RECORD_BYTES_MAX: usize = 60 * 1024;

const FINGERPRINT_DOMAIN: &str = "rung.audit.v1";
const FINGERPRINT_FIELD: &[u8] = b",\"fp\":\"";
/// `,"fp":"`, 64 digits, `"}`.
const FINGERPRINT_BYTES: usize = FINGERPRINT_FIELD.len() + 64 + 2;

/// A record read back, with the place it lies at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `000001.jsonl`
    pub segment: String,
    /// Counted from 1; 0 where the reader started in the middle of the segment.
    pub line: u64,
    pub seq: u64,
    pub time: Timestamp,
    pub body: Body,
    /// How many secrets were taken out.
    pub redacted: u64,
    pub prev: Digest,
    pub fp: Digest,
    /// The exact line, without its newline.
    pub text: String,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Body {
    Record(Record),
    Control(Control),
    /// A kind that this version does not know.
    Other(Map<String, Value>),
}

#[derive(Serialize)]
struct Written<'a, B> {
    seq: u64,
    time: &'a str,
    #[serde(flatten)]
    body: &'a B,
    #[serde(skip_serializing_if = "is_zero")]
    redacted: usize,
    prev: Digest,
}

#[derive(Deserialize)]
struct Read {
    seq: u64,
    time: String,
    #[serde(default)]
    redacted: u64,
    prev: Digest,
    #[serde(flatten)]
    body: Body,
}

/// What the chain needs of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) seq: u64,
    pub(super) prev: Digest,
    pub(super) fp: Digest,
}

#[derive(Deserialize)]
struct Chained {
    seq: u64,
    prev: Digest,
}

/// Why a line is not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadLine {
    #[error("it is not a record")]
    NotARecord,
    #[error("its bytes do not give the fingerprint it carries")]
    Changed,
}

/// Where a new record goes in the chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) seq: u64,
    pub(super) prev: Digest,
    pub(super) now: Timestamp,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes the field by reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// Writes one line, newline included, to the end of `out`; returns its fingerprint.
pub(super) fn write<B: Serialize>(
    place: Place,
    kind: &'static str,
    body: &B,
    redacted: usize,
    out: &mut Vec<u8>,
) -> Result<Digest, LedgerError> {
    let encode = |source| LedgerError::Encode { kind, source };
    let line = object(place, body, redacted).map_err(encode)?;
    if fits(&line) {
        return Ok(seal(line, out));
    }
    let whole = serde_json::to_value(body).map_err(encode)?;
    for text_bytes_max in [8192, 2048, 512, 128] {
        let mut body = whole.clone();
        cut(&mut body, text_bytes_max);
        let line = object(place, &body, redacted).map_err(encode)?;
        if fits(&line) {
            return Ok(seal(line, out));
        }
    }
    Err(LedgerError::TooLarge { kind, bytes: line.len() })
}

fn object<B: Serialize>(
    place: Place,
    body: &B,
    redacted: usize,
) -> Result<Vec<u8>, serde_json::Error> {
    let time = format!("{:.3}", place.now);
    let written = Written { seq: place.seq, time: &time, body, redacted, prev: place.prev };
    serde_json::to_vec(&written)
}

fn fits(object: &[u8]) -> bool {
    object.len() + FINGERPRINT_BYTES < RECORD_BYTES_MAX
}

fn seal(mut object: Vec<u8>, out: &mut Vec<u8>) -> Digest {
    let fp = Digest::of(FINGERPRINT_DOMAIN, &[&object]);
    object.pop(); // the closing brace, which comes back behind the fingerprint
    out.extend_from_slice(&object);
    out.extend_from_slice(FINGERPRINT_FIELD);
    out.extend_from_slice(fp.to_string().as_bytes());
    out.extend_from_slice(b"\"}\n");
    fp
}

/// Checks a line (without its newline) against its own fingerprint.
pub(super) fn link(line: &[u8]) -> Result<Link, BadLine> {
    let split = line.len().checked_sub(FINGERPRINT_BYTES).ok_or(BadLine::NotARecord)?;
    let (open, last) = line.split_at_checked(split).ok_or(BadLine::NotARecord)?;
    let digits = last
        .strip_prefix(FINGERPRINT_FIELD)
        .and_then(|rest| rest.strip_suffix(b"\"}"))
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .ok_or(BadLine::NotARecord)?;
    let fp = Digest::from_hex(digits).ok_or(BadLine::NotARecord)?;
    if Digest::of(FINGERPRINT_DOMAIN, &[open, b"}"]) != fp {
        return Err(BadLine::Changed);
    }
    let chained: Chained = serde_json::from_slice(line).map_err(|_| BadLine::NotARecord)?;
    Ok(Link { seq: chained.seq, prev: chained.prev, fp })
}

/// The sequence number that a line claims, whether or not its bytes are whole.
pub(super) fn claimed_seq(line: &[u8]) -> Option<u64> {
    let digits = line.strip_prefix(b"{\"seq\":")?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
}

/// Reads a checked line whole.
pub(super) fn read(segment: &str, number: u64, line: &[u8]) -> Result<Entry, BadLine> {
    let link = link(line)?;
    let read: Read = serde_json::from_slice(line).map_err(|_| BadLine::NotARecord)?;
    let mut body = read.body;
    if let Body::Other(fields) = &mut body {
        fields.remove("fp");
    }
    Ok(Entry {
        segment: segment.to_owned(),
        line: number,
        seq: read.seq,
        time: read.time.parse().map_err(|_| BadLine::NotARecord)?,
        body,
        redacted: read.redacted,
        prev: read.prev,
        fp: link.fp,
        text: String::from_utf8(line.to_vec()).map_err(|_| BadLine::NotARecord)?,
    })
}

impl Body {
    pub fn kind(&self) -> &str {
        match self {
            Self::Record(record) => record.kind(),
            Self::Control(control) => control.kind(),
            Self::Other(fields) => fields.get("kind").and_then(Value::as_str).unwrap_or(""),
        }
    }

    /// The run it belongs to.
    pub fn run(&self) -> Option<&str> {
        match self {
            Self::Record(record) => record.run(),
            Self::Control(_) => None,
            Self::Other(fields) => fields.get("run").and_then(Value::as_str),
        }
    }
}

/// Of a longer list or table, only so many entries are left when a record has to be cut.
const ENTRIES_KEPT_MAX: usize = 64;

/// Shortens everything in `value` that is long. What is left of a thing says how long the whole
/// was and what its SHA-256 is, so that whoever has the whole can show that it was this.
fn cut(value: &mut Value, text_bytes_max: usize) {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
        Value::String(text) => cut_text(text, text_bytes_max),
        Value::Array(items) => cut_list(items, text_bytes_max),
        Value::Object(fields) => cut_table(fields, text_bytes_max),
    }
}

fn cut_text(text: &mut String, bytes_max: usize) {
    if text.len() <= bytes_max {
        return;
    }
    let digest = Digest::plain(text.as_bytes());
    let bytes = text.len();
    let kept = text.get(..whole_letters(text, bytes_max)).unwrap_or_default();
    *text = format!("{kept}[cut: {bytes} bytes, sha256 {digest}]");
}

/// The largest length up to `bytes_max` that splits neither a letter nor a `\xNN` of [`Arg`].
///
/// [`Arg`]: crate::model::Arg
fn whole_letters(text: &str, bytes_max: usize) -> usize {
    let mut end = 0;
    let mut letters = text.char_indices().peekable();
    while let Some((start, letter)) = letters.next() {
        let mut after = start + letter.len_utf8();
        if letter == '\\' {
            let more = if letters.peek().is_some_and(|it| it.1 == 'x') { 3 } else { 1 };
            for _ in 0..more {
                after = letters.next().map_or(after, |(at, it)| at + it.len_utf8());
            }
        }
        if after > bytes_max {
            break;
        }
        end = after;
    }
    end
}

fn cut_list(items: &mut Vec<Value>, text_bytes_max: usize) {
    if items.len() <= ENTRIES_KEPT_MAX {
        for item in items {
            cut(item, text_bytes_max);
        }
        return;
    }
    let digest = Digest::plain(Value::Array(items.clone()).to_string().as_bytes());
    let dropped = items.len() - ENTRIES_KEPT_MAX;
    items.truncate(ENTRIES_KEPT_MAX);
    for item in items.iter_mut() {
        cut(item, text_bytes_max / 8);
    }
    items.push(Value::String(format!("[cut: {dropped} more, sha256 of the list {digest}]")));
}

fn cut_table(fields: &mut Map<String, Value>, text_bytes_max: usize) {
    let long = |name: &String| name.len() > text_bytes_max;
    if fields.len() <= ENTRIES_KEPT_MAX && !fields.keys().any(long) {
        fields.values_mut().for_each(|field| cut(field, text_bytes_max));
        return;
    }
    let digest = Digest::plain(Value::Object(fields.clone()).to_string().as_bytes());
    let all = fields.len();
    let kept = std::mem::take(fields).into_iter().filter(|it| !long(&it.0)).take(ENTRIES_KEPT_MAX);
    fields.extend(kept);
    fields.values_mut().for_each(|field| cut(field, text_bytes_max / 8));
    let dropped = all - fields.len();
    let note = format!("{dropped} more, sha256 of the table {digest}");
    fields.insert("[cut]".to_owned(), Value::String(note));
}
