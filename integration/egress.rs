//! The way out: what is listed is reached by every client, and nothing else is.
//!
//! Every denial stands beside its control, which is the same act on a listed name or port, and its
//! record in the ledger.

mod broken;
mod clients;
mod credential;
mod damage;
mod foreseen;
mod forge;
mod http;
mod load;
mod memory;
mod network;
mod secure;
mod shop;
mod table;
mod tls;
mod warm;
mod world;

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use self::network::{BODY, Net, Says, V4, V6, probe};
use crate::harness::{Ended, PATIENCE, Place, has_by_chance, make_program, put, within};

/// The probe's own codes.
const NO_NAME: i32 = 203;
const REFUSED: i32 = libc::ECONNREFUSED;
const RESET: i32 = libc::ECONNRESET;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The one denial about this object is there, and in the ledger, and says this.
#[track_caller]
fn denied(ended: &Ended, object: &str, says: &str) {
    let denials = &ended.outcome().denials;
    let found = denials.iter().find(|it| it.object == object);
    let denial = found.unwrap_or_else(|| panic!("`{object}` is not among {denials:#?}"));
    assert_eq!(denial.layer.to_string(), "network");
    assert!(denial.reason.contains(says), "{}", denial.reason);
    let recorded = ended.records.iter().filter(|it| it["kind"] == "denial");
    assert!(recorded.filter(|it| it["denial"]["object"] == object).count() == 1, "not recorded");
    ended.recorded();
}

#[test]
fn a_listed_name_is_reached_over_both_families_and_counted() {
    let net = Net::new();
    let place = net.place("");
    let port = net.port.to_string();
    for family in ["", "4", "6"] {
        let ended = probe(&place, &["fetch", "a.test", &port, "a.test", family]).end().exited(0);
        assert_eq!(ended.text().trim(), BODY);
        let outcome = ended.outcome();
        assert_eq!(outcome.denials, []);
        let [traffic] = outcome.network.as_slice() else { panic!("{:?}", outcome.network) };
        assert_eq!((traffic.destination.as_str(), traffic.connections.0), ("a.test", 1));
        let request = net.requests().pop().unwrap();
        assert_eq!(traffic.sent.0, u64::try_from(request.len()).unwrap());
        assert!(traffic.received.0 > BODY.len().try_into().unwrap());
        let end = ended.records.iter().find(|it| it["kind"] == "exec.end").unwrap();
        assert_eq!(end["network"], serde_json::to_value(&outcome.network).unwrap());
    }
}

/// What is listed by itself needs no question, and what the host's file says of it counts outside.
#[test]
fn a_listed_name_stands_in_the_runs_own_hosts_file() {
    let net = Net::new();
    let place = net.place("");
    let ended = place.rung(3).words(&["cat", "/etc/hosts"]).end().exited(0);
    assert!(ended.text().contains("198.18.1.0 a.test\nfd00:5a::100 a.test\n"), "{}", ended.text());
    let offline = Place::new();
    let ended = offline.rung(3).words(&["cat", "/etc/hosts"]).end().exited(0);
    assert_eq!(ended.text(), fs::read_to_string("/etc/hosts").unwrap(), "the control");
}

#[test]
fn any_other_name_does_not_exist_and_is_never_asked_for() {
    let net = Net::new();
    let place = net.place("");
    net.name("b.test", Says::Addresses(vec![V4]));
    let port = net.port.to_string();
    probe(&place, &["fetch", "a.test", &port]).end().exited(0);
    assert!(net.questions().iter().all(|it| it.starts_with("a.test ")), "the control");
    for name in ["b.test", "c2vjcmv0.a.test", "a.test.b.test", "metadata.google.internal"] {
        let ended = probe(&place, &["fetch", name, &port]).end();
        assert_eq!(ended.code(), NO_NAME);
        denied(&ended, name, "no destination of the profile means it");
        denied(&ended, name, &format!("; `{}` asked for names", place.probe.display()));
    }
    assert_eq!(net.questions(), Vec::<String>::new());
}

