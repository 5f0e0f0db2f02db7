use super::*;
use crate::testing::{HEADERS_BUS, TransmitDevice, headers, pool, ring};
use alloc::vec::Vec;
use ix_hal::Fragment;
use ixgbe_spec::{L4Type, TxContext, TxData, TxDescriptor, TxOptions};
use proptest::prelude::*;

const DESCRIPTORS: u32 = 64;

struct Bench {
    ring: TxRing,
    device: TransmitDevice,
    pool: MbufPool,
}

impl Bench {
    fn new() -> Self {
        let memory = ring(DESCRIPTORS as usize);
        Self {
            ring: TxRing::new(memory, headers(DESCRIPTORS as usize), HEADERS_BUS, 1514),
            device: TransmitDevice::new(memory),
            pool: pool(16),
        }
    }

    /// Sends a frame with a header of 54 bytes.
    fn send(&mut self, fragments: &[Fragment], checksum: TxChecksum) -> bool {
        let given = self.ring.header().is_some();
        self.ring.send(&TxFrame {
            header_len: 54,
            fragments,
            checksum,
            segment_size: 0,
            release: None,
        });
        given
    }

    /// Flushes, and what the device then sees.
    fn run(&mut self) -> Vec<TxDescriptor> {
        match self.ring.flush() {
            Some(tail) => self.device.run(tail),
            None => Vec::new(),
        }
    }
}

fn data(descriptor: &TxDescriptor) -> TxData {
    match descriptor {
        TxDescriptor::Data(data) => *data,
        other => panic!("{other:?} is no data descriptor"),
    }
}

#[test]
fn a_frame_is_its_header_and_its_fragments() {
    let mut bench = Bench::new();
    let fragments = [
        Fragment {
            bus: 0x1000,
            len: 100,
        },
        Fragment {
            bus: 0x9000,
            len: 1,
        },
    ];
    assert!(bench.send(&fragments, TxChecksum::None));
    let seen: Vec<TxData> = bench.run().iter().map(data).collect();
    let pieces: Vec<(u64, u16)> = seen.iter().map(|it| (it.address, it.length)).collect();
    assert_eq!(pieces, [(HEADERS_BUS, 54), (0x1000, 100), (0x9000, 1)]);
    for (position, descriptor) in seen.iter().enumerate() {
        let last = position == 2;
        assert_eq!(
            descriptor.payload_length,
            if position == 0 { 155 } else { 0 }
        );
        assert!(descriptor.command.contains(TxCommand::IFCS));
        assert_eq!(descriptor.command.contains(TxCommand::EOP), last);
        assert_eq!(descriptor.command.contains(TxCommand::RS), last);
        assert_eq!(descriptor.options, TxOptions::empty());
    }
}

#[test]
fn a_frame_behind_others_has_left_when_the_device_says_so() {
    let mut bench = Bench::new();
    bench.send(&[], TxChecksum::None);
    let first = bench.ring.tail();
    assert!(!bench.ring.has_sent(first), "before the doorbell");
    bench.run();
    bench.send(&[], TxChecksum::None);
    let second = bench.ring.tail();
    assert!(bench.ring.has_sent(first));
    assert!(!bench.ring.has_sent(second));
    bench.run();
    assert!(bench.ring.has_sent(second) && bench.ring.has_sent(first));
}

#[test]
fn each_frame_has_a_room_of_its_own_until_it_is_sent() {
    let mut bench = Bench::new();
    bench.ring.header().unwrap()[0] = 1;
    assert_eq!(bench.ring.header().unwrap()[0], 1, "the same room");
    bench.send(&[], TxChecksum::None);
    bench.ring.header().unwrap()[0] = 2;
    bench.send(&[], TxChecksum::None);
    let addresses: Vec<u64> = bench.run().iter().map(|it| data(it).address).collect();
    assert_eq!(addresses, [HEADERS_BUS, HEADERS_BUS + 128]);
    assert_eq!((bench.ring.headers[0][0], bench.ring.headers[1][0]), (1, 2));
}

