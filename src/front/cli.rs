//! The command line of every verb, described once: for reading it, for help, completions and the
//! manual page.
//!
//! `run` is described here too but read by hand in `arguments`, because this machinery costs more
//! than a decision. A test holds the two descriptions together.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint};

use super::arguments::{self, RunArguments, TerminalChoice, UsageError};
use super::session::SessionVerb;
use crate::engine::SessionChoice;
use crate::engine::inspect::audit::{Anchor, Format};
use crate::model::{Digest, Ids, Level, Span, parse_quantity};

/// A constant, so that it can be put together with others at compile time.
macro_rules! exit_codes {
    () => {
        "
Exit codes:
  the command's own  it ran; 128 and the signal's number if a signal ended it
  2                  rung's own command line is wrong
  75                 it needs an approval; nothing ran
  124                stopped by a limit
  125                rung failed: nothing ran, or, if the words say so, what ran was ended because
                     it could not be recorded
  126                no rule allows it, or one refuses it; nothing ran
  127                a rule allows it, but there is no such program; nothing ran
"
    };
}

#[derive(Debug, Parser)]
#[command(
    name = "rung",
    bin_name = "rung",
    version,
    about = "Runs the commands that coding agents ask for, inside the permissions of one level.",
    after_help = concat!(
        "Examples:
  rung run --level 1 -- rg TODO src          run it at level 1
  rung run --level 3 -- cargo test --lib     run it at level 3
  rung check --level 2 -- git push           would it be allowed? runs nothing
  rung explain --level 2                     what level 2 means here, in sentences
  rung doctor                                what this host can keep, by trying it
  rung session start                         work on a layer over the tree; look, then apply
",
        exit_codes!()
    ),
    arg_required_else_help = true,
    max_term_width = 100
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Runs one command inside the permissions of one level
    #[command(after_help = concat!(
        "Files, pipes and sockets go to the command as they are; a terminal only with `--tty raw`. Rung
says nothing unless something was refused.

Examples:
  rung run --level 1 -- rg TODO src
  rung run --level 3 -- cargo test --lib
  rung run --session fix-42 -- cargo test
  rung run --level 3 --discard -- cargo update   see what it would change
  rung run --level 3 --timeout \"5 min\" --report out.json -- npm test
  rung run --level 1 -c 'rg TODO src | head'
",
        exit_codes!()
    ))]
    Run(RunOptions),

    /// Decides about a command and runs nothing; the exit code says how
    #[command(after_help = "\
Takes the options of `rung run`, so that one word makes the question of a command line.
With --json or --report the answer is one JSON object with `decision`, `exit_code`, `rule`,
`origin`, `denial` and `gaps`. Nothing is recorded.

Examples:
  rung check --level 1 -- git log
  rung check --json -- git push origin main
  rung check --level 1 -c 'git log --oneline | head'

Exit codes:
  0    allowed
  2    rung's own command line is wrong
  75   needs an approval
  125  there is no answer: a profile is broken, or this host cannot keep the level
  126  no rule allows it, or one refuses it
  127  a rule allows it, but there is no such program
")]
    Check(RunOptions),

    /// Says what a level means here: in one sentence, then entry by entry with its origin
    #[command(after_help = "\
Examples:
  rung explain --level 3
  rung explain --level 3 -- cargo test         the plan of this command
  rung explain --level 2 --json                the plan as data
")]
    Explain(ExplainOptions),

    /// Says why something may be done or not, and tries it in a real sandbox to be sure
    #[command(after_help = "\
The decision comes from the profile; the probe starts a sandbox of the level and opens the file or
the connection in it, without reading or changing anything. Of a command only its program is opened.
Where the two answers differ, something is wrong with rung or with this machine: that is an alarm.
A probe is recorded like any run, by the rule `why.probe`.

Examples:
  rung why --level 3 -- cargo test
  rung why --level 2 --path .git/hooks
  rung why --level 1 --path /etc/shadow --json
  rung why --level 3 --host registry.example.org:443

Exit codes:
  0    the answers agree, whether they are yes or no
  1    they differ
  125  one of them could not be had
")]
    Why(WhyOptions),

    /// Runs a command, lets through what only lacks a rule, and proposes the rules
    #[command(after_help = "\
