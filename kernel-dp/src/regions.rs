//! Physical memory: RAM by the boot loader's map, less what is taken already, handed out as
//! contiguous regions of 2 MiB pages and never taken back.
//!
//! Regions come from the top of RAM downwards: low memory stays free for what must lie there, and
//! machines with RAM above 4 GiB use it first, so that a driver with a 32-bit address somewhere
//! shows at once.

use crate::boot_info::{MemoryEntry, MemoryKind, Range};
use crate::list::List;
use crate::{LARGE_PAGE, PAGE};

/// Pieces that free memory may fall into.
const PIECES_MAX: usize = 128;

/// Free physical memory.
#[derive(Debug)]
pub struct Regions {
    free: List<Range, PIECES_MAX>,
    lost: u64,
}

impl Regions {
    /// RAM of `map` without the ranges in `taken`. An address that one entry calls RAM and another
    /// one reserved is reserved.
    pub fn new(map: &[MemoryEntry], taken: &[Range]) -> Self {
        let mut regions = Self {
            free: List::new(),
            lost: 0,
        };
        for entry in map.iter().filter(|entry| entry.kind == MemoryKind::Ram) {
            regions.remove(entry.range);
            regions.insert(entry.range);
        }
        for entry in map
            .iter()
            .filter(|entry| entry.kind == MemoryKind::Reserved)
        {
            regions.remove(entry.range);
        }
        for &range in taken {
            regions.remove(range);
        }
        regions
    }

    /// Takes `bytes`, rounded up to whole 2 MiB pages, contiguous, 2 MiB aligned and below
    /// `limit`: the highest region that fits.
    pub fn allocate_below(&mut self, bytes: u64, limit: u64) -> Option<Range> {
        let bytes = bytes.max(1).checked_next_multiple_of(LARGE_PAGE)?;
        let start_in = |piece: &Range| {
            let end = piece.end.min(limit) & !(LARGE_PAGE - 1);
            let start = end.checked_sub(bytes)?;
            (start >= piece.start).then_some(start)
        };
        let start = self.free.iter().filter_map(start_in).max()?;
        let region = Range::of(start, bytes);
        self.remove(region);
        Some(region)
    }

    /// Takes `bytes` anywhere, see [`Regions::allocate_below`].
    pub fn allocate(&mut self, bytes: u64) -> Option<Range> {
        self.allocate_below(bytes, u64::MAX)
    }

    /// Takes `range` away, as far as it is free.
    pub fn take(&mut self, range: Range) {
        self.remove(range);
    }

    /// What is free, in no order, disjoint.
    pub fn pieces(&self) -> &[Range] {
        &self.free
    }

    /// Bytes in whole free 2 MiB pages.
    pub fn available(&self) -> u64 {
        self.free
            .iter()
            .map(|piece| whole_pages(*piece).bytes())
            .sum()
    }

    /// Bytes given up because free memory fell into too many pieces.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn insert(&mut self, range: Range) {
        if range.bytes() > 0 && self.free.push(range).is_err() {
            self.lost += range.bytes();
        }
    }

    /// Cuts `range` out of every piece that it overlaps.
    fn remove(&mut self, range: Range) {
        let mut index = 0;
        while index < self.free.len() {
            let piece = self.free[index];
            if range.bytes() == 0 || piece.end <= range.start || range.end <= piece.start {
                index += 1;
                continue;
            }
            self.free.swap_remove(index);
            self.insert(Range {
                start: piece.start,
                end: range.start.max(piece.start),
            });
            self.insert(Range {
                start: range.end.min(piece.end),
                end: piece.end,
            });
            // Pieces moved; each pass removes one overlap, so this ends.
            index = 0;
        }
    }
}

/// Where real mode's memory ends that is RAM: video memory begins.
const REAL_MODE_END: u64 = 0xa_0000;

/// A page of RAM that a processor in real mode can start in, apart from `taken`: the highest one,
/// so that it is far from firmware's data at the bottom. Never page 0.
pub fn trampoline_page(map: &[MemoryEntry], taken: &[Range]) -> Option<u64> {
    let low = Regions::new(map, taken);
    let page_in = |piece: &Range| {
        let start = (piece.end.min(REAL_MODE_END) & !(PAGE - 1)).checked_sub(PAGE)?;
        (start >= piece.start.max(PAGE)).then_some(start)
    };
    low.pieces().iter().filter_map(page_in).max()
}

