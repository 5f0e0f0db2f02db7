//! Reset and global initialisation, in the order of section 4.6.3, a step a function. What belongs
//! to one queue is in `controller.rs`.

use crate::{Card, Config, Error, semaphore};
use ix_hal::Mmio;
use ix_nic::registers::{Delay, Expected, clear, set, wait};
use ixgbe_spec::QUEUES;
use ixgbe_spec::register::{self as reg, *};

/// The datasheet names no bounds for its waits; a second is far beyond what the device takes.
const TIMEOUT_US: u32 = 1_000_000;
/// Requests on PCIe complete within this or never (5.2.5.3.2).
const MASTER_DISABLE_TIMEOUT_US: u32 = 80_000;
/// CTRL.RST clears itself within about a millisecond (8.2.3.1.1); no register may be touched before.
const RESET_SETTLE_US: u32 = 1_000;
/// Wait after a reset for the initialisation to go smoothly (4.6.3.2).
const RESET_WAIT_US: u32 = 10_000;
/// The same where firmware has a PHY to set up.
const RESET_WAIT_PHY_US: u32 = 100_000;
/// Transmit packet buffer without traffic classes, in KB (4.6.11.3.4).
const TX_PACKET_BUFFER_KB: u32 = 160;

/// Section 4.6.3 from a device in any state to one that is ready for queues. Returns its station
/// address.
pub(crate) fn initialise<R: Mmio>(
    card: Card,
    registers: &R,
    config: &Config,
    delay: Delay<'_>,
) -> Result<[u8; 6], Error> {
    reset(card, registers, delay)?;
    disable_flow_control(card, registers);
    wait_for_eeprom(card, registers, delay)?;
    wait_for_dma(registers, delay)?;
    let mac = crate::filter::station_address(registers, config)?;
    crate::link::set_up(card, registers);
    crate::statistics::set_up(registers);
    crate::interrupt::set_up(registers);
    set_up_receive(card, registers, config);
    set_up_transmit(registers, config);
    set(registers, CTRL_EXT, CtrlExt::DRV_LOAD.bits());
    Ok(mac)
}

/// 4.6.3.1, 4.6.3.2, 4.2.1.6: quiesce, reset, and mask interrupts again, since the reset unmasks
/// nothing but a device handed over by firmware may have anything enabled.
pub(crate) fn reset<R: Mmio>(card: Card, registers: &R, delay: Delay<'_>) -> Result<(), Error> {
    if registers.read32(STATUS) == u32::MAX {
        return Err(Error::Gone);
    }
    crate::interrupt::mask_all(registers);
    stop_receive(registers, delay);
    if !disable_master(registers, delay) {
        // 5.2.5.3.2: it takes two resets then, and the data path is to be empty before.
        flush_data_path(registers, delay);
        global_reset(card, registers, delay)?;
    }
    global_reset(card, registers, delay)?;
    crate::interrupt::mask_all(registers);
    Ok(())
}

/// 5.2.5.3.2, 4.6.7.1: nothing more comes in, on whichever queues there were. What is under way is
/// done 100 us after a queue says so; a queue that never does is for the reset to end.
fn stop_receive<R: Mmio>(registers: &R, delay: Delay<'_>) {
    clear(registers, RXCTRL, Rxctrl::RXEN.bits());
    for queue in 0..QUEUES {
        if registers.read32(rxdctl(queue)) & Rxdctl::ENABLE.bits() != 0 {
            clear(registers, rxdctl(queue), Rxdctl::ENABLE.bits());
        }
    }
    delay(100);
}

/// 5.2.5.3.2: empties the transmit path, for when requests are pending that never completed. Loop
/// back keeps frames off the wire meanwhile.
fn flush_data_path<R: Mmio>(registers: &R, delay: Delay<'_>) {
    set(registers, HLREG0, Hlreg0::LPBK.bits());
    set(registers, GCR_EXT, GcrExt::BUFFERS_CLEAR_FUNC.bits());
    delay(20);
    clear(registers, HLREG0, Hlreg0::LPBK.bits());
    clear(registers, GCR_EXT, GcrExt::BUFFERS_CLEAR_FUNC.bits());
}

/// 5.2.5.3.2: no new requests on PCIe; true once those under way are done.
fn disable_master<R: Mmio>(registers: &R, delay: Delay<'_>) -> bool {
    set(registers, CTRL, Ctrl::PCIE_MASTER_DISABLE.bits());
    let quiet = Expected {
        register: "STATUS",
        offset: STATUS,
        mask: Status::PCIE_MASTER_ENABLE.bits(),
        value: 0,
        words: "expected PCIe master enable to clear",
        timeout_us: MASTER_DISABLE_TIMEOUT_US,
    };
    wait(registers, &quiet, delay).is_ok()
}

