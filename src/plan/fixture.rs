//! Profiles, requests and hosts for the unit tests of the plan: a small merged-`/usr` machine and
//! three levels that have one line of everything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{PlanError, SandboxPlan, compile};
use crate::model::{
    Arch, Arg, Bytes, Cause, Count, Digest, HostFacts, Ids, Level, Mechanism, Origin, PathFact,
    PathKind, PathMap, Probe, ProgramFact, ProgramLocation, Request, Span, Streams, Tree,
};
use crate::policy::Permit;
use crate::profile::{
    Audit, Durable, Entry, Environment, Exec, Filesystem, Grant, Limit, Limits, Network, OnGap,
    Output, Profile, Setting, Syscalls, Table, Tmp, Toolchain, WhenFull, Workspace, WorkspaceMode,
};

pub(super) const WORKSPACE: &str = "/home/u/src/app";

pub(super) fn origin(line: u32, because: &str) -> Origin {
    Origin { file: "level.toml".into(), line, because: because.into() }
}

pub(super) fn grant(path: &str, programs: bool) -> Grant {
    Grant {
        path: path.to_owned(),
        programs,
        origin: origin(10, &format!("the test grants {path}")),
    }
}

pub(super) fn entry(name: &str) -> Entry {
    Entry { name: name.to_owned(), origin: origin(20, "the test names it") }
}

fn limit<T>(max: T) -> Limit<T> {
    Limit { max, origin: origin(30, "one run is one piece of work") }
}

/// A profile that grants nothing but its workspace, to look at.
pub(super) fn bare(level: Level) -> Profile {
    Profile {
        name: format!("level-{level}"),
        level,
        summary: String::new(),
        owner: None,
        digest: Digest::ZERO,
        sources: Vec::new(),
        on_gap: OnGap::Refuse,
        filesystem: Filesystem {
            workspace: Workspace {
                mode: WorkspaceMode::ReadOnly,
                origin: origin(1, "the tree the command works on"),
            },
            read: Vec::new(),
            write: Vec::new(),
            hidden: Vec::new(),
            protected: Vec::new(),
            toolchains: Vec::new(),
            caches: Vec::new(),
            tmp: Tmp {
                size: Bytes(64 << 20),
                files: Count(1000),
                run_programs: false,
                origin: origin(2, "scratch"),
            },
        },
        exec: Exec {
            workspace_programs: None,
            programs: BTreeMap::new(),
            rules: Vec::new(),
            index: None,
        },
        environment: Environment {
            pass: Vec::new(),
            set: BTreeMap::new(),
            workspace_sets: Vec::new(),
        },
        network: Network {
            loopback: None,
            destinations: Vec::new(),
            upload_max: None,
            download_max: None,
            connections_max: None,
        },
        credentials: Vec::new(),
        syscalls: Syscalls { table: Table::Strict, origin: origin(3, "no network families") },
        limits: Limits {
            wall: limit(Span(60_000)),
            grace: limit(Span(1000)),
            processes: limit(Count(64)),
            open_files: limit(Count(256)),
            memory: limit(Bytes(1 << 30)),
            file: limit(Bytes(1 << 20)),
            session: limit(Bytes(1 << 30)),
            session_files: limit(Count(100_000)),
        },
        output: Output { max: None, when_full: WhenFull::KeepHeadAndTail },
        audit: Audit { durable: Durable::Overlapped, record_output: false },
    }
}