/// The resolver does not see who asks: what is said of a program is what the gate saw of it.
#[test]
fn a_name_that_several_programs_can_have_asked_for_is_laid_to_no_single_one() {
    let net = Net::new();
    let place = net.place("");
    let script = place.workspace.join("ask");
    let probe = place.probe.display();
    let text = format!("#!/bin/sh\n{probe} -- fetch one.test 80\ngetent hosts two.test\nexit 0\n");
    put(&script, &text);
    make_program(&script);
    let ended = place.rung(3).words(&["./ask"]).end().exited(0);
    for name in ["one.test", "two.test"] {
        denied(&ended, name, &format!("`{probe}`"));
        denied(&ended, name, "`/usr/bin/getent`");
        denied(&ended, name, " asked for names");
    }
    assert!(ended.records.iter().all(|it| it["kind"] != "connect"), "{:?}", ended.records);
}

#[test]
fn a_port_that_is_not_listed_is_closed_and_so_is_an_address_without_a_name() {
    let net = Net::new();
    let place = net.place("");
    let port = net.port.to_string();
    probe(&place, &["fetch", "a.test", &port]).end().exited(0);
    assert_eq!(net.connections(), 1, "the control");
    let ended = probe(&place, &["fetch", "a.test", "4", "a.test", "4"]).end();
    assert_eq!(ended.code(), REFUSED);
    denied(&ended, "a.test:4", "but not this port");
    let far = ["192.0.2.1", "8.8.8.8", "169.254.169.254", "2001:db8::1", "fd00:ec2::254"];
    for address in far.into_iter().chain(["198.18.0.1", "::ffff:8.8.8.8"]) {
        for port in ["4", &port] {
            let ended = probe(&place, &["fetch", address, port]).end();
            assert_eq!(ended.code(), REFUSED, "{address}");
            let object = format!("{}:{port}", address.trim_start_matches("::ffff:"));
            denied(&ended, &object, "no destination of the profile means it");
            asked(&ended, &object, &place, "tcp");
        }
    }
    // Of the pool, but nobody's: what arrives says so.
    let ended = probe(&place, &["fetch", "198.18.1.200", &port]).end();
    assert_eq!(ended.code(), RESET);
    let object = format!("198.18.1.200:{port}");
    denied(&ended, &object, "no destination of the profile means it");
    connected(&ended, &object, &place, "tcp", "connected to it");
    assert_eq!(net.connections(), 0);
}

/// The ledger says which program and process wanted this.
#[track_caller]
fn asked(ended: &Ended, object: &str, place: &Place, protocol: &str) {
    connected(ended, object, place, protocol, "wanted it");
}

#[track_caller]
fn connected(ended: &Ended, object: &str, place: &Place, protocol: &str, did: &str) {
    let records = ended.records.iter().filter(|it| it["kind"] == "connect");
    let found: Vec<_> = records.filter(|it| it["object"] == object).collect();
    let [record] = found.as_slice() else { panic!("`{object}`: {found:?}") };
    assert_eq!(record["program"], place.probe.to_str().unwrap());
    assert_eq!(record["protocol"], protocol);
    assert!(record["process"].as_i64().unwrap() > 1, "{record}");
    let denial = ended.outcome().denials.iter().find(|it| it.object == object).unwrap();
    assert_eq!(record["count"], denial.count);
    let wanted = format!("`{}` {did}", place.probe.display());
    assert!(denial.reason.contains(&wanted), "{}", denial.reason);
}

/// Nothing listens for datagrams, and the filter does not see every way of sending one; what it
/// sees is recorded.
#[test]
fn datagrams_are_refused_at_once_and_recorded() {
    let net = Net::new();
    let place = net.place("");
    let canary = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    canary.set_nonblocking(true).unwrap();
    canary.connect(canary.local_addr().unwrap()).unwrap();
    canary.send(b"control").unwrap();
    assert_eq!(canary.recv(&mut [0; 16]).unwrap(), 7, "the control");
    let port = canary.local_addr().unwrap().port();
    let ended = probe(&place, &["datagram", "192.0.2.1", "443"]).end();
    assert_eq!(ended.code(), REFUSED);
    denied(&ended, "192.0.2.1:443/udp", "no destination of the profile means it");
    asked(&ended, "192.0.2.1:443/udp", &place, "udp");
    // The kernel takes an address without a family for one of IPv4.
    let nameless = "h:0000 01bb c0000209 0000000000000000".replace(' ', "");
    for (address, object) in [
        (format!("in:192.0.2.7:{port}"), format!("192.0.2.7:{port}/udp")),
        (format!("{nameless} 16"), "192.0.2.9:443/udp".to_owned()),
    ] {
        let steps = format!("do socket 2 2 0 , sendto %1 s:hello 5 0 {address}");
        let words: Vec<&str> = steps.split(' ').collect();
        let ended = probe(&place, &words).end().exited(0);
        denied(&ended, &object, "no destination of the profile means it");
        asked(&ended, &object, &place, "udp");
    }
    // A name is put in order by connecting to it, which is no attempt.
    let ended = probe(&place, &["resolve", "a.test"]).end().exited(0);
    assert_eq!(ended.outcome().denials, []);
    assert!(canary.recv(&mut [0; 16]).is_err(), "a datagram came out");
}

