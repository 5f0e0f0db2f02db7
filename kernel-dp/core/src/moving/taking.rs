//! The side that takes flow groups over.

use ix_abi::Error;
use ix_hal::{Instant, MbufMemory, Nic};
use ix_net::{Context, Luggage, Needs};

use super::{Message, TIMER_PATIENCE};
use crate::ElasticThread;

/// That a thread wants to give groups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Begin {
    pub from: u32,
    pub groups: u128,
    pub needs: Needs,
}

/// Where a thread stands that takes groups over.
#[derive(Debug)]
pub(crate) enum Taking {
    /// It does not.
    Nothing,
    /// Frames of the groups are kept until their connections are here.
    Keeping { from: u32, groups: u128 },
    /// Connections are here, as they were at time `at`.
    Unpacking {
        from: u32,
        groups: u128,
        luggage: Luggage,
        is_last: bool,
        at: Instant,
    },
    /// All are served; the frames that were kept come before new ones.
    Replaying { groups: u128 },
}

impl Taking {
    /// The groups whose frames are kept.
    pub fn groups(&self) -> u128 {
        match self {
            Self::Nothing => 0,
            Self::Keeping { groups, .. }
            | Self::Unpacking { groups, .. }
            | Self::Replaying { groups } => *groups,
        }
    }

    /// Luggage came.
    pub fn arrive(&mut self, luggage: Luggage, is_last: bool, at: Instant) {
        if let Self::Keeping { from, groups } = *self {
            *self = Self::Unpacking {
                from,
                groups,
                luggage,
                is_last,
                at,
            };
        }
    }
}

impl<N: Nic, M: MbufMemory> ElasticThread<N, M> {
    pub(super) fn go_on_taking(&mut self, now: Instant) {
        if matches!(self.mover.taking, Taking::Nothing)
            && let Some(begin) = self.mover.asking.pop_front()
        {
            self.answer(begin);
        }
        // A cycle's time is that of its beginning, and this one may have begun before the giver's. Time
        // must not go back for a connection: its round trips would be negative, and its timestamps
        // older than what the peer has seen (RFC 7323 5.3). The next cycle is late enough.
        if let Taking::Unpacking { at, .. } = self.mover.taking
            && at <= now
        {
            self.unpack(now);
        }
    }

    fn answer(&mut self, begin: Begin) {
        let loans_left = self.pool.loans_left();
        let message = if self.mover.is_parked {
            Message::Refuse(Error::BadState)
        } else if !self.engine.has_room_for(begin.needs, loans_left) {
            Message::Refuse(Error::Exhausted)
        } else {
            let Begin { from, groups, .. } = begin;
            self.mover.taking = Taking::Keeping { from, groups };
            // They come back: nothing of them is to be forwarded any more.
            self.mover.gone &= !groups;
            Message::Ready
        };
        self.mover.outbox.push(begin.from, message);
    }

    fn unpack(&mut self, now: Instant) {
        let taking = core::mem::replace(&mut self.mover.taking, Taking::Nothing);
        let Taking::Unpacking {
            from,
            groups,
            mut luggage,
            is_last,
            at,
        } = taking
        else {
            return;
        };
        let memory = &mut self.memory;
        let mut fetch = |lent, own, len| memory.fetch(lent, own, len);
        let cx = &mut Context {
            now,
            tx: &mut self.nic,
            events: &mut self.events,
            pool: &mut self.pool,
        };
        self.mover.timers_from = now + TIMER_PATIENCE;
        let is_empty = self.engine.unpack(cx, from, &mut luggage, &mut fetch);
        if !is_empty {
            self.mover.taking = Taking::Unpacking {
                from,
                groups,
                luggage,
                is_last,
                at,
            };
            return;
        }
        self.mover.outbox.push(from, Message::Unpacked(luggage));
        self.mover.taking = match is_last {
            false => Taking::Keeping { from, groups },
            true => {
                let owned = self.engine.flow_groups() | groups;
                self.engine.set_flow_groups(owned);
                Taking::Replaying { groups }
            }
        };
    }
}
