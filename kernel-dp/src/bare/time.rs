//! The kernel's clock: the time-stamp counter, whose frequency is found out at boot, from the
//! hypervisor or by comparison with a timer of known frequency.

use core::cell::UnsafeCell;

use ix_hal::Instant;
use kernel_dp::acpi::PmTimer;
use kernel_dp::clock::{self, TickScale};

use super::boot::KERNEL_BASE;
use super::cpu::{Features, inb, inl, msr, outb, rdtsc, wrmsr};
use super::rtc;

const PM_TIMER_HZ: u64 = 3_579_545;
const PIT_HZ: u64 = 1_193_182;
/// Length of a calibration: 10 ms, so that the time of an access to the timer, a microsecond,
/// makes an error of 0.01 %.
const PM_WINDOW: u32 = (PM_TIMER_HZ / 100) as u32;
const PIT_WINDOW: u16 = (PIT_HZ / 100) as u16;
/// TSC ticks after which a reference timer is taken to stand still; seconds on any processor.
const PATIENCE: u64 = 1 << 34;

/// Nanoseconds since boot.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: u64,
    scale: TickScale,
    /// TSC ticks per second.
    pub hz: u64,
    /// What the frequency came from.
    pub source: &'static str,
    /// Seconds from 1970 to boot, if the machine has a clock that knows.
    pub unix_seconds: Option<u64>,
}

impl Clock {
    /// Finds out the TSC's frequency. `None` if no reference works.
    pub fn calibrate(features: &Features, pm_timer: Option<PmTimer>) -> Option<Self> {
        let start = rdtsc();
        let by = |hz: Option<u64>, source| hz.map(|hz| (hz, source));
        let found = by(features.kvm_clock.then(kvm_clock_hz).flatten(), "KVM clock");
        let found = found.or_else(|| by(pm_timer.and_then(pm_timer_hz), "PM timer"));
        let (hz, source) = found.or_else(|| by(pit_hz(), "PIT"))?;
        let scale = TickScale::new(hz)?;
        Some(Self {
            start,
            scale,
            hz,
            source,
            unix_seconds: rtc::unix_seconds(),
        })
    }

    /// Now.
    #[inline]
    pub fn now(&self) -> Instant {
        self.at(rdtsc())
    }

    /// When the TSC had that value.
    #[inline]
    pub fn at(&self, tsc: u64) -> Instant {
        Instant(self.nanoseconds(tsc.wrapping_sub(self.start)))
    }

    /// Nanoseconds in that many TSC ticks.
    #[inline]
    pub fn nanoseconds(&self, ticks: u64) -> u64 {
        self.scale.nanoseconds(ticks)
    }

    /// The TSC's value at that time.
    pub fn tsc_at(&self, time: Instant) -> u64 {
        self.start.saturating_add(self.scale.ticks(time.0))
    }

    /// Waits at least that many microseconds.
    pub fn wait_micros(&self, micros: u32) {
        let (start, ticks) = (rdtsc(), self.ticks_of_micros(u64::from(micros)));
        while rdtsc().wrapping_sub(start) < ticks {
            moment();
        }
    }

    /// TSC ticks in that many microseconds.
    pub fn ticks_of_micros(&self, micros: u64) -> u64 {
        self.scale.ticks(micros * 1_000)
    }
}

/// Lets well below a microsecond pass, in a loop that waits for longer. With one `pause` only: an emulator
/// that runs all processors in turn goes through all of them at each, and 16 of them took minutes to boot.
pub fn moment() {
    for _ in 0..64 {
        rdtsc();
    }
    core::hint::spin_loop();
}

/// KVM's clock page, `pvclock_vcpu_time_info`.
#[repr(C, align(32))]
struct ClockPage(UnsafeCell<[u32; 8]>);

// SAFETY: only the hypervisor and `kvm_clock_hz`, by volatile accesses, touch it.
unsafe impl Sync for ClockPage {}

fn kvm_clock_hz() -> Option<u64> {
    static PAGE: ClockPage = ClockPage(UnsafeCell::new([0; 8]));
    let physical = PAGE.0.get() as u64 - KERNEL_BASE;
    // SAFETY: KVM said that it has the register; it fills the static page before the write
    // returns, and no longer does after the second write.
    let page = unsafe {
        wrmsr(msr::KVM_SYSTEM_TIME, physical | 1);
        let page = PAGE.0.get().read_volatile();
        wrmsr(msr::KVM_SYSTEM_TIME, 0);
        page
    };
    let [_, _, _, _, _, _, multiplier, shift] = page;
    clock::frequency_of_pvclock(multiplier, shift as u8 as i8)
}

fn pm_timer_hz(timer: PmTimer) -> Option<u64> {
    let (start_tsc, start) = sample(timer);
    loop {
        moment();
        let (tsc, value) = sample(timer);
        let elapsed = value.wrapping_sub(start) & timer.mask;
        let ticks = tsc.wrapping_sub(start_tsc);
        if elapsed >= PM_WINDOW {
            return clock::frequency(ticks, u64::from(elapsed), PM_TIMER_HZ);
        }
        if ticks > PATIENCE {
            return None;
        }
    }
}

/// The TSC and the timer at the same moment: of a few readings the one that took least, since a
/// hypervisor may do other things in between.
fn sample(timer: PmTimer) -> (u64, u32) {
    let reading = || {
        let before = rdtsc();
        // SAFETY: the ACPI tables name this port as that of the timer; reading has no effect.
        let value = unsafe { inl(timer.port) };
        let took = rdtsc().wrapping_sub(before);
        (took, before.wrapping_add(took / 2), value)
    };
    let (_, tsc, value) = (0..3).map(|_| reading()).min().unwrap_or_else(reading);
    (tsc, value)
}

/// Counts down channel 2 of the 8254, whose output can be read at port 0x61.
fn pit_hz() -> Option<u64> {
    let [low, high] = PIT_WINDOW.to_le_bytes();
    // SAFETY: channel 2 of the timer and its gate drive nothing but the loudspeaker, which is off.
    unsafe {
        outb(0x61, inb(0x61) & !0b10 | 0b01);
        outb(0x43, 0b1011_0000);
        outb(0x42, low);
        outb(0x42, high);
    }
    let start = rdtsc();
    loop {
        moment();
        let ticks = rdtsc().wrapping_sub(start);
        // SAFETY: reads the state of the timer's output.
        if unsafe { inb(0x61) } & 0x20 != 0 {
            return clock::frequency(ticks, u64::from(PIT_WINDOW), PIT_HZ);
        }
        if ticks > PATIENCE {
            return None;
        }
    }
}
