//! What the kernel will answer to one operation of a command that runs under a plan: on a file, or to
//! a connection.
//!
//! The plan knows mounts, pins and file rules, not what is in the trees: an allowed operation may
//! still fail because the file does not exist or its mode forbids it. Paths are absolute paths of
//! the view; links inside bound trees and mounts below them are the host's and not known here. Of a
//! connection the plan knows whom it may be for, not whether anybody answers there.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::egress::{self, Refused};
use super::surface::Surface;
use super::{Access, FsRights, Origin, SandboxPlan};
use crate::profile::Table;

/// One thing a command may try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Open a file for reading.
    Read(PathBuf),
    /// Open an existing file for writing.
    Write(PathBuf),
    List(PathBuf),
    /// Make a file where there is none.
    Create(PathBuf),
    /// Remove a file.
    Delete(PathBuf),
    /// Give a file another name.
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Execute(PathBuf),
    /// Look a host up, if it is a name, and open a TCP connection to it.
    Connect {
        host: String,
        port: u16,
    },
}

/// The answer and the profile lines behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prediction {
    pub answer: Answer,
    pub because: Vec<Origin>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The sandbox does not stand in the way.
    Allowed,
    /// There is no such place (`ENOENT`).
    NotInView,
    /// An empty thing lies on top: nothing can be read from it or written to it.
    Hidden,
    /// The mount is read-only (`EROFS`).
    ReadOnly,
    /// The mount starts no programs (`EACCES`).
    NoPrograms,
    /// No file rule allows it (`EACCES`).
    FileRules,
    /// A mount point can neither be removed nor renamed (`EBUSY`).
    MountPoint,
    /// The two names lie in different mounts (`EXDEV`).
    OtherMount,
    /// The system call table has no network sockets (`EAFNOSUPPORT`).
    NoSockets,
    /// There is no network but the run's own, or not even that (`ENETUNREACH`).
    NoWayOut,
    /// No destination means it: the name does not exist, or the address is refused.
    NotListed,
    /// A destination means it, with other ports (`ECONNREFUSED`).
    PortClosed,
    /// It is neither an address nor a name that a host can have.
    NoHostName,
}

impl Answer {
    /// The reason, as a sentence goes on.
    pub fn words(self) -> &'static str {
        match self {
            Self::Allowed => "the sandbox does not stand in the way",
            Self::NotInView => "there is no such place in the sandbox",
            Self::Hidden => "an empty thing lies on top of it",
            Self::ReadOnly => "it is mounted read-only",
            Self::NoPrograms => "no programs start there",
            Self::FileRules => "no file rule allows it",
            Self::MountPoint => "it is a mount point",
            Self::OtherMount => "the names lie in different mounts",
            Self::NoSockets => "the system call table has no network sockets",
            Self::NoWayOut => "the run has no way out",
            Self::NotListed => "no destination of the profile means it",
            Self::PortClosed => "the profile lists the host, but not this port",
            Self::NoHostName => "it is no host name",
        }
    }
}

/// What the kernel will answer to `operation` under `plan`.
pub fn predict(plan: &SandboxPlan, operation: &Operation) -> Prediction {
    let (place, answer) = match operation {
        Operation::Connect { host, port } => return connect(plan, host, *port),
        Operation::Read(path) => object(plan, path, FsRights::READ_FILE, readable),
        Operation::List(path) => object(plan, path, FsRights::READ_DIR, listable),
        Operation::Write(path) => object(plan, path, FsRights::WRITE_FILE, writable),
        Operation::Execute(path) => object(plan, path, FsRights::EXECUTE, startable),
        Operation::Create(path) => name(plan, path, FsRights::MAKE_REG | FsRights::WRITE_FILE),
        Operation::Delete(path) => name(plan, path, FsRights::REMOVE_FILE),
        Operation::Rename { from, to } => rename(plan, from, to),
    };
    Prediction { answer, because: plan.origins_at(&place) }
}

fn connect(plan: &SandboxPlan, host: &str, port: u16) -> Prediction {
    if plan.syscalls.table == Table::Strict {
        return Prediction {
            answer: Answer::NoSockets,
            because: vec![plan.syscalls.because.clone()],
        };
    }
    if egress::is_own(host) {
        let answer =
            if plan.network.loopback.is_some() { Answer::Allowed } else { Answer::NoWayOut };
        return Prediction { answer, because: plan.network.loopback.iter().cloned().collect() };
    }
    let (answer, because) = match egress::connects(plan.network.egress.as_ref(), host, port) {
        Ok(because) => (Answer::Allowed, because),
        Err(Refused::NoWayOut) => (Answer::NoWayOut, Vec::new()),
        Err(Refused::NoName(_)) => (Answer::NoHostName, Vec::new()),
        Err(Refused::Port) => {
            let egress = plan.network.egress.iter();
            let listed = egress.flat_map(|it| it.meaning(host)).map(|it| it.because.clone());
            (Answer::PortClosed, listed.collect())
        }
        Err(_) => (Answer::NotListed, Vec::new()),
    };
    Prediction { answer, because }
}