The command runs in the sandbox of the level, as by `rung run`, and the ledger says that it was a
learning run. A program that no rule covers is let through and noted; what a rule refuses, or would
ask a person about, is refused as ever, and so is everything that the sandbox does not give. Then the
smallest change of the level's profile is shown, tried on every program that was let through. It
holds for nobody before a person has read it and put it into the file that it names.

Takes the options of `rung run`. With --json or --report the outcome has `observed`, `proposal` and
`left_out` as well. It cannot be used inside a run.

Examples:
  rung learn --level 3 -- make test
  rung learn --level 3 --write proposal.toml -- make test
  rung learn --level 3 --write ~/.config/rung/level-3.toml -- npm test

Exit codes:
  the command's own  as of `rung run`
  125                rung failed, or the proposal could not be written
")]
    Learn(LearnOptions),

    /// Lists the levels of the ladder
    #[command(after_help = "\
Examples:
  rung levels
  rung levels --json
")]
    Levels {
        /// As JSON
        #[arg(long)]
        json: bool,
    },

    /// Tries what this host can keep of each level, and names what would mend the rest
    #[command(after_help = "\
A promise is kept, degraded (runs go on without it, as the profile accepts) or missing (nothing
runs at that level).

Examples:
  rung doctor
  rung doctor --json

Exit codes:
  0    nothing is missing at levels 1 to 3
  1    something is
  125  this host could not be looked at
")]
    Doctor {
        /// As JSON
        #[arg(long)]
        json: bool,
    },

    /// Shows, checks and compares profiles
    #[command(subcommand, arg_required_else_help = true)]
    Profile(ProfileVerb),

    /// Reads and checks the ledger of all runs
    #[command(subcommand, arg_required_else_help = true)]
    Audit(AuditVerb),

    /// Takes recorded decisions again under a changed profile, and says which come out differently
    #[command(after_help = "\
The words, the place and the level come from the ledger; programs are looked up as they are now.
Decisions whose words look like secrets, and were therefore not recorded whole, are left out and
counted. A decision that differs under the profile in force too is marked `since`: something else
than this profile has changed.

Examples:
  rung replay --against ./level-3.toml        what this file would have changed
  rung replay --against 2                     all work at level 2, whatever its level was
  rung replay --against ./level-3.toml --run 01K9XJ4Q6T0V3W8Z5N2M7B1C4D --json

Exit codes:
  0    nothing would be different
  1    something would
  125  the ledger or a profile cannot be read
")]
    Replay {
        /// A level's file, or the number of a level
        #[arg(long, value_name = "PROFILE", value_hint = ValueHint::FilePath)]
        against: PathBuf,
        /// The id of one run (default: all runs of the ledger)
        #[arg(long, value_name = "RUN")]
        run: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Begins, shows, applies and discards sessions
    #[command(subcommand, arg_required_else_help = true)]
    Session(SessionVerb),

    /// Prints completions for a shell
    #[command(after_help = "\
Examples:
  rung completions bash > ~/.local/share/bash-completion/completions/rung
  rung completions zsh > ~/.zfunc/_rung
  rung completions fish > ~/.config/fish/completions/rung.fish
")]
    Completions { shell: Shell },

    /// Prints the manual page
    #[command(after_help = "\
Examples:
  rung man > ~/.local/share/man/man1/rung.1
  rung man | man -l -
")]
    Man,
}

