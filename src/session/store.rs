//! Where sessions lie on disk, below rung's state: made, opened, locked, removed.
//!
//! ```text
//! sessions/NAME/session.json   the manifest, with a digest of itself
//!               lock           held by a run, whose init it names, or by whoever changes the session
//!               upper  work    the layer, and the overlay's own scratch
//!               tree           the copy instead, where there can be no overlay
//! ```
//!
//! A session appears under its name when it is whole, and is renamed before it is taken apart, so
//! that a name never means half a session. The digest shows damage and careless edits; against code
//! that runs as the same user outside every sandbox there is no secret here that could help.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::place::{Tree, remove_all};
use super::state::Moment;
use super::{SessionError, copy, failed};
use crate::model::{Arg, Digest, Level, Store};
use crate::sys::descriptor;
use crate::sys::standing::Init;

pub const NAME_BYTES_MAX: usize = 64;
/// A manifest is never longer.
const MANIFEST_BYTES_MAX: u64 = 1 << 20;
const SCHEMA: u32 = 1;

const MANIFEST: &str = "session.json";
const LOCK: &str = "lock";
/// Two numbers and their names.
const INIT_BYTES_MAX: usize = 128;
const APPLIED: &str = "applied.json";
const UPPER: &str = "upper";
const WORK: &str = "work";
const TREE: &str = "tree";
/// Marks a session that is being made, and one that is being taken apart.
const UNFINISHED: &str = ".new-";
const GONE: &str = ".gone-";
/// Marks what a run keeps nothing of.
const DISPOSABLE: &str = ".run-";

/// Rung's sessions.
#[derive(Debug, Clone)]
pub struct Sessions {
    directory: PathBuf,
}

/// One session, as it was when it was opened.
#[derive(Debug)]
pub struct Session {
    pub directory: PathBuf,
    pub manifest: Manifest,
}

/// What a session is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub schema: u32,
    pub name: String,
    /// The tree it works on. Absolute, canonical.
    pub base: PathBuf,
    pub device: u64,
    pub inode: u64,
    /// For runs that name none.
    pub level: Level,
    pub backend: Backend,
    /// Why it is this backend.
    pub reason: String,
    /// As a person reads it; nothing is compared with it.
    pub started: String,
    /// The same as the file system of the layer has it: what the host has changed later is newer.
    pub since: Moment,
    /// When the copy was whole: what was not touched later is as it was.
    pub copied: Option<Moment>,
    /// Of a layer for one run on a repository: the checkout whose commits it holds until the end of
    /// the run, or, if the run is killed, until the next one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkout: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Backend {
    Overlay,
    Copy,
    /// A git worktree of its own, on its own branch.
    Worktree {
        branch: String,
        repository: PathBuf,
    },
}

impl Backend {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Copy => "copy",
            Self::Worktree { .. } => "worktree",
        }
    }
}

/// The manifest on disk.
#[derive(Serialize, Deserialize)]
struct Sealed {
    digest: Digest,
    session: Manifest,
}

/// What rung has written into the tree, and when the file system says that was.
pub(super) type Applied = BTreeMap<PathBuf, Moment>;

/// As long as it lives, nobody else runs in the session or changes it.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    file: Flock<File>,
}

impl Lock {
    /// Writes down whose processes use the session, by their init. These end a moment later than a
    /// supervisor that is killed, and whoever has the lock next waits for that moment.
    pub fn used_by(&self, init: i32) -> Result<(), SessionError> {
        let failed = |error| failed("locking", &self.path)(error);
        let init = Init::of(init).map_err(|errno| failed(errno.into()))?;
        let text = serde_json::to_vec(&init).map_err(|error| failed(error.into()))?;
        self.file.set_len(0).map_err(failed)?;
        self.file.write_all_at(&text, 0).map_err(failed)
    }

