//! The service on libix: sessions on connections and in datagrams, and the sweep beside them.
//!
//! A peer that does not read is held up by what it is owed ([`Settings::answer_limit`]): from there on its
//! commands wait in the NIC's buffers, which closes its window. So a connection holds no more than that
//! limit, an item, and a window, whatever it asks for.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use core::time::Duration;

use libix::{
    CloseReason, Connection, ConnectionId, Context, Datagram, EXIT_USAGE, Knock, Payload, Received,
    SendHalf, background, println,
};
use spin::Once;

use crate::datagram;
use crate::keys::END;
use crate::output::Output;
use crate::server::{FIRST_SECOND, Server, Settings, Worker};
use crate::session::{Fed, Session};
use crate::store::Piece;

/// How often some stripes are swept.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// The same while a client waits for it, at least.
const CRAWL_INTERVAL: Duration = Duration::from_millis(1);
/// So many stripes: all of them every 16 seconds.
const SWEEP_STRIPES: usize = 16;

/// Part of a thread's heap that its share of the items leaves to the table and to what serves: one in so
/// many, and some more.
const HEAP_PART: u64 = 8;
const HEAP_REST: u64 = 6 << 20;

/// A memcached on one elastic thread.
pub struct Service {
    settings: Settings,
    shared: &'static Once<Server>,
    worker: Option<Worker<'static>>,
    /// Stripes that were swept.
    swept: usize,
}

/// What is kept of a connection.
#[derive(Default)]
pub struct Peer {
    session: Session,
    /// What came while it did not read.
    held: VecDeque<Received>,
    is_waiting: bool,
    /// Whether it sends no more.
    has_ended: bool,
}

impl Service {
    /// With those settings. All threads that have `shared` share one server.
    pub fn new(settings: Settings, shared: &'static Once<Server>) -> Self {
        Self {
            settings,
            shared,
            worker: None,
            swept: 0,
        }
    }

    /// Joins the server with this thread's share of the memory.
    fn join(&mut self, cx: &Context<Peer>) -> Result<Worker<'static>, TooLittle> {
        let boot = cx.boot();
        let threads = cx.threads();
        let share = self.settings.store.memory_bytes / threads;
        let needed = share as u64 + share as u64 / HEAP_PART + HEAP_REST;
        let too_little = TooLittle {
            needed_mib: needed.div_ceil(1 << 20),
            heap_mib: boot.heap_bytes() >> 20,
        };
        if needed > boot.heap_bytes() {
            return Err(too_little);
        }
        self.settings.threads = threads;
        let server = self.shared.call_once(|| {
            let mut settings = self.settings.clone();
            settings.store.seed = libix::ticks();
            let up = cx.now().as_secs();
            Server::new(settings, boot.unix_seconds().unwrap_or(0) + up)
        });
        match server.store.add_memory(share) {
            true => Ok(Worker::new(server, cx.thread())),
            false => Err(too_little),
        }
    }

    /// What this thread serves with, at the present time. There is nothing before it has joined.
    #[inline]
    fn worker(&mut self, now: Duration) -> Option<&Worker<'static>> {
        let worker = self.worker.as_mut()?;
        worker.now = (now.as_secs() as u32).saturating_add(FIRST_SECOND);
        Some(worker)
    }

    /// Answers what a peer has sent if that is a request for one key, and the peer reads. Whether it is.
    #[inline]
    fn serve_lone_get(&mut self, connection: &mut Connection<'_, Peer>, data: &[u8]) -> bool {
        if connection.state.is_waiting || connection.pending() >= self.settings.answer_limit {
            return false;
        }
        let Some(key) = connection.state.session.lone_get(data) else {
            return false;
        };
        let Some(worker) = self.worker(connection.context().now()) else {
            return false;
        };
        let answer = match worker.get(key) {
            Some(item) => Payload::leased(item.into_answer()),
            None => END.into(),
        };
        worker.counters.bytes_written.add(answer.len() as u64);
        // What is not taken is dropped: the connection is over already, and `on_close` follows.
        drop(connection.send(answer));
        true
    }

    /// Serves any other request, or has it wait.
    #[inline(never)]
    fn serve_or_hold(&mut self, connection: &mut Connection<'_, Peer>, data: Received) {
        match connection.state.is_waiting {
            true => connection.state.held.push_back(data),
            false => self.serve(connection, data),
        }
        if connection.state.is_waiting
            && let Some(worker) = &self.worker
        {
            worker.counters.conn_yields.add(1);
        }
    }

    /// Serves what a peer has sent, and holds what it has to wait with.
    fn serve(&mut self, connection: &mut Connection<'_, Peer>, mut data: Received) {
        match self.feed(connection, &data) {
            Fed::All => connection.give_back(data),
            Fed::Full(taken) => {
                data.advance(taken);
                connection.state.is_waiting = true;
                if !data.is_empty() {
                    connection.state.held.push_front(data);
                }
            }
            Fed::Close => connection.close(),
        }
    }

    fn feed(&mut self, connection: &mut Connection<'_, Peer>, data: &[u8]) -> Fed {
        let now = connection.context().now();
        let room = self.settings.answer_limit;
        let room = room.saturating_sub(connection.pending());
        let Some(worker) = self.worker(now) else {
            return Fed::Close;
        };
        let (peer, state) = connection.split();
        let mut answers = Answers::to(peer, room);
        let fed = state.session.feed(worker, data, &mut answers);
        answers.end_text();
        worker.counters.bytes_written.add(answers.bytes as u64);
        fed
    }

    /// Goes on with a peer that has read.
    #[inline(never)]
    fn resume(&mut self, connection: &mut Connection<'_, Peer>) {
        connection.state.is_waiting = false;
        match self.feed(connection, &[]) {
            Fed::All => {}
            Fed::Full(_) => connection.state.is_waiting = true,
            Fed::Close => return connection.close(),
        }
        while !connection.state.is_waiting
            && let Some(data) = connection.state.held.pop_front()
        {
            self.serve(connection, data);
        }
        if connection.state.has_ended && !connection.state.is_waiting {
            connection.close();
        }
    }
}

