//! The application's address space, and how much memory each part of it gets.
//!
//! ```text
//! 0x0000_0001_0000 .. 0x0000_4000_0000   image, as linked
//! 0x0010_0000_0000 + 4 MiB * n           area of thread n, one 2 MiB page (user read-write)
//! 0x0020_0000_0000                       mbuf pools of all threads, side by side (user read-only)
//! 0x0030_0000_0000 + 4 MiB * n           guard, nothing mapped below the stack of thread n
//! 0x0030_0020_0000 + 4 MiB * n           stack of thread n, grows down into the guard
//! 0x0038_0000_0000 + 512 KiB * n         guard, then the stack of background thread n
//! 0x0040_0000_0000                       heaps of all threads, side by side, last the background's
//! ```
//! Each part is one contiguous range of physical memory, and so are the heaps together and the pools
//! together: a thread may send from the heap of another, and from buffers that its connections
//! received on another. All ends far below the top of the lower half: a `syscall`
//! there leaves no return address that `sysret` could choke on (Intel SDM, SYSRET: #GP in ring 0 on
//! a non-canonical RCX).

use ix_abi::{THREADS_MAX, area, syscall};

use crate::LARGE_PAGE;
use crate::boot_info::Range;
use crate::elf::IMAGE_HIGH;

const AREAS: u64 = 0x10_0000_0000;
const AREA_STRIDE: u64 = 2 * LARGE_PAGE;
/// User address of the first thread's mbuf pool.
pub const MBUFS: u64 = 0x20_0000_0000;
const STACKS: u64 = 0x30_0000_0000;
const STACK_STRIDE: u64 = LARGE_PAGE + STACK_BYTES;
/// Bytes of a stack.
pub const STACK_BYTES: u64 = LARGE_PAGE;
const BACKGROUND_STACKS: u64 = 0x38_0000_0000;
/// Stack and guard are equally long.
const BACKGROUND_STRIDE: u64 = 2 * syscall::STACK_BYTES;
/// Bytes of the stacks of all background threads.
pub const BACKGROUND_STACKS_BYTES: u64 = syscall::STACK_BYTES * syscall::BACKGROUND_MAX as u64;
/// User address of the first thread's heap.
pub const HEAPS: u64 = 0x40_0000_0000;
/// First address that is never mapped.
pub const END: u64 = 0x100_0000_0000;

/// log2 of the size of an mbuf: room for a frame of that MTU, with Ethernet header, VLAN tag and FCS,
/// in one piece.
pub const fn mbuf_shift(mtu: u16) -> u32 {
    const OVERHEAD: u32 = 14 + 4 + 4;
    let shift = (mtu as u32 + OVERHEAD).next_power_of_two().ilog2();
    if shift < MBUF_SHIFT_LEAST {
        MBUF_SHIFT_LEAST
    } else {
        shift
    }
}

/// 2 KiB: what the Ethernet MTU takes.
const MBUF_SHIFT_LEAST: u32 = 11;

const THREADS: u64 = THREADS_MAX as u64;
const _: () = assert!(area::BYTES as u64 <= AREA_STRIDE);
const _: () = assert!(IMAGE_HIGH <= AREAS && AREAS + THREADS * AREA_STRIDE <= MBUFS);
const _: () = assert!(MBUFS + THREADS * MemoryPlan::MBUFS_MOST <= STACKS);
const _: () = assert!(STACKS + THREADS * STACK_STRIDE <= BACKGROUND_STACKS);
const _: () =
    assert!(BACKGROUND_STACKS + syscall::BACKGROUND_MAX as u64 * BACKGROUND_STRIDE <= HEAPS);
const _: () = assert!(HEAPS + THREADS * MemoryPlan::HEAP_MOST <= END && END < 1 << 47);

/// Where the parts of one thread lie in the application's address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadPlaces {
    /// The thread area.
    pub area: u64,
    /// The lowest byte of the stack, above an unmapped large page.
    pub stack: u64,
}

impl ThreadPlaces {
    /// Those of thread `index`, which is below [`THREADS_MAX`].
    pub fn of(index: usize) -> Self {
        let n = index as u64;
        Self {
            area: AREAS + n * AREA_STRIDE,
            stack: STACKS + n * STACK_STRIDE + LARGE_PAGE,
        }
    }

