//! The command line of `rung run` and its siblings, read by hand.
//!
//! These verbs stand on the launch path, where the full command line machinery would cost more
//! than the decision itself. They share one small set of options; everything after `--`, or from
//! the first word that is no option on, is the command.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::engine::{self, NeedsShell, SessionChoice};
use crate::model::{Arg, Ids, Level, Span, parse_quantity};

/// What the caller asked for, in the caller's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunArguments {
    pub(super) argv: Vec<Arg>,
    /// Absent: the configured default.
    pub(super) level: Option<Level>,
    pub(super) workspace: Option<PathBuf>,
    pub(super) directory: Option<PathBuf>,
    /// Tightens the profile's wall limit.
    pub(super) timeout: Option<Span>,
    pub(super) report: Option<Report>,
    /// The outcome on standard error as JSON instead of words.
    pub(super) json: bool,
    pub(super) terminal: TerminalChoice,
    pub(super) ids: Ids,
    /// Print nothing about a refusal but the exit code.
    pub(super) quiet: bool,
    pub(super) session: Option<SessionChoice>,
}

/// Every option that [`parse`] knows besides `--help`, for the test that holds it and the
/// description in `cli` together.
#[cfg(test)]
pub(super) const OPTIONS: [&str; 18] = [
    "-c",
    "--level",
    "-l",
    "--workspace",
    "-w",
    "--directory",
    "-C",
    "--timeout",
    "--report",
    "--json",
    "--tty",
    "--agent",
    "--task",
    "--session",
    "--discard",
    "--traceparent",
    "--quiet",
    "-q",
];

/// Where the outcome is written as JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Report {
    File(PathBuf),
    Descriptor(i32),
}

/// Whether the command gets a terminal of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TerminalChoice {
    /// When standard input and output are a terminal.
    Auto,
    /// As `Auto`, and what the command prints reaches the terminal unfiltered.
    Raw,
    Never,
}

/// A command line that means nothing; the message names the word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum UsageError {
    #[error("`{0}` is not an option of `rung run`; write `--` before the command")]
    Unknown(String),
    #[error("`{option}` needs a value: {wants}")]
    NoValue { option: &'static str, wants: &'static str },
    #[error("`{option}`: {problem}")]
    Value { option: &'static str, problem: String },
    #[error("`-c` gives the whole text, and `{0}` behind it would be no part of it")]
    BehindText(String),
    #[error("no command: write `rung run --level 1 -- ls`, for example")]
    NoCommand,
    #[error("word {position} of the command has a NUL byte, which no program can be given")]
    NulByte { position: usize },
    #[error("`{0}` is not UTF-8, and only the command's own words may be")]
    NotText(String),
    #[error(transparent)]
    NeedsShell(#[from] NeedsShell),
}

/// Help asked for instead of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parsed {
    Run(Box<RunArguments>),
    Help,
}

/// Reads what follows the verb.
pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Parsed, UsageError> {
    let mut words = words.into_iter();
    let mut script = None;
    let mut read = RunArguments {
        argv: Vec::new(),
        level: None,
        workspace: None,
        directory: None,
        timeout: None,
        report: None,
        json: false,
        terminal: TerminalChoice::Auto,
        ids: Ids::default(),
        quiet: false,
        session: None,
    };
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            read.argv = if script.is_some() { command(words)? } else { command_line(words)? };
            break;
        }
        if !bytes.starts_with(b"-") || bytes == b"-" {
            read.argv = command_line(std::iter::once(word).chain(words))?;
            break;
        }
        let Some(text) = word.to_str() else {
            return Err(UsageError::NotText(word.to_string_lossy().into_owned()));
        };
        let (name, attached) = match text.split_once('=') {
            Some((name, value)) => (name, Some(OsString::from(value))),
            None => (text, None),
        };
        if matches!(name, "--help" | "-h") {
            return Ok(Parsed::Help);
        }
        let mut value = |option, wants| {
            attached.clone().or_else(|| words.next()).ok_or(UsageError::NoValue { option, wants })
        };
        match name {
            "-c" => script = Some(shell_text(value("-c", "a text for a shell")?)?),
            "--level" | "-l" => read.level = Some(level(&value("--level", "1 to 6")?)?),
            "--workspace" | "-w" => {
                read.workspace = Some(value("--workspace", "a directory")?.into());
            }
            "--directory" | "-C" => {
                read.directory = Some(value("--directory", "a directory")?.into());
            }
            "--timeout" => {
                let given = value("--timeout", "a time such as \"30 s\"")?;
                read.timeout = Some(timeout(&given)?);
            }
            "--report" => {
                let given = value("--report", "a file, or the number of a descriptor")?;
                read.report = Some(report(given)?);
            }
            "--tty" => read.terminal = terminal(&value("--tty", "auto, raw or never")?)?,
            "--agent" => read.ids.agent = Some(id("--agent", value("--agent", "a name")?)?),
            "--task" => read.ids.task = Some(id("--task", value("--task", "a name")?)?),
            "--session" => {
                let name = id("--session", value("--session", "a name")?)?;
                choose(&mut read.session, SessionChoice::Named(name))?;
            }
            "--traceparent" => {
                let wants = "a W3C trace context";
                read.ids.traceparent = Some(id("--traceparent", value("--traceparent", wants)?)?);
            }
            "--discard" if attached.is_none() => {
                choose(&mut read.session, SessionChoice::Discard)?;
            }
            "--json" if attached.is_none() => read.json = true,
            "--quiet" | "-q" if attached.is_none() => read.quiet = true,
            _ => return Err(UsageError::Unknown(text.to_owned())),
        }
    }
    if let Some(script) = script {
        if let Some(first) = read.argv.first() {
            return Err(UsageError::BehindText(first.to_string()));
        }
        read.argv = script;
    }
    if read.argv.is_empty() {
        return Err(UsageError::NoCommand);
    }
    Ok(Parsed::Run(Box::new(read)))
}