#[test]
fn a_run_without_a_way_out_says_who_looked_for_one() {
    let place = Place::new();
    let canary = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = canary.local_addr().unwrap().port();
    drop(std::net::TcpStream::connect(("127.0.0.1", port)).unwrap());
    drop(canary.accept().unwrap());
    canary.set_nonblocking(true).unwrap();
    let ended = probe(&place, &["fetch", "192.0.2.1", "443"]).end();
    assert_eq!(ended.code(), libc::ENETUNREACH);
    denied(&ended, "192.0.2.1:443", "no way out");
    asked(&ended, "192.0.2.1:443", &place, "tcp");
    // Its own loopback is nobody's business, and another one.
    let ended = probe(&place, &["fetch", "127.0.0.1", &port.to_string()]).end();
    assert_eq!((ended.code(), ended.outcome().denials.len()), (REFUSED, 0));
    assert!(canary.accept().is_err());
}

#[test]
fn ports_of_a_range_are_opened_when_they_are_wanted_and_others_stay_closed() {
    let net = Net::new();
    let port = net.port;
    let place = net.place(&format!(
        "[[network.destination]]\nhost = \"r.test\"\nports = [\"{}-{}\", \"54-1000\"]\n\
         address = [\"127.0.0.0/8\", \"::1\"]\nbecause = \"any of them\"\n",
        port.saturating_sub(50),
        port.saturating_add(50)
    ));
    net.name("r.test", Says::Addresses(vec![V4, V6]));
    for family in ["4", "6"] {
        let words = ["fetch", "r.test", &port.to_string(), "r.test", family];
        assert_eq!(probe(&place, &words).end().exited(0).text().trim(), BODY);
    }
    assert_eq!(net.connections(), 2, "the control");
    // Nobody listens there outside, and low ports can be opened too.
    let ended = probe(&place, &["fetch", "r.test", "443", "r.test", "4"]).end();
    assert_eq!(ended.code(), RESET);
    denied(&ended, "r.test:443", "failed: Connection refused");
    let ended = probe(&place, &["fetch", "r.test", "1001"]).end();
    assert_eq!(ended.code(), REFUSED);
    denied(&ended, "r.test:1001", "but not this port");
    // A listed port is no port of the other name.
    let ended = probe(&place, &["fetch", "r.test", &net.sink.to_string()]).end();
    if net.sink.abs_diff(port) > 50 {
        denied(&ended, &format!("r.test:{}", net.sink), "but not this port");
    }
    assert_eq!(net.connections(), 0);
    let ended = probe(&place, &["sweep", "r.test", "200", "300"]).end().exited(0);
    // 64 of them got as far as the gateway, which found nobody outside.
    assert_eq!(ended.text().trim(), format!("{REFUSED}: 36, {RESET}: 64"));
    assert!(ended.outcome().notes.iter().any(|it| it.contains("64 different")), "{}", ended.err);
}

/// Attempts without end are remembered within bounds, and the programs of the run still start.
#[test]
fn a_storm_of_connections_starves_nobody_and_is_counted() {
    let net = Net::new();
    let place = net.place("");
    let ended = probe(&place, &["flood", "4", "40"]).end().exited(0);
    let text = ended.text();
    let mut numbers = text.split_whitespace().map(|it| it.parse::<u64>().unwrap());
    let (connects, started, longest_ms) =
        (numbers.next().unwrap(), numbers.next().unwrap(), numbers.next().unwrap());
    println!("{connects} connections beside {started} programs, the longest {longest_ms} ms");
    assert!(connects > 1000 && started == 40 && longest_ms < 5000, "{text}");
    let records = ended.records.iter().filter(|it| it["kind"] == "connect");
    let counted: u64 = records.clone().map(|it| it["count"].as_u64().unwrap()).sum();
    assert!(records.count() <= 256);
    assert!(ended.outcome().denials.len() <= 64);
    let notes = ended.outcome().notes.join(" ");
    assert!(notes.contains("more attempts to connect were refused"), "{notes}");
    assert!(counted < connects, "the rest is counted");
}

