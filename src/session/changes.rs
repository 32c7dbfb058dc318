//! What a session changed, read from its layer alone.
//!
//! The layer holds what the runs wrote and nothing else, so a walk of it finds every change and
//! passes nothing that did not change. A directory in it may only have been passed through; a
//! character device 0:0 says that something below is gone; an opaque directory hides everything
//! below it. Of the user's tree only the objects are looked at that the layer names. A copy is read
//! as a layer that hides everything, but what has not been touched since it was made is no change.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use super::place::{Object, Sort, Stamp, Tree, look_in, names};
use super::risk::{self, Risk, Verdict};
use super::state::{Moment, attributes, same_contents};
use super::store::{Applied, Backend, Session};
use super::{SessionError, failed, shown};

/// More than this is no change list that anybody reads.
const CHANGES_MAX: usize = 200_000;
pub(super) const DEPTH_MAX: usize = 200;
/// Pairs of files that are compared to find out what was renamed.
const RENAMES_MAX: usize = 2_000;

fn reading(path: &Path) -> impl FnOnce(io::Error) -> SessionError {
    failed("reading", path)
}

/// One path that is not what it is in the user's tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Relative to the tree.
    #[serde(serialize_with = "escaped")]
    pub path: PathBuf,
    pub kind: Kind,
    /// Where it was, if it has another name now.
    #[serde(serialize_with = "maybe_escaped", skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    pub before: Option<Look>,
    pub after: Option<Look>,
    pub risks: Vec<Risk>,
    pub verdict: Verdict,
    /// The host has changed it as well since the session began.
    pub both: bool,
    /// What the tree has at `path`, and at `from`, as it was compared. A directory changes with every
    /// name in it, so that of one says nothing.
    #[serde(skip)]
    pub(crate) seen: Option<Stamp>,
    #[serde(skip)]
    pub(crate) from_seen: Option<Stamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Created,
    Modified,
    Deleted,
    Renamed,
    /// The mode alone.
    Mode,
    /// Extended attributes alone.
    Attributes,
    /// Another kind of thing.
    Replaced,
}

/// What somebody would see of an object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Look {
    pub sort: Looks,
    pub mode: u32,
    pub size: u64,
    #[serde(serialize_with = "maybe_escaped", skip_serializing_if = "Option::is_none")]
    pub target: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Looks {
    File,
    Directory,
    Link,
    Special,
}

fn escaped<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&shown(path))
}

#[expect(clippy::ref_option, reason = "serde hands over the field itself")]
fn maybe_escaped<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => escaped(path, serializer),
        None => serializer.serialize_none(),
    }
}

/// Everything that the session changed, in the order of a walk. `is_protected` says which paths
/// of the tree nobody inside may write.
pub fn changes(
    session: &Session,
    is_protected: &dyn Fn(&Path) -> bool,
) -> Result<Vec<Change>, SessionError> {
    let mut found = unpaired(session, is_protected)?;
    let base = session.base()?;
    let written = session.written();
    let layer = Tree::open(&written).map_err(failed("opening", &written))?;
    renames(&mut found, &layer, &base)?;
    Ok(found)
}

/// The same, in which a file that was renamed is gone under one name and there under another.
pub(super) fn unpaired(
    session: &Session,
    is_protected: &dyn Fn(&Path) -> bool,
) -> Result<Vec<Change>, SessionError> {
    let base = session.base()?;
    let written = session.written();
    let layer = Tree::open(&written).map_err(failed("opening", &written))?;
    let mut walk = Walk {
        base: &base,
        since: session.manifest.since,
        copied: session.manifest.copied,
        applied: session.applied()?,
        is_protected,
        stirred: false,
        found: BTreeMap::new(),
    };
    let root = layer.look(Path::new("")).map_err(failed("looking at", &written))?;
    let under = base.look(Path::new("")).map_err(failed("looking at", &base.path))?;
    if let Some(root) = root {
        let hides = session.manifest.backend == Backend::Copy;
        walk.directory(&root, under.as_ref(), Path::new(""), hides, 0)?;
    }
    Ok(walk.found.into_values().collect())
}

struct Walk<'a> {
    base: &'a Tree,
    since: Moment,
    copied: Option<Moment>,
    /// What rung itself has written since, and when.
    applied: Applied,
    is_protected: &'a dyn Fn(&Path) -> bool,
    /// Something was added to the directory that is looked at, or taken from it, by the host.
    stirred: bool,
    found: BTreeMap<PathBuf, Change>,
}

