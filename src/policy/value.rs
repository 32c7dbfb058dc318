//! Typed values: does a word look like what the grammar says stands in its place?
//!
//! Everything here under-approximates: a word that is not clearly of the type does not fit. The
//! checks are lexical; what a path really leads to is for the view and Landlock to say.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::model::lexical;
use crate::policy::{awk, sed};
use crate::profile::{Decision, Entry, Profile, Rule, ValueType};

/// In a list of names, all that the profile passes from the caller's environment.
const PASSED_NAMES: &str = "@environment.pass";

/// Where the command runs, which decides what its words mean.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub profile: &'a Profile,
    pub workspace: &'a Path,
    /// Below or equal to `workspace`.
    pub cwd: &'a Path,
    pub home: &'a Path,
    /// A task of the run asks, and not the caller of rung: what a shell starts is asked about
    /// again.
    pub at_exec: bool,
    /// Who starts the command, for rules that hold only for what somebody starts: names of
    /// programs, and [`WORKSPACE_CODE`](crate::profile::WORKSPACE_CODE).
    pub callers: &'a [&'a str],
    /// The command is a program's own call of itself, which only never rules are about.
    pub own_call: bool,
}

/// How a word came to its place, which decides whether it may begin with a dash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A word of its own where an option could stand too.
    Separate,
    /// Glued to its option, or after the end of all options.
    Attached,
}

impl Place<'_> {
    /// Whether the rule holds for what these callers start.
    pub(super) fn is_about(&self, rule: &Rule) -> bool {
        let spared = match rule.decision {
            Decision::Confirm | Decision::Deny => self.own_call,
            Decision::Allow | Decision::Never => false,
        };
        !spared
            && (rule.started_by.is_empty()
                || rule.started_by.iter().any(|it| self.callers.contains(&it.as_str())))
    }

    /// Whether a variable may be set by the command line: passed by the profile, and not one that
    /// rung itself sets.
    pub(super) fn passes(&self, name: &str) -> bool {
        let forced = || {
            let programs = self.profile.exec.programs.values();
            programs.flat_map(|it| it.force_environment.keys()).any(|it| it == name)
        };
        self.profile.environment.pass.iter().any(|it| it.name == name)
            && !self.profile.environment.set.contains_key(name)
            && !forced()
    }

    /// The trees a command may name for writing.
    fn is_writable(&self, path: &Path) -> bool {
        if path.is_relative() {
            return true;
        }
        let granted = || {
            self.profile.filesystem.write.iter().any(|it| path.starts_with(self.expand(&it.path)))
        };
        path.starts_with(self.workspace)
            || path.starts_with("/tmp")
            || path == Path::new("/dev/null")
            || granted()
    }

    /// Whether the word leads, from where the command starts, into the data of a repository or to
    /// something that the profile protects.
    fn is_protected(&self, word: &[u8]) -> bool {
        let path = self.resolved(word);
        let names = || self.profile.filesystem.protected.iter().filter_map(Entry::protected_name);
        path.components().any(|it| it.as_os_str() == ".git")
            || names().any(|name| path.starts_with(name))
    }

    fn expand(&self, path: &str) -> PathBuf {
        match path.strip_prefix("~/") {
            Some(rest) => self.home.join(rest),
            None => PathBuf::from(path),
        }
    }

    /// The word as a path relative to the workspace, or absolute where it leads out of it, with
    /// `.` and `..` resolved by name only.
    pub(super) fn resolved(&self, word: &[u8]) -> PathBuf {
        let path = lexical(&self.cwd.join(OsStr::from_bytes(word)));
        match path.strip_prefix(self.workspace) {
            Ok(inside) if inside.as_os_str().is_empty() => PathBuf::from("."),
            Ok(inside) => inside.to_path_buf(),
            Err(_) => path,
        }
    }
}

