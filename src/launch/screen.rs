//! Keeps what a command prints on the page: text, colours and cursor movement pass, everything
//! that would act on the terminal itself is removed and counted.
//!
//! The one idea: nothing is passed on before it is understood. An escape sequence is held until
//! its last byte, judged as a whole by [`sequence::judge`], and then passed unchanged or dropped;
//! strings (OSC, DCS and their kin) never pass; what leaves is valid UTF-8 without C1 controls.
//! So two terminals that disagree about a malformed sequence never see one.
//!
//! A terminal that is not in UTF-8 mode is not served: there, the bytes of an ordinary letter can
//! be controls. Nothing that could switch UTF-8 off passes.
//!
//! Pure, linear in its input, and bounded in memory however the command cuts its writes.

mod removed;
mod sequence;

use std::collections::BTreeSet;

pub use removed::{Removal, Removed};

use sequence::{Trace, Verdict};

/// The longest escape sequence that is held; a longer one is given up and its rest is text. Long
/// enough for a dozen true colours in one go.
pub const SEQUENCE_BYTES_MAX: usize = 256;

/// How much of a string that nobody ends is swallowed before what follows is text again. More
/// than a picture on the screen takes.
pub const STRING_BYTES_MAX: usize = 4 << 20;

/// How much of a string is kept to say what it was.
const STRING_HEAD_BYTES: usize = 32;

const ESC: u8 = 0x1B;
const REPLACEMENT: &[u8] = "\u{FFFD}".as_bytes();

/// The filter between a command's terminal and the user's.
#[derive(Debug, Default)]
pub struct Screen {
    state: State,
    /// The beginning of a character whose rest has not come yet; at most three bytes.
    character: Vec<u8>,
    /// The sequence being read, from its ESC; at most [`SEQUENCE_BYTES_MAX`].
    sequence: Vec<u8>,
    removed: Removed,
    /// What the command has changed and not changed back.
    traces: BTreeSet<Trace>,
}

#[derive(Debug, Default, Clone, Copy)]
enum State {
    #[default]
    Text,
    /// After ESC and any intermediates.
    Escape,
    /// After `ESC [`.
    Csi,
    /// In a string control, which is swallowed.
    String { swallowed: usize },
}

impl Screen {
    pub fn new() -> Self {
        Self::default()
    }

    /// Filters the next bytes of the stream. What is incomplete waits for the next call.
    pub fn feed(&mut self, input: &[u8], output: &mut Vec<u8>) {
        let mut rest = input;
        while !rest.is_empty() {
            rest = match self.state {
                State::Text => self.text(rest, output),
                State::Escape => self.escape(rest, output),
                State::Csi => self.csi(rest, output),
                State::String { swallowed } => self.string(rest, swallowed),
            };
        }
    }

    /// Ends the stream: what is incomplete is dropped, and what the command left switched on
    /// (another screen, a hidden cursor, mouse reports, colours) is switched back.
    pub fn finish(&mut self, output: &mut Vec<u8>) {
        match self.state {
            State::Text => {}
            State::Escape | State::Csi => self.removed.count(Removal::Malformed),
            State::String { .. } => self.removed.count(sequence::string_kind(&self.sequence)),
        }
        self.state = State::Text;
        self.sequence.clear();
        if !self.character.is_empty() {
            self.character.clear();
            output.extend_from_slice(REPLACEMENT);
        }
        for trace in std::mem::take(&mut self.traces) {
            trace.undo(output);
        }
    }

    /// What has been removed so far.
    pub fn removed(&self) -> &Removed {
        &self.removed
    }

