//! Physical memory and the kernel's address space.
//!
//! ```text
//! 0xffff_8000_0000_0000   all RAM at its physical address, except for the kernel image
//! 0xffff_c000_0000_0000   device registers, uncached, and memory shared with others, cached, in the
//!                         order in which they were mapped
//! 0xffff_d000_0000_0000   blocks of the CPUs other than the first, see `smp`
//! 0xffff_ffff_8000_0000   the kernel image: code, constants and data, each with its own rights
//! ```
//! The lower half is the application's, see [`kernel_dp::application`]. Boot's tables, which map
//! the first 4 GiB only and without any protection, are given up as soon as these stand. When all is
//! mapped, each thread gets a variant of them without what is private to the others ([`Space`]).

use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;

use kernel_dp::boot_info::{BootInfo, MODULES_MAX, MemoryKind, Range};
use kernel_dp::list::List;
use kernel_dp::page_table::{Access, MapError, PageTables, TableMemory};
use kernel_dp::regions::Regions;
use kernel_dp::{LARGE_PAGE, PAGE, PhysicalRead};
use thiserror::Error;

use super::boot::{ImageLayout, KERNEL_BASE};
use super::cpu::load_page_tables;
use super::privacy;
use super::stacks::Stacks;

const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
const DEVICES: u64 = 0xffff_c000_0000_0000;
/// Where the blocks of CPUs other than the first are mapped, and how far apart.
const CPU_BLOCKS: u64 = 0xffff_d000_0000_0000;
const CPU_BLOCK_STRIDE: u64 = 4 * LARGE_PAGE;
/// Where the part of a block is mapped that other CPUs use too, behind its start.
pub const CPU_BLOCK_SHARED: u64 = 2 * LARGE_PAGE;
/// What boot's tables map.
const BOOT_MAPPED: u64 = 4 << 30;
/// Left alone: firmware's data, the boot information itself, video memory.
const LOW_MEMORY: Range = Range {
    start: 0,
    end: 1 << 20,
};

/// Why memory could not be set up or handed out.
#[derive(Clone, Copy, Debug, Error)]
pub enum MemoryError {
    /// No region that large.
    #[error("no {0} MiB of contiguous memory for {1}: give the machine more")]
    Exhausted(u64, &'static str),
    /// A mapping failed.
    #[error(transparent)]
    Map(#[from] MapError),
    /// Device registers where RAM is.
    #[error(
        "device registers at {0:#x}, where RAM is: the firmware's tables contradict each other"
    )]
    DeviceInRam(u64),
    /// A boot module outside of RAM.
    #[error("the boot module at {0:#x} lies outside of RAM")]
    ModuleOutside(u64),
}

/// A contiguous region of physical memory, page aligned, owned by whoever holds
/// it, and never given back.
pub struct Region {
    range: Range,
}

impl Region {
    /// Physical address, which is also the bus address.
    pub fn bus(&self) -> u64 {
        self.range.start
    }

    /// Length in bytes.
    pub fn bytes(&self) -> u64 {
        self.range.bytes()
    }

    /// Parts the region in two, the first one `bytes` long, which are whole small pages.
    pub fn split(self, bytes: u64) -> (Self, Self) {
        assert!(bytes.is_multiple_of(PAGE) && bytes <= self.bytes());
        let middle = self.range.start + bytes;
        let part = |start, end| Self {
            range: Range { start, end },
        };
        (part(self.range.start, middle), part(middle, self.range.end))
    }

    /// Its addresses in the direct map.
    pub fn addresses(&self) -> Range {
        Range::of(direct(self.range.start) as u64, self.bytes())
    }

    /// The region's bytes.
    pub fn as_mut(&mut self) -> &mut [u8] {
        let bytes = self.bytes() as usize;
        // SAFETY: the region is RAM in the direct map, and its only owner lends it out.
        unsafe { core::slice::from_raw_parts_mut(direct(self.range.start), bytes) }
    }

