//! The engine that connections leave.

use crate::context::{Context, Event, Events};
use crate::engine::{EVENTS_AT_ONCE, Engine};
use crate::flow::OWN_IPV4;
use crate::groups::numbers;
use crate::luggage::{Belongings, Luggage, Run};
use crate::records::NONE;
use crate::tcp::connection::{Connection, Flags};
use crate::tcp::moving::{Needs, events_left};
use crate::wheel::NEVER;
use ix_abi::DeadReason;
use ix_hal::{MbufId, Transmit};

impl Engine {
    /// Takes connections of some flow groups out, as many as the luggage, which is empty, and the
    /// event sink have room for; each gets its last event here, `Migrated`. Returns whether all are
    /// out. To be called between two rounds of the application, when the events of the last one
    /// have all been seen: the buffers that they are about go along.
    ///
    /// `room` is what the other engine has promised, less what has left already. A connection that it
    /// does not suffice for is reset, and `Dead` says so.
    pub fn pack<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        groups: u128,
        to: u32,
        room: &mut Needs,
        luggage: &mut Luggage,
    ) -> bool {
        luggage.cookies_until = self.cookies_until;
        luggage.neighbor_epoch = self.neighbors.epoch;
        for group in numbers(groups) {
            loop {
                self.pack_plain(cx, group, to, room, luggage);
                let Some(index) = self.groups.first(group) else {
                    break;
                };
                if luggage.places(1).is_empty() || cx.events.room() < EVENTS_AT_ONCE {
                    return false;
                }
                if room.spend(self.needs_of(index)) {
                    self.pack_laden(cx, index, group, to, luggage);
                } else {
                    self.counters.tcp_moves_refused += 1;
                    self.reset_and_finish(cx, index, DeadReason::Exhausted);
                }
            }
        }
        self.pack_time_waits(groups, luggage)
    }

    /// Takes out the first connections of a group, up to one that is more than its control block.
    #[inline(always)]
    fn pack_plain<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        group: u8,
        to: u32,
        room: &mut Needs,
        luggage: &mut Luggage,
    ) {
        let from = self.thread();
        let most = (room.connections as usize).min(events_left(cx));
        let mut first = self.groups.first(group);
        let mut count = 0;
        let mut places = luggage.places(most).iter_mut();
        let leaving = core::iter::from_fn(|| {
            let (index, place) = (first?, places.next()?);
            let may_go = Connection::is_plain;
            let block = self.connections.vacate_if(index, place, may_go)?;
            if block.timer_at != NEVER {
                self.wheel.disarm(index);
                // It may have been armed for what has been done since.
                block.timer_at = block.earliest_deadline();
            }
            self.flows.remove(block.flow_hash, index);
            first = self.groups.forget(index);
            count += 1;
            Some((block.cookie, block.handle))
        });
        cx.events.push_migrated(from, to, leaving);
        self.groups.begin_with(group, first, count as u32);
        luggage.fill(Run {
            group,
            count,
            belongings: None,
        });
        room.connections -= count as u32;
        self.counters.tcp_moved_out += count as u64;
    }

    /// Takes out a connection, and what there is of it beside its control block; there is room.
    #[inline(never)]
    fn pack_laden<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        group: u8,
        to: u32,
        luggage: &mut Luggage,
    ) {
        let belongings = self.pack_belongings(cx, index, luggage);
        let connection = &self.connections[index];
        let (cookie, handle) = (connection.cookie, self.connections.handle(index));
        self.wheel.disarm(index);
        self.flows.remove(connection.flow_hash, index);
        self.groups.leave(index);
        if let Some(place) = luggage.places(1).first_mut() {
            self.connections.vacate(index, place);
            luggage.fill(Run {
                group,
                count: 1,
                belongings: Some(belongings),
            });
        }
        self.counters.tcp_moved_out += 1;
        cx.events.push(Event::Migrated {
            cookie,
            handle,
            from: self.thread(),
            to,
        });
    }

    /// Takes out what there is of a connection beside its control block.
    fn pack_belongings<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        luggage: &mut Luggage,
    ) -> Belongings {
        self.connections[index].file_single(&mut self.send_records);
        let connection = &self.connections[index];
        let (key, flags, has_buffers) = (connection.key, connection.flags, connection.rx_held != 0);
        let episode = self.episodes.get_mut(connection).copied();
        if let Some(episode) = episode {
            luggage.episodes.push_back(episode);
            self.episodes.end(connection);
        }
        let (sends, sent) = self.pack_sends(index, luggage);
        let owed = match has_buffers {
            true => self.pack_received(cx, index, luggage),
            false => 0,
        };
        self.leave_lists(index);
        // The new place reads in them which lists to put it on.
        self.connections[index].flags = flags;
        Belongings {
            has_episode: episode.is_some(),
            sends,
            sent,
            owed,
            own: match key.own() {
                OWN_IPV4 => None,
                _ => self.own_address(&key),
            },
        }
    }

    /// Takes a connection off the lists that few are on.
    fn leave_lists(&mut self, index: u32) {
        self.leave_half_open(index);
        self.leave_starved(index);
        self.leave_delivering(index);
        let connection = &self.connections[index];
        if connection.flags.contains(Flags::AWAITING_NEIGHBOR) {
            let neighbor = connection.awaited_neighbor;
            self.neighbors
                .waiting(neighbor)
                .remove(&mut self.connections, index);
        }
    }

    /// Returns how many records there are, and how many of them were sent.
    fn pack_sends(&mut self, index: u32, luggage: &mut Luggage) -> (u32, u32) {
        let Connection {
            send_head,
            send_cursor,
            ..
        } = self.connections[index];
        let (mut at, mut count, mut sent) = (send_head, 0, None);
        while at != NONE {
            if at == send_cursor {
                sent = Some(count);
            }
            luggage.sends.push_back(*self.send_records.get(at));
            at = self.send_records.release(at);
            count += 1;
        }
        (count, sent.unwrap_or(count))
    }

    /// Returns how many buffers the application has seen.
    fn pack_received<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        luggage: &mut Luggage,
    ) -> u32 {
        let mut owed = 0;
        let connection = &self.connections[index];
        self.rx.out_of_order -= u32::from(connection.ofo_count);
        self.rx.held -= u32::from(connection.rx_held);
        for (head, is_owed) in [(connection.rx_head, true), (connection.ofo_head, false)] {
            let mut at = head;
            while at != NONE {
                let record = *self.rx.get(at);
                let lent = cx.pool.disown(MbufId(at));
                if lent.owner != self.thread() {
                    self.local.mbufs_held -= 1;
                }
                luggage.received.push_back((lent, record));
                owed += u32::from(is_owed);
                at = record.next;
            }
        }
        owed
    }

    /// Returns whether there was room for all.
    fn pack_time_waits(&mut self, groups: u128, luggage: &mut Luggage) -> bool {
        for group in numbers(groups) {
            while let Some(index) = self.time_waits.first(group) {
                if luggage.time_waits.len() == luggage.time_waits.capacity() {
                    return false;
                }
                let entry = self.take_time_wait(index);
                let own = self.own_address(&entry.key);
                luggage.time_waits.push_back((entry, own));
            }
        }
        true
    }

    /// Takes back the luggage that another engine has unpacked, with the buffers that it has copied.
    pub fn take_back<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        luggage: &mut Luggage,
    ) {
        while let Some(mbuf) = luggage.copied.pop_front() {
            cx.pool.give(mbuf);
        }
    }
}
