//! Four-level page tables: which page is mapped how, over a trait that stores table entries.
//!
//! Access is an enum in which "writable and executable" cannot be said. Large pages are used
//! wherever both addresses and the length allow. Tables are only ever added to: the kernel builds
//! its address spaces once, before it enters user mode, and changes no mapping after that. Last come
//! variants of the whole ([`PageTables::fork`]), from which ranges are hidden; they share every table
//! that nothing is hidden from.

use thiserror::Error;

use crate::{LARGE_PAGE, PAGE};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLE: u64 = 1 << 4;
/// Set beforehand, so that the processor never writes to a table that another one walks.
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
/// Left to software: the table that this entry of a variant refers to is the variant's own.
const OWN: u64 = 1 << 9;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Level of the table that a root points to; level 1 maps 4 KiB pages.
const TOP_LEVEL: u32 = 4;
/// Level whose entries may map 2 MiB pages.
const LARGE_LEVEL: u32 = 2;
/// Entries of a table.
const ENTRIES: usize = 512;

/// What may be done with a page, and by whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Kernel: fetch and read.
    KernelCode,
    /// Kernel: read.
    KernelRead,
    /// Kernel: read and write.
    KernelData,
    /// Kernel: device registers, read and write, uncached.
    Device,
    /// User and kernel: fetch and read.
    UserCode,
    /// User and kernel: read.
    UserRead,
    /// User and kernel: read and write.
    UserData,
}

impl Access {
    const fn leaf_bits(self) -> u64 {
        let common = PRESENT | ACCESSED;
        match self {
            Self::KernelCode => common | GLOBAL,
            Self::KernelRead => common | GLOBAL | NO_EXECUTE,
            Self::KernelData => common | GLOBAL | NO_EXECUTE | WRITABLE | DIRTY,
            Self::Device => Self::KernelData.leaf_bits() | CACHE_DISABLE | WRITE_THROUGH,
            Self::UserCode => common | USER,
            Self::UserRead => common | USER | NO_EXECUTE,
            Self::UserData => common | USER | NO_EXECUTE | WRITABLE | DIRTY,
        }
    }

    /// Bits of the tables on the way: as weak as the leaf allows, restrictions sit in the leaf.
    const fn table_bits(self) -> u64 {
        let common = PRESENT | ACCESSED | WRITABLE;
        match self {
            Self::UserCode | Self::UserRead | Self::UserData => common | USER,
            _ => common,
        }
    }
}

/// Memory that holds page tables of 512 entries of 64 bits, named by physical address.
pub trait TableMemory {
    /// An entry of the table at `table`.
    fn load(&self, table: u64, index: usize) -> u64;
    /// Sets an entry of the table at `table`.
    fn store(&mut self, table: u64, index: usize, entry: u64);
    /// A new table of zeroes, or `None` when there is no room for it.
    fn allocate(&mut self) -> Option<u64>;
}

/// Why a range was not mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MapError {
    /// Addresses or length are not multiples of 4 KiB.
    #[error("mapping {0:#x}: not a multiple of the page size")]
    Misaligned(u64),
    /// The range leaves its half of the address space.
    #[error("mapping {0:#x}: not a canonical address")]
    NotCanonical(u64),
    /// Something is mapped there.
    #[error("mapping {0:#x}: something is mapped there already")]
    Occupied(u64),
    /// No memory for another table.
    #[error("mapping {0:#x}: no room for another page table")]
    NoTable(u64),
    /// Part of a large page is to be hidden.
    #[error("hiding {0:#x}: it is part of a large page")]
    InLargePage(u64),
}

/// An address space under construction.
#[derive(Debug)]
pub struct PageTables<M> {
    root: u64,
    memory: M,
}

impl<M: TableMemory> PageTables<M> {
    /// An empty address space, or `None` if `memory` has no room for its root.
    pub fn new(mut memory: M) -> Option<Self> {
        let root = memory.allocate()?;
        Some(Self { root, memory })
    }

