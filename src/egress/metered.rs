//! A connection to a server whose every byte is counted, where the gateway itself speaks on it.
//!
//! The same limits as in a relay, asked at the same moment: right before bytes are taken.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::gateway::State;
use super::meter::{Cut, Way};
use crate::plan::egress::Allowed;

pub(super) struct Metered {
    stream: TcpStream,
    to: Allowed,
    state: Rc<State>,
    /// The limit that ended it, for whoever speaks on it.
    cut: Rc<RefCell<Option<Cut>>>,
    /// Until bytes may go again.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Metered {
    pub(super) fn new(
        stream: TcpStream,
        to: Allowed,
        state: Rc<State>,
        cut: Rc<RefCell<Option<Cut>>>,
    ) -> Self {
        Self { stream, to, state, cut, pause: None }
    }

    /// How many of the `wanted` bytes may go now.
    fn poll_allowance(
        &mut self,
        context: &mut Context<'_>,
        way: Way,
        wanted: usize,
    ) -> Poll<Result<usize, Cut>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match self.state.wait(&self.to) {
                Some(wait) => self.pause = Some(Box::pin(sleep(wait))),
                None => break,
            }
        }
        Poll::Ready(self.state.allowance(&self.to, way, wanted))
    }

    fn ended(&self, cut: Cut) -> io::Error {
        let error = io::Error::other(cut.reason.clone());
        self.cut.borrow_mut().get_or_insert(cut);
        error
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.remaining();
        if room == 0 {
            return Poll::Ready(Ok(()));
        }
        let allowance = match ready!(self.poll_allowance(context, Way::Down, room)) {
            Ok(allowance) => allowance,
            // That is a cut only if there is more.
            Err(cut) => {
                let mut byte = [0];
                let more = self.stream.poll_peek(context, &mut ReadBuf::new(&mut byte));
                return match ready!(more)? {
                    0 => Poll::Ready(Ok(())),
                    _ => Poll::Ready(Err(self.ended(cut))),
                };
            }
        };
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(allowance.min(room)));
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
        let read = part.filled().len();
        buffer.advance(read);
        self.state.count(&self.to, Way::Down, read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let allowance = match ready!(self.poll_allowance(context, Way::Up, bytes.len())) {
            Ok(allowance) => allowance,
            Err(cut) => return Poll::Ready(Err(self.ended(cut))),
        };
        let part = bytes.get(..allowance).unwrap_or(bytes);
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, part))?;
        self.state.count(&self.to, Way::Up, written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
