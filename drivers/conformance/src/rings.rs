//! Rings that wrap, run dry and run full; interrupts, a reset under traffic, and what is counted.

use ix_hal::{Nic, Release, Transmit, TxChecksum};

use crate::frames::{self, TCP};
use crate::{Bed, Setup, Station};

/// Frames that no ring of these tests has room for at once.
const MANY: u32 = 600;

/// Nothing is lost or changes its place over thousands of descriptors.
pub fn rings_wrap_around_many_times<B: Bed>() {
    let mut station = Station::<B>::new(&Setup {
        rx_frames: 64,
        tx_descriptors: 128,
        buffers: 128,
        ..Setup::default()
    });
    let (mut sent, mut received) = (0u32, 0u32);
    for round in 0..2_000 {
        for _ in 0..1 + round % 31 {
            let frame = frames::ipv4(TCP, 64, sent);
            station.bed.inject(&frame);
            assert!(station.queue_short(&frame), "round {round}");
            sent += 1;
        }
        let out = station.flush();
        let frames_in = station.receive();
        assert_eq!(frames_in.len(), out.len(), "{}", station.bed.story());
        for (frame, out) in frames_in.iter().zip(out) {
            let expected = frames::ipv4(TCP, 64, received);
            let bytes = station.bed.bytes(frame);
            assert_eq!(bytes, expected, "in, frame {received}");
            assert_eq!(out, expected, "out, frame {received}");
            received += 1;
        }
        station.give_back(&frames_in);
        station.reclaim();
    }
    assert_eq!(received, sent);
    assert_eq!(station.statistics().rx_missed, 0);
}

/// With fewer buffers than frames: those that have one come in, whole and in order; the others are
/// counted or wait; and afterwards all is as before.
pub fn an_empty_receive_ring_loses_nothing_unsaid_and_recovers<B: Bed>() {
    let mut station = Station::<B>::new(&Setup {
        rx_frames: 64,
        buffers: 40,
        ..Setup::default()
    });
    for seed in 0..60 {
        station.bed.inject(&frames::ipv4(TCP, 64, seed));
    }
    station.bed.run();
    let received = station.receive();
    assert_eq!(received.len(), 40);
    for (seed, frame) in (0..).zip(&received) {
        assert_eq!(station.bed.bytes(frame), frames::ipv4(TCP, 64, seed));
    }
    station.give_back(&received);
    station.bed.run();
    let late = station.receive();
    let (kept, missed) = match B::OFFERS.waits_for_buffers {
        true => (20, 0),
        false => (0, 20),
    };
    assert_eq!(late.len(), kept, "{}", station.bed.story());
    station.give_back(&late);
    if B::OFFERS.counts_missed {
        assert_eq!(station.statistics().rx_missed, missed);
    }
    let frame = frames::ipv4(TCP, 64, 99);
    let received = station.take(&frame);
    assert_eq!(received.len(), 1, "{}", station.bed.story());
    assert_eq!(station.bed.bytes(&received[0]), frame);
}

/// A pool with less than a group of buffers is used up all the same when the device runs dry.
pub fn a_refill_takes_what_the_pool_has<B: Bed>() {
    let mut station = Station::<B>::new(&Setup {
        rx_frames: 64,
        buffers: 7,
        ..Setup::default()
    });
    assert_eq!(station.available(), 0);
    for round in 0..50 {
        for seed in 0..7 {
            station.bed.inject(&frames::ipv4(TCP, 64, round * 7 + seed));
        }
        station.bed.run();
        let received = station.receive();
        assert_eq!(received.len(), 7, "round {round}: {}", station.bed.story());
        station.give_back(&received);
        assert_eq!(station.available(), 0);
    }
}

/// Without being told of the frames the device sends none; then it sends all.
pub fn a_full_transmit_ring_refuses_until_the_device_has_caught_up<B: Bed>() {
    let mut station = Station::<B>::new(&Setup {
        tx_descriptors: 64,
        ..Setup::default()
    });
    let frame = frames::ipv4(TCP, 60, 3);
    let mut queued = 0;
    while station.queue_short(&frame) {
        queued += 1;
        assert!(queued < MANY, "the ring never fills");
    }
    assert_eq!(station.flush().len(), queued as usize);
    assert!(station.queue_short(&frame));
    assert_eq!(station.flush(), [frame]);
    assert_eq!(station.statistics().tx_drops, 0);
}

/// Asking twice costs nothing.
pub fn the_same_room_is_given_until_it_is_used<B: Bed>() {
    let mut station = Station::<B>::usual();
    let frame = frames::ipv4(TCP, 64, 8);
    station.nic().header().expect("room")[..64].copy_from_slice(&frame);
    assert_eq!(station.nic().header().expect("room")[..64], frame);
    assert!(station.queue_short(&frame));
    assert_eq!(station.flush(), [frame]);
}

