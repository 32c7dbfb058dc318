//! Looks at this machine, once, and says what it can do.
//!
//! A mechanism counts as working only when it was tried and worked: sysctls and version numbers
//! say what should be, a forked probe says what is. Where things lie is looked up by name for
//! exactly the paths that a profile and a request name; a directory is read only where that says the
//! same about many of them at once.

mod cause;
mod cgroup;
mod look;
mod probe;
mod repositories;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io;
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

pub use look::look;
pub use probe::ProbeError;
pub use repositories::repositories;

use cause::Evidence;
use cgroup::Hierarchy;
use probe::Failure;

use self::look::absent;
use crate::model::{
    Arch, Arg, Cause, HostFacts, Mechanism, PathMap, Probe, ProgramFact, ProgramLocation,
};
use crate::sys::xattr;

/// Why the machine could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    #[error("`{path}` cannot be looked at: {source}")]
    Lookup { path: PathBuf, source: io::Error },
    #[error("this processor architecture has no system call table in rung")]
    Arch,
    #[error(
        "rung has the capabilities {held} although it is not run by root: take its set-user-id bit or file capabilities away, because what it holds it could lend"
    )]
    Privileged { held: String },
    #[error(
        "the git index `{}`, which says what other repositories there are, is unusable: {why}; `git ls-files --stage` says whether git can read it",
        path.display()
    )]
    Index { path: PathBuf, why: String },
    #[error(transparent)]
    Probe(#[from] ProbeError),
}

/// What is remembered between runs, so that the probe runs once per boot and kernel.
#[derive(Debug, Serialize, Deserialize)]
struct Remembered {
    boot: String,
    version: String,
    hierarchy: Option<Hierarchy>,
    /// Where a run's cgroup could be made.
    places: Vec<PathBuf>,
    facts: HostFacts,
}

/// A note is never longer, nor is what the kernel says in one line.
const NOTE_BYTES_MAX: usize = 8192;
const LINE_BYTES_MAX: usize = 256;
/// Places of cgroups that are worth remembering: one for each way of starting rung.
const PLACES_MAX: usize = 8;

/// The machine: from the last look in this boot, or by probing now. Of the paths it knows those
/// that are `lasting`, which stay what they are for as long as the kernel runs.
pub fn facts(
    remembered: &Path,
    lasting: impl FnOnce() -> Vec<PathBuf>,
) -> Result<HostFacts, HostError> {
    check_privileges()?;
    let boot = boot_id();
    if let Some(boot) = &boot
        && let Some(mut known) = recall(remembered, boot)
    {
        let place = known.hierarchy.as_ref().and_then(|it| cgroup::place(it, &known.places));
        if let Some(place) = place.as_ref().filter(|it| !known.places.contains(it)) {
            known.places.truncate(PLACES_MAX - 1);
            known.places.insert(0, place.clone());
            store(remembered, &known);
        }
        return Ok(HostFacts { cgroup: place, ..known.facts });
    }
    let hierarchy = cgroup::hierarchy();
    let place = hierarchy.as_ref().and_then(|it| cgroup::place(it, &[]));
    let mut facts = probe_all()?;
    facts.paths = look(&lasting())?;
    // Something that does not work may be mended at any time, so only a whole machine is worth
    // remembering.
    if let Some(boot) = boot
        && is_whole(&facts)
    {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let places = place.iter().cloned().collect();
        let remember = Remembered { boot, version, hierarchy, places, facts };
        store(remembered, &remember);
        facts = remember.facts;
    }
    Ok(HostFacts { cgroup: place, ..facts })
}

/// Refuses to work with capabilities that somebody gave to the program instead of its user:
/// everything here is made for an ordinary user's rights, or for real root's.
fn check_privileges() -> Result<(), HostError> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let failed = |error: caps::errors::CapsError| HostError::Lookup {
        path: "capget".into(),
        source: io::Error::other(error),
    };
    let held = caps::read(None, caps::CapSet::Permitted).map_err(failed)?;
    if held.is_empty() {
        return Ok(());
    }
    let mut names: Vec<String> = held.iter().map(ToString::to_string).collect();
    names.sort();
    Err(HostError::Privileged { held: names.join(", ") })
}

