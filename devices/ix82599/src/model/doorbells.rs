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
use ixgbe_spec::virtual_function as virtual_reg;

use super::Model;
use super::interrupts::InterruptSink;
use crate::memory::HostMemory;
use crate::wire::Wire;

/// The pages of a physical function that can be mapped, offset and length: receive and transmit queues 0 to 63.
pub const DOORBELL_PAGES: [(u64, u64); 2] = [(0x1000, 0x1000), (0x6000, 0x1000)];

/// Where the mapped registers of a kind of function lie.
struct Layout {
    /// Queues whose registers lie in the mapped pages.
    queues: u32,
    /// The pages of BAR 0, offset and length: those of receive and of transmit queues.
    pages: [(u64, u64); 2],
    rx: Queue,
    tx: Queue,
}

/// Registers of a queue.
struct Queue {
    /// In the order in which they are taken over.
    registers: [Register; 8],
    control: Register,
    tail: Register,
    head: Register,
}

/// The offset of a queue's register.
type Register = fn(u32) -> u32;

static PHYSICAL: Layout = Layout {
    queues: 64,
    pages: DOORBELL_PAGES,
    rx: RX,
    tx: Queue {
        registers: [
            reg::tdbal,
            reg::tdbah,
            reg::tdlen,
            reg::tdwbal,
            reg::tdwbah,
            reg::dca_txctrl,
            reg::tdh,
            reg::txdctl,
        ],
        control: reg::txdctl,
        tail: reg::tdt,
        head: reg::tdh,
    },
};

static VIRTUAL: Layout = Layout {
    queues: virtual_reg::QUEUES,
    pages: [(0x1000, 0x1000), (0x2000, 0x1000)],
    rx: RX,
    tx: Queue {
        registers: [
            virtual_reg::vftdbal,
            virtual_reg::vftdbah,
            virtual_reg::vftdlen,
            virtual_reg::vftdwbal,
            virtual_reg::vftdwbah,
            virtual_reg::vfdca_txctrl,
            virtual_reg::vftdh,
            virtual_reg::vftxdctl,
        ],
        control: virtual_reg::vftxdctl,
        tail: virtual_reg::vftdt,
        head: virtual_reg::vftdh,
    },
};

/// The same for both.
const RX: Queue = Queue {
    registers: [
        reg::rdbal,
        reg::rdbah,
        reg::rdlen,
        reg::srrctl,
        reg::dca_rxctrl,
        reg::rscctl,
        reg::rdh,
        reg::rxdctl,
    ],
    control: reg::rxdctl,
    tail: reg::rdt,
    head: reg::rdh,
};

impl<W: Wire, I: InterruptSink> Model<W, I> {
    /// Shares the queue registers with the guest: `pages` is laid out as BAR 0.
    ///
    /// # Panics
    /// If `pages` is shorter than the last of [`Model::doorbell_pages`].
    pub fn map_doorbells(&mut self, pages: HostMemory) {
        for &(offset, length) in self.doorbell_pages() {
            assert!(
                pages.len() as u64 >= offset + length,
                "{} bytes do not hold the doorbell pages",
                pages.len()
            );
        }
        self.doorbells = Some(pages);
        self.show_queue_registers();
    }

    /// The pages of BAR 0 that can be mapped, offset and length.
    pub fn doorbell_pages(&self) -> &'static [(u64, u64)] {
        &self.layout().pages
    }

    fn layout(&self) -> &'static Layout {
        match self.config.virtual_function {
            Some(_) => &VIRTUAL,
            None => &PHYSICAL,
        }
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
        let layout = self.layout();
        for queue in 0..self.config.queues.min(layout.queues) {
            self.take(&pages, &layout.rx, queue);
            self.take(&pages, &layout.tx, queue);
        }
        self.doorbells = Some(pages);
    }

    fn take(&mut self, pages: &HostMemory, registers: &Queue, queue: u32) {
        let control = (registers.control)(queue);
        let tail = (registers.tail)(queue);
        if load(pages, control) != self.read_register(control) {
            for register in registers.registers {
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
        let in_pages = self
            .doorbell_pages()
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
        let layout = self.layout();
        for queue in 0..layout.queues {
            for kind in [&layout.rx, &layout.tx] {
                for register in kind.registers.iter().chain([&kind.tail]) {
                    let offset = register(queue);
                    store(&pages, offset, self.read_register(offset));
                }
            }
        }
        self.doorbells = Some(pages);
    }

    /// Shows the heads of enabled queues.
    pub(super) fn show_heads(&mut self) {
        let Some(pages) = &self.doorbells else {
            return;
        };
        let layout = self.layout();
        for queue in 0..self.config.queues.min(layout.queues) {
            let rx = &self.state.rx[queue as usize].ring;
            if rx.enabled() {
                store(pages, (layout.rx.head)(queue), u32::from(rx.head()));
            }
            let tx = &self.state.tx[queue as usize].ring;
            if tx.enabled() {
                store(pages, (layout.tx.head)(queue), u32::from(tx.head()));
            }
        }
    }
}

/// The pages hold the registers of every queue that a layout counts; others are not shown.
fn load(pages: &HostMemory, offset: u32) -> u32 {
    pages.load32(offset as usize)
}

fn store(pages: &HostMemory, offset: u32, value: u32) {
    if offset.is_multiple_of(4) {
        pages.store32(offset as usize, value);
    }
}
