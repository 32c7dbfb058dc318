//! A place for one test: a home, a workspace, things outside that nobody may touch, and a probe.
//!
//! Everything lies in one temporary directory, so the user's own files are never part of a test.
//! The profiles of the place add one rule to each level, which allows the probe, and the grant that
//! makes it readable; nothing else is different from what rung brings along.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{OnceLock, PoisonError, RwLock, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rung::model::{Denial, Outcome, Status};
use serde_json::Value;

/// No run of a test takes longer, unless something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The levels that run without an approval.
pub(crate) const LEVELS: [u8; 3] = [1, 2, 3];

/// What lies in the home and must not be read: the usual places of secrets.
const SECRETS: [&str; 8] = [
    ".ssh/id_ed25519",
    ".aws/credentials",
    ".netrc",
    ".npmrc",
    ".config/gh/hosts.yml",
    ".cargo/credentials.toml",
    ".gnupg/private-keys-v1.d/key",
    ".bash_history",
];

/// The files of a small checkout.
const CHECKOUT: [(&str, &str); 9] = [
    (".git/HEAD", "ref: refs/heads/main\n"),
    (".git/config", "[core]\n\trepositoryformatversion = 0\n"),
    (".git/hooks/pre-commit", "#!/bin/sh\nexit 0\n"),
    (".git/info/exclude", "# nothing\n"),
    (".git/objects/info/.keep", ""),
    (".git/refs/heads/.keep", ""),
    (".vscode/settings.json", "{}\n"),
    ("src/lib.rs", "//! Nothing.\n"),
    ("README.md", "# A project\n"),
];

/// The temporary world of one test.
pub(crate) struct Place {
    root: tempfile::TempDir,
    pub(crate) home: PathBuf,
    pub(crate) workspace: PathBuf,
    /// Beside the workspace; no command has any business there.
    pub(crate) outside: PathBuf,
    pub(crate) probe: PathBuf,
    canaries: Canaries,
}

/// Held for reading by whoever starts a process, for writing by whoever writes a program: a child
/// that is forked meanwhile would have the program open, and nobody could execute it (ETXTBSY).
static FORKS: RwLock<()> = RwLock::new(());

fn copy_program(from: &Path, to: &Path) {
    let nobody_forks = FORKS.write().unwrap_or_else(PoisonError::into_inner);
    fs::copy(from, to).unwrap();
    drop(nobody_forks);
}

/// Starts a process of the host.
pub(crate) fn spawn(command: &mut Command) -> Child {
    let nobody_writes = FORKS.read().unwrap_or_else(PoisonError::into_inner);
    let child = command.spawn().unwrap();
    drop(nobody_writes);
    child
}

/// Listeners of the host that nobody inside may reach.
struct Canaries {
    tcp: TcpListener,
    tcp6: Option<TcpListener>,
    udp: UdpSocket,
    named: UnixListener,
    datagram: UnixDatagram,
    in_workspace: UnixListener,
    hidden: UnixListener,
    /// Name of the abstract socket, without its NUL byte.
    name: String,
}

impl Canaries {
    fn new(outside: &Path, workspace: &Path) -> Self {
        let name = format!("rung-canary-{}", outside.display());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let made = Self {
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            tcp6: TcpListener::bind("[::1]:0").ok(),
            udp: UdpSocket::bind("127.0.0.1:0").unwrap(),
            named: UnixListener::bind(outside.join("canary.sock")).unwrap(),
            datagram: UnixDatagram::bind(outside.join("datagram.sock")).unwrap(),
            in_workspace: UnixListener::bind(workspace.join("service.sock")).unwrap(),
            hidden: UnixListener::bind_addr(&address).unwrap(),
            name,
        };
        made.tcp.set_nonblocking(true).unwrap();
        made.udp.set_nonblocking(true).unwrap();
        for listener in [&made.named, &made.in_workspace, &made.hidden] {
            listener.set_nonblocking(true).unwrap();
        }
        made.datagram.set_nonblocking(true).unwrap();
        if let Some(listener) = &made.tcp6 {
            listener.set_nonblocking(true).unwrap();
        }
        made
    }

