//! The last bytes of two streams, in the order in which they came.
//!
//! A ring over both: when it is full, the oldest bytes of either go first. Pure, and bounded
//! whatever is pushed: bytes by `bytes_max`, changes from one stream to the other by `RUNS_MAX`.

use std::collections::VecDeque;

/// How often the kept bytes may change from one stream to the other. A command that writes single
/// bytes to both in turn keeps less than it could.
const RUNS_MAX: usize = 16 << 10;

/// One of the two streams a command prints on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Output,
    Error,
}

#[derive(Debug)]
pub(super) struct Tail {
    bytes_max: usize,
    output: VecDeque<u8>,
    error: VecDeque<u8>,
    /// Whose bytes lie in which order. INVARIANT: the lengths add up to those of the two queues.
    runs: VecDeque<Run>,
    left_out: u64,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    stream: Stream,
    length: usize,
}

impl Tail {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            output: VecDeque::new(),
            error: VecDeque::new(),
            runs: VecDeque::new(),
            left_out: 0,
        }
    }

    /// How many bytes had to go.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    pub(super) fn push(&mut self, stream: Stream, bytes: &[u8]) {
        self.queue(stream).extend(bytes);
        match self.runs.back_mut() {
            Some(run) if run.stream == stream => run.length += bytes.len(),
            _ => self.runs.push_back(Run { stream, length: bytes.len() }),
        }
        let mut excess = (self.output.len() + self.error.len()).saturating_sub(self.bytes_max);
        while (excess > 0 || self.runs.len() > RUNS_MAX)
            && let Some(oldest) = self.runs.pop_front()
        {
            // One run too many goes as a whole.
            let goes =
                if self.runs.len() < RUNS_MAX { excess.min(oldest.length) } else { oldest.length };
            drop(self.queue(oldest.stream).drain(..goes));
            self.left_out = self.left_out.saturating_add(u64::try_from(goes).unwrap_or(u64::MAX));
            excess = excess.saturating_sub(goes);
            if goes < oldest.length {
                self.runs.push_front(Run { length: oldest.length - goes, ..oldest });
            }
        }
    }

    /// Takes the oldest bytes that are of one stream.
    pub(super) fn pop(&mut self) -> Option<(Stream, VecDeque<u8>)> {
        let run = self.runs.pop_front()?;
        let queue = self.queue(run.stream);
        let later = queue.split_off(run.length.min(queue.len()));
        Some((run.stream, std::mem::replace(queue, later)))
    }

    fn queue(&mut self, stream: Stream) -> &mut VecDeque<u8> {
        match stream {
            Stream::Output => &mut self.output,
            Stream::Error => &mut self.error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Stream::{Error, Output};
    use super::*;

    #[track_caller]
    fn check(bytes_max: usize, pushed: &[(Stream, &str)], kept: &[(Stream, &str)], left_out: u64) {
        let mut tail = Tail::new(bytes_max);
        for (stream, text) in pushed {
            tail.push(*stream, text.as_bytes());
        }
        assert_eq!(tail.left_out(), left_out);
        let mut found = Vec::new();
        while let Some((stream, bytes)) = tail.pop() {
            found.push((stream, String::from_utf8(bytes.into()).unwrap()));
        }
        let kept: Vec<_> =
            kept.iter().map(|(stream, text)| (*stream, (*text).to_owned())).collect();
        assert_eq!(found, kept);
    }

    #[test]
    fn the_last_bytes_are_kept() {
        check(9, &[(Output, "abc"), (Output, "def")], &[(Output, "abcdef")], 0);
        check(4, &[(Output, "abc"), (Output, "def")], &[(Output, "cdef")], 2);
        check(4, &[(Output, "abcdefgh")], &[(Output, "efgh")], 4);
        check(0, &[(Output, "abc")], &[], 3);
    }

    #[test]
    fn two_streams_keep_their_order_and_share_the_room() {
        let pushed = [(Output, "aa"), (Error, "EE"), (Output, "bb"), (Error, "FF")];
        check(8, &pushed, &[(Output, "aa"), (Error, "EE"), (Output, "bb"), (Error, "FF")], 0);
        check(5, &pushed, &[(Error, "E"), (Output, "bb"), (Error, "FF")], 3);
        check(4, &pushed, &[(Output, "bb"), (Error, "FF")], 4);
    }

    #[test]
    fn turning_from_stream_to_stream_takes_no_unbounded_room() {
        let mut tail = Tail::new(1 << 30);
        for _ in 0..2 * RUNS_MAX {
            tail.push(Output, b"o");
            tail.push(Error, b"e");
        }
        assert_eq!(tail.runs.len(), RUNS_MAX);
        assert_eq!(tail.output.len() + tail.error.len(), RUNS_MAX);
        assert_eq!(tail.left_out(), 3 * RUNS_MAX as u64);
    }
}
