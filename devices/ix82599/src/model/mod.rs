//! The device model: a state machine driven by register accesses, frames and the time.
//!
//! | module | what it decides |
//! |---|---|
//! | `register` | which register lies at which offset |
//! | `access` | what reading and writing each of them does |
//! | `state` | everything that a reset resets, and its reset values |
//! | `ring` | head, tail and base of a descriptor ring |
//! | `receive`, `filters`, `flow_director`, `rss`, `parse`, `header_split`, `write_back`, `packet_buffer` | the way in |
//! | `transmit`, `offload` | the way out |
//! | `virtual_function` | the registers and the mailbox of a virtual function |
//! | `doorbells` | queue registers in pages that the guest has mapped |
//! | `interrupts`, `statistics`, `eeprom`, `sfp`, `phy`, `config_space` | as their names say |
//!
//! Nothing happens by itself: writing a tail register marks the queue, [`Model::poll`] moves frames.
//! The model has no clock, [`Model::advance`] tells it the time.

mod access;
mod checksum;
mod config_space;
mod counters;
mod doorbells;
mod eeprom;
mod filters;
mod flow_director;
mod header_split;
mod interrupts;
mod offload;
mod packet_buffer;
mod parse;
mod phy;
mod receive;
mod register;
mod ring;
mod rss;
mod sfp;
mod state;
mod statistics;
#[cfg(test)]
mod testing;
mod transmit;
mod virtual_function;
mod write_back;

pub use config_space::{CONFIG_BYTES, MSIX_BAR_BYTES, MSIX_PBA, MSIX_TABLE};
pub use counters::Counters;
pub use doorbells::DOORBELL_PAGES;
pub use interrupts::{InterruptCounts, InterruptSink};
pub use virtual_function::{VIRTUAL_QUEUES, VirtualConfig};

use ixgbe_spec::register::BAR0_BYTES;
use ixgbe_spec::{MSIX_VECTORS, QUEUES, virtual_function as virtual_spec};

use crate::memory::{GuestMemory, HostMemory};
use crate::wire::{Claim, MAX_FRAME_BYTES, Wire};
use config_space::ConfigSpace;
use eeprom::Eeprom;
use phy::Phy;
use sfp::Sfp;
use state::State;

/// Bytes of the frame check sequence, which frames on the wire have and in this model have not.
const FCS_BYTES: usize = 4;
/// Shortest frame without FCS.
const MIN_FRAME_BYTES: usize = 60;
/// Bytes of an Ethernet header.
const HEADER_BYTES: usize = 14;

/// Rounds of [`Model::step`] that [`Model::poll`] makes at most.
const POLL_ROUNDS: usize = 64;

/// Which card it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Card {
    /// An 82599 with an SFP+ port.
    #[default]
    I82599,
    /// An X540: a copper port, whose PHY is reached by MDIO and has a semaphore. What else is another on
    /// silicon (packet buffers, AUTOC, a flash) is as on the 82599, and its drivers do not look.
    X540,
}

/// How a device is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelConfig {
    /// The station address, in RAL0 and RAH0 after reset.
    pub mac: [u8; 6],
    /// Receive and transmit queues that can be enabled, 1 to 128.
    pub queues: u32,
    /// Leaves frames on the wire while the packet buffer is full, instead of dropping them: as if
    /// the switch at the other end obeyed pause frames.
    pub pause_wire: bool,
    /// Offers MSI-X beside MSI, as silicon does; without, a driver has to do with MSI.
    pub msix: bool,
    /// Which card it is, unless it is a virtual function.
    pub card: Card,
    /// It is a virtual function, whose owner has decided that; it has MSI-X alone.
    pub virtual_function: Option<VirtualConfig>,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            mac: [0x52, 0x54, 0x00, 0x82, 0x59, 0x99],
            queues: QUEUES,
            pause_wire: false,
            msix: true,
            card: Card::default(),
            virtual_function: None,
        }
    }
}

/// What a [`Model::step`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Progress {
    /// Frames taken from the wire.
    pub received: usize,
    /// Descriptors taken from transmit rings.
    pub transmitted: usize,
    /// There may be more to do at once.
    pub more: bool,
}