    /// How many came by since the last time.
    fn contacts(&self) -> usize {
        let mut byte = [0; 64];
        let mut contacts = 0;
        contacts += usize::from(self.tcp.accept().is_ok());
        contacts += usize::from(self.tcp6.as_ref().is_some_and(|it| it.accept().is_ok()));
        contacts += usize::from(self.udp.recv(&mut byte).is_ok());
        contacts += usize::from(self.named.accept().is_ok());
        contacts += usize::from(self.datagram.recv(&mut byte).is_ok());
        contacts += usize::from(self.in_workspace.accept().is_ok());
        contacts += usize::from(self.hidden.accept().is_ok());
        contacts
    }
}

impl Drop for Place {
    /// The kernel leaves a directory of mode 000 in every work directory of an overlay; an ordinary
    /// user removes the place only once it may be read.
    fn drop(&mut self) {
        let mut left = vec![self.root.path().to_owned()];
        while let Some(directory) = left.pop() {
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            for entry in entries.flatten().filter(|it| it.file_type().is_ok_and(|it| it.is_dir())) {
                let may_be_gone =
                    fs::set_permissions(entry.path(), PermissionsExt::from_mode(0o700));
                left.extend(may_be_gone.is_ok().then(|| entry.path()));
            }
        }
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        let root = tempfile::Builder::new().prefix("rung-test-").tempdir().unwrap();
        let base = fs::canonicalize(root.path()).unwrap();
        let at = |name: &str| base.join(name);
        let (home, workspace, outside) = (at("home"), at("work"), at("outside"));
        for directory in [&home, &workspace, &outside, &at("programs"), &at("state")] {
            fs::create_dir(directory).unwrap();
        }
        for secret in SECRETS {
            put(&home.join(secret), "secret\n");
        }
        put(&outside.join("secret"), "secret\n");
        for (name, text) in CHECKOUT {
            put(&workspace.join(name), text);
        }
        make_program(&workspace.join(".git/hooks/pre-commit"));
        let probe = at("programs/probe");
        if fs::hard_link(built_probe(), &probe).is_err() {
            copy_program(built_probe(), &probe);
        }
        let canaries = Canaries::new(&outside, &workspace);
        let place = Self { root, home, workspace, outside, probe, canaries };
        for level in LEVELS {
            place.set_profile(level, &place.profile(level, ""));
        }
        place
    }

    /// The text of a level's override: the probe is allowed, and `more` is in force as well.
    pub(crate) fn profile(&self, level: u8, more: &str) -> String {
        let programs = self.probe.parent().unwrap().display();
        // The probe is described where it is first allowed; what a level has, the next one inherits.
        let probe = if level > 1 {
            ""
        } else {
            r#"
[[exec.program]]
name  = "probe"
class = "plain"
style = "gnu"

[[exec.rule]]
id        = "test.probe"
program   = "probe"
arguments = [{ after = "--", any = true }]
decision  = "allow"
power     = "read"
because   = "the tests try things with it"
match     = ["probe -- exit 0"]
not_match = ["probe exit 0"]
"#
        };
        let read = if level > 1 {
            String::new()
        } else {
            format!(
                "\n[filesystem]\nread = [{{ path = \"{programs}\", programs = true, \
                 because = \"the probe of the tests\" }}]\n"
            )
        };
        // The kernel does not count the processes of real root.
        let root = nix::unistd::geteuid().is_root();
        let on_gap = if root && level == 1 { "on_gap = \"allow\"" } else { "" };
        format!("schema = 1\nlevel = {level}\n{on_gap}\n{more}\n{read}{probe}")
    }

