//! Reset and global initialisation. What belongs to one queue is in `controller.rs`.

use ix_hal::Mmio;
use ix_nic::registers::{Delay, Expected, clear, set, wait};
use ix_nic::{Config, Error, Rss, VlanTag};

use crate::register::{self as reg, *};
use crate::{interrupt, link};

/// The datasheet names no bounds for most of its waits; a second is far beyond what the device takes.
const TIMEOUT_US: u32 = 1_000_000;
/// Requests on PCIe complete within this or never.
const MASTER_DISABLE_TIMEOUT_US: u32 = 80_000;
/// What is under way when receive and transmit are switched off is done within this.
const QUIESCE_US: u32 = 10_000;
/// No register may be touched for so long after a reset.
const RESET_SETTLE_US: u32 = 1_000;
/// How long the device may take to read its EEPROM.
const EEPROM_TIMEOUT_US: u32 = 20_000;

const TCP_FIN: u32 = 1;
const TCP_PSH: u32 = 8;
const TCP_CWR: u32 = 0x80;
/// All flags of TCP.
const TCP_FLAGS: u32 = 0xfff;

/// From a device in any state to one that is ready for queues. Returns its station address.
pub(crate) fn initialise<R: Mmio>(
    registers: &R,
    config: &Config,
    delay: Delay<'_>,
) -> Result<[u8; 6], Error> {
    reset(registers, delay)?;
    let mac = station_address(registers, config)?;
    link::set_up(registers, delay)?;
    interrupt::set_up(registers);
    set_up_filters(registers, config.vlan);
    set_up_receive(registers, config);
    set_up_transmit(registers);
    set(registers, CTRL_EXT, CtrlExt::DRV_LOAD.bits());
    Ok(mac)
}

/// Quiesces and resets the device, and masks interrupts again.
pub(crate) fn reset<R: Mmio>(registers: &R, delay: Delay<'_>) -> Result<(), Error> {
    if registers.read32(STATUS) == u32::MAX {
        return Err(Error::Gone);
    }
    interrupt::mask_all(registers);
    registers.write32(RCTL, 0);
    registers.write32(TCTL, Tctl::PSP.bits());
    delay(QUIESCE_US);
    set(registers, CTRL, Ctrl::GIO_MASTER_DISABLE.bits());
    let quiet = Expected {
        register: "STATUS",
        offset: STATUS,
        mask: Status::GIO_MASTER_ENABLE.bits(),
        value: 0,
        words: "expected GIO master enable to clear",
        timeout_us: MASTER_DISABLE_TIMEOUT_US,
    };
    // Requests that never complete are for the reset to end.
    let _ = wait(registers, &quiet, delay);
    set(registers, CTRL, Ctrl::RST.bits());
    delay(RESET_SETTLE_US);
    let done = Expected {
        register: "CTRL",
        offset: CTRL,
        mask: Ctrl::RST.bits(),
        value: 0,
        words: "expected RST to clear",
        timeout_us: TIMEOUT_US,
    };
    wait(registers, &done, delay)?;
    let read = Expected {
        register: "EECD",
        offset: EECD,
        mask: Eecd::AUTO_RD.bits(),
        value: Eecd::AUTO_RD.bits(),
        words: "expected AUTO_RD to be set",
        timeout_us: EEPROM_TIMEOUT_US,
    };
    // Boards without an EEPROM, QEMU's among them, never set it; the address says whether all is well.
    let _ = wait(registers, &read, delay);
    clear(registers, CTRL, Ctrl::GIO_MASTER_DISABLE.bits());
    interrupt::mask_all(registers);
    Ok(())
}

/// The configured station address, or the one that the device loaded. Writes it, so that the two
/// agree, and voids all other addresses.
fn station_address<R: Mmio>(registers: &R, config: &Config) -> Result<[u8; 6], Error> {
    let mac = config.mac.unwrap_or_else(|| {
        let [m0, m1, m2, m3] = registers.read32(ral(0)).to_le_bytes();
        let [m4, m5, ..] = registers.read32(ral(0) + 4).to_le_bytes();
        [m0, m1, m2, m3, m4, m5]
    });
    if mac[0] & 1 != 0 || mac == [0; 6] {
        return Err(Error::StationAddress(mac));
    }
    let [m0, m1, m2, m3, m4, m5] = mac;
    registers.write32(ral(0), u32::from_le_bytes([m0, m1, m2, m3]));
    registers.write32(ral(0) + 4, u32::from_le_bytes([m4, m5, 0, 0]) | RAH_AV);
    for n in 1..RECEIVE_ADDRESSES {
        registers.write32(ral(n), 0);
        registers.write32(ral(n) + 4, 0);
    }
    Ok(mac)
}

