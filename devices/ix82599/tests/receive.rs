//! The way in: what a driver finds in its rings and buffers.

mod support;

use ix82599::model::ModelConfig;
use ix82599::wire::Wire;
use ixgbe_spec::register::{
    self as reg, Hlreg0, IvarEntry, Mrqc, Psrtype, Rxcsum, Rxctrl, Rxdctl, Srrctl,
};
use ixgbe_spec::{PacketType, RssType, RxError, RxStatus};
use support::*;

#[test]
fn a_frame_lies_in_the_buffer_and_its_descriptor_is_done() {
    let mut machine = Machine::started(1);
    let sent = tcp_frame(1000, 64);
    machine.arrives(&sent);
    let done = machine.received(0, 0).unwrap();
    let status = RxStatus::DD | RxStatus::EOP | RxStatus::L4I | RxStatus::IPCS;
    assert_eq!(done.status(), status);
    assert_eq!(done.error(), RxError::empty());
    assert_eq!(done.length() as usize, sent.len());
    assert_eq!(done.packet_type(), PacketType::IPV4 | PacketType::TCP);
    assert_eq!(machine.buffer(0, 0, sent.len()), sent);
    assert_eq!(machine.read(reg::rdh(0)), 1);
    assert!(machine.received(0, 1).is_none());
}

#[test]
fn short_frames_arrive_padded_as_from_a_real_wire() {
    let mut machine = Machine::started(1);
    machine.arrives(&frame(42));
    assert_eq!(machine.received(0, 0).unwrap().length(), 60);
    assert_eq!(machine.buffer(0, 0, 60)[42..], [0; 18]);
}

#[test]
fn a_frame_longer_than_a_buffer_takes_several() {
    let mut machine = Machine::started(1);
    let hlreg0 = machine.read(reg::HLREG0);
    machine.write(reg::HLREG0, hlreg0 | Hlreg0::JUMBOEN.bits());
    machine.write(reg::MAXFRS, reg::with_maxfrs_mfs(0, 9018));
    let sent = frame(5000);
    machine.arrives(&sent);
    let parts: Vec<_> = (0..3).map(|n| machine.received(0, n).unwrap()).collect();
    let lengths: Vec<_> = parts.iter().map(|part| part.length()).collect();
    assert_eq!(lengths, [2048, 2048, 904]);
    assert_eq!(parts[0].status(), RxStatus::DD);
    assert!(parts[2].status().contains(RxStatus::EOP));
    assert_eq!(machine.buffer(0, 1, 2048), sent[2048..4096]);
    assert_eq!(machine.buffer(0, 2, 904), sent[4096..]);
}

#[test]
fn frames_longer_than_allowed_are_dropped_and_counted() {
    let mut machine = Machine::started(1);
    machine.arrives(&frame(1515));
    assert!(machine.received(0, 0).is_none());
    assert_eq!(machine.read(reg::ROC), 1);
    machine.arrives(&frame(1514));
    assert!(machine.received(0, 0).is_some());
}

#[test]
fn wrong_checksums_are_reported_and_counted() {
    let mut machine = Machine::started(1);
    let mut bad = tcp_frame(1000, 64);
    bad[60] ^= 1;
    machine.arrives(&bad);
    assert_eq!(machine.received(0, 0).unwrap().error(), RxError::TCPE);
    assert_eq!(machine.read(reg::XEC), 1);
}

#[test]
fn frames_for_others_are_not_delivered() {
    let mut machine = Machine::started(1);
    let mut other = frame(100);
    other[5] ^= 1;
    machine.arrives(&other);
    assert!(machine.received(0, 0).is_none());
    assert_eq!(machine.model.counters().rx_filtered, 1);
    assert_eq!(machine.read(reg::TPR), 1);
    assert_eq!(machine.read(reg::GPRC), 0);
}

#[test]
fn rss_spreads_flows_and_reports_the_hash() {
    let mut machine = Machine::started(4);
    for n in 0..10 {
        machine.write(reg::rssrk(n), 0x9e37_79b9_u32.wrapping_mul(n + 1));
    }
    for n in 0..32 {
        machine.write(reg::reta(n), 0x0302_0100);
    }
    let mrqc = (Mrqc::TCP_IPV4 | Mrqc::IPV4).with_mrqe(Mrqc::MRQE_RSS);
    machine.write(reg::MRQC, mrqc.bits());
    machine.write(reg::RXCSUM, Rxcsum::PCSD.bits());
    for port in 0..40 {
        machine.arrives(&tcp_frame(port, 10));
    }
    let mut used = 0;
    for queue in 0..4 {
        let first = machine.received(queue, 0);
        used += usize::from(first.is_some());
        if let Some(done) = first {
            assert_eq!(done.rss_type(), Some(RssType::TcpIpv4));
            assert_eq!(done.rss_hash() % 4, queue);
        }
    }
    assert!(used >= 3, "only {used} of 4 queues got anything");
}

