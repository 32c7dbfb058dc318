//! Numbers that outlive the process that writes them.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Errno, raw, word};

/// Numbers in a file, which whoever has the file open can read, also when this process is gone.
#[derive(Debug)]
pub(crate) struct Numbers {
    all: &'static [AtomicU64],
}

impl Numbers {
    /// The first `count` numbers of a file, for as long as this process lives. The file must never get
    /// shorter, for which it is sealed.
    pub(crate) fn of(file: BorrowedFd<'_>, count: usize) -> Result<Self, Errno> {
        let bytes = count.checked_mul(size_of::<AtomicU64>()).ok_or(Errno::EOVERFLOW)?;
        if bytes == 0 {
            return Ok(Self { all: &[] });
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let arguments =
            [0, bytes, word(protection), word(libc::MAP_SHARED), word(file.as_raw_fd()), 0];
        // SAFETY: the kernel chooses an address that nothing is mapped at.
        let address = unsafe { raw(libc::SYS_mmap, arguments) }?;
        let start = std::ptr::with_exposed_provenance::<AtomicU64>(address);
        // SAFETY: the mapping is `bytes` long, aligned to a page, readable, writable and never taken
        // away; zeros are valid numbers, and whoever else maps the file writes them whole too.
        let all = unsafe { std::slice::from_raw_parts(start, count) };
        Ok(Self { all })
    }

    pub(crate) fn put(&self, index: usize, value: u64) {
        if let Some(slot) = self.all.get(index) {
            slot.store(value, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn what_is_put_can_be_read_from_the_file() {
        let flags = nix::sys::memfd::MFdFlags::empty();
        let file = File::from(nix::sys::memfd::memfd_create(c"numbers", flags).unwrap());
        file.set_len(16).unwrap();
        let numbers = Numbers::of(file.as_fd(), 2).unwrap();
        numbers.put(1, 7);
        numbers.put(2, 8);
        let mut bytes = [0; 16];
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(bytes[8..], 7_u64.to_ne_bytes());
        assert_eq!(bytes[..8], [0; 8]);
    }
}
