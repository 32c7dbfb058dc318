//! The sandbox's own network interface.

use std::os::fd::AsRawFd;

use super::descriptor::owned_result;
use super::{Errno, plain, raw, request, word};

/// Brings `lo` up in the network namespace of this process (netdevice(7)).
pub(crate) fn loopback_up() -> Result<(), Errno> {
    let flags = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    let arguments = [word(libc::AF_INET), word(flags), 0, 0, 0, 0];
    let socket = owned_result(plain(libc::SYS_socket, arguments))?;
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
