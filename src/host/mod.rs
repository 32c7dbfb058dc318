//! Looks at this machine, once, and says what it can do.
//!
//! A mechanism counts as working only when it was tried and worked: sysctls and version numbers
//! say what should be, a forked probe says what is. Where things lie is looked up by name for
//! exactly the paths that a profile and a request name; no directory is read.

mod cause;
mod probe;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use probe::ProbeError;

use cause::Evidence;
use probe::Failure;

use crate::model::{
    Arch, Arg, Cause, HostFacts, Mechanism, PathFact, PathKind, Probe, ProgramFact, ProgramLocation,
};

/// Why the machine could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("`{path}` cannot be looked at: {source}")]
    Lookup { path: PathBuf, source: io::Error },
    #[error("this processor architecture has no system call table in rung")]
    Arch,
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

/// What is remembered between runs, so that the probe runs once per boot and kernel.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    boot: String,
    version: String,
    facts: HostFacts,
}

/// The machine without any path: from the last look in this boot, or by probing now.
pub fn facts(remembered: &Path) -> Result<HostFacts, HostError> {
    let boot = boot_id();
    if let Some(boot) = &boot
        && let Some(known) = recall(remembered, boot)
    {
        return Ok(known);
    }
    let facts = look_again()?;
    // Something that does not work may be mended at any time, so only a whole machine is worth
    // remembering.
    if let Some(boot) = boot
        && Mechanism::ALL.iter().all(|it| facts.works(*it))
    {
        let remember = Remembered {
            boot,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            facts: facts.clone(),
        };
        store(remembered, &remember);
    }
    Ok(facts)
}

/// Probes the machine, whatever is remembered.
pub fn look_again() -> Result<HostFacts, HostError> {
    let uid = nix::unistd::getuid().as_raw();
    let gid = nix::unistd::getgid().as_raw();
    let kernel = kernel()?;
    let mut tried = probe::mechanisms(uid, gid)?;
    let landlock = probe::landlock_abi();
    tried.insert(Mechanism::Landlock, landlock.map(drop));
    Ok(HostFacts {
        probes: explained(&tried, &kernel),
        kernel,
        arch: arch()?,
        uid,
        gid,
        last_capability: crate::sys::capability::last(),
        landlock_abi: landlock.unwrap_or(0),
        cgroup: None,
        state_directories: Vec::new(),
        paths: BTreeMap::new(),
    })
}

/// What was tried, each failure with its cause.
fn explained(tried: &probe::Tried, kernel: &str) -> BTreeMap<Mechanism, Probe> {
    let whole = tried.values().all(Result::is_ok);
    let evidence = if whole { Evidence::default() } else { Evidence::gather(kernel) };
    let probe = |(mechanism, result): (&Mechanism, &Result<(), Failure>)| {
        let probe = match result {
            Ok(()) => Probe::Works,
            Err(Failure::Call { doing, errno }) => {
                cause::explain(*mechanism, doing, *errno, &evidence)
            }
            Err(Failure::Needs(needed)) => {
                Probe::Fails { cause: Cause::Needs, detail: format!("it stands on the {needed}") }
            }
        };
        (*mechanism, probe)
    };
    tried.iter().map(probe).collect()
}

/// Asked of the kernel itself: `/proc` may be masked.
fn kernel() -> Result<String, HostError> {
    let lookup = |source| HostError::Lookup { path: "uname".into(), source };
    let name = nix::sys::utsname::uname().map_err(|errno| lookup(errno.into()))?;
    Ok(name.release().to_string_lossy().into_owned())
}

/// Nothing where `/proc` is masked; then nothing is remembered.
fn boot_id() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim_end().to_owned())
}

fn arch() -> Result<Arch, HostError> {
    match std::env::consts::ARCH {
        "x86_64" => Ok(Arch::X86_64),
        "aarch64" => Ok(Arch::Aarch64),
        _ => Err(HostError::Arch),
    }
}

