//! Rung's own state before a run: the ledger opened, and what a killed supervisor left put right.

use std::fs;
use std::path::Path;

use super::record::quarantined;
use super::{EngineError, Surroundings};
use crate::launch::watched::{self, Left, Swept};
use crate::ledger::Ledger;
use crate::model::lies_in;

pub(super) fn open_ledger(around: &Surroundings) -> Result<Ledger, EngineError> {
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
pub(super) fn clean_up(
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
pub(super) fn nothing_left_in(workspace: &Path, swept: &[Swept]) -> Result<(), EngineError> {
    let near = |it: &&Swept| lies_in(workspace, &it.workspace) || lies_in(&it.workspace, workspace);
    if let Some(Swept { run, workspace, .. }) = swept.iter().filter(near).find(|it| it.goes_on) {
        return Err(EngineError::GoesOn { run: run.clone(), workspace: workspace.clone() });
    }
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
