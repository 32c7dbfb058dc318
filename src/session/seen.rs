//! What a run of a session sees at a path of its tree, before it runs.
//!
//! A plan is made from what lies where, and in a session that is the layer first: something may be
//! there that the tree has not, or be gone that the tree has.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::place::{Object, Sort, Tree, look_in};
use super::store::{Backend, Session};
use super::{SessionError, failed};
use crate::model::{PathFact, PathKind, lexical};

/// A chain of links is never longer.
const LINKS_MAX: usize = 8;

/// What the layer says about a path of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing: what the tree has is seen.
    Through,
    /// There is nothing to be seen, whatever the tree has.
    Gone,
    /// This, on top of whatever the tree has. The mode goes with it.
    This(PathFact, u32),
}

/// Looks at paths of a session's tree.
#[derive(Debug)]
pub struct Sight {
    layer: Tree,
    base: PathBuf,
    hides: bool,
}

impl Session {
    pub fn sight(&self) -> Result<Sight, SessionError> {
        let written = self.written();
        let layer = Tree::open(&written).map_err(failed("opening", &written))?;
        let hides = self.manifest.backend == Backend::Copy;
        Ok(Sight { layer, base: self.manifest.base.clone(), hides })
    }
}

impl Sight {
    /// What the layer has at `path`, which lies in the tree, not following it.
    pub fn look(&self, path: &Path) -> Result<Seen, SessionError> {
        let Ok(inside) = path.strip_prefix(&self.base) else { return Ok(Seen::Through) };
        self.inside(inside, path).map_err(failed("looking at", path))
    }

    fn inside(&self, inside: &Path, path: &Path) -> io::Result<Seen> {
        let mut hides = self.hides;
        let Some(mut at) = self.layer.look(Path::new(""))? else { return Ok(Seen::Gone) };
        for part in inside.components() {
            let Component::Normal(name) = part else { return Ok(Seen::Gone) };
            // Something that is no directory is in the way of what is below it.
            if at.sort() != Sort::Directory {
                return Ok(Seen::Gone);
            }
            hides |= at.is_opaque()?;
            match look_in(at.held.as_fd(), name)? {
                None if hides => return Ok(Seen::Gone),
                None => return Ok(Seen::Through),
                Some(found) if found.sort() == Sort::Whiteout => return Ok(Seen::Gone),
                Some(found) => at = found,
            }
        }
        fact(&at, path).map(|fact| Seen::This(fact, at.facts.mode() & 0o7777))
    }

    /// The object that a path of the tree leads to, if the layer has it, and its mode.
    pub fn object(&self, path: &Path) -> Result<Option<(PathFact, u32)>, SessionError> {
        let mut path = lexical(path);
        for _ in 0..LINKS_MAX {
            let Seen::This(fact, mode) = self.look(&path)? else { return Ok(None) };
            let Some(link) = fact.link else { return Ok(Some((fact, mode))) };
            path = lexical(&path.parent().unwrap_or(&self.base).join(link));
        }
        Ok(None)
    }

    /// Whether a directory of the tree can be entered by a run: the layer has it, or lets it show.
    pub fn has_directory(&self, path: &Path) -> Result<bool, SessionError> {
        Ok(match self.look(path)? {
            Seen::Gone => false,
            Seen::This(fact, _) => fact.kind == PathKind::Directory,
            Seen::Through => std::fs::symlink_metadata(path).is_ok_and(|it| it.is_dir()),
        })
    }
}

fn fact(object: &Object, path: &Path) -> io::Result<PathFact> {
    let kind = match object.sort() {
        Sort::File => PathKind::File,
        Sort::Directory => PathKind::Directory,
        Sort::Link => PathKind::SymbolicLink,
        Sort::Whiteout | Sort::Special => PathKind::Special,
    };
    let link = if kind == PathKind::SymbolicLink { Some(object.target()?.into()) } else { None };
    Ok(PathFact {
        kind,
        link,
        canonical: path.to_owned(),
        canonical_kind: kind,
        device: object.facts.dev(),
        inode: object.facts.ino(),
    })
}
