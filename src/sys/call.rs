//! The two instruction sequences of this program: a system call, and a child on its own stack.
//!
//! The C library's `syscall` stores the error in thread-local memory, which a child that shares
//! this process's memory would share too; so the call is made here and the error stays in a
//! register. A child on a stack of its own cannot return from a function either, so it is entered
//! here.

use libc::c_long;

/// A system call: the kernel's result, errors as negative numbers.
///
/// # Safety
///
/// As for the call itself.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn call(number: c_long, a: [usize; 6]) -> isize {
    let [a0, a1, a2, a3, a4, a5] = a;
    let result: isize;
    // SAFETY: the kernel's calling convention (syscall(2)): number in rax, arguments in these
    // registers, rcx and r11 lost. What the call does is the caller's to vouch for.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") isize::try_from(number).unwrap_or(-1) => result,
            in("rdi") a0, in("rsi") a1, in("rdx") a2, in("r10") a3, in("r8") a4, in("r9") a5,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// `clone3` into `enter(argument)` on the stack that the arguments name. The parent gets the
/// kernel's result; the child never comes back.
///
/// # Safety
///
/// `arguments` is a `struct clone_args` of `size` bytes with a stack that nobody else uses, and
/// `enter` may run on it, with `argument`, beside or instead of this process.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn clone_into(
    arguments: usize,
    size: usize,
    enter: extern "C" fn(usize) -> !,
    argument: usize,
) -> isize {
    let result: isize;
    // SAFETY: registers but rcx and r11 survive the call in both processes. In the child rax is 0
    // and the stack pointer is the top of its stack, which is aligned to 16 bytes as a call wants.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") isize::try_from(libc::SYS_clone3).unwrap_or(-1) => result,
            in("rdi") arguments, in("rsi") size,
            in("r12") enter, in("r13") argument,
            lateout("rcx") _, lateout("r11") _,
        );
    }
    result
}

/// A system call: the kernel's result, errors as negative numbers.
///
/// # Safety
///
/// As for the call itself.
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn call(number: c_long, a: [usize; 6]) -> isize {
    let [a0, a1, a2, a3, a4, a5] = a;
    let result: isize;
    // SAFETY: the kernel's calling convention (syscall(2)): number in x8, arguments in x0 to x5.
    // What the call does is the caller's to vouch for.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") a0 => result,
            in("x1") a1, in("x2") a2, in("x3") a3, in("x4") a4, in("x5") a5,
            options(nostack),
        );
    }
    result
}

/// `clone3` into `enter(argument)` on the stack that the arguments name. The parent gets the
/// kernel's result; the child never comes back.
///
/// # Safety
///
/// `arguments` is a `struct clone_args` of `size` bytes with a stack that nobody else uses, and
/// `enter` may run on it, with `argument`, beside or instead of this process.
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn clone_into(
    arguments: usize,
    size: usize,
    enter: extern "C" fn(usize) -> !,
    argument: usize,
) -> isize {
    let result: isize;
    // SAFETY: registers but x0 survive the call in both processes. In the child x0 is 0 and the
    // stack pointer is the top of its stack, which is aligned to 16 bytes as a call wants.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x21",
            "blr x20",
            "brk 1",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") arguments => result,
            in("x1") size,
            in("x20") enter, in("x21") argument,
        );
    }
    result
}