/// `None` for anything but a note of this boot and this version; a bad note only costs a probe.
fn recall(path: &Path, boot: &str) -> Option<HostFacts> {
    let known: Remembered = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let current = known.boot == boot
        && known.version == env!("CARGO_PKG_VERSION")
        && known.facts.uid == nix::unistd::getuid().as_raw()
        && known.facts.gid == nix::unistd::getgid().as_raw();
    current.then_some(known.facts)
}

/// Best effort: without the note the next run probes again.
fn store(path: &Path, remember: &Remembered) {
    let Some(directory) = path.parent() else { return };
    let Ok(text) = serde_json::to_vec(remember) else { return };
    let written = tempfile::NamedTempFile::new_in(directory).and_then(|mut file| {
        io::Write::write_all(&mut file, &text)?;
        file.persist(path).map_err(io::Error::from)
    });
    if let Err(error) = written {
        tracing::debug!(path = %path.display(), %error, "host facts not remembered");
    }
}

/// What lies at each path. Parents are resolved once. Only "there is nothing" means absent: any other error is an error,
/// because a plan made from a guess is not what its author meant.
pub fn look(paths: &[PathBuf]) -> Result<BTreeMap<PathBuf, PathFact>, HostError> {
    let mut found = BTreeMap::new();
    let mut parents = BTreeMap::new();
    for path in paths {
        if let Some(fact) = fact(path, &mut parents)? {
            found.insert(path.clone(), fact);
        }
    }
    Ok(found)
}

fn fact(
    path: &Path,
    parents: &mut BTreeMap<PathBuf, PathBuf>,
) -> Result<Option<PathFact>, HostError> {
    let Some(own) = absent(path, fs::symlink_metadata(path))? else { return Ok(None) };
    let kind = kind_of(&own);
    let mut fact = PathFact {
        kind,
        link: None,
        canonical: path.to_owned(),
        canonical_kind: kind,
        device: own.dev(),
        inode: own.ino(),
    };
    if kind == PathKind::SymbolicLink {
        fact.link = absent(path, fs::read_link(path))?;
        // A link to nowhere is there, but there is nothing behind it.
        if let Some(canonical) = absent(path, fs::canonicalize(path))?
            && let Some(target) = absent(path, fs::symlink_metadata(&canonical))?
        {
            fact.canonical = canonical;
            fact.canonical_kind = kind_of(&target);
            fact.device = target.dev();
            fact.inode = target.ino();
        }
        return Ok(Some(fact));
    }
    // Every component may be a link, not only the last one.
    if let (Some(parent), Some(name)) = (path.parent(), path.file_name()) {
        if !parents.contains_key(parent) {
            let canonical = fs::canonicalize(parent)
                .map_err(|source| HostError::Lookup { path: parent.to_owned(), source })?;
            parents.insert(parent.to_owned(), canonical);
        }
        if let Some(known) = parents.get(parent) {
            fact.canonical = known.join(name);
        }
    }
    Ok(Some(fact))
}

/// Random bytes from the kernel.
pub fn random<const N: usize>() -> Result<[u8; N], HostError> {
    crate::sys::process::random()
        .map_err(|errno| HostError::Lookup { path: "/dev/urandom".into(), source: errno.into() })
}

/// `Ok(None)` where there is nothing, or where this user may not even look: what cannot be reached
/// outside cannot be granted inside.
fn absent<T>(path: &Path, result: io::Result<T>) -> Result<Option<T>, HostError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) => match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES) => Ok(None),
            _ => Err(HostError::Lookup { path: path.to_owned(), source: error }),
        },
    }
}

fn kind_of(metadata: &fs::Metadata) -> PathKind {
    let kind = metadata.file_type();
    if kind.is_dir() {
        PathKind::Directory
    } else if kind.is_file() {
        PathKind::File
    } else if kind.is_symlink() {
        PathKind::SymbolicLink
    } else {
        PathKind::Special
    }
}

/// Where programs may be looked for, and what each place is.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// In order: the command's own `PATH`.
    pub search_path: &'a [PathBuf],
    /// Trees granted with programs.
    pub system: &'a [PathBuf],
    pub toolchains: &'a [PathBuf],
    pub workspace: &'a Path,
    pub cwd: &'a Path,
}

