//! Queue registers that the guest has mapped: it stores tails into shared pages, and the model
//! looks for what changed.
//!
//! A page holds whole queues, so not only tails but base, length and control are plain memory for
//! the guest. They are taken over, in the order of the datasheet's initialisation (4.6.7, 4.6.8),
//! when RXDCTL or TXDCTL of the queue changes; a driver that changes others of an enabled queue is
//! not noticed. Statistics registers in these pages read zero. Heads are shown after each step.
//!
//! Nothing wakes the model when the guest stores a tail: whoever runs it has to call
//! [`Model::step`] again and again.

use ixgbe_spec::register as reg;

use super::Model;
use super::interrupts::InterruptSink;
use crate::memory::HostMemory;
use crate::wire::Wire;

/// Queues whose registers lie in the mapped pages.
pub const MAPPED_QUEUES: u32 = 64;

/// The pages of BAR 0 that can be mapped, offset and length: receive and transmit queues 0 to 63.
pub const DOORBELL_PAGES: [(u64, u64); 2] = [(0x1000, 0x1000), (0x6000, 0x1000)];

/// Registers of a receive queue in the order in which they are taken over.
const RX_REGISTERS: [fn(u32) -> u32; 8] = [
    reg::rdbal,
    reg::rdbah,
    reg::rdlen,
    reg::srrctl,
    reg::dca_rxctrl,
    reg::rscctl,
    reg::rdh,
    reg::rxdctl,
];

/// Registers of a transmit queue in the order in which they are taken over.
const TX_REGISTERS: [fn(u32) -> u32; 8] = [
    reg::tdbal,
    reg::tdbah,
    reg::tdlen,
    reg::tdwbal,
    reg::tdwbah,
    reg::dca_txctrl,
    reg::tdh,
    reg::txdctl,
];

impl<W: Wire, I: InterruptSink> Model<W, I> {
    /// Shares the queue registers with the guest: `pages` is laid out as BAR 0.
    ///
    /// # Panics
    /// If `pages` is shorter than the last of [`DOORBELL_PAGES`].
    pub fn map_doorbells(&mut self, pages: HostMemory) {
        for (offset, length) in DOORBELL_PAGES {
            assert!(
                pages.len() as u64 >= offset + length,
                "{} bytes do not hold the doorbell pages",
                pages.len()
            );
        }
        self.doorbells = Some(pages);
        self.show_queue_registers();
    }

    /// Whether the guest may ring doorbells without our being told.
    pub fn has_mapped_doorbells(&self) -> bool {
        self.doorbells.is_some()
    }

    /// Takes over what the guest stored.
    pub(super) fn take_doorbells(&mut self) {
        let Some(pages) = self.doorbells.take() else {
            return;
        };
        for queue in 0..self.config.queues.min(MAPPED_QUEUES) {
            self.take(
                &pages,
                &RX_REGISTERS,
                reg::rxdctl(queue),
                reg::rdt(queue),
                queue,
            );
            self.take(
                &pages,
                &TX_REGISTERS,
                reg::txdctl(queue),
                reg::tdt(queue),
                queue,
            );
        }
        self.doorbells = Some(pages);
    }

    fn take(
        &mut self,
        pages: &HostMemory,
        registers: &[fn(u32) -> u32],
        control: u32,
        tail: u32,
        queue: u32,
    ) {
        if load(pages, control) != self.read_register(control) {
            for register in registers {
                let offset = register(queue);
                self.write_register(offset, load(pages, offset));
            }
            // What the device made of it, so that the next look finds no change.
            store(pages, control, self.read_register(control));
        }
        let value = load(pages, tail) & 0xffff;
        if value != self.read_register(tail) {
            self.write_register(tail, value);
        }
    }

    /// A register was written by a message; the pages follow if it is theirs.
    pub(super) fn show_written(&mut self, offset: u32) {
        let in_pages = DOORBELL_PAGES
            .iter()
            .any(|(start, length)| (*start..start + length).contains(&u64::from(offset)));
        if in_pages && let Some(pages) = self.doorbells.take() {
            store(&pages, offset, self.read_register(offset));
            self.doorbells = Some(pages);
        }
    }

    /// Shows all queue registers, as after a reset.
    pub(super) fn show_queue_registers(&mut self) {
        let Some(pages) = self.doorbells.take() else {
            return;
        };
        for queue in 0..MAPPED_QUEUES {
            let registers = RX_REGISTERS.iter().chain(&TX_REGISTERS);
            for register in registers.chain(&[reg::rdt as fn(u32) -> u32, reg::tdt]) {
                let offset = register(queue);
                store(&pages, offset, self.read_register(offset));
            }
        }
        self.doorbells = Some(pages);
    }

    /// Shows the heads of enabled queues.
    pub(super) fn show_heads(&mut self) {
        let Some(pages) = &self.doorbells else {
            return;
        };
        for queue in 0..self.config.queues.min(MAPPED_QUEUES) {
            let rx = &self.state.rx[queue as usize].ring;
            if rx.enabled() {
                store(pages, reg::rdh(queue), u32::from(rx.head()));
            }
            let tx = &self.state.tx[queue as usize].ring;
            if tx.enabled() {
                store(pages, reg::tdh(queue), u32::from(tx.head()));
            }
        }
    }
}

/// The pages hold every queue register below [`MAPPED_QUEUES`]; others are not shown.
fn load(pages: &HostMemory, offset: u32) -> u32 {
    pages.load32(offset as usize)
}

fn store(pages: &HostMemory, offset: u32, value: u32) {
    if offset.is_multiple_of(4) {
        pages.store32(offset as usize, value);
    }
}