/// Probes the machine, whatever is remembered.
pub fn look_again() -> Result<HostFacts, HostError> {
    let place = cgroup::hierarchy().and_then(|it| cgroup::place(&it, &[]));
    Ok(HostFacts { cgroup: place, ..probe_all()? })
}

/// Everything but the cgroup, which is another one in every terminal.
fn probe_all() -> Result<HostFacts, HostError> {
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
        nameservers: Vec::new(),
        authorities: None,
        paths: PathMap::new(),
        repositories: Vec::new(),
        user_home: None,
    })
}

/// Whom this machine asks for the addresses of names: the first three that `resolv.conf(5)` names.
pub fn nameservers() -> Result<Vec<SocketAddr>, HostError> {
    const FILE: &str = "/etc/resolv.conf";
    const BYTES_MAX: u64 = 64 << 10;
    const SERVERS_MAX: usize = 3;
    const PORT: u16 = 53;
    let failed = |source| HostError::Lookup { path: FILE.into(), source };
    let file = match fs::File::open(FILE) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        result => result.map_err(failed)?,
    };
    let mut text = String::new();
    file.take(BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next().filter(|it| *it == "nameserver").and_then(|_| words.next())?;
        Some(SocketAddr::new(address.parse().ok()?, PORT))
    };
    Ok(text.lines().filter_map(server).take(SERVERS_MAX).collect())
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
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let (bytes, length) = beginning::<LINE_BYTES_MAX>(path).ok()?;
    let line = bytes.get(..length)?.trim_ascii_end();
    String::from_utf8(line.to_vec()).ok()
}

/// What one read of the file gives, and how much of it there is.
fn beginning<const MAX: usize>(path: &Path) -> io::Result<([u8; MAX], usize)> {
    let mut bytes = [0; MAX];
    let length = fs::File::open(path)?.read(&mut bytes)?;
    Ok((bytes, length))
}

fn arch() -> Result<Arch, HostError> {
    match std::env::consts::ARCH {
        "x86_64" => Ok(Arch::X86_64),
        "aarch64" => Ok(Arch::Aarch64),
        _ => Err(HostError::Arch),
    }
}

/// `None` for anything but a note of this boot and this version; a bad note only costs a probe.
fn recall(path: &Path, boot: &str) -> Option<Remembered> {
    let (bytes, length) = beginning::<NOTE_BYTES_MAX>(path).ok()?;
    let known: Remembered = postcard::from_bytes(bytes.get(..length)?).ok()?;
    let current = known.boot == boot
        && known.version == env!("CARGO_PKG_VERSION")
        && known.facts.uid == nix::unistd::getuid().as_raw()
        && known.facts.gid == nix::unistd::getgid().as_raw()
        && is_whole(&known.facts);
    current.then_some(known)
}

/// Whether everything works that this version tries.
fn is_whole(facts: &HostFacts) -> bool {
    Mechanism::ALL.iter().all(|it| facts.works(*it))
}

/// Best effort: without the note the next run probes again.
fn store(path: &Path, remember: &Remembered) {
    let Some(directory) = path.parent() else { return };
    let Ok(bytes) = postcard::to_stdvec(remember) else { return };
    let written = tempfile::NamedTempFile::new_in(directory).and_then(|mut file| {
        io::Write::write_all(&mut file, &bytes)?;
        file.persist(path).map_err(io::Error::from)
    });
    if let Err(error) = written {
        tracing::debug!(path = %path.display(), %error, "host facts not remembered");
    }
}

/// Random bytes from the kernel.
pub fn random<const N: usize>() -> Result<[u8; N], HostError> {
    crate::sys::process::random()
        .map_err(|errno| HostError::Lookup { path: "/dev/urandom".into(), source: errno.into() })
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
    let raises = CString::new(canonical.as_os_str().as_bytes())
        .map_err(|_| Errno::EINVAL)
        .and_then(|it| xattr::gives_capabilities(&it));
    Ok(Some(ProgramFact::Found {
        location: location(&path, &canonical, places),
        path,
        device: metadata.dev(),
        inode: metadata.ino(),
        setid: mode & SET_ID != 0 || raises.unwrap_or(true),
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
