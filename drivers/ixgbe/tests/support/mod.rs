//! The driver on the model, in one process.

pub mod machine;
pub mod on_model;

use ix_conformance::MAC;
use ix82599::model::{self, ModelConfig};
use ixgbe::{Card, Config, Ixgbe, QueuePair};
pub use machine::{Machine, Registers, Sizes};

/// A queue pair with its pool.
pub type Port = machine::Port<QueuePair<Registers>>;

impl Machine {
    /// A machine with an 82599.
    pub fn new(memory_bytes: usize) -> Self {
        Self::of(Card::I82599Sfp, memory_bytes)
    }

    /// With that card, as far as the model has it.
    pub fn of(card: Card, memory_bytes: usize) -> Self {
        let config = ModelConfig {
            mac: MAC,
            card: match card {
                Card::X540 => model::Card::X540,
                _ => model::Card::I82599,
            },
            ..ModelConfig::default()
        };
        Self::with_device(config, memory_bytes)
    }

    /// An initialised device.
    pub fn device(&self, config: Config) -> Ixgbe<Registers> {
        let card = match self.config.card {
            model::Card::X540 => Card::X540,
            model::Card::I82599 => Card::I82599Sfp,
        };
        let registers = self.registers.clone();
        Ixgbe::new(card, registers, config, &mut self.delay()).expect("bring-up")
    }

    /// A machine with a started device of one queue, opened.
    pub fn with_port(config: Config, sizes: Sizes) -> (Self, Ixgbe<Registers>, Port) {
        Self::new(64 << 20).started(config, sizes)
    }

    /// The same on a machine that is there.
    pub fn started(self, config: Config, sizes: Sizes) -> (Self, Ixgbe<Registers>, Port) {
        let mut machine = self;
        let mut device = machine.device(config);
        let port = machine.open(&mut device, 0, sizes);
        device.start(&mut machine.delay()).expect("start");
        (machine, device, port)
    }

    /// Opens a queue on fresh memory, with the vector of the same number.
    pub fn open(&mut self, device: &mut Ixgbe<Registers>, queue: u32, sizes: Sizes) -> Port {
        self.open_with(queue, sizes, |config, memory, delay| {
            device.open(queue, config, memory, delay).expect("open")
        })
    }
}
