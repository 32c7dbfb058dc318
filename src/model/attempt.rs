//! What a run tried to reach, by address.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

/// A connection that a program asked the kernel for, as seen before the kernel made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    pub address: IpAddr,
    pub port: u16,
    pub protocol: Protocol,
    /// Where the program that asked first lies in the view.
    pub program: String,
    /// Its process, by the host's number.
    pub process: i32,
    pub count: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

/// The attempts of a run, within bounds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempts {
    /// Refused for their address alone.
    pub refused: Vec<Attempt>,
    /// Decided by what arrived.
    pub made: Vec<Attempt>,
    /// Programs that were seen turning to the resolver, whatever for.
    pub asked: Vec<String>,
    /// Refused ones beyond those.
    pub more: u32,
    /// Allowed ones for which no port could be opened any more.
    pub unserved: u32,
}