    /// Whether nobody uses the session any more. What is no whole word was written by a machine that
    /// stopped.
    fn is_free(&self) -> Result<bool, SessionError> {
        let mut text = [0; INIT_BYTES_MAX];
        let count = self.file.read_at(&mut text, 0).map_err(failed("locking", &self.path))?;
        let init = text.get(..count).and_then(|it| serde_json::from_slice::<Init>(it).ok());
        Ok(init.is_none_or(Init::ends))
    }
}

impl Sessions {
    /// `state` is rung's own state directory.
    pub fn new(state: &Path) -> Self {
        Self { directory: state.join("sessions") }
    }

    /// Makes a session. The work does not depend on the size of the tree, unless it is a copy.
    pub fn create(&self, mut manifest: Manifest) -> Result<Session, SessionError> {
        check_name(&manifest.name)?;
        let directory = self.directory.join(&manifest.name);
        if fs::symlink_metadata(&directory).is_ok() {
            return Err(SessionError::Exists { name: manifest.name });
        }
        let unfinished =
            self.directory.join(format!("{UNFINISHED}{}-{}", manifest.name, std::process::id()));
        make_directory(&unfinished)?;
        if let Err(error) = fill(&unfinished, &mut manifest) {
            self.take_apart(&unfinished)?;
            return Err(error);
        }
        match rename_new(&unfinished, &directory) {
            Ok(()) => Ok(Session { directory, manifest }),
            Err(Errno::EEXIST) => {
                self.take_apart(&unfinished)?;
                Err(SessionError::Exists { name: manifest.name })
            }
            Err(errno) => Err(failed("making", &directory)(errno.into())),
        }
    }

    /// Makes a layer for one run, which is locked by it and never listed.
    pub fn create_disposable(
        &self,
        run: &str,
        mut manifest: Manifest,
    ) -> Result<(Session, Lock), SessionError> {
        let directory = self.directory.join(format!("{DISPOSABLE}{run}"));
        make_directory(&directory)?;
        let session = match fill(&directory, &mut manifest) {
            Ok(()) => Session { directory, manifest },
            Err(error) => {
                self.take_apart(&directory)?;
                return Err(error);
            }
        };
        let lock = session.lock(false)?;
        Ok((session, lock))
    }

    /// What runs that were killed have written into layers of their own and nobody has looked at,
    /// each locked. A layer without anything in it may be one that is just being made.
    pub fn abandoned(&self) -> Result<Vec<(Session, Lock)>, SessionError> {
        let mut abandoned = Vec::new();
        for name in self.entries()?.into_iter().filter(|it| it.starts_with(DISPOSABLE)) {
            let directory = self.directory.join(&name);
            let written = fs::read_dir(directory.join(UPPER)).is_ok_and(|it| it.count() > 0);
            if !written {
                continue;
            }
            let Ok(lock) = lock(&directory, &name, false) else { continue };
            if let Ok(session) = Self::read(&name, directory) {
                abandoned.push((session, lock));
            }
        }
        Ok(abandoned)
    }

    /// Opens a session, if it is as rung left it.
    pub fn open(&self, name: &str) -> Result<Session, SessionError> {
        check_name(name)?;
        let session = Self::read(name, self.directory.join(name))?;
        if session.manifest.name != name {
            let why = "its manifest is another session's".to_owned();
            return Err(SessionError::Tampered { name: name.to_owned(), why });
        }
        Ok(session)
    }