    fn text<'a>(&mut self, rest: &'a [u8], output: &mut Vec<u8>) -> &'a [u8] {
        if !self.character.is_empty() {
            return self.complete_character(rest, output);
        }
        let length = rest.iter().position(|byte| needs_a_look(*byte)).unwrap_or(rest.len());
        let (run, after) = rest.split_at(length);
        if run.is_ascii() {
            output.extend_from_slice(run);
        } else {
            self.characters(run, after.is_empty(), output);
        }
        match after.split_first() {
            // The character may be cut by this very control: text first.
            Some((control, after)) => {
                self.control(*control, output);
                after
            }
            None => after,
        }
    }

    /// A run without controls but with bytes beyond ASCII. `open`: more may follow directly.
    fn characters(&mut self, run: &[u8], open: bool, output: &mut Vec<u8>) {
        let mut left = run.len();
        for chunk in run.utf8_chunks() {
            self.characters_valid(chunk.valid(), output);
            left = left.saturating_sub(chunk.valid().len() + chunk.invalid().len());
            if open && left == 0 && is_cut(chunk.invalid()) {
                self.character.extend_from_slice(chunk.invalid());
            } else if !chunk.invalid().is_empty() {
                self.characters_invalid(chunk.invalid(), output);
            }
        }
    }

    /// Passes well-formed text without U+0080 to U+009F, which many terminals obey.
    fn characters_valid(&mut self, text: &str, output: &mut Vec<u8>) {
        let mut rest = text.as_bytes();
        while let Some(at) = rest.windows(2).position(|it| matches!(it, [0xC2, 0x80..=0x9F])) {
            let (good, after) = rest.split_at(at);
            output.extend_from_slice(good);
            self.removed.count(Removal::EightBit);
            rest = after.get(2..).unwrap_or_default();
        }
        output.extend_from_slice(rest);
    }

    fn characters_invalid(&mut self, bytes: &[u8], output: &mut Vec<u8>) {
        if matches!(bytes, [0x80..=0x9F]) {
            self.removed.count(Removal::EightBit);
        }
        output.extend_from_slice(REPLACEMENT);
    }

    fn complete_character<'a>(&mut self, rest: &'a [u8], output: &mut Vec<u8>) -> &'a [u8] {
        let Some((byte, after)) = rest.split_first() else {
            return rest;
        };
        let mut character = std::mem::take(&mut self.character);
        character.push(*byte);
        match std::str::from_utf8(&character) {
            Ok(text) => {
                self.characters_valid(text, output);
                after
            }
            Err(error) if error.error_len().is_none() => {
                self.character = character;
                after
            }
            // The new byte begins something of its own.
            Err(_) => {
                character.pop();
                self.characters_invalid(&character, output);
                rest
            }
        }
    }

    fn control(&mut self, byte: u8, output: &mut Vec<u8>) {
        match byte {
            ESC => self.begin(),
            0x07 | 0x08 | 0x0B | 0x0C => output.push(byte),
            // Shift out and in: line drawing on `screen` and the Linux console.
            0x0E => {
                self.traces.insert(Trace::Shift);
                output.push(byte);
            }
            0x0F => {
                self.traces.remove(&Trace::Shift);
                output.push(byte);
            }
            // Padding: terminals do nothing with it, and nothing is lost.
            0x00 | 0x7F => {}
            // Enquiry: the terminal would type its answerback.
            0x05 => self.removed.count(Removal::Question),
            _ => self.removed.count(Removal::Control),
        }
    }

    fn begin(&mut self) {
        self.sequence.clear();
        self.sequence.push(ESC);
        self.state = State::Escape;
    }

    /// Drops the sequence; the byte that broke it is read again as text.
    fn give_up(&mut self) {
        self.removed.count(Removal::Malformed);
        self.sequence.clear();
        self.state = State::Text;
    }

    fn escape<'a>(&mut self, rest: &'a [u8], output: &mut Vec<u8>) -> &'a [u8] {
        let Some((byte, after)) = rest.split_first() else {
            return rest;
        };
        let first = self.sequence.len() == 1;
        match *byte {
            b'[' if first => self.state = State::Csi,
            // OSC, DCS, SOS, PM, APC, and the title string of `screen` and `tmux`.
            b']' | b'P' | b'X' | b'^' | b'_' | b'k' if first => {
                self.state = State::String { swallowed: 0 };
            }
            // The end of a string that has been dropped; alone it does nothing.
            b'\\' if first => {
                self.state = State::Text;
                return after;
            }
            0x20..=0x2F if self.sequence.len() < SEQUENCE_BYTES_MAX => {}
            0x30..=0x7E => {
                self.sequence.push(*byte);
                self.conclude(output);
                return after;
            }
            _ => {
                self.give_up();
                return rest;
            }
        }
        self.sequence.push(*byte);
        after
    }

    fn csi<'a>(&mut self, rest: &'a [u8], output: &mut Vec<u8>) -> &'a [u8] {
        let Some((byte, after)) = rest.split_first() else {
            return rest;
        };
        let has_room = self.sequence.len() < SEQUENCE_BYTES_MAX;
        match *byte {
            0x20..=0x3F if has_room => self.sequence.push(*byte),
            0x40..=0x7E if has_room => {
                self.sequence.push(*byte);
                self.conclude(output);
            }
            _ => {
                self.give_up();
                return rest;
            }
        }
        after
    }

    fn conclude(&mut self, output: &mut Vec<u8>) {
        self.state = State::Text;
        match sequence::judge(&self.sequence, &mut self.traces) {
            Verdict::Pass => output.extend_from_slice(&self.sequence),
            Verdict::Remove(kind) => self.removed.count(kind),
        }
    }

    fn string<'a>(&mut self, rest: &'a [u8], swallowed: usize) -> &'a [u8] {
        // Pictures have lines of data; in any other string a new line means that the end is missing.
        let newline_ends = self.sequence.get(1) != Some(&b'P');
        let ends =
            |byte: u8| matches!(byte, 0x07 | 0x18 | 0x1A | ESC) || (newline_ends && byte == b'\n');
        let room = STRING_BYTES_MAX.saturating_sub(swallowed);
        let length =
            rest.iter().take(room).position(|it| ends(*it)).unwrap_or(rest.len().min(room));
        let (body, after) = rest.split_at(length);
        let head = STRING_HEAD_BYTES.saturating_sub(self.sequence.len());
        self.sequence.extend(body.iter().take(head));
        self.state = State::String { swallowed: swallowed.saturating_add(length) };
        if after.is_empty() && length < room {
            return after;
        }
        self.removed.count(sequence::string_kind(&self.sequence));
        self.state = State::Text;
        match after.split_first() {
            Some((&ESC, after)) => {
                self.begin();
                after
            }
            Some((0x07 | 0x18 | 0x1A, after)) => after,
            _ => after,
        }
    }
}

/// Whether a byte of text is more than something to print or the end of a line.
fn needs_a_look(byte: u8) -> bool {
    (byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r')) || byte == 0x7F
}

/// Whether these bytes are the beginning of a character.
fn is_cut(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
