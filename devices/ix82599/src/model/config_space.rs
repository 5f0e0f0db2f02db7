//! PCI configuration space (9.3): header, power management (9.3.8), MSI (9.3.9), MSI-X (9.3.10) and
//! PCI Express (9.3.11) capabilities, 4096 bytes.
//!
//! The bytes are stored with a mask of the bits that software may write. The capabilities lie where
//! silicon has them; vital product data (0xe0) and the extended capabilities are left out of the
//! list, and so are INTx and the I/O BAR: messages are the only way to interrupt.

use ixgbe_spec::register::BAR0_BYTES;
use ixgbe_spec::{MSIX_VECTORS, PCI_VENDOR, virtual_function};

use super::{Card, ModelConfig};

/// Bytes of the configuration space of a PCI Express function.
pub const CONFIG_BYTES: usize = 4096;
/// Bytes of BAR 4, and of a virtual function's BAR 3, which holds the MSI-X table and pending bits.
pub const MSIX_BAR_BYTES: u32 = 0x4000;
/// Offset of the MSI-X table in its BAR.
pub const MSIX_TABLE: u32 = 0;
/// Offset of the MSI-X pending bits in the same BAR.
pub const MSIX_PBA: u32 = 0x2000;

/// 82599 with SFI/SFP+.
const DEVICE_82599: u16 = 0x10fb;
/// X540 with two ports.
const DEVICE_X540: u16 = 0x1528;
/// Revision of the B0 stepping (9.3.5).
const REVISION: u8 = 0x01;

const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const BAR0: usize = 0x10;
const BAR3: usize = 0x1c;
const BAR4: usize = 0x20;
const CAPABILITIES: usize = 0x34;
const POWER: usize = 0x40;
const PMCSR: usize = POWER + 4;
const MSI: usize = 0x50;
const MSIX: usize = 0x70;
const EXPRESS: usize = 0xa0;
const DEVICE_CONTROL: usize = EXPRESS + 8;

/// Memory space, bus master, parity error response, SERR, interrupt disable (9.3.3.3).
const COMMAND_WRITABLE: u16 = 0x0546;
const COMMAND_BUS_MASTER: u16 = 1 << 2;
/// Capability list present.
const STATUS_CAPABILITIES: u16 = 1 << 4;
/// 64-bit, prefetchable memory.
const BAR_FLAGS: u32 = 0xc;
const POWER_STATE: u8 = 0b11;
/// Initiate function level reset; reads as zero.
const DEVICE_CONTROL_FLR: u16 = 1 << 15;

/// What a write means for the device beyond the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Effects {
    /// The function was told to reset itself, or came back from D3hot, which resets it (9.3.8.4).
    pub(super) reset: bool,
}

/// The bytes, and which of their bits can be written.
#[derive(Debug)]
pub(super) struct ConfigSpace {
    bytes: Box<[u8; CONFIG_BYTES]>,
    writable: Box<[u8; CONFIG_BYTES]>,
}

impl ConfigSpace {
    /// As after power-up: with MSI, and with MSI-X too if so wanted.
    pub(super) fn new(config: &ModelConfig) -> Self {
        let mut space = Self {
            bytes: Box::new([0; CONFIG_BYTES]),
            writable: Box::new([0; CONFIG_BYTES]),
        };
        if config.virtual_function.is_some() {
            space.virtual_function();
            return space;
        }
        let device = match config.card {
            Card::I82599 => DEVICE_82599,
            Card::X540 => DEVICE_X540,
        };
        space.header(device, &[(BAR0, BAR0_BYTES), (BAR4, MSIX_BAR_BYTES)]);
        space.bytes[CAPABILITIES] = POWER as u8;
        space.power_management();
        if config.msix {
            space.msi(MSIX);
            space.msix(4, MSIX_VECTORS);
        } else {
            space.msi(EXPRESS);
        }
        space.express();
        space
    }

    /// A virtual function (9.4), as a hypervisor shows it: with an identity and BARs of its own, and neither power
    /// states nor MSI.
    fn virtual_function(&mut self) {
        let bars = [(BAR0, virtual_function::BAR0_BYTES), (BAR3, MSIX_BAR_BYTES)];
        self.header(virtual_function::PCI_DEVICES[0], &bars);
        self.bytes[CAPABILITIES] = MSIX as u8;
        self.msix(3, virtual_function::MSIX_VECTORS);
        self.express();
    }

