//! What is known of the data in flight. The send records are the scoreboard: a record is in flight,
//! or `SACKED`, or `LOST`; a lost one that is sent again is in flight once more and
//! `RETRANSMITTED`. `sacked_bytes` and `lost_bytes` are the sums, so that RFC 6675's pipe is a
//! subtraction. Without SACK each duplicate acknowledgement counts as one segment sacked, somewhere.
//!
//! A record of many segments is cut as soon as something is known of a part of it.

use crate::engine::Engine;
use crate::records::{SendFlags, SendRecord};
use crate::seq::Seq;
use crate::tcp::connection::{Connection, Flags};

impl Engine {
    /// Marks the records that SACK blocks cover; returns whether any was news.
    pub(crate) fn mark_sacked(&mut self, index: u32, blocks: &[(Seq, Seq)], now: u32) -> bool {
        let mut is_news = false;
        for &(left, right) in blocks {
            let connection = &self.connections[index];
            // A block at or below the acknowledged data is a report of a duplicate (RFC 2883).
            let is_valid =
                left.ge(connection.snd_una) && left.lt(right) && right.le(connection.snd_nxt);
            if is_valid {
                is_news |= self.mark_block_sacked(index, left, right, now);
            }
        }
        is_news
    }

    /// The same for one block. Of a record that it covers in part, the whole segments count.
    fn mark_block_sacked(&mut self, index: u32, left: Seq, right: Seq, now: u32) -> bool {
        let mut is_news = false;
        let mut at = self.connections[index].send_head;
        while at != self.connections[index].send_cursor {
            let record = *self.send_records.get(at);
            let end = record.seq + record.len;
            if record.seq.ge(right) {
                break;
            }
            let is_touched = end.gt(left) && !record.flags.contains(SendFlags::SACKED);
            let is_covered = is_touched
                && match record.seq.lt(left) {
                    true => {
                        // Rounded up: what begins there is looked at next.
                        let mss = u32::from(self.connections[index].mss);
                        self.cut_segments(index, at, left - record.seq + (mss - 1));
                        false
                    }
                    false => end.le(right) || self.cut_segments(index, at, right - record.seq),
                };
            if is_covered {
                self.connections[index].mark_sacked(self.send_records.get_mut(at), now);
                is_news = true;
            }
            at = self.send_records.get(at).next;
        }
        is_news
    }

    /// Marks the first segment that the peer is not known to hold.
    pub(crate) fn mark_first_lost(&mut self, index: u32) {
        let mut at = self.connections[index].send_head;
        while at != self.connections[index].send_cursor {
            let record = self.send_records.get(at);
            if !record.flags.contains(SendFlags::SACKED) {
                if !record.flags.contains(SendFlags::LOST) {
                    let mss = u32::from(self.connections[index].mss);
                    if record.len > mss {
                        // Without a record for the rest all of it counts as lost.
                        self.cut_record(index, at, mss);
                    }
                    let record = self.send_records.get_mut(at);
                    record.flags.insert(SendFlags::LOST);
                    self.connections[index].lost_bytes += record.len;
                }
                return;
            }
            at = record.next;
        }
        let connection = &mut self.connections[index];
        if connection.flags.contains(Flags::FIN_SENT) {
            connection.flags.insert(Flags::FIN_LOST);
        }
    }

    /// After a timeout everything that the peer is not known to hold counts as lost.
    pub(crate) fn mark_all_lost(&mut self, index: u32) {
        let connection = &mut self.connections[index];
        let head = connection.send_head;
        // A peer that holds the first record without acknowledging it has thrown it away (RFC
        // 2018 8).
        let has_reneged = head != connection.send_cursor
            && self
                .send_records
                .get(head)
                .flags
                .contains(SendFlags::SACKED);
        let has_sack = connection.flags.contains(Flags::SACK);
        let mut at = head;
        connection.lost_bytes = 0;
        if has_reneged || !has_sack {
            connection.sacked_bytes = 0;
        }
        while at != connection.send_cursor {
            let record = self.send_records.get_mut(at);
            if has_reneged {
                record.flags.remove(SendFlags::SACKED);
            }
            if !record.flags.contains(SendFlags::SACKED) {
                record.flags.insert(SendFlags::LOST);
                connection.lost_bytes += record.len;
            }
            at = record.next;
        }
        if connection.flags.contains(Flags::FIN_SENT) {
            connection.flags.insert(Flags::FIN_LOST);
        }
    }
}

impl Connection {
    /// The peer holds a record.
    fn mark_sacked(&mut self, record: &mut SendRecord, now: u32) {
        if record.flags.contains(SendFlags::LOST) {
            record.flags.remove(SendFlags::LOST);
            self.lost_bytes -= record.len;
        }
        self.rack_delivered(record, now);
        record.flags.insert(SendFlags::SACKED);
        self.sacked_bytes += record.len;
    }

    /// Takes a record's marks out of the sums, for `len` of its bytes.
    pub(crate) fn forget_marks(&mut self, flags: SendFlags, len: u32) {
        if flags.contains(SendFlags::SACKED) {
            self.sacked_bytes -= len;
        }
        if flags.contains(SendFlags::LOST) {
            self.lost_bytes -= len;
        }
    }
}
