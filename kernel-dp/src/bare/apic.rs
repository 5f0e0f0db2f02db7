//! The local APIC: x2APIC where present, else xAPIC registers in memory; its timer; and the legacy
//! interrupt controllers, which are silenced (Intel SDM volume 3, chapter 12).

use core::sync::atomic::{AtomicU64, Ordering};

use kernel_dp::boot_info::Range;
use kernel_dp::clock;

use super::cpu::{Features, msr, outb, rdmsr, rdtsc, wrmsr};
use super::memory::{Memory, MemoryError};
use super::traps::{APIC_ERROR_VECTOR, LEGACY_VECTOR, SPURIOUS_VECTOR, TIMER_VECTOR};

const BASE_ENABLE: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Registers, by their offset in memory.
const ID: u32 = 0x20;
const TASK_PRIORITY: u32 = 0x80;
const END_OF_INTERRUPT: u32 = 0xb0;
const SPURIOUS: u32 = 0xf0;
const ICR_LOW: u32 = 0x300;
const ICR_HIGH: u32 = 0x310;
const LVT_TIMER: u32 = 0x320;
const LVT_LINT0: u32 = 0x350;
const LVT_ERROR: u32 = 0x370;
const INITIAL_COUNT: u32 = 0x380;
const CURRENT_COUNT: u32 = 0x390;
const DIVIDE: u32 = 0x3e0;

const ICR_ASSERT: u32 = 1 << 14;
const ICR_PENDING: u32 = 1 << 12;
/// Looks at a message that is not sent yet before it is given up.
const ICR_PATIENCE: u32 = 100_000;
const SPURIOUS_ENABLE: u32 = 1 << 8;
const LVT_MASKED: u32 = 1 << 16;
const LVT_TSC_DEADLINE: u32 = 0b10 << 17;
const DIVIDE_BY_1: u32 = 0b1011;

/// Where the registers lie in memory, 0 in x2APIC mode.
static REGISTERS: AtomicU64 = AtomicU64::new(0);

/// Acknowledges the interrupt that is being handled.
#[inline]
pub fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Silences the legacy controllers, finds the registers and enables this CPU's local APIC.
pub fn init(features: &Features, memory: &mut Memory) -> Result<(), MemoryError> {
    silence_legacy();
    if !features.x2apic {
        // SAFETY: every x86-64 processor has this register.
        let base = unsafe { rdmsr(msr::APIC_BASE) } & BASE_ADDRESS;
        let registers = memory.map_device(Range::of(base, 4096))?;
        REGISTERS.store(registers.as_ptr() as u64, Ordering::Relaxed);
    }
    enable(features);
    Ok(())
}

/// Enables this CPU's local APIC.
pub fn enable(features: &Features) {
    // SAFETY: every x86-64 processor has this register.
    let base = unsafe { rdmsr(msr::APIC_BASE) } & BASE_ADDRESS;
    if features.x2apic {
        // SAFETY: the mode was probed; firmware leaves the APIC enabled or off, and from both the
        // way by enabled to x2APIC is allowed.
        unsafe {
            wrmsr(msr::APIC_BASE, base | BASE_ENABLE | rdmsr(msr::APIC_BASE));
            wrmsr(
                msr::APIC_BASE,
                base | BASE_ENABLE | BASE_X2APIC | rdmsr(msr::APIC_BASE),
            );
        }
    } else {
        // SAFETY: enables what `init` mapped the registers for.
        unsafe { wrmsr(msr::APIC_BASE, rdmsr(msr::APIC_BASE) | BASE_ENABLE) };
    }
    write(TASK_PRIORITY, 0);
    write(LVT_LINT0, LVT_MASKED);
    write(LVT_ERROR, u32::from(APIC_ERROR_VECTOR));
    write(SPURIOUS, SPURIOUS_ENABLE | u32::from(SPURIOUS_VECTOR));
}

/// A message from this CPU to another one (Intel SDM volume 3, 12.6.1).
#[derive(Clone, Copy, Debug)]
pub enum Message {
    /// Reset to the state in which it waits for `Startup`.
    Init,
    /// Start in real mode at this page, which lies below 1 MiB.
    Startup(u64),
    /// A non-maskable interrupt.
    Nmi,
    /// An interrupt of this vector.
    Interrupt(u8),
}

/// Sends a message to the CPU of that local APIC. False if the mode of the APICs cannot name it,
/// or if the APIC does not get rid of the message.
pub fn send(target: u32, message: Message) -> bool {
    let command = match message {
        Message::Init => ICR_ASSERT | 0b101 << 8,
        Message::Startup(page) => ICR_ASSERT | 0b110 << 8 | (page >> 12) as u32 & 0xff,
        Message::Nmi => ICR_ASSERT | 0b100 << 8,
        Message::Interrupt(vector) => ICR_ASSERT | u32::from(vector),
    };
    if REGISTERS.load(Ordering::Relaxed) == 0 {
        // What was stored before is to be seen by whoever gets the message; the write of this
        // register does not wait for stores (Intel SDM volume 3, 12.12.3).
        // SAFETY: x2APIC mode is on; the messages are those that the kernel handles.
        unsafe {
            core::arch::asm!("mfence", "lfence", options(nostack, preserves_flags));
            wrmsr(
                msr::X2APIC + (ICR_LOW >> 4),
                u64::from(target) << 32 | u64::from(command),
            );
        }
        return true;
    }
    let Ok(target) = u8::try_from(target) else {
        return false;
    };
    write(ICR_HIGH, u32::from(target) << 24);
    write(ICR_LOW, command);
    (0..ICR_PATIENCE).any(|_| {
        core::hint::spin_loop();
        read(ICR_LOW) & ICR_PENDING == 0
    })
}

