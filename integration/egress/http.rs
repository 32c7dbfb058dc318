//! Destinations that say with which methods they may be asked: what a server gets to see, and what
//! not.
//!
//! The control of each refusal is the same act on a destination without methods, which reaches the
//! server.

use super::denied;
use super::network::{BODY, Net, Says, V4, probe};
use crate::harness::{Ended, Place, make_program, put};

const READING: &str = "methods = [\"GET\", \"HEAD\"]";

/// `a.test` can be asked anything, `r.test` only be read.
fn place(net: &Net, more: &str) -> Place {
    let (port, sink) = (net.port, net.sink);
    net.name("r.test", Says::Addresses(vec![V4]));
    net.place(&format!(
        "[[network.destination]]\nhost = \"r.test\"\nports = [{port}, {sink}]\n{more}\n\
         address = [\"127.0.0.0/8\", \"::1\"]\nbecause = \"reading only\"\n"
    ))
}

/// Says these lines, each ended as HTTP does, to a server; `{host}` is its name.
fn say(place: &Place, name: &str, port: u16, lines: &str) -> Ended {
    let words = lines.replace("{host}", &format!("{name}:{port}")).replace('\n', "\\x0d\\x0a");
    probe(place, &["say", name, &port.to_string(), &words]).end()
}

const GET: &str = "GET /x?y HTTP/1.1\nHost: {host}\nConnection: close\n\n";

#[test]
fn reading_passes_and_reaches_the_server_once() {
    let net = Net::new();
    let place = place(&net, READING);
    let ended = say(&place, "r.test", net.port, GET).exited(0);
    assert!(ended.text().contains("HTTP/1.1 200 OK") && ended.text().contains(BODY));
    let [request] = net.requests().try_into().unwrap();
    let host = format!("host: r.test:{}\r\n", net.port);
    assert!(request.starts_with("GET /x?y HTTP/1.1\r\n") && request.contains(&host), "{request}");
    let outcome = ended.outcome();
    assert_eq!(outcome.denials, []);
    let [traffic] = outcome.network.as_slice() else { panic!("{:?}", outcome.network) };
    assert_eq!((traffic.destination.as_str(), traffic.connections.0), ("r.test", 1));
    assert_eq!(traffic.requests.map(|it| it.0), Some(1));
    assert_eq!(traffic.sent.0, u64::try_from(request.len()).unwrap(), "what the server got");
    let head = say(&place, "r.test", net.port, &GET.replace("GET", "HEAD")).exited(0);
    assert!(head.text().contains("200 OK") && !head.text().contains(BODY), "{}", head.text());
}

#[test]
fn several_requests_share_the_servers_connection_and_each_is_looked_at() {
    let net = Net::new();
    let place = place(&net, READING);
    let both = format!("GET / HTTP/1.1\nHost: {{host}}\n\n{}", GET.replace("GET", "DELETE"));
    let ended = say(&place, "r.test", net.port, &both);
    assert!(ended.text().contains("200 OK") && ended.text().contains("403 Forbidden"));
    assert_eq!(net.requests().len(), 1);
    denied(&ended, &format!("DELETE r.test:{}", net.port), "may only be asked with GET, HEAD");
    let counted = |ended: &Ended| ended.outcome().network[0].requests.map(|it| it.0);
    assert_eq!(counted(&ended), Some(1), "what is refused is not sent on");
    let twice = format!("GET /1 HTTP/1.1\nHost: {{host}}\n\n{GET}");
    let ended = say(&place, "r.test", net.port, &twice);
    let end = ended.records.iter().find(|it| it["kind"] == "exec.end").unwrap();
    assert_eq!(end["network"][0]["requests"], net.requests().len());
    assert!(counted(&ended).is_some_and(|it| it > 0), "{}", ended.text());
    let unread = say(&place, "a.test", net.port, GET);
    assert_eq!(counted(&unread), None, "nobody reads it");
}