/// The host's own loopback is another one, whatever the destination opens for names.
#[test]
fn loopback_inside_stays_the_runs_own() {
    let net = Net::new();
    let place = net.place("");
    let port = net.port.to_string();
    for address in ["127.0.0.1", "::1", "localhost", "0.0.0.0", "rung"] {
        let ended = probe(&place, &["fetch", address, &port]).end();
        assert_eq!(ended.code(), REFUSED, "{address}");
        assert_eq!(ended.outcome().denials, [], "{address}");
    }
    assert_eq!(net.connections(), 0);
}

#[test]
fn a_name_may_not_lead_where_nobody_opened_a_range() {
    let net = Net::new();
    let port = net.port;
    let place = net.place(&format!(
        "[[network.destination]]\nhost = \"*.c.test\"\nports = [{port}]\nbecause = \"public\"\n"
    ));
    let port = port.to_string();
    let own = own_address();
    for (name, all) in [
        ("lo.c.test", vec![V4]),
        ("lo6.c.test", vec![V6]),
        ("mapped.c.test", vec![ip("::ffff:127.0.0.1")]),
        ("nat64.c.test", vec![ip("64:ff9b::7f00:1")]),
        ("private.c.test", vec![ip("10.0.0.1")]),
        ("link.c.test", vec![ip("169.254.1.1")]),
        ("metadata.c.test", vec![ip("169.254.169.254")]),
        ("shared.c.test", vec![ip("100.64.0.1")]),
        ("zero.c.test", vec![ip("0.0.0.0")]),
        ("one-bad.c.test", vec![ip("192.0.9.9"), V4]),
        ("own.c.test", own.into_iter().collect()),
    ] {
        if all.is_empty() {
            continue;
        }
        net.name(name, Says::Addresses(all));
        let ended = probe(&place, &["fetch", name, &port]).end();
        assert_eq!(ended.code(), RESET, "{name}");
        denied(&ended, &format!("{name}:{port}"), "the name leads to");
    }
    net.name("alias.c.test", Says::Alias("a.test", V4));
    let ended = probe(&place, &["fetch", "alias.c.test", &port]).end();
    denied(&ended, &format!("alias.c.test:{port}"), "the name leads to 127.0.0.1");
    assert_eq!(net.connections(), 0);
    probe(&place, &["fetch", "a.test", &port]).end().exited(0);
    assert_eq!(net.connections(), 1, "the control");
}

/// An address of an interface of this machine, where it has one that is not loopback.
fn own_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback() && !own.is_unspecified()).then_some(own)
}

#[test]
fn a_name_that_changes_its_mind_between_two_connections_is_not_asked_again() {
    let net = Net::new();
    let place = net.place("");
    net.name("a.test", Says::First(V4, ip("10.0.0.1")));
    let port = net.port.to_string();
    let script = format!("fetch a.test {port}");
    let path = format!("s:{}", place.probe.display());
    // Two connections of one run: the probe becomes itself once more.
    let again = format!("v:probe|--|{}", script.replace(' ', "|"));
    let held = probe(&place, &["keep", "a.test", &port, "1"]).stdin(Stdio::null()).end().exited(0);
    assert!(held.text().contains(BODY), "{}", held.text());
    assert_eq!(held.outcome().denials, []);
    assert_eq!(net.questions().iter().filter(|it| *it == "a.test A").count(), 1);
    let ended = probe(&place, &["do", "execve", &path, &again]).end();
    assert_eq!(ended.code(), RESET, "a new run asks anew");
    denied(&ended, &format!("a.test:{port}"), "the name leads to 10.0.0.1");
}

