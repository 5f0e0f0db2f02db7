//! Pages, and how they are divided into chunks.

use alloc::alloc::{Layout, alloc};
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::{AcqRel, Relaxed, Release};
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use super::{ALIGNMENT, Chunk, HEADER_BYTES, Header, Link, RETIRED};
use crate::store::Store;

/// One page of memory that nothing is in.
pub struct Page {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a page is plain memory, which nobody else names.
unsafe impl Send for Page {}

impl Page {
    /// `count` pages, which are never given back to the allocator; `None` if it has not so much.
    pub fn allocate(count: usize, bytes: usize) -> Option<Vec<Page>> {
        let bytes = bytes.next_multiple_of(ALIGNMENT);
        let layout = Layout::from_size_align(count.checked_mul(bytes)?, ALIGNMENT).ok()?;
        let mut pages = Vec::new();
        pages.try_reserve_exact(count).ok()?;
        if layout.size() == 0 {
            return Some(pages);
        }
        // SAFETY: the size is not 0.
        let start = NonNull::new(unsafe { alloc(layout) })?;
        pages.extend((0..count).map(|number| Page {
            // SAFETY: inside the block that was allocated.
            start: unsafe { start.add(number * bytes) },
            bytes,
        }));
        Some(pages)
    }
}

/// A page that is divided into chunks.
pub struct Slab {
    page: Page,
    chunk_bytes: usize,
    divided: usize,
}

impl Slab {
    /// Divides a page.
    ///
    /// # Panics
    /// If the size is not one for chunks in this page.
    pub fn new(page: Page, chunk_bytes: usize) -> Self {
        assert!(chunk_bytes > HEADER_BYTES && chunk_bytes <= page.bytes);
        assert!(chunk_bytes.is_multiple_of(ALIGNMENT) && chunk_bytes <= u32::MAX as usize);
        Self {
            page,
            chunk_bytes,
            divided: 0,
        }
    }

    /// A chunk that never was in use; `None` when all have been.
    pub fn next_chunk(&mut self, store: &'static Store, class: u8, page: u32) -> Option<Chunk> {
        let offset = self.divided * self.chunk_bytes;
        if offset + self.chunk_bytes > self.page.bytes {
            return None;
        }
        self.divided += 1;
        let header = Header {
            chain: Link::new(),
            newer: Link::new(),
            older: Link::new(),
            store,
            cas: AtomicU64::new(0),
            hash: AtomicU32::new(0),
            counts: AtomicU32::new(0),
            expires: AtomicU32::new(0),
            accessed: AtomicU32::new(0),
            data_bytes: AtomicU32::new(2),
            flags: AtomicU32::new(0),
            room: (self.chunk_bytes - HEADER_BYTES) as u32,
            page,
            state: AtomicU8::new(0),
            key_bytes: AtomicU8::new(0),
            suffix_bytes: AtomicU8::new(0),
            class,
        };
        // SAFETY: inside the page, aligned since page and chunk sizes are; nobody names this part of
        // the page yet.
        let place = unsafe {
            let place = self.page.start.add(offset).cast::<Header>();
            place.write(header);
            place
        };
        Some(Chunk(place))
    }

    /// All chunks that have been in use.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk> + use<> {
        let (start, chunk_bytes) = (self.page.start, self.chunk_bytes);
        // SAFETY: `next_chunk` has written a header at each of these places.
        (0..self.divided)
            .map(move |number| Chunk(unsafe { start.add(number * chunk_bytes) }.cast()))
    }

    /// The page, to be divided anew, if there is neither item nor draft in it.
    pub fn dissolve(self) -> Result<Page, Self> {
        for (retired, chunk) in self.chunks().enumerate() {
            let free = chunk.counts.compare_exchange(0, RETIRED, AcqRel, Relaxed);
            if free.is_err() {
                for chunk in self.chunks().take(retired) {
                    chunk.counts.store(0, Release);
                }
                return Err(self);
            }
        }
        Ok(self.page)
    }
}