    /// The address just above the stack.
    pub fn stack_top(&self) -> u64 {
        self.stack + STACK_BYTES
    }
}

/// The lowest byte of the stack of background thread `index`, above unmapped memory.
pub fn background_stack(index: usize) -> u64 {
    BACKGROUND_STACKS + index as u64 * BACKGROUND_STRIDE + syscall::STACK_BYTES
}

/// Addresses of the stacks of all background threads, guards included.
pub fn background_stacks() -> Range {
    let bytes = syscall::BACKGROUND_MAX as u64 * BACKGROUND_STRIDE;
    Range::of(BACKGROUND_STACKS, bytes)
}

/// What the processors are for. Together they are at most [`THREADS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Processors {
    /// Those with an elastic thread.
    pub threads: usize,
    /// Those for background threads: 0 or 1.
    pub background: usize,
}

impl Processors {
    /// Parts them. `None` if no elastic thread would be left.
    pub fn of(all: usize, background: usize) -> Option<Self> {
        let threads = all.checked_sub(background).filter(|&left| left != 0)?;
        Some(Self {
            threads,
            background,
        })
    }

    /// All of them, each of which has a heap.
    pub fn all(&self) -> usize {
        self.threads + self.background
    }
}

/// How free memory is divided: what each thread gets, in bytes, all multiples of 2 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    /// The kernel's heap of the thread: tables of its engine.
    pub kernel_heap: u64,
    /// The mbuf pool.
    pub mbufs: u64,
    /// The application's heap of the thread, and that of the background threads.
    pub heap: u64,
}

impl MemoryPlan {
    const MBUFS_MOST: u64 = 128 << 20;
    const HEAP_MOST: u64 = 1 << 30;
    const KERNEL_HEAP_MOST: u64 = 128 << 20;
    /// What is left for page tables and the image's own region.
    const RESERVE: u64 = 24 << 20;
    /// What each thread has beside its shares: rings, thread area, stack, and the end of its part of the
    /// kernel's heap, which others use too and which begins at a large page.
    /// The background threads together have no more: a thread area, stacks, a heap of the kernel's.
    const THREAD_RESERVE: u64 = 8 << 20;
    /// Parts that a thread's memory is divided into, and those that its heap gets.
    const PARTS: u64 = 16;
    const HEAP_PARTS: u64 = 7;
    /// The mbufs that a thread needs at least, in bytes: 4096 small ones, or 1024 large ones.
    const fn mbufs_least(mbuf_shift: u32) -> u64 {
        let (small, large) = (8 << 20, 1024 << mbuf_shift);
        if large > small { large } else { small }
    }

    /// The plan for that much free memory, those processors and mbufs of that size, or `None` if it
    /// is too little to run them at all.
    pub fn of(available: u64, processors: Processors, mbuf_shift: u32) -> Option<Self> {
        let reserve = Self::RESERVE + processors.all() as u64 * Self::THREAD_RESERVE;
        let parts = processors.threads as u64 * Self::PARTS
            + processors.background as u64 * Self::HEAP_PARTS;
        let part_bytes = available.checked_sub(reserve)?.checked_div(parts)?;
        let part = |parts: u64, most: u64| (part_bytes * parts).min(most) & !(LARGE_PAGE - 1);
        let plan = Self {
            kernel_heap: part(2, Self::KERNEL_HEAP_MOST),
            mbufs: part(4, Self::MBUFS_MOST),
            heap: part(Self::HEAP_PARTS, Self::HEAP_MOST),
        };
        (plan.mbufs >= Self::mbufs_least(mbuf_shift)).then_some(plan)
    }

    /// The plan for tables of that size in the kernel's heap of each thread, which come first; the
    /// mbufs and the application share what is left.
    pub fn with_tables(
        available: u64,
        processors: Processors,
        mbuf_shift: u32,
        kernel_heap: u64,
    ) -> Option<Self> {
        let kernel_heap = kernel_heap.next_multiple_of(LARGE_PAGE);
        let all = kernel_heap.checked_mul(processors.threads as u64)?;
        let rest = Self::of(available.checked_sub(all)?, processors, mbuf_shift)?;
        Some(Self {
            kernel_heap,
            ..rest
        })
    }