/// As the control plane asks for it.
pub fn waiting_frames_are_counted_without_being_taken<B: Bed>() {
    let mut station = Station::<B>::usual();
    assert_eq!(station.nic().waiting(), 0);
    for seed in 0..70 {
        station.bed.inject(&frames::ipv4(TCP, 64, seed));
    }
    station.bed.run();
    assert_eq!(station.nic().waiting(), 70);
    assert_eq!(station.receive().len(), 64);
    assert_eq!(station.nic().waiting(), 6);
    assert_eq!(station.receive().len(), 6);
    assert_eq!(station.nic().waiting(), 0);
}

/// Masked at first; one for a frame while armed; none after it.
pub fn interrupts_come_while_armed_only<B: Bed>() {
    let mut station = Station::<B>::usual();
    let frame = frames::ipv4(TCP, 64, 1);
    assert_eq!(station.take(&frame).len(), 1);
    assert_eq!(station.bed.interrupts(), 0, "masked after bring-up");
    station.nic().arm_interrupt();
    station.bed.run();
    let armed = station.bed.interrupts();
    station.bed.inject(&frame);
    station.bed.run();
    assert_eq!(station.bed.interrupts(), armed + 1);
    station.nic().disarm_interrupt();
    station.bed.inject(&frame);
    station.bed.run();
    assert_eq!(station.bed.interrupts(), armed + 1);
    assert_eq!(station.receive().len(), 2);
}

/// Whoever goes to sleep looks once more.
pub fn a_frame_before_arming_is_found_by_polling_once_more<B: Bed>() {
    let mut station = Station::<B>::usual();
    station.bed.inject(&frames::ipv4(TCP, 64, 1));
    station.bed.run();
    station.nic().arm_interrupt();
    assert_eq!(station.receive().len(), 1);
}

/// Completions are found by looking.
pub fn sending_causes_no_interrupt<B: Bed>() {
    let mut station = Station::<B>::usual();
    station.nic().arm_interrupt();
    station.bed.run();
    let before = station.bed.interrupts();
    assert!(station.queue_short(&frames::ipv4(TCP, 64, 1)));
    assert_eq!(station.flush().len(), 1);
    assert_eq!(station.bed.interrupts(), before);
}

/// Buffers that were on their way in either direction are all there again.
pub fn a_reset_under_traffic_starts_anew_with_all_buffers<B: Bed>() {
    let setup = Setup::default();
    let mut station = Station::<B>::new(&setup);
    let before = station.available();
    for seed in 0..10 {
        station.bed.inject(&frames::ipv4(TCP, 64, seed));
        let release = Some(Release::Mbuf(station.mbuf()));
        let frame = frames::ipv4(TCP, 64, seed);
        assert!(station.queue(&frame, &[], TxChecksum::None, 0, release));
    }
    station.bed.run();
    station.nic().flush();
    station.bed.reset();
    station.bed.arrived();
    assert_eq!(station.available(), before);
    for seed in 0..500 {
        let frame = frames::ipv4(TCP, 64, seed);
        station.bed.inject(&frame);
        assert!(station.queue_short(&frame));
        let arrived = station.flush();
        let received = station.receive();
        assert_eq!(received.len(), 1, "{}", station.bed.story());
        assert_eq!(station.bed.bytes(&received[0]), frame);
        assert_eq!(arrived, [frame]);
        station.give_back(&received);
        station.reclaim();
    }
}

/// The two ways of asking agree.
pub fn statistics_count_frames_and_bytes_both_ways<B: Bed>() {
    let mut station = Station::<B>::usual();
    assert_eq!(station.statistics(), Default::default());
    for seed in 0..30 {
        station.bed.inject(&frames::ipv4(TCP, 100, seed));
    }
    for seed in 0..20 {
        assert!(station.queue_short(&frames::ipv4(TCP, 90, seed)));
    }
    station.flush();
    assert_eq!(station.receive().len(), 30);
    for _ in 0..2 {
        let counts = station.statistics();
        assert_eq!((counts.rx_frames, counts.rx_bytes), (30, 3000));
        assert_eq!((counts.tx_frames, counts.tx_bytes), (20, 1800));
        assert_eq!((counts.rx_errors, counts.tx_drops), (0, 0));
        assert_eq!(station.nic().counts(), counts);
    }
}

/// As every bed is set up.
pub fn the_link_is_up_and_the_address_is_the_station_s<B: Bed>() {
    let mut station = Station::<B>::usual();
    assert!(station.nic().link_up());
    assert_eq!(station.nic().mac(), crate::MAC);
}
