//! What was removed from a command's output, by kind, and the sentence that says so.

use std::collections::BTreeMap;

/// What a removed sequence would have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Removal {
    /// Write or read the clipboard.
    Clipboard,
    /// Set, save or restore the title of the window.
    Title,
    /// Turn text into a link to somewhere else.
    Link,
    /// Change the colours of the terminal itself.
    Palette,
    /// Show a notice on the desktop.
    Notice,
    /// Tell the terminal where prompts, commands and directories are.
    Mark,
    /// Make the terminal type an answer.
    Question,
    /// Move, resize, hide or raise the window.
    Window,
    /// Switch something that outlives the command or that no page needs.
    Mode,
    /// Reset the terminal.
    Reset,
    /// Erase what was printed before the command.
    Scrollback,
    /// Change the character set.
    Charset,
    /// Send to a printer or a file.
    Printer,
    /// Reach past a terminal multiplexer.
    Passthrough,
    /// Draw a picture.
    Picture,
    /// A control character with no business on a page.
    Control,
    /// A control character of the upper half.
    EightBit,
    /// Broken off, or too long.
    Malformed,
    /// A count that would keep the terminal busy.
    Oversized,
    /// Known to no list of ours.
    Unknown,
}

impl Removal {
    fn words(self) -> &'static str {
        match self {
            Self::Clipboard => "clipboard access",
            Self::Title => "window title",
            Self::Link => "hidden link",
            Self::Palette => "colour scheme",
            Self::Notice => "desktop notice",
            Self::Mark => "prompt mark",
            Self::Question => "question to the terminal",
            Self::Window => "window operation",
            Self::Mode => "terminal mode",
            Self::Reset => "reset",
            Self::Scrollback => "scrollback erasure",
            Self::Charset => "character set",
            Self::Printer => "printer control",
            Self::Passthrough => "multiplexer passthrough",
            Self::Picture => "picture",
            Self::Control => "control character",
            Self::EightBit => "8-bit control",
            Self::Malformed => "malformed sequence",
            Self::Oversized => "oversized count",
            Self::Unknown => "unknown sequence",
        }
    }

    /// Whether well-behaved programs send it every day: shells set titles and mark prompts,
    /// editors ask the terminal what it is. Removed and counted all the same, but no news.
    pub fn is_routine(self) -> bool {
        matches!(self, Self::Title | Self::Mark | Self::Question)
    }
}

/// How many sequences of each kind were removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed(BTreeMap<Removal, u64>);

impl Removed {
    pub(super) fn count(&mut self, kind: Removal) {
        let count = self.0.entry(kind).or_default();
        *count = count.saturating_add(1);
    }

    /// Every kind that occurred, with its count.
    /// Both together.
    pub(in crate::launch) fn add(&mut self, other: &Self) {
        for (kind, count) in &other.0 {
            let sum = self.0.entry(*kind).or_default();
            *sum = sum.saturating_add(*count);
        }
    }

    pub fn kinds(&self) -> impl Iterator<Item = (Removal, u64)> + '_ {
        self.0.iter().map(|(kind, count)| (*kind, *count))
    }

    pub fn total(&self) -> u64 {
        self.0.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// What the user should hear, if anything: all but the routine kinds.
    pub fn sentence(&self) -> Option<String> {
        let news: Vec<(Removal, u64)> = self.kinds().filter(|it| !it.0.is_routine()).collect();
        let total = news.iter().fold(0_u64, |sum, (_, count)| sum.saturating_add(*count));
        let kinds: Vec<String> =
            news.iter().map(|(kind, count)| format!("{}: {count}", kind.words())).collect();
        let kinds = kinds.join(", ");
        match total {
            0 => None,
            1 => Some(format!("1 terminal control sequence was removed ({kinds})")),
            _ => Some(format!("{total} terminal control sequences were removed ({kinds})")),
        }
    }
}
