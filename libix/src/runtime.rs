//! The event loop: flush the calls of the last round, enter the kernel, read the results, deliver
//! the events.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::any::Any;
use core::net::SocketAddr;

use ix_abi::area::{FOLLOWS_MOVES, NOW_NS, WAKE_NS};
use ix_abi::{DeadReason, Error, EventKind, address_from_words, event, piece};

use crate::area::{Area, Kernel};
use crate::context::{Connection, Context};
use crate::service::{CloseReason, Datagram, Knock, Service};
use crate::slot::{Ending, Phase};
use crate::table::{Heard, Outcome, Return};

/// How long calls wait that failed for want of room in the kernel's tables: about a round trip.
const RETRY_INTERVAL_NS: u64 = 1_000_000;

/// A service on a kernel.
pub struct Runtime<S: Service, K: Kernel> {
    service: S,
    kernel: K,
    area: Area,
    states: Vec<Option<S::State>>,
    context: Context<S::State>,
    outcomes: Vec<Outcome>,
}

impl<S: Service, K: Kernel> Runtime<S, K> {
    /// Starts the service; nothing reaches the kernel before the first round.
    pub fn new(service: S, kernel: K) -> Self {
        let area = kernel.area();
        let crew = kernel.crew();
        area.store(FOLLOWS_MOVES, 1);
        let mut runtime = Self {
            service,
            kernel,
            area,
            states: Vec::new(),
            context: Context::new(area, crew),
            outcomes: Vec::new(),
        };
        runtime.service.on_start(&mut runtime.context);
        runtime
    }

    /// Serves until the service stops, and returns its exit code.
    pub fn run(&mut self) -> i32 {
        loop {
            if let Some(code) = self.context.exit_code {
                return code;
            }
            self.round();
        }
    }

    /// One round.
    pub fn round(&mut self) {
        while let Some((index, state)) = self.context.opened.pop() {
            set_state(&mut self.states, index, state);
        }
        let wake_ns = match self.context.table.flush() {
            // A time that has passed.
            Return::AtOnce => 1,
            Return::Soon => self.wake_ns_for_retries(),
            Return::WithEvents => self.context.wake_ns.unwrap_or(0),
        };
        self.area.store(WAKE_NS, wake_ns);

        self.kernel.run_io();

        self.context.table.examine(&mut self.outcomes);
        if !self.outcomes.is_empty() {
            self.deliver_outcomes();
        }
        self.deliver_events();
        self.wake();
        self.service.on_round(&mut self.context);
    }

    /// The service.
    pub fn service(&mut self) -> &mut S {
        &mut self.service
    }

    /// The kernel.
    pub fn kernel(&mut self) -> &mut K {
        &mut self.kernel
    }

    /// The context that the service sees.
    pub fn context(&mut self) -> &mut Context<S::State> {
        &mut self.context
    }

    #[inline(never)]
    fn wake_ns_for_retries(&self) -> u64 {
        let retry_ns = self.area.load(NOW_NS) + RETRY_INTERVAL_NS;
        self.context.wake_ns.unwrap_or(u64::MAX).min(retry_ns)
    }

    fn deliver_events(&mut self) {
        let count = self.area.event_count();
        self.context.table.statistics.rounds += 1;
        self.context.table.statistics.events += count as u64;
        for index in 0..count {
            let [first, cookie, second, third] = self.area.event(index);
            // The two that come with every request first, without a jump table.
            let kind = first as u16;
            let is_known = if first == EventKind::Recv as u64 {
                self.received(cookie, second, third)
            } else if kind == EventKind::Sent as u16 {
                self.sent(cookie, second, third)
            } else {
                self.deliver_other(index)
            };
            if is_known.is_none() {
                self.context.table.statistics.events_stray += 1;
            }
        }
    }

    #[inline(never)]
    fn deliver_other(&mut self, index: usize) -> Option<()> {
        let words = self.area.event(index);
        match EventKind::from_raw(words[0] as u16)? {
            EventKind::Knock => self.knocked(words),
            EventKind::Connected => self.connected(words),
            EventKind::Dead => self.died(words),
            EventKind::UdpRecv => self.datagram_arrived(words),
            EventKind::Recv => self.received_pieces(words),
            EventKind::Migrated => self.migrated(words),
            EventKind::Sent => None,
        }
    }

    #[inline]
    fn received(&mut self, cookie: u64, address: u64, bytes: u64) -> Option<()> {
        match self.context.table.find_own(cookie) {
            Some(index) => self.received_at(index, address, bytes),
            None => self.received_by_guest(cookie, address, bytes),
        }
    }

