//! Very many connections, of which a few have a request under way at a time: does a request cost more where
//! more connections are open?
//!
//! The guest finds the requests of a round at once, as in [`crate::run::round`], so that batches are the same
//! however large the crowd is. In a large one a connection is silent for so long between two requests that its
//! acknowledgement does not ride on the next request but is a frame of its own, and that its timers expire.
//! That is part of what a large crowd costs. These frames, too, are there at once: under load they do not come
//! one by one.
//!
//! All connections would take minutes to have their turn, and many turns to learn how long acknowledgements
//! take. So of a large crowd some hundred take turns, spread over all of it.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ix_load::options::load::Sources;
use ix_load::rounds::{Configuration, MESSAGE_BYTES, Rounds};
use ix_machine::command::TAP;
use ix_machine::{Machine, MachineConfig, MemorySize};

use crate::client::Check;
use crate::exchange::Application;
use crate::hold::Held;
use crate::run::{Bed, Clock, Measured};

/// Connections with a request under way at a time.
const ACTIVE: usize = 64;
/// In a crowd of so many that are served at 160,000 requests a second, a connection is silent for longer than
/// Linux delays an acknowledgement: 40 ms.
const SILENT_FROM: usize = 6_400;
/// How long this client delays it. It has to come while the guest stands still, and that has to be over before
/// the guest, whose clock goes on, takes it for lost (50 ms).
const ACKNOWLEDGEMENT_DELAY: Duration = Duration::from_millis(10);
const SILENCE: Duration = Duration::from_millis(12);
/// Parts of a large crowd that take turns: each is silent for 250 ms and more, longer than any timer of a
/// request.
const PARTS: usize = 16;
/// Turns until round-trip times are known that began with that of the handshake.
const LEARNING_TURNS: usize = 3;
/// Until the timers of handshakes have expired, which begin at a second (RFC 6298 2.1).
const SETTLING: Duration = Duration::from_secs(2);
/// Addresses that nobody has; each has some 60,000 ports.
const SOURCES: &str = "10.9.0.64-10.9.0.71";
/// Connections are opened for as long as this in [`measure`].
const OPENING: Duration = Duration::from_secs(240);
/// Something in the machine has stopped if it takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Guest memory for each connection, and beside them.
const BYTES_PER_CONNECTION: u64 = 16 << 10;
const OTHER_MEMORY: u64 = 512 << 20;
/// Windows have so many rounds.
pub const ROUNDS: u64 = 20;

/// Measures echoes with each of these numbers of connections, in ascending order, and says what comes out.
pub fn measure(plugin: &Path, numbers: &[usize], check: Check) -> Result<Vec<Measured>> {
    let most = numbers.iter().copied().max().unwrap_or(0);
    let mut bed = Bed::start_changed(plugin, Application::Echo, 1, Clock::Host, |config| {
        make_room(config, most);
        give_tables(config, most);
    })?;
    let mut crowd = Crowd::gather(bed.machine(), bed.server(), most)?;
    let mut all = Vec::new();
    for &number in numbers {
        crowd.grow(bed.machine(), number, Instant::now() + OPENING, check)?;
        let measured = bed.measure_crowd(&mut crowd, ROUNDS, check)?;
        println!(
            "echo, {} of {number} connections opened: {:.0} instructions, kernel {:.0}, user {:.0}",
            crowd.connections(),
            measured.point.total(),
            measured.point.kernel,
            measured.point.user
        );
        all.push(measured);
    }
    bed.stop()?;
    Ok(all)
}

/// Gives a machine memory for that many connections.
pub fn make_room(config: &mut MachineConfig, most: usize) {
    let memory = OTHER_MEMORY + most as u64 * BYTES_PER_CONNECTION;
    config.memory = config.memory.max(MemorySize::from_mib(memory >> 20));
}

/// Gives a machine of ours tables for that many connections.
pub fn give_tables(config: &mut MachineConfig, most: usize) {
    // One that is being closed is still there when the next one is opened.
    let connections = (most + most / 4).max(1 << 16).to_string();
    let option = ("connections".to_owned(), connections);
    config.kernel_options.push(option);
}

/// The connections.
pub struct Crowd {
    rounds: Rounds,
    /// Those that have a request under way together, each part in its turn.
    parts: Vec<Vec<usize>>,
    turn: usize,
}

impl Crowd {
    /// Without connections yet, but room for `most`, at the host's end of the machine's wire.
    pub fn gather(machine: &Machine, server: SocketAddr, most: usize) -> Result<Self> {
        let namespace = machine.netns().context("the machine has no wire")?;
        let sources: Sources = SOURCES.parse().map_err(anyhow::Error::msg)?;
        let start = || {
            Rounds::start(
                &Configuration {
                    server,
                    device: TAP,
                    addresses: &sources.share(0, 1),
                    connections: most as u64,
                    bytes_under_way: MESSAGE_BYTES,
                    acknowledgement_delay: ACKNOWLEDGEMENT_DELAY,
                },
                PATIENCE,
            )
        };
        Ok(Self {
            rounds: namespace.run(start)??,
            parts: Vec::new(),
            turn: 0,
        })
    }

    /// Number of connections.
    pub fn connections(&self) -> usize {
        self.rounds.connections()
    }

    /// Opens connections until there are so many, or until it has taken too long:
    /// [`Crowd::connections`] says. Then waits until both sides know them.
    pub fn grow(
        &mut self,
        machine: &Machine,
        connections: usize,
        deadline: Instant,
        check: Check,
    ) -> Result<()> {
        while self.connections() < connections && Instant::now() < deadline {
            check()?;
            self.rounds.open_some(connections)?;
        }
        self.rounds.linger(SETTLING)?;
        self.parts = parts(self.connections());
        (0..self.parts.len() * LEARNING_TURNS).try_for_each(|_| self.round(machine, check))
    }

    /// Requests of a round.
    pub fn active(&self) -> usize {
        self.connections().min(ACTIVE)
    }

    /// A request on each of those whose turn it is.
    pub fn round(&mut self, machine: &Machine, check: Check) -> Result<()> {
        check()?;
        let turn = &self.parts[self.turn % self.parts.len()];
        self.turn += 1;
        if turn.len() == 1 {
            self.rounds.send(turn)?;
        } else {
            let mut held = Held::stop(machine)?;
            if self.parts.len() > 1 {
                self.rounds.linger(SILENCE)?;
                held.count_from_now()?;
            }
            self.rounds.send(turn)?;
            held.release_after(turn.len() as u64)?;
        }
        Ok(self.rounds.receive(turn)?)
    }
}

/// Who takes turns in a crowd of so many.
fn parts(connections: usize) -> Vec<Vec<usize>> {
    let parts = if connections < SILENT_FROM { 1 } else { PARTS };
    let active = connections.min(ACTIVE);
    let all = parts * active;
    let slot = |place: usize| place * connections / all;
    let part = |first: usize| (0..active).map(|step| slot(first + step * parts)).collect();
    (0..parts).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn those_that_take_turns_are_spread_over_the_crowd() {
        for (connections, sizes) in [(1, vec![1]), (3_000, vec![64]), (250_000, vec![64; 16])] {
            let parts = parts(connections);
            let found: Vec<usize> = parts.iter().map(Vec::len).collect();
            assert_eq!(found, sizes);
            let all: BTreeSet<usize> = parts.into_iter().flatten().collect();
            assert_eq!(all.len(), sizes.iter().sum::<usize>(), "each has one turn");
            assert!(*all.last().unwrap() < connections);
            assert!(*all.last().unwrap() >= connections - connections.div_ceil(all.len()));
        }
    }
}
