//! The pipeline, once: decide, compile, record, launch, conclude.
//!
//! The only module that knows all the others. It holds no rule of its own: what is allowed is the
//! profile's to say, what that means for the kernel is the plan's, and every way out of here is an
//! [`Outcome`].

pub mod inspect;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::host::{self, HostError};
use crate::launch::watched::{self, Guarded, Left, Settled, Swept, Undone, WatchError};
use crate::launch::{self, Ended, Launch, LaunchError};
use crate::ledger::{
    Answer, Decision, DenialSeen, ExecEnd, ExecStart, Ledger, LedgerError, Quarantine, Record,
    Redactor,
};
use crate::model::{
    Arg, Denial, Digest, HostFacts, Ids, Layer, Level, Outcome, ProgramFact, Request, Span, Status,
    Streams, Usage, lies_in,
};
use crate::plan::syscalls::{self, Filter};
use crate::plan::{self, PlanError, Receipt, RecordedPlan, SandboxPlan, ViewEntry, Watched, What};
pub use crate::policy::words::{NeedsShell, split};
use crate::policy::{self, Permit, Question, Refusal, Verdict};
use crate::profile::{self, Durable, Ladder, Profile, Settings};
use crate::sys;

/// What surrounds the process, gathered once by `main`: nothing below asks for it again.
#[derive(Debug, Clone)]
pub struct Surroundings {
    pub environment: BTreeMap<OsString, OsString>,
    /// Where rung was started, if that still exists.
    pub cwd: Option<PathBuf>,
    pub home: PathBuf,
    pub now: Timestamp,
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
    Refused { request: Box<Request>, profile: Box<Profile>, refusal: Refusal },
    Asked { request: Box<Request>, profile: Box<Profile>, question: Question },
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

/// Why there is no decision, no plan or no record.
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
    Watch(#[from] WatchError),
    #[error("`{}` is a protected name that a run in `{}` changed, and it could not be put right: {why}; move it away or make it as it was, then try again", path.display(), workspace.display())]
    Unsettled { path: PathBuf, workspace: PathBuf, why: String },
}

/// The caller's umask; from here on, what rung writes is for its user alone.
pub fn take_file_mask() -> u32 {
    sys::process::file_mask(0o077)
}

/// A descriptor that the caller passed on, as a file of ours.
pub fn inherited(number: i32) -> io::Result<fs::File> {
    Ok(sys::descriptor::inherited(number)?.into())
}

impl Surroundings {
    /// The ceiling and the default level, as the organisation and the user set them.
    pub fn settings(&self) -> Result<Settings, EngineError> {
        let read = |directory: &Path| {
            let path = directory.join(profile::SETTINGS_FILE);
            match fs::read_to_string(&path) {
                Ok(text) => Ok(Some(profile::Source { name: path.display().to_string(), text })),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(EngineError::Read { path, source }),
            }
        };
        let system = read(&self.directories.system)?;
        let user = read(&self.directories.user)?;
        profile::settings(system.as_ref(), user.as_ref())
            .map_err(|error| EngineError::Profile(error.render(false)))
    }