#[test]
fn legacy_descriptors_are_written_in_their_own_format() {
    let mut machine = Machine::new();
    machine.start_rx(0, Srrctl::DESCTYPE_LEGACY);
    machine.write(reg::RXCTRL, Rxctrl::RXEN.bits());
    let sent = tcp_frame(1, 30);
    machine.arrives(&sent);
    let [address, rest] = machine.descriptor(rx_ring(0), 0);
    assert_eq!(address, BUS + rx_buffer(0, 0) as u64);
    assert_eq!(rest as u16 as usize, sent.len());
    assert_eq!(rest >> 32 & 0xff, 0x63, "DD, EOP, L4CS, IPCS");
}

#[test]
fn headers_are_split_from_the_payload_where_asked() {
    let mut machine = Machine::started(1);
    let srrctl = Srrctl::empty()
        .with_bsizepacket(2)
        .with_bsizeheader(2)
        .with_desctype(Srrctl::DESCTYPE_HEADER_SPLIT);
    machine.write(reg::srrctl(0), srrctl.bits());
    machine.write(reg::psrtype(0), (Psrtype::TCP | Psrtype::IPV4).bits());
    machine.write(reg::rxdctl(0), (Rxdctl::ENABLE | Rxdctl::VME).bits());
    for n in 0..2 {
        // A buffer of the next queue, which is not used, for the headers.
        let [packet, header] = [rx_buffer(0, n), rx_buffer(1, n)].map(|at| BUS + at as u64);
        machine.put_descriptor(rx_ring(0), n, [packet, header]);
    }
    let plain = tcp_frame(1, 300);
    let mut tagged = plain.clone();
    tagged.splice(12..12, [0x81, 0, 0x20, 0x64]);
    machine.arrives(&tagged);
    let done = machine.received(0, 0).unwrap();
    assert_eq!((done.header_length(), done.is_split()), (54, true));
    assert_eq!((done.length(), done.vlan()), (300, 0x2064));
    assert_eq!(machine.buffer(1, 0, 54), plain[..54]);
    assert_eq!(machine.buffer(0, 0, 300), plain[54..]);

    machine.arrives(&frame(100));
    let done = machine.received(0, 1).unwrap();
    assert_eq!((done.header_length(), done.is_split()), (0, false));
    assert_eq!(machine.buffer(0, 1, 100), frame(100));
}

#[test]
fn a_tag_is_stripped_into_the_descriptor_where_asked() {
    let mut machine = Machine::started(1);
    machine.write(reg::rxdctl(0), (Rxdctl::ENABLE | Rxdctl::VME).bits());
    let plain = tcp_frame(1, 30);
    let mut tagged = plain.clone();
    tagged.splice(12..12, [0x81, 0, 0x20, 0x64]);
    machine.arrives(&tagged);
    let done = machine.received(0, 0).unwrap();
    assert!(done.status().contains(RxStatus::VP));
    assert_eq!(done.vlan(), 0x2064);
    assert_eq!(machine.buffer(0, 0, plain.len()), plain);
}

#[test]
fn the_fcs_is_kept_where_asked() {
    let mut machine = Machine::started(1);
    let hlreg0 = machine.read(reg::HLREG0);
    machine.write(reg::HLREG0, hlreg0 & !Hlreg0::RXCRCSTRP.bits());
    machine.arrives(&frame(60));
    assert_eq!(machine.received(0, 0).unwrap().length(), 64);
    assert_ne!(machine.buffer(0, 0, 64)[60..], [0; 4]);
}

#[test]
fn without_descriptors_frames_wait_and_then_are_missed() {
    let mut machine = Machine::started(1);
    machine.write(reg::rxpbsize(0), reg::rxpbsize_of(4));
    for _ in 0..RING - 1 {
        machine.arrives(&frame(1000));
    }
    // Four fit into the packet buffer, six do not.
    for _ in 0..10 {
        machine.arrives(&frame(1000));
    }
    assert_eq!(machine.read(reg::rxmpc(0)), 6);
    assert_eq!(machine.model.counters().rx_missed, 6);
    for n in 0..8 {
        machine.give_buffer(0, n);
    }
    machine.write(reg::rdt(0), 7);
    machine.model.poll();
    assert_eq!(machine.model.counters().rx_frames, u64::from(RING) + 3);
    assert_eq!(machine.read(reg::rdh(0)), 3);
}

