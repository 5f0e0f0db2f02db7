//! A controller as a whole, whichever it is: checks what the caller wants, brings the controller up,
//! hands out queue pairs, and moves flow groups among them. What is done to which register is the
//! driver's to say ([`Controller`]).

use alloc::vec::Vec;
use core::fmt::Debug;

use ix_hal::{DmaSlice, MbufPool, Mmio, Nic};

use crate::queue::{RxQueue, TxQueue};
use crate::registers::Delay;
use crate::{
    Config, Error, FRAME_OVERHEAD, Family, Limits, Parts, QueueConfig, QueueMemory, QueuePair,
    Redirect, Rss, VectorMask,
};

/// How often a link that is awaited is looked at.
const LINK_INTERVAL_US: u32 = 1_000;

/// A controller, as its driver knows it.
pub trait Controller: Copy + Debug + Send + 'static {
    /// What its queue pairs are.
    type Family: Family;

    /// What people call it.
    fn name(self) -> &'static str;

    /// What it has.
    fn limits(self) -> Limits;

    /// Where the registers of a queue pair are.
    fn queues(self, queue: u32) -> (RxQueue, TxQueue);

    /// The mask bit of an interrupt vector.
    fn vector(self, vector: u8) -> VectorMask;

    /// Resets the controller, whatever it is doing: it touches no memory from then on.
    fn reset(self, registers: &impl Mmio, delay: Delay<'_>) -> Result<(), Error>;

    /// Resets it and initialises all but its queues. Returns its station address.
    fn initialise(
        self,
        registers: &impl Mmio,
        config: &Config,
        delay: Delay<'_>,
    ) -> Result<[u8; 6], Error>;

    /// Sets up and enables a queue pair and its interrupt. The tails are not moved yet.
    fn enable(
        self,
        registers: &impl Mmio,
        queue: u32,
        setup: &Setup<'_>,
        delay: Delay<'_>,
    ) -> Result<(), Error>;

    /// Switches the receive path on.
    fn start(self, registers: &impl Mmio, config: &Config, delay: Delay<'_>) -> Result<(), Error>;

    /// Writes the redirection table. May be called while frames arrive; those that arrive after it
    /// returned are steered by it.
    fn redirect(self, registers: &impl Mmio, rss: &Rss);

    /// Takes in frames to these multicast addresses, and maybe to others with them. All but the last were
    /// joined before.
    fn join(self, registers: &impl Mmio, groups: &[[u8; 6]], delay: Delay<'_>)
    -> Result<(), Error>;

    /// State of the link.
    fn link(self, registers: &impl Mmio) -> Link;
}

/// What a queue pair is set up with. All of it was checked.
#[derive(Debug)]
pub struct Setup<'a> {
    /// The receive ring, which is empty.
    pub rx_ring: DmaSlice,
    /// The transmit ring, which is empty.
    pub tx_ring: DmaSlice,
    /// Interrupt and buffers.
    pub config: &'a QueueConfig,
}

impl Setup<'_> {
    /// Size of a buffer as SRRCTL has it, in KiB (8.2.3.8.7).
    pub fn buffer_kilobytes(&self) -> u32 {
        self.config.pool.size() as u32 / 1024
    }
}

/// State of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whether it is up.
    pub up: bool,
    /// Its speed in Mb/s while up.
    pub megabits: u32,
}

impl Link {
    /// A link that has this speed if it is up.
    pub fn new(up: bool, megabits: u32) -> Self {
        Self {
            up,
            megabits: if up { megabits } else { 0 },
        }
    }
}

/// A controller that is initialised: what is common to its queue pairs.
///
/// `R` is cloned for each queue pair; clones reach the same registers.
#[derive(Debug)]
pub struct Device<R, C> {
    registers: R,
    controller: C,
    config: Config,
    mac: [u8; 6],
    /// A bit for each queue that has a queue pair.
    opened: u32,
    /// Multicast addresses that were joined since the controller was initialised.
    groups: Vec<[u8; 6]>,
}

impl<R: Mmio + Clone, C: Controller> Device<R, C> {
    /// Resets the controller and initialises all but its queues. `delay` waits that many microseconds,
    /// at least.
    pub fn new(
        controller: C,
        registers: R,
        config: Config,
        delay: Delay<'_>,
    ) -> Result<Self, Error> {
        config.check(&controller.limits())?;
        let mac = controller.initialise(&registers, &config, delay)?;
        Ok(Self {
            registers,
            controller,
            config,
            mac,
            opened: 0,
            groups: Vec::new(),
        })
    }