/// An 82599 plugged into `W`, whose interrupts go to `I`.
#[derive(Debug)]
pub struct Model<W, I> {
    config: ModelConfig,
    memory: GuestMemory,
    wire: W,
    interrupt_sink: I,
    pci: ConfigSpace,
    eeprom: Eeprom,
    sfp: Sfp,
    phy: Phy,
    state: State,
    /// The station address, in RAL0 after a reset: a virtual function's guest may have chosen it.
    station: [u8; 6],
    counters: Counters,
    /// The frame being received; with room for the FCS.
    frame: Box<[u8; MAX_FRAME_BYTES]>,
    /// Pages of queue registers that the guest accesses without our knowing.
    doorbells: Option<HostMemory>,
    now_ns: u64,
}

impl<W: Wire, I: InterruptSink> Model<W, I> {
    /// A device after power-up: bus mastering is off, the link is up if the wire's is.
    pub fn new(config: ModelConfig, mut memory: GuestMemory, wire: W, interrupt_sink: I) -> Self {
        memory.set_bus_master(false);
        let link_up = wire.link_up();
        Self {
            state: fresh_state(&config, config.mac, link_up),
            station: config.mac,
            pci: ConfigSpace::new(&config),
            config,
            memory,
            wire,
            interrupt_sink,
            eeprom: Eeprom::new(),
            sfp: Sfp::new(),
            phy: Phy::default(),
            counters: Counters::default(),
            frame: Box::new([0; MAX_FRAME_BYTES]),
            doorbells: None,
            now_ns: 0,
        }
    }

    /// Reads a register. Where there is none, zero.
    pub fn bar0_read32(&mut self, offset: u32) -> u32 {
        self.take_doorbells();
        self.read_register(offset)
    }

    /// Writes a register. Where there is none, the write is ignored and counted.
    pub fn bar0_write32(&mut self, offset: u32, value: u32) {
        self.bar0_write(offset, &[value.to_le_bytes()]);
    }

    /// Reads the bytes of registers, whole or not.
    ///
    /// Doorbells are looked at once: they are many, and so are the registers that a client may read at once.
    pub fn bar0_read(&mut self, offset: u32, into: &mut [u8]) {
        self.take_doorbells();
        let mut at = offset;
        let mut rest = into;
        while !rest.is_empty() {
            let register = self.read_register(at & !3).to_le_bytes();
            let bytes = &register[at as usize % 4..];
            let (now, later) = rest.split_at_mut(bytes.len().min(rest.len()));
            now.copy_from_slice(&bytes[..now.len()]);
            at += now.len() as u32;
            rest = later;
        }
    }

    /// Writes registers one after the other. Doorbells are looked at once, before.
    pub fn bar0_write(&mut self, offset: u32, words: &[[u8; 4]]) {
        self.take_doorbells();
        for (place, word) in (offset..).step_by(4).zip(words) {
            self.write_register(place, u32::from_le_bytes(*word));
            self.show_written(place);
        }
    }

    /// Reads bytes of the PCI configuration space.
    pub fn config_read(&self, offset: usize, into: &mut [u8]) {
        self.pci.read(offset, into);
    }

    /// Writes bytes of the PCI configuration space; follows the bus-master bit, the power state
    /// and function level reset.
    pub fn config_write(&mut self, offset: usize, from: &[u8]) {
        let effects = self.pci.write(offset, from);
        if effects.reset {
            self.reset();
        }
        self.memory.set_bus_master(self.pci.may_master());
        self.state.retry_transmit();
    }

    /// Turns bus mastering on or off, as the operating system does by the command register.
    pub fn set_bus_master(&mut self, enabled: bool) {
        // Memory space and bus master.
        self.config_write(4, &[if enabled { 0x06 } else { 0x02 }, 0]);
    }

    /// Resets everything but the configuration space and the counters of [`Model::counters`].
    pub fn reset(&mut self) {
        self.counters.resets += 1;
        self.state = fresh_state(&self.config, self.station, self.wire.link_up());
        if self.config.virtual_function.is_some() {
            self.forget_claims();
        }
        self.show_queue_registers();
    }

    /// Resets the function as the slot's reset line does: the configuration space too.
    pub fn power_on_reset(&mut self) {
        self.pci = ConfigSpace::new(&self.config);
        self.memory.set_bus_master(false);
        self.station = self.config.mac;
        self.wire.claim(Claim::Original);
        self.reset();
    }

