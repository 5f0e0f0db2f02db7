//! The border to user mode: whatever an application writes into its thread area, each call gets an
//! answer and nothing else happens. No frames here: the queue pair is a NIC without a wire.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use ix_abi::{CALL_CAPACITY, CallNumber, Error, SCATTER_GATHER_CAPACITY, area, call, control};
use ix_core::{Control, ElasticThread, Step, ThreadConfig, ThreadParts, Times, UserRange};
use ix_hal::{
    HEADER_ROOM, Instant, LentMbuf, MbufGeometry, MbufId, MbufMemory, MbufPool, Nic, NicStatistics,
    RxFrame, Transmit, TxFrame,
};
use proptest::prelude::*;

const HEAP: u64 = 0x1000_0000;
const HEAP_BYTES: u64 = 2 << 20;

/// Receives nothing, sends into the void.
struct NoWire([u8; HEADER_ROOM]);

impl Transmit for NoWire {
    fn header(&mut self) -> Option<&mut [u8; HEADER_ROOM]> {
        Some(&mut self.0)
    }
    fn send(&mut self, _: &TxFrame<'_>) {}
}

impl Nic for NoWire {
    fn mac(&self) -> [u8; 6] {
        [2, 0, 0, 0, 0, 1]
    }
    fn link_up(&mut self) -> bool {
        true
    }
    fn receive(&mut self, _: &mut [RxFrame], _: &mut MbufPool) -> usize {
        0
    }
    fn refill(&mut self, _: &mut MbufPool) {}
    fn reclaim(&mut self, _: &mut MbufPool) -> u32 {
        0
    }
    fn flush(&mut self) {}
    fn queued(&self) -> u32 {
        0
    }
    fn has_sent(&mut self, _: u32) -> bool {
        true
    }
    fn arm_interrupt(&mut self) {}
    fn disarm_interrupt(&mut self) {}
    fn statistics(&mut self) -> NicStatistics {
        NicStatistics::default()
    }
    fn counts(&self) -> NicStatistics {
        NicStatistics::default()
    }
    fn waiting(&self) -> u32 {
        0
    }
}

struct NoFrames;

impl MbufMemory for NoFrames {
    fn frame(&self, _: MbufId, _: usize) -> &[u8] {
        &[]
    }
    fn copy(&mut self, _: (MbufId, usize), _: (MbufId, usize), _: usize) {}
    fn fetch(&mut self, _: LentMbuf, _: MbufId, _: usize) {}
}

struct Machine {
    thread: ElasticThread<NoWire, NoFrames>,
    area: &'static [AtomicU64],
    now: u64,
}

impl Machine {
    fn new() -> Self {
        let area: &'static [AtomicU64] =
            Vec::leak((0..area::WORDS).map(|_| AtomicU64::new(0)).collect());
        let geometry = MbufGeometry {
            count: 64,
            size_shift: 11,
            bus: 0,
            user: 0x7000_0000,
        };
        let config = ix_net::Config {
            connections: 64,
            mbufs: 64,
            ..Default::default()
        };
        let parts = ThreadParts {
            nic: NoWire([0; HEADER_ROOM]),
            memory: NoFrames,
            pool: MbufPool::new(geometry),
            area,
            sendable: [
                UserRange {
                    user: HEAP,
                    bus: 0x4000_0000,
                    bytes: HEAP_BYTES,
                },
                UserRange::default(),
                UserRange::default(),
            ],
            crew: None,
            movable: ix_net::Movable::new(&config),
        };
        let config = ThreadConfig {
            net: config,
            batch_bound: 64,
        };
        let mut thread = ElasticThread::new(config, parts, Instant(0)).expect("a configuration");
        assert_eq!(
            thread.cycle(Instant(0)),
            Step::User,
            "the first cycle starts the application"
        );
        Self {
            thread,
            area,
            now: 0,
        }
    }

    fn set_call(&self, index: usize, words: [u64; call::WORDS]) {
        for (offset, word) in words.into_iter().enumerate() {
            self.area[area::CALLS + index * call::WORDS + offset].store(word, Relaxed);
        }
    }

