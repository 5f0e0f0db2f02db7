//! What a transmit queue's two contexts hold, and which of them a frame names.
//!
//! A data descriptor asks for offloads by flags, and names a context that says where the headers
//! lie and which VLAN tag goes in (7.2.3.3). The device keeps two contexts of a queue until they
//! are overwritten. There are four layouts of headers, so that a queue that sends two of them
//! writes each context once, and one that sends more overwrites the older of the two. A large frame
//! that becomes segments has a context that says how (7.2.4); of those there are as many as there
//! are sizes of segments and lengths of TCP headers.

use ix_hal::TxChecksum;
use ixgbe_spec::{L4Type, TxCommand, TxContext, TxData, TxOptions};

const ETHERNET_HEADER: u8 = 14;
/// Least length of a TCP header.
const TCP_HEADER: u16 = 20;
/// Contexts of a queue (7.2.3.3).
const SLOTS: usize = 2;

/// Where PAYLEN lies in the second word (7.2.3.2.4).
pub(crate) const PAYLEN_SHIFT: u32 = 46;

/// The contexts of a queue, and the words that refer to them.
#[derive(Debug)]
pub(crate) struct Contexts {
    /// By number of the [`TxChecksum`]: the second word of the first descriptor of such a frame,
    /// without lengths; 0 while the device does not know the context that it needs.
    first_words: [u64; KINDS.len()],
    /// The same of the descriptors after the first.
    data_word: u64,
    /// What the device knows.
    slots: [Option<Headers>; SLOTS],
    /// The slot that is overwritten next.
    next: usize,
    /// Tag control information that every frame gets.
    tag: Option<u16>,
    /// Every frame names a context.
    always: bool,
}

impl Contexts {
    /// Those of a queue that was just enabled, whose frames get this tag, and name a context either if they need
    /// one or `always`.
    pub(crate) fn new(tag: Option<u16>, always: bool) -> Self {
        let mut contexts = Self {
            first_words: [0; KINDS.len()],
            data_word: data_word(command(tag), 0, TxOptions::empty(), false),
            slots: [None; SLOTS],
            next: 0,
            tag,
            always,
        };
        contexts.set_first_words();
        contexts
    }

    /// Second word of a frame's first descriptor, without lengths; 0 if the context is to be
    /// written before.
    #[inline(always)]
    pub(crate) fn first_word(&self, checksum: TxChecksum) -> u64 {
        self.first_words[checksum as usize]
    }

    /// Second word of a frame's descriptors after the first, without their length.
    #[inline(always)]
    pub(crate) fn data_word(&self) -> u64 {
        self.data_word
    }

    /// The descriptor to write before a frame of that kind; after it the first word is known.
    pub(crate) fn load(&mut self, checksum: TxChecksum) -> [u64; 2] {
        self.overwrite(KINDS[checksum as usize].headers).1
    }

    /// Second word of the first descriptor of a large frame that becomes segments, without lengths,
    /// and the descriptor to write before it if the device does not know its context. `None` if
    /// frames of that kind cannot be cut.
    pub(crate) fn segmenting(
        &mut self,
        checksum: TxChecksum,
        segments: Segments,
    ) -> Option<(u64, Option<[u64; 2]>)> {
        let kind = KINDS[checksum as usize];
        let header_len = u16::from(ETHERNET_HEADER) + kind.headers.ip_length;
        let l4_length = segments.header_len.checked_sub(header_len)?;
        let is_tcp = kind.headers.l4_type == L4Type::Tcp && kind.options.contains(TxOptions::TXSM);
        if !is_tcp || l4_length < TCP_HEADER {
            return None;
        }
        let headers = Headers {
            l4_length: l4_length as u8,
            mss: segments.size,
            ..kind.headers
        };
        let known = self.slots.iter().position(|it| *it == Some(headers));
        let (slot, context) = match known {
            Some(slot) => (slot, None),
            None => {
                let (slot, context) = self.overwrite(headers);
                (slot, Some(context))
            }
        };
        let command = command(self.tag) | TxCommand::TSE;
        let word = data_word(command, slot as u8, kind.options, self.always);
        Some((word, context))
    }

