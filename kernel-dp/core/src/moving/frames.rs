//! Frames that arrive while flow groups move: which of them the engine gets now, which are kept until
//! their connections are here, and which are forwarded to where these went.

use ix_hal::{Instant, MbufMemory, Nic, RxFrame};

use super::taking::Taking;
use super::{FRAMES_KEPT, Message};
use crate::ElasticThread;

/// Bit of the flow group of a frame; none if the NIC computed no hash, because then the redirection
/// table has no part in where it arrives (82599 datasheet 7.1.2.8).
fn group_bit(frame: &RxFrame) -> u128 {
    match frame.rss_hash {
        0 => 0,
        hash => 1 << (hash as usize % ix_abi::control::GROUPS_MAX),
    }
}

impl<N: Nic, M: MbufMemory> ElasticThread<N, M> {
    /// Fills the batch with frames that the engine is to have now, `bound` at most: those whose
    /// groups have arrived, in the order in which they came, then new ones.
    #[cold]
    pub(crate) fn gather(&mut self, now: Instant, bound: usize) -> usize {
        let bound = bound - self.take_handed(now, bound);
        let mut count = 0;
        if !matches!(
            self.mover.taking,
            Taking::Keeping { .. } | Taking::Unpacking { .. }
        ) {
            count = self.replay(bound);
        }
        let room = bound - count;
        let frames = self
            .nic
            .receive(&mut self.batch[count..bound], &mut self.pool);
        let polled = count..count + frames;
        for at in polled {
            let frame = self.batch[at];
            if self.is_for_now(frame) {
                self.batch[count] = frame;
                count += 1;
            }
        }
        if room != 0 {
            self.count_drained(now, frames, room);
        }
        count
    }

    /// Puts frames that have waited into the batch.
    fn replay(&mut self, bound: usize) -> usize {
        let mut count = 0;
        while count < bound
            && let Some(frame) = self.mover.strays.pop_front()
        {
            // It may have come too late, and its group have gone on.
            if self.mover.gone & group_bit(&frame) == 0
                || self.mover.coming() & group_bit(&frame) != 0
            {
                self.batch[count] = frame;
                count += 1;
            } else {
                self.forward(frame);
            }
        }
        while count < bound
            && let Some(frame) = self.mover.kept.pop_front()
        {
            self.batch[count] = frame;
            count += 1;
        }
        if self.mover.strays.is_empty()
            && self.mover.kept.is_empty()
            && matches!(self.mover.taking, Taking::Replaying { .. })
        {
            self.mover.taking = Taking::Nothing;
            // What was just taken out is taken in before the next timers.
            self.mover.timers_from = Instant(0);
        }
        count
    }

    /// Whether the engine is to have a frame now; otherwise it is kept or forwarded.
    fn is_for_now(&mut self, frame: RxFrame) -> bool {
        let group = group_bit(&frame);
        if self.mover.coming() & group != 0 {
            self.keep(frame);
        } else if self.mover.gone & group != 0 {
            self.forward(frame);
        } else {
            return true;
        }
        false
    }

    fn keep(&mut self, frame: RxFrame) {
        if self.mover.kept.len() < FRAMES_KEPT {
            self.counters.frames_kept += 1;
            self.mover.kept.push_back(frame);
        } else {
            self.counters.moving_drops += 1;
            self.pool.give(frame.mbuf);
        }
    }

    fn forward(&mut self, frame: RxFrame) {
        if !self.mover.outbox.has_room() {
            self.counters.moving_drops += 1;
            self.pool.give(frame.mbuf);
            return;
        }
        self.counters.frames_forwarded += 1;
        let group = frame.rss_hash as usize % ix_abi::control::GROUPS_MAX;
        let to = u32::from(self.mover.gone_to[group]);
        let lent = self.pool.disown(frame.mbuf);
        self.mover.outbox.push(to, Message::Stray { lent, frame });
    }
}
