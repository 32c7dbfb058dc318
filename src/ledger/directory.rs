//! The ledger's directory: ours alone, opened once, everything in it reached by descriptor.
//!
//! The lock is taken on the directory itself. It can be neither deleted apart from the ledger nor
//! left behind, and it covers the change from one segment to the next.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat};
use nix::unistd::geteuid;

use super::LedgerError;

/// How long to wait between two attempts at the lock, which is normally held for microseconds.
const LOCK_PAUSE: Duration = Duration::from_micros(100);
const LOCK_TRIES_MAX: u32 = 60_000;
/// What the tries amount to, pauses being a little longer than asked for.
const LOCK_SECONDS: u64 = 10;

const SEGMENT_SUFFIX: &str = ".jsonl";
const OTHERS_WRITE: u32 = 0o022;
const PERMISSION_BITS: u32 = 0o7777;

#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    handle: File,
}

/// How a file of the ledger is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Read,
    /// To append to: must exist.
    Append,
    /// To append to: must not exist.
    Create,
}

impl Directory {
    /// Opens the directory, making it (mode 0700) where it is missing.
    pub(super) fn create(path: &Path) -> Result<Self, LedgerError> {
        if let Err(LedgerError::Absent { .. }) = Self::open(path).map(drop) {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|source| LedgerError::io("create", path, source))?;
        }
        Self::open(path)
    }

    pub(super) fn open(path: &Path) -> Result<Self, LedgerError> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        let opened = fs::OpenOptions::new().read(true).custom_flags(flags.bits()).open(path);
        let handle = opened.map_err(|source| match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOENT) => LedgerError::Absent { path: path.to_owned() },
            Some(Errno::ENOTDIR | Errno::ELOOP) => wrong_kind(path, "a directory"),
            _ => LedgerError::io("open", path, source),
        })?;
        let stat = fstat(&handle).map_err(|errno| LedgerError::errno("examine", path, errno))?;
        ours_alone(path, &stat)?;
        Ok(Self { path: path.to_owned(), handle })
    }

    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Waits for the lock on the whole ledger. It ends with the returned value.
    pub(super) fn lock(&self) -> Result<Flock<File>, LedgerError> {
        self.locked(FlockArg::LockExclusiveNonblock)
    }

    /// As [`Directory::lock`], for readers: nobody is in the middle of a write.
    pub(super) fn lock_shared(&self) -> Result<Flock<File>, LedgerError> {
        self.locked(FlockArg::LockSharedNonblock)
    }

    fn locked(&self, how: FlockArg) -> Result<Flock<File>, LedgerError> {
        let io = |source| LedgerError::io("lock", &self.path, source);
        let mut handle = self.handle.try_clone().map_err(io)?;
        for _ in 0..LOCK_TRIES_MAX {
            match Flock::lock(handle, how) {
                Ok(lock) => return Ok(lock),
                Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => handle = back,
                Err((_, errno)) => return Err(LedgerError::errno("lock", &self.path, errno)),
            }
            thread::sleep(LOCK_PAUSE);
        }
        Err(LedgerError::Busy { path: self.path.clone(), seconds: LOCK_SECONDS })
    }

    /// A file of the ledger, or nothing where there is none.
    pub(super) fn file(&self, name: &str, how: Use) -> Result<Option<File>, LedgerError> {
        let path = self.path_of(name);
        let flags = match how {
            Use::Read => OFlag::O_RDONLY,
            Use::Append => OFlag::O_RDWR | OFlag::O_APPEND,
            Use::Create => OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_EXCL,
        };
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let owner_only = Mode::S_IRUSR | Mode::S_IWUSR;
        let file = match openat(&self.handle, name, flags, owner_only) {
            Ok(opened) => File::from(opened),
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ELOOP) => return Err(wrong_kind(&path, "a regular file")),
            Err(errno) => return Err(LedgerError::errno("open", &path, errno)),
        };
        let stat = fstat(&file).map_err(|errno| LedgerError::errno("examine", &path, errno))?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(wrong_kind(&path, "a regular file"));
        }
        ours_alone(&path, &stat)?;
        Ok(Some(file))
    }

    /// The small files beside the segments, whole.
    pub(super) fn read_small(&self, name: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        use std::io::Read as _;
        let Some(file) = self.file(name, Use::Read)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let read = file.take(SMALL_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(|source| LedgerError::io("read", &self.path_of(name), source))?;
        Ok(Some(bytes))
    }

    /// Replaces a small file in one step, durably. Only under the lock.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), LedgerError> {
        let path = self.path_of(name);
        let new = format!("{name}.new");
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC;
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let owner_only = Mode::S_IRUSR | Mode::S_IWUSR;
        let mut file = openat(&self.handle, new.as_str(), flags, owner_only)
            .map(File::from)
            .map_err(|errno| LedgerError::errno("create", &path, errno))?;
        let stat = fstat(&file).map_err(|errno| LedgerError::errno("examine", &path, errno))?;
        ours_alone(&path, &stat)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        written.map_err(|source| LedgerError::io("write", &path, source))?;
        renameat(&self.handle, new.as_str(), &self.handle, name)
            .map_err(|errno| LedgerError::errno("replace", &path, errno))?;
        self.sync()
    }

    /// Makes new names durable.
    pub(super) fn sync(&self) -> Result<(), LedgerError> {
        self.handle.sync_all().map_err(|source| LedgerError::io("synchronise", &self.path, source))
    }

    /// The length of the segment, having made sure that `file` is still what the name leads to.
    pub(super) fn length(&self, name: &str, file: &File) -> Result<u64, LedgerError> {
        let removed = || LedgerError::Removed { path: self.path_of(name) };
        let named = match fstatat(&self.handle, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::ENOENT) => return Err(removed()),
            Err(errno) => {
                return Err(LedgerError::errno("examine", &self.path_of(name), errno));
            }
        };
        let held = file
            .metadata()
            .map_err(|source| LedgerError::io("examine", &self.path_of(name), source))?;
        if (named.st_dev, named.st_ino) != (held.dev(), held.ino()) {
            return Err(removed());
        }
        Ok(held.size())
    }

    /// The numbers of the segments, ascending.
    pub(super) fn segments(&self) -> Result<Vec<u32>, LedgerError> {
        let io = |source: io::Error| LedgerError::io("list", &self.path, source);
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(io)? {
            let name = entry.map_err(io)?.file_name();
            numbers.extend(name.to_str().and_then(segment_number));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }
}

