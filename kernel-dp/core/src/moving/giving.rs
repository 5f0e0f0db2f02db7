//! The side that gives flow groups away.
//!
//! From the moment that the groups are redirected their frames lie at the taker. So what follows is short:
//! the cycle that redirects also takes in what had come before, the next one packs, and the one after it
//! hands over, when the application has heard of it. All else is done before, or waits for the NIC.

use alloc::boxed::Box;

use ix_abi::Error;
use ix_hal::{Duration, Instant, MbufMemory, Nic};
use ix_net::{Luggage, Needs};

use super::{Message, TIMER_PATIENCE};
use crate::ElasticThread;

/// Most frames that can have been on their way to the application when the groups were redirected:
/// the descriptors of the longest RX ring (82599 datasheet 8.2.3.8.3).
const RING_MOST: u32 = 1 << 16;
/// How long a frame may take to its ring once the NIC has decided which one that is. What takes
/// longer is taken to the other thread all the same, but may be overtaken.
const STEERING: Duration = Duration::from_micros(2);
/// How long the last frames of connections that leave may take to be sent. They do within
/// microseconds, unless the link is down, which sends nothing, or the NIC's model is not running. A
/// longest ring of the largest frames takes 27 ms at 10 Gbit/s. Beyond, the new thread may overtake
/// them: by then the retransmission timer has gone off for what is in them, so that the peer gets it
/// twice anyway, and drops what comes second.
const TX_PATIENCE: Duration = Duration::from_secs(1);

/// Flow groups that go together, since their connections fit into the luggage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parcel {
    groups: u128,
    /// Those that follow.
    rest: u128,
    to: u32,
    /// What the other thread has promised, and was not used yet.
    room: Needs,
    /// When they were redirected.
    redirected: Instant,
    /// Cycles since the one that took in their last frames.
    cycles: u32,
}

/// Where a thread stands that gives groups away.
#[derive(Debug)]
pub(crate) enum Giving {
    /// It does not.
    Nothing,
    /// It has asked.
    Asked { groups: u128, to: u32 },
    /// The groups are redirected; what had arrived before is taken in, at most that many frames.
    Draining { parcel: Parcel, most: u32 },
    /// That is done: connections can be packed.
    Drained(Parcel),
    /// Connections are packed, and the application is told.
    Packed {
        parcel: Parcel,
        luggage: Box<Luggage>,
        is_last: bool,
        since: Instant,
        /// Their last frames are before this one.
        sent: u32,
        /// Whether what the NIC had steered here has come.
        is_settled: bool,
    },
    /// The other thread has them.
    Away { parcel: Parcel, is_last: bool },
}

impl Giving {
    /// Whether there are connections here whose frames go to the other thread.
    pub fn has_redirected(&self) -> bool {
        match self {
            Self::Nothing | Self::Asked { .. } => false,
            Self::Draining { .. } | Self::Drained(_) => true,
            Self::Packed { is_last, .. } | Self::Away { is_last, .. } => !is_last,
        }
    }
}

impl<N: Nic, M: MbufMemory> ElasticThread<N, M> {
    /// Asks another thread to take flow groups. Returns whether that is all.
    pub(super) fn give(&mut self, groups: u128, to: u32) -> Result<bool, Error> {
        let crew = self.mover.crew.as_ref().ok_or(Error::BadState)?;
        if groups == 0 || !crew.has_other(to) {
            return Err(Error::Invalid);
        }
        let owned = self.engine.flow_groups();
        let is_idle = matches!(self.mover.giving, Giving::Nothing);
        // What has come with a command is part of it until all has.
        let owned = owned & !self.mover.taking.complete();
        if !is_idle || groups & !owned != 0 || !self.area.follows_moves() {
            return Err(Error::BadState);
        }
        let begin = Message::Begin {
            from: crew.thread,
            groups,
            needs: self.engine.needs(groups).with_spare(),
        };
        self.mover.giving = Giving::Asked { groups, to };
        self.mover.outbox.push(to, begin);
        Ok(false)
    }

    /// The other thread is ready: frames go there from now on.
    pub(super) fn other_is_ready(&mut self, now: Instant, room: Needs) {
        if let Giving::Asked { groups, to } = self.mover.giving {
            self.redirect(now, groups, to, room);
        }
    }

