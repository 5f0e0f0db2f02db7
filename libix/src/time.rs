//! Clocks: the time of the round comes with [`Context::now`](crate::Context::now); the TSC is for
//! spans shorter than that.

/// The time-stamp counter. Its rate is [`BootBlock::tsc_hz`](crate::BootBlock::tsc_hz).
#[inline]
pub fn ticks() -> u64 {
    // SAFETY: RDTSC exists on every x86-64 processor, and the kernel leaves CR4.TSD clear.
    unsafe { core::arch::x86_64::_rdtsc() }
}