    pub(crate) fn copy_program(&self, from: &Path, to: &Path) {
        assert!(to.starts_with(self.home.parent().unwrap()));
        copy_program(from, to);
    }

    pub(crate) fn remove_profile(&self, level: u8) {
        fs::remove_file(self.home.join(format!(".config/rung/level-{level}.toml"))).unwrap();
    }

    pub(crate) fn set_profile(&self, level: u8, text: &str) {
        put(&self.home.join(format!(".config/rung/level-{level}.toml")), text);
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.home.parent().unwrap().join("state/rung")
    }

    /// A command line of rung, at this level, on this place's workspace.
    pub(crate) fn rung(&self, level: u8) -> Run<'_> {
        self.rung_with(&["run", "--level", &level.to_string()])
    }

    pub(crate) fn rung_with(&self, words: &[&str]) -> Run<'_> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rung"));
        command.args(words);
        self.run(command)
    }

    fn run(&self, mut command: Command) -> Run<'_> {
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &self.home)
            .env("XDG_STATE_HOME", self.home.parent().unwrap().join("state"))
            .env("XDG_CONFIG_HOME", self.home.join(".config"))
            .current_dir(&self.workspace)
            .stdin(Stdio::null());
        Run { place: self, command, report: None }
    }

    /// The probe outside every sandbox, as the same user in the same directory.
    pub(crate) fn outside_probe(&self, words: &[impl AsRef<OsStr>]) -> Run<'_> {
        let mut command = Command::new(&self.probe);
        command.arg("--").args(words);
        self.run(command)
    }

    /// Another program, outside.
    pub(crate) fn outside_program(&self, program: &str, words: &[&str]) -> Run<'_> {
        let mut command = Command::new(program);
        command.args(words);
        self.run(command)
    }

    /// Fills in the names of this place.
    pub(crate) fn fill_in(&self, text: &str) -> String {
        let tcp6 = self.canaries.tcp6.as_ref().map(|it| it.local_addr().unwrap().port());
        text.replace("{home}", self.home.to_str().unwrap())
            .replace("{work}", self.workspace.to_str().unwrap())
            .replace("{out}", self.outside.to_str().unwrap())
            .replace("{probe}", self.probe.to_str().unwrap())
            .replace("{tcp}", &self.canaries.tcp.local_addr().unwrap().port().to_string())
            .replace("{tcp6}", &tcp6.unwrap_or(1).to_string())
            .replace("{udp}", &self.canaries.udp.local_addr().unwrap().port().to_string())
            .replace("{abstract}", &self.canaries.name)
    }

    pub(crate) fn contacts(&self) -> usize {
        self.canaries.contacts()
    }

    /// Every record of every run of this place, oldest first.
    pub(crate) fn records(&self) -> Vec<Value> {
        let mut segments: Vec<PathBuf> = match fs::read_dir(self.state().join("ledger")) {
            Ok(entries) => entries.map(|it| it.unwrap().path()).collect(),
            Err(_) => return Vec::new(),
        };
        segments.retain(|it| it.extension().is_some_and(|it| it == "jsonl"));
        segments.sort();
        let texts = segments.iter().map(|it| fs::read_to_string(it).unwrap());
        texts.flat_map(|text| text.lines().map(parse).collect::<Vec<_>>()).collect()
    }
}

fn parse(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("a torn record: {error}: {line}"))
}

pub(crate) fn put(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

pub(crate) fn make_program(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A command that is about to be started.
pub(crate) struct Run<'a> {
    pub(crate) place: &'a Place,
    pub(crate) command: Command,
    report: Option<PathBuf>,
}

/// What became of it.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
    pub(crate) outcome: Option<Outcome>,
    /// The records of this run alone.
    pub(crate) records: Vec<Value>,
}

