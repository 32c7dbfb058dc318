//! What a text that was understood is made of.

use std::ops::Range;

use crate::model::Arg;

/// A list of simple commands and what connects them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    // INVARIANT: never empty.
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    pub command: Simple,
    /// What stands between this command and the next one.
    pub then: Connection,
}

/// How a command is connected to the one behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connection {
    /// The text ends here.
    End,
    /// `;` or the end of a line.
    Next,
    /// `&&`
    And,
    /// `||`
    Or,
    /// `|` or `|&`: what this one prints, the next one reads.
    Pipe,
    /// `&`
    Background,
}

impl Connection {
    pub fn is_pipe(self) -> bool {
        self == Self::Pipe
    }
}

/// One simple command. Assignments without words last for the rest of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Simple {
    pub assignments: Vec<Assignment>,
    // INVARIANT: the first word, if there is one, is literal ASCII.
    pub words: Vec<Word>,
    pub redirects: Vec<Redirect>,
    /// How often `cat` runs first, to make a here-document a word.
    pub copies: usize,
    /// Bytes of the text.
    pub span: Range<usize>,
}

impl Simple {
    /// The command line, if every word of it is certain.
    pub fn literal(&self) -> Option<Vec<Arg>> {
        self.words.iter().map(|it| it.literal().cloned()).collect()
    }
}

/// `NAME=value` before a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub name: String,
    pub value: Word,
    pub span: Range<usize>,
}

/// One word, certain up to the first thing that the shell fills in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// The bytes before that, quotes taken off; all of them if nothing is filled in.
    pub start: Arg,
    pub filled: Option<Filled>,
    pub span: Range<usize>,
}

/// What becomes of a word only while the shell runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filled {
    pub by: Fill,
    /// May become several words or none.
    pub splits: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fill {
    /// `$NAME`, `${NAME}`, `$?`
    Variable,
    /// `*`, `?`, `[...]`
    Pattern,
    /// `~`
    Home,
}

impl Word {
    /// The word, if it is certain.
    pub fn literal(&self) -> Option<&Arg> {
        self.filled.is_none().then_some(&self.start)
    }
}

/// One redirection, in the order in which bash makes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    pub target: Target,
    pub span: Range<usize>,
}

/// Where a redirection leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Read(Arg),
    Write(Arg),
    /// `<>`
    ReadWrite(Arg),
    /// `2>&1`, `>&-`: a descriptor the command has already.
    Descriptor,
    /// A here-document or a here-string: the text stands in the script.
    Text(Vec<u8>),
}
