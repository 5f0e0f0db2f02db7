//! What must hold inside of an engine between any two half-cycles: queues without holes, sums that are
//! right, no buffer and no record lost, and a timer or an entry in a queue behind everything that is
//! still to happen. Simulations check it at every step.

use crate::Engine;
use crate::records::{NONE, SendFlags};
use crate::tcp::connection::{Connection, Flags, State};
use crate::wheel::NEVER;
use alloc::format;
use alloc::string::String;

/// What connections hold, all together.
#[derive(Default)]
struct Sums {
    send_records: u32,
    held: u32,
    out_of_order: u32,
    half_open: u32,
}

/// The error text of a condition that does not hold.
macro_rules! ensure {
    ($holds:expr, $($text:tt)*) => {
        if !$holds {
            return Err(format!($($text)*));
        }
    };
}

impl Engine {
    /// Says what does not hold, if anything.
    pub fn check(&self) -> Result<(), String> {
        let mut sums = Sums::default();
        for index in 0..self.config.connections {
            let connection = &self.connections[index];
            if connection.state == State::Free {
                continue;
            }
            let checked = self
                .check_received(connection, &mut sums)
                .and_then(|()| self.check_queued(connection, &mut sums))
                .and_then(|()| self.check_timer(index, connection));
            checked
                .map_err(|wrong| format!("connection {index}, {:?}: {wrong}", connection.state))?;
            sums.half_open += u32::from(connection.flags.contains(Flags::HALF_OPEN));
        }
        let used = self.send_records.capacity() - self.send_records.available();
        let used = used - self.promised_sends;
        let Sums {
            send_records,
            held,
            out_of_order,
            half_open,
        } = sums;
        ensure!(
            used == send_records,
            "{used} send records used, {send_records} queued"
        );
        ensure!(
            self.rx.held == held,
            "{} mbufs held, {held} listed",
            self.rx.held
        );
        ensure!(
            self.rx.out_of_order == out_of_order,
            "{} mbufs out of order, {out_of_order} listed",
            self.rx.out_of_order
        );
        ensure!(
            self.half_open == half_open && half_open <= self.config.half_open,
            "{} half-open connections counted, {half_open} found",
            self.half_open
        );
        let [listed, free] = self.time_waits.counts();
        ensure!(
            listed + free == self.config.time_wait as usize,
            "{listed} entries of TIME-WAIT listed, {free} free"
        );
        Ok(())
    }

    /// Mbufs that connections hold.
    pub fn mbufs_held(&self) -> usize {
        self.rx.held as usize
    }

    fn check_received(&self, connection: &Connection, sums: &mut Sums) -> Result<(), String> {
        let (mut held, mut bytes, mut at, mut last) = (0, 0, connection.rx_head, NONE);
        while at != NONE {
            let record = self.rx.get(at);
            held += 1;
            bytes += u32::from(record.len);
            (last, at) = (at, record.next);
        }
        ensure!(
            last == NONE || last == connection.rx_tail,
            "the receive queue ends elsewhere"
        );
        let owed = connection.rx_owed + u32::from(connection.rx_consumed);
        ensure!(bytes == owed, "{bytes} bytes received, {owed} owed");
        let (mut out_of_order, mut at, mut last) = (0, connection.ofo_head, NONE);
        while at != NONE {
            let record = self.rx.get(at);
            ensure!(
                last == NONE || self.rx.get(last).seq.le(record.seq),
                "out-of-order segments are not sorted"
            );
            out_of_order += 1;
            (last, at) = (at, record.next);
        }
        ensure!(
            last == connection.ofo_tail,
            "the out-of-order queue ends elsewhere"
        );
        ensure!(
            out_of_order == connection.ofo_count && held + out_of_order == connection.rx_held,
            "{held} mbufs in order and {out_of_order} out of order, not {} and {} in all",
            connection.ofo_count,
            connection.rx_held
        );
        if connection.state > State::Knocking && connection.state != State::SynSent {
            let window = connection.rcv_adv - connection.rcv_nxt;
            ensure!(
                window <= self.local.rx_window.max(0xffff),
                "a receive window of {window} bytes"
            );
        }
        sums.held += u32::from(connection.rx_held);
        sums.out_of_order += u32::from(connection.ofo_count);
        Ok(())
    }

