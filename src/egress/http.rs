//! The client's side of a connection that is read: every request is looked at before it goes on.
//!
//! A destination that has methods speaks HTTP and nothing else. What is refused is answered here, so
//! the client hears why, and is recorded with its method and whom it was for; never a path, a
//! header or a body, which may hold secrets.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::body::Outgoing;
use super::connection::Closed;
use super::credential::{Cover, in_clear, is_clear};
use super::gateway::State;
use super::hello;
use super::inspect::{HEAD_BYTES_MAX, HEADERS_MAX};
use super::relay;
use super::request::{Target, judge, returned, with_path};
use super::tls::{H2, Tls};
use super::upstream::{Beside, STREAM_BYTES_MAX, Upstream, WINDOW_BYTES_MAX};
use crate::model::HostName;
use crate::plan::egress::{Allowed, Refused, Wanted};

/// From the first byte of a head to its last, and from one request to the next.
const HEAD: Duration = Duration::from_secs(15);
/// A connection on which nothing was asked for so long ends.
const IDLE: Duration = Duration::from_secs(300);
/// Whether the client is still there, where it may be silent.
const PING: Duration = Duration::from_secs(60);
/// Requests of one connection at once.
const STREAMS_MAX: u32 = 32;
/// Of one answer that the client does not take.
const SEND_BYTES_MAX: usize = 64 << 10;
/// Says which rule it was, for programs.
const DENIED: &str = "x-rung-denied";

/// The client's connection, with what has been taken from it already.
pub(super) struct Client {
    pub(super) before: Bytes,
    pub(super) stream: TcpStream,
}

/// One connection of a client, with the connections to the server that belong to it.
struct Talk {
    target: Target,
    to: Allowed,
    state: Rc<State>,
    upstream: Upstream,
    /// Requests since somebody looked.
    asked: Cell<usize>,
    /// There was one at all.
    used: Cell<bool>,
    /// Requests that have no answer yet.
    open: Cell<usize>,
}

/// Serves a connection to a destination that is read, until its end.
pub(super) async fn serve(client: Client, mut target: Target, to: Allowed, state: &Rc<State>) {
    let Ok(_place) = Arc::clone(&state.readers).acquire_owned().await else { return };
    let first = match timeout(HEAD, client.first()).await {
        Ok(Ok(Some(first))) => first,
        Ok(Ok(None) | Err(_)) => return,
        Err(_) => return refuse_all(&client, &target, state, "the client says nothing"),
    };
    target.tls = hello::is_tls(first);
    if !target.tls {
        let talk = Talk::new(target, to, state);
        return talk.listen(client, false).await;
    }
    let Some(tls) = &state.tls else {
        return refuse_all(&client, &target, state, "there is no TLS");
    };
    match timeout(HEAD, accept(client, &target, tls)).await {
        Ok(Ok(stream)) => {
            let h2 = stream.get_ref().1.alpn_protocol() == Some(H2);
            Talk::new(target, to, state).listen(stream, h2).await;
        }
        Ok(Err(why)) => state.closed(&target.wanted, target.port, why.into()),
        Err(_) => {
            let why = Refused::Hidden("its greeting does not come to an end");
            state.closed(&target.wanted, target.port, why.into());
        }
    }
}

/// Greets a client as the server that it wants, if it says the same name as before.
async fn accept(client: Client, target: &Target, tls: &Tls) -> Result<TlsStream<Client>, Refused> {
    let malformed = |_| Refused::Hidden("its TLS greeting is malformed");
    let greeting = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), client);
    let greeting = greeting.await.map_err(malformed)?;
    let said = greeting.client_hello().server_name().map(str::to_owned);
    match (&target.wanted, said) {
        (Wanted::Name(name), Some(said))
            if HostName::parse(said.as_bytes()) == Ok(name.clone()) => {}
        (Wanted::Name(_), None) => {
            return Err(Refused::Hidden("the TLS greeting names no server (SNI)"));
        }
        (Wanted::Address(_), None) => {}
        (Wanted::Name(_) | Wanted::Address(_), Some(said)) => {
            return Err(Refused::OtherHost { said: said.escape_debug().to_string() });
        }
    }
    let config = tls.server(&target.wanted).map_err(Refused::Unproven)?;
    // Most often a client with certificates of its own, which does not believe the run's authority.
    let refused = |_| Refused::NoHttp("the client does not accept the certificate of the run");
    greeting.into_stream(config).await.map_err(refused)
}

/// Ends a connection on which no request can be answered.
fn refuse_all(client: &Client, target: &Target, state: &Rc<State>, how: &'static str) {
    state.closed(&target.wanted, target.port, Refused::NoHttp(how).into());
    relay::reset(&client.stream);
}

impl Talk {
    fn new(target: Target, to: Allowed, state: &Rc<State>) -> Rc<Self> {
        let upstream = Upstream::new(target.clone(), Rc::clone(state));
        let state = Rc::clone(state);
        let (asked, used, open) = Default::default();
        Rc::new(Self { target, to, state, upstream, asked, used, open })
    }

