//! What people and agents touch: the verbs of the command line.
//!
//! A verb turns words into a question for the engine and the answer into words, exit codes and
//! JSON. Nothing is decided here, and this is the only module that prints.

mod arguments;
mod audit;
mod check;
mod cli;
mod doctor;
mod explain;
mod learn;
mod manual;
mod pager;
mod profile;
mod replay;
mod run;
mod session;
mod why;
mod words;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser;
use clap::error::ErrorKind;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use self::cli::{Cli, Verb};
use self::words::{answer, complain, say};
use crate::engine::{self, Directories, Surroundings};

/// A command line that means nothing.
pub(crate) const USAGE: u8 = 2;
/// Rung itself failed, and nothing ran.
pub(crate) const FAILED: u8 = 125;

/// Runs one verb. `now` is the time of the start.
pub fn main(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    now: SystemTime,
) -> ExitCode {
    let mut words = arguments.into_iter().skip(1);
    let around = surroundings(environment.into_iter().collect(), now);
    if let Some(filter) = around.environment.get(OsStr::new(LOG)) {
        log(filter);
    }
    match words.next() {
        Some(verb) if verb == "run" => run::run(words, &around),
        Some(verb) if verb == engine::GATEWAY => ExitCode::from(engine::gateway()),
        Some(verb) if verb == engine::PROOF_SERVER => ExitCode::from(engine::proof_server()),
        Some(verb) if verb == engine::PROOF_CLIENT => ExitCode::from(engine::proof_client(words)),
        verb => other(verb.into_iter().chain(words), &around),
    }
}

/// Every verb that does not stand on the launch path.
fn other(words: impl Iterator<Item = OsString>, around: &Surroundings) -> ExitCode {
    let read = match Cli::try_parse_from(std::iter::once(OsString::from("rung")).chain(words)) {
        Ok(read) => read,
        Err(error) => return no_verb(&error),
    };
    match read.verb {
        // Only `main` gets here with `run`, and it does not.
        Verb::Run(_) => complain("`run` must be the first word", USAGE),
        Verb::Check(options) => check::check(options, around),
        Verb::Explain(options) => explain::explain(options, around),
        Verb::Why(options) => why::why(options, around),
        Verb::Learn(options) => learn::learn(options, around),
        Verb::Levels { json } => explain::levels(json, around),
        Verb::Doctor { json } => doctor::doctor(json, around),
        Verb::Profile(verb) => profile::profile(verb, around),
        Verb::Audit(verb) => audit::audit(verb, around),
        Verb::Replay { against, run, json } => replay::replay(&against, run, json, around),
        Verb::Session(verb) => session::session(verb, around),
        Verb::Completions { shell } => manual::completions(shell),
        Verb::Man => manual::man(),
    }
}

/// Help that was asked for is an answer; anything else is a complaint.
fn no_verb(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => answer(&error.to_string()),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            say(std::io::stderr(), &error.to_string());
            ExitCode::from(USAGE)
        }
        _ => complain(&cli::problem(error), USAGE),
    }
}

/// The variable that asks for rung's own log.
const LOG: &str = "RUNG_LOG";

/// What rung does, on standard error, as far as `filter` lets it through.
fn log(filter: &OsStr) {
    let filter = EnvFilter::builder().parse_lossy(filter.to_string_lossy());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::CLOSE)
        .with_writer(std::io::stderr);
    if log.try_init().is_err() {
        tracing::debug!("there is a log already");
    }
}

fn surroundings(environment: BTreeMap<OsString, OsString>, now: SystemTime) -> Surroundings {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    let user_home = user.map(|it| it.dir);
    let home = match environment.get(&OsString::from("HOME")).filter(|it| !it.is_empty()) {
        Some(home) => Path::new(home).components().collect(),
        None => user_home.clone().unwrap_or_else(|| PathBuf::from("/")),
    };
    let mask = engine::take_file_mask();
    Surroundings {
        directories: directories(&environment, &home),
        cwd: std::env::current_dir().ok(),
        home,
        user_home,
        now: jiff::Timestamp::try_from(now).unwrap_or(jiff::Timestamp::UNIX_EPOCH),
        file_mask: mask,
        environment,
    }
}

fn directories(environment: &BTreeMap<OsString, OsString>, home: &Path) -> Directories {
    // The XDG base directory specification ignores relative paths.
    let from = |name: &str, otherwise: PathBuf| {
        let given = environment.get(&OsString::from(name)).map(PathBuf::from);
        given.filter(|it| it.is_absolute()).unwrap_or(otherwise)
    };
    let state = if nix::unistd::getuid().is_root()
        && !environment.contains_key(&OsString::from("XDG_STATE_HOME"))
    {
        PathBuf::from("/var/lib/rung")
    } else {
        from("XDG_STATE_HOME", home.join(".local/state")).join("rung")
    };
    Directories {
        state,
        system: PathBuf::from("/etc/rung"),
        user: from("XDG_CONFIG_HOME", home.join(".config")).join("rung"),
    }
}
