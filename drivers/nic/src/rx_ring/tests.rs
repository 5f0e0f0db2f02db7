use super::*;
use crate::testing::{Tested, pool, ring};
use alloc::vec::Vec;
use ixgbe_spec::{PacketType, RssType, RxError};
use proptest::prelude::*;

const DESCRIPTORS: u32 = 64;

struct Bench {
    ring: RxRing<Tested>,
    pool: MbufPool,
    /// The device's next descriptor.
    head: u32,
}

impl Bench {
    fn new(buffers: u32) -> Self {
        let pool = pool(buffers);
        Self {
            ring: RxRing::new(ring(DESCRIPTORS as usize), pool.geometry()),
            pool,
            head: 0,
        }
    }

    /// Completes the device's next descriptor; the buffer that the frame went to.
    fn complete(&mut self, write_back: RxWriteBack) -> u64 {
        let index = self.head as usize;
        let memory = self.ring.memory();
        let RxRead { packet, .. } =
            RxRead::decode([memory.load(2 * index), memory.load(2 * index + 1)]);
        memory.store(2 * index, write_back.0[0]);
        memory.store(2 * index + 1, write_back.0[1]);
        self.head = (self.head + 1) % DESCRIPTORS;
        packet
    }

    fn receive<const N: usize>(&mut self) -> ([RxFrame; N], usize) {
        let mut frames = [RxFrame::default(); N];
        let count = self.ring.receive(&mut frames, &mut self.pool);
        (frames, count)
    }
}

fn frame(length: u16, status: RxStatus, error: RxError) -> RxWriteBack {
    RxWriteBack::new(
        RssType::TcpIpv4,
        0x1234_5678,
        PacketType::IPV4 | PacketType::TCP,
        length,
        RxStatus::DD | status,
        error,
    )
}

fn good(length: u16) -> RxWriteBack {
    let checked = RxStatus::L4I | RxStatus::IPCS;
    frame(length, RxStatus::EOP | checked, RxError::empty())
}

#[test]
fn a_new_ring_gets_all_but_one_descriptor_filled() {
    let mut bench = Bench::new(200);
    assert_eq!(bench.ring.refill(&mut bench.pool), Some(DESCRIPTORS - 1));
    assert_eq!(bench.ring.refill(&mut bench.pool), None);
    assert_eq!(bench.pool.available(), 200 - 63);
}

#[test]
fn frames_come_in_order_with_their_buffers() {
    let mut bench = Bench::new(200);
    bench.ring.refill(&mut bench.pool);
    let geometry = *bench.pool.geometry();
    let buses = [60, 1514, 2048].map(|length| bench.complete(good(length)));
    let (frames, count) = bench.receive::<64>();
    assert_eq!(count, 3);
    for ((frame, bus), length) in frames.iter().zip(buses).zip([60, 1514, 2048]) {
        assert_eq!(geometry.bus_of(frame.mbuf), bus);
        assert_eq!(frame.len, length);
        assert_eq!(frame.checksum, RxChecksum::Good);
        assert_eq!(frame.rss_hash, 0x1234_5678);
    }
    assert_eq!(bench.receive::<64>().1, 0);
}

#[test]
fn no_more_frames_are_taken_than_fit() {
    let mut bench = Bench::new(200);
    bench.ring.refill(&mut bench.pool);
    for _ in 0..5 {
        bench.complete(good(60));
    }
    assert_eq!(bench.ring.waiting(), 5);
    assert_eq!(bench.receive::<3>().1, 3);
    assert_eq!(bench.ring.waiting(), 2);
    assert_eq!(bench.receive::<3>().1, 2);
    assert_eq!(bench.ring.waiting(), 0);
}

#[test]
fn completions_of_descriptors_not_given_back_are_not_seen_twice() {
    let mut bench = Bench::new(63);
    bench.ring.refill(&mut bench.pool);
    for _ in 0..63 {
        bench.complete(good(60));
    }
    assert_eq!(bench.ring.waiting(), 63);
    assert_eq!(bench.receive::<64>().1, 63);
    assert_eq!(bench.ring.waiting(), 0);
    assert_eq!(bench.receive::<64>().1, 0);
    assert_eq!(bench.ring.frames(), 63);
}

#[test]
fn refill_waits_for_a_batch() {
    let mut bench = Bench::new(200);
    bench.ring.refill(&mut bench.pool);
    for round in 1..=REFILL_BATCH {
        assert_eq!(bench.ring.refill(&mut bench.pool), None, "round {round}");
        bench.complete(good(60));
        bench.receive::<1>();
    }
    assert_eq!(
        bench.ring.refill(&mut bench.pool),
        Some((DESCRIPTORS - 1 + REFILL_BATCH) % DESCRIPTORS)
    );
}

#[test]
fn a_ring_about_to_run_dry_takes_what_there_is() {
    let mut bench = Bench::new(40);
    assert_eq!(bench.ring.refill(&mut bench.pool), Some(40));
    let (mut frames, mut held) = (Vec::new(), 40);
    while held > 0 {
        bench.complete(good(60));
        frames.push(bench.receive::<1>().0[0].mbuf);
        held -= 1;
    }
    assert_eq!(bench.ring.refill(&mut bench.pool), None, "pool empty");
    bench.pool.give(frames[0]);
    assert_eq!(bench.ring.refill(&mut bench.pool), Some(41));
}