/// Whether the word is of the type.
pub(super) fn fits(value: &ValueType, word: &[u8], form: Form, place: &Place<'_>) -> bool {
    if form == Form::Separate && word.starts_with(b"-") {
        return match value {
            ValueType::PathRead => word == b"-",
            // `find -mtime -7`: digits after the dash, and nothing that could be an option.
            ValueType::Int => word.strip_prefix(b"-").is_some_and(is_uint),
            ValueType::Uint
            | ValueType::Duration
            | ValueType::Enum(_)
            | ValueType::Text
            | ValueType::Glob
            | ValueType::Regex
            | ValueType::PathWrite
            | ValueType::PathWorkspace
            | ValueType::Host
            | ValueType::Url
            | ValueType::KeyValue(_)
            | ValueType::Revision
            | ValueType::Name
            | ValueType::SedScript
            | ValueType::AwkProgram
            | ValueType::Argv
            | ValueType::ArgvOpen => false,
        };
    }
    match value {
        ValueType::PathRead => !word.is_empty(),
        ValueType::PathWrite => is_path_for_writing(word, place),
        ValueType::PathWorkspace => is_path_inside(word, place),
        ValueType::Argv | ValueType::ArgvOpen => false, // decided by the caller, never as one word
        ValueType::Uint
        | ValueType::Int
        | ValueType::Duration
        | ValueType::Enum(_)
        | ValueType::Text
        | ValueType::Glob
        | ValueType::Regex
        | ValueType::Host
        | ValueType::Url
        | ValueType::KeyValue(_)
        | ValueType::Name
        | ValueType::SedScript
        | ValueType::AwkProgram
        | ValueType::Revision => {
            std::str::from_utf8(word).is_ok_and(|text| is_text_of(value, text, place))
        }
    }
}

fn is_text_of(value: &ValueType, text: &str, place: &Place<'_>) -> bool {
    match value {
        ValueType::Uint => is_uint(text.as_bytes()),
        ValueType::Int => is_uint(text.strip_prefix(['+', '-']).unwrap_or(text).as_bytes()),
        ValueType::Duration => is_duration(text),
        ValueType::Enum(choices) => choices.iter().any(|it| it == text),
        ValueType::Text | ValueType::Glob | ValueType::Regex => true,
        ValueType::Host => is_host(text),
        ValueType::Url => is_url(text),
        ValueType::KeyValue(names) => is_key_value(names, text, place),
        ValueType::Revision => is_revision(text, place),
        ValueType::Name => is_name(text),
        ValueType::SedScript => sed::is_harmless(text),
        ValueType::AwkProgram => awk::is_harmless(text),
        ValueType::PathRead
        | ValueType::PathWrite
        | ValueType::PathWorkspace
        | ValueType::Argv
        | ValueType::ArgvOpen => false,
    }
}

/// What the type asks for, as the object of a sentence.
pub(super) fn describe(value: &ValueType) -> String {
    let plain = match value {
        ValueType::Uint => "a whole number",
        ValueType::Int => "a whole number, with a sign or without",
        ValueType::Duration => "a time such as `10`, `5s` or `1.5h`",
        ValueType::Enum(choices) => {
            let quoted: Vec<String> = choices.iter().map(|it| format!("`{it}`")).collect();
            return format!("one of {}", quoted.join(", "));
        }
        ValueType::Text => "text that does not begin with a dash",
        ValueType::Glob => "a file name pattern that does not begin with a dash",
        ValueType::Regex => "a regular expression that does not begin with a dash",
        ValueType::PathRead => "a path to read",
        ValueType::PathWrite => {
            "a path inside the workspace, without `..`, not in `.git` and not protected by the profile"
        }
        ValueType::PathWorkspace => "a file inside the workspace, without `..`",
        ValueType::Host => "a host name",
        ValueType::Url => "an http or https address without a user name",
        ValueType::KeyValue(_) => "`name=value` with a name that the profile lists",
        ValueType::Revision => "a revision, a range or a path inside the workspace",
        ValueType::Name => "a plain name without `=` or pattern characters",
        ValueType::SedScript => {
            "a sed script of `p d q =`, `s///` and `y///` commands, which run and write nothing"
        }
        ValueType::AwkProgram => {
            "an awk program that computes and prints, and runs, writes and reads nothing else"
        }
        ValueType::Argv | ValueType::ArgvOpen => "a command",
    };
    plain.to_owned()
}

fn is_uint(digits: &[u8]) -> bool {
    const DIGITS_MAX: usize = 19; // fits every counter a program may keep
    (1..=DIGITS_MAX).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
}

/// One or more numbers, each with a unit; a lone number needs none: `10`, `1.5h`, `1m30s`.
fn is_duration(text: &str) -> bool {
    let mut rest = text;
    while let Some(after) = without_number(rest) {
        let unit = ["ms", "s", "m", "h", "d"].into_iter().find_map(|it| after.strip_prefix(it));
        match unit {
            Some("") => return true,
            Some(next) => rest = next,
            None => return after.is_empty(),
        }
    }
    false
}

