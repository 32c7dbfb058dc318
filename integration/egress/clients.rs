//! The usual clients by their usual names, under the rules as they are shipped.
//!
//! Nobody tells them of a proxy or of an authority. One host is listed for the clear and one for TLS;
//! each client reaches it over both families as far as it lets itself be told which, and fails at
//! once at another name and at another port. The control of both is the same client at the same
//! server.

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, Instant};

use super::network::{BODY, Net};
use super::shop::{Shop, make};
use super::{denied, fs};
use crate::harness::{Ended, Place, has_by_chance, requires};

/// From the start of a client to its end, where it is refused: all of it is the client's own.
const QUICKLY: Duration = Duration::from_secs(20);

/// Where a client is sent.
#[derive(Clone, Copy)]
struct To<'a> {
    /// `http://host:port`
    base: &'a str,
    family: &'a str,
}

type Words<'a> = &'a dyn Fn(To<'_>) -> Vec<String>;

struct Client<'a> {
    name: &'a str,
    /// `s.test` and not `a.test`.
    tls: bool,
    /// Those that choose themselves have one that says nothing.
    families: &'a [&'a str],
    words: Words<'a>,
    /// Whether it has got what it wanted.
    has: &'a dyn Fn(&Shop, &Ended, &str) -> bool,
}

const BOTH: &[&str] = &["4", "6"];

fn words(all: &[&str]) -> Vec<String> {
    all.iter().map(|it| (*it).to_owned()).collect()
}

fn run(shop: &Shop, words: &[impl AsRef<OsStr>]) -> Ended {
    shop.place.rung(3).words(words).end()
}

/// The three rows of one client.
fn check(shop: &Shop, client: &Client<'_>) {
    let Client { name, tls, families, words, has } = client;
    let (host, scheme, port) = match tls {
        false => ("a.test", "http", shop.net.port),
        true => ("s.test", "https", shop.server.port),
    };
    let to = |host: &str, port: u16, family: &str| {
        words(To { base: &format!("{scheme}://{host}:{port}"), family })
    };
    for family in *families {
        let ended = run(shop, &to(host, port, family));
        assert_eq!(ended.code(), 0, "{name}{family}: {} {}", ended.text(), ended.err);
        assert!(has(shop, &ended, family), "{name}{family}: {}", ended.text());
        assert_eq!(ended.outcome().denials, [], "{name}{family}");
        let traffic = &ended.outcome().network;
        assert!(traffic.iter().any(|it| it.destination == host && it.connections.0 > 0));
        assert!(shop.asked() > 0, "{name}{family} asked nobody");
        ended.recorded();
    }
    drop(shop.net.questions());
    let family = families[0];
    let started = Instant::now();
    let ended = run(shop, &to("b.test", port, family));
    let at_the_name = started.elapsed();
    assert_ne!(ended.code(), 0, "{name}: {}", ended.text());
    denied(&ended, "b.test", "no destination of the profile means it");
    denied(&ended, "b.test", "` asked for names");
    assert_eq!(shop.net.questions(), Vec::<String>::new(), "{name}: the name was asked for");
    let started = Instant::now();
    let ended = run(shop, &to(host, 4, family));
    let at_the_port = started.elapsed();
    assert_ne!(ended.code(), 0, "{name}: {}", ended.text());
    denied(&ended, &format!("{host}:4"), "but not this port");
    let mut connects = ended.records.iter().filter(|it| it["kind"] == "connect");
    let record = connects.next().unwrap_or_else(|| panic!("{name}: no record of who it was"));
    assert!(record["program"].as_str().unwrap().starts_with('/'), "{record}");
    assert_eq!(shop.asked(), 0, "{name} came to the server");
    assert!(at_the_name.max(at_the_port) < QUICKLY, "{at_the_name:?} {at_the_port:?}");
    println!(
        "{name}: reached{}; b.test refused in {at_the_name:.1?}; {host}:4 in \
         {at_the_port:.1?}, to {}",
        if families == &BOTH { " over 4 and 6" } else { "" },
        record["program"].as_str().unwrap()
    );
}

