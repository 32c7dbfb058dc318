//! A host that cannot make the way out as it is meant to be, and a gateway that is gone too early:
//! either nothing runs, or what is lost is named and nothing more can be reached.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use super::network::{BODY, Net, Says, V4, probe};
use super::{NO_NAME, REFUSED, RESET, denied, gateway_of};
use crate::harness::{Place, Run, within};

/// The same command, where a filter refuses a second network namespace, as a container's may.
fn damaged<'a>(place: &'a Place, words: &[&str]) -> Run<'a> {
    let wrapper = place.probe.to_str().unwrap().to_owned();
    probe(place, words).started_by(&[&wrapper, "--", "caller", "has-no-second-network"])
}

/// Whether the place's level 3 runs although the host cannot keep everything.
fn on_gap(place: &Place, what: &str) {
    let level = place.home.join(".config/rung/level-3.toml");
    let text = std::fs::read_to_string(level).unwrap();
    place
        .set_profile(3, &text.replace("level = 3\n", &format!("level = 3\non_gap = \"{what}\"\n")));
}

#[test]
fn without_a_second_network_a_run_with_destinations_does_not_start() {
    let net = Net::new();
    let place = net.place("");
    on_gap(&place, "refuse");
    let port = net.port.to_string();
    let ended = damaged(&place, &["fetch", "a.test", &port]).end();
    let ended = ended.failed("second network, by veth: the way out lies");
    assert!(ended.err.contains("a seccomp filter around rung refuses it"), "{}", ended.err);
    assert!(ended.err.contains("or list no destination"), "{}", ended.err);
    assert_eq!((ended.text().as_str(), net.connections()), ("", 0));
    probe(&place, &["fetch", "a.test", &port]).end().exited(0);
    // What was found before is remembered; then the launch itself finds out.
    let late = damaged(&place, &["fetch", "a.test", &port]).end();
    let late = late.failed("making the way out (`rung doctor` tries what it needs) failed: EPERM");
    assert_eq!((late.text().as_str(), net.connections()), ("", 1));
    // What needs no way out runs there as everywhere.
    let plain = Place::new();
    on_gap(&plain, "refuse");
    damaged(&plain, &["exit", "7"]).end().exited(7);
}

/// What may be reached is decided by the gateway, wherever its listeners are.
#[test]
fn where_the_profile_accepts_it_the_way_out_lies_within_and_leads_nowhere_else() {
    let net = Net::new();
    let port = net.port;
    let place = net.place(&format!(
        "[[network.destination]]\nhost = \"127.0.0.0/8\"\nports = [{port}]\nbecause = \"even so\"\n\
         [[network.destination]]\nhost = \"r.test\"\nports = [\"{}-{}\"]\n\
         address = [\"127.0.0.0/8\"]\nbecause = \"any of them\"\n",
        net.sink, net.sink
    ));
    on_gap(&place, "allow");
    net.name("b.test", Says::Addresses(vec![V4]));
    let port = port.to_string();
    for family in ["", "4", "6"] {
        let ended = damaged(&place, &["fetch", "a.test", &port, "a.test", family]).end().exited(0);
        assert_eq!(ended.text().trim(), BODY, "{family}");
        let outcome = ended.outcome();
        assert_eq!(outcome.denials, []);
        let gap = outcome.gaps.iter().find(|it| it.contains("second network"));
        assert!(gap.is_some_and(|it| it.contains("run's own network namespace")), "{gap:?}");
        let decision = ended.records.iter().find(|it| it["kind"] == "decision").unwrap();
        assert!(decision["gaps"].to_string().contains("second network"), "{decision}");
    }
    assert_eq!(net.connections(), 3, "the control");
    net.questions();
    let unlisted = "no destination of the profile means it";
    let refused = |words: &[&str], code: i32, object: &str, says: &str| {
        let ended = damaged(&place, words).end();
        assert_eq!(ended.code(), code, "{words:?}: {}", ended.err);
        denied(&ended, object, says);
    };
    refused(&["fetch", "b.test", &port], NO_NAME, "b.test", unlisted);
    refused(&["fetch", "a.test", "4", "a.test", "4"], REFUSED, "a.test:4", "but not this port");
    for address in ["192.0.2.1", "169.254.169.254", "2001:db8::1", "fd00:ec2::254"] {
        refused(&["fetch", address, "4"], REFUSED, &format!("{address}:4"), unlisted);
        // The port is open, for what is listed; the gateway sees what this is.
        refused(&["fetch", address, &port], REFUSED, &format!("{address}:{port}"), unlisted);
    }
    refused(&["datagram", "192.0.2.1", "443"], REFUSED, "192.0.2.1:443/udp", unlisted);
    // The host's loopback is not the run's, even for who lists it by address.
    for address in ["127.0.0.1", "127.9.9.9", "::1", "0.0.0.0", "198.18.0.2", "fd00:5a::2"] {
        let ended = damaged(&place, &["fetch", address, &port]).end();
        assert_eq!(ended.code(), RESET, "{address}");
    }
    assert_eq!((net.connections(), net.questions().len()), (0, 0));
    let ended = damaged(&place, &["upload", "r.test", &net.sink.to_string(), "5"]).end();
    net.name("r.test", Says::Addresses(vec![V4]));
    assert_ne!(ended.code(), 0, "nobody is called that yet");
    damaged(&place, &["upload", "r.test", &net.sink.to_string(), "5"]).end().exited(0);
    assert_eq!(net.received(), 5);
}

