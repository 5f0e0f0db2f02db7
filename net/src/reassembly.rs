//! Reassembly of datagrams (RFC 791 3.2, RFC 1122 3.3.2, RFC 8200 4.5), bounded in memory and time.
//!
//! Fragments stay in the buffers that they arrived in. When the last gap is closed, their payload
//! is put together in the buffer of the first one ([`Assembly`]), so that a datagram is never
//! longer than a buffer; this is the only copy, and frames that are no fragments know nothing of
//! it. The engine cannot write to buffers: whoever drives it copies, see
//! [`Engine::take_assembly`](crate::Engine::take_assembly).
//!
//! A datagram with fragments that overlap is dropped as a whole, as RFC 5722 demands of IPv6:
//! overlaps serve to slip something past a filter. An exact repetition is a duplicate of the
//! network's and is dropped alone.

use crate::address::IpAddress;
use crate::wheel::NEVER;
use crate::wire::ETHERNET;
use alloc::vec;
use alloc::vec::Vec;
use ix_hal::{Instant, MbufId};

/// Most fragments of a datagram: enough for the full buffer of a jumbo frame, 16 KiB, over a path of
/// 576 bytes.
pub(crate) const MOST_FRAGMENTS: usize = 32;
/// Bytes before the payload that room is left for as long as the first fragment is not there: the
/// longest IPv4 header.
const LONGEST_HEADER: usize = 60;

/// Which datagram a fragment belongs to (RFC 791 3.2, RFC 8200 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct DatagramKey {
    /// Sender.
    pub source: IpAddress,
    /// Number of the receiving address of ours.
    pub own: u32,
    /// Identification.
    pub identification: u32,
    /// Protocol number; 0 over IPv6, where it does not tell datagrams apart.
    pub protocol: u8,
}

impl DatagramKey {
    /// Whether it came over IPv6.
    pub fn is_ipv6(&self) -> bool {
        self.source.ipv4().is_none()
    }
}

/// A fragment that came in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub key: DatagramKey,
    pub piece: Piece,
    /// No other follows it.
    pub is_last: bool,
    /// What the payload begins with, as the first fragment says.
    pub protocol: u8,
    /// What an error would say of it, if it is the first.
    pub quote: Option<Quote>,
}

/// What an error says of a first fragment whose others do not come. The engine cannot read it any
/// more by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Quote {
    /// The station that it came from.
    pub station: [u8; 6],
    /// Which of our addresses it was for.
    pub destination: IpAddress,
    /// How much of the packet is quoted, in bytes.
    pub len: u16,
    /// Ones' complement sum of that.
    pub sum: u64,
}

/// A datagram that took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expired {
    pub key: DatagramKey,
    /// The first fragment, if it came: its buffer is the caller's.
    pub first: Option<(MbufId, Quote)>,
}

/// Payload of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Piece {
    /// The buffer that it lies in.
    pub mbuf: MbufId,
    /// Where in that buffer it starts.
    pub offset: u16,
    /// Where in the datagram's payload it belongs.
    pub at: u16,
    /// Its length in bytes.
    pub len: u16,
}

/// A datagram that is complete, and what is to be copied before it can be delivered.
#[derive(Clone, Copy, Debug)]
pub struct Assembly {
    pub(crate) key: DatagramKey,
    pub(crate) protocol: u8,
    pub(crate) destination: IpAddress,
    pieces: [Piece; MOST_FRAGMENTS],
    count: usize,
    first: Piece,
    payload_len: u16,
}

impl Assembly {
    /// The buffer that the datagram is put together in: it starts with the headers of the first
    /// fragment and its payload.
    pub fn mbuf(&self) -> MbufId {
        self.first.mbuf
    }

    /// Length of the frame in that buffer.
    pub fn len(&self) -> usize {
        usize::from(self.first.offset + self.payload_len)
    }

