//! Whether what a client says first agrees with the name it connected to.
//!
//! A server may hold many names, and answers for the one that it is told. So where the first bytes
//! say a name, in a `ClientHello` or in the head of a cleartext HTTP request, it must be the one that
//! was decided about. Only the first message is looked at: what follows in the same stream is not
//! seen here, nor is anything inside TLS.

use super::hello::{self, HELLO_BYTES_MAX, Hello};
use crate::model::HostName;
use crate::plan::egress::Refused;

/// The head of a request is never longer, also for the proxy.
pub(super) const HEAD_BYTES_MAX: usize = 16 << 10;
pub(super) const HEADERS_MAX: usize = 128;
/// As much of a stream as may be looked at.
pub(super) const LOOK_BYTES_MAX: usize =
    if HELLO_BYTES_MAX > HEAD_BYTES_MAX { HELLO_BYTES_MAX } else { HEAD_BYTES_MAX };

/// What the bytes so far mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Look again when there are more.
    More,
    Pass,
    Refuse(Refused),
}

/// Looks at the beginning of what a client sends on a connection to `name`.
pub(super) fn look(stream: &[u8], name: &HostName) -> Step {
    match stream.first() {
        None => Step::More,
        Some(first) if hello::is_tls(*first) => tls(stream, name),
        Some(_) => cleartext(stream, name),
    }
}

fn tls(stream: &[u8], name: &HostName) -> Step {
    match hello::read(stream) {
        Hello::More => Step::More,
        Hello::Broken => Step::Refuse(Refused::Hidden("its TLS greeting is malformed")),
        Hello::Whole { encrypted: true, .. } => {
            Step::Refuse(Refused::Hidden("the TLS greeting is encrypted (ECH)"))
        }
        Hello::Whole { name: None, .. } => {
            Step::Refuse(Refused::Hidden("the TLS greeting names no server (SNI)"))
        }
        Hello::Whole { name: Some(said), .. } => agree(&said, name),
    }
}

fn cleartext(stream: &[u8], name: &HostName) -> Step {
    if !begins_with_method(stream) {
        return Step::Pass;
    }
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(stream) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) if stream.len() < HEAD_BYTES_MAX => return Step::More,
        Ok(httparse::Status::Partial) => {
            return Step::Refuse(Refused::Hidden("the head of its HTTP request has no end"));
        }
        Err(_) if says_http(stream) => {
            return Step::Refuse(Refused::Hidden("its HTTP request is malformed"));
        }
        // Some other protocol.
        Err(_) => return Step::Pass,
    }
    let target = request.path.and_then(|it| authority_of(it));
    let mut hosts = request.headers.iter().filter(|it| it.name.eq_ignore_ascii_case("host"));
    let host = hosts.next().map(|it| it.value);
    if hosts.next().is_some() {
        return Step::Refuse(Refused::Hidden("its HTTP request names two hosts"));
    }
    for said in [target.map(str::as_bytes), host].into_iter().flatten() {
        let agreed = agree(without_port(said), name);
        if agreed != Step::Pass {
            return agreed;
        }
    }
    Step::Pass
}

/// Whether these may be the first bytes of a request: clients of other protocols must not be kept
/// waiting for the end of a line that they will never send.
fn begins_with_method(stream: &[u8]) -> bool {
    const METHOD_BYTES_MAX: usize = 32;
    let line = stream.trim_ascii_start();
    let method = line.split(|it| *it == b' ').next().unwrap_or_default();
    let letters = method.iter().all(|it| it.is_ascii_uppercase() || *it == b'-' || *it == b'_');
    letters && method.len() <= METHOD_BYTES_MAX
}

/// Whether the first line has the mark of HTTP/1, whatever else is wrong with it.
fn says_http(stream: &[u8]) -> bool {
    const MARK: &[u8] = b" HTTP/1.";
    let first = stream.split(|it| *it == b'\n').find(|it| it.len() > 1);
    first.is_some_and(|line| line.windows(MARK.len()).any(|it| it == MARK))
}

/// The authority of an absolute target, which counts for more than the `Host` line.
fn authority_of(target: &str) -> Option<&str> {
    let (_, rest) = target.split_once("://")?;
    rest.split(['/', '?', '#']).next()
}

/// `example.org:80` as `example.org`.
pub(super) fn without_port(authority: &[u8]) -> &[u8] {
    let mut parts = authority.rsplitn(2, |it| *it == b':');
    match (parts.next(), parts.next()) {
        (Some(port), Some(host)) if port.iter().all(u8::is_ascii_digit) => host,
        _ => authority,
    }
}

fn agree(said: &[u8], name: &HostName) -> Step {
    match HostName::parse(said) {
        Ok(said) if said == *name => Step::Pass,
        _ => Step::Refuse(Refused::OtherHost { said: said.escape_ascii().to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::hello::tests::hello;
    use super::*;

    #[track_caller]
    fn check(stream: &[u8], expected: &str) {
        let name = HostName::parse(b"a.test").unwrap();
        let step = match look(stream, &name) {
            Step::More => "more".to_owned(),
            Step::Pass => "pass".to_owned(),
            Step::Refuse(Refused::OtherHost { said }) => format!("other {said}"),
            Step::Refuse(Refused::Hidden(how)) => format!("hidden {how}"),
            Step::Refuse(other) => panic!("{other:?}"),
        };
        assert!(step.starts_with(expected), "{step}");
    }

    #[test]
    fn tls_must_be_for_the_name_that_was_connected_to() {
        check(&hello(b"a.test"), "pass");
        check(&hello(b"A.Test"), "pass");
        check(&hello(b"b.test"), "other b.test");
        check(&hello(b"b.test\0.a.test"), "other b.test\\x00");
        check(&hello(b"127.0.0.1"), "other 127.0.0.1");
        check(&hello(b"a.test")[..20], "more");
        check(&[22, 9, 9, 0, 1, 0], "hidden its TLS greeting is malformed");
    }

    #[test]
    fn a_cleartext_request_must_be_for_it_too() {
        check(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", "pass");
        check(b"GET / HTTP/1.1\r\nhOsT: A.TEST:8080\r\n\r\n", "pass");
        check(b"GET / HTTP/1.0\r\n\r\n", "pass");
        check(b"GET / HTTP/1.1\r\nHost: b.test\r\n\r\n", "other b.test");
        check(b"GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "other b.test");
        check(b"GET http://x@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", "other x@a.test");
        check(b"GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n", "hidden its HTTP");
        check(b"GET / HTTP/1.1\r\nHost : b.test\r\n\r\n", "hidden its HTTP request is malformed");
        check(b"\r\nGET / HTTP/1.1\r\nHost: b.test\r\n\r\n", "other b.test");
        check(b"GET / HTTP/1.1\r\nHo", "more");
        check(
            &[b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'a'; 1 << 14]].concat(),
            "hidden the head",
        );
    }

    #[test]
    fn other_protocols_are_left_alone() {
        check(b"SSH-2.0-OpenSSH_9.2\r\n", "pass");
        check(b"EHLO me.test\r\n", "pass");
        check(b"PING\r\n", "pass");
        check(b"anything", "pass");
        check(&vec![b'.'; 20_000], "pass");
        check(&vec![b'A'; 20_000], "pass");
        check(b"SUBSCRIBE", "more");
        check(b"\0\0\0\x08\x04\xd2\x16\x2f", "pass");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_stumble(stream: Vec<u8>) {
            look(&stream, &HostName::parse(b"a.test").unwrap());
        }
    }
}