    fn read(name: &str, directory: PathBuf) -> Result<Session, SessionError> {
        let facts = match fs::symlink_metadata(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SessionError::Missing { name: name.to_owned() });
            }
            result => result.map_err(failed("looking at", &directory))?,
        };
        let tampered = |why: String| SessionError::Tampered { name: name.to_owned(), why };
        if !facts.is_dir() {
            return Err(tampered("it is no directory".to_owned()));
        }
        is_private(&facts).map_err(|why| tampered(format!("its directory {why}")))?;
        let path = directory.join(MANIFEST);
        let facts = fs::symlink_metadata(&path)
            .map_err(|error| tampered(format!("its manifest cannot be read: {error}")))?;
        if !facts.is_file() || facts.len() > MANIFEST_BYTES_MAX {
            return Err(tampered("its manifest is no file of a manifest's size".to_owned()));
        }
        is_private(&facts).map_err(|why| tampered(format!("its manifest {why}")))?;
        let text = fs::read(&path).map_err(failed("reading", &path))?;
        let sealed: Sealed = serde_json::from_slice(&text)
            .map_err(|error| tampered(format!("its manifest is damaged: {error}")))?;
        let manifest = sealed.session;
        if digest(&manifest)? != sealed.digest {
            return Err(tampered("its manifest was changed".to_owned()));
        }
        if manifest.schema != SCHEMA {
            return Err(tampered("its manifest is another version's".to_owned()));
        }
        Ok(Session { directory, manifest })
    }

    /// The names of all sessions, also of those that cannot be opened.
    pub fn names(&self) -> Result<Vec<String>, SessionError> {
        let mut names: Vec<String> =
            self.entries()?.into_iter().filter(|it| !it.starts_with('.')).collect();
        names.sort();
        Ok(names)
    }

    fn entries(&self) -> Result<Vec<String>, SessionError> {
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result.map_err(failed("reading", &self.directory))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed("reading", &self.directory))?;
            names.extend(entry.file_name().into_string());
        }
        Ok(names)
    }

    /// Removes a session with everything in it. `_lock` shows that no run uses it.
    pub fn remove(&self, name: &str, _lock: &Lock) -> Result<(), SessionError> {
        check_name(name)?;
        self.take_apart(&self.directory.join(name))
    }

    /// Removes what a run keeps nothing of.
    pub fn remove_disposable(&self, session: &Session, _lock: &Lock) -> Result<(), SessionError> {
        self.take_apart(&session.directory)
    }

    /// The lock of a session that cannot be opened, so that it can be removed all the same.
    pub fn lock_whatever_it_is(&self, name: &str) -> Result<Lock, SessionError> {
        check_name(name)?;
        let directory = self.directory.join(name);
        if fs::symlink_metadata(&directory).is_err() {
            return Err(SessionError::Missing { name: name.to_owned() });
        }
        lock(&directory, name, false)
    }

    fn take_apart(&self, directory: &Path) -> Result<(), SessionError> {
        let tree = Tree::open(&self.directory).map_err(failed("opening", &self.directory))?;
        let name = directory.file_name().unwrap_or_default();
        let gone = std::ffi::OsString::from(format!("{GONE}{}-", std::process::id()));
        let gone: std::ffi::OsString = [gone.as_os_str(), name].into_iter().collect();
        fs::rename(directory, self.directory.join(&gone)).map_err(failed("removing", directory))?;
        remove_all(tree.root.as_fd(), &gone).map_err(failed("removing", directory))
    }

    /// Removes what nobody needs: what killed runs and verbs left. Says how many there were.
    pub fn sweep(&self) -> Result<usize, SessionError> {
        let mut swept = 0;
        for name in self.entries()? {
            let directory = self.directory.join(&name);
            let left = if name.starts_with(GONE) {
                true
            } else if name.starts_with(DISPOSABLE) || name.starts_with(UNFINISHED) {
                // What is still used is locked, or too young to have its lock yet.
                let old = fs::symlink_metadata(directory.join(LOCK)).is_ok();
                old && lock(&directory, &name, false).is_ok()
            } else {
                false
            };
            if left {
                self.take_apart(&directory)?;
                swept += 1;
            }
        }
        Ok(swept)
    }
}

impl Sessions {
    /// The manifest of a session that is to be made. `overlay` says whether this host has overlays.
    pub fn manifest(
        &self,
        name: String,
        base: &Path,
        level: Level,
        started: Timestamp,
        overlay: Result<(), String>,
    ) -> Result<Manifest, SessionError> {
        // Others may be making it as well.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(failed("making", &self.directory))?;
        let facts = fs::symlink_metadata(base).map_err(failed("looking at", base))?;
        let (backend, reason) = copy::backend(base, &self.directory, overlay)?;
        Ok(Manifest {
            schema: SCHEMA,
            name,
            base: base.to_owned(),
            device: facts.dev(),
            inode: facts.ino(),
            level,
            backend,
            reason,
            started: started.to_string(),
            since: Moment { seconds: 0, nanoseconds: 0 },
            copied: None,
            checkout: None,
        })
    }
}

