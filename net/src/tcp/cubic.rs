//! CUBIC (RFC 9438) in integers: sizes in bytes, times in units of 2^20 ns, about a millisecond.
//!
//! Where the window is to be a round trip later is computed once per round trip, and from it how
//! many bytes have to be acknowledged for each further segment; an acknowledgement only counts.

use crate::seq::Seq;
use crate::tcp::congestion::CWND_MAX;
use crate::tcp::connection::Connection;
use ix_hal::Instant;

/// The constant C = 0.4 segments/s^3, for times in units of 2^20 ns: 0.4 * 1.048576e-3^3 * 2^40.
const C_40: u64 = 507;
/// alpha = 3 * (1 - beta) / (1 + beta) for beta = 0.7, times 1024.
const ALPHA_10: u32 = 542;
/// In place of K: there is no epoch.
const NO_EPOCH: u32 = u32::MAX;

/// What CUBIC remembers of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cubic {
    /// The window before the last reduction.
    w_max: u32,
    /// When the current stage of congestion avoidance began.
    epoch: u32,
    /// How long from then until the window is back at `w_max`.
    k: u32,
    /// The window that Reno would have.
    w_est: u32,
    /// Bytes to be acknowledged for one more segment.
    step: u32,
    /// The round trip is over when more than this is acknowledged.
    round_end: Seq,
    /// When it began.
    round_at: u32,
}

impl Cubic {
    /// A new connection's.
    pub fn new() -> Self {
        Self {
            w_max: 0,
            epoch: 0,
            k: NO_EPOCH,
            w_est: 0,
            step: 0,
            round_end: Seq(0),
            round_at: 0,
        }
    }

    /// Lets the window grow by what `acked` bytes more allow.
    pub fn grow(&mut self, connection: &mut Connection, acked: u32, now: Instant) {
        if self.k == NO_EPOCH || connection.snd_una.gt(self.round_end) {
            // What the last round trip left over is in the next one's target.
            connection.cwnd_credit = 0;
            self.begin_round(connection, (now.0 >> 20) as u32);
        }
        connection.cwnd_credit += acked;
        while connection.cwnd_credit >= self.step {
            connection.cwnd_credit -= self.step;
            connection.cwnd = (connection.cwnd + u32::from(connection.mss)).min(CWND_MAX);
        }
    }

    /// A congestion event: returns the new window, before its lower bound (RFC 9438 4.6, 4.7).
    pub fn reduce(&mut self, cwnd: u32, flight: u32) -> u32 {
        // Fast convergence: whoever did not get back to the old window makes room for others.
        self.w_max = match cwnd < self.w_max {
            true => part(cwnd, 17, 20),
            false => cwnd,
        };
        self.k = NO_EPOCH;
        part(flight, 7, 10)
    }

    /// The window before the last reduction.
    pub fn w_max(&self) -> u32 {
        self.w_max
    }

    /// The last reduction is undone; growth begins anew from where the window was.
    pub fn restore(&mut self, w_max: u32) {
        self.w_max = w_max;
        self.k = NO_EPOCH;
    }

    fn begin_round(&mut self, connection: &Connection, now: u32) {
        let (cwnd, mss) = (connection.cwnd, u32::from(connection.mss));
        let round_trip = connection.srtt8 >> 13;
        if self.k == NO_EPOCH {
            self.begin_epoch(cwnd, mss, now);
        } else {
            // Time in which the window was not used does not count (RFC 9438 5.8).
            let span = now.wrapping_sub(self.round_at);
            if span > 2 * round_trip + 2 {
                self.epoch = self.epoch.wrapping_add(span - round_trip);
            }
            let alpha = if self.w_est < self.w_max {
                ALPHA_10
            } else {
                1024
            };
            self.w_est = (self.w_est + ((mss * alpha) >> 10)).min(CWND_MAX);
        }
        let ahead = now.wrapping_sub(self.epoch) + round_trip;
        let target = self.w_cubic(ahead, mss).max(self.w_est);
        let growth = target.clamp(cwnd, cwnd + cwnd / 2) - cwnd;
        self.step = match growth {
            0 => u32::MAX,
            _ => (u64::from(cwnd) * u64::from(mss) / u64::from(growth)).min(1 << 31) as u32,
        };
        self.round_end = connection.snd_nxt;
        self.round_at = now;
    }

    fn begin_epoch(&mut self, cwnd: u32, mss: u32, now: u32) {
        self.epoch = now;
        self.w_est = cwnd;
        self.w_max = self.w_max.max(cwnd);
        let missing = u64::from(self.w_max - cwnd) << 30;
        self.k = cube_root((missing / (u64::from(mss) * C_40)) << 10);
    }

