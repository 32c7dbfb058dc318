//! The server's side of a connection that is read: the gateway's own connections to it.
//!
//! They are opened when the first request is let through, by the same decision as every other, and
//! kept as long as the client keeps its own. A client never shares them with another.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::http::request::Parts;
use hyper::rt::Executor;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_local;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::body::Outgoing;
use super::connection::{Closed, open};
use super::gateway::State;
use super::inspect::{HEAD_BYTES_MAX, HEADERS_MAX};
use super::meter::Cut;
use super::metered::Metered;
use super::request::{Target, forwarded};
use super::tls::{self, H2};
use crate::plan::egress::Refused;

/// Connections to the server for one of the client's, where each takes one request at a time.
const CONNECTIONS_MAX: usize = 4;
/// From a request to the head of its answer.
const ANSWER: Duration = Duration::from_secs(300);
/// A kept connection may turn out to be closed; a new one is tried once.
const TRIES: usize = 2;

/// From the first byte of the greeting to the last.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// What a server may send ahead, of one answer and of all on a connection.
pub(super) const STREAM_BYTES_MAX: u32 = 128 << 10;
pub(super) const WINDOW_BYTES_MAX: u32 = 512 << 10;

/// By which requests get to the server.
enum Sender {
    /// One at a time.
    Single(http1::SendRequest<Outgoing>),
    /// As many at once as the server takes.
    Many(http2::SendRequest<Outgoing>),
}

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
    _place: Option<OwnedSemaphorePermit>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(sender @ Sender::Single(_)) = self.sender.take() {
            self.idle.borrow_mut().push(sender);
        }
    }
}

/// Runs what hyper wants to run beside, on this thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Beside;

impl<F: Future + 'static> Executor<F> for Beside {
    fn execute(&self, future: F) {
        drop(spawn_local(async move { drop(future.await) }));
    }
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Self::Single(sender) => sender.is_closed(),
            Self::Many(sender) => sender.is_closed(),
        }
    }

    async fn ready(&mut self) -> bool {
        match self {
            Self::Single(sender) => sender.ready().await.is_ok(),
            Self::Many(sender) => sender.ready().await.is_ok(),
        }
    }

    fn is_h2(&self) -> bool {
        matches!(self, Self::Many(_))
    }

    async fn send(&mut self, request: Request<Outgoing>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Single(sender) => sender.send_request(request).await,
            Self::Many(sender) => sender.send_request(request).await,
        }
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
            let parts = forwarded(head, &self.target, sender.is_h2())
                .map_err(|error| unreachable(&error.to_string()))?;
            let words = body.take().unwrap_or_else(Outgoing::nothing);
            let request = Request::from_parts(parts, words);
            let failed = match timeout(ANSWER, sender.send(request)).await {
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

    /// A connection that can take a request, and whether it is new.
    async fn lease(&self) -> Result<(Lease, bool), Closed> {
        if let Some(sender) = self.shared() {
            return Ok((self.leased(sender, None), false));
        }
        let place = Arc::clone(&self.room).acquire_owned().await;
        let place = place.map_err(|_| unreachable("the run is over"))?;
        // Whoever was first may have found a server that takes many at once.
        if let Some(sender) = self.shared() {
            return Ok((self.leased(sender, None), false));
        }
        loop {
            let last = self.idle.borrow_mut().pop();
            let Some(mut sender) = last else { break };
            if !sender.is_closed() && sender.ready().await {
                return Ok((self.leased(sender, Some(place)), false));
            }
        }
        let sender = self.connect().await?;
        if let Sender::Many(many) = &sender {
            self.idle.borrow_mut().push(Sender::Many(many.clone()));
        }
        Ok((self.leased(sender, Some(place)), true))
    }

    /// One that takes many requests at once stays where it is.
    fn shared(&self) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|it| !it.is_closed());
        idle.iter().find_map(|it| match it {
            Sender::Many(many) => Some(Sender::Many(many.clone())),
            Sender::Single(_) => None,
        })
    }

    fn leased(&self, sender: Sender, place: Option<OwnedSemaphorePermit>) -> Lease {
        Lease { sender: Some(sender), idle: Rc::clone(&self.idle), _place: place }
    }

    async fn connect(&self) -> Result<Sender, Closed> {
        let (stream, to) = open(&self.target.wanted, self.target.port, &self.state).await?;
        let metered = Metered::new(stream, to, Rc::clone(&self.state), Rc::clone(&self.cut));
        if !self.target.tls {
            return handshake(metered, false).await;
        }
        let Some(tls) = &self.state.tls else { return Err(unreachable("there is no TLS")) };
        let name = tls::server_name(&self.target.wanted).map_err(|error| unreachable(&error))?;
        let connecting = TlsConnector::from(tls.client()).connect(name, metered);
        match timeout(HANDSHAKE, connecting).await {
            Ok(Ok(stream)) => {
                let h2 = stream.get_ref().1.alpn_protocol() == Some(H2);
                handshake(stream, h2).await
            }
            Ok(Err(error)) => Err(match self.cut.borrow_mut().take() {
                Some(cut) => cut.into(),
                None => Refused::Unproven(error.to_string()).into(),
            }),
            Err(_) => Err(unreachable("the server does not answer")),
        }
    }
}

async fn handshake<I>(stream: I, h2: bool) -> Result<Sender, Closed>
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let failed = |error: hyper::Error| unreachable(&error.to_string());
    let stream = TokioIo::new(stream);
    if h2 {
        let (sender, connection) = http2::Builder::new(Beside)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_BYTES_MAX)
            .initial_connection_window_size(WINDOW_BYTES_MAX)
            .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
            .handshake(stream)
            .await
            .map_err(failed)?;
        Beside.execute(connection);
        return Ok(Sender::Many(sender));
    }
    let (sender, connection) = http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake(stream)
        .await
        .map_err(failed)?;
    // How it ends is told to whoever waits for an answer.
    Beside.execute(connection);
    Ok(Sender::Single(sender))
}

fn unreachable(why: &str) -> Closed {
    Refused::Unreachable(why.to_owned()).into()
}