fn fill(directory: &Path, manifest: &mut Manifest) -> Result<(), SessionError> {
    let new = |name: &str| -> Result<File, SessionError> {
        let path = directory.join(name);
        let options = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        options.map_err(failed("making", &path))
    };
    let stamp = new(LOCK)?;
    let facts = stamp.metadata().map_err(failed("looking at", directory))?;
    manifest.since = Moment::changed(&facts);
    match &manifest.backend {
        Backend::Overlay => {
            make_directory(&directory.join(WORK))?;
            let upper = directory.join(UPPER);
            make_directory(&upper)?;
            // The root of the layer is what the run sees of the root of the tree.
            let facts = fs::metadata(&manifest.base).map_err(failed("looking at", &upper))?;
            fs::set_permissions(&upper, facts.permissions()).map_err(failed("making", &upper))?;
        }
        Backend::Copy => {
            let tree = directory.join(TREE);
            make_directory(&tree)?;
            copy::copy(&manifest.base, &tree)?;
            // What has not been touched since the copy was made is no change.
            let end = new("copied")?;
            let facts = end.metadata().map_err(failed("looking at", directory))?;
            manifest.copied = Some(Moment::changed(&facts));
        }
        Backend::Worktree { .. } => {}
    }
    let sealed = Sealed { digest: digest(manifest)?, session: manifest.clone() };
    let text = serde_json::to_vec(&sealed).map_err(|error| unprintable(directory, error))?;
    let path = directory.join(MANIFEST);
    new(MANIFEST)?.write_all(&text).map_err(failed("writing", &path))
}

fn unprintable(path: &Path, error: serde_json::Error) -> SessionError {
    failed("writing", path)(error.into())
}

fn digest(manifest: &Manifest) -> Result<Digest, SessionError> {
    let text = serde_json::to_vec(manifest).map_err(|error| unprintable(&manifest.base, error))?;
    Ok(Digest::of("session", &[&text]))
}

pub(super) fn make_directory(path: &Path) -> Result<(), SessionError> {
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    match builder.create(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(path);
            builder.recursive(true).create(parent).map_err(failed("making", parent))?;
            DirBuilder::new().mode(0o700).create(path).map_err(failed("making", path))
        }
        result => result.map_err(failed("making", path)),
    }
}

fn rename_new(from: &Path, to: &Path) -> Result<(), Errno> {
    let name = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL);
    descriptor::rename_new(descriptor::HERE, &name(from)?, descriptor::HERE, &name(to)?)
}

fn check_name(name: &str) -> Result<(), SessionError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let good = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name.bytes().next().is_some_and(plain)
        && name.bytes().all(|byte| plain(byte) || matches!(byte, b'.' | b'_' | b'-'));
    if good { Ok(()) } else { Err(SessionError::Name { name: name.to_owned() }) }
}

/// Whether only this user can have written it.
pub(super) fn is_private(facts: &fs::Metadata) -> Result<(), String> {
    const OTHERS: u32 = 0o077;
    if facts.uid() != nix::unistd::geteuid().as_raw() {
        return Err(format!("belongs to user {}", facts.uid()));
    }
    let mode = facts.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(format!("has the mode {mode:o}, which others may use"));
    }
    Ok(())
}

fn lock(directory: &Path, name: &str, wait: bool) -> Result<Lock, SessionError> {
    let path = directory.join(LOCK);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&path)
        .map_err(failed("locking", &path))?;
    let how = if wait { FlockArg::LockExclusive } else { FlockArg::LockExclusiveNonblock };
    let lock = match Flock::lock(file, how) {
        Ok(file) => Lock { path, file },
        Err((_, Errno::EWOULDBLOCK)) => return Err(SessionError::Busy { name: name.to_owned() }),
        Err((_, errno)) => return Err(failed("locking", &path)(errno.into())),
    };
    if lock.is_free()? { Ok(lock) } else { Err(SessionError::Busy { name: name.to_owned() }) }
}

