//! What `ix_nic` asks of a driver, answered for a virtual function.

use ix_hal::Mmio;
use ix_nic::registers::{Delay, clear};
use ix_nic::{
    Config, Controller, Error, Family, Limits, Link, Rss, RxErrors, RxQueue, Setup, TxQueue,
    VectorMask,
};
use ixgbe_spec::register::{
    DcaRxctrl, DcaTxctrl, Eitr, IvarEntry, Links, Rxdctl, Srrctl, Txdctl, dca_rxctrl, rdbal,
    rscctl, srrctl,
};
use ixgbe_spec::virtual_function::{
    MSIX_VECTORS, PCI_DEVICES, VFLINKS, VTEIMC, VTEIMS, vfdca_txctrl, vftdbal, vteitr, vtivar,
};

use crate::{MAX_QUEUES, init};

/// A virtual function, by the card that it is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// Of an 82599.
    I82599,
    /// Of an X540.
    X540,
    /// Of an X550.
    X550,
}

impl Function {
    /// The function of a PCI device number.
    pub fn of(device: u16) -> Option<Self> {
        let kinds = [Self::I82599, Self::X540, Self::X550];
        let mut known = PCI_DEVICES.into_iter().zip(kinds);
        known.find_map(|(number, kind)| (number == device).then_some(kind))
    }
}

/// The queues of virtual functions.
#[derive(Debug)]
pub enum Virtual82599 {}

impl Family for Virtual82599 {
    const RX_ERRORS: RxErrors = RxErrors::OF_82599;

    /// The device switches frames by what the context says (7.10.3.2.2).
    const NAMES_CONTEXTS: bool = true;

    /// What a queue missed is counted in a register of the physical function.
    fn missed(_registers: &impl Mmio, _queue: u32) -> u32 {
        0
    }

    fn link_up(registers: &impl Mmio) -> bool {
        links(registers).contains(Links::LINK_UP)
    }
}

impl Controller for Function {
    type Family = Virtual82599;

    fn name(self) -> &'static str {
        match self {
            Self::I82599 => "82599 VF",
            Self::X540 => "X540 VF",
            Self::X550 => "X550 VF",
        }
    }

    fn limits(self) -> Limits {
        Limits {
            queues: MAX_QUEUES,
            vectors: MSIX_VECTORS,
            // 9.5 KB, and a tag, which the owner does not count.
            max_frame: 9728 + 4,
        }
    }

    fn queues(self, queue: u32) -> (RxQueue, TxQueue) {
        let rx = RxQueue::at(rdbal(queue), srrctl(queue));
        (rx, TxQueue::at(vftdbal(queue)))
    }

    fn vector(self, vector: u8) -> VectorMask {
        VectorMask {
            enable: VTEIMS,
            disable: VTEIMC,
            bit: 1 << vector,
        }
    }

    fn reset(self, registers: &impl Mmio, delay: Delay<'_>) -> Result<(), Error> {
        init::reset(registers, delay)
    }

    fn initialise(
        self,
        registers: &impl Mmio,
        config: &Config,
        delay: Delay<'_>,
    ) -> Result<[u8; 6], Error> {
        init::initialise(registers, config, delay)
    }

    /// 4.6.7 and 4.6.8. The receive cause goes to the queue's vector, the transmit cause nowhere.
    fn enable(
        self,
        registers: &impl Mmio,
        queue: u32,
        setup: &Setup<'_>,
        delay: Delay<'_>,
    ) -> Result<(), Error> {
        let (rx, tx) = self.queues(queue);
        let (register, entry) = IvarEntry::place_of_rx(queue);
        let value = IvarEntry::to_vector(setup.config.vector).put(0, entry);
        registers.write32(vtivar(register), value);
        let moderation = Eitr::of_interval_us(setup.config.interrupt_interval_us);
        registers.write32(vteitr(setup.config.vector.into()), moderation.bits());

        let srrctl = Srrctl::empty()
            .with_bsizepacket(setup.buffer_kilobytes())
            .with_desctype(Srrctl::DESCTYPE_ADVANCED)
            | Srrctl::DROP_EN;
        rx.set_up(registers, &setup.rx_ring, srrctl.bits());
        registers.write32(rscctl(queue), 0);
        let rxctrl = DcaRxctrl::RESERVED_CLEAR | DcaRxctrl::DESCRIPTOR_WB_RO;
        clear(registers, dca_rxctrl(queue), rxctrl.bits());
        tx.set_up(registers, &setup.tx_ring);
        let relaxed = DcaTxctrl::DESCRIPTOR_WB_RO.bits();
        clear(registers, vfdca_txctrl(queue), relaxed);

        let rxdctl = registers.read32(rx.rxdctl) | Rxdctl::VME.bits();
        rx.enable(registers, rxdctl, delay)?;
        let thresholds = Txdctl::empty().with_pthresh(36).with_hthresh(8);
        tx.enable(registers, thresholds.bits(), delay)
    }

    /// The owner has switched the receive path on; a queue receives as soon as it is enabled and has buffers.
    fn start(self, _: &impl Mmio, _: &Config, _: Delay<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// All flow groups are at the one queue, as was checked.
    fn redirect(self, _: &impl Mmio, _: &Rss) {}

    fn join(
        self,
        registers: &impl Mmio,
        groups: &[[u8; 6]],
        delay: Delay<'_>,
    ) -> Result<(), Error> {
        init::join(registers, groups, delay)
    }

    fn link(self, registers: &impl Mmio) -> Link {
        let links = links(registers);
        Link::new(links.contains(Links::LINK_UP), links.megabits())
    }
}

fn links(registers: &impl Mmio) -> Links {
    Links::from_bits_retain(registers.read32(VFLINKS))
}
