//! Datagrams of the fake kernel: what arrives is poisoned when it is given back, and what is sent
//! is read once more when it leaves, a round later, and must be what it was.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::AtomicU8;
use std::vec::Vec;

use ix_abi::area::UDP_SENT;
use ix_abi::{Error, EventKind, UDP_SEND_MAX, address_from_words, address_to_words};

use super::connection::{poison, user_memory};
use super::{FakeKernel, POISON};

/// A datagram that the application sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentDatagram {
    /// The port that it was sent from.
    pub local_port: u16,
    /// Where it goes.
    pub peer: SocketAddr,
    /// What it says.
    pub payload: Vec<u8>,
}

/// State of the fake kernel's UDP.
#[derive(Default)]
pub(super) struct FakeUdp {
    bound: BTreeSet<u16>,
    /// Buffers that the application holds, by address.
    held: BTreeMap<u64, &'static [AtomicU8]>,
    /// Sent in this round: where it lies, and what lay there.
    leaving: Vec<(Vec<(u64, u64)>, SentDatagram)>,
    sent: Vec<SentDatagram>,
}

impl FakeKernel {
    /// A datagram arrives, from port 40000 of a peer. Returns whether its port is bound.
    pub fn datagram(&mut self, local_port: u16, payload: &[u8]) -> bool {
        if !self.udp.bound.contains(&local_port) {
            return false;
        }
        // One byte more, so that empty ones have an address of their own; leaked, so that a slice
        // held too long shows poison.
        let bytes = payload.iter().copied().chain([POISON]);
        let buffer: &'static [AtomicU8] = bytes.map(AtomicU8::new).collect::<Vec<_>>().leak();
        let address = buffer.as_ptr() as u64;
        self.udp.held.insert(address, buffer);
        let ports = 40_000 << 16 | u64::from(local_port) << 32;
        let (high, low) = address_to_words(self.peer_address);
        let first = EventKind::UdpRecv as u64 | ports | (payload.len() as u64) << 48;
        self.events.push_back([first, address, high, low]);
        true
    }

    /// What the application sent and the NIC has read.
    pub fn sent_datagrams(&self) -> &[SentDatagram] {
        &self.udp.sent
    }

    /// Buffers of datagrams that the application has not given back.
    pub fn held_datagrams(&self) -> usize {
        self.udp.held.len()
    }

    pub(super) fn udp_bind(&mut self, port: u16, wanted: bool) -> Result<i64, Error> {
        let (done, error) = match wanted {
            true => (self.udp.bound.insert(port), Error::InUse),
            false => (self.udp.bound.remove(&port), Error::BadState),
        };
        if done { Ok(0) } else { Err(error) }
    }

    pub(super) fn udp_recv_done(&mut self, address: u64) -> Result<i64, Error> {
        let buffer = self.udp.held.remove(&address).ok_or(Error::BadHandle)?;
        poison(buffer);
        Ok(0)
    }

    pub(super) fn udp_send(
        &mut self,
        ports: u32,
        entries: u64,
        high: u64,
        low: u64,
    ) -> Result<i64, Error> {
        let (local_port, port) = (ports as u16, (ports >> 16) as u16);
        if let Some(error) = self.udp_send_error {
            return Err(error);
        }
        if !self.udp.bound.contains(&local_port) {
            return Err(Error::BadState);
        }
        let count = entries as u32;
        assert!(count as usize <= UDP_SEND_MAX);
        let pieces = match count {
            0 => Vec::new(),
            _ => self.entries(entries >> 32, count)?,
        };
        let datagram = SentDatagram {
            local_port,
            peer: SocketAddr::new(address_from_words(high, low), port),
            payload: read(&pieces),
        };
        self.udp.leaving.push((pieces, datagram));
        Ok(0)
    }

    /// The NIC reads what was sent in the round before.
    pub(super) fn send_datagrams(&mut self) {
        for (pieces, datagram) in self.udp.leaving.drain(..) {
            assert!(
                read(&pieces) == datagram.payload,
                "memory of a datagram changed before it had left"
            );
            self.udp.sent.push(datagram);
        }
        self.area.store(UDP_SENT, self.udp.sent.len() as u64);
    }
}

fn read(pieces: &[(u64, u64)]) -> Vec<u8> {
    let bytes = pieces
        .iter()
        .flat_map(|&(address, bytes)| user_memory(address, bytes));
    bytes.copied().collect()
}
