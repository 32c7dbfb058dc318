//! Takes secrets out of what is recorded. Pure: bytes in, bytes out.
//!
//! Three kinds of evidence: a *listed* value, in plain text and in its usual encodings; a *place*
//! where a secret is expected (`--token X`, `DB_PASSWORD=X`, `https://user:X@host`,
//! `Authorization: Bearer X`); and a *shape* that only a secret has (`ghp_...`, a JSON Web Token, a
//! private key). What matched becomes `[redacted:rule]`, so the record still shows that there was
//! something, and why it is gone.
//!
//! There is no guessing by randomness: commit hashes, digests and UUIDs are what an audit is read
//! for. The limit of all this: a secret in an unknown shape at an unknown place stays. What must
//! never be in a record should never be on a command line.

mod exact;
mod flags;
mod names;
mod places;
mod shapes;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::model::Arg;
use exact::Listed;

/// Finds secrets by value, place and shape.
#[derive(Debug, Default)]
pub struct Redactor {
    listed: Listed,
}

/// Bytes that are to be replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    bytes: Range<usize>,
    rule: &'static str,
}

impl Span {
    fn new(start: usize, end: usize, rule: &'static str) -> Self {
        Self { bytes: start..end, rule }
    }

    /// The same place in a longer text that has this one at `offset`.
    fn at(self, offset: usize) -> Self {
        Self { bytes: self.bytes.start + offset..self.bytes.end + offset, rule: self.rule }
    }
}

/// How a text is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// One word of a command line: a value goes on to its end.
    Word,
    /// Several words: shell text, source code, a sentence.
    Text,
}

impl Redactor {
    /// Knows these values besides the places and shapes. Values under four bytes are left out: they
    /// would take harmless text with them.
    pub fn new(secrets: &[&[u8]]) -> Self {
        Self { listed: Listed::new(secrets) }
    }

    /// Knows what is a secret in this command line, for texts that quote words of it.
    pub fn of_argv(argv: &[Arg]) -> Self {
        let found = Self::default().spans(argv);
        let secrets = argv.iter().zip(&found).flat_map(|(word, spans)| {
            spans.iter().map(|span| part(word.as_bytes(), span.bytes.clone()))
        });
        Self::new(&secrets.collect::<Vec<_>>())
    }

    /// Cleans a command line, where one word says what the next one is; returns how many secrets
    /// were found.
    pub fn argv(&self, argv: &mut [Arg]) -> usize {
        let found = self.spans(argv);
        argv.iter_mut().zip(found).map(|(word, spans)| replace_word(word, spans)).sum()
    }

    /// The secrets of each word.
    fn spans(&self, argv: &[Arg]) -> Vec<Vec<Span>> {
        let words: Vec<&[u8]> = argv.iter().map(Arg::as_bytes).collect();
        let mut found = flags::find(&words);
        let scripts = flags::scripts(&words);
        for ((word, spans), script) in words.iter().zip(&mut found).zip(scripts) {
            let reading = if script { Reading::Text } else { Reading::Word };
            self.find(word, reading, spans);
        }
        found
    }

    /// Cleans one word that stands for itself, such as a path.
    pub fn word(&self, word: &mut Arg) -> usize {
        let mut spans = Vec::new();
        self.find(word.as_bytes(), Reading::Word, &mut spans);
        replace_word(word, spans)
    }

    /// Cleans the value of an environment variable.
    pub fn variable(&self, name: &str, value: &mut Arg) -> usize {
        let mut spans = Vec::new();
        let secret = names::is_secret(name.as_bytes());
        if secret && !names::is_harmless(value.as_bytes()) {
            spans.push(Span::new(0, value.as_bytes().len(), "variable"));
        }
        self.find(value.as_bytes(), Reading::Word, &mut spans);
        replace_word(value, spans)
    }

    /// Cleans a text: a reason, a message, a script.
    pub fn text(&self, text: &mut String) -> usize {
        let mut spans = Vec::new();
        self.find(text.as_bytes(), Reading::Text, &mut spans);
        let Some((clean, count)) = replace(text.as_bytes(), spans) else { return 0 };
        *text = String::from_utf8_lossy(&clean).into_owned();
        count
    }

