//! What is asked of every driver, asked of this one on the model.

use ix_conformance::{Bed, Offers, Setup};
use ix_hal::{MbufId, MbufPool, Nic, RxFrame};
use ixgbe::{Config, Ixgbe, QueueConfig, QueuePair, VlanTag};

use crate::support::{Machine, Port, Registers, Sizes};

/// The driver on the model.
struct OnModel {
    machine: Machine,
    device: Ixgbe<Registers>,
    /// There but while the device is reset.
    port: Option<Port>,
}

impl OnModel {
    fn there(&self) -> &Port {
        self.port.as_ref().expect("an open port")
    }
}

impl Bed for OnModel {
    type Nic = QueuePair<Registers>;
    const OFFERS: Offers = Offers {
        verifies: true,
        counts_missed: true,
        waits_for_buffers: false,
        tags: true,
    };

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
        let (machine, device, port) = Machine::with_port(config, sizes);
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
        let device = &mut self.device;
        let Some(mut port) = self.port.take() else {
            panic!("an open port");
        };
        device.reset(delay).expect("reset");
        let memory = device.close(port.pair, &mut port.pool, delay);
        let config = QueueConfig {
            vector: 0,
            interrupt_interval_us: 0,
            pool: *port.pool.geometry(),
        };
        let pair = device.open(0, config, memory.expect("close"), delay);
        port.pair = pair.expect("open");
        port.pair.refill(&mut port.pool);
        device.start(delay).expect("start");
        self.port = Some(port);
    }

    fn story(&self) -> String {
        self.machine.counters()
    }
}

ix_conformance::conformance!(OnModel);
