//! Which escape sequences stay on the page, as a table over whole sequences.
//!
//! A list of what passes; whatever is not on it is removed. On the list is what line editors and
//! full-screen programs need to paint: colours, cursor, erasing within the page, scroll region,
//! the other screen, and modes of keyboard and mouse that end with the command. Two questions
//! pass, cursor position and primary device attributes: programs wait for their answers, and the
//! answers are numbers that go to the command itself.
//!
//! Every change that would outlive the command leaves a [`Trace`], so that it can be undone.

use std::collections::BTreeSet;

use super::removed::Removal;

/// The largest number in a sequence, in digits: no page has 100,000 columns.
const NUMBER_DIGITS_MAX: usize = 5;

/// How often the last character may be repeated by one sequence.
const REPEAT_MAX: u32 = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    Remove(Removal),
}

/// Something switched on that the user's shell does not expect. The order is the order of undoing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trace {
    /// A private mode away from its usual value, which is `bool`.
    Mode(u16, bool),
    Margins,
    Insert,
    Keypad,
    /// `modifyOtherKeys`.
    Keys,
    Shift,
    /// Another character set in the slot that this byte designates.
    Charset(u8),
    Rendition,
    CursorStyle,
}

impl Trace {
    pub(super) fn undo(self, output: &mut Vec<u8>) {
        match self {
            Self::Mode(number, usual) => {
                let last = if usual { 'h' } else { 'l' };
                output.extend_from_slice(format!("\x1b[?{number}{last}").as_bytes());
            }
            // Taking the margins away moves the cursor, so it is kept.
            Self::Margins => output.extend_from_slice(b"\x1b7\x1b[r\x1b8"),
            Self::Insert => output.extend_from_slice(b"\x1b[4l"),
            Self::Keypad => output.extend_from_slice(b"\x1b>"),
            Self::Keys => output.extend_from_slice(b"\x1b[>4;0m"),
            Self::Shift => output.push(0x0F),
            Self::Charset(slot) => output.extend_from_slice(&[0x1B, slot, b'B']),
            // 10 is the usual font, which 0 leaves alone on the Linux console.
            Self::Rendition => output.extend_from_slice(b"\x1b[0;10m"),
            Self::CursorStyle => output.extend_from_slice(b"\x1b[0 q"),
        }
    }
}

/// What a private mode is when no program has touched it.
#[derive(Debug, Clone, Copy)]
enum Usual {
    Off,
    On,
    /// Differs between terminals, and does no harm either way.
    Varies,
}

/// The private modes (`CSI ? n h` and `l`) that a command may switch.
const MODES: &[(u16, Usual)] = &[
    (1, Usual::Off),       // cursor keys send application sequences
    (5, Usual::Off),       // reverse screen: the visible bell
    (7, Usual::On),        // wrap at the margin
    (12, Usual::Varies),   // blinking cursor
    (25, Usual::On),       // visible cursor
    (47, Usual::Off),      // the other screen, three spellings
    (66, Usual::Off),      // application keypad
    (1000, Usual::Off),    // mouse: buttons
    (1002, Usual::Off),    // mouse: drag
    (1003, Usual::Off),    // mouse: all motion
    (1004, Usual::Off),    // focus events
    (1005, Usual::Off),    // mouse: coordinates in UTF-8
    (1006, Usual::Off),    // mouse: coordinates in decimal
    (1015, Usual::Off),    // mouse: coordinates in decimal, older
    (1016, Usual::Off),    // mouse: coordinates in pixels
    (1034, Usual::Varies), // meta key sets the eighth bit; readline sets it at each start
    (1047, Usual::Off),
    (1048, Usual::Varies), // save the cursor
    (1049, Usual::Off),
    (2004, Usual::Off), // bracketed paste
    (2026, Usual::Off), // synchronized update
    (7727, Usual::Off), // escape key sends an application sequence
];