    fn find(&self, bytes: &[u8], reading: Reading, spans: &mut Vec<Span>) {
        self.listed.find(bytes, spans);
        shapes::find(bytes, spans);
        places::find(bytes, reading, spans);
        if reading == Reading::Text {
            find_in_words(bytes, 0, 0, spans);
        }
    }
}

/// How deep a command stands in the quotes of another one: `sh -c 'mysql -pX'` in a sentence.
const QUOTES_MAX: usize = 3;

/// The secrets among the words of a text that lies at `offset`, and of those that are quoted in it.
fn find_in_words(text: &[u8], offset: usize, depth: usize, spans: &mut Vec<Span>) {
    let words = words_of(text);
    let slices: Vec<&[u8]> = words.iter().map(|word| part(text, word.clone())).collect();
    for ((word, slice), found) in words.iter().zip(&slices).zip(flags::find(&slices)) {
        spans.extend(found.into_iter().map(|span| span.at(offset + word.start)));
        if depth < QUOTES_MAX && slice.iter().any(u8::is_ascii_whitespace) {
            find_in_words(slice, offset + word.start, depth + 1, spans);
        }
    }
}

/// The words of a text, without the quotes around them.
fn words_of(text: &[u8]) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = 0;
    while let Some(skipped) =
        part(text, start..text.len()).iter().position(|byte| !byte.is_ascii_whitespace())
    {
        start += skipped;
        let quote = text.get(start).copied().filter(|byte| matches!(byte, b'"' | b'\'' | b'`'));
        let from = start + usize::from(quote.is_some());
        let rest = part(text, from..text.len());
        let ends = |byte: &u8| match quote {
            Some(quote) => *byte == quote,
            None => byte.is_ascii_whitespace() || matches!(byte, b';' | b'|' | b'&'),
        };
        let end = from + rest.iter().position(ends).unwrap_or(rest.len());
        words.push(from..end);
        start = end + 1;
    }
    words
}

fn replace_word(word: &mut Arg, spans: Vec<Span>) -> usize {
    let Some((clean, count)) = replace(word.as_bytes(), spans) else { return 0 };
    // No byte of the word and none of the marks is NUL.
    let Ok(clean) = Arg::new(clean) else { return 0 };
    *word = clean;
    count
}

/// The bytes with each span replaced; nothing where there is none. Spans that touch are one.
fn replace(bytes: &[u8], mut spans: Vec<Span>) -> Option<(Vec<u8>, usize)> {
    spans.retain(|span| !span.bytes.is_empty() && !is_mark(part(bytes, span.bytes.clone())));
    if spans.is_empty() {
        return None;
    }
    spans.sort_by_key(|span| (span.bytes.start, std::cmp::Reverse(span.bytes.end)));
    let mut merged: Vec<Span> = Vec::new();
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.bytes.start < last.bytes.end => {
                last.bytes.end = last.bytes.end.max(span.bytes.end);
            }
            _ => merged.push(span),
        }
    }
    let mut clean = Vec::with_capacity(bytes.len());
    let mut done = 0;
    for span in &merged {
        clean.extend_from_slice(part(bytes, done..span.bytes.start));
        clean.extend_from_slice(b"[redacted:");
        clean.extend_from_slice(span.rule.as_bytes());
        clean.push(b']');
        done = span.bytes.end;
    }
    clean.extend_from_slice(part(bytes, done..bytes.len()));
    Some((clean, merged.len()))
}

/// Whether a part of the word has been taken out.
pub fn is_redacted(word: &[u8]) -> bool {
    const START: &[u8] = b"[redacted:";
    word.windows(START.len()).any(|it| it == START)
}

/// What an earlier pass left behind.
fn is_mark(bytes: &[u8]) -> bool {
    bytes.starts_with(b"[redacted:") && bytes.ends_with(b"]")
}

/// The bytes of a range, or none where it reaches outside.
fn part(bytes: &[u8], range: Range<usize>) -> &[u8] {
    bytes.get(range).unwrap_or_default()
}
