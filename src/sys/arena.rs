//! The allocator of the `rung` program: one small arena, then the system's.
//!
//! Rung allocates for a millisecond, clones, and then waits for as long as the command runs. So the
//! first allocations come from one mapping whose pages are made present many at a time, which a
//! general allocator cannot know to do; nothing is reused, so freeing is counting; and when the
//! sandbox stands, [`trim`] gives every page back on which nothing lives any more. What does not
//! fit goes to the system's allocator.
//!
//! In debug builds it also watches the launcher's rule that nothing is allocated between fork and
//! exec: after [`forbid_others`] an allocation by any other process of this memory ends that process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU16, AtomicUsize, Ordering};

use super::{descriptor, process};

const PAGE: usize = 4096;
const PAGES: usize = 256;
const BYTES: usize = PAGE * PAGES;
/// How much is made present at a time.
const STEP: usize = 16 * PAGE;
/// How far below the frame in use the stack is given back. Less than the gap that the kernel keeps
/// free below a stack (256 pages), so nothing else can lie there.
const STACK_BYTES: usize = 128 * PAGE;
/// What is left below the frame in use: a leaf may write there without moving the stack pointer, and
/// the frames of the call itself lie there.
const STACK_LEFT: usize = 2 * PAGE;

/// Start of the mapping; null before the first allocation.
static BASE: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
/// Offset of the first byte that was never given out, or was given back last.
static NEXT: AtomicUsize = AtomicUsize::new(0);
/// Offset up to which pages were made present.
static PRESENT: AtomicUsize = AtomicUsize::new(0);
/// How many allocations reach into each page.
static LIVE: [AtomicU16; PAGES] = [const { AtomicU16::new(0) }; PAGES];
/// The process that may allocate; 0 as long as nobody shares its memory.
static OWNER: AtomicI32 = AtomicI32::new(0);

/// Registered as the global allocator by `main`.
#[derive(Debug)]
pub struct Arena;

/// From here on an allocation by a child that shares this memory is a defect.
pub(crate) fn forbid_others() {
    if cfg!(debug_assertions) && OWNER.load(Ordering::Relaxed) == 0 {
        OWNER.store(process::id(), Ordering::Relaxed);
    }
}

fn check() {
    let owner = if cfg!(debug_assertions) { OWNER.load(Ordering::Relaxed) } else { 0 };
    if owner != 0 && owner != process::id() {
        let message = b"rung: allocation between fork and exec\n";
        // The process ends either way.
        _ = descriptor::write_all(std::io::stderr().as_fd(), message);
        process::exit_now(125);
    }
}

/// Gives back every page below the next allocation on which nothing lives, and those above it that
/// were made present ahead of need. Called while the process has one thread.
pub(crate) fn trim() {
    let first = NEXT.load(Ordering::Relaxed) / PAGE;
    let present = PRESENT.load(Ordering::Relaxed) / PAGE;
    let mut page = 0;
    while page < present {
        let free = |page: usize| {
            page > first
                || (page < first
                    && LIVE.get(page).is_some_and(|it| it.load(Ordering::Relaxed) == 0))
        };
        let end = (page..present).find(|it| !free(*it)).unwrap_or(present);
        if end > page {
            discard(page, end);
        }
        page = end + 1;
    }
    PRESENT.store(((first + 1) * PAGE).min(present * PAGE), Ordering::Relaxed);
}

fn discard(page: usize, end: usize) {
    let base = BASE.load(Ordering::Acquire);
    if base.is_null() {
        return;
    }
    let start = base.wrapping_add(page * PAGE);
    // SAFETY: the range lies inside the mapping, which is never unmapped. A failure only means that
    // the pages stay.
    unsafe { libc::madvise(start.cast(), (end - page) * PAGE, libc::MADV_DONTNEED) };
}

/// Gives back the stack below the caller's frame, which deeper calls that have returned made present.
/// Nothing for any thread but the first, whose stack alone has a gap below it.
#[inline(never)]
pub(crate) fn trim_stack() {
    let own = process::id();
    if own < 0 || process::thread_id() != own {
        return;
    }
    let here = 0_u8;
    let end = ((&raw const here).addr() & !(PAGE - 1)) - STACK_LEFT;
    let start = std::ptr::without_provenance_mut(end - STACK_BYTES);
    // SAFETY: nothing below the stack pointer is in use, and no other mapping is so near below the
    // stack. Where the stack does not reach that far down the kernel says so and does the rest.
    unsafe { libc::madvise(start, STACK_BYTES, libc::MADV_DONTNEED) };
}

/// The mapping, made by whoever comes first; null if there is no memory.
fn base() -> *mut u8 {
    let known = BASE.load(Ordering::Acquire);
    if !known.is_null() {
        return known;
    }
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new anonymous mapping wherever the kernel likes.
    let made = unsafe { libc::mmap(std::ptr::null_mut(), BYTES, protection, flags, -1, 0) };
    if made == libc::MAP_FAILED {
        return std::ptr::null_mut();
    }
    let made = made.cast::<u8>();
    match BASE.compare_exchange(std::ptr::null_mut(), made, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => made,
        Err(other) => {
            // SAFETY: the mapping made just above, which nobody else has seen.
            unsafe { libc::munmap(made.cast(), BYTES) };
            other
        }
    }
}

