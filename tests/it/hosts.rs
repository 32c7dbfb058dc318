//! Machines as data, and what the built-in levels make of a request on them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rung::model::{
    Arch, Arg, Cause, Digest, HostFacts, Ids, Level, Mechanism, PathFact, PathKind, PathMap, Probe,
    ProgramFact, ProgramLocation, Request, Streams,
};
use rung::plan::{PlanError, SandboxPlan, compile};
use rung::policy::{Permit, Verdict, decide};
use rung::profile::{Ladder, Profile, built_in};

pub(crate) const HOME: &str = "/home/u";
pub(crate) const WORKSPACE: &str = "/home/u/src/app";

const DIRECTORIES: [&str; 27] = [
    "/etc",
    "/etc/rung",
    "/etc/ssh",
    "/etc/ssl/private",
    "/home/u",
    "/home/u/.cargo",
    "/home/u/.cargo/bin",
    "/home/u/.config/rung",
    "/home/u/.local/state/rung",
    "/home/u/.nvm",
    "/home/u/.rustup",
    "/home/u/.ssh",
    "/home/u/src/app",
    "/home/u/src/app/.cargo",
    "/home/u/src/app/.git",
    "/home/u/src/app/.git/hooks",
    "/home/u/src/app/.git/info",
    "/home/u/src/app/.github",
    "/home/u/src/app/.github/workflows",
    "/home/u/src/app/env",
    "/opt",
    "/proc/acpi",
    "/srv/app",
    "/sys/devices/system/cpu",
    "/tmp/app",
    "/usr",
    "/var/tmp",
];

const FILES: [&str; 12] = [
    "/etc/gshadow",
    "/etc/machine-id",
    "/etc/shadow",
    "/etc/sudoers",
    "/home/u/.cargo/credentials.toml",
    "/home/u/src/app/.git/config",
    "/home/u/src/app/AGENTS.md",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/sysrq-trigger",
    "/proc/timer_list",
];

const LINKS: [(&str, &str); 5] = [
    ("/bin", "usr/bin"),
    ("/home/u/src/app/.envrc", "env/rc"),
    ("/lib", "usr/lib"),
    ("/lib64", "usr/lib64"),
    ("/sbin", "usr/sbin"),
];

/// A desktop of 2025 with everything rung uses.
pub(crate) fn full() -> HostFacts {
    let mut host = HostFacts {
        kernel: "6.12.0".to_owned(),
        arch: Arch::X86_64,
        uid: 1000,
        gid: 1000,
        last_capability: 40,
        landlock_abi: 6,
        probes: Mechanism::ALL.map(|it| (it, Probe::Works)).into(),
        cgroup: None,
        state_directories: ["/home/u/.local/state/rung", "/etc/rung", "/home/u/.config/rung"]
            .map(PathBuf::from)
            .to_vec(),
        nameservers: Vec::new(),
        authorities: None,
        paths: PathMap::new(),
        repositories: Vec::new(),
        user_home: None,
    };
    for path in DIRECTORIES {
        add(&mut host, path, PathKind::Directory);
    }
    for path in FILES {
        add(&mut host, path, PathKind::File);
    }
    for (path, target) in LINKS {
        let kind = if target.starts_with("usr") { PathKind::Directory } else { PathKind::File };
        add_link(&mut host, path, target, kind);
    }
    host
}

/// The same machine where user namespaces are switched off.
pub(crate) fn no_userns() -> HostFacts {
    let mut host = full();
    let independent = [Mechanism::Landlock, Mechanism::Seccomp, Mechanism::SeccompNotify];
    for mechanism in Mechanism::ALL.into_iter().filter(|it| !independent.contains(it)) {
        let (cause, detail) = match mechanism {
            Mechanism::UserNamespace => (Cause::NamespaceLimit, "clone3: ENOSPC"),
            _ => (Cause::Needs, "user namespace"),
        };
        host.probes.insert(mechanism, Probe::Fails { cause, detail: detail.to_owned() });
    }
    host
}

/// The same machine with Linux 5.15.
pub(crate) fn old_kernel() -> HostFacts {
    HostFacts { kernel: "5.15.0".to_owned(), landlock_abi: 1, ..full() }
}

pub(crate) fn add(host: &mut HostFacts, path: &str, kind: PathKind) {
    let fact = fact(path, kind, kind, PathBuf::from(path), None);
    host.paths.insert(PathBuf::from(path), fact);
}

/// A link beside its target.
pub(crate) fn add_link(host: &mut HostFacts, path: &str, target: &str, kind: PathKind) {
    let parent = Path::new(path).parent().unwrap();
    let fact = fact(path, PathKind::SymbolicLink, kind, parent.join(target), Some(target));
    host.paths.insert(PathBuf::from(path), fact);
}

fn fact(
    path: &str,
    kind: PathKind,
    canonical_kind: PathKind,
    canonical: PathBuf,
    link: Option<&str>,
) -> PathFact {
    // Any number will do that is the same on every run.
    let inode = path.bytes().fold(7, |sum: u64, byte| (sum * 31 + u64::from(byte)) % 1_000_003);
    PathFact { kind, link: link.map(PathBuf::from), canonical, canonical_kind, device: 8, inode }
}

/// `git status` in the workspace, which every level allows.
pub(crate) fn request(level: Level) -> Request {
    let word = |word: &str| Arg::try_from(word).unwrap();
    Request {
        argv: vec![word("git"), word("status")],
        program: ProgramFact::Found {
            path: PathBuf::from("/usr/bin/git"),
            canonical: PathBuf::from("/usr/bin/git"),
            location: ProgramLocation::System,
            device: 8,
            inode: 1,
            setid: false,
            executable: true,
        },
        level,
        cwd: PathBuf::from(WORKSPACE),
        workspace: PathBuf::from(WORKSPACE),
        home: PathBuf::from(HOME),
        environment: ["LANG", "LD_PRELOAD", "NODE_ENV", "SECRET_TOKEN", "TERM", "USER"]
            .map(|name| (name.to_owned(), word("of the caller")))
            .into(),
        ids: Ids { run: "01JRUN".to_owned(), ..Ids::default() },
        streams: Streams::Inherit,
        tree: rung::model::Tree::Itself,
        repository: None,
        caches: BTreeMap::new(),
    }
}

/// The built-in level, read once.
pub(crate) fn profile(level: Level) -> Profile {
    static PROFILES: LazyLock<BTreeMap<Level, Profile>> =
        LazyLock::new(|| Level::ALL.map(|level| (level, built_in(level).unwrap())).into());
    PROFILES[&level].clone()
}

/// The permit of a profile, as if every level were within the ceiling.
pub(crate) fn permit(request: &Request, profile: &Profile) -> Permit {
    let profiles = [(profile.level, profile.clone())].into();
    match decide(request, &Ladder { ceiling: Level::ProductionWrites, profiles }) {
        Verdict::Allow(permit) => permit,
        other => panic!("level {} does not allow `git status`: {other:?}", profile.level),
    }
}

pub(crate) fn plan(
    request: &Request,
    profile: &Profile,
    host: &HostFacts,
) -> Result<SandboxPlan, PlanError> {
    compile(&permit(request, profile), request, profile, host, Digest::ZERO)
}
