//! UDP (RFC 768): bound ports, and datagrams both ways, without a copy in either direction.
//!
//! A datagram is delivered in the buffer that it arrived in, and the application holds that buffer
//! until `udp_recv_done`; how many it may hold is bounded for each port and for all of them. A
//! datagram on its way out is the application's memory, referred to by the TX ring.

use crate::address::{Endpoint, IpAddress};
use crate::config::Config;
use crate::context::{Context, Event, Events};
use crate::engine::Engine;
use crate::icmp::Unreachable;
use crate::ipv6::header::IPV6;
use crate::ipv6::icmp::Error6;
use crate::neighbor::{Asker, Lookup};
use crate::packet::{Packet, pseudo_sum};
use crate::wire::{IPV4, PROTOCOL_UDP, UDP, be16, emit_ip, fold, put16};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use ix_abi::{Error, UDP_SEND_MAX};
use ix_hal::{
    Fragment, MAX_FRAGMENTS, MbufId, Release, RxChecksum, RxFrame, Transmit, TxChecksum, TxFrame,
};

const _: () = assert!(UDP_SEND_MAX <= MAX_FRAGMENTS);

/// No slot.
const NONE: u16 = u16::MAX;

/// A bound port, or one whose application still holds buffers.
#[derive(Clone, Copy, Default)]
struct Port {
    is_bound: bool,
    /// Buffers that the application holds of it.
    held: u32,
}

/// The bound ports, and which of them each buffer was delivered on.
pub(crate) struct Udp {
    ports: Vec<Port>,
    /// Slot of every port number in `ports`, or [`NONE`].
    slots: Box<[u16]>,
    /// Slot of every buffer that the application holds, or [`NONE`].
    owners: Box<[u16]>,
    held: u32,
}

impl Udp {
    /// Room for as many ports as `config` says, none of them bound.
    pub fn new(config: &Config) -> Self {
        let ports = usize::from(config.udp_ports.min(NONE - 1));
        Self {
            ports: vec![Port::default(); ports],
            slots: vec![NONE; 1 << 16].into(),
            owners: vec![NONE; config.mbufs as usize].into(),
            held: 0,
        }
    }

    /// Whether somebody asked for the datagrams to a port.
    pub fn is_bound(&self, port: u16) -> bool {
        self.slot(port).is_some()
    }

    fn slot(&self, port: u16) -> Option<usize> {
        let slot = self.slots[usize::from(port)];
        (slot != NONE).then_some(usize::from(slot))
    }

    /// Takes a buffer back from the application; whether it held that one.
    fn give_back(&mut self, mbuf: MbufId) -> bool {
        let Some(owner) = self.owners.get_mut(mbuf.0 as usize) else {
            return false;
        };
        let slot = core::mem::replace(owner, NONE);
        if slot == NONE {
            return false;
        }
        self.ports[usize::from(slot)].held -= 1;
        self.held -= 1;
        true
    }
}

impl Engine {
    /// Asks for the datagrams to a port.
    pub fn udp_bind(&mut self, port: u16) -> Result<(), Error> {
        if port == 0 {
            return Err(Error::Invalid);
        }
        if self.udp.slot(port).is_some() {
            return Err(Error::InUse);
        }
        // One whose buffers are still out cannot count those of another port.
        let mut ports = self.udp.ports.iter();
        let slot = ports
            .position(|port| !port.is_bound && port.held == 0)
            .ok_or(Error::Exhausted)?;
        self.udp.ports[slot].is_bound = true;
        self.udp.slots[usize::from(port)] = slot as u16;
        Ok(())
    }

    /// No longer asks for the datagrams to a port. Buffers that are out stay the application's.
    pub fn udp_unbind(&mut self, port: u16) -> Result<(), Error> {
        let slot = self.udp.slot(port).ok_or(Error::BadState)?;
        self.udp.ports[slot].is_bound = false;
        self.udp.slots[usize::from(port)] = NONE;
        Ok(())
    }

