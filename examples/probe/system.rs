//! The one door to the kernel.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A system call by number, with whatever words it is given.
pub(crate) fn call(number: usize, words: [usize; 6]) -> Result<usize, i32> {
    let [first, second, third, fourth, fifth, sixth] = words;
    // SAFETY: `syscall` passes numbers on. Pointers among them come from `keep`, which never frees,
    // or are meant to be wrong, which the kernel answers with EFAULT. A call that changes this
    // process in a way that Rust does not expect (a clone that shares memory, an unmapping) is the
    // experiment, and the process ends right after it.
    let result = unsafe {
        libc::syscall(
            number.cast_signed() as libc::c_long,
            first,
            second,
            third,
            fourth,
            fifth,
            sixth,
        )
    };
    if result == -1 {
        Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    } else {
        Ok(usize::try_from(result).unwrap_or(usize::MAX))
    }
}

/// A system call with at most six words.
pub(crate) fn ask(number: libc::c_long, words: &[usize]) -> Result<usize, i32> {
    let mut six = [0; 6];
    for (slot, word) in six.iter_mut().zip(words) {
        *slot = *word;
    }
    call(usize::try_from(number).map_err(|_| libc::ENOSYS)?, six)
}

/// A number as the kernel takes it, negative ones with all their bits.
pub(crate) fn word(value: i32) -> usize {
    (value as isize).cast_unsigned()
}

/// The address of a copy of the bytes, which lives as long as the process.
pub(crate) fn keep(bytes: Vec<u8>) -> usize {
    Box::leak(bytes.into_boxed_slice()).as_mut_ptr().expose_provenance()
}

/// The address of a C string; what comes after a NUL byte is not seen by the kernel.
pub(crate) fn keep_text(text: &[u8]) -> usize {
    let mut bytes = text.to_vec();
    bytes.push(0);
    keep(bytes)
}

pub(crate) fn keep_path(path: &Path) -> Result<usize, i32> {
    let text = CString::new(path.as_os_str().as_bytes()).map_err(|_| libc::EINVAL)?;
    Ok(keep(text.into_bytes_with_nul()))
}

/// A fork whose two sides both come back: 0 in the child.
pub(crate) fn fork() -> Result<usize, i32> {
    ask(libc::SYS_clone, &[word(libc::SIGCHLD)])
}

/// Waits for one child and gives its status as `wait4(2)` does.
pub(crate) fn wait_for(pid: usize) -> Result<i32, i32> {
    let status = keep(vec![0; 4]);
    ask(libc::SYS_wait4, &[pid, status])?;
    // SAFETY: `status` is the address of four bytes of our own that the kernel has just filled; a
    // byte array needs no alignment.
    let bytes: [u8; 4] = unsafe { std::ptr::with_exposed_provenance::<[u8; 4]>(status).read() };
    Ok(i32::from_ne_bytes(bytes))
}

/// Never comes back, unless by a signal that ends it.
pub(crate) fn pause_for_ever() -> ! {
    loop {
        // Without descriptors and without a time, ppoll(2) waits for a signal.
        _ = ask(libc::SYS_ppoll, &[]);
    }
}

/// The 32-bit way into the kernel, which numbers its calls differently.
#[cfg(target_arch = "x86_64")]
pub(crate) fn call_by_interrupt(number: u32, words: [u32; 3]) -> i32 {
    let result: i32;
    let [first, second, third] = words;
    // SAFETY: the interrupt takes numbers in registers and returns one. rbx is kept by hand because
    // the compiler reserves it; nothing of this process is changed beyond what the call does.
    unsafe {
        std::arch::asm!(
            "push rbx",
            "mov ebx, {first:e}",
            "int 0x80",
            "pop rbx",
            first = in(reg) first,
            inlateout("eax") number.cast_signed() => result,
            in("ecx") second,
            in("edx") third,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    result
}
