//! What comes after the head of a request or an answer, frame by frame.
//!
//! Nothing is collected: a frame that cannot be passed on yet makes its sender wait.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::upstream::Lease;

/// What a sender may let pass between two frames.
const IDLE: Duration = Duration::from_secs(300);

pub(super) enum Outgoing {
    /// The gateway's own words.
    Words(Option<Bytes>),
    /// The other side's.
    Through(Box<Through>),
}

pub(super) struct Through {
    from: Incoming,
    idle: Pin<Box<Sleep>>,
    /// What the server's connection is kept for.
    lease: Option<Lease>,
}

impl Outgoing {
    pub(super) fn nothing() -> Self {
        Self::Words(None)
    }

    /// Of a request.
    pub(super) fn up(from: Incoming) -> Self {
        Self::through(from, None)
    }

    /// Of an answer, which came on a connection that can be used again when this has been read.
    pub(super) fn down(from: Incoming, lease: Lease) -> Self {
        Self::through(from, Some(lease))
    }

    fn through(from: Incoming, lease: Option<Lease>) -> Self {
        Self::Through(Box::new(Through { from, idle: Box::pin(sleep(IDLE)), lease }))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Words(words) => Poll::Ready(words.take().map(|it| Ok(Frame::data(it)))),
            Self::Through(through) => through.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Words(words) => words.is_none(),
            Self::Through(through) => through.from.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Words(words) => {
                let length = words.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Self::Through(through) => through.from.size_hint(),
        }
    }
}

impl Through {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.from).poll_frame(context) else {
            ready!(self.idle.as_mut().poll(context));
            return Poll::Ready(Some(Err(ErrorKind::TimedOut.into())));
        };
        self.idle.as_mut().reset(Instant::now() + IDLE);
        Poll::Ready(match frame {
            None => {
                self.lease = None;
                None
            }
            Some(Err(error)) => Some(Err(io::Error::other(error))),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Some(Ok(Frame::data(data))),
                // After a body comes nothing that counts, from either side.
                Err(_) if self.lease.is_some() => None,
                Err(_) => Some(Err(io::Error::other("headers after the body"))),
            },
        })
    }
}
