//! The repositories that a run has tied to the workspace's own.
//!
//! `git status` starts a git in every repository that the index names and that is there, and that
//! git runs what its settings say. A run may write the index, and may make such a repository; what
//! it has made is found here, at its end, from the index itself: no tree is walked, no git started.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::quarantine::{Object, Spot, c_name, hold, look};
use crate::model::{Gitlinks, read_gitlinks};
use crate::sys::descriptor;

/// A larger index is not read.
const BYTES_MAX: u64 = 1 << 30;

/// What the index of the workspace says.
pub(super) enum Index {
    /// There is none that git would look for here.
    Absent,
    /// Tops of repositories, relative to the workspace.
    Names(Vec<PathBuf>),
    /// Git may make something of it; this program cannot.
    Unreadable(Spot),
}

/// `elsewhere` is where the index lies if the workspace's own `.git` only points there.
pub(super) fn read(
    workspace: &OwnedFd,
    path: &Path,
    elsewhere: Option<&Path>,
) -> io::Result<Index> {
    let git = match elsewhere {
        None => look(workspace, c".git")?.filter(Object::is_directory).map(|it| it.held),
        Some(path) => hold(path)?,
    };
    let Some(git) = git else { return Ok(Index::Absent) };
    let path = elsewhere.map_or_else(|| path.join(".git"), Path::to_owned);
    let spot = |name: &str| -> io::Result<Spot> {
        let path = path.join(name);
        Ok(Spot { parent: git.try_clone()?, name: c_name(name.as_ref())?, path })
    };
    let index = spot("index")?;
    let links = match content(&index)? {
        Content::Absent => return Ok(Index::Absent),
        Content::Index(links) => links,
        Content::Other => return Ok(Index::Unreadable(index)),
    };
    let mut names = links.paths;
    for shared in links.shared {
        let shared = spot(&shared)?;
        match content(&shared)? {
            // Git cannot read an index without its other half.
            Content::Absent => {}
            Content::Index(links) => names.extend(links.paths),
            Content::Other => return Ok(Index::Unreadable(shared)),
        }
    }
    names.sort_unstable();
    names.dedup();
    Ok(Index::Names(names))
}

/// What a file is.
enum Content {
    Absent,
    Index(Gitlinks),
    /// No file, or one that is too large for an index, or something else.
    Other,
}

fn content(spot: &Spot) -> io::Result<Content> {
    let Some(found) = look(&spot.parent, &spot.name)? else { return Ok(Content::Absent) };
    if !found.is_file() {
        return Ok(Content::Other);
    }
    let flags = libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::from(descriptor::open_at(spot.parent.as_raw_fd(), &spot.name, flags, 0)?);
    let size = file.metadata()?.len();
    if size > BYTES_MAX {
        return Ok(Content::Other);
    }
    let piece = |buffer: &mut [u8], offset| descriptor::read_at(file.as_fd(), buffer, offset);
    Ok(read_gitlinks(size, piece)?.map_or(Content::Other, Content::Index))
}
