//! Files and descriptors: open, read, write, close.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::{Errno, plain, raw, request, word};

/// The directory descriptor that stands for the working directory.
pub(crate) const HERE: RawFd = libc::AT_FDCWD;

/// What `fstat` says about an object, as far as identity goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) mode: u32,
    /// Of a device node.
    pub(crate) node: u64,
    /// How many names it has.
    pub(crate) links: u64,
}

/// Owns what a call that makes a descriptor returned.
fn owned(number: usize) -> Result<OwnedFd, Errno> {
    let number = RawFd::try_from(number).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just returned this descriptor to us, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

pub(super) fn owned_result(result: Result<usize, Errno>) -> Result<OwnedFd, Errno> {
    owned(result?)
}

/// Takes over a descriptor that the caller of rung passed on, if it is open.
pub(crate) fn inherited(number: RawFd) -> Result<OwnedFd, Errno> {
    // A copy, so that nothing else in this process can own the same number.
    let arguments = [word(number), word(libc::F_DUPFD_CLOEXEC), 3, 0, 0, 0];
    owned_result(plain(libc::SYS_fcntl, arguments))
}

/// Owns a descriptor that arrived in a control message of `recvmsg(2)`.
pub(crate) fn received(number: RawFd) -> Result<OwnedFd, Errno> {
    owned(usize::try_from(number).map_err(|_| Errno::EBADF)?)
}

/// `openat(2)`, always close-on-exec.
pub(crate) fn open_at(
    directory: RawFd,
    path: &CStr,
    flags: i32,
    mode: u32,
) -> Result<OwnedFd, Errno> {
    let arguments = [
        word(directory),
        path.as_ptr().expose_provenance(),
        word(flags | libc::O_CLOEXEC),
        mode as usize,
        0,
        0,
    ];
    // SAFETY: `path` is a C string that outlives the call.
    owned_result(unsafe { raw(libc::SYS_openat, arguments) })
}

/// `openat2(2)` of an existing object below `directory`, following no symbolic link at all.
/// Linux 5.6.
pub(crate) fn open_beneath(directory: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd, Errno> {
    let how = libc_open_how(
        libc::O_PATH | libc::O_CLOEXEC,
        libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS,
    );
    let arguments = [
        word(directory.as_raw_fd()),
        path.as_ptr().expose_provenance(),
        (&raw const how).expose_provenance(),
        size_of::<OpenHow>(),
        0,
        0,
    ];
    // SAFETY: `path` and `how` outlive the call, and the size given is the size of `how`.
    owned_result(unsafe { raw(libc::SYS_openat2, arguments) })
}

/// `openat2(2)` of what `path` names where `root` is the root directory: absolute links and `..`
/// stay inside. Linux 5.6.
pub(crate) fn open_inside(root: BorrowedFd<'_>, path: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
    let how = libc_open_how(flags | libc::O_CLOEXEC, libc::RESOLVE_IN_ROOT);
    let arguments = [
        word(root.as_raw_fd()),
        path.as_ptr().expose_provenance(),
        (&raw const how).expose_provenance(),
        size_of::<OpenHow>(),
        0,
        0,
    ];
    // SAFETY: `path` and `how` outlive the call, and the size given is the size of `how`.
    owned_result(unsafe { raw(libc::SYS_openat2, arguments) })
}

/// `readlinkat(2)` into `buffer`; what does not fit is not a path.
pub(crate) fn read_link<'a>(
    directory: RawFd,
    path: &CStr,
    buffer: &'a mut [u8],
) -> Result<&'a [u8], Errno> {
    let (address, size) = (buffer.as_mut_ptr().expose_provenance(), buffer.len());
    let arguments = [word(directory), path.as_ptr().expose_provenance(), address, size, 0, 0];
    // SAFETY: `path` is a C string; pointer and length of the buffer come from one exclusive slice.
    let length = unsafe { raw(libc::SYS_readlinkat, arguments) }?;
    if length == size { Err(Errno::ENAMETOOLONG) } else { buffer.get(..length).ok_or(Errno::EIO) }
}

/// `struct open_how` (linux/openat2.h).
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

fn libc_open_how(flags: i32, resolve: u64) -> OpenHow {
    OpenHow { flags: u64::from(flags.cast_unsigned()), mode: 0, resolve }
}

