//! Brings the application into memory: its image, which all threads share, and for each thread
//! stack, heap, thread area with boot block, and mbuf pool, each mapped with the rights it needs and
//! no more. The background threads have a heap, stacks and one area together.

use core::sync::atomic::{AtomicU64, Ordering};

use alloc::vec::Vec;

use ix_abi::syscall::{BACKGROUND_MAX, STACK_BYTES};
use ix_abi::{area, boot};
use ix_core::UserRange;
use ix_hal::{LentMbuf, MbufGeometry, MbufId, MbufMemory};
use kernel_dp::LARGE_PAGE;
use kernel_dp::application::{self, MemoryPlan, Processors, ThreadPlaces};
use kernel_dp::boot_info::Range;
use kernel_dp::command_line::Options;
use kernel_dp::elf::{ElfError, Image, Protection};
use kernel_dp::page_table::Access;
use thiserror::Error;

use super::memory::{Memory, MemoryError, Region};
use super::privacy;
use super::time::Clock;

/// An application in memory, ready to run.
pub struct Application {
    /// Address of its first instruction.
    pub entry: u64,
    /// What each thread has to itself.
    pub threads: Vec<Thread>,
    /// What the background threads have, if there is a processor for them.
    pub background: Option<Background>,
}

/// What one thread of an application has to itself, and its view of what all share.
#[derive(Clone)]
pub struct Thread {
    /// Its number.
    pub index: usize,
    /// Where the application finds it.
    pub places: ThreadPlaces,
    /// The kernel's view of its thread area.
    pub area: &'static [AtomicU64],
    /// What it may read, except for the thread area.
    pub memory: UserMemory,
    /// Where the mbufs are.
    pub mbufs: MbufGeometry,
    /// The kernel's view of the mbufs.
    pub frames: Frames,
}

/// What the background threads have to themselves, and their view of what all share.
pub struct Background {
    /// Number of their area, and of their heap.
    index: usize,
    /// Where they find their area.
    pub area_address: u64,
    /// The kernel's view of it.
    pub area: &'static [AtomicU64],
    shared: [Part; 3],
    stacks: [Part; BACKGROUND_MAX],
}

