//! Who decides about the programs that a command starts, and which trees they lie in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Access, Gate, Origin, ViewEntry, What, expand, gate};
use crate::model::{HostFacts, ProgramLocation, Request, lies_in};
use crate::profile::Profile;

/// What the exec gate goes by, beside the rules themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecPlan {
    /// Without it only the command itself has been decided.
    pub gate: Gate,
    /// The trees of the view that programs may be started from, and the workspace.
    pub trees: BTreeMap<PathBuf, ProgramLocation>,
    pub because: Origin,
}

impl ExecPlan {
    /// Which kind of place a program lies in: that of the closest tree around it.
    pub fn location(&self, path: &Path) -> ProgramLocation {
        let closest = path.ancestors().find_map(|it| self.trees.get(it));
        closest.copied().unwrap_or(ProgramLocation::Elsewhere)
    }
}

pub(super) fn compile(
    request: &Request,
    profile: &Profile,
    host: &HostFacts,
    view: &[ViewEntry],
) -> ExecPlan {
    let toolchains: Vec<&PathBuf> = profile
        .filesystem
        .toolchains
        .iter()
        .flat_map(|it| &it.directories)
        .filter_map(|it| Some(&host.path(&expand(it, &request.home)?)?.canonical))
        .collect();
    let class = |entry: &ViewEntry| match entry.what {
        // Whatever is mounted there, the workspace is what the command works on.
        _ if lies_in(&entry.path, &request.workspace) => None,
        What::Bind { programs: true, access: Access::Read, .. } => {
            let toolchain = toolchains.iter().any(|it| lies_in(&entry.path, it));
            Some(if toolchain { ProgramLocation::Toolchain } else { ProgramLocation::System })
        }
        // What the command may write, it may have written.
        What::Overlay { programs: true, .. } if entry.is_cache(request) => {
            Some(ProgramLocation::Workspace)
        }
        // Otherwise it would count as part of the toolchain's tree around it.
        What::Overlay { .. } if entry.is_cache(request) => Some(ProgramLocation::Elsewhere),
        What::Bind { programs: true, access: Access::Write, .. }
        | What::Private { programs: true, .. } => Some(ProgramLocation::Workspace),
        What::Bind { .. }
        | What::Private { .. }
        | What::Directory
        | What::SymbolicLink { .. }
        | What::Proc { .. }
        | What::Devices { .. }
        | What::Text { .. }
        | What::Masked { .. }
        | What::Pinned { .. }
        | What::Overlay { .. }
        | What::Protected { .. } => None,
    };
    let mut trees: BTreeMap<PathBuf, ProgramLocation> = BTreeMap::new();
    for entry in view {
        if let Some(class) = class(entry) {
            let known = trees.entry(entry.path.clone()).or_insert(class);
            *known = class.max(*known);
        }
    }
    trees.insert(request.workspace.clone(), ProgramLocation::Workspace);
    ExecPlan {
        gate: gate(host),
        trees,
        because: Origin::built_in("what a command becomes is decided like the command itself"),
    }
}