impl Session {
    /// Keeps others out. Two mounts of one layer at a time would ruin it, so runs of one session
    /// come after each other: a run can `wait`, and what changes a session does not.
    pub fn lock(&self, wait: bool) -> Result<Lock, SessionError> {
        lock(&self.directory, &self.manifest.name, wait)
    }

    /// The tree it works on, if that is still there.
    pub(super) fn base(&self) -> Result<Tree, SessionError> {
        let wrong = |why: &str| SessionError::Base {
            name: self.manifest.name.clone(),
            base: self.manifest.base.clone(),
            why: why.to_owned(),
        };
        let tree = match Tree::open(&self.manifest.base) {
            Ok(tree) => tree,
            Err(error) => return Err(wrong(&format!("cannot be opened: {error}"))),
        };
        let facts = tree
            .root
            .try_clone()
            .and_then(|it| File::from(it).metadata())
            .map_err(failed("looking at", &self.manifest.base))?;
        if (facts.dev(), facts.ino()) != (self.manifest.device, self.manifest.inode) {
            return Err(wrong(
                "is another directory than when it began; put the first one back, or export and \
                 discard the session",
            ));
        }
        Ok(tree)
    }

    /// What the runs of the session find in place of the tree; nothing for a worktree.
    pub fn store(&self) -> Result<Option<Store>, SessionError> {
        let directory = match self.manifest.backend {
            Backend::Overlay => self.directory.clone(),
            Backend::Copy => self.directory.join(TREE),
            Backend::Worktree { .. } => return Ok(None),
        };
        drop(self.base()?);
        // The kernel opens the parts of an overlay by name.
        for part in [&directory, &directory.join(UPPER), &directory.join(WORK)] {
            let wanted = part == &directory || self.manifest.backend == Backend::Overlay;
            if wanted && !fs::symlink_metadata(part).is_ok_and(|it| it.is_dir()) {
                let why = format!("`{}` is no directory", super::shown(part));
                return Err(SessionError::Tampered { name: self.manifest.name.clone(), why });
            }
        }
        let facts = fs::symlink_metadata(&directory).map_err(failed("looking at", &directory))?;
        Ok(Some(Store { directory, device: facts.dev(), inode: facts.ino() }))
    }

    /// What was applied from this session, as the tree had it right then.
    pub(super) fn applied(&self) -> Result<Applied, SessionError> {
        let path = self.directory.join(APPLIED);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Applied::new()),
            result => result.map_err(failed("reading", &path))?,
        };
        let list: Vec<(Arg, Moment)> = serde_json::from_slice(&text).map_err(|error| {
            let why = format!("its list of what was applied is damaged: {error}");
            SessionError::Tampered { name: self.manifest.name.clone(), why }
        })?;
        Ok(list.into_iter().map(|(path, at)| (path.into_os_string().into(), at)).collect())
    }

    pub(super) fn set_applied(&self, applied: &Applied) -> Result<(), SessionError> {
        let path = self.directory.join(APPLIED);
        let words = applied
            .iter()
            .filter_map(|(path, at)| Some((Arg::new(path.as_os_str().as_bytes()).ok()?, *at)));
        let text = serde_json::to_vec(&words.collect::<Vec<_>>())
            .map_err(|error| unprintable(&path, error))?;
        let unfinished = self.directory.join(format!("{UNFINISHED}{APPLIED}"));
        fs::write(&unfinished, text)
            .and_then(|()| fs::rename(&unfinished, &path))
            .map_err(failed("writing", &path))
    }

    /// The directory that the runs write to, whose names are those of the tree.
    pub fn written(&self) -> PathBuf {
        match self.manifest.backend {
            Backend::Overlay => self.directory.join(UPPER),
            Backend::Copy => self.directory.join(TREE),
            Backend::Worktree { .. } => self.manifest.base.clone(),
        }
    }
}