    #[inline(never)]
    fn received_by_guest(&mut self, cookie: u64, address: u64, bytes: u64) -> Option<()> {
        let index = self.context.table.find_guest(cookie)?;
        self.received_at(index, address, bytes)
    }

    #[inline(always)]
    fn received_at(&mut self, index: u32, address: u64, bytes: u64) -> Option<()> {
        let table = &mut self.context.table;
        let is_heard = table.slot(index).is_heard();
        if bytes == 0 {
            if is_heard {
                let (service, mut connection) = self.parts(index)?;
                service.on_end_of_stream(&mut connection);
            }
            return Some(());
        }
        let data = table.arrived(index, address, bytes as u32);
        if is_heard {
            let (service, mut connection) = self.parts(index)?;
            service.on_data(&mut connection, data);
        }
        Some(())
    }

    /// Payload that came in several frames: one piece after the other, as long as the application
    /// wants to hear of them.
    fn received_pieces(&mut self, [kind, cookie, first, _]: [u64; event::WORDS]) -> Option<()> {
        let index = self.context.table.find(cookie)?;
        let count = (kind >> 48) as usize;
        for number in 0..count {
            let piece = self.area.piece(first as usize + number);
            let (address, bytes) = (piece::address(piece), piece::len(piece));
            let table = &mut self.context.table;
            let data = table.arrived(index, address, u32::from(bytes));
            if table.slot(index).is_heard() {
                let (service, mut connection) = self.parts(index)?;
                service.on_data(&mut connection, data);
            }
        }
        Some(())
    }

    #[inline]
    fn sent(&mut self, cookie: u64, bytes: u64, window: u64) -> Option<()> {
        match self.context.table.find_own(cookie) {
            Some(index) => self.sent_at(index, bytes, window),
            None => self.sent_by_guest(cookie, bytes, window),
        }
    }

    #[inline(never)]
    fn sent_by_guest(&mut self, cookie: u64, bytes: u64, window: u64) -> Option<()> {
        let index = self.context.table.find_guest(cookie)?;
        self.sent_at(index, bytes, window)
    }

    #[inline(always)]
    fn sent_at(&mut self, index: u32, bytes: u64, window: u64) -> Option<()> {
        let table = &mut self.context.table;
        let heard = table.acknowledged(index, bytes as usize, window as usize);
        if heard != Heard::Nothing
            && let Some((service, mut connection)) = self.parts(index)
        {
            service.on_sent(&mut connection, bytes as usize);
            if heard == Heard::SentAndWritable {
                service.on_writable(&mut connection);
            }
        }
        Some(())
    }

    fn knocked(&mut self, [first, handle, high, low]: [u64; event::WORDS]) -> Option<()> {
        let knock = Knock {
            peer: SocketAddr::new(address_from_words(high, low), (first >> 16) as u16),
            local_port: (first >> 32) as u16,
        };
        match self.service.on_knock(&mut self.context, &knock) {
            Some(state) => {
                let index = self.context.table.accept(handle);
                set_state(&mut self.states, index, state);
            }
            None => self.context.table.refuse(handle),
        }
        Some(())
    }

    fn connected(&mut self, [_, cookie, handle, outcome]: [u64; event::WORDS]) -> Option<()> {
        let table = &mut self.context.table;
        let index = table.find(cookie)?;
        let slot = table.slot(index);
        slot.handle = handle;
        if outcome != 0 {
            slot.failure = Error::from_result(outcome as i64);
            return Some(());
        }
        slot.phase = Phase::Open;
        let is_heard = slot.is_heard();
        // What was asked of it meanwhile.
        if !slot.send.is_accepted() || slot.ending != Ending::None {
            table.mark(index);
        }
        if is_heard {
            let (service, mut connection) = self.parts(index)?;
            service.on_connected(&mut connection);
        }
        Some(())
    }

    fn died(&mut self, [_, cookie, reason, handle]: [u64; event::WORDS]) -> Option<()> {
        if cookie == 0 {
            // A knock that nobody answered in time; the kernel has forgotten it already.
            return Some(());
        }
        let index = match self.context.table.find(cookie) {
            Some(index) => index,
            // The kernel had no room for it when it came.
            None => self.arrive(cookie, handle)?,
        };
        let table = &mut self.context.table;
        let slot = table.slot(index);
        slot.handle = handle;
        slot.phase = Phase::Dead;
        slot.drop_unsent();
        let reason = DeadReason::from_raw(reason).unwrap_or(DeadReason::Aborted);
        let reason = slot
            .failure
            .map_or(CloseReason::Dead(reason), CloseReason::Failed);
        table.mark(index);
        self.close(index, reason);
        Some(())
    }