/// Judges a whole sequence, from its ESC to its last byte, and notes what it leaves behind.
pub(super) fn judge(sequence: &[u8], traces: &mut BTreeSet<Trace>) -> Verdict {
    match sequence {
        [_, b'[', body @ .., last] => match Csi::parse(body, *last) {
            Some(csi) => csi.judge(traces),
            None => Verdict::Remove(Removal::Malformed),
        },
        [_, rest @ ..] => escape(rest, traces),
        [] => Verdict::Remove(Removal::Malformed),
    }
}

/// Escape sequences without parameters.
fn escape(rest: &[u8], traces: &mut BTreeSet<Trace>) -> Verdict {
    match rest {
        // Save and restore the cursor; index, next line, reverse index.
        [b'7' | b'8' | b'D' | b'E' | b'M'] => Verdict::Pass,
        [b'='] => pass_with(traces, Trace::Keypad, true),
        [b'>'] => pass_with(traces, Trace::Keypad, false),
        // ASCII and line drawing, which programs use for frames.
        [slot @ (b'(' | b')'), set @ (b'B' | b'0')] => {
            pass_with(traces, Trace::Charset(*slot), *set != b'B')
        }
        [b'c'] => Verdict::Remove(Removal::Reset),
        [b'Z'] => Verdict::Remove(Removal::Question),
        // Other sets, locking shifts, and leaving UTF-8.
        [b'(' | b')' | b'*' | b'+' | b'-' | b'.' | b'/' | b'$' | b'%', ..]
        | [b'n' | b'o' | b'|' | b'}' | b'~' | b'N' | b'O'] => Verdict::Remove(Removal::Charset),
        // Tab stops, protected areas, 7 or 8 bits, double size, the alignment pattern.
        [b'H' | b'V' | b'W' | b'l' | b'm'] | [b' ' | b'#', ..] => Verdict::Remove(Removal::Mode),
        _ => Verdict::Remove(Removal::Unknown),
    }
}

fn pass_with(traces: &mut BTreeSet<Trace>, trace: Trace, left_on: bool) -> Verdict {
    if left_on {
        traces.insert(trace);
    } else {
        traces.remove(&trace);
    }
    Verdict::Pass
}

/// A control sequence in its parts.
struct Csi<'a> {
    /// One of `< = > ?`.
    prefix: Option<u8>,
    parameters: &'a [u8],
    intermediates: &'a [u8],
    last: u8,
}

impl<'a> Csi<'a> {
    fn parse(body: &'a [u8], last: u8) -> Option<Self> {
        let (prefix, body) = match body {
            [prefix @ b'<'..=b'?', rest @ ..] => (Some(*prefix), rest),
            _ => (None, body),
        };
        let length = body.iter().take_while(|it| matches!(it, b'0'..=b';')).count();
        let (parameters, intermediates) = body.split_at(length);
        let sound = intermediates.iter().all(|it| matches!(it, b' '..=b'/'));
        sound.then_some(Self { prefix, parameters, intermediates, last })
    }

