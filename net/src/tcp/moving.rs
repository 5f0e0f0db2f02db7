//! Connections that go from one engine to another with their flow group. `pack` takes them out of
//! every table and list of this engine, `unpack` puts them into those of the other one. Neither
//! sends, answers or forgets anything: deadlines are points in time and stay, sequence numbers and
//! queues too, and the peer cannot see that anything happened.

use crate::address::{Endpoint, IpAddress};
use crate::context::{Context, Event, Events};
use crate::engine::{EVENTS_AT_ONCE, Engine};
use crate::flow::{FlowKey, OWN_IPV4};
use crate::groups::numbers;
use crate::luggage::{Luggage, Moved};
use crate::records::{NONE, RxRecord};
use crate::tcp::connection::{Connection, Flags, Link, State};
use crate::tcp::time_wait::{Entry, TIME_WAIT};
use crate::wheel::NEVER;
use crate::wire::control;
use ix_abi::DeadReason;
use ix_hal::{Instant, LentMbuf, MbufId, Transmit, TxFrame};

/// What says that a connection is on some list of this engine.
const LISTS: Flags = Flags::DIRTY
    .union(Flags::LISTED)
    .union(Flags::AWAITING_NEIGHBOR)
    .union(Flags::DELIVERING)
    .union(Flags::STARVED);

/// What the connections of some flow groups need room for at their new place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Connections.
    pub connections: u32,
    /// Records of data that is queued or not yet acknowledged.
    pub sends: u32,
    /// Received buffers.
    pub mbufs: u32,
}

impl Engine {
    /// Number of its thread among those that share its address, 0 if there are none.
    pub fn thread(&self) -> u32 {
        self.config
            .sharing
            .as_ref()
            .map_or(0, |sharing| sharing.thread)
    }

    /// The flow groups that this engine serves, a bit each; connections are opened from these only.
    pub fn flow_groups(&self) -> u128 {
        self.groups.owned
    }

    /// Changes which flow groups this engine serves.
    pub fn set_flow_groups(&mut self, owned: u128) {
        self.groups.owned = owned;
    }

    /// What the connections of some flow groups need elsewhere.
    pub fn needs(&self, groups: u128) -> Needs {
        let mut needs = Needs::default();
        for group in numbers(groups) {
            let mut at = self.groups.first(group);
            while let Some(index) = at {
                let connection = &self.connections[index];
                needs.connections += 1;
                needs.mbufs += u32::from(connection.rx_held);
                needs.sends += self.queued_records(index);
                at = self.groups.next(index);
            }
        }
        needs
    }

    /// Whether there is room for that, with something to spare for what comes in the meantime.
    pub fn has_room_for(&self, needs: Needs, loans_left: usize) -> bool {
        let spare = |count: u32| u64::from(count) + u64::from(count >> 3) + 16;
        spare(needs.connections) <= self.connections.free() as u64
            && spare(needs.sends) <= u64::from(self.send_records.available())
            && spare(needs.mbufs) <= loans_left as u64
    }

    /// Which flow group the segments of a connection come by, if there are flow groups.
    #[inline(always)]
    pub(crate) fn flow_group(&self, key: &FlowKey, own: IpAddress) -> Option<u8> {
        let peer = Endpoint {
            address: key.remote,
            port: key.remote_port(),
        };
        self.groups.of_flow(peer, own, key.local_port())
    }

