//! Very many connections, of which a few have a request under way at a time, each in its turn: does a
//! request cost more where more connections are open?
//!
//! The batches that the guest finds are the same however large the crowd is. What differs is that a
//! connection is silent for longer between two requests, so that its acknowledgement is a frame of its own
//! and does not ride on the next request. That is part of what a large crowd costs.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ix_machine::Machine;
use ix_machine::process::find_tool;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::client::{Check, Client, Opening};
use crate::hold::Held;

/// Connections with a request under way at a time, and those that are opened at a time.
pub const ACTIVE: usize = 64;

/// The addresses that connections come from, which become the host's own.
const SOURCES: &str = "10.9.0.16/28";
const FIRST_SOURCE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 16);
/// The ports of each: above those that the host chooses for others.
const FIRST_PORT: u16 = 10_000;
const PORTS: usize = 50_000;
/// Files of this process beside the connections.
const OTHER_FILES: u64 = 256;

/// The connections.
pub struct Crowd {
    client: Client,
    server: SocketAddr,
    /// The connection whose turn is next.
    turn: usize,
}

impl Crowd {
    /// Without connections yet, at the host's end of the machine's wire.
    pub fn gather(machine: &Machine, server: SocketAddr) -> Result<Self> {
        let mut command = machine.command(&find_tool("ip", "iproute2")?)?;
        let added = command
            .args(["route", "replace", "local", SOURCES, "dev", "lo"])
            .output()
            .context("cannot start ip")?;
        ensure!(
            added.status.success(),
            "cannot make {SOURCES} the host's own: {}",
            String::from_utf8_lossy(&added.stderr).trim()
        );
        Ok(Self {
            client: Client::empty()?,
            server,
            turn: 0,
        })
    }

    /// Number of connections.
    pub fn len(&self) -> usize {
        self.client.connections()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Opens connections until there are so many, or until it has taken too long: [`Crowd::len`] says.
    pub fn grow(
        &mut self,
        machine: &Machine,
        connections: usize,
        deadline: Instant,
        check: Check,
    ) -> Result<()> {
        allow_open_files(connections)?;
        let namespace = machine.netns().context("the machine has no wire")?;
        while self.len() < connections && Instant::now() < deadline {
            check()?;
            let first = self.len();
            let sources: Vec<_> = (first..connections.min(first + ACTIVE))
                .map(source)
                .collect();
            let opening = namespace.run(|| Opening::begin_from(self.server, &sources))??;
            self.client
                .adopt(opening)
                .with_context(|| format!("after {first} connections"))?;
        }
        Ok(())
    }

    /// Requests of a round.
    pub fn active(&self) -> usize {
        self.len().min(ACTIVE)
    }

    /// A request on each of those whose turn it is. The guest finds all at once, as in
    /// [`crate::run::round`].
    pub fn round(&mut self, machine: &Machine, check: Check) -> Result<()> {
        let active = self.active();
        if self.turn + active > self.len() {
            self.turn = 0;
        }
        let turn = self.turn..self.turn + active;
        self.turn = turn.end;
        if active == 1 {
            self.client.send(turn)?;
        } else {
            let held = Held::stop(machine)?;
            self.client.send(turn)?;
            held.release_after(active as u64)?;
        }
        self.client.receive(active, check)
    }
}

/// Where connection `number` comes from.
fn source(number: usize) -> SocketAddr {
    let address = FIRST_SOURCE.to_bits() + (number / PORTS) as u32;
    let port = FIRST_PORT + (number % PORTS) as u16;
    (Ipv4Addr::from_bits(address), port).into()
}

fn allow_open_files(connections: usize) -> Result<()> {
    let wanted = connections as u64 + OTHER_FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum: limit.maximum.map(|maximum| maximum.max(wanted)),
    };
    setrlimit(Resource::Nofile, raised).with_context(|| {
        format!("{connections} connections need {wanted} open files: raise the limit (`ulimit -n`)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_quarter_of_a_million_connections_come_from_different_places() {
        let sources: BTreeSet<SocketAddr> = (0..250_000).map(source).collect();
        assert_eq!(sources.len(), 250_000);
        let last = Ipv4Addr::from_bits(FIRST_SOURCE.to_bits() + 15);
        assert!(sources.iter().all(|source| source.ip() <= last));
        assert!(sources.iter().all(|source| source.port() >= FIRST_PORT));
    }
}
