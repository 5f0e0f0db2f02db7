//! Paths that eat what is too long without a word (RFC 2923 2.1): after two timeouts in a row for a long
//! segment the next ones are shorter, step by step. Progress proves nothing yet, since the path may only
//! have been down. So the first full-sized segment that there is data for afterwards leaves at the old
//! size, as a probe (RFC 4821 7): if it arrives, segments are as long as before, and if it is lost, the
//! path is remembered as narrow. If even the shortest segments are lost, size is not what matters.

use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::icmp_error::{TIMESTAMPS, headers};
use crate::records::{NONE, SendFlags};
use crate::tcp::connection::{Connection, Flags, Recovery};
use crate::tcp::output::Attempt;
use ix_hal::{Instant, Transmit};

/// Timeouts in a row that raise the suspicion.
const TIMEOUTS: u8 = 2;
/// Sizes of IP packet that are tried, one for each further timeout. Below, a datagram of 576 bytes is
/// what everybody takes (RFC 1122 3.3.3), and over IPv6 one of 1280.
const STEPS: [u16; 6] = [4352, 1500, 1400, 1280, 1006, 576];

impl Engine {
    /// The retransmission timer has gone off: makes segments shorter if their length may be the reason.
    pub(crate) fn suspect_black_hole(&mut self, index: u32) {
        let connection = &mut self.connections[index];
        if connection.backoff < TIMEOUTS || connection.send_head == connection.send_cursor {
            return;
        }
        let len = self.send_records.get(connection.send_head).len;
        match connection.next_step() {
            Some(mss) if len > u32::from(mss) => {
                if connection.wide_mss == 0 {
                    connection.wide_mss = connection.mss;
                    self.counters.tcp_black_holes_suspected += 1;
                }
                connection.mss = mss;
            }
            // Not every time again: a series that goes on has another reason.
            _ if connection.wide_mss != 0 => {
                connection.forgive_path();
                self.counters.tcp_black_holes_refuted += 1;
            }
            _ => {}
        }
    }

    /// There was progress with shorter segments: the old size is to be probed.
    pub(crate) fn doubt_black_hole(&mut self, index: u32) {
        let connection = &mut self.connections[index];
        if connection.wide_mss != 0 {
            connection.flags.insert(Flags::SIZE_PROBE_DUE);
        }
    }

    /// Sends the next data as one segment of the old size, if there is so much and it may leave now;
    /// `false` if the TX ring is full.
    #[cold]
    pub(crate) fn probe_path_size<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
    ) -> bool {
        let connection = &mut self.connections[index];
        let len = u32::from(connection.wide_mss);
        let flight = connection.in_flight();
        let window = connection.snd_wnd.saturating_sub(flight);
        let congestion = connection.cwnd.saturating_sub(connection.pipe());
        let unsent = connection.snd_end - connection.snd_nxt;
        if connection.recovery != Recovery::Open
            || len == 0
            || connection.send_cursor == NONE
            || len > unsent.min(window).min(congestion)
        {
            return true;
        }
        let (record, mss) = (connection.send_cursor, connection.mss);
        // What is longer than a segment would be for the device to cut.
        connection.mss = connection.wide_mss;
        let attempt = self.send_new_data(cx, index, len);
        self.connections[index].mss = mss;
        if attempt != Attempt::Sent {
            return attempt != Attempt::RingFull;
        }
        self.connections[index].flags.remove(Flags::SIZE_PROBE_DUE);
        let mut at = record;
        while at != self.connections[index].send_cursor {
            let record = self.send_records.get_mut(at);
            record.flags.insert(SendFlags::SIZE_PROBE);
            at = record.next;
        }
        true
    }

    /// The probe was lost while shorter segments arrived: the path is narrow.
    #[cold]
    pub(crate) fn confirm_black_hole(&mut self, now: Instant, index: u32) {
        let connection = &mut self.connections[index];
        if connection.wide_mss == 0 {
            return;
        }
        connection.wide_mss = 0;
        connection.flags.remove(Flags::SIZE_PROBE_DUE);
        let (remote, mtu) = (
            connection.key.remote,
            connection.segment_mtu(connection.mss),
        );
        self.path_mtus.learn(now, remote, mtu);
        self.counters.tcp_size_probes_failed += 1;
    }
}

impl Connection {
    /// The segment size to try next.
    fn next_step(&self) -> Option<u16> {
        let least = match self.key.remote.ipv4() {
            Some(_) => 0,
            None => crate::ipv6::header::LEAST_MTU,
        };
        let mtu = self.segment_mtu(self.mss);
        let step = STEPS.into_iter().find(|&step| step < mtu);
        step.filter(|&step| step >= least)
            .map(|step| step - (mtu - self.mss))
    }

    /// The IP packet that a segment with so much payload makes.
    fn segment_mtu(&self, mss: u16) -> u16 {
        let options = match self.flags.contains(Flags::TIMESTAMPS) {
            true => TIMESTAMPS,
            false => 0,
        };
        mss + headers(self.key.remote) + options
    }

    /// The size of segments was not the reason.
    pub(crate) fn forgive_path(&mut self) {
        if self.wide_mss != 0 {
            self.mss = self.wide_mss;
            self.wide_mss = 0;
            self.flags.remove(Flags::SIZE_PROBE_DUE);
        }
    }
}
