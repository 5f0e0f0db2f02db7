//! Device control and status, EEPROM access, and the semaphores shared with the firmware
//! (8.2.3.1, 8.2.3.2, 8.2.3.4), DCA control (8.2.3.11).

use super::{field, rx_queue, with_field};
use bitflags::bitflags;

/// Device control (8.2.3.1.1).
pub const CTRL: u32 = 0x00000;
/// Second address of [`CTRL`] (8.2.3.1.1).
pub const CTRL_ALIAS: u32 = 0x00004;
/// Device status, read only (8.2.3.1.2).
pub const STATUS: u32 = 0x00008;
/// Extended device control (8.2.3.1.3).
pub const CTRL_EXT: u32 = 0x00018;
/// Software-definable pins, wired to the SFP+ cage (8.2.3.1.4).
pub const ESDP: u32 = 0x00020;
/// I2C to the SFP+ module (8.2.3.1.5).
pub const I2CCTL: u32 = 0x00028;
/// LED control (8.2.3.1.6).
pub const LEDCTL: u32 = 0x00200;
/// TCP timer (8.2.2).
pub const TCPTIMER: u32 = 0x0004c;

/// EEPROM and flash control (8.2.3.2.1).
pub const EEC: u32 = 0x10010;
/// EEPROM read, one word at a time (8.2.3.2.2).
pub const EERD: u32 = 0x10014;
/// Flash access (8.2.3.2.3).
pub const FLA: u32 = 0x1001c;
/// EEPROM control by the manageability firmware (8.2.3.2.4).
pub const EEMNGCTL: u32 = 0x10110;
/// Power management and wake-up of both ports (8.2.3.2).
pub const GRC: u32 = 0x10200;

/// Software semaphore (8.2.3.4.9).
pub const SWSM: u32 = 0x10140;
/// Firmware semaphore and status (8.2.3.4.10).
pub const FWSM: u32 = 0x10148;
/// Software-firmware synchronisation, GSSR of the datasheet (8.2.3.4.11).
pub const SW_FW_SYNC: u32 = 0x10160;
/// Function, power state and LAN disable (8.2.3.4).
pub const FACTPS: u32 = 0x10150;
/// PCIe control (8.2.3.4.1).
pub const GCR: u32 = 0x11000;
/// PCIe control extended (8.2.3.4.12).
pub const GCR_EXT: u32 = 0x11050;

/// DCA requester identifier (8.2.3.11.3).
pub const DCA_ID: u32 = 0x11070;
/// DCA control (8.2.3.11.4).
pub const DCA_CTRL: u32 = 0x11074;

/// Receive DCA and relaxed ordering control of a queue (8.2.3.11.1).
pub const fn dca_rxctrl(queue: u32) -> u32 {
    rx_queue(0x0100c, queue)
}

/// Transmit DCA and relaxed ordering control of a queue (8.2.3.11.2).
pub const fn dca_txctrl(queue: u32) -> u32 {
    0x0600c + 0x40 * queue
}

bitflags! {
    /// Bits of [`CTRL`] (8.2.3.1.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Ctrl: u32 {
        /// PCIe master disable: the device starts no new request; see
        /// [`Status::PCIE_MASTER_ENABLE`].
        const PCIE_MASTER_DISABLE = 1 << 2;
        /// Link reset: MAC, PCS and auto-negotiation. Clears itself.
        const LRST = 1 << 3;
        /// Device reset of everything but PCIe. Clears itself.
        const RST = 1 << 26;
        const _ = !0;
    }
}

bitflags! {
    /// Bits of [`STATUS`] (8.2.3.1.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Status: u32 {
        /// Link is up; follows the link only in some modes, see LINKS.
        const LINK_UP = 1 << 7;
        /// Virtual functions are enabled in the configuration space.
        const IOV_ACTIVE = 1 << 18;
        /// PCIe requests may be outstanding.
        const PCIE_MASTER_ENABLE = 1 << 19;
        const _ = !0;
    }
}

impl Status {
    /// LAN ID: which of the two ports this function is.
    pub const fn lan_id(self) -> u32 {
        field(self.bits(), 2, 2)
    }
}

bitflags! {
    /// Bits of [`ESDP`] (8.2.3.1.4).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Esdp: u32 {
        /// SDP2_DATA: wired to the SFP+ cage, which has a module.
        const SDP2_DATA = 1 << 2;
        /// SDP3_DATA: wired to the SFP+ cage, TX_DISABLE of the module.
        const SDP3_DATA = 1 << 3;
        const _ = !0;
    }
}

bitflags! {
    /// Bits of [`CTRL_EXT`] (8.2.3.1.3).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CtrlExt: u32 {
        /// Tells virtual functions that the physical function is ready.
        const PFRSTD = 1 << 14;
        /// No snoop disable; to be set during receive initialisation.
        const NS_DIS = 1 << 16;
        /// Relaxed ordering disable.
        const RO_DIS = 1 << 17;
        /// Frames carry an outer VLAN tag.
        const EXTENDED_VLAN = 1 << 26;
        /// A driver is loaded; tells the firmware.
        const DRV_LOAD = 1 << 28;
        const _ = !0;
    }
}

bitflags! {
    /// Bits of [`EEC`] (8.2.3.2.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Eec: u32 {
        /// Clock of the serial interface, for bit banging.
        const EE_SK = 1 << 0;
        /// Chip select of the serial interface.
        const EE_CS = 1 << 1;
        /// Data into the EEPROM.
        const EE_DI = 1 << 2;
        /// Data out of the EEPROM.
        const EE_DO = 1 << 3;
        /// Software asks for the serial interface.
        const EE_REQ = 1 << 6;
        /// Software has the serial interface.
        const EE_GNT = 1 << 7;
        /// An EEPROM with a good signature is there.
        const EE_PRES = 1 << 8;
        /// The hardware is through with reading the EEPROM.
        const AUTO_RD = 1 << 9;
        const _ = !0;
    }
}

