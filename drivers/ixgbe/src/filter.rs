//! Which frames come in: station address, multicast, promiscuous mode (7.1.1.1), VLAN (7.4.4).

use crate::{Config, Error, VlanTag};
use ix_hal::Mmio;
use ix_nic::registers::{clear, set};
use ixgbe_spec::register::*;

/// Which end of a multicast address indexes the table; any will do, the first is the default.
const TABLE_OFFSET: Mcstctrl = Mcstctrl::empty();

/// The configured station address, or the one that the device loaded from its EEPROM (8.2.3.7.9).
/// Writes it, so that the two agree, and voids all other addresses.
pub(crate) fn station_address<R: Mmio>(registers: &R, config: &Config) -> Result<[u8; 6], Error> {
    let mac = match config.mac {
        Some(mac) => mac,
        None => {
            let [m0, m1, m2, m3] = registers.read32(ral(0)).to_le_bytes();
            let [m4, m5, ..] = registers.read32(rah(0)).to_le_bytes();
            [m0, m1, m2, m3, m4, m5]
        }
    };
    if mac[0] & 1 != 0 || mac == [0; 6] {
        return Err(Error::StationAddress(mac));
    }
    write_address(registers, 0, Some(mac));
    for n in 1..128 {
        write_address(registers, n, None);
    }
    Ok(mac)
}

fn write_address<R: Mmio>(registers: &R, n: u32, mac: Option<[u8; 6]>) {
    let (low, high) = match mac {
        Some([m0, m1, m2, m3, m4, m5]) => (
            u32::from_le_bytes([m0, m1, m2, m3]),
            u32::from_le_bytes([m4, m5, 0, 0]) | RAH_AV,
        ),
        None => (0, 0),
    };
    registers.write32(ral(n), low);
    registers.write32(rah(n), high);
}

/// 4.6.7: tables whose contents are random after power-on, and the filters that use them.
pub(crate) fn set_up<R: Mmio>(registers: &R, config: &Config) {
    for n in 0..128 {
        registers.write32(pfuta(n), 0);
        registers.write32(vfta(n), 0);
        registers.write32(mta(n), 0);
        registers.write32(pfvlvfb(n), 0);
    }
    for n in 0..64 {
        registers.write32(pfvlvf(n), 0);
    }
    // Address 0 is for pool 0, the only one.
    registers.write32(mpsar(0), 1);
    for n in 1..256 {
        registers.write32(mpsar(n), 0);
    }
    for n in 0..128 {
        registers.write32(ftqf(n), 0);
    }
    for n in 0..8 {
        registers.write32(etqf(n), 0);
    }
    registers.write32(SYNQF, 0);
    set_up_vlan(registers, config.vlan);
    registers.write32(MCSTCTRL, TABLE_OFFSET.bits());
    let mut fctrl = Fctrl::from_bits_retain(registers.read32(FCTRL));
    fctrl.remove(Fctrl::SBP | Fctrl::MPE | Fctrl::UPE);
    fctrl.insert(Fctrl::BAM);
    registers.write32(FCTRL, fctrl.bits());
}

/// The filter lets frames without a tag pass, and those of the VLAN in its table. It counts nothing,
/// so that without a VLAN it stays off: the receive rings then drop and count what is tagged. The
/// EtherType of a tag is 0x8100 after a reset, in both directions (VLNCTRL.VET, DMATXCTL.VT).
fn set_up_vlan<R: Mmio>(registers: &R, vlan: Option<VlanTag>) {
    let mut vlnctrl = Vlnctrl::from_bits_retain(registers.read32(VLNCTRL));
    vlnctrl.remove(Vlnctrl::CFIEN);
    vlnctrl.set(Vlnctrl::VFE, vlan.is_some());
    if let Some(id) = vlan.map(VlanTag::id).map(u32::from) {
        registers.write32(vfta(id / 32), 1 << (id % 32));
    }
    registers.write32(VLNCTRL, vlnctrl.bits());
}

/// Takes in all frames, or only those addressed to this station again.
pub fn set_promiscuous(registers: &impl Mmio, on: bool) {
    with_receiver_off(registers, || {
        let both = (Fctrl::UPE | Fctrl::MPE).bits();
        if on {
            set(registers, FCTRL, both);
        } else {
            clear(registers, FCTRL, both);
        }
    });
}

/// The table holds 12 bits of an address.
pub(crate) fn join(registers: &impl Mmio, group: [u8; 6]) {
    let bit = TABLE_OFFSET.table_bit(group);
    with_receiver_off(registers, || {
        set(registers, mta(bit / 32), 1 << (bit % 32));
        registers.write32(MCSTCTRL, (TABLE_OFFSET | Mcstctrl::MFE).bits());
    });
}

/// 8.2.3.7.1: filters change only while RXCTRL.RXEN is clear.
fn with_receiver_off(registers: &impl Mmio, change: impl FnOnce()) {
    let rxctrl = registers.read32(RXCTRL);
    registers.write32(RXCTRL, rxctrl & !Rxctrl::RXEN.bits());
    change();
    registers.write32(RXCTRL, rxctrl);
}