#[test]
fn a_lying_or_silent_name_server_gets_nobody_anywhere() {
    let net = Net::new();
    let place = net.place("");
    let port = net.port.to_string();
    net.name("a.test", Says::Lies(ip("10.0.0.1"), V4));
    let ended = probe(&place, &["fetch", "a.test", &port]).end().exited(0);
    assert_eq!(ended.text().trim(), BODY, "the answer with the wrong number did not count");
    net.name("a.test", Says::Silence);
    let ended = probe(&place, &["fetch", "a.test", &port]).end();
    assert_eq!(ended.code(), RESET);
    denied(&ended, &format!("a.test:{port}"), "does not answer");
}

#[test]
fn every_resolver_is_rungs_own_and_quic_falls_back() {
    let net = Net::new();
    let place = net.place("");
    // A question for `a.test`, to an address that no resolver has.
    let query = "\\x00\\x07\\x01\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x01a\\x04test\\x00\\x00\\x01\\x00\\x01";
    for resolver in ["9.9.9.9", "2001:db8::53", "198.18.0.1"] {
        let words = ["say", resolver, "53", &format!("\\x00\\x18{query}\\x00\\x18{query}\\x00")];
        let ended = probe(&place, &words).end();
        let address = [198, 18, 1, 0];
        assert!(ended.out.windows(4).any(|it| it == address), "{resolver}: {:?}", ended.out);
    }
    for (address, port) in [("192.0.2.1", "443"), ("a.test", "443")] {
        let ended = probe(&place, &["datagram", address, port]).end();
        assert!([REFUSED, libc::ENETUNREACH].contains(&ended.code()), "{address} {}", ended.code());
    }
}

#[test]
fn a_server_may_speak_first() {
    let net = Net::new();
    let place = net.place("");
    let ended = probe(&place, &["say", "a.test", &net.greeter.to_string(), ""]).end().exited(0);
    assert_eq!(ended.text().trim(), "220 hello");
}

/// Words that name another host than the one that was connected to.
#[test]
fn what_a_client_says_must_be_for_the_name_it_connected_to() {
    let net = Net::new();
    let place = net.place("");
    let sink = net.sink.to_string();
    let hello = client_hello;
    let ech = b"\xfe\x0d\x00\x01x";
    for (words, says) in [
        (hello("b.test", b""), "asks for `b.test`"),
        (hello("", b""), "names no server"),
        (hello("a.test", ech), "encrypted (ECH)"),
        ("\\x16\\x03\\x01\\x00\\x02\\x02\\x00".to_owned(), "malformed"),
        ("GET / HTTP/1.1\\x0d\\x0aHost: b.test\\x0d\\x0a\\x0d\\x0a".to_owned(), "`b.test`"),
        (
            "GET http://b.test/ HTTP/1.1\\x0d\\x0aHost: a.test\\x0d\\x0a\\x0d\\x0a".to_owned(),
            "`b.test`",
        ),
        (
            "GET / HTTP/1.1\\x0d\\x0aHost: a.test\\x0d\\x0aHost: b.test\\x0d\\x0a\\x0d\\x0a"
                .to_owned(),
            "two hosts",
        ),
    ] {
        let ended = probe(&place, &["say", "a.test", &sink, &words]).end();
        assert_eq!(ended.code(), RESET, "{words}");
        denied(&ended, &format!("a.test:{sink}"), says);
        assert_eq!(net.received(), 0, "{words}");
    }
    for words in [hello("a.test", b""), hello("A.TEST", b""), "anything".to_owned()] {
        let run = probe(&place, &["say", "a.test", &sink, &words]).start();
        // Nobody answers to that; what counts is that it arrives.
        within(PATIENCE, "the words arrive", || net.received() > 0);
        run.signal(Signal::SIGTERM);
        assert_eq!(run.end(&place).outcome().denials, []);
    }
}

/// A `ClientHello` as text for the probe; `more` is one more extension.
fn client_hello(name: &str, more: &[u8]) -> String {
    let word = |it: usize| u16::try_from(it).unwrap().to_be_bytes().to_vec();
    let mut extensions = more.to_vec();
    if !name.is_empty() {
        let entry = [&[0][..], &word(name.len()), name.as_bytes()].concat();
        let list = [word(entry.len()), entry].concat();
        extensions.extend([word(0), word(list.len()), list].concat());
    }
    let body =
        [vec![3, 3], vec![7; 32], vec![0, 0, 2, 0x13, 1, 1, 0], word(extensions.len()), extensions]
            .concat();
    let message = [vec![1, 0], word(body.len()), body].concat();
    let record = [vec![22, 3, 1], word(message.len()), message].concat();
    let escaped: Vec<String> = record.iter().map(|it| format!("\\x{it:02x}")).collect();
    escaped.concat()
}

