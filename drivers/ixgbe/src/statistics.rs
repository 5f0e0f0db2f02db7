//! The port's statistics counters (8.2.3.23), which clear when read and are summed up here.

use ix_hal::Mmio;
use ixgbe_spec::QUEUES;
use ixgbe_spec::register::*;

/// What the port counted since the device was initialised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStatistics {
    /// Good frames received.
    pub rx_frames: u64,
    /// Bytes in them, FCS included.
    pub rx_bytes: u64,
    /// Good frames sent.
    pub tx_frames: u64,
    /// Bytes in them, FCS included.
    pub tx_bytes: u64,
    /// Frames that no filter let in: to another station, to a multicast address that nobody joined,
    /// or of another VLAN.
    pub rx_filtered: u64,
    /// Frames received with a wrong FCS.
    pub rx_crc_errors: u64,
    /// Frames received with a wrong length field, too short, or too long.
    pub rx_length_errors: u64,
    /// Frames received with a wrong IPv4, TCP or UDP checksum.
    pub rx_checksum_errors: u64,
    /// Frames missed for want of packet buffer. Those missed for want of a descriptor are counted
    /// by queue.
    pub rx_missed: u64,
}

/// 4.6.5: queue `n` counts in counter `n` for the first 16, and all counters are read once, which
/// clears them.
pub(crate) fn set_up<R: Mmio>(registers: &R) {
    for n in 0..QUEUES / 4 {
        let first = n * 4;
        let map = if first < QUEUE_COUNTERS {
            u32::from_le_bytes([0, 1, 2, 3].map(|queue| first as u8 + queue))
        } else {
            0
        };
        registers.write32(rqsmr(n), map);
        registers.write32(tqsm(n), map);
    }
    for counter in 0..QUEUE_COUNTERS {
        for offset in [
            qprc(counter),
            qprdc(counter),
            qbrc_l(counter),
            qbrc_h(counter),
            qptc(counter),
            qbtc_l(counter),
            qbtc_h(counter),
        ] {
            registers.read32(offset);
        }
    }
    read(registers);
}

/// Reads the port's counters, and with it clears them.
fn read(registers: &impl Mmio) -> PortStatistics {
    let counter = |offset| u64::from(registers.read32(offset));
    // The low half is read first; that latches the high one (8.2.3.23).
    let wide = |low, high| counter(low) | (counter(high) & 0xf) << 32;
    let rx_frames = counter(GPRC);
    let rx_crc_errors = counter(CRCERRS);
    let rx_length_errors = [RLEC, RUC, RFC, ROC, RJC].map(counter).iter().sum();
    // TPR counts whatever came, GPRC what a filter let in.
    let refused = counter(TPR).saturating_sub(rx_frames);
    PortStatistics {
        rx_frames,
        rx_filtered: refused.saturating_sub(rx_crc_errors + rx_length_errors),
        rx_bytes: wide(GORCL, GORCH),
        tx_frames: counter(GPTC),
        tx_bytes: wide(GOTCL, GOTCH),
        rx_crc_errors,
        rx_length_errors,
        rx_checksum_errors: counter(XEC),
        rx_missed: (0..8).map(|n| counter(rxmpc(n))).sum(),
    }
}

impl PortStatistics {
    /// Adds what the port counted since the last time, or since the device was initialised. The
    /// hardware counters stop at their maximum, so that this is to be done every few seconds at full
    /// rate.
    pub fn update(&mut self, registers: &impl Mmio) {
        let new = read(registers);
        self.rx_frames += new.rx_frames;
        self.rx_bytes += new.rx_bytes;
        self.tx_frames += new.tx_frames;
        self.tx_bytes += new.tx_bytes;
        self.rx_filtered += new.rx_filtered;
        self.rx_crc_errors += new.rx_crc_errors;
        self.rx_length_errors += new.rx_length_errors;
        self.rx_checksum_errors += new.rx_checksum_errors;
        self.rx_missed += new.rx_missed;
    }
}
