//! The way out: what arrives at the other end of the cable.

mod support;

use ix82599::model::ModelConfig;
use ix82599::wire::Wire;
use ixgbe_spec::register::{self as reg, Gpie, Hlreg0, IvarEntry, Txdctl};
use ixgbe_spec::{LegacyCommand, TxCommand, TxLegacy, TxOptions};
use support::*;

/// Puts bytes where [`data`] points at them.
fn load(machine: &Machine, offset: usize, bytes: &[u8]) {
    machine.memory.write(offset, bytes);
}

fn ring_doorbell(machine: &mut Machine, tail: u32) {
    machine.write(reg::tdt(0), tail);
    machine.model.poll();
}

#[test]
fn a_frame_goes_out_and_its_descriptor_is_done() {
    let mut machine = Machine::started(1);
    let sent = frame(100);
    load(&machine, TX_DATA + 3, &sent);
    machine.put_descriptor(tx_ring(0), 0, data(TX_DATA + 3, 100, WHOLE).encode());
    ring_doorbell(&mut machine, 1);
    assert_eq!(machine.far.take(), Some(sent));
    assert!(machine.transmitted(0, 0));
    assert_eq!(machine.read(reg::tdh(0)), 1);
    assert_eq!(machine.read(reg::GPTC), 1);
    assert_eq!(machine.read(reg::GOTCL), 104);
}

#[test]
fn in_loopback_frames_come_back_and_none_goes_out_or_comes_in() {
    let mut machine = Machine::started(1);
    let hlreg0 = machine.read(reg::HLREG0);
    machine.write(reg::HLREG0, hlreg0 | Hlreg0::LPBK.bits());
    let mut sent = frame(100);
    sent[..6].copy_from_slice(&MAC);
    load(&machine, TX_DATA, &sent);
    machine.put_descriptor(tx_ring(0), 0, data(TX_DATA, 100, WHOLE).encode());
    machine.far.send(&frame(200)).unwrap();
    ring_doorbell(&mut machine, 1);
    assert_eq!(machine.far.take(), None);
    assert_eq!(machine.received(0, 0).unwrap().length(), 100);
    assert_eq!(machine.buffer(0, 0, 100), sent);
    assert!(machine.received(0, 1).is_none());
}

#[test]
fn a_frame_may_come_in_pieces_and_over_two_doorbells() {
    let mut machine = Machine::started(1);
    let sent = frame(300);
    load(&machine, TX_DATA, &sent);
    let none = TxCommand::empty();
    machine.put_descriptor(tx_ring(0), 0, data(TX_DATA, 54, none).encode());
    machine.put_descriptor(tx_ring(0), 1, data(TX_DATA + 54, 0, none).encode());
    machine.put_descriptor(tx_ring(0), 2, data(TX_DATA + 54, 246, WHOLE).encode());
    ring_doorbell(&mut machine, 2);
    assert_eq!(machine.far.take(), None);
    ring_doorbell(&mut machine, 3);
    assert_eq!(machine.far.take(), Some(sent));
    assert!(!machine.transmitted(0, 0));
    assert!(machine.transmitted(0, 2));
}

#[test]
fn checksums_are_inserted_by_the_context() {
    let mut machine = Machine::started(1);
    let good = tcp_frame(7, 90);
    let mut sent = good.clone();
    sent[24..26].fill(0);
    sent[50..52].copy_from_slice(&pseudo_sum(110).to_be_bytes());
    load(&machine, TX_DATA, &sent);
    machine.put_descriptor(tx_ring(0), 0, tcp_context().encode());
    let mut descriptor = data(TX_DATA, sent.len(), WHOLE);
    descriptor.options = TxOptions::IXSM | TxOptions::TXSM;
    machine.put_descriptor(tx_ring(0), 1, descriptor.encode());
    ring_doorbell(&mut machine, 2);
    assert_eq!(machine.far.take(), Some(good.clone()));
    // The context stays for the next frame.
    machine.put_descriptor(tx_ring(0), 2, descriptor.encode());
    ring_doorbell(&mut machine, 3);
    assert_eq!(machine.far.take(), Some(good));
}