    fn header(&mut self, device: u16, bars: &[(usize, u32)]) {
        self.set16(0x00, PCI_VENDOR, 0);
        self.set16(0x02, device, 0);
        self.set16(COMMAND, 0, COMMAND_WRITABLE);
        self.set16(STATUS, STATUS_CAPABILITIES, 0);
        self.bytes[0x08] = REVISION;
        // Class: network controller, Ethernet.
        self.bytes[0x0a..0x0c].copy_from_slice(&[0x00, 0x02]);
        self.writable[0x0c] = 0xff;
        for &(bar, size) in bars {
            self.set32(bar, BAR_FLAGS, !(size - 1));
            self.set32(bar + 4, 0, u32::MAX);
        }
        self.set16(0x2c, PCI_VENDOR, 0);
        self.set16(0x2e, 0x0003, 0);
        self.writable[0x3c] = 0xff;
    }

    fn power_management(&mut self) {
        self.bytes[POWER] = 0x01;
        self.bytes[POWER + 1] = MSI as u8;
        // Version 3; D3hot without power management events.
        self.set16(POWER + 2, 0x0003, 0);
        self.set16(PMCSR, 0, u16::from(POWER_STATE));
    }

    fn msi(&mut self, next: usize) {
        self.bytes[MSI] = 0x05;
        self.bytes[MSI + 1] = next as u8;
        // One vector that can be masked, 64-bit addresses; enable is writable.
        self.set16(MSI + 2, 0x0180, 0x0001);
        self.set32(MSI + 4, 0, !0b11);
        self.set32(MSI + 8, 0, u32::MAX);
        self.set16(MSI + 12, 0, u16::MAX);
        self.set32(MSI + 16, 0, 1);
    }

    fn msix(&mut self, bar: u32, vectors: u32) {
        self.bytes[MSIX] = 0x11;
        self.bytes[MSIX + 1] = EXPRESS as u8;
        // Table size less one; enable and function mask are writable.
        self.set16(MSIX + 2, vectors as u16 - 1, 0xc000);
        self.set32(MSIX + 4, MSIX_TABLE | bar, 0);
        self.set32(MSIX + 8, MSIX_PBA | bar, 0);
    }

    fn express(&mut self) {
        self.bytes[EXPRESS] = 0x10;
        // Version 2, endpoint.
        self.set16(EXPRESS + 2, 0x0002, 0);
        // Device capabilities: payload 512 bytes, role-based errors, function level reset.
        self.set32(EXPRESS + 4, 0x1000_8002, 0);
        // Device control: relaxed ordering, no snoop, request size 512, as after reset.
        self.set16(DEVICE_CONTROL, 0x2810, 0x7fff);
        // Link capabilities and status: 5 GT/s, 8 lanes.
        self.set32(EXPRESS + 0x0c, 0x0000_0082, 0);
        self.set16(EXPRESS + 0x10, 0, 0x01ff);
        self.set16(EXPRESS + 0x12, 0x0082, 0);
        // Device capabilities 2: completion timeout ranges A to D; link control 2: 5 GT/s.
        self.set32(EXPRESS + 0x24, 0x0000_001f, 0);
        self.set16(EXPRESS + 0x28, 0, 0x001f);
        self.set16(EXPRESS + 0x30, 0x0002, 0xffff);
    }