    /// The region's memory for good.
    pub fn into_bytes(mut self) -> &'static mut [u8] {
        let bytes = core::ptr::from_mut(self.as_mut());
        // SAFETY: the direct map stands for ever, and the region ends here: there is no other way
        // to its memory.
        unsafe { &mut *bytes }
    }

    /// The region's memory for good, as words that others (user mode, a device) may change.
    pub fn into_words(self) -> &'static [AtomicU64] {
        let words = direct(self.range.start).cast::<AtomicU64>();
        // SAFETY: RAM in the direct map for ever, aligned, of which this is the only view;
        // atomics allow for changes from elsewhere.
        unsafe { core::slice::from_raw_parts(words, self.bytes() as usize / 8) }
    }
}

/// Reads low memory while boot's tables are loaded.
pub struct BootMemory;

impl PhysicalRead for BootMemory {
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        let Some(end) = address.checked_add(bytes.len() as u64) else {
            return false;
        };
        if end > BOOT_MAPPED {
            return false;
        }
        let source = direct(address);
        for (at, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: boot's tables map the first 4 GiB here; volatile, since it may be anything.
            *byte = unsafe { source.add(at).read_volatile() };
        }
        true
    }
}

/// All memory of the machine.
pub struct Memory {
    modules: List<Range, MODULES_MAX>,
    ram: Regions,
    free: Regions,
    tables: PageTables<TableArena>,
    next_device: u64,
}

impl Memory {
    /// Takes stock of RAM, builds the kernel's address space, with room for variants of it for so many
    /// CPUs, and loads it.
    pub fn take_over(info: &BootInfo, cpus: usize) -> Result<Self, MemoryError> {
        let image = ImageLayout::get();
        let taken = [LOW_MEMORY, image.physical()];
        let ram = Regions::new(&info.memory_map, &taken);
        let mut free = Regions::new(&info.memory_map, &taken);
        for module in info.modules.iter() {
            if !ram
                .pieces()
                .iter()
                .any(|piece| contains(&whole_pages(*piece), module))
            {
                return Err(MemoryError::ModuleOutside(module.start));
            }
            free.take(*module);
        }
        let mut tables = new_tables(&mut free, info, cpus)?;
        map_image(&mut tables, &image)?;
        for piece in ram.pieces() {
            let piece = whole_pages(*piece);
            tables.map(
                DIRECT_MAP + piece.start,
                piece.start,
                piece.bytes(),
                Access::KernelData,
            )?;
        }
        // SAFETY: the tables map the image with the rights that its parts need, the stack in it
        // that this runs on, and all memory that is reachable through references.
        unsafe { load_page_tables(tables.root()) };
        Ok(Self {
            modules: info.modules,
            ram,
            free,
            tables,
            next_device: DEVICES,
        })
    }

    /// Bytes that can still be handed out.
    pub fn available(&self) -> u64 {
        self.free.available()
    }

    /// Hands out a zeroed region of at least `bytes`.
    pub fn allocate(&mut self, bytes: u64, what: &'static str) -> Result<Region, MemoryError> {
        let mut region = self.allocate_dirty(bytes, what)?;
        region.as_mut().fill(0);
        Ok(region)
    }

    /// Hands out a region of at least `bytes` that holds whatever it held before.
    pub fn allocate_dirty(
        &mut self,
        bytes: u64,
        what: &'static str,
    ) -> Result<Region, MemoryError> {
        let range = self.free.allocate(bytes);
        let range = range.ok_or(MemoryError::Exhausted(bytes.div_ceil(1 << 20), what))?;
        Ok(Region { range })
    }