    /// Takes connections of some flow groups out, as many as the luggage, which is empty, and the
    /// event sink have room for; each gets its last event here, `Migrated`. Returns whether all are
    /// out. To be called between two rounds of the application, when the events of the last one
    /// have all been seen: the buffers that they are about go along.
    pub fn pack<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        groups: u128,
        to: u32,
        luggage: &mut Luggage,
    ) -> bool {
        luggage.cookies_until = self.cookies_until;
        let room = luggage.connections.capacity();
        for group in numbers(groups) {
            while let Some(index) = self.groups.first(group) {
                if luggage.connections.len() == room || cx.events.room() < EVENTS_AT_ONCE {
                    return false;
                }
                self.pack_connection(cx, index, to, luggage);
            }
        }
        self.pack_time_waits(groups, luggage)
    }

    fn pack_connection<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        to: u32,
        luggage: &mut Luggage,
    ) {
        let handle = self.connections.handle(index);
        let group = self.groups.of(index);
        let flags = self.connections[index].flags;
        let connection = &self.connections[index];
        let own = self.own_address(&connection.key);
        let episode = self.episodes.get_mut(index, connection).copied();
        self.episodes.end(index, connection);
        let neighbor = self.leave_lists(index);
        let (sends, sent) = self.pack_sends(index, luggage);
        let owed = self.pack_received(cx, index, luggage);
        let mut connection = self.connections.take_out(index);
        // What it waited for is to be told or asked for at the new place.
        connection.flags = flags;
        self.counters.tcp_moved_out += 1;
        cx.events.push(Event::Migrated {
            cookie: connection.cookie,
            handle,
            from: self.thread(),
            to,
        });
        luggage.connections.push_back(Moved {
            connection,
            own,
            episode,
            handle,
            group,
            sends,
            sent,
            owed,
            neighbor,
        });
    }

    /// Takes a connection off every list but those of its records. Returns where its neighbour is,
    /// if that is known.
    fn leave_lists(&mut self, index: u32) -> Option<[u8; 6]> {
        self.leave_half_open(index);
        self.leave_starved(index);
        self.leave_delivering(index);
        self.groups.leave(index);
        self.wheel.disarm(index);
        let hash = self.flows.hash(&self.connections[index].key);
        self.flows.remove(hash, index);
        let connection = &self.connections[index];
        if connection.flags.contains(Flags::AWAITING_NEIGHBOR) {
            let neighbor = connection.awaited_neighbor;
            self.neighbors
                .waiting(neighbor)
                .remove(&mut self.connections, index);
        }
        let connection = &self.connections[index];
        let (addresses, _) = connection.template.split_first_chunk()?;
        (connection.neighbor_epoch == self.neighbors.epoch).then_some(*addresses)
    }

    fn queued_records(&self, index: u32) -> u32 {
        let connection = &self.connections[index];
        let mut at = connection.send_head;
        let mut count = u32::from(connection.has_single());
        while at != NONE {
            at = self.send_records.get(at).next;
            count += 1;
        }
        count
    }

    /// Returns how many records the connection has queued, and how many of them were sent.
    fn pack_sends(&mut self, index: u32, luggage: &mut Luggage) -> (u32, u32) {
        let connection = &mut self.connections[index];
        connection.file_single(&mut self.send_records);
        let (mut at, cursor) = (connection.send_head, connection.send_cursor);
        let (mut count, mut sent) = (0, None);
        while at != NONE {
            if at == cursor {
                sent = Some(count);
            }
            luggage.sends.push_back(*self.send_records.get(at));
            at = self.send_records.release(at);
            count += 1;
        }
        (count, sent.unwrap_or(count))
    }

    /// Returns how many of the buffers the application has seen.
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

    /// Puts in what came from another engine, as far as there is room for events: each connection
    /// gets its first event here, `Migrated`. `fetch` copies the beginning of a buffer of another
    /// thread into an own one. Returns whether the luggage is empty.
    pub fn unpack<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        from: u32,
        luggage: &mut Luggage,
        fetch: &mut impl FnMut(LentMbuf, MbufId, usize),
    ) -> bool {
        self.cookies_until = self.cookies_until.max(luggage.cookies_until);
        let mut behind = None;
        while let Some((mut entry, own)) = luggage.time_waits.pop_front() {
            if let Some(key) = self.own_key(&entry.key, own) {
                entry.key = key;
                behind = self.put_time_wait(entry, behind).or(behind);
            }
        }
        while cx.events.room() >= EVENTS_AT_ONCE
            && let Some(mut moved) = luggage.connections.pop_front()
        {
            let fits = !self.connections.is_full()
                && moved.sends <= self.send_records.available()
                && moved.owed as usize <= cx.pool.loans_left();
            match self.own_key(&moved.connection.key, moved.own) {
                Some(key) if fits => {
                    moved.connection.key = key;
                    self.unpack_connection(cx, from, moved, luggage, fetch);
                }
                _ => self.refuse_moved(cx, &moved, luggage),
            }
        }
        luggage.connections.is_empty()
    }

    /// The key of another engine's flow here, where `own` may have another number; `None` if it is
    /// none of our addresses.
    fn own_key(&self, key: &FlowKey, own: Option<IpAddress>) -> Option<FlowKey> {
        let own = own?;
        let number = match own.ipv4() {
            Some(_) => OWN_IPV4,
            None => self.ipv6.own.number(own)?,
        };
        Some(FlowKey::new(
            key.remote,
            key.remote_port(),
            number,
            key.local_port(),
        ))
    }

    fn unpack_connection<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        from: u32,
        moved: Moved,
        luggage: &mut Luggage,
        fetch: &mut impl FnMut(LentMbuf, MbufId, usize),
    ) {
        let Some(index) = self.connections.take() else {
            return;
        };
        let ofo = u32::from(moved.connection.rx_held) - moved.owed;
        let (timer_at, flags) = (moved.connection.timer_at, moved.connection.flags);
        self.settle(index, moved.connection);
        self.connections.name(index, moved.handle);
        if let Some(episode) = moved.episode {
            let connection = &mut self.connections[index];
            self.episodes.adopt(index, connection, episode);
        }
        self.groups.join(index, moved.group);
        let hash = self.flows.hash(&self.connections[index].key);
        self.flows.insert(hash, index);
        self.half_open += u32::from(flags.contains(Flags::HALF_OPEN));
        self.unpack_sends(index, moved.sends, moved.sent, luggage);
        for _ in 0..moved.owed {
            self.unpack_owed(cx, index, luggage);
        }
        for _ in 0..ofo {
            self.unpack_out_of_order(cx, index, luggage, fetch);
        }
        self.gap_may_be_filled(index);
        if flags.contains(Flags::STARVED) {
            self.starve(index);
        }
        if timer_at != NEVER {
            self.arm_timer(index, timer_at);
        }
        if let Some(mac) = moved.neighbor {
            self.introduce(cx.now, index, mac);
        }
        if flags.intersects(Flags::DIRTY | Flags::AWAITING_NEIGHBOR) {
            self.mark_dirty(index);
        }
        self.counters.tcp_moved_in += 1;
        self.announce(cx, index, from);
    }

    /// Writes a connection into a slot that was just taken, on no list and with no records.
    fn settle(&mut self, index: u32, connection: Connection) {
        let slot = &mut self.connections[index];
        *slot = Connection {
            generation: slot.generation,
            flags: slot.flags | connection.flags & !LISTS,
            links: [Link {
                prev: NONE,
                next: NONE,
            }; 2],
            send_head: NONE,
            send_tail: NONE,
            send_cursor: NONE,
            rx_head: NONE,
            rx_tail: NONE,
            rx_held: 0,
            ofo_head: NONE,
            ofo_tail: NONE,
            ofo_count: 0,
            timer_at: NEVER,
            neighbor_epoch: 0,
            awaited_neighbor: 0,
            episode: 0,
            ..connection
        };
    }

    fn unpack_sends(&mut self, index: u32, count: u32, sent: u32, luggage: &mut Luggage) {
        for at in 0..count {
            let moved = luggage.sends.pop_front();
            let Some(record) = moved.and_then(|record| self.send_records.put(record)) else {
                return;
            };
            let connection = &mut self.connections[index];
            match connection.send_tail {
                NONE => connection.send_head = record,
                tail => self.send_records.get_mut(tail).next = record,
            }
            connection.send_tail = record;
            if at == sent {
                connection.send_cursor = record;
            }
        }
    }

    /// A buffer that the application has seen: it stays where it is.
    fn unpack_owed<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        luggage: &mut Luggage,
    ) {
        let Some((lent, record)) = luggage.received.pop_front() else {
            return;
        };
        let Some(mbuf) = cx.pool.adopt(lent) else {
            return;
        };
        if lent.owner != self.thread() {
            self.local.mbufs_held += 1;
        }
        *self.rx.get_mut(mbuf.0) = RxRecord {
            next: NONE,
            ..record
        };
        let connection = &mut self.connections[index];
        match connection.rx_head {
            NONE => connection.rx_head = mbuf.0,
            _ => self.rx.get_mut(connection.rx_tail).next = mbuf.0,
        }
        connection.rx_tail = mbuf.0;
        connection.rx_held += 1;
        self.rx.held += 1;
    }

    /// A buffer that the application is yet to see: it has to be one of this thread's, because that
    /// is where events can point to. Without a free one the segment is lost as it would be if it
    /// came now.
    fn unpack_out_of_order<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        luggage: &mut Luggage,
        fetch: &mut impl FnMut(LentMbuf, MbufId, usize),
    ) {
        let Some((lent, record)) = luggage.received.pop_front() else {
            return;
        };
        let mbuf = match lent.owner == self.thread() {
            true => cx.pool.adopt(lent),
            false => {
                luggage.refused.push_back(lent);
                let own = cx.pool.take();
                if let Some(own) = own {
                    fetch(lent, own, usize::from(record.offset + record.len));
                }
                own
            }
        };
        let Some(mbuf) = mbuf else {
            self.counters.tcp_ofo_dropped += 1;
            return;
        };
        *self.rx.get_mut(mbuf.0) = RxRecord {
            next: NONE,
            ..record
        };
        let connection = &mut self.connections[index];
        match connection.ofo_tail {
            NONE => connection.ofo_head = mbuf.0,
            tail => self.rx.get_mut(tail).next = mbuf.0,
        }
        connection.ofo_tail = mbuf.0;
        connection.ofo_count += 1;
        connection.rx_held += 1;
        connection.update_out_of_order();
        self.rx.out_of_order += 1;
        self.rx.held += 1;
    }

    /// A connection whose neighbour was known goes on with what is known here, or else with what
    /// it has brought.
    fn introduce(&mut self, now: Instant, index: u32, mac: [u8; 6]) {
        let Some(next_hop) = self.next_hop(self.connections[index].key.remote) else {
            return;
        };
        // Nobody gives way for a peer that has proven nothing.
        let is_proven = self.connections[index].state > State::SynReceived;
        let may_stay = is_proven || self.neighbors.has_free_entry();
        if may_stay && self.neighbors.known(next_hop).is_none() {
            let waiting = self.neighbors.heard(now, next_hop, mac, true);
            self.wake_waiting(waiting);
        }
        if let Some(mac) = self.neighbors.known(next_hop) {
            let connection = &mut self.connections[index];
            connection.template[..6].copy_from_slice(&mac);
            connection.neighbor_epoch = self.neighbors.epoch;
        }
    }

    /// The first events of a connection that came: where it is, and the knock if nobody has
    /// answered it.
    fn announce<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        from: u32,
    ) {
        let handle = self.connections.handle(index);
        let connection = &self.connections[index];
        cx.events.push(Event::Migrated {
            cookie: connection.cookie,
            handle,
            from,
            to: self.thread(),
        });
        if connection.state == State::Knocking {
            cx.events.push(Event::Knock {
                handle,
                peer: Endpoint {
                    address: connection.key.remote,
                    port: connection.key.remote_port(),
                },
                local_port: connection.key.local_port(),
            });
        }
    }

    /// There is no room for a connection although there was when it was asked for: it is reset, and
    /// its buffers go back.
    fn refuse_moved<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        moved: &Moved,
        luggage: &mut Luggage,
    ) {
        self.counters.tcp_moves_refused += 1;
        let connection = &moved.connection;
        luggage.sends.drain(..moved.sends as usize);
        let received = luggage.received.drain(..usize::from(connection.rx_held));
        luggage.refused.extend(received.map(|(lent, _)| lent));
        if connection.state > State::SynSent
            && let Some(room) = cx.tx.header()
        {
            let flags = control::RST | control::ACK;
            let seq = connection.snd_nxt;
            let header_len = connection.fill_any_header(room, cx.now, seq, flags, 0);
            cx.tx.send(&TxFrame {
                header_len,
                fragments: &[],
                checksum: connection.checksum(),
                segment_size: 0,
                release: None,
            });
            self.counters.tcp_out_resets += 1;
        }
        cx.events.push(Event::Dead {
            cookie: connection.cookie,
            reason: DeadReason::Exhausted,
            handle: moved.handle,
        });
    }

    /// Takes back the luggage that another engine has unpacked, with the buffers that it did not
    /// keep.
    pub fn take_back<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        luggage: &mut Luggage,
    ) {
        while let Some(lent) = luggage.refused.pop_front() {
            if let Some(mbuf) = cx.pool.adopt(lent) {
                // `loans_ended` takes it off again.
                self.local.mbufs_held += u32::from(lent.owner != self.thread());
                cx.pool.give(mbuf);
            }
        }
    }

    /// That many buffers of other threads went back to their owners.
    pub fn loans_ended(&mut self, count: u32) {
        self.local.mbufs_held -= count;
    }

    /// Puts a TIME-WAIT entry in its place, which is behind that of `behind` if this is given.
    fn put_time_wait(&mut self, entry: Entry, behind: Option<u32>) -> Option<u32> {
        let behind = match self.time_waits.is_full() {
            true => {
                self.counters.tcp_time_wait_overflows += 1;
                let oldest = self.time_waits.first();
                self.drop_oldest_time_wait();
                behind.filter(|behind| Some(*behind) != oldest)
            }
            false => behind,
        };
        let hash = self.flows.hash(&entry.key);
        let index = self.time_waits.insert(entry, behind)?;
        self.flows.insert(hash, index | TIME_WAIT);
        Some(index)
    }
}
