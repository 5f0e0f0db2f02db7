//! Fragments of either family, on their way into `reassembly` and out of it.

use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::ipv6::header::{
    FRAGMENT, Fragment, IPV6, Ipv6Header, LEAST_MTU, Path, Problem, Start, walk,
};
use crate::ipv6::icmp::Error6;
use crate::packet::Packet;
use crate::reassembly::{Arrival, Assembly, DatagramKey, Expired, Fate, Piece, Quote};
use crate::wire::{ETHERNET, Ipv4Fragment, Ipv4Packet, PROTOCOL_TCP, TCP, UDP, sum};
use ix_hal::{MbufId, RxChecksum, RxFrame, Transmit};

/// Bytes of the first fragment's payload that an error over IPv4 quotes (RFC 792).
const QUOTED: usize = 8;
/// Bytes of a packet that an error over IPv6 quotes (RFC 4443 2.4 c).
const QUOTED6: usize = LEAST_MTU as usize - IPV6 - 8;

impl Engine {
    /// Keeps a fragment over IPv4 if it is of use. Returns whether it did.
    pub(crate) fn fragment_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        mbuf: MbufId,
        bytes: &[u8],
        packet: &Ipv4Packet,
    ) -> bool {
        let fragment = Ipv4Fragment::parse(bytes);
        let quoted = packet.end.min(packet.payload + QUOTED);
        let whole = Packet::of_ipv4(packet);
        let arrival = Arrival {
            key: DatagramKey {
                source: whole.source,
                own: whole.own,
                identification: fragment.identification.into(),
                protocol: packet.protocol,
            },
            piece: Piece {
                mbuf,
                offset: packet.payload as u16,
                // At most 65,528; `arrives` refuses what does not fit into a buffer.
                at: fragment.at as u16,
                len: (packet.end - packet.payload) as u16,
            },
            is_last: fragment.is_last,
            protocol: packet.protocol,
            quote: (fragment.at == 0).then(|| quote(bytes, whole.destination, quoted)),
        };
        self.keep_fragment(cx, &arrival)
    }

    /// Keeps a fragment over IPv6 if it is of use (RFC 8200 4.5). Returns whether the mbuf was kept.
    pub(crate) fn fragment6_arrives<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        mbuf: MbufId,
        bytes: &[u8],
        (header, own): (&Ipv6Header, u32),
        fragment: &Fragment,
    ) -> bool {
        let len = header.end - fragment.at;
        let field = match fragment.is_last {
            // The payload length, or the offset of the fragment.
            false if !len.is_multiple_of(8) => Some((Problem::Field, 4)),
            _ if usize::from(fragment.offset) + len > usize::from(u16::MAX) => {
                Some((Problem::Field, fragment.at - 6 - ETHERNET))
            }
            _ if fragment.offset == 0 && !has_all_headers(bytes, header, fragment) => {
                Some((Problem::IncompleteChain, 0))
            }
            _ => None,
        };
        if let Some((code, pointer)) = field {
            self.counters.ip6_fragments += 1;
            self.counters.ip6_fragments_dropped += 1;
            let error = Error6::Parameter(code, pointer as u32);
            let packet = Packet::of_ipv6(header, own);
            return self.send_error6(cx, error, mbuf, bytes, &packet);
        }
        let quoted = header.end.min(ETHERNET + QUOTED6);
        let arrival = Arrival {
            key: DatagramKey {
                source: header.source,
                own,
                identification: fragment.identification,
                protocol: 0,
            },
            piece: Piece {
                mbuf,
                offset: fragment.at as u16,
                at: fragment.offset,
                len: len as u16,
            },
            is_last: fragment.is_last,
            protocol: fragment.next_header,
            quote: (fragment.offset == 0).then(|| quote(bytes, header.destination, quoted)),
        };
        self.keep_fragment(cx, &arrival)
    }

    fn keep_fragment<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        arrival: &Arrival,
    ) -> bool {
        let buffer_bytes = cx.pool.geometry().size();
        let fate = self
            .reassembly
            .arrives(cx.now, arrival, buffer_bytes, |mbuf| cx.pool.give(mbuf));
        let counters = &mut self.counters;
        counters.ip_reassembly_evictions = self.reassembly.evictions;
        counters.ip_reassembly_overlaps += u64::from(fate == Fate::Overlaps);
        let is_dropped = u64::from(fate != Fate::Kept);
        match arrival.key.is_ipv6() {
            false => {
                counters.ip_fragments += 1;
                counters.ip_fragments_dropped += is_dropped;
            }
            true => {
                counters.ip6_fragments += 1;
                counters.ip6_fragments_dropped += is_dropped;
            }
        }
        fate == Fate::Kept
    }

    /// Takes a datagram whose fragments are all in. The caller makes the copies that it asks for,
    /// and hands it back to [`Engine::assembled`].
    pub fn take_assembly(&mut self) -> Option<Assembly> {
        self.reassembly.take()
    }

    /// Takes in a datagram put together; `bytes` is the frame in its buffer. Pushes at most 4
    /// events, for which there must be room.
    pub fn assembled<T: Transmit, E: Events>(
        &mut self,
        cx: &mut Context<'_, T, E>,
        assembly: &Assembly,
        bytes: &[u8],
    ) {
        for piece in assembly.others() {
            cx.pool.give(piece.mbuf);
        }
        let packet = match assembly.key.is_ipv6() {
            false => {
                self.counters.ip_reassembled += 1;
                Some(Packet {
                    payload: assembly.payload(),
                    end: bytes.len(),
                    protocol: assembly.protocol,
                    source: assembly.key.source,
                    destination: assembly.destination,
                    own: assembly.key.own,
                })
            }
            true => {
                self.counters.ip6_reassembled += 1;
                assembled6(assembly, bytes)
            }
        };
        let frame = RxFrame {
            mbuf: assembly.mbuf(),
            len: bytes.len() as u16,
            checksum: RxChecksum::Ipv4Good,
            rss_hash: 0,
        };
        let Some(packet) = packet else {
            self.counters.ip6_in_header_errors += 1;
            cx.pool.give(frame.mbuf);
            return;
        };
        if !self.deliver_packet(cx, frame, bytes, &packet) {
            cx.pool.give(frame.mbuf);
        }
    }

    /// Gives up datagrams whose fragments do not come, and says so to whoever has sent the first one
    /// (RFC 1122 3.3.2, RFC 8200 4.5).
    pub(crate) fn expire_fragments<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>) {
        while let Some(expired) = self.reassembly.expire(cx.now, |mbuf| cx.pool.give(mbuf)) {
            let counters = &mut self.counters;
            match expired.key.is_ipv6() {
                false => {
                    counters.ip_reassembly_timeouts += 1;
                    counters.ip_fragments_dropped += 1;
                }
                true => {
                    counters.ip6_reassembly_timeouts += 1;
                    counters.ip6_fragments_dropped += 1;
                }
            }
            let Expired { key, first } = expired;
            if let Some((mbuf, quote)) = first
                && !self.send_reassembly_exceeded(cx, &key, mbuf, &quote)
            {
                cx.pool.give(mbuf);
            }
        }
    }
}

