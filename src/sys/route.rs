//! What the kernel is told about links, addresses and routes, as bytes (rtnetlink(7)).
//!
//! The bytes are put together before the fork; sending them allocates nothing. All addresses of a
//! link, also of the neighbours, are given, so nothing is ever searched for and nothing waits for
//! duplicates to be detected.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use super::{Errno, network};

/// Messages that are sent together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    count: usize,
}

/// Far above the devices that a namespace may be born with.
pub(crate) const CABLE: u32 = 1000;
pub(crate) const LOOPBACK: u32 = 1;
/// The largest that an IP packet can be.
const MTU: u32 = 65535;
pub(crate) const SANDBOX_MAC: [u8; 6] = [0x02, 0x72, 0x75, 0x6e, 0x67, 0x02];
pub(crate) const ROUTER_MAC: [u8; 6] = [0x02, 0x72, 0x75, 0x6e, 0x67, 0x01];

/// Bytes of one message to the kernel (rtnetlink(7), `linux/rtnetlink.h`, `linux/if_link.h`).
pub(crate) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    const NEWLINK: u16 = 16;
    const SETLINK: u16 = 19;
    const NEWADDR: u16 = 20;
    const NEWROUTE: u16 = 24;
    const NEWNEIGH: u16 = 28;
    const CREATE: u16 = 0x400 | 0x200;

    fn new(kind: u16, flags: u16, head: &[u8]) -> Self {
        const REQUEST_ANSWER: u16 = 1 | 4;
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags | REQUEST_ANSWER).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(head);
        Self { bytes }
    }

    fn with(mut self, kind: u16, value: &[u8]) -> Self {
        attribute(&mut self.bytes, kind, value);
        self
    }
}

fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

impl Batch {
    pub(crate) fn of(messages: impl IntoIterator<Item = Message>) -> Self {
        let mut batch = Self::default();
        for Message { mut bytes } in messages {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_ne_bytes();
            for (slot, byte) in bytes.iter_mut().zip(length) {
                *slot = byte;
            }
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            batch.bytes.extend(bytes);
            batch.count += 1;
        }
        batch
    }

    pub(crate) fn send(&self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        network::configure(socket, &self.bytes, self.count)
    }
}

/// `struct ifinfomsg`
fn interface(index: u32, flags: u32) -> Vec<u8> {
    let mut head = vec![0; 4];
    for word in [index, flags, flags] {
        head.extend(word.to_ne_bytes());
    }
    head
}

const UP: u32 = 1;

pub(crate) fn up(index: u32) -> Message {
    Message::new(Message::SETLINK, 0, &interface(index, UP))
}

/// Both ends of the cable: one in the namespace that is told, the other in that of process 1.
pub(crate) fn cable() -> Message {
    const ADDRESS: u16 = 1;
    const IFNAME: u16 = 3;
    const LINK_MTU: u16 = 4;
    const LINKINFO: u16 = 18;
    const NET_NS_PID: u16 = 19;
    const INFO_KIND: u16 = 1;
    const INFO_DATA: u16 = 2;
    const VETH_PEER: u16 = 1;
    let mut peer = interface(CABLE, 0);
    attribute(&mut peer, IFNAME, b"gw0\0");
    attribute(&mut peer, ADDRESS, &ROUTER_MAC);
    attribute(&mut peer, LINK_MTU, &MTU.to_ne_bytes());
    attribute(&mut peer, NET_NS_PID, &1_u32.to_ne_bytes());
    let mut data = Vec::new();
    attribute(&mut data, VETH_PEER, &peer);
    let mut info = Vec::new();
    attribute(&mut info, INFO_KIND, b"veth");
    attribute(&mut info, INFO_DATA, &data);
    Message::new(Message::NEWLINK, Message::CREATE, &interface(CABLE, 0))
        .with(IFNAME, b"eth0\0")
        .with(ADDRESS, &SANDBOX_MAC)
        .with(LINK_MTU, &MTU.to_ne_bytes())
        .with(LINKINFO, &info)
}

/// No address of its own making, which would be searched for duplicates for a second.
pub(crate) fn no_own_address6() -> Message {
    const AF_SPEC: u16 = 26;
    const ADDR_GEN_MODE: u16 = 8;
    const NONE: u8 = 1;
    let mut mode = Vec::new();
    attribute(&mut mode, ADDR_GEN_MODE, &[NONE]);
    let mut family = Vec::new();
    attribute(&mut family, number(libc::AF_INET6), &mode);
    Message::new(Message::SETLINK, 0, &interface(CABLE, 0)).with(AF_SPEC, &family)
}

fn number(family: i32) -> u16 {
    u16::try_from(family).unwrap_or(0)
}

fn family_of(address: IpAddr) -> (u8, Vec<u8>) {
    let (family, bytes) = match address {
        IpAddr::V4(it) => (libc::AF_INET, it.octets().to_vec()),
        IpAddr::V6(it) => (libc::AF_INET6, it.octets().to_vec()),
    };
    (u8::try_from(family).unwrap_or(0), bytes)
}

/// An address of a link, in use from the first moment.
pub(crate) fn own_address(link: u32, address: IpAddr, prefix: u8) -> Message {
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    const NO_DAD: u8 = 2;
    let (family, bytes) = family_of(address);
    let mut head = vec![family, prefix, NO_DAD, 0];
    head.extend(link.to_ne_bytes());
    Message::new(Message::NEWADDR, Message::CREATE, &head).with(LOCAL, &bytes).with(ADDRESS, &bytes)
}

/// The cable's other end, which therefore is never asked for.
pub(crate) fn neighbour(address: IpAddr, mac: [u8; 6]) -> Message {
    const DST: u16 = 1;
    const LLADDR: u16 = 2;
    const PERMANENT: u16 = 0x80;
    let (family, bytes) = family_of(address);
    let mut head = vec![family, 0, 0, 0];
    head.extend(CABLE.to_ne_bytes());
    head.extend(PERMANENT.to_ne_bytes());
    head.extend([0, 0]);
    Message::new(Message::NEWNEIGH, Message::CREATE, &head).with(DST, &bytes).with(LLADDR, &mac)
}

/// Where everything goes: by a next hop, or, without one, to this machine itself. In table `main`,
/// so that the link's own network is looked at first.
pub(crate) fn default_route(family: IpAddr, next_hop: bool) -> Message {
    const OIF: u16 = 4;
    const GATEWAY: u16 = 5;
    const MAIN: u8 = 254;
    const STATIC: u8 = 4;
    const UNIVERSE: u8 = 0;
    const HOST: u8 = 254;
    const UNICAST: u8 = 1;
    const LOCAL: u8 = 2;
    let (number, bytes) = family_of(family);
    let (scope, kind, index) =
        if next_hop { (UNIVERSE, UNICAST, CABLE) } else { (HOST, LOCAL, LOOPBACK) };
    let head = [number, 0, 0, 0, MAIN, STATIC, scope, kind, 0, 0, 0, 0];
    let route = Message::new(Message::NEWROUTE, Message::CREATE, &head);
    let route = if next_hop { route.with(GATEWAY, &bytes) } else { route };
    route.with(OIF, &index.to_ne_bytes())
}