    /// Free memory that is enough for those processors with mbufs of that size.
    pub fn least(processors: Processors, mbuf_shift: u32) -> u64 {
        let mbufs = Self::mbufs_least(mbuf_shift);
        let reserve = Self::RESERVE + processors.all() as u64 * Self::THREAD_RESERVE;
        // Of a thread's parts, four are its mbufs; a heap is less than half of them.
        reserve + (4 * processors.threads + 2 * processors.background) as u64 * mbufs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(threads: usize) -> Processors {
        Processors {
            threads,
            background: 0,
        }
    }

    fn check_plan(available: u64, processors: Processors, mbuf_shift: u32) -> u64 {
        let Some(plan) = MemoryPlan::of(available, processors, mbuf_shift) else {
            assert!(available < MemoryPlan::least(processors, mbuf_shift));
            return 0;
        };
        let sum = plan.kernel_heap + plan.mbufs + plan.heap;
        let taken = processors.threads as u64 * (sum + MemoryPlan::THREAD_RESERVE)
            + processors.background as u64 * (plan.heap + MemoryPlan::THREAD_RESERVE);
        assert!(taken + MemoryPlan::RESERVE <= available);
        assert_eq!((plan.kernel_heap | plan.mbufs | plan.heap) % LARGE_PAGE, 0);
        sum
    }

    #[test]
    fn the_plan_fits_and_scales() {
        for (all, background, mbuf_shift) in [
            (1, 0, 11),
            (2, 0, 11),
            (2, 1, 11),
            (4, 1, 14),
            (4, 0, 14),
            (64, 0, 11),
            (64, 1, 14),
        ] {
            let processors = Processors::of(all, background).unwrap();
            let mut last = 0;
            for mib in (64..16384).step_by(62) {
                let sum = check_plan(mib << 20, processors, mbuf_shift);
                assert!(sum >= last);
                last = sum;
            }
            assert_eq!(MemoryPlan::of(0, processors, mbuf_shift), None);
            let least = MemoryPlan::least(processors, mbuf_shift);
            assert!(MemoryPlan::of(least, processors, mbuf_shift).is_some());
        }
    }

    #[test]
    fn background_threads_leave_a_processor_for_the_others() {
        assert_eq!(Processors::of(1, 1), None);
        let processors = Processors::of(3, 1).unwrap();
        assert_eq!((processors.threads, processors.all()), (2, 3));
    }

    #[test]
    fn tables_of_a_given_size_come_first() {
        let heap = (576 << 20) + 1;
        let plan = MemoryPlan::with_tables(1980 << 20, only(1), 11, heap).unwrap();
        assert_eq!(plan.kernel_heap, 578 << 20);
        let sum = plan.kernel_heap + plan.mbufs + plan.heap;
        assert!(sum + MemoryPlan::RESERVE + MemoryPlan::THREAD_RESERVE <= 1980 << 20);
        let refused = |available, threads, heap| {
            MemoryPlan::with_tables(available, only(threads), 11, heap).is_none()
        };
        assert!(refused(500 << 20, 1, heap));
        assert!(refused(1 << 30, 2, u64::MAX / 2));
    }

    #[test]
    fn an_mbuf_holds_a_frame_with_all_that_is_around_it() {
        for (mtu, shift) in [(576, 11), (1500, 11), (2026, 11), (2027, 12), (9000, 14)] {
            assert_eq!(mbuf_shift(mtu), shift, "MTU {mtu}");
        }
    }

    #[test]
    fn threads_lie_apart() {
        for n in 1..THREADS_MAX {
            let (this, other) = (ThreadPlaces::of(n), ThreadPlaces::of(n - 1));
            assert!(other.area + (area::BYTES as u64) < this.area);
            assert_eq!(other.stack_top() + LARGE_PAGE, this.stack);
        }
        let stacks = background_stack(1) - background_stack(0);
        assert!(stacks > syscall::STACK_BYTES);
    }

    #[test]
    fn a_small_machine_gets_a_useful_share() {
        let plan = MemoryPlan::of(240 << 20, only(1), 11).unwrap();
        assert!(plan.kernel_heap >= 24 << 20);
        assert!(plan.mbufs >> 11 >= 16_384);
        let plan = MemoryPlan::of(240 << 20, only(2), 11).unwrap();
        assert!(plan.mbufs >> 11 >= 8192);
    }
}
