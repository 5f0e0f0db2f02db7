//! What is asked of every driver, asked of this one on the model of each card.

use std::marker::PhantomData;

use ix_conformance::{Bed, Offers, Setup};
use ix_hal::{MbufId, MbufPool, Nic, RxFrame};
use ixgbe::{Card, Config, Ixgbe, QueueConfig, QueuePair, VlanTag};

use crate::support::{Machine, Port, Registers, Sizes};

/// A card that the model has.
trait Modelled {
    const CARD: Card;
}

struct I82599;

impl Modelled for I82599 {
    const CARD: Card = Card::I82599Sfp;
}

struct X540;

impl Modelled for X540 {
    const CARD: Card = Card::X540;
}

/// The driver on the model.
struct OnModel<C> {
    card: PhantomData<C>,
    machine: Machine,
    device: Ixgbe<Registers>,
    /// There but while the device is reset.
    port: Option<Port>,
}

impl<C> OnModel<C> {
    fn there(&self) -> &Port {
        self.port.as_ref().expect("an open port")
    }
}

impl<C: Modelled> Bed for OnModel<C> {
    type Nic = QueuePair<Registers>;
    const OFFERS: Offers = Offers {
        verifies: true,
        counts_missed: true,
        waits_for_buffers: false,
        tags: true,
        filters_vlans: false,
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
        let machine = Machine::of(C::CARD, 64 << 20);
        let (machine, device, port) = machine.started(config, sizes);
        Self {
            card: PhantomData,
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

mod i82599 {
    use super::*;

    ix_conformance::conformance!(OnModel<I82599>);
}

mod x540 {
    use super::*;

    ix_conformance::conformance!(OnModel<X540>);
}
