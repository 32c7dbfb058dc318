//! The ioctls about a terminal's window size, which have no safe wrapper.
//!
//! Everything else about terminals is `nix::sys::termios`.
#![expect(unsafe_code, reason = "ioctl is untyped: its argument depends on its request")]

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// The size of a terminal, as programs ask for it.
pub(crate) fn window_size(terminal: BorrowedFd<'_>) -> Result<libc::winsize, Errno> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one `winsize` through its argument, which points to one that this
    // function owns; the descriptor is borrowed, so it is open.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    Errno::result(result).map(|_| size)
}

/// Tells a terminal its size; when it changes, the kernel sends SIGWINCH to the foreground group.
pub(crate) fn set_window_size(terminal: BorrowedFd<'_>, size: &libc::winsize) -> Result<(), Errno> {
    let size: *const libc::winsize = size;
    // SAFETY: TIOCSWINSZ reads one `winsize` through its argument, which comes from a reference
    // that lives for the whole call; the descriptor is borrowed, so it is open.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, size) };
    Errno::result(result).map(drop)
}