/// What the first word of a command names.
pub fn program(word: &Arg, places: &Places<'_>) -> Result<ProgramFact, HostError> {
    let name = Path::new(word.as_os_str());
    if word.as_bytes().contains(&b'/') {
        let path = places.cwd.join(name);
        return Ok(
            program_at(&path, places)?.unwrap_or(ProgramFact::Missing { searched: vec![path] })
        );
    }
    for directory in places.search_path {
        if let Some(found) = program_at(&directory.join(name), places)? {
            return Ok(found);
        }
    }
    Ok(ProgramFact::Missing { searched: places.search_path.to_vec() })
}

fn program_at(path: &Path, places: &Places<'_>) -> Result<Option<ProgramFact>, HostError> {
    const SET_ID: u32 = 0o6000;
    const EXECUTE: u32 = 0o111;
    let Some(canonical) = absent(path, fs::canonicalize(path))? else { return Ok(None) };
    let Some(metadata) = absent(path, fs::metadata(&canonical))? else { return Ok(None) };
    if !metadata.is_file() {
        return Ok(None);
    }
    // The directory may be spelled through links (`/bin`), the name in it is what was asked for.
    let directory = path.parent().map(fs::canonicalize).transpose();
    let directory = directory.map_err(|source| HostError::Lookup { path: path.into(), source })?;
    let path = match (directory, path.file_name()) {
        (Some(directory), Some(name)) => directory.join(name),
        _ => canonical.clone(),
    };
    let mode = metadata.permissions().mode();
    Ok(Some(ProgramFact::Found {
        location: location(&path, &canonical, places),
        path,
        device: metadata.dev(),
        inode: metadata.ino(),
        setid: mode & SET_ID != 0,
        executable: mode & EXECUTE != 0,
        canonical,
    }))
}

/// The less trusted of where it was found and where it really is.
fn location(path: &Path, canonical: &Path, places: &Places<'_>) -> ProgramLocation {
    let below = |trees: &[PathBuf], path: &Path| trees.iter().any(|it| path.starts_with(it));
    let class = |path: &Path| {
        if path.starts_with(places.workspace) {
            ProgramLocation::Workspace
        } else if below(places.toolchains, path) {
            ProgramLocation::Toolchain
        } else if below(places.system, path) {
            ProgramLocation::System
        } else {
            ProgramLocation::Elsewhere
        }
    };
    class(path).max(class(canonical))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_path_is_followed_to_the_object_it_names() {
        let home = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(home.path()).unwrap();
        fs::create_dir(base.join("real")).unwrap();
        symlink("real", base.join("link")).unwrap();
        symlink("nowhere", base.join("dangling")).unwrap();
        let paths =
            ["real", "link", "dangling", "absent", "real/below"].map(|name| base.join(name));
        let found = look(&paths).unwrap();
        assert_eq!(found.len(), 3);
        let link = &found[&base.join("link")];
        assert_eq!((link.kind, link.canonical_kind), (PathKind::SymbolicLink, PathKind::Directory));
        assert_eq!(link.canonical, base.join("real"));
        assert_eq!(found[&base.join("dangling")].canonical, base.join("dangling"));
    }

    #[test]
    fn a_program_is_where_its_least_trusted_name_is() {
        let home = tempfile::tempdir().unwrap();
        let base = fs::canonicalize(home.path()).unwrap();
        for name in ["system", "workspace"] {
            fs::create_dir(base.join(name)).unwrap();
        }
        fs::write(base.join("workspace/tool"), "").unwrap();
        symlink(base.join("workspace/tool"), base.join("system/tool")).unwrap();
        let system = [base.join("system")];
        let workspace = base.join("workspace");
        let places = Places {
            search_path: &system,
            system: &system,
            toolchains: &[],
            workspace: &workspace,
            cwd: &workspace,
        };
        let found = |word: &str| program(&Arg::try_from(word).unwrap(), &places).unwrap();
        let ProgramFact::Found { location, path, executable, .. } = found("tool") else {
            panic!("not found");
        };
        assert_eq!(location, ProgramLocation::Workspace);
        assert_eq!(path, base.join("system/tool"));
        assert!(!executable);
        assert!(matches!(found("other"), ProgramFact::Missing { .. }));
    }
}
