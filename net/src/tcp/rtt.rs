//! Round-trip time and retransmission timeout (RFC 6298). Times are in units of 1.024 us.

use crate::tcp::connection::Connection;

/// The clock's granularity here: the wheel's tick.
const GRANULARITY: u32 = 16;

impl Connection {
    /// Takes in a measurement and computes the timeout, in nanoseconds and at least `rto_min`. The
    /// upper bound is applied together with the backoff.
    #[inline(always)]
    pub(crate) fn take_rtt(&mut self, sample: u32, rto_min: u64) {
        // Zero would look like no measurement; beyond a minute it is none.
        let sample = sample.min(1 << 26) | 1;
        if self.srtt8 == 0 {
            self.srtt8 = sample * 8;
            self.rttvar4 = sample * 2;
        } else {
            self.update_rtt(sample);
        }
        self.rto = self.timeout().max(rto_min);
    }

    /// The same where there was a measurement before.
    #[inline(always)]
    pub(crate) fn take_further_rtt(&mut self, sample: u32, rto_min: u64) {
        self.update_rtt(sample.min(1 << 26) | 1);
        self.rto = self.timeout().max(rto_min);
    }

    #[inline(always)]
    fn update_rtt(&mut self, sample: u32) {
        let error = sample as i32 - (self.srtt8 >> 3) as i32;
        self.srtt8 = self.srtt8.wrapping_add_signed(error);
        let deviation = error.unsigned_abs() as i32 - (self.rttvar4 >> 2) as i32;
        self.rttvar4 = self.rttvar4.wrapping_add_signed(deviation);
    }

    /// The timeout that the measurements ask for, in nanoseconds.
    #[inline(always)]
    pub(crate) fn timeout(&self) -> u64 {
        u64::from((self.srtt8 >> 3) + self.rttvar4 + GRANULARITY) << 10
    }
}

#[cfg(test)]
mod tests {
    use crate::tcp::connections::Connections;

    #[test]
    fn timeout_follows_the_measurements_within_its_bounds() {
        let mut connections = Connections::with_slots(1);
        let index = connections.take().unwrap();
        let connection = &mut connections[index];
        connection.take_rtt(1000, 0);
        assert_eq!(connection.rto, (3 * 1001 + 16) << 10);
        for _ in 0..200 {
            connection.take_rtt(1000, 0);
        }
        assert_eq!(connection.srtt8 >> 3, 1001);
        assert!(connection.rto <= 1025 << 10);
        connection.take_rtt(0, 5 << 20);
        assert_eq!(connection.rto, 5 << 20);
        connection.backoff = 3;
        assert_eq!(connection.backed_off_rto(7 << 20), 7 << 20);
    }

    #[test]
    fn estimate_stays_sane_under_extreme_swings() {
        let mut connections = Connections::with_slots(1);
        let index = connections.take().unwrap();
        let connection = &mut connections[index];
        for round in 0..10_000u32 {
            let sample = if round % 3 == 0 { u32::MAX } else { 0 };
            connection.take_rtt(sample, 1000);
            assert!((1000..=400_000_000_000).contains(&connection.rto));
            assert!(connection.srtt8 != 0);
            assert!(connection.srtt8 >> 3 <= (1 << 26) + 1);
        }
    }
}