/// Why the application cannot run.
#[derive(Debug, Error)]
pub enum LoadError {
    /// No boot module.
    #[error("no application image: pass one as boot module (QEMU: -initrd)")]
    NoModule,
    /// More boot modules than one.
    #[error("{0} boot modules given; one, the application image, is expected")]
    Modules(usize),
    /// An image that was refused.
    #[error("application image: {0}")]
    Image(#[from] ElfError),
    /// No memory for it.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// Loads the boot module, of which there must be one, for those processors with mbufs of that size.
pub fn load(
    memory: &mut Memory,
    plan: &MemoryPlan,
    processors: Processors,
    mbuf_shift: u32,
) -> Result<Application, LoadError> {
    let threads = processors.threads;
    let file = only_module(memory)?;
    let image = Image::parse(file)?;
    // The largest pieces first.
    let heaps = memory.allocate(
        plan.heap * processors.all() as u64,
        "the application's heaps",
    )?;
    map_whole(memory, application::HEAPS, &heaps, Access::UserData)?;
    let mbufs = memory.allocate(plan.mbufs * threads as u64, "mbufs")?;
    map_whole(memory, application::MBUFS, &mbufs, Access::UserRead)?;
    let (image_address, loaded) = load_image(memory, &image, file)?;
    let shared = [
        part(image_address, loaded),
        part(application::HEAPS, heaps),
        part(application::MBUFS, mbufs),
    ];
    let background = (processors.background != 0)
        .then(|| load_background(memory, threads, shared))
        .transpose()?;
    let threads = (0..threads).map(|index| load_thread(memory, plan, index, mbuf_shift, shared));
    Ok(Application {
        entry: image.entry,
        threads: threads.collect::<Result<_, _>>()?,
        background,
    })
}

/// What a thread has beside image, heaps and mbufs.
fn load_thread(
    memory: &mut Memory,
    plan: &MemoryPlan,
    index: usize,
    mbuf_shift: u32,
    [image, heaps, mbufs]: [Part; 3],
) -> Result<Thread, MemoryError> {
    let places = ThreadPlaces::of(index);
    let area = memory.allocate(area::BYTES as u64, "a thread area")?;
    map_whole(memory, places.area, &area, Access::UserData)?;
    let stack = memory.allocate(application::STACK_BYTES, "the application's stack")?;
    map_whole(memory, places.stack, &stack, Access::UserData)?;
    for (what, at, region) in [
        ("thread area", places.area, &area),
        ("application stack", places.stack, &stack),
    ] {
        privacy::keep(index, Range::of(at, region.bytes()), what);
        privacy::keep(index, region.addresses(), what);
    }
    let start = index as u64 * plan.mbufs;
    let geometry = MbufGeometry {
        count: (plan.mbufs >> mbuf_shift) as u32,
        size_shift: mbuf_shift,
        bus: mbufs.0.bus + start,
        user: mbufs.0.user + start,
    };
    Ok(Thread {
        index,
        places,
        area: area.into_words(),
        mbufs: geometry,
        frames: Frames::new(mbufs.1, index, plan, mbuf_shift),
        memory: UserMemory {
            parts: [image, heaps, mbufs, part(places.stack, stack)],
        },
    })
}

/// What background threads have beside image, heaps and mbufs.
fn load_background(
    memory: &mut Memory,
    index: usize,
    shared: [Part; 3],
) -> Result<Background, MemoryError> {
    let area_address = ThreadPlaces::of(index).area;
    let area = memory.allocate(area::BYTES as u64, "the background threads' area")?;
    map_whole(memory, area_address, &area, Access::UserData)?;
    let bytes = application::BACKGROUND_STACKS_BYTES;
    let region = memory.allocate(bytes, "the background threads' stacks")?;
    for thread in 0..BACKGROUND_MAX {
        let place = Range::of(thread as u64 * STACK_BYTES, STACK_BYTES);
        let user = application::background_stack(thread);
        memory.map_user(user, &region, place, Access::UserData)?;
    }
    for (what, range) in [
        ("thread area", Range::of(area_address, area.bytes())),
        ("thread area", area.addresses()),
        ("background stacks", application::background_stacks()),
        ("background stacks", region.addresses()),
    ] {
        privacy::keep(index, range, what);
    }
    let bus = region.bus();
    let words = region.into_words();
    let stacks = core::array::from_fn(|thread| {
        let start = thread as u64 * STACK_BYTES;
        let range = UserRange {
            user: application::background_stack(thread),
            bus: bus + start,
            bytes: STACK_BYTES,
        };
        (
            range,
            &words[start as usize / 8..][..STACK_BYTES as usize / 8],
        )
    });
    Ok(Background {
        index,
        area_address,
        area: area.into_words(),
        shared,
        stacks,
    })
}

fn only_module(memory: &Memory) -> Result<&'static [u8], LoadError> {
    let mut modules = memory.modules();
    match (modules.len(), modules.next()) {
        (1, Some(file)) => Ok(file),
        (0, _) | (_, None) => Err(LoadError::NoModule),
        (more, _) => Err(LoadError::Modules(more)),
    }
}

/// Copies the segments to a region as long as their span, and maps each with its own rights.
/// Gives the user address that the region starts at, and the region.
fn load_image(memory: &mut Memory, image: &Image, file: &[u8]) -> Result<(u64, Region), LoadError> {
    let span = image.span();
    let base = span.start & !(LARGE_PAGE - 1);
    let mut region = memory.allocate(span.end - base, "the application image")?;
    for (index, segment) in image.segments.iter().enumerate() {
        let at = (segment.address - base) as usize;
        region.as_mut()[at..at + segment.file_bytes].copy_from_slice(&file[segment.file()]);
        let mapping = image.mapping(index);
        let part = Range {
            start: mapping.start - base,
            end: mapping.end - base,
        };
        let access = match segment.protection {
            Protection::Read => Access::UserRead,
            Protection::Execute => Access::UserCode,
            Protection::Write => Access::UserData,
        };
        memory.map_user(mapping.start, &region, part, access)?;
    }
    Ok((base, region))
}

fn map_whole(
    memory: &mut Memory,
    at: u64,
    region: &Region,
    access: Access,
) -> Result<(), MemoryError> {
    memory.map_user(at, region, Range::of(0, region.bytes()), access)
}

/// A piece of the application's memory, and the kernel's view of it.
type Part = (UserRange, &'static [AtomicU64]);

fn part(user: u64, region: Region) -> Part {
    let range = UserRange {
        user,
        bus: region.bus(),
        bytes: region.bytes(),
    };
    (range, region.into_words())
}

impl Thread {
    /// What it may send from: all mbufs, all heaps, image.
    pub fn sendable(&self) -> [UserRange; 3] {
        let [image, heaps, mbufs, _] = self.memory.parts.map(|(range, _)| range);
        [mbufs, heaps, image]
    }

    /// Writes the head of the thread area and the boot block.
    pub fn write_boot_block(
        &self,
        processors: Processors,
        plan: &MemoryPlan,
        options: &Options<'_>,
        clock: &Clock,
    ) {
        write_common(self.area, self.index, processors, plan, clock);
        let set = |word: usize, value: u64| self.area[word].store(value, Ordering::Relaxed);
        let address = options.address.map_or([0; 4], |(address, _)| address);
        let address6 = options.address6.map_or(0, |(address, _)| address.to_bits());
        for (word, value) in [
            (boot::MBUF_BASE, self.mbufs.user),
            (boot::MBUF_BYTES, self.mbufs.bytes()),
            (boot::LOCAL_IPV4, u64::from(u32::from_be_bytes(address))),
            (boot::LOCAL_IPV6_HIGH, (address6 >> 64) as u64),
            (boot::LOCAL_IPV6_LOW, address6 as u64),
        ] {
            set(area::BOOT + word, value);
        }
        let mut bytes = 0;
        for byte in options.arguments().flat_map(|word| word.bytes().chain([0])) {
            let word = &self.area[area::BOOT + boot::ARGUMENTS + bytes / 8];
            word.fetch_or(u64::from(byte) << (bytes % 8 * 8), Ordering::Relaxed);
            bytes += 1;
        }
        // The last argument's zero ends nothing that follows.
        set(
            area::BOOT + boot::ARGUMENTS_BYTES,
            bytes.saturating_sub(1) as u64,
        );
    }
}

impl Background {
    /// Writes the head of the area and what of the boot block concerns background threads.
    pub fn write_boot_block(&self, processors: Processors, plan: &MemoryPlan, clock: &Clock) {
        write_common(self.area, self.index, processors, plan, clock);
    }

    /// What a background thread may read, except for the area.
    pub fn memory_of(&self, thread: usize) -> UserMemory {
        let [image, heaps, mbufs] = self.shared;
        UserMemory {
            parts: [image, heaps, mbufs, self.stacks[thread]],
        }
    }
}

/// Writes the head of an area, and what elastic and background threads are told alike.
fn write_common(
    area: &[AtomicU64],
    index: usize,
    processors: Processors,
    plan: &MemoryPlan,
    clock: &Clock,
) {
    for (word, value) in [
        (area::MAGIC_WORD, area::MAGIC),
        (area::VERSION_WORD, u64::from(ix_abi::VERSION)),
        (
            area::BOOT + boot::HEAP_BASE,
            application::HEAPS + index as u64 * plan.heap,
        ),
        (area::BOOT + boot::HEAP_BYTES, plan.heap),
        (area::BOOT + boot::TSC_HZ, clock.hz),
        (
            area::BOOT + boot::UNIX_SECONDS,
            clock.unix_seconds.unwrap_or(0),
        ),
        (area::BOOT + boot::THREAD, index as u64),
        (area::BOOT + boot::THREADS, processors.threads as u64),
        (area::BOOT + boot::BACKGROUND, processors.background as u64),
    ] {
        area[word].store(value, Ordering::Relaxed);
    }
}

/// The kernel's view of what a thread may read: image, heaps, mbufs and its stack.
#[derive(Clone, Copy)]
pub struct UserMemory {
    parts: [Part; 4],
}

impl UserMemory {
    /// Whether the image has that address.
    pub fn is_in_image(&self, address: u64) -> bool {
        let [(image, _), ..] = self.parts;
        address.wrapping_sub(image.user) < image.bytes
    }

    /// The word at that address, read at once. `None` if it is not aligned or not there.
    pub fn word(&self, address: u64) -> Option<u64> {
        let mut parts = self.parts.iter().filter(|_| address.is_multiple_of(8));
        parts.find_map(|(range, words)| {
            let offset = address.checked_sub(range.user)?;
            let word = words.get(usize::try_from(offset / 8).ok()?)?;
            Some(word.load(Ordering::SeqCst))
        })
    }

    /// Copies from the application's memory. False if not all of it lies in one part.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        let offset_in = |range: &UserRange| {
            let offset = address.checked_sub(range.user)?;
            let end = offset.checked_add(bytes.len() as u64)?;
            (end <= range.bytes).then_some(offset as usize)
        };
        let found = self
            .parts
            .iter()
            .find_map(|(range, words)| Some((offset_in(range)?, words)));
        let Some((offset, words)) = found else {
            return false;
        };
        for (at, byte) in (offset..).zip(bytes) {
            let word = words[at / 8].load(Ordering::Relaxed);
            *byte = word.to_le_bytes()[at % 8];
        }
        true
    }
}