/// One of the three local levels, each adding to the one before.
pub(super) fn profile(level: Level) -> Profile {
    let mut profile = bare(level);
    let filesystem = &mut profile.filesystem;
    for (path, programs) in [
        ("/bin", true),
        ("/etc", false),
        ("/lib64", true),
        ("/opt/sdk", false),
        ("/usr", true),
        ("/usr/share", true),
    ] {
        filesystem.read.push(grant(path, programs));
    }
    filesystem.hidden = ["/etc/shadow", "/etc/ssh", "~/.ssh", "/opt/secret"].map(entry).to_vec();
    profile.environment.pass = ["LANG", "LC_*"].map(entry).to_vec();
    let setting = Setting { value: "1".to_owned(), origin: origin(40, "no pager") };
    profile.environment.set.insert("NO_PAGER".to_owned(), setting);
    if level >= Level::LocalWrites {
        filesystem.workspace.mode = WorkspaceMode::Direct;
        filesystem.protected =
            [".git/hooks", ".git/config", ".envrc", ".cargo/config.toml", ".vscode/**"]
                .map(entry)
                .to_vec();
        profile.limits.file = limit(Bytes(1 << 30));
    }
    if level >= Level::TestExecution {
        filesystem.tmp.run_programs = true;
        filesystem.toolchains.push(Toolchain {
            name: "rust".to_owned(),
            directories: vec!["~/.cargo".to_owned(), "~/.rustup".to_owned()],
            search_path: vec!["~/.cargo/bin".to_owned(), "~/.rustup/bin".to_owned()],
            credentials: vec!["~/.cargo/credentials.toml".to_owned()],
            caches: vec!["~/.cargo/registry".to_owned()],
            environment: BTreeMap::from([("CARGO_NET_OFFLINE".to_owned(), "true".to_owned())]),
            origin: origin(50, "the Rust toolchain"),
        });
        profile.exec.workspace_programs = Some(origin(51, "tests are programs"));
        profile.network.loopback = Some(origin(52, "tests serve themselves"));
        profile.syscalls.table = Table::Standard;
        profile.limits.processes = limit(Count(1024));
    }
    profile
}

pub(super) fn arg(word: &str) -> Arg {
    Arg::try_from(word).unwrap()
}

pub(crate) fn request(level: Level) -> Request {
    Request {
        argv: vec![arg("ls"), arg("-l")],
        program: program("/bin/ls", "/usr/bin/ls"),
        level,
        cwd: PathBuf::from(WORKSPACE),
        workspace: PathBuf::from(WORKSPACE),
        home: PathBuf::from("/home/u"),
        environment: [
            ("LANG", "C.UTF-8"),
            ("LC_ALL", "C"),
            ("LD_PRELOAD", "/tmp/evil.so"),
            ("SECRET_TOKEN", "hunter2"),
            ("USER", "u"),
        ]
        .map(|(name, value)| (name.to_owned(), arg(value)))
        .into(),
        ids: Ids { run: "01RUN".to_owned(), ..Ids::default() },
        streams: Streams::Inherit,
        tree: Tree::Itself,
        repository: None,
        caches: BTreeMap::new(),
    }
}

pub(super) fn program(path: &str, canonical: &str) -> ProgramFact {
    ProgramFact::Found {
        path: PathBuf::from(path),
        canonical: PathBuf::from(canonical),
        location: ProgramLocation::System,
        device: 1,
        inode: 1,
        setid: false,
        executable: true,
    }
}

