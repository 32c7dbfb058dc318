//! What bash does itself, without starting a program.
//!
//! A closed table. Commands that are programs too are judged like these programs, once it is sure
//! that bash's own version does nothing else; a few that change only the shell are understood; all
//! others can run text, change what names mean or read code, and are undecidable.

use std::path::PathBuf;

use super::{Construct, Word};
use crate::model::Arg;
use crate::policy::value::Place;

/// Everything that bash 5 and its predecessors know, besides what is understood below.
const OTHERS: [&str; 45] = [
    ".",
    "alias",
    "bg",
    "bind",
    "break",
    "builtin",
    "caller",
    "compgen",
    "complete",
    "compopt",
    "continue",
    "declare",
    "dirs",
    "disown",
    "enable",
    "eval",
    "exec",
    "fc",
    "fg",
    "getopts",
    "hash",
    "help",
    "history",
    "jobs",
    "kill",
    "let",
    "local",
    "logout",
    "mapfile",
    "popd",
    "pushd",
    "read",
    "readarray",
    "readonly",
    "return",
    "shift",
    "shopt",
    "source",
    "suspend",
    "times",
    "trap",
    "typeset",
    "ulimit",
    "umask",
    "unalias",
];

/// Those that are no programs, or not the same ones.
const OWN: [&str; 9] = [":", "cd", "command", "exit", "export", "set", "type", "unset", "wait"];

/// What a command of the shell comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Builtin {
    /// None of them: a program will be started.
    No,
    /// Does what the program does whose name and words these are.
    As(Vec<Word>),
    /// Changes the shell itself, in a way that is understood.
    Own,
    /// Changes where the commands behind it start.
    Directory(PathBuf),
}

/// Whether only a shell has this command.
pub(super) fn is_shells_own(name: &str) -> bool {
    OWN.contains(&name) || OTHERS.contains(&name)
}

pub(super) fn read(name: &str, words: &[Word], place: &Place<'_>) -> Result<Builtin, Construct> {
    let refuse = || Construct::Builtin { word: name.to_owned() };
    let literal: Option<Vec<&Arg>> = words.iter().map(Word::literal).collect();
    match name {
        "echo" => Ok(Builtin::As(printed(words))),
        "true" | "false" | "pwd" => Ok(Builtin::As(words.to_vec())),
        "printf" => match words.first().and_then(Word::literal) {
            Some(format) if is_plain_format(format.as_bytes()) => Ok(Builtin::As(words.to_vec())),
            Some(_) | None => Err(refuse()),
        },
        "test" | "[" => {
            // `-v` and `-R` look into what may be an element of an array, and run what is in its
            // subscript.
            let risky = |it: &&Arg| matches!(it.as_bytes(), b"-v" | b"-R");
            let literal = literal.filter(|it| !it.iter().any(risky)).ok_or_else(refuse)?;
            match (name, literal.last().map(|it| it.as_bytes())) {
                ("test", _) => Ok(Builtin::As(words.to_vec())),
                (_, Some(b"]")) => {
                    Ok(Builtin::As(words.get(..words.len() - 1).unwrap_or_default().to_vec()))
                }
                (_, Some(_) | None) => Err(refuse()),
            }
        }
        ":" => Ok(Builtin::Own),
        "cd" => directory(&literal.ok_or_else(refuse)?, place).ok_or(Construct::Directory),
        "export" | "unset" => {
            for word in literal.ok_or_else(refuse)? {
                let text = word.as_str().ok_or_else(refuse)?;
                let variable = text.split_once('=').map_or(text, |(variable, _)| variable);
                if !place.passes(variable) {
                    return Err(Construct::Variable { name: variable.to_owned() });
                }
            }
            Ok(Builtin::Own)
        }
        "exit" | "wait" | "set" | "type" | "command" => {
            let words = literal.ok_or_else(refuse)?;
            let bytes: Vec<&[u8]> = words.iter().map(|it| it.as_bytes()).collect();
            let known = match name {
                "exit" => matches!(bytes.as_slice(), [] | [[b'0'..=b'9', ..]]),
                "wait" => bytes.is_empty(),
                "set" => is_known_setting(&bytes),
                "type" => bytes.iter().all(|it| !it.starts_with(b"-")),
                _ => matches!(bytes.as_slice(), [b"-v" | b"-V", _, ..]),
            };
            if known { Ok(Builtin::Own) } else { Err(refuse()) }
        }
        _ if OTHERS.contains(&name) => Err(refuse()),
        _ => Ok(Builtin::No),
    }
}

/// What bash prints behind the options of `echo`, `---` as well, is text.
fn printed(words: &[Word]) -> Vec<Word> {
    let is_option = |it: &&Word| match it.literal().map(Arg::as_bytes) {
        Some([b'-', letters @ ..]) => {
            !letters.is_empty() && letters.iter().all(|it| b"neE".contains(it))
        }
        Some(_) | None => false,
    };
    let options = words.iter().take_while(is_option).count();
    let (options, text) = words.split_at(options);
    let end = Word { start: Arg::try_from("--").unwrap_or_default(), filled: None, span: 0..0 };
    options.iter().chain([&end]).chain(text).cloned().collect()
}

/// A format that sets no variable: no option `-v`, no `%n`.
fn is_plain_format(format: &[u8]) -> bool {
    let sets = |conversion: &[u8]| {
        let flag = |it: &&u8| !it.is_ascii_alphabetic() || b"hlLjzt".contains(it);
        conversion.iter().find(|it| !flag(it)) == Some(&b'n')
    };
    !format.starts_with(b"-") && !format.split(|it| *it == b'%').skip(1).any(sets)
}

/// `set -e`, `set -euo pipefail`.
fn is_known_setting(words: &[&[u8]]) -> bool {
    let known = |letters: &[u8]| letters.iter().all(|it| matches!(it, b'e' | b'u' | b'x'));
    match words {
        [] => false, // prints every variable
        [b"-o", b"pipefail"] => true,
        [[b'-', letters @ .., b'o'], b"pipefail"] => known(letters),
        _ => words
            .iter()
            .all(|it| matches!(it, [b'-', letters @ ..] if !letters.is_empty() && known(letters))),
    }
}

/// A directory of the workspace by its plain name.
fn directory(words: &[&Arg], place: &Place<'_>) -> Option<Builtin> {
    let [word] = words else { return None };
    let bytes = word.as_bytes();
    if bytes.is_empty() || bytes.starts_with(b"-") {
        return None;
    }
    let inside = place.resolved(bytes);
    inside.is_relative().then(|| Builtin::Directory(place.workspace.join(inside)))
}
