//! Remembers what runs have fetched, for the next runs in the same workspace: one file of lines each.
//!
//! What cannot be read is no reason to start something: then no program is. A line that was cut off
//! by a full disk is passed over; the run that wrote it has failed and said so.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::profiles::read_small;
use super::record::word;
use crate::model::{Arg, Digest, Object, Request, Tree};
use crate::policy::{Fetched, File};

const DIRECTORY: &str = "fetched";
/// Thousands of files.
const BYTES_MAX: u64 = 1 << 20;

/// One fetched file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Line {
    path: Arg,
    /// Its number, and when it was made. Absent where the next run may find another number for the
    /// same file: whatever lies there.
    inode: Option<(u64, i64)>,
    /// Of which session's tree it is part; none for the workspace itself.
    session: Option<String>,
}

/// What is remembered of one workspace.
pub(super) struct Memory {
    file: PathBuf,
    known: BTreeSet<Line>,
}

impl Memory {
    /// Reads it, as far as it concerns the tree of this run.
    pub(super) fn open(state: &Path, request: &Request) -> Result<(Self, Fetched), String> {
        let key = Digest::of("rung fetched", &[request.workspace.as_os_str().as_encoded_bytes()]);
        let file = state.join(DIRECTORY).join(key.to_string());
        let told = |error: io::Error| {
            let file = file.display();
            format!(
                "what was fetched before cannot be known: `{file}`: {error}; remove it once it is clear that nothing fetched is started"
            )
        };
        let text = read(&file).map_err(told)?;
        let lines = text.split(|it| *it == b'\n');
        let known: BTreeSet<Line> =
            lines.filter_map(|it| serde_json::from_slice(it).ok()).collect();
        let mut fetched = Fetched::default();
        for line in known.iter().filter(|it| it.session == request.ids.session) {
            let there = line.inode.map_or(File::Any, |(inode, born)| File::There { inode, born });
            fetched.remember(PathBuf::from(line.path.as_os_str()), there);
        }
        Ok((Self { file, known }, fetched))
    }

    /// Adds what this run has fetched and left in its tree.
    pub(super) fn keep(&self, fetched: &Fetched, request: &Request) -> Result<(), String> {
        let is_tree_of_host = matches!(request.tree, Tree::Itself | Tree::Worktree);
        let mut lines = Vec::new();
        for (path, file) in fetched.files().filter(|it| it.0.starts_with(&request.workspace)) {
            let inode = match file {
                _ if is_tree_of_host => match object(path).filter(|it| file.is(it)) {
                    Some(found) => Some((found.inode, found.born)),
                    None => continue,
                },
                // Nothing says whether it was written; it was only named.
                File::Awaited { before: Some(_) } => continue,
                File::Awaited { before: None } | File::There { .. } | File::Any => None,
            };
            let path = word(path).map_err(|error| error.to_string())?;
            let line = Line { path, inode, session: request.ids.session.clone() };
            if !self.known.contains(&line) {
                lines.push(line);
            }
        }
        if lines.is_empty() {
            return Ok(());
        }
        self.append(&lines).map_err(|error| {
            let file = self.file.display();
            format!("what was fetched could not be remembered in `{file}`: {error}")
        })
    }

    fn append(&self, lines: &[Line]) -> io::Result<()> {
        let mut text = vec![b'\n'];
        for line in lines {
            serde_json::to_writer(&mut text, line)?;
            text.push(b'\n');
        }
        if let Some(directory) = self.file.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&self.file)?;
        if file.metadata()?.len() + text.len() as u64 > BYTES_MAX {
            let text = format!("it would be larger than {BYTES_MAX} bytes; remove it");
            return Err(io::Error::other(text));
        }
        // One write, so that two runs that end at once do not mix.
        file.write_all(&text)
    }
}

fn object(path: &Path) -> Option<Object> {
    let found = fs::metadata(path).ok()?;
    let since = |it: SystemTime| {
        let since = it.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        i64::try_from(since.as_nanos()).ok()
    };
    let born = found.created().ok().and_then(since).unwrap_or(0);
    let written = found.modified().ok().and_then(since).unwrap_or(0);
    found.is_file().then_some(Object { device: found.dev(), inode: found.ino(), born, written })
}

