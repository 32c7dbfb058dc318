//! Finding the profiles in force: the built-in ones, and what the organisation and the user changed.
//!
//! Only regular files of a sensible size are read: a pipe would keep the run waiting for ever.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{EngineError, Surroundings, kept};
use crate::model::Level;
use crate::profile::{self, Profile, Settings};

impl Surroundings {
    /// The ceiling and the default level, as the organisation and the user set them.
    pub fn settings(&self) -> Result<Settings, EngineError> {
        let read = |directory: &Path| {
            let path = directory.join(profile::SETTINGS_FILE);
            match read_text(&path) {
                Ok(text) => Ok(Some(profile::Source { name: path.display().to_string(), text })),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(source) => Err(EngineError::Read { path, source }),
            }
        };
        let system = read(&self.directories.system)?;
        let user = read(&self.directories.user)?;
        profile::settings(system.as_ref(), user.as_ref())
            .map_err(|error| EngineError::Profile(error.render(false)))
    }

    /// The whole profile of one level, with the organisation's and the user's changes.
    pub fn profile(&self, level: Level) -> Result<Profile, EngineError> {
        profile_for(level, &self.layers()?, None, &self.directories.state)
    }

    /// The files of the organisation and of the user, where there are any.
    pub fn layers(&self) -> Result<Vec<profile::Layer>, EngineError> {
        let mut layers = Vec::new();
        for directory in [&self.directories.system, &self.directories.user] {
            let mut sources = sources(directory, "")?;
            sources.extend(self::sources(&directory.join("packs"), "packs/")?);
            if !sources.is_empty() {
                layers.push(profile::Layer { name: directory.display().to_string(), sources });
            }
        }
        Ok(layers)
    }
}

/// The profile of a level, or only what concerns the named programs, if any are named. Where somebody
/// changed something it may be remembered from an earlier run.
pub(super) fn profile_for(
    level: Level,
    layers: &[profile::Layer],
    programs: Option<&[&str]>,
    state: &Path,
) -> Result<Profile, EngineError> {
    if layers.is_empty() {
        let decoded = match programs {
            Some(programs) => profile::built_in_for(level, programs),
            None => profile::built_in(level),
        };
        return decoded.map_err(|error| EngineError::Profile(error.to_string()));
    }
    let key = profile::key(level, layers);
    if let Some(known) = kept::recall(state, key, programs) {
        return Ok(known);
    }
    let mut all = vec![profile::built_in_layer()];
    all.extend_from_slice(layers);
    let profile =
        profile::load(level, &all).map_err(|error| EngineError::Profile(error.render(false)))?;
    kept::remember(state, key, profile.clone());
    Ok(profile)
}

/// The text of a regular file that is no larger than a person would write it.
fn read_text(path: &Path) -> io::Result<String> {
    const BYTES_MAX: u64 = 4 << 20;
    io::read_to_string(read_small(path, 0, BYTES_MAX)?.as_slice())
}

/// What is in a regular file of at most so many bytes, opened with these flags as well.
pub(super) fn read_small(path: &Path, flags: i32, bytes_max: u64) -> io::Result<Vec<u8>> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed shows that there is more.
    let count = file.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if u64::try_from(count).is_ok_and(|it| it > bytes_max) {
        return Err(io::Error::other(format!("it is larger than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// The profile files of a directory, by name; a directory that does not exist has none.
fn sources(directory: &Path, prefix: &str) -> Result<Vec<profile::Source>, EngineError> {
    let failed = |path: &Path, source| EngineError::Read { path: path.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(|error| failed(directory, error))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| failed(directory, error))?.path();
        let Some(name) = path.file_name().and_then(|it| it.to_str()) else { continue };
        let wanted = !prefix.is_empty() || name.starts_with("level-");
        if !wanted || path.extension() != Some(OsStr::new("toml")) {
            continue;
        }
        let text = read_text(&path).map_err(|error| failed(&path, error))?;
        found.push(profile::Source { name: path.display().to_string(), text });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}