fn is_there(program: &str) -> bool {
    has_by_chance(program, Path::new(program).exists())
}

fn says_hello(_: &Shop, ended: &Ended, _: &str) -> bool {
    ended.text().contains(BODY)
}

#[test]
fn curl_fetches_from_a_listed_host() {
    if !is_there("/usr/bin/curl") {
        return;
    }
    check(&Shop::new(""), &CURL);
}

const CURL: Client<'_> = Client {
    name: "curl",
    tls: false,
    families: BOTH,
    words: &|to| {
        words(&["curl", "-sSf", &format!("-{}", to.family), &format!("{}/hello", to.base)])
    },
    has: &says_hello,
};

fn clone_words(to: To<'_>, into: &str) -> Vec<String> {
    let url = format!("{}/repo.git", to.base);
    words(&["git", "clone", "-q", &format!("-{}", to.family), &url, into])
}

#[test]
fn git_clones_and_fetches_from_a_listed_host_in_the_clear_and_over_tls() {
    if !requires("git", make::git(Path::new("/"), &["--version"])) {
        return;
    }
    let shop = Shop::new("");
    // The next one has to fetch it again.
    let got = |shop: &Shop, directory: String| {
        let directory = shop.place.workspace.join(directory);
        let same = fs::read_to_string(directory.join("hello")).is_ok_and(|it| it == BODY);
        same && fs::remove_dir_all(directory).is_ok()
    };
    check(
        &shop,
        &Client {
            name: "git clone, http",
            tls: false,
            families: BOTH,
            words: &|to| clone_words(to, &format!("clear{}", to.family)),
            has: &|shop, _, family| got(shop, format!("clear{family}")),
        },
    );
    check(
        &shop,
        &Client {
            name: "git clone, https",
            tls: true,
            families: BOTH,
            words: &|to| clone_words(to, &format!("secure{}", to.family)),
            has: &|shop, _, family| got(shop, format!("secure{family}")),
        },
    );
    check(
        &shop,
        &Client {
            name: "git fetch",
            tls: false,
            families: BOTH,
            words: &|to| {
                let family = format!("-{}", to.family);
                words(&["git", "fetch", "-q", &family, &format!("{}/repo.git", to.base), "main"])
            },
            has: &|shop, _, _| {
                let head = shop.place.workspace.join(".git/FETCH_HEAD");
                let head = fs::read_to_string(head).unwrap_or_default();
                head.contains("branch 'main'")
            },
        },
    );
    for refused in [
        "git clone -u ./x http://a.test/repo.git",
        "git clone --recurse-submodules http://a.test/repo.git",
        "git push http://a.test/repo.git",
    ] {
        let ended = run(&shop, &refused.split(' ').collect::<Vec<_>>());
        assert_eq!(ended.code(), 126, "{refused}: {}", ended.err);
    }
    let offline = Place::new();
    let ended = offline.rung(3).words(&["git", "clone", "-q", "http://a.test/repo.git"]).end();
    assert_eq!((ended.code(), ended.denial().rule.as_str()), (126, "git.clone"));
}

#[test]
fn node_and_npm_fetch_from_a_listed_host() {
    if !is_there("/usr/bin/node") {
        return;
    }
    let shop = Shop::new("");
    check(&shop, &NODE);
    if !is_there("/usr/bin/npm") {
        return;
    }
    check(&shop, &NPM);
    let ended = run(&shop, &["npm", "install", "-g", "thing"]);
    assert_eq!(ended.code(), 126, "{}", ended.err);
    let offline = Place::new();
    let ended = offline.rung(3).words(&["npm", "install", "thing"]).end();
    assert_eq!((ended.code(), ended.denial().rule.as_str()), (126, "node.fetch.install"));
}

const NODE: Client<'_> = Client {
    name: "node fetch",
    tls: false,
    families: BOTH,
    words: &|to| words(&["node", "fetch.mjs", &format!("{}/hello", to.base), to.family]),
    has: &says_hello,
};

