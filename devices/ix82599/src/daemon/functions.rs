//! Serves several functions behind one switch, each to a client of its own, in one thread.
//!
//! Clients come and go: when one leaves, or says what cannot be followed, its function is as after power-up
//! and waits for the next. Nothing that a client or its guest does holds the others up: nobody waits for a
//! client, each turn moves a bounded batch for each, and memory that could vanish under us is refused
//! ([`Endpoint::require_sealed_memory`]).

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::{
    Conversation, DOORBELL_NAP_NS, Endpoint, HostProcessor, Processor, SPIN_NS, ServeError, Turn,
    patience_of,
};
use crate::vfio_user::ConnectionError;
use crate::wire::{Switch, Wire, WireError};

/// Events that are taken at once.
const EVENTS: usize = 64;

const STOP: u64 = 0;
const UPLINK: u64 = 1;
/// What a function's descriptors are called: this, plus [`KINDS`] for each function before it.
const LISTENER: u64 = 2;
const CLIENT: u64 = 3;
const DOOR: u64 = 4;
const KINDS: u64 = 3;

/// A function: a device, where its client comes in, and the client.
#[derive(Debug)]
pub struct Function<W> {
    name: String,
    listener: UnixListener,
    endpoint: Endpoint<W>,
    client: Option<Conversation>,
    /// The client has to read before it is heard again.
    is_blocked: bool,
    /// The client has said something, or somebody has asked.
    is_ready: bool,
    last_active_ns: u64,
}

impl<W: Wire> Function<W> {
    /// A function without a client.
    ///
    /// # Errors
    /// The operating system's.
    pub fn new(name: &str, listener: UnixListener, endpoint: Endpoint<W>) -> Result<Self, Errno> {
        rustix::io::ioctl_fionbio(&listener, true)?;
        Ok(Self {
            name: name.to_owned(),
            listener,
            endpoint,
            client: None,
            is_blocked: false,
            is_ready: false,
            last_active_ns: 0,
        })
    }

    /// What it is called in the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its device.
    pub fn endpoint(&self) -> &Endpoint<W> {
        &self.endpoint
    }

    /// Lets the client in that waits.
    fn accept(&mut self, events: &Events, number: u64) -> Result<(), Errno> {
        let socket = match self.listener.accept() {
            Ok((stream, _)) => OwnedFd::from(stream),
            Err(error) => {
                log::warn!("{}: a client could not be let in: {error}", self.name);
                return Ok(());
            }
        };
        let client = Conversation::new(socket)?;
        epoll::delete(&events.epoll, &self.listener)?;
        events.add(&client, number + CLIENT, epoll::EventFlags::IN)?;
        log::info!("{}: a client connected", self.name);
        self.client = Some(client);
        self.is_blocked = false;
        Ok(())
    }

    /// Hears the client, if it has said something or still has something to say.
    fn hear(&mut self, events: &Events, number: u64) -> Result<(), Errno> {
        let Some(client) = &mut self.client else {
            return Ok(());
        };
        if !self.is_ready && client.state() != Turn::More {
            return Ok(());
        }
        match client.turn(&mut self.endpoint) {
            Ok(turn) => {
                let is_blocked = turn == Turn::Blocked;
                if self.is_blocked != is_blocked {
                    self.is_blocked = is_blocked;
                    let flags = if is_blocked {
                        epoll::EventFlags::OUT
                    } else {
                        epoll::EventFlags::IN
                    };
                    let data = epoll::EventData::new_u64(number + CLIENT);
                    epoll::modify(&events.epoll, &*client, data, flags)?;
                }
                Ok(())
            }
            Err(error) => {
                match error {
                    ConnectionError::Closed => log::info!("{}: the client left", self.name),
                    error => log::warn!("{}: {error}; hung up", self.name),
                }
                self.client = None;
                self.endpoint.release();
                events.add(&self.listener, number + LISTENER, epoll::EventFlags::IN)
            }
        }
    }

    /// Moves a batch. Whether there is more to do at once.
    fn step(&mut self, now_ns: u64) -> bool {
        let progress = self.endpoint.model_mut().step();
        if self.is_ready || progress.received + progress.transmitted > 0 {
            self.last_active_ns = now_ns;
        }
        self.is_ready = false;
        let has_said_more = self
            .client
            .as_ref()
            .is_some_and(|it| it.state() == Turn::More);
        progress.more || has_said_more
    }

    /// How long the loop may sleep for its sake; `None` until something happens.
    fn timeout_ns(&self, now_ns: u64) -> Option<u64> {
        let model = self.endpoint.model();
        let deadline = model.deadline_ns().map(|at| at.saturating_sub(now_ns));
        let rings_unheard = model.has_mapped_doorbells() && self.client.is_some();
        let doorbells = rings_unheard.then(|| {
            let is_idle = now_ns.saturating_sub(self.last_active_ns) >= SPIN_NS;
            if is_idle { DOORBELL_NAP_NS } else { 0 }
        });
        deadline.into_iter().chain(doorbells).min()
    }
}

