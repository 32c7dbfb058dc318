//! Network namespaces from within: interfaces, routes, and the sockets that are made there.
//!
//! Everything here may be called between clone and exec: nothing allocates. What the kernel is told
//! about links and routes are bytes that were put together before (rtnetlink(7)).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::descriptor::owned_result;
use super::{Errno, plain, raw, request, word};

/// Connections that wait for the gateway at one port.
const BACKLOG: i32 = 512;

/// Which protocol family a socket is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Brings `lo` up in the network namespace of this process (netdevice(7)).
pub(crate) fn loopback_up() -> Result<(), Errno> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    // SAFETY: all-zero bytes are a valid `struct ifreq`.
    let mut interface: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in interface.ifr_name.iter_mut().zip(*b"lo") {
        *slot = byte.cast_signed();
    }
    interface.ifr_ifru.ifru_flags =
        i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).map_err(|_| Errno::EINVAL)?;
    let arguments = [
        word(socket.as_raw_fd()),
        request(libc::SIOCSIFFLAGS),
        (&raw const interface).expose_provenance(),
        0,
        0,
        0,
    ];
    // SAFETY: `interface` is the structure this ioctl reads and outlives the call.
    unsafe { raw(libc::SYS_ioctl, arguments) }.map(drop)
}

fn socket(family: i32, kind: i32, protocol: i32) -> Result<OwnedFd, Errno> {
    let kind = kind | libc::SOCK_CLOEXEC;
    owned_result(plain(libc::SYS_socket, [word(family), word(kind), word(protocol), 0, 0, 0]))
}

/// A socket on which the network namespace that this process is in can be told things, also after
/// the process has gone to another.
pub(crate) fn configuration() -> Result<OwnedFd, Errno> {
    socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)
}

/// Sends `count` messages at once, each of which asks for an answer, and waits for all answers.
/// The kernel carries out every one of them; the first error is returned.
pub(crate) fn configure(
    socket: BorrowedFd<'_>,
    messages: &[u8],
    count: usize,
) -> Result<(), Errno> {
    let arguments =
        [word(socket.as_raw_fd()), messages.as_ptr().expose_provenance(), messages.len(), 0, 0, 0];
    // SAFETY: pointer and length come from one slice, and there is no address to send to.
    unsafe { raw(libc::SYS_sendto, arguments) }?;
    let mut first = Ok(());
    for _ in 0..count {
        let answered = answer(socket);
        first = first.and(answered);
    }
    first
}

/// One `NLMSG_ERROR`, which is the answer also where there was no error.
fn answer(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    /// The header's length, then a length, kind, flags, number and port; then the error.
    const ERROR_AT: usize = 16;
    // A refused message comes back with its refusal.
    let mut buffer = [0_u8; 1024];
    let length = super::descriptor::read(socket, &mut buffer)?;
    let word_at = |at: usize| {
        let bytes = buffer.get(..length)?.get(at..at + 4)?;
        Some(i32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let kind = word_at(4).map(|it| it & 0xffff);
    match (kind, word_at(ERROR_AT)) {
        (Some(libc::NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(libc::NLMSG_ERROR), Some(error)) => Err(Errno::from_raw(-error)),
        _ => Err(Errno::EBADMSG),
    }
}

/// Makes `namespace` the network namespace of this process.
pub(crate) fn enter(namespace: BorrowedFd<'_>) -> Result<(), Errno> {
    let arguments = [word(namespace.as_raw_fd()), word(libc::CLONE_NEWNET), 0, 0, 0, 0];
    plain(libc::SYS_setns, arguments).map(drop)
}

/// A TCP socket that listens at every address of the namespace.
pub(crate) fn listener(family: Family, port: u16) -> Result<OwnedFd, Errno> {
    let made = spare(family)?;
    listen_at(&made, family, port)?;
    Ok(made)
}

/// A TCP socket of the namespace that is at no port yet.
pub(crate) fn spare(family: Family) -> Result<OwnedFd, Errno> {
    open(family, libc::SOCK_STREAM)
}

/// Makes of a [`spare`] socket a listener at every address of its namespace, whose user namespace
/// the caller's user owns.
pub(crate) fn listen_at(spare: &OwnedFd, family: Family, port: u16) -> Result<(), Errno> {
    bind_at(spare, family, port)?;
    plain(libc::SYS_listen, [word(spare.as_raw_fd()), word(BACKLOG), 0, 0, 0, 0]).map(drop)
}

/// A UDP socket at every address of the namespace, which says with each datagram to which one it
/// was sent, and may answer from there.
pub(crate) fn datagrams(family: Family, port: u16) -> Result<OwnedFd, Errno> {
    let made = open(family, libc::SOCK_DGRAM)?;
    match family {
        Family::V4 => set(&made, libc::IPPROTO_IP, libc::IP_PKTINFO)?,
        Family::V6 => {
            set(&made, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)?;
            // Without it no answer may come from an address that no interface has.
            set(&made, libc::IPPROTO_IPV6, IPV6_FREEBIND)?;
        }
    }
    bind_at(&made, family, port)?;
    Ok(made)
}

fn open(family: Family, kind: i32) -> Result<OwnedFd, Errno> {
    match family {
        Family::V4 => socket(libc::AF_INET, kind | libc::SOCK_NONBLOCK, 0),
        Family::V6 => {
            let made = socket(libc::AF_INET6, kind | libc::SOCK_NONBLOCK, 0)?;
            set(&made, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)?;
            Ok(made)
        }
    }
}

fn bind_at(made: &OwnedFd, family: Family, port: u16) -> Result<(), Errno> {
    match family {
        Family::V4 => bind(
            made,
            &libc::sockaddr_in {
                sin_family: family_word(libc::AF_INET)?,
                sin_port: port.to_be(),
                sin_addr: libc::in_addr { s_addr: libc::INADDR_ANY },
                sin_zero: [0; 8],
            },
        ),
        Family::V6 => bind(
            made,
            &libc::sockaddr_in6 {
                sin6_family: family_word(libc::AF_INET6)?,
                sin6_port: port.to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
                sin6_scope_id: 0,
            },
        ),
    }
}

/// linux/in6.h
const IPV6_FREEBIND: i32 = 78;

fn family_word(family: i32) -> Result<u16, Errno> {
    u16::try_from(family).map_err(|_| Errno::EAFNOSUPPORT)
}

/// Switches a socket option on.
fn set(socket: &OwnedFd, level: i32, option: i32) -> Result<(), Errno> {
    let on: i32 = 1;
    let arguments = [
        word(socket.as_raw_fd()),
        word(level),
        word(option),
        (&raw const on).expose_provenance(),
        size_of::<i32>(),
        0,
    ];
    // SAFETY: the option is an `int`, of which pointer and size are given; it outlives the call.
    unsafe { raw(libc::SYS_setsockopt, arguments) }.map(drop)
}

fn bind<T>(socket: &OwnedFd, address: &T) -> Result<(), Errno> {
    let arguments = [
        word(socket.as_raw_fd()),
        std::ptr::from_ref(address).expose_provenance(),
        size_of::<T>(),
        0,
        0,
        0,
    ];
    // SAFETY: `address` is one of the kernel's address structures, its size is given, and it
    // outlives the call, which copies it.
    unsafe { raw(libc::SYS_bind, arguments) }.map(drop)
}
