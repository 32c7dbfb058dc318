//! A guard for debug builds: memory allocated between fork and exec ends the child.
//!
//! The launcher's rule is that everything is built before the fork. The rule is easily broken by a
//! line that formats or clones, so debug builds register [`Guard`] as the global allocator and
//! [`forbid`] arms it in the child.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};

static FORBIDDEN: AtomicBool = AtomicBool::new(false);

/// From here on an allocation in this process is a defect.
pub(crate) fn forbid() {
    FORBIDDEN.store(true, Ordering::Relaxed);
}

/// The system allocator, which ends the process where allocating was forbidden.
#[derive(Debug)]
pub struct Guard;

fn check() {
    if FORBIDDEN.load(Ordering::Relaxed) {
        let message = b"rung: allocation between fork and exec\n";
        // SAFETY: pointer and length come from one static slice.
        unsafe { libc::write(2, message.as_ptr().cast(), message.len()) };
        super::process::exit_now(125);
    }
}

// SAFETY: every method passes its arguments on to the system allocator unchanged.
unsafe impl GlobalAlloc for Guard {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check();
        // SAFETY: the caller keeps the contract of this method, which is the same one.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}