impl Eec {
    /// EE_Size: the EEPROM holds 2^(field + 6) words.
    pub const fn ee_size(self) -> u32 {
        field(self.bits(), 11, 4)
    }

    /// Replaces EE_Size.
    pub const fn with_ee_size(self, size: u32) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 11, 4, size))
    }
}

bitflags! {
    /// Bits of [`EERD`] (8.2.3.2.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Eerd: u32 {
        /// Starts a read.
        const START = 1 << 0;
        /// The read is done and the data field valid.
        const DONE = 1 << 1;
        const _ = !0;
    }
}

impl Eerd {
    /// ADDR: number of the word.
    pub const fn addr(self) -> u16 {
        field(self.bits(), 2, 14) as u16
    }

    /// Replaces ADDR.
    pub const fn with_addr(self, word: u16) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 2, 14, word as u32))
    }

    /// DATA: the word read.
    pub const fn data(self) -> u16 {
        field(self.bits(), 16, 16) as u16
    }

    /// Replaces DATA.
    pub const fn with_data(self, data: u16) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 16, 16, data as u32))
    }
}

bitflags! {
    /// Bits of [`EEMNGCTL`] (8.2.3.2.4).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Eemngctl: u32 {
        /// Configuration of port 0 by the firmware is done.
        const CFG_DONE0 = 1 << 18;
        /// Configuration of port 1 by the firmware is done.
        const CFG_DONE1 = 1 << 19;
        const _ = !0;
    }
}

bitflags! {
    /// Bits of [`SWSM`] (8.2.3.4.9).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Swsm: u32 {
        /// Semaphore between drivers of the two ports: set by being read as zero.
        const SMBI = 1 << 0;
        /// Semaphore between software and firmware.
        const SWESMBI = 1 << 1;
        const _ = !0;
    }
}

bitflags! {
    /// Bits of [`FWSM`] (8.2.3.4.10).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Fwsm: u32 {
        /// Firmware holds the semaphore.
        const FWSMBI = 1 << 0;
        /// The EEPROM was reloaded.
        const EEP_RELOAD_IND = 1 << 6;
        /// The other fields are valid.
        const FW_VAL = 1 << 15;
        const _ = !0;
    }
}

impl Fwsm {
    /// FW_mode: 0 none, 2 pass through, 3 none but the check sums.
    pub const fn fw_mode(self) -> u32 {
        field(self.bits(), 1, 3)
    }
}

bitflags! {
    /// Bits of [`SW_FW_SYNC`]: who holds which shared resource (8.2.3.4.11, 10.5.4).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SwFwSync: u32 {
        /// Software holds the EEPROM.
        const SW_EEP = 1 << 0;
        /// Software holds PHY 0.
        const SW_PHY0 = 1 << 1;
        /// Software holds PHY 1.
        const SW_PHY1 = 1 << 2;
        /// Software holds the shared MAC registers.
        const SW_MAC_CSR = 1 << 3;
        /// Software holds the flash.
        const SW_FLASH = 1 << 4;
        /// Firmware holds the EEPROM.
        const FW_EEP = 1 << 5;
        /// Firmware holds PHY 0.
        const FW_PHY0 = 1 << 6;
        /// Firmware holds PHY 1.
        const FW_PHY1 = 1 << 7;
        /// Firmware holds the shared MAC registers.
        const FW_MAC_CSR = 1 << 8;
        /// X540 and X550: semaphore around this register, set by being read as zero.
        const REGSMP = 1 << 31;
        const _ = !0;
    }
}

bitflags! {
    /// Bits of [`GCR_EXT`] (8.2.3.4.12).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct GcrExt: u32 {
        /// Empties the data path buffers of the function, for a reset with requests pending.
        const BUFFERS_CLEAR_FUNC = 1 << 30;
        const _ = !0;
    }
}

bitflags! {
    /// Bits of [`dca_rxctrl`] (8.2.3.11.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DcaRxctrl: u32 {
        /// Descriptor write-back goes to a processor's cache.
        const DESCRIPTOR_DCA = 1 << 5;
        /// Headers go to a processor's cache.
        const HEADER_DCA = 1 << 6;
        /// Payload goes to a processor's cache.
        const PAYLOAD_DCA = 1 << 7;
        /// Descriptor reads may be reordered.
        const DESCRIPTOR_READ_RO = 1 << 9;
        /// Descriptor write-backs may be reordered before the data: has to stay zero.
        const DESCRIPTOR_WB_RO = 1 << 11;
        /// Reserved, set after reset, and to be cleared by software (4.6.7).
        const RESERVED_CLEAR = 1 << 12;
        /// Data writes may be reordered among each other.
        const DATA_WRITE_RO = 1 << 13;
        /// Replicated header writes may be reordered.
        const HEADER_RO = 1 << 15;
        const _ = !0;
    }
}

bitflags! {
    /// Bits of [`dca_txctrl`] (8.2.3.11.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DcaTxctrl: u32 {
        /// Descriptor accesses go to a processor's cache.
        const DESCRIPTOR_DCA = 1 << 5;
        /// Descriptor reads may be reordered.
        const DESCRIPTOR_READ_RO = 1 << 9;
        /// Descriptor write-backs may be reordered.
        const DESCRIPTOR_WB_RO = 1 << 11;
        /// Data reads may be reordered.
        const DATA_READ_RO = 1 << 13;
        const _ = !0;
    }
}