/// The request of each line reaches the server that may be asked anything, and not the other.
#[test]
pub(super) fn whatever_is_more_than_reading_is_refused_and_recorded() {
    let net = Net::new();
    let place = place(&net, READING);
    let post = "POST / HTTP/1.1\nHost: {host}\nConnection: close\nContent-Length: 2\n\nhi";
    let with =
        |header: &str| format!("GET / HTTP/1.1\nHost: {{host}}\nConnection: close\n{header}\n\n");
    for (lines, method, says) in [
        (post.to_owned(), "POST", "may only be asked with GET, HEAD"),
        (GET.replace("GET", "DELETE"), "DELETE", "may only be asked"),
        (GET.replace("GET", "get"), "get", "may only be asked"),
        (GET.replace("?y", "?_method=PUT"), "GET", "its query names another method"),
        (with("X-HTTP-Method-Override: PUT"), "GET", "names another method"),
        (with("X_HTTP_Method_Override: PUT"), "GET", "names another method"),
        (with("X-Original-URL: /admin"), "GET", "names another path"),
        (
            with("Upgrade: websocket\nConnection: Upgrade\nSec-WebSocket-Version: 13"),
            "GET",
            "in another protocol",
        ),
        (
            with("Upgrade: h2c\nConnection: Upgrade\nHTTP2-Settings: AAMAAABk"),
            "GET",
            "in another protocol",
        ),
        (with("Trailer: x"), "GET", "after its body"),
        (with("Expect: 100-continue"), "GET", "expects what is not known"),
        (with("Content-Length: 2") + "hi", "GET", "has no body"),
        (with("Transfer-Encoding: chunked") + "2\nhi\n0\n\n", "GET", "has no body"),
    ] {
        let ended = say(&place, "r.test", net.port, &lines);
        assert!(ended.text().contains("HTTP/1.1 403 Forbidden"), "{lines}: {}", ended.text());
        assert!(ended.text().contains(says), "{lines}: {}", ended.text());
        let object = format!("{method} r.test:{}", net.port);
        denied(&ended, &object, says);
        denied(&ended, &object, &format!("; `{}` connected to it", place.probe.display()));
        let records = ended.records.iter().filter(|it| it["kind"] == "connect");
        assert_eq!(records.filter(|it| it["object"] == object).count(), 1, "{lines}");
        assert_eq!(net.connections(), 0, "{lines}");
        let control = say(&place, "a.test", net.port, &lines);
        assert!(control.text().contains("200 OK"), "{lines}: {}", control.text());
        assert_eq!(net.requests().len(), 1, "{lines}");
        net.connections();
    }
    let ended = say(&place, "r.test", net.port, "CONNECT {host} HTTP/1.1\nHost: {host}\n\n");
    denied(&ended, &format!("CONNECT r.test:{}", net.port), "a tunnel");
    assert_eq!(net.connections(), 0);
}

/// The gateway sees requests and not programs; the gate sees who connects.
#[test]
fn a_request_is_laid_to_everybody_who_connected_to_where_it_went() {
    let net = Net::new();
    let place = place(&net, READING);
    let script = place.workspace.join("both");
    let (probe, port) = (place.probe.display(), net.port);
    let text = format!(
        "#!/bin/bash\n{probe} -- fetch r.test {port}\nexec 3<>/dev/tcp/r.test/{port}\n\
         printf 'DELETE / HTTP/1.1\\r\\nHost: r.test:{port}\\r\\n\\r\\n' >&3\n\
         head -1 <&3\nexit 0\n"
    );
    put(&script, &text);
    make_program(&script);
    let ended = place.rung(3).words(&["./both"]).end().exited(0);
    assert!(ended.text().contains("403 Forbidden"), "{} {}", ended.text(), ended.err);
    let object = format!("DELETE r.test:{port}");
    let programs = ["/usr/bin/bash".to_owned(), place.probe.display().to_string()];
    let mut found: Vec<_> = ended.records.iter().filter(|it| it["object"] == object).collect();
    found.retain(|it| it["kind"] == "connect");
    let mut named: Vec<_> = found.iter().map(|it| it["program"].as_str().unwrap()).collect();
    // Of each family there may be one.
    named.sort_unstable();
    named.dedup();
    let mut expected: Vec<&str> = programs.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(named, expected);
    let both = expected.join("`, `");
    denied(&ended, &object, &format!("; `{both}` connected to it"));
}

