//! Registers: the structures that a device has in its BARs (4.1.4), and the steps that every VIRTIO
//! device is initialised by (3.1.1).

use bitflags::bitflags;

use crate::Error;
use crate::ring::Ring;

/// A structure in a BAR. Each field is accessed in its own width (4.1.3.1).
pub trait Window: Clone {
    /// Reads a byte.
    fn read8(&self, offset: u32) -> u8;
    /// Reads two, in little endian order as all.
    fn read16(&self, offset: u32) -> u16;
    /// Reads four.
    fn read32(&self, offset: u32) -> u32;
    /// Writes a byte.
    fn write8(&self, offset: u32, value: u8);
    /// Writes two.
    fn write16(&self, offset: u32, value: u16);
    /// Writes four.
    fn write32(&self, offset: u32, value: u32);
}

/// Where a device is.
#[derive(Clone, Debug)]
pub struct Transport<W> {
    /// The common configuration (4.1.4.3).
    pub common: W,
    /// The network device's own (5.1.4).
    pub device: W,
    /// Notifications (4.1.4.4).
    pub notify: W,
    /// Bytes between the notification registers of two queues.
    pub notify_off_multiplier: u32,
}

bitflags! {
    /// Features of a network device (5.1.3), and those of all devices (6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features: u64 {
        /// It inserts checksums.
        const CSUM = 1 << 0;
        /// It says its MTU.
        const MTU = 1 << 3;
        /// It has an address.
        const MAC = 1 << 5;
        /// It cuts large frames over IPv4.
        const HOST_TSO4 = 1 << 11;
        /// Over IPv6.
        const HOST_TSO6 = 1 << 12;
        /// Also those with CWR.
        const HOST_ECN = 1 << 13;
        /// It tells the state of the link.
        const STATUS = 1 << 16;
        /// It has a control queue.
        const CTRL_VQ = 1 << 17;
        /// Which takes receive modes.
        const CTRL_RX = 1 << 18;
        /// It has several queue pairs.
        const MQ = 1 << 22;
        /// It is a modern one.
        const VERSION_1 = 1 << 32;
        /// It sees memory as an IOMMU shows it, which for this driver is as it is.
        const ACCESS_PLATFORM = 1 << 33;
        /// It says a frame's hash.
        const HASH_REPORT = 1 << 57;
        /// It spreads frames by hash.
        const RSS = 1 << 60;
    }

    /// Device status (2.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct DeviceStatus: u8 {
        const ACKNOWLEDGE = 1;
        const DRIVER = 2;
        const DRIVER_OK = 4;
        const FEATURES_OK = 8;
    }
}

/// Fields of the common configuration.
mod common {
    pub(super) const DEVICE_FEATURE_SELECT: u32 = 0;
    pub(super) const DEVICE_FEATURE: u32 = 4;
    pub(super) const DRIVER_FEATURE_SELECT: u32 = 8;
    pub(super) const DRIVER_FEATURE: u32 = 12;
    pub(super) const CONFIG_MSIX_VECTOR: u32 = 16;
    pub(super) const DEVICE_STATUS: u32 = 20;
    pub(super) const QUEUE_SELECT: u32 = 22;
    pub(super) const QUEUE_SIZE: u32 = 24;
    pub(super) const QUEUE_MSIX_VECTOR: u32 = 26;
    pub(super) const QUEUE_ENABLE: u32 = 28;
    pub(super) const QUEUE_NOTIFY_OFF: u32 = 30;
    pub(super) const QUEUE_DESC: u32 = 32;
}

/// Instead of a vector: no interrupt.
pub(crate) const NO_VECTOR: u16 = 0xffff;
/// How long a reset may take.
const RESET_TIMEOUT_US: u32 = 1_000_000;
const POLL_INTERVAL_US: u32 = 10;

/// Waits that many microseconds, at least.
pub(crate) type Delay<'a> = &'a mut dyn FnMut(u32);

