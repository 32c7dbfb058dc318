//! Which other repositories a git repository ties to its tree.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::HostError;
use super::look::absent;
use crate::model::{read_gitlinks, walk_order};
use crate::sys::descriptor;

/// A larger index is not read: git would take minutes over its millions of files.
const INDEX_BYTES_MAX: u64 = 1 << 30;

/// The tops of the repositories that the index of the one in `workspace` names and that are there,
/// in the order of a walk. Its index lies in `git`; nothing where that is no directory. Git is not
/// started.
pub fn repositories(workspace: &Path, git: &Path) -> Result<Vec<PathBuf>, HostError> {
    let found = absent(git, fs::symlink_metadata(git))?;
    if !found.is_some_and(|it| it.is_dir()) {
        return Ok(Vec::new());
    }
    let Some((mut paths, shared)) = links(&git.join("index"))? else { return Ok(Vec::new()) };
    for name in shared {
        let (more, _) = links(&git.join(name))?.unwrap_or_default();
        paths.extend(more);
    }
    let mut tops = Vec::new();
    for path in paths {
        let top = workspace.join(path);
        let name = top.join(".git");
        if absent(&name, fs::symlink_metadata(&name))?.is_some() {
            tops.push(top);
        }
    }
    tops.sort_unstable_by(|a, b| walk_order(a, b));
    tops.dedup();
    Ok(tops)
}

type Links = (Vec<PathBuf>, Vec<String>);

fn links(index: &Path) -> Result<Option<Links>, HostError> {
    let unusable = |why: String| HostError::Index { path: index.to_owned(), why };
    let open =
        File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(index);
    let file = match open {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        result => result.map_err(|error| unusable(error.to_string()))?,
    };
    let metadata = file.metadata().map_err(|error| unusable(error.to_string()))?;
    if !metadata.is_file() {
        return Err(unusable("it is not a file".to_owned()));
    }
    if metadata.len() > INDEX_BYTES_MAX {
        return Err(unusable("it is larger than 1 GiB".to_owned()));
    }
    let piece = |buffer: &mut [u8], offset| descriptor::read_at(file.as_fd(), buffer, offset);
    let links = match read_gitlinks(metadata.len(), piece) {
        Ok(links) => links.map_err(|error| unusable(error.to_string()))?,
        Err(errno) => return Err(unusable(errno.desc().to_owned())),
    };
    Ok(Some((links.paths, links.shared)))
}