    /// The parameters as numbers; an empty one is 0.
    fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        let number = |digits: &[u8]| {
            digits.iter().fold(0_u32, |sum, digit| {
                sum.saturating_mul(10).saturating_add(u32::from(digit.wrapping_sub(b'0')))
            })
        };
        self.parameters.split(|it| *it == b';').map(number)
    }

    fn first(&self) -> u32 {
        self.numbers().next().unwrap_or(0)
    }

    fn judge(&self, traces: &mut BTreeSet<Trace>) -> Verdict {
        let mut digits = self.parameters.split(|it| matches!(it, b';' | b':'));
        if digits.any(|it| it.len() > NUMBER_DIGITS_MAX) {
            return Verdict::Remove(Removal::Oversized);
        }
        let colours = self.prefix.is_none() && self.last == b'm';
        if self.parameters.contains(&b':') && !colours {
            return Verdict::Remove(Removal::Malformed);
        }
        match (self.prefix, self.intermediates) {
            (None, []) => self.plain(traces),
            (Some(b'?'), []) => self.private(traces),
            (Some(prefix), []) => self.extended(prefix, traces),
            (_, [intermediate]) => self.with_intermediate(*intermediate, traces),
            _ => Verdict::Remove(Removal::Unknown),
        }
    }

    /// `CSI` parameters last.
    fn plain(&self, traces: &mut BTreeSet<Trace>) -> Verdict {
        let one = || self.numbers().count() == 1;
        let passes = match self.last {
            b'm' => {
                let reset = matches!(self.parameters, b"" | b"0" | b"00" | b"0;10");
                return pass_with(traces, Trace::Rendition, !reset);
            }
            // Cursor movement; inserting, deleting, erasing and scrolling within the page.
            b'A'..=b'I'
            | b'K'..=b'M'
            | b'P'
            | b'S'
            | b'X'
            | b'Z'
            | b'@'
            | b'`'
            | b'a'
            | b'd'
            | b'e'
            | b'f' => true,
            b'J' if self.first() == 3 => return Verdict::Remove(Removal::Scrollback),
            b'J' => one() && self.first() < 3,
            b'b' if self.first() > REPEAT_MAX => return Verdict::Remove(Removal::Oversized),
            // With more parameters `T` starts mouse tracking that waits for an answer.
            b'T' | b'b' => one(),
            b'r' => return pass_with(traces, Trace::Margins, !self.parameters.is_empty()),
            b's' | b'u' => self.parameters.is_empty(),
            // Insert mode, and the cursor's usual look on `screen`.
            b'h' | b'l' if self.parameters == b"4" => {
                return pass_with(traces, Trace::Insert, self.last == b'h');
            }
            b'h' | b'l' => self.parameters == b"34",
            b'n' => self.parameters == b"6",
            b'c' => matches!(self.parameters, b"" | b"0"),
            _ => false,
        };
        if passes { Verdict::Pass } else { Verdict::Remove(self.plain_kind()) }
    }

    fn plain_kind(&self) -> Removal {
        match self.last {
            b'n' | b'c' | b'x' => Removal::Question,
            b'i' => Removal::Printer,
            b't' => match self.first() {
                11..=21 => Removal::Question,
                22 | 23 => Removal::Title,
                _ => Removal::Window,
            },
            // The Linux console's own: blanking, bell, switching to another console.
            b']' => Removal::Window,
            b'T' | b'g' | b'h' | b'l' | b'q' | b's' | b'u' => Removal::Mode,
            b'y' => Removal::Reset,
            _ => Removal::Unknown,
        }
    }

    /// `CSI ?` parameters last.
    fn private(&self, traces: &mut BTreeSet<Trace>) -> Verdict {
        let known = |number: u32| MODES.iter().find(|it| u32::from(it.0) == number);
        match self.last {
            b'h' | b'l' if self.numbers().all(|it| known(it).is_some()) => {
                let on = self.last == b'h';
                for (number, usual) in self.numbers().filter_map(known) {
                    match usual {
                        Usual::Off => pass_with(traces, Trace::Mode(*number, false), on),
                        Usual::On => pass_with(traces, Trace::Mode(*number, true), !on),
                        Usual::Varies => Verdict::Pass,
                    };
                }
                Verdict::Pass
            }
            b'h' | b'l' | b's' | b'r' => Verdict::Remove(Removal::Mode),
            b'n' | b'm' | b'u' | b'c' | b'S' => Verdict::Remove(Removal::Question),
            b'i' => Verdict::Remove(Removal::Printer),
            _ => Verdict::Remove(Removal::Unknown),
        }
    }

    /// `CSI <`, `CSI =` and `CSI >`.
    fn extended(&self, prefix: u8, traces: &mut BTreeSet<Trace>) -> Verdict {
        match (prefix, self.last) {
            (b'>', b'm') => {
                let mut numbers = self.numbers();
                let level = match (numbers.next(), numbers.next(), numbers.next()) {
                    (Some(4), level, None) => level.unwrap_or(0),
                    _ => return Verdict::Remove(Removal::Mode),
                };
                if level > 2 {
                    return Verdict::Remove(Removal::Mode);
                }
                pass_with(traces, Trace::Keys, level > 0)
            }
            (_, b'c') | (b'>', b'q') => Verdict::Remove(Removal::Question),
            (b'>', b't' | b'T') => Verdict::Remove(Removal::Title),
            (_, b'u' | b'm' | b'n' | b'p') => Verdict::Remove(Removal::Mode),
            _ => Verdict::Remove(Removal::Unknown),
        }
    }

    fn with_intermediate(&self, intermediate: u8, traces: &mut BTreeSet<Trace>) -> Verdict {
        match (self.prefix, intermediate, self.last) {
            // Soft reset: modes back to usual, nothing erased.
            (None, b'!', b'p') if self.parameters.is_empty() => Verdict::Pass,
            (None, b' ', b'q') if self.numbers().count() == 1 && self.first() <= 6 => {
                pass_with(traces, Trace::CursorStyle, self.first() != 0)
            }
            // Questions about modes and state; the checksum that reads the page; and what vim sends
            // to see, by the cursor's place, whether the terminal swallows what it cannot know.
            (_, b'$', b'p' | b'u' | b'w') | (_, b'*', b'y') | (None, b'%', b'm') => {
                Verdict::Remove(Removal::Question)
            }
            // Conformance level: it can switch 8-bit controls on.
            (_, b'"', _) | (None, b' ', b'q') => Verdict::Remove(Removal::Mode),
            _ => Verdict::Remove(Removal::Unknown),
        }
    }
}