/// What follows a number such as `12` or `1.5`; nothing where the text begins otherwise.
fn without_number(text: &str) -> Option<&str> {
    let without_digits = |text: &str| text.trim_start_matches(|it: char| it.is_ascii_digit()).len();
    let tail = |text: &str, length: usize| -> Option<usize> {
        (length < text.len()).then_some(text.len() - length)
    };
    let whole = tail(text, without_digits(text))?;
    let after = text.get(whole..)?;
    let Some(fraction) = after.strip_prefix('.') else { return Some(after) };
    fraction.get(tail(fraction, without_digits(fraction))?..)
}

fn is_name(text: &str) -> bool {
    let known = |it: u8| it.is_ascii_alphanumeric() || b"._-/:@+%,".contains(&it);
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(known)
}

fn is_host(text: &str) -> bool {
    let known = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'-' | b'_' | b':');
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(known)
}

fn is_url(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")) else {
        return false;
    };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    is_host(host) && rest.bytes().all(|it| it.is_ascii_graphic() && it != b'\\')
}

fn is_key_value(names: &[String], text: &str, place: &Place<'_>) -> bool {
    let Some((name, _)) = text.split_once('=') else {
        return false;
    };
    names.iter().any(|it| it == name || (it == PASSED_NAMES && place.passes(name)))
}

/// A revision, a range, `revision:path`, or a path. Git's magic (`:/text`, `:(top)`, `:!x`) all
/// begins with a colon.
fn is_revision(text: &str, place: &Place<'_>) -> bool {
    let magic = text.starts_with([':', '-', '~']);
    let climbs = text.split('/').any(|it| it == "..");
    let elsewhere = text.starts_with('/') && !Path::new(text).starts_with(place.workspace);
    !text.is_empty() && !magic && !climbs && !elsewhere && !text.chars().any(char::is_control)
}

/// Inside the workspace by its spelling, not the shell's way of writing the home directory, and
/// not `@file`, from which compilers and test runners read more options.
fn is_path_inside(word: &[u8], place: &Place<'_>) -> bool {
    let path = Path::new(OsStr::from_bytes(word));
    is_plain_path(word)
        && !word.starts_with(b"@")
        && (path.is_relative() || path.starts_with(place.workspace))
}

fn is_path_for_writing(word: &[u8], place: &Place<'_>) -> bool {
    let path = Path::new(OsStr::from_bytes(word));
    is_plain_path(word) && place.is_writable(path) && !place.is_protected(word)
}

