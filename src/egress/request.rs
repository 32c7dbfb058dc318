//! Whether one HTTP request may go on, and how it is sent on: values in, values out.
//!
//! The gateway is the only reader of the bytes. What it has read it writes anew, with one host, one
//! length and one method, so nobody behind it can find another request in the same bytes. What is
//! refused here are requests that a server might be talked into taking for something else.

use std::net::IpAddr;

use hyper::Uri;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, InvalidUri, PathAndQuery};
use hyper::{Method, Version};

use super::inspect::{HEADERS_MAX, without_port};
use crate::model::{HostName, UrlPath};
use crate::plan::egress::{Allowed, EgressPlan, Refused, Wanted};

/// Whom a connection is for, and what is spoken on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) wanted: Wanted,
    pub(super) port: u16,
    pub(super) tls: bool,
}

/// By which servers and frameworks let a request say another method than its first line.
const OTHER_METHOD: [&str; 3] = ["x-http-method", "x-http-method-override", "x-method-override"];
/// The same for its path.
const OTHER_PATH: [&str; 3] = ["x-original-uri", "x-original-url", "x-rewrite-url"];
/// The same for the method, in the query.
const METHOD_KEYS: [&str; 4] =
    ["_method", "x-http-method", "x-http-method-override", "x-method-override"];

/// What belongs to one connection only (RFC 9110, 7.6.1).
const OF_THE_CONNECTION: [&str; 9] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

impl Target {
    fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }

    /// As the server is told: the port only where it is not the usual one.
    pub(super) fn authority(&self) -> String {
        let host = match &self.wanted {
            Wanted::Name(name) => name.to_string(),
            Wanted::Address(IpAddr::V4(it)) => it.to_string(),
            Wanted::Address(IpAddr::V6(it)) => format!("[{it}]"),
        };
        match (self.tls, self.port) {
            (false, 80) | (true, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Whether these words name the host, and no other port.
    fn is_named_by(&self, said: &[u8]) -> bool {
        let host = without_port(said);
        let port = said.get(host.len()..).and_then(|it| it.strip_prefix(b":"));
        let port = port.map(|it| std::str::from_utf8(it).ok()?.parse::<u16>().ok());
        let same_port = port.is_none_or(|it| it == Some(self.port));
        let same_host = match &self.wanted {
            Wanted::Name(name) => HostName::parse(host).is_ok_and(|it| it == *name),
            Wanted::Address(address) => {
                let bare = host.strip_prefix(b"[").and_then(|it| it.strip_suffix(b"]"));
                let text = std::str::from_utf8(bare.unwrap_or(host));
                text.ok().and_then(|it| it.parse().ok()) == Some(*address)
            }
        };
        same_port && same_host
    }
}

/// Looks at the head of a request on a connection to `target`; `has_body` says whether more follows.
/// Gives the path as it is to be sent, where paths are listed.
pub(super) fn judge(
    head: &Parts,
    has_body: bool,
    target: &Target,
    (plan, to): (&EgressPlan, &Allowed),
) -> Result<Option<UrlPath>, Refused> {
    if head.method == Method::CONNECT {
        return Err(Refused::Trick("it asks for a tunnel (`CONNECT`)"));
    }
    plan.decide_method(to, head.method.as_str())?;
    if head.headers.len() > HEADERS_MAX {
        return Err(Refused::Trick("it has more headers than are read"));
    }
    whom(head, target)?;
    let whole = head.uri.path() == "*" && head.method == Method::OPTIONS;
    if !whole && !head.uri.path().starts_with('/') {
        return Err(Refused::Trick("its path does not begin with `/`"));
    }
    let path = plan.decide_path(to, head.uri.path())?;
    let listed = |other: &[u8]| {
        let other = String::from_utf8_lossy(other.trim_ascii()).to_ascii_uppercase();
        plan.decide_method(to, &other).is_ok()
    };
    if query_methods(head.uri.query().unwrap_or_default()).any(|it| !listed(it.as_bytes())) {
        return Err(Refused::Trick("its query names another method"));
    }
    let reads = matches!(head.method, Method::GET | Method::HEAD);
    for (name, value) in &head.headers {
        header(name, value, reads, &listed)?;
    }
    if reads && has_body {
        // A server that ignores it would take it for the next request.
        return Err(Refused::Trick("a request that only reads has no body"));
    }
    Ok(path)
}

/// The same address with another path.
pub(super) fn with_path(uri: &Uri, path: &UrlPath) -> Result<Uri, Refused> {
    let text = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_string(),
    };
    let mut parts = uri.clone().into_parts();
    let malformed = Refused::Trick("its path has another byte than paths have");
    parts.path_and_query = Some(text.parse().map_err(|_| malformed.clone())?);
    Uri::from_parts(parts).map_err(|_| malformed)
}

/// Everything that names the host has to name this one.
fn whom(head: &Parts, target: &Target) -> Result<(), Refused> {
    if head.uri.scheme_str().is_some_and(|it| it != target.scheme()) {
        return Err(Refused::Trick("it names another scheme than the connection has"));
    }
    let absolute = head.uri.authority().map(|it| it.as_str().as_bytes());
    let hosts = head.headers.get_all(header::HOST);
    if hosts.iter().count() > 1 {
        return Err(Refused::Hidden("its HTTP request names two hosts"));
    }
    let mut named = false;
    for said in absolute.into_iter().chain(hosts.iter().map(HeaderValue::as_bytes)) {
        named = true;
        if !target.is_named_by(said) {
            return Err(Refused::OtherHost { said: said.escape_ascii().to_string() });
        }
    }
    if !named && head.version > Version::HTTP_10 {
        return Err(Refused::Hidden("its HTTP request names none"));
    }
    Ok(())
}

fn header(
    name: &HeaderName,
    value: &HeaderValue,
    reads: bool,
    listed: &impl Fn(&[u8]) -> bool,
) -> Result<(), Refused> {
    // Some servers take the one for the other.
    let name = name.as_str().replace('_', "-");
    let name = name.as_str();
    match name {
        "upgrade" | "http2-settings" => {
            Err(Refused::Trick("it wants to go on in another protocol (`Upgrade`)"))
        }
        "trailer" => Err(Refused::Trick("it announces headers after its body (`Trailer`)")),
        "expect" if reads || !value.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            Err(Refused::Trick("it expects what is not known (`Expect`)"))
        }
        _ if OTHER_METHOD.contains(&name) && !listed(value.as_bytes()) => {
            Err(Refused::Trick("one of its headers names another method"))
        }
        _ if OTHER_PATH.contains(&name) => {
            Err(Refused::Trick("one of its headers names another path"))
        }
        _ => Ok(()),
    }
}

