//! The commands that a text is certain to start, for whoever wants to say early that it cannot.

use super::builtin::is_shells_own;
use super::script::{Connection, Script, Step};
use super::{Limits, parse};
use crate::model::Arg;

/// One command of a text, word by word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::policy) struct Certain {
    pub argv: Vec<Arg>,
    /// The text does not go on as if nothing had been, should the command fail.
    pub counts: bool,
}

/// The commands whose words are all certain. Nothing where the text as a whole is not: what is read
/// wrongly must not lead to a refusal.
pub(in crate::policy) fn certain(text: &[u8]) -> Vec<Certain> {
    let Ok(Script { steps }) = parse(text, &Limits::default()) else { return Vec::new() };
    let mut is_fallback = false;
    let mut found = Vec::new();
    for Step { command, then } in &steps {
        let counts = !is_fallback && *then != Connection::Or;
        is_fallback = *then == Connection::Or;
        let Some(argv) = command.literal() else { continue };
        let own = |it: &Arg| it.as_str().is_some_and(|it| it == "[" || is_shells_own(it));
        if argv.first().is_some_and(|it| !own(it)) {
            found.push(Certain { argv, counts });
        }
    }
    found
}
