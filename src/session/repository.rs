//! The repository of a checkout that keeps it elsewhere: a linked worktree, or a submodule.
//!
//! A file `.git` says where, and the file lies where agents write. So it is believed only if what it
//! names is a repository of this user that points back to this very checkout, which nobody can
//! arrange from inside. All of that is read from files: git is not asked, because git would start
//! what its settings name.
//!
//! What a run writes to such a repository lands in a layer. Kept of it is what a commit needs: new
//! objects, this checkout's index and `HEAD`, and its own and new branches with their logs, each of
//! them looked at for what it must be. Hooks, settings, other checkouts and other branches are not.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::binary::Names;
use super::changes::{self, Change, Kind, Looks, contents};
use super::place::{Sort, Tree};
use super::store::Session;
use super::{SessionError, failed};
use crate::model::gitlinks;

/// A file that points somewhere is never longer.
const POINTER_BYTES_MAX: u64 = 8 << 10;
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// The list of packed branches and tags.
const PACKED_BYTES_MAX: u64 = 64 << 20;
const INDEX_BYTES_MAX: u64 = 1 << 30;
const HEX_OF_OBJECT: [usize; 2] = [40, 64];

/// Where a checkout's own data and its repository are. Absolute, canonical.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// This checkout's own: its `HEAD` and its index.
    pub own: PathBuf,
    /// What all checkouts share. The same directory for a submodule.
    pub common: PathBuf,
}

/// What a layer on a repository has, by what becomes of it.
#[derive(Debug, Default)]
pub struct Kept {
    pub kept: Vec<Change>,
    pub left: Vec<Change>,
}

/// Files of one checkout's own that git keeps while something is going on, or for its user. None of
/// them names a program.
const OWN_FILES: [&str; 13] = [
    "AUTO_MERGE",
    "CHERRY_PICK_HEAD",
    "COMMIT_EDITMSG",
    "FETCH_HEAD",
    "HEAD",
    "MERGE_HEAD",
    "MERGE_MODE",
    "MERGE_MSG",
    "ORIG_HEAD",
    "REVERT_HEAD",
    "SQUASH_MSG",
    "index",
    "logs/HEAD",
];

/// Branches that an agent's checkout does not move to, and so does not commit to.
const SHARED_BRANCHES: [&str; 9] =
    ["develop", "main", "master", "prod", "production", "release", "staging", "stable", "trunk"];

/// Whether a branch is one that others build on, so that no session may begin on it.
pub fn is_shared_branch(name: &str) -> bool {
    let first = name.split('/').next().unwrap_or(name);
    SHARED_BRANCHES.contains(&first)
}

/// How the repository of a tree names its objects; as most do where there is none.
pub(super) fn names_of(tree: &Path) -> Names {
    let common = match Repository::of(tree) {
        Ok(Some(found)) => found.common,
        _ => tree.join(".git"),
    };
    let text = small(&common.join("config"), CONFIG_BYTES_MAX).unwrap_or_default();
    let plain: Vec<u8> =
        text.to_ascii_lowercase().into_iter().filter(|it| !matches!(it, b' ' | b'\t')).collect();
    let says = |line: &[u8]| line == b"objectformat=sha256";
    if plain.split(|it| *it == b'\n').any(says) { Names::Sha256 } else { Names::Sha1 }
}

impl Repository {
    /// The repository of a checkout whose `.git` is a file; nothing where it is none. The error says
    /// why it cannot be believed, which leaves the run without git.
    pub fn of(workspace: &Path) -> Result<Option<Self>, String> {
        let pointer = workspace.join(".git");
        match fs::symlink_metadata(&pointer) {
            Ok(facts) if facts.is_file() => {}
            _ => return Ok(None),
        }
        let text = small(&pointer, POINTER_BYTES_MAX)?;
        let named = text.strip_prefix(b"gitdir: ").ok_or("`.git` is a file, and names no place")?;
        let own = canonical(workspace, line(named))?;
        let common = match small(&own.join("commondir"), POINTER_BYTES_MAX) {
            Ok(text) => canonical(&own, line(&text))?,
            Err(_) => own.clone(),
        };
        let found = Self { own, common };
        let back = found.points_to()?;
        if back != *workspace && back != pointer {
            let (own, back) = (super::shown(&found.own), super::shown(&back));
            return Err(format!(
                "`.git` names `{own}`, which belongs to `{back}`; `git worktree repair` mends what was moved"
            ));
        }
        found.is_repository()?;
        Ok(Some(found))
    }

