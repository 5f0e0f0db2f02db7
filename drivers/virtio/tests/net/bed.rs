//! The driver on the device, in one memory.

use std::cell::RefCell;
use std::rc::Rc;

use ix_conformance::{Bed, Offers, Setup};
use ix_hal::{DmaSlice, MbufGeometry, MbufId, MbufPool, Nic, RxFrame};
use ix82599::memory::SharedMemory;
use virtio_net::{Config, Error, QueueConfig, QueueMemory, QueuePair, Room, Transport, VirtioNet};

use crate::device::{BUS, Device, Registers, Structure, Traits};

/// A driver whose time passes only when it waits.
pub type Driver = VirtioNet<Registers, fn(u32)>;

/// Memory, a device, and the place where the next thing goes.
pub struct Machine {
    pub device: Rc<RefCell<Device>>,
    memory: Rc<SharedMemory>,
    free: usize,
}

/// A queue pair with its pool.
pub struct Port {
    pub pair: QueuePair<Registers>,
    pub pool: MbufPool,
    /// Byte offset of the pool in memory.
    buffers: usize,
}

/// What a queue pair's memory is made of, but for the rooms.
#[derive(Clone, Copy)]
struct Rings {
    rx: (DmaSlice, u16),
    rx_headers: DmaSlice,
    tx: (DmaSlice, u16),
}

impl Machine {
    pub fn new(traits: Traits) -> Self {
        let memory = Rc::new(SharedMemory::new(64 << 20, BUS));
        let device = Device::new(Rc::clone(&memory), traits);
        Self {
            device: Rc::new(RefCell::new(device)),
            memory,
            free: 0,
        }
    }

    fn allocate(&mut self, bytes: usize) -> usize {
        let offset = self.free;
        self.free = (offset + bytes).next_multiple_of(4096);
        assert!(self.free <= self.memory.bytes(), "test machine too small");
        offset
    }

    fn words(&mut self, words: usize) -> DmaSlice {
        let offset = self.allocate(8 * words);
        DmaSlice::new(self.memory.words(offset, 8 * words), BUS + offset as u64)
    }

    pub fn control(&mut self) -> DmaSlice {
        self.words(Driver::CONTROL_WORDS)
    }

    pub fn driver(&self, config: Config, control: DmaSlice) -> Result<Driver, Error> {
        let window = |structure| Registers(Rc::clone(&self.device), structure);
        let transport = Transport {
            common: window(Structure::Common),
            device: window(Structure::Own),
            notify: window(Structure::Notify),
            notify_off_multiplier: 4,
        };
        VirtioNet::new(transport, config, control, (|_| {}) as fn(u32))
    }

    fn rings(&mut self, setup: &Setup) -> (Rings, &'static mut [Room], u64) {
        let (rx, tx) = (2 * setup.rx_frames as u16, setup.tx_descriptors as u16);
        let rings = Rings {
            rx: (self.words(QueueMemory::ring_words(rx)), rx),
            rx_headers: self.words(QueueMemory::rx_header_words(rx)),
            tx: (self.words(QueueMemory::ring_words(tx)), tx),
        };
        let bytes = usize::from(tx) * size_of::<Room>();
        let offset = self.allocate(bytes);
        let words = self.memory.words(offset, bytes);
        // SAFETY: `allocate` gives each range out once and the words are leaked, so that nothing in
        // this program makes another reference to them. The device, which runs on this thread and
        // only while no method of the driver does, reads them through a raw pointer.
        let rooms = unsafe {
            std::slice::from_raw_parts_mut(
                words.as_ptr().cast_mut().cast::<Room>(),
                usize::from(tx),
            )
        };
        (rings, rooms, BUS + offset as u64)
    }

    /// Opens a queue pair on fresh memory, with the vector of the same number.
    pub fn open(&mut self, driver: &mut Driver, number: u32, setup: &Setup) -> Port {
        let (rings, rooms, rooms_bus) = self.rings(setup);
        let buffers = self.allocate((setup.buffers as usize) << setup.buffer_shift);
        let pool = MbufPool::new(MbufGeometry {
            count: setup.buffers,
            size_shift: setup.buffer_shift,
            bus: BUS + buffers as u64,
            user: 0x1000_0000,
        });
        let pair = open(driver, number, &pool, rings, rooms, rooms_bus);
        Port {
            pair,
            pool,
            buffers,
        }
    }

