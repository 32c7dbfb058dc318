//! Decides and compiles: from what a front asks for to a plan, or to the reason why there is none.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::caches;
use super::inside::{self, Inside};
use super::profiles::profile_for;
use super::repository::{self, Beside};
use super::scripts;
use super::{Ask, Considered, Directories, EngineError, Ready, SessionChoice, Surroundings};
use crate::host;
use crate::model::{Arg, HostFacts, Level, ProgramFact, Request, Tree, is_plain, walk_order};
use crate::plan::{self, syscalls};
use crate::policy::{self, Verdict, shell};
use crate::profile::{self, Ladder, Profile, Settings};

/// Decides and compiles. May probe the machine and remember what it found; runs nothing.
pub fn consider(ask: Ask, around: &Surroundings) -> Result<Considered, EngineError> {
    let inside = inside::look_into(&ask, around)?;
    let workspace = workspace(&ask, inside.as_ref(), around)?;
    let beside = repository::look(&workspace);
    consider_inside(ask, (inside.as_ref(), beside.as_ref()), around)
}

/// The tree that a command would work on.
pub(super) fn workspace(
    ask: &Ask,
    inside: Option<&Inside>,
    around: &Surroundings,
) -> Result<PathBuf, EngineError> {
    match inside {
        Some(inside) => Ok(inside.workspace().to_owned()),
        None => Ok(places(ask, around)?.1),
    }
}

/// The same for a session that is open already.
pub(super) fn consider_inside(
    mut ask: Ask,
    (inside, beside): (Option<&Inside>, Option<&Beside>),
    around: &Surroundings,
) -> Result<Considered, EngineError> {
    let settings = around.settings()?;
    if let Some(inside) = inside.filter(|it| !it.disposable) {
        ask.level = ask.level.or(Some(inside.session.manifest.level));
    }
    let level = ask.level.unwrap_or(settings.default_level);
    match consider_below(&settings, level, ask, (inside, beside), around)? {
        Considered::Ready(ready) if ready.request.level.needs_grant() => {
            let Ready { request, permit, profile, .. } = *ready;
            let refusal = policy::without_grant(&request, &permit);
            let (request, profile) = (Box::new(request), Box::new(profile));
            Ok(Considered::Refused { request, profile, refusal })
        }
        considered => Ok(considered),
    }
}

pub(super) fn consider_below(
    settings: &Settings,
    level: Level,
    ask: Ask,
    (inside, beside): (Option<&Inside>, Option<&Beside>),
    around: &Surroundings,
) -> Result<Considered, EngineError> {
    tracing::Span::current().record("level", level.number());
    let layers = around.layers()?;
    let mut host = host::facts(&around.directories.state.join("host"), plan::lasting_paths)?;
    host.state_directories = state_directories(&around.directories)?;
    host.user_home = around.user_home.as_ref().and_then(|it| fs::canonicalize(it).ok());
    let (cwd, workspace) = match inside.filter(|it| !it.disposable) {
        Some(inside) => (inside.cwd(&ask, around)?, inside.workspace().to_owned()),
        None => places(&ask, around)?,
    };
    let argv = shell::carried(&ask.argv).unwrap_or(ask.argv);
    // A text for a shell may name any program.
    let names = (!shell::may_have_text(&argv)).then(|| names(&argv));
    let mut profile = profile_for(level, &layers, names.as_deref(), &around.directories.state)?;
    if matches!(ask.session, Some(SessionChoice::Fill(_))) {
        // The tree is new, and what is put into it is what its branch says.
        profile.filesystem.protected.clear();
    }
    // What has a layer of its own ties nothing to the user's repository.
    let layered = inside.map_or(ask.session == Some(SessionChoice::Discard), Inside::layered);
    find_paths(&mut host, &profile, &workspace, (inside, layered), around)?;
    if let Some(beside) = beside {
        host.paths.extend(host::look(&plan::wanted_of_repository(beside.common()))?);
        if !layered && plan::protects_repositories(&profile) {
            host.repositories = host::repositories(&workspace, beside.own())?;
            let wanted = plan::wanted_in_repositories(&profile, &host.repositories);
            host.paths.extend(host::look(&wanted)?);
        }
    }
    ask_whom(&mut host, &profile, settings, around)?;
    let caches = caches::layers(inside, &profile, &host, around)?;
    let ceiling = settings.ceiling;
    let mut program = program(&argv, &profile, &host, &around.home, (&cwd, &workspace))?;
    if let (Some(inside), Some(word)) = (inside, argv.first()) {
        program = inside.program(word, &cwd, program)?;
    }
    // A rule may be about the name of the object behind a link.
    if let (Some(name), Some(names)) = (canonical_name(&program), &names)
        && !names.contains(&name)
    {
        let names: Vec<&str> = names.iter().copied().chain([name]).collect();
        profile = profile_for(level, &layers, Some(&names), &around.directories.state)?;
    }
    if let Some(wall) = ask.wall_max {
        profile.limits.wall.max = profile.limits.wall.max.min(wall);
    }
    let request = Request {
        program,
        argv,
        level,
        cwd,
        workspace,
        home: around.home.clone(),
        environment: environment(around),
        ids: ask.ids,
        streams: ask.streams,
        tree: inside.map_or(Ok(Tree::Itself), Inside::tree)?,
        repository: beside.map(Beside::tree).transpose()?,
        caches: caches::stores(&caches)?,
    };
    let ladder = Ladder { ceiling, profiles: [(level, profile)].into() };
    if let Verdict::Allow(permit) = policy::decide(&request, &ladder) {
        // What a session's layer has instead of the file is not looked at: the gate sees what runs.
        let script = policy::named_script(&request.argv).filter(|_| inside.is_none());
        if let Some(named) = script {
            let whole = profile_for(level, &layers, None, &around.directories.state)?;
            let refusal = scripts::refused(&named, &request, &whole);
            if let Some(refusal) = refusal.filter(|it| !(ask.learning && it.lacks_a_rule())) {
                let (request, profile) = (Box::new(request), Box::new(whole));
                return Ok(Considered::Refused { request, profile, refusal });
            }
        }
        let profile = only(ladder, level)?;
        let gate = plan::gate(&host);
        let filter = syscalls::compiled(profile.syscalls.table, host.arch, gate);
        let plan = plan::compile(&permit, &request, &profile, &host, filter.digest())?;
        let minds = !layered && plan::protects_repositories(&profile);
        let repositories = minds.then_some(host.repositories);
        let ready = Ready { request, permit, profile, plan, filter, repositories, caches };
        return Ok(Considered::Ready(Box::new(ready)));
    }
    explain_refusal(ceiling, request, &layers, around)
}