impl Run<'_> {
    /// The probe inside, with these words.
    pub(crate) fn probe(mut self, words: &[impl AsRef<OsStr>]) -> Self {
        let probe: OsString = self.place.probe.clone().into();
        self = self.reported();
        self.command.arg("--").arg(probe).arg("--").args(words);
        self
    }

    /// Any command inside.
    pub(crate) fn words(mut self, words: &[impl AsRef<OsStr>]) -> Self {
        self = self.reported();
        self.command.arg("--").args(words);
        self
    }

    fn reported(mut self) -> Self {
        static NUMBER: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = self.place.home.parent().unwrap().join(format!("report-{number}.json"));
        self.command.arg("--report").arg(&path);
        self.report = Some(path);
        self
    }

    pub(crate) fn option(mut self, words: &[&str]) -> Self {
        self.command.args(words);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self
    }

    /// As the last words of another command, which starts it.
    pub(crate) fn started_by(mut self, words: &[&str]) -> Self {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(self.command.get_program()).args(self.command.get_args());
        let variables = self.command.get_envs().filter_map(|(name, value)| Some((name, value?)));
        command.env_clear().envs(variables).stdin(Stdio::null());
        command.current_dir(self.command.get_current_dir().unwrap());
        self.command = command;
        self
    }

    /// In the process group of another process.
    pub(crate) fn in_group_of(mut self, leader: &Child) -> Self {
        self.command.process_group(i32::try_from(leader.id()).unwrap());
        self
    }

    /// Starts it with its output in pipes.
    pub(crate) fn start(mut self) -> Started {
        let child = spawn(self.command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        Started { child, report: self.report, ledger: self.place.state() }
    }

    /// Starts it and waits for its end.
    #[track_caller]
    pub(crate) fn end(self) -> Ended {
        let place = self.place;
        self.start().end(place)
    }
}

/// A command that runs.
pub(crate) struct Started {
    pub(crate) child: Child,
    report: Option<PathBuf>,
    ledger: PathBuf,
}

/// A sandbox whose init is stopped.
pub(crate) struct Unnoticed {
    init: Pid,
}

impl Drop for Unnoticed {
    fn drop(&mut self) {
        kill(self.init, Signal::SIGCONT).expect("what is stopped has not ended");
    }
}

impl Started {
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Kills the supervisor, and does not let the sandbox notice as long as what is given lives: a
    /// machine with much else to do looks like that.
    pub(crate) fn kill_unnoticed(mut self) -> Unnoticed {
        let children = format!("/proc/{0}/task/{0}/children", self.pid());
        let children = fs::read_to_string(children).unwrap();
        let comm = |pid: &str| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let init = children.split_whitespace().find(|it| comm(it) == "rung-init\n").unwrap();
        let init = Pid::from_raw(init.parse().unwrap());
        kill(init, Signal::SIGSTOP).unwrap();
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap();
        Unnoticed { init }
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for a line of its output.
    #[track_caller]
    pub(crate) fn wait_for_line(&mut self, wanted: &str) {
        let out = self.child.stdout.take().expect("the output is taken once");
        let (sender, receiver) = mpsc::channel();
        let wanted = wanted.to_owned();
        let thread = std::thread::spawn(move || {
            let mut out = BufReader::new(out);
            let mut line = String::new();
            while out.read_line(&mut line).is_ok_and(|count| count > 0) {
                if line.trim_end() == wanted {
                    sender.send(true).unwrap();
                    break;
                }
                line.clear();
            }
            drop(sender);
            out
        });
        if !receiver.recv_timeout(PATIENCE).unwrap_or(false) {
            self.child.kill().unwrap();
            let mut err = String::new();
            if let Some(mut it) = self.child.stderr.take() {
                drop(it.read_to_string(&mut err));
            }
            panic!("the line never came: {err}");
        }
        // What follows the line is still to be read.
        self.child.stdout = Some(thread.join().unwrap().into_inner());
    }

    /// Waits for its end, but not for ever.
    #[track_caller]
    pub(crate) fn end(self, place: &Place) -> Ended {
        let pid = self.pid();
        let (sender, receiver) = mpsc::channel();
        let child = self.child;
        std::thread::spawn(move || sender.send(child.wait_with_output()));
        let Ok(output) = receiver.recv_timeout(PATIENCE) else {
            kill(pid, Signal::SIGKILL).unwrap();
            panic!("still running after {PATIENCE:?}");
        };
        let output = output.unwrap();
        let outcome: Option<Outcome> = self.report.and_then(|path| {
            let text = fs::read_to_string(path).unwrap_or_default();
            (!text.is_empty()).then(|| serde_json::from_str(&text).unwrap())
        });
        let mut records = place.records();
        match &outcome {
            Some(outcome) => records.retain(|it| it["run"] == outcome.ids.run.as_str()),
            None => records.clear(),
        }
        assert_eq!(self.ledger, place.state());
        Ended {
            status: output.status,
            out: output.stdout,
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            outcome,
            records,
        }
    }
}

impl Ended {
    /// The exit code, or 128 and the signal as shells say it.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    #[track_caller]
    pub(crate) fn outcome(&self) -> &Outcome {
        self.outcome.as_ref().unwrap_or_else(|| panic!("no report; standard error: {}", self.err))
    }

