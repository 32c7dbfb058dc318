//! Credentials: what the server gets, and what the sandbox, its files and the ledger do not.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::denied;
use super::network::{Net, Says, V4};
use super::secure::Secure;
use super::tls::run;
use crate::harness::{Ended, Place, has_by_chance, put};

/// In `OUTSIDE`, where whoever starts rung has it.
pub(super) const SECRET: &str = "s3cr3t-of-the-test-0123456789";

/// `r.test` is lent a credential for reading; `i.test` is read, `o.test` is not.
pub(super) fn place(net: &Net, server: &Secure, source: &str) -> Place {
    let port = server.port;
    net.name("i.test", Says::Addresses(vec![V4]));
    let place = super::tls::place(
        net,
        server,
        &format!(
            "[[network.destination]]\nhost = \"i.test\"\nports = [{port}]\nmethods = [\"GET\"]\n\
             address = [\"127.0.0.0/8\"]\nbecause = \"another\"\n\
             [[credential]]\nname = \"telemetry\"\nhost = \"r.test\"\nmethods = [\"GET\"]\n\
             header = \"Authorization\"\nformat = \"Bearer {{}}\"\nsource = {{ {source} }}\n\
             variable = \"TELEMETRY_TOKEN\"\ndecoy = [\"netrc\", \"npmrc\"]\n\
             because = \"reading telemetry\"\n"
        ),
    );
    put(&place.home.join("token"), &format!("{SECRET}\n"));
    fs::set_permissions(place.home.join("token"), fs::Permissions::from_mode(0o600)).unwrap();
    place
}

/// Asks with the words of the code `say`, which has `url`, `token` and `get(url, **headers)`.
pub(super) fn python(place: &Place, server: &Secure, name: &str, say: &str) -> Option<Ended> {
    let code = format!(
        "import os, sys, glob, base64, urllib.request as u\n\
         url = 'https://{name}:{}'\n\
         token = os.environ['TELEMETRY_TOKEN']\n\
         def get(path='/echo', method='GET', **headers):\n\
         \x20 q = u.Request(url + path, method=method, headers=headers)\n\
         \x20 try:\n\
         \x20   a = u.urlopen(q)\n\
         \x20   print(a.headers.get('x-echo'), a.read().decode())\n\
         \x20 except Exception as e: print(e, getattr(e, 'read', bytes)().decode())\n{say}",
        server.port
    );
    run(place, "/usr/bin/python3", &["-c", &code])
}

/// No file below this has these bytes in it.
#[track_caller]
fn nowhere(directory: &Path, secret: &str) {
    let mut left = vec![directory.to_owned()];
    let mut files = 0;
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                left.push(entry.path());
            } else if entry.file_type().unwrap().is_file() {
                files += 1;
                let bytes = fs::read(entry.path()).unwrap();
                let found = bytes.windows(secret.len()).any(|it| it == secret.as_bytes());
                assert!(!found, "{}", entry.path().display());
            }
        }
    }
    assert!(files > 0, "nothing was searched");
}

fn leases(ended: &Ended) -> Vec<String> {
    let all = ended.records.iter().filter(|it| it["kind"] == "credential");
    all.map(|it| format!("{} {}", it["event"].as_str().unwrap(), it["count"])).collect()
}

