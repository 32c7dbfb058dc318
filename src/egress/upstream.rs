//! The server's side of a connection that is read: the gateway's own connections to it.
//!
//! They are opened when the first request is let through, by the same decision as every other, and
//! kept as long as the client keeps its own. A client never shares them with another.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::http::request::Parts;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_local;
use tokio::time::timeout;

use super::body::Outgoing;
use super::connection::{Closed, open};
use super::gateway::State;
use super::inspect::{HEAD_BYTES_MAX, HEADERS_MAX};
use super::meter::Cut;
use super::metered::Metered;
use super::request::{Target, forwarded};
use crate::plan::egress::Refused;

/// Connections to the server for one of the client's, where each takes one request at a time.
const CONNECTIONS_MAX: usize = 4;
/// From a request to the head of its answer.
const ANSWER: Duration = Duration::from_secs(300);
/// A kept connection may turn out to be closed; a new one is tried once.
const TRIES: usize = 2;

type Sender = http1::SendRequest<Outgoing>;

pub(super) struct Upstream {
    target: Target,
    state: Rc<State>,
    idle: Rc<RefCell<Vec<Sender>>>,
    room: Arc<Semaphore>,
    cut: Rc<RefCell<Option<Cut>>>,
}

/// A connection in use. It is idle again when this is dropped.
pub(super) struct Lease {
    sender: Option<Sender>,
    idle: Rc<RefCell<Vec<Sender>>>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.idle.borrow_mut().extend(self.sender.take());
    }
}

impl Upstream {
    pub(super) fn new(target: Target, state: Rc<State>) -> Self {
        Self {
            target,
            state,
            idle: Rc::default(),
            room: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            cut: Rc::default(),
        }
    }

    /// Sends a request that has been let through, and brings the head of the answer.
    pub(super) async fn ask(
        &self,
        head: &Parts,
        body: Option<Incoming>,
    ) -> Result<(Response<Incoming>, Lease), Closed> {
        let repeatable = body.is_none();
        let mut body = body.map(Outgoing::up);
        for last in (0..TRIES).map(|it| it + 1 == TRIES) {
            let (mut lease, fresh) = self.lease().await?;
            let Some(sender) = &mut lease.sender else { continue };
            let parts = forwarded(head, &self.target, false)
                .map_err(|error| unreachable(&error.to_string()))?;
            let words = body.take().unwrap_or_else(Outgoing::nothing);
            let request = Request::from_parts(parts, words);
            let failed = match timeout(ANSWER, sender.send_request(request)).await {
                Ok(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    return Err(unreachable("the server changed the protocol, unasked"));
                }
                Ok(Ok(response)) => return Ok((response, lease)),
                Ok(Err(error)) => error.to_string(),
                Err(_) => "the server does not answer".to_owned(),
            };
            // It is of no use to the next request either.
            lease.sender = None;
            if let Some(cut) = self.cut.borrow_mut().take() {
                return Err(cut.into());
            }
            if last || fresh || !repeatable {
                return Err(unreachable(&failed));
            }
        }
        Err(unreachable("the server closes its connections"))
    }

    /// A limit that ended a connection while an answer was on its way.
    pub(super) fn cut(&self) -> Option<Cut> {
        self.cut.borrow_mut().take()
    }

    /// A connection that nobody uses, and whether it is new.
    async fn lease(&self) -> Result<(Lease, bool), Closed> {
        let place = Arc::clone(&self.room).acquire_owned().await;
        let place = place.map_err(|_| unreachable("the run is over"))?;
        let kept = loop {
            let last = self.idle.borrow_mut().pop();
            match last {
                Some(mut sender) if !sender.is_closed() => {
                    if sender.ready().await.is_ok() {
                        break Some(sender);
                    }
                }
                Some(_) => {}
                None => break None,
            }
        };
        let fresh = kept.is_none();
        let sender = match kept {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let lease = Lease { sender: Some(sender), idle: Rc::clone(&self.idle), _place: place };
        Ok((lease, fresh))
    }

    async fn connect(&self) -> Result<Sender, Closed> {
        let (stream, to) = open(&self.target.wanted, self.target.port, &self.state).await?;
        let metered = Metered::new(stream, to, Rc::clone(&self.state), Rc::clone(&self.cut));
        let made = http1::Builder::new()
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(metered))
            .await;
        let (sender, connection) = made.map_err(|error| unreachable(&error.to_string()))?;
        // How it ends is told to whoever waits for an answer.
        drop(spawn_local(async move { drop(connection.await) }));
        Ok(sender)
    }
}

fn unreachable(why: &str) -> Closed {
    Refused::Unreachable(why.to_owned()).into()
}