/// A run writes to one place only.
fn choose(session: &mut Option<SessionChoice>, choice: SessionChoice) -> Result<(), UsageError> {
    if session
        .as_ref()
        .is_some_and(|it| std::mem::discriminant(it) != std::mem::discriminant(&choice))
    {
        let problem = "the run cannot be in a session and keep nothing".to_owned();
        return Err(UsageError::Value { option: "--discard", problem });
    }
    *session = Some(choice);
    Ok(())
}

fn command(words: impl Iterator<Item = OsString>) -> Result<Vec<Arg>, UsageError> {
    words
        .enumerate()
        .map(|(index, word)| {
            Arg::new(word.into_vec()).map_err(|_| UsageError::NulByte { position: index + 1 })
        })
        .collect()
}

/// `-c TEXT` is what `bash -c -- TEXT` is.
pub(super) fn shell_text(text: OsString) -> Result<Vec<Arg>, UsageError> {
    command(["bash", "-c", "--"].map(OsString::from).into_iter().chain([text]))
}

/// The words of a command that came whole, as one word or as several.
pub(super) fn command_line(words: impl Iterator<Item = OsString>) -> Result<Vec<Arg>, UsageError> {
    let argv = command(words)?;
    match argv.as_slice() {
        [] => Err(UsageError::NoCommand),
        [only] => single(only),
        _ => Ok(argv),
    }
}

/// A single word with blanks in it is a line that somebody typed as a whole.
fn single(word: &Arg) -> Result<Vec<Arg>, UsageError> {
    match word.as_str() {
        Some(text) if text.contains(char::is_whitespace) => Ok(engine::split(text)?),
        _ => Ok(vec![word.clone()]),
    }
}

fn level(value: &OsString) -> Result<Level, UsageError> {
    level_of(&value.to_string_lossy())
        .map_err(|problem| UsageError::Value { option: "--level", problem })
}

pub(super) fn level_of(text: &str) -> Result<Level, String> {
    let number: u8 = text.parse().map_err(|_| format!("`{text}` is not a number from 1 to 6"))?;
    Level::try_from(number).map_err(|error| error.to_string())
}

/// `host`, `host:port` or `[address]:port`.
pub(super) fn end_of(text: &str) -> Result<(String, u16), String> {
    const PORT: u16 = 443;
    let wrong = || format!("`{}` is no host with a port from 1 to 65535", text.escape_debug());
    let (host, port) = match text.strip_prefix('[').and_then(|it| it.split_once(']')) {
        Some((address, "")) => (address, None),
        Some((address, rest)) => (address, Some(rest.strip_prefix(':').ok_or_else(wrong)?)),
        None => match text.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') => (host, Some(port)),
            _ => (text, None),
        },
    };
    let port = match port {
        None => PORT,
        Some(port) => port.parse().ok().filter(|it| *it > 0).ok_or_else(wrong)?,
    };
    let known = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '-' | '_' | ':');
    if host.is_empty() || host.starts_with('-') || !host.chars().all(known) {
        return Err(wrong());
    }
    Ok((host.to_owned(), port))
}

fn timeout(value: &OsString) -> Result<Span, UsageError> {
    parse_quantity(&value.to_string_lossy())
        .map_err(|error| UsageError::Value { option: "--timeout", problem: error.to_string() })
}

pub(super) fn report(value: OsString) -> Result<Report, UsageError> {
    /// 0 to 2 are the command's own streams.
    const FIRST: i32 = 3;
    match value.to_str().map(str::parse::<i32>) {
        Some(Ok(number)) if number >= FIRST => Ok(Report::Descriptor(number)),
        Some(Ok(number)) => Err(UsageError::Value {
            option: "--report",
            problem: format!("descriptor {number} belongs to the command; use {FIRST} or higher"),
        }),
        _ => Ok(Report::File(value.into())),
    }
}

