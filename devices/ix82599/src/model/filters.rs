//! Which frames the device accepts (7.1.1): receive addresses, broadcast, multicast table,
//! promiscuous modes, VLAN filter.

use ixgbe_spec::register::{Fctrl, Mcstctrl, RAH_AV, Vlnctrl};

use super::parse::ETHERTYPE_VLAN;
use super::statistics::Destination;

const ADDRESSES: usize = 128;
const TABLE_WORDS: usize = 128;

/// Filter registers.
#[derive(Debug)]
pub(super) struct Filters {
    pub(super) fctrl: u32,
    pub(super) vlnctrl: u32,
    pub(super) mcstctrl: u32,
    mta: [u32; TABLE_WORDS],
    vfta: [u32; TABLE_WORDS],
    ral: [u32; ADDRESSES],
    rah: [u32; ADDRESSES],
    /// The valid ones of RAL and RAH, for a quick look.
    stations: Vec<[u8; 6]>,
}

impl Filters {
    /// The state after reset: the first address comes from the EEPROM (8.2.3.7.8).
    pub(super) fn new(mac: [u8; 6]) -> Self {
        let mut filters = Self {
            fctrl: 0,
            vlnctrl: u32::from(ETHERTYPE_VLAN),
            mcstctrl: 0,
            mta: [0; TABLE_WORDS],
            vfta: [0; TABLE_WORDS],
            ral: [0; ADDRESSES],
            rah: [0; ADDRESSES],
            stations: Vec::new(),
        };
        let [a, b, c, d, e, f] = mac;
        filters.set_ral(0, u32::from_le_bytes([a, b, c, d]));
        filters.set_rah(0, u32::from_le_bytes([e, f, 0, 0]) | RAH_AV);
        filters
    }

    pub(super) fn mta(&mut self, index: u8) -> &mut u32 {
        &mut self.mta[usize::from(index) % TABLE_WORDS]
    }

    pub(super) fn vfta(&mut self, index: u8) -> &mut u32 {
        &mut self.vfta[usize::from(index) % TABLE_WORDS]
    }

    /// Empties the tables and the list of addresses, apart from the first and from VLAN 0.
    pub(super) fn forget_all_but_station(&mut self) {
        self.clear_mta();
        self.vfta = [0; TABLE_WORDS];
        self.vfta[0] = 1;
        self.rah[1..].fill(0);
        self.collect_stations();
    }

    pub(super) fn clear_mta(&mut self) {
        self.mta = [0; TABLE_WORDS];
    }

    pub(super) fn ral(&self, index: u8) -> u32 {
        self.ral[usize::from(index) % ADDRESSES]
    }

    pub(super) fn rah(&self, index: u8) -> u32 {
        self.rah[usize::from(index) % ADDRESSES]
    }

    pub(super) fn set_ral(&mut self, index: u8, value: u32) {
        self.ral[usize::from(index) % ADDRESSES] = value;
        self.collect_stations();
    }

    pub(super) fn set_rah(&mut self, index: u8, value: u32) {
        self.rah[usize::from(index) % ADDRESSES] = value & (RAH_AV | 0xffff);
        self.collect_stations();
    }

    fn collect_stations(&mut self) {
        let valid = self.ral.iter().zip(&self.rah);
        let valid = valid.filter(|(_, high)| **high & RAH_AV != 0);
        self.stations.clear();
        self.stations.extend(valid.map(|(low, high)| {
            let [a, b, c, d] = low.to_le_bytes();
            let [e, f, ..] = high.to_le_bytes();
            [a, b, c, d, e, f]
        }));
    }

