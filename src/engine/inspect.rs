//! Questions that run nothing: what a level means here, what this host keeps, what is recorded.
//!
//! The one idea: the answers come from the code that a run goes through, so that `rung explain`
//! and `rung doctor` cannot promise what `rung run` does not keep.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use serde::Serialize;

use super::consider::{consider_below, workspace};
use super::{Ask, Considered, EngineError, Surroundings};
use super::{inside, prove, repository};
use crate::host;
use crate::ledger;
use crate::model::{Cause, HostFacts, Level, Mechanism, Probe};
use crate::plan;
use crate::profile::{self, Findings, Layer, Profile, Settings, Source};

/// What has been recorded: reading and checking the ledger.
pub mod audit {
    pub use crate::ledger::{
        Anchor, Answer, Body, Control, Entry, Follow, Format, LedgerError, Outcome, Problem,
        Record, Report, export, show, tail, verify,
    };
}

/// Profiles as data: what is in force, what differs, what is wrong.
pub mod profiles {
    pub use crate::profile::{
        Findings, Layer, Profile, Settings, Source, blast, diff, lint, schema, show, show_authored,
    };
}

pub use crate::plan::{PromiseState, explain as explain_plan};

/// What this level means here: as [`consider`](super::consider), but nothing of it will run, so
/// the ceiling does not matter.
pub fn foresee(ask: Ask, around: &Surroundings) -> Result<Considered, EngineError> {
    let settings = around.settings()?;
    let level = ask.level.unwrap_or(settings.default_level);
    let inside = inside::look_into(&ask, around)?;
    let beside = repository::look(&workspace(&ask, inside.as_ref(), around)?);
    let settings = Settings { ceiling: Level::ProductionWrites, ..settings };
    consider_below(&settings, level, ask, (inside.as_ref(), beside.as_ref()), around)
}

impl Surroundings {
    pub fn ledger_directory(&self) -> PathBuf {
        self.directories.state.join("ledger")
    }

    /// Rung's own profiles, then what the organisation and the user make of them.
    pub fn all_layers(&self) -> Result<Vec<Layer>, EngineError> {
        let mut layers = vec![profile::built_in_layer()];
        layers.extend(self.layers()?);
        Ok(layers)
    }

    /// The profile that a file would make of its level, on top of everything in force.
    pub fn profile_with(&self, file: &Path) -> Result<Profile, EngineError> {
        let source = read(file)?;
        let name = file.file_name().and_then(|it| it.to_str()).unwrap_or_default();
        let number = name.strip_prefix("level-").and_then(|it| it.strip_suffix(".toml"));
        let level = number.and_then(|it| it.parse::<u8>().ok()).map(Level::try_from);
        let Some(Ok(level)) = level else {
            return Err(EngineError::Profile(format!(
                "`{}` is no level: a level is called `level-1.toml` to `level-6.toml`",
                file.display()
            )));
        };
        let mut layers = self.all_layers()?;
        layers.push(layer_of(file, vec![source]));
        profile::load(level, &layers).map_err(|error| EngineError::Profile(error.render(false)))
    }

    /// Everything that is wrong or odd in the files in force, or in these files on top of rung's
    /// own.
    pub fn lint(&self, files: &[PathBuf]) -> Result<Findings, EngineError> {
        if files.is_empty() {
            return Ok(profile::lint(&self.all_layers()?));
        }
        let mut layers = vec![profile::built_in_layer()];
        for file in files {
            layers.push(layer_of(file, vec![read(file)?]));
        }
        Ok(profile::lint(&layers))
    }
}

fn read(file: &Path) -> Result<Source, EngineError> {
    let text = fs::read_to_string(file)
        .map_err(|source| EngineError::Read { path: file.to_owned(), source })?;
    Ok(Source { name: file.display().to_string(), text })
}

fn layer_of(file: &Path, sources: Vec<Source>) -> Layer {
    let directory = file.parent().filter(|it| !it.as_os_str().is_empty());
    let name = directory.map_or_else(|| ".".to_owned(), |it| it.display().to_string());
    Layer { name, sources }
}

/// What `rung doctor` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    pub kernel: String,
    pub arch: String,
    pub uid: u32,
    /// 0 without Landlock.
    pub landlock_abi: u32,
    pub ceiling: Level,
    pub default_level: Level,
    /// What a sandbox is built from, each by having been tried just now.
    pub mechanisms: Vec<Tried>,
    pub levels: Vec<LevelHere>,
    /// The way out, by a real connection to a server of rung's own on this machine's loopback.
    pub way_out: Vec<PromiseHere>,
    /// Whether a level that runs without approvals lists a destination, and so needs it.
    pub way_out_is_needed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tried {
    pub mechanism: Mechanism,
    pub probe: Probe,
}

/// One level on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LevelHere {
    pub level: Level,
    pub title: &'static str,
    pub promises: Vec<PromiseHere>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PromiseHere {
    pub promise: String,
    pub state: PromiseState,
    /// Why it is not kept; absent while it is.
    pub cause: Option<String>,
    /// What would mend it; absent where mending the cause's own cause does.
    pub fix: Option<String>,
}

impl PromiseHere {
    /// A promise of the plan, with the cause as `doctor` says it.
    pub(super) fn of(it: plan::Promise, host: &HostFacts) -> Self {
        let promise = it.promise.to_owned();
        let (cause, fix) = match (host.probes.get(&it.mechanism), it.gap) {
            (Some(Probe::Fails { cause: Cause::Needs, detail }), Some(_)) => {
                (Some(detail.clone()), None)
            }
            (_, Some(gap)) => (Some(format!("{}: {}", gap.mechanism, gap.cause)), Some(gap.fix)),
            (_, None) => (None, None),
        };
        Self { promise, state: it.state, cause, fix }
    }

