//! The engine: its tables, its calls, and the order in which a cycle uses them.

use crate::address::Endpoint;
use crate::config::Config;
use crate::context::{Context, Events};
use crate::counters::Counters;
use alloc::vec;
use alloc::vec::Vec;
use ix_abi::{Error, Handle};
use ix_hal::{Fragment, Instant, RxFrame, Transmit};

/// A TCP/IP stack for one elastic thread.
pub struct Engine {
    config: Config,
    counters: Counters,
    listening: Vec<u64>,
    listeners: u16,
}

impl Engine {
    /// Allocates every table at the capacity that `config` states.
    pub fn new(config: Config, _now: Instant) -> Self {
        Self {
            config,
            counters: Counters::default(),
            listening: vec![0; 65_536 / 64],
            listeners: 0,
        }
    }

    /// Takes in one frame; `bytes` is its contents. The engine owns the frame's mbuf from now on:
    /// it keeps it or gives it to the pool. Pushes at most 4 events, for which there must be room.
    pub fn ingress<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        frame: RxFrame,
        _bytes: &[u8],
    ) {
        self.counters.rx_frames += 1;
        cx.pool.give(frame.mbuf);
    }

    /// Runs expired timers; stops when fewer than 4 events fit or the TX ring is full, and goes
    /// on at the next call.
    pub fn timers<T: Transmit, E: Events>(&mut self, _cx: &mut Context<'_, T, E>) {}

    /// Sends what became sendable: data, acknowledgements, ARP. Once at the end of a half-cycle.
    pub fn output<T: Transmit, E: Events>(&mut self, _cx: &mut Context<'_, T, E>) {}

    /// When [`Engine::timers`] has to run next; may be early, never late.
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Whether [`Engine::output`] left work behind because the TX ring was full.
    pub fn has_pending_output(&self) -> bool {
        false
    }

    /// Accepts knocks on a port.
    pub fn listen(&mut self, port: u16) -> Result<(), Error> {
        let bit = 1 << (port & 63);
        let word = &mut self.listening[usize::from(port >> 6)];
        if port == 0 {
            return Err(Error::Invalid);
        }
        if *word & bit != 0 {
            return Err(Error::InUse);
        }
        if self.listeners == self.config.listeners {
            return Err(Error::Exhausted);
        }
        *word |= bit;
        self.listeners += 1;
        Ok(())
    }

    /// No longer accepts knocks on a port. Connections and unanswered knocks stay.
    pub fn unlisten(&mut self, port: u16) -> Result<(), Error> {
        let bit = 1 << (port & 63);
        let word = &mut self.listening[usize::from(port >> 6)];
        if *word & bit == 0 {
            return Err(Error::BadState);
        }
        *word &= !bit;
        self.listeners -= 1;
        Ok(())
    }

    /// Opens a connection to `remote`; `Connected` tells the outcome.
    pub fn connect<T: Transmit, E: Events>(
        &mut self,
        _cx: &mut Context<'_, T, E>,
        _cookie: u64,
        _remote: Endpoint,
    ) -> Result<Handle, Error> {
        Err(Error::Unreachable)
    }

    /// Takes a knocking connection and names it `cookie`; sends SYN-ACK.
    pub fn accept<T: Transmit, E: Events>(
        &mut self,
        _cx: &mut Context<'_, T, E>,
        _handle: Handle,
        _cookie: u64,
    ) -> Result<(), Error> {
        Err(Error::BadHandle)
    }

    /// Queues payload by reference; returns how many bytes were accepted. They are referenced
    /// until `Sent` events have covered them, or `Dead`.
    pub fn send<T: Transmit, E: Events>(
        &mut self,
        _cx: &mut Context<'_, T, E>,
        _handle: Handle,
        _fragments: &[Fragment],
    ) -> Result<u32, Error> {
        Err(Error::BadHandle)
    }

    /// Gives received bytes back, oldest first; opens the receive window.
    pub fn recv_done<T: Transmit, E: Events>(
        &mut self,
        _cx: &mut Context<'_, T, E>,
        _handle: Handle,
        _bytes: u64,
    ) -> Result<(), Error> {
        Err(Error::BadHandle)
    }

    /// Sends FIN after what is queued; receiving goes on. Pushes at most 1 event.
    pub fn shutdown<T: Transmit, E: Events>(
        &mut self,
        _cx: &mut Context<'_, T, E>,
        _handle: Handle,
    ) -> Result<(), Error> {
        Err(Error::BadHandle)
    }

    /// Refuses a knock, or closes in both directions, or releases a dead handle. Pushes at most 1
    /// event.
    pub fn close<T: Transmit, E: Events>(
        &mut self,
        _cx: &mut Context<'_, T, E>,
        _handle: Handle,
    ) -> Result<(), Error> {
        Err(Error::BadHandle)
    }

    /// Sends RST now and releases the handle. Pushes at most 1 event.
    pub fn abort<T: Transmit, E: Events>(
        &mut self,
        _cx: &mut Context<'_, T, E>,
        _handle: Handle,
    ) -> Result<(), Error> {
        Err(Error::BadHandle)
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Connections in any state but TIME-WAIT.
    pub fn connections(&self) -> usize {
        0
    }
}
