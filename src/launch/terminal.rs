//! The person at the terminal and the command in a terminal of its own, and the bytes between.
//!
//! The command never holds the user's terminal, so nothing it does with its own (typing into it,
//! turning echo off, taking the foreground) reaches the user's. Ours is put into raw mode: what is
//! typed goes through as bytes, and Ctrl-C, Ctrl-Z and Ctrl-\ become signals inside, where the
//! command's own line discipline knows whom they are for.
//!
//! Made for one `poll` loop: [`Terminal::interest`] says what to wait for, [`Terminal::ready`]
//! moves what can be moved and never waits. The end of a run is the supervisor's knowledge, never
//! the end of the stream: a process that outlives the command may keep its terminal open.
//!
//! While the user's terminal is raw, a line needs `\r\n`; say things before or after. SIGTTIN and
//! SIGTTOU must stay unblocked and at their default, or a run in the background fails to stop.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::termios::{FlushArg, SetArg, Termios, cfmakeraw, tcflush, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp};

use super::screen::{Removed, Screen};
use super::unblocked::{Direction, Unblocked, read, set_nonblocking};
use crate::sys::terminal as kernel;

/// Above this much that one side has not taken yet, the other is not read.
const WAITING_BYTES_MAX: usize = 64 << 10;

/// The most that is read in one go.
const READ_BYTES_MAX: usize = 16 << 10;

/// The most that is still read after the run has ended; a terminal holds less.
const LEFT_BYTES_MAX: usize = 1 << 20;

/// At the end, a terminal that takes nothing for so long has lost the rest.
const STALL_MS_MAX: u16 = 2_000;

/// Between a user's terminal and a command's, for the length of one run.
///
/// Dropping it gives the user's terminal back as it was.
#[derive(Debug)]
pub struct Terminal {
    input: Unblocked,
    output: Unblocked,
    /// The command's terminal, from outside.
    master: OwnedFd,
    /// What the user's terminal was when it was last theirs.
    usual: Termios,
    is_raw: bool,
    /// Absent: passed on unfiltered.
    screen: Option<Screen>,
    /// From the user, not yet taken by the command.
    typed: VecDeque<u8>,
    /// From the command, filtered, not yet taken by the user's terminal.
    printed: VecDeque<u8>,
    user_is_gone: bool,
    /// No process has the command's terminal open.
    is_hung_up: bool,
}

/// What becomes of control sequences that act on the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// They are removed and counted.
    Filtered,
    /// They pass: `--tty raw`.
    Raw,
}

