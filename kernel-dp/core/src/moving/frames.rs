//! Frames that arrive while flow groups move: which of them the engine gets now, and which are kept until
//! their connections are here.

use ix_hal::{Instant, MbufMemory, Nic, RxFrame};

use super::FRAMES_KEPT;
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
        let mut count = self.replay(bound);
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
        // What was just taken out is taken in before the next timers.
        self.mover.may_release_timers();
        count
    }

    /// Puts frames that have waited into the batch, as far as their groups have arrived: those come before
    /// all of groups that are still on their way, which were redirected later.
    fn replay(&mut self, bound: usize) -> usize {
        let coming = self.mover.coming();
        let mut count = 0;
        while count < bound
            && let Some(frame) = self.mover.kept.front()
            && coming & group_bit(frame) == 0
            && let Some(frame) = self.mover.kept.pop_front()
        {
            self.batch[count] = frame;
            count += 1;
        }
        count
    }

    /// Whether the engine is to have a frame now; otherwise it is kept.
    fn is_for_now(&mut self, frame: RxFrame) -> bool {
        let is_coming = self.mover.coming() & group_bit(&frame) != 0;
        if is_coming {
            self.keep(frame);
        }
        !is_coming
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
}