#[test]
fn with_drop_enabled_frames_are_dropped_at_the_queue() {
    let mut machine = Machine::started(1);
    let srrctl = machine.read(reg::srrctl(0));
    machine.write(reg::srrctl(0), srrctl | Srrctl::DROP_EN.bits());
    for _ in 0..RING {
        machine.arrives(&frame(100));
    }
    assert_eq!(machine.read(reg::qprdc(0)), 1);
    assert_eq!(machine.model.counters().rx_no_descriptor, 1);
}

#[test]
fn a_pausing_device_leaves_frames_on_the_wire() {
    let config = ModelConfig {
        pause_wire: true,
        ..ModelConfig::default()
    };
    let mut machine = Machine::with_config(config);
    machine.start_rx(0, Srrctl::DESCTYPE_ADVANCED);
    machine.write(reg::RXCTRL, Rxctrl::RXEN.bits());
    for _ in 0..2000 {
        machine.far.send(&frame(1000)).unwrap();
    }
    machine.model.poll();
    assert!(!machine.model.wants_frames());
    let mut tail = RING - 1;
    let mut received = 0;
    while received < 2000 {
        let head = machine.read(reg::rdh(0));
        while (tail + 1) % RING != head {
            machine.give_buffer(0, tail);
            tail = (tail + 1) % RING;
        }
        machine.write(reg::rdt(0), tail);
        machine.model.poll();
        let now = machine.model.counters().rx_frames;
        assert!(now > received, "stuck after {now} frames");
        received = now;
    }
    assert_eq!(machine.model.counters().rx_missed, 0);
}

#[test]
fn one_interrupt_tells_of_a_batch() {
    let mut machine = Machine::started(1);
    machine.write(reg::GPIE, reg::Gpie::MULTIPLE_MSIX.bits());
    machine.write(reg::ivar(0), IvarEntry::to_vector(1).put(0, 0));
    machine.write(reg::EIMS, 1 << 1);
    for _ in 0..20 {
        machine.far.send(&frame(100)).unwrap();
    }
    machine.model.poll();
    assert_eq!(machine.interrupts.of(1), 1);
}

#[test]
fn a_disabled_queue_drops_and_starts_anew_when_enabled() {
    let mut machine = Machine::started(1);
    machine.write(reg::rxdctl(0), 0);
    assert_eq!(machine.read(reg::rxdctl(0)) & Rxdctl::ENABLE.bits(), 0);
    machine.arrives(&frame(100));
    assert_eq!(machine.model.counters().rx_queue_disabled, 1);
    machine.write(reg::rdh(0), 0);
    machine.write(reg::rdt(0), 0);
    machine.start_rx(0, Srrctl::DESCTYPE_ADVANCED);
    machine.arrives(&frame(100));
    assert!(machine.received(0, 0).is_some());
}

#[test]
fn bus_mastering_off_stops_everything() {
    let mut machine = Machine::started(1);
    machine.model.set_bus_master(false);
    machine.arrives(&frame(100));
    assert!(machine.received(0, 0).is_none());
    assert_eq!(machine.model.counters().rx_disabled, 1);
    machine.model.set_bus_master(true);
    machine.arrives(&frame(100));
    assert!(machine.received(0, 0).is_some());
}

#[test]
fn a_ring_out_of_reach_stops_the_queue_and_a_buffer_out_of_reach_vanishes() {
    let mut machine = Machine::started(2);
    machine.put_descriptor(rx_ring(0), 0, [0xdead_0000, 0]);
    machine.arrives(&frame(100));
    assert_eq!(machine.model.counters().write_faults, 1);
    assert!(machine.received(0, 0).is_some(), "posted writes vanish");
    machine.write(reg::rdbah(0), 0x7fff_ffff);
    machine.arrives(&frame(100));
    machine.arrives(&frame(100));
    assert_eq!(machine.model.counters().ring_faults, 1);
}

#[test]
fn a_soft_reset_forgets_rings_and_filters() {
    let mut machine = Machine::started(1);
    machine.write(reg::CTRL, reg::Ctrl::RST.bits());
    assert_eq!(machine.read(reg::CTRL) & reg::Ctrl::RST.bits(), 0);
    assert_eq!(machine.read(reg::rdlen(0)), 0);
    assert_eq!(machine.read(reg::FCTRL), 0);
    assert_eq!(
        machine.read(reg::ral(0)).to_le_bytes(),
        [0x52, 0x54, 0, 0x82]
    );
    machine.arrives(&frame(100));
    assert_eq!(machine.model.counters().rx_disabled, 1);
}