#[test]
fn a_context_that_was_never_set_drops_the_frame() {
    let mut machine = Machine::started(1);
    let mut descriptor = data(TX_DATA, 100, WHOLE);
    descriptor.options = TxOptions::TXSM;
    descriptor.context = 1;
    machine.put_descriptor(tx_ring(0), 0, descriptor.encode());
    ring_doorbell(&mut machine, 1);
    assert_eq!(machine.far.take(), None);
    assert_eq!(machine.model.counters().tx_bad_context, 1);
    assert!(machine.transmitted(0, 0), "completed all the same");
}

#[test]
fn large_frames_are_cut_into_segments() {
    let mut machine = Machine::started(1);
    let mut sent = tcp_frame(7, 250);
    sent[50..52].copy_from_slice(&pseudo_sum(0).to_be_bytes());
    load(&machine, TX_DATA, &sent);
    machine.put_descriptor(tx_ring(0), 0, tcp_context().encode());
    let mut descriptor = data(TX_DATA, sent.len(), WHOLE | TxCommand::TSE);
    descriptor.options = TxOptions::IXSM | TxOptions::TXSM;
    descriptor.payload_length = 250;
    machine.put_descriptor(tx_ring(0), 1, descriptor.encode());
    ring_doorbell(&mut machine, 2);
    let lengths: Vec<_> = std::iter::from_fn(|| machine.far.take())
        .map(|frame| frame.len())
        .collect();
    assert_eq!(lengths, [154, 154, 104]);
}

/// 240,000 segments of one byte: a step sends some and the next one goes on, so that neither other queues
/// nor other functions wait for the last.
#[test]
fn a_frame_of_very_many_segments_takes_many_steps() {
    const PIECE: usize = 60_000;
    const PIECES: usize = 4;
    let mut machine = Machine::started(2);
    load(&machine, TX_DATA, &tcp_frame(7, PIECE));
    let mut context = tcp_context();
    context.mss = 1;
    machine.put_descriptor(tx_ring(0), 0, context.encode());
    for place in 1..=PIECES {
        // The same bytes each time; headers come first only.
        let bytes = if place == 1 { 54 + PIECE } else { PIECE };
        let command = if place == PIECES {
            WHOLE
        } else {
            TxCommand::empty()
        };
        let mut descriptor = data(TX_DATA, bytes, command | TxCommand::TSE);
        descriptor.options = TxOptions::IXSM | TxOptions::TXSM;
        descriptor.payload_length = (PIECES * PIECE) as u32;
        machine.put_descriptor(tx_ring(0), place as u32, descriptor.encode());
    }
    machine.write(reg::tdt(0), PIECES as u32 + 1);

    // The cable holds fewer than a step sends; what it refuses counts as well.
    let left = |machine: &Machine| {
        let counters = machine.model.counters();
        (counters.tx_frames + counters.tx_refused) as usize
    };
    let (mut steps, mut other) = (0, None);
    loop {
        let before = left(&machine);
        let more = machine.model.step().more;
        steps += 1;
        assert!(left(&machine) - before < 20_000, "in step {steps}");
        while let Some(frame) = machine.far.take() {
            if frame.len() == 100 {
                other = Some(steps);
            }
        }
        assert_eq!(machine.transmitted(0, PIECES as u32), !more);
        if !more {
            break;
        }
        if steps == 2 {
            load(&machine, TX_DATA, &frame(100));
            machine.put_descriptor(tx_ring(1), 0, data(TX_DATA, 100, WHOLE).encode());
            machine.write(reg::tdt(1), 1);
        }
    }
    assert_eq!(left(&machine), PIECES * PIECE + 1);
    assert!(
        other.is_some_and(|at| at <= 4),
        "{other:?} of {steps} steps"
    );
}