/// An operation on the object that a path leads to.
fn object(
    plan: &SandboxPlan,
    path: &Path,
    rights: FsRights,
    mounts_allow: fn(Surface<'_>) -> Answer,
) -> (PathBuf, Answer) {
    let Some(path) = plan.resolve(path) else { return (path.to_path_buf(), Answer::NotInView) };
    let answer = mounts_allow(plan.surface(&path));
    let answer = by_rules(plan, &path, rights, answer);
    (path, answer)
}

fn readable(surface: Surface<'_>) -> Answer {
    match surface {
        Surface::Nothing | Surface::Skeleton | Surface::Link => Answer::NotInView,
        Surface::Masked => Answer::Hidden,
        Surface::Host(_)
        | Surface::Text
        | Surface::Private { .. }
        | Surface::Proc { .. }
        | Surface::Devices { .. } => Answer::Allowed,
    }
}

fn listable(surface: Surface<'_>) -> Answer {
    if surface == Surface::Skeleton { Answer::Allowed } else { readable(surface) }
}

fn writable(surface: Surface<'_>) -> Answer {
    match surface {
        Surface::Nothing | Surface::Skeleton | Surface::Link => Answer::NotInView,
        Surface::Masked => Answer::Hidden,
        Surface::Host(host) => by(host.access),
        Surface::Private { access, .. } => by(access),
        Surface::Proc { .. } | Surface::Text => Answer::ReadOnly,
        Surface::Devices { .. } => Answer::Allowed,
    }
}

fn startable(surface: Surface<'_>) -> Answer {
    let programs = match surface {
        Surface::Nothing | Surface::Skeleton | Surface::Link => return Answer::NotInView,
        Surface::Masked => return Answer::Hidden,
        Surface::Host(host) => host.programs,
        Surface::Private { programs, .. } => programs,
        Surface::Proc { .. } | Surface::Devices { .. } | Surface::Text => false,
    };
    if programs { Answer::Allowed } else { Answer::NoPrograms }
}

fn by(access: Access) -> Answer {
    match access {
        Access::Write => Answer::Allowed,
        Access::Read => Answer::ReadOnly,
    }
}

/// An operation on a name in a directory: what the directory allows decides.
fn name(plan: &SandboxPlan, path: &Path, rights: FsRights) -> (PathBuf, Answer) {
    let Some(path) = plan.resolve_parent(path) else {
        return (path.to_path_buf(), Answer::NotInView);
    };
    if plan.is_mount_point(&path) {
        return (path, Answer::MountPoint);
    }
    let Some(directory) = path.parent().map(Path::to_path_buf) else {
        return (path, Answer::MountPoint);
    };
    let answer = match plan.surface(&directory) {
        Surface::Nothing | Surface::Link | Surface::Text => Answer::NotInView,
        Surface::Masked => Answer::Hidden,
        Surface::Host(host) => by(host.access),
        Surface::Private { access, .. } => by(access),
        // Only `shm` holds files of the run's own.
        Surface::Devices { .. } if directory.ends_with("shm") => Answer::Allowed,
        Surface::Skeleton | Surface::Proc { .. } | Surface::Devices { .. } => Answer::ReadOnly,
    };
    let answer = by_rules(plan, &directory, rights, answer);
    (directory, answer)
}

/// What the mounts allow, the file rules may still refuse.
fn by_rules(plan: &SandboxPlan, path: &Path, rights: FsRights, mounts: Answer) -> Answer {
    let refused = mounts == Answer::Allowed && !plan.landlock.rights_at(path).contains(rights);
    if refused { Answer::FileRules } else { mounts }
}

fn rename(plan: &SandboxPlan, from: &Path, to: &Path) -> (PathBuf, Answer) {
    let resolved = (plan.resolve_parent(from), plan.resolve_parent(to));
    let (Some(source), Some(target)) = resolved else {
        return (from.to_path_buf(), Answer::NotInView);
    };
    let crossing = source.parent() != target.parent();
    let refer = if crossing { FsRights::REFER } else { FsRights::NONE };
    let taken = name(plan, from, FsRights::REMOVE_FILE | refer);
    if taken.1 != Answer::Allowed {
        return taken;
    }
    let given = name(plan, to, FsRights::MAKE_REG | refer);
    if given.1 == Answer::Allowed && plan.mount_of(&taken.0) != plan.mount_of(&given.0) {
        return (given.0, Answer::OtherMount);
    }
    given
}
