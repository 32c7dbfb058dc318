//! Reads the script that a command line names, so that what it cannot do is said before it begins.
//!
//! The file is the workspace's own, and so is every directory above it up to the workspace: no link
//! is followed. What cannot be read is left to the exec gate, which decides every program anyway.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::model::Request;
use crate::policy::{self, NamedScript, Refusal};
use crate::profile::Profile;

/// Larger files of scripts are not read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why the script that the command names could not run to its end, if that is certain.
pub(super) fn refused(
    named: &NamedScript,
    request: &Request,
    profile: &Profile,
) -> Option<Refusal> {
    let Request { cwd, workspace, .. } = request;
    let above = || cwd.ancestors().take_while(|it| it.starts_with(workspace));
    let depth = if named.is_looked_for_above() { usize::MAX } else { 1 };
    let (file, text) = above().take(depth).find_map(|directory| file_in(directory, named))?;
    let script = named.find(file, &text?)?;
    // Where package managers look for a program first. Whoever put it there, it is the project's.
    let is_local = |name: &str| {
        above().any(|it| it.join("node_modules/.bin").join(name).symlink_metadata().is_ok())
    };
    policy::decide_package_script(&script, &is_local, request, profile)
}

/// The first file that is there, and its text where it can be read.
fn file_in(directory: &Path, named: &NamedScript) -> Option<(&'static str, Option<String>)> {
    named.files.iter().find_map(|file| match text(&directory.join(file)) {
        Ok(text) => Some((*file, Some(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(_) => Some((*file, None)),
    })
}

fn text(file: &Path) -> io::Result<String> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(file)?;
    let found = file.metadata()?;
    if !found.is_file() || found.len() > FILE_BYTES_MAX {
        return Err(io::Error::other("it is no file of scripts"));
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}