/// Why a thread cannot have its share of the memory.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "this thread needs a heap of {needed_mib} MiB for its share of -m and has {heap_mib} MiB: give the \
     machine more memory (--memory), or -m less"
)]
struct TooLittle {
    needed_mib: u64,
    heap_mib: u64,
}

impl libix::Service for Service {
    type State = Peer;

    fn on_start(&mut self, cx: &mut Context<Peer>) {
        match self.join(cx) {
            Ok(worker) => self.worker = Some(worker),
            Err(error) => {
                println!("memcached: {error}");
                return cx.stop(EXIT_USAGE);
            }
        }
        // What a peer is owed is bounded here, between commands.
        cx.set_send_limit(usize::MAX);
        cx.listen(self.settings.port);
        if self.settings.udp_port != 0 {
            cx.udp_bind(self.settings.udp_port);
        }
        if cx.thread() == 0 {
            println!(
                "memcached on port {}, {} MiB",
                self.settings.port,
                self.settings.store.memory_bytes >> 20
            );
            if !self.sweeps_in_background() {
                cx.wake_at(cx.now() + SWEEP_INTERVAL);
            }
        }
    }

    fn on_knock(&mut self, _cx: &mut Context<Peer>, _knock: &Knock) -> Option<Peer> {
        let worker = self.worker.as_ref()?;
        worker.counters.total_connections.add(1);
        worker.counters.curr_connections.add(1);
        Some(Peer::default())
    }

    #[inline]
    fn on_data(&mut self, connection: &mut Connection<'_, Peer>, data: Received) {
        if let Some(worker) = &self.worker {
            worker.counters.bytes_read.add(data.len() as u64);
        }
        match self.serve_lone_get(connection, &data) {
            true => connection.give_back(data),
            false => self.serve_or_hold(connection, data),
        }
    }

    fn on_sent(&mut self, connection: &mut Connection<'_, Peer>, _bytes: usize) {
        if connection.state.is_waiting && connection.pending() <= self.settings.answer_limit / 2 {
            self.resume(connection);
        }
    }

    fn on_end_of_stream(&mut self, connection: &mut Connection<'_, Peer>) {
        match connection.state.is_waiting {
            true => connection.state.has_ended = true,
            false => connection.close(),
        }
    }

