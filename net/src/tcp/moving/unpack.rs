//! The engine that connections come to.

use crate::address::{Endpoint, IpAddress};
use crate::context::{Context, Event, Events};
use crate::engine::{EVENTS_AT_ONCE, Engine};
use crate::flow::{FlowKey, OWN_IPV4};
use crate::luggage::{Belongings, Luggage, Run};
use crate::records::{NONE, RxRecord};
use crate::tcp::connection::{Connection, Flags, State};
use crate::tcp::moving::{LISTS, events_left};
use crate::tcp::time_wait::{Entry, TIME_WAIT};
use crate::wheel::NEVER;
use ix_abi::DeadReason;
use ix_hal::{Instant, LentMbuf, MbufId, Transmit};

/// The peer of the last connection, if its neighbour has the same MAC address here as where it comes from:
/// what the others of the same peer have brought is good too. The connections of one client come together.
#[derive(Clone, Copy, Default)]
struct Acquaintance {
    /// The low half of its address, which is all of it over IPv4; 0 is nobody's.
    peer: u64,
    /// As of which state of the neighbour table here.
    epoch: u32,
}

impl Engine {
    /// Puts in what came from another engine, as far as there is room for events: each connection
    /// gets its first event here, `Migrated`. `fetch` copies the beginning of a buffer of another
    /// thread into an own one. Returns whether all of the luggage is in.
    pub fn unpack<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        from: u32,
        luggage: &mut Luggage,
        fetch: &mut impl FnMut(LentMbuf, MbufId, usize),
    ) -> bool {
        self.cookies_until = self.cookies_until.max(luggage.cookies_until);
        while let Some((mut entry, own)) = luggage.time_waits.pop_front() {
            if let Some(key) = self.own_key(&entry.key, own) {
                entry.key = key;
                self.put_time_wait(entry);
            }
        }
        let mut acquaintance = Acquaintance::default();
        while let Some(run) = luggage.front() {
            let is_in = match run.belongings {
                None => self.unpack_plain(cx, from, run, luggage, &mut acquaintance),
                Some(belongings) => {
                    self.unpack_laden(cx, from, run.group, &belongings, luggage, fetch)
                }
            };
            if !is_in {
                return false;
            }
        }
        true
    }

    /// Puts in connections that are no more than their control blocks, as far as there is room for events.
    /// Returns whether all are in.
    #[inline(always)]
    fn unpack_plain<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        from: u32,
        run: Run,
        luggage: &mut Luggage,
        acquaintance: &mut Acquaintance,
    ) -> bool {
        let most = (self.connections.promised as usize).min(events_left(cx));
        let (to, now, epoch) = (self.thread(), cx.now, luggage.neighbor_epoch);
        let mut blocks = luggage.blocks(run.count.min(most)).iter_mut();
        let mut group = self.groups.begin(run.group);
        let mut count = 0;
        let coming = core::iter::from_fn(|| {
            let place = blocks.next()?;
            let block = &mut **place;
            if block.neighbor_epoch == epoch && block.key.remote.low == acquaintance.peer {
                block.neighbor_epoch = acquaintance.epoch;
            } else if let Some(met) = self.introduce(now, block, epoch) {
                *acquaintance = met;
            }
            let (cookie, handle) = (block.cookie, block.handle);
            let (flow_hash, deadline) = (block.flow_hash, block.timer_at);
            debug_assert_eq!(flow_hash, self.flows.hash(&block.key));
            let index = self.connections.settle(place)?;
            self.flows.insert(flow_hash, index);
            self.groups.prepend(&mut group, index);
            count += 1;
            if deadline != NEVER {
                self.wheel.arm(index, deadline);
            }
            Some((cookie, handle))
        });
        cx.events.push_migrated(from, to, coming);
        self.groups.end(group, count as u32);
        luggage.drop_front(count);
        self.connections.promised -= count as u32;
        self.counters.tcp_moved_in += count as u64;
        debug_assert!(
            count == run.count || events_left(cx) == 0,
            "a connection came that was promised no room"
        );
        count == run.count
    }

    /// Puts in one that is more, if there is room for its events. Returns whether it is in.
    fn unpack_laden<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        from: u32,
        group: u8,
        belongings: &Belongings,
        luggage: &mut Luggage,
        fetch: &mut impl FnMut(LentMbuf, MbufId, usize),
    ) -> bool {
        if cx.events.room() < EVENTS_AT_ONCE || !self.has_promised(cx, belongings) {
            return false;
        }
        let epoch = luggage.neighbor_epoch;
        let Some(block) = luggage.blocks(1).first_mut() else {
            return false;
        };
        self.introduce(cx.now, block, epoch);
        let Some(index) = self.connections.settle(block) else {
            return false;
        };
        self.connections.promised -= 1;
        self.groups.join(index, group);
        luggage.drop_front(1);
        self.enlist(index, belongings.own);
        self.unpack_belongings(cx, index, belongings, luggage, fetch);
        self.go_on_after_move(cx, index, from);
        true
    }

    /// Whether there is room for a connection. As it was promised, there is.
    fn has_promised<T: Transmit, E: Events>(
        &self,
        cx: &Context<'_, T, E>,
        belongings: &Belongings,
    ) -> bool {
        let Belongings { sends, owed, .. } = *belongings;
        let is_promised = self.connections.promised != 0
            && sends <= self.promised_sends
            && (owed == 0 || owed as usize <= cx.pool.loans_left());
        debug_assert!(is_promised, "a connection came that was promised no room");
        is_promised
    }

    /// Makes a connection known that is more than its control block. `own` is its address of ours.
    fn enlist(&mut self, index: u32, own: Option<IpAddress>) {
        self.counters.tcp_moved_in += 1;
        let connection = &mut self.connections[index];
        connection.episode = 0;
        let key = connection.key;
        match self.own_key(&key, own) {
            Some(key) => {
                let connection = &mut self.connections[index];
                connection.key = key;
                connection.flow_hash = self.flows.hash(&key);
                self.flows.insert(connection.flow_hash, index);
                if connection.timer_at != NEVER {
                    self.wheel.arm(index, connection.timer_at);
                }
            }
            None => self.connections[index].flags.insert(Flags::UNLISTED),
        }
    }

    /// The key of another engine's flow here, where `own` may have another number; `None` if it is
    /// none of our addresses.
    fn own_key(&self, key: &FlowKey, own: Option<IpAddress>) -> Option<FlowKey> {
        if key.own() == OWN_IPV4 {
            return Some(*key);
        }
        let number = self.ipv6.own.number(own?)?;
        Some(FlowKey::new(
            key.remote,
            key.remote_port(),
            number,
            key.local_port(),
        ))
    }

    /// Puts in what there is of a connection beside its control block.
    #[inline(never)]
    fn unpack_belongings<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        belongings: &Belongings,
        luggage: &mut Luggage,
        fetch: &mut impl FnMut(LentMbuf, MbufId, usize),
    ) {
        let connection = &mut self.connections[index];
        let (flags, rx_held) = (connection.flags, connection.rx_held);
        connection.flags.remove(LISTS - Flags::LISTED);
        if belongings.sends != 0 {
            self.unpack_sends(index, belongings.sends, belongings.sent, luggage);
        }
        if rx_held != 0 {
            self.unpack_received(cx, index, belongings.owed, luggage, fetch);
        }
        if belongings.has_episode
            && let Some(episode) = luggage.episodes.pop_front()
        {
            let connection = &mut self.connections[index];
            self.episodes.adopt(connection, episode);
        }
        self.join_lists(index, flags);
    }

    /// Tells the application of a connection that is more than its control block.
    fn go_on_after_move<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        from: u32,
    ) {
        let connection = &self.connections[index];
        let is_ours = !connection.flags.contains(Flags::UNLISTED);
        cx.events.push(Event::Migrated {
            cookie: connection.cookie,
            handle: self.connections.handle(index),
            from,
            to: self.thread(),
        });
        if connection.state == State::Knocking {
            self.knock_again(cx, index);
        }
        if !is_ours {
            self.refuse_moved(cx, index);
        }
    }

    /// Puts a connection on the lists that few are on.
    fn join_lists(&mut self, index: u32, flags: Flags) {
        self.half_open += u32::from(flags.contains(Flags::HALF_OPEN));
        if flags.contains(Flags::STARVED) {
            self.starve(index);
        }
        if flags.intersects(Flags::DIRTY | Flags::AWAITING_NEIGHBOR) {
            self.mark_dirty(index);
        }
    }

    #[inline(never)]
    fn unpack_sends(&mut self, index: u32, count: u32, sent: u32, luggage: &mut Luggage) {
        let connection = &mut self.connections[index];
        connection.send_head = NONE;
        connection.send_tail = NONE;
        connection.send_cursor = NONE;
        for (at, record) in (0..count).zip(luggage.sends.drain(..count as usize)) {
            let record = self.send_records.keep_promise(record);
            self.promised_sends -= 1;
            match connection.send_tail {
                NONE => connection.send_head = record,
                tail => self.send_records.get_mut(tail).next = record,
            }
            connection.send_tail = record;
            if at == sent {
                connection.send_cursor = record;
            }
        }
        if connection.send_tail != NONE {
            self.send_records.get_mut(connection.send_tail).next = NONE;
        }
    }

    /// Received buffers, of which the application has seen the first ones.
    #[inline(never)]
    fn unpack_received<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        index: u32,
        owed: u32,
        luggage: &mut Luggage,
        fetch: &mut impl FnMut(LentMbuf, MbufId, usize),
    ) {
        let connection = &mut self.connections[index];
        let out_of_order = u32::from(connection.rx_held) - owed;
        connection.rx_head = NONE;
        connection.rx_held = 0;
        connection.ofo_head = NONE;
        connection.ofo_tail = NONE;
        connection.ofo_count = 0;
        for _ in 0..owed {
            self.unpack_owed(cx, index, luggage);
        }
        for _ in 0..out_of_order {
            self.unpack_out_of_order(cx, index, luggage, fetch);
        }
        self.connections[index].update_out_of_order();
        self.gap_may_be_filled(index);
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
        // It is the other thread's own, since this was done there too.
        luggage.copied.push_back(lent.mbuf);
        let Some(mbuf) = cx.pool.take() else {
            self.counters.tcp_ofo_dropped += 1;
            return;
        };
        fetch(lent, mbuf, usize::from(record.offset + record.len));
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
        self.rx.out_of_order += 1;
        self.rx.held += 1;
    }

    /// A connection whose neighbour was known goes on with what is known here, or else with what it has
    /// brought. Returns that if others can go on with it too.
    #[inline(never)]
    fn introduce(
        &mut self,
        now: Instant,
        connection: &mut Connection,
        neighbor_epoch: u32,
    ) -> Option<Acquaintance> {
        let was_known = connection.neighbor_epoch == neighbor_epoch;
        connection.neighbor_epoch = 0;
        if !was_known {
            return None;
        }
        let mac = *connection.template.first_chunk::<6>()?;
        let next_hop = self.next_hop(connection.key.remote)?;
        // Nobody gives way for a peer that has proven nothing.
        let is_proven = connection.state > State::SynReceived;
        let may_stay = is_proven || self.neighbors.has_free_entry();
        if may_stay && self.neighbors.known(next_hop).is_none() {
            let waiting = self.neighbors.heard(now, next_hop, mac, true);
            self.wake_waiting(waiting);
        }
        let known = self.neighbors.known(next_hop)?;
        connection.template[..6].copy_from_slice(&known);
        connection.neighbor_epoch = self.neighbors.epoch;
        (known == mac).then_some(Acquaintance {
            peer: connection.key.remote.low,
            epoch: connection.neighbor_epoch,
        })
    }

    /// Nobody has answered the knock.
    #[inline(never)]
    fn knock_again<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>, index: u32) {
        let connection = &self.connections[index];
        cx.events.push(Event::Knock {
            handle: self.connections.handle(index),
            peer: Endpoint {
                address: connection.key.remote,
                port: connection.key.remote_port(),
            },
            local_port: connection.key.local_port(),
        });
    }

    /// A connection of an address of ours that this engine has not heard of: it is reset. Its buffers
    /// stay until the application gives them back.
    #[cold]
    fn refuse_moved<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>, index: u32) {
        self.counters.tcp_moves_refused += 1;
        self.reset_and_finish(cx, index, DeadReason::Exhausted);
    }

    /// Puts a TIME-WAIT entry in its place.
    fn put_time_wait(&mut self, entry: Entry) {
        if self.time_waits.is_full() {
            self.counters.tcp_time_wait_overflows += 1;
            self.drop_oldest_time_wait();
        }
        let hash = self.flows.hash(&entry.key);
        if let Some(index) = self.time_waits.insert(entry) {
            self.flows.insert(hash, index | TIME_WAIT);
        }
    }
}
