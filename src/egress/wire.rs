//! What the supervisor and the gateway say to each other: one word for each message.

use serde::{Deserialize, Serialize};

use super::credential::Lent;
use crate::model::{Denial, Level, Traffic};
use crate::plan::egress::EgressPlan;

/// A message is never longer; the kernel takes as much at once by default.
pub(super) const WORD_BYTES_MAX: usize = 160 << 10;

/// The supervisor's only word: the run is over. Behind it are the numbers of names that it wants to
/// know.
pub(super) const END: u8 = b'e';
/// One message to the gateway is never longer.
pub(super) const QUESTION_BYTES_MAX: usize = 4096;
/// What all names of one answer may take.
pub(super) const NAMES_BYTES_MAX: usize = 16 << 10;
/// The byte that comes with the sandbox's sockets.
pub(super) const SOCKETS: &[u8] = b"s";

/// The byte that comes with the file for its counters, before everything else.
pub(super) const COUNTERS: &[u8] = b"c";

/// What the gateway is started with.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Start {
    pub(super) plan: EgressPlan,
    pub(super) level: Level,
    /// In the order of the plan's credentials.
    pub(super) lent: Vec<Lent>,
}

/// What the gateway says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// It has confined itself and waits for the sandbox's sockets.
    Ready {
        /// The certificate of the run's own authority, as text. Empty: there is none.
        authority: Vec<u8>,
    },
    /// It could not.
    Failed(String),
    /// Everything it saw, at the end.
    Report(Seen),
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) denials: Vec<Denial>,
    pub(super) traffic: Vec<Traffic>,
    pub(super) notes: Vec<String>,
    /// Those that were asked for.
    pub(super) names: Vec<(u32, String)>,
    pub(super) leases: Vec<LeaseSeen>,
}

/// The end, with the names that are wanted, as far as they fit.
pub(super) fn end(names: &[u32]) -> Vec<u8> {
    let list = postcard::to_stdvec(names).unwrap_or_default();
    let list = if list.len() < QUESTION_BYTES_MAX { list } else { Vec::new() };
    [&[END][..], &list].concat()
}

/// The names that the end asks for, if it is the end.
pub(super) fn wanted(bytes: &[u8]) -> Option<Vec<u32>> {
    let list = bytes.strip_prefix(&[END])?;
    Some(postcard::from_bytes(list).unwrap_or_default())
}

/// What became of one credential in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseSeen {
    pub name: String,
    /// Requests that carried the secret.
    pub used: u64,
    /// Requests in which the placeholder was where it does not belong.
    pub refused: u64,
}

impl Word {
    pub(super) fn encode(&self) -> Vec<u8> {
        // Nothing in these types can fail to be encoded; no word would be heard as a lost gateway.
        postcard::to_stdvec(self).unwrap_or_default()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }
}