    /// Tells the time, in nanoseconds from an arbitrary start; earlier ones are ignored. Sends
    /// interrupts that moderation delayed until now.
    pub fn advance(&mut self, now_ns: u64) {
        self.now_ns = self.now_ns.max(now_ns);
        self.wire.advance(self.now_ns);
        self.follow_link();
        self.fire_interrupts();
    }

    /// When [`Model::advance`] has something to do at the latest.
    pub fn deadline_ns(&self) -> Option<u64> {
        let interrupts = self.state.interrupts.deadline_ns();
        let interrupts = interrupts.filter(|_| self.pci.may_master());
        interrupts.into_iter().chain(self.wire.deadline_ns()).min()
    }

    /// Bytes of BAR 0.
    pub fn bar0_bytes(&self) -> u32 {
        match self.config.virtual_function {
            Some(_) => virtual_spec::BAR0_BYTES,
            None => BAR0_BYTES,
        }
    }

    /// The BAR with the MSI-X table.
    pub fn msix_bar(&self) -> u32 {
        match self.config.virtual_function {
            Some(_) => 3,
            None => 4,
        }
    }

    /// Vectors that the function offers by MSI-X.
    pub fn msix_vectors(&self) -> u32 {
        match self.config.virtual_function {
            Some(_) => virtual_spec::MSIX_VECTORS,
            None if self.config.msix => MSIX_VECTORS,
            None => 0,
        }
    }

    /// Vectors that it offers by MSI.
    pub fn msi_vectors(&self) -> u32 {
        u32::from(self.config.virtual_function.is_none())
    }

    fn virtual_config(&self) -> VirtualConfig {
        self.config.virtual_function.unwrap_or_default()
    }

    /// Moves frames both ways until nothing is left, or, where work feeds on itself, for a bounded
    /// number of rounds. Returns what it did.
    pub fn poll(&mut self) -> Progress {
        let mut total = Progress::default();
        for _ in 0..POLL_ROUNDS {
            let step = self.step();
            total.received += step.received;
            total.transmitted += step.transmitted;
            total.more = step.more;
            if !step.more {
                break;
            }
        }
        total
    }

    /// Moves a bounded batch of frames both ways; sends each interrupt at most once.
    pub fn step(&mut self) -> Progress {
        self.take_doorbells();
        let transmitted = self.transmit();
        let received = self.receive();
        self.show_heads();
        self.fire_interrupts();
        Progress {
            received: received.frames,
            transmitted: transmitted.descriptors,
            more: transmitted.more || received.more,
        }
    }

    /// Whether frames should be taken from the wire now; not while it is paused.
    pub fn wants_frames(&self) -> bool {
        !self.paused()
    }

    /// Traffic and drops by cause, since the device was made.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Guest memory, to map and unmap regions.
    pub fn memory_mut(&mut self) -> &mut GuestMemory {
        &mut self.memory
    }

    /// What the port is plugged into.
    pub fn wire(&self) -> &W {
        &self.wire
    }

    /// What the port is plugged into.
    pub fn wire_mut(&mut self) -> &mut W {
        &mut self.wire
    }

    /// Where interrupts go.
    pub fn interrupt_sink(&self) -> &I {
        &self.interrupt_sink
    }

    /// Where interrupts go.
    pub fn interrupt_sink_mut(&mut self) -> &mut I {
        &mut self.interrupt_sink
    }

    /// A message is a memory write: none leaves while bus mastering is off.
    fn fire_interrupts(&mut self) {
        if self.pci.may_master() {
            let mut sink = Counting {
                inner: &mut self.interrupt_sink,
                count: &mut self.counters.interrupts,
            };
            self.state.interrupts.fire(self.now_ns, &mut sink);
        }
    }
}

/// The state after a reset, with that station address.
fn fresh_state(config: &ModelConfig, station: [u8; 6], link_up: bool) -> State {
    let config = ModelConfig {
        mac: station,
        ..*config
    };
    match config.virtual_function {
        Some(_) => State::virtual_function(&config, link_up),
        None => State::new(&config, link_up),
    }
}

/// Counts interrupts on their way to a sink.
struct Counting<'a, I> {
    inner: &'a mut I,
    count: &'a mut u64,
}

impl<I: InterruptSink> InterruptSink for Counting<'_, I> {
    fn interrupt(&mut self, vector: u16) {
        *self.count += 1;
        self.inner.interrupt(vector);
    }
}
