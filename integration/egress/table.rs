//! The known ways around a network policy, one row each, and how many of them are held.
//!
//! *Control*: on a host where every address answers, the very same act works. *Held*: inside, at the
//! level with a way out, it does not, and nobody of that host was called. *Recorded*: the report and
//! the ledger name it, with who tried.

use std::panic::catch_unwind;

use super::world::World;
use super::{NO_NAME, Net, REFUSED, asked, denied, network};
use crate::harness::Place;

/// An act of the probe.
struct Row {
    id: &'static str,
    words: &'static str,
    /// How it may end inside.
    ends: &'static [i32],
    /// What the denial is about; the run's own loopback is nobody's business.
    object: Option<&'static str>,
}

const fn row(id: &'static str, words: &'static str, object: &'static str) -> Row {
    Row { id, words, ends: &[REFUSED], object: Some(object) }
}

const fn own(id: &'static str, words: &'static str) -> Row {
    Row { id, words, ends: &[REFUSED], object: None }
}

const ROWS: &[Row] = &[
    row("W01 another machine", "fetch 8.8.8.8 80", "8.8.8.8:80"),
    row("W02 a mapped address", "fetch ::ffff:8.8.8.8 80", "8.8.8.8:80"),
    row("W02 an address as one number", "fetch 134744072 80", "8.8.8.8:80"),
    row("W02 an address in hexadecimal parts", "fetch 0x08.8.2056 80", "8.8.8.8:80"),
    row("W02 an address behind NAT64", "fetch 64:ff9b::808:808 80", "64:ff9b::808:808:80"),
    row("W02 a private address", "fetch 10.1.2.3 80", "10.1.2.3:80"),
    row("W03 the metadata service", "fetch 169.254.169.254 80", "169.254.169.254:80"),
    row("W03 the newer metadata service", "fetch fd00:ec2::254 80", "fd00:ec2::254:80"),
    own("W04 the host's loopback", "fetch 127.0.0.1 80"),
    own("W04 the host's newer loopback", "fetch ::1 80"),
    own("W04 the host by the zero address", "fetch 0.0.0.0 80"),
    row("W05 names over HTTPS", "fetch 1.1.1.1 443", "1.1.1.1:443"),
    row("W05 names over TLS", "fetch 1.1.1.1 853", "1.1.1.1:853"),
    row("W05 names of the neighbours", "datagram 9.9.9.9 5353", "9.9.9.9:5353/udp"),
    row("W10 QUIC", "datagram 8.8.8.8 443", "8.8.8.8:443/udp"),
    Row {
        id: "W14 an address without a family",
        words: "do socket 2 2 0 , sendto %1 s:x 1 0 h:000001bb080808080000000000000000 16",
        ends: &[0],
        object: Some("8.8.8.8:443/udp"),
    },
    row("RT-09 a program that knows no proxy", "fetch 9.9.9.9 443", "9.9.9.9:443"),
    row("RT-11 the newer protocol", "fetch 2001:db8::1 443", "2001:db8::1:443"),
];

/// A socket or an option that would lead around the way out: there is none.
struct Closed {
    id: &'static str,
    words: &'static str,
    ends: i32,
}

const fn closed(id: &'static str, words: &'static str, ends: i32) -> Closed {
    Closed { id, words, ends }
}

const NO_FAMILY: i32 = libc::EAFNOSUPPORT;
const NO_PROTOCOL: i32 = libc::EPROTONOSUPPORT;

