//! The profile: what a security person writes about one level, read strictly and completely.
//!
//! A profile is one TOML file per level. Loading turns files into a [`Profile`]: `extends` is
//! followed, packs are merged, every entry knows the [`Origin`] it came from, unknown keys are
//! errors, and all errors of all files are reported at once. After loading nothing is looked up
//! or defaulted: an absent list is an empty list and allows nothing.
//!
//! Pure: sources arrive as text with a name. Who may override whom is decided here too
//! (lower layers only tighten), reading the files is not.

mod assemble;
#[cfg(rung_built)]
mod built_in;
mod commands;
mod credential;
mod describe;
mod encoded;
mod index;
mod library;
mod read;
mod resolve;
mod rule;
mod schema;
mod settings;
mod show;

mod source;
mod text;
mod words;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use credential::{Credential, Decoy, Source as SecretSource};
pub use index::RuleIndex;
pub use rule::{
    Argument, Class, Decision, Example, OptionSpec, Power, Program, Rule, Style, ValueType,
    WORKSPACE_CODE, When,
};

#[cfg(rung_built)]
pub use built_in::{built_in, built_in_for, built_in_layer};
#[cfg(not(rung_built))]
pub(crate) use encoded::encode;
#[cfg(rung_built)]
pub use encoded::{EncodedError, keep, kept, key};
pub use schema::{key_paths, schema};
pub use settings::{SETTINGS_FILE, Settings, settings};
pub use show::{Blast, Change, Line, blast, diff, show, show_authored};

pub use source::{Findings, Layer, Problem, Severity, Source};

use crate::model::{Bytes, Count, Digest, Level, Origin, Ports, Span};

/// Loads the profile of one level from all layers, the highest authority first.
///
/// Every mistake in every file is reported, whichever level it is about.
pub fn load(level: Level, layers: &[Layer]) -> Result<Profile, Findings> {
    let mut report = source::Report::new();
    let library = library::Library::open(layers, &mut report);
    let profile = load_from(level, &library, &mut report);
    finish(report, profile, level)
}

/// Loads all levels that the first layer has.
pub fn load_all(layers: &[Layer]) -> Result<BTreeMap<Level, Profile>, Findings> {
    let mut report = source::Report::new();
    let library = library::Library::open(layers, &mut report);
    let mut profiles = BTreeMap::new();
    for level in library.levels.keys() {
        if let Some(profile) = load_from(*level, &library, &mut report) {
            profiles.insert(*level, profile);
        }
    }
    match report.into_error() {
        Some(error) => Err(error),
        None => Ok(profiles),
    }
}

/// Everything that can be said about the files: what is wrong, and what is only odd.
pub fn lint(layers: &[Layer]) -> Findings {
    let mut report = source::Report::new();
    let library = library::Library::open(layers, &mut report);
    for level in library.levels.keys() {
        load_from(*level, &library, &mut report);
    }
    report.into_findings()
}

fn load_from(
    level: Level,
    library: &library::Library,
    report: &mut source::Report,
) -> Option<Profile> {
    let force = resolve::resolve(level, library, report)?;
    assemble::assemble(&force, library, report)
}

fn finish(
    mut report: source::Report,
    profile: Option<Profile>,
    level: Level,
) -> Result<Profile, Findings> {
    if profile.is_none() && !report.has_errors() {
        let place = source::Place { file: 0, span: 0..0 };
        report.error(&place, format!("there is no profile for level {level}"));
    }
    // Nothing is returned that an error was reported about.
    match (report.into_error(), profile) {
        (None, Some(profile)) => Ok(profile),
        (Some(error), _) => Err(error),
        (None, None) => Err(source::Report::new().into_findings()),
    }
}

/// One level's profile, resolved: nothing inherited is left out, nothing is defaulted later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    pub name: String,
    pub level: Level,
    pub summary: String,
    /// Who answers for it; required from level 4.
    pub owner: Option<String>,
    /// Over the text of every file it was made from, so that a changed comment is a new profile.
    pub digest: Digest,
    /// The files it was made from, lowest level first.
    pub sources: Vec<String>,
    pub on_gap: OnGap,
    pub filesystem: Filesystem,
    pub exec: Exec,
    pub environment: Environment,
    pub network: Network,
    /// What is lent to a run without being shown to it.
    pub credentials: Vec<Credential>,
    pub syscalls: Syscalls,
    pub limits: Limits,
    pub output: Output,
    pub audit: Audit,
}

/// The profiles in force, and how high a run may climb.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ladder {
    /// The highest level that may be used at all; 3 unless configuration outside the workspace
    /// says otherwise.
    pub ceiling: Level,
    /// Only the levels that somebody needs; a run loads one.
    pub profiles: BTreeMap<Level, Profile>,
}

/// What to do when this host cannot enforce something the plan names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnGap {
    Refuse,
    /// Run, and name the gap in every record.
    Allow,
}

/// What of the file system is in the view, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filesystem {
    pub workspace: Workspace,
    /// Read-only trees and files. A path that does not exist is skipped and shown by `explain`.
    pub read: Vec<Grant>,
    /// Writable places beyond the workspace.
    pub write: Vec<Grant>,
    /// Masked although a grant above contains them.
    pub hidden: Vec<Entry>,
    /// Inside the workspace, relative to it: readable, never writable. A directory means all of it.
    pub protected: Vec<Entry>,
    /// Directories of the toolchains the level names, read-only, without their credential files.
    pub toolchains: Vec<Toolchain>,
    /// Caches of the user's tools, beside those of the toolchains.
    pub caches: Vec<Entry>,
    pub tmp: Tmp,
}