/// Waits until something is so, with a bound.
pub(crate) fn wait(
    what: &'static str,
    timeout_us: u32,
    delay: Delay<'_>,
    mut is_so: impl FnMut() -> bool,
) -> Result<(), Error> {
    let mut waited_us = 0;
    while !is_so() {
        if waited_us >= timeout_us {
            return Err(Error::Timeout { what, waited_us });
        }
        delay(POLL_INTERVAL_US);
        waited_us += POLL_INTERVAL_US;
    }
    Ok(())
}

impl<W: Window> Transport<W> {
    /// Resets the device (2.4.1): it is done when the status reads 0.
    pub(crate) fn reset(&self, delay: Delay<'_>) -> Result<(), Error> {
        self.common.write8(common::DEVICE_STATUS, 0);
        wait("it is still in reset", RESET_TIMEOUT_US, delay, || {
            self.common.read8(common::DEVICE_STATUS) == 0
        })
    }

    /// Steps 2 and 3 of 3.1.1; what the device offers.
    pub(crate) fn greet(&self) -> Features {
        self.add_status(DeviceStatus::ACKNOWLEDGE);
        self.add_status(DeviceStatus::DRIVER);
        let half = |select| {
            self.common.write32(common::DEVICE_FEATURE_SELECT, select);
            u64::from(self.common.read32(common::DEVICE_FEATURE))
        };
        Features::from_bits_retain(half(0) | half(1) << 32)
    }

    /// Steps 4 to 6 of 3.1.1.
    pub(crate) fn accept(&self, features: Features) -> Result<(), Error> {
        for select in 0..2 {
            self.common.write32(common::DRIVER_FEATURE_SELECT, select);
            let half = (features.bits() >> (32 * select)) as u32;
            self.common.write32(common::DRIVER_FEATURE, half);
        }
        self.add_status(DeviceStatus::FEATURES_OK);
        let status = self.common.read8(common::DEVICE_STATUS);
        if status & DeviceStatus::FEATURES_OK.bits() == 0 {
            return Err(Error::Refused(features.bits()));
        }
        self.common.write16(common::CONFIG_MSIX_VECTOR, NO_VECTOR);
        Ok(())
    }

    /// Step 8 of 3.1.1: the device is live.
    pub(crate) fn go(&self) {
        self.add_status(DeviceStatus::DRIVER_OK);
    }

    /// Descriptors that a virtqueue can have; 0 if there is none of that number.
    pub(crate) fn queue_size(&self, queue: u16) -> u16 {
        self.common.write16(common::QUEUE_SELECT, queue);
        self.common.read16(common::QUEUE_SIZE)
    }

    /// Tells the device of a virtqueue (4.1.5.1.3); where its notifications go.
    pub(crate) fn enable_queue(&self, queue: u16, ring: &Ring, vector: u16) -> Result<u32, Error> {
        let common = &self.common;
        common.write16(common::QUEUE_SELECT, queue);
        let max = common.read16(common::QUEUE_SIZE);
        let size = ring.size();
        if size > max {
            return Err(Error::QueueSize { queue, size, max });
        }
        common.write16(common::QUEUE_SIZE, size);
        common.write16(common::QUEUE_MSIX_VECTOR, vector);
        if common.read16(common::QUEUE_MSIX_VECTOR) != vector {
            return Err(Error::Vector(vector));
        }
        let mut offset = common::QUEUE_DESC;
        for part in ring.parts() {
            common.write32(offset, part as u32);
            common.write32(offset + 4, (part >> 32) as u32);
            offset += 8;
        }
        common.write16(common::QUEUE_ENABLE, 1);
        let notify_off = u32::from(common.read16(common::QUEUE_NOTIFY_OFF));
        Ok(notify_off * self.notify_off_multiplier)
    }

    fn add_status(&self, status: DeviceStatus) {
        let now = self.common.read8(common::DEVICE_STATUS);
        self.common
            .write8(common::DEVICE_STATUS, now | status.bits());
    }
}
