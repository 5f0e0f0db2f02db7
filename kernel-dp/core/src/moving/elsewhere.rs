//! Packets that come to a thread which does not serve their flow group, because the NIC saw no ports
//! in them, or chose the thread before the group moved: they go to the thread that does.

use ix_hal::{Instant, LentMbuf, MbufMemory, Nic};
use ix_net::{Context, Elsewhere};

use super::{FRAMES_KEPT, Message};
use crate::ElasticThread;

impl<N: Nic, M: MbufMemory> ElasticThread<N, M> {
    /// Sends what the engine has set aside to those who serve it.
    pub(crate) fn send_elsewhere(&mut self) {
        while let Some(packet) = self.engine.take_elsewhere() {
            let mbuf = packet.frame.mbuf;
            let Some(crew) = self.mover.crew.as_ref() else {
                self.pool.give(mbuf);
                continue;
            };
            let to = crew.steer.owner(packet.group);
            if to == crew.thread && self.mover.handed.len() < FRAMES_KEPT {
                // The group is on its way to this thread.
                self.mover.handed.push_back(packet);
            } else if to != crew.thread && self.mover.outbox.has_room() {
                self.counters.frames_forwarded += u64::from(packet.frame.rss_hash != 0);
                let lent = self.pool.disown(mbuf);
                self.mover
                    .outbox
                    .push(to, Message::Elsewhere { lent, packet });
            } else {
                self.counters.moving_drops += 1;
                self.pool.give(mbuf);
            }
        }
        self.mover.settle();
    }

    /// Takes over a packet that another thread has received.
    pub(super) fn adopt_packet(&mut self, lent: LentMbuf, packet: Elsewhere) {
        let has_room = self.mover.handed.len() < FRAMES_KEPT;
        if let Some(mbuf) = self.adopt(lent, packet.frame.len, has_room) {
            self.mover.handed.push_back(packet.copied_to(mbuf));
        }
    }

    /// Lets the engine have packets that others have received, `bound` at most. Those of groups that
    /// are on their way wait for them. Returns how many it got.
    pub(super) fn take_handed(&mut self, now: Instant, bound: usize) -> usize {
        let coming = self.mover.coming();
        let mut count = 0;
        while count < bound
            && let Some(packet) = self.mover.handed.front()
            && coming >> packet.group & 1 == 0
            && let Some(packet) = self.mover.handed.pop_front()
        {
            let frame = packet.frame;
            let bytes = self.memory.frame(frame.mbuf, usize::from(frame.len));
            let cx = &mut Context {
                now,
                tx: &mut self.nic,
                events: &mut self.events,
                pool: &mut self.pool,
            };
            self.engine.arrived_elsewhere(cx, &packet, bytes);
            count += 1;
        }
        if count != 0 {
            // What belongs to nobody here either goes on.
            self.send_elsewhere();
        }
        count
    }
}
