//! Runs inside a session: which tree the command finds, and what is there already.
//!
//! What a plan is made from lies in the session's layer first and in the user's tree second, so
//! every look at the workspace goes through the session.

use std::path::{Path, PathBuf};

use super::{Ask, EngineError, SessionChoice, Surroundings};
use crate::launch::watched::{Guarded, Settled};
use crate::model::{
    Arg, HostFacts, Mechanism, PathKind, ProgramFact, ProgramLocation, Tree, lies_in,
};
use crate::plan::Watched;
use crate::session::{Backend, Lock, Seen, Session, Sessions, Sight};

/// The session that a run is in.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) session: Session,
    /// Held for as long as the run lasts; a question needs none.
    pub(super) lock: Option<Lock>,
    /// Nothing of it is kept.
    pub(super) disposable: bool,
}

/// Opens the session that is asked for, for a question about it.
pub(super) fn look_into(ask: &Ask, around: &Surroundings) -> Result<Option<Inside>, EngineError> {
    match &ask.session {
        Some(SessionChoice::Named(name)) => {
            let session = Sessions::new(&around.directories.state).open(name)?;
            Ok(Some(Inside { session, lock: None, disposable: false }))
        }
        // Its layer would be empty.
        Some(SessionChoice::Discard) | None => Ok(None),
    }
}

/// Opens, or makes, the session that is asked for, and keeps others out of it.
pub(super) fn enter(
    ask: &Ask,
    workspace: &Path,
    around: &Surroundings,
    overlay: Result<(), String>,
) -> Result<Option<Inside>, EngineError> {
    let sessions = Sessions::new(&around.directories.state);
    match &ask.session {
        None => Ok(None),
        Some(SessionChoice::Named(name)) => {
            let lock = sessions.open(name)?.lock(true)?;
            // It may have been applied or discarded while this run waited.
            let session = sessions.open(name)?;
            Ok(Some(Inside { session, lock: Some(lock), disposable: false }))
        }
        Some(SessionChoice::Discard) => {
            let level = ask.level.unwrap_or(around.settings()?.default_level);
            let name = format!("run-{}", ask.ids.run.to_lowercase());
            let manifest = sessions.manifest(name, workspace, level, around.now, overlay)?;
            let (session, lock) = sessions.create_disposable(&ask.ids.run, manifest)?;
            Ok(Some(Inside { session, lock: Some(lock), disposable: true }))
        }
    }
}

/// Whether this host has overlays, or why not.
pub(super) fn overlay(host: &HostFacts) -> Result<(), String> {
    if host.works(Mechanism::Overlay) {
        return Ok(());
    }
    Err("this host has no overlays that an ordinary user may mount; `rung doctor` says why".into())
}

impl Inside {
    pub(super) fn workspace(&self) -> &Path {
        &self.session.manifest.base
    }

    pub(super) fn tree(&self) -> Result<Tree, EngineError> {
        Ok(match (self.session.store()?, &self.session.manifest.backend) {
            (Some(store), Backend::Overlay) => Tree::Overlay(store),
            (Some(store), Backend::Copy) => Tree::Copy(store),
            (_, Backend::Worktree { .. }) | (None, _) => Tree::Worktree,
        })
    }

    /// Where a command starts: where the caller is, if that is in the tree, or the tree's root.
    pub(super) fn cwd(&self, ask: &Ask, around: &Surroundings) -> Result<PathBuf, EngineError> {
        let base = self.workspace();
        let start = around.cwd.as_deref().and_then(|it| std::fs::canonicalize(it).ok());
        let start = start.filter(|it| lies_in(it, base)).unwrap_or_else(|| base.to_owned());
        let cwd = match &ask.directory {
            Some(directory) => start.join(directory),
            None => start,
        };
        let cwd = std::fs::canonicalize(&cwd).unwrap_or(cwd);
        if !lies_in(&cwd, base) {
            return Err(EngineError::OutsideWorkspace { cwd, workspace: base.to_owned() });
        }
        if self.layered() && !self.session.sight()?.has_directory(&cwd)? {
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(EngineError::Read { path: cwd, source });
        }
        Ok(cwd)
    }