const NPM: Client<'_> = Client {
    name: "npm install",
    tls: false,
    families: &[""],
    words: &|to| {
        words(&["npm", "install", "--registry", &format!("{}/npm/", to.base), "thing@1.0.0"])
    },
    has: &|shop, _, _| {
        let installed = shop.place.workspace.join("node_modules/thing");
        let there = installed.join("package.json").exists();
        // The next one has to fetch it again.
        there && fs::remove_dir_all(installed.parent().unwrap()).is_ok()
    },
};

#[test]
fn python_and_pip_fetch_from_a_listed_host() {
    if !is_there("/usr/bin/python3") {
        return;
    }
    let shop = Shop::new("");
    check(&shop, &PYTHON);
    if !is_there("/usr/bin/pip3") {
        return;
    }
    check(&shop, &PIP);
    let ended = run(&shop, &["pip3", "install", "--trusted-host", "a.test", "thing"]);
    assert_eq!(ended.code(), 126, "{}", ended.err);
    let offline = Place::new();
    let ended = offline.rung(3).words(&["pip3", "install", "thing"]).end();
    assert_eq!((ended.code(), ended.denial().rule.as_str()), (126, "python.fetch.pip"));
}

const PYTHON: Client<'_> = Client {
    name: "python urllib",
    tls: false,
    families: BOTH,
    words: &|to| words(&["python3", "fetch.py", &format!("{}/hello", to.base), to.family]),
    has: &says_hello,
};

const PIP: Client<'_> = Client {
    name: "pip install, https",
    tls: true,
    families: &[""],
    words: &|to| {
        let index = format!("{}/simple", to.base);
        let options = ["-q", "--no-cache-dir", "--retries", "0", "--target", "third"];
        [words(&["pip3", "install"]), words(&options), words(&["-i", &index, "thing"])].concat()
    },
    has: &|shop, _, _| {
        let third = shop.place.workspace.join("third");
        third.join("thing.py").exists() && fs::remove_dir_all(third).is_ok()
    },
};

#[test]
fn static_programs_fetch_from_a_listed_host() {
    let shop = Shop::new("");
    for (program, name) in [("go-client", "static Go"), ("musl-client", "static musl")] {
        if !has_by_chance(name, make::program(program, &shop.place.workspace)) {
            continue;
        }
        check(
            &shop,
            &Client {
                name,
                tls: false,
                families: BOTH,
                words: &|to| {
                    words(&[&format!("./{program}"), &format!("{}/hello", to.base), to.family])
                },
                has: &says_hello,
            },
        );
    }
}

#[test]
fn java_fetches_from_a_listed_host() {
    if !is_there("/usr/bin/java") {
        return;
    }
    check(&Shop::new(make::JAVA_RULE), &JAVA);
}

const JAVA: Client<'_> = Client {
    name: "java URLConnection and HttpClient",
    tls: false,
    families: BOTH,
    words: &|to| words(&["java", "Main.java", &format!("{}/hello", to.base), to.family]),
    has: &|_, ended, _| ended.text().matches(BODY).count() == 2,
};

#[test]
fn cargo_fetches_from_a_listed_registry() {
    let Some((cargo, rule)) = make::cargo() else { return };
    let shop = Shop::new(&rule);
    check(&shop, &Client { words: &|to| cargo_words(&cargo, to), ..CARGO });
    let offline = Place::new();
    offline.set_profile(3, &offline.profile(3, &rule));
    let ended = offline.rung(3).words(&[&*cargo, "fetch"]).end();
    assert_eq!((ended.code(), ended.denial().rule.as_str()), (126, "rust.fetch.fetch"));
}

fn cargo_words(cargo: &str, to: To<'_>) -> Vec<String> {
    let registry = match to.base {
        it if it.ends_with("a.test:4") => "closed",
        it if it.contains("b.test") => "other",
        _ => "listed",
    };
    words(&[cargo, "-q", "fetch", "--manifest-path", &format!("{registry}/Cargo.toml")])
}

const CARGO: Client<'_> = Client {
    name: "cargo fetch",
    tls: false,
    families: &[""],
    words: &|_| Vec::new(),
    has: &|shop, _, _| {
        let lock = shop.place.workspace.join("listed/Cargo.lock");
        fs::read_to_string(lock).is_ok_and(|it| it.contains("checksum"))
    },
};

