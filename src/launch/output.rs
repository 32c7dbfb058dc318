//! Passes on what a command prints, up to the profile's limit and without what a terminal would act
//! on. Only where there is a limit or a terminal: otherwise the command writes to the caller's own
//! descriptors and this does not exist.
//!
//! The limit is one for both streams together, counted as rung reads. When it is reached, either
//! the beginning has been passed and the end is kept in a ring, to be passed when the run is over;
//! or reading stops, so that the writer blocks while the supervisor ends the run. Either way the
//! bytes of a stream keep their order, and memory is bounded.
//!
//! The words about a gap go to standard error, at the moment at which the gap is passed: with both
//! streams in one place (`2>&1`, as agents read) they stand where the bytes are missing, and a
//! standard output that a program reads has none of them.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::stat::fstat;

use super::screen::{Removed, Screen};
use super::tail::{Stream, Tail};
use super::unblocked::{Direction, Unblocked, read, set_nonblocking};
use crate::model::Bytes;
use crate::plan::WhenFull;

/// Above this much that the caller has not taken yet, the command is not read.
const WAITING_BYTES_MAX: usize = 64 << 10;

/// The most that is read in one go.
const READ_BYTES_MAX: usize = 16 << 10;

/// The most that is kept for the end, in memory. Of a larger limit, the beginning gets the rest.
const TAIL_BYTES_MAX: u64 = 8 << 20;

/// The most that is still read from one stream after the run has ended; a pipe holds less unless
/// the machine's `pipe-max-size` was raised.
const LEFT_BYTES_MAX: usize = 16 << 20;

/// Both streams of one run.
///
/// After [`Relay::end`] the supervisor goes on calling until [`Relay::is_done`]: a reader that is
/// slow gets all of it.
#[derive(Debug)]
pub struct Relay {
    when_full: WhenFull,
    /// What may still be passed at once.
    head_left: u64,
    tail: Tail,
    output: Side,
    /// Absent: both streams are one.
    error: Option<Side>,
    passed: u64,
    is_full: bool,
    has_ended: bool,
    removed: Removed,
}

/// A pipe from the command and where its bytes go. Both belong to the relay.
#[derive(Debug)]
pub struct Ends {
    source: OwnedFd,
    sink: OwnedFd,
    screen: Option<Screen>,
}

impl Ends {
    /// `filtered`: the bytes go to a terminal, and what that would act on is removed.
    pub fn new(source: OwnedFd, sink: OwnedFd, filtered: bool) -> Self {
        Self { source, sink, screen: filtered.then(Screen::new) }
    }
}

/// What became of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relayed {
    pub passed: Bytes,
    /// Between the beginning and the end. 0: nothing is missing.
    pub left_out: Bytes,
    /// The limit was reached and reading stopped.
    pub is_full: bool,
}