/// A path by whatever spelling: the server sees the one that was decided about, or nothing.
#[test]
pub(super) fn only_listed_paths_are_asked_for_however_they_are_written() {
    let net = Net::new();
    let place = place(&net, "paths = [\"/status\", \"/api/*\"]");
    let asked = |name: &str, path: &str| say(&place, name, net.port, &GET.replace("/x?y", path));
    for (path, seen) in [
        ("/status", "/status"),
        ("/%73tatus?q=/../x", "/status?q=/../x"),
        ("//api///v1/", "/api/v1/"),
        ("/x/../api/y", "/api/y"),
        ("/api/%2e%2e/api/z", "/api/z"),
    ] {
        let ended = asked("r.test", path).exited(0);
        assert!(ended.text().contains("200 OK"), "{path}: {}", ended.text());
        let [request] = net.requests().try_into().unwrap();
        assert!(request.starts_with(&format!("GET {seen} HTTP/1.1\r\n")), "{path}: {request}");
        assert_eq!(ended.outcome().denials, []);
    }
    net.connections();
    let (unlisted, odd) = ("may only be asked for /status, /api/*", "read in two ways");
    for (path, says) in [
        ("/", unlisted),
        ("/admin", unlisted),
        ("/status/", unlisted),
        ("/STATUS", unlisted),
        ("/api", unlisted),
        ("/api/../admin", unlisted),
        ("/api/%2e%2e/admin", unlisted),
        ("/api/..%2fadmin", odd),
        ("/api/..%5cadmin", odd),
        ("/api/%252e%252e/admin", odd),
        ("/api/..;/admin", odd),
        ("/api/%c0%ae%c0%ae/admin", odd),
        ("/../api/x", odd),
        ("/api/x%00", odd),
    ] {
        let ended = asked("r.test", path);
        assert!(ended.text().contains("403 Forbidden"), "{path}: {}", ended.text());
        denied(&ended, &format!("GET r.test:{}", net.port), says);
        assert_eq!(ended.denial().rule, "network.destination.paths");
        assert!(!format!("{:?}", ended.denial()).contains("admin"), "a path is not recorded");
        assert_eq!(net.connections(), 0, "{path}");
        let control = asked("a.test", path);
        assert!(control.text().contains("200 OK"), "{path}: {}", control.text());
        assert_eq!((net.requests().len(), net.connections()), (1, 1), "{path}");
    }
    // Any method, where none is listed, and nothing but HTTP.
    let posted =
        say(&place, "r.test", net.port, &GET.replace("/x?y", "/api/p").replace("GET", "POST"));
    assert!(posted.text().contains("200 OK"), "{}", posted.text());
    net.connections();
    let ended = say(&place, "r.test", net.port, "SSH-2.0-x\n\n");
    denied(&ended, &format!("r.test:{}", net.port), "malformed");
    assert_eq!(net.connections(), 0);
}

#[test]
pub(super) fn every_request_is_for_the_host_of_its_connection() {
    let net = Net::new();
    let place = place(&net, READING);
    for (lines, says) in [
        (GET.replace("{host}", "b.test"), "asks for `b.test`"),
        (GET.replace("{host}", "r.test:1"), "asks for `r.test:1`"),
        (GET.replace("/x?y", "http://b.test/"), "asks for `b.test`"),
        (GET.replace("/x?y", "https://{host}/"), "another scheme"),
        (GET.replace("Host: {host}\n", "Host: {host}\nHost: {host}\n"), "two hosts"),
        (GET.replace("Host: {host}\n", ""), "names none"),
    ] {
        let ended = say(&place, "r.test", net.port, &lines);
        assert!(ended.text().contains("403 Forbidden"), "{lines}: {}", ended.text());
        denied(&ended, &format!("GET r.test:{}", net.port), says);
    }
    assert_eq!(net.connections(), 0);
    let absolute = GET.replace("/x?y", "http://{host}/x?y");
    assert!(say(&place, "r.test", net.port, &absolute).text().contains("200 OK"), "the control");
    assert!(net.requests().pop().unwrap().starts_with("GET /x?y HTTP/1.1"));
}

