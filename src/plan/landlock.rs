//! The Landlock ruleset that says the same as the view.
//!
//! Landlock refuses what a ruleset *handles* and no rule allows, and a rule can only add: the
//! rights at a path are the union over all directories above it. So every right this kernel knows
//! is handled, and nothing can be carved out. Below a writable private place, such as the home
//! directory, the mounts alone keep a read-only tree read-only.
//!
//! Before ABI 2 any handled right forbids links and renames between directories, which no rule can
//! give back. On such a kernel a plan that writes goes without file rules, and a gap says so.

use std::path::{Path, PathBuf};

use super::{Access, FsRights, LandlockPlan, LandlockRule, ViewEntry, What};
use crate::model::{HostFacts, Mechanism, Origin, PathKind, PathMap};

/// `LANDLOCK_ACCESS_NET_BIND_TCP` and `LANDLOCK_ACCESS_NET_CONNECT_TCP`.
const NET_TCP: u64 = 0b11;
/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET` and `LANDLOCK_SCOPE_SIGNAL`.
const SCOPES: u64 = 0b11;
const ABI_REFER: u32 = 2;
const ABI_NET: u32 = 4;
const ABI_SCOPES: u32 = 6;

/// The newest ABI whose file rules can be kept for a view like this; 0 for none.
pub(super) fn usable_abi(host: &HostFacts, writes: bool) -> u32 {
    if !host.works(Mechanism::Landlock) || (writes && host.landlock_abi < ABI_REFER) {
        return 0;
    }
    host.landlock_abi
}

/// Whether anything of the host is writable in this view.
pub(super) fn writes(view: &[ViewEntry]) -> bool {
    view.iter().filter_map(ViewEntry::bound).any(|(access, _)| access == Access::Write)
}

pub(super) fn rules(view: &[ViewEntry], abi: u32, loopback: bool) -> LandlockPlan {
    let mut plan = LandlockPlan {
        abi,
        handled: FsRights::handled_by(abi),
        // On a `lo` of its own the command may serve and connect as it likes: nobody else is there.
        handled_net: if abi >= ABI_NET && !loopback { NET_TCP } else { 0 },
        scoped: if abi >= ABI_SCOPES { SCOPES } else { 0 },
        rules: PathMap::new(),
    };
    let listing = [Origin::built_in("directories of the view may be listed")];
    allow(&mut plan, Path::new("/"), FsRights::READ_DIR, &listing);
    for entry in view {
        match &entry.what {
            What::Bind { kind, access, programs, .. } => {
                let rights = FsRights::of(*access, *programs);
                let rights = if *kind == PathKind::Directory { rights } else { rights.on_file() };
                allow(&mut plan, &entry.path, rights, &entry.because);
            }
            What::Overlay { access, programs, .. } | What::Private { access, programs, .. } => {
                allow(&mut plan, &entry.path, FsRights::of(*access, *programs), &entry.because);
            }
            What::Proc { .. } => {
                let rights = FsRights::of(Access::Read, false);
                allow(&mut plan, &entry.path, rights, &entry.because);
            }
            What::Text { .. } => {
                let rights = FsRights::of(Access::Read, false).on_file();
                allow(&mut plan, &entry.path, rights, &entry.because);
            }
            What::Devices { .. } => devices(&mut plan, entry),
            What::Directory
            | What::SymbolicLink { .. }
            | What::Masked { .. }
            | What::Pinned { .. }
            | What::Protected { .. } => {}
        }
    }
    plan
}

/// Devices are read, written and asked about themselves; files are made in `shm` only.
fn devices(plan: &mut LandlockPlan, entry: &ViewEntry) {
    let rights = FsRights::of(Access::Read, false)
        | FsRights::WRITE_FILE
        | FsRights::TRUNCATE
        | FsRights::IOCTL_DEV;
    allow(plan, &entry.path, rights, &entry.because);
    allow(plan, &entry.path.join("shm"), FsRights::of(Access::Write, false), &entry.because);
}

fn allow(plan: &mut LandlockPlan, path: &Path, rights: FsRights, because: &[Origin]) {
    let rights = rights & plan.handled;
    if rights.is_empty() {
        return;
    }
    let new = || LandlockRule { rights: FsRights::NONE, because: Vec::new() };
    plan.rules.update(path, new, |rule| {
        rule.rights |= rights;
        rule.because.extend_from_slice(because);
    });
}

impl LandlockPlan {
    /// What the ruleset leaves open at `path`: what is not handled, and the union of the rules at
    /// and above it.
    pub(super) fn rights_at(&self, path: &Path) -> FsRights {
        let above = path.ancestors().filter_map(|it| self.rules.get(it));
        above.fold(!self.handled, |rights, rule| rights | rule.rights)
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &PathBuf> {
        self.rules.keys()
    }
}