/// Decides once more with every level at hand, so that the refusal can say which one would do.
fn explain_refusal(
    ceiling: Level,
    request: Request,
    layers: &[profile::Layer],
    around: &Surroundings,
) -> Result<Considered, EngineError> {
    let levels = Level::ALL.into_iter().filter(|it| *it <= ceiling.max(request.level));
    let profiles = levels
        .map(|level| Ok((level, profile_for(level, layers, None, &around.directories.state)?)))
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

/// Whom a run with destinations asks for the addresses of names, and whose certificates it believes.
pub(super) fn ask_whom(
    host: &mut HostFacts,
    profile: &Profile,
    settings: &Settings,
    around: &Surroundings,
) -> Result<(), EngineError> {
    if profile.network.destinations.is_empty() {
        return Ok(());
    }
    let authorities = settings.authorities.as_deref();
    host.authorities = authorities.and_then(|it| plan::expand(it, &around.home));
    host.nameservers = match settings.resolver {
        Some(resolver) => vec![resolver],
        None => host::nameservers()?,
    };
    Ok(())
}

/// Looks up every path that the profile names.
pub(super) fn find_paths(
    host: &mut HostFacts,
    profile: &Profile,
    workspace: &Path,
    (inside, layered): (Option<&Inside>, bool),
    around: &Surroundings,
) -> Result<(), EngineError> {
    let wanted = plan::wanted_paths(profile, workspace, &around.home, &host.state_directories);
    host.paths.extend(host::look(&wanted)?);
    if let Some(inside) = inside {
        inside.correct(host, &wanted)?;
    }
    if !layered && plan::protects_repositories(profile) {
        host.repositories = host::repositories(workspace, &workspace.join(".git"))?;
        host.paths.extend(host::look(&plan::wanted_in_repositories(profile, &host.repositories))?);
    }
    let behind = plan::wanted_behind_links(profile, workspace, &host.paths);
    host.paths.extend(host::look(&behind)?);
    if let Some(inside) = inside {
        inside.correct(host, &behind)?;
    }
    Ok(())
}

/// Where the command starts, and the tree it belongs to: the closest directory above that is a git
/// checkout, unless the caller names one.
pub(super) fn places(ask: &Ask, around: &Surroundings) -> Result<(PathBuf, PathBuf), EngineError> {
    /// Directories looked at on the way up.
    const DEPTH_MAX: usize = 64;
    let canonical = |path: &Path| {
        fs::canonicalize(path).map_err(|source| EngineError::Read { path: path.to_owned(), source })
    };
    let start = around.cwd.as_deref().ok_or(EngineError::NoDirectory)?;
    let cwd = match &ask.directory {
        Some(directory) => canonical(&start.join(directory))?,
        // The kernel's own name of it, which has no links in it.
        None => start.to_path_buf(),
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

pub(super) fn state_directories(directories: &Directories) -> Result<Vec<PathBuf>, EngineError> {
    let spelled = [&directories.state, &directories.system, &directories.user];
    let mut sorted = spelled.map(PathBuf::clone);
    sorted.sort_unstable_by(|a, b| walk_order(a, b));
    let found = host::look(&sorted)?;
    let canonical = |it: &PathBuf| match found.get(it) {
        Some(fact) => fact.canonical.clone(),
        None if is_plain(it) => it.clone(),
        None => fs::canonicalize(it).unwrap_or_else(|_| it.clone()),
    };
    Ok(spelled.map(canonical).to_vec())
}

/// Names that are text pass to the profile's allowlist; others could not be on it.
pub(super) fn environment(around: &Surroundings) -> BTreeMap<String, Arg> {
    around
        .environment
        .iter()
        .filter_map(|(name, value)| {
            Some((name.to_str()?.to_owned(), Arg::new(value.as_bytes()).ok()?))
        })
        .collect()
}

/// What the first word names, looked up the way the command's own `PATH` will be.
pub(super) fn program(
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
