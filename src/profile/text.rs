//! What each kind of string in a profile must look like.
//!
//! A check says no with a sentence about the word and, where there is one, the way out. Whatever
//! could be meant more widely than it reads is refused here: wildcards where no tree is walked,
//! the root, a home as a whole, names with characters nobody sees.

use super::describe::Text;
use super::source::{is_unseen, shown};
use crate::model::{Ports, Range, UrlPathPattern};

/// Why a string is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) message: String,
    pub(super) help: Option<String>,
}

fn wrong(message: String) -> Wrong {
    Wrong { message, help: None }
}

fn wrong_because(message: String, help: &str) -> Wrong {
    Wrong { message, help: Some(help.to_owned()) }
}

/// Rung makes these itself, or they hold everybody's sockets and secrets.
const NEVER_READ_WHOLE: &[&str] =
    &["~", "/proc", "/sys", "/dev", "/run", "/var/run", "/var", "/home", "/root", "/tmp"];

/// The system's own trees: writing there is never a matter of a profile.
const NEVER_WRITTEN: &[&str] = &[
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix",
    "/proc",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/run",
    "/var/lib/rung",
];

/// Variables that make any program run other code, or that rung itself makes.
const NEVER_SET: &[&str] = &[
    "BASHOPTS",
    "BASH_ENV",
    "CDPATH",
    "ENV",
    "GLIBC_TUNABLES",
    "GLOBIGNORE",
    "HOME",
    "IFS",
    "PATH",
    "POSIXLY_CORRECT",
    "PROMPT_COMMAND",
    "PS4",
    "SHELLOPTS",
    "TMPDIR",
];
const NEVER_SET_PREFIXES: &[&str] = &["LD_", "BASH_FUNC_"];

/// Code in every program that gets it.
const NEVER_CARRIED: &[&str] = &["LD_AUDIT", "LD_PRELOAD"];

/// Checks a string and gives it back in its one spelling.
pub(super) fn check(kind: Text, text: &str) -> Result<String, Wrong> {
    if let Some(letter) = text.chars().find(|it| is_unseen(*it)) {
        // An example may be about a newline; nothing else has one.
        if kind != Text::Example || letter == '\0' {
            return Err(wrong(format!(
                "`{}` holds a character that cannot be seen: {}",
                shown(text),
                letter.escape_unicode()
            )));
        }
    }
    if text.is_empty() && !matches!(kind, Text::VariableValue | Text::Word | Text::Example) {
        return Err(wrong("the string is empty".to_owned()));
    }
    match kind {
        Text::Sentence if text.trim().is_empty() => Err(wrong("the sentence is empty".to_owned())),
        Text::Sentence | Text::VariableValue | Text::Word | Text::Example => Ok(text.to_owned()),
        Text::Name => identifier(text, "-_"),
        Text::RuleId => identifier(text, "-_."),
        Text::ReadPath => path(text).and_then(read_path),
        Text::HiddenPath => path(text),
        Text::WritePath => path(text).and_then(write_path),
        Text::WorkspacePath => workspace_path(text),
        Text::Host => host(text),
        Text::Ports => ports(text),
        Text::Range => range(text),
        Text::Resolver => match super::settings::resolver(text) {
            Some(_) => Ok(text.to_owned()),
            None => Err(wrong(format!("`{text}` is no address of a name server"))),
        },
        Text::Variable => variable(text),
        Text::Program => program(text, text),
        Text::ProgramPattern => program(text, text.strip_suffix('*').unwrap_or(text)),
        Text::Caller => program(text, text.strip_prefix('@').unwrap_or(text)).and_then(caller),
        Text::GuardedVariable => guarded_variable(text),
        Text::OptionName => option(text),
        Text::Method => method(text),
        Text::UrlPath => url_path(text),
    }
}

fn identifier(text: &str, punctuation: &str) -> Result<String, Wrong> {
    let fits =
        |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || punctuation.contains(it);
    let empty_part = text.split('.').any(str::is_empty);
    if text.chars().all(fits) && !empty_part {
        return Ok(text.to_owned());
    }
    Err(wrong(format!(
        "`{text}` is no name: use lower-case letters, digits and `{punctuation}`, with no empty part"
    )))
}

fn no_wildcard(text: &str) -> Result<(), Wrong> {
    match text.chars().find(|it| "*?[{".contains(*it)) {
        None => Ok(()),
        Some(letter) => Err(wrong_because(
            format!("`{text}` has a wildcard, `{letter}`"),
            "no tree is walked when a command starts, so a path is a plain name; a directory means all of it",
        )),
    }
}