#[test]
pub(super) fn the_server_gets_the_secret_and_the_run_does_not() {
    let net = Net::new();
    let server = Secure::new(&["r.test", "o.test", "i.test"]);
    for source in ["file = \"~/token\"", "variable = \"OUTSIDE\"", "command = [\"cat\", \"{}\"]"] {
        let place = place(&net, &server, source);
        let token = place.home.join("token");
        let level = place.home.join(".config/rung/level-3.toml");
        let text = fs::read_to_string(&level).unwrap();
        put(&level, &text.replace("\"{}\"]", &format!("\"{}\"]", token.display())));
        let say = "get(Authorization='Bearer ' + token)\n\
            basic = base64.b64encode(('rung:' + token).encode()).decode()\n\
            get(Authorization='Basic ' + basic)\n\
            for it in glob.glob('/proc/[0-9]*/environ') + glob.glob('/proc/[0-9]*/cmdline') + \
            [os.path.expanduser('~/.netrc'), os.path.expanduser('~/.npmrc')] + glob.glob('/tmp/**', \
            recursive=True) + glob.glob('/run/*'):\n\
            \x20 try: print(it, open(it, errors='replace').read()[:4000])\n\
            \x20 except Exception as e: print(e)";
        let Some(ended) = python(&place, &server, "r.test", say) else { return };
        let ended = ended.exited(0);
        let requests = server.requests();
        let got = |value: &str| requests.iter().any(|it| it.contains(value));
        assert_eq!(requests.len(), 2, "{}", ended.text());
        assert!(got(&format!("authorization: Bearer {SECRET}\n")), "{requests:?}");
        assert!(got("authorization: Basic cnVuZzpzM2NyM3Q"), "{requests:?}");
        assert!(got("accept-encoding: identity\n"), "{requests:?}");
        let seen = ended.text();
        assert!(seen.contains("Bearer ****") && seen.contains("Basic ****"), "{seen}");
        assert!(!seen.contains(SECRET) && !seen.contains("cnVuZzpzM2NyM3Q"), "{seen}");
        assert!(seen.contains("machine r.test login rung password rung-credential-"), "{seen}");
        assert!(seen.contains("/:_authToken=rung-credential-"), "{seen}");
        assert_eq!(leases(&ended), ["issued 1", "used 2", "expired 1"]);
        assert!(!format!("{:?} {}", ended.records, ended.err).contains(SECRET));
        assert!(!serde_json::to_string(ended.outcome()).unwrap().contains(SECRET));
        nowhere(&place.state(), SECRET);
        nowhere(&place.workspace, SECRET);
    }
}

#[test]
pub(super) fn a_placeholder_is_worth_nothing_anywhere_else() {
    let net = Net::new();
    let server = Secure::new(&["r.test", "o.test", "i.test"]);
    let place = place(&net, &server, "file = \"~/token\"");
    for (name, say, says) in [
        ("i.test", "get(Authorization='Bearer ' + token)", "it is lent to `r.test` alone"),
        ("i.test", "get('/?x=' + token)", "it is lent to `r.test` alone"),
        ("r.test", "get(method='HEAD', Authorization='Bearer ' + token)", "it is lent for GET"),
        ("r.test", "get(Other='Bearer ' + token)", "and nowhere else"),
        ("r.test", "get('/' + token)", "and nowhere else"),
    ] {
        let Some(ended) = python(&place, &server, name, say) else { return };
        let method = if say.contains("HEAD") { "HEAD" } else { "GET" };
        denied(&ended, &format!("{method} {name}:{}", server.port), says);
        assert_eq!(server.requests(), Vec::<String>::new(), "{say}");
        assert_eq!(ended.denial().rule, "credential");
        assert_eq!(leases(&ended), ["issued 1", "refused 1", "expired 1"]);
    }
    let ended = python(&place, &server, "o.test", "get(Authorization='Bearer ' + token)").unwrap();
    let [request] = server.requests().try_into().unwrap();
    assert!(request.contains("Bearer rung-credential-"), "what is not read gets the placeholder");
    assert!(!request.contains(SECRET));
    assert_eq!(leases(&ended), ["issued 1", "expired 1"]);
    python(&place, &server, "r.test", "get(Authorization='Bearer ' + token)").unwrap();
    assert!(server.requests().concat().contains(SECRET), "the control");
}

#[test]
fn a_secret_that_cannot_be_had_is_a_run_that_does_not_start() {
    let net = Net::new();
    let server = Secure::new(&["r.test"]);
    let place = place(&net, &server, "file = \"~/token\"");
    let token = place.home.join("token");
    let fails = |says: &str| {
        let Some(ended) = python(&place, &server, "r.test", "get()") else { return };
        assert!(ended.err.contains(says), "{}", ended.err);
        assert_eq!(server.requests(), Vec::<String>::new());
    };
    fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
    fails("nobody else may read");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    put(&token, "short");
    fails("it has 5 bytes");
    put(&token, "two lines\nof a secret");
    fails("no header can carry");
    fs::remove_file(&token).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &token).unwrap();
    fails("cannot be lent");
}

