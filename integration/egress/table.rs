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
];

#[test]
fn every_way_around_is_held_or_a_known_residual() {
    let mut failed = Vec::new();
    let (mut run, mut held) = (0, 0);
    let mut one = |id: &str, what: &(dyn Fn() -> bool + std::panic::RefUnwindSafe)| {
        match catch_unwind(what) {
            Ok(true) => (run, held) = (run + 1, held + 1),
            Ok(false) => {}
            Err(_) => {
                run += 1;
                failed.push(id.to_owned());
            }
        }
    };
    for row in ROWS {
        one(row.id, &|| arms(row));
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