/// Serves `functions`, whose wires are ports of `switch` in the same order, until `stop` becomes readable.
/// If none has mapped doorbells, it looks for what comes next for at most `spin` before it sleeps.
///
/// # Errors
/// [`ServeError`], if events cannot be waited for. A client that fails is none.
pub fn serve_functions<W: Wire, U: Wire>(
    functions: &mut [Function<W>],
    switch: &Switch<U>,
    stop: impl AsFd,
    spin: Duration,
) -> Result<(), ServeError> {
    let events = Events::new(functions, switch, stop)?;
    let processor = HostProcessor::new();
    let mut mapped = functions.iter().map(|it| it.endpoint.model());
    let mut patience = patience_of(spin, mapped.any(|it| it.has_mapped_doorbells()));
    let mut has_more = false;
    let mut uplink_is_good = true;
    let mut tokens = Vec::with_capacity(EVENTS);
    loop {
        let timeout = timeout_ns(functions, switch, has_more, processor.now_ns());
        patience.wait(&processor, timeout, |timeout| {
            events.wait(timeout, &mut tokens)?;
            Ok(!tokens.is_empty())
        })?;
        let now_ns = processor.now_ns();
        switch.advance(now_ns);
        for function in functions.iter_mut() {
            function.endpoint.model_mut().advance(now_ns);
        }
        for token in &tokens {
            if *token == STOP {
                return Ok(());
            }
            attend(functions, &events, *token)?;
        }
        has_more = match switch.poll() {
            Ok(more) => more,
            Err(error) => {
                report(&error, &mut uplink_is_good);
                false
            }
        };
        for (number, function) in functions.iter_mut().enumerate() {
            function.hear(&events, number as u64 * KINDS)?;
            has_more |= function.step(now_ns);
        }
        // A function may have sent to one that had its turn before.
        has_more |= functions.iter().enumerate().any(|(number, function)| {
            switch.has_frames(number) && function.endpoint.model().wants_frames()
        });
    }
}

/// Sees to one event.
fn attend<W: Wire>(
    functions: &mut [Function<W>],
    events: &Events,
    token: u64,
) -> Result<(), Errno> {
    let Some(place) = token.checked_sub(LISTENER) else {
        // The uplink is looked at in any case.
        return Ok(());
    };
    let number = place / KINDS;
    let Some(function) = functions.get_mut(number as usize) else {
        return Ok(());
    };
    match place % KINDS + LISTENER {
        LISTENER => function.accept(events, number * KINDS)?,
        CLIENT => function.is_ready = true,
        _ => function.endpoint.model_mut().wire_mut().answer_door(),
    }
    Ok(())
}

/// Says once that the uplink failed.
fn report(error: &WireError, is_good: &mut bool) {
    if std::mem::replace(is_good, false) {
        log::warn!("the uplink: {error}; functions still reach each other");
    }
}

fn timeout_ns<W: Wire, U: Wire>(
    functions: &[Function<W>],
    switch: &Switch<U>,
    has_more: bool,
    now_ns: u64,
) -> Option<u64> {
    if has_more {
        return Some(0);
    }
    let functions = functions.iter().filter_map(|it| it.timeout_ns(now_ns));
    let uplink = switch.deadline_ns().map(|at| at.saturating_sub(now_ns));
    functions.chain(uplink).min()
}

/// The event queue.
struct Events {
    epoll: OwnedFd,
}

impl Events {
    fn new<W: Wire, U: Wire>(
        functions: &[Function<W>],
        switch: &Switch<U>,
        stop: impl AsFd,
    ) -> Result<Self, Errno> {
        let events = Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        };
        events.add(stop, STOP, epoll::EventFlags::IN)?;
        // Only what is new wakes the loop, since a broken uplink would do so for ever; each turn takes
        // all that is there.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        switch
            .with_readiness(|fd| events.add(fd, UPLINK, flags))
            .transpose()?;
        for (number, function) in (0..).zip(functions) {
            let place = number * KINDS;
            events.add(&function.listener, place + LISTENER, epoll::EventFlags::IN)?;
            if let Some(door) = function.endpoint.model().wire().door() {
                events.add(door, place + DOOR, epoll::EventFlags::IN)?;
            }
        }
        Ok(events)
    }

    fn add(&self, fd: impl AsFd, token: u64, flags: epoll::EventFlags) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), flags)
    }

    fn wait(&self, timeout_ns: Option<u64>, tokens: &mut Vec<u64>) -> Result<(), Errno> {
        let timeout = timeout_ns.map(|ns| Timespec {
            tv_sec: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: (ns % 1_000_000_000) as _,
        });
        let mut events = [const { std::mem::MaybeUninit::<epoll::Event>::uninit() }; EVENTS];
        tokens.clear();
        match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok((events, _)) => tokens.extend(events.iter().map(|event| event.data.u64())),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