fn terminal(value: &OsString) -> Result<TerminalChoice, UsageError> {
    match value.to_str() {
        Some("auto") => Ok(TerminalChoice::Auto),
        Some("raw") => Ok(TerminalChoice::Raw),
        Some("never") => Ok(TerminalChoice::Never),
        _ => Err(UsageError::Value {
            option: "--tty",
            problem: format!("`{}` is none of auto, raw, never", value.to_string_lossy()),
        }),
    }
}

/// An identifier that goes into every record: short, printable, one line.
fn id(option: &'static str, value: OsString) -> Result<String, UsageError> {
    let text = value.into_string().map_err(|_| "it is not UTF-8".to_owned());
    text.and_then(|it| id_of(&it)).map_err(|problem| UsageError::Value { option, problem })
}

pub(super) fn id_of(text: &str) -> Result<String, String> {
    const ID_BYTES_MAX: usize = 128;
    if text.is_empty() || text.len() > ID_BYTES_MAX {
        return Err(format!("it must have 1 to {ID_BYTES_MAX} bytes"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("it may have printable ASCII characters only, and no blanks".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<RunArguments, UsageError> {
        match parse(words.iter().map(OsString::from))? {
            Parsed::Run(read) => Ok(*read),
            Parsed::Help => panic!("help"),
        }
    }

    #[track_caller]
    fn refused(words: &[&str], says: &str) {
        let message = read(words).unwrap_err().to_string();
        assert!(message.contains(says), "{message}");
    }

    #[test]
    fn the_command_begins_after_the_dashes_or_at_the_first_word() {
        let shown = |words: &[&str]| {
            read(words).unwrap().argv.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(shown(&["--level", "1", "--", "ls", "--level", "9"]), ["ls", "--level", "9"]);
        assert_eq!(shown(&["-l", "1", "ls", "-l"]), ["ls", "-l"]);
        assert_eq!(shown(&["--", "--odd-name"]), ["--odd-name"]);
    }

    #[test]
    fn a_whole_line_is_split_and_a_shell_line_is_refused() {
        assert_eq!(read(&["ls -l src"]).unwrap().argv.len(), 3);
        refused(&["ls | wc"], "-c");
    }

    #[test]
    fn a_text_for_a_shell_stands_behind_its_option_alone() {
        let words = ["bash", "-c", "--", "ls | wc"].map(|it| Arg::try_from(it).unwrap());
        assert_eq!(read(&["-c", "ls | wc"]).unwrap().argv, words);
        assert_eq!(read(&["-c", "ls | wc", "--level", "1"]).unwrap().argv, words);
        assert_eq!(read(&["-c", "ls | wc", "--"]).unwrap().argv, words);
        refused(&["-c"], "needs a value");
        refused(&["-c", "ls", "wc"], "`wc` behind it");
        refused(&["-c", "ls", "--", "wc"], "`wc` behind it");
    }

    #[test]
    fn what_is_wrong_is_named() {
        refused(&[], "no command");
        refused(&["--level"], "needs a value");
        refused(&["--level", "7", "--", "ls"], "there is no level 7");
        refused(&["--level=x", "--", "ls"], "not a number");
        refused(&["--levle", "1", "--", "ls"], "`--levle` is not an option");
        refused(&["--report", "1", "--", "ls"], "belongs to the command");
        refused(&["--agent", "a b", "--", "ls"], "no blanks");
        refused(&["--timeout", "5", "--", "ls"], "no unit");
        refused(&["--json=yes", "--", "ls"], "not an option");
    }

    #[test]
    fn a_word_that_is_not_text_is_the_commands_own_affair() {
        let word = OsString::from_vec(b"\xff".to_vec());
        let words = [OsString::from("--"), OsString::from("cat"), word.clone()];
        let Ok(Parsed::Run(read)) = parse(words) else { panic!("refused") };
        assert_eq!(read.argv[1].as_bytes(), b"\xff");
        assert!(matches!(
            parse([OsString::from_vec(b"--\xff".to_vec())]),
            Err(UsageError::NotText(_))
        ));
    }

    #[test]
    fn a_host_has_a_port_of_its_own_or_the_usual_one() {
        let end = |host: &str, port| Ok((host.to_owned(), port));
        assert_eq!(end_of("example.org"), end("example.org", 443));
        assert_eq!(end_of("example.org:80"), end("example.org", 80));
        assert_eq!(end_of("[::1]:80"), end("::1", 80));
        assert_eq!(end_of("::1"), end("::1", 443));
        for wrong in ["", ":80", "a:0", "a:x", "a:70000", "a b", "-x", "https://a", "[::1]80:"] {
            assert!(end_of(wrong).is_err(), "{wrong}");
        }
    }
}
