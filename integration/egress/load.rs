//! Too much of everything: connections, bytes, patience.

use super::network::{BODY, Net, Says, V4};
use super::{RESET, denied, probe};
use crate::harness::{PATIENCE, within};

#[test]
fn ten_thousand_connections_are_made_and_counted() {
    let net = Net::new();
    let place = net.place("");
    let ended = probe(&place, &["many", "a.test", &net.port.to_string(), "10000"]).end().exited(0);
    assert_eq!(ended.text().trim(), "10000");
    let [traffic] = ended.outcome().network.as_slice() else { panic!("one destination") };
    assert_eq!((traffic.connections.0, net.connections()), (10_000, 10_000));
    assert_eq!(ended.outcome().denials, []);
    ended.recorded();
}

/// Clients that never come to the point keep nobody else out, and are cut in the end.
#[test]
pub(super) fn slow_clients_keep_nobody_out() {
    let net = Net::new();
    let place = net.place("");
    let port = net.port.to_string();
    let ended = probe(&place, &["trickle", "a.test", &port, "300"]).end().exited(0);
    assert!(ended.text().contains(BODY), "{}", ended.text());
    assert_eq!(ended.text().trim().lines().last(), Some("cut 300"));
    denied(&ended, &format!("a.test:{port}"), "does not come to an end");
}

/// The budget of a gigabyte's upload is kept to the byte, whatever is in flight.
#[test]
fn a_gigabyte_is_cut_at_the_budget() {
    const BUDGET: usize = 256 << 20;
    let net = Net::new();
    let place = net.place(&format!("[network.budget]\nupload = \"{BUDGET} bytes\""));
    let sink = net.sink.to_string();
    let ended = probe(&place, &["upload", "a.test", &sink, "1073741824"]).end();
    assert!([RESET, libc::EPIPE].contains(&ended.code()), "{}", ended.code());
    within(PATIENCE, "the server sees the end", || net.open() == 0);
    // What it had not read when the connection was cut is not read any more.
    let received = net.received();
    assert!((1..=BUDGET).contains(&received), "{received}");
    let denial = ended.denial();
    assert_eq!(denial.rule, "network.budget.upload");
    let counted = ended.outcome().network[0].sent.0;
    println!(
        "budget {BUDGET} bytes, counted {counted}, {received} at the server: {}",
        denial.reason
    );
    assert_eq!(counted, u64::try_from(BUDGET).unwrap());
    ended.recorded();
}

/// The same for what comes in. What the gateway had sent when it cut the connection may not all be
/// with the client.
#[test]
fn a_download_is_cut_at_its_byte() {
    const BUDGET: usize = 100_000;
    let net = Net::new();
    let big = vec![b'.'; 8 << 20];
    net.files().lock().unwrap().insert("/".to_owned(), big);
    let port = net.port.to_string();
    let get = "GET / HTTP/1.1\\x0d\\x0aHost: a.test\\x0d\\x0a\\x0d\\x0a";
    let whole = net.place("");
    let ended = probe(&whole, &["say", "a.test", &port, get]).end().exited(0);
    assert!(ended.out.len() > 8 << 20, "the control");
    let place = net.place(&format!("[network.budget]\ndownload = \"{BUDGET} bytes\""));
    let ended = probe(&place, &["say", "a.test", &port, get]).end();
    assert_eq!(ended.code(), RESET);
    let counted = ended.outcome().network[0].received.0;
    let got = ended.out.len() - 1;
    println!("budget {BUDGET} bytes, counted {counted}, {got} at the client");
    assert_eq!(counted, u64::try_from(BUDGET).unwrap());
    assert!((1..=BUDGET).contains(&got), "{got}");
    let denial = ended.denial();
    assert_eq!(denial.rule, "network.budget.download");
    assert!(denial.reason.contains("received 100000 bytes"), "{}", denial.reason);
    ended.recorded();
}

#[test]
fn a_server_that_resets_is_what_the_client_sees() {
    let net = Net::new();
    net.name("reset.test", Says::Addresses(vec![V4]));
    let port = net.resetter;
    let place = net.place(&format!(
        "[[network.destination]]\nhost = \"reset.test\"\nports = [{port}]\n\
         address = [\"127.0.0.0/8\"]\nbecause = \"it is rude\"\n"
    ));
    let ended = probe(&place, &["say", "reset.test", &port.to_string(), "hello"]).end();
    assert_eq!(ended.code(), RESET);
    let found = ended.outcome().network.iter().find(|it| it.destination == "reset.test").unwrap();
    assert_eq!((found.connections.0, found.sent.0), (1, 5));
    assert_eq!(ended.outcome().denials, []);
}
