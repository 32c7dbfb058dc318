//! What comes after the head of a request or an answer, frame by frame.
//!
//! Nothing is collected: a frame that cannot be passed on yet makes its sender wait.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::credential::Cover;
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
    /// What the run may not see of it; present for answers of hosts that a credential is for.
    cover: Option<Cover>,
}

impl Outgoing {
    pub(super) fn nothing() -> Self {
        Self::Words(None)
    }

    /// Of a request.
    pub(super) fn up(from: Incoming) -> Self {
        Self::through(from, None, None)
    }

    /// Of an answer, which came on a connection that can be used again when this has been read.
    pub(super) fn down(from: Incoming, lease: Lease, cover: Cover) -> Self {
        let cover = Some(cover).filter(|it| !it.is_empty());
        Self::through(from, Some(lease), cover)
    }

    fn through(from: Incoming, lease: Option<Lease>, cover: Option<Cover>) -> Self {
        Self::Through(Box::new(Through { from, idle: Box::pin(sleep(IDLE)), lease, cover }))
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
            Self::Through(through) => through.cover.is_none() && through.from.is_end_stream(),
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
    /// What was held back until the end.
    fn rest(&mut self) -> Option<io::Result<Frame<Bytes>>> {
        let rest = self.cover.take()?.rest();
        (!rest.is_empty()).then(|| Ok(Frame::data(rest.into())))
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.from).poll_frame(context) else {
            ready!(self.idle.as_mut().poll(context));
            return Poll::Ready(Some(Err(ErrorKind::TimedOut.into())));
        };
        self.idle.as_mut().reset(Instant::now() + IDLE);
        Poll::Ready(match frame {
            None => {
                self.lease = None;
                self.rest()
            }
            Some(Err(error)) => Some(Err(io::Error::other(error))),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Some(Ok(Frame::data(match &mut self.cover {
                    None => data,
                    Some(cover) => cover.pass(&data).into(),
                }))),
                // After a body comes nothing that counts, from either side.
                Err(_) if self.lease.is_some() => self.rest(),
                Err(_) => Some(Err(io::Error::other("headers after the body"))),
            },
        })
    }
}
