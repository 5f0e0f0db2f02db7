//! Congestion control: how the congestion window grows, and what loss and marks do to it. What an
//! algorithm remembers of a connection is in the connection.

use crate::config::CongestionControl;
use crate::seq::Seq;
use crate::tcp::connection::{Connection, Recovery};
use crate::tcp::cubic::Cubic;
use crate::tcp::dctcp::Dctcp;
use ix_hal::Instant;

/// Most bytes in a congestion window.
pub(crate) const CWND_MAX: u32 = 1 << 30;

/// The algorithm of a connection with its state.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Control {
    /// RFC 5681 and 6582.
    NewReno,
    /// RFC 9438.
    Cubic(Cubic),
    /// RFC 8257.
    Dctcp(Dctcp),
}

impl Control {
    /// The state of a new connection.
    pub fn new(algorithm: CongestionControl) -> Self {
        match algorithm {
            CongestionControl::NewReno => Self::NewReno,
            CongestionControl::Cubic => Self::Cubic(Cubic::new()),
            CongestionControl::Dctcp => Self::Dctcp(Dctcp::new()),
        }
    }
}

impl Connection {
    /// New data was acknowledged while no loss is known. `flight` is what was in flight before.
    #[inline]
    pub(crate) fn grow_window(&mut self, acked: u32, flight: u32, now: Instant) {
        if self.uses_window(flight) {
            self.grow_used_window(acked, flight, now);
        }
    }

    /// Whether that much in flight makes use of the window. One that was not used says nothing about the
    /// path: it does not grow (RFC 7661).
    #[inline]
    pub(crate) fn uses_window(&self, flight: u32) -> bool {
        flight * 2 > self.cwnd
    }

    #[inline(never)]
    fn grow_used_window(&mut self, acked: u32, flight: u32, now: Instant) {
        if let Control::Dctcp(dctcp) = &mut self.control {
            dctcp.roll_window(self.snd_una, self.snd_nxt);
        }
        if self.cwnd < self.ssthresh {
            // Slow start counts all bytes acknowledged (RFC 3465 with no limit L, as RFC 9438 does):
            // a peer that works in batches acknowledges a whole batch at once. After a timeout that
            // may be what had arrived long before (RFC 3465 2.3).
            let counted = match self.recovery {
                Recovery::Open => acked,
                _ => acked.min(self.mss.into()),
            };
            self.cwnd = (self.cwnd + counted).min(self.ssthresh).min(CWND_MAX);
            return;
        }
        if flight + u32::from(self.mss) <= self.cwnd {
            return;
        }
        match self.control {
            Control::Cubic(mut cubic) => {
                cubic.grow(self, acked, now);
                self.control = Control::Cubic(cubic);
            }
            Control::NewReno | Control::Dctcp(_) => self.grow_by_one_per_window(acked),
        }
    }

    /// RFC 5681 3.1: a segment more for each window acknowledged.
    fn grow_by_one_per_window(&mut self, acked: u32) {
        self.cwnd_credit += acked;
        if self.cwnd_credit >= self.cwnd {
            self.cwnd_credit -= self.cwnd;
            self.cwnd = (self.cwnd + u32::from(self.mss)).min(CWND_MAX);
        }
    }

    /// What CUBIC would lose by a reduction.
    pub(crate) fn w_max(&self) -> u32 {
        match self.control {
            Control::Cubic(cubic) => cubic.w_max(),
            Control::NewReno | Control::Dctcp(_) => 0,
        }
    }

    /// A reduction is undone: CUBIC remembers what it did before (RFC 9438 4.9).
    pub(crate) fn restore_w_max(&mut self, w_max: u32) {
        if let Control::Cubic(cubic) = &mut self.control {
            cubic.restore(w_max);
        }
    }

    /// Loss was found while `flight` bytes were under way: sets `ssthresh` (RFC 5681 3.2, RFC 9438
    /// 4.6, RFC 8257 3.5).
    pub(crate) fn reduce_for_loss(&mut self, flight: u32) {
        let ssthresh = match self.control {
            Control::Cubic(mut cubic) => {
                let ssthresh = cubic.reduce(self.cwnd, flight);
                self.control = Control::Cubic(cubic);
                ssthresh
            }
            Control::NewReno | Control::Dctcp(_) => flight / 2,
        };
        self.ssthresh = ssthresh.max(2 * u32::from(self.mss));
    }

    /// The network marked a segment: sets `ssthresh`. As for loss, but DCTCP looks at how many
    /// were marked.
    pub(crate) fn reduce_for_mark(&mut self) {
        match self.control {
            Control::Dctcp(dctcp) => {
                let ssthresh = dctcp.reduce(self.cwnd);
                self.ssthresh = ssthresh.max(2 * u32::from(self.mss));
            }
            _ => self.reduce_for_loss(self.in_flight()),
        }
    }

    /// `acked` bytes up to `ack` are acknowledged with the echo of a mark.
    pub(crate) fn count_marked(&mut self, ack: Seq, acked: u32) {
        let next = self.snd_nxt;
        if let Control::Dctcp(dctcp) = &mut self.control {
            dctcp.count_marked(acked);
            dctcp.roll_window(ack, next);
        }
    }
}