    fn set_entry(&self, index: usize, address: u64, len: u64) {
        self.area[area::SCATTER_GATHER + index * 2].store(address, Relaxed);
        self.area[area::SCATTER_GATHER + index * 2 + 1].store(len, Relaxed);
    }

    fn round(&mut self, calls: u64) -> Step {
        self.area[area::CALL_COUNT].store(calls, Relaxed);
        self.now += 1_000;
        self.thread.cycle(Instant(self.now))
    }

    fn result(&self, index: usize) -> i64 {
        self.area[area::CALLS + index * call::WORDS + call::RESULT].load(Relaxed) as i64
    }

    fn one(&mut self, words: [u64; call::WORDS]) -> i64 {
        self.set_call(0, words);
        self.round(1);
        self.result(0)
    }
}

fn numbered(number: CallNumber, small: u32) -> u64 {
    number as u64 | u64::from(small) << 32
}

#[test]
fn unknown_calls_are_refused_one_by_one() {
    let mut machine = Machine::new();
    for (index, number) in [0, 14, 77, 0xffff_ffff].into_iter().enumerate() {
        machine.set_call(index, [number, 1, 2, 3]);
    }
    machine.set_call(4, [numbered(CallNumber::Listen, 7), 0, 0, 0]);
    machine.round(5);
    for index in 0..4 {
        assert_eq!(machine.result(index), Error::Invalid.to_result());
    }
    assert_eq!(
        machine.result(4),
        0,
        "a good call after bad ones is executed"
    );
    assert_eq!(machine.thread.statistics().thread.calls_refused, 4);
}

#[test]
fn forged_handles_are_refused_by_every_call_that_takes_one() {
    let mut machine = Machine::new();
    machine.set_entry(0, HEAP, 64);
    for handle in [0, 1, 63, 64, u64::MAX, 1 << 32, 0xdead_beef_0000_0001] {
        for number in [
            CallNumber::Accept,
            CallNumber::RecvDone,
            CallNumber::Shutdown,
            CallNumber::Close,
            CallNumber::Abort,
        ] {
            let result = machine.one([numbered(number, 0), handle, 1, 0]);
            assert_eq!(
                result,
                Error::BadHandle.to_result(),
                "{number:?} {handle:#x}"
            );
        }
        let result = machine.one([numbered(CallNumber::Sendv, 1), handle, 0, 0]);
        assert_eq!(result, Error::BadHandle.to_result(), "sendv {handle:#x}");
    }
}

#[test]
fn sendv_refuses_entries_outside_of_the_array_and_of_memory() {
    let mut machine = Machine::new();
    let sendv = |entries| numbered(CallNumber::Sendv, entries);
    let last = SCATTER_GATHER_CAPACITY as u64 - 1;
    for (entries, first) in [
        (0, 0),
        (65, 0),
        (u32::MAX, 0),
        (2, last),
        (1, last + 1),
        (1, u64::MAX),
    ] {
        let result = machine.one([sendv(entries), 0, first, 0]);
        assert_eq!(
            result,
            Error::Invalid.to_result(),
            "{entries} entries at {first}"
        );
    }
    for (address, len) in [
        (HEAP, 0),
        (HEAP - 1, 1),
        (HEAP + HEAP_BYTES, 1),
        (HEAP + HEAP_BYTES - 1, 2),
        (HEAP, u64::MAX),
        (0xffff_8000_0000_0000, 8),
    ] {
        machine.set_entry(0, address, len);
        let result = machine.one([sendv(1), 0, 0, 0]);
        assert_eq!(
            result,
            Error::BadAddress.to_result(),
            "{len} bytes at {address:#x}"
        );
    }
}

#[test]
fn ports_out_of_range_are_refused() {
    let mut machine = Machine::new();
    for port in [0, 65_536, u32::MAX] {
        let result = machine.one([numbered(CallNumber::Listen, port), 0, 0, 0]);
        assert_eq!(result, Error::Invalid.to_result(), "{port}");
    }
    assert_eq!(machine.one([numbered(CallNumber::Listen, 80), 0, 0, 0]), 0);
    let again = machine.one([numbered(CallNumber::Listen, 80), 0, 0, 0]);
    assert_eq!(again, Error::InUse.to_result());
}

#[test]
fn a_call_count_beyond_the_array_is_cut_and_counted() {
    let mut machine = Machine::new();
    machine.round(u64::MAX);
    let counters = machine.thread.statistics().thread;
    assert_eq!(counters.calls, CALL_CAPACITY as u64);
    assert_eq!(
        counters.calls_beyond_capacity,
        u64::MAX - CALL_CAPACITY as u64
    );
}

#[test]
fn the_application_is_woken_at_the_time_it_asked_for_and_not_before() {
    let mut machine = Machine::new();
    machine.area[area::WAKE_NS].store(5_000, Relaxed);
    assert_eq!(
        machine.thread.cycle(Instant(4_999)),
        Step::Idle {
            deadline: Some(Instant(5_000))
        }
    );
    assert_eq!(machine.thread.cycle(Instant(5_000)), Step::User);
    assert_eq!(machine.area[area::EVENT_COUNT].load(Relaxed), 0);
    machine.area[area::WAKE_NS].store(0, Relaxed);
    assert_eq!(
        machine.thread.cycle(Instant(6_000)),
        Step::Idle { deadline: None }
    );
}

#[test]
fn a_refusal_that_no_event_follows_is_told_at_once() {
    let mut machine = Machine::new();
    let mut step_after = |number, small| {
        machine.set_call(0, [numbered(number, small), 0, 0, 0]);
        (machine.round(1), machine.result(0) < 0)
    };
    let idle = Step::Idle { deadline: None };
    assert_eq!(step_after(CallNumber::Listen, 80), (idle, false));
    for number in [
        CallNumber::Listen,
        CallNumber::Connect,
        CallNumber::Accept,
        CallNumber::UdpBind,
    ] {
        assert_eq!(step_after(number, 0), (Step::User, true), "{number:?}");
    }
    // What is refused here would have had no consequence that the application waits for.
    assert_eq!(step_after(CallNumber::Close, 0), (idle, true));
}

#[test]
fn calls_are_executed_once() {
    let mut machine = Machine::new();
    machine.set_call(0, [numbered(CallNumber::Listen, 80), 0, 0, 0]);
    machine.round(1);
    machine.now += 1_000;
    machine.thread.cycle(Instant(machine.now));
    assert_eq!(
        machine.result(0),
        0,
        "a second execution would have answered InUse"
    );
    assert_eq!(machine.thread.statistics().thread.calls, 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Arbitrary calls over arbitrary entries, in several rounds on one machine: each gets a result
    /// that is a value or a known error, and the thread lives on.
    #[test]
    fn arbitrary_calls_get_an_answer(
        calls in proptest::collection::vec(
            (0u64..12, 0u32..70, prop_oneof![0u64..70, any::<u64>()],
             prop_oneof![0u64..5000, any::<u64>()], any::<u64>()), 1..200),
        entries in proptest::collection::vec(
            (prop_oneof![HEAP - 64..HEAP + HEAP_BYTES + 64, any::<u64>()], 0u64..5000), 64),
    ) {
        let mut machine = Machine::new();
        for (index, (address, len)) in entries.into_iter().enumerate() {
            machine.set_entry(index, address, len);
        }
        for chunk in calls.chunks(50) {
            for (index, &(number, small, handle, argument, last)) in chunk.iter().enumerate() {
                let first = number | u64::from(small) << 32;
                machine.set_call(index, [first, handle, argument, last]);
            }
            machine.round(chunk.len() as u64);
            for index in 0..chunk.len() {
                let result = machine.result(index);
                prop_assert!(result >= 0 || Error::from_result(result).is_some(), "{}", result);
            }
        }
    }
}

#[test]
fn datagrams_are_sent_from_bound_ports_and_good_memory_only() {
    let mut machine = Machine::new();
    let (high, low) = ix_abi::ipv4_to_words(0x0a00_0001);
    let send = |entries, first| {
        let ports = ix_abi::udp_ports(53, 4000);
        let entries = ix_abi::udp_entries(entries, first);
        [numbered(CallNumber::UdpSend, ports), entries, high, low]
    };
    machine.set_entry(0, HEAP, 64);
    machine.set_entry(1, HEAP + HEAP_BYTES, 64);
    machine.set_entry(2, HEAP, 0);
    assert_eq!(machine.one(send(1, 0)), Error::BadState.to_result());
    for port in [0, 1 << 16, u32::MAX] {
        let result = machine.one([numbered(CallNumber::UdpBind, port), 0, 0, 0]);
        assert_eq!(result, Error::Invalid.to_result(), "port {port}");
    }
    assert_eq!(machine.one([numbered(CallNumber::UdpBind, 53), 0, 0, 0]), 0);
    let last = SCATTER_GATHER_CAPACITY as u32 - 1;
    for (entries, first, error) in [
        (9, 0, Error::Invalid),
        (u32::MAX, 0, Error::Invalid),
        (1, last + 1, Error::Invalid),
        (2, last, Error::Invalid),
        (1, u32::MAX, Error::Invalid),
        (1, 1, Error::BadAddress),
        (1, 2, Error::BadAddress),
        (2, 0, Error::BadAddress),
        // Good, but nobody knows the peer's station yet.
        (1, 0, Error::TryAgain),
        (0, last + 1, Error::TryAgain),
    ] {
        let result = machine.one(send(entries, first));
        assert_eq!(result, error.to_result(), "{entries} entries at {first}");
    }
}

#[test]
fn forged_buffers_of_datagrams_are_refused() {
    let mut machine = Machine::new();
    let pool = 0x7000_0000;
    for address in [
        0,
        pool,
        pool + 63 * 2048,
        pool + 64 * 2048,
        pool - 1,
        u64::MAX,
    ] {
        let result = machine.one([numbered(CallNumber::UdpRecvDone, 0), address, 0, 0]);
        assert_eq!(result, Error::BadHandle.to_result(), "{address:#x}");
    }
}

/// The control page of a thread, and what it says there.
struct Page(&'static [AtomicU64]);

impl Page {
    fn new() -> Self {
        Self(Vec::leak(
            (0..control::WORDS).map(|_| AtomicU64::new(0)).collect(),
        ))
    }

    fn post(&self, opcode: u64) {
        self.0[control::COMMANDS + control::command::OPCODE].store(opcode, Relaxed);
        self.0[control::COMMANDS + control::command::SEQUENCE].fetch_add(1, Relaxed);
    }

    fn said(&self, word: usize) -> u64 {
        self.0[control::THREADS + word].load(Relaxed)
    }
}

#[test]
fn a_thread_without_others_refuses_to_move_or_park_and_says_so() {
    let mut machine = Machine::new();
    let page = Page::new();
    machine.thread.attach(Control::new(page.0, 0));
    let running = control::ThreadState::Running as u64;
    assert_eq!(page.said(control::thread::STATE), running);
    let refusals = [
        (1, Error::BadState),
        (2, Error::BadState),
        (3, Error::BadState),
        (9, Error::Invalid),
    ];
    for (number, (opcode, error)) in (1..).zip(refusals) {
        page.post(opcode);
        machine.round(0);
        assert_eq!(page.said(control::thread::ACKNOWLEDGED), number);
        let result = page.said(control::thread::RESULT) as i64;
        assert_eq!(result, error.to_result(), "opcode {opcode}");
    }
}

#[test]
fn a_report_has_the_counts_of_the_thread() {
    let mut machine = Machine::new();
    machine.thread.report(Instant(1), Times::default());
    let page = Page::new();
    machine.thread.attach(Control::new(page.0, 0));
    machine.one([numbered(CallNumber::Close, 0), 0, 0, 0]);
    let times = Times {
        user_ns: 3,
        kernel_ns: 4,
        idle_ns: 5,
    };
    machine.thread.report(Instant(77), times);
    let counters = machine.thread.counters();
    assert_eq!(page.said(control::thread::NOW_NS), 77);
    assert_eq!(page.said(control::thread::CALLS), counters.calls);
    assert_eq!(page.said(control::thread::CYCLES), counters.cycles);
    let idle_and_user = (
        page.said(control::thread::IDLE_NS),
        page.said(control::thread::USER_NS),
    );
    assert_eq!(idle_and_user, (5, 3));
}
