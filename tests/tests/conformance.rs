//! What is asked of every driver, asked of the 82576's on QEMU's card.

use std::cell::RefCell;
use std::panic::catch_unwind;
use std::rc::Rc;

use igb::{I82576, Igb, QueuePair};
use ix_conformance::{Bed, MAC, Offers, Setup};
use ix_hal::{DmaSlice, HEADER_ROOM, MbufGeometry, MbufId, MbufPool, Nic, RxFrame};
use ix_nic::{Config, QueueConfig, QueueMemory, VlanTag};
use ix_tests::bare_qemu::{BareMachine, Memory, Registers};

/// BAR of the vectors' table.
const TABLE_BAR: u32 = 3;
const LINK_TIMEOUT_US: u32 = 5_000_000;
const USER: u64 = 0x1000_0000;

thread_local! {
    /// The machine of the test that runs in this thread. Starting one takes as long as all requirements.
    static MACHINE: RefCell<Option<Rc<BareMachine>>> = const { RefCell::new(None) };
}

/// The driver on the machine of this thread.
struct OnQemu {
    machine: Rc<BareMachine>,
    device: Igb<Registers>,
    /// There but while the device is reset.
    pair: Option<QueuePair<Registers>>,
    pool: MbufPool,
}

impl Bed for OnQemu {
    type Nic = QueuePair<Registers>;
    const OFFERS: Offers = Offers {
        verifies: true,
        // QEMU keeps frames that no queue has a buffer for.
        counts_missed: false,
        waits_for_buffers: true,
        tags: true,
        filters_vlans: false,
    };
    // QEMU 11.1 cuts by itself where the other end of the wire does not, and clears both in every segment.
    const ENDS_SEGMENTS: bool = false;

    fn new(setup: &Setup) -> Self {
        let machine = MACHINE.with_borrow(Option::clone).expect("a machine");
        let memory = machine.memory();
        let geometry = MbufGeometry {
            count: setup.buffers,
            size_shift: setup.buffer_shift,
            bus: memory.allocate((setup.buffers as usize) << setup.buffer_shift) as u64,
            user: USER,
        };
        let mut config = Config::new(1);
        config.mtu = setup.mtu;
        config.vlan = setup
            .vlan
            .map(|(id, priority)| VlanTag::new(id, priority).expect("a VLAN"));
        let delay = &mut |us| machine.advance(us);
        let device = Igb::new(I82576, machine.registers(), config, delay).expect("bring-up");
        let memory = queue_memory(memory, setup);
        let mut bed = Self {
            machine: Rc::clone(&machine),
            device,
            pair: None,
            pool: MbufPool::new(geometry),
        };
        bed.start(memory);
        // What the test before has left on the wire.
        machine.settle();
        machine.far().arrived();
        bed
    }

    fn port(&mut self) -> (&mut Self::Nic, &mut MbufPool) {
        (self.pair.as_mut().expect("an open pair"), &mut self.pool)
    }

    fn inject(&mut self, frame: &[u8]) {
        self.machine.far().inject(frame);
    }

    fn run(&mut self) {
        self.machine.settle();
    }

    fn arrived(&mut self) -> Vec<Vec<u8>> {
        self.machine.far().arrived()
    }

    fn bytes(&self, frame: &RxFrame) -> Vec<u8> {
        let bus = self.pool.geometry().bus_of(frame.mbuf);
        self.machine
            .memory()
            .read(bus as usize, usize::from(frame.len))
    }

    fn fill(&mut self, mbuf: MbufId, bytes: &[u8]) -> u64 {
        let bus = self.pool.geometry().bus_of(mbuf);
        self.machine.memory().write(bus as usize, bytes);
        bus
    }

    fn interrupts(&self) -> u32 {
        self.machine.interrupts()
    }

    fn reset(&mut self) {
        let machine = Rc::clone(&self.machine);
        let delay = &mut |us| machine.advance(us);
        let pair = self.pair.take().expect("an open pair");
        self.device.reset(delay).expect("reset");
        let memory = self.device.close(pair, &mut self.pool, delay);
        self.start(memory.expect("close"));
    }

    fn story(&self) -> String {
        let pair = self.pair.as_ref().map(Nic::counts);
        format!("{pair:?}")
    }
}

impl OnQemu {
    /// Opens the queue pair, fills its ring, and waits for the link.
    fn start(&mut self, memory: QueueMemory) {
        let machine = Rc::clone(&self.machine);
        let delay = &mut |us| machine.advance(us);
        let config = QueueConfig {
            vector: 0,
            interrupt_interval_us: 0,
            pool: *self.pool.geometry(),
        };
        let pair = self.device.open(0, config, memory, delay);
        let mut pair = pair.expect("open");
        self.device.start(delay).expect("start");
        pair.refill(&mut self.pool);
        self.pair = Some(pair);
        let link = self.device.wait_for_link(LINK_TIMEOUT_US, delay);
        link.expect("a link");
    }
}

fn queue_memory(memory: &Memory, setup: &Setup) -> QueueMemory {
    let ring = |descriptors: usize| {
        let (words, bus) = memory.words(2 * descriptors);
        DmaSlice::new(words, bus as u64)
    };
    let (headers, headers_bus) = memory.rooms::<HEADER_ROOM>(setup.tx_descriptors);
    QueueMemory {
        rx_ring: ring(setup.rx_frames),
        tx_ring: ring(setup.tx_descriptors),
        headers,
        headers_bus: headers_bus as u64,
    }
}

#[test]
#[ignore = "starts QEMU: cargo xtask test boot"]
fn the_driver_of_the_82576_does_on_qemu_s_card_what_every_driver_must() {
    let [a, b, c, d, e, f] = MAC;
    let device = format!("igb,mac={a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    MACHINE.set(Some(Rc::new(BareMachine::start(&device, TABLE_BAR))));
    let requirements = ix_conformance::requirements!(OnQemu);
    let failed: Vec<&str> = requirements
        .into_iter()
        .filter(|(_, requirement)| catch_unwind(requirement).is_err())
        .map(|(name, _)| name)
        .collect();
    MACHINE.set(None);
    assert!(failed.is_empty(), "not met: {}", failed.join(", "));
}