    /// The window at a time since the epoch (RFC 9438 4.2): C * (t - K)^3 + W_max.
    fn w_cubic(&self, time: u32, mss: u32) -> u32 {
        // Beyond a minute the bound on growth per round trip is what counts.
        let distance = u64::from(time.abs_diff(self.k).min(1 << 16));
        let cube = (distance * distance * distance) >> 10;
        let bytes = ((cube * C_40 * u64::from(mss)) >> 30).min(u64::from(CWND_MAX)) as u32;
        match time < self.k {
            true => self.w_max.saturating_sub(bytes),
            false => (self.w_max + bytes).min(CWND_MAX),
        }
    }
}

fn part(of: u32, numerator: u64, denominator: u64) -> u32 {
    (u64::from(of) * numerator / denominator) as u32
}

/// The largest number whose cube is not above `cube`, bit by bit.
fn cube_root(cube: u64) -> u32 {
    let mut root = 0u64;
    for bit in (0..21).rev() {
        let next = root | 1 << bit;
        if next * next * next <= cube {
            root = next;
        }
    }
    root as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::connections::Connections;

    const MSS: u32 = 1460;
    const ROUND: u64 = 100_000_000;

    /// Windows in segments, round trip by round trip, after a loss at `peak` segments.
    fn windows(peak: u32, rounds: usize) -> alloc::vec::Vec<u32> {
        let mut connections = Connections::with_slots(1);
        let index = connections.take().unwrap();
        let connection = &mut connections[index];
        connection.mss = MSS as u16;
        connection.srtt8 = (ROUND >> 10) as u32 * 8;
        let mut cubic = Cubic::new();
        connection.cwnd = cubic.reduce(peak * MSS, peak * MSS);
        let mut now = Instant(1 << 40);
        (0..rounds)
            .map(|_| {
                connection.snd_nxt += connection.cwnd;
                // One acknowledgement for every other segment.
                while connection.snd_una.lt(connection.snd_nxt) {
                    let acked = (connection.snd_nxt - connection.snd_una).min(2 * MSS);
                    connection.snd_una += acked;
                    cubic.grow(connection, acked, now);
                }
                now.0 += ROUND;
                connection.cwnd / MSS
            })
            .collect()
    }

    #[test]
    fn window_is_back_after_k_and_flat_around_it() {
        // K = cbrt(1000 * 0.3 / 0.4) = 9.09 s, 91 round trips of 100 ms.
        let windows = windows(1000, 150);
        assert!(windows[0] >= 700 && windows[0] < 730, "{windows:?}");
        let back = windows.iter().position(|window| *window >= 995).unwrap();
        assert!((60..=92).contains(&back), "{back} {windows:?}");
        // 0.4 * 5^3 = 50 segments more after five seconds more.
        assert!((1030..=1070).contains(&windows[141]), "{windows:?}");
        assert!(windows.windows(2).all(|pair| pair[0] <= pair[1]));
    }

    #[test]
    fn small_window_grows_as_fast_as_renos_would() {
        // At 20 segments the cubic alone would need 2.5 s; Reno's estimate 6 / 0.53 rounds.
        let windows = windows(20, 30);
        let back = windows.iter().position(|window| *window >= 20).unwrap();
        assert!((9..=14).contains(&back), "{back} {windows:?}");
    }

    #[test]
    fn second_loss_below_the_old_window_makes_room() {
        let mut cubic = Cubic::new();
        assert_eq!(cubic.reduce(100_000, 100_000), 70_000);
        assert_eq!(cubic.w_max, 100_000);
        assert_eq!(cubic.reduce(80_000, 80_000), 56_000);
        assert_eq!(cubic.w_max, 68_000);
    }

    #[test]
    fn cube_roots_are_exact() {
        for root in [0u64, 1, 2, 9, 1000, 65_535, 1 << 20] {
            assert_eq!(cube_root(root.pow(3)), root as u32);
            assert_eq!(cube_root((root + 1).pow(3) - 1), root as u32);
        }
    }

    #[test]
    fn extremes_neither_overflow_nor_run_away() {
        let mut cubic = Cubic::new();
        cubic.reduce(CWND_MAX, CWND_MAX);
        cubic.begin_epoch(88, 88, u32::MAX);
        for time in [0, 1, 1 << 16, 1 << 31, u32::MAX] {
            for mss in [88, 8960] {
                assert!(cubic.w_cubic(time, mss) <= CWND_MAX);
            }
        }
    }
}
