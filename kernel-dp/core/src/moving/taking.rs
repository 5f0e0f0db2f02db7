//! The side that takes flow groups over.

use alloc::boxed::Box;

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

/// Connections that came.
#[derive(Debug)]
pub(crate) struct Arrival {
    luggage: Box<Luggage>,
    /// The groups that are complete with them.
    complete: u128,
    /// As of when they are.
    at: Instant,
    /// Cycles since then.
    cycles: u32,
}

/// Where a thread stands that takes groups over.
#[derive(Debug)]
pub(crate) enum Taking {
    /// It does not.
    Nothing,
    /// Frames of the groups are kept until their connections are here.
    Keeping {
        from: u32,
        groups: u128,
        /// Those that are complete already.
        complete: u128,
        arrival: Option<Arrival>,
    },
}

impl Taking {
    /// The groups whose frames are kept.
    pub fn groups(&self) -> u128 {
        match self {
            Self::Nothing => 0,
            Self::Keeping { groups, .. } => *groups,
        }
    }

    /// Groups that are served already, while others of the same command are not.
    pub fn complete(&self) -> u128 {
        match self {
            Self::Nothing => 0,
            Self::Keeping { complete, .. } => *complete,
        }
    }

    /// Luggage came.
    pub fn arrive(&mut self, luggage: Box<Luggage>, complete: u128, at: Instant) {
        if let Self::Keeping { arrival, .. } = self {
            *arrival = Some(Arrival {
                luggage,
                complete,
                at,
                cycles: 0,
            });
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
        if let Taking::Keeping { arrival, .. } = &mut self.mover.taking
            && let Some(mut arrived) = arrival.take()
        {
            arrived.cycles += 1;
            match arrived.at <= now {
                true => self.unpack(now, arrived),
                false => *arrival = Some(arrived),
            }
        }
    }

    fn answer(&mut self, begin: Begin) {
        let loans_left = self.pool.loans_left();
        let message = if self.mover.is_parked {
            Message::Refuse(Error::BadState)
        } else if let Some(room) = self.engine.promise_room(begin.needs, loans_left) {
            self.mover.taking = Taking::Keeping {
                from: begin.from,
                groups: begin.groups,
                complete: 0,
                arrival: None,
            };
            Message::Ready(room)
        } else {
            Message::Refuse(Error::Exhausted)
        };
        self.mover.outbox.push(begin.from, message);
    }

    fn unpack(&mut self, now: Instant, mut arrived: Arrival) {
        let Taking::Keeping {
            from,
            groups,
            complete,
            arrival,
        } = &mut self.mover.taking
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
        let is_empty = self
            .engine
            .unpack(cx, *from, &mut arrived.luggage, &mut fetch);
        if !is_empty {
            *arrival = Some(arrived);
            return;
        }
        let cycles = &mut self.counters.taking_cycles_most;
        *cycles = (*cycles).max(arrived.cycles.into());
        let message = Message::Unpacked(arrived.luggage);
        self.mover.outbox.push(*from, message);
        let owned = self.engine.flow_groups() | arrived.complete;
        self.engine.set_flow_groups(owned);
        *groups &= !arrived.complete;
        *complete |= arrived.complete;
        if *groups == 0 {
            self.engine.end_promise();
            self.mover.taking = Taking::Nothing;
        }
    }
}