#[test]
fn frames_of_several_descriptors_are_dropped_as_one() {
    let mut bench = Bench::new(63);
    bench.ring.refill(&mut bench.pool);
    bench.complete(frame(2048, RxStatus::empty(), RxError::empty()));
    bench.complete(frame(2048, RxStatus::empty(), RxError::empty()));
    bench.complete(good(100));
    bench.complete(good(60));
    let (frames, count) = bench.receive::<8>();
    assert_eq!((count, frames[0].len), (1, 60));
    assert_eq!(bench.ring.errors(), 1);
    assert_eq!(bench.pool.available(), 3);
}

#[test]
fn broken_frames_are_dropped_and_their_buffers_kept() {
    let mut bench = Bench::new(63);
    bench.ring.refill(&mut bench.pool);
    bench.complete(frame(60, RxStatus::EOP, RxError::RXE));
    bench.complete(good(13));
    bench.complete(good(2049));
    bench.complete(good(u16::MAX));
    assert_eq!(bench.receive::<8>().1, 0);
    assert_eq!(bench.ring.errors(), 4);
    assert_eq!(bench.pool.available(), 4);
}

#[test]
fn frames_of_another_vlan_are_dropped_and_counted() {
    for (vlan, passed) in [(None, 0), (Some(100), 1), (Some(101), 2)] {
        let mut bench = Bench::new(63);
        bench.ring = bench.ring.untagging(vlan);
        bench.ring.refill(&mut bench.pool);
        bench.complete(good(60));
        // Priority and drop eligibility do not matter.
        bench.complete(good(60).with_vlan(0xf064));
        bench.complete(good(60).with_vlan(101));
        let (frames, count) = bench.receive::<8>();
        assert_eq!(count, 1);
        assert_eq!(frames[0].mbuf, MbufId(passed), "the frame of VLAN {vlan:?}");
        assert_eq!((bench.ring.wrong_vlan(), bench.ring.errors()), (2, 0));
        assert_eq!(bench.pool.available(), 2);
    }
}

#[test]
fn checksum_verdicts_follow_the_bits() {
    use RxChecksum::{Bad, Good, Ipv4Good, Unchecked};
    let (l4, ip) = (RxStatus::L4I, RxStatus::IPCS);
    let (none, l4_wrong, ip_wrong) = (RxError::empty(), RxError::TCPE, RxError::IPE);
    for (status, error, verdict) in [
        (RxStatus::empty(), none, Unchecked),
        (RxStatus::empty(), l4_wrong | ip_wrong, Unchecked),
        (ip, none, Ipv4Good),
        (ip, l4_wrong, Ipv4Good),
        (ip, ip_wrong, Bad),
        (l4 | ip, none, Good),
        (l4 | ip, l4_wrong, Bad),
        (l4 | ip, ip_wrong, Bad),
        (l4 | ip, l4_wrong | ip_wrong, Bad),
        (l4, none, Good),
        (l4, l4_wrong, Bad),
        (l4, ip_wrong, Good),
    ] {
        let RxWriteBack([_, second]) = frame(60, RxStatus::EOP | status, error);
        assert_eq!(
            checksum(second, Tested::RX_ERRORS.l4e),
            verdict,
            "{status:?} {error:?}"
        );
    }
}

#[test]
fn a_drained_ring_has_given_all_buffers_back() {
    let mut bench = Bench::new(63);
    bench.ring.refill(&mut bench.pool);
    bench.complete(good(60));
    bench.ring.drain(&mut bench.pool);
    assert_eq!(bench.pool.available(), 63);
    assert_eq!(bench.ring.held(), 0);
}

proptest! {
    /// Whatever a device writes, the ring neither panics, nor loses or doubles a buffer, nor
    /// passes a length beyond a buffer on.
    #[test]
    fn no_completion_breaks_the_ring(
        writes in prop::collection::vec((any::<[u64; 2]>(), any::<bool>(), 0usize..64), 0..400)
    ) {
        let mut bench = Bench::new(80);
        bench.ring.refill(&mut bench.pool);
        let mut delivered = 0;
        for (words, at_head, anywhere) in writes {
            if !at_head {
                bench.head = anywhere as u32;
            }
            bench.complete(RxWriteBack([words[0], words[1] | u64::from(at_head)]));
            let (frames, count) = bench.receive::<4>();
            for frame in &frames[..count] {
                prop_assert!(usize::from(frame.len) <= bench.pool.geometry().size());
                prop_assert!(frame.len >= 14);
                bench.pool.give(frame.mbuf);
            }
            delivered += count as u64;
            bench.ring.refill(&mut bench.pool);
            let held = bench.ring.held() as usize;
            prop_assert_eq!(held + bench.pool.available(), 80);
        }
        prop_assert_eq!(bench.ring.frames(), delivered);
        bench.ring.drain(&mut bench.pool);
        let mut seen = [false; 80];
        while let Some(mbuf) = bench.pool.take() {
            prop_assert!(!core::mem::replace(&mut seen[mbuf.0 as usize], true));
        }
        prop_assert_eq!(seen, [true; 80]);
    }
}