#[test]
fn tags_are_inserted_and_short_frames_padded() {
    let mut machine = Machine::started(1);
    load(&machine, TX_DATA, &frame(40));
    machine.put_descriptor(tx_ring(0), 0, tcp_context().encode());
    let tagged = data(TX_DATA, 40, WHOLE | TxCommand::VLE);
    machine.put_descriptor(tx_ring(0), 1, tagged.encode());
    ring_doorbell(&mut machine, 2);
    let got = machine.far.take().unwrap();
    assert_eq!(got[12..18], [0x81, 0, 0x20, 0x64, 0x88, 0xb5]);
    assert_eq!(got.len(), 60);
}

#[test]
fn legacy_descriptors_work_with_their_checksum() {
    let mut machine = Machine::started(1);
    let good = tcp_frame(7, 33);
    let mut sent = good.clone();
    sent[50..52].copy_from_slice(&pseudo_sum(53).to_be_bytes());
    load(&machine, TX_DATA, &sent);
    let legacy = TxLegacy {
        address: BUS + TX_DATA as u64,
        length: sent.len() as u16,
        command: LegacyCommand::EOP | LegacyCommand::RS | LegacyCommand::IC,
        checksum_offset: 50,
        checksum_start: 34,
        vlan: 0,
    };
    machine.put_descriptor(tx_ring(0), 0, legacy.encode());
    ring_doorbell(&mut machine, 1);
    assert_eq!(machine.far.take(), Some(good));
    assert!(machine.transmitted(0, 0));
}

#[test]
fn nonsense_is_dropped_counted_and_does_not_hold_up_the_next_frame() {
    let mut machine = Machine::started(1);
    let good = frame(64);
    load(&machine, TX_DATA, &good);
    let ring = tx_ring(0);
    let unreadable = ixgbe_spec::TxData {
        address: u64::MAX - 8,
        ..data(TX_DATA, 64, WHOLE)
    };
    machine.put_descriptor(ring, 0, data(TX_DATA, 0, WHOLE).encode());
    machine.put_descriptor(ring, 1, unreadable.encode());
    machine.put_descriptor(ring, 2, [0, 1 << 29 | 0xf << 20]);
    machine.put_descriptor(ring, 3, data(TX_DATA, 0xffff, WHOLE).encode());
    machine.put_descriptor(ring, 4, data(TX_DATA, 64, WHOLE).encode());
    ring_doorbell(&mut machine, 5);
    assert_eq!(machine.far.take(), Some(good));
    let counters = machine.model.counters();
    assert_eq!(counters.tx_bad_length, 2);
    assert_eq!(counters.tx_unreadable, 1);
    assert_eq!(counters.tx_bad_descriptor, 1);
    assert_eq!(counters.tx_frames, 1);
}

#[test]
fn a_tail_outside_of_the_ring_is_counted_and_sends_nothing() {
    let mut machine = Machine::started(1);
    machine.put_descriptor(tx_ring(0), 0, data(TX_DATA, 64, WHOLE).encode());
    ring_doorbell(&mut machine, RING);
    assert_eq!(machine.model.counters().bad_tails, 1);
    assert_eq!(machine.far.take(), None);
    ring_doorbell(&mut machine, 1);
    assert!(machine.far.take().is_some());
}

#[test]
fn disabling_a_queue_forgets_a_frame_half_gathered() {
    let mut machine = Machine::started(1);
    load(&machine, TX_DATA, &frame(64));
    let half = data(TX_DATA, 32, TxCommand::empty());
    machine.put_descriptor(tx_ring(0), 0, half.encode());
    ring_doorbell(&mut machine, 1);
    machine.write(reg::txdctl(0), 0);
    machine.write(reg::txdctl(0), Txdctl::ENABLE.bits());
    machine.put_descriptor(tx_ring(0), 1, data(TX_DATA, 64, WHOLE).encode());
    ring_doorbell(&mut machine, 2);
    assert_eq!(machine.far.take(), Some(frame(64)));
}

#[test]
fn frames_wait_while_transmission_is_off() {
    let mut machine = Machine::started(1);
    machine.write(reg::DMATXCTL, 0);
    load(&machine, TX_DATA, &frame(64));
    machine.put_descriptor(tx_ring(0), 0, data(TX_DATA, 64, WHOLE).encode());
    ring_doorbell(&mut machine, 1);
    assert_eq!(machine.far.take(), None);
    machine.write(reg::DMATXCTL, reg::Dmatxctl::TE.bits());
    machine.model.poll();
    assert!(machine.far.take().is_some());
}

