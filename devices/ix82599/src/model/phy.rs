//! The copper PHY of an X540 behind MSCA and MSRWD (82599 8.2.3.22.11): as much of IEEE 802.3 clause 45 as
//! drivers look at. It follows the wire, whatever it is told to negotiate.

use ixgbe_spec::register::Msca;

/// The port address that it answers at.
const PORT: u32 = 0;
/// What comes from where nobody answers: the line is pulled up.
const NOBODY: u16 = 0xffff;

/// Devices of a PHY (IEEE 802.3-2022 45.2, table 45-1).
const PMA: u16 = 1;
const AN: u16 = 7;
const VENDOR_1: u16 = 30;

/// Registers that are there in every device (45.2.1.1, 45.2.1.2).
const STATUS_1: u16 = 1;
const STATUS_1_LINK: u16 = 1 << 2;
const AN_COMPLETE: u16 = 1 << 5;
/// The identifier, in two registers (45.2.1.3), of which the last four bits are the revision.
const IDENTIFIER: [u16; 2] = [0x0154, 0x0200];
/// PMA speed ability (45.2.1.4): 10 Gb/s, 1 Gb/s, 100 Mb/s.
const SPEEDS: u16 = 1 | 1 << 4 | 1 << 5;
/// PMA status 2 (45.2.1.7): the device answers.
const STATUS_2_PRESENT: u16 = 1 << 15;

/// Registers that keep what is written and do nothing: control, advertisement (45.2.7.6), 10GBASE-T control
/// (45.2.7.10), what an X540's PHY advertises of 1 Gb/s, and its power.
const KEPT: [(u16, u16); 6] = [
    (PMA, 0),
    (AN, 0),
    (AN, 0x10),
    (AN, 0x20),
    (AN, 0xc400),
    (VENDOR_1, 0),
];

/// The PHY, and the access under way.
#[derive(Debug, Default)]
pub(super) struct Phy {
    kept: [u16; KEPT.len()],
    /// The register that the last address cycle named.
    address: u16,
    /// MSRWD: what is to be written, and in the high half what was read.
    data: u32,
}

impl Phy {
    /// Reads MSRWD.
    pub(super) fn data(&self) -> u32 {
        self.data
    }

    /// Writes MSRWD, of which the high half cannot be.
    pub(super) fn set_data(&mut self, value: u32) {
        self.data = self.data & !0xffff | value & 0xffff;
    }

    /// Does what a write to MSCA with MDICMD says.
    pub(super) fn access(&mut self, command: Msca, link_up: bool) {
        let device = command.devtype() as u16;
        match command.opcode() {
            Msca::OPCODE_ADDRESS => self.address = command.np_addr() as u16,
            Msca::OPCODE_WRITE if command.phy_addr() == PORT => {
                if let Some(place) = self.place(device) {
                    self.kept[place] = self.data as u16;
                }
            }
            Msca::OPCODE_WRITE => {}
            _ => {
                let word = match command.phy_addr() {
                    PORT => self.read(device, link_up),
                    _ => NOBODY,
                };
                self.data = self.data & 0xffff | u32::from(word) << 16;
            }
        }
    }

    fn read(&self, device: u16, link_up: bool) -> u16 {
        if let Some(place) = self.place(device) {
            return self.kept[place];
        }
        let link = if link_up { STATUS_1_LINK } else { 0 };
        match (device, self.address) {
            (AN, STATUS_1) if link_up => link | AN_COMPLETE,
            (PMA | AN, STATUS_1) => link,
            (PMA, 2) => IDENTIFIER[0],
            (PMA, 3) => IDENTIFIER[1],
            (PMA, 4) => SPEEDS,
            (PMA, 8) => STATUS_2_PRESENT,
            _ => 0,
        }
    }

    /// Where the addressed register is kept, if it is.
    fn place(&self, device: u16) -> Option<usize> {
        KEPT.iter().position(|it| *it == (device, self.address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(phy: &mut Phy, port: u32, device: u32, register: u32) -> u16 {
        let to = Msca::empty().with_phy_addr(port).with_devtype(device);
        phy.access(to.with_np_addr(register), true);
        phy.access(to.with_opcode(Msca::OPCODE_READ), true);
        (phy.data() >> 16) as u16
    }

    #[test]
    fn one_port_answers_with_its_identity() {
        let mut phy = Phy::default();
        assert_eq!(read(&mut phy, 0, 1, 2), 0x0154);
        assert_eq!(read(&mut phy, 0, 1, 3), 0x0200);
        assert_eq!(read(&mut phy, 0, 1, 8), 0x8000);
        assert_eq!(read(&mut phy, 1, 1, 2), 0xffff);
        assert_eq!(read(&mut phy, 0, 5, 9), 0);
    }

    #[test]
    fn what_is_written_is_kept_where_there_is_something() {
        let mut phy = Phy::default();
        for (register, expected) in [(0x20, 0x1234), (0x21, 0)] {
            let to = Msca::empty().with_devtype(7);
            phy.access(to.with_np_addr(register), true);
            phy.set_data(0xffff_1234);
            phy.access(to.with_opcode(Msca::OPCODE_WRITE), true);
            assert_eq!(read(&mut phy, 0, 7, register), expected);
        }
    }

    #[test]
    fn the_link_is_the_wire_s() {
        let mut phy = Phy::default();
        assert_eq!(read(&mut phy, 0, 7, 1), 0x24);
        phy.access(
            Msca::empty().with_devtype(7).with_opcode(Msca::OPCODE_READ),
            false,
        );
        assert_eq!(phy.data() >> 16, 0);
    }
}
