//! Pseudo terminals of the sandbox's own `devpts`, and handing their descriptors on.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::descriptor::owned_result;
use super::{Errno, plain, raw, request, word};

/// Unlocks the pair that `master` belongs to and opens its other end, without any path.
/// Linux 4.13.
pub(crate) fn open_peer(master: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let number = word(master.as_raw_fd());
    let unlocked: i32 = 0;
    let arguments =
        [number, request(libc::TIOCSPTLCK), (&raw const unlocked).expose_provenance(), 0, 0, 0];
    // SAFETY: this ioctl reads one `int`, which outlives the call.
    unsafe { raw(libc::SYS_ioctl, arguments) }?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    owned_result(plain(libc::SYS_ioctl, [number, request(libc::TIOCGPTPEER), word(flags), 0, 0, 0]))
}

/// Puts the process group of this process into the foreground of its controlling terminal.
pub(crate) fn take_foreground(terminal: BorrowedFd<'_>) -> Result<(), Errno> {
    let group = plain(libc::SYS_getpgid, [0; 6])?;
    let group = i32::try_from(group).map_err(|_| Errno::EOVERFLOW)?;
    let arguments = [
        word(terminal.as_raw_fd()),
        request(libc::TIOCSPGRP),
        (&raw const group).expose_provenance(),
        0,
        0,
        0,
    ];
    // SAFETY: this ioctl reads one `pid_t`, which outlives the call.
    unsafe { raw(libc::SYS_ioctl, arguments) }.map(drop)
}

/// Room for one descriptor in a control message, suitably aligned.
#[repr(C, align(8))]
struct Control([u8; 24]);

/// Sends one descriptor and one byte over a UNIX socket (`SCM_RIGHTS`, unix(7)).
pub(crate) fn send_descriptor(
    socket: BorrowedFd<'_>,
    descriptor: BorrowedFd<'_>,
) -> Result<(), Errno> {
    /// `CMSG_LEN` of one `int`.
    const LENGTH: u64 = 20;
    let mut control = Control([0; 24]);
    let header = LENGTH.to_ne_bytes().into_iter();
    let kind = libc::SOL_SOCKET.to_ne_bytes().into_iter().chain(libc::SCM_RIGHTS.to_ne_bytes());
    let number = descriptor.as_raw_fd().to_ne_bytes();
    for (slot, byte) in control.0.iter_mut().zip(header.chain(kind).chain(number)) {
        *slot = byte;
    }
    let mut byte = [b'm'];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: byte.len() };
    // SAFETY: all-zero bytes are a valid `struct msghdr`.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = 24;
    let arguments = [
        word(socket.as_raw_fd()),
        (&raw const message).expose_provenance(),
        word(libc::MSG_NOSIGNAL),
        0,
        0,
        0,
    ];
    // SAFETY: everything that `message` points to lives on this stack frame until the call is over.
    unsafe { raw(libc::SYS_sendmsg, arguments) }.map(drop)
}