    #[track_caller]
    pub(crate) fn denial(&self) -> &Denial {
        let first = self.outcome().denials.first();
        first.unwrap_or_else(|| panic!("no denial: {:?}; {}", self.outcome().status, self.err))
    }

    /// Whether the command ran and ended by itself with this code.
    #[track_caller]
    pub(crate) fn exited(self, code: u8) -> Self {
        let wanted = Status::Exited { code };
        assert_eq!(self.outcome().status, wanted, "{}{:?}", self.err, self.outcome().denials);
        assert_eq!(self.code(), i32::from(code));
        self
    }

    /// Nothing ran: rung failed, and said why.
    #[track_caller]
    pub(crate) fn failed(self, says: &str) -> Self {
        assert_eq!(self.code(), 125, "{}", self.err);
        assert!(self.err.contains(says), "it says: {}", self.err);
        self
    }

    /// Kinds of the run's records, in order.
    pub(crate) fn kinds(&self) -> Vec<&str> {
        self.records.iter().filter_map(|it| it["kind"].as_str()).collect()
    }

    /// Both ends of the run are in the ledger, and they say what the report says.
    #[track_caller]
    pub(crate) fn recorded(&self) {
        if let Err(missing) = self.check_records() {
            panic!("{missing}: {:?}; {}", self.kinds(), self.err);
        }
    }

    pub(crate) fn check_records(&self) -> Result<(), String> {
        let outcome = self.outcome.as_ref().ok_or("there is no report")?;
        let find = |kind: &str| self.records.iter().find(|it| it["kind"] == kind);
        let decision = find("decision").ok_or("the decision is not in the ledger")?;
        let denials = self.records.iter().filter(|it| it["kind"] == "denial").count();
        if denials < outcome.denials.len() {
            return Err(format!("{denials} of {} denials", outcome.denials.len()));
        }
        let refused = matches!(outcome.status, Status::Refused | Status::NotFound);
        let answer = if refused { "deny" } else { "allow" };
        if decision["decision"] != answer {
            return Err(format!("the decision is {}", decision["decision"]));
        }
        // What never began has no end.
        if refused {
            return Ok(());
        }
        let end = find("exec.end").ok_or("the end is not in the ledger")?;
        let status = serde_json::to_value(&outcome.status).unwrap();
        if end["status"] != status {
            return Err(format!("the ledger says {}, the report {status}", end["status"]));
        }
        Ok(())
    }
}

/// The built probe: made by cargo together with the tests, or by this if only the tests were.
fn built_probe() -> &'static Path {
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    PROBE.get_or_init(|| {
        let probe = Path::new(env!("CARGO_BIN_EXE_rung")).with_file_name("examples/probe");
        if !is_fresh(&probe) {
            let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
            let built = Command::new(env!("CARGO"))
                .args(["build", "--quiet", "--example", "probe", "--manifest-path", manifest])
                .status();
            assert!(built.unwrap().success(), "the probe does not build");
        }
        probe
    })
}

