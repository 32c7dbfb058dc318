//! A shell that is given its text as a word: which text, and how rung runs it.

use std::path::Path;

use super::builtin;
use super::{Connection, Construct, Limits, Script, Simple, Step, parse};
use crate::model::Arg;
use crate::policy::decide::final_name;

/// Programs whose `-c` is decided by the text behind it.
const SHELLS: [&str; 8] = ["ash", "bash", "dash", "ksh", "mksh", "rbash", "sh", "zsh"];

/// The one shell whose reading is known.
const BASH: &str = "bash";

/// How rung starts bash: without anybody's start-up files, functions or options of the caller, and
/// with a text that cannot be taken for an option. Among its first words is what says that it has one.
const CARRIER: [&str; 5] = [BASH, "--norc", "--noprofile", "-p", "-c"];

/// `bash -euo pipefail -c TEXT`
#[derive(Debug)]
pub(in crate::policy) struct Call<'w> {
    pub text: &'w Arg,
    /// Options that change what the text does, all of them known.
    kept: Vec<&'w [u8]>,
    /// What keeps the call from being certain, whatever the text says.
    pub problem: Option<Construct>,
}

/// The text that the words behind a shell's name hand to it. Nothing where there is none: then
/// the shell would read a file or its input.
pub(in crate::policy) fn call<'w>(name: &str, words: &'w [Arg]) -> Option<Call<'w>> {
    if !SHELLS.contains(&name) {
        return None;
    }
    let mut words = words.iter();
    let mut given = Given { has_text: false, kept: Vec::new(), problem: None };
    let text = loop {
        let word = words.next()?;
        match word.as_bytes() {
            b"--" => break words.next()?,
            b"--norc" | b"--noprofile" | b"--login" => {}
            [b'-', letters @ ..] if !letters.is_empty() && !letters.starts_with(b"-") => {
                for letter in letters {
                    given.letter(*letter, word, &mut words)?;
                }
            }
            [b'-' | b'+', ..] => given.unknown(word),
            _ => break word,
        }
    };
    if !given.has_text {
        return None;
    }
    if words.next().is_some() {
        given.problem.get_or_insert(Construct::Parameters);
    }
    Some(Call { text, kept: given.kept, problem: given.problem })
}

struct Given<'w> {
    has_text: bool,
    kept: Vec<&'w [u8]>,
    problem: Option<Construct>,
}

impl<'w> Given<'w> {
    fn letter(
        &mut self,
        letter: u8,
        word: &'w Arg,
        words: &mut impl Iterator<Item = &'w Arg>,
    ) -> Option<()> {
        match letter {
            b'c' => self.has_text = true,
            // A login, a person, the caller's settings: rung's own shell has none of these.
            b'l' | b'i' | b'p' => {}
            b'e' => self.kept.push(b"-e"),
            b'u' => self.kept.push(b"-u"),
            b'x' => self.kept.push(b"-x"),
            b'o' => match words.next()?.as_bytes() {
                b"pipefail" => self.kept.extend([&b"-o"[..], b"pipefail"]),
                _ => self.unknown(word),
            },
            _ => self.unknown(word),
        }
        Some(())
    }

    fn unknown(&mut self, word: &Arg) {
        self.problem.get_or_insert(Construct::ShellOption { word: word.to_string() });
    }
}

pub(super) fn is_shell(name: &str) -> bool {
    SHELLS.contains(&name)
}

/// Whether any word could be a shell with a text behind it.
pub fn may_have_text(argv: &[Arg]) -> bool {
    let names = argv.iter().filter_map(|it| final_name(Path::new(it.as_os_str())));
    names.into_iter().any(is_shell)
}

/// Whether the shell reads texts as they are read here.
pub(super) fn is_bash(name: &str) -> bool {
    name == BASH
}

/// The command line with which rung runs a shell's text, if the command line is one: the words of
/// the one command that the text is, or bash. Whichever shell was asked for, it is bash, because
/// that is whose reading is known.
pub fn carried(argv: &[Arg]) -> Option<Vec<Arg>> {
    let (first, words) = argv.split_first()?;
    let call = call(final_name(Path::new(first.as_os_str()))?, words)?;
    if call.problem.is_some() {
        return None;
    }
    if call.kept.is_empty()
        && let Ok(Script { steps }) = parse(call.text.as_bytes(), &Limits::default())
        && let [Step { command, then: Connection::End | Connection::Next }] = steps.as_slice()
        && let Some(argv) = alone(command)
    {
        return Some(argv);
    }
    let carrier = CARRIER.into_iter().map(str::as_bytes);
    let words = carrier.chain(call.kept).chain([&b"--"[..], call.text.as_bytes()]);
    words.map(|it| Arg::new(it).ok()).collect()
}

/// The text that rung's own shell runs.
pub(super) fn of_carrier(argv: &[Arg]) -> Option<&Arg> {
    let (first, words) = argv.split_first()?;
    let is_carrier = argv.len() > CARRIER.len()
        && argv.iter().zip(CARRIER).all(|(word, own)| word.as_bytes() == own.as_bytes());
    let call = call(first.as_str()?, words).filter(|it| it.problem.is_none())?;
    is_carrier.then_some(call.text)
}

/// The command line that the carrier of a text stands for.
pub(in crate::policy) fn typed(argv: &[Arg]) -> Option<Vec<Arg>> {
    let text = of_carrier(argv)?;
    let call = call(BASH, argv.get(1..)?)?;
    let words = [BASH.as_bytes()].into_iter().chain(call.kept).chain([&b"-c"[..], text.as_bytes()]);
    words.map(|it| Arg::new(it).ok()).collect()
}

/// The words of a command that needs no shell.
fn alone(command: &Simple) -> Option<Vec<Arg>> {
    let Simple { assignments, redirects, copies, .. } = command;
    if !assignments.is_empty() || !redirects.is_empty() || *copies > 0 {
        return None;
    }
    let argv = command.literal()?;
    let name = argv.first()?.as_str()?;
    (!builtin::is_shells_own(name)).then_some(argv)
}
