//! The engine that connections leave.

use crate::context::{Context, Event, Events};
use crate::engine::{EVENTS_AT_ONCE, Engine};
use crate::flow::OWN_IPV4;
use crate::groups::numbers;
use crate::luggage::Luggage;
use crate::records::NONE;
use crate::tcp::connection::{Connection, Flags};
use crate::tcp::moving::{LISTS, Needs};
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
        for group in numbers(groups) {
            while let Some(index) = self.groups.first(group) {
                if luggage.is_full() || cx.events.room() < EVENTS_AT_ONCE {
                    return false;
                }
                if room.spend(self.needs_of(index)) {
                    self.pack_connection(cx, index, group, to, luggage);
                } else {
                    self.counters.tcp_moves_refused += 1;
                    self.reset_and_finish(cx, index, DeadReason::Exhausted);
                }
            }
        }
        self.pack_time_waits(groups, luggage)
    }

    #[inline(always)]
    fn pack_connection<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        group: u8,
        to: u32,
        luggage: &mut Luggage,
    ) {
        let handle = self.connections.handle(index);
        self.connections[index].file_single(&mut self.send_records);
        let connection = &self.connections[index];
        let (key, flags) = (connection.key, connection.flags);
        // As it is, links and all: the new place puts its own ones in.
        let moved = luggage.append(connection);
        moved.handle = handle;
        moved.group = group;
        moved.is_neighbor_known = connection.neighbor_epoch == self.neighbors.epoch;
        (moved.sends, moved.sent, moved.owed) = (0, 0, 0);
        let has_queue = connection.send_head != NONE;
        let has_buffers = connection.rx_held != 0;
        if let Some(episode) = self.episodes.get_mut(index, connection).copied() {
            moved.has_episode = true;
            luggage.episodes.push_back(episode);
            self.episodes.end(index, connection);
        }
        if key.own() != OWN_IPV4 {
            luggage.last_mut().own = self.own_address(&key);
        }
        if has_queue {
            self.pack_sends(index, luggage);
        }
        if has_buffers {
            self.pack_received(cx, index, luggage);
        }
        if flags.intersects(LISTS | Flags::HALF_OPEN) {
            self.leave_lists(index);
        }
        self.groups.leave_first(group, index);
        self.wheel.disarm(index);
        self.flows.remove(self.flows.hash(&key), index);
        self.connections.vacate(index);
        self.counters.tcp_moved_out += 1;
        cx.events.push(Event::Migrated {
            cookie: luggage.last_mut().connection.cookie,
            handle,
            from: self.thread(),
            to,
        });
    }

    /// Takes a connection off the lists that few are on.
    #[inline(never)]
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

    #[inline(never)]
    fn pack_sends(&mut self, index: u32, luggage: &mut Luggage) {
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
        let moved = luggage.last_mut();
        moved.sends = count;
        moved.sent = sent.unwrap_or(count);
    }

    #[inline(never)]
    fn pack_received<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        luggage: &mut Luggage,
    ) {
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
        luggage.last_mut().owed = owed;
    }

    fn pack_time_waits(&mut self, groups: u128, luggage: &mut Luggage) -> bool {
        let mut at = self.time_waits.first();
        while let Some(index) = at {
            at = self.time_waits.next(index);
            if groups >> self.time_waits.group(index) & 1 == 0 {
                continue;
            }
            if luggage.time_waits.len() == luggage.time_waits.capacity() {
                return false;
            }
            let entry = self.take_time_wait(index);
            luggage
                .time_waits
                .push_back((entry, self.own_address(&entry.key)));
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
