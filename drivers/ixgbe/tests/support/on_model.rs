//! What is asked of every driver, asked of one on the device model.

use ix_conformance::{Bed, Offers, Setup};
use ix_hal::{MbufId, MbufPool, Nic, RxFrame};
use ix_nic::{Config, Controller, Device, QueueConfig, QueuePair, VlanTag};

use super::machine::{Machine, Port, Registers, Sizes};

/// A driver, and the device that it is tried on.
pub trait Tried {
    type Controller: Controller;
    const CONTROLLER: Self::Controller;
    const OFFERS: Offers;

    /// The device.
    fn machine() -> Machine;
}

type Pair<T> = QueuePair<Registers, <<T as Tried>::Controller as Controller>::Family>;

/// The driver on the model.
pub struct OnModel<T: Tried> {
    machine: Machine,
    device: Device<Registers, T::Controller>,
    /// There but while the device is reset.
    port: Option<Port<Pair<T>>>,
}

impl<T: Tried> OnModel<T> {
    fn there(&self) -> &Port<Pair<T>> {
        self.port.as_ref().expect("an open port")
    }
}

impl<T: Tried> Bed for OnModel<T> {
    type Nic = Pair<T>;
    const OFFERS: Offers = T::OFFERS;

    fn new(setup: &Setup) -> Self {
        let mut config = Config::new(1);
        config.mtu = setup.mtu;
        config.vlan = setup
            .vlan
            .map(|(id, priority)| VlanTag::new(id, priority).expect("a VLAN"));
        let sizes = Sizes {
            rx_descriptors: setup.rx_frames,
            tx_descriptors: setup.tx_descriptors,
            buffers: setup.buffers,
            buffer_shift: setup.buffer_shift,
            interrupt_interval_us: 0,
        };
        let mut machine = T::machine();
        let delay = &mut machine.delay();
        let registers = machine.registers.clone();
        let mut device = Device::new(T::CONTROLLER, registers, config, delay).expect("bring-up");
        let port = machine.open_with(0, sizes, |config, memory, delay| {
            device.open(0, config, memory, delay).expect("open")
        });
        device.start(&mut machine.delay()).expect("start");
        Self {
            machine,
            device,
            port: Some(port),
        }
    }

    fn port(&mut self) -> (&mut Self::Nic, &mut MbufPool) {
        let port = self.port.as_mut().expect("an open port");
        (&mut port.pair, &mut port.pool)
    }

    fn inject(&mut self, frame: &[u8]) {
        self.machine.inject(frame);
    }

    fn run(&mut self) {
        self.machine.run();
    }

    fn arrived(&mut self) -> Vec<Vec<u8>> {
        self.machine.arrived()
    }

    fn bytes(&self, frame: &RxFrame) -> Vec<u8> {
        self.machine.bytes(self.there(), frame)
    }

    fn fill(&mut self, mbuf: MbufId, bytes: &[u8]) -> u64 {
        self.machine.fill(self.there(), mbuf, bytes)
    }

    fn interrupts(&self) -> u32 {
        self.machine.interrupts(0)
    }

    fn reset(&mut self) {
        let delay = &mut self.machine.delay();
        let mut port = self.port.take().expect("an open port");
        self.device.reset(delay).expect("reset");
        let memory = self.device.close(port.pair, &mut port.pool, delay);
        let config = QueueConfig {
            vector: 0,
            interrupt_interval_us: 0,
            pool: *port.pool.geometry(),
        };
        let pair = self.device.open(0, config, memory.expect("close"), delay);
        port.pair = pair.expect("open");
        port.pair.refill(&mut port.pool);
        self.device.start(delay).expect("start");
        self.port = Some(port);
    }

    fn story(&self) -> String {
        self.machine.counters()
    }
}