    pub(super) fn layered(&self) -> bool {
        !matches!(self.session.manifest.backend, Backend::Worktree { .. })
    }

    /// Puts what the session has over what was found in the tree itself.
    pub(super) fn correct(
        &self,
        host: &mut HostFacts,
        wanted: &[PathBuf],
    ) -> Result<(), EngineError> {
        if !self.layered() {
            return Ok(());
        }
        let sight = self.session.sight()?;
        for path in wanted.iter().filter(|it| lies_in(it, self.workspace())) {
            if path == self.workspace() {
                continue;
            }
            match sight.look(path)? {
                Seen::Through => {}
                Seen::Gone => drop(host.paths.remove(path)),
                Seen::This(fact, _) => drop(host.paths.insert(path.clone(), fact)),
            }
        }
        Ok(())
    }

    /// What a word with a slash names in the session.
    pub(super) fn program(
        &self,
        word: &Arg,
        cwd: &Path,
        found: ProgramFact,
    ) -> Result<ProgramFact, EngineError> {
        const SET_ID: u32 = 0o6000;
        const EXECUTE: u32 = 0o111;
        let path = cwd.join(Path::new(word.as_os_str()));
        if !self.layered() || !word.as_bytes().contains(&b'/') || !lies_in(&path, self.workspace())
        {
            return Ok(found);
        }
        let sight: Sight = self.session.sight()?;
        if sight.look(&path)? == Seen::Gone {
            return Ok(ProgramFact::Missing { searched: vec![path] });
        }
        let Some((fact, mode)) = sight.object(&path)? else { return Ok(found) };
        if fact.kind != PathKind::File {
            return Ok(ProgramFact::Missing { searched: vec![path] });
        }
        let canonical = fact.canonical;
        Ok(ProgramFact::Found {
            // Named by the object, so that no link of a run's own making stands in between.
            path: canonical.clone(),
            location: ProgramLocation::Workspace,
            device: fact.device,
            inode: fact.inode,
            setid: mode & SET_ID != 0,
            executable: mode & EXECUTE != 0,
            canonical,
        })
    }

    /// Where the names of the workspace are that a run writes to.
    fn written(&self) -> Option<PathBuf> {
        self.layered().then(|| self.session.written())
    }

    /// What is watched lies in the layer: the user's tree is out of the run's reach.
    pub(super) fn watched(&self, watched: &[Watched]) -> Vec<Watched> {
        let Some(written) = self.written() else { return watched.to_vec() };
        let moved = |it: &Watched| {
            let inside = it.path.strip_prefix(self.workspace()).ok()?;
            Some(Watched { path: written.join(inside), ..it.clone() })
        };
        watched.iter().filter_map(moved).collect()
    }

    /// In an overlay nobody outside can reach what a run's mounts protect.
    pub(super) fn guarded(&self, guarded: Vec<Guarded>) -> Vec<Guarded> {
        let Some(written) = self.written() else { return guarded };
        if self.session.manifest.backend == Backend::Overlay {
            return Vec::new();
        }
        let moved = |it: Guarded| {
            let inside = it.path.strip_prefix(self.workspace()).ok()?;
            Some(Guarded { path: written.join(inside), ..it })
        };
        guarded.into_iter().filter_map(moved).collect()
    }

    /// The directory whose protected names are watched.
    pub(super) fn watched_root(&self) -> PathBuf {
        self.written().unwrap_or_else(|| self.workspace().to_owned())
    }

    /// Names what was put right as the run knows it.
    pub(super) fn renamed(&self, mut settled: Settled) -> Settled {
        let Some(written) = self.written() else { return settled };
        let undone = settled.undone.iter_mut().map(|it| &mut it.path);
        let changed = settled.changed.iter_mut().map(|it| &mut it.path);
        let left = settled.left.iter_mut().map(|it| &mut it.path);
        for path in undone.chain(changed).chain(left) {
            if let Ok(inside) = path.strip_prefix(&written) {
                *path = self.workspace().join(inside);
            }
        }
        settled
    }
}