/// The kernel's view of a thread's mbuf pool, and of those of the others.
#[derive(Clone, Copy)]
pub struct Frames {
    words: &'static [AtomicU64],
    /// All pools, side by side.
    pools: &'static [AtomicU64],
    mbuf_shift: u32,
    mbuf_bytes: usize,
}

impl Frames {
    fn new(pools: &'static [AtomicU64], index: usize, plan: &MemoryPlan, mbuf_shift: u32) -> Self {
        let words = plan.mbufs as usize / 8;
        let mbuf_bytes = 1 << mbuf_shift;
        assert!(
            (plan.mbufs as usize).is_multiple_of(mbuf_bytes),
            "a pool is a whole number of buffers"
        );
        Self {
            words: &pools[index * words..(index + 1) * words],
            pools,
            mbuf_shift,
            mbuf_bytes,
        }
    }
}

impl MbufMemory for Frames {
    #[inline]
    fn frame(&self, mbuf: MbufId, len: usize) -> &[u8] {
        let first = (mbuf.0 as usize) << (self.mbuf_shift - 3);
        assert!(first < self.words.len(), "no such buffer");
        // SAFETY: the pool is a whole number of buffers, so that one that begins in it ends in it. The
        // caller owns the buffer: the device has given it back, and user mode cannot write to it, so
        // that it does not change.
        unsafe {
            let words = self.words.as_ptr().add(first);
            core::slice::from_raw_parts(words.cast(), len.min(self.mbuf_bytes))
        }
    }