/// The methods that a query names.
fn query_methods(query: &str) -> impl Iterator<Item = String> {
    let pairs = query.split(['&', ';']).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter_map(|(key, value)| {
        let key = decoded(key).trim().to_ascii_lowercase().replace('_', "-");
        let meant = METHOD_KEYS.iter().any(|it| it.replace('_', "-") == key);
        meant.then(|| decoded(value))
    })
}

/// Percent-decoded once.
pub(super) fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let (byte, after) = match (first, more) {
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, after),
                _ => (b'%', more),
            },
            (b'+', _) => (b' ', more),
            _ => (*first, more),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn digit(letter: u8) -> Option<u8> {
    char::from(letter).to_digit(16).and_then(|it| u8::try_from(it).ok())
}

/// The head as the server gets it: in the form of its version, without what was meant for the
/// gateway.
pub(super) fn forwarded(head: &Parts, target: &Target, h2: bool) -> Result<Parts, InvalidUri> {
    let authority = target.authority();
    let (mut parts, ()) = hyper::Request::new(()).into_parts();
    parts.method = head.method.clone();
    parts.headers = own_headers(&head.headers);
    for name in [header::HOST, header::EXPECT] {
        parts.headers.remove(name);
    }
    join_cookies(&mut parts.headers);
    let path: PathAndQuery = match head.uri.path_and_query() {
        Some(path) => path.clone(),
        None => PathAndQuery::from_static("/"),
    };
    if h2 {
        parts.version = Version::HTTP_2;
        let authority: Authority = authority.parse()?;
        let uri = Uri::builder().scheme(target.scheme()).authority(authority).path_and_query(path);
        // Made of parts that are well-formed each.
        parts.uri = uri.build().unwrap_or_default();
    } else {
        parts.uri = Uri::from(path);
        if let Ok(host) = HeaderValue::from_str(&authority) {
            parts.headers.insert(header::HOST, host);
        }
    }
    Ok(parts)
}

/// What of the answer's headers reaches the client.
pub(super) fn returned(headers: &HeaderMap) -> HeaderMap {
    let mut kept = own_headers(headers);
    for name in [header::TRAILER, header::ALT_SVC] {
        // The second would send the client to another protocol or place.
        kept.remove(name);
    }
    kept
}

/// Without what belongs to the connection that they came on.
fn own_headers(headers: &HeaderMap) -> HeaderMap {
    let listed: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|it| it.to_str().ok())
        .flat_map(|it| it.split(','))
        .map(|it| it.trim().to_ascii_lowercase())
        .collect();
    // A client could take away the length of its own body.
    let framing = |name: &str| name == "content-length" || name == "host";
    let dropped = |name: &str| {
        OF_THE_CONNECTION.contains(&name) || (!framing(name) && listed.iter().any(|it| it == name))
    };
    let kept = headers.iter().filter(|it| !dropped(it.0.as_str()));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// HTTP/2 may send them one by one, and HTTP/1 may not (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let all: Vec<&[u8]> =
        headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if all.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&all.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests;
