//! Which directory may be a workspace at all.
//!
//! The command may write there, so it must not hold, or lie in, anything that another promise
//! stands on: system directories, trusted programs, the real home, rung's own files. The caller
//! chooses the workspace; this is where a careless choice ends.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::PlanError;
use super::paths::{GIT_DIRECTORY, expand, lies_at_protected, overlap};
use crate::model::{HostFacts, PathFact, PathKind, Request, is_plain, lies_in};
use crate::profile::{Profile, WorkspaceMode};

/// No workspace at or below these.
const SYSTEM: [&str; 13] = [
    "/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/run",
    "/sbin", "/sys", "/usr",
];
/// Too wide: other things than one project live there.
const SHARED: [&str; 11] =
    ["/", "/home", "/media", "/mnt", "/nix", "/opt", "/root", "/srv", "/tmp", "/var", "/var/tmp"];

/// What the host found at the workspace, if it may be one.
pub(super) fn check<'a>(
    request: &Request,
    profile: &Profile,
    host: &'a HostFacts,
) -> Result<&'a PathFact, PlanError> {
    let workspace = &request.workspace;
    let refuse = |why: &str| PlanError::Workspace { path: workspace.clone(), why: why.to_owned() };
    for path in [workspace, &request.cwd, &request.home] {
        if path.to_str().is_none() {
            return Err(PlanError::NotText { path: path.clone() });
        }
    }
    if !is_plain(workspace) {
        return Err(refuse("it is not an absolute path without `.` and `..`"));
    }
    if !is_plain(&request.home) {
        let why = "it is not an absolute path without `.` and `..`".to_owned();
        return Err(PlanError::Home { path: request.home.clone(), why });
    }
    let in_system = SYSTEM.iter().find(|it| lies_in(workspace, Path::new(it)));
    if let Some(system) = in_system {
        return Err(refuse(&format!("it lies in the system directory `{system}`")));
    }
    if SHARED.iter().any(|it| workspace.as_os_str() == *it) {
        return Err(refuse("other things than one project live there; name a directory below it"));
    }
    let home = host.path(&request.home).map_or(&request.home, |fact| &fact.canonical);
    let homes = [Some(&request.home), Some(home), host.user_home.as_ref()];
    let homes: Vec<&Path> = homes.into_iter().flatten().map(PathBuf::as_path).collect();
    if homes.iter().any(|it| lies_in(it, workspace)) {
        return Err(refuse("it holds the home directory; name a directory below it"));
    }
    if let Some(own) = host.state_directories.iter().find(|own| overlap(own, workspace)) {
        return Err(refuse(&format!("rung keeps its own files in `{}`", own.display())));
    }
    refuse_trusted_programs(request, profile, host)?;
    refuse_hidden_in_home(workspace, &homes)?;
    let fact = host.path(workspace).ok_or_else(|| refuse("it does not exist"))?;
    if fact.kind != PathKind::Directory {
        return Err(refuse("it is not a directory"));
    }
    if fact.canonical != *workspace {
        return Err(refuse(&format!("it is another name of `{}`", fact.canonical.display())));
    }
    if !is_plain(&request.cwd) || !lies_in(&request.cwd, workspace) {
        let (cwd, workspace) = (request.cwd.clone(), workspace.clone());
        return Err(PlanError::OutsideWorkspace { cwd, workspace });
    }
    if GIT_DIRECTORY.iter().all(|name| host.path(&workspace.join(name)).is_some()) {
        return Err(refuse("it is a git directory; name the checkout that belongs to it"));
    }
    if profile.filesystem.workspace.mode != WorkspaceMode::ReadOnly {
        refuse_protected(workspace, profile, host)?;
    }
    Ok(fact)
}

/// Directories of the home that begin with a dot hold keys, settings and programs that everything
/// the user starts trusts; no command is about them alone.
fn refuse_hidden_in_home(workspace: &Path, homes: &[&Path]) -> Result<(), PlanError> {
    for home in homes {
        let Some(name) = workspace.strip_prefix(home).ok().and_then(|it| it.components().next())
        else {
            continue;
        };
        if name.as_os_str().as_bytes().starts_with(b".") {
            let why = format!(
                "`{}` keeps settings, keys or programs of the home directory; work in a directory \
                 outside the hidden ones",
                home.join(name).display()
            );
            return Err(PlanError::Workspace { path: workspace.to_path_buf(), why });
        }
    }
    Ok(())
}

/// Protected names are relative to the workspace, so a workspace further in would leave them
/// behind. A name without a dot is an ordinary one, and says something only in a checkout.
fn refuse_protected(
    workspace: &Path,
    profile: &Profile,
    host: &HostFacts,
) -> Result<(), PlanError> {
    for (above, entry) in lies_at_protected(profile, workspace) {
        if !entry.name.starts_with('.') && host.path(&above.join(".git")).is_none() {
            continue;
        }
        let (name, because, above) = (&entry.name, &entry.origin, above.display());
        let why =
            format!("`{name}` is protected in `{above}` ({because}); start rung in `{above}`");
        return Err(PlanError::Workspace { path: workspace.to_path_buf(), why });
    }
    Ok(())
}

/// Programs of a granted tree are trusted by where they lie, so the workspace may not be there.
fn refuse_trusted_programs(
    request: &Request,
    profile: &Profile,
    host: &HostFacts,
) -> Result<(), PlanError> {
    let filesystem = &profile.filesystem;
    let grants = filesystem
        .read
        .iter()
        .filter(|grant| grant.programs)
        .map(|grant| (&grant.path, &grant.origin));
    let toolchains = filesystem
        .toolchains
        .iter()
        .flat_map(|it| it.directories.iter().map(|path| (path, &it.origin)));
    for (path, because) in grants.chain(toolchains) {
        // A path that cannot be expanded is refused with its own message later.
        let Some(path) = expand(path, &request.home) else { continue };
        let trusted = host.path(&path).map_or(&path, |fact| &fact.canonical);
        if overlap(trusted, &request.workspace) || overlap(&path, &request.workspace) {
            let why = format!("{because} trusts the programs in `{}`", trusted.display());
            return Err(PlanError::Workspace { path: request.workspace.clone(), why });
        }
    }
    Ok(())
}