    fn on_datagram(&mut self, cx: &mut Context<Peer>, datagram: Datagram) {
        let Some(worker) = self.worker(cx.now()) else {
            return;
        };
        worker.counters.bytes_read.add(datagram.data.len() as u64);
        for answer in datagram::answers(worker, &datagram.data) {
            worker.counters.bytes_written.add(answer.len() as u64);
            cx.send_datagram(datagram.local_port, datagram.peer, answer);
        }
    }

    fn on_close(&mut self, _: &mut Context<Peer>, _: ConnectionId, _: Peer, _: CloseReason) {
        if let Some(worker) = &self.worker {
            worker.counters.curr_connections.subtract(1);
        }
    }

    fn on_wake(&mut self, cx: &mut Context<Peer>) {
        let mut interval = SWEEP_INTERVAL;
        if let Some(&worker) = self.worker(cx.now()) {
            interval = sweep(worker.server, &mut self.swept, worker.now);
        }
        cx.wake_at(cx.now() + interval);
    }
}

impl Service {
    /// Has a background thread sweep, if the machine has a processor for it.
    fn sweeps_in_background(&self) -> bool {
        let Some(server) = self.worker.map(|worker| worker.server) else {
            return false;
        };
        let work = move || {
            let (mut swept, mut interval) = (0, SWEEP_INTERVAL);
            loop {
                background::sleep(interval);
                let now = background::now().as_secs() as u32 + FIRST_SECOND;
                // Elastic threads spin for the stripe meanwhile.
                background::hold(|| interval = sweep(server, &mut swept, now));
            }
        };
        background::spawn::<()>(work).is_ok()
    }
}

/// Sweeps some stripes, and says when the next ones are due.
fn sweep(server: &'static Server, swept: &mut usize, now: u32) -> Duration {
    let mut checked = 0;
    if server.crawler.is_enabled.load(Relaxed) {
        for _ in 0..SWEEP_STRIPES {
            checked += server.store.sweep(*swept, now).checked;
            *swept += 1;
        }
    }
    match server.crawler.has_swept(SWEEP_STRIPES, checked) {
        true => {
            let sleep_us = server.crawler.sleep_us.load(Relaxed);
            CRAWL_INTERVAL.max(Duration::from_micros(sleep_us.into()))
        }
        false => SWEEP_INTERVAL,
    }
}

/// Answers to what came in one event. Text that follows text is put together.
struct Answers<'a> {
    peer: SendHalf<'a, Peer>,
    fixed: Option<&'static str>,
    text: Vec<u8>,
    bytes: usize,
    room: usize,
}

impl<'a> Answers<'a> {
    fn to(peer: SendHalf<'a, Peer>, room: usize) -> Self {
        Self {
            peer,
            fixed: None,
            text: Vec::new(),
            bytes: 0,
            room,
        }
    }

    /// What follows does not belong to the same text.
    #[inline]
    fn end_text(&mut self) {
        if let Some(fixed) = self.fixed.take() {
            self.send(fixed.into());
        } else if !self.text.is_empty() {
            let text = core::mem::take(&mut self.text);
            self.send(text.into());
        }
    }

    #[inline]
    fn send(&mut self, payload: Payload) {
        // What is not taken is dropped: the connection is over already, and `on_close` follows.
        drop(self.peer.send(payload));
    }

    fn copy_fixed(&mut self) {
        if let Some(fixed) = self.fixed.take() {
            self.text.extend_from_slice(fixed.as_bytes());
        }
    }
}

impl Output for Answers<'_> {
    #[inline]
    fn fixed(&mut self, text: &'static str) {
        if self.fixed.is_some() || !self.text.is_empty() {
            return self.text(text.as_bytes());
        }
        self.bytes += text.len();
        self.fixed = Some(text);
    }

    #[inline(never)]
    fn text(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len();
        self.copy_fixed();
        self.text.extend_from_slice(bytes);
    }

    #[inline]
    fn piece(&mut self, piece: Piece) {
        self.end_text();
        let payload = Payload::leased(piece);
        self.bytes += payload.len();
        self.send(payload);
    }

    #[inline]
    fn is_full(&self) -> bool {
        self.bytes >= self.room
    }
}