    /// The boot modules' contents, in order.
    pub fn modules(&self) -> impl ExactSizeIterator<Item = &'static [u8]> {
        self.modules.iter().map(|module| {
            // SAFETY: `take_over` checked that modules lie in RAM that the direct map covers, and
            // took them from free memory, so that nothing ever writes to them.
            unsafe { core::slice::from_raw_parts(direct(module.start), module.bytes() as usize) }
        })
    }

    /// Maps part of a region for the application.
    pub fn map_user(
        &mut self,
        address: u64,
        region: &Region,
        part: Range,
        access: Access,
    ) -> Result<(), MemoryError> {
        assert!(part.end <= region.bytes() && address < 1 << 47);
        assert!(matches!(
            access,
            Access::UserCode | Access::UserRead | Access::UserData
        ));
        let physical = region.range.start + part.start;
        Ok(self.tables.map(address, physical, part.bytes(), access)?)
    }

    /// Physical address of the kernel's page tables, below 4 GiB.
    pub fn root(&self) -> u64 {
        self.tables.root()
    }

    /// Maps the block of a CPU for the kernel: `own`, but for the guard pages of its stacks, which lie
    /// at its start, and, [`CPU_BLOCK_SHARED`] behind it, `shared`. Gives its address.
    pub fn map_cpu(
        &mut self,
        index: usize,
        own: &Region,
        shared: &Region,
    ) -> Result<NonNull<u8>, MemoryError> {
        let at = CPU_BLOCKS + index as u64 * CPU_BLOCK_STRIDE;
        assert!(own.bytes() < CPU_BLOCK_SHARED);
        let mut start = at;
        for guard in Stacks::guards(at).chain([at + own.bytes()]) {
            let physical = own.bus() + (start - at);
            if start < guard {
                self.tables
                    .map(start, physical, guard - start, Access::KernelData)?;
            }
            start = guard + PAGE;
        }
        self.tables.map(
            at + CPU_BLOCK_SHARED,
            shared.bus(),
            shared.bytes(),
            Access::KernelData,
        )?;
        Ok(NonNull::new(at as *mut u8).expect("CPU blocks lie in the upper half"))
    }

    /// The address space of a thread: all that is mapped now but for what is private to others.
    pub fn space_of(&mut self, thread: usize) -> Result<Space, MemoryError> {
        let root = self.tables.fork();
        let root = root.ok_or(MapError::NoTable(0))?;
        privacy::of_others(thread, |part| {
            self.tables.hide(root, part.range.start, part.range.bytes())
        })?;
        Ok(Space { root })
    }

    /// Maps a page below 1 MiB, which is no part of the direct map, for the trampoline: the kernel
    /// may write to it, and not execute it.
    pub fn map_low_page(&mut self, page: u64) -> Result<NonNull<u8>, MemoryError> {
        assert!(page < LOW_MEMORY.end);
        self.map_device(Range::of(page, PAGE))
    }

    /// Maps device registers, whole pages around what is asked for. They stay mapped for ever.
    pub fn map_device(&mut self, registers: Range) -> Result<NonNull<u8>, MemoryError> {
        self.map_outside(registers, Access::Device)
    }

    /// Maps memory that a device shares with others, cached like RAM: others keep it coherent.
    pub fn map_shared(&mut self, memory: Range) -> Result<&'static [AtomicU64], MemoryError> {
        assert!(memory.start.is_multiple_of(PAGE));
        let words = self.map_outside(memory, Access::KernelData)?;
        // SAFETY: mapped for ever, aligned, outside of RAM, so that nothing else refers to it; what
        // is behind it may change at any time, which atomics allow for.
        Ok(unsafe {
            core::slice::from_raw_parts(words.as_ptr().cast(), memory.bytes() as usize / 8)
        })
    }

    /// Maps what is not RAM, whole pages around what is asked for.
    fn map_outside(&mut self, part: Range, access: Access) -> Result<NonNull<u8>, MemoryError> {
        let overlaps = |ram: &Range| part.start < ram.end && ram.start < part.end;
        if self.ram.pieces().iter().any(overlaps) {
            return Err(MemoryError::DeviceInRam(part.start));
        }
        let start = part.start & !(PAGE - 1);
        let bytes = (part.end - start).next_multiple_of(PAGE);
        let at = self.next_device;
        self.tables.map(at, start, bytes, access)?;
        // A gap keeps overruns of one device out of the next one.
        self.next_device = (at + bytes + PAGE).next_multiple_of(LARGE_PAGE);
        let address = at + (part.start - start);
        Ok(NonNull::new(address as *mut u8).expect("device mappings start in the upper half"))
    }
}

