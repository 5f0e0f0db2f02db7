//! Statistics counters (8.2.3.23). All are cleared by a read; those in two halves are read low
//! half first.

/// FCS errors (8.2.3.23.1).
pub const CRCERRS: u32 = 0x04000;
/// Illegal bytes (8.2.3.23).
pub const ILLERRC: u32 = 0x04004;
/// Error bytes (8.2.3.23).
pub const ERRBC: u32 = 0x04008;
/// Received VLAN packets that the security block dropped for being short (8.2.3.23).
pub const MSPDC: u32 = 0x04010;
/// MAC local faults (8.2.3.23).
pub const MLFC: u32 = 0x04034;
/// MAC remote faults (8.2.3.23).
pub const MRFC: u32 = 0x04038;
/// Frames with a wrong length field (8.2.3.23).
pub const RLEC: u32 = 0x04040;
/// Flow director and RSC: packets dropped by the switch (8.2.3.23).
pub const SSVPC: u32 = 0x08780;
/// XON frames sent (8.2.3.23).
pub const LXONTXC: u32 = 0x03f60;
/// XOFF frames sent (8.2.3.23).
pub const LXOFFTXC: u32 = 0x03f68;
/// XON frames received (8.2.3.23).
pub const LXONRXCNT: u32 = 0x041a4;
/// XOFF frames received (8.2.3.23).
pub const LXOFFRXCNT: u32 = 0x041a8;
/// Good and bad frames received of 64 bytes (8.2.3.23).
pub const PRC64: u32 = 0x0405c;
/// ... of 65 to 127 bytes (8.2.3.23).
pub const PRC127: u32 = 0x04060;
/// ... of 128 to 255 bytes (8.2.3.23).
pub const PRC255: u32 = 0x04064;
/// ... of 256 to 511 bytes (8.2.3.23).
pub const PRC511: u32 = 0x04068;
/// ... of 512 to 1023 bytes (8.2.3.23).
pub const PRC1023: u32 = 0x0406c;
/// ... of 1024 bytes to the maximum (8.2.3.23).
pub const PRC1522: u32 = 0x04070;
/// Good frames received (8.2.3.23).
pub const GPRC: u32 = 0x04074;
/// Broadcast frames received (8.2.3.23).
pub const BPRC: u32 = 0x04078;
/// Multicast frames received (8.2.3.23).
pub const MPRC: u32 = 0x0407c;
/// Good frames sent (8.2.3.23).
pub const GPTC: u32 = 0x04080;
/// Good bytes received, low half, FCS included (8.2.3.23).
pub const GORCL: u32 = 0x04088;
/// Good bytes received, high 4 bits (8.2.3.23).
pub const GORCH: u32 = 0x0408c;
/// Good bytes sent, low half, FCS included (8.2.3.23).
pub const GOTCL: u32 = 0x04090;
/// Good bytes sent, high 4 bits (8.2.3.23).
pub const GOTCH: u32 = 0x04094;
/// Frames received shorter than 64 bytes with a good FCS (8.2.3.23).
pub const RUC: u32 = 0x040a4;
/// Frames received shorter than 64 bytes with a bad FCS (8.2.3.23).
pub const RFC: u32 = 0x040a8;
/// Frames received longer than the maximum with a good FCS (8.2.3.23).
pub const ROC: u32 = 0x040ac;
/// Frames received longer than the maximum with a bad FCS (8.2.3.23).
pub const RJC: u32 = 0x040b0;
/// Manageability frames received (8.2.3.23).
pub const MNGPRC: u32 = 0x040b4;
/// Manageability frames dropped (8.2.3.23).
pub const MNGPDC: u32 = 0x040b8;
/// Manageability frames sent (8.2.3.23).
pub const MNGPTC: u32 = 0x0cf90;
/// Bytes received of any frames, low half (8.2.3.23).
pub const TORL: u32 = 0x040c0;
/// Bytes received of any frames, high 4 bits (8.2.3.23).
pub const TORH: u32 = 0x040c4;
/// Frames received of any kind (8.2.3.23).
pub const TPR: u32 = 0x040d0;
/// Frames sent of any kind (8.2.3.23).
pub const TPT: u32 = 0x040d4;
/// Frames sent of 64 bytes (8.2.3.23).
pub const PTC64: u32 = 0x040d8;
/// ... of 65 to 127 bytes (8.2.3.23).
pub const PTC127: u32 = 0x040dc;
/// ... of 128 to 255 bytes (8.2.3.23).
pub const PTC255: u32 = 0x040e0;
/// ... of 256 to 511 bytes (8.2.3.23).
pub const PTC511: u32 = 0x040e4;
/// ... of 512 to 1023 bytes (8.2.3.23).
pub const PTC1023: u32 = 0x040e8;
/// ... of 1024 bytes and more (8.2.3.23).
pub const PTC1522: u32 = 0x040ec;
/// Multicast frames sent (8.2.3.23).
pub const MPTC: u32 = 0x040f0;
/// Broadcast frames sent (8.2.3.23).
pub const BPTC: u32 = 0x040f4;
/// IPv4 header, TCP or UDP checksum errors received (8.2.3.23).
pub const XEC: u32 = 0x04120;
/// Frames that passed the receive filters into memory (8.2.3.23).
pub const RXDGPC: u32 = 0x02f50;
/// Bytes in them, low half (8.2.3.23).
pub const RXDGBCL: u32 = 0x02f54;
/// Bytes in them, high 4 bits (8.2.3.23).
pub const RXDGBCH: u32 = 0x02f58;
/// Good frames received that no filter looked at yet (8.2.3.23).
pub const RXNFGPC: u32 = 0x041b0;
/// Bytes in them, low half (8.2.3.23).
pub const RXNFGBCL: u32 = 0x041b4;
/// Bytes in them, high 4 bits (8.2.3.23).
pub const RXNFGBCH: u32 = 0x041b8;
/// Frames that DMA took from memory for transmission (8.2.3.23).
pub const TXDGPC: u32 = 0x087a0;
/// Bytes in them, low half (8.2.3.23).
pub const TXDGBCL: u32 = 0x087a4;
/// Bytes in them, high 4 bits (8.2.3.23).
pub const TXDGBCH: u32 = 0x087a8;
/// FCoE frames with a bad CRC (8.2.3.23).
pub const FCCRC: u32 = 0x05118;
/// FCoE frames dropped (8.2.3.23).
pub const FCOERPDC: u32 = 0x0241c;