    /// The checkout that the repository itself says it belongs to.
    fn points_to(&self) -> Result<PathBuf, String> {
        if self.own != self.common {
            if self.own.parent() != Some(&self.common.join("worktrees")) {
                return Err(format!(
                    "`{}` is no worktree of `{}`",
                    super::shown(&self.own),
                    super::shown(&self.common)
                ));
            }
            let text = small(&self.own.join("gitdir"), POINTER_BYTES_MAX)?;
            return canonical(&self.own, line(&text));
        }
        let text = small(&self.own.join("config"), CONFIG_BYTES_MAX)?;
        let worktree = worktree_in(&text).ok_or_else(|| {
            format!("`{}` does not say whose repository it is", super::shown(&self.own))
        })?;
        canonical(&self.own, &worktree)
    }

    fn is_repository(&self) -> Result<(), String> {
        let user = nix::unistd::geteuid().as_raw();
        for directory in [&self.own, &self.common] {
            let facts = fs::symlink_metadata(directory).map_err(|error| error.to_string())?;
            if facts.uid() != user {
                let directory = super::shown(directory);
                return Err(format!("`{directory}` belongs to user {}", facts.uid()));
            }
        }
        for name in ["objects", "refs"] {
            if !fs::symlink_metadata(self.common.join(name)).is_ok_and(|it| it.is_dir()) {
                return Err(format!("`{}` has no `{name}`", super::shown(&self.common)));
            }
        }
        if fs::symlink_metadata(self.common.join("reftable")).is_ok() {
            let common = super::shown(&self.common);
            return Err(format!("`{common}` keeps its branches in a table that rung cannot read"));
        }
        Ok(())
    }

    /// What this checkout has of its own, relative to what all share.
    fn own_inside(&self) -> &Path {
        self.own.strip_prefix(&self.common).unwrap_or(Path::new(""))
    }

    /// What the layer has, by whether it is kept.
    pub fn sort(&self, layer: &Session) -> Result<Kept, SessionError> {
        let written = layer.written();
        let upper = Tree::open(&written).map_err(failed("opening", &written))?;
        let lower = Tree::open(&self.common).map_err(failed("opening", &self.common))?;
        let reading = || failed("reading", &self.common);
        let head = self.own_inside().join("HEAD");
        let look = Look {
            own: self.own_inside(),
            branch: branch_in(&lower, &head).map_err(reading())?,
            next: branch_in(&upper, &head).map_err(reading())?,
            packed: packed(&self.common)?,
            upper,
            lower,
        };
        let mut directories = Vec::new();
        let mut sorted = Kept::default();
        for change in changes::unpaired(layer, &|_| false)? {
            let is_directory = change.after.as_ref().is_some_and(|it| it.sort == Looks::Directory);
            if is_directory {
                directories.push(change);
            } else if look.keeps(&change).map_err(reading())? {
                sorted.kept.push(change);
            } else if !is_scratch(&change.path) {
                sorted.left.push(change);
            }
        }
        // Only for what is kept; another directory without anything in it says nothing.
        let needed: BTreeSet<PathBuf> = sorted
            .kept
            .iter()
            .flat_map(|it| it.path.ancestors().skip(1))
            .map(Path::to_owned)
            .collect();
        let new = |it: &Change| it.kind == Kind::Created && needed.contains(&it.path);
        sorted.kept.extend(directories.into_iter().filter(new));
        sorted.kept.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(sorted)
    }
}

/// What git itself makes and removes again.
fn is_scratch(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().as_bytes();
    name.ends_with(b".lock") || name.starts_with(b"tmp_") || name == b"gc.pid"
}

/// What decides whether a change is kept.
struct Look<'a> {
    upper: Tree,
    lower: Tree,
    own: &'a Path,
    /// The branch of this checkout when the layer began.
    branch: Option<String>,
    /// The one that it is on now, if the layer says so.
    next: Option<String>,
    packed: BTreeSet<String>,
}

