//! The kernel's stacks of one processor, each with a page below it that is never mapped: an overflow is a page
//! fault, reported on a stack of its own, not silent damage.

use core::cell::UnsafeCell;
use core::mem::offset_of;

use kernel_dp::PAGE;

const PAGE_BYTES: usize = PAGE as usize;

/// A page that stays unmapped.
type Guard = [u8; PAGE_BYTES];

/// Bytes of each stack for traps.
const TRAP_BYTES: usize = 16 << 10;

/// All stacks of one CPU.
#[repr(C, align(4096))]
pub struct Stacks {
    guard_main: Guard,
    /// Boot and the kernel loop.
    pub main: [u8; Stacks::MAIN_BYTES],
    guard_traps: [GuardedStack; Stacks::TRAPS],
}

#[repr(C)]
struct GuardedStack {
    guard: Guard,
    stack: [u8; TRAP_BYTES],
}

/// A static that only the CPU's own stack pointer touches.
#[repr(transparent)]
pub struct StackMemory(UnsafeCell<Stacks>);

// SAFETY: no reference into the stacks is ever made; they are reached by the stack pointer only.
unsafe impl Sync for StackMemory {}

/// The stacks of the boot CPU.
pub static STACKS: StackMemory = StackMemory(UnsafeCell::new(Stacks {
    guard_main: [0; PAGE_BYTES],
    main: [0; Stacks::MAIN_BYTES],
    guard_traps: [const {
        GuardedStack {
            guard: [0; PAGE_BYTES],
            stack: [0; TRAP_BYTES],
        }
    }; Stacks::TRAPS],
}));

impl Stacks {
    /// Bytes of the main stack.
    pub const MAIN_BYTES: usize = 256 << 10;
    /// Stacks for traps: from user mode, and one each for the vectors that switch stacks.
    pub const TRAPS: usize = 6;

    /// Address of the boot CPU's.
    pub fn of_boot_cpu() -> u64 {
        STACKS.0.get() as u64
    }

    /// Address just above the trap stack of that number, of the stacks at `base`.
    pub fn trap_top(base: u64, number: usize) -> u64 {
        assert!(number < Self::TRAPS);
        let first = base + offset_of!(Self, guard_traps) as u64;
        first + (number as u64 + 1) * size_of::<GuardedStack>() as u64
    }

    /// Addresses of all guard pages of the stacks at `base`, ascending.
    pub fn guards(base: u64) -> impl Iterator<Item = u64> {
        let first = base + offset_of!(Self, guard_traps) as u64;
        let trap =
            (0..Self::TRAPS as u64).map(move |n| first + n * size_of::<GuardedStack>() as u64);
        core::iter::once(base).chain(trap)
    }
}
