//! The memory of items, and all that is unsafe about it.
//!
//! A page is divided into chunks of one size; a chunk is a [`Header`] and then text, which is the whole
//! answer to `get`: `VALUE <key> <flags> <bytes>\r\n<data>\r\nEND\r\n`. So an answer is one piece of
//! memory, sent from where it lies.
//!
//! What keeps this sound is one word of the header, the number of [`Item`]s, and not the locks around:
//!
//! - 0: nobody has the text. [`Draft::claim`] makes it [`WRITING`], for one who succeeds.
//! - [`WRITING`]: the draft alone has the text, and writes it. [`Draft::finish`] makes it 1.
//! - 1 and more: the text is complete and does not change; [`Chunk::hold`] counts one more. One of these
//!   counts belongs to the table, as long as the header's state says [`state::LINKED`].
//!
//! All else in the header is atomic, so that a [`Chunk`], which only names one, may be used by anybody;
//! what it says is consistent under the locks of its neighbours `index` and `class`.

use alloc::alloc::{Layout, alloc};
use alloc::vec::Vec;
use core::ops::{Deref, Range};
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64};

use libix::Lease;

use super::Store;

/// Bytes before the text.
pub const HEADER_BYTES: usize = size_of::<Header>();
/// Chunks begin at multiples of this.
pub const ALIGNMENT: usize = align_of::<Header>();

/// Before the key in the text.
const LEAD: &[u8] = b"VALUE ";
/// After the data in the text.
const TRAIL: &[u8] = b"END\r\n";

/// In [`Header::counts`]: a draft has it.
const WRITING: u32 = 1 << 31;
/// In [`Header::counts`]: the page is being given back, and the chunk with it.
const RETIRED: u32 = WRITING + 1;

/// Bits of [`Header::state`].
pub mod state {
    /// The item is in the table.
    pub const LINKED: u8 = 1;
    /// It was read since it was stored.
    pub const FETCHED: u8 = 2;
    /// It was read again since the list that it is in was looked through.
    pub const ACTIVE: u8 = 4;
    /// Its content is known to be out of date (`md` with `I`).
    pub const STALE: u8 = 8;
    /// A client has been told that it is the one to renew the content.
    pub const TOKEN_SENT: u8 = 16;
    /// Its key was given in base64.
    pub const KEY_BINARY: u8 = 32;
    /// Two bits: the number of the list that it is in.
    pub const LIST: u8 = 0xc0;
    /// Place of these bits.
    pub const LIST_SHIFT: u32 = 6;
}

/// What is before the text of a chunk.
#[repr(C)]
pub struct Header {
    /// The next one in the table's bucket; in a free chunk, the next free one.
    pub chain: Link,
    /// Neighbour in its list.
    pub newer: Link,
    /// Neighbour in its list.
    pub older: Link,
    store: &'static Store,
    /// The unique number of its content.
    pub cas: AtomicU64,
    /// Of the key.
    pub hash: AtomicU32,
    counts: AtomicU32,
    /// When it is no longer good; 0 for never.
    pub expires: AtomicU32,
    /// When it was stored or began to be active.
    pub accessed: AtomicU32,
    /// Bytes of the data, with its line end.
    data_bytes: AtomicU32,
    /// The client's flags.
    flags: AtomicU32,
    /// Room for text.
    room: u32,
    /// Number of the page, among those of its class.
    page: u32,
    /// See [`state`].
    pub state: AtomicU8,
    key_bytes: AtomicU8,
    /// Bytes between key and data.
    suffix_bytes: AtomicU8,
    class: u8,
}

/// Names a chunk. Says nothing about who has its text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Chunk(NonNull<Header>);

// SAFETY: all that a chunk gives access to is the header, whose fields are atomic or never change.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

impl Deref for Chunk {
    type Target = Header;

    #[inline]
    fn deref(&self) -> &Header {
        // SAFETY: chunks are made by `Slab::next_chunk` alone, which has written the header. The memory is
        // never freed. It is divided anew only when no item was left in the page, and the table and its
        // lists name chunks with items only.
        unsafe { self.0.as_ref() }
    }
}

/// A place in a header that names another chunk.
pub struct Link(AtomicPtr<Header>);

impl Link {
    const fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// What it names.
    #[inline]
    pub fn get(&self) -> Option<Chunk> {
        NonNull::new(self.0.load(Relaxed)).map(Chunk)
    }

    /// Has it name another one.
    #[inline]
    pub fn set(&self, chunk: Option<Chunk>) {
        let header = chunk.map_or(ptr::null_mut(), |chunk| chunk.0.as_ptr());
        self.0.store(header, Relaxed);
    }
}

impl Chunk {
    /// The item in it, counted, if there is one.
    #[inline]
    pub fn hold(self) -> Option<Item> {
        let mut counts = self.counts.load(Relaxed);
        loop {
            // Far from `WRITING`: so many of one item are not under way.
            if counts == 0 || counts >= WRITING - 1 {
                return None;
            }
            match self
                .counts
                .compare_exchange_weak(counts, counts + 1, Acquire, Relaxed)
            {
                Ok(_) => return Some(Item(self)),
                Err(other) => counts = other,
            }
        }
    }

