//! The keys that the kernel keeps for a user (keyrings(7)).

use std::ffi::CStr;

use super::{Errno, plain, raw, word};

// linux/keyctl.h
const LINK: i32 = 8;
const UNLINK: i32 = 9;
const SEARCH: i32 = 10;
const READ: i32 = 11;
const OF_PROCESS: i32 = -2;
const OF_USER: i32 = -4;

/// Reads the key of kind `user` with this description from the user's keyring. Returns its length,
/// of which as much is in the buffer as there is room for.
///
/// Whoever has a key in a keyring of its own may read it, so the user's keyring is one of this
/// process's for as long as this takes.
pub(crate) fn user_key(description: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    change(LINK)?;
    let read = search(description).and_then(|key| read(key, buffer));
    change(UNLINK)?;
    read
}

fn change(how: i32) -> Result<(), Errno> {
    let words = [word(how), word(OF_USER), word(OF_PROCESS), 0, 0, 0];
    plain(libc::SYS_keyctl, words).map(drop)
}

fn search(description: &CStr) -> Result<usize, Errno> {
    let words = [
        word(SEARCH),
        word(OF_USER),
        c"user".as_ptr().expose_provenance(),
        description.as_ptr().expose_provenance(),
        0,
        0,
    ];
    // SAFETY: kind and description are C strings, which the kernel copies before it returns; 0 is no
    // keyring to link the key to.
    unsafe { raw(libc::SYS_keyctl, words) }
}

fn read(key: usize, buffer: &mut [u8]) -> Result<usize, Errno> {
    let words = [word(READ), key, buffer.as_mut_ptr().expose_provenance(), buffer.len(), 0, 0];
    // SAFETY: pointer and length come from one slice, which is borrowed to be written to.
    unsafe { raw(libc::SYS_keyctl, words) }
}