    /// Whether a frame to `mac` with this VLAN tag is for us; `destination` is that of `mac`.
    pub(super) fn accept(&self, mac: [u8; 6], destination: Destination, vlan: Option<u16>) -> bool {
        let fctrl = Fctrl::from_bits_retain(self.fctrl);
        let address = match destination {
            Destination::Broadcast => fctrl.contains(Fctrl::BAM),
            Destination::Unicast => fctrl.contains(Fctrl::UPE) || self.stations.contains(&mac),
            Destination::Multicast => {
                fctrl.contains(Fctrl::MPE)
                    || self.stations.contains(&mac)
                    || self.in_multicast_table(mac)
            }
        };
        address && vlan.is_none_or(|tag| self.accept_vlan(tag))
    }

    fn in_multicast_table(&self, mac: [u8; 6]) -> bool {
        let mcstctrl = Mcstctrl::from_bits_retain(self.mcstctrl);
        mcstctrl.contains(Mcstctrl::MFE) && bit(&self.mta, mcstctrl.table_bit(mac))
    }

    fn accept_vlan(&self, tag: u16) -> bool {
        let vlnctrl = Vlnctrl::from_bits_retain(self.vlnctrl);
        let cfi = tag & 0x1000 != 0;
        if vlnctrl.contains(Vlnctrl::CFIEN) && cfi != vlnctrl.contains(Vlnctrl::CFI) {
            return false;
        }
        !vlnctrl.contains(Vlnctrl::VFE) || bit(&self.vfta, u32::from(tag & 0xfff))
    }
}

/// Bit `index`, 0 to 4095, of a table.
fn bit(table: &[u32; TABLE_WORDS], index: u32) -> bool {
    table[index as usize / 32 % TABLE_WORDS] >> (index % 32) & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
    const GROUP: [u8; 6] = [0x01, 0, 0x5e, 0, 0, 0xfb];

    fn accept(filters: &Filters, mac: [u8; 6]) -> bool {
        filters.accept(mac, Destination::of(mac), None)
    }

    #[test]
    fn after_reset_only_our_own_address_passes() {
        let filters = Filters::new(OURS);
        assert!(accept(&filters, OURS));
        assert!(!accept(&filters, [0x52, 0x54, 0, 0x12, 0x34, 0x57]));
        assert!(!accept(&filters, GROUP));
        assert!(!accept(&filters, [0xff; 6]));
    }

    #[test]
    fn an_address_without_the_valid_bit_does_not_pass() {
        let mut filters = Filters::new(OURS);
        filters.set_rah(0, filters.rah(0) & !RAH_AV);
        assert!(!accept(&filters, OURS));
    }

    #[test]
    fn groups_pass_by_the_table_if_it_is_enabled() {
        let mut filters = Filters::new(OURS);
        let index = Mcstctrl::empty().table_bit(GROUP);
        *filters.mta((index / 32) as u8) = 1 << (index % 32);
        assert!(!accept(&filters, GROUP));
        filters.mcstctrl = Mcstctrl::MFE.bits();
        assert!(accept(&filters, GROUP));
        assert!(!accept(&filters, [0x01, 0, 0x5e, 0, 0, 0xaa]));
    }

    #[test]
    fn promiscuous_modes_are_apart() {
        let mut filters = Filters::new(OURS);
        filters.fctrl = Fctrl::UPE.bits();
        assert!(accept(&filters, [2; 6]));
        assert!(!accept(&filters, GROUP));
        filters.fctrl = Fctrl::MPE.bits();
        assert!(accept(&filters, GROUP));
        assert!(!accept(&filters, [2; 6]));
        filters.fctrl = Fctrl::BAM.bits();
        assert!(accept(&filters, [0xff; 6]));
    }

    #[test]
    fn tags_pass_by_the_vlan_table_if_it_is_enabled() {
        let mut filters = Filters::new(OURS);
        let tagged = |filters: &Filters| filters.accept(OURS, Destination::Unicast, Some(0x2064));
        assert!(tagged(&filters));
        filters.vlnctrl |= Vlnctrl::VFE.bits();
        assert!(!tagged(&filters));
        *filters.vfta(0x64 / 32) = 1 << (0x64 % 32);
        assert!(tagged(&filters));
    }
}
