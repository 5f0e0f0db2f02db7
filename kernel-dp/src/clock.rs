//! Arithmetic of time: ticks of a counter to nanoseconds and back by multiplication, and the
//! calibration of one counter by another.

/// Converts ticks of a counter of known frequency to nanoseconds, without division.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TickScale {
    /// Nanoseconds per tick, times 2^32.
    ns_per_tick: u64,
    /// Ticks per nanosecond, times 2^32.
    ticks_per_ns: u64,
}

/// Lowest and highest frequency that is believed, in Hz.
const PLAUSIBLE_HZ: core::ops::RangeInclusive<u64> = 1_000_000..=100_000_000_000;

impl TickScale {
    /// The scale of a counter of `hz` ticks per second, or `None` if no counter is that slow or
    /// fast.
    pub const fn new(hz: u64) -> Option<Self> {
        if hz < *PLAUSIBLE_HZ.start() || hz > *PLAUSIBLE_HZ.end() {
            return None;
        }
        Some(Self {
            ns_per_tick: ((1_000_000_000u128 << 32) / hz as u128) as u64,
            ticks_per_ns: (((hz as u128) << 32) / 1_000_000_000) as u64,
        })
    }

    /// Nanoseconds in that many ticks.
    #[inline]
    pub const fn nanoseconds(&self, ticks: u64) -> u64 {
        ((ticks as u128 * self.ns_per_tick as u128) >> 32) as u64
    }

    /// Ticks in that many nanoseconds, at most `u64::MAX`.
    #[inline]
    pub const fn ticks(&self, nanoseconds: u64) -> u64 {
        let ticks = (nanoseconds as u128 * self.ticks_per_ns as u128) >> 32;
        if ticks > u64::MAX as u128 {
            u64::MAX
        } else {
            ticks as u64
        }
    }
}

/// Frequency of a counter that advanced by `ticks` while a reference of `reference_hz` advanced by
/// `reference_ticks`. `None` if the reference stood still or the result is not believable.
pub fn frequency(ticks: u64, reference_ticks: u64, reference_hz: u64) -> Option<u64> {
    let hz = u128::from(ticks) * u128::from(reference_hz);
    let hz = u64::try_from(hz.checked_div(u128::from(reference_ticks))?).ok()?;
    PLAUSIBLE_HZ.contains(&hz).then_some(hz)
}

/// `part` / `whole` as a fraction of 2^32, for a counter that goes on by `part` while another one
/// does by `whole`. `None` if one of them stood still, or the first one is 2^32 times faster.
pub fn ratio(part: u64, whole: u64) -> Option<u64> {
    let ratio = (u128::from(part) << 32).checked_div(u128::from(whole))?;
    u64::try_from(ratio).ok().filter(|ratio| *ratio > 0)
}

/// TSC frequency by KVM's clock page (`pvclock_vcpu_time_info`): the hypervisor's scale is
/// `nanoseconds = (ticks << shift) * multiplier >> 32`.
pub fn frequency_of_pvclock(multiplier: u32, shift: i8) -> Option<u64> {
    let hz = (1_000_000_000u128 << 32).checked_div(u128::from(multiplier))?;
    let hz = match shift {
        0.. => hz >> shift,
        // `hz` is below 2^62: no bit is lost.
        -64..0 => hz << shift.unsigned_abs(),
        _ => return None,
    };
    let hz = u64::try_from(hz).ok()?;
    PLAUSIBLE_HZ.contains(&hz).then_some(hz)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_icount_clock_of_one_gigahertz_is_exact() {
        let scale = TickScale::new(1_000_000_000).unwrap();
        assert_eq!(scale.nanoseconds(123_456_789_012), 123_456_789_012);
        assert_eq!(scale.ticks(987_654_321), 987_654_321);
        assert_eq!(scale.ticks(u64::MAX), u64::MAX);
    }

    #[test]
    fn implausible_frequencies_are_refused() {
        assert_eq!(TickScale::new(0), None);
        assert_eq!(TickScale::new(999_999), None);
        assert_eq!(frequency(1, 0, 3_579_545), None);
        assert_eq!(frequency(u64::MAX, 1, 3_579_545), None);
        assert_eq!(
            frequency(24_000_000, 35_795, 3_579_545),
            Some(2_400_030_171)
        );
    }

    #[test]
    fn pvclock_gives_the_frequency_behind_its_scale() {
        // 2.5 GHz as Linux prints it for a guest: 0.4 ns per tick.
        assert_eq!(frequency_of_pvclock(3_435_973_836, -1), Some(2_500_000_000));
        assert_eq!(frequency_of_pvclock(1 << 31, 1), Some(1_000_000_000));
        assert_eq!(frequency_of_pvclock(0, 0), None);
        assert_eq!(frequency_of_pvclock(1, i8::MIN), None);
    }

    #[test]
    fn a_ratio_needs_two_counters_that_move() {
        assert_eq!(ratio(1_000_000, 2_000_000), Some(1 << 31));
        assert_eq!(ratio(0, 5), None);
        assert_eq!(ratio(5, 0), None);
        assert_eq!(ratio(u64::MAX, 1), None);
    }

    proptest! {
        #[test]
        fn a_span_survives_both_conversions(hz in 1_000_000u64..20_000_000_000, ns in 0u64..1 << 50) {
            let scale = TickScale::new(hz).unwrap();
            let back = scale.nanoseconds(scale.ticks(ns));
            let slack = 2 + 1_000_000_000 / hz + (ns >> 20);
            prop_assert!(back.abs_diff(ns) <= slack, "{} {}", back, ns);
        }
    }
}