/// Frames missed for want of packet buffer, of a traffic class, `n` 0 to 7 (8.2.3.23).
pub const fn rxmpc(n: u32) -> u32 {
    0x03fa0 + 4 * n
}

/// Which counter each of the receive queues 4n to 4n + 3 uses, a byte each, `n` 0 to 31
/// (8.2.3.23.71).
pub const fn rqsmr(n: u32) -> u32 {
    0x02300 + 4 * n
}

/// Which counter each of the transmit queues 4n to 4n + 3 uses, a byte each, `n` 0 to 31
/// (8.2.3.23.73).
pub const fn tqsm(n: u32) -> u32 {
    0x08600 + 4 * n
}

/// Frames received by the queues of a counter, `counter` 0 to 15 (8.2.3.23).
pub const fn qprc(counter: u32) -> u32 {
    0x01030 + 0x40 * counter
}

/// Frames dropped for want of a descriptor, by the queues of a counter, 0 to 15 (8.2.3.23.75).
pub const fn qprdc(counter: u32) -> u32 {
    0x01430 + 0x40 * counter
}

/// Bytes received by the queues of a counter, low half, 0 to 15 (8.2.3.23).
pub const fn qbrc_l(counter: u32) -> u32 {
    0x01034 + 0x40 * counter
}

/// Bytes received by the queues of a counter, high 4 bits, 0 to 15 (8.2.3.23).
pub const fn qbrc_h(counter: u32) -> u32 {
    0x01038 + 0x40 * counter
}

/// Frames sent by the queues of a counter, 0 to 15 (8.2.3.23).
pub const fn qptc(counter: u32) -> u32 {
    0x08680 + 4 * counter
}

/// Address of [`qptc`] kept for the 82598 (8.2.3.23).
pub const fn qptc_alias(counter: u32) -> u32 {
    0x06030 + 0x40 * counter
}

/// Bytes sent by the queues of a counter, low half, 0 to 15 (8.2.3.23).
pub const fn qbtc_l(counter: u32) -> u32 {
    0x08700 + 8 * counter
}

/// Bytes sent by the queues of a counter, high 4 bits, 0 to 15 (8.2.3.23).
pub const fn qbtc_h(counter: u32) -> u32 {
    0x08704 + 8 * counter
}

/// Number of counters that queues are mapped to.
pub const QUEUE_COUNTERS: u32 = 16;
