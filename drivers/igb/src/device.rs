//! The device as a whole.

use ix_hal::Mmio;
use ix_nic::registers::set;
use ix_nic::{Config, Error, Parts, QueueConfig, QueueMemory, Redirect, Rss};

use crate::register::*;
use crate::{LIMITS, QueuePair, init, interrupt, queue};

/// An initialised 82576: what is common to its queues.
///
/// `R` is cloned for each queue pair; clones reach the same registers.
#[derive(Debug)]
pub struct Igb<R> {
    registers: R,
    config: Config,
    mac: [u8; 6],
    /// A bit for each queue that has a queue pair.
    opened: u32,
}

impl<R: Mmio + Clone> Igb<R> {
    /// Resets the device and initialises all but its queues. `delay` waits that many microseconds, at
    /// least.
    pub fn new(registers: R, config: Config, delay: &mut dyn FnMut(u32)) -> Result<Self, Error> {
        config.check(&LIMITS)?;
        let mac = init::initialise(&registers, &config, delay)?;
        set(&registers, CTRL_EXT, CtrlExt::DRV_LOAD.bits());
        Ok(Self {
            registers,
            config,
            mac,
            opened: 0,
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
        let queues = self.config.queues;
        if queue >= queues {
            return Err(Error::NoSuchQueue { queue, queues });
        }
        if self.opened & 1 << queue != 0 {
            return Err(Error::QueueInUse(queue));
        }
        queue_config.check(&LIMITS)?;
        memory.check()?;
        self.config.check_buffers(&queue_config.pool)?;
        let parts = Parts {
            registers: self.registers.clone(),
            queue,
            mac: self.mac,
            max_frame: self.config.mtu + 14,
            vlan: self.config.vlan,
            pool: queue_config.pool,
            memory,
            rdt: rdt(queue),
            tdt: tdt(queue),
            vector: interrupt::mask_of(queue_config.vector),
        };
        let pair = queue::open(parts, &queue_config, delay)?;
        self.opened |= 1 << queue;
        Ok(pair)
    }

    /// Switches the receive path on.
    pub fn start(&mut self) {
        init::enable_receive(&self.registers, &self.config);
    }

    /// Stops the device for good, so that it no longer touches memory.
    pub fn shut_down(self, delay: &mut dyn FnMut(u32)) -> Result<(), Error> {
        init::reset(&self.registers, delay)
    }

    /// The station address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Takes in frames to one more multicast address. The table holds 12 bits of an address, so that
    /// others may come in with it.
    pub fn join_multicast(&mut self, mac: [u8; 6]) -> Result<(), Error> {
        if mac[0] & 1 == 0 {
            return Err(Error::NotMulticast(mac));
        }
        let bit = u32::from(u16::from_le_bytes([mac[4], mac[5]])) >> 4;
        set(&self.registers, mta(bit / 32), 1 << (bit % 32));
        Ok(())
    }

    pub(crate) fn registers(&self) -> &R {
        &self.registers
    }
}

impl<R: Mmio + Clone> Redirect for Igb<R> {
    type Error = Error;

    fn rss(&self) -> &Rss {
        &self.config.rss
    }

    /// The table is read back, so that frames which arrive from now on are steered by it.
    fn redirect(&mut self, groups: u128, queue: u32) -> Result<(), Error> {
        let rss = self.config.rss.redirected(groups, queue);
        rss.check(self.config.queues)?;
        init::write_reta(&self.registers, &rss.reta);
        self.config.rss = rss;
        self.registers.read32(reta(0));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
