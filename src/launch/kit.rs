//! Lowers a plan to what the child needs: C strings, masks and numbers, all built before the clone.
//!
//! Init and the command's process read the kit where it lies, in the supervisor's memory: init until
//! it ends, the other until it executes the program. The supervisor changes nothing in it meanwhile.
//!
//! Nothing is decided here. Where the plan names a path, the kit has the same path relative to the
//! new root; where the plan names a limit, the kit has the number the kernel takes.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::router::RouterKit;
use super::{Filling, LaunchError, limits};
use crate::model::{PathKind, Streams};
use crate::plan::{Access, FsRights, Late, Layers, ProcessesBy, SandboxPlan, ViewEntry, What};
use crate::sys::mount::{NO_DEVICES, NO_PROGRAMS, NO_SETID, READ_ONLY};
use crate::sys::process::{self, Image};
use crate::sys::seccomp::Instruction;

/// Where the parts of overlays are while those are put together, in the new root.
const PARTS: &str = ".rung-parts";

/// Everything the child does, in order, with nothing left to compute.
#[derive(Debug)]
pub(super) struct Kit {
    /// Descriptors of the supervisor that this process must not keep.
    pub(super) foreign: Vec<RawFd>,
    /// The supervisor's words: the first byte is the word to start, later ones are signals, and the
    /// end means that it died.
    pub(super) control: OwnedFd,
    /// Messages to the supervisor.
    pub(super) status: OwnedFd,
    /// Init's word to the command's process that its own walls stand: the reading and the writing
    /// end.
    pub(super) confined: (OwnedFd, OwnedFd),
    pub(super) uid_map: Vec<u8>,
    pub(super) gid_map: Vec<u8>,
    /// The same ids again, for the second user namespace.
    pub(super) inner_uid_map: Vec<u8>,
    pub(super) inner_gid_map: Vec<u8>,
    pub(super) view: Vec<Operation>,
    pub(super) loopback: bool,
    pub(super) router: Option<RouterKit>,
    pub(super) terminal: Option<TerminalKit>,
    /// Carries the listener of the filter to the supervisor, where the run has a gate.
    pub(super) gate: Option<OwnedFd>,
    pub(super) ruleset: Option<OwnedFd>,
    /// Rules on what exists only inside: (path, rights).
    pub(super) inner_rules: Vec<(CString, u64)>,
    /// A ruleset without rules, for init.
    pub(super) init_ruleset: Option<OwnedFd>,
    pub(super) init_filter: Vec<Instruction>,
    pub(super) last_capability: u8,
    /// (resource, value), soft and hard alike.
    pub(super) limits: Vec<(u32, u64)>,
    pub(super) cwd: CString,
    pub(super) file_mask: u32,
    pub(super) streams: [Option<OwnedFd>; 3],
    pub(super) filter: Vec<Instruction>,
    pub(super) image: Image,
    /// Where the command's process is started, instead of in a cgroup namespace of init's.
    pub(super) cgroup: Option<OwnedFd>,
    /// File systems of the run's own, of which init tells whether they are full.
    pub(super) places: Vec<CString>,
}

/// A pseudo terminal from the sandbox's own `devpts`.
#[derive(Debug)]
pub(super) struct TerminalKit {
    /// Carries the master to the supervisor.
    pub(super) channel: OwnedFd,
    /// How many of the streams it is; the others are the caller's own.
    pub(super) streams: i32,
}

/// One step of building the view. Paths are relative to the new root.
#[derive(Debug)]
pub(super) enum Operation {
    Directory {
        path: CString,
    },
    Link {
        path: CString,
        target: CString,
    },
    Bind(Bind),
    /// A place for the parts of overlays while they are put together. It is the memory of the
    /// layers that the run does not keep, and out of reach when the view stands.
    Parts {
        path: CString,
        options: CString,
    },
    Overlay(Overlay),
    Private {
        path: CString,
        options: CString,
        attributes: u64,
    },
    Proc {
        path: CString,
        masked: Vec<(CString, bool)>,
    },
    Devices {
        path: CString,
        shm: CString,
    },
    Masked {
        path: CString,
        directory: bool,
    },
    Text {
        path: CString,
        text: Vec<u8>,
        mode: u32,
        /// The mount point is made first; otherwise it exists in what lies below.
        make: bool,
    },
    /// A mount of the object on itself.
    Again {
        path: CString,
        /// (device, inode) that it must have. An overlay gives its objects numbers that are not
        /// known before it is mounted.
        identity: Option<(u64, u64)>,
        read_only: bool,
    },
}