/// Refused by the filter or for want of a capability, whatever the list of destinations says. Outside
/// they are made by root of the namespace in which every address answers, as far as its kernel knows
/// them.
const CLOSED: &[Closed] = &[
    closed("W10 RT-10 an echo", "do socket 2 2 1", NO_PROTOCOL),
    closed("W11 RT-10 a packet built by hand", "do socket 2 3 255", NO_PROTOCOL),
    closed("W11 RT-10 an echo built by hand", "do socket 2 3 1", NO_PROTOCOL),
    closed("W11 RT-10 the newer protocol's", "do socket 10 3 58", NO_PROTOCOL),
    closed("W11 RT-10 a frame", "do socket 17 3 0x300", NO_FAMILY),
    closed("W11 RT-10 frames without their heads", "do socket 17 2 0x300", NO_FAMILY),
    closed("W11 the firewall", "do socket 16 3 12", NO_PROTOCOL),
    closed("W11 transformed packets", "do socket 16 3 6", NO_PROTOCOL),
    closed("W12 the host of a virtual machine", "do socket 40 1 0", NO_FAMILY),
    closed("W12 the kernel's ciphers", "do socket 38 5 0", NO_FAMILY),
    closed("W12 cluster sockets", "do socket 30 2 0", NO_FAMILY),
    closed("W13 RT-10 many paths", "do socket 2 1 262", NO_PROTOCOL),
    closed("W13 RT-10 streams in one", "do socket 2 1 132", NO_PROTOCOL),
    closed("W13 RT-10 partly checked datagrams", "do socket 2 2 136", NO_PROTOCOL),
    closed(
        "W13 a connection by sending",
        "do socket 2 1 0 , sendto %1 s:x 1 0x20000000 in:8.8.8.8:80",
        libc::EOPNOTSUPP,
    ),
    closed(
        "W13 a connection by sending later",
        "do socket 2 1 0 , setsockopt %1 6 30 h:01000000 4",
        libc::ENOPROTOOPT,
    ),
    closed(
        "W15 a foreign address of one's own",
        "do socket 2 1 0 , setsockopt %1 0 19 h:01000000 4",
        libc::EPERM,
    ),
    closed("W15 a mark", "do socket 2 1 0 , setsockopt %1 1 36 h:01000000 4", libc::EPERM),
];

/// Nothing comes of it inside, and nobody is called.
fn is_closed(row: &Closed) -> bool {
    let net = Net::new();
    let place = net.place("");
    let Some(world) = World::new(&place) else {
        crate::harness::has_by_chance("a network namespace with every address in it", false);
        return false;
    };
    let words: Vec<&str> = row.words.split(' ').collect();
    let outside = world.around(place.outside_probe(&words)).end();
    let made =
        crate::harness::has_by_chance(&format!("{}: a control", row.id), outside.code() == 0);
    if made && row.words.contains("8.8.8.8") {
        let called = || !world.contacts().is_empty();
        crate::harness::within(crate::harness::PATIENCE, "somebody is called outside", called);
    }
    let ended = world.around(place.rung(3).probe(&words)).end();
    assert_eq!(ended.code(), row.ends, "{}: {}", row.id, ended.err);
    assert_eq!(world.contacts(), Vec::<String>::new(), "{}: it came out", row.id);
    true
}

/// Three arms of one row.
fn arms(row: &Row) -> bool {
    let net = Net::new();
    let place = net.place("");
    let Some(world) = World::new(&place) else {
        crate::harness::has_by_chance("a network namespace with every address in it", false);
        return false;
    };
    let words: Vec<&str> = row.words.split(' ').collect();
    let outside = world.around(place.outside_probe(&words)).end();
    assert_eq!(outside.code(), 0, "{}: outside: {}", row.id, outside.err);
    crate::harness::within(crate::harness::PATIENCE, "somebody is called outside", || {
        !world.contacts().is_empty()
    });
    let ended = world.around(place.rung(3).probe(&words)).end();
    assert!(row.ends.contains(&ended.code()), "{}: {} {}", row.id, ended.code(), ended.err);
    assert_eq!(world.contacts(), Vec::<String>::new(), "{}: it came out", row.id);
    match row.object {
        Some(object) => {
            denied(&ended, object, "no destination of the profile means it");
            asked(&ended, object, &place, if object.ends_with("/udp") { "udp" } else { "tcp" });
        }
        None => assert_eq!(ended.outcome().denials, [], "{}", row.id),
    }
    true
}