    pub(super) fn kept(promise: &str) -> Self {
        Self { promise: promise.to_owned(), state: PromiseState::Kept, cause: None, fix: None }
    }

    pub(super) fn not(state: PromiseState, promise: &str, cause: String, fix: &str) -> Self {
        let (cause, fix) = (Some(cause), Some(fix.to_owned()));
        Self { promise: promise.to_owned(), state, cause, fix }
    }
}

impl Diagnosis {
    /// Whether something stops the levels that rung is for without approvals: 1 to 3.
    pub fn is_well(&self) -> bool {
        let usual = self.levels.iter().filter(|it| !it.level.needs_grant());
        let way_out = self.way_out.iter().filter(|_| self.way_out_is_needed);
        usual.flat_map(|it| &it.promises).chain(way_out).all(|it| it.state != PromiseState::Missing)
    }

    /// Whether the mechanism fails for this reason.
    pub fn fails_by(&self, reason: Cause) -> bool {
        let failing =
            |it: &Tried| matches!(&it.probe, Probe::Fails { cause, .. } if *cause == reason);
        self.mechanisms.iter().any(failing)
    }
}

/// Looks at this machine again, and holds every level's promises against it.
pub fn diagnose(around: &Surroundings) -> Result<Diagnosis, EngineError> {
    let host = host::look_again()?;
    let settings = around.settings()?;
    let recorded = recorded(around);
    let level = |level: Level| LevelHere {
        level,
        title: level.title(),
        promises: match around.profile(level) {
            Ok(profile) => promises(&profile, &host, &recorded),
            Err(error) => {
                let fix = "run `rung profile lint`, and mend or remove the file";
                let promise = "the profile can be read";
                let cause = error.to_string();
                vec![PromiseHere::not(PromiseState::Missing, promise, cause, fix)]
            }
        },
    };
    let usual = Level::ALL.into_iter().filter(|it| !it.needs_grant());
    let usual: Vec<Profile> = usual.filter_map(|it| around.profile(it).ok()).collect();
    // The widest of them that can be read is the one that would have destinations.
    let way_out = usual.last().map(|it| prove::way_out(it, &host, around)).unwrap_or_default();
    Ok(Diagnosis {
        way_out,
        way_out_is_needed: usual.iter().any(|it| !it.network.destinations.is_empty()),
        levels: Level::ALL.map(level).into(),
        mechanisms: Mechanism::ALL
            .into_iter()
            .filter_map(|it| Some(Tried { mechanism: it, probe: host.probes.get(&it)?.clone() }))
            .collect(),
        arch: host.arch.to_string(),
        uid: host.uid,
        landlock_abi: host.landlock_abi,
        kernel: host.kernel,
        ceiling: settings.ceiling,
        default_level: settings.default_level,
    })
}

fn promises(profile: &Profile, host: &HostFacts, recorded: &PromiseHere) -> Vec<PromiseHere> {
    let promises = plan::promises(profile, host).into_iter();
    let mut promises: Vec<PromiseHere> = promises.map(|it| PromiseHere::of(it, host)).collect();
    promises.push(memory(host));
    promises.push(processes(host));
    promises.push(recorded.clone());
    promises
}

fn memory(host: &HostFacts) -> PromiseHere {
    let promise = "a run's memory stays within the profile's limit";
    match &host.cgroup {
        Some(_) => PromiseHere::kept(promise),
        None => PromiseHere::not(
            PromiseState::Degraded,
            promise,
            "no cgroup of its own keeps it, so rung looks a few times a second and a burst may \
             pass it briefly"
                .to_owned(),
            "leave room for a burst between `limits.memory` and what the machine has",
        ),
    }
}

fn processes(host: &HostFacts) -> PromiseHere {
    let promise = "a run's processes stay within the profile's limit";
    if !host.is_root() || host.cgroup.is_some() {
        return PromiseHere::kept(promise);
    }
    PromiseHere::not(
        PromiseState::Degraded,
        promise,
        "rung was started by root, whose processes the kernel does not count, so rung looks a few \
         times a second"
            .to_owned(),
        "start rung as an ordinary user",
    )
}

/// Whether the next record would find a place, without making one.
fn recorded(around: &Surroundings) -> PromiseHere {
    let promise = "every run is recorded";
    let directory = around.ledger_directory();
    let missing =
        |cause: String, fix: &str| PromiseHere::not(PromiseState::Missing, promise, cause, fix);
    // The closest directory that exists is where the next one would be made.
    let Some(place) = directory.ancestors().find(|it| fs::symlink_metadata(it).is_ok()) else {
        return missing("there is no file system".to_owned(), "set `XDG_STATE_HOME`");
    };
    if let Err(errno) = access(place, AccessFlags::W_OK | AccessFlags::X_OK) {
        let cause = format!("`{}` cannot be written: {}", place.display(), errno.desc());
        return missing(cause, "make it writable, or set `XDG_STATE_HOME` to a place that is");
    }
    if place != directory {
        return PromiseHere::kept(promise);
    }
    match ledger::tail(&directory, 1) {
        Ok(_) | Err(ledger::LedgerError::Absent { .. }) => PromiseHere::kept(promise),
        Err(error) => missing(error.to_string(), "run `rung audit verify`"),
    }
}
