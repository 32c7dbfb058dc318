//! Why a text is not understood, in words.

use std::fmt;
use std::ops::Range;

/// The first thing in a text whose meaning is not certain, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{construct} (line {line}, character {column})")]
pub struct Undecidable {
    pub construct: Construct,
    /// Bytes of the text.
    pub span: Range<usize>,
    /// Both counted from 1, the column in characters.
    pub line: usize,
    pub column: usize,
}

impl Undecidable {
    pub(super) fn new(construct: Construct, span: Range<usize>, text: &[u8]) -> Self {
        let before = text.get(..span.start).unwrap_or(text);
        let line_start = before.iter().rposition(|it| *it == b'\n').map_or(0, |it| it + 1);
        let line = before.split(|it| *it == b'\n').count();
        let column = before.get(line_start..).unwrap_or_default();
        let column = String::from_utf8_lossy(column).chars().count() + 1;
        Self { construct, span, line, column }
    }
}

/// What is not certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Construct {
    // what the text is made of
    Invisible { letter: char },
    NotText,
    ScriptTooLong { max: usize },
    TooManyCommands { max: usize },
    TooManyWords { max: usize },
    WordTooLong { max: usize },
    TooManyHereDocuments { max: usize },
    // what ends too early
    Empty,
    EmptyCommand,
    Incomplete { after: &'static str },
    UnclosedQuote,
    TrailingBackslash,
    // what the shell would run or fill in
    Keyword { word: String },
    Group,
    Substitution,
    Backtick,
    AnsiQuote,
    TranslatedQuote,
    Arithmetic,
    Expansion,
    SpecialVariable,
    Dollar,
    ProcessSubstitution,
    Braces,
    Subscript,
    Appending,
    ProgramFilledIn,
    ProgramName,
    // what bash and a reader could see differently
    Continuation,
    RedirectForm,
    RedirectTarget,
    Network,
    HereDocument,
    // what was read, and cannot be judged
    ShellOption { word: String },
    Parameters,
    Dialect { name: String },
    Builtin { word: String },
    Variable { name: String },
    Directory,
    FilledIn,
}

impl fmt::Display for Construct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = match self {
            Self::Invisible { letter: '\0' } => "a NUL byte",
            Self::Invisible { letter: '\r' } => {
                "a carriage return, which bash takes for a part of the word"
            }
            Self::Invisible { letter } => {
                return write!(
                    f,
                    "the character U+{:04X}, which cannot be seen or told apart",
                    u32::from(*letter)
                );
            }
            Self::NotText => "bytes that are not UTF-8",
            Self::ScriptTooLong { max } => return write!(f, "a text of more than {max} bytes"),
            Self::TooManyCommands { max } => return write!(f, "more than {max} commands"),
            Self::TooManyWords { max } => return write!(f, "more than {max} words"),
            Self::WordTooLong { max } => return write!(f, "a word of more than {max} bytes"),
            Self::TooManyHereDocuments { max } => {
                return write!(f, "more than {max} here-documents");
            }
            Self::Empty => "a text without a command",
            Self::EmptyCommand => "nothing where a command should be",
            Self::Incomplete { after } => {
                return write!(f, "the end of the text after {after}");
            }
            Self::UnclosedQuote => "a quote that is never closed",
            Self::TrailingBackslash => "a backslash at the end of the text",
            Self::Keyword { word } => return write!(f, "the keyword `{word}`"),
            Self::Group => "a parenthesis (a subshell, a function or a pattern)",
            Self::Substitution => "a command substitution `$(...)`",
            Self::Backtick => "a command substitution in backticks",
            Self::AnsiQuote => "a quote of the form `$'...'`",
            Self::TranslatedQuote => "a quote of the form `$\"...\"`",
            Self::Arithmetic => "an arithmetic expansion",
            Self::Expansion => "an expansion `${...}` that is more than a name",
            Self::SpecialVariable => "a positional or special parameter",
            Self::Dollar => "a `$` that is not followed by a name",
            Self::ProcessSubstitution => "a process substitution",
            Self::Braces => "a brace expansion or a group",
            Self::Subscript => "an assignment to an element of an array",
            Self::Appending => "an assignment with `+=`",
            Self::ProgramFilledIn => "a program's name that is only known while the shell runs",
            Self::ProgramName => "a program's name that is empty or not plain ASCII",
            Self::Continuation => "a line that is continued in the middle of a word",
            Self::RedirectForm => "a redirection of an unusual form",
            Self::RedirectTarget => "a redirection without a plain file name",
            Self::Network => "a redirection to `/dev/tcp` or `/dev/udp`",
            Self::HereDocument => "a here-document of an unusual form",
            Self::ShellOption { word } => return write!(f, "the option `{word}` of the shell"),
            Self::Parameters => "a text with parameters behind it",
            Self::Dialect { name } => {
                return write!(
                    f,
                    "a text for `{name}`, which reads it in its own way (use `bash`)"
                );
            }
            Self::Builtin { word } => return write!(f, "`{word}`, which is a part of the shell,"),
            Self::Variable { name } => {
                return write!(f, "setting `{name}`, which the profile does not pass,");
            }
            Self::Directory => "a change of directory to where nobody can tell",
            Self::FilledIn => "a word that is filled in while the shell runs",
        };
        f.write_str(plain)
    }
}