    /// Redirects as many of the groups as fit into the luggage together.
    fn redirect(&mut self, now: Instant, all: u128, to: u32, room: Needs) {
        let (Some(crew), Some(luggage)) = (self.mover.crew, &self.mover.luggage) else {
            return;
        };
        let groups = self.engine.groups_that_fit(all, luggage);
        crew.steer.assign(groups, to);
        let left = self.engine.flow_groups() & !groups;
        self.engine.set_flow_groups(left);
        self.mover.timers_from = now + TIMER_PATIENCE;
        let parcel = Parcel {
            groups,
            rest: all & !groups,
            to,
            room,
            redirected: now,
            cycles: 0,
        };
        self.mover.giving = Giving::Draining {
            parcel,
            most: RING_MOST,
        };
    }

    /// A poll of the NIC that had room for `room` frames found `frames`.
    pub(super) fn count_drained(&mut self, now: Instant, frames: usize, room: usize) {
        let was_empty = frames < room;
        match &mut self.mover.giving {
            Giving::Draining { parcel, most } => {
                *most = most.saturating_sub(frames as u32);
                if was_empty || *most == 0 {
                    self.mover.giving = Giving::Drained(*parcel);
                }
            }
            Giving::Packed {
                parcel, is_settled, ..
            } if was_empty && now >= parcel.redirected + STEERING => *is_settled = true,
            _ => {}
        }
    }

    pub(super) fn go_on_giving(&mut self, now: Instant) {
        match &mut self.mover.giving {
            Giving::Drained(parcel) => {
                parcel.cycles += 1;
                let parcel = *parcel;
                self.pack(now, parcel);
            }
            Giving::Packed {
                parcel,
                sent,
                since,
                is_settled,
                ..
            } => {
                parcel.cycles += 1;
                let is_late = now >= *since + TX_PATIENCE;
                let has_left = self.nic.has_sent(*sent);
                if *is_settled && (has_left || is_late) {
                    self.counters.moves_overtaking += u64::from(!has_left);
                    self.hand_over(now);
                }
            }
            _ => {}
        }
    }

    fn pack(&mut self, now: Instant, mut parcel: Parcel) {
        let Some(mut luggage) = self.mover.luggage.take() else {
            return;
        };
        let Parcel { groups, to, .. } = parcel;
        let (engine, mut cx) = self.context(now);
        let is_last = engine.pack(&mut cx, groups, to, &mut parcel.room, &mut luggage);
        self.mover.giving = Giving::Packed {
            parcel,
            luggage,
            is_last,
            since: now,
            sent: self.nic.queued(),
            is_settled: false,
        };
    }

    fn hand_over(&mut self, now: Instant) {
        match core::mem::replace(&mut self.mover.giving, Giving::Nothing) {
            Giving::Packed {
                parcel,
                luggage,
                is_last,
                ..
            } => {
                let cycles = &mut self.counters.giving_cycles_most;
                *cycles = (*cycles).max(parcel.cycles.into());
                self.mover.giving = Giving::Away { parcel, is_last };
                let message = Message::Luggage {
                    luggage,
                    groups: if is_last { parcel.groups } else { 0 },
                    at: now,
                };
                self.mover.outbox.push(parcel.to, message);
            }
            other => self.mover.giving = other,
        }
    }

    /// The other thread has unpacked: the rest follows, or it is done.
    pub(super) fn luggage_returns(&mut self, now: Instant, mut luggage: Box<Luggage>) {
        let (engine, mut cx) = self.context(now);
        engine.take_back(&mut cx, &mut luggage);
        self.mover.luggage = Some(luggage);
        let Giving::Away {
            mut parcel,
            is_last,
        } = self.mover.giving
        else {
            return;
        };
        let Parcel { rest, to, room, .. } = parcel;
        if !is_last {
            parcel.cycles = 0;
            self.mover.giving = Giving::Drained(parcel);
        } else if rest != 0 {
            self.redirect(now, rest, to, room);
        } else {
            self.mover.outcome = Some(Ok(()));
            self.mover.giving = Giving::Nothing;
        }
    }
}