fn is_plain_path(word: &[u8]) -> bool {
    let mut parts = Path::new(OsStr::from_bytes(word)).components();
    !word.is_empty()
        && word != b"-"
        && !word.starts_with(b"~")
        && !parts.any(|it| it == Component::ParentDir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture;

    #[track_caller]
    fn check(value: &ValueType, fitting: &[&[u8]], misfits: &[&[u8]]) {
        let profile = fixture::profile();
        let place = fixture::place(&profile);
        let shown = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
        for word in fitting {
            assert!(fits(value, word, Form::Separate, &place), "{value:?}: {}", shown(word));
        }
        for word in misfits {
            assert!(!fits(value, word, Form::Separate, &place), "{value:?}: {}", shown(word));
        }
    }

    #[test]
    fn numbers_are_digits_and_nothing_else() {
        check(&ValueType::Uint, &[b"0", b"42"], &[b"", b"-1", b"+1", b"1e3", b"0x1", &[b'9'; 20]]);
        check(&ValueType::Int, &[b"0", b"+5", b"-5"], &[b"", b"-", b"--5", b"-5x", b"+-5"]);
        let spans: &[&[u8]] = &[b"10", b"5s", b"1.5h", b"1m30s", b"250ms", b"0.5"];
        check(&ValueType::Duration, spans, &[b"", b"s", b".5", b"1.", b"5 s", b"5x", b"-5s"]);
    }

    #[test]
    fn text_is_utf_8_and_does_not_look_like_an_option() {
        for value in [ValueType::Text, ValueType::Glob, ValueType::Regex] {
            check(&value, &[b"", b"a b", b"a-b"], &[b"-", b"-x", b"--", b"\xff"]);
        }
        let choices = ValueType::Enum(vec!["always".to_owned()]);
        check(&choices, &[b"always"], &[b"", b"alway", b"Always"]);
    }

    #[test]
    fn a_dash_is_standard_input_only_where_a_path_is_read() {
        check(&ValueType::PathRead, &[b"-", b"a", b"../a", b"/etc/x", b"\xff"], &[b"", b"-a"]);
        check(&ValueType::PathWrite, &[b"a"], &[b"-"]);
        check(&ValueType::PathWorkspace, &[b"a"], &[b"-"]);
    }

    #[test]
    fn a_written_path_stays_inside_and_out_of_the_repository_data() {
        let inside: &[&[u8]] = &[b"a", b"./a/b", b".", b"/ws/a", b"/tmp/x", b"/dev/null", b"\xff"];
        let outside: &[&[u8]] =
            &[b"", b"..", b"a/../b", b"/ws/../x", b"/wsx", b"/etc/x", b"~/x", b".git/config"];
        check(&ValueType::PathWrite, inside, outside);
        check(
            &ValueType::PathWorkspace,
            &[b"a", b"/ws/a"],
            &[b"/tmp/x", b"../x", b"/usr/x", b"@x"],
        );
    }

    #[test]
    fn a_written_path_is_judged_from_where_the_command_starts() {
        let mut profile = fixture::profile();
        for name in [".vscode", "infra/**"] {
            let entry = Entry { name: name.to_owned(), origin: fixture::origin() };
            profile.filesystem.protected.push(entry);
        }
        for (cwd, word, allowed) in [
            ("/ws", "a", true),
            ("/ws", ".vscode", false),
            ("/ws", "/ws/./.vscode/tasks.json", false),
            ("/ws", "infra/live", false),
            ("/ws", ".vscode2", true),
            ("/ws", "src/infra", true),
            ("/ws/.git", "commondir", false),
            ("/ws/a/.git/refs", "x", false),
            ("/ws/.vscode", "tasks.json", false),
            ("/ws/.vscode", "/ws/a", true),
            ("/ws/.git", "/tmp/x", true),
        ] {
            let place = Place { cwd: Path::new(cwd), ..fixture::place(&profile) };
            let fitting = fits(&ValueType::PathWrite, word.as_bytes(), Form::Separate, &place);
            assert_eq!(fitting, allowed, "{word} in {cwd}");
        }
    }

    #[test]
    fn a_revision_has_no_magic_and_stays_in_the_workspace() {
        let good: &[&[u8]] = &[b"HEAD~2", b"a..b", b"a...b", b"v1:src/x", b"src", b"@{u}", b"/ws"];
        let bad: &[&[u8]] = &[b"", b"-x", b":/x", b":!x", b"../x", b"a/..", b"/etc/shadow", b"~/x"];
        check(&ValueType::Revision, good, bad);
    }

    #[test]
    fn a_name_is_no_assignment_and_no_pattern() {
        let good: &[&[u8]] = &[b"build", b"test:unit", b"feature/x-1", b"a@1.2"];
        check(&ValueType::Name, good, &[b"", b"-x", b"SHELL=x", b"$(x)", b"a b", b"*", b"\xff"]);
    }

    #[test]
    fn addresses_name_no_user_and_no_other_scheme() {
        let good: &[&[u8]] = &[b"https://a.example/x?y", b"http://a.example:80"];
        let bad: &[&[u8]] = &[b"ftp://a", b"https://u@a/", b"https://", b"file:///x", b"a.example"];
        check(&ValueType::Url, good, bad);
        check(&ValueType::Host, &[b"a.example", b"::1"], &[b"", b"-a", b"a/b", b"u@a"]);
    }

    #[test]
    fn a_variable_is_set_only_if_the_profile_passes_it_and_rung_does_not_set_it() {
        let passed = ValueType::KeyValue(vec!["@environment.pass".to_owned()]);
        check(&passed, &[b"LANG=C", b"LANG="], &[b"LANG", b"PATH=x", b"GIT_PAGER=x", b"=x"]);
        let listed = ValueType::KeyValue(vec!["a".to_owned()]);
        check(&listed, &[b"a=1"], &[b"LANG=C", b"a", b"b=1"]);
    }

    #[test]
    fn only_an_attached_value_may_begin_with_a_dash() {
        let profile = fixture::profile();
        let place = fixture::place(&profile);
        assert!(fits(&ValueType::Int, b"-5", Form::Attached, &place));
        assert!(fits(&ValueType::Text, b"-x", Form::Attached, &place));
        assert!(!fits(&ValueType::Revision, b"-x", Form::Attached, &place));
    }
}
