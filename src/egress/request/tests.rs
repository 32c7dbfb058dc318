//! Requests and what becomes of them, without a connection.

use std::net::Ipv4Addr;

use hyper::Request;

use super::*;
use crate::model::{HostPattern, Origin};
use crate::plan::egress::{DestinationPlan, To};

fn plan(methods: &[&str]) -> EgressPlan {
    let destination = DestinationPlan {
        to: To::Name(HostPattern::parse("a.test").unwrap()),
        ports: crate::model::Ports::new(8080, 8080).into_iter().collect(),
        addresses: Vec::new(),
        rate: None,
        upload_max: None,
        methods: methods.iter().map(|it| (*it).to_owned()).collect(),
        paths: Vec::new(),
        because: Origin::built_in("the test"),
    };
    let nameservers = vec![(Ipv4Addr::LOCALHOST, 53).into()];
    EgressPlan { nameservers, ..EgressPlan::to(vec![destination]) }
}

fn target() -> Target {
    let wanted = Wanted::Name(HostName::parse(b"a.test").unwrap());
    Target { wanted, port: 8080, tls: false }
}

/// `GET /path` and one header a line, with `Host: a.test:8080` where none is said.
fn head(text: &str) -> Parts {
    let mut lines = text.lines();
    let (method, uri) = lines.next().unwrap().split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(uri);
    let headers: Vec<_> = lines.map(|it| it.split_once(": ").unwrap()).collect();
    if !headers.iter().any(|it| it.0.eq_ignore_ascii_case("host")) {
        request = request.header("host", "a.test:8080");
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    request.body(()).unwrap().into_parts().0
}

fn judged(text: &str, methods: &[&str], has_body: bool) -> Result<(), Refused> {
    let (plan, target) = (plan(methods), target());
    let to = plan.decide(&target.wanted, 8080).unwrap();
    judge(&head(text), has_body, &target, (&plan, &to)).map(|it| assert_eq!(it, None))
}

#[track_caller]
fn passes(text: &str) {
    assert_eq!(judged(text, &["GET", "HEAD"], false), Ok(()), "{text}");
}

#[track_caller]
fn refused(text: &str, says: &str) {
    match judged(text, &["GET", "HEAD"], false) {
        Err(why) => assert!(why.reason().contains(says), "{text}: {}", why.reason()),
        Ok(()) => panic!("{text} passes"),
    }
}

#[test]
fn only_listed_methods_pass() {
    for text in ["GET /", "HEAD /x?y=z", "GET http://a.test:8080/x", "GET /?method=POST"] {
        passes(text);
    }
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "get", "QUERY", "PROPFIND"] {
        refused(&format!("{method} /"), "may only be asked with GET, HEAD");
    }
    refused("CONNECT a.test:8080", "a tunnel");
}

#[test]
fn a_method_by_another_way_counts_as_that_method() {
    for name in ["X-HTTP-Method-Override", "x-http-method", "X-Method-Override", "X_HTTP_Method"] {
        refused(&format!("GET /\n{name}: DELETE"), "names another method");
        refused(&format!("GET /\n{name}: get, delete"), "names another method");
        passes(&format!("GET /\n{name}: head"));
        let both = judged(&format!("POST /\n{name}: delete"), &["POST", "DELETE"], true);
        assert_eq!(both, Ok(()), "it is listed itself");
    }
    for query in ["_method=delete", "x=1&_method=PUT", "%5Fmethod=put", "a;_Method=PUT", "_method"]
    {
        refused(&format!("GET /?{query}"), "query names another method");
    }
    refused("GET /?x-http-method-override=POST", "query names another method");
    passes("GET /?_method=GET");
    for name in ["X-Original-URL", "X-Rewrite-URL"] {
        refused(&format!("GET /\n{name}: /admin"), "names another path");
    }
}

#[test]
fn every_name_of_the_host_is_this_one() {
    for host in ["a.test", "A.TEST:8080", "a.test."] {
        passes(&format!("GET /\nHost: {host}"));
    }
    for host in ["b.test", "a.test:80", "a.test:x", "a.test@b.test", "a.test:8080:80", ""] {
        refused(&format!("GET /\nHost: {host}"), "asks for");
    }
    refused("GET http://b.test/", "asks for `b.test`");
    refused("GET http://a.test@b.test/", "asks for");
    refused("GET http://x@a.test:8080/", "asks for");
    refused("GET https://a.test:8080/", "another scheme");
    refused("GET /\nHost: a.test\nHost: a.test", "two hosts");
    let mut none = head("GET /");
    none.headers.clear();
    let plan = plan(&["GET"]);
    let to = plan.decide(&target().wanted, 8080).unwrap();
    let ask = |head: &Parts| judge(head, false, &target(), (&plan, &to));
    assert!(matches!(ask(&none), Err(Refused::Hidden(_))));
    none.version = Version::HTTP_10;
    assert_eq!(ask(&none), Ok(None), "the old protocol names none");
}

