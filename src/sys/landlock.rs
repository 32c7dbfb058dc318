//! Landlock, as far as it is needed between clone and exec.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Errno, plain, raw, word};

/// `struct landlock_path_beneath_attr`, which is packed (linux/landlock.h).
#[repr(C, packed)]
struct PathBeneath {
    rights: u64,
    parent: i32,
}

/// The kernel's Landlock ABI (`landlock_create_ruleset(2)`).
pub(crate) fn abi() -> Result<u32, Errno> {
    const LANDLOCK_CREATE_RULESET_VERSION: usize = 1;
    let arguments = [0, 0, LANDLOCK_CREATE_RULESET_VERSION, 0, 0, 0];
    let abi = plain(libc::SYS_landlock_create_ruleset, arguments)?;
    u32::try_from(abi).map_err(|_| Errno::EOVERFLOW)
}

/// Adds a rule: these rights below this object.
pub(crate) fn allow_beneath(
    ruleset: BorrowedFd<'_>,
    parent: BorrowedFd<'_>,
    rights: u64,
) -> Result<(), Errno> {
    const LANDLOCK_RULE_PATH_BENEATH: usize = 1;
    let rule = PathBeneath { rights, parent: parent.as_raw_fd() };
    let arguments = [
        word(ruleset.as_raw_fd()),
        LANDLOCK_RULE_PATH_BENEATH,
        (&raw const rule).expose_provenance(),
        0,
        0,
        0,
    ];
    // SAFETY: `rule` has the kernel's packed layout and outlives the call.
    unsafe { raw(libc::SYS_landlock_add_rule, arguments) }.map(drop)
}

/// Puts this process and its descendants under the ruleset. Needs `no_new_privs`.
pub(crate) fn restrict_self(ruleset: BorrowedFd<'_>) -> Result<(), Errno> {
    plain(libc::SYS_landlock_restrict_self, [word(ruleset.as_raw_fd()), 0, 0, 0, 0, 0]).map(drop)
}
