//! Why the ledger cannot be written or read, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// A failure of the ledger. Nothing runs that cannot be recorded, so each sentence ends with the
/// way out.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    #[error("the ledger cannot {action} `{}`: make sure that this user may write there", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("there is no ledger at `{}`: nothing has been recorded there yet", path.display())]
    Absent { path: PathBuf },
    #[error("`{}` is {found}, and the ledger needs {needed} of its own there: move it away", path.display())]
    WrongKind { path: PathBuf, found: &'static str, needed: &'static str },
    #[error(
        "`{}` belongs to user {owner} and rung runs as user {user}: choose a state directory of your own",
        path.display()
    )]
    ForeignOwner { path: PathBuf, owner: u32, user: u32 },
    #[error(
        "`{}` can be written by others (mode {mode:03o}): `chmod go-w` it, and verify the ledger before trusting it",
        path.display()
    )]
    WritableByOthers { path: PathBuf, mode: u32 },
    #[error(
        "the ledger `{}` has no room for the next record: free some space, because nothing runs that cannot be recorded",
        path.display()
    )]
    Full { path: PathBuf, source: io::Error },
    #[error(
        "another process has held the lock of the ledger `{}` for about {seconds} seconds: find it with `fuser` and end it",
        path.display()
    )]
    Busy { path: PathBuf, seconds: u64 },
    #[error(
        "the ledger file `{}` was removed or replaced while rung was using it: put it back, or start rung again to begin a new one",
        path.display()
    )]
    Removed { path: PathBuf },
    #[error(
        "the last record of `{}` is damaged ({what}): run `rung audit verify`, then move the ledger's directory aside as evidence so that a new one begins",
        path.display()
    )]
    Damaged { path: PathBuf, what: String },
    #[error(
        "the signing key `{}` {problem}: restore it, or move the ledger's directory aside so that a new one begins",
        path.display()
    )]
    Key { path: PathBuf, problem: &'static str },
    #[error("a record of kind `{kind}` cannot be written as JSON")]
    Encode { kind: &'static str, source: serde_json::Error },
    #[error("a record of kind `{kind}` is {bytes} bytes long after everything in it was cut")]
    TooLarge { kind: &'static str, bytes: usize },
    #[error("the export cannot be written to where it was sent")]
    Output { source: io::Error },
}

impl LedgerError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let errno = source.raw_os_error().map(Errno::from_raw);
        match errno {
            Some(Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => {
                Self::Full { path: path.to_owned(), source }
            }
            _ => Self::Io { action, path: path.to_owned(), source },
        }
    }

    pub(super) fn errno(action: &'static str, path: &Path, errno: Errno) -> Self {
        Self::io(action, path, errno.into())
    }
}
