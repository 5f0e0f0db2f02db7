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
            contexts: Contexts::new(tag, false),
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
    let mut contexts = Contexts::new(None, false);
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
    let mut contexts = Contexts::new(None, false);
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
    let mut contexts = Contexts::new(None, false);
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

#[test]
fn where_every_frame_names_a_context_a_plain_one_does() {
    let mut device = Device {
        contexts: Contexts::new(None, true),
        ..Device::new(None)
    };
    for _ in 0..2 {
        let (data, context) = device.send(TxChecksum::None);
        assert!(data.check_context && data.options.is_empty());
        assert_eq!(context.map(|it| it.mac_length), Some(ETHERNET_HEADER));
    }
    assert!(device.send(TxChecksum::Ipv6Udp).0.check_context);
    assert_eq!(device.written, 2);
}