/// All of them beside each other.
#[test]
fn one_sandbox_holds_every_client() {
    let cargo = make::cargo();
    let rule = cargo.as_ref().map_or("", |it| &it.1);
    let shop = Shop::new(&format!("{rule}\n{}", make::JAVA_RULE));
    let git = Client {
        name: "git clone",
        tls: true,
        families: BOTH,
        words: &|to| clone_words(to, "repo"),
        has: &|_, _, _| true,
    };
    let program = |name: &'static str| {
        move |to: To<'_>| words(&[&format!("./{name}"), &format!("{}/hello", to.base), to.family])
    };
    let (go, musl) = (program("go-client"), program("musl-client"));
    let carry = |to: To<'_>| cargo_words(cargo.as_ref().map_or("", |it| &it.0), to);
    let all: [(bool, bool, Words<'_>); 10] = [
        (is_there("/usr/bin/curl"), CURL.tls, CURL.words),
        (requires("git", make::git(Path::new("/"), &["--version"])), git.tls, git.words),
        (is_there("/usr/bin/node"), NODE.tls, NODE.words),
        (is_there("/usr/bin/npm"), NPM.tls, NPM.words),
        (is_there("/usr/bin/python3"), PYTHON.tls, PYTHON.words),
        (is_there("/usr/bin/pip3"), PIP.tls, PIP.words),
        (is_there("/usr/bin/java"), JAVA.tls, JAVA.words),
        (make::program("go-client", &shop.place.workspace), false, &go),
        (make::program("musl-client", &shop.place.workspace), false, &musl),
        (cargo.is_some(), false, &carry),
    ];
    let clear = format!("http://a.test:{}", shop.net.port);
    let secure = format!("https://s.test:{}", shop.server.port);
    let to = |tls: bool| To { base: if tls { &secure } else { &clear }, family: "6" };
    let there = all.iter().filter(|it| it.0);
    let there: Vec<String> = there.map(|(_, tls, words)| words(to(*tls)).join(" ")).collect();
    let ended = run(&shop, &["sh", "-c", &there.join(" && ")]);
    assert_eq!(ended.code(), 0, "{} {}", ended.text(), ended.err);
    assert_eq!(ended.outcome().denials, []);
    println!("{} clients in one sandbox: {:?}", there.len(), ended.outcome().network);
}

/// What levels 1 to 3 refuse as long as no destination is listed.
#[test]
fn curl_and_wget_may_fetch_at_level_3_once_a_destination_is_listed() {
    for (program, options) in [("curl", vec!["-sSf"]), ("wget", vec!["-q", "-O", "got"])] {
        let path = format!("/usr/bin/{program}");
        if !has_by_chance(program, Path::new(&path).exists()) {
            continue;
        }
        let net = Net::new();
        let place = net.place("");
        let url = format!("http://a.test:{}/", net.port);
        let words = |url: &str| [vec![program], options.clone(), vec![url]].concat().join(" ");
        let run = |place: &Place, words: &str| {
            let words: Vec<&str> = words.split(' ').collect();
            place.rung(3).words(&words).end()
        };
        let ended = run(&place, &words(&url)).exited(0);
        let got = fs::read_to_string(place.workspace.join("got")).unwrap_or_default();
        assert!(ended.text().contains(BODY) || got == BODY, "{program}: {}", ended.err);
        assert_eq!(net.connections(), 1, "{program}");
        // The rule is about the program; where it leads is the list's to say.
        let ended = run(&place, &words("http://b.test/"));
        assert_ne!(ended.code(), 0);
        denied(&ended, "b.test", "no destination");
        let sends = if program == "curl" { "curl -d x" } else { "wget --post-data=x" };
        let ended = run(&place, &format!("{sends} {url}"));
        assert_eq!(ended.code(), 126, "{program}: {}", ended.err);
        let offline = Place::new();
        let ended = run(&offline, &words(&url));
        assert_eq!((ended.code(), ended.denial().rule.as_str()), (126, "transfer.offline"));
        assert_eq!(net.connections(), 0);
    }
}
