//! The pipeline, once: decide, compile, record, launch, conclude.
//!
//! The only module that knows all the others. It holds no rule of its own: what is allowed is the
//! profile's to say, what that means for the kernel is the plan's, and every way out of here is an
//! [`Outcome`].

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::host::{self, HostError};
use crate::launch::{self, Launch, LaunchError};
use crate::ledger::{self, Ledger, LedgerError};
use crate::model::{
    Arg, Denial, HostFacts, Ids, Layer, Level, Outcome, ProgramFact, Request, Span, Status,
    Streams, Usage,
};
use crate::plan::{self, PlanError, RecordedPlan, SandboxPlan};
use crate::plan::syscalls::{self, Filter};
use crate::policy::{self, Permit, Question, Refusal, Verdict};
use crate::profile::{self, Durable, Ladder, Profile};

/// What surrounds the process, gathered once by `main`: nothing below asks for it again.
#[derive(Debug, Clone)]
pub struct Surroundings {
    pub environment: BTreeMap<OsString, OsString>,
    /// Where rung was started, if that still exists.
    pub cwd: Option<PathBuf>,
    pub home: PathBuf,
    /// Milliseconds since 1970.
    pub now_ms: u64,
    pub file_mask: u32,
    pub directories: Directories,
}

/// Rung's own places, none of which any sandbox sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    pub state: PathBuf,
    /// `/etc/rung`: the organisation's.
    pub system: PathBuf,
    /// `$XDG_CONFIG_HOME/rung`: the user's.
    pub user: PathBuf,
}

/// What a front asks for.
#[derive(Debug, Clone)]
pub struct Ask {
    pub argv: Vec<Arg>,
    pub level: Option<Level>,
    pub workspace: Option<PathBuf>,
    /// Where the command starts; the caller's own working directory otherwise.
    pub directory: Option<PathBuf>,
    pub wall_max: Option<Span>,
    pub ids: Ids,
    pub streams: Streams,
}

/// A request that has been decided, and compiled if it may run.
#[derive(Debug)]
pub enum Considered {
    Refused { request: Box<Request>, refusal: Refusal },
    Asked { request: Box<Request>, question: Question },
    Ready(Box<Ready>),
}

/// Everything that launching needs.
#[derive(Debug)]
pub struct Ready {
    pub request: Request,
    pub permit: Permit,
    pub profile: Profile,
    pub plan: SandboxPlan,
    pub filter: &'static Filter,
}

