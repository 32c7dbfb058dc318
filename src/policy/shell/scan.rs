//! Could a text do what is never allowed?
//!
//! For texts that are not understood: every run of letters in it that could be the name of a
//! program is taken for one, with everything behind it as its words, quotes or not. What stands
//! before it in the text may be what it reads. Only rules of the kind `never` are asked, and they
//! are asked too often rather than too seldom; a rule about any use of a program only where a
//! command could begin, because its name may be any word.

use std::path::Path;

use super::{Word, call};
use crate::model::Arg;
use crate::policy::decide::{final_name, fires};
use crate::policy::loose;
use crate::policy::value::Place;
use crate::profile::{Class, Decision, Profile, Rule, When};

/// Of a command, looked at as its words.
const WORDS_MAX: usize = 64;

/// Places in a text where a program of a `never` rule could stand. A text with more of them is
/// taken to do what the rule forbids.
const CANDIDATES_MAX: usize = 256;

/// Of a command that feeds another one, taken for the start of what it does: `timeout 5 curl x`.
const STARTS_MAX: usize = 8;

/// Behind one of these a command begins.
const KEYWORDS: [&str; 9] = ["!", "do", "elif", "else", "if", "then", "time", "until", "while"];

/// Somewhere behind one of these a command begins: besides shells, and the wrappers that the
/// profile knows.
const STARTERS: [&str; 10] =
    ["builtin", "command", "coproc", "doas", "eval", "exec", "nohup", "setsid", "sudo", "xargs"];

pub(in crate::policy) fn never<'a>(
    profile: &'a Profile,
    text: &[u8],
    place: &Place<'_>,
) -> Option<&'a Rule> {
    let rules = never_rules(profile);
    let mut feeding: Vec<Arg> = Vec::new();
    let mut candidates = 0;
    for segment in text.split(|it| b"\n;|&()`".contains(it)) {
        let words = words(segment);
        let mut begins = true;
        let mut begins_anywhere = false;
        for (index, word) in words.iter().enumerate() {
            let Some(name) = final_name(Path::new(word.as_os_str())) else { continue };
            let could_begin = begins || begins_anywhere;
            begins = KEYWORDS.contains(&name) || (begins && segment.contains(&b'='));
            begins_anywhere |= starts_others(profile, name);
            let fits = |rule: &&&Rule| {
                let is_about = rule.programs.iter().any(|it| loose::names(it, name));
                is_about && (could_begin || !is_about_any_use(rule))
            };
            let mut about = rules.iter().filter(fits).peekable();
            let Some(first) = about.peek() else { continue };
            candidates += 1;
            if candidates > CANDIDATES_MAX {
                return Some(first);
            }
            let behind = words.iter().skip(index + 1).take(WORDS_MAX);
            let could_be: Vec<Arg> = behind.chain(&feeding).cloned().collect();
            let found = about.find(|it| fires(profile, it, &[name], &could_be, place));
            if found.is_some() {
                return found.copied();
            }
        }
        if feeding.len() < WORDS_MAX {
            feeding.extend(starts(&words));
        }
    }
    None
}

/// The same for one command that is understood and reads what others print.
pub(super) fn never_fed<'a>(
    profile: &'a Profile,
    name: &str,
    words: &[Arg],
    feeding: &[Arg],
    place: &Place<'_>,
) -> Option<&'a Rule> {
    if feeding.is_empty() {
        return None;
    }
    let rules = never_rules(profile);
    let fired = |name: &str, words: &[Arg]| {
        let could_be: Vec<Arg> = words.iter().take(WORDS_MAX).chain(feeding).cloned().collect();
        rules.iter().find(|it| fires(profile, it, &[name], &could_be, place)).copied()
    };
    if !starts_others(profile, name) {
        return fired(name, words);
    }
    let mut inner = words.iter().enumerate().take(STARTS_MAX).filter_map(|(index, word)| {
        let name = final_name(Path::new(word.as_os_str()))?;
        fired(name, words.get(index + 1..).unwrap_or_default())
    });
    fired(name, words).or_else(|| inner.next())
}

fn never_rules(profile: &Profile) -> Vec<&Rule> {
    profile.exec.rules.iter().filter(|it| it.decision == Decision::Never).collect()
}

fn is_about_any_use(rule: &Rule) -> bool {
    rule.when == When::default()
}

fn starts_others(profile: &Profile, name: &str) -> bool {
    let known = || profile.exec.programs.get(name).map(|it| it.class);
    STARTERS.contains(&name)
        || call::is_shell(name)
        || matches!(known(), Some(Class::Wrapper | Class::Shell))
}

/// The commands that a command could be, as texts.
pub(super) fn as_texts(words: &[Word]) -> Vec<Arg> {
    let words: Vec<Arg> = words.iter().map(|it| it.start.clone()).collect();
    starts(&words)
}

/// `curl x` for `timeout 5 /usr/bin/curl x`, among others.
fn starts(words: &[Arg]) -> Vec<Arg> {
    let starts = (0..words.len().min(STARTS_MAX)).filter_map(|index| {
        let (first, rest) = words.get(index..)?.split_first()?;
        let mut text = final_name(Path::new(first.as_os_str()))?.as_bytes().to_vec();
        for word in rest.iter().take(WORDS_MAX) {
            text.push(b' ');
            text.extend(word.as_bytes());
        }
        Arg::new(text).ok()
    });
    starts.collect()
}

fn words(segment: &[u8]) -> Vec<Arg> {
    let parts = segment.split(|it| b" \t\r<>{}$=".contains(it));
    let plain = parts
        .map(|it| it.iter().copied().filter(|it| !b"'\"\\\0".contains(it)).collect::<Vec<u8>>());
    plain.filter(|it| !it.is_empty()).filter_map(|it| Arg::new(it).ok()).collect()
}
