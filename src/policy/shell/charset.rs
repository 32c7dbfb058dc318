//! Which characters may stand in a shell text at all.
//!
//! Readers disagree most about what cannot be seen: bash cuts a text at NUL, takes a carriage
//! return for a letter and a form feed for no blank, and a person takes U+00A0 for one. So a text
//! has printable characters, blanks, tabs and line feeds, and nothing else, in quotes or not.

use std::ops::Range;

use super::Construct;
use crate::model::is_deceptive;

pub(super) fn check(text: &[u8]) -> Result<(), (Construct, Range<usize>)> {
    let mut at = 0;
    for chunk in text.utf8_chunks() {
        for letter in chunk.valid().chars() {
            let end = at + letter.len_utf8();
            let is_wanted = matches!(letter, '\t' | '\n');
            if !is_wanted && (letter.is_control() || is_deceptive(letter)) {
                return Err((Construct::Invisible { letter }, at..end));
            }
            at = end;
        }
        if !chunk.invalid().is_empty() {
            return Err((Construct::NotText, at..at + chunk.invalid().len()));
        }
    }
    Ok(())
}