/// What a string control was, by its introducer and its first bytes.
pub(super) fn string_kind(head: &[u8]) -> Removal {
    match head {
        [_, b'k', ..] => Removal::Title,
        [_, b']', body @ ..] => osc_kind(body),
        [_, b'P', body @ ..] => dcs_kind(body),
        // Pictures of kitty.
        [_, b'_', b'G', ..] => Removal::Picture,
        _ => Removal::Unknown,
    }
}

fn osc_kind(body: &[u8]) -> Removal {
    let command = body.split(|it| *it == b';').next().unwrap_or_default();
    let asks = body.contains(&b'?');
    let Some(number) = std::str::from_utf8(command).ok().and_then(|it| it.parse::<u32>().ok())
    else {
        return match command {
            [b'l' | b'L' | b'I', ..] => Removal::Title,
            // The Linux console's palette.
            [b'P' | b'R', ..] => Removal::Palette,
            _ => Removal::Unknown,
        };
    };
    match number {
        0..=2 => Removal::Title,
        4 | 5 | 10..=19 if asks => Removal::Question,
        4 | 5 | 10..=19 | 104 | 105 | 110..=119 => Removal::Palette,
        6 | 7 | 133 | 633 | 3008 => Removal::Mark,
        8 => Removal::Link,
        9 | 99 | 777 => Removal::Notice,
        52 => Removal::Clipboard,
        1337 if body.starts_with(b"1337;File") => Removal::Picture,
        _ => Removal::Unknown,
    }
}

fn dcs_kind(body: &[u8]) -> Removal {
    let introducer: Vec<u8> =
        body.iter().copied().skip_while(|it| matches!(it, b'0'..=b'?')).take(5).collect();
    match introducer.as_slice() {
        // `zz` is the other half of vim's `CSI 0 % m`.
        [b'$' | b'+', b'q', ..] | b"zz" => Removal::Question,
        b"tmux;" => Removal::Passthrough,
        [b'q', ..] => Removal::Picture,
        _ => Removal::Unknown,
    }
}
