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
}

impl Contexts {
    /// Those of a queue that was just enabled, whose frames get this tag.
    pub(crate) fn new(tag: Option<u16>) -> Self {
        let mut contexts = Self {
            first_words: [0; KINDS.len()],
            data_word: data_word(command(tag), 0, TxOptions::empty()),
            slots: [None; SLOTS],
            next: 0,
            tag,
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
        Some((data_word(command, slot as u8, kind.options), context))
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
                Some(slot) => data_word(command, slot as u8, kind.options),
                // No offload, no context.
                None if kind.options.is_empty() && self.tag.is_none() => {
                    data_word(command, 0, kind.options)
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
fn data_word(command: TxCommand, context: u8, options: TxOptions) -> u64 {
    TxData {
        address: 0,
        length: 0,
        command,
        options,
        context,
        check_context: false,
        payload_length: 0,
    }
    .encode()[1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use ixgbe_spec::TxDescriptor;

    /// The context that a frame of that kind names, as the device has it after `contexts` was asked
    /// for it in the way that the ring does.
    struct Device {
        contexts: Contexts,
        known: [Option<TxContext>; SLOTS],
        written: usize,
    }

    impl Device {
        fn new(tag: Option<u16>) -> Self {
            Self {
                contexts: Contexts::new(tag),
                known: [None; SLOTS],
                written: 0,
            }
        }

        /// What the first descriptor says, and the context it names.
        fn send(&mut self, checksum: TxChecksum) -> (TxData, Option<TxContext>) {
            if self.contexts.first_word(checksum) == 0 {
                let words = self.contexts.load(checksum);
                let Ok(TxDescriptor::Context(context)) = TxDescriptor::decode(words) else {
                    panic!("{words:x?} is no context");
                };
                self.known[usize::from(context.index)] = Some(context);
                self.written += 1;
            }
            let words = [0, self.contexts.first_word(checksum)];
            let Ok(TxDescriptor::Data(data)) = TxDescriptor::decode(words) else {
                panic!("{words:x?} is no data");
            };
            (data, self.known[usize::from(data.context)])
        }
    }

    #[test]
    fn two_layouts_are_written_once_each() {
        let mut device = Device::new(None);
        for _ in 0..3 {
            for (checksum, l4_type) in [
                (TxChecksum::Ipv4Tcp, L4Type::Tcp),
                (TxChecksum::Ipv4Udp, L4Type::Udp),
                (TxChecksum::Ipv4, L4Type::Tcp),
            ] {
                let context = device.send(checksum).1.expect("a context");
                assert_eq!(context.l4_type, Some(l4_type));
                assert_eq!((context.mac_length, context.ip_length), (14, 20));
                assert!(context.ipv4 && context.vlan == 0);
            }
        }
        assert_eq!(device.written, 2);
    }

    #[test]
    fn a_third_layout_takes_the_place_of_the_older() {
        let mut device = Device::new(None);
        let layouts = [
            (TxChecksum::Ipv4Tcp, true, 20, L4Type::Tcp),
            (TxChecksum::Ipv6Tcp, false, 40, L4Type::Tcp),
            (TxChecksum::Ipv6Udp, false, 40, L4Type::Udp),
            (TxChecksum::Ipv6Tcp, false, 40, L4Type::Tcp),
            (TxChecksum::Ipv4Udp, true, 20, L4Type::Udp),
            (TxChecksum::Ipv6Tcp, false, 40, L4Type::Tcp),
        ];
        let written = layouts.map(|(checksum, ipv4, ip_length, l4_type)| {
            let (data, context) = device.send(checksum);
            let context = context.expect("a context");
            assert_eq!((context.ipv4, context.ip_length), (ipv4, ip_length));
            assert_eq!(context.l4_type, Some(l4_type));
            assert_eq!(data.options.contains(TxOptions::IXSM), ipv4);
            assert!(data.options.contains(TxOptions::TXSM));
            device.written
        });
        assert_eq!(written, [1, 2, 3, 3, 4, 5]);
    }

    #[test]
    fn segments_have_a_context_of_their_own() {
        let mut contexts = Contexts::new(None);
        let segments = |header_len, size| Segments { header_len, size };
        contexts.load(TxChecksum::Ipv4Tcp);
        let (word, context) = contexts
            .segmenting(TxChecksum::Ipv4Tcp, segments(66, 1448))
            .expect("TCP is cut");
        let context = context.map(TxDescriptor::decode);
        let Some(Ok(TxDescriptor::Context(context))) = context else {
            panic!("{context:?} is no context");
        };
        assert_eq!(
            (context.l4_length, context.mss, context.index),
            (32, 1448, 1)
        );
        let Ok(TxDescriptor::Data(data)) = TxDescriptor::decode([0, word]) else {
            panic!("{word:x} is no data");
        };
        assert!(data.command.contains(TxCommand::TSE));
        assert_eq!((data.context, data.payload_length), (1, 0));
        // Both stay known.
        let again = contexts.segmenting(TxChecksum::Ipv4Tcp, segments(66, 1448));
        assert_eq!(again, Some((word, None)));
        assert_ne!(contexts.first_word(TxChecksum::Ipv4Tcp), 0);
        // Another connection's do not fit beside them.
        let other = contexts.segmenting(TxChecksum::Ipv6Tcp, segments(74, 1440));
        assert!(other.is_some_and(|(_, context)| context.is_some()));
        assert_eq!(contexts.first_word(TxChecksum::Ipv4Tcp), 0);
    }

    #[test]
    fn only_tcp_is_cut_into_segments() {
        let mut contexts = Contexts::new(None);
        for (checksum, header_len) in [
            (TxChecksum::None, 54),
            (TxChecksum::Ipv4, 54),
            (TxChecksum::Ipv4Udp, 54),
            (TxChecksum::Ipv6Udp, 74),
            (TxChecksum::Ipv4Tcp, 53),
            (TxChecksum::Ipv6Tcp, 73),
            (TxChecksum::Ipv6Tcp, 0),
        ] {
            let size = 1000;
            let segments = Segments { header_len, size };
            assert_eq!(
                contexts.segmenting(checksum, segments),
                None,
                "{checksum:?}"
            );
        }
    }

    #[test]
    fn lengths_lie_where_a_word_has_room_for_them() {
        let mut contexts = Contexts::new(None);
        contexts.load(TxChecksum::Ipv4Tcp);
        let word = contexts.first_word(TxChecksum::Ipv4Tcp) | 1500 << PAYLEN_SHIFT | 54;
        let Ok(TxDescriptor::Data(data)) = TxDescriptor::decode([0, word]) else {
            panic!("{word:x} is no data");
        };
        assert_eq!((data.payload_length, data.length), (1500, 54));
    }

    #[test]
    fn a_frame_without_offloads_needs_a_context_only_for_its_tag() {
        let mut plain = Device::new(None);
        let (data, _) = plain.send(TxChecksum::None);
        assert_eq!(
            (data.command, data.options),
            (TxCommand::IFCS | TxCommand::DEXT, TxOptions::empty())
        );
        assert_eq!(plain.written, 0);
        let mut tagged = Device::new(Some(0x6064));
        let (data, context) = tagged.send(TxChecksum::None);
        assert!(data.command.contains(TxCommand::VLE) && data.options.is_empty());
        assert_eq!(context.map(|it| it.vlan), Some(0x6064));
        let (data, context) = tagged.send(TxChecksum::Ipv4Udp);
        assert!(data.command.contains(TxCommand::VLE));
        assert_eq!(context.map(|it| it.vlan), Some(0x6064));
    }
}