    /// Whether the frame is empty, which it never is.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// What is to be copied, and to where in the buffer of [`Assembly::mbuf`].
    pub fn copies(&self) -> impl Iterator<Item = (Piece, usize)> {
        let start = self.first.offset;
        let others = self.others();
        others.map(move |piece| (piece, usize::from(start + piece.at)))
    }

    /// Where the payload of the datagram starts in the frame.
    pub(crate) fn payload(&self) -> usize {
        usize::from(self.first.offset)
    }

    /// The fragments but for the first.
    pub(crate) fn others(&self) -> impl Iterator<Item = Piece> {
        let pieces = self.pieces.into_iter().take(self.count);
        pieces.filter(|piece| piece.at != 0)
    }
}

/// What became of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its buffer is kept.
    Kept,
    /// It is not wanted; its buffer is the caller's.
    Dropped,
    /// It overlaps another: with it, the whole datagram is not wanted.
    Overlaps,
}

#[derive(Clone, Copy)]
struct Slot {
    is_used: bool,
    key: DatagramKey,
    protocol: u8,
    quote: Quote,
    expires: u64,
    pieces: [Piece; MOST_FRAGMENTS],
    count: usize,
    received: u16,
    /// Length of the payload, once the last fragment is in.
    total: Option<u16>,
}

impl Slot {
    const FREE: Self = Self {
        is_used: false,
        key: DatagramKey {
            source: IpAddress::from_words(0, 0),
            own: 0,
            identification: 0,
            protocol: 0,
        },
        protocol: 0,
        quote: Quote {
            station: [0; 6],
            destination: IpAddress::from_words(0, 0),
            len: 0,
            sum: 0,
        },
        expires: NEVER,
        pieces: [Piece {
            mbuf: MbufId(0),
            offset: 0,
            at: 0,
            len: 0,
        }; MOST_FRAGMENTS],
        count: 0,
        received: 0,
        total: None,
    };

    fn pieces(&self) -> &[Piece] {
        &self.pieces[..self.count]
    }

    fn first(&self) -> Option<Piece> {
        self.pieces().iter().find(|piece| piece.at == 0).copied()
    }

    fn is_complete(&self) -> bool {
        self.is_used && self.total == Some(self.received)
    }
}

/// Datagrams that are being put together.
pub(crate) struct Reassembly {
    slots: Vec<Slot>,
    timeout: u64,
    /// Some datagram is complete and not yet taken.
    pub has_complete: bool,
    /// Earliest time at which a datagram is given up.
    pub deadline: u64,
    /// Datagrams given up because others came.
    pub evictions: u64,
}

impl Reassembly {
    /// Room for that many datagrams, each for `timeout` nanoseconds.
    pub fn new(datagrams: u16, timeout: u64) -> Self {
        Self {
            slots: vec![Slot::FREE; usize::from(datagrams.max(1))],
            timeout,
            has_complete: false,
            deadline: NEVER,
            evictions: 0,
        }
    }

