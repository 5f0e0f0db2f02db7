//! A guest that does anything at all: the model neither panics, nor hangs, nor touches memory
//! outside of what was mapped.

mod support;

use ix82599::wire::Wire;
use ixgbe_spec::register as reg;
use proptest::prelude::*;
use support::*;

/// One thing a guest, or the wire, may do.
#[derive(Clone, Debug)]
enum Act {
    Write(u32, u32),
    Read(u32),
    /// Bytes at an offset of memory, where rings and buffers are.
    Store(usize, u64),
    Arrive(Vec<u8>),
    Config(usize, Vec<u8>),
    Poll,
    Advance(u64),
}

/// Registers that matter most come up most often.
fn register() -> impl Strategy<Value = u32> {
    let queue = 0..4u32;
    let rx = (queue.clone(), 0..8usize).prop_map(|(queue, which)| {
        let registers: [fn(u32) -> u32; 8] = [
            reg::rdbal,
            reg::rdbah,
            reg::rdlen,
            reg::rdh,
            reg::rdt,
            reg::rxdctl,
            reg::srrctl,
            reg::rscctl,
        ];
        registers[which](queue)
    });
    let tx = (queue, 0..6usize).prop_map(|(queue, which)| {
        let registers: [fn(u32) -> u32; 6] = [
            reg::tdbal,
            reg::tdbah,
            reg::tdlen,
            reg::tdh,
            reg::tdt,
            reg::txdctl,
        ];
        registers[which](queue)
    });
    let control = prop::sample::select(vec![
        reg::CTRL,
        reg::RXCTRL,
        reg::DMATXCTL,
        reg::HLREG0,
        reg::MAXFRS,
        reg::MRQC,
        reg::FCTRL,
        reg::GPIE,
        reg::EIMS,
        reg::EICS,
        reg::ivar(0),
        reg::rxpbsize(0),
        reg::reta(0),
        reg::eitr(0),
    ]);
    prop_oneof![3 => rx, 3 => tx, 2 => control, 1 => (0..0x8000u32).prop_map(|n| 4 * n)]
}

fn value() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        0..64u32,
        Just(1 << 25),
        Just(u32::MAX),
        (0..0x100u32).prop_map(|page| BUS as u32 + 0x1000 * page),
        Just((BUS >> 32) as u32),
        Just(0),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let frame = prop_oneof![
        (14..200usize).prop_map(frame),
        (0..1400usize).prop_map(|payload| tcp_frame(1, payload)),
        prop::collection::vec(any::<u8>(), 0..300),
        (1500..15_800usize).prop_map(frame),
    ];
    let descriptor = prop_oneof![
        any::<u64>(),
        (0..MEMORY_BYTES as u64).prop_map(|offset| BUS + offset),
        // Advanced data and context descriptors.
        (any::<u64>(), any::<bool>()).prop_map(|(word, data)| {
            let dtyp = if data { 3 } else { 2 };
            word & !(0xf << 20) | dtyp << 20 | 1 << 29
        }),
    ];
    prop_oneof![
        6 => (register(), value()).prop_map(|(offset, value)| Act::Write(offset, value)),
        1 => register().prop_map(Act::Read),
        4 => (0..0x4000usize, descriptor).prop_map(|(at, word)| Act::Store(8 * at, word)),
        2 => frame.prop_map(Act::Arrive),
        1 => (0..0x100usize, prop::collection::vec(any::<u8>(), 0..8))
            .prop_map(|(offset, bytes)| Act::Config(offset, bytes)),
        2 => Just(Act::Poll),
        1 => (0..1u64 << 40).prop_map(Act::Advance),
    ]
}

fn perform(machine: &mut Machine, act: &Act) {
    match act {
        Act::Write(offset, value) => machine.write(*offset, *value),
        Act::Read(offset) => {
            machine.read(*offset);
        }
        Act::Store(offset, word) => machine.memory.write(*offset, &word.to_le_bytes()),
        Act::Arrive(frame) => {
            let _ = machine.far.send(frame);
        }
        Act::Config(offset, bytes) => machine.model.config_write(*offset, bytes),
        Act::Poll => {
            machine.model.poll();
        }
        Act::Advance(now_ns) => machine.model.advance(*now_ns),
    }
    while machine.far.take().is_some() {}
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_is_survived_from_reset(acts in prop::collection::vec(act(), 1..150)) {
        let mut machine = Machine::new();
        for act in &acts {
            perform(&mut machine, act);
        }
    }

    #[test]
    fn any_sequence_is_survived_by_a_running_device(
        acts in prop::collection::vec(act(), 1..150),
    ) {
        let mut machine = Machine::started(4);
        for act in &acts {
            perform(&mut machine, act);
        }
        // Whatever happened, a reset and a fresh start bring the device back.
        machine.model.power_on_reset();
        machine.model.set_bus_master(true);
        machine.start_rx(0, reg::Srrctl::DESCTYPE_ADVANCED);
        machine.write(reg::RXCTRL, 1);
        machine.arrives(&frame(100));
        prop_assert!(machine.received(0, 0).is_some());
    }

    #[test]
    fn any_ring_contents_are_survived(
        words in prop::collection::vec(any::<[u64; 2]>(), RING as usize),
        near in any::<bool>(),
        tail in 0..RING,
    ) {
        let mut machine = Machine::started(1);
        for (n, words) in words.iter().enumerate() {
            let mut words = *words;
            if near {
                words[0] = BUS + words[0] % (2 * MEMORY_BYTES as u64);
            }
            machine.put_descriptor(tx_ring(0), n as u32, words);
            machine.put_descriptor(rx_ring(0), n as u32, words);
        }
        machine.write(reg::tdt(0), tail);
        for _ in 0..RING {
            machine.arrives(&frame(1000));
        }
    }
}
