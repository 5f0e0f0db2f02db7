//! Connections that go from one fake kernel to another, on threads of the same process. As the
//! contract has it, the application of the old thread sees `migrated` and ends its round before the
//! new thread hears of the connection.

use std::boxed::Box;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use ix_abi::area::BOOT;
use ix_abi::{EventKind, boot, event};

use super::connection::FakeConnection;
use super::{FakeKernel, PeerId};
use crate::ledger::Crew;

type Mail = Vec<Mutex<Vec<(FakeConnection, usize)>>>;

/// What a fake kernel knows of moves.
pub(super) struct FakeMoving {
    pub crew: &'static Crew,
    pub thread: usize,
    /// Connections on their way, and where they come from, by the thread that they go to.
    mail: Arc<Mail>,
    /// Connections that are to go.
    asked: Vec<(PeerId, usize)>,
    /// Those that went in the last round, of which the application is hearing.
    leaving: Vec<(FakeConnection, usize)>,
}

impl FakeMoving {
    /// Of a kernel that has no others.
    pub fn alone() -> Self {
        Self::of_crew(0, Box::leak(Box::new(Crew::new())), Arc::default())
    }

    fn of_crew(thread: usize, crew: &'static Crew, mail: Arc<Mail>) -> Self {
        Self {
            crew,
            thread,
            mail,
            asked: Vec::new(),
            leaving: Vec::new(),
        }
    }

    /// What is on its way to a thread; nothing for a kernel that has no others.
    fn mail(&self, thread: usize) -> Option<MutexGuard<'_, Vec<(FakeConnection, usize)>>> {
        let mail = self.mail.get(thread)?.lock();
        Some(mail.unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether nothing is under way to or from this thread.
    pub fn is_quiet(&self) -> bool {
        let is_expected = self.mail(self.thread).is_some_and(|mail| !mail.is_empty());
        self.asked.is_empty() && self.leaving.is_empty() && !is_expected
    }
}

impl FakeKernel {
    /// The kernels of an application with several threads. Each can be used on a thread of its own;
    /// all on one will do for most tests.
    pub fn crew(threads: usize) -> Vec<Self> {
        let crew: &'static Crew = Box::leak(Box::new(Crew::new()));
        let mail: Vec<_> = (0..threads).map(|_| Mutex::default()).collect();
        let mail = Arc::new(mail);
        let kernel = |thread: usize| {
            let mut kernel = Self::new();
            kernel.moving = FakeMoving::of_crew(thread, crew, Arc::clone(&mail));
            kernel.area.store(BOOT + boot::THREAD, thread as u64);
            kernel.area.store(BOOT + boot::THREADS, threads as u64);
            kernel
        };
        (0..threads).map(kernel).collect()
    }

    /// Lets a connection go to another thread in the next round. One that is over stays.
    pub fn give(&mut self, id: PeerId, to: usize) {
        assert!(to != self.moving.thread && to < self.moving.mail.len());
        self.moving.asked.push((id, to));
    }

    /// The other ends of connections that are here, or were when they ended.
    pub fn peers(&self) -> impl Iterator<Item = PeerId> {
        let here = self.connections.iter().enumerate();
        let here = here.filter(|(_, connection)| !connection.is_gone());
        here.map(|(index, _)| PeerId(index))
    }

    /// The application has heard of those that went in the last round: the others get them.
    pub(super) fn hand_over(&mut self) {
        let from = self.moving.thread;
        for (connection, to) in core::mem::take(&mut self.moving.leaving) {
            let mail = self.moving.mail(to);
            mail.expect("`give` has checked it")
                .push((connection, from));
        }
    }

    /// Takes out the connections that are to go, if the application hears of it in this round.
    pub(super) fn pack(&mut self) {
        if !self.events.is_empty() || self.moving.asked.len() > self.event_batch {
            return;
        }
        for (id, to) in core::mem::take(&mut self.moving.asked) {
            let connection = &mut self.connections[id.0];
            if connection.is_over() || connection.is_gone() {
                continue;
            }
            let connection = core::mem::replace(connection, FakeConnection::gone());
            let event = migrated(&connection, self.moving.thread, to);
            self.events.push_back(event);
            self.moving.leaving.push((connection, to));
        }
    }

    /// Puts in the connections that have come.
    pub(super) fn unpack(&mut self) {
        let thread = self.moving.thread;
        let arrived = self.moving.mail(thread).map(|mut mail| mail.split_off(0));
        for (mut connection, from) in arrived.unwrap_or_default() {
            if self.refuses_moves {
                self.events.push_back(connection.refuse_move());
            } else {
                self.events.push_back(migrated(&connection, from, thread));
                self.events.extend(connection.knock_again());
            }
            self.connections.push(connection);
        }
    }
}

fn migrated(connection: &FakeConnection, from: usize, to: usize) -> [u64; event::WORDS] {
    let first = EventKind::Migrated as u64 | (from as u64) << 16 | (to as u64) << 32;
    [first, connection.cookie(), connection.handle, 0]
}