/// Why output cannot be passed on.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("the command's output cannot be read")]
    Read(#[source] Errno),
    #[error("the command's output cannot be passed on")]
    Write(#[source] Errno),
}

#[derive(Debug)]
struct Side {
    /// Absent: at its end.
    source: Option<OwnedFd>,
    /// Absent: nobody reads it any more.
    sink: Option<Unblocked>,
    waiting: VecDeque<u8>,
    is_at_line_start: bool,
    /// Between the command and a terminal.
    screen: Option<Screen>,
}

impl Relay {
    /// `error` is absent when both streams go to one place and the command has one pipe for them,
    /// so that their order is true; see [`is_one_place`].
    pub fn open(
        max: Bytes,
        when_full: WhenFull,
        output: Ends,
        error: Option<Ends>,
    ) -> Result<Self, RelayError> {
        let tail = match when_full {
            WhenFull::KeepHeadAndTail => (max.0 / 2).min(TAIL_BYTES_MAX),
            WhenFull::Stop => 0,
        };
        Ok(Self {
            when_full,
            head_left: max.0.saturating_sub(tail),
            tail: Tail::new(usize::try_from(tail).unwrap_or(usize::MAX)),
            output: Side::open(output)?,
            error: error.map(Side::open).transpose()?,
            passed: 0,
            is_full: false,
            has_ended: false,
            removed: Removed::default(),
        })
    }

    /// What the supervisor's `poll` should wait for; when any of it is ready, [`Self::ready`].
    pub fn interest(&self) -> impl Iterator<Item = PollFd<'_>> {
        let sources = self.sides().filter(|it| self.wants(it)).filter_map(|it| it.source.as_ref());
        let sinks =
            self.sides().filter(|it| !it.waiting.is_empty()).filter_map(|it| it.sink.as_ref());
        sources
            .map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN))
            .chain(sinks.map(|it| PollFd::new(it.as_fd(), PollFlags::POLLOUT)))
    }

    /// Moves what can be moved. Never waits.
    pub fn ready(&mut self) -> Result<(), RelayError> {
        for stream in [Stream::Output, Stream::Error] {
            if self.side(stream).is_some_and(|it| self.wants(it)) {
                self.pull(stream)?;
            }
        }
        self.push()
    }

    /// Whether the limit was reached under [`WhenFull::Stop`]: the run is to be ended.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// The run is over: takes what is left in the pipes, whoever still holds them open, and passes
    /// the end. Goes on with [`Self::ready`] until [`Self::is_done`].
    pub fn end(&mut self) -> Result<(), RelayError> {
        for stream in [Stream::Output, Stream::Error] {
            let mut left = LEFT_BYTES_MAX;
            while left > 0
                && !self.is_full
                && let count @ 1.. = self.pull(stream)?
            {
                left = left.saturating_sub(count);
            }
            if let Some(side) = self.side_mut(stream) {
                side.source = None;
            }
        }
        self.has_ended = true;
        let left_out = self.tail.left_out();
        if left_out > 0 {
            let side = self.error.as_mut().unwrap_or(&mut self.output);
            side.say(&format!("rung: {left_out} bytes of output left out here\n"));
        }
        self.push()
    }

    /// Whether everything has been passed on, or nobody is there to take it.
    pub fn is_done(&self) -> bool {
        self.has_ended && self.sides().all(|it| it.waiting.is_empty() || it.sink.is_none())
    }

    pub fn report(&self) -> Relayed {
        let left_out = Bytes(self.tail.left_out());
        Relayed { passed: Bytes(self.passed), left_out, is_full: self.is_full }
    }

    /// What was not passed to a terminal, once all is done.
    pub fn removed(&self) -> &Removed {
        &self.removed
    }

    fn sides(&self) -> impl Iterator<Item = &Side> {
        std::iter::once(&self.output).chain(&self.error)
    }

    fn side(&self, stream: Stream) -> Option<&Side> {
        match stream {
            Stream::Output => Some(&self.output),
            Stream::Error => self.error.as_ref(),
        }
    }

    fn side_mut(&mut self, stream: Stream) -> Option<&mut Side> {
        match stream {
            Stream::Output => Some(&mut self.output),
            Stream::Error => self.error.as_mut(),
        }
    }

    /// Whether to read: what goes into the ring needs no room in the queue.
    fn wants(&self, side: &Side) -> bool {
        let rings = self.when_full == WhenFull::KeepHeadAndTail && self.head_left == 0;
        side.source.is_some() && !self.is_full && (rings || side.waiting.len() < WAITING_BYTES_MAX)
    }

    /// Reads once; how much came.
    fn pull(&mut self, stream: Stream) -> Result<usize, RelayError> {
        let most = match self.when_full {
            WhenFull::KeepHeadAndTail => READ_BYTES_MAX,
            // At the limit, one byte more tells a writer who goes on from one who has finished.
            WhenFull::Stop => {
                usize::try_from(self.head_left).unwrap_or(READ_BYTES_MAX).clamp(1, READ_BYTES_MAX)
            }
        };
        let mut buffer = [0; READ_BYTES_MAX];
        let Some(side) = self.side_mut(stream) else {
            return Ok(0);
        };
        let Some(source) = &side.source else {
            return Ok(0);
        };
        let room = buffer.get_mut(..most).unwrap_or_default();
        let count = match read(source.as_fd(), room) {
            Ok(0) => {
                side.source = None;
                0
            }
            Ok(count) => count,
            Err(Errno::EAGAIN) => 0,
            Err(error) => return Err(RelayError::Read(error)),
        };
        self.take(stream, buffer.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        let head = usize::try_from(self.head_left).unwrap_or(usize::MAX).min(bytes.len());
        let (head, rest) = bytes.split_at(head);
        self.head_left = self.head_left.saturating_sub(length(head));
        self.passed = self.passed.saturating_add(length(head));
        if let Some(side) = self.side_mut(stream) {
            side.pass(head);
        }
        if rest.is_empty() {
            return;
        }
        match self.when_full {
            WhenFull::KeepHeadAndTail => self.tail.push(stream, rest),
            WhenFull::Stop => self.is_full = true,
        }
    }

    /// Writes what the sinks take; after the end, what was kept follows run by run.
    fn push(&mut self) -> Result<(), RelayError> {
        loop {
            self.output.write()?;
            if let Some(error) = &mut self.error {
                error.write()?;
            }
            if !self.is_done() {
                return Ok(());
            }
            if let Some((stream, mut bytes)) = self.tail.pop() {
                let bytes = bytes.make_contiguous();
                self.passed = self.passed.saturating_add(length(bytes));
                if let Some(side) = self.side_mut(stream) {
                    side.pass(bytes);
                }
                continue;
            }
            let sides = std::iter::once(&mut self.output).chain(&mut self.error);
            let removed: Vec<Removed> = sides.filter_map(Side::leave).collect();
            if removed.is_empty() {
                return Ok(());
            }
            for it in &removed {
                self.removed.add(it);
            }
        }
    }
}