    /// A connection leaves, or comes. A knock that nobody has answered comes again.
    fn migrated(&mut self, [first, cookie, handle, _]: [u64; event::WORDS]) -> Option<()> {
        let (from, to) = ((first >> 16) as u16 as usize, (first >> 32) as u16 as usize);
        if cookie == 0 {
            return Some(());
        }
        if from != self.context.thread() {
            match self.arrive(cookie, handle) {
                Some(index) => self.tell_of_move(index, from, to),
                None => {
                    // Nobody here can serve it.
                    self.context.table.statistics.moves_failed += 1;
                    self.context.table.refuse(handle);
                }
            }
            return Some(());
        }
        let index = self.context.table.find(cookie)?;
        self.tell_of_move(index, from, to);
        let state = self.take_state(index);
        let state = state.map(|state| Box::new(state) as Box<dyn Any + Send>);
        self.context.table.depart(index, to, state);
        Some(())
    }

    /// Takes over what comes with a connection.
    fn arrive(&mut self, cookie: u64, handle: u64) -> Option<u32> {
        let table = &mut self.context.table;
        let (index, state) = table.arrive(cookie, handle)?;
        match state.map(|state| state.downcast::<S::State>()) {
            Some(Ok(state)) => set_state(&mut self.states, index, *state),
            // Given back already.
            None => {}
            // The threads run different services.
            Some(Err(_)) => {
                table.statistics.moves_failed += 1;
                table.end(index, Ending::Abort);
            }
        }
        Some(index)
    }

    fn tell_of_move(&mut self, index: u32, from: usize, to: usize) {
        if self.context.table.slot(index).is_heard()
            && let Some((service, mut connection)) = self.parts(index)
        {
            service.on_migrated(&mut connection, from, to);
        }
    }

    fn datagram_arrived(&mut self, [first, address, high, low]: [u64; event::WORDS]) -> Option<()> {
        let bytes = (first >> 48) as u32;
        let datagram = Datagram {
            peer: SocketAddr::new(address_from_words(high, low), (first >> 16) as u16),
            local_port: (first >> 32) as u16,
            data: self.context.table.datagram_arrived(address, bytes),
        };
        self.service.on_datagram(&mut self.context, datagram);
        Some(())
    }

    fn deliver_outcomes(&mut self) {
        let mut outcomes = core::mem::take(&mut self.outcomes);
        for outcome in outcomes.drain(..) {
            match outcome {
                Outcome::Listen(port, outcome) => {
                    self.service.on_listen(&mut self.context, port, outcome);
                }
                Outcome::UdpBind(port, outcome) => {
                    self.service.on_udp_bind(&mut self.context, port, outcome);
                }
                Outcome::NotOpened(index, error) => {
                    self.close(index, CloseReason::Failed(error));
                    self.context.table.forget(index, error);
                }
            }
        }
        self.outcomes = outcomes;
    }

    /// Gives the state back to the service.
    fn close(&mut self, index: u32, reason: CloseReason) {
        let id = self.context.table.id_of(index);
        if let Some(state) = self.take_state(index) {
            self.service.on_close(&mut self.context, id, state, reason);
        }
    }

    /// The state in a slot; there is none if it came from another service.
    fn take_state(&mut self, index: u32) -> Option<S::State> {
        self.states.get_mut(index as usize)?.take()
    }

    fn wake(&mut self) {
        let now_ns = self.area.load(NOW_NS);
        if self
            .context
            .wake_ns
            .is_some_and(|wake_ns| now_ns >= wake_ns)
        {
            self.context.wake_ns = None;
            self.service.on_wake(&mut self.context);
        }
    }

    /// The service, and a connection to call it with.
    #[inline]
    fn parts(&mut self, index: u32) -> Option<(&mut S, Connection<'_, S::State>)> {
        let state = self.states.get_mut(index as usize)?.as_mut()?;
        let connection = Connection {
            context: &mut self.context,
            index,
            state,
        };
        Some((&mut self.service, connection))
    }
}

fn set_state<T>(states: &mut Vec<Option<T>>, index: u32, state: T) {
    let index = index as usize;
    if states.len() <= index {
        states.resize_with(index + 1, || None);
    }
    states[index] = Some(state);
}