    /// Physical address of the root table.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// Maps `bytes` of physical memory from `physical` on at `virtual_address`. On error, part of
    /// the range may be mapped.
    pub fn map(
        &mut self,
        virtual_address: u64,
        physical: u64,
        bytes: u64,
        access: Access,
    ) -> Result<(), MapError> {
        if !(virtual_address | physical | bytes).is_multiple_of(PAGE) || physical & !ADDRESS != 0 {
            return Err(MapError::Misaligned(virtual_address));
        }
        check_canonical(virtual_address, bytes)?;
        let mut done = 0;
        while done < bytes {
            let at = virtual_address + done;
            let frame = physical + done;
            let large = (at | frame).is_multiple_of(LARGE_PAGE) && bytes - done >= LARGE_PAGE;
            let (level, step) = if large {
                (LARGE_LEVEL, LARGE_PAGE)
            } else {
                (1, PAGE)
            };
            self.map_page(at, frame, level, access)?;
            done += step;
        }
        Ok(())
    }

    /// The root of a variant that maps what is mapped now, or `None` if there is no room for it. What
    /// is mapped later may or may not be part of it.
    pub fn fork(&mut self) -> Option<u64> {
        self.copy(self.root)
    }

    /// Takes whatever is mapped in a range out of a variant. On error, part of it may be gone.
    pub fn hide(&mut self, variant: u64, start: u64, bytes: u64) -> Result<(), MapError> {
        if !(start | bytes).is_multiple_of(PAGE) {
            return Err(MapError::Misaligned(start));
        }
        check_canonical(start, bytes)?;
        let mut done = 0;
        while done < bytes {
            done += self.hide_some(variant, start + done, bytes - done)?;
        }
        Ok(())
    }

    /// Hides what one entry maps of the range at `at`. Gives the number of bytes that are dealt with.
    fn hide_some(&mut self, variant: u64, at: u64, bytes: u64) -> Result<u64, MapError> {
        let mut table = variant;
        for level in (1..=TOP_LEVEL).rev() {
            let span = PAGE << (9 * (level - 1));
            let place = index(at, level);
            let entry = self.memory.load(table, place);
            let is_all = at.is_multiple_of(span) && bytes >= span;
            if is_all || entry & PRESENT == 0 {
                self.memory.store(table, place, 0);
                return Ok((span - at % span).min(bytes));
            }
            if entry & LARGE != 0 {
                return Err(MapError::InLargePage(at));
            }
            table = match entry & OWN {
                0 => {
                    let own = self.copy(entry & ADDRESS).ok_or(MapError::NoTable(at))?;
                    self.memory
                        .store(table, place, own | entry & !ADDRESS | OWN);
                    own
                }
                _ => entry & ADDRESS,
            };
        }
        unreachable!("a range of whole pages holds each page that begins in it")
    }

    fn copy(&mut self, table: u64) -> Option<u64> {
        let copy = self.memory.allocate()?;
        for place in 0..ENTRIES {
            let entry = self.memory.load(table, place);
            self.memory.store(copy, place, entry);
        }
        Some(copy)
    }

    /// What a walk of the tables finds for `address`: physical address and leaf entry.
    pub fn translate(&self, address: u64) -> Option<(u64, u64)> {
        self.translate_in(self.root, address)
    }

    /// The same in a variant.
    pub fn translate_in(&self, variant: u64, address: u64) -> Option<(u64, u64)> {
        let mut table = variant;
        for level in (1..=TOP_LEVEL).rev() {
            let entry = self.memory.load(table, index(address, level));
            if entry & PRESENT == 0 {
                return None;
            }
            if level == 1 || entry & LARGE != 0 {
                let offset = address & ((PAGE << (9 * (level - 1))) - 1);
                return Some(((entry & ADDRESS) + offset, entry));
            }
            table = entry & ADDRESS;
        }
        None
    }