/// Checks what stands between the slashes of `rest`, the part of `text` after its root.
fn components(text: &str, rest: &str) -> Result<(), Wrong> {
    for part in rest.split('/') {
        match part {
            ".." => return Err(wrong(format!("`{text}` climbs with `..`"))),
            "." => return Err(wrong(format!("`{text}` has a `.` in it: write the plain path"))),
            "" => {
                return Err(wrong(format!(
                    "`{text}` has an empty component: write the plain path"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

fn path(text: &str) -> Result<String, Wrong> {
    no_wildcard(text)?;
    if text == "/" {
        return Err(wrong_because(
            "`/` is the whole file system".to_owned(),
            "list the directories that are needed",
        ));
    }
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    if trimmed == "~" {
        return Ok(trimmed.to_owned());
    }
    match trimmed.strip_prefix("~/").or_else(|| trimmed.strip_prefix('/')) {
        Some(rest) => components(text, rest).map(|()| trimmed.to_owned()),
        None => Err(wrong_because(
            format!("`{text}` is a relative path"),
            "write an absolute path, or one that starts with `~/`",
        )),
    }
}

fn read_path(path: String) -> Result<String, Wrong> {
    if NEVER_READ_WHOLE.contains(&path.as_str()) {
        return Err(wrong_because(
            format!("`{path}` as a whole holds what no command may see"),
            "list the directories in it that are needed",
        ));
    }
    Ok(path)
}

fn write_path(path: String) -> Result<String, Wrong> {
    let below = |tree: &&&str| {
        path.strip_prefix(**tree).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if let Some(tree) = NEVER_WRITTEN.iter().find(below) {
        return Err(wrong(format!(
            "`{path}` lies in `{tree}`, which no profile can make writable"
        )));
    }
    read_path(path)
}

fn workspace_path(text: &str) -> Result<String, Wrong> {
    let plain = text.strip_suffix("/**").or_else(|| text.strip_suffix('/')).unwrap_or(text);
    no_wildcard(plain)?;
    if plain.starts_with('/') || plain.starts_with('~') {
        return Err(wrong(format!("`{text}` is not relative to the workspace")));
    }
    components(text, plain).map(|()| plain.to_owned())
}

/// Its one spelling, without a length where it is one address.
fn range(text: &str) -> Result<String, Wrong> {
    Range::parse(text).map(|_| text.to_owned()).map_err(|error| wrong(error.to_string()))
}

fn ports(text: &str) -> Result<String, Wrong> {
    Ports::parse(text).map(|_| text.to_owned()).map_err(|error| wrong(error.to_string()))
}

fn host(text: &str) -> Result<String, Wrong> {
    if Range::parse(text).is_ok() {
        return Ok(text.to_owned());
    }
    let bare = "name the hosts, or write `*.` and a domain of at least two labels";
    let (domain, wildcard) = match text.strip_prefix("*.") {
        Some(domain) => (domain, true),
        None => (text, false),
    };
    if text == "*" || domain.contains('*') {
        return Err(wrong_because(format!("`{text}` stands for any host"), bare));
    }
    let label = |it: &str| {
        !it.is_empty()
            && it.len() <= 63
            && !it.starts_with('-')
            && !it.ends_with('-')
            && it.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-')
    };
    if !domain.split('.').all(label) || domain.len() > 253 {
        return Err(wrong_because(
            format!("`{text}` is no host name"),
            "write it in lower case, without scheme, port or path",
        ));
    }
    if domain.rsplit('.').next().is_some_and(|it| it.chars().all(|it| it.is_ascii_digit())) {
        return Err(wrong_because(
            format!("`{text}` is neither a name nor an address"),
            "write an address in its usual form, or a range such as `10.1.0.0/16`",
        ));
    }
    if wildcard && !domain.contains('.') {
        return Err(wrong_because(format!("`{text}` stands for a whole top-level domain"), bare));
    }
    Ok(text.to_owned())
}

fn variable(text: &str) -> Result<String, Wrong> {
    let letters = |it: char| it.is_ascii_alphanumeric() || it == '_';
    if !text.chars().all(letters) || text.starts_with(|it: char| it.is_ascii_digit()) {
        return Err(wrong(format!("`{text}` is no name of a variable")));
    }
    let forbidden = NEVER_SET.contains(&text)
        || NEVER_SET_PREFIXES.iter().any(|prefix| text.starts_with(prefix));
    if forbidden {
        return Err(wrong(format!(
            "`{text}` is not for a profile: it decides which code every program runs"
        )));
    }
    Ok(text.to_owned())
}

fn program(text: &str, stem: &str) -> Result<String, Wrong> {
    if stem.contains('/') {
        return Err(wrong_because(
            format!("`{text}` is a path"),
            "write the last component; where the program may lie is decided by `filesystem.read`",
        ));
    }
    if stem.is_empty() {
        return Err(wrong(format!("`{text}` stands for any program")));
    }
    if stem.contains(|it: char| it.is_whitespace() || "*?[]".contains(it)) {
        return Err(wrong(format!("`{text}` is no name of a program")));
    }
    Ok(text.to_owned())
}

fn caller(text: String) -> Result<String, Wrong> {
    if text.starts_with('@') && text != super::rule::WORKSPACE_CODE {
        return Err(wrong(format!("`{text}` is nobody: write a program's name or `@workspace`")));
    }
    Ok(text)
}

fn guarded_variable(text: &str) -> Result<String, Wrong> {
    let (stem, prefix) = match text.strip_suffix('*') {
        Some(stem) => (stem, true),
        None => (text, false),
    };
    let letters = |it: char| it.is_ascii_alphanumeric() || it == '_';
    if stem.is_empty() || !stem.chars().all(letters) {
        return Err(wrong(format!("`{text}` is no name of a variable, nor the start of one")));
    }
    let covers = |name: &&&str| if prefix { name.starts_with(stem) } else { **name == stem };
    if let Some(name) = NEVER_CARRIED.iter().find(covers) {
        return Err(wrong(format!(
            "`{text}` covers `{name}`, which no program may set for another"
        )));
    }
    Ok(text.to_owned())
}

fn option(text: &str) -> Result<String, Wrong> {
    if matches!(text, "!" | "(" | ")") {
        return Ok(text.to_owned()); // the expressions of `find` and `test`
    }
    let body = text.trim_start_matches(['-', '+']);
    if body.len() == text.len() || body.contains(|it: char| it.is_whitespace() || it == '=') {
        return Err(wrong_because(
            format!("`{text}` is no option"),
            "write its name with the dashes and without a value",
        ));
    }
    Ok(text.to_owned())
}

fn url_path(text: &str) -> Result<String, Wrong> {
    let message = match UrlPathPattern::parse(text) {
        Ok(_) => return Ok(text.to_owned()),
        Err(error) => error.to_string(),
    };
    Err(wrong_because(
        message,
        "write the path as the server is asked for it, without a query; `/api/*` is all below `/api/`",
    ))
}

fn method(text: &str) -> Result<String, Wrong> {
    if matches!(text, "CONNECT" | "TRACE") {
        let why = "what goes through a tunnel is not read, and a trace gives back what was added";
        return Err(wrong(format!("`{text}` cannot be listed: {why}")));
    }
    if text.chars().all(|it| it.is_ascii_uppercase()) {
        return Ok(text.to_owned());
    }
    Err(wrong(format!("`{text}` is no HTTP method: write it in capitals")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refuses(kind: Text, text: &str, because: &str) {
        let wrong = check(kind, text).unwrap_err();
        assert!(wrong.message.contains(because), "{}", wrong.message);
    }

    #[track_caller]
    fn takes(kind: Text, text: &str, as_: &str) {
        assert_eq!(check(kind, text).unwrap(), as_);
    }

    #[test]
    fn a_path_is_plain_absolute_and_no_more_than_needed() {
        takes(Text::ReadPath, "/opt/sdk/", "/opt/sdk");
        takes(Text::ReadPath, "~/.cargo", "~/.cargo");
        takes(Text::WritePath, "~/.cache/thing", "~/.cache/thing");
        refuses(Text::ReadPath, "opt", "relative");
        refuses(Text::ReadPath, "/opt/../etc", "climbs");
        refuses(Text::ReadPath, "/opt/./x", "`.`");
        refuses(Text::ReadPath, "/opt//x", "empty component");
        refuses(Text::ReadPath, "/", "whole file system");
        refuses(Text::ReadPath, "//", "empty component");
        refuses(Text::ReadPath, "~", "as a whole");
        refuses(Text::ReadPath, "/run", "as a whole");
        refuses(Text::ReadPath, "/opt/*", "wildcard");
        refuses(Text::ReadPath, "~root/x", "relative");
        refuses(Text::WritePath, "/usr/local", "no profile can make writable");
        refuses(Text::WritePath, "/", "whole file system");
        takes(Text::WritePath, "/usrlocal", "/usrlocal");
    }

    #[test]
    fn a_protected_name_is_relative_and_may_say_that_it_is_a_directory() {
        takes(Text::WorkspacePath, "infra/**", "infra");
        takes(Text::WorkspacePath, ".git/hooks", ".git/hooks");
        refuses(Text::WorkspacePath, "infra/*.tf", "wildcard");
        refuses(Text::WorkspacePath, "/etc", "not relative");
        refuses(Text::WorkspacePath, "../x", "climbs");
        refuses(Text::WorkspacePath, "**", "wildcard");
    }

    #[test]
    fn a_host_is_a_name_and_never_everything() {
        takes(Text::Host, "packages.example.org", "packages.example.org");
        takes(Text::Host, "*.example.org", "*.example.org");
        refuses(Text::Host, "*", "any host");
        refuses(Text::Host, "*.*", "any host");
        refuses(Text::Host, "*.org", "top-level");
        refuses(Text::Host, "https://example.org", "no host name");
        takes(Text::Host, "10.0.0.1", "10.0.0.1");
        takes(Text::Host, "10.1.0.0/16", "10.1.0.0/16");
        refuses(Text::Host, "0.0.0.0/0", "no host name");
        refuses(Text::Host, "127.1", "neither a name nor an address");
        refuses(Text::Host, "Example.org", "no host name");
    }

    #[test]
    fn a_range_has_no_bits_behind_its_prefix_and_is_never_everything() {
        takes(Text::Range, "127.0.0.0/8", "127.0.0.0/8");
        takes(Text::Range, "fd12::/16", "fd12::/16");
        refuses(Text::Range, "127.0.0.1/8", "bits behind the prefix");
        refuses(Text::Range, "::/0", "every address");
        refuses(Text::Range, "localhost", "no address range");
    }

    #[test]
    fn a_range_of_ports_goes_upward() {
        takes(Text::Ports, "8000-8999", "8000-8999");
        refuses(Text::Ports, "9-8", "no range of ports");
        refuses(Text::Ports, "http", "no range of ports");
    }

    #[test]
    fn names_with_unseen_characters_are_refused_everywhere() {
        for kind in [Text::Sentence, Text::ReadPath, Text::Variable, Text::Program, Text::Word] {
            refuses(kind, "a\0b", "cannot be seen");
            refuses(kind, "a\u{202e}b", "cannot be seen");
        }
        takes(Text::Example, "a\nb", "a\nb");
        refuses(Text::Example, "a\0b", "cannot be seen");
    }

    #[test]
    fn variables_that_choose_code_are_not_for_a_profile() {
        for name in ["LD_PRELOAD", "BASH_ENV", "PATH", "GLIBC_TUNABLES"] {
            refuses(Text::Variable, name, "not for a profile");
        }
        refuses(Text::Variable, "A B", "no name of a variable");
        takes(Text::Variable, "RUST_LOG", "RUST_LOG");
    }

    #[test]
    fn what_may_be_set_for_another_program_is_never_what_is_preloaded() {
        takes(Text::GuardedVariable, "GIT_*", "GIT_*");
        takes(Text::GuardedVariable, "LD_LIBRARY_PATH", "LD_LIBRARY_PATH");
        refuses(Text::GuardedVariable, "LD_PRELOAD", "no program may set");
        refuses(Text::GuardedVariable, "LD_*", "`LD_AUDIT`");
        refuses(Text::GuardedVariable, "L*", "no program may set");
        refuses(Text::GuardedVariable, "*", "no name");
        refuses(Text::GuardedVariable, "A*B", "no name");
    }

    #[test]
    fn who_starts_a_program_is_a_program_or_the_workspace() {
        takes(Text::Caller, "cargo", "cargo");
        takes(Text::Caller, "@workspace", "@workspace");
        refuses(Text::Caller, "@anybody", "nobody");
        refuses(Text::Caller, "/usr/bin/cargo", "is a path");
        refuses(Text::Caller, "*", "no name of a program");
    }

    #[test]
    fn programs_options_and_ids_are_bare_names() {
        takes(Text::ProgramPattern, "mkfs*", "mkfs*");
        refuses(Text::ProgramPattern, "*", "any program");
        refuses(Text::Program, "mkfs*", "no name of a program");
        refuses(Text::Program, "/bin/ls", "is a path");
        takes(Text::OptionName, "--force", "--force");
        takes(Text::OptionName, "!", "!");
        refuses(Text::OptionName, "force", "no option");
        refuses(Text::OptionName, "--a=b", "no option");
        takes(Text::RuleId, "git.push.force", "git.push.force");
        refuses(Text::RuleId, "git..push", "no name");
        refuses(Text::Name, "Rust", "no name");
    }
}