    /// Whether the table alone has the item.
    pub fn is_only_linked(self) -> bool {
        self.counts.load(Relaxed) == 1 && self.has(state::LINKED)
    }

    /// Ends the table's count. Whether that was the last one, so that the chunk is free.
    pub fn unlink(self) -> bool {
        let before = self.state.fetch_and(!state::LINKED, Relaxed);
        before & state::LINKED != 0 && self.counts.fetch_sub(1, AcqRel) == 1
    }

    /// Whether the state has that bit.
    #[inline]
    pub fn has(self, bit: u8) -> bool {
        self.state.load(Relaxed) & bit != 0
    }

    /// Number of the class that its size belongs to.
    #[inline]
    pub fn class(self) -> usize {
        self.class.into()
    }

    /// Number of its page among those of its class.
    pub fn page(self) -> u32 {
        self.page
    }

    /// Length of the key.
    #[inline]
    pub fn key_bytes(self) -> usize {
        self.key_bytes.load(Relaxed).into()
    }

    /// Length of the data, without its line end.
    #[inline]
    pub fn value_bytes(self) -> usize {
        self.data_bytes.load(Relaxed) as usize - 2
    }

    /// The client's flags.
    pub fn flags(self) -> u32 {
        self.flags.load(Relaxed)
    }

    fn text(self) -> *mut u8 {
        self.0.as_ptr().wrapping_add(1).cast()
    }

    fn data_at(self) -> usize {
        LEAD.len() + self.key_bytes() + usize::from(self.suffix_bytes.load(Relaxed))
    }

    fn data_len(self) -> usize {
        self.data_bytes.load(Relaxed) as usize
    }
}

/// An item that is there as long as this is: in the table, or no longer.
pub struct Item(Chunk);

impl Item {
    /// The chunk that it is in.
    #[inline]
    pub fn chunk(&self) -> Chunk {
        self.0
    }

    /// The key.
    #[inline]
    pub fn key(&self) -> &[u8] {
        self.text(LEAD.len()..LEAD.len() + self.0.key_bytes())
    }

    /// The data, without its line end.
    pub fn value(&self) -> &[u8] {
        let at = self.0.data_at();
        self.text(at..at + self.0.value_bytes())
    }

    /// The unique number of its content.
    pub fn cas(&self) -> u64 {
        self.0.cas.load(Relaxed)
    }

    /// Hands the count over to the table. The caller puts the chunk there.
    pub fn into_link(self) -> Chunk {
        let chunk = self.0;
        if chunk.state.fetch_or(state::LINKED, Relaxed) & state::LINKED == 0 {
            core::mem::forget(self);
        }
        chunk
    }

    /// The whole answer to `get`.
    #[inline]
    pub fn into_answer(self) -> Piece {
        let bytes = self.0.data_at() + self.0.data_len() + TRAIL.len();
        Piece {
            item: self,
            start: 0,
            bytes: bytes as u32,
        }
    }

    /// The answer without the `END` after it.
    pub fn into_line_and_data(self) -> Piece {
        let mut piece = self.into_answer();
        piece.bytes -= TRAIL.len() as u32;
        piece
    }

    /// The data with its line end.
    pub fn into_data(self) -> Piece {
        Piece {
            start: self.0.data_at() as u32,
            bytes: self.0.data_len() as u32,
            item: self,
        }
    }

    /// The data without its line end.
    pub fn into_value(self) -> Piece {
        let mut piece = self.into_data();
        piece.bytes -= 2;
        piece
    }

    #[inline]
    fn text(&self, range: Range<usize>) -> &[u8] {
        debug_assert!(range.start <= range.end && range.end <= self.0.room as usize);
        // SAFETY: an item exists, so that the text is complete and does not change. Every range is
        // made of lengths that `Draft::begin` has checked against the room.
        unsafe { core::slice::from_raw_parts(self.0.text().add(range.start), range.len()) }
    }
}

impl Drop for Item {
    #[inline]
    fn drop(&mut self) {
        if self.0.counts.fetch_sub(1, AcqRel) == 1 {
            self.0.store.reclaim(self.0);
        }
    }
}

/// A part of an item's text, with the item.
pub struct Piece {
    item: Item,
    start: u32,
    bytes: u32,
}

// SAFETY: the text of an item neither moves nor changes while the item is there, which the raw count
// is as good for as the item.
unsafe impl Lease for Piece {
    #[inline]
    fn bytes(&self) -> &[u8] {
        let start = self.start as usize;
        self.item.text(start..start + self.bytes as usize)
    }

    #[inline]
    fn into_raw(self) -> *const () {
        let header = self.item.0.0.as_ptr();
        core::mem::forget(self.item);
        header.cast()
    }

    #[inline]
    unsafe fn release(raw: *const ()) {
        // SAFETY: `raw` is from `into_raw`, which took it from a chunk.
        let header = unsafe { NonNull::new_unchecked(raw.cast_mut().cast()) };
        drop(Item(Chunk(header)));
    }
}

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
        Item(chunk)
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
