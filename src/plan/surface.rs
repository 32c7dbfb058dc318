//! What a view shows at a path, worked out from the entries alone.
//!
//! [`within`](super::within()) and [`predict`](super::predict()) both stand on this: the entry that
//! was mounted last decides, pins and protections change how the object below them is held, and
//! the view's own symbolic links are followed. Links inside bound trees are not known here.

use std::path::{Path, PathBuf};

use super::{Access, Bytes, Count, MaskedName, Origin, SandboxPlan, ViewEntry, What};
use crate::model::lies_in;

/// A chain of the view's own links is never longer.
const LINKS_MAX: usize = 8;

/// Nodes, directories and links that a [`What::Devices`] entry has.
const DEVICES: [&str; 12] = [
    "fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty",
    "urandom",
];
const ZERO: &str = "zero";

/// What is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Surface<'a> {
    /// No entry puts anything there.
    Nothing,
    /// A directory of the view's own root, which is read-only.
    Skeleton,
    /// An object of the host, or what is below it.
    Host(Host<'a>),
    Private {
        size: Bytes,
        files: Count,
        access: Access,
        programs: bool,
    },
    Proc {
        masked: &'a [MaskedName],
    },
    Devices {
        shm: Bytes,
        files: Count,
    },
    /// A file of the run's own with a given text.
    Text,
    /// One of the view's own links; only where links are not followed.
    Link,
    Masked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Host<'a> {
    /// The bound tree's place in the view, and its object on the host.
    pub(super) root: &'a Path,
    pub(super) source: &'a Path,
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) access: Access,
    pub(super) programs: bool,
    /// The path itself is a mount point that is pinned or protected.
    pub(super) pinned: bool,
}

impl SandboxPlan {
    /// What is at `path`, without following a link at its end.
    pub(super) fn surface(&self, path: &Path) -> Surface<'_> {
        let Some(entry) = self.top(path) else { return self.skeleton(path) };
        match &entry.what {
            What::Directory => self.skeleton(path),
            What::SymbolicLink { .. } => Surface::Link,
            What::Bind { .. }
            | What::Overlay { .. }
            | What::Pinned { .. }
            | What::Protected { .. } => self.host_object(path, entry),
            What::Private { size, files, access, programs } => Surface::Private {
                size: *size,
                files: *files,
                access: *access,
                programs: *programs,
            },
            What::Proc { masked } => {
                let below = path.strip_prefix(&entry.path).unwrap_or(Path::new(""));
                let first = below.components().next();
                match first.and_then(|it| it.as_os_str().to_str()) {
                    Some(name) if masked.iter().any(|it| it.name == name) => Surface::Masked,
                    Some(_) | None => Surface::Proc { masked },
                }
            }
            What::Devices { shm, files } => {
                let below = path.strip_prefix(&entry.path).unwrap_or(Path::new(""));
                let first = below.components().next();
                match first.and_then(|it| it.as_os_str().to_str()) {
                    Some(name) if DEVICES.contains(&name) || name == ZERO => {
                        Surface::Devices { shm: *shm, files: *files }
                    }
                    None if first.is_none() => Surface::Devices { shm: *shm, files: *files },
                    Some(_) | None => Surface::Nothing,
                }
            }
            What::Text { .. } if entry.path == path => Surface::Text,
            What::Masked { .. } if entry.path == path => Surface::Masked,
            What::Text { .. } | What::Masked { .. } => Surface::Nothing,
        }
    }

    /// The bound tree that `entry` belongs to, held as tightly as anything laid on it says.
    fn host_object<'a>(&'a self, path: &Path, entry: &'a ViewEntry) -> Surface<'a> {
        let protected = matches!(entry.what, What::Protected { .. });
        let trees = self.view.iter().rev().filter(|it| path.starts_with(&it.path));
        for tree in trees {
            if let What::Bind { source, device, inode, access, programs, .. }
            | What::Overlay { lower: source, device, inode, access, programs, .. } = &tree.what
            {
                return Surface::Host(Host {
                    root: &tree.path,
                    source,
                    device: *device,
                    inode: *inode,
                    access: if protected { Access::Read } else { *access },
                    programs: *programs,
                    pinned: entry.path == path && tree.path != path,
                });
            }
        }
        Surface::Nothing
    }

    fn skeleton(&self, path: &Path) -> Surface<'_> {
        if self.view.iter().any(|it| it.path.starts_with(path)) {
            Surface::Skeleton
        } else {
            Surface::Nothing
        }
    }

    /// The entry that decides what is at `path`: of those at or above it, the last one mounted.
    pub(super) fn top(&self, path: &Path) -> Option<&ViewEntry> {
        top(&self.view, path)
    }

    /// The mount that `path` lies in: its root's place in the view.
    pub(super) fn mount_of(&self, path: &Path) -> &Path {
        let mounts = self.view.iter().rev().filter(|it| path.starts_with(&it.path));
        mounts
            .filter(|it| !matches!(it.what, What::Directory | What::SymbolicLink { .. }))
            .map(|it| it.path.as_path())
            .next()
            .unwrap_or(Path::new("/"))
    }

    pub(super) fn is_mount_point(&self, path: &Path) -> bool {
        path == Path::new("/") || self.mount_of(path) == path
    }

    /// The path with the view's own links replaced, the last name included; nothing if they turn
    /// in a circle.
    pub(super) fn resolve(&self, path: &Path) -> Option<PathBuf> {
        let mut path = path.to_path_buf();
        for _ in 0..LINKS_MAX {
            let Some(ViewEntry { path: place, what: What::SymbolicLink { target }, .. }) =
                self.top(&path)
            else {
                return Some(path);
            };
            let rest = path.strip_prefix(place).ok()?;
            // Joining nothing would leave a trailing slash.
            path = if rest.as_os_str().is_empty() { target.clone() } else { target.join(rest) };
        }
        None
    }

    /// The same, but a link at the end stays.
    pub(super) fn resolve_parent(&self, path: &Path) -> Option<PathBuf> {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => Some(self.resolve(parent)?.join(name)),
            (Some(_) | None, _) => Some(path.to_path_buf()),
        }
    }

    pub(super) fn origins_at(&self, path: &Path) -> Vec<Origin> {
        self.top(path).map(|entry| entry.because.clone()).unwrap_or_default()
    }
}

/// Of the entries at or above `path`, the last one mounted.
pub(super) fn top<'a>(view: &'a [ViewEntry], path: &Path) -> Option<&'a ViewEntry> {
    view.iter().rev().find(|entry| lies_in(path, &entry.path))
}
