//! The datagrams of a thread: those that arrived and are held, those to send, and those whose
//! memory the NIC may still read.
//!
//! The kernel takes a datagram or refuses it, in the round after it was asked for. What it has no
//! room for now, or no station address yet, is offered again for a while ([`PATIENCE_NS`]), and
//! lost after that, as a datagram may be.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::SocketAddr;

use ix_abi::area::{NOW_NS, UDP_SENT};
use ix_abi::{CallNumber, Error, address_to_words, udp_entries, udp_ports};

use crate::area::Area;
use crate::batch::Batch;
use crate::hold::FULL;
use crate::payload::Payload;

/// Stands for the slot of a connection in holds on datagrams.
pub(crate) const DATAGRAM_SLOT: u32 = u32::MAX;

/// How long a datagram is offered to the kernel again and again.
const PATIENCE_NS: u64 = 1_000_000_000;
/// Most datagrams that wait for the kernel, or for the NIC. More are lost.
const MOST: usize = 4096;

/// See the module.
pub(crate) struct Datagrams {
    area: Area,
    buffers: Vec<Buffer>,
    /// Entries of `buffers` that are not in use.
    free: Vec<u32>,
    /// Addresses of buffers to give back.
    done: Vec<u64>,
    waiting: VecDeque<Outgoing>,
    /// So many of them are in the round's calls, which follow each other.
    offered: usize,
    first_call: usize,
    /// Accepted, and perhaps not sent yet, in the order of acceptance.
    leaving: VecDeque<Payload>,
    /// What the kernel had counted as sent when it was looked at last.
    sent: u64,
    /// Datagrams that were given up.
    pub lost: u64,
}

/// The buffer of a datagram that arrived.
struct Buffer {
    address: u64,
    /// What the holds on it weigh.
    weight: u32,
}

/// A datagram to send.
struct Outgoing {
    local_port: u16,
    peer: SocketAddr,
    payload: Payload,
    expires_ns: u64,
}

impl Datagrams {
    pub fn new(area: Area) -> Self {
        Self {
            area,
            buffers: Vec::new(),
            free: Vec::new(),
            done: Vec::new(),
            waiting: VecDeque::new(),
            offered: 0,
            first_call: 0,
            leaving: VecDeque::new(),
            sent: 0,
            lost: 0,
        }
    }

    /// Books the buffer of a datagram that arrived, with one hold on it. Returns its number.
    pub fn arrived(&mut self, address: u64) -> u32 {
        let buffer = Buffer {
            address,
            weight: FULL,
        };
        match self.free.pop() {
            Some(number) => {
                self.buffers[number as usize] = buffer;
                number
            }
            None => {
                self.buffers.push(buffer);
                (self.buffers.len() - 1) as u32
            }
        }
    }

    /// A buffer lost a hold of that weight.
    pub fn released(&mut self, number: u32, weight: u32) {
        let buffer = &mut self.buffers[number as usize];
        buffer.weight -= weight;
        if buffer.weight == 0 {
            self.done.push(buffer.address);
            self.free.push(number);
        }
    }

    /// Takes a datagram to send.
    pub fn send(&mut self, local_port: u16, peer: SocketAddr, payload: Payload) {
        if self.waiting.len() + self.leaving.len() >= MOST {
            self.lost += 1;
            return;
        }
        self.waiting.push_back(Outgoing {
            local_port,
            peer,
            payload,
            expires_ns: self.area.load(NOW_NS) + PATIENCE_NS,
        });
    }

    /// Whether there is something to tell the kernel.
    #[inline]
    pub fn has_calls(&self) -> bool {
        !self.done.is_empty() || !self.waiting.is_empty()
    }

    /// Whether the kernel must be looked at again soon, although no event will say when: something
    /// is to be offered again, or memory to be freed.
    #[inline]
    pub fn is_pending(&self) -> bool {
        !self.waiting.is_empty() || !self.leaving.is_empty()
    }

    /// Writes the calls of the round. Returns whether all of them fit.
    #[inline(never)]
    pub fn flush(&mut self, batch: &mut Batch) -> bool {
        while batch.room() > 0
            && let Some(address) = self.done.pop()
        {
            batch.call_on(CallNumber::UdpRecvDone, address);
        }
        self.first_call = batch.calls();
        for outgoing in &self.waiting {
            if batch.room() == 0 || batch.entries().room() == 0 {
                break;
            }
            outgoing.call(batch);
            self.offered += 1;
        }
        self.done.is_empty() && self.offered == self.waiting.len()
    }

    /// Reads the results of the round.
    #[inline]
    pub fn examine(&mut self, batch: &Batch) {
        if self.is_pending() {
            self.examine_sends(batch);
        }
    }

    #[inline(never)]
    fn examine_sends(&mut self, batch: &Batch) {
        let now_ns = self.area.load(NOW_NS);
        let offered = core::mem::take(&mut self.offered);
        for call in self.first_call..self.first_call + offered {
            let Some(outgoing) = self.waiting.pop_front() else {
                break;
            };
            let result = batch.result(call);
            if result >= 0 {
                self.leaving.push_back(outgoing.payload);
            } else if Error::from_result(result) == Some(Error::TryAgain)
                && now_ns < outgoing.expires_ns
            {
                // To the end, since those after it may go to others.
                self.waiting.push_back(outgoing);
            } else {
                self.lost += 1;
            }
        }
        let sent = self.area.load(UDP_SENT);
        while self.sent != sent && self.leaving.pop_front().is_some() {
            self.sent = self.sent.wrapping_add(1);
        }
    }
}

impl Outgoing {
    fn call(&self, batch: &mut Batch) {
        let first = batch.next_entry() as u32;
        let bytes = self.payload.len() as u64;
        if bytes != 0 {
            batch.entries().push(self.payload.address(), bytes);
        }
        let (high, low) = address_to_words(self.peer.ip());
        let entries = udp_entries(u32::from(bytes != 0), first);
        let ports = udp_ports(self.local_port, self.peer.port());
        batch.call(CallNumber::UdpSend, ports, [entries, high, low]);
    }
}
