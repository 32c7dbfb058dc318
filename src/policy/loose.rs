//! Could a command line mean the forbidden thing?
//!
//! The counterpart of the closed grammar: confirm, deny and never rules fire when any word could
//! be the option or the argument they name, on either side of `--`, abbreviated, inside a cluster,
//! or with a value attached. Everything here over-approximates; a false alarm is a refusal that
//! names its rule.

use std::os::unix::ffi::OsStrExt;

use crate::model::Arg;
use crate::policy::value::Place;
use crate::profile::{Program, Style, When};

/// Whether the rule's condition could hold for these words after the program's name.
pub(super) fn could_mean(
    when: &When,
    program: Option<&Program>,
    words: &[Arg],
    place: &Place<'_>,
) -> bool {
    if !could_begin_with(&when.subcommand, program, words) {
        return false;
    }
    if when.any_option.is_empty() && when.any_argument.is_empty() {
        return true;
    }
    let style = program.map_or(Style::Gnu, |it| it.style);
    words.iter().map(Arg::as_bytes).any(|word| {
        when.any_option.iter().any(|it| could_be(it, word, style))
            || (!when.any_argument.is_empty() && could_name(&when.any_argument, word, place))
    })
}

/// Whether a name in a rule's list is this program's; a final `*` stands for any ending.
pub(super) fn names(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

/// Whether the subcommand could be this one: before and between its words there is nothing but
/// options and what could be their values.
fn could_begin_with(subcommand: &[String], program: Option<&Program>, words: &[Arg]) -> bool {
    let among =
        |it: &String| words.iter().any(|word| word.as_str().is_some_and(|word| names(it, word)));
    if !subcommand.iter().all(among) {
        return false;
    }
    // Every way to read the words so far: how much of the subcommand has been seen, and whether
    // the next word could be the value of an option.
    let mut readings = vec![(0, false)];
    for word in words {
        let is_option = word.as_bytes().starts_with(b"-");
        let takes_value = is_option && !is_known_flag(program, word);
        let mut next = Vec::new();
        for (seen, may_be_value) in readings {
            let Some(expected) = subcommand.get(seen) else { return true };
            if word.as_str().is_some_and(|it| names(expected, it)) {
                next.push((seen + 1, false));
            }
            if is_option || may_be_value {
                next.push((seen, takes_value));
            }
        }
        next.sort_unstable();
        next.dedup();
        readings = next;
    }
    readings.iter().any(|(seen, _)| *seen == subcommand.len())
}

fn is_known_flag(program: Option<&Program>, word: &Arg) -> bool {
    program.is_some_and(|it| {
        let mut flags = it.global.iter().filter(|option| option.value.is_none());
        flags.any(|option| option.names.iter().any(|name| name.as_bytes() == word.as_bytes()))
    })
}

/// Whether the word could be the option, given by its full name.
fn could_be(option: &str, word: &[u8], style: Style) -> bool {
    let option = option.as_bytes();
    let before_value = word.split(|it| *it == b'=').next().unwrap_or_default();
    if before_value == option {
        return true;
    }
    match option {
        [b'-', name @ ..] if style == Style::Dd && name == before_value => true,
        [b'-', b'-', name @ ..] => {
            // `--no-x` undoes and `--x` does; nobody abbreviates to the dashes alone.
            let given = before_value.strip_prefix(b"--").unwrap_or_default();
            !given.is_empty() && name.starts_with(given)
        }
        [b'-', letter] => match style {
            Style::SingleDashLong => before_value == [b'-', b'-', *letter],
            Style::Gnu | Style::Posix | Style::Git | Style::Clap | Style::Dd => {
                is_cluster(word) && word.contains(letter)
            }
            Style::Bsd => !word.starts_with(b"--") && word.contains(letter),
        },
        [b'-', name @ ..] => {
            const ABBREVIATION_MIN: usize = 3;
            let given = before_value.strip_prefix(b"-").unwrap_or_default();
            let given = given.strip_prefix(b"-").unwrap_or(given);
            given == name || (given.len() >= ABBREVIATION_MIN && name.starts_with(given))
        }
        _ => false,
    }
}

fn is_cluster(word: &[u8]) -> bool {
    matches!(word, [b'-', second, ..] if *second != b'-')
}

/// Whether the word, or the value attached to it, is one of the arguments or begins with it: as it
/// is written, or as the path it leads to in the workspace.
fn could_name(entries: &[String], word: &[u8], place: &Place<'_>) -> bool {
    let value = match word.iter().position(|it| *it == b'=') {
        Some(position) if word.starts_with(b"-") => word.get(position + 1..),
        Some(_) | None => None,
    };
    [Some(word), value].into_iter().flatten().any(|text| {
        let path = place.resolved(text);
        let path = if text.is_empty() { text } else { path.as_os_str().as_bytes() };
        entries.iter().any(|it| is_entry(it, text) || is_entry(it, path))
    })
}

fn is_entry(entry: &str, text: &[u8]) -> bool {
    match entry.strip_suffix('*') {
        Some(start) => text.starts_with(start.as_bytes()),
        None => text == entry.as_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture;

    #[track_caller]
    fn check(option: &str, style: Style, fires: &[&str], silent: &[&str]) {
        for word in fires {
            assert!(could_be(option, word.as_bytes(), style), "{option} does not see {word}");
        }
        for word in silent {
            assert!(!could_be(option, word.as_bytes(), style), "{option} sees {word}");
        }
    }

    #[test]
    fn a_long_option_is_seen_in_every_abbreviation() {
        let fires = ["--force", "--forc", "--f", "--force=x"];
        check(
            "--force",
            Style::Gnu,
            &fires,
            &["--", "-", "force", "--force-with-lease", "--no-force"],
        );
    }

    #[test]
    fn a_short_option_is_seen_in_every_cluster() {
        check("-f", Style::Git, &["-f", "-uf", "-fu", "-f=x", "-nf5"], &["--f", "f", "-", "-u"]);
        check("-f", Style::Bsd, &["xf", "-xf"], &["--file", "xz"]);
    }

    #[test]
    fn a_key_is_seen_with_its_value() {
        check("-of", Style::Dd, &["of=/dev/sda", "of"], &["if=x", "off=x"]);
    }

    #[test]
    fn a_long_option_with_one_dash_is_seen_with_one_or_two() {
        let fires = ["-delete", "--delete", "-del", "-delete=x"];
        check("-delete", Style::SingleDashLong, &fires, &["-d", "delete", "-depth", "-"]);
        check("-o", Style::SingleDashLong, &["-o", "--o", "-o=x"], &["-name", "-or"]);
    }

    #[track_caller]
    fn check_subcommand(words: &[&str], could: bool) {
        let words: Vec<Arg> = words.iter().map(|it| Arg::try_from(*it).unwrap()).collect();
        let git = fixture::program("git", Style::Git, &["--no-pager"]);
        let subcommand = ["push".to_owned()];
        assert_eq!(could_begin_with(&subcommand, Some(&git), &words), could, "{words:?}");
    }

    #[test]
    fn a_subcommand_is_seen_behind_any_global_option() {
        check_subcommand(&["push"], true);
        check_subcommand(&["--no-pager", "push"], true);
        check_subcommand(&["-c", "a.b=c", "push"], true);
        check_subcommand(&["-C", "push", "push"], true);
        check_subcommand(&["-c", "push"], true);
        check_subcommand(&["-c", "x", "-x", "log", "push"], true);
        check_subcommand(&["log", "push"], false);
        check_subcommand(&["--no-pager", "log", "push"], false);
        check_subcommand(&[], false);
    }

    #[track_caller]
    fn check_argument(entry: &str, word: &str, could: bool) {
        let profile = fixture::profile();
        let place = fixture::place(&profile);
        let entries = [entry.to_owned()];
        assert_eq!(could_name(&entries, word.as_bytes(), &place), could, "{entry} and {word}");
    }

    #[test]
    fn an_argument_is_seen_however_its_path_is_written() {
        check_argument(".git", ".git", true);
        check_argument(".git", "./.git/", true);
        check_argument(".git", "/ws/.git", true);
        check_argument(".git/*", "a/../.git/config", true);
        check_argument(".", "/ws/", true);
        check_argument("/*", "../etc", true);
        check_argument("+*", "+main", true);
        check_argument("+*", "--refspec=+main", true);
        check_argument(".git", ".github", false);
        check_argument("+*", "a+b", false);
    }
}
