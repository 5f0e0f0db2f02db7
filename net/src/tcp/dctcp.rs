//! DCTCP (RFC 8257): the window shrinks in proportion to the share of bytes that the network marked.
//!
//! Only marked bytes are counted; all bytes of a window are a difference of sequence numbers. A
//! window is only looked at when it was used or marked, so that a connection that sends little may
//! take several for one: `alpha` then falls more slowly than it could, which is on the safe side.

use crate::seq::Seq;

/// One, as `alpha` counts.
const ONE: u32 = 1024;
/// `alpha` follows the marked share with the weight 1/16 (RFC 8257 4.2).
const GAIN_SHIFT: u32 = 4;

/// What DCTCP remembers of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dctcp {
    /// Estimate of the share of bytes that are marked.
    alpha: u32,
    /// Marked bytes in this window.
    marked: u32,
    window_start: Seq,
    /// The window is over when this is acknowledged; none has begun yet if that is the start.
    window_end: Seq,
}

impl Dctcp {
    /// A new connection's: the first mark counts in full (RFC 8257 4.2).
    pub fn new() -> Self {
        Self {
            alpha: ONE,
            marked: 0,
            window_start: Seq(0),
            window_end: Seq(0),
        }
    }

    /// So many bytes more were marked.
    pub fn count_marked(&mut self, bytes: u32) {
        self.marked = self.marked.saturating_add(bytes);
    }

    /// Everything up to `ack` is acknowledged: if that ends a window, the next begins, which ends
    /// with `next` (RFC 8257 3.3).
    pub fn roll_window(&mut self, ack: Seq, next: Seq) {
        let is_first = self.window_start == self.window_end;
        if !is_first {
            if ack.lt(self.window_end) {
                return;
            }
            let all = u64::from(ack - self.window_start).max(1);
            let share = (u64::from(self.marked) * u64::from(ONE) / all).min(ONE.into()) as u32;
            // Rounded up, so that it can reach zero.
            let decay = self.alpha.div_ceil(1 << GAIN_SHIFT);
            self.alpha = (self.alpha - decay + (share >> GAIN_SHIFT)).min(ONE);
            self.marked = 0;
        }
        self.window_start = ack;
        self.window_end = next;
    }

    /// The window after a mark: cwnd * (1 - alpha / 2).
    pub fn reduce(&self, cwnd: u32) -> u32 {
        cwnd - (u64::from(cwnd) * u64::from(self.alpha) / u64::from(2 * ONE)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `alpha` after windows of 100 kB with a share of marks each.
    fn alpha_after(shares: impl Iterator<Item = u32>) -> u32 {
        let mut dctcp = Dctcp::new();
        let mut at = Seq(u32::MAX - 150_000);
        dctcp.roll_window(at, at + 100_000);
        for percent in shares {
            at += 100_000;
            dctcp.count_marked(1000 * percent);
            dctcp.roll_window(at, at + 100_000);
        }
        dctcp.alpha
    }

    #[test]
    fn alpha_follows_the_share_of_marks() {
        assert_eq!(alpha_after([].into_iter()), ONE);
        assert_eq!(alpha_after((0..200).map(|_| 0)), 0);
        assert!(alpha_after((0..200).map(|_| 100)) >= ONE - 16);
        let quarter = alpha_after((0..200).map(|_| 25));
        assert!(
            (ONE / 4 - 20..=ONE / 4 + 20).contains(&quarter),
            "{quarter}"
        );
    }

    #[test]
    fn reduction_is_in_proportion() {
        let dctcp = |alpha| Dctcp {
            alpha,
            ..Dctcp::new()
        };
        assert_eq!(dctcp(ONE).reduce(100_000), 50_000);
        assert_eq!(dctcp(ONE / 4).reduce(100_000), 87_500);
        assert_eq!(dctcp(0).reduce(100_000), 100_000);
    }
}
