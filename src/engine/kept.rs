//! Profiles that somebody changed, remembered in the form that a run decodes.
//!
//! Reading them again costs more than all else that a run does. What is remembered is named by the
//! digest of everything it was made from, so it is never out of date; what is not exactly as rung
//! left it, or lies where another could have put it, is as good as absent and is written anew.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::model::Digest;
use crate::profile::{self, Profile};

const DIRECTORY: &str = "profiles";
/// Several times the largest level.
const BYTES_MAX: u64 = 4 << 20;
/// One for each level, and for the versions of a profile that somebody is working on.
const ENTRIES_MAX: usize = 24;
const OTHERS: u32 = 0o077;
const OTHERS_WRITE: u32 = 0o022;

/// What is remembered under the key, as far as it concerns these programs.
pub(super) fn recall(state: &Path, key: Digest, programs: Option<&[&str]>) -> Option<Profile> {
    let directory = state.join(DIRECTORY);
    let above = fs::metadata(state).ok()?;
    let inside = fs::symlink_metadata(&directory).ok()?;
    if !is_own(&above, OTHERS_WRITE) || !is_own(&inside, OTHERS) {
        return None;
    }
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(directory.join(key.to_string()))
        .ok()?;
    let found = file.metadata().ok()?;
    if !found.is_file() || !is_own(&found, OTHERS) || found.nlink() != 1 || found.len() > BYTES_MAX
    {
        return None;
    }
    let mut bytes = Vec::with_capacity(usize::try_from(found.len()).ok()?);
    file.take(BYTES_MAX).read_to_end(&mut bytes).ok()?;
    let profile = profile::kept(&bytes, key, programs);
    profile.inspect_err(|error| tracing::debug!(%key, %error, "remembered profile not used")).ok()
}

/// Best effort: without it the next run reads the texts again.
pub(super) fn remember(state: &Path, key: Digest, profile: Profile) {
    let written = profile::keep(profile, key)
        .map_err(io::Error::other)
        .and_then(|bytes| write(state, key, &bytes));
    if let Err(error) = written {
        tracing::debug!(%key, %error, "profile not remembered");
    }
}

/// It is this user's, and others have none of these rights.
fn is_own(found: &fs::Metadata, others: u32) -> bool {
    found.uid() == nix::unistd::geteuid().as_raw() && found.mode() & others == 0
}

fn write(state: &Path, key: Digest, bytes: &[u8]) -> io::Result<()> {
    let directory = state.join(DIRECTORY);
    match DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    if !is_own(&fs::symlink_metadata(&directory)?, OTHERS) {
        return Err(io::Error::other("the directory is open to others"));
    }
    make_room(&directory)?;
    let mut file = tempfile::NamedTempFile::new_in(&directory)?;
    file.write_all(bytes)?;
    file.persist(directory.join(key.to_string())).map(|_: File| ()).map_err(io::Error::from)
}

/// Removes the oldest entries.
fn make_room(directory: &Path) -> io::Result<()> {
    let mut entries: Vec<(i64, PathBuf)> = fs::read_dir(directory)?
        .filter_map(|it| {
            let entry = it.ok()?;
            Some((entry.metadata().ok()?.mtime(), entry.path()))
        })
        .collect();
    entries.sort();
    let excess = (entries.len() + 1).saturating_sub(ENTRIES_MAX);
    entries.iter().take(excess).try_for_each(|(_, path)| fs::remove_file(path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::engine::profiles::profile_for;
    use crate::model::Level;
    use crate::profile::{Layer, Source};

    const LEVEL: Level = Level::LocalWrites;

    struct Case {
        state: tempfile::TempDir,
        layers: Vec<Layer>,
        file: PathBuf,
    }

    impl Case {
        fn new() -> Self {
            let state = tempfile::tempdir().unwrap();
            let text = "level = 2\nlimits = { processes = 50 }\n".to_owned();
            let source = Source { name: "/etc/rung/level-2.toml".to_owned(), text };
            let layers = vec![Layer { name: "/etc/rung".to_owned(), sources: vec![source] }];
            let key = profile::key(LEVEL, &layers).to_string();
            let file = state.path().join(DIRECTORY).join(key);
            Self { state, layers, file }
        }

        fn load(&self) -> Profile {
            profile_for(LEVEL, &self.layers, None, self.state.path()).unwrap()
        }

        fn key(&self) -> Digest {
            profile::key(LEVEL, &self.layers)
        }

        /// Something else than the texts say, in the right form.
        fn plant(&self) -> Vec<u8> {
            let planted = Profile { summary: "planted".to_owned(), ..self.load() };
            let bytes = profile::keep(planted, self.key()).unwrap();
            fs::write(&self.file, &bytes).unwrap();
            bytes
        }

        /// Read from the texts, and what was remembered is right again.
        #[track_caller]
        fn is_not_used(&self) {
            assert_ne!(self.load().summary, "planted");
            let found = fs::symlink_metadata(&self.file).unwrap();
            assert!(found.is_file() && is_own(&found, OTHERS), "{found:?}");
            let known = recall(self.state.path(), self.key(), None).unwrap();
            assert_ne!(known.summary, "planted");
        }
    }

    #[test]
    fn a_changed_profile_is_read_once() {
        let case = Case::new();
        let loaded = case.load();
        assert_eq!(loaded.limits.processes.max.0, 50);
        assert_eq!(recall(case.state.path(), case.key(), None).unwrap(), loaded);
        case.plant();
        assert_eq!(case.load().summary, "planted", "the texts were read again");
    }

    #[test]
    fn what_others_could_have_written_is_not_used() {
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let case = Case::new();
        case.plant();
        mode(&case.file, 0o640);
        case.is_not_used();

        case.plant();
        let elsewhere = case.state.path().join("elsewhere");
        fs::rename(&case.file, &elsewhere).unwrap();
        symlink(&elsewhere, &case.file).unwrap();
        case.is_not_used();

        case.plant();
        fs::hard_link(&case.file, case.state.path().join("other-name")).unwrap();
        case.is_not_used();

        for directory in [case.state.path(), case.file.parent().unwrap()] {
            case.plant();
            mode(directory, 0o770);
            assert_ne!(case.load().summary, "planted", "{}", directory.display());
            mode(directory, 0o700);
        }
        case.plant();
        assert_eq!(case.load().summary, "planted", "it is as it was in the beginning");
    }

    #[test]
    fn what_does_not_fit_is_written_anew() {
        let case = Case::new();
        let mut bytes = case.plant();
        bytes[0] ^= 1;
        let cut = bytes[..bytes.len() / 2].to_vec();
        let large = vec![0; usize::try_from(BYTES_MAX).unwrap() + 1];
        for wrong in [bytes, cut, Vec::new(), large] {
            fs::write(&case.file, wrong).unwrap();
            case.is_not_used();
        }
    }

    #[test]
    fn old_ones_make_room() {
        let case = Case::new();
        let profile = case.load();
        for number in 0..2 * ENTRIES_MAX {
            let key = Digest::of("test", &[&number.to_le_bytes()]);
            remember(case.state.path(), key, profile.clone());
            assert!(recall(case.state.path(), key, None).is_some());
        }
        let directory = case.file.parent().unwrap();
        assert_eq!(fs::read_dir(directory).unwrap().count(), ENTRIES_MAX);
    }
}