    /// Gives the older slot to a layout; the slot, and the descriptor that tells the device.
    fn overwrite(&mut self, headers: Headers) -> (usize, [u64; 2]) {
        let slot = self.next;
        self.next = (slot + 1) % SLOTS;
        self.slots[slot] = Some(headers);
        self.set_first_words();
        (slot, headers.context(slot as u8, self.tag).encode())
    }

    fn set_first_words(&mut self) {
        let command = command(self.tag);
        for (word, kind) in self.first_words.iter_mut().zip(KINDS) {
            let slot = self.slots.iter().position(|it| *it == Some(kind.headers));
            *word = match slot {
                Some(slot) => data_word(command, slot as u8, kind.options, self.always),
                // No offload, no context.
                None if kind.options.is_empty() && self.tag.is_none() && !self.always => {
                    data_word(command, 0, kind.options, false)
                }
                None => 0,
            };
        }
    }
}

/// How a large frame becomes segments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segments {
    /// Bytes of all headers.
    pub header_len: u16,
    /// Bytes of payload of each segment.
    pub size: u16,
}

/// What a [`TxChecksum`] means for descriptors.
#[derive(Clone, Copy, Debug)]
struct Kind {
    headers: Headers,
    options: TxOptions,
}

/// Where a context says that headers lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Headers {
    ipv4: bool,
    ip_length: u16,
    l4_type: L4Type,
    /// Bytes of the TCP header, 0 where nothing is cut.
    l4_length: u8,
    /// Bytes of payload of each segment, likewise.
    mss: u16,
}

impl Headers {
    const fn ipv4(l4_type: L4Type) -> Self {
        Self {
            ipv4: true,
            ip_length: 20,
            l4_type,
            l4_length: 0,
            mss: 0,
        }
    }

    const fn ipv6(l4_type: L4Type) -> Self {
        Self {
            ipv4: false,
            ip_length: 40,
            l4_type,
            l4_length: 0,
            mss: 0,
        }
    }

    fn context(self, index: u8, tag: Option<u16>) -> TxContext {
        TxContext {
            mac_length: ETHERNET_HEADER,
            ip_length: self.ip_length,
            vlan: tag.unwrap_or(0),
            ipv4: self.ipv4,
            l4_type: Some(self.l4_type),
            index,
            l4_length: self.l4_length,
            mss: self.mss,
        }
    }
}

/// By number of the [`TxChecksum`]. A context for TCP serves where only the IPv4 header counts, and
/// where nothing but the tag does.
const KINDS: [Kind; 6] = {
    let tcp = Headers::ipv4(L4Type::Tcp);
    let udp = Headers::ipv4(L4Type::Udp);
    let ip = TxOptions::IXSM;
    let both = TxOptions::IXSM.union(TxOptions::TXSM);
    [
        kind(tcp, TxOptions::empty()),
        kind(tcp, ip),
        kind(tcp, both),
        kind(udp, both),
        kind(Headers::ipv6(L4Type::Tcp), TxOptions::TXSM),
        kind(Headers::ipv6(L4Type::Udp), TxOptions::TXSM),
    ]
};
const _: () = {
    assert!(TxChecksum::None as usize == 0 && TxChecksum::Ipv4 as usize == 1);
    assert!(TxChecksum::Ipv4Tcp as usize == 2 && TxChecksum::Ipv4Udp as usize == 3);
    assert!(TxChecksum::Ipv6Tcp as usize == 4 && TxChecksum::Ipv6Udp as usize == 5);
};

const fn kind(headers: Headers, options: TxOptions) -> Kind {
    Kind { headers, options }
}

/// DCMD of every descriptor. VLE counts in the first only.
fn command(tag: Option<u16>) -> TxCommand {
    match tag {
        Some(_) => TxCommand::IFCS | TxCommand::VLE,
        None => TxCommand::IFCS,
    }
}

/// Second word of a data descriptor that does not end its frame, without PAYLEN and without the
/// length of its piece, which is in the low 16 bits. Never 0.
fn data_word(command: TxCommand, context: u8, options: TxOptions, check_context: bool) -> u64 {
    TxData {
        address: 0,
        length: 0,
        command,
        options,
        context,
        check_context,
        payload_length: 0,
    }
    .encode()[1]
}

#[cfg(test)]
mod tests;