    /// Takes a fragment. Buffers that are no longer wanted go to `give`, but not that of a fragment
    /// that was not kept.
    pub fn arrives(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        buffer_bytes: usize,
        give: impl FnMut(MbufId),
    ) -> Fate {
        let Arrival {
            key,
            piece,
            is_last,
            ..
        } = *arrival;
        // Extension headers beyond what room is left for make a datagram too long.
        let headers = ETHERNET + LONGEST_HEADER;
        let most = buffer_bytes.saturating_sub(headers);
        let end = usize::from(piece.at) + usize::from(piece.len);
        if piece.len == 0 || (!is_last && !piece.len.is_multiple_of(8)) || end > most {
            return Fate::Dropped;
        }
        if piece.at == 0 && usize::from(piece.offset) > headers {
            return Fate::Dropped;
        }
        let mut give = give;
        let index = self.find_or_take(now, key, &mut give);
        let slot = &mut self.slots[index];
        if slot.pieces().iter().any(|other| is_repeated(other, &piece)) || slot.is_complete() {
            return Fate::Dropped;
        }
        let end = end as u16;
        let furthest = slot.pieces().iter().map(|other| other.at + other.len);
        let is_sound = match (is_last, slot.total) {
            (true, Some(total)) => total == end,
            (true, None) => furthest.max().is_none_or(|furthest| furthest <= end),
            (false, total) => total.is_none_or(|total| end <= total),
        };
        let is_apart = |other: &Piece| end <= other.at || other.at + other.len <= piece.at;
        if !is_sound || !slot.pieces().iter().all(is_apart) || slot.count == MOST_FRAGMENTS {
            self.free(index, &mut give);
            return Fate::Overlaps;
        }
        slot.pieces[slot.count] = piece;
        slot.count += 1;
        slot.received += piece.len;
        if is_last {
            slot.total = Some(end);
        }
        if let Some(quote) = arrival.quote {
            (slot.protocol, slot.quote) = (arrival.protocol, quote);
        }
        self.has_complete |= self.slots[index].is_complete();
        Fate::Kept
    }

    /// Takes a datagram that is complete; its buffers are the caller's.
    pub fn take(&mut self) -> Option<Assembly> {
        let Some(index) = self.slots.iter().position(Slot::is_complete) else {
            self.has_complete = false;
            return None;
        };
        let slot = core::mem::replace(&mut self.slots[index], Slot::FREE);
        let first = slot.first()?;
        Some(Assembly {
            key: slot.key,
            protocol: slot.protocol,
            destination: slot.quote.destination,
            pieces: slot.pieces,
            count: slot.count,
            first,
            payload_len: slot.received,
        })
    }

    /// Gives up a datagram that has taken too long; call again until there is none.
    pub fn expire(&mut self, now: Instant, mut give: impl FnMut(MbufId)) -> Option<Expired> {
        let is_late = |slot: &Slot| slot.is_used && slot.expires <= now.0 && !slot.is_complete();
        let Some(index) = self.slots.iter().position(is_late) else {
            let waiting = self.slots.iter().filter(|slot| slot.is_used);
            self.deadline = waiting.map(|slot| slot.expires).min().unwrap_or(NEVER);
            return None;
        };
        let slot = core::mem::replace(&mut self.slots[index], Slot::FREE);
        let first = slot.first();
        for piece in slot.pieces().iter().filter(|piece| piece.at != 0) {
            give(piece.mbuf);
        }
        Some(Expired {
            key: slot.key,
            first: first.map(|piece| (piece.mbuf, slot.quote)),
        })
    }

    /// The datagram's slot, or a free one, or that of the one begun longest ago.
    fn find_or_take(
        &mut self,
        now: Instant,
        key: DatagramKey,
        give: &mut impl FnMut(MbufId),
    ) -> usize {
        let is_it = |slot: &Slot| slot.is_used && slot.key == key;
        if let Some(index) = self.slots.iter().position(is_it) {
            return index;
        }
        let slots = self.slots.iter().enumerate();
        let oldest = slots.min_by_key(|(_, slot)| if slot.is_used { slot.expires } else { 0 });
        let index = oldest.map_or(0, |(index, _)| index);
        if self.slots[index].is_used {
            self.free(index, give);
            self.evictions += 1;
        }
        let expires = now.0.saturating_add(self.timeout);
        self.slots[index] = Slot {
            is_used: true,
            key,
            expires,
            ..Slot::FREE
        };
        self.deadline = self.deadline.min(expires);
        index
    }

    fn free(&mut self, index: usize, give: &mut impl FnMut(MbufId)) {
        for piece in self.slots[index].pieces() {
            give(piece.mbuf);
        }
        self.slots[index] = Slot::FREE;
    }
}

fn is_repeated(one: &Piece, other: &Piece) -> bool {
    (one.at, one.len) == (other.at, other.len)
}
