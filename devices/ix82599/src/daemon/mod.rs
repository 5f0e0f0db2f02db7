//! Serves the device to one vfio-user client ([`serve`]), or several devices behind a switch to a client
//! each ([`serve_functions`]): an event loop over the client's socket, the wire and
//! the model's deadlines, in one thread.
//!
//! One thread is enough, since a vfio-user client waits for most of its requests anyway, and it
//! makes the order plain: when the reply to DMA_UNMAP or to a reset leaves, no access to the memory
//! is under way. Each turn handles all messages that are there, then moves a batch of frames both
//! ways, so that doorbells, descriptors and interrupts are handled in groups under load. How long it looks
//! for more before it sleeps is [`Patience`]'s.

mod conversation;
mod endpoint;
mod functions;
mod interrupts;
mod patience;

pub use conversation::{Conversation, Turn};
pub use endpoint::Endpoint;
pub use functions::{Function, serve_functions};
pub use interrupts::EventFds;
pub use patience::{HostProcessor, Patience, Processor};

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::vfio_user::ConnectionError;
use crate::wire::Wire;

/// With mapped doorbells, how long the loop spins after the last frame before it sleeps.
const SPIN_NS: u64 = 200_000;
/// With mapped doorbells, how long it sleeps between two looks at the doorbells when idle.
const DOORBELL_NAP_NS: u64 = 50_000;

const CLIENT: u64 = 0;
const WIRE: u64 = 1;
const STOP: u64 = 2;
const DOOR: u64 = 3;

/// Why serving ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client hung up.
    Disconnected,
    /// `stop` became readable.
    Stopped,
}

/// Why serving ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The connection broke.
    #[error(transparent)]
    Connection(ConnectionError),
    /// The event queue failed.
    #[error("waiting for events failed: {0}")]
    Events(#[from] Errno),
}

/// Serves `endpoint` to the client at the other end of `socket` until it hangs up or `stop` becomes
/// readable. With trapped doorbells it looks for what comes next for at most `spin` before it sleeps.
///
/// # Errors
/// [`ServeError`].
pub fn serve<W: Wire>(
    socket: OwnedFd,
    endpoint: &mut Endpoint<W>,
    stop: impl AsFd,
    spin: Duration,
) -> Result<End, ServeError> {
    let mut client = Conversation::new(socket)?;
    let mut events = Events::new()?;
    events.add(&client, CLIENT)?;
    events.add(&stop, STOP)?;
    events.follow_wire(endpoint.model().wire(), true)?;
    if let Some(door) = endpoint.model().wire().door() {
        events.add(door, DOOR)?;
    }
    let processor = HostProcessor::new();
    let mut patience = patience_of(spin, endpoint.model().has_mapped_doorbells());
    let mut schedule = Schedule::default();
    loop {
        let timeout_ns = schedule.timeout_ns(processor.now_ns(), endpoint);
        let mut ready = Ready::default();
        patience.wait(&processor, timeout_ns, |timeout_ns| {
            ready = events.wait(timeout_ns)?;
            Ok(ready != Ready::default())
        })?;
        if ready.stop {
            return Ok(End::Stopped);
        }
        let now_ns = processor.now_ns();
        endpoint.model_mut().advance(now_ns);
        if ready.door {
            endpoint.model_mut().wire_mut().answer_door();
        }
        if ready.client || client.state() == Turn::More {
            match client.turn(endpoint) {
                Ok(turn) => events.follow_client(&client, turn == Turn::Blocked)?,
                Err(ConnectionError::Closed) => return Ok(End::Disconnected),
                Err(error) => return Err(ServeError::Connection(error)),
            }
        }
        let progress = endpoint.model_mut().step();
        schedule.more = progress.more || client.state() == Turn::More;
        if ready.client || progress.received + progress.transmitted > 0 {
            schedule.last_active_ns = now_ns;
        }
        let model = endpoint.model();
        let wanted = model.wants_frames() && model.wire().link_up();
        events.follow_wire(model.wire(), wanted)?;
    }
}

/// Doorbells that are mapped have to be looked at all the time, by [`Schedule`].
fn patience_of(spin: Duration, has_mapped_doorbells: bool) -> Patience {
    Patience::new(if has_mapped_doorbells {
        Duration::ZERO
    } else {
        spin
    })
}

/// How long the loop may sleep.
#[derive(Debug, Default)]
struct Schedule {
    /// The last step left something to do.
    more: bool,
    last_active_ns: u64,
}

impl Schedule {
    /// `None`: until something happens.
    fn timeout_ns<W: Wire>(&self, now_ns: u64, endpoint: &Endpoint<W>) -> Option<u64> {
        if self.more {
            return Some(0);
        }
        let model = endpoint.model();
        let deadline = model.deadline_ns().map(|at| at.saturating_sub(now_ns));
        let doorbells = model.has_mapped_doorbells().then(|| {
            if now_ns.saturating_sub(self.last_active_ns) < SPIN_NS {
                0
            } else {
                DOORBELL_NAP_NS
            }
        });
        deadline.into_iter().chain(doorbells).min()
    }
}

/// What is ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ready {
    client: bool,
    wire: bool,
    stop: bool,
    door: bool,
}

/// The event queue.
struct Events {
    epoll: OwnedFd,
    /// Whether frames on the wire wake the loop.
    wire: bool,
    /// Whether room in the client's socket wakes it, and not what the client sends.
    client_blocked: bool,
}

impl Events {
    fn new() -> Result<Self, Errno> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            wire: false,
            client_blocked: false,
        })
    }

    fn add(&self, fd: impl AsFd, token: u64) -> Result<(), Errno> {
        let data = epoll::EventData::new_u64(token);
        epoll::add(&self.epoll, fd, data, epoll::EventFlags::IN)
    }

    /// What the client sends wakes the loop, or, while it owes us room, that it reads.
    fn follow_client(&mut self, client: impl AsFd, blocked: bool) -> Result<(), Errno> {
        if self.client_blocked == blocked {
            return Ok(());
        }
        self.client_blocked = blocked;
        let flags = if blocked {
            epoll::EventFlags::OUT
        } else {
            epoll::EventFlags::IN
        };
        let data = epoll::EventData::new_u64(CLIENT);
        epoll::modify(&self.epoll, client, data, flags)
    }

    /// Frames on the wire wake the loop, or, while the device has no room for them, do not.
    fn follow_wire(&mut self, wire: &impl Wire, wanted: bool) -> Result<(), Errno> {
        let Some(fd) = wire.readiness() else {
            return Ok(());
        };
        if self.wire == wanted {
            return Ok(());
        }
        // Removed, since a descriptor that waits for nothing still reports errors, again and again.
        if wanted {
            self.add(fd, WIRE)?;
        } else {
            epoll::delete(&self.epoll, fd)?;
        }
        self.wire = wanted;
        Ok(())
    }

    fn wait(&self, timeout_ns: Option<u64>) -> Result<Ready, Errno> {
        let timeout = timeout_ns.map(|ns| Timespec {
            tv_sec: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: (ns % 1_000_000_000) as _,
        });
        let mut events = [const { std::mem::MaybeUninit::<epoll::Event>::uninit() }; 4];
        let mut ready = Ready::default();
        let (events, _) = match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Err(Errno::INTR) => return Ok(ready),
            events => events?,
        };
        for event in events {
            match event.data.u64() {
                CLIENT => ready.client = true,
                STOP => ready.stop = true,
                DOOR => ready.door = true,
                _ => ready.wire = true,
            }
        }
        Ok(ready)
    }
}