fn is_fresh(probe: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|it| it.modified());
    let Ok(built) = changed(probe) else { return false };
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/probe");
    let mut entries = fs::read_dir(sources).unwrap();
    entries.all(|it| changed(&it.unwrap().path()).unwrap() <= built)
}

/// Everything below a directory: name, kind, mode, size, time of change, contents.
pub(crate) fn tree(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(path) = open.pop() {
        let facts = fs::symlink_metadata(&path).unwrap();
        let contents = match fs::read_link(&path) {
            Ok(target) => format!("{target:?}"),
            Err(_) if facts.is_file() => {
                let bytes = fs::read(&path).unwrap_or_default();
                rung::model::Digest::plain(&bytes).to_string()
            }
            Err(_) => String::new(),
        };
        let (mode, changed) = (facts.mode(), facts.mtime_nsec());
        let size = if facts.is_dir() { 0 } else { facts.len() };
        found.insert(path.clone(), format!("{mode:o} {size} {changed} {contents}"));
        if facts.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
        }
    }
    found
}

/// Processes whose command line or environment has the marker, this one aside.
pub(crate) fn processes_with(marker: &str) -> Vec<String> {
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name();
        let is_process = name.as_bytes().iter().all(u8::is_ascii_digit);
        if !is_process || name.to_str() == Some(&own) {
            continue;
        }
        for file in ["cmdline", "environ"] {
            // A process that ends meanwhile, or another user's, has nothing to show.
            let Ok(bytes) = fs::read(entry.path().join(file)) else { continue };
            if bytes.windows(marker.len()).any(|it| it == marker.as_bytes()) {
                found.push(String::from_utf8_lossy(&bytes).replace('\0', " "));
                break;
            }
        }
    }
    found
}

/// Waits until something is so; the only wait of the tests that is not on a descriptor.
#[track_caller]
pub(crate) fn within(patience: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + patience;
    while !is_so() {
        assert!(Instant::now() < end, "not within {patience:?}: {what}");
        std::thread::yield_now();
    }
}

/// Something the host must have for a test. Without it the test is skipped and says so, or fails
/// where skipping is forbidden.
pub(crate) fn requires(what: &str, there: bool) -> bool {
    if !there {
        assert!(std::env::var_os("RUNG_NO_SKIP").is_none(), "this host has no {what}");
        println!("skipped: this host has no {what}");
    }
    there
}

/// Something that not every host has to have, or that only root may do: without it the test is left
/// out and says so, wherever it runs.
pub(crate) fn has_by_chance(what: &str, there: bool) -> bool {
    if !there {
        println!("left out: {what}");
    }
    there
}

/// A process of the host, which dies of any signal.
pub(crate) struct Sibling(pub(crate) Child);

impl Sibling {
    /// In a process group of its own, which others can join.
    pub(crate) fn new(place: &Place) -> Self {
        let mut run = place.outside_probe(&["echo"]).stdin(Stdio::piped());
        let child = spawn(run.command.process_group(0).stdout(Stdio::piped()));
        let mut sibling = Self(child);
        assert!(sibling.is_alive());
        sibling
    }

    /// Asks it: a signal that is on its way arrives before the answer does.
    pub(crate) fn is_alive(&mut self) -> bool {
        let (Some(to), Some(from)) = (&mut self.0.stdin, &mut self.0.stdout) else { return false };
        let mut answer = [0; 2];
        to.write_all(b"?\n").is_ok() && from.read_exact(&mut answer).is_ok()
    }
}

impl Drop for Sibling {
    fn drop(&mut self) {
        match self.0.kill() {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidInput),
        }
        self.0.wait().unwrap();
    }
}
