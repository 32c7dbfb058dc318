//! What the plan foresees of a connection, against what a real one meets.

use rung::plan::{Answer, Operation, SandboxPlan, predict};

use super::network::{Net, probe};
use super::{NO_NAME, REFUSED, RESET};
use crate::harness::{Ended, Place};

/// The plan as `rung explain --json` prints it.
fn plan(place: &Place, level: u8) -> SandboxPlan {
    let words = ["explain", "--level", &level.to_string(), "--json"];
    let told = place.rung_with(&words).end();
    serde_json::from_slice(&told.out).unwrap_or_else(|error| panic!("{error}: {}", told.err))
}

/// What a real run meets at the same place.
fn met(place: &Place, level: u8, host: &str, port: u16) -> Ended {
    let words = ["fetch", host, &port.to_string()];
    if level == 3 { probe(place, &words).end() } else { place.rung(level).probe(&words).end() }
}

#[test]
fn what_is_foreseen_of_a_connection_is_what_happens() {
    let net = Net::new();
    let (with, without) = (net.place(""), Place::new());
    let port = net.port;
    let cases = [
        (&with, 3, "a.test", port),
        (&with, 3, "a.test", 4),
        (&with, 3, "b.test", port),
        (&with, 3, "192.0.2.1", port),
        (&with, 3, "192.0.2.1", 4),
        (&with, 3, "2001:db8::1", 4),
        (&with, 3, "127.0.0.1", port),
        (&with, 3, "localhost", port),
        (&with, 3, "2130706433", 4),
        (&without, 3, "a.test", port),
        (&without, 3, "192.0.2.1", port),
        (&without, 3, "127.0.0.1", port),
        (&without, 2, "192.0.2.1", port),
        (&without, 2, "127.0.0.1", port),
        (&without, 1, "127.0.0.1", port),
    ];
    let mut seen = std::collections::BTreeSet::new();
    for (place, level, host, port) in cases {
        let operation = Operation::Connect { host: host.to_owned(), port };
        let answer = predict(&plan(place, level), &operation).answer;
        let code = met(place, level, host, port).code();
        let own = ["127.0.0.1", "localhost"].contains(&host);
        let expected: &[i32] = match answer {
            // Nobody serves on a loopback that has just been made.
            Answer::Allowed if own => &[REFUSED],
            Answer::Allowed => &[0],
            Answer::NoSockets => &[libc::EAFNOSUPPORT, libc::EPERM, NO_NAME],
            Answer::NoWayOut => &[libc::ENETUNREACH, NO_NAME],
            // Of what is no name a C library may make an address, which nobody listed.
            Answer::NotListed | Answer::NoHostName => &[NO_NAME, REFUSED, RESET],
            Answer::PortClosed => &[REFUSED],
            other => panic!("{host}:{port} at level {level}: {other:?}"),
        };
        assert!(expected.contains(&code), "{host}:{port} at level {level}: {answer:?}, {code}");
        seen.insert(format!("{answer:?}"));
    }
    assert_eq!(net.connections(), 1, "what is listed, once");
    assert_eq!(seen.len(), 6, "every answer has its case: {seen:?}");
}