impl Side {
    fn open(ends: Ends) -> Result<Self, RelayError> {
        set_nonblocking(ends.source.as_fd()).map_err(RelayError::Read)?;
        let sink = Unblocked::open(ends.sink, Direction::Write).map_err(RelayError::Write)?;
        Ok(Self {
            source: Some(ends.source),
            sink: Some(sink),
            waiting: VecDeque::new(),
            is_at_line_start: true,
            screen: ends.screen,
        })
    }

    fn pass(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last() {
            self.is_at_line_start = *last == b'\n';
            match &mut self.screen {
                None => self.waiting.extend(bytes),
                Some(screen) => {
                    let mut filtered = Vec::with_capacity(bytes.len());
                    screen.feed(bytes, &mut filtered);
                    self.waiting.extend(filtered);
                }
            }
        }
    }

    /// Undoes what the command left switched on in a terminal, and says what it was not given.
    fn leave(&mut self) -> Option<Removed> {
        let mut screen = self.screen.take()?;
        let mut ending = Vec::new();
        screen.finish(&mut ending);
        self.waiting.extend(ending);
        Some(screen.removed().clone())
    }

    fn say(&mut self, line: &str) {
        if !self.is_at_line_start {
            self.pass(b"\n");
        }
        self.pass(line.as_bytes());
    }

    fn write(&mut self) -> Result<(), RelayError> {
        let Some(sink) = &self.sink else {
            self.waiting.clear();
            return Ok(());
        };
        match sink.write_from(&mut self.waiting) {
            // The reader has gone. So does the command's reader: it gets SIGPIPE, as it would
            // without us between.
            Err(Errno::EPIPE | Errno::ECONNRESET | Errno::EIO) => {
                self.source = None;
                self.sink = None;
                self.waiting.clear();
                Ok(())
            }
            result => result.map_err(RelayError::Write),
        }
    }
}

/// Whether two descriptors lead to the same place, so that one pipe should serve both.
pub fn is_one_place(output: BorrowedFd<'_>, error: BorrowedFd<'_>) -> Result<bool, RelayError> {
    let output = fstat(output).map_err(RelayError::Write)?;
    let error = fstat(error).map_err(RelayError::Write)?;
    Ok((output.st_dev, output.st_ino) == (error.st_dev, error.st_ino))
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
