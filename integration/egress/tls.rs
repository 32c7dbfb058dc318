//! HTTPS to destinations that say with which methods they may be asked.
//!
//! The clients are the ordinary ones, and nobody tells them anything: they believe the run's own
//! authority, because the files and variables by which they find theirs say so. The control of a
//! refusal is the same act on a name that may be asked anything, at the same server.

use std::fs;
use std::net::TcpListener;

use super::network::{BODY, Net, Says, V4, V6, probe};
use super::secure::Secure;
use super::{allow_client, denied};
use crate::harness::{Ended, Place, has_by_chance, requires};

/// A place where `r.test` can only be read, and `o.test` be asked anything.
pub(super) fn place(net: &Net, server: &Secure, more: &str) -> Place {
    let port = server.port;
    for name in ["r.test", "o.test"] {
        net.name(name, Says::Addresses(vec![V4]));
    }
    let place = net.place(&format!(
        "[[network.destination]]\nhost = \"r.test\"\nports = [{port}]\n\
         methods = [\"GET\", \"HEAD\"]\naddress = [\"127.0.0.0/8\"]\nbecause = \"reading only\"\n\
         [[network.destination]]\nhost = \"o.test\"\nports = [{port}]\n\
         address = [\"127.0.0.0/8\"]\nbecause = \"anything\"\n{more}"
    ));
    server.trusted_by(&place);
    place
}

const PYTHON: &str = "import sys, urllib.request as u\n\
    try: print(u.urlopen(u.Request(sys.argv[1], method=sys.argv[2])).read().decode())\n\
    except Exception as e: print(e, getattr(e, 'read', bytes)().decode()); sys.exit(1)";
const NODE: &str = "fetch(process.argv[1], {method: process.argv[2]}).then(async it => \
    {console.log(await it.text()); process.exitCode = it.ok ? 0 : 1})";

/// Program, words before the address, words between it and the method.
const CLIENTS: [(&str, &[&str], &[&str]); 4] = [
    ("/usr/bin/curl", &["-sS", "--fail-with-body", "--http1.1"], &["-X"]),
    ("/usr/bin/curl", &["-sS", "--fail-with-body", "--http2"], &["-X"]),
    ("/usr/bin/python3", &["-c", PYTHON], &[]),
    ("/usr/bin/node", &["-e", NODE], &[]),
];

/// The client inside, with these words.
pub(super) fn run(place: &Place, program: &str, words: &[&str]) -> Option<Ended> {
    let found = allow_client(place, program);
    if !has_by_chance(program, found.is_some()) {
        return None;
    }
    let program = found?;
    let name = program.file_name()?.to_str()?;
    let path = format!("s:{}", program.display());
    let words = format!("v:{}", [&[name], words].concat().join("|"));
    let run = probe(place, &["do", "execve", &path, &words, "own:environment"]);
    Some(run.env("OUTSIDE", super::credential::SECRET).end())
}

#[test]
fn every_client_reads_over_tls_and_none_does_more() {
    let net = Net::new();
    let server = Secure::new(&["r.test", "o.test"]);
    for (program, before, between) in CLIENTS {
        let place = place(&net, &server, "");
        let ask = |name: &str, method: &str| {
            let url = format!("https://{name}:{}/x", server.port);
            run(&place, program, &[before, &[&*url], between, &[method]].concat())
        };
        let Some(ended) = ask("r.test", "GET") else { continue };
        let ended = ended.exited(0);
        assert!(ended.text().contains(BODY), "{program}: {}", ended.text());
        assert_eq!(ended.outcome().denials, []);
        let [request] = server.requests().try_into().unwrap();
        assert!(request.starts_with("h2 GET /x\n"), "the gateway prefers it: {request}");
        let traffic = &ended.outcome().network;
        assert!(traffic.iter().any(|it| it.destination == "r.test" && it.sent.0 > 0));

        let ended = ask("r.test", "POST").unwrap();
        assert!(ended.text().contains("may only be asked with GET, HEAD"), "{}", ended.text());
        denied(&ended, &format!("POST r.test:{}", server.port), "may only be asked");
        assert_eq!(server.requests(), Vec::<String>::new(), "{program}");

        let control = ask("o.test", "POST").unwrap().exited(0);
        assert!(control.text().contains(BODY), "{program}: {}", control.text());
        let [request] = server.requests().try_into().unwrap();
        assert!(request.contains(" POST /x\n"), "{request}");
    }
}

/// Both halves of the connection: from the client to its name's address, and on to the server.
#[test]
fn the_newer_protocol_is_read_over_tls_as_well() {
    let net = Net::new();
    let server = Secure::new(&["r6.test", "o6.test"]);
    for name in ["r6.test", "o6.test"] {
        net.name(name, Says::Addresses(vec![V6]));
    }
    let listed = |name: &str, more: &str| {
        format!(
            "[[network.destination]]\nhost = \"{name}\"\nports = [{}]\n{more}\
             address = [\"::1/128\"]\nbecause = \"only there\"\n",
            server.port
        )
    };
    let methods = "methods = [\"GET\", \"HEAD\"]\n";
    let place = net.place(&[listed("r6.test", methods), listed("o6.test", "")].concat());
    server.trusted_by(&place);
    if !requires("IPv6", TcpListener::bind("[::1]:0").is_ok()) {
        return;
    }
    let ask = |name: &str, method: &str| {
        let url = format!("https://{name}:{}/x", server.port);
        run(&place, "/usr/bin/curl", &["-6", "-sS", "--fail-with-body", "-X", method, &url])
    };
    let Some(ended) = ask("r6.test", "GET") else { return };
    let ended = ended.exited(0);
    assert!(ended.text().contains(BODY), "{}", ended.text());
    assert_eq!((ended.outcome().denials.len(), server.requests().len()), (0, 1));
    let ended = ask("r6.test", "POST").unwrap();
    denied(&ended, &format!("POST r6.test:{}", server.port), "may only be asked");
    assert_eq!(server.requests(), Vec::<String>::new());
    ask("o6.test", "POST").unwrap().exited(0);
    assert_eq!(server.requests().len(), 1, "the control");
}

