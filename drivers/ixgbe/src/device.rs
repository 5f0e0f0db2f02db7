//! The device as a whole.

use crate::{
    Config, Error, LIMITS, PortStatistics, QueueConfig, QueueMemory, QueuePair, Rss, init,
    interrupt, queue,
};
use ix_hal::{MbufPool, Mmio};
use ix_nic::registers::set;
use ix_nic::{Parts, Redirect};
use ixgbe_spec::register::{CTRL_EXT, CtrlExt, rdt, tdt};

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
        config.check(&LIMITS)?;
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
        let memory = queue::close(&self.registers, pair, pool, delay)?;
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

impl<R: Mmio + Clone> Redirect for Ixgbe<R> {
    type Error = Error;

    fn rss(&self) -> &Rss {
        &self.config.rss
    }

    /// The table is read back, so that frames which arrive from now on are steered by it.
    fn redirect(&mut self, groups: u128, queue: u32) -> Result<(), Error> {
        let rss = self.config.rss.redirected(groups, queue);
        self.set_redirection(rss.reta)?;
        // 7.1.2.8: the hardware's copy is what is read.
        self.registers.read32(ixgbe_spec::register::reta(0));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::registers;
    use alloc::string::ToString;
    use ix_nic::testing::{FakeRegisters, HEADERS_BUS, headers, pool, ring};
    use ixgbe_spec::register::*;

    type Outcome = Result<Ixgbe<FakeRegisters>, Error>;

    /// Brings a device up; what became of it, and how long it waited.
    fn bring_up(registers: FakeRegisters) -> (FakeRegisters, Outcome, u64) {
        let mut waited_us = 0;
        let outcome = Ixgbe::new(registers.clone(), Config::new(2), &mut |us| {
            waited_us += u64::from(us);
        });
        (registers, outcome, waited_us)
    }

    fn failure(registers: FakeRegisters) -> Error {
        let (_, outcome, waited_us) = bring_up(registers);
        assert!(waited_us < 3_000_000, "waited {waited_us} us");
        outcome.expect_err("bring-up of a broken device")
    }

    fn queue_memory(tx_descriptors: usize, rooms: usize) -> QueueMemory {
        QueueMemory {
            rx_ring: ring(64),
            tx_ring: ring(tx_descriptors),
            headers: headers(rooms),
            headers_bus: HEADERS_BUS,
        }
    }

    fn queue_config() -> QueueConfig {
        QueueConfig {
            vector: 3,
            interrupt_interval_us: 10,
            pool: *pool(64).geometry(),
        }
    }

    #[test]
    fn bring_up_follows_the_order_of_the_datasheet() {
        let (registers, outcome, _) = bring_up(registers());
        assert_eq!(outcome.unwrap().mac(), [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        let masked = registers.written(0, EIMC, 0x7fff_ffff);
        let reset = registers.written(masked, CTRL, Ctrl::RST.bits());
        let again = registers.written(reset, EIMC, 0x7fff_ffff);
        let threshold = registers.written(again, fcrth(0), 512 * 1024 - 0x6000);
        let link = registers.written(threshold, AUTOC, Autoc::RESTART_AN.bits());
        let counters = registers.written(link, rqsmr(0), 0x0302_0100);
        let interrupts = registers.written(counters, GPIE, Gpie::MULTIPLE_MSIX.bits());
        let receive = registers.written(interrupts, RXCSUM, Rxcsum::PCSD.bits());
        let arbiter = registers.written(receive, RTTDCS, Rttdcs::ARBDIS.bits());
        let buffer = registers.written(arbiter, txpbsize(0), txpbsize_of(160));
        registers.cleared(buffer, RTTDCS, Rttdcs::ARBDIS.bits());
    }

    #[test]
    fn queues_are_enabled_in_the_order_of_the_datasheet() {
        let (registers, outcome, _) = bring_up(registers());
        let mut device = outcome.unwrap();
        let start = registers.log.borrow().len();
        device
            .open(1, queue_config(), queue_memory(64, 64), &mut |_| {})
            .unwrap();
        let length = registers.written(start, rdlen(1), 1024);
        registers.written(length, rxdctl(1), Rxdctl::ENABLE.bits());
        let srrctl_value = registers.read32(srrctl(1));
        assert_eq!(srrctl_value, 1 << 28 | 1 << 25 | 2);
        let base = registers.written(start, tdbal(1), ring(64).bus() as u32);
        let global = registers.written(base, DMATXCTL, Dmatxctl::TE.bits());
        let enable = Txdctl::ENABLE.bits() | 8 << 8 | 36;
        registers.written(global, txdctl(1), enable);
        // Vector 3 for receive queue 1, none for its transmit queue; 10 us are 5 units.
        assert_eq!(registers.read32(ivar(0)), 0x0083_0000);
        assert_eq!(registers.read32(eitr(3)), 1 << 31 | 5 << 3);

        let start = registers.log.borrow().len();
        device.start(&mut |_| {}).unwrap();
        let halted = registers.written(start, SECRXCTRL, Secrxctrl::RX_DIS.bits());
        let enabled = registers.written(halted, RXCTRL, Rxctrl::RXEN.bits());
        registers.cleared(enabled, SECRXCTRL, Secrxctrl::RX_DIS.bits());
    }

    #[test]
    fn a_device_that_is_gone_is_named_so() {
        let gone = registers().force(STATUS, !0, !0);
        assert_eq!(failure(gone), Error::Gone);
    }

    #[test]
    fn registers_that_never_change_are_waited_for_with_a_bound() {
        let in_reset = registers().force(CTRL, !0, Ctrl::RST.bits());
        let no_eeprom_read = registers().force(EEC, 0, Eec::EE_PRES.bits());
        let no_dma = registers().force(RDRXCTL, 0, 0);
        for (registers, name) in [
            (in_reset, "CTRL"),
            (no_eeprom_read, "EEC"),
            (no_dma, "RDRXCTL"),
        ] {
            let error = failure(registers);
            assert!(
                matches!(error, Error::Timeout { register, .. } if register == name),
                "{error}"
            );
            assert!(error.to_string().contains(name));
        }
    }

    #[test]
    fn requests_that_never_complete_take_a_second_reset() {
        let busy = registers().force(STATUS, !0, Status::PCIE_MASTER_ENABLE.bits());
        let (registers, outcome, _) = bring_up(busy);
        assert!(outcome.is_ok());
        let looped = registers.written(0, HLREG0, Hlreg0::LPBK.bits());
        let flushed = registers.written(looped, GCR_EXT, GcrExt::BUFFERS_CLEAR_FUNC.bits());
        let open = registers.cleared(flushed, HLREG0, Hlreg0::LPBK.bits());
        let first = registers.written(open, CTRL, Ctrl::RST.bits());
        registers.written(first + 1, CTRL, Ctrl::RST.bits());
    }

    #[test]
    fn a_missing_eeprom_and_a_bad_address_are_refused() {
        let missing = registers().force(EEC, 0, Eec::AUTO_RD.bits());
        assert!(matches!(failure(missing), Error::NoEeprom { .. }));
        let zero = registers().force(ral(0), 0, 0).force(rah(0), 0, 0);
        assert_eq!(failure(zero), Error::StationAddress([0; 6]));
        let group = registers().force(ral(0), !0, 1);
        assert!(matches!(failure(group), Error::StationAddress(_)));
    }

    #[test]
    fn queues_that_cannot_be_are_refused() {
        let (_, outcome, _) = bring_up(registers());
        let mut device = outcome.unwrap();
        let mut open = |queue, config: QueueConfig, memory| {
            device.open(queue, config, memory, &mut |_| {}).map(drop)
        };
        let good = || queue_memory(64, 64);
        assert_eq!(
            open(2, queue_config(), good()),
            Err(Error::NoSuchQueue {
                queue: 2,
                queues: 2
            })
        );
        let mut vector = queue_config();
        vector.vector = 64;
        assert_eq!(
            open(0, vector, good()),
            Err(Error::Vector {
                vector: 64,
                max: 64
            })
        );
        let mut small = queue_config();
        small.pool.size_shift = 10;
        assert!(matches!(
            open(0, small, good()),
            Err(Error::BufferSize { bytes: 1024, .. })
        ));
        assert!(matches!(
            open(0, queue_config(), queue_memory(96, 96)),
            Err(Error::RingLength { words: 192, .. })
        ));
        assert!(matches!(
            open(0, queue_config(), queue_memory(64, 63)),
            Err(Error::HeaderRooms { rooms: 63, .. })
        ));
        let mut crooked = good();
        crooked.headers_bus += 64;
        assert!(matches!(
            open(0, queue_config(), crooked),
            Err(Error::Alignment { .. })
        ));
        assert_eq!(open(0, queue_config(), good()), Ok(()));
        assert_eq!(open(0, queue_config(), good()), Err(Error::QueueInUse(0)));
    }

    #[test]
    fn a_queue_that_does_not_start_or_stop_is_named() {
        let dead = registers().force(rxdctl(0), !Rxdctl::ENABLE.bits(), 0);
        let (_, outcome, _) = bring_up(dead);
        let opened = outcome
            .unwrap()
            .open(0, queue_config(), queue_memory(64, 64), &mut |_| {});
        assert!(matches!(
            opened.map(drop),
            Err(Error::Timeout {
                register: "RXDCTL",
                ..
            })
        ));
        let stuck = registers().force(txdctl(0), !0, Txdctl::ENABLE.bits());
        let (_, outcome, _) = bring_up(stuck);
        let mut device = outcome.unwrap();
        let pair = device
            .open(0, queue_config(), queue_memory(64, 64), &mut |_| {})
            .unwrap();
        let closed = device.close(pair, &mut pool(64), &mut |_| {});
        assert!(matches!(
            closed.map(drop),
            Err(Error::Timeout {
                register: "TXDCTL",
                ..
            })
        ));
    }
}
