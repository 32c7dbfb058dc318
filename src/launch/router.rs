//! The way out of a sandbox: a second network namespace that nobody is in.
//!
//! The sandbox has one cable, to the router. The router takes whatever address a packet is for as
//! its own (a `local` route for everything), so that every connection ends at the gateway's
//! listeners, which are made here and handed to the gateway; the descriptors alone keep the
//! namespace alive. A port without a listener is closed, and every other protocol ends here too.
//!
//! Where the plan says so, the sandbox's own namespace is the router too: its loopback takes every
//! address. What may be reached is the same, because the gateway decides it; but the listeners are
//! among the run's own servers.
//!
//! The supervisor puts together what the kernel has to be told ([`kit`]); the child, which is in the
//! sandbox's namespace and still has the capabilities of its user namespace, tells it ([`build`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};

use nix::errno::Errno;

use crate::plan::egress::{EgressPlan, RANGE_PORTS_MAX, Router};
use crate::sys::descriptor::{self, HERE};
use crate::sys::message::{self, DESCRIPTORS_MAX};
use crate::sys::network::{self, Family};
use crate::sys::process::{self, NEW_NET};
use crate::sys::route::{
    self, Batch, CABLE, LOOPBACK, ROUTER_MAC, SANDBOX_MAC, default_route, neighbour, own_address,
};

/// What the child tells the kernel, and where the sockets go.
#[derive(Debug)]
pub(super) struct RouterKit {
    /// The gateway's other end.
    pub(super) channel: OwnedFd,
    links: Links,
    ports: Vec<u16>,
    /// Where sockets go that the gate makes listeners of, for ports that are not known before.
    pub(super) spare: Option<OwnedFd>,
}

/// How the sandbox is joined to its router.
#[derive(Debug)]
enum Links {
    Beside(Box<Cable>),
    Within {
        four: Batch,
        /// The same for IPv6, which a kernel may not have.
        six: Batch,
    },
}

#[derive(Debug)]
struct Cable {
    /// With its end in the namespace of process 1, which is the child itself.
    link: Batch,
    /// For both ends, before they are up.
    quiet: Batch,
    sandbox_up: Batch,
    router: Batch,
    sandbox: Batch,
    /// The same for IPv6, which a kernel may not have.
    router6: Batch,
    sandbox6: Batch,
}

/// The link's own networks: both ends and nothing else.
const PREFIX_V4: u8 = 30;
const PREFIX_V6: u8 = 126;
const PORT_DNS: u16 = 53;

type Ends = (Ipv4Addr, Ipv6Addr);

/// Everything the child needs to build the router of this plan.
pub(super) fn kit(plan: &EgressPlan, channel: OwnedFd, spare: Option<OwnedFd>) -> RouterKit {
    let (gateway, sandbox) = (plan.pool.gateway(), plan.pool.sandbox());
    let links = match plan.router {
        Router::Beside => Links::Beside(Box::new(cable(gateway, sandbox))),
        Router::Within => within(sandbox),
    };
    RouterKit { channel, links, ports: plan.ports(), spare }
}

fn cable(gateway: Ends, sandbox: Ends) -> Cable {
    let side = |own: IpAddr, other: IpAddr, mac, prefix| {
        [own_address(CABLE, own, prefix), neighbour(other, mac)]
    };
    let four = |own: Ends, other: Ends, mac| side(own.0.into(), other.0.into(), mac, PREFIX_V4);
    let six = |own: Ends, other: Ends, mac| side(own.1.into(), other.1.into(), mac, PREFIX_V6);
    let to_itself = |family: IpAddr| default_route(family, false);
    let by = |next_hop: IpAddr| default_route(next_hop, true);
    Cable {
        link: Batch::of([route::cable()]),
        quiet: Batch::of([route::no_own_address6()]),
        sandbox_up: Batch::of([route::up(CABLE)]),
        router: Batch::of(
            [route::up(LOOPBACK), route::up(CABLE)]
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
    }
}

/// The sandbox keeps an address that is not loopback's: programs that have none of a family do not
/// ask for names of it.
fn within(sandbox: Ends) -> Links {
    const ALONE_V4: u8 = 32;
    const ALONE_V6: u8 = 128;
    let one = |own: IpAddr, prefix| [own_address(LOOPBACK, own, prefix), default_route(own, false)];
    Links::Within {
        four: Batch::of([route::up(LOOPBACK)].into_iter().chain(one(sandbox.0.into(), ALONE_V4))),
        six: Batch::of(one(sandbox.1.into(), ALONE_V6)),
    }
}

/// Makes the router, beside the network namespace that this process is in or in it, and hands its
/// sockets over.
pub(super) fn build(kit: &RouterKit) -> Result<(), Errno> {
    let sandbox = network::configuration()?;
    match &kit.links {
        Links::Beside(cable) => beside(kit, cable, sandbox.as_fd()),
        Links::Within { four, six } => {
            four.send(sandbox.as_fd())?;
            let six = six.send(sandbox.as_fd());
            hand_over(kit, six.is_ok())
        }
    }
}

fn beside(kit: &RouterKit, cable: &Cable, sandbox: BorrowedFd<'_>) -> Result<(), Errno> {
    let here = descriptor::open_at(HERE, c"/proc/self/ns/net", libc::O_RDONLY, 0)?;
    process::unshare(NEW_NET)?;
    let router = network::configuration()?;
    let router = router.as_fd();
    cable.link.send(sandbox)?;
    // Before the links are up; a kernel without IPv6 makes no addresses.
    let quiet = cable.quiet.send(sandbox).and_then(|()| cable.quiet.send(router));
    cable.router.send(router)?;
    cable.sandbox_up.send(sandbox)?;
    cable.sandbox.send(sandbox)?;
    let six =
        quiet.and_then(|()| cable.router6.send(router)).and_then(|()| cable.sandbox6.send(sandbox));
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