    /// A received frame's bytes.
    pub fn bytes(&self, port: &Port, frame: &RxFrame) -> Vec<u8> {
        let start = port.buffers + ((frame.mbuf.0 as usize) << port.pool.geometry().size_shift);
        let mut bytes = vec![0; usize::from(frame.len)];
        self.memory.read(start, &mut bytes);
        bytes
    }
}

fn open(
    driver: &mut Driver,
    number: u32,
    pool: &MbufPool,
    rings: Rings,
    rooms: &'static mut [Room],
    rooms_bus: u64,
) -> QueuePair<Registers> {
    let memory = QueueMemory {
        rx_ring: rings.rx.0,
        rx_size: rings.rx.1,
        rx_headers: rings.rx_headers,
        tx_ring: rings.tx.0,
        tx_size: rings.tx.1,
        rooms,
        rooms_bus,
    };
    let config = QueueConfig {
        vector: number as u16,
        pool: *pool.geometry(),
    };
    driver.open(number, config, memory).expect("open")
}

/// One queue pair, for the tests that every driver passes.
pub struct OnDevice {
    machine: Machine,
    /// These three are there but while the device is reset.
    driver: Option<Driver>,
    port: Option<Port>,
    rings: Rings,
    control: DmaSlice,
    config: Config,
}

impl OnDevice {
    fn there(&self) -> &Port {
        self.port.as_ref().expect("an open port")
    }
}

impl Bed for OnDevice {
    type Nic = QueuePair<Registers>;
    const OFFERS: Offers = Offers {
        verifies: false,
        counts_missed: false,
        waits_for_buffers: true,
        tags: false,
        filters_vlans: false,
    };

    fn new(setup: &Setup) -> Self {
        let mut machine = Machine::new(Traits::default());
        let mut config = Config::new(1);
        config.mtu = setup.mtu;
        let control = machine.control();
        let mut driver = machine.driver(config.clone(), control).expect("bring-up");
        let (rings, rooms, rooms_bus) = machine.rings(setup);
        let buffers = machine.allocate((setup.buffers as usize) << setup.buffer_shift);
        let pool = MbufPool::new(MbufGeometry {
            count: setup.buffers,
            size_shift: setup.buffer_shift,
            bus: BUS + buffers as u64,
            user: 0x1000_0000,
        });
        let pair = open(&mut driver, 0, &pool, rings, rooms, rooms_bus);
        driver.start().expect("start");
        let mut port = Port {
            pair,
            pool,
            buffers,
        };
        port.pair.refill(&mut port.pool);
        Self {
            machine,
            driver: Some(driver),
            port: Some(port),
            rings,
            control,
            config,
        }
    }

    fn port(&mut self) -> (&mut Self::Nic, &mut MbufPool) {
        let port = self.port.as_mut().expect("an open port");
        (&mut port.pair, &mut port.pool)
    }

    fn inject(&mut self, frame: &[u8]) {
        let mut device = self.machine.device.borrow_mut();
        device.incoming.push_back(frame.to_vec());
    }

    fn run(&mut self) {
        self.machine.device.borrow_mut().run();
    }

    fn arrived(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.machine.device.borrow_mut().outgoing)
    }

    fn bytes(&self, frame: &RxFrame) -> Vec<u8> {
        self.machine.bytes(self.there(), frame)
    }

    fn fill(&mut self, mbuf: MbufId, bytes: &[u8]) -> u64 {
        let port = self.there();
        let geometry = port.pool.geometry();
        let start = port.buffers + ((mbuf.0 as usize) << geometry.size_shift);
        self.machine.memory.write(start, bytes);
        geometry.bus_of(mbuf)
    }

    fn interrupts(&self) -> u32 {
        self.machine.device.borrow().interrupts[0]
    }

    fn reset(&mut self) {
        let (Some(driver), Some(port)) = (self.driver.take(), self.port.take()) else {
            panic!("an open port");
        };
        let Port {
            pair,
            mut pool,
            buffers,
        } = port;
        driver.shut_down().expect("reset");
        let (rooms, rooms_bus) = pair.into_rooms(&mut pool);
        let driver = self.machine.driver(self.config.clone(), self.control);
        let mut driver = driver.expect("bring-up");
        let pair = open(&mut driver, 0, &pool, self.rings, rooms, rooms_bus);
        driver.start().expect("start");
        let mut port = Port {
            pair,
            pool,
            buffers,
        };
        port.pair.refill(&mut port.pool);
        (self.driver, self.port) = (Some(driver), Some(port));
    }

    fn story(&self) -> String {
        let device = self.machine.device.borrow();
        format!("{} frames wait at the device", device.incoming.len())
    }
}
