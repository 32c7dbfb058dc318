//! The way out of a sandbox: a second network namespace that nobody is in.
//!
//! The sandbox has one cable, to the router. The router takes whatever address a packet is for as
//! its own (a `local` route for everything), so that every connection ends at the gateway's
//! listeners, which are made here and handed to the gateway; the descriptors alone keep the
//! namespace alive. A port without a listener is closed, and every other protocol ends here too.
//!
//! The supervisor puts together what the kernel has to be told ([`kit`]); the child, which is in the
//! sandbox's namespace and still has the capabilities of its user namespace, tells it ([`build`]).
//! All addresses of the link, also of the neighbours, are given, so nothing is ever searched for
//! and nothing waits for duplicates to be detected.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};

use nix::errno::Errno;

use crate::plan::egress::{EgressPlan, RANGE_PORTS_MAX};
use crate::sys::descriptor::{self, HERE};
use crate::sys::message::{self, DESCRIPTORS_MAX};
use crate::sys::network::{self, Family};
use crate::sys::process::{self, NEW_NET};

/// What the child tells the kernel, and where the sockets go.
#[derive(Debug)]
pub(super) struct RouterKit {
    /// The gateway's other end.
    pub(super) channel: OwnedFd,
    /// The link, with its end in the namespace of process 1, which is the child itself.
    link: Batch,
    /// For both ends, before they are up.
    quiet: Batch,
    sandbox_up: Batch,
    router: Batch,
    sandbox: Batch,
    /// The same for IPv6, which a kernel may not have.
    router6: Batch,
    sandbox6: Batch,
    ports: Vec<u16>,
    /// Where sockets go that the gate makes listeners of, for ports that are not known before.
    pub(super) spare: Option<OwnedFd>,
}

/// Messages that are sent together.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    count: usize,
}

/// Far above the devices that a namespace may be born with.
const INDEX: u32 = 1000;
const LOOPBACK: u32 = 1;
/// The largest that an IP packet can be.
const MTU: u32 = 65535;
const SANDBOX_MAC: [u8; 6] = [0x02, 0x72, 0x75, 0x6e, 0x67, 0x02];
const ROUTER_MAC: [u8; 6] = [0x02, 0x72, 0x75, 0x6e, 0x67, 0x01];
/// The link's own networks: both ends and nothing else.
const PREFIX_V4: u8 = 30;
const PREFIX_V6: u8 = 126;
const PORT_DNS: u16 = 53;