/// Tables whose contents are random after power-on. The VLAN filter lets frames without a tag pass and
/// counts nothing, so that without a VLAN it stays off: the receive rings then drop and count what is
/// tagged. Tags are taken off in either case, since the write-back says only then that there was one.
fn set_up_filters<R: Mmio>(registers: &R, vlan: Option<VlanTag>) {
    for n in 0..128 {
        registers.write32(mta(n), 0);
        registers.write32(vfta(n), 0);
    }
    if let Some(id) = vlan.map(VlanTag::id).map(u32::from) {
        registers.write32(vfta(id / 32), 1 << (id % 32));
    }
    set(registers, CTRL, Ctrl::VME.bits());
    registers.write32(VT_CTL, 0);
}

/// Checksums, lengths and RSS.
fn set_up_receive<R: Mmio>(registers: &R, config: &Config) {
    let checksums = Rxcsum::IPOFLD | Rxcsum::TUOFLD | Rxcsum::PCSD;
    registers.write32(RXCSUM, checksums.bits());
    set(registers, RFCTL, Rfctl::IPV6_EX_DIS.bits());
    set_up_rss(registers, &config.rss);
    // Unlike other limits this one counts the tag.
    registers.write32(RLPML, config.max_frame() + 4);
    for queue in 0..QUEUES {
        clear(registers, rxdctl(queue), Xdctl::ENABLE.bits());
    }
}

/// The same flows as the 82599's: hash of addresses and ports for TCP and UDP; whatever has no ports
/// comes to queue 0.
fn set_up_rss<R: Mmio>(registers: &R, rss: &Rss) {
    for (n, bytes) in (0..).zip(rss.key.as_chunks().0) {
        registers.write32(rssrk(n), u32::from_le_bytes(*bytes));
    }
    write_reta(registers, &rss.reta);
    // What has no extension headers is hashed alike with and without EX. QEMU knows the one only.
    let tcp = Mrqc::TCP_IPV4 | Mrqc::TCP_IPV6 | Mrqc::TCP_IPV6_EX;
    let mrqc = Mrqc::RSS | tcp | Mrqc::UDP_IPV4 | Mrqc::UDP_IPV6;
    registers.write32(MRQC, mrqc.bits());
}

/// May change while frames arrive; a flow group then moves from one frame to the next.
pub(crate) fn write_reta<R: Mmio>(registers: &R, reta: &[u8]) {
    for (n, entries) in (0..).zip(reta.as_chunks().0) {
        registers.write32(reg::reta(n), u32::from_le_bytes(*entries));
    }
}

/// FIN and PSH are for the last segment of a large frame alone, CWR for the first (RFC 3168 6.1.2).
fn set_up_transmit<R: Mmio>(registers: &R) {
    let ending = TCP_FIN | TCP_PSH;
    let first = TCP_FLAGS & !ending;
    let middle = TCP_FLAGS & !(ending | TCP_CWR);
    registers.write32(DTXTCPFLGL, middle << 16 | first);
    registers.write32(DTXTCPFLGH, TCP_FLAGS & !TCP_CWR);
    for queue in 0..QUEUES {
        clear(registers, txdctl(queue), Xdctl::ENABLE.bits());
    }
    set(registers, TCTL, (Tctl::EN | Tctl::PSP).bits());
}

/// Switches the receive path on.
pub(crate) fn enable_receive<R: Mmio>(registers: &R, config: &Config) {
    let mut rctl = Rctl::EN | Rctl::BAM | Rctl::SECRC;
    rctl.set(Rctl::LPE, config.mtu > 1500);
    rctl.set(Rctl::VFE, config.vlan.is_some());
    registers.write32(RCTL, rctl.bits());
}
