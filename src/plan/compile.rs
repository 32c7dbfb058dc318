//! From a permitted request to the plan: the one function that brings all parts together.
//!
//! The order is the order of refusals: first what the caller got wrong, then what the profile got
//! wrong, then what this host cannot do.

use std::path::PathBuf;

use super::egress::EgressPlan;
use super::surface::top;
use super::view::View;
use super::{
    CommandPlan, Gate, Identity, LayerLimits, Layers, LimitPlan, Limited, MemoryBy, NetworkPlan,
    OutputPlan, PlanError, ProcessesBy, SandboxPlan, SyscallPlan, ViewEntry, What,
};
use super::{egress, environment, exec, gaps, landlock, view, workspace};
use crate::model::{
    Digest, HostFacts, ProgramFact, RepositoryLayer, Request, Tree, is_plain, lies_in,
};
use crate::policy::Permit;
use crate::profile::{Limit, Profile, WorkspaceMode};

/// Whom real root becomes: the id that every system calls `nobody`.
const NOBODY: u32 = 65534;

/// Everything the kernel will be told about this run. `filter` is the digest of the compiled
/// system call filter for the profile's table.
pub fn compile(
    permit: &Permit,
    request: &Request,
    profile: &Profile,
    host: &HostFacts,
    filter: Digest,
) -> Result<SandboxPlan, PlanError> {
    if request.level != profile.level {
        return Err(PlanError::WrongLevel { profile: profile.level, request: request.level });
    }
    if permit.by_shell() && gaps::gate(host) == Gate::Without {
        return Err(PlanError::NeedsGate);
    }
    let workspace = workspace::check(request, profile, host)?;
    if profile.filesystem.workspace.mode == WorkspaceMode::Session && request.tree == Tree::Itself {
        let because = profile.filesystem.workspace.origin.clone();
        return Err(PlanError::NeedsSession { level: profile.level, because });
    }
    let egress = egress::compile(profile, host)?;
    let files = egress.as_ref().map(EgressPlan::own_files);
    let environment = environment::build(permit, request, profile, host, egress.as_ref())?;
    let View { entries, watched, absent } = view::build(profile, request, host, workspace, files)?;
    entries.iter().try_for_each(as_text)?;
    let program = program(request, &entries)?;
    let landlock_abi = landlock::usable_abi(host, landlock::writes(&entries));
    let gaps = gaps::accepted(profile, host, landlock_abi)?;
    let loopback = profile.network.loopback.clone();
    Ok(SandboxPlan {
        level: profile.level,
        profile: profile.name.clone(),
        profile_digest: profile.digest,
        rule: permit.rule().to_owned(),
        command: CommandPlan {
            program,
            argv: request.argv.clone(),
            cwd: request.cwd.clone(),
            environment,
        },
        identity: identity(host),
        landlock: landlock::rules(&entries, landlock_abi, loopback.is_some() || egress.is_some()),
        exec: exec::compile(request, profile, host, &entries),
        view: entries,
        watched,
        syscalls: SyscallPlan {
            table: profile.syscalls.table,
            arch: host.arch,
            filter,
            because: profile.syscalls.origin.clone(),
        },
        network: NetworkPlan { loopback, egress },
        limits: limits(profile, request, host),
        output: OutputPlan {
            max: profile.output.max.as_ref().map(limited),
            when_full: profile.output.when_full,
        },
        durable: profile.audit.durable,
        streams: request.streams,
        gaps,
        absent,
    })
}

/// The command's files are the user's own. Inside it has the same ids, but never 0: a process that
/// believes to be root gets its capabilities back with every exec.
fn identity(host: &HostFacts) -> Identity {
    let inner = |id: u32| if id == 0 { NOBODY } else { id };
    Identity {
        outer_uid: host.uid,
        outer_gid: host.gid,
        inner_uid: inner(host.uid),
        inner_gid: inner(host.gid),
        last_capability: host.last_capability,
    }
}

