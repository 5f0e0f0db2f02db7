//! Packets that arrive here and belong to another thread's connections. A NIC spreads what has ports,
//! and all else comes to one queue: TCP segments in fragments or behind extension headers, and ICMP
//! errors, which have the ports of whoever they are about inside. And what the NIC had spread already
//! when a flow group went to another thread comes here however late it comes. They are set aside, and
//! the caller takes them to the engine that serves their flow group.

use alloc::collections::VecDeque;

use crate::address::Endpoint;
use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::groups::GROUPS;
use crate::icmp_error::quoted_flow;
use crate::packet::Packet;
use crate::wire::{PROTOCOL_TCP, Segment, be16};
use ix_hal::{MbufId, RxFrame, Transmit};

/// Packets set aside between two visits of the caller, at most: no batch has more frames.
const ASIDE: usize = 64;

/// A whole packet for another engine.
#[derive(Clone, Copy, Debug)]
pub struct Elsewhere {
    /// The frame that it ends in.
    pub frame: RxFrame,
    /// The flow group that it belongs to.
    pub group: u8,
    packet: Packet,
}

impl Elsewhere {
    /// The same packet, copied into another buffer.
    pub fn copied_to(self, mbuf: MbufId) -> Self {
        let frame = RxFrame { mbuf, ..self.frame };
        Self { frame, ..self }
    }
}

/// What waits to be taken elsewhere, in the order in which it came.
pub(crate) struct Aside(VecDeque<Elsewhere>);

impl Aside {
    /// An empty list. Allocates if there are others to take things to.
    pub fn new(has_others: bool) -> Self {
        Self(VecDeque::with_capacity(if has_others { ASIDE } else { 0 }))
    }
}

impl Engine {
    /// Whether something was left that the caller has to finish: [`Engine::take_assembly`], then
    /// [`Engine::take_elsewhere`].
    #[inline]
    pub fn has_leftovers(&self) -> bool {
        self.reassembly.has_complete || !self.aside.0.is_empty()
    }

    /// Takes a packet that belongs to another engine; its buffer is the caller's.
    pub fn take_elsewhere(&mut self) -> Option<Elsewhere> {
        self.aside.0.pop_front()
    }

    /// Takes in a packet that another engine has set aside; `bytes` is the frame in its buffer. Pushes
    /// at most 4 events, for which there must be room.
    pub fn arrived_elsewhere<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        elsewhere: &Elsewhere,
        bytes: &[u8],
    ) {
        let Elsewhere {
            frame,
            group,
            mut packet,
        } = *elsewhere;
        let is_kept = match self.own_number(packet.destination) {
            Some(own) => {
                packet.own = own;
                // The group may have gone on meanwhile.
                match self.is_elsewhere(group, bytes, &packet) {
                    true => self.set_aside(frame, group, &packet),
                    false => self.dispatch(cx, frame, bytes, &packet),
                }
            }
            None => {
                self.counters.ip6_in_address_errors += 1;
                false
            }
        };
        if !is_kept {
            cx.pool.give(frame.mbuf);
        }
    }

    /// Whether a segment that the NIC has spread is for an engine that has taken its flow group over:
    /// this one serves the group no more, and knows no connection of it.
    #[inline]
    pub(crate) fn is_for_another(&self, frame: &RxFrame, segment: &Segment<'_>) -> bool {
        let group = frame.rss_hash as u8 & (GROUPS - 1) as u8;
        frame.rss_hash != 0 && !self.groups.serves(group) && self.lookup(&segment.key).is_none()
    }

    /// Keeps such a segment for [`Engine::take_elsewhere`].
    #[cold]
    #[inline(never)]
    pub(crate) fn set_segment_aside<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        frame: RxFrame,
        segment: &Segment<'_>,
    ) {
        self.counters.tcp_in_late += 1;
        let group = frame.rss_hash as u8 & (GROUPS - 1) as u8;
        if !self.set_aside(frame, group, &Packet::of_segment(segment)) {
            cx.pool.give(frame.mbuf);
        }
    }

    /// The flow group of a packet that came without a hash, if another engine serves it.
    #[cold]
    pub(crate) fn group_elsewhere(&self, bytes: &[u8], packet: &Packet) -> Option<u8> {
        let payload = &bytes[packet.payload..packet.end];
        let (peer, own, local_port) = match packet.protocol {
            PROTOCOL_TCP => {
                let ports = payload.first_chunk::<4>()?;
                let peer = Endpoint {
                    address: packet.source,
                    port: be16(ports, 0),
                };
                (peer, packet.destination, be16(ports, 2))
            }
            _ => quoted_flow(packet, payload)?,
        };
        let group = self.groups.of_flow(peer, own, local_port)?;
        self.is_elsewhere(group, bytes, packet).then_some(group)
    }

    /// Whether another engine is to deal with a packet of a group. A group that this one no longer serves
    /// may still have connections here, which are about to leave.
    fn is_elsewhere(&self, group: u8, bytes: &[u8], packet: &Packet) -> bool {
        let is_known = || {
            let segment = Segment::parse(bytes, packet);
            segment.is_some_and(|segment| self.lookup(&segment.key).is_some())
        };
        let is_here = self.groups.serves(group) || packet.protocol == PROTOCOL_TCP && is_known();
        !is_here
    }

    /// Keeps a packet for [`Engine::take_elsewhere`]. Returns whether its mbuf was kept.
    #[cold]
    pub(crate) fn set_aside(&mut self, frame: RxFrame, group: u8, packet: &Packet) -> bool {
        let has_room = self.aside.0.len() < ASIDE;
        if has_room {
            self.counters.rx_elsewhere += 1;
            let packet = *packet;
            self.aside.0.push_back(Elsewhere {
                frame,
                group,
                packet,
            });
        } else {
            self.counters.rx_elsewhere_drops += 1;
        }
        has_room
    }
}
