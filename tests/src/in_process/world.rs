//! The dataplane's end of the cable.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;

use ix_core::{ElasticThread, Statistics, Step, ThreadConfig, ThreadParts, UserRange};
use ix_hal::{Instant, MbufPool};
use ix82599::wire::{Cable, Impaired, Impairment};
use ixgbe::{Card, Config, Ixgbe, QueueConfig, QueuePair};

use super::parts::{self, Buffers, Memory, Registers};

/// The dataplane's address.
pub const GUEST: [u8; 4] = [10, 9, 0, 2];
/// The dataplane's station address.
pub const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// What one look at the wire costs, so that time passes.
const STEP_NS: u64 = 20_000;

type Thread = ElasticThread<QueuePair<Registers>, Buffers>;

/// Machine and dataplane kernel, one elastic thread.
pub struct World {
    thread: Thread,
    registers: Registers,
    area: &'static [AtomicU64],
    payload: &'static [u8],
    now_ns: u64,
    mbufs: u32,
}

impl World {
    /// A dataplane whose NIC is plugged into `cable`, which does `impairment` to frames.
    pub fn new(cable: Cable, impairment: Impairment, net: ix_net::Config) -> Self {
        let (registers, memory) = parts::plugged_into(Impaired::new(cable, impairment));
        Self::boot(registers, memory, net)
    }

    fn boot(registers: Registers, mut memory: Memory, net: ix_net::Config) -> Self {
        let geometry = memory.mbufs(1, net.mbufs)[0];
        let sendable = UserRange {
            user: geometry.user,
            bus: geometry.bus,
            bytes: geometry.bytes(),
        };
        let (payload, payload_range) = memory.payload();
        let mut now_us = 0;
        let clock = registers.clone();
        let mut delay = move |us: u32| {
            now_us += u64::from(us);
            clock.model().advance(now_us * 1_000);
        };
        let mut device = Ixgbe::new(
            Card::I82599Sfp,
            registers.clone(),
            Config::new(1),
            &mut delay,
        )
        .expect("the NIC comes up");
        let queue = QueueConfig {
            vector: 0,
            interrupt_interval_us: 0,
            pool: geometry,
        };
        let nic = device
            .open(0, queue, memory.queue(), &mut delay)
            .expect("the queue pair opens");
        device.start(&mut delay).expect("the receive path starts");

        let area: &'static [AtomicU64] = Vec::leak(
            (0..ix_abi::area::WORDS)
                .map(|_| AtomicU64::new(0))
                .collect(),
        );
        let parts = ThreadParts {
            nic,
            memory: Buffers::new(0, [geometry].into()),
            pool: MbufPool::new(geometry),
            area,
            sendable: [sendable, payload_range, UserRange::default()],
            crew: None,
            movable: ix_net::Movable::new(&net),
        };
        let mbufs = net.mbufs;
        let config = ThreadConfig {
            net,
            batch_bound: 64,
        };
        let thread = ElasticThread::new(config, parts, Instant(0)).expect("a configuration");
        Self {
            thread,
            registers,
            area,
            payload,
            now_ns: 0,
            mbufs,
        }
    }

    /// Now, in nanoseconds since the start.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Lets `ns` pass, and the NIC move frames.
    pub fn advance(&mut self, ns: u64) {
        self.now_ns += ns;
        let mut model = self.registers.model();
        model.advance(self.now_ns);
        model.poll();
    }

    /// From now on the application stays in user mode: the kernel attends to the network alone.
    pub fn begin_absence(&mut self) {
        self.thread.begin_absence();
    }

    /// What a tick does meanwhile, after so many nanoseconds.
    pub fn attend(&mut self, ns: u64) {
        self.advance(ns);
        self.thread.attend(Instant(self.now_ns));
        self.advance(0);
    }

    /// The application goes on, and may end its round.
    pub fn end_absence(&mut self) {
        self.thread.end_absence();
    }

    /// Apart, so that its instructions can be counted.
    #[inline(never)]
    fn kernel_cycle(&mut self) -> Step {
        self.thread.cycle(Instant(self.now_ns))
    }

    /// Memory that the application may send from, beside the frame buffers.
    pub fn payload(&self) -> &'static [u8] {
        self.payload
    }

    /// What the elastic thread has done so far.
    pub fn statistics(&mut self) -> Statistics {
        self.thread.statistics()
    }

    /// The protocol counters.
    pub fn counters(&self) -> ix_net::Counters {
        self.thread.engine().counters().clone()
    }

    /// Mbufs that are neither free nor in the RX ring.
    pub fn mbufs_held(&mut self) -> i64 {
        let free = self.thread.statistics().mbufs_free as i64;
        i64::from(self.mbufs) - free - i64::from(self.thread.nic().rx_buffers())
    }
}

/// The kernel below a [`libix::Runtime`] in this process. A round without anything to do returns
/// without events, so that the test can let the peer and the time go on.
pub struct WorldKernel(pub Rc<RefCell<World>>);

// SAFETY: `ElasticThread` keeps the ABI's contract, which is what these tests are about: buffers of
// recv events stay as they are until recv_done, since the driver owns no buffer that a connection
// holds; memory passed to sendv is read by the model only, while the engine has a record of it. All
// addresses given out are real ones of this process, in memory that is never freed.
unsafe impl libix::Kernel for WorldKernel {
    fn area(&self) -> libix::Area {
        libix::Area::new(self.0.borrow().area).expect("a good thread area")
    }

    fn run_io(&mut self) {
        let world = &mut *self.0.borrow_mut();
        world.advance(STEP_NS);
        let step = world.kernel_cycle();
        if step != Step::User {
            let count = &world.area[ix_abi::area::EVENT_COUNT];
            count.store(0, std::sync::atomic::Ordering::Relaxed);
        }
        world.advance(0);
    }
}