impl Walk<'_> {
    /// A directory of the layer, and what it lies on, which it `hides` or lets show through.
    fn directory(
        &mut self,
        upper: &Object,
        under: Option<&Object>,
        inside: &Path,
        hides: bool,
        depth: usize,
    ) -> Result<(), SessionError> {
        if depth > DEPTH_MAX {
            let (path, max) = (self.base.path.join(inside), DEPTH_MAX as u64);
            return Err(SessionError::TooMuch { path, max, what: "directories in each other" });
        }
        let own = names(upper.held.as_fd()).map_err(reading(inside))?;
        let stirred = under.is_none_or(|it| self.is_newer(it, inside));
        for name in &own {
            self.stirred = stirred;
            let path = inside.join(name);
            let upper = look_in(upper.held.as_fd(), name).map_err(reading(&path))?;
            let Some(upper) = upper else { continue };
            let under = below(under, name).map_err(reading(&path))?;
            self.object(&upper, under.as_ref(), &path, hides, depth)?;
        }
        let Some(under) = under.filter(|_| hides) else { return Ok(()) };
        for name in names(under.held.as_fd()).map_err(reading(inside))? {
            if own.binary_search(&name).is_err() {
                let path = inside.join(&name);
                let gone = look_in(under.held.as_fd(), &name).map_err(reading(&path))?;
                if let Some(gone) = gone {
                    self.deleted(&gone, &path, depth)?;
                }
            }
        }
        Ok(())
    }

    fn object(
        &mut self,
        upper: &Object,
        under: Option<&Object>,
        path: &Path,
        hides: bool,
        depth: usize,
    ) -> Result<(), SessionError> {
        let sort = upper.sort();
        if sort == Sort::Whiteout {
            return match under {
                Some(under) => self.deleted(under, path, depth),
                None => Ok(()),
            };
        }
        let untouched = self.copied.is_some_and(|it| Moment::changed(&upper.facts) <= it);
        if sort == Sort::Directory {
            let hides = hides || upper.is_opaque().map_err(failed("reading", path))?;
            let same_sort = under.filter(|it| it.sort() == Sort::Directory);
            if !untouched {
                self.compare(upper, under, path)?;
            }
            if let (Some(under), None) = (under, same_sort) {
                self.replaced_below(under, path, depth)?;
            }
            return self.directory(upper, same_sort, path, hides, depth + 1);
        }
        if let Some(under) = under.filter(|it| it.sort() == Sort::Directory) {
            self.replaced_below(under, path, depth)?;
        }
        if untouched { Ok(()) } else { self.compare(upper, under, path) }
    }

    /// Whatever was in a directory that is none any more.
    fn replaced_below(
        &mut self,
        under: &Object,
        path: &Path,
        depth: usize,
    ) -> Result<(), SessionError> {
        if under.sort() != Sort::Directory {
            return Ok(());
        }
        for name in names(under.held.as_fd()).map_err(failed("reading", path))? {
            let path = path.join(&name);
            let gone = look_in(under.held.as_fd(), &name).map_err(failed("reading", &path))?;
            if let Some(gone) = gone {
                self.deleted(&gone, &path, depth + 1)?;
            }
        }
        Ok(())
    }

    fn deleted(&mut self, gone: &Object, path: &Path, depth: usize) -> Result<(), SessionError> {
        if depth > DEPTH_MAX {
            let (path, max) = (self.base.path.join(path), DEPTH_MAX as u64);
            return Err(SessionError::TooMuch { path, max, what: "directories in each other" });
        }
        // A copy has none of the sockets and pipes, and nothing that came after it.
        let never_had =
            self.copied.is_some() && (gone.sort() == Sort::Special || self.is_newer(gone, path));
        if !never_had {
            self.add(path, Kind::Deleted, Some(gone), None, false)?;
        }
        self.replaced_below(gone, path, depth)
    }

    /// One object against what it lies on.
    fn compare(
        &mut self,
        upper: &Object,
        under: Option<&Object>,
        path: &Path,
    ) -> Result<(), SessionError> {
        let reading = failed("comparing", path);
        let Some(under) = under else {
            return self.add(path, Kind::Created, None, Some(upper), false);
        };
        let compared = || -> io::Result<Option<(Kind, bool)>> {
            let (sort, mode) = (upper.sort(), |it: &Object| it.facts.mode() & 0o7777);
            if sort != under.sort() {
                return Ok(Some((Kind::Replaced, false)));
            }
            let attributes_differ = match sort {
                Sort::File | Sort::Directory => attributes(upper)? != attributes(under)?,
                Sort::Link | Sort::Special | Sort::Whiteout => false,
            };
            let contents_differ = match sort {
                Sort::File => !same_contents(upper, under)?,
                Sort::Link => upper.target()? != under.target()?,
                Sort::Special => upper.facts.rdev() != under.facts.rdev(),
                Sort::Directory | Sort::Whiteout => false,
            };
            // The mode of a link says nothing.
            let modes_differ = sort != Sort::Link && mode(upper) != mode(under);
            Ok(match (contents_differ, modes_differ, attributes_differ) {
                (true, _, attributes) => Some((Kind::Modified, attributes)),
                (false, true, attributes) => Some((Kind::Mode, attributes)),
                (false, false, true) => Some((Kind::Attributes, true)),
                (false, false, false) => None,
            })
        };
        match compared().map_err(reading)? {
            Some((kind, attributes)) => self.add(path, kind, Some(under), Some(upper), attributes),
            None => Ok(()),
        }
    }

    /// Whether the host has changed an object of the tree since the session began.
    fn is_newer(&self, under: &Object, path: &Path) -> bool {
        let changed = under.changed();
        changed > self.since && self.applied.get(path) != Some(&changed)
    }

    fn add(
        &mut self,
        path: &Path,
        kind: Kind,
        before: Option<&Object>,
        after: Option<&Object>,
        attributes: bool,
    ) -> Result<(), SessionError> {
        if self.found.len() >= CHANGES_MAX {
            let (path, max) = (self.base.path.clone(), CHANGES_MAX as u64);
            return Err(SessionError::TooMuch { path, max, what: "changes" });
        }
        let looking = |it| Look::of(it).map_err(failed("looking at", path));
        let both = match before {
            // Whoever adds a file to a directory changes the directory.
            Some(before) if before.sort() == Sort::Directory && kind != Kind::Replaced => false,
            Some(before) => self.is_newer(before, path),
            // The layer has a copy of what is not there any more. A file that was renamed is such
            // a copy too, but then nobody took anything from the directory of the tree.
            None => {
                self.stirred
                    && after.is_some_and(|it| {
                        matches!(it.attribute(c"user.overlay.origin"), Ok(Some(_)))
                    })
            }
        };
        let seen = before.map(Object::stamp);
        let (before, after) = (before.map(looking).transpose()?, after.map(looking).transpose()?);
        let mut risks = risks(path, kind, before.as_ref(), after.as_ref());
        if attributes {
            risks.push(Risk::Attributes);
        }
        if (self.is_protected)(path) && !risks.contains(&Risk::Protected) {
            risks.push(Risk::Protected);
        }
        risks.sort_unstable();
        let verdict = risks.iter().map(|it| it.verdict()).max().unwrap_or(Verdict::Allow);
        let change = Change {
            path: path.to_owned(),
            kind,
            from: None,
            before,
            after,
            risks,
            verdict,
            both,
            seen,
            from_seen: None,
        };
        self.found.insert(path.to_owned(), change);
        Ok(())
    }
}

