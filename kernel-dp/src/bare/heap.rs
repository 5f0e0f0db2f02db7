//! The kernel's heap, made of arenas: one that all threads share, and one for each thread, which no
//! other may touch once it runs ([`super::privacy`]). Everything is allocated at start and lives for
//! ever (no packet causes an allocation), so an arena only grows: freeing or growing the latest block
//! works in place, other freed memory is not used again.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::null_mut;
use core::sync::atomic::{AtomicUsize, Ordering};

use kernel_dp::boot_info::Range;

use super::memory::Region;

#[global_allocator]
static HEAP: Heap = Heap {
    start: AtomicUsize::new(0),
    next: AtomicUsize::new(0),
    end: AtomicUsize::new(0),
};

/// The arena that is allocated from.
struct Heap {
    start: AtomicUsize,
    next: AtomicUsize,
    end: AtomicUsize,
}

/// Memory to allocate from, while it is not the heap's own.
pub struct Arena {
    start: usize,
    next: usize,
    end: usize,
}

impl Arena {
    /// An empty one.
    pub fn new(region: Region) -> Self {
        let words = region.into_words().as_ptr_range();
        Self {
            start: words.start as usize,
            next: words.start as usize,
            end: words.end as usize,
        }
    }

    /// Makes the last `bytes` an arena of their own, if they are free.
    pub fn cut(&mut self, bytes: usize) -> Option<Self> {
        let end = self.end;
        let start = end.checked_sub(bytes)?;
        if start < self.next {
            return None;
        }
        self.end = start;
        Some(Self {
            start,
            next: start,
            end,
        })
    }

    /// Its addresses.
    pub fn range(&self) -> Range {
        Range {
            start: self.start as u64,
            end: self.end as u64,
        }
    }

    /// Bytes left.
    pub fn available(&self) -> usize {
        self.end - self.next
    }
}

/// Goes on in `arena`. Before the first call, every allocation fails. To be called by the boot CPU
/// alone.
pub fn move_to(arena: Arena) {
    exchange(arena);
}

/// Has `work` allocate from `arena`. To be called by the boot CPU alone.
pub fn within<T>(arena: &mut Arena, work: impl FnOnce() -> T) -> T {
    let own = Arena { ..*arena };
    let outer = exchange(own);
    let result = work();
    *arena = exchange(outer);
    result
}

fn exchange(arena: Arena) -> Arena {
    Arena {
        start: HEAP.start.swap(arena.start, Ordering::Relaxed),
        next: HEAP.next.swap(arena.next, Ordering::Relaxed),
        end: HEAP.end.swap(arena.end, Ordering::Relaxed),
    }
}

/// Bytes left.
pub fn available() -> usize {
    HEAP.end.load(Ordering::Relaxed) - HEAP.next.load(Ordering::Relaxed)
}

impl Heap {
    /// Moves the end of the latest block from `from` to `to`.
    fn move_end(&self, from: usize, to: usize) -> bool {
        self.start.load(Ordering::Relaxed) <= to
            && to <= self.end.load(Ordering::Relaxed)
            && self
                .next
                .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

// SAFETY: blocks lie between `start` and `end` of arenas that are this allocator's alone, aligned
// and disjoint, since `next` moves past each block by compare-and-exchange before it is given out,
// and back only to the start of the latest block. Arenas change hands on the boot CPU only, while no
// other one allocates or frees.
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
