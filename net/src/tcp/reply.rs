//! Segments that answer without a connection: RST for strangers, ACK out of TIME-WAIT. They go
//! back to the station that the question came from, so that they need no neighbour lookup and no
//! memory.

use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::seq::Seq;
use crate::wire::{Segment, TcpHeader, control};
use ix_hal::{Transmit, TxFrame};

/// The numbers of an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    pub seq: Seq,
    pub ack: Seq,
    pub control: u8,
    pub window: u16,
}

impl Engine {
    /// Answers a segment that has no connection with RST (RFC 9293 3.5.2, group 1 and 2).
    pub(crate) fn reset_stranger<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        segment: &Segment<'_>,
    ) {
        let is_host = self.is_host(segment.key.remote);
        if segment.has(control::RST) || !is_host {
            return;
        }
        if !self.reset_limit.allows(cx.now) {
            self.counters.tcp_resets_limited += 1;
            return;
        }
        let answer = match segment.has(control::ACK) {
            true => Answer {
                seq: segment.ack,
                ack: Seq(0),
                control: control::RST,
                window: 0,
            },
            false => Answer {
                seq: Seq(0),
                ack: segment.seq + segment.sequence_len(),
                control: control::RST | control::ACK,
                window: 0,
            },
        };
        if self.answer(cx, segment, answer, &[]) {
            self.counters.tcp_out_resets += 1;
        }
    }

    /// Sends a segment back to where another came from; `options` is a multiple of 4 bytes.
    pub(crate) fn answer<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        segment: &Segment<'_>,
        answer: Answer,
        options: &[u8],
    ) -> bool {
        let (Some(room), Some(ethernet)) = (cx.tx.header(), segment.frame.first_chunk::<12>())
        else {
            self.counters.tx_full_drops += 1;
            return false;
        };
        let mut destination_mac = [0; 6];
        destination_mac.copy_from_slice(&ethernet[6..]);
        let header = TcpHeader {
            source_mac: self.local.mac,
            destination_mac,
            source: segment.destination(),
            destination: segment.key.remote,
            source_port: segment.key.local_port(),
            destination_port: segment.key.remote_port(),
            seq: answer.seq,
            ack: answer.ack,
            control: answer.control,
            window: answer.window,
        };
        let end = header.emit(room, options.len(), 0);
        room[end..end + options.len()].copy_from_slice(options);
        cx.tx.send(&TxFrame {
            header_len: (end + options.len()) as u16,
            fragments: &[],
            checksum: header.checksum(),
            segment_size: 0,
            release: None,
        });
        self.counters.tcp_out_segments += 1;
        true
    }
}
