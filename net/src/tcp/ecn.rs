//! Explicit congestion notification (RFC 3168): what the network marks is echoed to the sender, and
//! what the peer echoes makes the congestion window smaller, once per window of data.
//!
//! Only new data is sent as ECN-capable. As long as a mark is to be echoed or a reduction to be
//! announced, `Slow::ECN` keeps a connection off the fast path, which knows nothing of all this.

use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::seq::Seq;
use crate::tcp::congestion::Control;
use crate::tcp::connection::{Connection, Flags, Recovery, Slow};
use crate::wire::{Segment, control};
use ix_hal::Transmit;

/// Where in a frame the byte is that holds the codepoint: last in the traffic class of IPv4, and in
/// the high half of the byte where that of IPv6 ends.
const TRAFFIC_CLASS: usize = 15;
/// ECT(0) in it, by family.
const CAPABLE: u8 = 2;
const CAPABLE6: u8 = 2 << 4;

impl Engine {
    /// The receiving half: takes note of a mark, and of the peer's reduction, before the payload of
    /// an acceptable segment is taken in.
    pub(crate) fn ecn_received<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        segment: &Segment<'_>,
    ) {
        let connection = &mut self.connections[index];
        if !connection.flags.contains(Flags::ECN) {
            return;
        }
        let is_marked = segment.len != 0 && segment.is_marked();
        self.counters.tcp_in_marked += u64::from(is_marked);
        match connection.control {
            Control::Dctcp(_) if segment.len == 0 => return,
            Control::Dctcp(_) => {
                // The echo says exactly which bytes were marked: those before are acknowledged with
                // what was true of them (RFC 8257 3.2).
                let has_changed = is_marked != connection.flags.contains(Flags::ECN_ECHO);
                if has_changed && connection.flags.contains(Flags::ACK_OWED) {
                    self.ack_now(cx, index);
                }
                self.connections[index]
                    .flags
                    .set(Flags::ECN_ECHO, is_marked);
            }
            _ => {
                if segment.has(control::CWR) {
                    connection.flags.remove(Flags::ECN_ECHO);
                }
                if is_marked {
                    connection.flags.insert(Flags::ECN_ECHO);
                }
            }
        }
        self.connections[index].update_ecn();
    }

    /// The sending half: the peer echoes a mark in an acknowledgement of `acked` new bytes.
    pub(crate) fn ecn_echoed(&mut self, index: u32, ack: Seq, acked: u32) {
        let connection = &mut self.connections[index];
        if !connection.flags.contains(Flags::ECN) {
            return;
        }
        self.counters.tcp_delivered_marked += u64::from(acked != 0);
        // What is acknowledged with an echo lets nothing grow.
        connection.cwnd_credit = 0;
        // Once per window, and loss has its own reduction (RFC 3168 6.1.2).
        // The echo goes on until the peer has heard of the reduction.
        let is_known = connection.flags.contains(Flags::ECN_REDUCED);
        if connection.recovery != Recovery::Open || is_known || ack.lt(connection.ecn_round) {
            return;
        }
        connection.ecn_round = connection.snd_nxt;
        connection.reduce_for_mark();
        connection.cwnd = connection.cwnd.min(connection.ssthresh);
        connection.flags.insert(Flags::ECN_REDUCED);
        connection.update_ecn();
        self.counters.tcp_ecn_reductions += 1;
    }
}

impl Connection {
    /// Settles, once the peer's SYN is in, whether ECN is used (RFC 3168 6.1.1): a SYN asks with both
    /// bits, a SYN-ACK agrees with one.
    pub(crate) fn agree_on_ecn(&mut self, control: u8) {
        let bits = control & (control::ECE | control::CWR);
        let is_agreed = match control & control::ACK {
            0 => bits == control::ECE | control::CWR,
            _ => bits == control::ECE,
        };
        if !is_agreed {
            self.flags.remove(Flags::ECN);
        }
        self.ecn_round = self.iss;
    }

    /// Marks the header template as ECN-capable, if it is.
    pub(crate) fn mark_template(&mut self) {
        if self.flags.contains(Flags::ECN) {
            self.template[TRAFFIC_CLASS] |= match self.is_ipv6() {
                false => CAPABLE,
                true => CAPABLE6,
            };
        }
    }

    /// The control bits that ECN adds to a segment.
    #[inline]
    pub(crate) fn ecn_control(&mut self, is_new_data: bool) -> u8 {
        if !self.slow.contains(Slow::ECN) {
            return 0;
        }
        let mut bits = match self.flags.contains(Flags::ECN_ECHO) {
            true => control::ECE,
            false => 0,
        };
        if is_new_data && self.flags.contains(Flags::ECN_REDUCED) {
            self.flags.remove(Flags::ECN_REDUCED);
            // Only what is echoed behind this segment is news.
            self.ecn_round = self.snd_nxt + 1;
            self.update_ecn();
            bits |= control::CWR;
        }
        bits
    }

    /// Whether the window was reduced for a mark in the window of data that is in flight.
    pub(crate) fn is_reduced_for_ecn(&self) -> bool {
        self.flags.contains(Flags::ECN) && self.snd_una.lt(self.ecn_round)
    }

    fn update_ecn(&mut self) {
        let is_busy = self.flags.intersects(Flags::ECN_ECHO | Flags::ECN_REDUCED);
        self.slow.set(Slow::ECN, is_busy);
    }
}

/// Takes the mark of ECN capability off a header, of which we set no other bits there.
pub(crate) fn unmark(room: &mut [u8]) {
    room[TRAFFIC_CLASS] &= !(CAPABLE | CAPABLE6);
}
