//! Sizes of chunks and pages.

use alloc::vec::Vec;

use super::chunk::{ALIGNMENT, HEADER_BYTES};

/// The smallest chunk.
const SMALLEST: usize = 96;
/// Chunks up to this size find their class in a table.
const TABLE_BYTES: usize = 4096;
/// What a page is longer than the largest item as memcached counts it: the headers here are longer.
const PAGE_ROOM: usize = 4096;
/// Most classes; memcached has 63, too.
const CLASSES: usize = 63;

/// Bytes that memcached needs for an item beside key, data and flags: its header, the unique number,
/// and the end of the key.
const MEMCACHED_HEADER: usize = 48 + 8 + 1;
/// Bytes that it needs for flags other than 0.
const MEMCACHED_FLAGS: usize = 4;

/// See the module.
pub struct Sizes {
    chunks: Vec<usize>,
    page_bytes: usize,
    /// Class by the size in units of the alignment.
    table: Vec<u8>,
}

impl Sizes {
    /// For items up to that size as memcached counts it.
    pub fn new(item_max: usize, growth_percent: usize) -> Self {
        let page_bytes = item_max.next_multiple_of(PAGE_ROOM) + PAGE_ROOM;
        let mut chunks = Vec::new();
        let mut bytes = SMALLEST;
        // Two in a page waste less than one; what is larger has a page for itself.
        while bytes <= page_bytes / 2 && chunks.len() < CLASSES - 1 {
            chunks.push(bytes);
            let next = (bytes * growth_percent / 100).next_multiple_of(ALIGNMENT);
            bytes = next.max(bytes + ALIGNMENT);
        }
        chunks.push(page_bytes);
        let sizes = (0..=TABLE_BYTES / ALIGNMENT).map(|units| units * ALIGNMENT);
        let class = |bytes| chunks.partition_point(|&chunk| chunk < bytes) as u8;
        Self {
            table: sizes.map(class).collect(),
            chunks,
            page_bytes,
        }
    }

    /// Bytes of chunks by class.
    pub fn chunks(&self) -> &[usize] {
        &self.chunks
    }

    /// Bytes of a page.
    pub fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// The class for that much text.
    #[inline]
    pub fn class_of(&self, text: usize) -> Option<usize> {
        let bytes = HEADER_BYTES + text;
        if bytes <= TABLE_BYTES {
            return Some(self.table[bytes.div_ceil(ALIGNMENT)].into());
        }
        let class = self.chunks.partition_point(|&chunk| chunk < bytes);
        (class < self.chunks.len()).then_some(class)
    }

    /// What memcached would need for such an item; its limits go by that.
    pub fn as_memcached(&self, key: usize, flags: u32, data: usize) -> usize {
        let flags = match flags {
            0 => 0,
            _ => MEMCACHED_FLAGS,
        };
        MEMCACHED_HEADER + key + flags + data
    }
}