impl Operation {
    /// The place in the view, for people.
    pub(super) fn place(&self) -> String {
        if let Self::Parts { .. } = self {
            return "the parts of overlays".to_owned();
        }
        let (Self::Directory { path }
        | Self::Link { path, .. }
        | Self::Private { path, .. }
        | Self::Proc { path, .. }
        | Self::Devices { path, .. }
        | Self::Masked { path, .. }
        | Self::Text { path, .. }
        | Self::Again { path, .. }
        | Self::Overlay(Overlay { path, .. })
        | Self::Bind(Bind { path, .. })) = self
        else {
            return String::new();
        };
        format!("/{}", path.to_string_lossy())
    }
}

/// A host object in the view.
#[derive(Debug)]
pub(super) struct Bind {
    /// Absolute, in the host's tree.
    pub(super) source: CString,
    pub(super) path: CString,
    pub(super) directory: bool,
    /// The mount point is made first; otherwise it exists in what lies below.
    pub(super) make: bool,
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) attributes: u64,
}

/// A host directory with a layer on top of it.
#[derive(Debug)]
pub(super) struct Overlay {
    pub(super) lower: Part,
    /// Holds `upper` and `work`.
    pub(super) layers: Layer,
    /// Where these are while it is put together.
    pub(super) upper: CString,
    pub(super) work: CString,
    pub(super) path: CString,
    pub(super) make: bool,
    pub(super) attributes: u64,
}

/// What an overlay is made of.
#[derive(Debug)]
pub(super) struct Part {
    /// Absolute, in the host's tree.
    pub(super) source: CString,
    /// (device, inode).
    pub(super) identity: (u64, u64),
    /// Where it is while the overlay is put together.
    pub(super) place: CString,
}

#[derive(Debug)]
pub(super) enum Layer {
    Kept(Part),
    /// Made in this place.
    Private {
        place: CString,
    },
}

pub(super) fn c_string(bytes: &[u8]) -> Result<CString, LaunchError> {
    CString::new(bytes).map_err(|_| LaunchError::NulByte)
}

/// `/usr/bin` as `usr/bin`; the root itself as `.`.
pub(super) fn relative(path: &Path) -> Result<CString, LaunchError> {
    let inside = path.strip_prefix("/").map_err(|_| LaunchError::NotAbsolute(path.to_owned()))?;
    let bytes = inside.as_os_str().as_bytes();
    c_string(if bytes.is_empty() { b"." } else { bytes })
}

/// The view's entries as operations, with the directories that their mount points need.
pub(super) fn view(plan: &SandboxPlan, filling: &Filling) -> Result<Vec<Operation>, LaunchError> {
    let mut operations = Vec::new();
    operations.extend(parts(plan)?);
    let mut made = BTreeSet::new();
    for entry in &plan.view {
        let inside = !is_ours(&entry.path, &plan.view);
        if !inside {
            for parent in missing_parents(&entry.path, &made) {
                operations.push(Operation::Directory { path: relative(&parent)? });
                made.insert(parent);
            }
        }
        let merged = in_overlay(&entry.path, &plan.view);
        let number = operations.len();
        operations.push(operation(entry, (!inside, merged), number, filling)?);
        made.insert(entry.path.clone());
    }
    Ok(operations)
}

/// Whether the parent of `path` is a file system of this run's own, so that a mount point can be
/// made there: it is, unless the closest entry above is one of the host's objects.
fn is_ours(path: &Path, view: &[ViewEntry]) -> bool {
    let above = path.ancestors().skip(1).find_map(|ancestor| {
        view.iter().rev().find(|entry| entry.path == ancestor).map(|entry| &entry.what)
    });
    match above {
        None => true,
        Some(what) => match what {
            What::Directory | What::Private { .. } | What::Devices { .. } => true,
            What::Bind { .. }
            | What::Overlay { .. }
            | What::SymbolicLink { .. }
            | What::Proc { .. }
            | What::Text { .. }
            | What::Masked { .. }
            | What::Pinned { .. }
            | What::Protected { .. } => false,
        },
    }
}

/// Whether what lies at `path` is shown by an overlay, whose objects have identities of its own.
fn in_overlay(path: &Path, view: &[ViewEntry]) -> bool {
    let tree =
        view.iter().rev().filter(|it| path.starts_with(&it.path)).find_map(|it| match it.what {
            What::Overlay { .. } => Some(true),
            What::Pinned { .. } | What::Protected { .. } => None,
            What::Directory
            | What::Bind { .. }
            | What::Private { .. }
            | What::SymbolicLink { .. }
            | What::Proc { .. }
            | What::Devices { .. }
            | What::Text { .. }
            | What::Masked { .. } => Some(false),
        });
    tree.unwrap_or(false)
}

fn missing_parents(path: &Path, made: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
    let mut missing: Vec<PathBuf> = path
        .ancestors()
        .skip(1)
        .take_while(|it| *it != Path::new("/") && !made.contains(*it))
        .map(Path::to_owned)
        .collect();
    missing.reverse();
    missing
}

