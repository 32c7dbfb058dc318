//! A proxy for clients that insist on one: HTTP and SOCKS 5 at the gateway's own address.
//!
//! It is another way to say a name, and nothing more: the decision is the same, made by the same
//! code. Only programs of the sandbox reach it, so it asks for no password.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::connection::{Closed, join, open, read, target};
use super::gateway::State;
use super::http::{self, Client};
use super::inspect::{HEAD_BYTES_MAX, HEADERS_MAX};
use super::relay;
use super::request::Target;
use super::resolve::{read_exact, write_all};
use crate::model::HostName;
use crate::plan::egress::{Allowed, Refused, Wanted};

/// From the first byte to the end of the request.
const REQUEST: Duration = Duration::from_secs(10);

const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
const SOCKS: u8 = 5;
const CONNECT: u8 = 1;
const NO_PASSWORD: u8 = 0;

/// Codes of RFC 1928, 6.
#[derive(Clone, Copy)]
enum Reply {
    Succeeded = 0,
    Failed = 1,
    NotAllowed = 2,
    Unreachable = 4,
    NoCommand = 7,
    NoAddressType = 8,
}

/// What a client of the proxy asked for.
struct Asked {
    wanted: Result<Wanted, (String, Refused)>,
    port: u16,
    how: How,
}

enum How {
    Socks,
    Connect,
    /// A request in the proxy form; what goes to the server instead.
    Forward(Vec<u8>),
}

pub(super) async fn serve(client: TcpStream, state: &Rc<State>) {
    let mut first = [0];
    let asked = timeout(REQUEST, async {
        match client.peek(&mut first).await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ if first == [SOCKS] => socks(&client, state).await,
            _ => http(&client, state).await,
        }
    });
    match asked.await {
        Ok(Ok(asked)) => answer(client, asked, state).await,
        Ok(Err(_)) | Err(_) => relay::reset(&client),
    }
}

async fn answer(client: TcpStream, asked: Asked, state: &Rc<State>) {
    let Asked { wanted, port, how } = asked;
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err((said, why)) => {
            state.refused(&said, Some(port), &why);
            return refuse(&client, &how, &why).await;
        }
    };
    if let Some(to) = read(&wanted, port, state) {
        return serve_read(client, how, target(wanted, port), to, state).await;
    }
    let (server, to) = match open(&wanted, port, state).await {
        Ok(opened) => opened,
        Err(closed) => {
            let why = match &closed {
                Closed::Refused(why) => why.clone(),
                Closed::Cut(cut) => Refused::Unreachable(cut.reason.clone()),
            };
            state.closed(&wanted, port, closed);
            return refuse(&client, &how, &why).await;
        }
    };
    let greeted = match &how {
        How::Socks => write_all(&client, &reply(Reply::Succeeded)).await,
        How::Connect => write_all(&client, ESTABLISHED).await,
        How::Forward(head) => {
            let sent = state.take_all(&to, head.len());
            match sent {
                Ok(()) => write_all(&server, head).await,
                Err(cut) => {
                    state.closed(&wanted, port, cut.into());
                    return relay::reset(&client);
                }
            }
        }
    };
    if greeted.is_err() {
        return;
    }
    match how {
        How::Socks | How::Connect => join(client, server, to, (&wanted, port), state).await,
        How::Forward(_) => {
            // What its first words say has been written here.
            let pair = relay::Pair { client, server, to, name: None };
            match relay::relay(&pair, state).await {
                Ok(()) | Err(relay::End::Lost) => {}
                Err(relay::End::Cut(cut)) => state.closed(&wanted, port, cut.into()),
                Err(relay::End::Refused(why)) => state.closed(&wanted, port, why.into()),
            }
        }
    }
}

/// What the client says from here on is read, and the server is not asked before that.
async fn serve_read(client: TcpStream, how: How, target: Target, to: Allowed, state: &Rc<State>) {
    let (greeted, before) = match how {
        How::Socks => (write_all(&client, &reply(Reply::Succeeded)).await, Vec::new()),
        How::Connect => (write_all(&client, ESTABLISHED).await, Vec::new()),
        How::Forward(head) => (Ok(()), head),
    };
    if greeted.is_ok() {
        http::serve(Client { before: before.into(), stream: client }, target, to, state).await;
    }
}