    fn check_queued(&self, connection: &Connection, sums: &mut Sums) -> Result<(), String> {
        let start = match connection.state {
            state if state <= State::SynReceived => connection.iss + 1,
            _ => connection.snd_una,
        };
        let (mut next, mut at, mut last) = (start, connection.send_head, NONE);
        let (mut sacked, mut lost, mut cursor) = (0, 0, NONE);
        while at != NONE {
            let record = self.send_records.get(at);
            ensure!(record.len != 0, "an empty send record");
            ensure!(record.seq == next, "a hole in the send queue at {}", next.0);
            if cursor == NONE && record.seq.ge(connection.snd_nxt) {
                cursor = at;
            }
            if record.flags.contains(SendFlags::SACKED) {
                sacked += record.len;
            }
            if record.flags.contains(SendFlags::LOST) {
                lost += record.len;
            }
            next = record.seq + record.len;
            sums.send_records += 1;
            (last, at) = (at, record.next);
        }
        ensure!(
            last == connection.send_tail,
            "the send queue ends elsewhere"
        );
        if connection.state <= State::Dead {
            return Ok(());
        }
        let field = u16::from_be_bytes((connection.snd_wnd_word as u16).to_le_bytes());
        ensure!(
            connection.snd_wnd_word == NONE
                || connection.snd_wnd == u32::from(field) << connection.snd_scale,
            "a send window of {} bytes from a field of {field}",
            connection.snd_wnd
        );
        let is_empty = connection.send_head == NONE;
        if connection.has_single() {
            let (unsent, sent) = (connection.single_unsent, connection.single_sent);
            let ends = (next + sent, next + sent + unsent);
            ensure!(
                is_empty && ends == (connection.snd_nxt, connection.snd_end),
                "a single piece, {unsent} bytes unsent or {sent} sent, is not all that is queued"
            );
            sums.send_records += 1;
        }
        ensure!(
            is_empty || next == connection.snd_end,
            "the send queue ends early"
        );
        ensure!(cursor == connection.send_cursor, "the cursor is misplaced");
        ensure!(
            lost == connection.lost_bytes,
            "{lost} bytes lost, not {}",
            connection.lost_bytes
        );
        // Without SACK the sum is an estimate.
        let has_sack = connection.flags.contains(Flags::SACK);
        ensure!(
            !has_sack || sacked == connection.sacked_bytes,
            "{sacked} bytes sacked, not {}",
            connection.sacked_bytes
        );
        Ok(())
    }

    /// What is still to happen has a timer, or waits for output, a neighbour or records.
    fn check_timer(&self, index: u32, connection: &Connection) -> Result<(), String> {
        if connection.state <= State::Dead {
            return Ok(());
        }
        let deadlines = [
            connection.ack_deadline,
            connection.rack_deadline,
            connection.rto_deadline,
            connection.state_deadline,
        ];
        let earliest = deadlines.into_iter().min().unwrap_or(NEVER);
        // Acknowledgements on the fast path do not look at the wheel, not even if they make the timeout
        // shorter: the timer is late by the difference.
        let is_shorter = earliest == connection.rto_deadline && connection.backoff == 0;
        let late = if is_shorter { connection.rto / 2 } else { 0 };
        ensure!(
            earliest == NEVER || connection.timer_at <= earliest + late || self.wheel.is_due(index),
            "the timer is set for {}, but ACK, RACK, RTO, state are due at {deadlines:?}",
            connection.timer_at
        );
        ensure!(
            connection.timer_at == NEVER || self.wheel.is_armed_by(index, connection.timer_at),
            "the timer is not in the wheel"
        );
        let waits = Flags::LISTED | Flags::AWAITING_NEIGHBOR | Flags::NEIGHBOR_FAILED;
        if connection.flags.intersects(waits) {
            return Ok(());
        }
        ensure!(
            !connection.flags.contains(Flags::DIRTY),
            "something to send is not listed"
        );
        let is_unsent = connection.send_cursor != NONE || connection.single_unsent != 0;
        let is_unsent = is_unsent && connection.state > State::SynReceived;
        let is_handshake = matches!(connection.state, State::SynSent | State::SynReceived);
        let is_asking = is_unsent || is_handshake || connection.in_flight() != 0;
        let has_timer = connection.rto_deadline != NEVER || connection.rack_deadline != NEVER;
        ensure!(
            !is_asking || has_timer,
            "an answer is awaited without a timer"
        );
        // After a neighbour failed, it is the retransmission timer that tries again.
        let owes = connection
            .flags
            .intersects(Flags::ACK_OWED | Flags::ACK_NOW);
        ensure!(
            !owes || connection.ack_deadline != NEVER || connection.rto_deadline != NEVER,
            "an acknowledgement is owed without a timer"
        );
        Ok(())
    }
}
