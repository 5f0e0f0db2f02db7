//! The header of an outgoing segment: a template per connection, a copy of it with what changes
//! filled in; and the receive window that it announces.

use crate::engine::Local;
use crate::seq::Seq;
use crate::tcp::connection::{Connection, Flags, TEMPLATE_BYTES};
use crate::wheel::NEVER;
use crate::wire::{TCP_HEADERS, TIMESTAMPS_PADDED, TcpHeader, control, put16, put32};
use ix_hal::{HEADER_ROOM, Instant};

impl Connection {
    /// Writes the parts of the header template that stay the same.
    pub(crate) fn build_template(&mut self, mac: [u8; 6], address: u32) {
        let remote = self.key.remote.ipv4().unwrap_or(0);
        let header = TcpHeader {
            source_mac: mac,
            destination_mac: [0; 6],
            source: address,
            destination: remote,
            source_port: self.key.local_port(),
            destination_port: self.key.remote_port(),
            seq: Seq(0),
            ack: Seq(0),
            control: control::ACK,
            window: 0,
        };
        let options_len = match self.flags.contains(Flags::TIMESTAMPS) {
            true => 12,
            false => 0,
        };
        header.emit(&mut self.template, options_len, 0);
        put32(&mut self.template, TCP_HEADERS, TIMESTAMPS_PADDED);
        self.template_len = (TCP_HEADERS + options_len) as u8;
        self.pseudo_sum = crate::wire::pseudo_sum(address, remote);
        self.neighbor_epoch = 0;
    }

    /// Copies the template and fills in what changes; returns the header's length.
    #[inline(always)]
    pub(crate) fn fill_header(
        &self,
        room: &mut [u8; HEADER_ROOM],
        now: Instant,
        seq: Seq,
        control: u8,
        payload: u32,
    ) -> u16 {
        room[..TEMPLATE_BYTES].copy_from_slice(&self.template);
        let header_len = u32::from(self.template_len);
        // The segment is the frame without its first 34 bytes, the IP packet has 20 of them.
        let segment_len = header_len + payload - 34;
        put16(room, 16, (segment_len + 20) as u16);
        put32(room, 38, seq.0);
        put32(room, 42, self.rcv_nxt.0);
        room[47] = control;
        put16(room, 48, self.window_field());
        put16(room, 50, fold_once(self.pseudo_sum + segment_len));
        if self.flags.contains(Flags::TIMESTAMPS) {
            put32(room, TCP_HEADERS + 4, self.timestamp(now));
            put32(room, TCP_HEADERS + 8, self.ts_recent);
        }
        header_len as u16
    }

    /// Turns a header into that of segments whose lengths the device fills in.
    pub(crate) fn leave_length_out(&self, room: &mut [u8; HEADER_ROOM]) {
        put16(room, 16, 0);
        put16(room, 50, fold_once(self.pseudo_sum));
    }

    /// A segment went out, and with it all acknowledgement that was owed; removes `also` too.
    #[inline]
    pub(crate) fn acknowledged(&mut self, also: Flags) {
        self.flags.remove(Flags::ACK_OWED | Flags::ACK_NOW | also);
        self.rcv_acked = self.rcv_nxt;
        self.ack_deadline = NEVER;
    }

    /// Our timestamp: milliseconds, nearly, with an offset that outsiders do not know.
    #[inline]
    pub(crate) fn timestamp(&self, now: Instant) -> u32 {
        ((now.0 >> 20) as u32).wrapping_add(self.ts_offset)
    }

    /// The window field for the window that is open.
    #[inline]
    fn window_field(&self) -> u16 {
        let open = self.rcv_adv - self.rcv_nxt;
        // Rounded up, so that scaling never takes back what was offered.
        let field = (open + (1 << self.rcv_scale) - 1) >> self.rcv_scale;
        field.min(0xffff) as u16
    }

    /// Opens the receive window by what the application gave back, if that is worth it (RFC 9293
    /// 3.8.6.2.2).
    #[inline(always)]
    pub(crate) fn open_window(&mut self, local: &Local) {
        if self.window_gain(local, local.window_step) {
            self.rcv_adv = self.rcv_nxt + self.receive_room(local.rx_window, local.rx_mbufs);
        }
    }

    /// Whether the right edge of the window could move by at least `worth`.
    #[inline(always)]
    pub(crate) fn window_gain(&self, local: &Local, worth: u32) -> bool {
        let open = self.rcv_adv - self.rcv_nxt;
        // Mostly it is as open as it can be.
        open + worth <= local.rx_window
            && open + worth <= self.receive_room(local.rx_window, local.rx_mbufs)
    }

    /// Bytes that may still come, by what is held.
    #[inline]
    pub(crate) fn receive_room(&self, rx_window: u32, rx_mbufs: u16) -> u32 {
        let by_bytes = rx_window.saturating_sub(self.rx_owed);
        let by_count = u32::from(rx_mbufs.saturating_sub(self.rx_held)) * u32::from(self.rcv_mss);
        let largest = 0xffff << self.rcv_scale;
        by_bytes.min(by_count).min(largest)
    }

    /// After a long silence the network is no longer known: start over (RFC 5681 4.1).
    #[inline]
    pub(crate) fn restart_if_idle(&mut self, now: Instant, initial_window: u16) {
        let initial = u32::from(self.mss) * u32::from(initial_window);
        if self.cwnd > initial && now.0.saturating_sub(self.sent_at) > self.rto {
            self.cwnd = initial;
        }
    }
}

/// Folds the sum of two 16-bit numbers.
#[inline]
fn fold_once(sum: u32) -> u16 {
    ((sum >> 16) + (sum & 0xffff)) as u16
}
