//! Messages with something beside their bytes: descriptors that go to another process, and the
//! address that a datagram was sent to (cmsg(3)).
//!
//! The control messages are put together and taken apart here, byte by byte in aligned buffers on
//! the stack: what sends may run between clone and exec.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::descriptor::received;
use super::{Errno, raw, word};

/// Descriptors that one control message may carry (`SCM_MAX_FD`).
pub(crate) const DESCRIPTORS_MAX: usize = 253;

/// `struct cmsghdr` on 64 bits: a length, a level, a kind.
const HEAD_BYTES: usize = 16;
const CONTROL_BYTES: usize = (HEAD_BYTES + 4 * DESCRIPTORS_MAX).next_multiple_of(8);

/// A buffer for control messages, suitably aligned.
#[repr(C, align(8))]
#[derive(Debug, Clone)]
struct Control<const N: usize>([u8; N]);

/// The first control message of a buffer: level, kind, contents.
fn first(control: &[u8]) -> Option<(i32, i32, &[u8])> {
    let length = u64::from_ne_bytes(control.get(..8)?.try_into().ok()?);
    let level = i32::from_ne_bytes(control.get(8..12)?.try_into().ok()?);
    let kind = i32::from_ne_bytes(control.get(12..16)?.try_into().ok()?);
    Some((level, kind, control.get(HEAD_BYTES..usize::try_from(length).ok()?)?))
}

/// Sends descriptors with one byte over a UNIX socket (`SCM_RIGHTS`, unix(7)).
pub(crate) fn send_descriptors(
    channel: BorrowedFd<'_>,
    byte: u8,
    descriptors: &[RawFd],
) -> Result<(), Errno> {
    if descriptors.len() > DESCRIPTORS_MAX {
        return Err(Errno::EINVAL);
    }
    let length = HEAD_BYTES + 4 * descriptors.len();
    let mut control = Control([0; CONTROL_BYTES]);
    let head = (length as u64).to_ne_bytes().into_iter();
    let kind = libc::SOL_SOCKET.to_ne_bytes().into_iter().chain(libc::SCM_RIGHTS.to_ne_bytes());
    let numbers = descriptors.iter().flat_map(|it| it.to_ne_bytes());
    for (slot, byte) in control.0.iter_mut().zip(head.chain(kind).chain(numbers)) {
        *slot = byte;
    }
    let mut bytes = [byte];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut message = empty();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size(length.next_multiple_of(8))?;
    let arguments = [
        word(channel.as_raw_fd()),
        (&raw const message).expose_provenance(),
        word(libc::MSG_NOSIGNAL),
        0,
        0,
        0,
    ];
    // SAFETY: everything that `message` points to lives on this stack frame until the call is over.
    unsafe { raw(libc::SYS_sendmsg, arguments) }.map(drop)
}

/// Takes one message without waiting: how many bytes of it there were, and the descriptors that
/// came along, which are closed at exec.
pub(crate) fn receive_descriptors(
    channel: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> Result<(usize, Vec<OwnedFd>), Errno> {
    let mut control = Control([0; CONTROL_BYTES]);
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut message = empty();
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size(CONTROL_BYTES)?;
    let arguments = [
        word(channel.as_raw_fd()),
        (&raw mut message).expose_provenance(),
        word(libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC),
        0,
        0,
        0,
    ];
    // SAFETY: everything that `message` points to outlives the call, with the lengths given in it.
    let length = unsafe { raw(libc::SYS_recvmsg, arguments) }?;
    let mut descriptors = Vec::new();
    if let Some((libc::SOL_SOCKET, libc::SCM_RIGHTS, numbers)) = first(&control.0) {
        for number in numbers.chunks_exact(4) {
            let number = number.try_into().map_err(|_| Errno::EBADMSG)?;
            descriptors.push(received(RawFd::from_ne_bytes(number))?);
        }
    }
    Ok((length, descriptors))
}

/// Both ends of a datagram: from whom it came, and to which address of ours.
#[derive(Debug, Clone)]
pub(crate) struct Ends {
    peer: Control<128>,
    peer_length: u32,
    control: Control<64>,
}

/// Takes one datagram without waiting: how long it was, and its ends.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Ends), Errno> {
    let mut ends = Ends { peer: Control([0; 128]), peer_length: 128, control: Control([0; 64]) };
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut message = empty();
    message.msg_name = (&raw mut ends.peer).cast();
    message.msg_namelen = ends.peer_length;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut ends.control).cast();
    message.msg_controllen = 64;
    let arguments = [
        word(socket.as_raw_fd()),
        (&raw mut message).expose_provenance(),
        word(libc::MSG_DONTWAIT),
        0,
        0,
        0,
    ];
    // SAFETY: everything that `message` points to outlives the call, with the lengths given in it.
    let length = unsafe { raw(libc::SYS_recvmsg, arguments) }?;
    ends.peer_length = message.msg_namelen.min(128);
    Ok((length, ends))
}