/// Why there is no decision, or no plan. Nothing ran.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("`{}`: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Profile(String),
    #[error("the working directory does not exist any more; start rung in one that does")]
    NoDirectory,
    #[error("`{}` is not in the workspace `{}`; give `--workspace`, or start inside it", cwd.display(), workspace.display())]
    OutsideWorkspace { cwd: PathBuf, workspace: PathBuf },
    #[error(transparent)]
    Host(#[from] HostError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("nothing runs that cannot be recorded: {0}")]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error(transparent)]
    Watch(#[from] launch::watched::WatchError),
}

/// The level of a run that names none.
pub const DEFAULT_LEVEL: Level = Level::LocalWrites;
/// The highest level where no configuration says otherwise.
pub const DEFAULT_CEILING: Level = Level::TestExecution;

impl Surroundings {
    /// The profile of one level, with the organisation's and the user's changes.
    pub fn profile(&self, level: Level) -> Result<Profile, EngineError> {
        let layers = self.layers()?;
        if layers.is_empty() {
            return profile::built_in(level).map_err(|error| EngineError::Profile(error.to_string()));
        }
        let mut all = vec![profile::built_in_layer()];
        all.extend(layers);
        profile::load(level, &all).map_err(|error| EngineError::Profile(error.render(false)))
    }

    /// The files of the organisation and of the user, where there are any.
    pub fn layers(&self) -> Result<Vec<profile::Layer>, EngineError> {
        let mut layers = Vec::new();
        for directory in [&self.directories.system, &self.directories.user] {
            let mut sources = sources(directory, "")?;
            sources.extend(self::sources(&directory.join("packs"), "packs/")?);
            if !sources.is_empty() {
                layers.push(profile::Layer { name: directory.display().to_string(), sources });
            }
        }
        Ok(layers)
    }
}

/// The profile files of a directory, by name; a directory that does not exist has none.
fn sources(directory: &Path, prefix: &str) -> Result<Vec<profile::Source>, EngineError> {
    let failed = |path: &Path, source| EngineError::Read { path: path.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(|error| failed(directory, error))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| failed(directory, error))?.path();
        let Some(name) = path.file_name().and_then(|it| it.to_str()) else { continue };
        let wanted = !prefix.is_empty() || name.starts_with("level-");
        if !wanted || !name.ends_with(".toml") {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(|error| failed(&path, error))?;
        found.push(profile::Source { name: path.display().to_string(), text });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Decides and compiles; touches nothing.
pub fn consider(ask: Ask, around: &Surroundings) -> Result<Considered, EngineError> {
    let level = ask.level.unwrap_or(DEFAULT_LEVEL);
    let mut profile = around.profile(level)?;
    if let Some(wall) = ask.wall_max {
        profile.limits.wall.max = profile.limits.wall.max.min(wall);
    }
    let mut host = host::facts(&around.directories.state.join("host.json"))?;
    let (cwd, workspace) = places(&ask, around)?;
    host.state_directories = state_directories(&around.directories);
    let wanted = plan::wanted_paths(&profile, &workspace, &around.home);
    host.paths = host::look(&wanted)?;
    let request = Request {
        program: program(&ask, &profile, &host, &workspace, &cwd, &around.home)?,
        argv: ask.argv,
        level,
        cwd,
        workspace,
        home: around.home.clone(),
        environment: environment(around),
        ids: ask.ids,
        streams: ask.streams,
    };
    let ladder = Ladder { ceiling: DEFAULT_CEILING, profiles: [(level, profile)].into() };
    let permit = match policy::decide(&request, &ladder) {
        Verdict::Deny(refusal) => {
            return Ok(Considered::Refused { request: Box::new(request), refusal });
        }
        Verdict::Ask(question) => {
            return Ok(Considered::Asked { request: Box::new(request), question });
        }
        Verdict::Allow(permit) => permit,
    };
    let Some(profile) = ladder.profiles.into_values().next() else {
        return Err(EngineError::Profile(format!("level {level} has no profile")));
    };
    let filter = syscalls::compiled(profile.syscalls.table, host.arch);
    let plan = plan::compile(&permit, &request, &profile, &host, filter.digest())?;
    Ok(Considered::Ready(Box::new(Ready { request, permit, profile, plan, filter })))
}

/// Where the command starts, and the tree it belongs to: the closest directory above that is a git
/// checkout, unless the caller names one.
fn places(ask: &Ask, around: &Surroundings) -> Result<(PathBuf, PathBuf), EngineError> {
    /// Directories looked at on the way up.
    const DEPTH_MAX: usize = 64;
    let canonical = |path: &Path| {
        fs::canonicalize(path)
            .map_err(|source| EngineError::Read { path: path.to_owned(), source })
    };
    let start = around.cwd.as_deref().ok_or(EngineError::NoDirectory)?;
    let cwd = match &ask.directory {
        Some(directory) => canonical(&start.join(directory))?,
        None => canonical(start)?,
    };
    if let Some(workspace) = &ask.workspace {
        let workspace = canonical(&start.join(workspace))?;
        // A caller that names only the workspace means the workspace.
        let cwd = match ask.directory {
            None if !cwd.starts_with(&workspace) => workspace.clone(),
            _ => cwd,
        };
        if !cwd.starts_with(&workspace) {
            return Err(EngineError::OutsideWorkspace { cwd, workspace });
        }
        return Ok((cwd, workspace));
    }
    let home = fs::canonicalize(&around.home).unwrap_or_else(|_| around.home.clone());
    let checkout = cwd
        .ancestors()
        .take(DEPTH_MAX)
        .take_while(|it| *it != home && *it != Path::new("/"))
        .find(|it| fs::symlink_metadata(it.join(".git")).is_ok());
    let workspace = checkout.unwrap_or(&cwd).to_owned();
    Ok((cwd, workspace))
}

fn state_directories(directories: &Directories) -> Vec<PathBuf> {
    [&directories.state, &directories.system, &directories.user]
        .into_iter()
        .map(|it| fs::canonicalize(it).unwrap_or_else(|_| it.clone()))
        .collect()
}

/// Names that are text pass to the profile's allowlist; others could not be on it.
fn environment(around: &Surroundings) -> BTreeMap<String, Arg> {
    around
        .environment
        .iter()
        .filter_map(|(name, value)| {
            Some((name.to_str()?.to_owned(), Arg::new(value.as_bytes()).ok()?))
        })
        .collect()
}
