//! Whether bash made of a text what was read out of it.
//!
//! The reader is meant to be exact, and a run shows whether it is: what the shell that rung has
//! started starts in turn must be one of the commands of the text.

use super::script::{Script, Simple, Word};
use super::{Limits, call, parse};
use crate::model::Arg;

/// The command lines that the text of a run can become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreseen {
    script: Script,
}

impl Foreseen {
    /// Nothing where the run is no shell with a text, or its text is not certain.
    pub fn of(argv: &[Arg]) -> Option<Self> {
        let text = call::of_carrier(argv)?;
        Some(Self { script: parse(text.as_bytes(), &Limits::default()).ok()? })
    }

    pub fn covers(&self, argv: &[Arg]) -> bool {
        let commands = || self.script.steps.iter().map(|it| &it.command);
        let is_copy = argv.len() == 1 && argv.iter().all(|it| it.as_bytes() == b"cat");
        (is_copy && commands().any(|it| it.copies > 0)) || commands().any(|it| could_be(it, argv))
    }
}

/// A word that may become several or none stands for any number of words.
fn could_be(command: &Simple, argv: &[Arg]) -> bool {
    let words = &command.words;
    let (mut at, mut given) = (0, 0);
    // Behind the last word that stands for any number, and how far it reaches.
    let mut retry: Option<(usize, usize)> = None;
    while given < argv.len() {
        match (words.get(at), argv.get(given)) {
            (Some(word), _) if splits(word) => {
                retry = Some((at + 1, given));
                at += 1;
            }
            (Some(word), Some(argument)) if fits(word, argument) => {
                at += 1;
                given += 1;
            }
            _ => match &mut retry {
                Some((behind, reached)) => {
                    *reached += 1;
                    (at, given) = (*behind, *reached);
                }
                None => return false,
            },
        }
    }
    words.iter().skip(at).all(splits)
}

fn splits(word: &Word) -> bool {
    word.filled.is_some_and(|it| it.splits)
}

fn fits(word: &Word, argument: &Arg) -> bool {
    match word.literal() {
        Some(literal) => literal == argument,
        None => argument.as_bytes().starts_with(word.start.as_bytes()),
    }
}
