//! What people and agents touch: the verbs of the command line.
//!
//! A verb turns words into a question for the engine and the answer into words, exit codes and
//! JSON. Nothing is decided here, and this is the only module that prints.

mod arguments;
mod run;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

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
    match words.next() {
        Some(verb) if verb == "run" => run::run(words, &around),
        _ => ExitCode::from(USAGE),
    }
}

fn surroundings(environment: BTreeMap<OsString, OsString>, now: SystemTime) -> Surroundings {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    let home = match environment.get(&OsString::from("HOME")).filter(|it| !it.is_empty()) {
        Some(home) => Path::new(home).components().collect(),
        None => user.map_or_else(|| PathBuf::from("/"), |it| it.dir),
    };
    let mask = engine::take_file_mask();
    Surroundings {
        directories: directories(&environment, &home),
        cwd: std::env::current_dir().ok(),
        home,
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