/// As large as the layers in it may be together; nothing where there is no overlay.
fn parts(plan: &SandboxPlan) -> Result<Option<Operation>, LaunchError> {
    /// Of the names that parts have there, and of `upper` and `work`.
    const FILES: u64 = 256;
    const BYTES: u64 = 1 << 20;
    let sizes = plan.view.iter().filter_map(|it| {
        let What::Overlay { layers, .. } = &it.what else { return None };
        Some(match layers {
            Layers::Private { size, files } => (size.0, files.0),
            Layers::Kept(_) => (0, 0),
        })
    });
    let Some((size, files)) = sizes.reduce(|a, b| (a.0.max(b.0), a.1.max(b.1))) else {
        return Ok(None);
    };
    let options = tmpfs(size.saturating_add(BYTES), files.saturating_add(FILES), "0700")?;
    Ok(Some(Operation::Parts { path: c_string(PARTS.as_bytes())?, options }))
}

/// The parts of one overlay, under names that its options give no meaning, whatever the host's
/// paths are.
fn overlay(
    lower: (&Path, (u64, u64)),
    layers: &Layers,
    (path, make, attributes): (CString, bool, u64),
    number: usize,
) -> Result<Overlay, LaunchError> {
    let place = |name: &str| c_string(format!("{PARTS}/{number}-{name}").as_bytes());
    let part = |source: &Path, identity, name: &str| -> Result<Part, LaunchError> {
        let source = c_string(source.as_os_str().as_bytes())?;
        Ok(Part { source, identity, place: place(name)? })
    };
    let layers = match layers {
        Layers::Kept(store) => {
            Layer::Kept(part(&store.directory, (store.device, store.inode), "layers")?)
        }
        Layers::Private { .. } => Layer::Private { place: place("layers")? },
    };
    Ok(Overlay {
        lower: part(lower.0, lower.1, "lower")?,
        layers,
        upper: place("layers/upper")?,
        work: place("layers/work")?,
        path,
        make,
        attributes,
    })
}

fn operation(
    entry: &ViewEntry,
    (make, merged): (bool, bool),
    number: usize,
    filling: &Filling,
) -> Result<Operation, LaunchError> {
    let path = relative(&entry.path)?;
    let known = |device, inode| (!merged).then_some((device, inode));
    Ok(match &entry.what {
        What::Directory => Operation::Directory { path },
        What::SymbolicLink { target } => {
            Operation::Link { path, target: c_string(target.as_os_str().as_bytes())? }
        }
        What::Bind { source, kind, device, inode, access, programs } => Operation::Bind(Bind {
            source: c_string(source.as_os_str().as_bytes())?,
            path,
            directory: *kind == PathKind::Directory,
            make,
            device: *device,
            inode: *inode,
            attributes: attributes(*access, *programs),
        }),
        What::Overlay { lower, device, inode, layers, access, programs } => {
            let place = (path, make, attributes(*access, *programs));
            Operation::Overlay(overlay((lower, (*device, *inode)), layers, place, number)?)
        }
        What::Private { size, files, access, programs } => Operation::Private {
            path,
            options: tmpfs(size.0, files.0, private_mode(&entry.path))?,
            attributes: attributes(*access, *programs),
        },
        What::Proc { masked } => Operation::Proc {
            path,
            masked: masked
                .iter()
                .map(|it| Ok((c_string(it.name.as_bytes())?, it.kind == PathKind::Directory)))
                .collect::<Result<_, LaunchError>>()?,
        },
        What::Devices { shm, files } => {
            Operation::Devices { path, shm: tmpfs(shm.0, files.0, "1777")? }
        }
        What::Text { text, late } => {
            let text = match late {
                None => text.clone().into_bytes(),
                Some(Late::Authorities) => filling.authorities.clone(),
                Some(Late::Placeholders) => filling.filled(text).into_bytes(),
            };
            // Some programs do not read what others may.
            let mode = if *late == Some(Late::Placeholders) { 0o400 } else { 0o444 };
            Operation::Text { path, text, mode, make }
        }
        What::Masked { kind } => {
            Operation::Masked { path, directory: *kind == PathKind::Directory }
        }
        What::Pinned { device, inode } => {
            Operation::Again { path, identity: known(*device, *inode), read_only: false }
        }
        What::Protected { device, inode, .. } => {
            Operation::Again { path, identity: known(*device, *inode), read_only: true }
        }
    })
}

/// `/tmp` looks as programs expect it; everything else private is the user's alone.
fn private_mode(path: &Path) -> &'static str {
    if path == Path::new("/tmp") { "1777" } else { "0700" }
}