/// 4.2.1.6.1 and 4.2.1.6.2 together: software and link reset (8.2.3.1.1). Where firmware shares the
/// PHY, not while it talks to it, and without the link's reset, which would have the PHY negotiate anew.
fn global_reset<R: Mmio>(card: Card, registers: &R, delay: Delay<'_>) -> Result<(), Error> {
    if card.shares_phy() {
        semaphore::with_phy(registers, delay, |registers, delay| {
            reset_by(Ctrl::RST, registers, delay)
        })?;
        delay(RESET_WAIT_PHY_US);
    } else {
        reset_by(Ctrl::RST | Ctrl::LRST, registers, delay)?;
        delay(RESET_WAIT_US);
    }
    // The master disable outlives the reset on some steppings; without it nothing moves.
    clear(registers, CTRL, Ctrl::PCIE_MASTER_DISABLE.bits());
    Ok(())
}

/// Sets these bits and waits until they are clear again.
fn reset_by<R: Mmio>(bits: Ctrl, registers: &R, delay: Delay<'_>) -> Result<(), Error> {
    set(registers, CTRL, bits.bits());
    delay(RESET_SETTLE_US);
    let done = Expected {
        register: "CTRL",
        offset: CTRL,
        mask: (Ctrl::RST | Ctrl::LRST).bits(),
        value: 0,
        words: "expected RST and LRST to clear",
        timeout_us: TIMEOUT_US,
    };
    wait(registers, &done, delay)
}

/// 4.6.3.2: the dataplane drops what it cannot take in time and never pauses its peer. RTH is to
/// be set all the same.
fn disable_flow_control<R: Mmio>(card: Card, registers: &R) {
    for n in 0..4 {
        registers.write32(fcttv(n), 0);
    }
    for n in 0..8 {
        registers.write32(fcrtl(n), 0);
        registers.write32(fcrth(n), 0);
    }
    let threshold = card.rx_packet_buffer_kb() * 1024 - 0x6000;
    registers.write32(fcrth(0), threshold);
    registers.write32(FCRTV, 0);
    registers.write32(FCCFG, 0);
    clear(registers, MFLCN, (Mflcn::RPFCE | Mflcn::RFCE).bits());
}

/// 4.6.3: the device configures itself from the EEPROM. Auto_RD also sets without one (8.2.3.2.1). An
/// X540 or X550 has a flash instead, without which there would be no PHY and no address.
fn wait_for_eeprom<R: Mmio>(card: Card, registers: &R, delay: Delay<'_>) -> Result<(), Error> {
    let read = Expected {
        register: "EEC",
        offset: EEC,
        mask: Eec::AUTO_RD.bits(),
        value: Eec::AUTO_RD.bits(),
        words: "expected Auto_RD to be set",
        timeout_us: TIMEOUT_US,
    };
    wait(registers, &read, delay)?;
    let eec = registers.read32(EEC);
    if eec & Eec::EE_PRES.bits() == 0 && !card.shares_phy() {
        return Err(Error::NoEeprom { eec });
    }
    Ok(())
}

/// 4.6.3: the memories of the DMA engine.
fn wait_for_dma<R: Mmio>(registers: &R, delay: Delay<'_>) -> Result<(), Error> {
    let done = Expected {
        register: "RDRXCTL",
        offset: RDRXCTL,
        mask: Rdrxctl::DMAIDONE.bits(),
        value: Rdrxctl::DMAIDONE.bits(),
        words: "expected DMAIDONE to be set",
        timeout_us: TIMEOUT_US,
    };
    wait(registers, &done, delay)
}

/// 4.6.7 down to the queues.
fn set_up_receive<R: Mmio>(card: Card, registers: &R, config: &Config) {
    crate::filter::set_up(registers, config);

    // The RSS hash takes the place of the fragment checksum (8.2.3.7.5).
    registers.write32(RXCSUM, Rxcsum::PCSD.bits());
    let rfctl = Rfctl::RSC_DIS | Rfctl::NFSW_DIS | Rfctl::NFSR_DIS;
    set(registers, RFCTL, rfctl.bits());
    set_up_rss(registers, config);

    // CRCStrip must agree with HLREG0.RXCRCSTRP, which is set below; the other three are asked for
    // by 4.6.7 and 8.2.3.8.8, against their defaults.
    let rdrxctl = Rdrxctl::from_bits_retain(registers.read32(RDRXCTL)).with_rscfrstsize(0)
        | Rdrxctl::CRC_STRIP
        | Rdrxctl::RSCACKC
        | Rdrxctl::FCOE_WRFIX;
    registers.write32(RDRXCTL, rdrxctl.bits());

    // 4.6.11.3.4: no traffic classes, no virtualisation: one packet buffer for all.
    registers.write32(rxpbsize(0), rxpbsize_of(card.rx_packet_buffer_kb()));
    for n in 1..8 {
        registers.write32(rxpbsize(n), 0);
    }
    registers.write32(RTRUP2TC, 0);
    registers.write32(PFVTCTL, 0);

    let mut hlreg0 = Hlreg0::from_bits_retain(registers.read32(HLREG0))
        | Hlreg0::TXCRCEN
        | Hlreg0::RXCRCSTRP
        | Hlreg0::TXPADEN;
    hlreg0.set(Hlreg0::JUMBOEN, config.mtu > 1500);
    hlreg0.remove(Hlreg0::LPBK);
    registers.write32(HLREG0, hlreg0.bits());
    let maxfrs = with_maxfrs_mfs(registers.read32(MAXFRS), config.max_frame());
    registers.write32(MAXFRS, maxfrs);
}