    /// The whole profile of one level, with the organisation's and the user's changes.
    pub fn profile(&self, level: Level) -> Result<Profile, EngineError> {
        profile_for(level, &self.layers()?, None)
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

/// The profile of a level: where nobody has changed anything, only what concerns the named programs,
/// if any are named.
fn profile_for(
    level: Level,
    layers: &[profile::Layer],
    programs: Option<&[&str]>,
) -> Result<Profile, EngineError> {
    if layers.is_empty() {
        let decoded = match programs {
            Some(programs) => profile::built_in_for(level, programs),
            None => profile::built_in(level),
        };
        return decoded.map_err(|error| EngineError::Profile(error.to_string()));
    }
    let mut all = vec![profile::built_in_layer()];
    all.extend_from_slice(layers);
    profile::load(level, &all).map_err(|error| EngineError::Profile(error.render(false)))
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
        if !wanted || path.extension() != Some(OsStr::new("toml")) {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(|error| failed(&path, error))?;
        found.push(profile::Source { name: path.display().to_string(), text });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Decides and compiles. May probe the machine and remember what it found; runs nothing.
pub fn consider(ask: Ask, around: &Surroundings) -> Result<Considered, EngineError> {
    let Settings { ceiling, default_level } = around.settings()?;
    match consider_below(ceiling, ask.level.unwrap_or(default_level), ask, around)? {
        Considered::Ready(ready) if ready.request.level.needs_grant() => {
            let Ready { request, permit, profile, .. } = *ready;
            let refusal = policy::without_grant(&request, &permit);
            let (request, profile) = (Box::new(request), Box::new(profile));
            Ok(Considered::Refused { request, profile, refusal })
        }
        considered => Ok(considered),
    }
}

fn consider_below(
    ceiling: Level,
    level: Level,
    ask: Ask,
    around: &Surroundings,
) -> Result<Considered, EngineError> {
    tracing::Span::current().record("level", level.number());
    let layers = around.layers()?;
    let mut host = host::facts(&around.directories.state.join("host"), plan::lasting_paths)?;
    host.state_directories = state_directories(&around.directories);
    let (cwd, workspace) = places(&ask, around)?;
    let names = names(&ask.argv);
    let mut profile = profile_for(level, &layers, Some(&names))?;
    find_paths(&mut host, &profile, &workspace, around)?;
    let program = program(&ask.argv, &profile, &host, &around.home, (&cwd, &workspace))?;
    // A rule may be about the name of the object behind a link.
    if let Some(name) = canonical_name(&program)
        && !names.contains(&name)
    {
        let names: Vec<&str> = names.iter().copied().chain([name]).collect();
        profile = profile_for(level, &layers, Some(&names))?;
    }
    if let Some(wall) = ask.wall_max {
        profile.limits.wall.max = profile.limits.wall.max.min(wall);
    }
    let request = Request {
        program,
        argv: ask.argv,
        level,
        cwd,
        workspace,
        home: around.home.clone(),
        environment: environment(around),
        ids: ask.ids,
        streams: ask.streams,
    };
    let ladder = Ladder { ceiling, profiles: [(level, profile)].into() };
    if let Verdict::Allow(permit) = policy::decide(&request, &ladder) {
        let profile = only(ladder, level)?;
        let filter = syscalls::compiled(profile.syscalls.table, host.arch);
        let plan = plan::compile(&permit, &request, &profile, &host, filter.digest())?;
        return Ok(Considered::Ready(Box::new(Ready { request, permit, profile, plan, filter })));
    }
    explain_refusal(ceiling, request, &layers)
}

/// Decides once more with every level at hand, so that the refusal can say which one would do.
fn explain_refusal(
    ceiling: Level,
    request: Request,
    layers: &[profile::Layer],
) -> Result<Considered, EngineError> {
    let levels = Level::ALL.into_iter().filter(|it| *it <= ceiling.max(request.level));
    let profiles = levels
        .map(|level| Ok((level, profile_for(level, layers, None)?)))
        .collect::<Result<BTreeMap<_, _>, EngineError>>()?;
    let ladder = Ladder { ceiling, profiles };
    let verdict = policy::decide(&request, &ladder);
    let profile = Box::new(only(ladder, request.level)?);
    let request = Box::new(request);
    match verdict {
        Verdict::Deny(refusal) => Ok(Considered::Refused { request, profile, refusal }),
        Verdict::Ask(question) => Ok(Considered::Asked { request, profile, question }),
        // What the part of the profile refused, the whole of it may not allow.
        Verdict::Allow(_) => {
            Err(EngineError::Profile(format!("level {} contradicts itself", request.level)))
        }
    }
}

fn only(mut ladder: Ladder, level: Level) -> Result<Profile, EngineError> {
    let missing = || EngineError::Profile(format!("level {level} has no profile"));
    ladder.profiles.remove(&level).ok_or_else(missing)
}

/// The last component of every word: each may name a program that a rule is about.
fn names(argv: &[Arg]) -> Vec<&str> {
    argv.iter().filter_map(|word| Path::new(word.as_os_str()).file_name()?.to_str()).collect()
}

fn canonical_name(program: &ProgramFact) -> Option<&str> {
    match program {
        ProgramFact::Found { canonical, .. } => canonical.file_name()?.to_str(),
        ProgramFact::Missing { .. } => None,
    }
}

/// Looks up every path that the profile names.
fn find_paths(
    host: &mut HostFacts,
    profile: &Profile,
    workspace: &Path,
    around: &Surroundings,
) -> Result<(), EngineError> {
    let wanted = plan::wanted_paths(profile, workspace, &around.home, &host.state_directories);
    host.paths.extend(host::look(&wanted)?);
    let behind = plan::wanted_behind_links(profile, workspace, &host.paths);
    host.paths.extend(host::look(&behind)?);
    Ok(())
}

/// Where the command starts, and the tree it belongs to: the closest directory above that is a git
/// checkout, unless the caller names one.
fn places(ask: &Ask, around: &Surroundings) -> Result<(PathBuf, PathBuf), EngineError> {
    /// Directories looked at on the way up.
    const DEPTH_MAX: usize = 64;
    let canonical = |path: &Path| {
        fs::canonicalize(path).map_err(|source| EngineError::Read { path: path.to_owned(), source })
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

/// What the first word names, looked up the way the command's own `PATH` will be.
fn program(
    argv: &[Arg],
    profile: &Profile,
    host: &HostFacts,
    home: &Path,
    (cwd, workspace): (&Path, &Path),
) -> Result<ProgramFact, EngineError> {
    let Some(word) = argv.first() else {
        return Ok(ProgramFact::Missing { searched: Vec::new() });
    };
    let search_path = plan::search_path(home, profile, host)?;
    let filesystem = &profile.filesystem;
    let canonical = |path: &str| {
        let path = plan::expand(path, home)?;
        Some(host.path(&path)?.canonical.clone())
    };
    let system: Vec<PathBuf> = filesystem
        .read
        .iter()
        .filter(|grant| grant.programs)
        .filter_map(|grant| canonical(&grant.path))
        .collect();
    let toolchains: Vec<PathBuf> = filesystem
        .toolchains
        .iter()
        .flat_map(|it| &it.directories)
        .filter_map(|it| canonical(it))
        .collect();
    let places = host::Places {
        search_path: &search_path,
        system: &system,
        toolchains: &toolchains,
        workspace,
        cwd,
    };
    Ok(host::program(word, &places)?)
}

/// Runs one command and says what became of it. Every failure is an outcome.
pub fn run(mut ask: Ask, around: &Surroundings) -> Outcome {
    let fallback = ask.level.unwrap_or(Settings::default().default_level);
    if ask.ids.run.is_empty() {
        match new_run(around.now) {
            Ok(run) => ask.ids.run = run,
            Err(error) => return failed(ask.ids, fallback, error.to_string()),
        }
    }
    let ids = ask.ids.clone();
    let span = tracing::info_span!("run", id = ids.run, level = tracing::field::Empty);
    let _entered = span.enter();
    let mut notes = Vec::new();
    let mut outcome = match pipeline(ask, around, &mut notes) {
        Ok(outcome) => outcome,
        Err(error) => failed(ids, fallback, error.to_string()),
    };
    outcome.notes.splice(0..0, notes);
    outcome
}

fn failed(ids: Ids, level: Level, reason: String) -> Outcome {
    Outcome {
        ids,
        level,
        status: Status::Failed { reason },
        denials: Vec::new(),
        gaps: Vec::new(),
        notes: Vec::new(),
        usage: Usage::default(),
    }
}

fn pipeline(
    ask: Ask,
    around: &Surroundings,
    notes: &mut Vec<String>,
) -> Result<Outcome, EngineError> {
    let mut ledger = open_ledger(around)?;
    let swept = clean_up(&mut ledger, around, notes)?;
    match consider(ask, around)? {
        Considered::Ready(ready) => {
            nothing_left_in(&ready.request.workspace, &swept)?;
            launch(*ready, &mut ledger, around)
        }
        Considered::Refused { request, profile, refusal } => {
            let status = if refusal.not_found { Status::NotFound } else { Status::Refused };
            refuse(*request, &profile, refusal.denial, Answer::Deny, status, &mut ledger, around)
        }
        Considered::Asked { request, profile, question } => {
            let status = Status::Waiting;
            refuse(*request, &profile, question.denial, Answer::Ask, status, &mut ledger, around)
        }
    }
}

fn open_ledger(around: &Surroundings) -> Result<Ledger, EngineError> {
    let state = &around.directories.state;
    let directory = state.join("ledger");
    match Ledger::open(&directory, around.now) {
        Err(_) if !state.exists() => {
            // The first run of this user.
            make_state(state)?;
            Ok(Ledger::open(&directory, around.now)?)
        }
        result => Ok(result?),
    }
}

fn make_state(state: &Path) -> Result<(), EngineError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .map_err(|source| EngineError::Read { path: state.to_owned(), source })
}

/// Does what a killed supervisor left undone, records it, and says so in `notes`.
fn clean_up(
    ledger: &mut Ledger,
    around: &Surroundings,
    notes: &mut Vec<String>,
) -> Result<Vec<Swept>, EngineError> {
    let all = watched::sweep(&around.directories.state, around.now)?;
    for Swept { run, settled, .. } in &all {
        if !settled.undone.is_empty() {
            ledger.append(around.now, &quarantined(run, &settled.undone)?)?;
        }
        notes.extend(settled.undone.iter().map(|it| {
            format!(
                "`{}` appeared while a run that was killed was watching it; moved to `{}`",
                it.path.display(),
                it.quarantine.display()
            )
        }));
        notes.extend(settled.changed.iter().map(|it| {
            let path = it.path.display();
            format!("`{path}` is protected, and changed since a run that was killed: {}", it.why)
        }));
    }
    Ok(all)
}

/// Nothing runs where a protected name is known not to be as it should.
fn nothing_left_in(workspace: &Path, swept: &[Swept]) -> Result<(), EngineError> {
    let near = |it: &&Swept| lies_in(workspace, &it.workspace) || lies_in(&it.workspace, workspace);
    let mut left = swept
        .iter()
        .filter(near)
        .flat_map(|it| it.settled.left.iter().map(|left| (it.workspace.clone(), left.clone())));
    match left.next() {
        None => Ok(()),
        Some((workspace, Left { path, why })) => {
            Err(EngineError::Unsettled { path, workspace, why })
        }
    }
}

fn quarantined(run: &str, undone: &[Undone]) -> Result<Vec<Record>, EngineError> {
    undone
        .iter()
        .map(|it| {
            Ok(Record::Quarantine(Quarantine {
                run: run.to_owned(),
                path: word(&it.path)?,
                moved_to: Some(word(&it.quarantine)?),
                reason: "the name is protected and was not there before the run".to_owned(),
            }))
        })
        .collect()
}

fn word(path: &Path) -> Result<Arg, EngineError> {
    Ok(Arg::new(path.as_os_str().as_bytes()).map_err(|_| LaunchError::NulByte)?)
}

/// The facts that every decision record has, whatever was decided.
fn decision(request: &Request, profile: &Profile) -> Result<Decision, EngineError> {
    Ok(Decision {
        ids: request.ids.clone(),
        decision: Answer::Deny,
        rule: String::new(),
        reason: String::new(),
        origin: None,
        level: request.level,
        profile: profile.name.clone(),
        profile_digest: profile.digest,
        plan_digest: None,
        argv: request.argv.clone(),
        cwd: word(&request.cwd)?,
        workspace: word(&request.workspace)?,
        gaps: Vec::new(),
    })
}

fn refuse(
    request: Request,
    profile: &Profile,
    mut denial: Denial,
    answer: Answer,
    status: Status,
    ledger: &mut Ledger,
    around: &Surroundings,
) -> Result<Outcome, EngineError> {
    redact(&mut denial);
    let record = Decision {
        decision: answer,
        rule: denial.rule.clone(),
        reason: denial.reason.clone(),
        origin: denial.origin.clone(),
        ..decision(&request, profile)?
    };
    let seen = DenialSeen { run: request.ids.run.clone(), denial: denial.clone() };
    ledger.append(
        around.now,
        &[Record::Decision(Box::new(record)), Record::Denial(Box::new(seen))],
    )?;
    ledger.sync()?;
    Ok(Outcome {
        level: request.level,
        ids: request.ids,
        status,
        denials: vec![denial],
        gaps: Vec::new(),
        notes: Vec::new(),
        usage: Usage::default(),
    })
}

/// Takes what looks like a secret out of what is shown, as the ledger does with what it records.
fn redact(denial: &mut Denial) {
    let redactor = Redactor::default();
    for text in [&mut denial.object, &mut denial.reason, &mut denial.next] {
        redactor.text(text);
    }
    if let Some(text) = &mut denial.allow_with {
        redactor.text(text);
    }
}

/// Records, launches and concludes.
fn launch(
    ready: Ready,
    ledger: &mut Ledger,
    around: &Surroundings,
) -> Result<Outcome, EngineError> {
    let Ready { request, permit, profile, plan, filter } = ready;
    let run = request.ids.run.clone();
    let digest = plan.digest()?;
    let gaps: Vec<String> = plan.gaps.iter().map(ToString::to_string).collect();
    let record = Decision {
        decision: Answer::Allow,
        rule: permit.rule().to_owned(),
        reason: permit.origin().because.to_string(),
        origin: Some(permit.origin().clone()),
        plan_digest: Some(digest),
        gaps: gaps.clone(),
        ..decision(&request, &profile)?
    };
    let receipt = ledger.append(around.now, &[Record::Decision(Box::new(record))])?;
    let receipt = Receipt { sequence: receipt.seq(), fingerprint: receipt.fp() };
    if profile.audit.durable == Durable::BeforeExec {
        ledger.sync()?;
    }
    let start = start_record(&run, &plan, digest)?;
    let Request { ids, level, workspace, .. } = request;
    let watched = plan.watched.clone();
    let guarded = guarded(&plan);
    drop((permit, profile));
    let mut watch = None;
    let mut arm = || -> Result<(), WatchError> {
        watch = watched::arm(&around.directories.state, &run, &workspace, &watched, &guarded)?;
        Ok(())
    };
    let ended = launch::run(Launch {
        recorded: RecordedPlan::new(plan, receipt),
        filter: filter.instructions(),
        file_mask: around.file_mask,
        before_start: &mut || arm().map_err(|error| error.to_string()),
        overlapped: &mut || ledger.sync().map_err(|error| error.to_string()),
    });
    let Settled { undone, changed, left } = watch.map(watched::Watch::settle).unwrap_or_default();
    let Ended { status, started, usage, mut denials, notes } =
        ended.unwrap_or_else(|error| Ended {
            status: Status::Failed { reason: error.to_string() },
            started: false,
            usage: Usage::default(),
            denials: Vec::new(),
            notes: Vec::new(),
        });
    denials.extend(undone.iter().map(|it| protected(level, &watched, it)));
    denials.extend(changed.iter().chain(&left).map(|it| not_as_before(level, &watched, it)));
    let mut records = quarantined(&run, &undone)?;
    if started {
        records.insert(0, start);
    }
    denials.iter_mut().for_each(redact);
    let status = match conclude(records, &run, &status, usage, &denials, ledger, around) {
        Ok(()) => status,
        Err(error) => {
            let reason = format!("the command ran, but its end could not be recorded: {error}");
            Status::Failed { reason }
        }
    };
    Ok(Outcome { ids, level, status, denials, gaps, notes, usage })
}

fn start_record(run: &str, plan: &SandboxPlan, digest: Digest) -> Result<Record, EngineError> {
    Ok(Record::ExecStart(ExecStart {
        run: run.to_owned(),
        program: word(&plan.command.program)?,
        plan_digest: digest,
        pid: None,
        environment: BTreeMap::new(),
    }))
}

/// The protected objects that the run finds in place.
fn guarded(plan: &SandboxPlan) -> Vec<Guarded> {
    let one = |entry: &ViewEntry| match entry.what {
        What::Protected { device, inode, .. } => {
            Some(Guarded { path: entry.path.clone(), device, inode })
        }
        _ => None,
    };
    plan.view.iter().filter_map(one).collect()
}

fn protected(level: Level, watched: &[Watched], undone: &Undone) -> Denial {
    let moved = undone.quarantine.display();
    let was = "the name is protected and what is there was not there before";
    Denial {
        reason: format!("{was}, so it was moved to {moved}"),
        ..not_as_before(level, watched, &Left { path: undone.path.clone(), why: String::new() })
    }
}

fn not_as_before(level: Level, watched: &[Watched], left: &Left) -> Denial {
    let watched = watched.iter().find(|it| it.path.starts_with(&left.path));
    Denial {
        layer: Layer::File,
        rule: "filesystem.protected".to_owned(),
        level,
        object: left.path.display().to_string(),
        reason: format!(
            "the name is protected, is not as it was before the run, and was not put right: {}",
            left.why
        ),
        origin: watched.map(|it| it.because.clone()),
        allow_with: None,
        next: "leave protected names alone; a person can take it from there".to_owned(),
        count: 1,
    }
}

fn conclude(
    mut records: Vec<Record>,
    run: &str,
    status: &Status,
    usage: Usage,
    denials: &[Denial],
    ledger: &mut Ledger,
    around: &Surroundings,
) -> Result<(), EngineError> {
    records.extend(denials.iter().map(|denial| {
        let seen = DenialSeen { run: run.to_owned(), denial: denial.clone() };
        Record::Denial(Box::new(seen))
    }));
    records.push(Record::ExecEnd(ExecEnd {
        run: run.to_owned(),
        status: status.clone(),
        exit_code: status.exit_code(),
        usage,
        denials: u32::try_from(denials.len()).unwrap_or(u32::MAX),
    }));
    let elapsed = jiff::SignedDuration::from_millis(i64::try_from(usage.wall_ms).unwrap_or(0));
    let now = around.now.checked_add(elapsed).unwrap_or(around.now);
    ledger.append(now, &records)?;
    if ledger.checkpoint_due(now)? {
        ledger.checkpoint(now)?;
    }
    Ok(())
}

/// A new run id: 48 bits of milliseconds, then 80 random bits, in Crockford's base 32, so that
/// ids sort by time.
fn new_run(now: Timestamp) -> Result<String, EngineError> {
    const LETTERS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let random: [u8; 10] = host::random()?;
    let time = u64::try_from(now.as_millisecond()).unwrap_or(0);
    let mut bits = u128::from(time) << 80;
    for (index, byte) in random.iter().enumerate() {
        bits |= u128::from(*byte) << (8 * index);
    }
    let letter = |place: u32| {
        let index = usize::try_from((bits >> (5 * place)) & 31).unwrap_or(0);
        char::from(LETTERS.get(index).copied().unwrap_or(b'0'))
    };
    Ok((0..26).rev().map(letter).collect())
}