/// Keys and signed notes are far shorter.
const SMALL_BYTES_MAX: u64 = 64 * 1024;

pub(super) fn segment_name(number: u32) -> String {
    format!("{number:06}{SEGMENT_SUFFIX}")
}

fn segment_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(SEGMENT_SUFFIX)?;
    let number: u32 = digits.parse().ok()?;
    (number > 0 && segment_name(number) == name).then_some(number)
}

fn ours_alone(path: &Path, stat: &FileStat) -> Result<(), LedgerError> {
    let user = geteuid().as_raw();
    if stat.st_uid != user {
        return Err(LedgerError::ForeignOwner { path: path.to_owned(), owner: stat.st_uid, user });
    }
    if stat.st_mode & OTHERS_WRITE != 0 {
        let mode = stat.st_mode & PERMISSION_BITS;
        return Err(LedgerError::WritableByOthers { path: path.to_owned(), mode });
    }
    Ok(())
}

fn wrong_kind(path: &Path, needed: &'static str) -> LedgerError {
    let found = match fs::symlink_metadata(path).map(|it| it.file_type()) {
        Ok(kind) if kind.is_symlink() => "a symbolic link",
        Ok(kind) if kind.is_dir() => "a directory",
        Ok(kind) if kind.is_file() => "a file",
        Ok(_) | Err(_) => "something else",
    };
    LedgerError::WrongKind { path: path.to_owned(), found, needed }
}