#[test]
fn a_reset_ends_the_master_disable_that_precedes_it() {
    let mut machine = Machine::started(1);
    machine.write(reg::CTRL, reg::Ctrl::PCIE_MASTER_DISABLE.bits());
    let status = reg::Status::PCIE_MASTER_ENABLE.bits();
    assert_eq!(machine.read(reg::STATUS) & status, 0);
    load(&machine, TX_DATA, &frame(64));
    machine.put_descriptor(tx_ring(0), 0, data(TX_DATA, 64, WHOLE).encode());
    ring_doorbell(&mut machine, 1);
    assert_eq!(machine.far.take(), None);
    let both = reg::Ctrl::PCIE_MASTER_DISABLE | reg::Ctrl::RST;
    machine.write(reg::CTRL, both.bits());
    assert_ne!(machine.read(reg::STATUS) & status, 0);
    machine.start_tx(0);
    machine.write(reg::DMATXCTL, reg::Dmatxctl::TE.bits());
    ring_doorbell(&mut machine, 1);
    assert_eq!(machine.far.take(), Some(frame(64)));
}

#[test]
fn completion_interrupts_once_a_batch() {
    let mut machine = Machine::started(1);
    machine.write(reg::GPIE, Gpie::MULTIPLE_MSIX.bits());
    machine.write(reg::ivar(0), IvarEntry::to_vector(2).put(0, 1));
    machine.write(reg::EIMS, 1 << 2);
    load(&machine, TX_DATA, &frame(64));
    for n in 0..10 {
        machine.put_descriptor(tx_ring(0), n, data(TX_DATA, 64, WHOLE).encode());
    }
    ring_doorbell(&mut machine, 10);
    assert_eq!(machine.far.waiting(), 10);
    assert_eq!(machine.interrupts.of(2), 1);
}

#[test]
fn queues_beyond_the_configured_ones_cannot_be_enabled() {
    let config = ModelConfig {
        queues: 2,
        ..ModelConfig::default()
    };
    let mut machine = Machine::with_config(config);
    for (queue, enabled) in [(1, true), (2, false)] {
        machine.write(reg::txdctl(queue), Txdctl::ENABLE.bits());
        let bits = machine.read(reg::txdctl(queue)) & Txdctl::ENABLE.bits();
        assert_eq!(bits != 0, enabled);
    }
}

#[test]
fn mapped_doorbells_need_no_register_access() {
    use ix82599::memory::SharedMemory;
    let mut machine = Machine::new();
    let pages = SharedMemory::new(reg::BAR0_BYTES as usize, 0);
    machine.model.map_doorbells(pages.host());
    machine.write(reg::DMATXCTL, reg::Dmatxctl::TE.bits());
    let store = |offset: u32, value: u32| pages.host().store32(offset as usize, value);
    let load32 = |offset: u32| pages.host().load32(offset as usize);
    load(&machine, TX_DATA, &frame(64));
    machine.put_descriptor(tx_ring(0), 0, data(TX_DATA, 64, WHOLE).encode());
    let ring = BUS + tx_ring(0) as u64;
    store(reg::tdbal(0), ring as u32);
    store(reg::tdbah(0), (ring >> 32) as u32);
    store(reg::tdlen(0), RING * 16);
    store(reg::txdctl(0), Txdctl::ENABLE.bits());
    store(reg::tdt(0), 1);
    machine.model.poll();
    assert!(machine.far.take().is_some());
    assert_eq!(load32(reg::tdh(0)), 1);
    assert_eq!(machine.read(reg::tdt(0)), 1);
    machine.write(reg::CTRL, reg::Ctrl::RST.bits());
    assert_eq!(load32(reg::txdctl(0)), 0);
    assert_eq!(load32(reg::tdt(0)), 0);
}