fn below(directory: Option<&Object>, name: &OsStr) -> io::Result<Option<Object>> {
    match directory {
        Some(directory) => look_in(directory.held.as_fd(), name),
        None => Ok(None),
    }
}

impl Look {
    fn of(object: &Object) -> io::Result<Self> {
        let sort = match object.sort() {
            Sort::File => Looks::File,
            Sort::Directory => Looks::Directory,
            Sort::Link => Looks::Link,
            Sort::Special | Sort::Whiteout => Looks::Special,
        };
        let target = if sort == Looks::Link { Some(object.target()?.into()) } else { None };
        let size = if sort == Looks::File { object.facts.len() } else { 0 };
        Ok(Self { sort, mode: object.facts.mode() & 0o7777, size, target })
    }
}

fn risks(path: &Path, kind: Kind, before: Option<&Look>, after: Option<&Look>) -> Vec<Risk> {
    const SET_ID: u32 = 0o6000;
    const EXECUTE: u32 = 0o111;
    let mut risks = risk::of_name(path);
    let file = |it: &&Look| it.sort == Looks::File;
    // Git removes what it has packed, and its lock files come and go.
    if kind == Kind::Deleted && !risk::is_of_git(path) {
        risks.push(Risk::Deletion);
    }
    // A file in its place points to another repository, with hooks and settings of its own.
    let pointer = path.as_os_str() == ".git" && after.is_some_and(|it| it.sort != Looks::Directory);
    if pointer {
        risks.push(Risk::Protected);
    }
    // What cannot be given back is not taken away.
    if before.is_some_and(|it| it.sort == Looks::Special) {
        risks.push(Risk::Special);
    }
    let Some(after) = after else { return risks };
    let gains = |bits: u32| {
        let had = before.filter(file).map_or(0, |it| it.mode);
        after.mode & bits != 0 && had & bits == 0
    };
    match after.sort {
        Looks::Special if !risks.contains(&Risk::Special) => risks.push(Risk::Special),
        Looks::File if after.mode & SET_ID != 0 => risks.push(Risk::SetId),
        Looks::File if gains(EXECUTE) => risks.push(Risk::Executable),
        Looks::Directory if gains(SET_ID) => risks.push(Risk::SetId),
        Looks::File | Looks::Directory | Looks::Link | Looks::Special => {}
    }
    if after.target.as_ref().is_some_and(|target| risk::leaves(path, target)) {
        risks.push(Risk::Leaves);
    }
    if after.size > risk::HUGE_BYTES {
        risks.push(Risk::Huge);
    }
    risks
}

