//! The device as a whole.

use crate::registers::set;
use crate::{
    Config, Error, PortStatistics, QueueConfig, QueueMemory, QueuePair, Rss, init, queue_pair,
};
use ix_hal::{MbufPool, Mmio};
use ixgbe_spec::register::{CTRL_EXT, CtrlExt};

/// An initialised 82599: what is common to its queues.
///
/// `R` is cloned for each queue pair; clones reach the same registers.
#[derive(Debug)]
pub struct Ixgbe<R> {
    registers: R,
    config: Config,
    mac: [u8; 6],
    /// A bit for each queue that has a queue pair.
    opened: u32,
    statistics: PortStatistics,
}

impl<R: Mmio + Clone> Ixgbe<R> {
    /// Resets the device and initialises all but its queues (4.6.3). `delay` waits that many
    /// microseconds, at least.
    pub fn new(registers: R, config: Config, delay: &mut dyn FnMut(u32)) -> Result<Self, Error> {
        config.check()?;
        let mac = init::initialise(&registers, &config, delay)?;
        set(&registers, CTRL_EXT, CtrlExt::DRV_LOAD.bits());
        Ok(Self {
            registers,
            config,
            mac,
            opened: 0,
            statistics: PortStatistics::default(),
        })
    }

    /// Opens queue pair `queue`: sets up its rings and interrupt, and enables it.
    pub fn open(
        &mut self,
        queue: u32,
        queue_config: QueueConfig,
        memory: QueueMemory,
        delay: &mut dyn FnMut(u32),
    ) -> Result<QueuePair<R>, Error> {
        if queue >= self.config.queues {
            return Err(Error::NoSuchQueue {
                queue,
                queues: self.config.queues,
            });
        }
        if self.opened & 1 << queue != 0 {
            return Err(Error::QueueInUse(queue));
        }
        queue_config.check()?;
        memory.check()?;
        self.config.check_buffers(&queue_config.pool)?;
        let parts = queue_pair::Parts {
            registers: self.registers.clone(),
            queue,
            mac: self.mac,
            max_frame: self.config.mtu + 14,
            config: queue_config,
            memory,
        };
        let pair = QueuePair::new(parts, delay)?;
        self.opened |= 1 << queue;
        Ok(pair)
    }

    /// Switches the receive path on (4.6.7). Queues may be opened before or after.
    pub fn start(&mut self, delay: &mut dyn FnMut(u32)) -> Result<(), Error> {
        init::enable_receive(&self.registers, delay)
    }

    /// Stops a queue pair of this device, returns all its buffers to the pool, and gives its memory
    /// back. If the device does not let go of the queues this fails, and memory and buffers are
    /// lost: whoever gave them out must not use them again before a reset.
    pub fn close(
        &mut self,
        pair: QueuePair<R>,
        pool: &mut MbufPool,
        delay: &mut dyn FnMut(u32),
    ) -> Result<QueueMemory, Error> {
        let queue = pair.queue();
        let memory = pair.close(pool, delay)?;
        self.opened &= !(1 << queue);
        Ok(memory)
    }

    /// Resets and initialises the device again; [`Ixgbe::start`] has to follow. Queue pairs opened
    /// before are dead: nothing reaches them any more, and [`Ixgbe::close`] gives their memory and
    /// buffers back.
    pub fn reset(&mut self, delay: &mut dyn FnMut(u32)) -> Result<(), Error> {
        self.mac = init::initialise(&self.registers, &self.config, delay)?;
        set(&self.registers, CTRL_EXT, CtrlExt::DRV_LOAD.bits());
        Ok(())
    }

    /// Stops the device for good, so that it no longer touches memory.
    pub fn shut_down(self, delay: &mut dyn FnMut(u32)) -> Result<(), Error> {
        init::reset(&self.registers, delay)
    }

    /// The station address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Configured queue pairs.
    pub fn queues(&self) -> u32 {
        self.config.queues
    }

    /// How received flows are spread.
    pub fn rss(&self) -> &Rss {
        &self.config.rss
    }

    /// Moves flow groups to other queues: each of the 128 gets the queue in its place.
    pub fn set_redirection(&mut self, reta: [u8; ixgbe_spec::RETA_ENTRIES]) -> Result<(), Error> {
        let rss = Rss {
            key: self.config.rss.key,
            reta,
        };
        rss.check(self.config.queues)?;
        init::write_reta(&self.registers, &reta);
        self.config.rss = rss;
        Ok(())
    }

    pub(crate) fn registers(&self) -> &R {
        &self.registers
    }

    pub(crate) fn port_statistics(&mut self) -> &mut PortStatistics {
        &mut self.statistics
    }
}