impl Filesystem {
    /// Every cache that a run profits from, as it is spelled.
    pub fn all_caches(&self) -> impl Iterator<Item = (&String, &Origin)> {
        let own = self.caches.iter().map(|it| (&it.name, &it.origin));
        let known = self.toolchains.iter();
        known.flat_map(|it| it.caches.iter().map(|path| (path, &it.origin))).chain(own)
    }
}

/// How the workspace itself is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    pub mode: WorkspaceMode,
    pub origin: Origin,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkspaceMode {
    ReadOnly,
    /// Writes land in the real tree; protected names stay as they are.
    Direct,
    /// Only inside a session.
    Session,
}

/// A path with what it opens. `~` stands for the home of the user who runs rung.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    pub path: String,
    /// Programs below it may be started.
    pub programs: bool,
    pub origin: Origin,
}

/// A name in a list, with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    pub origin: Origin,
}

impl Entry {
    /// The entry as a protected name relative to the workspace. `infra/**` means the directory
    /// `infra`; any other pattern is no name.
    pub fn protected_name(&self) -> Option<&Path> {
        let text = self.name.strip_suffix("/**").unwrap_or(&self.name);
        let text = text.strip_suffix('/').unwrap_or(text);
        let ordinary = |name: &str| !matches!(name, "" | "." | "..");
        let plain = text.split('/').all(ordinary)
            && !text.bytes().any(|it| matches!(it, b'*' | b'?' | b'[' | b'\0'));
        plain.then(|| Path::new(text))
    }
}

/// What a pack knows about one toolchain's places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    pub name: String,
    /// Read-only trees; `~` as in [`Grant`].
    pub directories: Vec<String>,
    /// Directories put in front of the command's `PATH`, each below one of `directories`.
    pub search_path: Vec<String>,
    /// Credential files below `directories`, masked.
    pub credentials: Vec<String>,
    /// What it keeps for all projects: a run reads it, and writes into a layer on top.
    pub caches: Vec<String>,
    /// Variables it needs, e.g. `CARGO_NET_OFFLINE`.
    pub environment: BTreeMap<String, String>,
    pub origin: Origin,
}

/// The private `/tmp`, `/dev/shm` and home directory of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmp {
    pub size: Bytes,
    pub files: Count,
    pub run_programs: bool,
    pub origin: Origin,
}

/// Which programs may be started, and with which arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Programs that lie in the workspace may run; their power is the sandbox's, nothing more.
    pub workspace_programs: Option<Origin>,
    /// What packs know of each program, by name.
    pub programs: BTreeMap<String, Program>,
    pub rules: Vec<Rule>,
    /// Where the rules about a program stand, once somebody has asked for it.
    #[serde(skip)]
    pub index: Option<RuleIndex>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Names that pass from the caller.
    pub pass: Vec<Entry>,
    /// Values that rung sets.
    pub set: BTreeMap<String, Setting>,
    /// Guarded variables that code of the workspace may set for what it starts. A name that ends
    /// in `*` is a prefix.
    pub workspace_sets: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    pub value: String,
    pub origin: Origin,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The sandbox's own `lo`, shared with nobody.
    pub loopback: Option<Origin>,
    /// Where the gateway may connect to. Empty: nothing.
    pub destinations: Vec<Destination>,
    pub upload_max: Option<Limit<Bytes>>,
    pub download_max: Option<Limit<Bytes>>,
    pub connections_max: Option<Limit<Count>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// An exact host name, `*.` and a domain, or an address range.
    pub host: String,
    pub ports: Vec<Ports>,
    /// Ranges beside the public internet where a name may lie.
    pub addresses: Vec<String>,
    /// Of requests; empty with `paths`: the stream is not looked into.
    pub methods: Vec<String>,
    /// Of requests.
    pub paths: Vec<String>,
    /// Bytes per second.
    pub rate: Option<Bytes>,
    pub upload: Option<Bytes>,
    pub origin: Origin,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Syscalls {
    pub table: Table,
    pub origin: Origin,
}

/// Which column of the system call table the filter is built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Table {
    /// No network families but `AF_UNIX`.
    Strict,
    Standard,
    /// Tracing one's own children is allowed too.
    Debug,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub wall: Limit<Span>,
    /// Between asking the command to end and killing it.
    pub grace: Limit<Span>,
    pub processes: Limit<Count>,
    pub open_files: Limit<Count>,
    /// Of all processes of the run together.
    pub memory: Limit<Bytes>,
    /// Of one file.
    pub file: Limit<Bytes>,
    /// Of all that the runs of a session leave in its layer.
    pub session: Limit<Bytes>,
    pub session_files: Limit<Count>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit<T> {
    pub max: T,
    pub origin: Origin,
}

/// What happens with what the command prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Absent: the command writes to the caller's own descriptors, and rung sees nothing.
    pub max: Option<Limit<Bytes>>,
    pub when_full: WhenFull,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// Pass on the first and the last half of the limit and say how much is missing between.
    KeepHeadAndTail,
    /// Stop reading, so that the writer blocks, and end the run as a limit.
    Stop,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    pub durable: Durable,
    pub record_output: bool,
}

/// When the decision record must be on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durable {
    /// Synchronised while the command runs, before its result is reported.
    Overlapped,
    /// Synchronised before the command starts.
    BeforeExec,
}