/// Writes everything, however often the kernel takes only a part.
pub(crate) fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let arguments =
            [word(to.as_raw_fd()), bytes.as_ptr().expose_provenance(), bytes.len(), 0, 0, 0];
        // SAFETY: pointer and length come from one slice, which outlives the call.
        match unsafe { raw(libc::SYS_write, arguments) } {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// One `read(2)`; 0 is the end.
pub(crate) fn read(from: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    loop {
        let arguments = [
            word(from.as_raw_fd()),
            buffer.as_mut_ptr().expose_provenance(),
            buffer.len(),
            0,
            0,
            0,
        ];
        // SAFETY: pointer and length come from one exclusive slice, which outlives the call.
        match unsafe { raw(libc::SYS_read, arguments) } {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// One `pread(2)`; 0 is the end.
pub(crate) fn read_at(
    from: BorrowedFd<'_>,
    buffer: &mut [u8],
    offset: u64,
) -> Result<usize, Errno> {
    let offset = usize::try_from(offset).map_err(|_| Errno::EOVERFLOW)?;
    loop {
        let pointer = buffer.as_mut_ptr().expose_provenance();
        let arguments = [word(from.as_raw_fd()), pointer, buffer.len(), offset, 0, 0];
        // SAFETY: pointer and length come from one exclusive slice, which outlives the call.
        match unsafe { raw(libc::SYS_pread64, arguments) } {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// Opens, writes once and closes: the way of `/proc` and sysctl files.
pub(crate) fn put(directory: RawFd, path: &CStr, text: &[u8]) -> Result<(), Errno> {
    let file = open_at(directory, path, libc::O_WRONLY | libc::O_NOFOLLOW, 0)?;
    write_all(std::os::fd::AsFd::as_fd(&file), text)
}

/// Identity of an open object, or of `path` below it without following a final link.
pub(crate) fn identity(directory: RawFd, path: &CStr) -> Result<Identity, Errno> {
    look(directory, path, libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW)
}

/// Identity of what `path` leads to, also through a link that only the kernel can follow.
pub(crate) fn identity_behind(path: &CStr) -> Result<Identity, Errno> {
    look(HERE, path, 0)
}

/// [`times`] of what `path` leads to, also through a link that only the kernel can follow.
pub(crate) fn times_behind(path: &CStr) -> Result<(Identity, i64, i64), Errno> {
    times(HERE, path, 0)
}

/// Identity of an object, when it was made (0 where the file system does not say) and when its bytes
/// were last written, both in nanoseconds since 1970 (`statx(2)`, Linux 4.11).
pub(crate) fn times(
    directory: RawFd,
    path: &CStr,
    flags: i32,
) -> Result<(Identity, i64, i64), Errno> {
    // SAFETY: all-zero bytes are a valid `struct statx`, which is integers only.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let arguments = [
        word(directory),
        path.as_ptr().expose_provenance(),
        word(flags),
        (libc::STATX_BASIC_STATS | libc::STATX_BTIME) as usize,
        (&raw mut found).expose_provenance(),
        0,
    ];
    // SAFETY: `path` and `found` outlive the call, and `found` has the kernel's layout.
    unsafe { raw(libc::SYS_statx, arguments) }?;
    let time = |it: libc::statx_timestamp| {
        it.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(it.tv_nsec))
    };
    let born = if found.stx_mask & libc::STATX_BTIME == 0 { 0 } else { time(found.stx_btime) };
    let identity = Identity {
        device: libc::makedev(found.stx_dev_major, found.stx_dev_minor),
        inode: found.stx_ino,
        mode: found.stx_mode.into(),
        node: libc::makedev(found.stx_rdev_major, found.stx_rdev_minor),
        links: found.stx_nlink.into(),
    };
    Ok((identity, born, time(found.stx_mtime)))
}

fn look(directory: RawFd, path: &CStr, flags: i32) -> Result<Identity, Errno> {
    // SAFETY: all-zero bytes are a valid `struct stat`, which is integers only.
    let mut found: libc::stat = unsafe { std::mem::zeroed() };
    let arguments = [
        word(directory),
        path.as_ptr().expose_provenance(),
        (&raw mut found).expose_provenance(),
        word(flags),
        0,
        0,
    ];
    // SAFETY: `path` and `found` outlive the call, and `found` has the kernel's layout.
    unsafe { raw(libc::SYS_newfstatat, arguments) }?;
    Ok(Identity {
        device: found.st_dev,
        inode: found.st_ino,
        mode: found.st_mode,
        node: found.st_rdev,
        #[cfg_attr(
            target_arch = "x86_64",
            expect(clippy::useless_conversion, reason = "narrower elsewhere")
        )]
        links: found.st_nlink.into(),
    })
}

/// What a file system has left for an ordinary user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) blocks: u64,
    pub(crate) files: u64,
}

/// `statfs(2)`.
pub(crate) fn space(path: &CStr) -> Result<Space, Errno> {
    // SAFETY: all-zero bytes are a valid `struct statfs`, which is integers only.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    let arguments =
        [path.as_ptr().expose_provenance(), (&raw mut found).expose_provenance(), 0, 0, 0, 0];
    // SAFETY: `path` and `found` outlive the call, and on 64 bits `found` has the kernel's layout.
    unsafe { raw(libc::SYS_statfs, arguments) }?;
    Ok(Space { blocks: found.f_bavail, files: found.f_ffree })
}

/// `mkdirat(2)`.
pub(crate) fn make_directory(directory: RawFd, path: &CStr, mode: u32) -> Result<(), Errno> {
    let arguments = [word(directory), path.as_ptr().expose_provenance(), mode as usize, 0, 0, 0];
    // SAFETY: `path` is a C string that outlives the call.
    unsafe { raw(libc::SYS_mkdirat, arguments) }.map(drop)
}

/// `symlinkat(2)`.
pub(crate) fn make_link(target: &CStr, directory: RawFd, path: &CStr) -> Result<(), Errno> {
    let arguments = [
        target.as_ptr().expose_provenance(),
        word(directory),
        path.as_ptr().expose_provenance(),
        0,
        0,
        0,
    ];
    // SAFETY: both are C strings that outlive the call.
    unsafe { raw(libc::SYS_symlinkat, arguments) }.map(drop)
}

/// `unlinkat(2)`.
pub(crate) fn remove(directory: RawFd, path: &CStr, flags: i32) -> Result<(), Errno> {
    let arguments = [word(directory), path.as_ptr().expose_provenance(), word(flags), 0, 0, 0];
    // SAFETY: `path` is a C string that outlives the call.
    unsafe { raw(libc::SYS_unlinkat, arguments) }.map(drop)
}

/// `renameat(2)`.
pub(crate) fn rename(directory: RawFd, name: &CStr, into: RawFd, to: &CStr) -> Result<(), Errno> {
    rename_by(0, [(directory, name), (into, to)])
}

/// `renameat2(2)` that replaces nothing: `EEXIST` where the new name is taken, and `EINVAL` where the
/// file system cannot promise it.
pub(crate) fn rename_new(
    directory: RawFd,
    name: &CStr,
    into: RawFd,
    to: &CStr,
) -> Result<(), Errno> {
    rename_by(libc::RENAME_NOREPLACE, [(directory, name), (into, to)])
}

fn rename_by(flags: u32, [from, to]: [(RawFd, &CStr); 2]) -> Result<(), Errno> {
    let arguments = [
        word(from.0),
        from.1.as_ptr().expose_provenance(),
        word(to.0),
        to.1.as_ptr().expose_provenance(),
        usize::try_from(flags).unwrap_or(usize::MAX),
        0,
    ];
    // SAFETY: both are C strings that outlive the call.
    unsafe { raw(libc::SYS_renameat2, arguments) }.map(drop)
}

/// `fchdir(2)`.
pub(crate) fn enter_directory(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    plain(libc::SYS_fchdir, [word(directory.as_raw_fd()), 0, 0, 0, 0, 0]).map(drop)
}

/// `chdir(2)`.
pub(crate) fn enter_path(path: &CStr) -> Result<(), Errno> {
    // SAFETY: `path` is a C string that outlives the call.
    unsafe { raw(libc::SYS_chdir, [path.as_ptr().expose_provenance(), 0, 0, 0, 0, 0]) }.map(drop)
}

/// `dup3(2)` onto a standard stream, without close-on-exec.
pub(crate) fn put_at(from: BorrowedFd<'_>, number: RawFd) -> Result<(), Errno> {
    if from.as_raw_fd() == number {
        // dup3 refuses equal numbers; the descriptor only has to lose its close-on-exec flag.
        return plain(libc::SYS_fcntl, [word(number), word(libc::F_SETFD), 0, 0, 0, 0]).map(drop);
    }
    plain(libc::SYS_dup3, [word(from.as_raw_fd()), word(number), 0, 0, 0, 0]).map(drop)
}

/// `close_range(2)`: closes every descriptor from `first` to `last`. Linux 5.9.
pub(crate) fn close_between(first: RawFd, last: RawFd) -> Result<(), Errno> {
    if last < first {
        return Ok(());
    }
    plain(libc::SYS_close_range, [word(first), word(last), 0, 0, 0, 0]).map(drop)
}

/// Closes at exec every descriptor from `first` on. Linux 5.11.
pub(crate) fn close_at_exec(first: RawFd) -> Result<(), Errno> {
    let flags = libc::CLOSE_RANGE_CLOEXEC as usize;
    plain(libc::SYS_close_range, [word(first), u32::MAX as usize, flags, 0, 0, 0]).map(drop)
}

/// A close-on-exec pipe: (reading end, writing end).
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
}

/// `ioctl(2)` that makes the terminal on `terminal` the controlling one of this new session.
pub(crate) fn control_terminal(terminal: BorrowedFd<'_>) -> Result<(), Errno> {
    let arguments = [word(terminal.as_raw_fd()), request(libc::TIOCSCTTY), 0, 0, 0, 0];
    plain(libc::SYS_ioctl, arguments).map(drop)
}
