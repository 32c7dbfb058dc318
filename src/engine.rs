//! The pipeline, once: decide, compile, record, launch, conclude.
//!
//! The only module that knows all the others. It holds no rule of its own: what is allowed is the
//! profile's to say, what that means for the kernel is the plan's, and every way out of here is an
//! [`Outcome`].
//!
//! | file | does |
//! |---|---|
//! | `profiles` | finds the profiles in force |
//! | `consider` | decides and compiles; runs nothing |
//! | `scripts` | reads the script that a command names |
//! | `inside` | what a run of a session finds |
//! | `repository` | what a run finds of a repository outside its workspace, and what is kept |
//! | `session` | starts, shows, applies and discards sessions |
//! | `quota` | what the runs of a session may leave in its layer |
//! | `state` | opens the ledger, and puts right what a killed supervisor left |
//! | `launch` | records, launches, concludes |
//! | `gate` | judges what a run starts, and records it |
//! | `fetched` | remembers what came from other machines |
//! | `lend` | fetches the secrets of credentials, for the gateway alone |
//! | `way_out` | starts the gateway of a run, and asks it what happened |
//! | `record` | says what is recorded |
//! | `inspect` | answers questions that run nothing |
//! | `scenarios` | holds tables of expected verdicts against the profiles |
//! | `replay` | takes recorded decisions again under a changed profile |
//! | `why` | decides and then tries, and compares the two |
//! | `learn` | lets through what only lacks a rule, and proposes the rule |

mod caches;
mod consider;
mod fetched;
mod gate;
mod inside;
pub mod inspect;
mod kept;
mod launch;
pub mod learn;
mod lend;
mod profiles;
mod prove;
mod quota;
mod record;
pub mod replay;
mod repository;
pub mod scenarios;
mod scripts;
pub mod session;
mod state;
mod trial;
mod way_out;
pub mod why;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;

use jiff::Timestamp;
use nix::sys::signal::{SigSet, Signal};

pub use self::consider::consider;
use self::inside::Inside;
use self::learn::Lessons;
use self::record::refuse;
pub use crate::egress::STAGE as GATEWAY;
pub use crate::egress::proof::{CLIENT as PROOF_CLIENT, SERVER as PROOF_SERVER};
use crate::egress::{self, EgressError};
use crate::host::{self, HostError};
use crate::launch::LaunchError;
use crate::launch::watched::WatchError;
use crate::ledger::{Answer, LedgerError};
use crate::model::{Arg, Ids, Level, Outcome, Request, Span, Status, Streams, Usage};
use crate::plan::syscalls::Filter;
use crate::plan::{Gate, PlanError, SandboxPlan};
pub use crate::policy::words::{NeedsShell, split};
use crate::policy::{Permit, Question, Refusal};
use crate::profile::{Profile, Settings};
use crate::session::{Session, SessionError};
use crate::sys;

/// What surrounds the process, gathered once by `main`: nothing below asks for it again.
#[derive(Debug, Clone)]
pub struct Surroundings {
    pub environment: BTreeMap<OsString, OsString>,
    /// Where rung was started, if that still exists.
    pub cwd: Option<PathBuf>,
    pub home: PathBuf,
    /// Where the user database says that the user lives.
    pub user_home: Option<PathBuf>,
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
    pub session: Option<SessionChoice>,
    /// What a script of the workspace lacks rules for is seen when it runs.
    pub learning: bool,
}

/// Where a run's writes go, if not into the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionChoice {
    /// Into this session, which has a workspace of its own.
    Named(String),
    /// Nowhere: they are listed and dropped when the run has ended.
    Discard,
    /// Into this new session, whose tree is filled from its branch.
    Fill(String),
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
    /// What the run may not add to: the repositories in the workspace's own; nothing where nobody
    /// minds.
    pub repositories: Option<Vec<PathBuf>>,
    /// Layers of the session for caches, which the run writes into.
    pub caches: Vec<Session>,
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
    Egress(#[from] EgressError),
    #[error("the credential `{name}` cannot be lent, so nothing runs: {why}")]
    Credential { name: String, why: String },
    #[error(transparent)]
    Watch(#[from] WatchError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("`rung learn` is for the person outside: inside a run nobody learns how to widen it")]
    LearnInside,
    #[error(
        "this host has no exec gate, so nobody sees what the command starts, and nothing can be learned; `rung doctor` says what is missing"
    )]
    NoGate,
    #[error("`{}` exists and is not the profile file that would change as it was read; name another file", path.display())]
    InTheWay { path: PathBuf },
    #[error("the session `{name}` works on `{}`, so `--workspace` cannot name another tree", base.display())]
    OtherWorkspace { name: String, base: PathBuf },
    #[error("`{}` is a protected name that a run in `{}` changed, and it could not be put right: {why}; move it away or make it as it was, then try again", path.display(), workspace.display())]
    Unsettled { path: PathBuf, workspace: PathBuf, why: String },
    #[error(
        "the files of the tree are applied, and `rung session rollback {id}` takes that back; what belongs to its repository is not: {why}"
    )]
    HalfApplied { id: String, why: Box<EngineError> },
    /// Nor where a run that nobody supervises any more may still make something of them.
    #[error("the supervisor of run {run} in `{}` was killed, and processes of that run are still there; wait until they have ended, or kill them, then try again", workspace.display())]
    GoesOn { run: String, workspace: PathBuf },
}

/// The caller's umask; from here on, what rung writes is for its user alone.
pub fn take_file_mask() -> u32 {
    sys::process::file_mask(0o077)
}

