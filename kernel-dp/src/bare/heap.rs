//! The kernel's heap. Everything is allocated at start and lives for ever (no packet causes an
//! allocation), each thread's tables in a region of their own, so the heap only grows: freeing or growing the latest block works in place,
//! other freed memory is not used again.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::memory::Region;

#[global_allocator]
static HEAP: Heap = Heap {
    next: AtomicUsize::new(0),
    end: AtomicUsize::new(0),
};

struct Heap {
    next: AtomicUsize,
    end: AtomicUsize,
}

/// Goes on in `region`: what is allocated from now on shares no page with what was before. Before
/// the first call, every allocation fails. To be called by the boot CPU alone.
pub fn move_to(region: Region) {
    let words = region.into_words().as_ptr_range();
    HEAP.next.store(words.start as usize, Ordering::Relaxed);
    HEAP.end.store(words.end as usize, Ordering::Relaxed);
}

/// Bytes left.
pub fn available() -> usize {
    HEAP.end.load(Ordering::Relaxed) - HEAP.next.load(Ordering::Relaxed)
}

impl Heap {
    /// Moves the end of the latest block from `from` to `to`.
    fn move_end(&self, from: usize, to: usize) -> bool {
        to <= self.end.load(Ordering::Relaxed)
            && self
                .next
                .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

// SAFETY: blocks lie between `next` and `end` of regions that are this allocator's alone, aligned
// and disjoint, since `next` moves past each block by compare-and-exchange before it is given out,
// and back only to the start of the latest block.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        loop {
            let next = self.next.load(Ordering::Relaxed);
            let start = next.next_multiple_of(layout.align());
            let Some(end) = start.checked_add(layout.size()) else {
                return null_mut();
            };
            if end > self.end.load(Ordering::Relaxed) {
                return null_mut();
            }
            if self.move_end(next, end) {
                return start as *mut u8;
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // A block that is not the latest one stays taken.
        self.move_end(block as usize + layout.size(), block as usize);
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let start = block as usize;
        let grown = start.checked_add(new_size);
        if grown.is_some_and(|end| self.move_end(start + layout.size(), end)) {
            return block;
        }
        // SAFETY: the caller guarantees that `new_size` with this alignment is a valid layout.
        let new =
            unsafe { self.alloc(Layout::from_size_align_unchecked(new_size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both blocks are at least that long, and distinct.
            unsafe { core::ptr::copy_nonoverlapping(block, new, layout.size().min(new_size)) };
        }
        new
    }
}
