//! What lies where: one look at each of the paths that a profile and a request name.
//!
//! Nearly all of them share the way that leads to them, so what was found is kept, and where a
//! directory is missing nothing below it is looked for.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::HostError;
use crate::model::{PathFact, PathKind, PathMap, is_plain, lies_in};

/// A chain of links that is longer is left to the kernel.
const LINKS_MAX: usize = 8;

/// A directory of which so many names are wanted is read instead, because one answer is cheaper than
/// so many; and if it has more entries than this, that is given up.
const NAMES_MIN: usize = 40;
const ENTRIES_MAX: usize = 512;

/// What lies at each path, and at some on the way there. Paths are plain and best come in the
/// order of a walk. Only "there is nothing" means absent: any other error is an error, because a
/// plan made from a guess is not what its author meant.
pub fn look(paths: &[PathBuf]) -> Result<PathMap<PathFact>, HostError> {
    let crowded = crowded(paths).into_iter().map(|it| (it, Listing::Unread)).collect();
    let mut looked = Looked { found: PathMap::new(), missing: None, crowded };
    for path in paths.iter().filter(|it| is_plain(it)) {
        looked.at(path, LINKS_MAX)?;
    }
    Ok(looked.found)
}

/// The directories of which many names are wanted. The root is never one.
fn crowded(paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut crowded = Vec::new();
    let (mut directory, mut names) = (Path::new("/"), 0);
    for path in paths {
        let Some((parent, _)) = parts(path) else { continue };
        if parent == directory {
            names += 1;
            if names == NAMES_MIN && directory != Path::new("/") {
                crowded.push(directory.to_path_buf());
            }
        } else if directory == Path::new("/") || !lies_in(parent, directory) {
            (directory, names) = (parent, 1);
        }
    }
    crowded
}

/// The names in a directory.
enum Listing {
    Unread,
    /// Too many, or it cannot be read.
    Unknown,
    Names(BTreeSet<OsString>),
}

fn listed(directory: &Path) -> Option<BTreeSet<OsString>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(directory).ok()? {
        if names.len() == ENTRIES_MAX {
            return None;
        }
        names.insert(entry.ok()?.file_name());
    }
    Some(names)
}

/// Directory and name of a plain path; nothing for the root.
fn parts(path: &Path) -> Option<(&Path, &OsStr)> {
    let bytes = path.as_os_str().as_bytes();
    let slash = bytes.iter().rposition(|it| *it == b'/')?;
    let (parent, name) = bytes.split_at(slash);
    let name = name.get(1..).filter(|it| !it.is_empty())?;
    let parent: &[u8] = if parent.is_empty() { b"/" } else { parent };
    Some((Path::new(OsStr::from_bytes(parent)), OsStr::from_bytes(name)))
}

struct Looked {
    /// Directories to be read.
    crowded: Vec<(PathBuf, Listing)>,
    found: PathMap<PathFact>,
    /// Where last there was nothing.
    missing: Option<PathBuf>,
}

impl Looked {
    fn at(&mut self, path: &Path, links_max: usize) -> Result<Option<&PathFact>, HostError> {
        if !self.found.contains(path) {
            if self.missing.as_ref().is_some_and(|it| lies_in(path, it)) {
                return Ok(None);
            }
            match self.first_at(path, links_max)? {
                Some(fact) => drop(self.found.insert(path.to_path_buf(), fact)),
                None => path.clone_into(self.missing.get_or_insert_default()),
            }
        }
        Ok(self.found.get(path))
    }

    fn first_at(&mut self, path: &Path, links_max: usize) -> Result<Option<PathFact>, HostError> {
        let Some((parent, name)) = parts(path) else {
            return self.object(Cow::Borrowed(path), links_max);
        };
        // Every component may be a link, not only the last one.
        let path = match self.at(parent, links_max)? {
            Some(it) if it.canonical_kind != PathKind::Directory => return Ok(None),
            Some(it) if it.canonical.as_os_str() == parent => {
                if self.is_not_listed(parent, name) {
                    return Ok(None);
                }
                Cow::Borrowed(path)
            }
            Some(it) => Cow::Owned(it.canonical.join(name)),
            None => return Ok(None),
        };
        self.object(path, links_max)
    }

    /// Whether a directory that is read instead of asked has no such name.
    fn is_not_listed(&mut self, directory: &Path, name: &OsStr) -> bool {
        let Some((_, names)) = self.crowded.iter_mut().find(|it| it.0.as_os_str() == directory)
        else {
            return false;
        };
        if let Listing::Unread = names {
            *names = listed(directory).map_or(Listing::Unknown, Listing::Names);
        }
        matches!(names, Listing::Names(names) if !names.contains(name))
    }