/// A descriptor that the caller passed on, as a file of ours.
pub fn inherited(number: i32) -> io::Result<fs::File> {
    Ok(sys::descriptor::inherited(number)?.into())
}

/// Makes the caller's limit on the size of files an error of the write, which can be told.
fn outlive_limits() {
    if let Err(errno) = SigSet::from(Signal::SIGXFSZ).thread_block() {
        tracing::debug!(%errno, "SIGXFSZ is not blocked");
    }
}

/// Becomes the gateway of a run; `main` comes here when the first word says so.
pub fn gateway() -> u8 {
    egress::stage()
}

/// Becomes the server by which `rung doctor` proves the way out.
pub fn proof_server() -> u8 {
    egress::proof::server()
}

/// Becomes the client of that server, inside a run.
pub fn proof_client(words: impl Iterator<Item = OsString>) -> u8 {
    egress::proof::client(words)
}

/// Runs one command and says what became of it. Every failure is an outcome.
pub fn run(ask: Ask, around: &Surroundings) -> Outcome {
    run_learning(ask, around, None)
}

/// The same, and where there are lessons to be learned, what only lacks a rule is let through.
fn run_learning(mut ask: Ask, around: &Surroundings, lessons: Option<&mut Lessons>) -> Outcome {
    outlive_limits();
    let fallback = ask.level.unwrap_or(Settings::default().default_level);
    if ask.ids.run.is_empty() {
        match new_run(around.now) {
            Ok(run) => ask.ids.run = run,
            Err(error) => return failed(ask.ids, fallback, error.to_string()),
        }
    }
    if let Some(SessionChoice::Named(name) | SessionChoice::Fill(name)) = &ask.session {
        ask.ids.session = Some(name.clone());
    }
    let ids = ask.ids.clone();
    let span = tracing::info_span!("run", id = ids.run, level = tracing::field::Empty);
    let _entered = span.enter();
    let mut notes = Vec::new();
    let mut outcome = match pipeline(ask, around, lessons, &mut notes) {
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
        changes: Vec::new(),
        usage: Usage::default(),
        layer: None,
        network: Vec::new(),
    }
}

fn pipeline(
    ask: Ask,
    around: &Surroundings,
    lessons: Option<&mut Lessons>,
    notes: &mut Vec<String>,
) -> Result<Outcome, EngineError> {
    let mut ledger = state::open_ledger(around)?;
    let swept = state::clean_up(&mut ledger, around, notes)?;
    let inside = enter(&ask, around)?;
    let workspace = consider::workspace(&ask, inside.as_ref(), around)?;
    let run = &ask.ids.run;
    let beside = repository::enter(&workspace, run, inside.as_ref(), &mut ledger, around, notes)?;
    let besides = (inside.as_ref(), beside.as_ref());
    let mut outcome = match consider::consider_inside(ask, besides, around)? {
        Considered::Ready(mut ready) => {
            let caches = std::mem::take(&mut ready.caches);
            let root = inside.as_ref().map(Inside::watched_root);
            let root = root.as_deref().unwrap_or(&ready.request.workspace);
            state::nothing_left_in(root, &swept)?;
            if lessons.is_some() && ready.plan.exec.gate == Gate::Without {
                return Err(EngineError::NoGate);
            }
            let mut quotas = quota::Quotas::of(&ready.plan, besides, &caches)?;
            let outcome = match quotas.refused() {
                None => launch::launch(*ready, besides, &mut quotas, lessons, &mut ledger, around),
                Some(denial) => {
                    let (profile, status) = (ready.profile, Status::Refused);
                    quotas.finish()?;
                    let answer = Answer::Deny;
                    refuse(ready.request, &profile, denial, answer, status, &mut ledger, around)
                }
            };
            if let Some(inside) = &inside {
                quotas.full_caches().try_for_each(|it| caches::drop_layer(it, inside))?;
            }
            outcome
        }
        Considered::Refused { request, profile, refusal } => {
            let status = if refusal.not_found { Status::NotFound } else { Status::Refused };
            refuse(*request, &profile, refusal.denial, Answer::Deny, status, &mut ledger, around)
        }
        Considered::Asked { request, profile, question } => {
            let status = Status::Waiting;
            refuse(*request, &profile, question.denial, Answer::Ask, status, &mut ledger, around)
        }
    }?;
    if let Some(beside) = beside {
        beside.leave(around)?;
    }
    if let Some(inside) = inside.filter(|it| it.disposable) {
        outcome.changes = session::drop_disposable(inside, outcome.level, around)?;
    }
    Ok(outcome)
}

/// The session of a run, with its lock.
fn enter(ask: &Ask, around: &Surroundings) -> Result<Option<Inside>, EngineError> {
    let Some(choice) = &ask.session else { return Ok(None) };
    if let SessionChoice::Named(_) | SessionChoice::Fill(_) = choice {
        let inside = inside::enter(ask, &PathBuf::new(), around, Ok(()))?;
        if let (Some(given), Some(inside)) = (&ask.workspace, &inside) {
            let base = inside.workspace().to_owned();
            let start = around.cwd.as_deref().ok_or(EngineError::NoDirectory)?;
            if fs::canonicalize(start.join(given)).ok().as_ref() != Some(&base) {
                let name = inside.session.manifest.name.clone();
                return Err(EngineError::OtherWorkspace { name, base });
            }
        }
        return Ok(inside);
    }
    let host = session::host(around)?;
    let (_, workspace) = consider::places(ask, around)?;
    inside::enter(ask, &workspace, around, inside::overlay(&host))
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
