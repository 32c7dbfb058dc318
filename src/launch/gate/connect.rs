//! What the run wants to connect to, told by the filter before the kernel does it.
//!
//! Only a hint. The address lies in memory that other tasks can change until the kernel has copied
//! it, and a call that takes a list of messages is not told of at all. So nothing is let through
//! here that would not get through anyway: a connection goes on to the gateway, which decides by
//! what arrives, or to a network without a way out. What no destination can mean is refused at once,
//! as by a closed port, and is remembered with the program that asked, which nobody can see any more
//! once the kernel has made a packet of it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{SockType, getsockopt, sockopt};

use super::opens::Opens;
use super::task;
use crate::model::{Attempt, Attempts, Protocol};
use crate::plan::egress::{EgressPlan, Foreseen, foresee};
use crate::sys::seccomp::{self, Question};
use crate::sys::standing::Standing;
use crate::sys::trace;

/// Different attempts that are remembered one by one, of either kind.
const ATTEMPTS_MAX: usize = 256;
/// Different programs that are remembered to have asked for names.
const ASKED_MAX: usize = 64;
/// Tasks whose programs are remembered.
const PROGRAMS_MAX: usize = 256;
const PORT_DNS: u16 = 53;

/// Where the run may connect to, and where it has tried to.
#[derive(Debug)]
pub(super) struct Connects {
    egress: Option<EgressPlan>,
    refused: BTreeMap<(IpAddr, u16, Protocol, String), (i32, u32)>,
    made: BTreeMap<(IpAddr, u16, String), (i32, u32)>,
    /// At any address: it is the same resolver. Which question was whose the kernel does not say.
    asked: BTreeSet<String>,
    /// What tasks run, by their numbers, until something is started. A number that comes round to another
    /// task before that is taken for the first one's.
    programs: BTreeMap<i32, String>,
    more: u32,
    opens: Option<Opens>,
    unserved: u32,
}

/// How an address was given to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Connect,
    /// With a datagram.
    Send,
}

impl Connects {
    pub(super) fn new(egress: Option<EgressPlan>, opens: Option<Opens>) -> Self {
        Self {
            egress,
            refused: BTreeMap::new(),
            made: BTreeMap::new(),
            asked: BTreeSet::new(),
            programs: BTreeMap::new(),
            more: 0,
            opens,
            unserved: 0,
        }
    }

    /// Some task runs another program from here on.
    pub(super) fn started(&mut self) {
        self.programs.clear();
    }

    pub(super) fn connect(
        &mut self,
        listener: BorrowedFd<'_>,
        question: &Question,
    ) -> Result<(), Errno> {
        let [_, address, length, ..] = question.arguments;
        self.hear(listener, question, (address, length), Call::Connect)
    }

    pub(super) fn send(
        &mut self,
        listener: BorrowedFd<'_>,
        question: &Question,
    ) -> Result<(), Errno> {
        let [_, _, _, _, address, length] = question.arguments;
        self.hear(listener, question, (address, length), Call::Send)
    }

    fn hear(
        &mut self,
        listener: BorrowedFd<'_>,
        question: &Question,
        (address, length): (u64, u64),
        call: Call,
    ) -> Result<(), Errno> {
        let task = i32::try_from(question.pid).map_err(|_| Errno::EACCES)?;
        let go_on = || seccomp::go_on(listener, question.id);
        // What cannot be read the kernel cannot read either, or it is read too late to matter.
        let Some((address, port)) = read(task, address, length, call) else { return go_on() };
        match foresee(self.egress.as_ref(), address, port) {
            Foreseen::Own => go_on(),
            Foreseen::Open if port == PORT_DNS => {
                let program = self.program(task);
                if self.asked.len() < ASKED_MAX {
                    self.asked.insert(program);
                }
                go_on()
            }
            Foreseen::Open => {
                self.made(task, address, port);
                if call == Call::Connect
                    && self.opens.as_mut().is_some_and(|it| it.open(address, port).is_err())
                {
                    // The port stays closed.
                    self.unserved = self.unserved.saturating_add(1);
                }
                go_on()
            }
            Foreseen::Closed(_) => {
                let protocol = match call {
                    Call::Send => Some(Protocol::Udp),
                    Call::Connect => protocol(task, question.arguments),
                };
                // All of it was that of whoever waits, if it still does.
                let refused = seccomp::still_asks(listener, question.id)
                    && protocol.is_some_and(|it| self.refused(task, (address, port), it, call));
                if refused && self.egress.is_some() && protocol == Some(Protocol::Tcp) {
                    return seccomp::refuse(listener, question.id, Errno::ECONNREFUSED);
                }
                // Either there is no route, or the router has no such port.
                go_on()
            }
        }
    }

    fn made(&mut self, task: i32, address: IpAddr, port: u16) {
        let key = (address, port, self.program(task));
        if let Some((_, count)) = self.made.get_mut(&key) {
            *count = count.saturating_add(1);
        } else if self.made.len() < ATTEMPTS_MAX {
            self.made.insert(key, (process(task).unwrap_or(task), 1));
        }
    }