/// Takes `size` bytes from the arena; null when it is full.
fn take(layout: Layout) -> *mut u8 {
    let base = base();
    if base.is_null() {
        return base;
    }
    let mut next = NEXT.load(Ordering::Relaxed);
    let (start, end) = loop {
        // The mapping begins at a page, so alignment of offsets is alignment of addresses.
        let start = next.next_multiple_of(layout.align());
        let end = start + layout.size();
        if end > BYTES || layout.align() > PAGE {
            return std::ptr::null_mut();
        }
        match NEXT.compare_exchange_weak(next, end, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => break (start, end),
            Err(now) => next = now,
        }
    };
    make_present(base, end);
    count(start, end, |live| live.fetch_add(1, Ordering::Relaxed));
    base.wrapping_add(start)
}

/// Touches pages in advance, many in one call: one fault each would cost more than their use.
fn make_present(base: *mut u8, end: usize) {
    let present = PRESENT.load(Ordering::Relaxed);
    if end <= present {
        return;
    }
    let wanted = end.next_multiple_of(STEP).min(BYTES);
    PRESENT.store(wanted, Ordering::Relaxed);
    let start = base.wrapping_add(present);
    // SAFETY: the range lies inside the mapping. Linux before 5.14 does not know this advice, and
    // then each page comes when it is touched.
    unsafe { libc::madvise(start.cast(), wanted - present, libc::MADV_POPULATE_WRITE) };
}

fn count(start: usize, end: usize, change: impl Fn(&AtomicU16) -> u16) {
    let last = end.saturating_sub(1).max(start) / PAGE;
    for live in LIVE.iter().take(last + 1).skip(start / PAGE) {
        change(live);
    }
}

/// Where in the arena the pointer points, if it does.
fn offset(pointer: *mut u8) -> Option<usize> {
    let base = BASE.load(Ordering::Acquire);
    let offset = pointer.addr().checked_sub(base.addr())?;
    (!base.is_null() && offset < BYTES).then_some(offset)
}

// SAFETY: blocks of the arena do not overlap, because `NEXT` only moves past a block that was given
// out, or back over the one that was given out last and is being freed; everything else is the
// system allocator's.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        check();
        let taken = take(layout);
        if !taken.is_null() {
            return taken;
        }
        // SAFETY: the caller keeps the contract of this method, which is the same one.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let Some(start) = offset(pointer) else {
            // SAFETY: not the arena's, so it came from the system's allocator.
            return unsafe { System.dealloc(pointer, layout) };
        };
        let end = start + layout.size();
        count(start, end, |live| live.fetch_sub(1, Ordering::Relaxed));
        // If it was the last block, its bytes are the next ones again. If not, they stay unused.
        _ = NEXT.compare_exchange(end, start, Ordering::Relaxed, Ordering::Relaxed);
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        check();
        if let Some(start) = offset(pointer)
            && start + size <= BYTES
        {
            let (end, new_end) = (start + layout.size(), start + size);
            // The last block grows and shrinks where it is.
            if NEXT.compare_exchange(end, new_end, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                make_present(BASE.load(Ordering::Acquire), new_end);
                count(start, end, |live| live.fetch_sub(1, Ordering::Relaxed));
                count(start, new_end, |live| live.fetch_add(1, Ordering::Relaxed));
                return pointer;
            }
        }
        // SAFETY: the caller vouches for `size` with this alignment.
        let layout_new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: `layout_new` has a size that the caller vouches to be more than 0.
        let new = unsafe { self.alloc(layout_new) };
        if !new.is_null() {
            // SAFETY: both blocks have at least that many bytes, and they are different blocks.
            unsafe { std::ptr::copy_nonoverlapping(pointer, new, layout.size().min(size)) };
            // SAFETY: the old block was given out with this layout, and nobody uses it any more.
            unsafe { self.dealloc(pointer, layout) };
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_not_the_first_keeps_all_that_lies_below_its_stack() {
        let below = vec![1_u8; STACK_BYTES];
        let kept = std::thread::spawn(move || {
            trim_stack();
            below.iter().all(|it| *it == 1)
        });
        assert!(kept.join().unwrap());
    }

    /// The tests of a process share one arena, so this is one test.
    #[test]
    fn blocks_keep_what_was_written_and_freed_pages_come_back_empty() {
        let layout = Layout::from_size_align(3 * PAGE, 16).unwrap();
        let take = |byte: u8| {
            // SAFETY: the layout has a size.
            let block = unsafe { Arena.alloc(layout) };
            // SAFETY: the block was just given out with that size.
            unsafe { block.write_bytes(byte, layout.size()) };
            block
        };
        let first = take(1);
        let second = take(2);
        assert_eq!(first.align_offset(16), 0);
        let bigger = layout.size() + PAGE;
        // SAFETY: `second` was given out with this layout.
        let grown = unsafe { Arena.realloc(second, layout, bigger) };
        assert_eq!(grown, second, "the last block did not grow in place");
        let grown_layout = Layout::from_size_align(bigger, 16).unwrap();
        // SAFETY: `first` was given out with this layout and is not used again but to look.
        unsafe { Arena.dealloc(first, layout) };
        trim();
        let middle = first.wrapping_add(PAGE);
        // SAFETY: the mapping stays; the middle page of the freed block is readable.
        assert_eq!(unsafe { middle.read() }, 0, "a freed page kept its bytes");
        // SAFETY: the block is live.
        assert_eq!(unsafe { grown.read() }, 2, "a live page lost its bytes");
        let huge = Layout::from_size_align(2 * BYTES, 16).unwrap();
        // SAFETY: the layout has a size.
        let outside = unsafe { Arena.alloc(huge) };
        assert_eq!(offset(outside), None);
        // SAFETY: given out just above.
        unsafe { Arena.dealloc(outside, huge) };
        // SAFETY: given out with this layout.
        unsafe { Arena.dealloc(grown, grown_layout) };
    }
}