fn limits(profile: &Profile, request: &Request, host: &HostFacts) -> LimitPlan {
    let limits = &profile.limits;
    let layered = matches!(request.tree, Tree::Overlay(_) | Tree::Copy(_))
        || request.repository.as_ref().is_some_and(|it| it.layer != RepositoryLayer::Nothing)
        || !request.caches.is_empty();
    let writes = profile.filesystem.workspace.mode != WorkspaceMode::ReadOnly;
    let layer = (layered && writes).then(|| LayerLimits {
        size: limited(&limits.session),
        files: limited(&limits.session_files),
    });
    LimitPlan {
        wall: limited(&limits.wall),
        grace: limited(&limits.grace),
        processes: limited(&limits.processes),
        processes_by: match (&host.cgroup, host.is_root()) {
            (Some(_), _) => ProcessesBy::Cgroup,
            (None, true) => ProcessesBy::Polling,
            (None, false) => ProcessesBy::Kernel,
        },
        open_files: limited(&limits.open_files),
        memory: limited(&limits.memory),
        memory_by: host.cgroup.clone().map_or(MemoryBy::Polling, MemoryBy::Cgroup),
        file: limited(&limits.file),
        layer,
    }
}

fn limited<T: Copy>(limit: &Limit<T>) -> Limited<T> {
    Limited { max: limit.max, because: limit.origin.clone() }
}

/// The path the command was found at, if the view shows it and its programs may be started.
fn program(request: &Request, view: &[ViewEntry]) -> Result<PathBuf, PlanError> {
    let ProgramFact::Found { path, canonical, .. } = &request.program else {
        let name = request.argv.first().map_or_else(String::new, ToString::to_string);
        return Err(PlanError::NoProgram { name });
    };
    let refuse = || PlanError::ProgramNotInView { path: path.clone(), level: request.level };
    // The name by which it is started, and the object that is started.
    let named = top(view, path).ok_or_else(refuse)?;
    let object = top(view, canonical).ok_or_else(refuse)?;
    let startable = match &object.what {
        // No command comes from where programs are kept for others to use.
        What::Overlay { programs, .. } => *programs && !object.is_cache(request),
        What::Bind { programs, .. } => *programs,
        // Laid on the workspace: its programs are the workspace's.
        What::Pinned { .. } | What::Protected { .. } => view
            .iter()
            .rev()
            .filter(|it| lies_in(canonical, &it.path))
            .find_map(ViewEntry::bound)
            .is_some_and(|(_, programs)| programs),
        What::Directory
        | What::Private { .. }
        | What::SymbolicLink { .. }
        | What::Proc { .. }
        | What::Devices { .. }
        | What::Text { .. }
        | What::Masked { .. } => false,
    };
    let reached = matches!(
        named.what,
        What::Bind { .. }
            | What::Overlay { .. }
            | What::SymbolicLink { .. }
            | What::Pinned { .. }
            | What::Protected { .. }
    );
    if !startable || !reached || !is_plain(path) {
        return Err(refuse());
    }
    if path.to_str().is_none() {
        return Err(PlanError::NotText { path: path.clone() });
    }
    Ok(path.clone())
}

fn as_text(entry: &ViewEntry) -> Result<(), PlanError> {
    let target = match &entry.what {
        What::SymbolicLink { target } => Some(target),
        What::Bind { source, .. } => Some(source),
        What::Overlay { layers: Layers::Kept(store), .. } => Some(&store.directory),
        What::Overlay { layers: Layers::Private { .. }, .. }
        | What::Directory
        | What::Private { .. }
        | What::Proc { .. }
        | What::Devices { .. }
        | What::Text { .. }
        | What::Masked { .. }
        | What::Pinned { .. }
        | What::Protected { .. } => None,
    };
    match [Some(&entry.path), target].into_iter().flatten().find(|it| it.to_str().is_none()) {
        Some(path) => Err(PlanError::NotText { path: path.clone() }),
        None => Ok(()),
    }
}