    async fn listen<I>(self: Rc<Self>, client: I, h2: bool)
    where
        I: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let talk = Rc::clone(&self);
        let service = service_fn(move |request| {
            let talk = Rc::clone(&talk);
            async move { Ok::<_, Infallible>(talk.answer(request).await) }
        });
        let client = TokioIo::new(client);
        if h2 {
            let connection = http2::Builder::new(Beside)
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS_MAX)
                .initial_stream_window_size(STREAM_BYTES_MAX)
                .initial_connection_window_size(WINDOW_BYTES_MAX)
                .max_send_buf_size(SEND_BYTES_MAX)
                .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
                .keep_alive_interval(PING)
                .keep_alive_timeout(HEAD)
                .serve_connection(client, service);
            return self.watch(connection).await;
        }
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD)
            .max_headers(HEADERS_MAX)
            .max_header_size(HEAD_BYTES_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(client, service);
        self.watch(connection).await;
    }

    /// Until the connection ends, or nobody asks anything on it any more.
    async fn watch(&self, served: impl Future<Output = hyper::Result<()>>) {
        let mut served = std::pin::pin!(served);
        let ended = loop {
            match timeout(IDLE, served.as_mut()).await {
                Ok(ended) => break ended,
                Err(_) if self.is_idle() => return,
                Err(_) => {}
            }
        };
        if let Some(cut) = self.upstream.cut() {
            self.state.closed(&self.target.wanted, self.target.port, cut.into());
        }
        let how = match ended {
            // Between two requests it is only the end of a kept connection.
            Err(error) if error.is_timeout() && !self.used.get() => {
                "the head of its request does not come to an end"
            }
            Err(error) if error.is_parse() => "what the client says is malformed",
            Ok(()) | Err(_) => return,
        };
        let why = Refused::NoHttp(how).into();
        self.state.closed(&self.target.wanted, self.target.port, why);
    }

    /// Whether nothing was asked since the last time, and nothing waits.
    fn is_idle(&self) -> bool {
        self.asked.take() == 0 && self.open.get() == 0
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Outgoing> {
        self.asked.set(self.asked.get().saturating_add(1));
        self.used.set(true);
        self.open.set(self.open.get().saturating_add(1));
        let response = self.answered(request).await;
        self.open.set(self.open.get().saturating_sub(1));
        response
    }

    async fn answered(&self, request: Request<Incoming>) -> Response<Outgoing> {
        let (mut head, body) = request.into_parts();
        let has_body = !body.is_end_stream();
        let Self { target, to, state, .. } = self;
        let credentials = &state.plan.credentials;
        let lends = state.plan.lends(&target.wanted);
        let judged = judge(&head, has_body, target, (&state.plan, to)).and_then(|path| {
            if let Some(path) = path {
                head.uri = with_path(&head.uri, &path)?;
            }
            state.leases.give(credentials, target, &mut head)
        });
        if let Err(why) = judged {
            let denial = state.refused_request(head.method.as_str(), target, &why);
            return refusal(StatusCode::FORBIDDEN, &denial.rule, &denial.reason, has_body);
        }
        if lends {
            in_clear(&mut head.headers);
        }
        state.meters.borrow_mut().request(to);
        let answer = self.upstream.ask(&head, has_body.then_some(body)).await;
        let (answer, lease) = match answer {
            Ok(answer) => answer,
            Err(closed) => return self.not_answered(closed, has_body),
        };
        let (parts, body) = answer.into_parts();
        if lends && !is_clear(&parts.headers) {
            let why = "its answer is encoded, and could show what was lent to it".to_owned();
            return self.not_answered(Refused::Unreachable(why).into(), has_body);
        }
        let cover = Cover::new(state.leases.covered(credentials, &target.wanted));
        let mut headers = returned(&parts.headers);
        cover.headers(&mut headers);
        let mut response = Response::new(Outgoing::down(body, lease, cover));
        *response.status_mut() = parts.status;
        *response.headers_mut() = headers;
        response
    }

    /// No connection, or a limit before the answer.
    fn not_answered(&self, closed: Closed, has_body: bool) -> Response<Outgoing> {
        let (status, rule, reason) = match &closed {
            Closed::Refused(why @ (Refused::Unreachable(_) | Refused::Unproven(_))) => {
                (StatusCode::BAD_GATEWAY, "network.destination", why.reason())
            }
            Closed::Refused(why) => (StatusCode::FORBIDDEN, "network.destination", why.reason()),
            Closed::Cut(cut) => (StatusCode::FORBIDDEN, cut.rule, cut.reason.clone()),
        };
        self.state.closed(&self.target.wanted, self.target.port, closed);
        refusal(status, rule, &reason, has_body)
    }
}

/// Says no in the client's own language.
fn refusal(status: StatusCode, rule: &str, reason: &str, has_body: bool) -> Response<Outgoing> {
    let words = Bytes::from(format!("rung: {reason} [{rule}]\n"));
    let mut response = Response::new(Outgoing::Words(Some(words)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if let Ok(rule) = HeaderValue::from_str(rule) {
        headers.insert(DENIED, rule);
    }
    if has_body {
        // Nobody reads it.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

impl Client {
    /// The first byte, which stays where it is; nothing where there is none.
    async fn first(&self) -> io::Result<Option<u8>> {
        if let Some(first) = self.before.first() {
            return Ok(Some(*first));
        }
        let mut byte = [0];
        Ok(match self.stream.peek(&mut byte).await? {
            0 => None,
            _ => byte.first().copied(),
        })
    }
}

impl AsyncRead for Client {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.before.len().min(buffer.remaining());
        buffer.put_slice(&self.before.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Client {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
