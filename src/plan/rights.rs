//! Landlock's file rights, by the names of the kernel's header.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Not, Sub};

use serde::{Deserialize, Serialize};

use super::Access;

/// A set of `LANDLOCK_ACCESS_FS_*` bits (linux/landlock.h).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FsRights(pub u64);

impl FsRights {
    pub const NONE: Self = Self(0);
    pub const EXECUTE: Self = Self(1 << 0);
    pub const WRITE_FILE: Self = Self(1 << 1);
    pub const READ_FILE: Self = Self(1 << 2);
    pub const READ_DIR: Self = Self(1 << 3);
    pub const REMOVE_DIR: Self = Self(1 << 4);
    pub const REMOVE_FILE: Self = Self(1 << 5);
    pub const MAKE_CHAR: Self = Self(1 << 6);
    pub const MAKE_DIR: Self = Self(1 << 7);
    pub const MAKE_REG: Self = Self(1 << 8);
    pub const MAKE_SOCK: Self = Self(1 << 9);
    pub const MAKE_FIFO: Self = Self(1 << 10);
    pub const MAKE_BLOCK: Self = Self(1 << 11);
    pub const MAKE_SYM: Self = Self(1 << 12);
    /// ABI 2, Linux 5.19: links and renames between directories. Refused by every ruleset that
    /// handles any right, even before this one existed.
    pub const REFER: Self = Self(1 << 13);
    /// ABI 3, Linux 6.2.
    pub const TRUNCATE: Self = Self(1 << 14);
    /// ABI 5, Linux 6.10.
    pub const IOCTL_DEV: Self = Self(1 << 15);

    const NAMES: [(Self, &'static str); 16] = [
        (Self::EXECUTE, "execute"),
        (Self::WRITE_FILE, "write_file"),
        (Self::READ_FILE, "read_file"),
        (Self::READ_DIR, "read_dir"),
        (Self::REMOVE_DIR, "remove_dir"),
        (Self::REMOVE_FILE, "remove_file"),
        (Self::MAKE_CHAR, "make_char"),
        (Self::MAKE_DIR, "make_dir"),
        (Self::MAKE_REG, "make_reg"),
        (Self::MAKE_SOCK, "make_sock"),
        (Self::MAKE_FIFO, "make_fifo"),
        (Self::MAKE_BLOCK, "make_block"),
        (Self::MAKE_SYM, "make_sym"),
        (Self::REFER, "refer"),
        (Self::TRUNCATE, "truncate"),
        (Self::IOCTL_DEV, "ioctl_dev"),
    ];

    /// Every right that a kernel with this ABI knows.
    pub fn handled_by(abi: u32) -> Self {
        let highest = match abi {
            0 => return Self::NONE,
            1 => Self::MAKE_SYM,
            2 => Self::REFER,
            3 | 4 => Self::TRUNCATE,
            _ => Self::IOCTL_DEV,
        };
        Self(highest.0 * 2 - 1)
    }

    /// What an access in the author's words needs. Device nodes and `IOCTL_DEV` are never part of it.
    pub fn of(access: Access, programs: bool) -> Self {
        let read = Self::READ_FILE | Self::READ_DIR;
        let rights = match access {
            Access::Read => read,
            Access::Write => {
                read | Self::WRITE_FILE
                    | Self::REMOVE_DIR
                    | Self::REMOVE_FILE
                    | Self::MAKE_DIR
                    | Self::MAKE_REG
                    | Self::MAKE_SOCK
                    | Self::MAKE_FIFO
                    | Self::MAKE_SYM
                    | Self::REFER
                    | Self::TRUNCATE
            }
        };
        if programs { rights | Self::EXECUTE } else { rights }
    }

    /// The part that a rule on a plain file may carry; the kernel refuses the others (EINVAL).
    #[must_use]
    pub fn on_file(self) -> Self {
        self & (Self::EXECUTE
            | Self::WRITE_FILE
            | Self::READ_FILE
            | Self::TRUNCATE
            | Self::IOCTL_DEV)
    }

    pub fn contains(self, other: Self) -> bool {
        self & other == other
    }

    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |it| self.contains(it.0)).map(|it| it.1)
    }
}

impl BitOr for FsRights {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for FsRights {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl BitAnd for FsRights {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Sub for FsRights {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl Not for FsRights {
    type Output = Self;
    fn not(self) -> Self {
        Self(!self.0)
    }
}

impl fmt::Display for FsRights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.names().collect();
        write!(f, "{{{}}}", names.join(", "))
    }
}

impl fmt::Debug for FsRights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_abi_handles_what_its_kernel_knows() {
        for (abi, highest) in [(1, "make_sym"), (2, "refer"), (3, "truncate"), (7, "ioctl_dev")] {
            assert_eq!(FsRights::handled_by(abi).names().last(), Some(highest), "abi {abi}");
        }
        assert!(FsRights::handled_by(0).is_empty());
    }

    #[test]
    fn no_access_includes_making_devices() {
        let all = FsRights::of(Access::Write, true);
        assert!((all & (FsRights::MAKE_CHAR | FsRights::MAKE_BLOCK)).is_empty());
    }

    #[test]
    fn a_plain_file_gets_no_directory_rights() {
        let rights = FsRights::of(Access::Write, false).on_file();
        assert_eq!(rights.to_string(), "{write_file, read_file, truncate}");
    }
}