#[test]
fn a_budget_is_cut_at_its_byte_and_named() {
    let net = Net::new();
    net.name("b.a.test", Says::Addresses(vec![V4]));
    for (budget, name, rule) in [
        ("[network.budget]\nupload = \"100000 bytes\"", "a.test", "network.budget.upload"),
        (
            "[[network.destination]]\nhost = \"*.a.test\"\nports = [{sink}]\n\
             address = [\"127.0.0.0/8\", \"::1\"]\nupload = \"100000 bytes\"\nbecause = \"little\"",
            "b.a.test",
            "network.destination.upload",
        ),
    ] {
        let place = net.place(&budget.replace("{sink}", &net.sink.to_string()));
        let sink = net.sink.to_string();
        let all = probe(&place, &["upload", name, &sink, "100000"]).end().exited(0);
        assert_eq!(all.text().trim(), "100000", "the control: exactly the budget");
        assert_eq!((all.outcome().denials.len(), net.received()), (0, 100_000));
        let ended = probe(&place, &["upload", name, &sink, "8000000"]).end();
        assert!([RESET, libc::EPIPE].contains(&ended.code()), "{}", ended.code());
        within(PATIENCE, "the server sees the end", || net.connections() >= 1);
        assert_eq!(net.received(), 100_000);
        let denial = ended.denial();
        assert_eq!(
            (denial.rule.as_str(), denial.object.as_str()),
            (rule, &*format!("{name}:{sink}"))
        );
        assert!(denial.reason.contains("100000 bytes"), "{}", denial.reason);
        assert_eq!(ended.outcome().network.iter().map(|it| it.sent.0).max(), Some(100_000));
        ended.recorded();
    }
}

#[test]
fn there_is_a_last_connection() {
    let net = Net::new();
    let place = net.place("[network.budget]\nconnections = 3");
    let port = net.port.to_string();
    let words = |count| ["keep".to_owned(), "a.test".to_owned(), port.clone(), format!("{count}")];
    let three = place.rung(3).probe(&words(2)).end().exited(0);
    assert!(three.text().contains(BODY), "the control");
    let four = place.rung(3).probe(&words(3)).end();
    assert_eq!(four.code(), RESET);
    assert_eq!(four.denial().rule, "network.budget.connections");
    four.recorded();
}

/// The gateway of a run that goes on.
fn gateway_of(supervisor: Pid) -> Option<Pid> {
    let children = format!("/proc/{supervisor}/task/{supervisor}/children");
    let list = fs::read_to_string(children).ok()?;
    list.split_whitespace().filter_map(|it| it.parse().ok()).find_map(|pid: i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        line.windows(9).any(|it| it == b"--gateway").then(|| Pid::from_raw(pid))
    })
}

#[test]
fn the_gateway_can_do_nothing_else_and_without_it_there_is_no_network() {
    let net = Net::new();
    let place = net.place("");
    let port = net.port.to_string();
    let mut run = probe(&place, &["keep", "a.test", &port, "1"]).stdin(Stdio::piped()).start();
    let to = run.child.stdin.take();
    run.wait_for_line("ready");
    let gateway = gateway_of(run.pid()).expect("there is a gateway");
    let status = fs::read_to_string(format!("/proc/{gateway}/status")).unwrap();
    for line in ["Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000", "Threads:\t1"] {
        assert!(status.contains(line), "{line} is not in {status}");
    }
    within(PATIENCE, "the connection is made", || net.connections() > 0);
    kill(gateway, Signal::SIGKILL).unwrap();
    drop(to);
    let ended = run.end(&place);
    assert_ne!(ended.code(), 0, "the second connection was made without a gateway");
    assert_eq!(ended.denial().rule, "network.gateway");
    // What it had counted it has left behind.
    let [traffic] = ended.outcome().network.as_slice() else { panic!("nothing was counted") };
    assert_eq!((traffic.destination.as_str(), traffic.connections.0), ("a.test", 1));
    ended.recorded();
}