#[test]
pub(super) fn no_trick_works_over_tls_either() {
    let net = Net::new();
    let server = Secure::new(&["r.test", "o.test"]);
    let place = place(&net, &server, "");
    for (protocol, header, says) in [
        ("--http1.1", "X-HTTP-Method-Override: DELETE", "names another method"),
        ("--http2", "X-HTTP-Method-Override: DELETE", "names another method"),
        ("--http1.1", "Upgrade: websocket", "in another protocol"),
        ("--http1.1", "Host: o.test", "asks for `o.test`"),
        ("--http2", "Host: o.test", "asks for `o.test`"),
        ("--http1.1", "Content-Length: 3", "no body"),
    ] {
        let url = |name: &str| format!("https://{name}:{}/", server.port);
        let words = |url: &str| {
            let words = ["-sS", "-m", "20", protocol, "-H", header, url];
            run(&place, "/usr/bin/curl", &words)
        };
        let Some(ended) = words(&url("r.test")) else { return };
        assert!(ended.text().contains(says), "{protocol} {header}: {} {}", ended.text(), ended.err);
        denied(&ended, &format!("GET r.test:{}", server.port), says);
        assert_eq!(server.requests(), Vec::<String>::new(), "{protocol} {header}");
        if !header.starts_with("Content") {
            words(&url("o.test"));
            assert_eq!(server.requests().len(), 1, "the control: {protocol} {header}");
        }
    }
}

/// Another name than the one that was connected to, and a server that is another.
#[test]
pub(super) fn both_ends_are_who_they_say() {
    let net = Net::new();
    let server = Secure::new(&["o.test"]);
    let place = place(&net, &server, "");
    let url = format!("https://r.test:{}/", server.port);
    let curl = |words: &[&str]| run(&place, "/usr/bin/curl", words);
    let Some(ended) = curl(&["-sS", &url]) else { return };
    assert!(ended.text().contains("does not prove that it is"), "{}", ended.text());
    denied(&ended, &format!("r.test:{}", server.port), "does not prove that it is `r.test`");
    let own = format!("https://o.test:{}/", server.port);
    curl(&["-sS", &own]).unwrap().exited(0);
    assert_eq!(server.requests().len(), 1, "the control");

    let port = server.port;
    let through = format!("b.test:{port}:r.test:{port}");
    let url = format!("https://b.test:{port}/");
    let ended = run(&place, "/usr/bin/curl", &["-sS", "--connect-to", &through, &url]).unwrap();
    denied(&ended, &format!("r.test:{port}"), "asks for `b.test`");
    let code = format!(
        "import socket, ssl\nto = socket.create_connection(('r.test', {port}))\n\
         ssl._create_unverified_context().wrap_socket(to)"
    );
    if let Some(ended) = run(&place, "/usr/bin/python3", &["-c", &code]) {
        denied(&ended, &format!("r.test:{port}"), "names no server");
    }

    let other = Secure::new(&["r.test"]);
    let mixed = super::tls::place(&net, &Secure { port: other.port, ..server }, "");
    let url = format!("https://r.test:{}/", other.port);
    let ended = run(&mixed, "/usr/bin/curl", &["-sS", &url]).unwrap();
    denied(&ended, &format!("r.test:{}", other.port), "does not prove");
    assert_eq!(other.requests(), Vec::<String>::new(), "an authority that nobody believes");
}

#[test]
fn the_authority_is_the_runs_own_and_its_key_is_nowhere() {
    let net = Net::new();
    let server = Secure::new(&["r.test", "o.test"]);
    let place = place(&net, &server, "");
    let read = |place: &Place| {
        let code = "import os, glob\n\
            print(open(os.environ['SSL_CERT_FILE']).read())\n\
            keys = [it for it in glob.glob('/run/*') + glob.glob('/etc/ssl/**', recursive=True) \
            if os.path.isfile(it) and os.access(it, os.R_OK) \
            and b'PRIVATE' + b' KEY' in open(it, 'rb').read()]\n\
            print('keys', keys, len(glob.glob('/proc/[0-9]*')))";
        run(place, "/usr/bin/python3", &["-c", code])
    };
    let Some(one) = read(&place) else { return };
    let (one, two) = (one.exited(0), read(&place).unwrap().exited(0));
    let certificates = |ended: &Ended| ended.text().matches("BEGIN CERTIFICATE").count();
    assert!(certificates(&one) >= 2, "the host's and its own");
    assert_eq!(certificates(&one), certificates(&two));
    assert_ne!(one.text(), two.text(), "another authority for another run");
    assert!(one.text().contains("keys []"), "{}", one.text());
    let told = one.outcome().notes.join("\n") + &format!("{:?}", one.records);
    assert!(!told.contains("PRIVATE KEY"));
    let host = fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").unwrap_or_default();
    let own = one.text();
    let last = own.split("-----BEGIN CERTIFICATE-----").last().unwrap();
    assert!(!host.contains(last.lines().nth(1).unwrap()), "nothing of it on the host");

    let plain = net.place("");
    let code = "import os; print(os.environ.get('SSL_CERT_FILE'), os.listdir('/run'))";
    let ended = run(&plain, "/usr/bin/python3", &["-c", code]).unwrap().exited(0);
    assert_eq!(ended.text().trim(), "None []", "where nothing is read there is no authority");
}