/// Number of this CPU's local APIC.
pub fn id() -> u32 {
    match REGISTERS.load(Ordering::Relaxed) {
        0 => read(ID),
        _ => read(ID) >> 24,
    }
}

/// The timer of the local APIC: one interrupt, at a TSC value.
#[derive(Clone, Copy, Debug)]
pub enum Timer {
    /// The APIC compares the TSC itself.
    TscDeadline,
    /// A counter, with APIC ticks per TSC tick times 2^32.
    Counter(u64),
}

impl Timer {
    /// Sets the timer up; a counter is calibrated for `window` TSC ticks.
    pub fn new(features: &Features, window: u64) -> Option<Self> {
        if features.tsc_deadline {
            write(LVT_TIMER, LVT_TSC_DEADLINE | u32::from(TIMER_VECTOR));
            return Some(Self::TscDeadline);
        }
        write(DIVIDE, DIVIDE_BY_1);
        write(LVT_TIMER, LVT_MASKED | u32::from(TIMER_VECTOR));
        write(INITIAL_COUNT, u32::MAX);
        let start = rdtsc();
        while rdtsc().wrapping_sub(start) < window {
            core::hint::spin_loop();
        }
        let counted = u32::MAX - read(CURRENT_COUNT);
        let elapsed = rdtsc().wrapping_sub(start);
        write(INITIAL_COUNT, 0);
        write(LVT_TIMER, u32::from(TIMER_VECTOR));
        let ratio = clock::ratio(u64::from(counted), elapsed)?;
        Some(Self::Counter(ratio))
    }

    /// Sets the timer of another CPU up alike, on that CPU.
    pub fn adopt(&self) {
        match self {
            Self::TscDeadline => write(LVT_TIMER, LVT_TSC_DEADLINE | u32::from(TIMER_VECTOR)),
            Self::Counter(_) => {
                write(DIVIDE, DIVIDE_BY_1);
                write(LVT_TIMER, u32::from(TIMER_VECTOR));
            }
        }
    }

    /// Interrupts once the TSC reaches `tsc`, or earlier if that is farther than the timer can
    /// count. A time in the past interrupts at once.
    pub fn arm(&self, tsc: u64) {
        match self {
            // SAFETY: the mode was probed. Zero would disarm, and is in the past anyway.
            Self::TscDeadline => unsafe { wrmsr(msr::TSC_DEADLINE, tsc.max(1)) },
            Self::Counter(ratio) => {
                let ahead = u128::from(tsc.saturating_sub(rdtsc()));
                let ticks = (ahead * u128::from(*ratio)) >> 32;
                write(INITIAL_COUNT, ticks.clamp(1, u128::from(u32::MAX)) as u32);
            }
        }
    }

    /// No interrupt any more; one that is on its way may still come.
    pub fn disarm(&self) {
        match self {
            // SAFETY: the mode was probed; zero disarms.
            Self::TscDeadline => unsafe { wrmsr(msr::TSC_DEADLINE, 0) },
            Self::Counter(_) => write(INITIAL_COUNT, 0),
        }
    }
}

#[inline]
fn read(register: u32) -> u32 {
    match REGISTERS.load(Ordering::Relaxed) {
        // SAFETY: x2APIC mode is on, in which every register used here can be read.
        0 => unsafe { rdmsr(msr::X2APIC + (register >> 4)) as u32 },
        // SAFETY: the registers are mapped at that address for ever.
        base => unsafe { ((base + u64::from(register)) as *const u32).read_volatile() },
    }
}

#[inline]
fn write(register: u32, value: u32) {
    match REGISTERS.load(Ordering::Relaxed) {
        // SAFETY: x2APIC mode is on; the values written make interrupts that have a handler.
        0 => unsafe { wrmsr(msr::X2APIC + (register >> 4), u64::from(value)) },
        // SAFETY: the registers are mapped at that address for ever.
        base => unsafe { ((base + u64::from(register)) as *mut u32).write_volatile(value) },
    }
}

/// Moves the two 8259s, which firmware leaves at vectors 8 and 0x70, off the exceptions, and masks
/// all their lines.
fn silence_legacy() {
    let commands = [
        (0x20, 0x11),
        (0xa0, 0x11),
        (0x21, LEGACY_VECTOR),
        (0xa1, LEGACY_VECTOR + 8),
        (0x21, 4),
        (0xa1, 2),
        (0x21, 1),
        (0xa1, 1),
        (0x21, 0xff),
        (0xa1, 0xff),
    ];
    for (port, value) in commands {
        // SAFETY: these are the registers of the two controllers, which nothing else uses.
        unsafe { outb(port, value) };
    }
}
