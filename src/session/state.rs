//! What an object is, as far as a change can be about it: kind, contents, mode, attributes.
//!
//! Times are carried along and never compared: a program can set them. What it cannot set is the
//! time of the last change of the object itself (`ctime`), which is how rung tells what the host
//! has changed since.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::place::{Object, Sort, c_behind};
use crate::model::{Arg, Digest};
use crate::sys::xattr;

/// A time as the file system has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment {
    pub seconds: i64,
    pub nanoseconds: i64,
}

impl Moment {
    pub(super) fn changed(facts: &fs::Metadata) -> Self {
        Self { seconds: facts.ctime(), nanoseconds: facts.ctime_nsec() }
    }

    pub(super) fn modified(facts: &fs::Metadata) -> Self {
        Self { seconds: facts.mtime(), nanoseconds: facts.mtime_nsec() }
    }
}

/// Extended attributes of the `user` name space, without those of the overlay itself.
pub(super) type Attributes = BTreeMap<String, Vec<u8>>;

/// What lies at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum State {
    Absent,
    File {
        digest: Digest,
        size: u64,
        mode: u32,
        modified: Moment,
        attributes: Attributes,
    },
    Link {
        target: Arg,
    },
    Directory {
        mode: u32,
        attributes: Attributes,
    },
    /// Socket, FIFO or device node.
    Special,
}

impl State {
    /// Whether both are the same in everything that is compared.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::File { digest, mode, attributes, .. },
                Self::File { digest: digest_2, mode: mode_2, attributes: attributes_2, .. },
            ) => (digest, mode, attributes) == (digest_2, mode_2, attributes_2),
            _ => self == other,
        }
    }

    /// Looks at an object and reads it, also into `copy` if there is one.
    pub(super) fn of(object: Option<&Object>, copy: Option<&mut File>) -> io::Result<Self> {
        let Some(object) = object else { return Ok(Self::Absent) };
        let mode = object.facts.mode() & 0o7777;
        Ok(match object.sort() {
            Sort::Whiteout => Self::Absent,
            Sort::Special => Self::Special,
            Sort::Link => {
                let target = object.target()?;
                Self::Link { target: Arg::new(target.as_bytes()).map_err(io::Error::other)? }
            }
            Sort::Directory => Self::Directory { mode, attributes: attributes(object)? },
            Sort::File => {
                let (digest, size) = digest(object.open()?, copy)?;
                let modified = Moment::modified(&object.facts);
                Self::File { digest, size, mode, modified, attributes: attributes(object)? }
            }
        })
    }
}

/// What a file says, and how long it is.
fn digest(mut from: File, mut copy: Option<&mut File>) -> io::Result<(Digest, u64)> {
    let mut hash = Sha256::new();
    let mut size = 0;
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = from.read(&mut piece)?;
        let Some(bytes) = piece.get(..read).filter(|it| !it.is_empty()) else { break };
        hash.update(bytes);
        if let Some(copy) = &mut copy {
            copy.write_all(bytes)?;
        }
        size += bytes.len() as u64;
    }
    Ok((Digest::from_bytes(hash.finalize().into()), size))
}

const PIECE_BYTES: usize = 128 << 10;

/// Whether two files say the same.
pub(super) fn same_contents(a: &Object, b: &Object) -> io::Result<bool> {
    if a.facts.len() != b.facts.len() {
        return Ok(false);
    }
    let (mut a, mut b) = (a.open()?, b.open()?);
    let (mut piece_a, mut piece_b) = (Vec::new(), Vec::new());
    loop {
        piece_a.clear();
        piece_b.clear();
        let read = Read::by_ref(&mut a).take(PIECE_BYTES as u64).read_to_end(&mut piece_a)?;
        Read::by_ref(&mut b).take(PIECE_BYTES as u64).read_to_end(&mut piece_b)?;
        if piece_a != piece_b {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
    }
}

const USER: &str = "user.";
pub(super) const OF_OVERLAY: &str = "user.overlay.";

/// The attributes that a change can be about.
pub(super) fn attributes(object: &Object) -> io::Result<Attributes> {
    let mut attributes = Attributes::new();
    let path = c_behind(object.held.as_fd())?;
    let names = match xattr::list(&path) {
        // A mode that does not let its own user read says nothing about them.
        Err(nix::errno::Errno::EACCES) => return Ok(attributes),
        result => result?,
    };
    for name in names.split(|byte| *byte == 0).filter(|it| !it.is_empty()) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        if !name.starts_with(USER) || name.starts_with(OF_OVERLAY) {
            continue;
        }
        let c_name = std::ffi::CString::new(name)?;
        if let Some(value) = object.attribute(&c_name)? {
            attributes.insert(name.to_owned(), value);
        }
    }
    Ok(attributes)
}

/// Makes the attributes of an object these.
pub(super) fn set_attributes(object: &Object, wanted: &Attributes) -> io::Result<()> {
    let path = c_behind(object.held.as_fd())?;
    let found = attributes(object)?;
    for name in found.keys().filter(|name| !wanted.contains_key(*name)) {
        xattr::remove(&path, &std::ffi::CString::new(name.as_str())?)?;
    }
    for (name, value) in wanted.iter().filter(|(name, value)| found.get(*name) != Some(value)) {
        xattr::set(&path, &std::ffi::CString::new(name.as_str())?, value)?;
    }
    Ok(())
}