#[test]
fn contexts_are_written_once() {
    let mut bench = Bench::new();
    for checksum in [
        TxChecksum::Ipv4Tcp,
        TxChecksum::Ipv4,
        TxChecksum::Ipv4Udp,
        TxChecksum::Ipv4Tcp,
        TxChecksum::Ipv4Udp,
    ] {
        bench.send(&[], checksum);
    }
    let seen = bench.run();
    let contexts: Vec<(usize, TxContext)> = seen
        .iter()
        .enumerate()
        .filter_map(|(position, it)| match it {
            TxDescriptor::Context(context) => Some((position, *context)),
            _ => None,
        })
        .collect();
    assert_eq!(contexts.len(), 2);
    let (tcp, udp) = (contexts[0].1, contexts[1].1);
    assert_eq!((contexts[0].0, contexts[1].0), (0, 3));
    assert_eq!((tcp.l4_type, tcp.index), (Some(L4Type::Tcp), 0));
    assert_eq!((udp.l4_type, udp.index), (Some(L4Type::Udp), 1));
    assert_eq!((tcp.mac_length, tcp.ip_length, tcp.ipv4), (14, 20, true));
    let both = TxOptions::IXSM | TxOptions::TXSM;
    let uses: Vec<(u8, TxOptions)> = seen
        .iter()
        .filter(|it| matches!(it, TxDescriptor::Data(_)))
        .map(|it| (data(it).context, data(it).options))
        .collect();
    let ip_only = TxOptions::IXSM;
    let expected = [(0, both), (0, ip_only), (1, both), (0, both), (1, both)];
    assert_eq!(uses, expected);
}

#[test]
fn every_descriptor_is_freed_in_the_end() {
    let mut bench = Bench::new();
    for burst in [1, 2, 5, 31, 32, 33, 50] {
        for _ in 0..burst {
            assert!(bench.send(&[], TxChecksum::None));
        }
        bench.run();
        bench.ring.reclaim(&mut bench.pool);
        assert_eq!(bench.ring.free(), DESCRIPTORS - 1, "after {burst} frames");
    }
}

#[test]
fn completion_is_reported_about_every_32_descriptors() {
    let mut bench = Bench::new();
    for _ in 0..50 {
        bench.send(&[], TxChecksum::None);
    }
    let reports: Vec<usize> = bench
        .run()
        .iter()
        .enumerate()
        .filter(|(_, it)| data(it).command.contains(TxCommand::RS))
        .map(|(position, _)| position)
        .collect();
    assert_eq!(reports, [31, 49]);
}

#[test]
fn nothing_is_flushed_twice() {
    let mut bench = Bench::new();
    assert_eq!(bench.ring.flush(), None);
    bench.send(&[], TxChecksum::None);
    assert_eq!(bench.ring.flush(), Some(1));
    assert_eq!(bench.ring.flush(), None);
}

#[test]
fn a_full_ring_gives_no_room_until_the_device_is_done() {
    let mut bench = Bench::new();
    let mut sent = 0;
    while bench.send(&[], TxChecksum::None) {
        sent += 1;
    }
    // Room is kept for a frame of the most fragments, with a context.
    assert_eq!(sent, 63 - 9);
    assert_eq!(bench.ring.drops(), 1);
    assert!(bench.ring.header().is_none());
    bench.run();
    assert!(bench.ring.header().is_some(), "completions are looked for");
}

#[test]
fn mbufs_go_back_when_their_frame_is_sent() {
    let mut bench = Bench::new();
    let mbuf = bench.pool.take();
    bench.ring.header().unwrap();
    bench.ring.send(&TxFrame {
        header_len: 42,
        fragments: &[Fragment {
            bus: 0x4000,
            len: 56,
        }],
        checksum: TxChecksum::None,
        segment_size: 0,
        release: mbuf.map(Release::Mbuf),
    });
    bench.ring.reclaim(&mut bench.pool);
    assert_eq!(bench.pool.available(), 15, "not sent yet");
    bench.run();
    bench.ring.reclaim(&mut bench.pool);
    assert_eq!(bench.pool.available(), 16);
}

#[test]
fn memory_of_the_application_is_counted_once_its_frame_is_sent() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.ring.header().unwrap();
        bench.ring.send(&TxFrame {
            header_len: 42,
            fragments: &[],
            checksum: TxChecksum::Ipv4Udp,
            segment_size: 0,
            release: Some(Release::User),
        });
    }
    assert_eq!(bench.ring.reclaim(&mut bench.pool), 0, "not sent yet");
    bench.run();
    assert_eq!(bench.ring.reclaim(&mut bench.pool), 3);
    assert_eq!(bench.ring.reclaim(&mut bench.pool), 0, "counted already");
}

#[test]
fn malformed_frames_are_dropped_and_their_mbufs_kept() {
    let mut bench = Bench::new();
    let fragment = Fragment { bus: 0, len: 60 };
    let many = [fragment; MAX_FRAGMENTS + 1];
    let long = [Fragment { bus: 0, len: 1461 }];
    let empty = [fragment, Fragment { bus: 0, len: 0 }];
    let overflowing = [
        Fragment {
            bus: 0,
            len: u32::MAX,
        },
        fragment,
    ];
    let cases: [(u16, &[Fragment]); 6] = [
        (54, &many),
        (54, &long),
        (54, &empty),
        (54, &overflowing),
        (16, &[]),
        (129, &[]),
    ];
    for (header_len, fragments) in cases {
        let release = bench.pool.take().map(Release::Mbuf);
        bench.ring.header().unwrap();
        bench.ring.send(&TxFrame {
            header_len,
            fragments,
            checksum: TxChecksum::None,
            segment_size: 0,
            release,
        });
    }
    assert_eq!(bench.ring.flush(), None);
    assert_eq!((bench.ring.drops(), bench.ring.frames()), (6, 0));
    bench.ring.reclaim(&mut bench.pool);
    assert_eq!(bench.pool.available(), 16);
}

