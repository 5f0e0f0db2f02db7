//! What `ix_nic` asks of a driver, answered for the 82599 and its kind; and the queues of 4.6.7 and
//! 4.6.8 as far as they are not alike everywhere.

use crate::{Card, Config, Error, Link, Rss, filter, init, interrupt, link};
use ix_hal::Mmio;
use ix_nic::registers::{Delay, clear, set};
use ix_nic::{Controller, Family, Limits, RxErrors, RxQueue, Setup, TxQueue, VectorMask};
use ixgbe_spec::register::*;

/// The 82599 and those that its queues are alike.
#[derive(Debug)]
pub enum I82599 {}

impl Family for I82599 {
    const RX_ERRORS: RxErrors = RxErrors::OF_82599;

    /// A counter that clears when it is read.
    fn missed(registers: &impl Mmio, queue: u32) -> u32 {
        registers.read32(qprdc(queue))
    }

    fn link_up(registers: &impl Mmio) -> bool {
        link::is_up(registers)
    }
}

impl Controller for Card {
    type Family = I82599;

    fn name(self) -> &'static str {
        Card::name(self)
    }

    fn limits(self) -> Limits {
        Card::limits(self)
    }

    fn queues(self, queue: u32) -> (RxQueue, TxQueue) {
        let rx = RxQueue::at(rdbal(queue), srrctl(queue));
        (rx, TxQueue::at(tdbal(queue)))
    }

    fn vector(self, vector: u8) -> VectorMask {
        interrupt::mask_of(vector)
    }

    fn reset(self, registers: &impl Mmio, delay: Delay<'_>) -> Result<(), Error> {
        init::reset(self, registers, delay)
    }

    fn initialise(
        self,
        registers: &impl Mmio,
        config: &Config,
        delay: Delay<'_>,
    ) -> Result<[u8; 6], Error> {
        init::initialise(self, registers, config, delay)
    }

    fn enable(
        self,
        registers: &impl Mmio,
        queue: u32,
        setup: &Setup<'_>,
        delay: Delay<'_>,
    ) -> Result<(), Error> {
        interrupt::set_up_queue(registers, queue, setup.config);
        enable_receive(self, registers, queue, setup, delay)?;
        enable_transmit(self, registers, queue, setup, delay)
    }

    fn start(self, registers: &impl Mmio, _: &Config, delay: Delay<'_>) -> Result<(), Error> {
        init::enable_receive(registers, delay)
    }

    /// 7.1.2.8: the hardware's copy is what is read.
    fn redirect(self, registers: &impl Mmio, rss: &Rss) {
        init::write_reta(registers, &rss.reta);
        registers.read32(reta(0));
    }

    fn join(self, registers: &impl Mmio, groups: &[[u8; 6]], _: Delay<'_>) -> Result<(), Error> {
        if let Some(group) = groups.last() {
            filter::join(registers, *group);
        }
        Ok(())
    }

    fn link(self, registers: &impl Mmio) -> Link {
        link::read(self, registers)
    }
}

/// 4.6.7, once for each receive queue.
fn enable_receive(
    card: Card,
    registers: &impl Mmio,
    queue: u32,
    setup: &Setup<'_>,
    delay: Delay<'_>,
) -> Result<(), Error> {
    let (rx, _) = card.queues(queue);
    // With Drop_En a queue without descriptors drops its own frames, instead of blocking the packet
    // buffer that all queues share.
    let srrctl = Srrctl::from_bits_retain(registers.read32(rx.srrctl))
        .with_bsizepacket(setup.buffer_kilobytes())
        .with_desctype(Srrctl::DESCTYPE_ADVANCED)
        | Srrctl::DROP_EN;
    rx.set_up(registers, &setup.rx_ring, srrctl.bits());
    registers.write32(rscctl(queue), 0);
    // Last words of 4.6.7; and no relaxed ordering of a write-back before its data.
    let rxctrl = DcaRxctrl::RESERVED_CLEAR | DcaRxctrl::DESCRIPTOR_WB_RO;
    clear(registers, dca_rxctrl(queue), rxctrl.bits());
    // Tags are stripped whether or not one is configured, since the write-back says that there was
    // one only if it is (7.1.6.2).
    let rxdctl = registers.read32(rx.rxdctl) | Rxdctl::VME.bits();
    rx.enable(registers, rxdctl, delay)
}

/// 4.6.8, once for each transmit queue.
fn enable_transmit(
    card: Card,
    registers: &impl Mmio,
    queue: u32,
    setup: &Setup<'_>,
    delay: Delay<'_>,
) -> Result<(), Error> {
    let (_, tx) = card.queues(queue);
    tx.set_up(registers, &setup.tx_ring);
    let relaxed = DcaTxctrl::DESCRIPTOR_WB_RO.bits();
    clear(registers, dca_txctrl(queue), relaxed);
    // TE comes before any queue is enabled. It also enables queue 0, which does no harm while its
    // head and tail are equal (8.2.3.9.10).
    set(registers, DMATXCTL, Dmatxctl::TE.bits());
    // WTHRESH is zero because descriptors report by RS (8.2.3.9.10); the other two let the device
    // fetch a few cache lines of descriptors at a time.
    let thresholds = Txdctl::empty().with_pthresh(36).with_hthresh(8);
    tx.enable(registers, thresholds.bits(), delay)
}

#[cfg(test)]
mod tests;
