//! Items that are being written.

use core::ptr;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::{Chunk, Item, LEAD, TRAIL, WRITING};

/// An item that is being written.
pub struct Draft {
    chunk: Chunk,
    /// Text that has been written.
    written: usize,
    /// Text that there will be, without what is after the data.
    complete: usize,
}

impl Draft {
    /// The text of a free chunk; `None` if it is not free.
    pub fn claim(chunk: Chunk) -> Option<Self> {
        let free = chunk.counts.compare_exchange(0, WRITING, Acquire, Relaxed);
        free.ok().map(|_| Self {
            chunk,
            written: 0,
            complete: 0,
        })
    }

    /// Text of an item with such a key, line and data.
    pub fn text_bytes(key: usize, suffix: usize, data: usize) -> usize {
        LEAD.len() + key + suffix + data + TRAIL.len()
    }

    /// Writes what is before the data. `suffix` is what stands between key and data.
    ///
    /// # Panics
    /// If the text does not fit, or the key is longer than 255 bytes.
    pub fn begin(&mut self, key: &[u8], suffix: &[u8], flags: u32, data_bytes: usize) {
        let text = Self::text_bytes(key.len(), suffix.len(), data_bytes);
        assert!(text <= self.chunk.room as usize, "the chunk is too small");
        let header = &*self.chunk;
        let key_bytes = u8::try_from(key.len()).expect("keys have at most 250 bytes");
        let suffix_bytes = u8::try_from(suffix.len()).expect("two numbers have at most 25 bytes");
        header.key_bytes.store(key_bytes, Relaxed);
        header.suffix_bytes.store(suffix_bytes, Relaxed);
        header.data_bytes.store(data_bytes as u32, Relaxed);
        header.flags.store(flags, Relaxed);
        header.state.store(0, Relaxed);
        self.written = 0;
        self.write(LEAD);
        self.write(key);
        self.write(suffix);
        self.complete = self.written + data_bytes;
    }

    /// Takes as much of the data as is missing, and says how much that was.
    pub fn fill(&mut self, data: &[u8]) -> usize {
        let bytes = data.len().min(self.complete - self.written);
        self.write(&data[..bytes]);
        bytes
    }

    /// Bytes of the data that are missing.
    pub fn missing(&self) -> usize {
        self.complete - self.written
    }

    /// Whether the data that has been written ends in a line end.
    pub fn ends_in_line_end(&self) -> bool {
        self.written >= 2 && {
            // SAFETY: so much of the text has been written, and the draft alone has it.
            let end =
                unsafe { core::slice::from_raw_parts(self.chunk.text().add(self.written - 2), 2) };
            end == b"\r\n"
        }
    }

    /// The key that was given.
    pub fn key(&self) -> &[u8] {
        debug_assert!(self.written >= LEAD.len() + self.chunk.key_bytes());
        // SAFETY: `begin` has written the key, and the draft alone has the text.
        unsafe {
            core::slice::from_raw_parts(self.chunk.text().add(LEAD.len()), self.chunk.key_bytes())
        }
    }

    /// The chunk, for what its header says.
    pub fn chunk(&self) -> Chunk {
        self.chunk
    }

    /// The item.
    ///
    /// # Panics
    /// If data is missing.
    pub fn finish(mut self) -> Item {
        assert!(self.missing() == 0, "an item without all of its data");
        self.write(TRAIL);
        let chunk = self.chunk;
        core::mem::forget(self);
        chunk.counts.store(1, Release);
        Item::of_count(chunk)
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        debug_assert!(self.written + bytes.len() <= self.chunk.room as usize);
        // SAFETY: the draft alone has the text. It fits: `begin` has checked the sum of all that is
        // written, and `fill` takes no more data than was announced.
        unsafe {
            let to = self.chunk.text().add(self.written);
            ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
        }
        self.written += bytes.len();
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        self.chunk.counts.store(0, Release);
        self.chunk.store.reclaim(self.chunk);
    }
}
