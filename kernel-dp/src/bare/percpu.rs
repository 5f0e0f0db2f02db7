//! The block that GS.base points to while the kernel runs: the user's registers, the kernel's
//! stack while the user runs, and the count of interrupts.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use alloc::boxed::Box;

use ix_core::ThreadCounters;

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

impl UserRegisters {
    /// All zero.
    pub const ZERO: Self = Self {
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
    };
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
    /// The user's registers; `entry.s` writes them in `syscall`, a trap handler on a fault or a tick.
    pub user: UnsafeCell<UserRegisters>,
    /// Why the user was abandoned; a trap handler writes it.
    pub fault: UnsafeCell<Fault>,
    /// Interrupts since boot.
    pub interrupts: AtomicU64,
    /// Number of its elastic thread; the boot CPU's is 0.
    pub thread: AtomicU32,
    /// Number of its local APIC.
    pub apic: AtomicU32,
    /// What has become of it.
    pub state: AtomicU32,
    /// The TSC when it came up.
    pub tsc: AtomicU64,
    /// What it is to do, until it takes it.
    pub job: AtomicPtr<Box<dyn Job>>,
    /// Its thread's counters, once it serves; only for this CPU.
    pub counters: AtomicPtr<ThreadCounters>,
    /// What they were when it stopped, if it served.
    last_counters: UnsafeCell<Option<ThreadCounters>>,
    /// 1 while somebody wants its thread to run a round of the application.
    notified: AtomicU32,
    /// 1 while it halts, or is about to, and has to be interrupted if it is notified.
    is_halted: AtomicU32,
}

/// What a processor is to do for the rest of its life.
pub trait Job: Send {
    /// Does it.
    fn run(self: Box<Self>) -> !;
}

/// [`PerCpu::state`]: not up yet.
pub const ABSENT: u32 = 0;
/// [`PerCpu::state`]: up.
pub const UP: u32 = 1;
/// [`PerCpu::state`]: stopped for good.
pub const STOPPED: u32 = 2;

// SAFETY: `user` and `fault` are touched only by their own CPU, never from an interrupt that hits
// the kernel: the writers are the entries from user mode, during which no kernel code runs.
// `last_counters` is written by its own CPU before it stops and read by others after that. The rest
// is atomic.
unsafe impl Sync for PerCpu {}

static BOOT_CPU: PerCpu = PerCpu::new();

impl PerCpu {
    /// The block of a processor that has not come up.
    pub const fn new() -> Self {
        Self {
            this: AtomicU64::new(0),
            kernel_rsp: AtomicU64::new(0),
            user: UnsafeCell::new(UserRegisters::ZERO),
            fault: UnsafeCell::new(Fault {
                vector: 0,
                error_code: 0,
                address: 0,
            }),
            interrupts: AtomicU64::new(0),
            thread: AtomicU32::new(0),
            apic: AtomicU32::new(0),
            state: AtomicU32::new(ABSENT),
            tsc: AtomicU64::new(0),
            job: AtomicPtr::new(null_mut()),
            counters: AtomicPtr::new(null_mut()),
            last_counters: UnsafeCell::new(None),
            notified: AtomicU32::new(0),
            is_halted: AtomicU32::new(0),
        }
    }

    /// Points GS.base at the boot CPU's block.
    pub fn init_boot_cpu() {
        BOOT_CPU.install();
    }

    /// Points GS.base of this CPU at this block; the user's GS.base is zero. No other CPU may
    /// have done so.
    pub fn install(&'static self) {
        let address = core::ptr::from_ref(self) as u64;
        self.this.store(address, Ordering::Relaxed);
        // SAFETY: the block is static, and long mode has both registers.
        unsafe {
            wrmsr(msr::GS_BASE, address);
            wrmsr(msr::KERNEL_GS_BASE, 0);
        }
    }

    /// Copies the counters of this CPU's thread to where others can read them, just before it stops.
    pub fn publish_counters(&self) {
        let counters = self.counters.load(Ordering::Relaxed);
        if !counters.is_null() {
            // SAFETY: the counters stay where they are once the thread runs, on this CPU, which does
            // nothing else meanwhile; others read the copy only when this CPU has stopped.
            unsafe { *self.last_counters.get() = Some(counters.read_volatile()) };
        }
    }

    /// The counters of the thread of a CPU that has stopped, if it served. `None` as long as the CPU
    /// has not stopped.
    pub fn last_counters(&self) -> Option<ThreadCounters> {
        if self.state.load(Ordering::Acquire) != STOPPED {
            return None;
        }
        // SAFETY: the CPU wrote it before it said that it had stopped, which is for good.
        unsafe { *self.last_counters.get() }
    }

    /// Number of its local APIC.
    pub fn apic(&self) -> u32 {
        self.apic.load(Ordering::Relaxed)
    }

    /// Number of its elastic thread.
    pub fn thread(&self) -> u32 {
        self.thread.load(Ordering::Relaxed)
    }

    /// Whether its thread was notified, once for each time that it was; on that CPU.
    #[inline]
    pub fn take_notification(&self) -> bool {
        self.notified.load(Ordering::Relaxed) != 0 && self.notified.swap(0, Ordering::SeqCst) != 0
    }

    /// Says that this CPU is about to halt. False if it was notified, and must not.
    pub fn begin_halt(&self) -> bool {
        self.is_halted.store(1, Ordering::SeqCst);
        self.notified.load(Ordering::SeqCst) == 0
    }

    /// Says that it does not halt any longer.
    pub fn end_halt(&self) {
        self.is_halted.store(0, Ordering::Relaxed);
    }

    /// Notifies its thread. True if it halts and nobody else has told it so, so that it has to be
    /// interrupted.
    pub fn notify(&self) -> bool {
        // Either this finds it halted, or it finds this before it halts.
        self.notified.swap(1, Ordering::SeqCst) == 0 && self.is_halted.load(Ordering::SeqCst) != 0
    }

    /// This CPU's block. To be called after [`PerCpu::install`].
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