/// The rows that need a server which is listed, or a name server that lies: each is a test of its own.
const TESTS: &[(&str, fn())] = &[
    (
        "W06 RT-12 a name that changes its mind",
        super::a_name_that_changes_its_mind_between_two_connections_is_not_asked_again,
    ),
    ("W06 RT-12 a name that leads inside", super::a_name_may_not_lead_where_nobody_opened_a_range),
    ("W06 a name server that lies", super::a_lying_or_silent_name_server_gets_nobody_anywhere),
    (
        "W07 W24 RT-06 another name in the greeting",
        super::what_a_client_says_must_be_for_the_name_it_connected_to,
    ),
    ("W08 W09 RT-05 RT-08 words to a proxy", super::a_proxy_decides_as_the_network_does),
    ("W18 RT-16 names as messages", super::any_other_name_does_not_exist_and_is_never_asked_for),
    ("W20 a port that is taken inside", super::a_server_of_the_runs_own_may_have_a_listed_port),
    (
        "W22 RT-09 clients that are told nothing",
        super::every_client_reaches_a_listed_name_without_being_told_how,
    ),
    (
        "W23 more connections than there is room for",
        super::many_connections_at_once_wait_for_each_other,
    ),
    ("W23 a budget", super::a_budget_is_cut_at_its_byte_and_named),
    (
        "W07 RT-06 another host in a request",
        super::http::every_request_is_for_the_host_of_its_connection,
    ),
    ("W07 another host over TLS", super::tls::both_ends_are_who_they_say),
    ("RT-07 plain HTTP", super::http::whatever_is_more_than_reading_is_refused_and_recorded),
    ("RT-07 HTTPS, WebSocket, h2", super::tls::no_trick_works_over_tls_either),
    ("RT-07 a request in a request", super::http::nothing_is_smuggled_past_the_reader),
    (
        "RT-15 a path that is written otherwise",
        super::http::only_listed_paths_are_asked_for_however_they_are_written,
    ),
    ("RT-15 a push to a forge", super::forge::a_forge_may_be_fetched_from_and_not_pushed_to),
    ("W16 a connection that is inherited", no_open_connection_is_inherited),
    ("W19 a server of the run's own", nobody_outside_reaches_a_server_of_the_run),
    ("W21 a bridge inside", nobody_inside_serves_the_way_out),
    ("W23 clients that are slow", super::load::slow_clients_keep_nobody_out),
    (
        "RT-51 a secret that comes back",
        super::credential::the_server_gets_the_secret_and_the_run_does_not,
    ),
    (
        "RT-51 a secret for another host",
        super::credential::a_placeholder_is_worth_nothing_anywhere_else,
    ),
    ("RT-04 an empty list", an_empty_list_means_nothing),
    ("RT-13 the gateway's own ports", the_gateway_answers_at_two_ports_and_no_others),
    ("RT-14 a proxy for others", nobody_else_reaches_the_gateway),
    ("W25 a connection that outlives its command", no_connection_outlives_its_run),
];

/// Known, and accepted.
const RESIDUALS: &[(&str, &str)] = &[
    ("W17", "a listed host can be sent anything, up to the budget"),
    (
        "W18",
        "names below a `*.` destination, and what is asked of a listed host, carry what they carry",
    ),
    (
        "RT-06",
        "where no methods are listed, later requests of a connection and all inside TLS are unread: \
         a server of many names may be asked for another",
    ),
];

#[test]
fn every_way_around_is_held_or_a_known_residual() {
    let mut failed = Vec::new();
    let (mut run, mut held) = (0, 0);
    let mut one = |id: &str, what: &(dyn Fn() -> bool + std::panic::RefUnwindSafe)| {
        let said = match catch_unwind(what) {
            Ok(true) => {
                (run, held) = (run + 1, held + 1);
                "held"
            }
            Ok(false) => "left out",
            Err(_) => {
                run += 1;
                failed.push(id.to_owned());
                "NOT HELD"
            }
        };
        println!("{id:<48} {said}");
    };
    for row in ROWS {
        one(row.id, &|| arms(row));
    }
    for row in CLOSED {
        one(row.id, &|| is_closed(row));
    }
    for (id, test) in TESTS {
        one(id, &|| {
            test();
            true
        });
    }
    let residuals: Vec<String> =
        RESIDUALS.iter().map(|it| format!("{} ({})", it.0, it.1)).collect();
    println!("ways around {run}, held {held}, residuals: [{}]", residuals.join("; "));
    assert!(failed.is_empty(), "not held: {}", failed.join(", "));
}

#[test]
fn an_empty_list_means_nothing() {
    let net = Net::new();
    let listed = net.place("");
    let port = net.port.to_string();
    super::probe(&listed, &["fetch", "a.test", &port]).end().exited(0);
    assert_eq!(net.connections(), 1, "the control");
    let place = Place::new();
    for name in ["a.test", "127.0.0.1"] {
        let ended = super::probe(&place, &["fetch", name, &port]).end();
        assert!([NO_NAME, REFUSED].contains(&ended.code()), "{name}: {}", ended.code());
    }
    assert_eq!(
        (net.connections(), net.questions().len()),
        (0, 2),
        "but for the control's questions"
    );
}

#[test]
fn the_gateway_answers_at_two_ports_and_no_others() {
    let net = Net::new();
    let place = net.place("");
    for (from, to, refused) in [("1", "1024", 1022), ("3000", "3200", 199)] {
        let ended = super::probe(&place, &["sweep", "198.18.0.1", from, to]).end().exited(0);
        let text = ended.text();
        assert!(text.contains(&format!("{REFUSED}: {refused}")), "{from}-{to}: {text}");
    }
    assert_eq!(net.connections(), 0);
}