/// The price that the gap names.
#[test]
fn within_a_run_cannot_serve_at_a_listed_port() {
    let net = Net::new();
    let (place, usual) = (net.place(""), net.place(""));
    on_gap(&place, "allow");
    let serve = |port: u16| {
        let steps = format!("do socket 2 1 0 , bind %1 in:127.0.0.1:{port} , listen %1 1");
        let words: Vec<&str> = steps.split(' ').collect();
        probe(&usual, &words).end().exited(0);
        damaged(&place, &words).end().code()
    };
    assert_eq!(serve(net.port), libc::EADDRINUSE);
    assert_eq!(serve(net.port.wrapping_add(1).max(1024)), 0, "another port is free");
}

/// Whenever the gateway is killed: what ran had no network from then on, and it is said.
#[test]
fn a_gateway_that_is_killed_early_leaves_no_way_out() {
    const ROUNDS: u64 = 24;
    const STEP: Duration = Duration::from_micros(400);
    let net = Net::new();
    let place = net.place("");
    let port = net.port.to_string();
    let (mut not_started, mut cut, mut too_late) = (0, 0, 0);
    for round in 0..ROUNDS {
        let run = probe(&place, &["fetch", "a.test", &port]).start();
        let supervisor = run.pid();
        let mut gateway = None;
        within(Duration::from_secs(10), "there is a gateway", || {
            gateway = gateway_of(supervisor);
            gateway.is_some()
        });
        let moment = std::time::Instant::now() + STEP * u32::try_from(round).unwrap();
        within(Duration::from_secs(10), "it is time", || std::time::Instant::now() >= moment);
        // It may have ended by itself meanwhile, and the number is not given away before its
        // supervisor has waited for it.
        _ = kill(gateway.unwrap(), Signal::SIGKILL);
        let ended = run.end(&place);
        let served = net.connections();
        match ended.code() {
            0 if ended.text().trim() == BODY => too_late += 1,
            125 => {
                assert!(
                    ended.err.contains("gateway") || ended.err.contains("way out"),
                    "{}",
                    ended.err
                );
                assert!(!ended.kinds().contains(&"exec.start"), "{:?}", ended.kinds());
                assert_eq!((ended.text().as_str(), served), ("", 0));
                not_started += 1;
            }
            // Also an end without an error: to a client, a connection that is cut may look finished.
            _ => {
                assert!(!ended.text().contains(BODY));
                let lost = ended.outcome().denials.iter().any(|it| it.rule == "network.gateway");
                assert!(lost, "{:?} {}", ended.outcome().denials, ended.err);
                ended.recorded();
                cut += 1;
            }
        }
    }
    println!("killed early: {not_started} not started, {cut} cut off, {too_late} had finished");
    assert!(not_started > 0, "none was early enough");
}

/// What doctor says of the way out: state by promise, and its text.
fn diagnosed(place: &Place, around: &[&str]) -> (Vec<(String, String)>, serde_json::Value, String) {
    let ask = |words: &[&str]| {
        let run = place.rung_with(words);
        let run = if around.is_empty() { run } else { run.started_by(around) };
        run.end()
    };
    let told = ask(&["doctor", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&told.out)
        .unwrap_or_else(|error| panic!("{error}: {} {}", told.text(), told.err));
    let promises = json["way_out"].as_array().unwrap().iter();
    let text = |it: &serde_json::Value| it.as_str().unwrap().to_owned();
    let states = promises.map(|it| (text(&it["promise"]), text(&it["state"]))).collect();
    (states, json, ask(&["doctor"]).text())
}

#[test]
fn doctor_proves_the_way_out_by_a_connection_of_its_own() {
    let place = Place::new();
    let (states, json, text) = diagnosed(&place, &[]);
    assert_eq!(states.len(), 5, "{json}");
    assert!(states.iter().all(|it| it.1 == "kept"), "{states:?} {json}");
    assert!(text.contains("The way out of a run, by a connection made just now\n"), "{text}");
    assert!(text.contains("\n  kept      a listed host is reached by its name\n"), "{text}");
    assert!(!place.state().exists(), "looking made the state directory");
    // Where the second namespace is refused, the connection is made without it, and that is told.
    let wrapper = place.probe.to_str().unwrap().to_owned();
    let around = [&wrapper, "--", "caller", "has-no-second-network"];
    let (states, json, text) = diagnosed(&place, &around);
    let lost: Vec<_> = states.iter().filter(|it| it.1 != "kept").collect();
    let [(promise, _)] = lost.as_slice() else { panic!("{states:?} {json}") };
    assert_eq!(promise, "the way out lies in a network namespace that nobody is in");
    assert!(text.contains("a seccomp filter around rung refuses it"), "{text}");
    let router =
        json["mechanisms"].as_array().unwrap().iter().find(|it| it["mechanism"] == "router");
    assert_eq!(router.unwrap()["probe"]["fails"]["cause"], "outer-filter", "{json}");
    // A machine whose loopback is down has nobody to connect to; what is kept from it still is.
    let (states, json, text) = diagnosed(&place, &["unshare", "-Urn"]);
    let lost: Vec<&str> =
        states.iter().filter(|it| it.1 != "kept").map(|it| it.0.as_str()).collect();
    let named = ["a listed host is reached by its name", "what goes out and comes in is counted"];
    assert_eq!(lost, named, "{json}");
    assert!(json["way_out"][1]["fix"].as_str().unwrap().contains("its own loopback"), "{json}");
    assert!(text.contains("the server was not reached"), "{text}");
}
