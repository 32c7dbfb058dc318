//! Ports of the router that are opened when the run first wants them.
//!
//! Nobody is in the router's namespace, so nobody could make a socket there: the child has left some
//! behind that are at no port yet. The supervisor, whose user owns the namespace, binds one to the
//! port that is wanted, and the gateway gets it before the connection is made.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;

use crate::sys::message;
use crate::sys::network::{self, Family};

/// The sockets that are left, and the ports that are open.
#[derive(Debug)]
pub(in crate::launch) struct Opens {
    /// Where the sockets arrive, before the command starts.
    spare: OwnedFd,
    gateway: OwnedFd,
    left: Option<BTreeMap<bool, Vec<OwnedFd>>>,
    open: BTreeSet<(bool, u16)>,
}

impl Opens {
    pub(in crate::launch) fn new(spare: OwnedFd, gateway: OwnedFd) -> Self {
        Self { spare, gateway, left: None, open: BTreeSet::new() }
    }

    /// Sees to it that somebody listens at the port.
    pub(super) fn open(&mut self, address: IpAddr, port: u16) -> Result<(), Errno> {
        let is_v6 = address.is_ipv6();
        if self.open.contains(&(is_v6, port)) {
            return Ok(());
        }
        let left = match &mut self.left {
            Some(left) => left,
            None => self.left.insert(arrived(&self.spare)?),
        };
        let socket = left.get_mut(&is_v6).and_then(Vec::pop).ok_or(Errno::EMFILE)?;
        let family = if is_v6 { Family::V6 } else { Family::V4 };
        match network::listen_at(&socket, family, port) {
            // It has been open from the beginning.
            Err(Errno::EADDRINUSE) => left.entry(is_v6).or_default().push(socket),
            result => {
                result?;
                message::send_descriptors(self.gateway.as_fd(), b's', &[socket.as_raw_fd()])?;
            }
        }
        self.open.insert((is_v6, port));
        Ok(())
    }
}

/// The sockets that the child has left behind, by whether they are of IPv6.
fn arrived(channel: &OwnedFd) -> Result<BTreeMap<bool, Vec<OwnedFd>>, Errno> {
    use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};
    let (_, sockets) = message::receive_descriptors(channel.as_fd(), &mut [0])?;
    let mut left: BTreeMap<bool, Vec<OwnedFd>> = BTreeMap::new();
    for socket in sockets {
        let family = getsockname::<SockaddrStorage>(socket.as_raw_fd())?.family();
        left.entry(family == Some(AddressFamily::Inet6)).or_default().push(socket);
    }
    Ok(left)
}