/// Why a terminal cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TerminalError {
    #[error("the terminal on standard input cannot be opened")]
    Open(#[source] Errno),
    #[error("the mode of the terminal on standard input cannot be changed")]
    Mode(#[source] Errno),
    #[error("the size of the terminal cannot be passed on")]
    Size(#[source] Errno),
    #[error("the command's terminal failed")]
    Inside(#[source] Errno),
    #[error("the terminal on standard input failed")]
    Outside(#[source] Errno),
}

impl Terminal {
    /// Takes the user's terminal (`input`; `output` is where the command's prints are shown) and
    /// joins it with the command's, whose master is `master`.
    pub fn open(
        input: OwnedFd,
        output: OwnedFd,
        master: OwnedFd,
        passing: Passing,
    ) -> Result<Self, TerminalError> {
        let usual = tcgetattr(&input).map_err(TerminalError::Mode)?;
        set_nonblocking(master.as_fd()).map_err(TerminalError::Inside)?;
        let mut terminal = Self {
            input: Unblocked::open(input, Direction::Read).map_err(TerminalError::Open)?,
            output: Unblocked::open(output, Direction::Write).map_err(TerminalError::Open)?,
            master,
            usual,
            is_raw: false,
            screen: (passing == Passing::Filtered).then(Screen::new),
            typed: VecDeque::new(),
            printed: VecDeque::new(),
            user_is_gone: false,
            is_hung_up: false,
        };
        terminal.resize()?;
        terminal.enter_raw()?;
        Ok(terminal)
    }

    /// What the supervisor's `poll` should wait for; when any of it is ready, [`Self::ready`].
    pub fn interest(&self) -> impl Iterator<Item = PollFd<'_>> {
        let input = self.wants_input().then_some((self.input.as_fd(), PollFlags::POLLIN));
        let output =
            (!self.printed.is_empty()).then_some((self.output.as_fd(), PollFlags::POLLOUT));
        let mut events = PollFlags::empty();
        events.set(PollFlags::POLLIN, self.wants_output());
        events.set(PollFlags::POLLOUT, !self.typed.is_empty());
        // A terminal without processes would report its hang-up in every round.
        let inside =
            (!self.is_hung_up && !events.is_empty()).then_some((self.master.as_fd(), events));
        [input, output, inside].into_iter().flatten().map(|(fd, events)| PollFd::new(fd, events))
    }

    /// Moves what can be moved, both ways. Never waits.
    pub fn ready(&mut self) -> Result<(), TerminalError> {
        if self.wants_input() {
            self.read_input()?;
        }
        self.write_inside()?;
        if self.wants_output() {
            self.read_inside()?;
        }
        self.write_output()
    }

    /// Gives the command's terminal the size of the user's: at the start and on SIGWINCH.
    pub fn resize(&mut self) -> Result<(), TerminalError> {
        let size = kernel::window_size(self.input.as_fd()).map_err(TerminalError::Size)?;
        kernel::set_window_size(self.master.as_fd(), &size).map_err(TerminalError::Size)
    }

    /// Whether the user's terminal has gone: what the command prints is dropped from then on.
    pub fn user_is_gone(&self) -> bool {
        self.user_is_gone
    }

    /// Gives the user's terminal back before rung stops itself.
    pub fn suspend(&mut self) -> Result<(), TerminalError> {
        self.flush()?;
        self.restore()?;
        self.input.give_back().map_err(TerminalError::Outside)?;
        self.output.give_back().map_err(TerminalError::Outside)
    }

    /// Takes it again after SIGCONT, with whatever size and modes it has now.
    pub fn resume(&mut self) -> Result<(), TerminalError> {
        self.input.take_again().map_err(TerminalError::Outside)?;
        self.output.take_again().map_err(TerminalError::Outside)?;
        self.usual = tcgetattr(&self.input).map_err(TerminalError::Mode)?;
        self.enter_raw()?;
        self.resize()
    }

    /// Puts the user's terminal back into its usual mode; the second time it does nothing.
    pub fn restore(&mut self) -> Result<(), TerminalError> {
        // In the background the terminal is somebody else's, who has set it as they need it.
        let is_ours = tcgetpgrp(&self.input).map_or(true, |group| group == getpgrp());
        if !std::mem::take(&mut self.is_raw) || !is_ours {
            return Ok(());
        }
        // If it is taken from us just now, SIGTTOU must not stop us halfway.
        let mut stops = SigSet::empty();
        stops.add(Signal::SIGTTOU);
        let before = stops.thread_swap_mask(SigmaskHow::SIG_BLOCK).map_err(TerminalError::Mode)?;
        let restored = tcsetattr(&self.input, SetArg::TCSANOW, &self.usual);
        before.thread_set_mask().map_err(TerminalError::Mode)?;
        match restored {
            Err(Errno::EIO) => Ok(()),
            result => result.map_err(TerminalError::Mode),
        }
    }

    /// Ends the run: shows what is left, undoes what the command left switched on, gives the
    /// user's terminal back, and says what was removed.
    pub fn finish(mut self) -> Result<Removed, TerminalError> {
        self.read_the_rest()?;
        let mut ending = Vec::new();
        if let Some(screen) = &mut self.screen {
            screen.finish(&mut ending);
        }
        self.printed.extend(ending);
        self.flush()?;
        self.restore()?;
        // Answers to questions the command is not there to read: they must not be typed into the
        // user's shell. What the user typed ahead has gone to the command already.
        match tcflush(&self.input, FlushArg::TCIFLUSH) {
            Ok(()) | Err(Errno::EIO) => {}
            Err(error) => return Err(TerminalError::Mode(error)),
        }
        Ok(self.screen.as_ref().map(|screen| screen.removed().clone()).unwrap_or_default())
    }

    fn enter_raw(&mut self) -> Result<(), TerminalError> {
        let mut raw = self.usual.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&self.input, SetArg::TCSANOW, &raw).map_err(TerminalError::Mode)?;
        self.is_raw = true;
        Ok(())
    }

    fn wants_input(&self) -> bool {
        !self.user_is_gone && self.typed.len() < WAITING_BYTES_MAX
    }

    fn wants_output(&self) -> bool {
        self.printed.len() < WAITING_BYTES_MAX
    }

    fn read_input(&mut self) -> Result<(), TerminalError> {
        let mut buffer = [0; READ_BYTES_MAX];
        match self.input.read(&mut buffer) {
            // A terminal in raw mode has no end of file: this is a hang-up.
            Ok(0) | Err(Errno::EIO) => self.user_is_gone = true,
            Ok(count) => self.typed.extend(buffer.iter().take(count)),
            Err(Errno::EAGAIN) => {}
            Err(error) => return Err(TerminalError::Outside(error)),
        }
        Ok(())
    }

    fn write_inside(&mut self) -> Result<(), TerminalError> {
        while !self.typed.is_empty() {
            let (front, _) = self.typed.as_slices();
            match nix::unistd::write(&self.master, front) {
                Ok(count) => drop(self.typed.drain(..count.min(self.typed.len()))),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                // Nobody is there to read it.
                Err(Errno::EIO) => self.typed.clear(),
                Err(error) => return Err(TerminalError::Inside(error)),
            }
        }
        Ok(())
    }

    /// Reads once; how much came.
    fn read_inside(&mut self) -> Result<usize, TerminalError> {
        let mut buffer = [0; READ_BYTES_MAX];
        let result = read(self.master.as_fd(), &mut buffer);
        self.is_hung_up = matches!(result, Ok(0) | Err(Errno::EIO));
        let count = match result {
            Ok(count) => count,
            Err(Errno::EAGAIN | Errno::EIO) => 0,
            Err(error) => return Err(TerminalError::Inside(error)),
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        match &mut self.screen {
            Some(screen) => {
                let mut filtered = Vec::with_capacity(count);
                screen.feed(bytes, &mut filtered);
                self.printed.extend(filtered);
            }
            None => self.printed.extend(bytes),
        }
        Ok(count)
    }

    fn write_output(&mut self) -> Result<(), TerminalError> {
        if self.user_is_gone {
            self.printed.clear();
        }
        match self.output.write_from(&mut self.printed) {
            Err(Errno::EIO | Errno::EPIPE) => {
                self.user_is_gone = true;
                self.printed.clear();
                Ok(())
            }
            result => result.map_err(TerminalError::Outside),
        }
    }

    fn read_the_rest(&mut self) -> Result<(), TerminalError> {
        let mut left = LEFT_BYTES_MAX;
        while left > 0 {
            if !self.wants_output() {
                self.flush()?;
            }
            match self.read_inside()? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        Ok(())
    }

    /// Writes all that waits for the user's terminal, as long as it takes something now and then.
    fn flush(&mut self) -> Result<(), TerminalError> {
        self.write_output()?;
        while !self.printed.is_empty() {
            let mut wait = [PollFd::new(self.output.as_fd(), PollFlags::POLLOUT)];
            match poll(&mut wait, PollTimeout::from(STALL_MS_MAX)) {
                Ok(0) => self.printed.clear(),
                Ok(_) => self.write_output()?,
                Err(Errno::EINTR) => {}
                Err(error) => return Err(TerminalError::Outside(error)),
            }
        }
        Ok(())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if let Err(error) = self.restore() {
            tracing::warn!(%error, "the terminal stays in raw mode");
        }
    }
}

#[cfg(test)]
mod tests;
