//! The application's address space, and how much memory each part of it gets.
//!
//! ```text
//! 0x0000_0001_0000 .. 0x0000_4000_0000   image, as linked
//! 0x0010_0000_0000                       thread area, one 2 MiB page (user read-write)
//! 0x0020_0000_0000                       mbuf pool (user read-only)
//! 0x0030_0000_0000                       guard, nothing mapped below the stack
//! 0x0030_0020_0000                       stack, grows down into the guard
//!                     right above it     heap
//! ```
//! Each part is one contiguous range of physical memory; stack and heap together are one. All ends
//! far below the top of the lower half: a `syscall` there leaves no return address that `sysret`
//! could choke on (Intel SDM, SYSRET: #GP in ring 0 on a non-canonical RCX).

use ix_abi::area;

use crate::LARGE_PAGE;
use crate::elf::IMAGE_HIGH;

/// User address of the thread area.
pub const AREA: u64 = 0x10_0000_0000;
/// User address of the mbuf pool.
pub const MBUFS: u64 = 0x20_0000_0000;
/// User address of the lowest byte of the stack.
pub const STACK: u64 = 0x30_0020_0000;
/// Bytes of the stack.
pub const STACK_BYTES: u64 = LARGE_PAGE;
/// User address of the heap, which is also where the stack begins.
pub const HEAP: u64 = STACK + STACK_BYTES;
/// First address that is never mapped.
pub const END: u64 = 0x100_0000_0000;

/// log2 of the size of an mbuf: room for a frame of the Ethernet MTU.
pub const MBUF_SHIFT: u32 = 11;

const _: () = assert!(IMAGE_HIGH <= AREA && AREA + area::BYTES as u64 <= MBUFS);
const _: () = assert!(MBUFS + MemoryPlan::MBUFS_MOST <= STACK - LARGE_PAGE);
const _: () = assert!(HEAP + MemoryPlan::HEAP_MOST <= END && END < 1 << 47);

/// How free memory is divided, in bytes, all multiples of 2 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The kernel's heap: tables of the engine.
    pub kernel_heap: u64,
    /// The mbuf pool.
    pub mbufs: u64,
    /// The application's heap.
    pub heap: u64,
}

impl MemoryPlan {
    const MBUFS_MOST: u64 = 128 << 20;
    const HEAP_MOST: u64 = 512 << 20;
    const KERNEL_HEAP_MOST: u64 = 128 << 20;
    /// What is left for rings, page tables and the image's own region.
    const RESERVE: u64 = 32 << 20;

    /// The plan for that much free memory, or `None` if it is too little to run at all.
    pub fn of(available: u64) -> Option<Self> {
        let usable = available.checked_sub(Self::RESERVE)?;
        let part = |share: u64, most: u64| (usable / 16 * share).min(most) & !(LARGE_PAGE - 1);
        let plan = Self {
            kernel_heap: part(2, Self::KERNEL_HEAP_MOST),
            mbufs: part(4, Self::MBUFS_MOST),
            heap: part(7, Self::HEAP_MOST),
        };
        (plan.mbufs >= 8 << 20).then_some(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_fits_and_scales() {
        let mut last = 0;
        for mib in (64..16384).step_by(62) {
            let plan = MemoryPlan::of(mib << 20);
            let Some(plan) = plan else {
                assert!(mib < 128);
                continue;
            };
            let sum = plan.kernel_heap + plan.mbufs + plan.heap;
            assert!(sum + MemoryPlan::RESERVE <= mib << 20);
            assert!(sum >= last);
            assert_eq!((plan.kernel_heap | plan.mbufs | plan.heap) % LARGE_PAGE, 0);
            last = sum;
        }
        assert_eq!(MemoryPlan::of(0), None);
    }

    #[test]
    fn a_small_machine_gets_a_useful_share() {
        let plan = MemoryPlan::of(240 << 20).unwrap();
        assert!(plan.kernel_heap >= 24 << 20);
        assert!(plan.mbufs >> MBUF_SHIFT >= 16_384);
    }
}