    /// Takes the buffer of a datagram back.
    pub fn udp_recv_done<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        mbuf: MbufId,
    ) -> Result<(), Error> {
        if !self.udp.give_back(mbuf) {
            return Err(Error::BadHandle);
        }
        cx.pool.give(mbuf);
        Ok(())
    }

    /// Sends one datagram from a bound port; nothing is sent if the answer is an error. The
    /// fragments are read until the NIC says that a frame with [`Release::User`] is sent.
    pub fn udp_send<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        local_port: u16,
        remote: Endpoint,
        fragments: &[Fragment],
    ) -> Result<(), Error> {
        if self.udp.slot(local_port).is_none() {
            return Err(Error::BadState);
        }
        // No descriptor may be empty.
        let has_empty = fragments.iter().any(|piece| piece.len == 0);
        if remote.port == 0 || has_empty || fragments.len() > MAX_FRAGMENTS {
            return Err(Error::Invalid);
        }
        let payload_len = fragments.iter().map(|piece| u64::from(piece.len)).sum();
        let destination = remote.address;
        let own = self.own_address_for(destination);
        let (_, source) = own
            .filter(|_| self.is_host(destination))
            .ok_or(Error::Unreachable)?;
        let len = self
            .datagram_len(cx, remote.address, payload_len)
            .ok_or(Error::TooLong)?;
        let mac = self.station_of(cx, remote.address)?;
        let Some(room) = cx.tx.header() else {
            self.counters.udp_send_full += 1;
            return Err(Error::TryAgain);
        };
        room[..6].copy_from_slice(&mac);
        room[6..12].copy_from_slice(&self.local.mac);
        let at = emit_ip(room, source, destination, PROTOCOL_UDP, len);
        put16(room, at, local_port);
        put16(room, at + 2, remote.port);
        put16(room, at + 4, len);
        let pseudo = pseudo_sum(PROTOCOL_UDP, source, destination);
        put16(room, at + 6, fold(u64::from(pseudo) + u64::from(len)));
        cx.tx.send(&TxFrame {
            header_len: (at + UDP) as u16,
            fragments,
            checksum: match destination.ipv4() {
                Some(_) => TxChecksum::Ipv4Udp,
                None => TxChecksum::Ipv6Udp,
            },
            segment_size: 0,
            release: Some(Release::User),
        });
        self.counters.udp_out_datagrams += 1;
        Ok(())
    }

    /// Length of a datagram with its header, if it fits into one packet.
    fn datagram_len<T: Transmit, E: Events>(
        &self,
        cx: &Context<'_, T, E>,
        destination: IpAddress,
        payload_len: u64,
    ) -> Option<u16> {
        let path = self.path_mtus.get(cx.now, destination);
        let (own, header) = match destination.ipv4() {
            Some(_) => (self.local.mtu, IPV4),
            None => (self.ipv6.mtu, IPV6),
        };
        let most = u64::from(own.min(path.unwrap_or(u16::MAX))) - header as u64;
        let len = payload_len + UDP as u64;
        (len <= most).then_some(len as u16)
    }

    /// The station that a datagram goes to; asks for it if need be.
    fn station_of<T: Transmit, E: Events>(
        &mut self,
        cx: &Context<'_, T, E>,
        destination: IpAddress,
    ) -> Result<[u8; 6], Error> {
        let next_hop = self.next_hop(destination).ok_or(Error::Unreachable)?;
        match self.neighbors.lookup(cx.now, next_hop, Asker::Ourselves) {
            Lookup::Known(mac) => Ok(mac),
            Lookup::Asked(_) | Lookup::Full => {
                self.counters.udp_unresolved += 1;
                Err(Error::TryAgain)
            }
        }
    }

    /// Delivers a datagram, or says why not. Returns whether the mbuf was kept.
    pub(crate) fn datagram_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        frame: &RxFrame,
        bytes: &[u8],
        packet: &Packet,
    ) -> bool {
        if !self.is_host(packet.source) {
            self.counters.ip_in_address_errors += 1;
            return false;
        }
        let Some(end) = datagram_end(bytes, packet) else {
            self.counters.udp_in_errors += 1;
            return false;
        };
        if !checksum_is_good(frame.checksum, bytes, packet, end) {
            self.counters.udp_in_errors += 1;
            self.counters.udp_in_checksum_errors += 1;
            return false;
        }
        let local_port = be16(bytes, packet.payload + 2);
        let Some(slot) = self.udp.slot(local_port) else {
            self.counters.udp_no_ports += 1;
            if packet.is_ipv6() {
                return self.send_error6(cx, Error6::Port, frame.mbuf, bytes, packet);
            }
            self.send_unreachable(cx, Unreachable::Port, bytes, packet);
            return false;
        };
        let port = &mut self.udp.ports[slot];
        if port.held >= u32::from(self.config.udp_port_mbufs)
            || self.udp.held >= self.config.udp_mbufs
        {
            self.counters.udp_in_errors += 1;
            self.counters.udp_receive_full += 1;
            return false;
        }
        port.held += 1;
        self.udp.held += 1;
        self.udp.owners[frame.mbuf.0 as usize] = slot as u16;
        self.counters.udp_in_datagrams += 1;
        cx.events.push(Event::Datagram {
            peer: Endpoint {
                address: packet.source,
                port: be16(bytes, packet.payload),
            },
            local_port,
            mbuf: frame.mbuf,
            offset: (packet.payload + UDP) as u16,
            len: (end - packet.payload - UDP) as u16,
        });
        true
    }
}

/// Where in the frame a datagram ends by its own length; `None` if it has no sound header.
fn datagram_end(bytes: &[u8], packet: &Packet) -> Option<usize> {
    let header = bytes
        .get(packet.payload..packet.end)?
        .first_chunk::<UDP>()?;
    let len = usize::from(be16(header, 4));
    (UDP..=packet.end - packet.payload)
        .contains(&len)
        .then_some(packet.payload + len)
}

/// Whether the checksum is right, or the sender made none, which it may over IPv4 only (RFC 8200 8.1).
fn checksum_is_good(verdict: RxChecksum, bytes: &[u8], packet: &Packet, end: usize) -> bool {
    match be16(bytes, packet.payload + 6) {
        0 => !packet.is_ipv6(),
        _ => verdict == RxChecksum::Good || packet.checksum_is_good(bytes, PROTOCOL_UDP, end),
    }
}