fn attributes(access: Access, programs: bool) -> u64 {
    let read_only = match access {
        Access::Read => READ_ONLY,
        Access::Write => 0,
    };
    NO_SETID | NO_DEVICES | read_only | if programs { 0 } else { NO_PROGRAMS }
}

/// Options of a tmpfs: each has a size and a number of files, or it would take half the memory.
fn tmpfs(size: u64, files: u64, mode: &str) -> Result<CString, LaunchError> {
    c_string(format!("mode={mode},size={size},nr_inodes={files}").as_bytes())
}

/// Splits the rules: those on host objects, which the supervisor adds while the child is busy, and
/// those on what exists only inside.
pub(super) fn rules(plan: &SandboxPlan) -> Result<Rules, LaunchError> {
    let mut host = Vec::new();
    let mut inner = Vec::new();
    for (path, rule) in &plan.landlock.rules {
        let bound = plan.view.iter().rev().find(|entry| &entry.path == path);
        match bound.map(|entry| &entry.what) {
            Some(What::Bind { source, device, inode, .. }) => host.push(HostRule {
                source: source.clone(),
                device: *device,
                inode: *inode,
                rights: rule.rights,
            }),
            _ => inner.push((c_string(path.as_os_str().as_bytes())?, rule.rights.0)),
        }
    }
    Ok(Rules { host, inner })
}

/// The plan's file rules, by who can add them.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) host: Vec<HostRule>,
    /// (path, rights).
    pub(super) inner: Vec<(CString, u64)>,
}

/// Rights on a host object, which is the same object wherever it is mounted.
#[derive(Debug)]
pub(super) struct HostRule {
    pub(super) source: PathBuf,
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) rights: FsRights,
}

/// Resource limits of the command, as `prlimit(2)` takes them.
pub(super) fn limits(plan: &SandboxPlan) -> Vec<(u32, u64)> {
    /// Locked memory, message queues and pending signals: enough for ordinary tools.
    const MEMLOCK_BYTES: u64 = 64 << 10;
    const MSGQUEUE_BYTES: u64 = 800 << 10;
    const SIGNALS_PENDING: u64 = 4096;
    /// Where a cgroup keeps the processes it comes first, because it can be asked afterwards.
    const PROCESSES_BEYOND: u64 = 16;
    let processes = match plan.limits.processes_by {
        ProcessesBy::Cgroup => plan.limits.processes.max.0.saturating_add(PROCESSES_BEYOND),
        ProcessesBy::Kernel | ProcessesBy::Polling => plan.limits.processes.max.0,
    };
    vec![
        (process::LIMIT_NPROC, processes),
        (process::LIMIT_NOFILE, plan.limits.open_files.max.0),
        (process::LIMIT_FSIZE, plan.limits.file.max.0),
        (process::LIMIT_MEMLOCK, MEMLOCK_BYTES),
        (process::LIMIT_MSGQUEUE, MSGQUEUE_BYTES),
        (process::LIMIT_SIGPENDING, SIGNALS_PENDING),
        (process::LIMIT_RTPRIO, 0),
        (process::LIMIT_NICE, 0),
        // 1 and not 0: a core pattern that is a pipe ignores 0 (fs/coredump.c), and 1 is below the
        // smallest core that is written to a file.
        (process::LIMIT_CORE, 1),
    ]
}

/// The program with its words and its complete environment.
pub(super) fn image(plan: &SandboxPlan, filling: &Filling) -> Result<Image, LaunchError> {
    let command = &plan.command;
    let credentials = plan.network.egress.iter().flat_map(|it| &it.credentials);
    let late: Vec<&String> = credentials.filter_map(|it| it.variable.as_ref()).collect();
    let argv = command.argv.iter().map(|it| c_string(it.as_bytes())).collect::<Result<_, _>>()?;
    let envp = command
        .environment
        .iter()
        .map(|(name, variable)| {
            let mut text = name.clone().into_bytes();
            text.push(b'=');
            match variable.value.as_str().filter(|_| late.contains(&name)) {
                Some(marked) => text.extend_from_slice(filling.filled(marked).as_bytes()),
                None => text.extend_from_slice(variable.value.as_bytes()),
            }
            c_string(&text)
        })
        .collect::<Result<_, _>>()?;
    Ok(Image::new(c_string(command.program.as_os_str().as_bytes())?, argv, envp))
}

/// The run's own file systems.
pub(super) fn places(plan: &SandboxPlan) -> Result<Vec<CString>, LaunchError> {
    limits::places(plan).iter().map(|it| c_string(it.path.as_os_str().as_bytes())).collect()
}

/// Whether the run gets a terminal of its own.
pub(super) fn wants_terminal(plan: &SandboxPlan) -> bool {
    match plan.streams {
        Streams::Inherit | Streams::RawInherit => false,
        Streams::Terminal | Streams::RawTerminal => true,
    }
}