#[test]
fn the_gateway_ends_with_its_supervisor_and_a_run_without_destinations_has_none() {
    let net = Net::new();
    let place = net.place("");
    let port = net.port.to_string();
    let mut run = probe(&place, &["keep", "a.test", &port, "1"]).stdin(Stdio::piped()).start();
    run.wait_for_line("ready");
    let gateway = gateway_of(run.pid()).unwrap();
    run.signal(Signal::SIGKILL);
    drop(run.end(&place));
    within(PATIENCE, "the gateway is gone", || kill(gateway, None).is_err());
    let plain = Place::new();
    let mut run = plain.rung(3).probe(&["wait"]).start();
    run.wait_for_line("ready");
    assert_eq!(gateway_of(run.pid()), None);
    run.signal(Signal::SIGTERM);
    drop(run.end(&plain));
}

#[test]
fn many_connections_at_once_wait_for_each_other() {
    let net = Net::new();
    let place = net.place("");
    let port = net.port.to_string();
    // More than the gateway holds at once; the listener's queue takes the rest.
    let mut run = probe(&place, &["keep", "a.test", &port, "700"]).stdin(Stdio::piped()).start();
    let to = run.child.stdin.take();
    run.wait_for_line("ready");
    drop(to);
    let ended = run.end(&place).exited(0);
    assert!(ended.text().contains(BODY));
    assert_eq!(ended.outcome().denials, []);
}

#[test]
fn a_server_of_the_runs_own_may_have_a_listed_port() {
    let net = Net::new();
    let place = net.place("");
    let port = net.port;
    for address in [format!("in:127.0.0.1:{port}"), format!("in:0.0.0.0:{port}")] {
        let steps = format!(
            "do socket 2 1 0 , bind %1 {address} , listen %1 1 , socket 2 1 0 , connect %4 in:127.0.0.1:{port}"
        );
        let words: Vec<&str> = steps.split(' ').collect();
        probe(&place, &words).end().exited(0);
    }
    assert_eq!(net.connections(), 0);
}

#[test]
fn a_proxy_decides_as_the_network_does() {
    let net = Net::new();
    let place = net.place("");
    let port = net.port;
    let proxy = |words: &str| probe(&place, &["say", "198.18.0.1", "3128", words]).end();
    let get = format!("GET / HTTP/1.1\\x0d\\x0aHost: a.test:{port}\\x0d\\x0a\\x0d\\x0a");
    let connect =
        |to: &str| format!("CONNECT {to} HTTP/1.1\\x0d\\x0aHost: {to}\\x0d\\x0a\\x0d\\x0a");
    let socks = |name: &str| {
        let [high, low] = port.to_be_bytes();
        format!(
            "\\x05\\x01\\x00\\x05\\x01\\x00\\x03\\x{:02x}{name}\\x{high:02x}\\x{low:02x}",
            name.len()
        )
    };
    for words in [
        format!("{}{get}", connect(&format!("a.test:{port}"))),
        format!("GET http://a.test:{port}/ HTTP/1.1\\x0d\\x0aHost: b.test\\x0d\\x0a\\x0d\\x0a"),
        format!("{}{get}", socks("a.test")),
    ] {
        let ended = proxy(&words);
        assert!(ended.text().contains(BODY), "{words}: {}", ended.text());
        assert!(net.requests().pop().unwrap().contains(&format!("Host: a.test:{port}\r\n")));
    }
    net.connections();
    let refused = |words: &str, object: &str, says: &str| {
        let ended = proxy(words);
        denied(&ended, object, says);
        ended
    };
    let listed = "no destination of the profile means it";
    let ended = refused(&connect("b.test:443"), "b.test:443", listed);
    assert!(ended.text().contains("403 Forbidden"), "{}", ended.text());
    refused(&connect("127.0.0.1:22"), "127.0.0.1:22", listed);
    refused(&connect("[::1]:22"), "::1:22", listed);
    refused(&connect("a.test:22"), "a.test:22", "but not this port");
    refused(&connect("2130706433:80"), "2130706433:80", "taken for an address");
    refused(&connect("user@a.test:80"), "user@a.test:80", "no host name");
    refused("GET http://b.test/ HTTP/1.1\\x0d\\x0a\\x0d\\x0a", "b.test:80", listed);
    // The suffix check of another proxy once took this for the allowed name.
    let ended = refused(
        &socks("b\\x00.a.test").replace("\\x0c", "\\x09"),
        &format!("b\\x00.a.test:{port}"),
        "no host name",
    );
    assert_eq!(ended.out.get(3), Some(&2), "not allowed by the rules: {:?}", ended.out);
    for words in [
        "\\x04\\x01",
        "\\x05\\x01\\x02",
        "\\x05\\x01\\x00\\x05\\x03\\x00\\x01aaaabb",
        "GET / HTTP/9\\x0d\\x0a\\x0d\\x0a",
    ] {
        proxy(words);
    }
    assert_eq!(net.connections(), 0);
}

