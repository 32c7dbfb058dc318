//! A git worktree that a session makes for itself, on a branch of its own.
//!
//! It is made from files, as git would make it, and empty: git itself runs in the sandbox only, and
//! the first run of the session puts the branch's files there. Every file is new, so nothing of
//! anybody's is overwritten; what was made is taken away again if a later step fails.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::place::{Tree, names, remove_all};
use super::repository::{self, Repository};
use super::store::{Backend, Manifest};
use super::{SessionError, failed};

/// Checkouts of one repository that are looked at.
const CHECKOUTS_MAX: usize = 10_000;

/// A worktree, as it was made.
#[derive(Debug)]
pub struct Worktree {
    pub tree: PathBuf,
    /// The repository that it belongs to.
    pub common: PathBuf,
    own: PathBuf,
    /// The file of a branch that is new.
    branch: Option<PathBuf>,
}

/// Makes a worktree of the repository of `checkout`, beside it.
pub fn make(checkout: &Path, branch: &str, name: &str) -> Result<Worktree, SessionError> {
    let refuse = |why: String| SessionError::Branch { branch: branch.to_owned(), why };
    if !repository::is_branch_name(branch) {
        return Err(refuse("git lets no branch have this name".to_owned()));
    }
    if repository::is_shared_branch(branch) {
        return Err(refuse("others build on it; name a branch of the session's own".to_owned()));
    }
    let (own, common) = match Repository::of(checkout).map_err(refuse)? {
        Some(it) => (it.own, it.common),
        None => (checkout.join(".git"), checkout.join(".git")),
    };
    let reference = common.join("refs/heads").join(branch);
    let old = repository::tip(&common, &format!("refs/heads/{branch}")).map_err(refuse)?;
    let (tip, is_new) = match old {
        Some(tip) => (tip, false),
        None => match repository::head(&own, &common).map_err(refuse)? {
            Some(tip) => (tip, true),
            None => return Err(refuse("the repository has no commit to begin with".to_owned())),
        },
    };
    if let Some(taken) = checked_out(&common, branch)? {
        return Err(refuse(format!("`{}` is a checkout of it", super::shown(&taken))));
    }
    let admin = common.join("worktrees").join(name);
    let beside = checkout.file_name().unwrap_or_default();
    let mut directory = beside.to_owned();
    directory.push(format!(".{name}"));
    let tree = checkout.parent().unwrap_or(checkout).join(directory);
    for path in [&tree, &admin] {
        if fs::symlink_metadata(path).is_ok() {
            return Err(refuse(format!("`{}` is there already", super::shown(path))));
        }
    }
    let branch_file = is_new.then(|| reference.clone());
    let worktree = Worktree { tree, common, own: admin, branch: branch_file };
    match worktree.put(checkout, branch, &tip) {
        Ok(()) => Ok(worktree),
        Err(error) => {
            worktree.undo()?;
            Err(error)
        }
    }
}

impl Worktree {
    fn put(&self, checkout: &Path, branch: &str, tip: &str) -> Result<(), SessionError> {
        let Self { tree, own, .. } = self;
        let mode = fs::metadata(checkout).map_err(failed("looking at", checkout))?.mode() & 0o777;
        let directory = |path: &Path, mode: u32| {
            DirBuilder::new().mode(mode).create(path).map_err(failed("making", path))
        };
        let file = |path: &Path, text: &str| {
            let new = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
            new.and_then(|mut it| it.write_all(text.as_bytes())).map_err(failed("making", path))
        };
        directory(tree, mode)?;
        // Whatever rung keeps from others of its own files, a checkout is as open as the one beside it.
        fs::set_permissions(tree, Permissions::from_mode(mode)).map_err(failed("making", tree))?;
        let worktrees = self.common.join("worktrees");
        if fs::symlink_metadata(&worktrees).is_err() {
            directory(&worktrees, 0o755)?;
        }
        directory(own, 0o755)?;
        let text = |path: &Path| {
            path.to_str().map(|it| format!("{it}\n")).ok_or_else(|| SessionError::Branch {
                branch: branch.to_owned(),
                why: format!("`{}` is not text", super::shown(path)),
            })
        };
        file(&own.join("gitdir"), &text(&tree.join(".git"))?)?;
        file(&own.join("commondir"), "../..\n")?;
        // From a branch that is not there, git moves to another by putting all of its files there.
        file(&own.join("HEAD"), "ref: refs/heads/rung-nowhere\n")?;
        file(&tree.join(".git"), &format!("gitdir: {}", text(own)?))?;
        let Some(reference) = &self.branch else { return Ok(()) };
        let parent = reference.parent().unwrap_or(reference);
        fs::create_dir_all(parent).map_err(failed("making", parent))?;
        file(reference, &format!("{tip}\n"))
    }

    /// Takes away what was made.
    pub fn undo(&self) -> Result<(), SessionError> {
        if let Some(branch) = &self.branch {
            gone(fs::remove_file(branch)).map_err(failed("removing", branch))?;
        }
        remove(&self.tree, &self.own)
    }
}

/// Removes the worktree of a session, if it is still the one that was made. The branch stays.
pub fn discard(manifest: &Manifest) -> Result<(), SessionError> {
    let Backend::Worktree { repository, .. } = &manifest.backend else { return Ok(()) };
    match fs::symlink_metadata(&manifest.base) {
        Ok(facts) if (facts.dev(), facts.ino()) != (manifest.device, manifest.inode) => {
            let why = "is another directory than when it began, and was left alone".to_owned();
            let (name, base) = (manifest.name.clone(), manifest.base.clone());
            Err(SessionError::Base { name, base, why })
        }
        _ => remove(&manifest.base, &repository.join("worktrees").join(&manifest.name)),
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

fn remove(tree: &Path, own: &Path) -> Result<(), SessionError> {
    match Tree::open(tree) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("removing", tree)(error)),
        Ok(opened) => {
            for name in names(opened.root.as_fd()).map_err(failed("removing", tree))? {
                remove_all(opened.root.as_fd(), &name).map_err(failed("removing", tree))?;
            }
            fs::remove_dir(tree).map_err(failed("removing", tree))?;
        }
    }
    gone(fs::remove_dir_all(own)).map_err(failed("removing", own))
}

/// A checkout of the repository that is on this branch.
fn checked_out(common: &Path, branch: &str) -> Result<Option<PathBuf>, SessionError> {
    let wanted = format!("ref: refs/heads/{branch}\n");
    let is_on = |own: &Path| fs::read(own.join("HEAD")).is_ok_and(|it| it == wanted.as_bytes());
    if is_on(common) {
        return Ok(Some(common.to_owned()));
    }
    let worktrees = common.join("worktrees");
    let entries = match fs::read_dir(&worktrees) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        result => result.map_err(failed("reading", &worktrees))?,
    };
    for entry in entries.take(CHECKOUTS_MAX) {
        let own = entry.map_err(failed("reading", &worktrees))?.path();
        if is_on(&own) {
            return Ok(Some(own));
        }
    }
    Ok(None)
}