/// What an error is to say of the packet in a frame that ends at `quoted`.
fn quote(bytes: &[u8], destination: crate::IpAddress, quoted: usize) -> Quote {
    let mut station = [0; 6];
    station.copy_from_slice(&bytes[6..12]);
    Quote {
        station,
        destination,
        len: (quoted - ETHERNET) as u16,
        sum: sum(&bytes[ETHERNET..quoted]),
    }
}

/// Whether a first fragment holds every header up to that of the transport (RFC 7112 5).
fn has_all_headers(bytes: &[u8], header: &Ipv6Header, fragment: &Fragment) -> bool {
    let start = Start {
        next_header: fragment.next_header,
        at: fragment.at,
        end: header.end,
        named_at: fragment.at - FRAGMENT,
    };
    match walk(bytes, start) {
        Path::Upper { protocol, at } => {
            let least = if protocol == PROTOCOL_TCP { TCP } else { UDP };
            at + least <= header.end
        }
        // What else is wrong with it shows when it is whole.
        Path::Fragment(_) | Path::Problem(_) => true,
        Path::Discard => false,
    }
}

/// The packet in a datagram over IPv6 that was put together; a fragment in it makes no sense.
fn assembled6(assembly: &Assembly, bytes: &[u8]) -> Option<Packet> {
    let start = Start {
        next_header: assembly.protocol,
        at: assembly.payload(),
        end: bytes.len(),
        named_at: assembly.payload() - FRAGMENT,
    };
    let Path::Upper { protocol, at } = walk(bytes, start) else {
        return None;
    };
    Some(Packet {
        payload: at,
        end: bytes.len(),
        protocol,
        source: assembly.key.source,
        destination: assembly.destination,
        own: assembly.key.own,
    })
}