/// 7.1.2.8: hash of addresses and ports for TCP and UDP. Whatever has no ports is not hashed and comes
/// to queue 0, as ARP does: whose thread knows then that the hash did not choose it.
fn set_up_rss<R: Mmio>(registers: &R, config: &Config) {
    for (n, bytes) in (0..).zip(config.rss.key.as_chunks().0) {
        registers.write32(rssrk(n), u32::from_le_bytes(*bytes));
    }
    write_reta(registers, &config.rss.reta);
    let mrqc = Mrqc::TCP_IPV4 | Mrqc::UDP_IPV4 | Mrqc::TCP_IPV6 | Mrqc::UDP_IPV6;
    registers.write32(MRQC, mrqc.with_mrqe(Mrqc::MRQE_RSS).bits());
}

/// 8.2.3.7.15: may change while frames arrive; a flow group then moves from one frame to the next.
pub(crate) fn write_reta<R: Mmio>(registers: &R, reta: &[u8]) {
    for (n, entries) in (0..).zip(reta.as_chunks().0) {
        registers.write32(reg::reta(n), u32::from_le_bytes(*entries));
    }
}

const TCP_FIN: u32 = 1;
const TCP_PSH: u32 = 8;
const TCP_CWR: u32 = 0x80;

/// 4.6.8 down to the queues. DMATXCTL.TE comes with the first queue.
fn set_up_transmit<R: Mmio>(registers: &R, config: &Config) {
    // The registers in between may change only while the arbiter is off.
    set(registers, RTTDCS, Rttdcs::ARBDIS.bits());
    registers.write32(DTXMXSZRQ, 0xfff);
    registers.write32(txpbsize(0), txpbsize_of(TX_PACKET_BUFFER_KB));
    let frame_kb = config.max_frame().div_ceil(1024);
    registers.write32(txpbthresh(0), TX_PACKET_BUFFER_KB - frame_kb);
    for n in 1..8 {
        registers.write32(txpbsize(n), 0);
        registers.write32(txpbthresh(n), 0);
    }
    registers.write32(MTQC, 0);
    // 4.6.11.3.1: no rate is left set from before.
    for queue in 0..QUEUES {
        registers.write32(RTTDQSEL, queue);
        registers.write32(RTTDT1C, 0);
    }
    let layers = Rttdcs::TDPAC | Rttdcs::VMPAC | Rttdcs::TDRM;
    clear(registers, RTTDCS, layers.bits());
    set(registers, RTTDCS, (Rttdcs::BDPM | Rttdcs::BPBFSM).bits());
    clear(registers, RTTDCS, Rttdcs::ARBDIS.bits());
    // FIN and PSH are for the last segment of a large frame alone. So is CWR for the first (RFC 3168
    // 6.1.2), while the reset value leaves it in those of the middle as well.
    let ending = TCP_FIN | TCP_PSH;
    let first_and_middle = dtxtcpflgl_of(!ending, !(ending | TCP_CWR));
    registers.write32(DTXTCPFLGL, first_and_middle);
    registers.write32(DTXTCPFLGH, dtxtcpflgh_of(!TCP_CWR));
}

/// 4.6.7, last steps: the receive path is stopped in the security block, switched on, and let go.
pub(crate) fn enable_receive<R: Mmio>(registers: &R, delay: Delay<'_>) -> Result<(), Error> {
    set(registers, SECRXCTRL, Secrxctrl::RX_DIS.bits());
    let empty = Expected {
        register: "SECRXSTAT",
        offset: SECRXSTAT,
        mask: SecurityStatus::RDY.bits(),
        value: SecurityStatus::RDY.bits(),
        words: "expected SECRX_RDY to be set",
        timeout_us: TIMEOUT_US,
    };
    wait(registers, &empty, delay)?;
    set(registers, RXCTRL, Rxctrl::RXEN.bits());
    clear(registers, SECRXCTRL, Secrxctrl::RX_DIS.bits());
    set(registers, CTRL_EXT, CtrlExt::NS_DIS.bits());
    Ok(())
}