/// Bytes of one message to the kernel (rtnetlink(7), `linux/rtnetlink.h`, `linux/if_link.h`).
struct Message {
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
    fn of(messages: impl IntoIterator<Item = Message>) -> Self {
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

    fn send(&self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
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

fn up(index: u32) -> Message {
    Message::new(Message::SETLINK, 0, &interface(index, UP))
}

/// Both ends of the cable, made in the sandbox's namespace.
fn link() -> Message {
    const ADDRESS: u16 = 1;
    const IFNAME: u16 = 3;
    const LINK_MTU: u16 = 4;
    const LINKINFO: u16 = 18;
    const NET_NS_PID: u16 = 19;
    const INFO_KIND: u16 = 1;
    const INFO_DATA: u16 = 2;
    const VETH_PEER: u16 = 1;
    let mut peer = interface(INDEX, 0);
    attribute(&mut peer, IFNAME, b"gw0\0");
    attribute(&mut peer, ADDRESS, &ROUTER_MAC);
    attribute(&mut peer, LINK_MTU, &MTU.to_ne_bytes());
    attribute(&mut peer, NET_NS_PID, &1_u32.to_ne_bytes());
    let mut data = Vec::new();
    attribute(&mut data, VETH_PEER, &peer);
    let mut info = Vec::new();
    attribute(&mut info, INFO_KIND, b"veth");
    attribute(&mut info, INFO_DATA, &data);
    Message::new(Message::NEWLINK, Message::CREATE, &interface(INDEX, 0))
        .with(IFNAME, b"eth0\0")
        .with(ADDRESS, &SANDBOX_MAC)
        .with(LINK_MTU, &MTU.to_ne_bytes())
        .with(LINKINFO, &info)
}

/// No address of its own making, which would be searched for duplicates for a second.
fn no_own_address6() -> Message {
    const AF_SPEC: u16 = 26;
    const ADDR_GEN_MODE: u16 = 8;
    const NONE: u8 = 1;
    let mut mode = Vec::new();
    attribute(&mut mode, ADDR_GEN_MODE, &[NONE]);
    let mut family = Vec::new();
    attribute(&mut family, number(libc::AF_INET6), &mode);
    Message::new(Message::SETLINK, 0, &interface(INDEX, 0)).with(AF_SPEC, &family)
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

/// An address of the link's end, in use from the first moment.
fn own_address(address: IpAddr, prefix: u8) -> Message {
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    const NO_DAD: u8 = 2;
    let (family, bytes) = family_of(address);
    let mut head = vec![family, prefix, NO_DAD, 0];
    head.extend(INDEX.to_ne_bytes());
    Message::new(Message::NEWADDR, Message::CREATE, &head).with(LOCAL, &bytes).with(ADDRESS, &bytes)
}

/// The other end, which therefore is never asked for.
fn neighbour(address: IpAddr, mac: [u8; 6]) -> Message {
    const DST: u16 = 1;
    const LLADDR: u16 = 2;
    const PERMANENT: u16 = 0x80;
    let (family, bytes) = family_of(address);
    let mut head = vec![family, 0, 0, 0];
    head.extend(INDEX.to_ne_bytes());
    head.extend(PERMANENT.to_ne_bytes());
    head.extend([0, 0]);
    Message::new(Message::NEWNEIGH, Message::CREATE, &head).with(DST, &bytes).with(LLADDR, &mac)
}

/// Where everything goes: by a next hop, or, without one, to this machine itself. In table `main`,
/// so that the link's own network is looked at first.
fn default_route(family: IpAddr, next_hop: bool) -> Message {
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
        if next_hop { (UNIVERSE, UNICAST, INDEX) } else { (HOST, LOCAL, LOOPBACK) };
    let head = [number, 0, 0, 0, MAIN, STATIC, scope, kind, 0, 0, 0, 0];
    let route = Message::new(Message::NEWROUTE, Message::CREATE, &head);
    let route = if next_hop { route.with(GATEWAY, &bytes) } else { route };
    route.with(OIF, &index.to_ne_bytes())
}

/// Everything the child needs to build the router of this plan.
pub(super) fn kit(plan: &EgressPlan, channel: OwnedFd, spare: Option<OwnedFd>) -> RouterKit {
    type Ends = (Ipv4Addr, Ipv6Addr);
    let (gateway, sandbox): (Ends, Ends) = (plan.pool.gateway(), plan.pool.sandbox());
    let side =
        |own: IpAddr, other: IpAddr, mac, prefix| [own_address(own, prefix), neighbour(other, mac)];
    let four = |own: Ends, other: Ends, mac| side(own.0.into(), other.0.into(), mac, PREFIX_V4);
    let six = |own: Ends, other: Ends, mac| side(own.1.into(), other.1.into(), mac, PREFIX_V6);
    let to_itself = |family: IpAddr| default_route(family, false);
    let by = |next_hop: IpAddr| default_route(next_hop, true);
    RouterKit {
        channel,
        link: Batch::of([link()]),
        quiet: Batch::of([no_own_address6()]),
        sandbox_up: Batch::of([up(INDEX)]),
        router: Batch::of(
            [up(LOOPBACK), up(INDEX)]
                .into_iter()
                .chain(four(gateway, sandbox, SANDBOX_MAC))
                .chain([to_itself(gateway.0.into())]),
        ),
        sandbox: Batch::of(
            four(sandbox, gateway, ROUTER_MAC).into_iter().chain([by(gateway.0.into())]),
        ),
        router6: Batch::of(
            six(gateway, sandbox, SANDBOX_MAC).into_iter().chain([to_itself(gateway.1.into())]),
        ),
        sandbox6: Batch::of(
            six(sandbox, gateway, ROUTER_MAC).into_iter().chain([by(gateway.1.into())]),
        ),
        ports: plan.ports(),
        spare,
    }
}

/// Makes the router beside the network namespace that this process is in, and comes back.
pub(super) fn build(kit: &RouterKit) -> Result<(), Errno> {
    let sandbox = network::configuration()?;
    let here = descriptor::open_at(HERE, c"/proc/self/ns/net", libc::O_RDONLY, 0)?;
    process::unshare(NEW_NET)?;
    let router = network::configuration()?;
    let (sandbox, router) = (sandbox.as_fd(), router.as_fd());
    kit.link.send(sandbox)?;
    // Before the links are up; a kernel without IPv6 makes no addresses.
    let quiet = kit.quiet.send(sandbox).and_then(|()| kit.quiet.send(router));
    kit.router.send(router)?;
    kit.sandbox_up.send(sandbox)?;
    kit.sandbox.send(sandbox)?;
    let six =
        quiet.and_then(|()| kit.router6.send(router)).and_then(|()| kit.sandbox6.send(sandbox));
    hand_over(kit, six.is_ok())?;
    network::enter(here.as_fd())
}

/// Makes the resolver's sockets and a listener for every port that is listed by itself, and gives all
/// of them away.
fn hand_over(kit: &RouterKit, six: bool) -> Result<(), Errno> {
    let mut numbers = [0; DESCRIPTORS_MAX];
    let mut slots = numbers.iter_mut();
    // Init closes its copies all at once, and the command's are closed when it starts.
    let mut keep = |made: OwnedFd| {
        *slots.next().ok_or(Errno::E2BIG)? = made.into_raw_fd();
        Ok::<(), Errno>(())
    };
    let families: &[Family] = if six { &[Family::V4, Family::V6] } else { &[Family::V4] };
    for family in families {
        keep(network::datagrams(*family, PORT_DNS)?)?;
        keep(network::listener(*family, PORT_DNS)?)?;
        for port in &kit.ports {
            keep(network::listener(*family, *port)?)?;
        }
    }
    let left = slots.len();
    let made = numbers.get(..numbers.len() - left).unwrap_or_default();
    message::send_descriptors(kit.channel.as_fd(), b's', made)?;
    kit.spare.as_ref().map_or(Ok(()), |channel| hand_over_spare(channel.as_fd(), families))
}

/// Sockets for ports that are not known before, as many for each family.
fn hand_over_spare(channel: BorrowedFd<'_>, families: &[Family]) -> Result<(), Errno> {
    let mut numbers = [0; DESCRIPTORS_MAX];
    let kinds = families.iter().flat_map(|it| (0..RANGE_PORTS_MAX).map(move |_| *it));
    let mut count = 0;
    for (slot, family) in numbers.iter_mut().zip(kinds) {
        *slot = network::spare(family)?.into_raw_fd();
        count += 1;
    }
    message::send_descriptors(channel, b's', numbers.get(..count).unwrap_or_default())
}
