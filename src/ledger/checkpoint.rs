//! Checkpoints: the head of the chain, signed with a key of the ledger's own.
//!
//! What is signed is a short text, one field a line, so that any Ed25519 tool can check it:
//! `rung.audit.checkpoint.v1`, segment, last sequence number, number of records, fingerprint. The
//! newest checkpoint is kept a second time in the file `checkpoint`, which makes an end that was
//! cut off evident up to there. What this proves and what not is said in the module `ledger`.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

use super::directory::Directory;
use super::line::{self, Body, Entry};
use super::{Control, LedgerError};
use crate::model::Digest;

const KEY: &str = "key";
const PUBLIC_KEY: &str = "key.pub";
const LAST: &str = "checkpoint";
const RANDOM: &str = "/dev/urandom";

fn note(segment: &str, through: u64, count: u64, head: Digest) -> Vec<u8> {
    format!("rung.audit.checkpoint.v1\n{segment}\n{through}\n{count}\n{head}\n").into_bytes()
}

pub(super) fn signed(
    key: &SigningKey,
    segment: String,
    through: u64,
    head: Digest,
    count: u64,
) -> Control {
    let signature = key.sign(&note(&segment, through, count, head));
    Control::Checkpoint {
        key: hex(key.verifying_key().as_bytes()),
        signature: hex(&signature.to_bytes()),
        segment,
        through,
        head,
        count,
    }
}

/// Whether the checkpoint carries a signature of `key` over what it says.
pub(super) fn holds(control: &Control, key: &VerifyingKey) -> bool {
    let Control::Checkpoint { segment, through, head, count, key: named, signature } = control
    else {
        return false;
    };
    let Some(signature) = unhex::<64>(signature) else { return false };
    let note = note(segment, *through, *count, *head);
    *named == hex(key.as_bytes())
        && key.verify_strict(&note, &Signature::from_bytes(&signature)).is_ok()
}

/// Reads the key, or makes it where there has never been one. Only under the lock.
pub(super) fn signing_key(directory: &Directory) -> Result<SigningKey, LedgerError> {
    let problem = |problem| LedgerError::Key { path: directory.path_of(KEY), problem };
    if let Some(text) = directory.read_small(KEY)? {
        let seed =
            unhex_line::<32>(&text).ok_or_else(|| problem("is not 64 hexadecimal digits"))?;
        let key = SigningKey::from_bytes(&seed);
        publish(directory, &key)?;
        return Ok(key);
    }
    if directory.read_small(PUBLIC_KEY)?.is_some() {
        return Err(problem("is missing although `key.pub` lies beside it"));
    }
    let mut seed = [0; 32];
    File::open(RANDOM).and_then(|mut random| random.read_exact(&mut seed)).map_err(|source| {
        LedgerError::Io { action: "read", path: PathBuf::from(RANDOM), source }
    })?;
    let key = SigningKey::from_bytes(&seed);
    directory.replace(KEY, format!("{}\n", hex(&seed)).as_bytes())?;
    publish(directory, &key)?;
    Ok(key)
}

fn publish(directory: &Directory, key: &SigningKey) -> Result<(), LedgerError> {
    let text = format!("{}\n", hex(key.verifying_key().as_bytes()));
    match directory.read_small(PUBLIC_KEY)? {
        Some(there) if there == text.as_bytes() => Ok(()),
        Some(_) => Err(LedgerError::Key {
            path: directory.path_of(KEY),
            problem: "does not belong to `key.pub` beside it",
        }),
        None => directory.replace(PUBLIC_KEY, text.as_bytes()),
    }
}

/// The public key that lies beside the segments.
pub(super) fn public_key(directory: &Directory) -> Result<Option<VerifyingKey>, LedgerError> {
    let Some(text) = directory.read_small(PUBLIC_KEY)? else { return Ok(None) };
    let key = unhex_line::<32>(&text).and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok());
    key.map(Some).ok_or_else(|| LedgerError::Key {
        path: directory.path_of(PUBLIC_KEY),
        problem: "is not an Ed25519 public key",
    })
}

/// The newest checkpoint, from its own small file; nothing where there has been none.
pub(super) fn last(directory: &Directory) -> Result<Option<Entry>, LedgerError> {
    let Some(bytes) = directory.read_small(LAST)? else { return Ok(None) };
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    let entry = line::read(LAST, 1, text).ok();
    let checkpoint =
        entry.filter(|it| matches!(it.body, Body::Control(Control::Checkpoint { .. })));
    checkpoint.map(Some).ok_or_else(|| LedgerError::Damaged {
        path: directory.path_of(LAST),
        what: "it is not a checkpoint".to_owned(),
    })
}

/// Keeps the record as the newest checkpoint, unless another process has a newer one. Only under
/// the lock.
pub(super) fn remember(directory: &Directory, seq: u64, text: &[u8]) -> Result<(), LedgerError> {
    if last(directory)?.is_some_and(|it| it.seq >= seq) {
        return Ok(());
    }
    directory.replace(LAST, &[text, b"\n"].concat())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let halves = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    halves.filter_map(|half| char::from_digit(half.into(), 16)).collect()
}

fn unhex_line<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    unhex(std::str::from_utf8(text).ok()?.trim_end())
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (slot, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = pair else { return None };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
        *slot = digit(*high)? * 16 + digit(*low)?;
    }
    Some(bytes)
}
