//! The block that GS.base points to while the kernel runs: the user's registers, the kernel's
//! stack while the user runs, and the count of interrupts.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};

use super::cpu::{msr, wrmsr};

/// The registers of user mode, while the kernel runs.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct UserRegisters {
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub rsp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub rip: u64,
    pub rflags: u64,
}

/// An exception in user mode.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Exception vector.
    pub vector: u64,
    /// Error code, 0 where the vector has none.
    pub error_code: u64,
    /// CR2: the address that a page fault was about.
    pub address: u64,
}

/// Per-CPU data. `entry.s` knows the fields by offset.
#[repr(C, align(64))]
pub struct PerCpu {
    /// Its own address, so that `gs:[0]` gives a pointer.
    this: AtomicU64,
    /// Stack pointer of the `enter_user` that waits for the user to trap; `entry.s` only.
    pub kernel_rsp: AtomicU64,
    /// The user's registers; `entry.s` writes them in `syscall`, a trap handler on a fault.
    pub user: UnsafeCell<UserRegisters>,
    /// Why the user was abandoned; a trap handler writes it.
    pub fault: UnsafeCell<Fault>,
    /// Interrupts since boot.
    pub interrupts: AtomicU64,
}

// SAFETY: `user` and `fault` are touched only by their own CPU, never from an interrupt that hits
// the kernel: the writers are the entries from user mode, during which no kernel code runs. The
// rest is atomic.
unsafe impl Sync for PerCpu {}

static BOOT_CPU: PerCpu = PerCpu {
    this: AtomicU64::new(0),
    kernel_rsp: AtomicU64::new(0),
    user: UnsafeCell::new(UserRegisters {
        rax: 0,
        rbx: 0,
        rcx: 0,
        rdx: 0,
        rsi: 0,
        rdi: 0,
        rbp: 0,
        rsp: 0,
        r8: 0,
        r9: 0,
        r10: 0,
        r11: 0,
        r12: 0,
        r13: 0,
        r14: 0,
        r15: 0,
        rip: 0,
        rflags: 0,
    }),
    fault: UnsafeCell::new(Fault {
        vector: 0,
        error_code: 0,
        address: 0,
    }),
    interrupts: AtomicU64::new(0),
};

impl PerCpu {
    /// Points GS.base at the boot CPU's block; the user's GS.base is zero.
    pub fn init_boot_cpu() {
        let address = &raw const BOOT_CPU as u64;
        BOOT_CPU.this.store(address, Ordering::Relaxed);
        // SAFETY: the block is static, and long mode has both registers.
        unsafe {
            wrmsr(msr::GS_BASE, address);
            wrmsr(msr::KERNEL_GS_BASE, 0);
        }
    }

    /// This CPU's block. To be called after [`PerCpu::init_boot_cpu`].
    #[inline]
    pub fn get() -> &'static Self {
        let this: *const Self;
        // SAFETY: in ring 0 GS.base points to a `PerCpu` whose first word is its own address; it
        // is static and shared only.
        unsafe {
            asm!("mov {}, gs:[0]", out(reg) this, options(pure, readonly, nostack, preserves_flags));
            &*this
        }
    }
}
