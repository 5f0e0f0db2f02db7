//! The side that gives flow groups away.

use ix_abi::Error;
use ix_hal::{Duration, Instant, MbufMemory, Nic};
use ix_net::Luggage;

use super::taking::Taking;
use super::{Message, TIMER_PATIENCE};
use crate::ElasticThread;

/// Most frames that can have been on their way to the application when the groups were redirected:
/// the descriptors of the longest RX ring (82599 datasheet 8.2.3.8.3).
const RING_MOST: u32 = 1 << 16;
/// How long a frame may take to its ring once the NIC has decided which one that is. What takes
/// longer is forwarded, and may be overtaken.
const STEERING: Duration = Duration::from_micros(2);
/// How long the last frames of connections that leave may take to be sent. They do within
/// microseconds, unless the link is down, which sends nothing, or the NIC's model is not running.
/// Beyond, the new thread may overtake them.
const TX_PATIENCE: Duration = Duration::from_secs(1);
/// How long frames of groups that were given away may still come out of the NIC's packet buffer.
const STRAY_PATIENCE: Duration = Duration::from_millis(10);

/// Where a thread stands that gives groups away.
#[derive(Debug)]
pub(crate) enum Giving {
    /// It does not.
    Nothing,
    /// It has asked.
    Asked { groups: u128, to: u32 },
    /// The groups are redirected; what had arrived before is taken in, at most that many frames.
    Draining {
        groups: u128,
        to: u32,
        most: u32,
        since: Instant,
    },
    /// That is done: connections can be packed.
    Drained { groups: u128, to: u32 },
    /// Connections are packed, and the application is told. Their last frames are before `sent`.
    Packed {
        groups: u128,
        to: u32,
        luggage: Luggage,
        is_last: bool,
        sent: u32,
        since: Instant,
    },
    /// The other thread has them.
    Away {
        groups: u128,
        to: u32,
        is_last: bool,
    },
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
        if !is_idle || groups & !owned != 0 || !self.area.follows_moves() {
            return Err(Error::BadState);
        }
        let begin = Message::Begin {
            from: crew.thread,
            groups,
            needs: self.engine.needs(groups),
        };
        self.mover.giving = Giving::Asked { groups, to };
        self.mover.outbox.push(to, begin);
        Ok(false)
    }

    /// The other thread is ready: frames go there from now on.
    pub(super) fn redirect(&mut self, now: Instant) {
        let (Giving::Asked { groups, to }, Some(crew)) = (&self.mover.giving, self.mover.crew)
        else {
            return;
        };
        let (groups, to) = (*groups, *to);
        crew.steer.assign(groups, to);
        let left = self.engine.flow_groups() & !groups;
        self.engine.set_flow_groups(left);
        self.mover.timers_from = now + TIMER_PATIENCE;
        self.mover.giving = Giving::Draining {
            groups,
            to,
            most: RING_MOST,
            since: now,
        };
    }

    /// A poll of the NIC that had room for `room` frames found `frames`.
    pub(super) fn count_drained(&mut self, now: Instant, frames: usize, room: usize) {
        let Giving::Draining {
            groups,
            to,
            most,
            since,
        } = &mut self.mover.giving
        else {
            return;
        };
        *most = most.saturating_sub(frames as u32);
        let is_empty = frames < room && now >= *since + STEERING;
        if is_empty || *most == 0 {
            let (groups, to) = (*groups, *to);
            self.mover.giving = Giving::Drained { groups, to };
            // Whatever of them comes now is too late.
            self.mover.gone |= groups;
            for (group, place) in self.mover.gone_to.iter_mut().enumerate() {
                if groups >> group & 1 != 0 {
                    *place = to as u8;
                }
            }
            self.mover.gone_until = Instant(u64::MAX);
        }
    }

    pub(super) fn go_on_giving(&mut self, now: Instant) {
        if let Giving::Drained { groups, to } = self.mover.giving {
            self.pack(now, groups, to);
        } else if let Giving::Packed { sent, since, .. } = self.mover.giving
            && (self.nic.has_sent(sent) || now >= since + TX_PATIENCE)
        {
            self.hand_over(now);
        }
    }

    fn pack(&mut self, now: Instant, groups: u128, to: u32) {
        let Some(mut luggage) = self.mover.luggage.take() else {
            return;
        };
        let (engine, mut cx) = self.context(now);
        let is_last = engine.pack(&mut cx, groups, to, &mut luggage);
        if is_last && matches!(self.mover.taking, Taking::Nothing) {
            self.mover.timers_from = Instant(0);
        }
        self.mover.giving = Giving::Packed {
            groups,
            to,
            luggage,
            is_last,
            sent: self.nic.queued(),
            since: now,
        };
    }

    fn hand_over(&mut self, now: Instant) {
        match core::mem::replace(&mut self.mover.giving, Giving::Nothing) {
            Giving::Packed {
                groups,
                to,
                luggage,
                is_last,
                ..
            } => {
                self.mover.giving = Giving::Away {
                    groups,
                    to,
                    is_last,
                };
                let message = Message::Luggage {
                    luggage,
                    is_last,
                    at: now,
                };
                self.mover.outbox.push(to, message);
            }
            other => self.mover.giving = other,
        }
    }

    /// The other thread has unpacked: the rest follows, or it is done.
    pub(super) fn luggage_returns(&mut self, now: Instant, mut luggage: Luggage) {
        let (engine, mut cx) = self.context(now);
        engine.take_back(&mut cx, &mut luggage);
        self.mover.luggage = Some(luggage);
        let Giving::Away {
            groups,
            to,
            is_last,
        } = self.mover.giving
        else {
            return;
        };
        self.mover.giving = match is_last {
            false => Giving::Drained { groups, to },
            true => {
                self.mover.outcome = Some(Ok(()));
                self.mover.gone_until = now + STRAY_PATIENCE;
                Giving::Nothing
            }
        };
    }
}