    /// What lies at a path whose directory has no symbolic links in it.
    fn object(
        &mut self,
        path: Cow<'_, Path>,
        links_max: usize,
    ) -> Result<Option<PathFact>, HostError> {
        let Some(own) = absent(&path, fs::symlink_metadata(&path))? else { return Ok(None) };
        let kind = kind_of(&own);
        let (device, inode) = (own.dev(), own.ino());
        let own = PathFact {
            kind,
            link: None,
            canonical: path.into_owned(),
            canonical_kind: kind,
            device,
            inode,
        };
        if kind != PathKind::SymbolicLink {
            return Ok(Some(own));
        }
        let link = absent(&own.canonical, fs::read_link(&own.canonical))?;
        let target = match &link {
            Some(link) => self.behind(&own.canonical, link, links_max)?,
            None => None,
        };
        // A link to nowhere is there, but there is nothing behind it.
        Ok(Some(PathFact { kind, link, ..target.unwrap_or(own) }))
    }

    /// The object that a link leads to.
    fn behind(
        &mut self,
        path: &Path,
        link: &Path,
        links_max: usize,
    ) -> Result<Option<PathFact>, HostError> {
        let target = path.parent().unwrap_or(path).join(link);
        if links_max > 0 && is_plain(&target) {
            let target = self.at(&target, links_max - 1)?;
            return Ok(target.filter(|it| it.canonical_kind != PathKind::SymbolicLink).cloned());
        }
        let Some(canonical) = absent(path, fs::canonicalize(path))? else { return Ok(None) };
        self.object(Cow::Owned(canonical), 0)
    }
}

/// `Ok(None)` where there is nothing, or where this user may not even look: what cannot be reached
/// outside cannot be granted inside.
pub(super) fn absent<T>(path: &Path, result: io::Result<T>) -> Result<Option<T>, HostError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES) => Ok(None),
            _ => Err(HostError::Lookup { path: path.to_owned(), source: error }),
        },
    }
}

fn kind_of(metadata: &fs::Metadata) -> PathKind {
    let kind = metadata.file_type();
    if kind.is_dir() {
        PathKind::Directory
    } else if kind.is_file() {
        PathKind::File
    } else if kind.is_symlink() {
        PathKind::SymbolicLink
    } else {
        PathKind::Special
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_path_is_followed_to_the_object_it_names() {
        let home = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(home.path()).unwrap();
        fs::create_dir_all(base.join("real/below")).unwrap();
        fs::write(base.join("file"), "").unwrap();
        symlink("real", base.join("link")).unwrap();
        symlink("nowhere", base.join("dangling")).unwrap();
        symlink("dangling", base.join("to-dangling")).unwrap();
        symlink("link/../real/./below", base.join("to-below")).unwrap();
        for (name, canonical) in [
            ("absent", None),
            ("absent/below", None),
            ("dangling", Some("dangling")),
            ("dangling/below", None),
            ("file/below", None),
            ("link", Some("real")),
            ("link/below", Some("real/below")),
            ("link/below/absent", None),
            ("real", Some("real")),
            ("real/below", Some("real/below")),
            ("file", Some("file")),
            ("to-below", Some("real/below")),
            ("to-dangling", Some("to-dangling")),
        ] {
            let path = base.join(name);
            let alone = look(std::slice::from_ref(&path)).unwrap();
            let fact = alone.get(&path);
            let expected = canonical.map(|it| base.join(it));
            assert_eq!(fact.map(|it| it.canonical.clone()), expected, "{name}");
            // After another path, whatever that was.
            for before in ["absent/x", "link/below/x", "real", "file/x"] {
                let both = look(&[base.join(before), path.clone()]).unwrap();
                assert_eq!(both.get(&path), fact, "{name} after {before}");
            }
        }
        // The same among so many names that the directory is read.
        let mut all: Vec<PathBuf> =
            (0..NAMES_MIN).map(|it| base.join(format!("no-{it}"))).collect();
        let names =
            ["absent/below", "dangling", "link", "link/below", "real/below", "file", "to-below"];
        all.extend(names.map(|it| base.join(it)));
        all.sort_by(|a, b| crate::model::walk_order(a, b));
        assert_eq!(crowded(&all), std::slice::from_ref(&base));
        let found = look(&all).unwrap();
        for path in &all {
            let alone = look(std::slice::from_ref(path)).unwrap();
            assert_eq!(found.get(path), alone.get(path), "{}", path.display());
        }

        let link = base.join("link");
        let found = look(std::slice::from_ref(&link)).unwrap();
        let fact = found.get(&link).unwrap();
        assert_eq!((fact.kind, fact.canonical_kind), (PathKind::SymbolicLink, PathKind::Directory));
        assert_eq!(fact.link.as_deref(), Some(Path::new("real")));
        assert_eq!(fact.inode, fs::metadata(base.join("real")).unwrap().ino());
    }
}