    /// Byte by byte, since the places need not be aligned alike.
    fn copy(&mut self, from: (MbufId, usize), to: (MbufId, usize), len: usize) {
        let bytes = 1usize << self.mbuf_shift;
        let len = len
            .min(bytes.saturating_sub(from.1))
            .min(bytes.saturating_sub(to.1));
        let shift = self.mbuf_shift;
        let first = |(mbuf, at): (MbufId, usize)| ((mbuf.0 as usize) << shift) + at;
        for index in 0..len {
            let (from, to) = (first(from) + index, first(to) + index);
            let byte = self.words[from / 8].load(Ordering::Relaxed) >> (from % 8 * 8) & 0xff;
            let shift = to % 8 * 8;
            let rest = self.words[to / 8].load(Ordering::Relaxed) & !(0xff << shift);
            self.words[to / 8].store(rest | byte << shift, Ordering::Relaxed);
        }
    }

    fn fetch(&mut self, from: LentMbuf, to: MbufId, len: usize) {
        let words = 1 << (self.mbuf_shift - 3);
        let first = from.owner as usize * self.words.len() + from.mbuf.0 as usize * words;
        let from = &self.pools[first..first + words];
        let to = &self.words[to.0 as usize * words..][..words];
        for (from, to) in from.iter().zip(to).take(len.div_ceil(8)) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}
