//! The network of a run is its own: nothing of the host is in it, and nobody comes in.

use std::fs;
use std::net::TcpStream;

use nix::sys::signal::Signal;

use crate::harness::{Place, Run};

/// A port that a run may take because nobody else's ports are in its network.
const PORT: &str = "47113";

fn show<'a>(place: &'a Place, path: &str) -> Run<'a> {
    let list = format!("v:cat|{path}");
    place.rung(3).probe(&["do", "execve", "s:/bin/cat", &list, "0"])
}

#[test]
fn a_test_can_talk_to_a_server_of_its_own() {
    let place = Place::new();
    let address = format!("in:127.0.0.1:{PORT}");
    let steps = format!(
        "do socket 2 1 0 , bind %1 {address} , listen %1 1 , socket 2 1 0 , connect %4 {address}"
    );
    let words: Vec<&str> = steps.split(' ').collect();
    place.rung(3).probe(&words).end().exited(0).recorded();
    for level in [1, 2] {
        let ended = place.rung(level).probe(&words).end();
        assert_eq!(ended.code(), libc::EAFNOSUPPORT, "level {level}: {}", ended.err);
    }
}

#[test]
fn nobody_outside_reaches_a_server_inside_and_two_runs_share_no_port() {
    let place = Place::new();
    let path = format!("s:{}", place.probe.display());
    let steps = format!(
        "do socket 2 1 0 , bind %1 in:0.0.0.0:{PORT} , listen %1 1 , execve {path} v:probe|--|wait 0"
    );
    let words: Vec<&str> = steps.split(' ').collect();
    let mut runs = [place.rung(3).probe(&words).start(), place.rung(3).probe(&words).start()];
    for run in &mut runs {
        run.wait_for_line("ready");
    }
    let port: u16 = PORT.parse().unwrap();
    let refused = TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ECONNREFUSED));
    for run in runs {
        run.signal(Signal::SIGTERM);
        assert_eq!(run.end(&place).code(), 128 + 15);
    }
}

#[test]
fn the_hosts_sockets_and_interfaces_are_not_listed() {
    let place = Place::new();
    let name = place.fill_in("{abstract}");
    assert!(fs::read_to_string("/proc/net/unix").unwrap().contains(&name), "no control");
    let inside = show(&place, "/proc/net/unix").end().exited(0).text();
    assert!(!inside.contains(&name) && !inside.contains("rung-test"), "{inside}");
    let ports = show(&place, "/proc/net/tcp").end().exited(0).text();
    assert_eq!(ports.lines().count(), 1, "{ports}");
    let interfaces = show(&place, "/proc/net/dev").end().exited(0).text();
    let names: Vec<&str> =
        interfaces.lines().skip(2).filter_map(|it| it.split(':').next()).collect();
    assert_eq!(names.iter().map(|it| it.trim()).collect::<Vec<_>>(), ["lo"]);
}

#[test]
fn the_hosts_routes_and_resolver_lead_nowhere() {
    let place = Place::new();
    let routes = show(&place, "/proc/net/route").end().exited(0).text();
    assert!(routes.lines().count() <= 1, "{routes}");
}