/// The address space of one thread.
pub struct Space {
    root: u64,
}

impl Space {
    /// Goes on in it.
    ///
    /// # Safety
    /// To be called by the CPU that runs the thread, on the stack that is private to it, and with no
    /// reference to what is private to others.
    pub unsafe fn enter(self) {
        // SAFETY: all but what is private to others is mapped as it was, and the caller vouches for
        // that.
        unsafe { load_page_tables(self.root) };
    }
}

/// The kernel's own mapping of its image: code, constants, and data without the guard pages.
fn map_image(tables: &mut PageTables<TableArena>, image: &ImageLayout) -> Result<(), MapError> {
    let mut map =
        |start: u64, end: u64, access| tables.map(start, start - KERNEL_BASE, end - start, access);
    map(image.code.start, image.code.end, Access::KernelCode)?;
    map(
        image.constants.start,
        image.constants.end,
        Access::KernelRead,
    )?;
    let mut start = image.data.start;
    for guard in Stacks::guards(Stacks::of_boot_cpu()) {
        map(start, guard, Access::KernelData)?;
        start = guard + PAGE;
    }
    map(start, image.data.end, Access::KernelData)
}

fn new_tables(
    free: &mut Regions,
    info: &BootInfo,
    cpus: usize,
) -> Result<PageTables<TableArena>, MemoryError> {
    let ram = info
        .memory_map
        .iter()
        .filter(|entry| entry.kind == MemoryKind::Ram);
    let ram = ram.fold(0u64, |sum, entry| sum.saturating_add(entry.range.bytes()));
    let gib = ram >> 30;
    // The direct map takes a table per GiB; 4 KiB mappings of the application's image one per
    // 2 MiB, at most 512; a CPU's block two; the rest is small change. A variant has tables of its own
    // for each GiB of the direct map, and a few each for the application, CPU blocks and the image.
    let variants = gib.saturating_add(32).saturating_mul(cpus as u64);
    let bytes = gib.saturating_add(1024).saturating_add(variants);
    let bytes = bytes.saturating_mul(PAGE);
    let arena = free.allocate_below(bytes, BOOT_MAPPED);
    let exhausted = MemoryError::Exhausted(bytes >> 20, "page tables");
    let arena = arena.ok_or(exhausted)?;
    let next = arena.start;
    PageTables::new(TableArena { arena, next }).ok_or(exhausted)
}

/// Page tables in a region of their own.
struct TableArena {
    arena: Range,
    next: u64,
}

impl TableArena {
    fn entry(&self, table: u64, index: usize) -> *mut u64 {
        assert!(self.arena.start <= table && table < self.next && index < 512);
        direct(table).cast::<u64>().wrapping_add(index)
    }
}

impl TableMemory for TableArena {
    fn load(&self, table: u64, index: usize) -> u64 {
        // SAFETY: `entry` checked that it is one of a table in the arena, which is ours alone;
        // volatile, since the processor reads it too.
        unsafe { self.entry(table, index).read_volatile() }
    }

    fn store(&mut self, table: u64, index: usize, entry: u64) {
        // SAFETY: as for `load`; what the entry means is `PageTables`' business.
        unsafe { self.entry(table, index).write_volatile(entry) };
    }

    fn allocate(&mut self) -> Option<u64> {
        let table = self.next;
        if table + PAGE > self.arena.end {
            return None;
        }
        self.next += PAGE;
        for index in 0..512 {
            self.store(table, index, 0);
        }
        Some(table)
    }
}

fn contains(outer: &Range, inner: &Range) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

fn whole_pages(range: Range) -> Range {
    Range {
        start: range.start.next_multiple_of(PAGE),
        end: range.end & !(PAGE - 1),
    }
}

/// Where the direct map has a physical address.
fn direct(physical: u64) -> *mut u8 {
    (DIRECT_MAP + physical) as *mut u8
}