/// Its sockets are in a namespace that nobody is in.
#[test]
fn nobody_else_reaches_the_gateway() {
    let net = Net::new();
    let place = net.place("");
    let port = net.port.to_string();
    let mut run = super::probe(&place, &["keep", "a.test", &port, "1"])
        .stdin(std::process::Stdio::piped())
        .start();
    run.wait_for_line("ready");
    let gateway = super::gateway_of(run.pid()).unwrap();
    for port in [53, 3128] {
        let found = std::net::TcpStream::connect((network::V4, port));
        assert_eq!(found.err().and_then(|it| it.raw_os_error()), Some(REFUSED), "port {port}");
    }
    // Of those in this namespace, none of its sockets listens.
    let table = std::fs::read_to_string(format!("/proc/{gateway}/net/tcp")).unwrap();
    let listening = table.lines().filter(|it| it.split_whitespace().nth(3) == Some("0A"));
    let links = std::fs::read_dir(format!("/proc/{gateway}/fd"));
    let links: Vec<String> = links
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|it| Some(std::fs::read_link(it.path()).ok()?.display().to_string()))
        .collect();
    for line in listening {
        let inode = line.split_whitespace().nth(9).unwrap();
        assert!(!links.contains(&format!("socket:[{inode}]")), "{line}");
    }
    drop(run.child.stdin.take());
    run.end(&place).exited(0);
}

/// As descriptor 7, where nobody would look for it.
#[test]
fn no_open_connection_is_inherited() {
    let net = Net::new();
    let place = net.place("");
    let around = |run: crate::harness::Run<'_>, port: u16| {
        let open = format!("exec 7<>/dev/tcp/127.0.0.1/{port}; exec \"$0\" \"$@\"");
        run.started_by(&["/bin/bash", "-c", &open]).end()
    };
    let outside = around(place.outside_probe(&["descriptors"]), net.sink);
    assert!(outside.text().contains('7'), "the control: {}", outside.text());
    let ended = around(place.rung(3).probe(&["descriptors"]), net.sink).exited(0);
    assert!(!ended.text().contains('7'), "{}", ended.text());
    let write = ["do", "write", "7", "s:secret", "6"];
    assert_eq!(around(place.rung(3).probe(&write), net.sink).code(), libc::EBADF);
    assert_eq!(net.received(), 0);
    around(place.outside_probe(&write), net.sink);
    crate::harness::within(crate::harness::PATIENCE, "the control", || net.received() == 6);
}

#[test]
fn nobody_outside_reaches_a_server_of_the_run() {
    let net = Net::new();
    let place = net.place("");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let steps = format!(
        "do socket 2 1 0 , bind %1 in:0.0.0.0:{free} , listen %1 1 , write 1 h:72656164790a 6 , \
         read 0 z:1 1"
    );
    let words: Vec<&str> = steps.split(' ').collect();
    for (run, found) in
        [(place.outside_probe(&words), None), (super::probe(&place, &words), Some(REFUSED))]
    {
        let mut run = run.stdin(std::process::Stdio::piped()).start();
        run.wait_for_line("ready");
        let called = std::net::TcpStream::connect((network::V4, free));
        assert_eq!(called.err().and_then(|it| it.raw_os_error()), found);
        drop(run.child.stdin.take());
        assert_eq!(run.end(&place).code(), 0);
    }
}

/// The gateway is no process of the run, nor of its namespaces.
#[test]
fn nobody_inside_serves_the_way_out() {
    let net = Net::new();
    let place = net.place("");
    let ended = place.rung(3).words(&["ls", "/proc"]).end().exited(0);
    let text = ended.text();
    let processes = text.lines().filter(|it| it.bytes().all(|it| it.is_ascii_digit())).count();
    assert_eq!(processes, 2, "init and the command: {text}");
}

#[test]
fn no_connection_outlives_its_run() {
    let net = Net::new();
    let place = net.place("");
    let sink = net.sink.to_string();
    let run = super::probe(&place, &["say", "a.test", &sink, "hello"]).start();
    crate::harness::within(crate::harness::PATIENCE, "the words arrive", || net.received() > 0);
    assert_eq!(net.open(), 1, "the control");
    run.signal(nix::sys::signal::Signal::SIGTERM);
    drop(run.end(&place));
    crate::harness::within(crate::harness::PATIENCE, "the server sees the end", || net.open() == 0);
}