#[test]
fn a_frame_without_a_room_is_dropped() {
    let mut bench = Bench::new();
    assert!(bench.send(&[], TxChecksum::None));
    bench.ring.send(&TxFrame {
        header_len: 54,
        fragments: &[],
        checksum: TxChecksum::None,
        segment_size: 0,
        release: None,
    });
    assert_eq!((bench.ring.frames(), bench.ring.drops()), (1, 1));
}

#[test]
fn a_drained_ring_has_given_all_mbufs_back() {
    let mut bench = Bench::new();
    let release = bench.pool.take().map(Release::Mbuf);
    bench.ring.header().unwrap();
    bench.ring.send(&TxFrame {
        header_len: 54,
        fragments: &[],
        checksum: TxChecksum::None,
        segment_size: 0,
        release,
    });
    bench.ring.flush();
    bench.ring.drain(&mut bench.pool);
    assert_eq!(bench.pool.available(), 16);
}

proptest! {
    /// Whatever a device writes into the ring, nothing panics, no descriptor is taken for free
    /// that was not sent, and no mbuf is lost or doubled.
    #[test]
    fn no_write_back_breaks_the_ring(
        steps in prop::collection::vec((0usize..64, any::<u64>(), any::<bool>()), 1..400)
    ) {
        let mut bench = Bench::new();
        let memory = bench.ring.memory;
        let mut carried = 0;
        for (index, word, flush) in steps {
            if bench.ring.header().is_some() {
                let release = bench.pool.take().map(Release::Mbuf);
                carried += usize::from(release.is_some());
                bench.ring.send(&TxFrame {
                    header_len: 54,
                    fragments: &[Fragment { bus: 0, len: 10 }],
                    checksum: TxChecksum::Ipv4,
                    segment_size: 0,
                    release,
                });
            }
            memory.store(2 * index + 1, word);
            if flush {
                bench.ring.flush();
            }
            let before = bench.pool.available();
            bench.ring.reclaim(&mut bench.pool);
            carried -= bench.pool.available() - before;
            prop_assert_eq!(bench.pool.available() + carried, 16);
            prop_assert!(bench.ring.free() < DESCRIPTORS);
        }
        bench.ring.drain(&mut bench.pool);
        prop_assert_eq!(bench.pool.available(), 16);
    }

    /// Bursts of any shape, flushed and reclaimed at any time: each frame reaches the device
    /// once and in order, no header room is given out while in use, all mbufs come back.
    #[test]
    fn frames_arrive_once_and_in_order(
        steps in prop::collection::vec((0usize..=MAX_FRAGMENTS, any::<bool>(), any::<bool>()), 1..300)
    ) {
        let mut bench = Bench::new();
        let mut next = 0u8;
        let mut seen = 0u8;
        let mut arrived = Vec::new();
        for (fragments, flush, release) in steps {
            let fragments = &[Fragment { bus: 0x1000, len: 3 }; MAX_FRAGMENTS][..fragments];
            if let Some(room) = bench.ring.header() {
                room[0] = next;
                next = next.wrapping_add(1);
                let release = if release { bench.pool.take() } else { None };
                let release = release.map(Release::Mbuf);
                bench.ring.send(&TxFrame {
                    header_len: 54,
                    fragments,
                    checksum: TxChecksum::Ipv4Tcp,
                    segment_size: 0,
                    release,
                });
            } else {
                prop_assert!(bench.ring.tail != bench.ring.clean);
            }
            if flush {
                arrived.extend(bench.run());
                bench.ring.reclaim(&mut bench.pool);
            }
            let mut first = true;
            for descriptor in arrived.drain(..) {
                let TxDescriptor::Data(data) = descriptor else { continue };
                if core::mem::replace(&mut first, data.command.contains(TxCommand::EOP)) {
                    let room = (data.address - HEADERS_BUS) as usize / HEADER_ROOM;
                    prop_assert_eq!(bench.ring.headers[room][0], seen);
                    seen = seen.wrapping_add(1);
                }
            }
        }
        bench.run();
        bench.ring.reclaim(&mut bench.pool);
        prop_assert_eq!(bench.ring.free(), DESCRIPTORS - 1);
        prop_assert_eq!(bench.pool.available(), 16);
    }
}