impl Look<'_> {
    fn keeps(&self, change: &Change) -> io::Result<bool> {
        let file = |it: &changes::Look| it.sort == Looks::File && it.mode & 0o7000 == 0;
        let is_file = change.after.as_ref().is_some_and(file);
        if change.both || !(is_file || change.kind == Kind::Deleted) {
            return Ok(false);
        }
        let path = change.path.as_path();
        if let Ok(name) = path.strip_prefix(self.own)
            && OWN_FILES.iter().any(|it| name.as_os_str() == *it)
        {
            return match name.to_str() {
                Some("HEAD") => self.keeps_head(path),
                Some("index") => Ok(is_file && self.ties_nothing_new(path)?),
                _ => Ok(true),
            };
        }
        let text = path.to_str().unwrap_or_default();
        if let Some(branch) = text.strip_prefix("refs/heads/") {
            return Ok(is_file && self.is_own(branch) && self.names_object(path)?);
        }
        if let Some(branch) = text.strip_prefix("logs/refs/heads/") {
            return Ok(is_file && self.is_own(branch));
        }
        let is_new = change.kind == Kind::Created;
        Ok(is_new && text.strip_prefix("objects/").is_some_and(is_object))
    }

    /// A branch that this checkout may move: the one it began on, one that is new, or one that it has
    /// moved to.
    fn is_own(&self, branch: &str) -> bool {
        if !is_branch_name(branch) {
            return false;
        }
        let mine = |it: &Option<String>| it.as_deref() == Some(branch);
        mine(&self.branch) || self.is_new(branch) || (mine(&self.next) && !is_shared_branch(branch))
    }

    fn is_new(&self, branch: &str) -> bool {
        let path = Path::new("refs/heads").join(branch);
        let there = self.lower.look(&path).is_ok_and(|it| it.is_none());
        there && !self.packed.contains(branch) && !is_shared_branch(branch)
    }

    fn keeps_head(&self, path: &Path) -> io::Result<bool> {
        match (&self.next, self.names_object(path)?) {
            (Some(branch), _) if self.branch.as_ref() == Some(branch) => Ok(true),
            (Some(branch), _) => Ok(is_branch_name(branch) && !is_shared_branch(branch)),
            (None, is_object) => Ok(is_object),
        }
    }

    /// Git starts itself in every repository that an index names, so none may be added.
    fn ties_nothing_new(&self, path: &Path) -> io::Result<bool> {
        let links = |tree: &Tree| -> io::Result<Option<BTreeSet<PathBuf>>> {
            let bytes = contents(tree, path, INDEX_BYTES_MAX)?.unwrap_or_default();
            // The other half of a split index is a file that is not kept.
            let links = gitlinks(&bytes).ok().filter(|it| it.shared.is_empty());
            Ok(links.map(|it| it.paths.into_iter().collect()))
        };
        let (new, old) = (links(&self.upper)?, links(&self.lower)?.unwrap_or_default());
        Ok(new.is_some_and(|new| new.is_subset(&old)))
    }

    fn names_object(&self, path: &Path) -> io::Result<bool> {
        let text = contents(&self.upper, path, POINTER_BYTES_MAX)?.unwrap_or_default();
        Ok(is_hex(line(&text)))
    }
}

/// The branch that a `HEAD` names.
fn branch_in(tree: &Tree, path: &Path) -> io::Result<Option<String>> {
    let file = tree.look(path)?.filter(|it| it.sort() == Sort::File);
    if file.is_none() {
        return Ok(None);
    }
    let text = contents(tree, path, POINTER_BYTES_MAX)?.unwrap_or_default();
    let name = line(&text).strip_prefix(b"ref: refs/heads/");
    Ok(name.and_then(|it| String::from_utf8(it.to_vec()).ok()))
}

/// The branches that have no file of their own.
fn packed(common: &Path) -> Result<BTreeSet<String>, SessionError> {
    let path = common.join("packed-refs");
    let text = match fs::symlink_metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        _ => small(&path, PACKED_BYTES_MAX)
            .map_err(|error| failed("reading", &path)(io::Error::other(error)))?,
    };
    let lines = text.split(|it| *it == b'\n');
    Ok(lines
        .filter_map(|it| {
            let name = it.split(|byte| *byte == b' ').nth(1)?.strip_prefix(b"refs/heads/")?;
            String::from_utf8(name.to_vec()).ok()
        })
        .collect())
}

/// The commit that a branch is at, if there is such a branch.
pub(super) fn tip(common: &Path, reference: &str) -> Result<Option<String>, String> {
    let path = common.join(reference);
    if fs::symlink_metadata(&path).is_ok_and(|it| it.is_file()) {
        return commit(&small(&path, POINTER_BYTES_MAX)?).map(Some);
    }
    let list = common.join("packed-refs");
    if fs::symlink_metadata(&list).is_err() {
        return Ok(None);
    }
    let text = small(&list, PACKED_BYTES_MAX)?;
    let ending = format!(" {reference}");
    let found = text.split(|it| *it == b'\n').find_map(|it| it.strip_suffix(ending.as_bytes()));
    found.map(commit).transpose()
}

/// The commit that a checkout is at, if it has one.
pub(super) fn head(own: &Path, common: &Path) -> Result<Option<String>, String> {
    let text = small(&own.join("HEAD"), POINTER_BYTES_MAX)?;
    match line(&text).strip_prefix(b"ref: ") {
        None => commit(&text).map(Some),
        Some(name) => {
            let name = std::str::from_utf8(name).ok().and_then(|it| it.strip_prefix("refs/heads/"));
            let name = name.filter(|it| is_branch_name(it)).ok_or("`HEAD` names no branch")?;
            tip(common, &format!("refs/heads/{name}"))
        }
    }
}

