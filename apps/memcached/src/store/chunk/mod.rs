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
//! `item`, `draft` and `page` have what may be done with the text in each of these states, and with the memory.
//!
//! All else in the header is atomic, so that a [`Chunk`], which only names one, may be used by anybody;
//! what it says is consistent under the locks of its neighbours `index` and `class`.

mod draft;
mod item;
mod page;

use core::ops::Deref;
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64};

use super::Store;

pub use draft::Draft;
pub use item::{Item, Piece};
pub use page::{Page, Slab};

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

/// Bits of a header's `state`.
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
                Ok(_) => return Some(Item::of_count(self)),
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