    fn set16(&mut self, offset: usize, value: u16, writable: u16) {
        self.bytes[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
        self.writable[offset..offset + 2].copy_from_slice(&writable.to_le_bytes());
    }

    fn set32(&mut self, offset: usize, value: u32, writable: u32) {
        self.bytes[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        self.writable[offset..offset + 4].copy_from_slice(&writable.to_le_bytes());
    }

    /// Copies bytes out; beyond the end they read zero.
    pub(super) fn read(&self, offset: usize, into: &mut [u8]) {
        into.fill(0);
        let bytes = self.bytes.get(offset..).unwrap_or_default();
        for (to, from) in into.iter_mut().zip(bytes) {
            *to = *from;
        }
    }

    /// Writes the bits that can be written; bytes beyond the end are ignored.
    pub(super) fn write(&mut self, offset: usize, from: &[u8]) -> Effects {
        let asleep = self.asleep();
        let mut effects = Effects::default();
        for (place, value) in (offset..CONFIG_BYTES).zip(from) {
            let mask = self.writable[place];
            self.bytes[place] = self.bytes[place] & !mask | value & mask;
            let flr = (DEVICE_CONTROL_FLR >> 8) as u8;
            effects.reset |= place == DEVICE_CONTROL + 1 && value & flr != 0;
        }
        effects.reset |= asleep && !self.asleep();
        effects
    }

    /// Whether the function may start requests: bus mastering is on and it is in D0.
    pub(super) fn may_master(&self) -> bool {
        let command = u16::from_le_bytes([self.bytes[COMMAND], self.bytes[COMMAND + 1]]);
        command & COMMAND_BUS_MASTER != 0 && !self.asleep()
    }

    fn asleep(&self) -> bool {
        self.bytes[PMCSR] & POWER_STATE != 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::VirtualConfig;
    use super::*;

    fn read32(space: &ConfigSpace, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        space.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    #[test]
    fn the_list_of_capabilities_ends_and_has_what_it_should() {
        let list = |msix, virtual_function| {
            let space = ConfigSpace::new(&ModelConfig {
                msix,
                virtual_function,
                ..ModelConfig::default()
            });
            let mut found = Vec::new();
            let mut at = read32(&space, CAPABILITIES) as usize & 0xff;
            while at != 0 && found.len() < 48 {
                let head = read32(&space, at);
                found.push((at, head & 0xff));
                at = (head >> 8) as usize & 0xff;
            }
            found
        };
        assert_eq!(
            list(true, None),
            [(0x40, 0x01), (0x50, 0x05), (0x70, 0x11), (0xa0, 0x10)]
        );
        assert_eq!(
            list(false, None),
            [(0x40, 0x01), (0x50, 0x05), (0xa0, 0x10)]
        );
        let virtual_function = Some(VirtualConfig::default());
        assert_eq!(list(true, virtual_function), [(0x70, 0x11), (0xa0, 0x10)]);
    }

    #[test]
    fn a_virtual_function_has_two_small_bars_and_three_vectors() {
        let mut space = ConfigSpace::new(&ModelConfig {
            virtual_function: Some(VirtualConfig::default()),
            ..ModelConfig::default()
        });
        assert_eq!(read32(&space, 0), 0x10ed_8086);
        assert_eq!(read32(&space, MSIX) >> 16, 2);
        assert_eq!(read32(&space, MSIX + 4), 3);
        for (bar, size) in [(BAR0, 0xffff_c00c), (0x18, 0), (BAR3, 0xffff_c00c)] {
            space.write(bar, &[0xff; 4]);
            assert_eq!(read32(&space, bar), size, "{bar:#x}");
        }
        assert_eq!(space.write(PMCSR, &[3]), Effects { reset: false });
        space.write(COMMAND, &[0x06, 0]);
        assert!(space.may_master(), "no power states");
    }

    #[test]
    fn bars_are_sized_by_writing_ones() {
        let mut space = ConfigSpace::new(&ModelConfig::default());
        space.write(BAR0, &[0xff; 8]);
        assert_eq!(read32(&space, BAR0), !(BAR0_BYTES - 1) | 0xc);
        assert_eq!(read32(&space, BAR0 + 4), u32::MAX);
        space.write(BAR4, &[0xff; 4]);
        assert_eq!(read32(&space, BAR4), 0xffff_c00c);
        for unused in [0x18, 0x1c, 0x30] {
            space.write(unused, &[0xff; 4]);
            assert_eq!(read32(&space, unused), 0);
        }
    }

    #[test]
    fn identity_cannot_be_written() {
        let mut space = ConfigSpace::new(&ModelConfig::default());
        space.write(0, &[0; 4]);
        assert_eq!(read32(&space, 0), 0x10fb_8086);
    }

    #[test]
    fn mastering_needs_the_command_bit_and_full_power() {
        let mut space = ConfigSpace::new(&ModelConfig::default());
        assert!(!space.may_master());
        space.write(COMMAND, &[0x06, 0]);
        assert!(space.may_master());
        assert_eq!(space.write(PMCSR, &[3]), Effects { reset: false });
        assert!(!space.may_master());
        assert_eq!(space.write(PMCSR, &[0]), Effects { reset: true });
        assert!(space.may_master());
    }

    #[test]
    fn function_level_reset_is_asked_for_and_reads_as_zero() {
        let mut space = ConfigSpace::new(&ModelConfig::default());
        assert!(space.write(DEVICE_CONTROL, &[0x10, 0xa8]).reset);
        assert_eq!(read32(&space, DEVICE_CONTROL) & 0x8000, 0);
    }

    #[test]
    fn accesses_beyond_the_end_are_harmless() {
        let mut space = ConfigSpace::new(&ModelConfig::default());
        space.write(CONFIG_BYTES - 1, &[1; 8]);
        space.write(usize::MAX, &[1; 8]);
        let mut bytes = [1; 8];
        space.read(CONFIG_BYTES - 4, &mut bytes);
        assert_eq!(bytes, [0; 8]);
        space.read(usize::MAX, &mut bytes);
    }
}