fn commit(text: &[u8]) -> Result<String, String> {
    let text = line(text);
    let hex = std::str::from_utf8(text).ok().filter(|_| is_hex(text));
    hex.map(str::to_owned).ok_or_else(|| "a branch names no commit".to_owned())
}

fn is_hex(text: &[u8]) -> bool {
    HEX_OF_OBJECT.contains(&text.len())
        && text.iter().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

/// A loose object, or one of the files of a pack.
fn is_object(name: &str) -> bool {
    let Some((directory, file)) = name.split_once('/') else { return false };
    if directory == "pack" {
        let stem = file.strip_prefix("pack-").and_then(|it| it.split_once('.'));
        return stem.is_some_and(|(hex, kind)| {
            is_hex(hex.as_bytes()) && matches!(kind, "idx" | "pack" | "rev")
        });
    }
    directory.len() == 2 && is_hex(format!("{directory}{file}").as_bytes())
}

/// What git lets be the name of a branch.
pub(super) fn is_branch_name(name: &str) -> bool {
    let odd = |byte: u8| byte <= b' ' || byte == 0x7f || b"~^:?*[\\".contains(&byte);
    let part =
        |it: &str| !it.is_empty() && !it.starts_with('.') && !it.as_bytes().ends_with(b".lock");
    !name.starts_with('-')
        && name != "HEAD"
        && !name.ends_with('.')
        && !name.contains("..")
        && !name.contains("@{")
        && !name.bytes().any(odd)
        && name.split('/').all(part)
}

/// `core.worktree` in the text of a repository's settings; the last one counts.
fn worktree_in(text: &[u8]) -> Option<Vec<u8>> {
    let mut core = false;
    let mut found = None;
    for line in text.split(|it| *it == b'\n').map(<[u8]>::trim_ascii) {
        if let Some(section) = line.strip_prefix(b"[") {
            core = section.eq_ignore_ascii_case(b"core]");
            continue;
        }
        let Some(equals) = line.iter().position(|it| *it == b'=') else { continue };
        let (key, value) = line.split_at(equals);
        if core && key.trim_ascii().eq_ignore_ascii_case(b"worktree") {
            let value = value.get(1..).unwrap_or_default().trim_ascii();
            let inner = value.strip_prefix(b"\"").and_then(|it| it.strip_suffix(b"\""));
            found = Some(inner.unwrap_or(value).to_vec());
        }
    }
    found
}

fn line(text: &[u8]) -> &[u8] {
    text.strip_suffix(b"\n").unwrap_or(text)
}

fn canonical(from: &Path, text: &[u8]) -> Result<PathBuf, String> {
    let path = PathBuf::from(std::ffi::OsString::from_vec(text.to_vec()));
    let path = from.join(path);
    fs::canonicalize(&path)
        .map_err(|error| format!("`{}` cannot be found: {error}", super::shown(&path)))
}

/// A plain file that is not longer than this.
fn small(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let read = || -> io::Result<Vec<u8>> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let facts = file.metadata()?;
        if !facts.is_file() || facts.len() > max {
            return Err(io::Error::other("it is no file, or longer than it should be"));
        }
        let mut text = Vec::new();
        file.take(max).read_to_end(&mut text)?;
        Ok(text)
    };
    read().map_err(|error| format!("`{}` cannot be read: {error}", super::shown(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_objects_and_branches_are_what_git_lets_them_be() {
        let hex = "0123456789012345678901234567890123456789";
        for (name, good) in [
            (format!("01/{}", "2".repeat(38)), true),
            (format!("pack/pack-{hex}.pack"), true),
            (format!("pack/pack-{hex}.promisor"), false),
            ("info/alternates".to_owned(), false),
            (format!("01/{hex}"), false),
        ] {
            assert_eq!(is_object(&name), good, "{name}");
        }
        for (name, good) in [
            ("a/b-c", true),
            ("a..b", false),
            ("a/.b", false),
            ("a.lock", false),
            ("-a", false),
            ("a b", false),
            ("", false),
            ("../x", false),
        ] {
            assert_eq!(is_branch_name(name), good, "{name}");
        }
    }

    #[test]
    fn the_settings_say_whose_repository_it_is() {
        let text = b"[core]\n\tbare = false\n\tworktree = ../../../sub\n[x]\n\tworktree = y\n";
        assert_eq!(worktree_in(text).as_deref(), Some(&b"../../../sub"[..]));
        assert_eq!(worktree_in(b"[Core]\nWorkTree=\"/a b\"\n").as_deref(), Some(&b"/a b"[..]));
        assert_eq!(worktree_in(b"[x]\nworktree = y\n"), None);
    }
}