#[test]
fn an_address_is_named_by_itself() {
    let at = |wanted: &str| Target {
        wanted: Wanted::Address(wanted.parse().unwrap()),
        port: 443,
        tls: true,
    };
    assert!(at("10.0.0.1").is_named_by(b"10.0.0.1"));
    assert!(!at("10.0.0.1").is_named_by(b"10.0.0.2"));
    assert!(at("fd00::1").is_named_by(b"[fd00::1]:443"));
    assert!(!at("fd00::1").is_named_by(b"[fd00::1]:80"));
    assert_eq!(at("fd00::1").authority(), "[fd00::1]");
}

#[test]
fn nothing_leads_out_of_the_protocol() {
    refused("GET /\nUpgrade: websocket\nConnection: Upgrade", "another protocol");
    refused("GET /\nUpgrade: h2c\nHTTP2-Settings: x", "another protocol");
    refused("GET /\nTrailer: x", "after its body");
    refused("GET /\nExpect: 100-continue", "Expect");
    let posted = |expect: &str| judged(&format!("POST /\nExpect: {expect}"), &["POST"], true);
    assert_eq!(posted("100-Continue"), Ok(()));
    assert!(posted("200-ok").is_err());
    assert!(judged("GET /", &["GET"], true).is_err(), "a body that a server may ignore");
}

#[test]
fn there_is_a_most_of_headers() {
    let many: Vec<String> = (0..HEADERS_MAX).map(|it| format!("X-{it}: y")).collect();
    refused(&format!("GET /\n{}", many.join("\n")), "more headers than are read");
}

#[test]
fn what_goes_on_is_written_anew() {
    let head = head(
        "POST http://A.test:8080/x?y\nHost: A.TEST:8080\nConnection: close, x-mine, content-length\n\
         X-Mine: 1\nContent-Length: 3\nTE: trailers\nExpect: 100-continue\nCookie: a\nCookie: b\n\
         Proxy-Authorization: secret\nAccept: */*",
    );
    let one = forwarded(&head, &target(), false).unwrap();
    assert_eq!(one.uri.to_string(), "/x?y");
    let mut headers: Vec<String> =
        one.headers.iter().map(|it| format!("{}: {}", it.0, it.1.to_str().unwrap())).collect();
    headers.sort();
    assert_eq!(headers, ["accept: */*", "content-length: 3", "cookie: a; b", "host: a.test:8080"]);
    let two = forwarded(&head, &target(), true).unwrap();
    assert_eq!(two.uri.to_string(), "http://a.test:8080/x?y");
    assert!(!two.headers.contains_key(header::HOST));
}

#[test]
fn an_answer_sends_the_client_nowhere_else() {
    let mut headers = HeaderMap::new();
    for (name, value) in
        [(header::ALT_SVC, "h3=\":443\""), (header::CONNECTION, "close"), (header::ETAG, "x")]
    {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let kept = returned(&headers);
    assert_eq!(kept.keys().collect::<Vec<_>>(), [header::ETAG]);
}

#[test]
fn a_listed_path_goes_on_in_its_one_spelling() {
    let mut plan = plan(&["GET"]);
    let listed = crate::model::UrlPathPattern::parse("/api/*").unwrap();
    plan.destinations[0].paths.push(listed);
    let target = target();
    let to = plan.decide(&target.wanted, 8080).unwrap();
    let sent = |text: &str| {
        let head = head(text);
        let path = judge(&head, false, &target, (&plan, &to))?.unwrap();
        with_path(&head.uri, &path).map(|it| it.to_string())
    };
    assert_eq!(sent("GET /api//%61/../b?x=/../y"), Ok("/api/b?x=/../y".to_owned()));
    let absolute = sent("GET http://a.test:8080/api/./x");
    assert_eq!(absolute, Ok("http://a.test:8080/api/x".to_owned()));
    assert!(matches!(sent("GET /api/../x"), Err(Refused::Path { .. })));
    assert!(matches!(sent("GET /api/..%2fx"), Err(Refused::OddPath(_))));
    assert!(matches!(sent("POST /api/x"), Err(Refused::Method { .. })), "both lists hold");
}