/// What could be read in two ways is read in one and written anew, or not at all.
#[test]
pub(super) fn nothing_is_smuggled_past_the_reader() {
    let net = Net::new();
    let place = place(&net, "methods = [\"GET\", \"POST\"]");
    let hidden = "DELETE /hidden HTTP/1.1\nHost: {host}\n\n";
    let post =
        |framing: &str, body: &str| format!("POST / HTTP/1.1\nHost: {{host}}\n{framing}\n\n{body}");
    for lines in [
        post("Content-Length: 2\nContent-Length: 3", "hi"),
        post("Content-Length: 2, 3", "hi"),
        post("Content-Length: +2", "hi"),
        post("Transfer-Encoding: chunked, identity", "0\n\n"),
        post("Transfer-Encoding: xchunked", "0\n\n"),
        post("Transfer-Encoding : chunked", "0\n\n"),
        post("Content-Length: 2\n folded", "hi"),
        "GET / HTTP/1.1\nHost: {host}\nA\\x00: b\n\n".to_owned(),
        "GET / HTTP/1.1\nHost: {host}\nA: b\\x0dX: y\n\n".to_owned(),
        "GET /\\x00 HTTP/1.1\nHost: {host}\n\n".to_owned(),
        "GET / HTTP/1.1 x\nHost: {host}\n\n".to_owned(),
        "PRI * HTTP/2.0\n\nSM\n\n".to_owned(),
        "EHLO r.test\n".to_owned() + &"x".repeat(40_000),
    ] {
        let ended = say(&place, "r.test", net.port, &lines);
        assert_eq!(net.connections(), 0, "{lines}");
        denied(&ended, &format!("r.test:{}", net.port), "is malformed");
    }
    // Both lengths at once: one of them is gone when the server sees it, and the connection ends.
    for (framing, body) in [
        ("Content-Length: 4\nTransfer-Encoding: chunked", format!("0\n\n{hidden}")),
        ("Transfer-Encoding: chunked\nContent-Length: 4", format!("0\n\n{hidden}")),
    ] {
        say(&place, "r.test", net.port, &post(framing, &body));
        let requests = net.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        assert!(!requests.concat().contains("hidden"), "{requests:?}");
        assert!(!requests.concat().contains("content-length: 4"), "{requests:?}");
        net.connections();
    }
    let hidden = post("Content-Length: 0", &hidden.replace("\n\n", "\nConnection: close\n\n"));
    let ended = say(&place, "r.test", net.port, &hidden);
    denied(&ended, &format!("DELETE r.test:{}", net.port), "may only be asked");
}

#[test]
fn a_request_may_be_neither_large_nor_slow() {
    let net = Net::new();
    let place = place(&net, READING);
    let with = |more: &str| GET.replace("\n\n", &format!("\n{more}\n\n"));
    let fits = say(&place, "r.test", net.port, &with(&format!("A: {}", "a".repeat(8000))));
    assert!(fits.text().contains("200 OK"), "the control");
    net.connections();
    let large = with(&format!("A: {}", "a".repeat(20_000)));
    let many: Vec<String> = (0..200).map(|it| format!("A{it}: b")).collect();
    for lines in [large, with(&many.join("\n"))] {
        let ended = say(&place, "r.test", net.port, &lines);
        assert!(ended.text().contains("431"), "{}", ended.text());
        denied(&ended, &format!("r.test:{}", net.port), "malformed");
    }
    let ended = say(&place, "r.test", net.port, "GET / HTTP/1.1\nHost: {host}\nA");
    denied(&ended, &format!("r.test:{}", net.port), "does not come to an end");
    assert_eq!(net.connections(), 0);
}

#[test]
fn a_budget_ends_what_is_read_too() {
    let net = Net::new();
    let place = place(&net, "methods = [\"GET\", \"POST\"]\nupload = \"100000 bytes\"");
    let post = |length: usize| {
        let head = "POST / HTTP/1.1\nHost: {host}\nConnection: close";
        format!("{head}\nContent-Length: {length}\n\n{}", "a".repeat(length))
    };
    let ended = say(&place, "r.test", net.sink, &post(100_000));
    let denial = ended.denial();
    assert_eq!(denial.rule, "network.destination.upload");
    assert_eq!(net.received(), 100_000, "to the byte");
    assert_eq!(ended.outcome().network.iter().map(|it| it.sent.0).max(), Some(100_000));
    ended.recorded();
}

#[test]
fn a_proxy_reads_what_the_network_reads() {
    let net = Net::new();
    let place = place(&net, READING);
    let port = net.port;
    let proxy = |lines: &str| {
        let words = lines.replace("{host}", &format!("r.test:{port}")).replace('\n', "\\x0d\\x0a");
        probe(&place, &["say", "198.18.0.1", "3128", &words]).end()
    };
    let connect = "CONNECT {host} HTTP/1.1\nHost: {host}\n\n";
    for (lines, method) in [
        (GET.replace("/x?y", "http://{host}/x?y"), "GET"),
        (format!("{connect}{GET}"), "GET"),
        (GET.replace("/x?y", "http://{host}/x?y").replace("GET", "POST"), "POST"),
        (format!("{connect}{}", GET.replace("GET", "POST")), "POST"),
    ] {
        let ended = proxy(&lines);
        if method == "GET" {
            assert!(ended.text().contains(BODY), "{lines}: {}", ended.text());
            assert_eq!(net.requests().len(), 1);
            net.connections();
        } else {
            assert!(ended.text().contains("403 Forbidden"), "{lines}: {}", ended.text());
            denied(&ended, &format!("POST r.test:{port}"), "may only be asked");
            assert_eq!(net.connections(), 0, "{lines}");
        }
    }
}
