//! Ends that nobody planned: of the client, of the server, of the gateway, of its descriptors.
//!
//! Whatever happens, the network is dead or works, and never open; what went over it is in the report;
//! and nobody is left.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::network::{BODY, Net, Says, V4, probe};
use super::{RESET, gateway_of};
use crate::harness::{Ended, PATIENCE, Place, Run, Started, within};

const GIBIBYTE: &str = "1073741824";
/// What may be taken from the client and not be with the server: buffers of the gateway and of both
/// connections.
const BUFFERED_MAX: u64 = 64 << 20;

/// An upload that goes on for longer than the test, and its gateway.
fn uploading(net: &Net, place: &Place) -> (Started, Pid) {
    let run = probe(place, &["upload", "a.test", &net.sink.to_string(), GIBIBYTE]).start();
    let mut seen = 0;
    within(PATIENCE, "a part arrives", || {
        seen += net.received();
        seen > 1 << 20
    });
    let gateway = gateway_of(run.pid()).expect("there is a gateway");
    (run, gateway)
}

/// The server has seen the end, the gateway is gone, and what the report says was sent is at least
/// what arrived.
fn settled(net: &Net, gateway: Pid, ended: &Ended) {
    within(PATIENCE, "the server sees the end", || net.open() == 0);
    within(PATIENCE, "the gateway is gone", || kill(gateway, None).is_err());
    let arrived = u64::try_from(net.received_in_all()).unwrap();
    let [traffic] = ended.outcome().network.as_slice() else { panic!("one destination") };
    let sent = traffic.sent.0;
    println!("counted {sent} bytes, {arrived} arrived");
    assert!((arrived..=arrived + BUFFERED_MAX).contains(&sent), "{sent} sent, {arrived} arrived");
    ended.recorded();
}

#[test]
fn a_client_that_is_killed_in_the_middle_is_counted_and_gone() {
    let net = Net::new();
    let place = net.place("");
    let (run, gateway) = uploading(&net, &place);
    run.signal(Signal::SIGTERM);
    let ended = run.end(&place);
    assert_ne!(ended.code(), 0);
    settled(&net, gateway, &ended);
    assert_eq!(ended.outcome().denials, []);
}

#[test]
fn a_gateway_that_is_killed_in_the_middle_leaves_the_network_dead_and_its_numbers() {
    let net = Net::new();
    let place = net.place("");
    let (run, gateway) = uploading(&net, &place);
    kill(gateway, Signal::SIGKILL).unwrap();
    let ended = run.end(&place);
    assert!([RESET, libc::EPIPE].contains(&ended.code()), "{}", ended.code());
    settled(&net, gateway, &ended);
    assert_eq!(ended.denial().rule, "network.gateway");
}

#[test]
fn a_supervisor_that_is_killed_in_the_middle_takes_the_network_with_it() {
    let net = Net::new();
    let place = net.place("");
    let (run, gateway) = uploading(&net, &place);
    run.signal(Signal::SIGKILL);
    drop(run.end(&place));
    within(PATIENCE, "the server sees the end", || net.open() == 0);
    within(PATIENCE, "the gateway is gone", || kill(gateway, None).is_err());
}

#[test]
fn a_server_that_resets_in_the_middle_ends_the_upload_and_not_the_run() {
    let net = Net::new();
    net.name("reset.test", Says::Addresses(vec![V4]));
    let port = net.resetter;
    let place = net.place(&format!(
        "[[network.destination]]\nhost = \"reset.test\"\nports = [{port}]\n\
         address = [\"127.0.0.0/8\"]\nbecause = \"it is rude\"\n"
    ));
    let ended = probe(&place, &["upload", "reset.test", &port.to_string(), GIBIBYTE]).end();
    assert!([RESET, libc::EPIPE].contains(&ended.code()), "{}", ended.code());
    let [traffic] = ended.outcome().network.as_slice() else { panic!("one destination") };
    assert!((1..=BUFFERED_MAX).contains(&traffic.sent.0), "{}", traffic.sent.0);
    assert_eq!((traffic.connections.0, ended.outcome().denials.len()), (1, 0));
    ended.recorded();
}

/// Half open: the client has said its word and waits, and the server says nothing.
#[test]
fn a_silent_server_holds_nobody_longer_than_the_run() {
    let net = Net::new();
    let place = net.place("");
    let words = ["say", "a.test", &net.sink.to_string(), "hello"];
    let run = place.rung(3).option(&["--timeout", "2 s"]).probe(&words).start();
    within(PATIENCE, "the words arrive", || net.received() == 5);
    let gateway = gateway_of(run.pid()).expect("there is a gateway");
    let ended = run.end(&place);
    assert_eq!(ended.code(), 124, "{}", ended.err);
    settled(&net, gateway, &ended);
    assert_eq!(ended.outcome().network[0].sent.0, 5);
}

/// The same run where a process may have so many descriptors, and so may the gateway.
fn limited<'a>(run: Run<'a>, descriptors: &str) -> Run<'a> {
    let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
    run.started_by(&["/bin/sh", "-c", &script])
}

/// It serves fewer at once; the rest waits in the kernel and gets its turn.
#[test]
fn a_gateway_with_few_descriptors_serves_all_in_the_end() {
    let net = Net::new();
    let place = net.place("[limits]\nopen_files = 256");
    let port = net.port.to_string();
    let ended = limited(probe(&place, &["many", "a.test", &port, "400"]), "300").end().exited(0);
    assert_eq!(ended.text().trim(), "400");
    assert_eq!((ended.outcome().denials.len(), net.connections()), (0, 400));
    let keep = probe(&place, &["keep", "a.test", &port, "40"]);
    let mut run = limited(keep, "300").stdin(std::process::Stdio::piped()).start();
    let to = run.child.stdin.take();
    run.wait_for_line("ready");
    drop(to);
    let ended = run.end(&place).exited(0);
    assert!(ended.text().contains(BODY), "{}", ended.text());
    assert_eq!(ended.outcome().denials, []);
}

/// Whatever it needs one for fails, until it has some again. Only the soft limit, which comes back.
#[test]
fn a_gateway_out_of_descriptors_lets_nobody_out_and_recovers() {
    let net = Net::new();
    let place = net.place("");
    let port = net.port.to_string();
    let mut run =
        probe(&place, &["keep", "a.test", &port, "1"]).stdin(std::process::Stdio::piped()).start();
    let to = run.child.stdin.take();
    run.wait_for_line("ready");
    within(PATIENCE, "the first connection is made", || net.connections() == 1);
    let gateway = gateway_of(run.pid()).expect("there is a gateway");
    let soft = |limit: &str| {
        let mut command = Command::new("prlimit");
        command.args(["--pid", &gateway.to_string(), &format!("--nofile={limit}:")]);
        command.status().is_ok_and(|it| it.success())
    };
    // Below what it has open.
    if !crate::harness::has_by_chance("prlimit", soft("8")) {
        run.signal(Signal::SIGTERM);
        return drop(run.end(&place));
    }
    drop(to);
    // The second connection waits; the first has been given back.
    within(PATIENCE, "the first connection ends", || net.open() == 0);
    let asked = net.connections();
    assert!(soft("1024"));
    let ended = run.end(&place).exited(0);
    assert!(ended.text().contains(BODY), "{}", ended.text());
    assert_eq!(asked, 0, "somebody was called without a descriptor");
    assert_eq!(ended.outcome().denials, []);
}