    fn map_page(
        &mut self,
        at: u64,
        frame: u64,
        level: u32,
        access: Access,
    ) -> Result<(), MapError> {
        let mut table = self.root;
        for upper in (level + 1..=TOP_LEVEL).rev() {
            table = self.next_table(table, at, upper, access)?;
        }
        if self.memory.load(table, index(at, level)) != 0 {
            return Err(MapError::Occupied(at));
        }
        let size = if level == LARGE_LEVEL { LARGE } else { 0 };
        let entry = frame | access.leaf_bits() | size;
        self.memory.store(table, index(at, level), entry);
        Ok(())
    }

    /// The table that `table` refers to for `at`, made where there is none.
    fn next_table(
        &mut self,
        table: u64,
        at: u64,
        level: u32,
        access: Access,
    ) -> Result<u64, MapError> {
        let entry = self.memory.load(table, index(at, level));
        if entry & LARGE != 0 {
            return Err(MapError::Occupied(at));
        }
        let next = match entry & PRESENT {
            0 => self.memory.allocate().ok_or(MapError::NoTable(at))?,
            _ => entry & ADDRESS,
        };
        let bits = (entry & !ADDRESS) | access.table_bits();
        self.memory.store(table, index(at, level), next | bits);
        Ok(next)
    }
}

fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * (level - 1))) as usize & (ENTRIES - 1)
}