/// Finds files that are gone under one name and there, word for word, under another.
fn renames(found: &mut Vec<Change>, layer: &Tree, base: &Tree) -> Result<(), SessionError> {
    fn file(look: Option<&Look>) -> Option<&Look> {
        look.filter(|it| it.sort == Looks::File && it.size > 0)
    }
    let mut gone: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (index, change) in found.iter().enumerate() {
        if let Some(look) = file(change.before.as_ref()).filter(|_| change.kind == Kind::Deleted) {
            gone.entry(look.size).or_default().push(index);
        }
    }
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    let mut compared = 0;
    for (to, change) in found.iter().enumerate() {
        let Some(look) = file(change.after.as_ref()).filter(|_| change.kind == Kind::Created)
        else {
            continue;
        };
        let Some(candidates) = gone.get_mut(&look.size) else { continue };
        for place in 0..candidates.len() {
            let Some(from) = candidates.get(place).copied() else { break };
            if compared >= RENAMES_MAX {
                break;
            }
            compared += 1;
            let Some(old) = found.get(from) else { continue };
            let same = || -> io::Result<bool> {
                match (layer.look(&change.path)?, base.look(&old.path)?) {
                    (Some(new), Some(old)) => same_contents(&new, &old),
                    _ => Ok(false),
                }
            };
            if same().map_err(failed("comparing", &change.path))? {
                candidates.remove(place);
                pairs.push((from, to));
                break;
            }
        }
    }
    for (from, to) in &pairs {
        let old = found.get(*from).cloned();
        if let (Some(old), Some(change)) = (old, found.get_mut(*to)) {
            change.kind = Kind::Renamed;
            change.both |= old.both;
            for risk in old.risks.iter().filter(|it| **it != Risk::Deletion) {
                if !change.risks.contains(risk) {
                    change.risks.push(*risk);
                }
            }
            // What could be started before can be started now.
            let could = old.before.as_ref().is_some_and(|it| it.mode & 0o111 != 0);
            change.risks.retain(|it| *it != Risk::Executable || !could);
            change.risks.sort_unstable();
            let verdict = change.risks.iter().map(|it| it.verdict()).max();
            change.verdict = verdict.unwrap_or(Verdict::Allow);
            change.before = old.before;
            change.from_seen = old.seen;
            change.from = Some(old.path);
        }
    }
    let moved: BTreeSet<usize> = pairs.iter().map(|(from, _)| *from).collect();
    let mut index = 0;
    found.retain(|_| {
        let keep = !moved.contains(&index);
        index += 1;
        keep
    });
    Ok(())
}

impl Change {
    /// Every path of the tree that it is about.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        std::iter::once(self.path.as_path()).chain(self.from.as_deref())
    }

    /// Whether it is about the repository's own data.
    pub fn is_of_git(&self) -> bool {
        risk::is_of_git(&self.path)
    }
}

/// The contents before and after, for showing; nothing where there is no file.
pub(super) fn contents(tree: &Tree, path: &Path, max: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(object) = tree.look(path)? else { return Ok(None) };
    match object.sort() {
        Sort::Link => Ok(Some(object.target()?.as_bytes().to_vec())),
        Sort::File if object.facts.len() <= max => {
            let mut bytes = Vec::new();
            let file: File = object.open()?;
            file.take(max).read_to_end(&mut bytes)?;
            Ok(Some(bytes))
        }
        Sort::File | Sort::Directory | Sort::Whiteout | Sort::Special => Ok(None),
    }
}
