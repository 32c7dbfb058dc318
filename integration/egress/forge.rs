//! A forge that speaks git's smart protocol: a run fetches from it, and pushes nothing to it.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use super::denied;
use super::network::{BODY, Net, Says, V4};
use super::shop::make;
use super::tls::run;
use crate::harness::{put, requires};

/// Git's own server behind HTTP, on the loopback interface.
struct Forge {
    port: u16,
    /// Method and target of each request.
    seen: Arc<Mutex<Vec<String>>>,
}

impl Forge {
    fn new(backend: PathBuf, repositories: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let all = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Some(request) = answer(stream, &backend, &repositories) {
                    all.lock().unwrap_or_else(PoisonError::into_inner).push(request);
                }
            }
        });
        Self { port, seen }
    }

    /// Since the last time.
    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One request by one process, as CGI has it (RFC 3875).
fn answer(mut stream: TcpStream, backend: &Path, repositories: &Path) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let request = head.lines().next()?.to_owned();
    let [method, target, _] = request.split(' ').collect::<Vec<_>>().try_into().ok()?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let header = |name: &str| {
        let mut lines = head.lines().filter_map(|it| it.split_once(": "));
        lines.find(|it| it.0.eq_ignore_ascii_case(name)).map_or("", |it| it.1)
    };
    let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
    stream.read_exact(&mut body).ok()?;
    let mut command = Command::new(backend);
    command.env_clear().env("GIT_PROJECT_ROOT", repositories).env("GIT_HTTP_EXPORT_ALL", "1");
    command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("REQUEST_METHOD", method);
    command.env("PATH_INFO", path).env("QUERY_STRING", query);
    command.env("CONTENT_TYPE", header("content-type"));
    command.env("CONTENT_LENGTH", body.len().to_string());
    command.env("HTTP_CONTENT_ENCODING", header("content-encoding"));
    command.env("GIT_PROTOCOL", header("git-protocol"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    // It may have ended without reading.
    drop(child.stdin.take()?.write_all(&body));
    let said = child.wait_with_output().ok()?.stdout;
    let end = said.windows(4).position(|it| it == b"\r\n\r\n")?;
    let headers = String::from_utf8_lossy(said.get(..end)?).into_owned();
    let status = headers.lines().find_map(|it| it.strip_prefix("Status: ")).unwrap_or("200 OK");
    let content = said.get(end + 4..)?;
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        content.len()
    );
    drop(stream.write_all(&[head.as_bytes(), content].concat()));
    Some(format!("{method} {target}"))
}

/// Where git keeps the programs that people do not start.
fn backend() -> Option<PathBuf> {
    let said = Command::new("git").arg("--exec-path").output().ok()?;
    let path = Path::new(String::from_utf8(said.stdout).ok()?.trim()).join("git-http-backend");
    path.exists().then_some(path)
}

/// A repository with one commit, at `repo.git`.
fn repository(directory: &Path) -> bool {
    let work = directory.join("work");
    put(&work.join("hello"), BODY);
    make::git(&work, &["init", "-q", "-b", "main"])
        && make::git(&work, &["add", "hello"])
        && make::git(&work, &["commit", "-q", "-m", "first"])
        && make::git(directory, &["clone", "-q", "--bare", "work", "repo.git"])
}

#[test]
pub(super) fn a_forge_may_be_fetched_from_and_not_pushed_to() {
    let found = backend();
    if !requires("git-http-backend", found.is_some()) {
        return;
    }
    let directory = tempfile::Builder::new().prefix("rung-test-").tempdir().unwrap();
    assert!(repository(directory.path()), "no repository could be made");
    let forge = Forge::new(found.unwrap(), directory.path().to_owned());
    let net = Net::new();
    for name in ["f.test", "g.test"] {
        net.name(name, Says::Addresses(vec![V4]));
    }
    let listed = |name: &str, rules: &str| {
        format!(
            "[[network.destination]]\nhost = \"{name}\"\nports = [{}]\n{rules}\
             address = [\"127.0.0.0/8\"]\nbecause = \"the test's own forge\"\n",
            forge.port
        )
    };
    let fetching = "methods = [\"GET\", \"POST\"]\n\
                    paths = [\"/repo.git/info/refs\", \"/repo.git/git-upload-pack\"]\n";
    let place = net.place(&[listed("f.test", fetching), listed("g.test", "")].concat());
    let url = format!("http://f.test:{}/repo.git", forge.port);
    let git = |words: &[&str]| place.rung(3).words(&[&["git"], words].concat()).end();
    let ended = git(&["clone", "-q", &url, "copy"]);
    assert_eq!(ended.code(), 0, "{} {}", ended.text(), ended.err);
    assert_eq!(fs::read_to_string(place.workspace.join("copy/hello")).unwrap(), BODY);
    let seen = forge.requests();
    assert!(seen.contains(&"POST /repo.git/git-upload-pack".to_owned()), "{seen:?}");

    put(&directory.path().join("work/more"), BODY);
    let work = directory.path().join("work");
    for words in
        [&["add", "more"][..], &["commit", "-qm", "second"], &["push", "-q", "../repo.git", "main"]]
    {
        assert!(make::git(&work, words), "{words:?}");
    }
    let ended = git(&["fetch", "-q", &url, "main"]);
    assert_eq!(ended.code(), 0, "{} {}", ended.text(), ended.err);
    assert_eq!(ended.outcome().denials, []);
    assert!(forge.requests().len() > 1);

    // The act behind a push, by a client that nobody's words can hold back.
    let push = |name: &str| {
        let url = format!("http://{name}:{}/repo.git/git-receive-pack", forge.port);
        let kind = "Content-Type: application/x-git-receive-pack-request";
        run(&place, "/usr/bin/curl", &["-sS", "-H", kind, "--data-binary", "0000", &url])
    };
    let Some(ended) = push("f.test") else { return };
    assert!(ended.text().contains("may only be asked for /repo.git/info/refs"), "{}", ended.text());
    denied(&ended, &format!("POST f.test:{}", forge.port), "may only be asked for");
    assert_eq!(forge.requests(), Vec::<String>::new());
    push("g.test").unwrap();
    assert_eq!(forge.requests(), ["POST /repo.git/git-receive-pack"], "the control");
}