/// Nothing where there is no file.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    match read_small(path, libc::O_NOFOLLOW, BYTES_MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Level, Store};
    use crate::plan::fixture;

    fn case() -> (tempfile::TempDir, Request) {
        let place = tempfile::tempdir().unwrap();
        let workspace = place.path().join("ws");
        fs::create_dir(&workspace).unwrap();
        (place, Request { workspace, ..fixture::request(Level::LocalWrites) })
    }

    #[test]
    fn only_what_was_really_written_in_the_workspace_is_remembered() {
        let (place, request) = case();
        let (memory, mut fetched) = Memory::open(place.path(), &request).unwrap();
        assert_eq!(fetched, Fetched::default());
        let [new, sent, missing] = ["new", "sent", "missing"].map(|it| request.workspace.join(it));
        fs::write(&new, "x").unwrap();
        fs::write(&sent, "x").unwrap();
        let elsewhere = place.path().join("elsewhere");
        fs::write(&elsewhere, "x").unwrap();
        for path in [&new, &missing, &elsewhere] {
            fetched.remember(path.clone(), File::Awaited { before: None });
        }
        fetched.remember(sent.clone(), File::Awaited { before: object(&sent) });
        memory.keep(&fetched, &request).unwrap();
        let (memory, again) = Memory::open(place.path(), &request).unwrap();
        let found = object(&new).unwrap();
        let there = File::There { inode: found.inode, born: found.born };
        assert_eq!(again.files().collect::<Vec<_>>(), [(new.as_path(), there)]);
        // Nothing is written twice.
        let before = fs::read(&memory.file).unwrap();
        memory.keep(&again, &request).unwrap();
        assert_eq!(fs::read(&memory.file).unwrap(), before);
    }

    #[test]
    fn what_a_session_fetched_is_its_own_and_any_file_of_that_name() {
        let (place, request) = case();
        let store = Store { directory: PathBuf::from("/s"), device: 1, inode: 2 };
        let mut of_session = Request { tree: Tree::Overlay(store), ..request.clone() };
        of_session.ids.session = Some("a".to_owned());
        let (memory, mut fetched) = Memory::open(place.path(), &of_session).unwrap();
        let path = request.workspace.join("x.sh");
        fetched.remember(path.clone(), File::There { inode: 9, born: 1 });
        memory.keep(&fetched, &of_session).unwrap();
        let (_, own) = Memory::open(place.path(), &of_session).unwrap();
        assert_eq!(own.files().collect::<Vec<_>>(), [(path.as_path(), File::Any)]);
        let (_, other) = Memory::open(place.path(), &request).unwrap();
        assert_eq!(other, Fetched::default());
    }

    #[test]
    fn what_cannot_be_read_is_told_and_a_line_that_was_cut_off_is_passed_over() {
        let (place, request) = case();
        let (memory, _) = Memory::open(place.path(), &request).unwrap();
        fs::create_dir(place.path().join(DIRECTORY)).unwrap();
        let line = Line { path: Arg::new("/x").unwrap(), inode: None, session: None };
        fs::write(&memory.file, "{\"path\":\"/cut").unwrap();
        memory.append(&[line]).unwrap();
        let (_, fetched) = Memory::open(place.path(), &request).unwrap();
        assert_eq!(fetched.files().count(), 1);
        fs::write(&memory.file, vec![b'x'; usize::try_from(BYTES_MAX).unwrap() + 1]).unwrap();
        let error = Memory::open(place.path(), &request).map(|it| it.1).unwrap_err();
        assert!(error.contains("larger than"), "{error}");
        fs::remove_file(&memory.file).unwrap();
        fs::create_dir(&memory.file).unwrap();
        let error = Memory::open(place.path(), &request).map(|it| it.1).unwrap_err();
        assert!(error.contains("not a regular file"), "{error}");
    }
}