/// The range must lie in one half of the 48-bit address space.
fn check_canonical(start: u64, bytes: u64) -> Result<(), MapError> {
    let extended = |address: u64| ((address << 16) as i64 >> 16) as u64 == address;
    match start.checked_add(bytes.saturating_sub(1)) {
        Some(last) if extended(start) && extended(last) && start >> 63 == last >> 63 => Ok(()),
        _ => Err(MapError::NotCanonical(start)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    struct Arena {
        tables: Vec<[u64; 512]>,
        limit: usize,
    }

    impl TableMemory for Arena {
        fn load(&self, table: u64, index: usize) -> u64 {
            self.tables[(table / PAGE) as usize - 1][index]
        }
        fn store(&mut self, table: u64, index: usize, entry: u64) {
            self.tables[(table / PAGE) as usize - 1][index] = entry;
        }
        fn allocate(&mut self) -> Option<u64> {
            (self.tables.len() < self.limit).then(|| {
                self.tables.push([0; 512]);
                self.tables.len() as u64 * PAGE
            })
        }
    }

    fn tables(limit: usize) -> PageTables<Arena> {
        let tables = vec![];
        PageTables::new(Arena { tables, limit }).unwrap()
    }

    const HIGH: u64 = 0xffff_8000_0000_0000;

    #[test]
    fn a_range_takes_large_pages_where_it_can() {
        let mut tables = tables(16);
        let start = 2 * LARGE_PAGE - PAGE;
        tables
            .map(
                HIGH + start,
                start,
                LARGE_PAGE + 2 * PAGE,
                Access::KernelData,
            )
            .unwrap();
        let large = |at| tables.translate(HIGH + at).unwrap().1 & LARGE != 0;
        assert!(!large(start) && large(2 * LARGE_PAGE) && !large(3 * LARGE_PAGE));
        assert_eq!(tables.translate(HIGH + start - 1), None);
        assert_eq!(tables.translate(HIGH + 3 * LARGE_PAGE + PAGE), None);
        assert_eq!(tables.translate(HIGH + start + 5).unwrap().0, start + 5);
    }

    #[test]
    fn no_access_is_writable_and_executable_or_lets_the_user_into_the_kernel() {
        use Access::*;
        for access in [
            KernelCode, KernelRead, KernelData, Device, UserCode, UserRead, UserData,
        ] {
            let bits = access.leaf_bits();
            assert!(bits & WRITABLE == 0 || bits & NO_EXECUTE != 0);
            let user = matches!(access, UserCode | UserRead | UserData);
            assert_eq!(bits & USER != 0, user);
            assert_eq!(bits & GLOBAL == 0, user);
        }
    }

    #[test]
    fn occupied_misaligned_and_non_canonical_ranges_are_refused() {
        let mut tables = tables(16);
        tables
            .map(0x40_0000, 0x20_0000, LARGE_PAGE, Access::UserData)
            .unwrap();
        let occupied = Err(MapError::Occupied(0x40_0000));
        assert_eq!(
            tables.map(0x40_0000, 0x20_0000, PAGE, Access::UserData),
            occupied
        );
        assert_eq!(
            tables.map(0x40_0000, 0, LARGE_PAGE, Access::UserData),
            occupied
        );
        let misaligned = Err(MapError::Misaligned(0x1001));
        assert_eq!(tables.map(0x1001, 0, PAGE, Access::UserRead), misaligned);
        let beyond = 0x7fff_ffff_f000;
        let refused = Err(MapError::NotCanonical(beyond));
        assert_eq!(tables.map(beyond, 0, 2 * PAGE, Access::UserRead), refused);
    }

    #[test]
    fn a_variant_shares_what_nothing_is_hidden_from() {
        let mut tables = tables(64);
        let (small, large) = (HIGH + PAGE, HIGH + (1 << 39));
        tables
            .map(small, PAGE, 3 * PAGE, Access::KernelData)
            .unwrap();
        tables
            .map(large, 0, 4 * LARGE_PAGE, Access::KernelData)
            .unwrap();
        let (one, other) = (tables.fork().unwrap(), tables.fork().unwrap());
        let before = tables.memory.tables.len();
        tables.hide(one, small + PAGE, PAGE).unwrap();
        assert_eq!(tables.memory.tables.len(), before + 3);
        tables.hide(one, large, 2 * LARGE_PAGE).unwrap();
        // The whole of it once more, with what is not mapped around it.
        tables.hide(other, HIGH, LARGE_PAGE).unwrap();
        let seen = |variant| {
            [
                small,
                small + PAGE,
                small + 2 * PAGE,
                large,
                large + 2 * LARGE_PAGE,
            ]
            .map(|at| tables.translate_in(variant, at).is_some())
        };
        assert_eq!(seen(tables.root()), [true; 5]);
        assert_eq!(seen(one), [true, false, true, false, true]);
        assert_eq!(seen(other), [false, false, false, true, true]);
        let part = Err(MapError::InLargePage(large + 2 * LARGE_PAGE));
        assert_eq!(tables.hide(one, large + 2 * LARGE_PAGE, PAGE), part);
        let misaligned = Err(MapError::Misaligned(small + 1));
        assert_eq!(tables.hide(one, small + 1, PAGE), misaligned);
    }

    #[test]
    fn running_out_of_tables_is_an_error() {
        let mut tables = tables(3);
        let result = tables.map(0x1000, 0, PAGE, Access::UserRead);
        assert_eq!(result, Err(MapError::NoTable(0x1000)));
    }

    proptest! {
        #[test]
        fn every_mapped_page_translates_back(
            page in 0u64..4096, frame in 0u64..4096, pages in 1u64..1500,
        ) {
            let mut tables = tables(64);
            let (at, physical) = (page * PAGE, frame * PAGE);
            tables.map(at, physical, pages * PAGE, Access::UserRead).unwrap();
            for n in 0..pages {
                let (address, entry) = tables.translate(at + n * PAGE).unwrap();
                prop_assert_eq!(address, physical + n * PAGE);
                prop_assert!(entry & WRITABLE == 0 && entry & NO_EXECUTE != 0);
            }
            prop_assert_eq!(tables.translate(at + pages * PAGE), None);
        }

        #[test]
        fn exactly_what_is_hidden_is_gone(
            page in 0u64..1024, pages in 1u64..2048, first in 0u64..2048, hidden in 0u64..1024,
        ) {
            let mut tables = tables(64);
            // Misaligned against each other, so that all pages are small.
            tables.map(page * PAGE, (page + 1) * PAGE, pages * PAGE, Access::UserRead).unwrap();
            let variant = tables.fork().unwrap();
            tables.hide(variant, first * PAGE, hidden * PAGE).unwrap();
            for n in 0..4096 {
                let (all, some) = (tables.translate(n * PAGE), tables.translate_in(variant, n * PAGE));
                let is_hidden = (first..first + hidden).contains(&n);
                prop_assert_eq!(some, all.filter(|_| !is_hidden));
            }
        }
    }
}