/// A machine with everything rung uses.
pub(super) fn host() -> HostFacts {
    let mut host = HostFacts {
        kernel: "6.12.0".to_owned(),
        arch: Arch::X86_64,
        uid: 1000,
        gid: 1000,
        last_capability: 40,
        landlock_abi: 6,
        probes: Mechanism::ALL.map(|it| (it, Probe::Works)).into(),
        cgroup: None,
        state_directories: ["/home/u/.local/state/rung", "/etc/rung"].map(PathBuf::from).to_vec(),
        nameservers: Vec::new(),
        authorities: None,
        paths: PathMap::new(),
        repositories: Vec::new(),
        user_home: None,
    };
    for path in [
        "/etc",
        "/etc/rung",
        "/etc/ssh",
        "/home/u",
        "/home/u/.cargo",
        "/home/u/.cargo/bin",
        "/home/u/.local/state/rung",
        "/home/u/.rustup",
        "/home/u/.ssh",
        "/sys/devices/system/cpu",
        "/usr",
        "/usr/share",
        "/usr/share/doc",
        "/var/tmp",
        WORKSPACE,
    ] {
        add(&mut host, path, PathKind::Directory);
    }
    for path in ["/etc/shadow", "/home/u/.cargo/credentials.toml", "/proc/kcore", "/proc/keys"] {
        add(&mut host, path, PathKind::File);
    }
    add(&mut host, "/proc/acpi", PathKind::Directory);
    add_link(&mut host, "/bin", "usr/bin", "/usr/bin", PathKind::Directory);
    add_link(&mut host, "/lib64", "usr/lib64", "/usr/lib64", PathKind::Directory);
    for name in [".git", ".git/hooks"] {
        add(&mut host, &format!("{WORKSPACE}/{name}"), PathKind::Directory);
    }
    add(&mut host, &format!("{WORKSPACE}/.git/config"), PathKind::File);
    host
}

/// The same machine where no program may make a user namespace.
pub(super) fn no_userns() -> HostFacts {
    let mut host = host();
    for mechanism in Mechanism::ALL {
        let cause = match mechanism {
            Mechanism::UserNamespace => Cause::NamespaceLimit,
            Mechanism::Seccomp | Mechanism::SeccompNotify | Mechanism::Landlock => continue,
            Mechanism::Mount
            | Mechanism::DetachedMounts
            | Mechanism::PidNamespace
            | Mechanism::Loopback
            | Mechanism::Proc
            | Mechanism::NestedUserNamespace
            | Mechanism::Ptrace
            | Mechanism::Overlay
            | Mechanism::Devpts
            | Mechanism::Router => Cause::Needs,
        };
        let detail = "clone3: ENOSPC".to_owned();
        host.probes.insert(mechanism, Probe::Fails { cause, detail });
    }
    host
}

/// Linux 5.15, whose Landlock forbids every rename between directories.
pub(super) fn old_kernel() -> HostFacts {
    HostFacts { kernel: "5.15.0".to_owned(), landlock_abi: 1, ..host() }
}

pub(super) fn add(host: &mut HostFacts, path: &str, kind: PathKind) {
    let inode = u64::try_from(host.paths.len()).unwrap() + 100;
    let canonical = PathBuf::from(path);
    let fact = PathFact {
        kind,
        link: None,
        canonical: canonical.clone(),
        canonical_kind: kind,
        device: 8,
        inode,
    };
    host.paths.insert(canonical, fact);
}

pub(super) fn add_link(
    host: &mut HostFacts,
    path: &str,
    link: &str,
    canonical: &str,
    canonical_kind: PathKind,
) {
    let inode = u64::try_from(host.paths.len()).unwrap() + 100;
    let fact = PathFact {
        kind: PathKind::SymbolicLink,
        link: Some(PathBuf::from(link)),
        canonical: PathBuf::from(canonical),
        canonical_kind,
        device: 8,
        inode,
    };
    host.paths.insert(PathBuf::from(path), fact);
}

pub(super) fn plan_of(
    request: &Request,
    profile: &Profile,
    host: &HostFacts,
) -> Result<SandboxPlan, PlanError> {
    let force = BTreeMap::from([("GIT_PAGER".to_owned(), "cat".to_owned())]);
    compile(&Permit::undecided("test.rule", force), request, profile, host, Digest::ZERO)
}

/// The view in one line per entry: what lies where.
pub(super) fn lines(plan: &SandboxPlan) -> Vec<String> {
    plan.view.iter().map(ToString::to_string).collect()
}

pub(super) fn line(plan: &SandboxPlan, path: impl AsRef<Path>) -> String {
    let at: Vec<String> =
        plan.view.iter().filter(|it| it.path == path.as_ref()).map(ToString::to_string).collect();
    at.join("; ")
}