/// Says no in the client's own language.
async fn refuse(client: &TcpStream, how: &How, why: &Refused) {
    let said = match how {
        How::Socks => {
            let code = match why {
                Refused::Unreachable(_) => Reply::Unreachable,
                _ => Reply::NotAllowed,
            };
            write_all(client, &reply(code)).await
        }
        How::Connect | How::Forward(_) => {
            let reason = why.reason();
            let status = match why {
                Refused::Unreachable(_) => "502 Bad Gateway",
                _ => "403 Forbidden",
            };
            let length = reason.len() + 1;
            let words = format!(
                "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n{reason}\n"
            );
            write_all(client, words.as_bytes()).await
        }
    };
    if said.is_err() {
        relay::reset(client);
    }
}

fn reply(code: Reply) -> [u8; 10] {
    [SOCKS, code as u8, 0, 1, 0, 0, 0, 0, 0, 0]
}

async fn socks(client: &TcpStream, state: &Rc<State>) -> std::io::Result<Asked> {
    const IPV4: u8 = 1;
    const NAME: u8 = 3;
    const IPV6: u8 = 4;
    const NOTHING_ACCEPTABLE: u8 = 0xff;
    let mut head = [0; 2];
    read_exact(client, &mut head).await?;
    let [_, methods] = head;
    let mut offered = vec![0; methods.into()];
    read_exact(client, &mut offered).await?;
    if !offered.contains(&NO_PASSWORD) {
        write_all(client, &[SOCKS, NOTHING_ACCEPTABLE]).await?;
        return Err(ErrorKind::InvalidData.into());
    }
    write_all(client, &[SOCKS, NO_PASSWORD]).await?;
    let mut request = [0; 4];
    read_exact(client, &mut request).await?;
    let [version, command, _, kind] = request;
    if version != SOCKS {
        write_all(client, &reply(Reply::Failed)).await?;
        return Err(ErrorKind::InvalidData.into());
    }
    if command != CONNECT {
        write_all(client, &reply(Reply::NoCommand)).await?;
        return Err(ErrorKind::InvalidData.into());
    }
    let host = match kind {
        IPV4 => {
            let mut bytes = [0; 4];
            read_exact(client, &mut bytes).await?;
            Host::Address(IpAddr::from(bytes))
        }
        IPV6 => {
            let mut bytes = [0; 16];
            read_exact(client, &mut bytes).await?;
            Host::Address(IpAddr::from(bytes))
        }
        NAME => {
            let mut length = [0];
            read_exact(client, &mut length).await?;
            let [length] = length;
            let mut bytes = vec![0; length.into()];
            read_exact(client, &mut bytes).await?;
            Host::read(&bytes)
        }
        _ => {
            write_all(client, &reply(Reply::NoAddressType)).await?;
            return Err(ErrorKind::InvalidData.into());
        }
    };
    let mut port = [0; 2];
    read_exact(client, &mut port).await?;
    Ok(Asked { wanted: host.wanted(state), port: u16::from_be_bytes(port), how: How::Socks })
}

/// What stands where a host should.
enum Host {
    Address(IpAddr),
    Name(HostName),
    Neither(String, crate::model::NameError),
}

impl Host {
    /// `example.org`, `192.0.2.1`, `[2001:db8::1]`.
    fn read(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).unwrap_or_default();
        let bare = text.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse() {
            return Self::Address(address);
        }
        match HostName::parse(bytes) {
            Ok(name) => Self::Name(name),
            Err(error) => Self::Neither(bytes.escape_ascii().to_string(), error),
        }
    }

    fn wanted(self, state: &Rc<State>) -> Result<Wanted, (String, Refused)> {
        match self {
            // It may stand for a name that was resolved before.
            Self::Address(address) => Ok(state.wanted(address)),
            Self::Name(name) => Ok(Wanted::Name(name)),
            Self::Neither(said, error) => Err((said, Refused::NoName(error))),
        }
    }
}