    /// Where the program of a task lies.
    fn program(&mut self, task: i32) -> String {
        if self.programs.len() >= PROGRAMS_MAX {
            self.programs.clear();
        }
        let program = self.programs.entry(task).or_insert_with(|| {
            let program = task::link(task, "exe").map(|it| it.display().to_string());
            program.unwrap_or_else(|_| "(unknown)".to_owned())
        });
        program.clone()
    }

    /// Whether it is an attempt at all.
    fn refused(
        &mut self,
        task: i32,
        (address, port): (IpAddr, u16),
        protocol: Protocol,
        call: Call,
    ) -> bool {
        let is_name = self.egress.as_ref().is_some_and(|it| it.pool.name_at(address).is_some());
        // The addresses of a name are put in order by connecting to each, which sends nothing.
        if protocol == Protocol::Udp && call == Call::Connect && (is_name || port == 0) {
            return false;
        }
        let key = (address, port, protocol, self.program(task));
        if let Some((_, count)) = self.refused.get_mut(&key) {
            *count = count.saturating_add(1);
        } else if self.refused.len() < ATTEMPTS_MAX {
            self.refused.insert(key, (process(task).unwrap_or(task), 1));
        } else {
            self.more = self.more.saturating_add(1);
        }
        true
    }

    /// Everything that was tried.
    pub(super) fn attempts(self) -> Attempts {
        let refused = self.refused.into_iter().map(|((address, port, protocol, program), it)| {
            Attempt { address, port, protocol, program, process: it.0, count: it.1 }
        });
        let made = self.made.into_iter().map(|((address, port, program), (process, count))| {
            Attempt { address, port, protocol: Protocol::Tcp, program, process, count }
        });
        Attempts {
            refused: refused.collect(),
            made: made.collect(),
            asked: self.asked.into_iter().collect(),
            more: self.more,
            unserved: self.unserved,
        }
    }
}

fn process(task: i32) -> Result<i32, Errno> {
    task::process_of(task, Standing::of(task)?)
}

/// What the socket speaks. `None` where it cannot be told, or is neither.
fn protocol(task: i32, [number, ..]: [u64; 6]) -> Option<Protocol> {
    // The kernel reads an `int`.
    let number = i32::try_from(number & u64::from(u32::MAX)).ok()?;
    let socket = trace::descriptor_of(process(task).ok()?, number).ok()?;
    match getsockopt(&socket.as_fd(), sockopt::SockType).ok()? {
        SockType::Stream => Some(Protocol::Tcp),
        SockType::Datagram => Some(Protocol::Udp),
        _ => None,
    }
}

/// The internet address that a task gives to the kernel, if it is one.
fn read(task: i32, at: u64, length: u64, call: Call) -> Option<(IpAddr, u16)> {
    /// `struct sockaddr_in6` without its scope.
    const BYTES: usize = 24;
    let mut bytes = [0; BYTES];
    let length = usize::try_from(length & u64::from(u32::MAX)).ok()?.min(BYTES);
    let found = trace::read_memory(task, at, bytes.get_mut(..length)?).ok()?;
    parse(bytes.get(..found)?, call)
}

/// `struct sockaddr_in` and `struct sockaddr_in6` (ip(7), ipv6(7)).
fn parse(bytes: &[u8], call: Call) -> Option<(IpAddr, u16)> {
    let family = i32::from(u16::from_ne_bytes(*bytes.first_chunk()?));
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    match family {
        libc::AF_INET => {}
        // `sendto` takes an address without a family for one of IPv4; `connect` ends a connection.
        libc::AF_UNSPEC if call == Call::Send => {}
        libc::AF_INET6 => {
            let octets: [u8; 16] = *bytes.get(8..)?.first_chunk()?;
            return Some((Ipv6Addr::from(octets).to_canonical(), port));
        }
        _ => return None,
    }
    let octets: [u8; 4] = *bytes.get(4..)?.first_chunk()?;
    Some((Ipv4Addr::from(octets).into(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_the_kernel_would_read_it() {
        let v4 = |family: i32| {
            let family = u16::try_from(family).unwrap().to_ne_bytes();
            [&family[..], &443_u16.to_be_bytes(), &[192, 0, 2, 7], &[0; 8]].concat()
        };
        let here: (IpAddr, u16) = ("192.0.2.7".parse().unwrap(), 443);
        assert_eq!(parse(&v4(libc::AF_INET), Call::Connect), Some(here));
        assert_eq!(parse(&v4(libc::AF_INET)[..8], Call::Connect), Some(here));
        assert_eq!(parse(&v4(libc::AF_INET)[..7], Call::Connect), None);
        assert_eq!(parse(&v4(libc::AF_UNSPEC), Call::Send), Some(here));
        assert_eq!(parse(&v4(libc::AF_UNSPEC), Call::Connect), None);
        assert_eq!(parse(&v4(libc::AF_UNIX), Call::Connect), None);
        let mapped: Ipv6Addr = "::ffff:192.0.2.7".parse().unwrap();
        let family = u16::try_from(libc::AF_INET6).unwrap().to_ne_bytes();
        let v6 = [&family[..], &443_u16.to_be_bytes(), &[0; 4], &mapped.octets()].concat();
        assert_eq!(parse(&v6, Call::Connect), Some(here));
        assert_eq!(parse(&v6[..23], Call::Connect), None);
        assert_eq!(parse(&[], Call::Connect), None);
    }
}