fn whole_pages(range: Range) -> Range {
    let start = range.start.checked_next_multiple_of(LARGE_PAGE);
    Range {
        start: start.unwrap_or(u64::MAX),
        end: range.end & !(LARGE_PAGE - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn ram(start: u64, end: u64) -> MemoryEntry {
        MemoryEntry {
            range: Range { start, end },
            kind: MemoryKind::Ram,
        }
    }

    fn reserved(start: u64, end: u64) -> MemoryEntry {
        MemoryEntry {
            range: Range { start, end },
            kind: MemoryKind::Reserved,
        }
    }

    #[test]
    fn regions_come_from_the_top_and_below_a_limit() {
        let map = [ram(0, 0x9_fc00), ram(MIB, 2 * GIB), ram(4 * GIB, 7 * GIB)];
        let mut regions = Regions::new(&map, &[Range::of(0, 8 * MIB)]);
        assert_eq!(
            regions.allocate(3 * MIB),
            Some(Range::of(7 * GIB - 4 * MIB, 4 * MIB))
        );
        let low = regions.allocate_below(MIB, 4 * GIB).unwrap();
        assert_eq!(low, Range::of(2 * GIB - 2 * MIB, 2 * MIB));
        assert_eq!(regions.available(), 5 * GIB - 14 * MIB);
        assert_eq!(regions.allocate(4 * GIB), None);
        assert_eq!(regions.lost(), 0);
    }

    #[test]
    fn reserved_wins_over_ram() {
        let map = [
            reserved(32 * MIB, 34 * MIB),
            ram(0, 64 * MIB),
            ram(16 * MIB, 48 * MIB),
        ];
        let mut regions = Regions::new(&map, &[]);
        assert_eq!(regions.available(), 62 * MIB);
        let mut taken = Vec::new();
        while let Some(region) = regions.allocate(2 * MIB) {
            assert!(region.end <= 32 * MIB || region.start >= 34 * MIB);
            assert!(!taken.contains(&region.start));
            taken.push(region.start);
        }
        assert_eq!(taken.len(), 31);
    }

    #[test]
    fn the_trampoline_lies_in_low_ram_that_nobody_has() {
        let map = [
            ram(0, 0x9_fc00),
            reserved(0x9_e800, 0xa_0000),
            ram(MIB, GIB),
        ];
        assert_eq!(trampoline_page(&map, &[]), Some(0x9_d000));
        let taken = [Range::of(0x9_d800, 16)];
        assert_eq!(trampoline_page(&map, &taken), Some(0x9_c000));
        assert_eq!(trampoline_page(&[ram(0, 0x1fff)], &[]), None);
        assert_eq!(trampoline_page(&[ram(MIB, GIB)], &[]), None);
    }

    fn entry() -> impl Strategy<Value = MemoryEntry> {
        let address = prop_oneof![0..64 * MIB, any::<u64>()];
        (address.clone(), address, any::<bool>()).prop_map(|(start, bytes, is_ram)| {
            let range = Range::of(start, bytes);
            let kind = if is_ram {
                MemoryKind::Ram
            } else {
                MemoryKind::Reserved
            };
            MemoryEntry { range, kind }
        })
    }

    proptest! {
        #[test]
        fn regions_are_ram_aligned_and_disjoint(
            map in prop::collection::vec(entry(), 0..20),
            sizes in prop::collection::vec(0u64..16 * MIB, 1..20),
        ) {
            let mut regions = Regions::new(&map, &[]);
            let mut given: Vec<Range> = Vec::new();
            for bytes in sizes {
                let Some(region) = regions.allocate(bytes) else { continue };
                prop_assert_eq!(region.start % LARGE_PAGE, 0);
                prop_assert!(region.bytes() >= bytes.max(1));
                for other in &given {
                    prop_assert!(region.end <= other.start || other.end <= region.start);
                }
                for entry in &map {
                    let overlaps = region.start < entry.range.end && entry.range.start < region.end;
                    prop_assert!(entry.kind == MemoryKind::Ram || !overlaps);
                }
                prop_assert!(map.iter().any(|entry| entry.kind == MemoryKind::Ram
                    && entry.range.start <= region.start));
                given.push(region);
            }
        }
    }
}