    /// Opens queue pair `queue`: sets up its rings and interrupt, and enables it.
    pub fn open(
        &mut self,
        queue: u32,
        config: QueueConfig,
        memory: QueueMemory,
        delay: Delay<'_>,
    ) -> Result<QueuePair<R, C::Family>, Error> {
        self.check(queue, &config, &memory)?;
        let (controller, registers) = (self.controller, self.registers.clone());
        let (rx, tx) = controller.queues(queue);
        let setup = Setup {
            rx_ring: memory.rx_ring,
            tx_ring: memory.tx_ring,
            config: &config,
        };
        // This clears the rings.
        let pair = QueuePair::new(Parts {
            registers: registers.clone(),
            queue,
            mac: self.mac,
            max_frame: self.config.max_frame() - FCS_BYTES,
            vlan: self.config.vlan,
            pool: config.pool,
            memory,
            rdt: rx.rdt,
            tdt: tx.tdt,
            vector: controller.vector(config.vector),
        });
        controller.enable(&registers, queue, &setup, delay)?;
        // What was missed before is not ours.
        C::Family::missed(&registers, queue);
        self.opened |= 1 << queue;
        Ok(pair)
    }

    fn check(&self, queue: u32, config: &QueueConfig, memory: &QueueMemory) -> Result<(), Error> {
        let queues = self.config.queues;
        if queue >= queues {
            return Err(Error::NoSuchQueue { queue, queues });
        }
        if self.opened & 1 << queue != 0 {
            return Err(Error::QueueInUse(queue));
        }
        config.check(&self.controller.limits())?;
        memory.check()?;
        self.config.check_buffers(&config.pool)
    }

    /// Switches the receive path on. Queues may be opened before or after.
    pub fn start(&mut self, delay: Delay<'_>) -> Result<(), Error> {
        self.controller.start(&self.registers, &self.config, delay)
    }

    /// Stops a queue pair of this device, returns all its buffers to the pool, and gives its memory
    /// back. If the device does not let go of the queues this fails, and memory and buffers are
    /// lost: whoever gave them out must not use them again before a reset.
    pub fn close(
        &mut self,
        mut pair: QueuePair<R, C::Family>,
        pool: &mut MbufPool,
        delay: Delay<'_>,
    ) -> Result<QueueMemory, Error> {
        let queue = pair.queue();
        pair.disarm_interrupt();
        let (rx, tx) = self.controller.queues(queue);
        rx.disable(&self.registers, delay)?;
        tx.disable(&self.registers, delay)?;
        self.opened &= !(1 << queue);
        Ok(pair.into_memory(pool))
    }

    /// Resets and initialises the device again; [`Device::start`] has to follow. Queue pairs opened
    /// before are dead: nothing reaches them any more, and [`Device::close`] gives their memory and
    /// buffers back.
    pub fn reset(&mut self, delay: Delay<'_>) -> Result<(), Error> {
        let controller = self.controller;
        self.groups.clear();
        self.mac = controller.initialise(&self.registers, &self.config, delay)?;
        Ok(())
    }

    /// Stops the device for good, so that it no longer touches memory.
    pub fn shut_down(self, delay: Delay<'_>) -> Result<(), Error> {
        self.controller.reset(&self.registers, delay)
    }

    /// Takes in frames to one more multicast address, and maybe to others with it, which tables that
    /// hold a part of the address cannot tell from it.
    pub fn join_multicast(&mut self, group: [u8; 6], delay: Delay<'_>) -> Result<(), Error> {
        if group[0] & 1 == 0 {
            return Err(Error::NotMulticast(group));
        }
        self.groups.push(group);
        let joined = self.controller.join(&self.registers, &self.groups, delay);
        if joined.is_err() {
            self.groups.pop();
        }
        joined
    }

    /// Waits until the link is up, at most `timeout_us`.
    pub fn wait_for_link(&mut self, timeout_us: u32, delay: Delay<'_>) -> Result<Link, Error> {
        let mut waited_us = 0;
        loop {
            let link = self.link();
            if link.up {
                return Ok(link);
            }
            if waited_us >= timeout_us {
                return Err(Error::LinkDown { waited_us });
            }
            delay(LINK_INTERVAL_US);
            waited_us += LINK_INTERVAL_US;
        }
    }

    /// State of the link now.
    pub fn link(&self) -> Link {
        self.controller.link(&self.registers)
    }

    /// The station address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Configured queue pairs.
    pub fn queues(&self) -> u32 {
        self.config.queues
    }

    /// The controller.
    pub fn controller(&self) -> C {
        self.controller
    }

    /// Its registers, for what only its own driver knows.
    pub fn registers(&self) -> &R {
        &self.registers
    }

    /// Moves flow groups to other queues: each of the 128 gets the queue in its place.
    pub fn set_redirection(&mut self, reta: [u8; ixgbe_spec::RETA_ENTRIES]) -> Result<(), Error> {
        let rss = Rss {
            key: self.config.rss.key,
            reta,
        };
        rss.check(self.config.queues)?;
        self.controller.redirect(&self.registers, &rss);
        self.config.rss = rss;
        Ok(())
    }
}

/// What [`FRAME_OVERHEAD`] has beyond the Ethernet header.
const FCS_BYTES: u32 = FRAME_OVERHEAD - 14;

impl<R: Mmio + Clone, C: Controller> Redirect for Device<R, C> {
    type Error = Error;

    fn rss(&self) -> &Rss {
        &self.config.rss
    }

    fn redirect(&mut self, groups: u128, queue: u32) -> Result<(), Error> {
        let rss = self.config.rss.redirected(groups, queue);
        self.set_redirection(rss.reta)
    }
}
