//! Shell text: the part of bash whose words are certain before anything runs.
//!
//! The one idea: [`parse`] accepts a text only if it knows exactly which words bash will make of
//! it, and names the first construct that it does not know. It reads bytes, once, from front to
//! back, without recursion. Whatever is not listed in `read` is undecidable, so a construct that
//! nobody thought of is refused and not guessed.
//!
//! | file | says |
//! |---|---|
//! | `script` | what a text that was understood is made of |
//! | `certain` | the commands whose words are all certain |
//! | `charset` | which characters may stand in a text at all |
//! | `read` | the reader |
//! | `undecidable` | why a text is not understood, in words |
//! | `call` | whether a command line hands a text to a shell, and how rung runs that |
//! | `builtin` | what bash does itself |
//! | `judge` | what the commands of a text come to together |
//! | `foreseen` | whether bash made of a text what was read out of it |
//! | `scan` | whether a text that is not understood could do what is never allowed |
//!
//! What this is good for is early answers. What keeps a program inside is the sandbox, and what
//! judges the words that bash really made is the exec gate.

mod builtin;
mod call;
mod certain;
mod charset;
mod foreseen;
mod judge;
mod read;
mod scan;
mod script;
mod undecidable;

pub(super) use call::{call, typed};
pub use call::{carried, may_have_text};
pub(super) use certain::{Certain, certain};
pub use foreseen::Foreseen;
pub use judge::TEXT;
pub(super) use judge::{UNDECIDED, judge_text};
pub(super) use scan::never;
pub use script::{
    Assignment, Connection, Fill, Filled, Redirect, Script, Simple, Step, Target, Word,
};
pub use undecidable::{Construct, Undecidable};

/// How large a text may be. What is larger is undecidable, and never decided in part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    pub script_bytes_max: usize,
    pub commands_max: usize,
    /// Of all commands together, with assignments and the targets of redirections.
    pub words_max: usize,
    /// Of one word; the kernel takes no longer one either.
    pub word_bytes_max: usize,
    pub here_documents_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            script_bytes_max: 64 * 1024,
            commands_max: 64,
            words_max: 4096,
            word_bytes_max: 64 * 1024,
            here_documents_max: 4,
        }
    }
}

/// Reads a text as bash would, or says what in it is not certain.
pub fn parse(text: &[u8], limits: &Limits) -> Result<Script, Undecidable> {
    let found = if text.len() > limits.script_bytes_max {
        Err((Construct::ScriptTooLong { max: limits.script_bytes_max }, text.len()..text.len()))
    } else {
        charset::check(text).and_then(|()| read::read(text, limits))
    };
    found.map_err(|(construct, span)| Undecidable::new(construct, span, text))
}

#[cfg(test)]
mod tests;