async fn http(client: &TcpStream, state: &Rc<State>) -> std::io::Result<Asked> {
    let head = read_head(client).await?;
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(&head).is_ok_and(|it| it.is_complete());
    let (Some(method), Some(target), true) = (request.method, request.path, parsed) else {
        write_all(client, b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").await?;
        return Err(ErrorKind::InvalidData.into());
    };
    let bad = || (target.to_owned(), Refused::Hidden("its request to the proxy is malformed"));
    if method == "CONNECT" {
        let parts = target.rsplit_once(':').and_then(|it| Some((it.0, it.1.parse().ok()?)));
        let (wanted, port) = match parts {
            Some((host, port)) => (Host::read(host.as_bytes()).wanted(state), port),
            None => (Err(bad()), 0),
        };
        return Ok(Asked { wanted, port, how: How::Connect });
    }
    let Some(absolute) = absolute(target) else {
        return Ok(Asked { wanted: Err(bad()), port: 0, how: How::Connect });
    };
    let how = How::Forward(forwarded(method, &absolute, request.headers));
    let wanted = Host::read(absolute.host.as_bytes()).wanted(state);
    Ok(Asked { wanted, port: absolute.port, how })
}

/// Up to the empty line, and not a byte further.
async fn read_head(client: &TcpStream) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let mut buffer = vec![0; HEAD_BYTES_MAX];
    loop {
        client.readable().await?;
        let seen = client.peek(&mut buffer).await?;
        if seen == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let seen = buffer.get(..seen).unwrap_or_default();
        let before = head.len();
        head.extend_from_slice(seen);
        let end = head.windows(4).position(|it| it == b"\r\n\r\n").map(|it| it + 4);
        let taken = end.unwrap_or(head.len()) - before;
        head.truncate(before + taken);
        let mut taken_out = vec![0; taken];
        read_exact(client, &mut taken_out).await?;
        if end.is_some() {
            return Ok(head);
        }
        if head.len() >= HEAD_BYTES_MAX {
            return Err(ErrorKind::InvalidData.into());
        }
    }
}

struct Absolute<'a> {
    host: &'a str,
    port: u16,
    authority: &'a str,
    path: &'a str,
}

/// `http://example.org:8080/path`; nothing for another scheme or with a user's name in it.
fn absolute(target: &str) -> Option<Absolute<'_>> {
    const PORT: u16 = 80;
    let (scheme, rest) = target.split_at_checked(7)?;
    if !scheme.eq_ignore_ascii_case("http://") {
        return None;
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, PORT),
    };
    let plain = !authority.contains('@') && !path.starts_with('#');
    plain.then_some(Absolute { host, port, authority, path })
}

/// The request as the server gets it: for its own host, alone on its connection, without what was
/// meant for the proxy.
fn forwarded(method: &str, to: &Absolute<'_>, headers: &[httparse::Header<'_>]) -> Vec<u8> {
    const DROPPED: [&str; 6] =
        ["connection", "host", "keep-alive", "proxy-authorization", "proxy-connection", "upgrade"];
    let slash = if to.path.starts_with('/') { "" } else { "/" };
    let mut head = format!(
        "{method} {slash}{} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
        to.path, to.authority
    )
    .into_bytes();
    let kept =
        headers.iter().filter(|it| !DROPPED.iter().any(|no| it.name.eq_ignore_ascii_case(no)));
    for header in kept {
        head.extend_from_slice(header.name.as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(header.value);
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_request_becomes_one_for_the_server() {
        let to = absolute("http://a.test:8080/x?y=1").unwrap();
        assert_eq!((to.host, to.port), ("a.test", 8080));
        let headers = [("Host", "b.test"), ("Accept", "*/*"), ("Proxy-Connection", "keep-alive")]
            .map(|(name, value)| httparse::Header { name, value: value.as_bytes() });
        let head = String::from_utf8(forwarded("GET", &to, &headers)).unwrap();
        assert_eq!(
            head,
            "GET /x?y=1 HTTP/1.1\r\nHost: a.test:8080\r\nConnection: close\r\nAccept: */*\r\n\r\n"
        );
    }

    #[test]
    fn a_target_is_read_in_one_way() {
        let read = |target| absolute(target).map(|it| (it.host, it.port, it.path));
        assert_eq!(read("http://a.test"), Some(("a.test", 80, "")));
        assert_eq!(read("HTTP://a.test?x"), Some(("a.test", 80, "?x")));
        assert_eq!(read("http://[::1]:81/"), Some(("[::1]", 81, "/")));
        for target in ["/", "ftp://a.test/", "http://u@a.test/", "http://a.test:x/", "a.test:443"] {
            assert_eq!(read(target), None, "{target}");
        }
    }
}
