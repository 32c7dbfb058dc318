//! The ledger: what was decided, what ran and what came of it, in one chain of records.
//!
//! The one idea: a record carries the fingerprint of the record before it and its own fingerprint
//! over the exact bytes on disk, so that no line can be changed, dropped or moved without every
//! later line saying so. Records are JSON Lines in numbered segments (`000001.jsonl`, ...), written
//! by any number of processes under one lock, each call one `write(2)`.
//!
//! [`Ledger`] writes; [`verify`], [`show`], [`tail`], [`Follow`] and [`export`] read. Secrets are
//! taken out by the [`Redactor`] inside [`Ledger::append`], before anything is hashed, so that no
//! caller can forget it.
//!
//! # What it proves, and what it does not
//!
//! The chain alone shows damage and careless edits. Whoever can write the directory can also write
//! a whole new chain. Every so often a *checkpoint* signs the head of the chain with a key that
//! lies in the same directory (`key`, mode 0600): it shows that records were not rewritten by
//! somebody who could write the segments but not read the key. It shows nothing against code that
//! runs as the same user as rung outside every sandbox, for that code can read the key too; nor
//! that the newest records, after the last checkpoint, were not cut off. Both become evident
//! against an [`Anchor`]: the `seq` and `fp` of a record (each [`Receipt`] has them), kept where
//! that user cannot write, and given to [`verify`] later. No sandbox sees this directory.
//!
//! What this module must not do: ask the clock (time is an argument), decide anything, or write
//! outside its directory.

mod checkpoint;
mod directory;
mod error;
mod export;
mod line;
mod read;
mod record;
mod redact;
mod verify;
mod write;

pub use error::LedgerError;
pub use export::{Format, export};
pub use line::{Body, Entry, RECORD_BYTES_MAX};
pub use read::{Follow, decided, show, tail};
pub use record::{
    Answer, Connect, Control, Decision, DenialSeen, Exec, ExecCount, ExecEnd, ExecStart, Judged,
    LearnObserved, Lease, LeaseEvent, Outcome, ProfileLoad, Quarantine, Record, SessionAct,
    SessionVerb, Tally,
};
pub use redact::{Redactor, is_redacted};
pub use verify::{Anchor, Fault, Problem, Report, verify};
pub use write::{Ledger, Receipt};