/// Where a command would run, and at which level.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// 1 read-only research, 2 local writes, 3 test execution; 4 to 6 need a higher ceiling
    /// (default: 2, or what `config.toml` says)
    #[arg(short, long, value_name = "N", value_parser = arguments::level_of)]
    pub(super) level: Option<Level>,
    /// The tree the command works on (default: the git checkout around the working directory, or
    /// the directory itself)
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) workspace: Option<PathBuf>,
    /// Where the command starts
    #[arg(short = 'C', long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) directory: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct RunOptions {
    #[command(flatten)]
    pub(super) place: Place,
    /// A shorter wall limit than the profile's, such as "30 s"
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(super) timeout: Option<Span>,
    /// The outcome as JSON, in a file or on a descriptor from 3 up
    #[arg(long, value_name = "FILE|FD", value_hint = ValueHint::FilePath)]
    pub(super) report: Option<OsString>,
    /// The outcome as JSON: of `run` on standard error, after the command has ended
    #[arg(long)]
    pub(super) json: bool,
    /// A terminal for the command: auto if there is one, raw: control sequences pass, or never
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub(super) tty: Tty,
    /// The agent that asks, for the records
    #[arg(long, value_name = "ID", value_parser = arguments::id_of)]
    pub(super) agent: Option<String>,
    /// Its task, for the records
    #[arg(long, value_name = "ID", value_parser = arguments::id_of)]
    pub(super) task: Option<String>,
    /// Run in this session, which has a workspace of its own
    #[arg(long, value_name = "NAME", conflicts_with = "discard")]
    pub(super) session: Option<String>,
    /// Keep nothing of what the command writes in the workspace; list it instead
    #[arg(long)]
    pub(super) discard: bool,
    /// A W3C trace context, for the records
    #[arg(long, value_name = "CONTEXT", value_parser = arguments::id_of)]
    pub(super) traceparent: Option<String>,
    /// No words about a refusal, only the exit code
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// A text for a shell instead of a command: certain texts run, others are refused or decided
    /// program by program
    #[arg(short = 'c', value_name = "TEXT", conflicts_with = "command")]
    pub(super) text: Option<OsString>,
    /// The command and its arguments; a single word with blanks is split as a shell would
    #[arg(
        value_name = "COMMAND",
        required_unless_present = "text",
        trailing_var_arg = true,
        value_hint = ValueHint::CommandWithArguments
    )]
    pub(super) command: Vec<OsString>,
}

impl RunOptions {
    /// The same as `rung run` would have read.
    pub(super) fn read(self) -> Result<RunArguments, UsageError> {
        Ok(RunArguments {
            argv: match self.text {
                Some(text) => arguments::shell_text(text)?,
                None => arguments::command_line(self.command.into_iter())?,
            },
            level: self.place.level,
            workspace: self.place.workspace,
            directory: self.place.directory,
            timeout: self.timeout,
            report: self.report.map(arguments::report).transpose()?,
            json: self.json,
            terminal: match self.tty {
                Tty::Auto => TerminalChoice::Auto,
                Tty::Raw => TerminalChoice::Raw,
                Tty::Never => TerminalChoice::Never,
            },
            ids: Ids {
                run: String::new(),
                agent: self.agent,
                task: self.task,
                session: None,
                traceparent: self.traceparent,
            },
            quiet: self.quiet,
            session: match (self.session, self.discard) {
                (Some(name), _) => Some(SessionChoice::Named(name)),
                (None, true) => Some(SessionChoice::Discard),
                (None, false) => None,
            },
        })
    }
}

#[derive(Debug, Args)]
pub(super) struct LearnOptions {
    /// Write the changed profile to this file: a new one, or the one that it would change
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) write: Option<PathBuf>,
    #[command(flatten)]
    pub(super) run: RunOptions,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Tty {
    Auto,
    Raw,
    Never,
}

#[derive(Debug, Args)]
pub(super) struct ExplainOptions {
    #[command(flatten)]
    pub(super) place: Place,
    /// The plan as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// A text for a shell to explain, instead of a command
    #[arg(short = 'c', value_name = "TEXT", conflicts_with = "command")]
    pub(super) text: Option<OsString>,
    /// The command to explain (default: `true`, which every level allows)
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        value_hint = ValueHint::CommandWithArguments
    )]
    pub(super) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(super) struct WhyOptions {
    #[command(flatten)]
    pub(super) place: Place,
    /// A file or a directory
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath, conflicts_with_all = ["host", "command"])]
    pub(super) path: Option<PathBuf>,
    /// Another machine (default port: 443)
    #[arg(long, value_name = "HOST[:PORT]", value_parser = arguments::end_of, conflicts_with = "command")]
    pub(super) host: Option<(String, u16)>,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
    /// A command and its arguments
    #[arg(
        value_name = "COMMAND",
        required_unless_present_any = ["path", "host"],
        trailing_var_arg = true,
        value_hint = ValueHint::CommandWithArguments
    )]
    pub(super) command: Vec<OsString>,
}

