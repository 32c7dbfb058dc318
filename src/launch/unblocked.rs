//! The caller's own descriptors, used without ever blocking and given back as they were.
//!
//! `O_NONBLOCK` belongs to what is open, not to the descriptor: set on an inherited terminal it
//! would reach the caller's shell and everything it runs in the background. So terminals and pipes
//! are opened again, for rung alone. Only where that is refused (a terminal of another user, no
//! `/proc`) the flag is set on the shared one, and taken away again in every way out.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{FileStat, SFlag, fstat, major, minor};

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

/// A descriptor whose reads and writes return `EAGAIN` where they would wait.
#[derive(Debug)]
pub(super) struct Unblocked {
    fd: OwnedFd,
    way: Way,
}

#[derive(Debug)]
enum Way {
    /// Opened again: the flag is on a description of our own. Or: never waits.
    Own,
    /// Each call says that it does not want to wait.
    Socket,
    /// The flag is on the caller's description, whose flags were these.
    Shared(OFlag),
}

impl Unblocked {
    pub(super) fn open(fd: OwnedFd, direction: Direction) -> Result<Self, Errno> {
        let facts = fstat(&fd)?;
        match SFlag::from_bits_truncate(facts.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFSOCK => Ok(Self { fd, way: Way::Socket }),
            SFlag::S_IFIFO => Self::again_or_shared(fd, direction),
            SFlag::S_IFCHR if is_terminal(&facts) => Self::again_or_shared(fd, direction),
            // To open a master again would make a new pair.
            SFlag::S_IFCHR if is_master(&facts) => Self::shared(fd),
            // Files and devices like `/dev/null` are always ready.
            _ => Ok(Self { fd, way: Way::Own }),
        }
    }

    fn again_or_shared(fd: OwnedFd, direction: Direction) -> Result<Self, Errno> {
        let again = OpenOptions::new()
            .read(direction == Direction::Read)
            .write(direction == Direction::Write)
            .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
            .open(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        match again {
            Ok(file) => Ok(Self { fd: file.into(), way: Way::Own }),
            Err(_) => Self::shared(fd),
        }
    }

    fn shared(fd: OwnedFd) -> Result<Self, Errno> {
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self { fd, way: Way::Shared(flags) })
    }

    /// Gives the caller's description its flags back, until [`Self::take_again`].
    pub(super) fn give_back(&self) -> Result<(), Errno> {
        match self.way {
            Way::Shared(flags) => fcntl(&self.fd, FcntlArg::F_SETFL(flags)).map(drop),
            Way::Own | Way::Socket => Ok(()),
        }
    }

    pub(super) fn take_again(&self) -> Result<(), Errno> {
        match self.way {
            Way::Shared(flags) => {
                fcntl(&self.fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
            }
            Way::Own | Way::Socket => Ok(()),
        }
    }

    pub(super) fn read(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        read(self.as_fd(), buffer)
    }

    /// Writes from the front of `queue` until it is empty or the other side takes no more.
    pub(super) fn write_from(&self, queue: &mut VecDeque<u8>) -> Result<(), Errno> {
        while !queue.is_empty() {
            let (front, _) = queue.as_slices();
            let written = match self.way {
                Way::Socket => send(
                    self.fd.as_raw_fd(),
                    front,
                    MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
                ),
                Way::Own | Way::Shared(_) => nix::unistd::write(&self.fd, front),
            };
            match written {
                Ok(count) => drop(queue.drain(..count.min(queue.len()))),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl AsFd for Unblocked {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Unblocked {
    fn drop(&mut self) {
        if let Err(error) = self.give_back() {
            tracing::warn!(%error, "a descriptor of the caller stays non-blocking");
        }
    }
}

/// Reads once, again when a signal came in between.
pub(super) fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        match nix::unistd::read(fd, buffer) {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// Makes a descriptor that rung alone has open non-blocking.
pub(super) fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

/// Consoles, serial lines, `/dev/tty` and the slave side of pseudo-terminals.
fn is_terminal(facts: &FileStat) -> bool {
    let device = (major(facts.st_rdev), minor(facts.st_rdev));
    matches!(device, (4 | 136..=143, _) | (5, 0 | 1))
}

fn is_master(facts: &FileStat) -> bool {
    (major(facts.st_rdev), minor(facts.st_rdev)) == (5, 2)
}

#[cfg(test)]
mod tests {
    use nix::pty::openpty;
    use nix::unistd::{pipe, read as read_once};

    use super::*;

    fn is_nonblocking(fd: &OwnedFd) -> bool {
        let flags = fcntl(fd, FcntlArg::F_GETFL).unwrap();
        OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK)
    }

    #[test]
    fn a_pipe_and_a_terminal_are_unblocked_without_touching_the_callers_description() {
        let (_reader, pipe) = pipe().unwrap();
        let pair = openpty(None, None).unwrap();
        for caller in [pipe, pair.slave] {
            let ours = Unblocked::open(caller.try_clone().unwrap(), Direction::Write).unwrap();
            assert!(is_nonblocking(&ours.fd));
            assert!(!is_nonblocking(&caller));
        }
    }

    #[test]
    fn a_shared_description_gets_its_flags_back() {
        let (_reader, caller) = pipe().unwrap();
        let ours = Unblocked::shared(caller.try_clone().unwrap()).unwrap();
        assert!(is_nonblocking(&caller));
        ours.give_back().unwrap();
        assert!(!is_nonblocking(&caller));
        ours.take_again().unwrap();
        assert!(is_nonblocking(&caller));
        drop(ours);
        assert!(!is_nonblocking(&caller));
    }

    #[test]
    fn a_full_pipe_keeps_the_rest_in_the_queue_and_in_order() {
        let (reader, writer) = pipe().unwrap();
        let ours = Unblocked::open(writer, Direction::Write).unwrap();
        let sent: Vec<u8> = (0..1_u32 << 20).map(|it| it.to_le_bytes()[0]).collect();
        let mut queue = VecDeque::from(sent.clone());
        let mut received = Vec::new();
        let mut buffer = [0; 8192];
        while received.len() < sent.len() {
            ours.write_from(&mut queue).unwrap();
            let count = read_once(&reader, &mut buffer).unwrap();
            received.extend_from_slice(&buffer[..count]);
        }
        assert_eq!(received, sent);
    }

    #[test]
    fn a_master_is_not_opened_again() {
        let pair = openpty(None, None).unwrap();
        let ours = Unblocked::open(pair.master, Direction::Write).unwrap();
        let mut queue = VecDeque::from(b"typed\n".to_vec());
        ours.write_from(&mut queue).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(read_once(&pair.slave, &mut buffer), Ok(6));
    }
}