/// A client program under a name of its own: the rules that refuse such programs are about names.
fn client(place: &Place, program: &str) -> Option<PathBuf> {
    let from = fs::canonicalize(program).ok()?;
    let to = place.probe.with_file_name(format!("{}-web", from.file_name()?.to_str()?));
    if to.exists() {
        return Some(to);
    }
    if fs::hard_link(&from, &to).is_err() {
        place.copy_program(&from, &to);
        make_program(&to);
    }
    Some(to)
}

/// The same, with a rule that the probe may start it.
fn allow_client(place: &Place, program: &str) -> Option<PathBuf> {
    let program = client(place, program)?;
    let name = program.file_name()?.to_str()?;
    let listed = fs::read_to_string(place.home.join(".config/rung/level-3.toml")).unwrap();
    let rule = format!(
        "[[exec.program]]\nname = \"{name}\"\nclass = \"plain\"\nstyle = \"gnu\"\n\
         [[exec.rule]]\nid = \"test.{name}\"\nprogram = \"{name}\"\nstarted_by = \"probe\"\n\
         arguments = [{{ words = \"any\" }}]\ndecision = \"allow\"\npower = \"net\"\n\
         because = \"a client\"\nmatch = [\"{name} x\"]\nnot_match = [\"{name}s x\"]\n"
    );
    if !listed.contains(&format!("id = \"test.{name}\"")) {
        place.set_profile(3, &format!("{listed}\n{rule}"));
    }
    Some(program)
}

#[test]
fn every_client_reaches_a_listed_name_without_being_told_how() {
    let net = Net::new();
    let port = net.port;
    let url = format!("http://a.test:{port}/");
    let other = format!("http://b.test:{port}/");
    let python =
        "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1]).read().decode())";
    let node = "fetch(process.argv[1]).then(it => it.text()).then(console.log)";
    for (program, options) in [
        ("/usr/bin/curl", vec!["--silent", "--show-error", "--fail"]),
        ("/usr/bin/python3", vec!["-c", python]),
        ("/usr/bin/node", vec!["-e", node]),
        ("/bin/busybox", vec!["wget", "-q", "-O", "-"]),
    ] {
        let place = net.place("");
        let found = allow_client(&place, program);
        if !has_by_chance(program, found.is_some()) {
            continue;
        }
        let program = found.unwrap();
        let name = program.file_name().unwrap().to_str().unwrap();
        let path = format!("s:{}", program.display());
        let run = |url: &str| {
            let words = [vec![name], options.clone(), vec![url]].concat().join("|");
            let environment = "v:LANG=C";
            probe(&place, &["do", "execve", &path, &format!("v:{words}"), environment]).end()
        };
        let ended = run(&url).exited(0);
        assert!(ended.text().contains(BODY), "{name}: {}", ended.text());
        let ended = run(&other);
        assert_ne!(ended.code(), 0, "{name}");
        denied(&ended, "b.test", "no destination");
    }
}

#[test]
fn a_rate_is_kept() {
    let net = Net::new();
    let sink = net.sink;
    let place = net.place(&format!(
        "[[network.destination]]\nhost = \"*.a.test\"\nports = [{sink}]\n\
         address = [\"127.0.0.0/8\", \"::1\"]\nrate = \"200 KiB\"\nbecause = \"slowly\"\n"
    ));
    net.name("b.a.test", Says::Addresses(vec![V4]));
    let started = std::time::Instant::now();
    let ended = probe(&place, &["upload", "b.a.test", &sink.to_string(), "204800"]).end().exited(0);
    assert_eq!(ended.text().trim(), "204800");
    let took = started.elapsed();
    assert!(took > Duration::from_millis(800), "a second's worth of bytes took {took:?}");
}