/// Sends a datagram back to where one came from, out of the address that it was sent to.
pub(crate) fn send_back(socket: BorrowedFd<'_>, bytes: &[u8], ends: &Ends) -> Result<(), Errno> {
    let mut control = ends.control.clone();
    let length = out_of(&mut control)?;
    let mut peer = ends.peer.clone();
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut message = empty();
    message.msg_name = (&raw mut peer).cast();
    message.msg_namelen = ends.peer_length;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size(length)?;
    let arguments = [
        word(socket.as_raw_fd()),
        (&raw const message).expose_provenance(),
        word(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL),
        0,
        0,
        0,
    ];
    // SAFETY: everything that `message` points to outlives the call, which only reads it.
    unsafe { raw(libc::SYS_sendmsg, arguments) }.map(drop)
}

/// Makes of "sent to this address, on that interface" the words "send it from this address".
/// Returns the length of the control message.
fn out_of(control: &mut Control<64>) -> Result<usize, Errno> {
    let found = first(&control.0).map(|(level, kind, it)| (level, kind, it.len()));
    let at = HEAD_BYTES;
    match found {
        // Interface, own address, address: the first is left to the routing table.
        Some((libc::IPPROTO_IP, libc::IP_PKTINFO, 12)) => {
            control.0.copy_within(at + 8..at + 12, at + 4);
            control.0.get_mut(at..at + 4).ok_or(Errno::EBADMSG)?.fill(0);
            Ok((at + 12).next_multiple_of(8))
        }
        // Address, interface.
        Some((libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, 20)) => {
            control.0.get_mut(at + 16..at + 20).ok_or(Errno::EBADMSG)?.fill(0);
            Ok((at + 20).next_multiple_of(8))
        }
        _ => Err(Errno::EBADMSG),
    }
}

/// A length as the C library in use types it.
fn size<T: TryFrom<usize>>(bytes: usize) -> Result<T, Errno> {
    T::try_from(bytes).map_err(|_| Errno::EINVAL)
}

fn empty() -> libc::msghdr {
    // SAFETY: all-zero bytes are a valid `struct msghdr`.
    unsafe { std::mem::zeroed() }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn descriptors_arrive_as_the_same_objects() {
        let (here, there) = std::os::unix::net::UnixDatagram::pair().unwrap();
        let (reader, writer) = super::super::descriptor::pipe().unwrap();
        let numbers = [reader.as_raw_fd(), writer.as_raw_fd()];
        send_descriptors(here.as_fd(), b's', &numbers).unwrap();
        let mut buffer = [0; 4];
        let (length, arrived) = receive_descriptors(there.as_fd(), &mut buffer).unwrap();
        assert_eq!((length, buffer[0], arrived.len()), (1, b's', 2));
        super::super::descriptor::write_all(arrived[1].as_fd(), b"x").unwrap();
        let mut byte = [0];
        assert_eq!(super::super::descriptor::read(reader.as_fd(), &mut byte), Ok(1));
        let nothing = receive_descriptors(there.as_fd(), &mut buffer).map(|it| it.0);
        assert_eq!(nothing, Err(Errno::EAGAIN));
    }

    #[test]
    fn an_answer_comes_from_the_address_that_was_asked() {
        let server =
            super::super::network::datagrams(super::super::network::Family::V4, 0).unwrap();
        let port =
            nix::sys::socket::getsockname::<nix::sys::socket::SockaddrIn>(server.as_raw_fd());
        let port = port.unwrap().port();
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"question", ("127.0.0.9", port)).unwrap();
        let mut buffer = [0; 32];
        let (length, ends) = receive(server.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"question");
        send_back(server.as_fd(), b"answer", &ends).unwrap();
        let (length, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!(
            (&buffer[..length], from.ip().to_string()),
            (&b"answer"[..], "127.0.0.9".into())
        );
    }
}