/// A key of the kernel's keyring of this user, for as long as the test takes.
struct Key<'a> {
    place: &'a Place,
    name: String,
}

impl<'a> Key<'a> {
    /// `None` where there are no keyrings to be had.
    fn new(place: &'a Place) -> Option<Self> {
        let name = format!("rung-test-{}", place.root().file_name()?.to_str()?);
        let (description, secret) = (format!("s:{name}"), format!("s:{SECRET}"));
        let length = SECRET.len().to_string();
        let words = ["do", "add_key", "s:user", &description, &secret, &length, "-4"];
        let added = place.outside_probe(&words).end().code() == 0;
        has_by_chance("a keyring of the kernel", added).then_some(Self { place, name })
    }
}

impl Drop for Key<'_> {
    fn drop(&mut self) {
        let steps =
            format!("do keyctl 8 -4 -2 , keyctl 10 -4 s:user s:{} 0 , keyctl 9 %2 -4", self.name);
        let words: Vec<&str> = steps.split(' ').collect();
        assert_eq!(self.place.outside_probe(&words).end().code(), 0, "the key stays behind");
    }
}

#[test]
fn a_key_of_the_kernel_is_lent_like_a_file() {
    let net = Net::new();
    let server = Secure::new(&["r.test"]);
    let names = Place::new();
    let Some(key) = Key::new(&names) else { return };
    let place = place(&net, &server, &format!("key = \"{}\"", key.name));
    let say = "get(Authorization='Bearer ' + token)";
    let Some(ended) = python(&place, &server, "r.test", say) else { return };
    assert!(server.requests().concat().contains(SECRET), "{}", ended.text());
    assert!(ended.exited(0).text().contains("Bearer ****"));
    // Inside there is no keyring at all.
    let steps = format!("do keyctl 10 -4 s:user s:{} 0", key.name);
    let words: Vec<&str> = steps.split(' ').collect();
    assert_ne!(super::probe(&place, &words).end().code(), 0);
    drop(key);
    let ended = python(&place, &server, "r.test", say).unwrap();
    assert_eq!(ended.code(), 125);
    assert!(
        ended.err.contains("cannot be read") && ended.err.contains("keyctl padd"),
        "{}",
        ended.err
    );
    assert_eq!(server.requests(), Vec::<String>::new());
}

/// The real program, told nothing: it finds its cluster and its token in the usual file.
#[test]
fn kubectl_finds_its_cluster_and_the_server_gets_the_secret() {
    let net = Net::new();
    let server = Secure::new(&["r.test"]);
    let place = place(&net, &server, "file = \"~/token\"");
    let level = place.home.join(".config/rung/level-3.toml");
    let text = fs::read_to_string(&level).unwrap();
    put(&level, &text.replace("\"npmrc\"]", "\"kubeconfig\", \"gh-hosts\"]"));
    let Some(ended) = run(&place, "/usr/bin/kubectl", &["get", "--raw", "/echo"]) else { return };
    assert!(ended.text().contains("Bearer ****"), "{} {}", ended.text(), ended.err);
    let requests = server.requests();
    assert!(requests.iter().any(|it| it.starts_with("h2 GET /echo\n")), "{requests:?}");
    let secret = format!("authorization: Bearer {SECRET}\n");
    assert!(requests.iter().all(|it| it.contains(&secret)), "{requests:?}");
    let code = "import os; print(open(os.path.expanduser('~/.config/gh/hosts.yml')).read())";
    let Some(read) = run(&place, "/usr/bin/python3", &["-c", code]) else { return };
    let read = read.exited(0).text();
    assert!(read.contains("oauth_token: \"rung-credential-"), "{read}");
}
