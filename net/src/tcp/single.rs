//! The send queue as a request and its response see it: one piece of memory, sent in one segment and
//! acknowledged as a whole. Such a piece is kept in the connection, and a record of the shared pool is
//! only promised to it. The fast path (`fast`) deals with it there.
//!
//! Everybody else knows queues of records. So every other way to a connection's queue makes a record of
//! the piece first ([`Connection::file_single`]): a segment that was not predicted, an expired timer,
//! output that the fast path leaves, a call that finds data queued, and a move to another thread.

use crate::engine::Local;
use crate::records::{NONE, SendFlags, SendRecord, SendRecords};
use crate::tcp::connection::Connection;
use crate::tcp::input::micros;
use crate::wheel::NEVER;
use ix_hal::{Fragment, Instant};

impl Connection {
    /// Whether nothing is queued, sent or not.
    #[inline]
    pub(crate) fn is_queue_empty(&self) -> bool {
        self.send_head == NONE && !self.has_single()
    }

    /// Whether there is a single piece.
    #[inline]
    pub(crate) fn has_single(&self) -> bool {
        self.single_unsent | self.single_sent != 0
    }

    /// Queues a piece where nothing is queued; a record was promised.
    #[inline(always)]
    pub(crate) fn queue_single(&mut self, piece: Fragment) {
        self.single_bus = piece.bus;
        self.single_unsent = piece.len;
        self.snd_end += piece.len;
    }

    /// Takes note that the single piece was sent.
    #[inline(always)]
    pub(crate) fn single_was_sent(&mut self) {
        self.single_sent = self.single_unsent;
        self.single_unsent = 0;
    }

    /// What `acknowledge` does, where the single piece is acknowledged and the congestion window does not
    /// grow. As the piece was filed when a timer went off, there is no loss and no backoff.
    #[inline(always)]
    pub(crate) fn acknowledge_single(
        &mut self,
        records: &mut SendRecords,
        local: &Local,
        now: Instant,
    ) {
        self.single_sent = 0;
        records.forgo_promise();
        let sent_at = (self.sent_at >> 10) as u32;
        self.take_further_rtt(micros(now).wrapping_sub(sent_at), local.rto_min);
        self.snd_una = self.snd_nxt;
        self.rto_deadline = NEVER;
    }

    /// Makes a record of the single piece, if there is one.
    #[inline]
    pub(crate) fn file_single(&mut self, records: &mut SendRecords) {
        if self.has_single() {
            self.file_piece(records);
        }
    }

    #[inline(never)]
    fn file_piece(&mut self, records: &mut SendRecords) {
        let len = self.single_unsent + self.single_sent;
        let record = records.keep_promise(SendRecord {
            bus: self.single_bus,
            len,
            next: NONE,
            seq: self.snd_end - len,
            sent_at: (self.sent_at >> 10) as u32,
            flags: SendFlags::empty(),
        });
        self.send_head = record;
        self.send_tail = record;
        self.send_cursor = match self.single_unsent {
            0 => NONE,
            _ => record,
        };
        self.single_unsent = 0;
        self.single_sent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seq::Seq;
    use crate::tcp::connections::Connections;

    const PIECE: Fragment = Fragment {
        bus: 0x1000,
        len: 40,
    };

    #[test]
    fn filed_piece_is_the_record_that_it_would_have_been() {
        let mut records = SendRecords::new(64);
        let mut connections = Connections::with_slots(1);
        let index = connections.take().unwrap();
        let connection = &mut connections[index];
        connection.set_iss(Seq(99));
        connection.snd_una = Seq(100);
        connection.snd_nxt = Seq(100);
        for is_sent in [false, true] {
            records.promise();
            connection.queue_single(PIECE);
            if is_sent {
                connection.single_was_sent();
                connection.snd_nxt += 40;
                connection.sent_at = 7 << 10;
            }
            assert!(!connection.is_queue_empty());
            connection.file_single(&mut records);
            assert!(!connection.has_single() && !connection.is_queue_empty());
            assert_eq!(records.available(), records.capacity() - 1);
            let head = connection.send_head;
            assert_eq!(connection.send_tail, head);
            assert_eq!(connection.send_cursor == NONE, is_sent);
            let record = *records.get(head);
            assert_eq!((record.bus, record.len), (0x1000, 40));
            assert_eq!(record.seq, connection.snd_una);
            assert_eq!(record.sent_at, if is_sent { 7 } else { 0 });
            assert!(record.next == NONE && record.flags.is_empty());
            records.release(head);
            connection.send_head = NONE;
            connection.send_tail = NONE;
            connection.send_cursor = NONE;
            connection.snd_end = connection.snd_una;
        }
    }

    #[test]
    fn promised_record_is_there_when_all_others_are_taken() {
        let mut records = SendRecords::new(64);
        records.promise();
        let mut taken = NONE;
        while let Some(record) = records.queue(0, 2000, Seq(0)) {
            taken = record;
        }
        while records.cut(taken, 1) {
            taken = records.get(taken).next;
        }
        assert_eq!(records.available(), 0);
        let mut connections = Connections::with_slots(1);
        let index = connections.take().unwrap();
        connections[index].queue_single(PIECE);
        connections[index].file_single(&mut records);
        let head = connections[index].send_head;
        assert_eq!((records.get(head).bus, records.get(head).len), (0x1000, 40));
    }
}