#[derive(Debug, Subcommand)]
pub(super) enum ProfileVerb {
    /// Prints the profile of a level, as written or as it is in force
    #[command(after_help = "\
Examples:
  rung profile show                the files of the default level
  rung profile show 3 --resolved   everything in force, each line with where it comes from
")]
    Show {
        /// The level (default: the default level)
        #[arg(value_name = "N", value_parser = arguments::level_of)]
        level: Option<Level>,
        /// Everything in force, with origins, instead of the files
        #[arg(long)]
        resolved: bool,
        /// The profile in force as JSON
        #[arg(long)]
        json: bool,
    },
    /// Says what is wrong or odd in profiles; exit code 1 if something is wrong
    #[command(after_help = "\
Without files: those in force. With files: these, on top of rung's own.

Examples:
  rung profile lint
  rung profile lint ./level-3.toml
")]
    Lint {
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Says what B has that A has not, and the reverse; each is a level or a file
    #[command(after_help = "\
Examples:
  rung profile diff 2 3              what level 3 adds
  rung profile diff 3 ./level-3.toml what this file would change
")]
    Diff {
        #[arg(value_hint = ValueHint::FilePath)]
        a: PathBuf,
        #[arg(value_hint = ValueHint::FilePath)]
        b: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Says what could be reached if every command of a level did its worst
    #[command(after_help = "\
Examples:
  rung profile blast 3
  rung profile blast --all --json    all six levels, one JSON object each
")]
    Blast {
        /// The level (default: the default level)
        #[arg(value_name = "N", value_parser = arguments::level_of, conflicts_with = "all")]
        level: Option<Level>,
        /// All levels, one after the other
        #[arg(long)]
        all: bool,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Holds a table of expected verdicts against the profiles; exit code 1 if one is another
    #[command(after_help = "\
The table is TOML. A command is one string, or a list of words; each level that is named says what
is expected there: allow, ask, deny or never, and the id of the rule behind it if that matters.

  [[scenario]]
  command = \"git push origin main\"
  because = \"nothing leaves before somebody has looked\"
  level-2 = \"deny git.push\"
  level-4 = \"ask\"

Only the words are decided: a plain name counts as a program of the system, so the table means the
same on every machine. Nothing runs and nothing is recorded.

Examples:
  rung profile test scenarios.toml
  rung profile test scenarios.toml --with ./level-3.toml   what a changed level would do
  rung profile test scenarios.toml --json

Exit codes:
  0    every expectation holds
  1    one does not
  125  the table or a profile cannot be read
")]
    Test {
        /// The table
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// A level's file, on top of what is in force
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        with: Option<PathBuf>,
        /// Every expectation as JSON
        #[arg(long)]
        json: bool,
    },
    /// Prints the JSON Schema of profiles, for editors
    #[command(after_help = "\
Examples:
  rung profile schema > profile.schema.json
")]
    Schema,
}

#[derive(Debug, Subcommand)]
pub(super) enum AuditVerb {
    /// Checks every link and signature; exit code 1 names the first bad record
    #[command(after_help = "\
An anchor is the number and fingerprint of a record that was kept elsewhere. It shows what the
chain alone cannot: that the whole ledger was replaced, or its end cut off.

Examples:
  rung audit verify
  rung audit verify --anchor 1500:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
")]
    Verify {
        /// A record known from elsewhere
        #[arg(long = "anchor", value_name = "SEQ:FINGERPRINT", value_parser = anchor)]
        anchors: Vec<Anchor>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Prints the records of one run
    #[command(after_help = "\
Examples:
  rung audit show 01K9XJ4Q6T0V3W8Z5N2M7B1C4D
")]
    Show {
        /// Its id, as reports and refusals name it
        run: String,
        /// The records as they are written, one JSON object each
        #[arg(long)]
        json: bool,
    },
    /// Prints the newest records
    #[command(after_help = "\
Examples:
  rung audit tail -n 50
  rung audit tail -f --json
")]
    Tail {
        /// How many
        #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
        lines: usize,
        /// Go on printing what is added
        #[arg(short, long)]
        follow: bool,
        /// The records as they are written, one JSON object each
        #[arg(long)]
        json: bool,
    },
    /// Prints every record for another system
    #[command(after_help = "\
Examples:
  rung audit export > ledger.jsonl
  rung audit export --format ocsf | curl --data-binary @- https://collector.example.org
")]
    Export {
        /// jsonl: as written; ocsf: events of the Open Cybersecurity Schema Framework
        #[arg(long, default_value = "jsonl")]
        format: ExportFormat,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum ExportFormat {
    Jsonl,
    Ocsf,
}

impl From<ExportFormat> for Format {
    fn from(format: ExportFormat) -> Self {
        match format {
            ExportFormat::Jsonl => Self::JsonLines,
            ExportFormat::Ocsf => Self::Ocsf,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

fn time(text: &str) -> Result<Span, String> {
    parse_quantity(text).map_err(|error| error.to_string())
}

fn anchor(text: &str) -> Result<Anchor, String> {
    let read = text
        .split_once(':')
        .and_then(|(seq, fp)| Some(Anchor { seq: seq.parse().ok()?, fp: Digest::from_hex(fp)? }));
    read.ok_or_else(|| "write the record's number, a colon and its 64 digits".to_owned())
}

/// The whole description.
pub(super) fn command() -> clap::Command {
    Cli::command()
}

/// The help of one verb.
pub(super) fn help_of(verb: &str) -> String {
    let mut all = command();
    all.build();
    let verb = all.find_subcommand_mut(verb);
    verb.map(|it| it.render_help().to_string()).unwrap_or_default()
}

/// What is wrong with a command line, in lines without decoration.
pub(super) fn problem(error: &clap::Error) -> String {
    let text = error.to_string();
    let mut lines: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|it| !it.is_empty() && !it.starts_with("For more information"))
        .map(|it| it.strip_prefix("error: ").unwrap_or(it).to_owned())
        .collect();
    if error.kind() == ErrorKind::InvalidSubcommand && !text.contains("tip:") {
        lines.insert(1.min(lines.len()), "tip: `rung run -- COMMAND` runs a command".to_owned());
    }
    lines.push("`rung help` has examples".to_owned());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_consistent() {
        command().debug_assert();
    }

    /// `run` is read by hand, so each option described must be one that is read, and the reverse.
    #[test]
    fn run_reads_exactly_the_options_that_are_described() {
        let all = command();
        let run = all.find_subcommand("run").unwrap();
        let mut described = Vec::new();
        for option in run.get_arguments() {
            described.extend(option.get_long().map(|it| format!("--{it}")));
            described.extend(option.get_short().map(|it| format!("-{it}")));
        }
        described.sort();
        let mut read: Vec<&str> = arguments::OPTIONS.to_vec();
        read.sort_unstable();
        assert_eq!(described, read);
        for option in described {
            let told = arguments::parse([OsString::from(&option)]);
            assert!(!matches!(told, Err(UsageError::Unknown(_))), "{option}");
        }
    }

    /// Otherwise a slip in an option would be a question about another command.
    #[test]
    fn an_unknown_option_is_no_command() {
        let wrong = Cli::try_parse_from(["rung", "check", "--levle", "1", "--", "ls"]);
        assert_eq!(wrong.unwrap_err().kind(), ErrorKind::UnknownArgument);
    }

    #[test]
    fn check_reads_a_command_line_as_run_does() {
        let lines: [&[&str]; 5] = [
            &["--level", "3", "--", "ls", "--level", "1"],
            &["-l1", "-C", "/", "ls", "-l"],
            &["--timeout=5 s", "--tty", "raw", "--agent", "a", "--", "ls -l src"],
            &["--report", "7", "--json", "-q", "--task=t", "--", "--odd"],
            &["--session", "s", "--traceparent", "00-1-2-01", "-w", "/srv", "true"],
        ];
        for line in lines {
            let words = ["rung", "check"].iter().chain(line);
            let Verb::Check(read) = Cli::try_parse_from(words).unwrap().verb else {
                panic!("not check: {line:?}")
            };
            let by_hand = match arguments::parse(line.iter().map(OsString::from)) {
                Ok(arguments::Parsed::Run(read)) => *read,
                // Only the long way to write a short option with its value differs.
                other => {
                    assert_eq!(line[0], "-l1", "{other:?}");
                    continue;
                }
            };
            assert_eq!(read.read().unwrap(), by_hand, "{line:?}");
        }
    }
}
