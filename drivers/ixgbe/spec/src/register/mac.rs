//! MAC, link and flow control (8.2.3.22, 8.2.3.3), and the security block in the data path
//! (8.2.3.12).

use super::{field, with_field};
use bitflags::bitflags;

/// MAC core control 0 (8.2.3.22.8).
pub const HLREG0: u32 = 0x04240;
/// MAC core status 1 (8.2.3.22.9).
pub const HLREG1: u32 = 0x04244;
/// MDI single command and address (8.2.3.22.11).
pub const MSCA: u32 = 0x0425c;
/// MDI single read and write data (8.2.3.22.12).
pub const MSRWD: u32 = 0x04260;
/// Max frame size (8.2.3.22.13).
pub const MAXFRS: u32 = 0x04268;
/// Auto-negotiation control (8.2.3.22.19).
pub const AUTOC: u32 = 0x042a0;
/// Link status (8.2.3.22.20).
pub const LINKS: u32 = 0x042a4;
/// Link status 2 (8.2.3.22.21).
pub const LINKS2: u32 = 0x04324;
/// Auto-negotiation control 2 (8.2.3.22.22).
pub const AUTOC2: u32 = 0x042a8;
/// MAC control (8.2.3.22).
pub const MACC: u32 = 0x04330;
/// MAC flow control (8.2.3.22.34).
pub const MFLCN: u32 = 0x04294;

/// Flow control transmit timer, `n` 0 to 3 (8.2.3.3.2).
pub const fn fcttv(n: u32) -> u32 {
    0x03200 + 4 * n
}

/// Flow control receive threshold low, `n` 0 to 7 (8.2.3.3.3).
pub const fn fcrtl(n: u32) -> u32 {
    0x03220 + 4 * n
}

/// Flow control receive threshold high, `n` 0 to 7 (8.2.3.3.4).
pub const fn fcrth(n: u32) -> u32 {
    0x03260 + 4 * n
}

/// Link partner's first word of auto-negotiation, and its state machine's state (8.2.3.22.27).
pub const ANLP1: u32 = 0x042b0;
/// EtherType and opcode of priority flow control frames (8.2.3.3.1).
pub const PFCTOP: u32 = 0x03008;
/// Flow control refresh threshold (8.2.3.3.5).
pub const FCRTV: u32 = 0x032a0;
/// Transmit flow control status (8.2.3.3.6).
pub const TFCS: u32 = 0x0ce00;
/// Flow control configuration (8.2.3.3.7).
pub const FCCFG: u32 = 0x03d00;

/// Security transmit control (8.2.3.12.1).
pub const SECTXCTRL: u32 = 0x08800;
/// Security transmit status (8.2.3.12.2).
pub const SECTXSTAT: u32 = 0x08804;
/// Security transmit buffer almost full (8.2.3.12.3).
pub const SECTXBUFFAF: u32 = 0x08808;
/// Security transmit minimum inter-frame gap (8.2.3.12.4).
pub const SECTXMINIFG: u32 = 0x08810;
/// Security receive control (8.2.3.12.5).
pub const SECRXCTRL: u32 = 0x08d00;
/// Security receive status (8.2.3.12.6).
pub const SECRXSTAT: u32 = 0x08d04;

bitflags! {
    /// Bits of [`HLREG0`] (8.2.3.22.8).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Hlreg0: u32 {
        /// The MAC appends the FCS to frames whose descriptor asks for it.
        const TXCRCEN = 1 << 0;
        /// The MAC strips the FCS; must agree with RDRXCTL.CRCStrip.
        const RXCRCSTRP = 1 << 1;
        /// Frames up to MAXFRS pass instead of up to 1518 bytes.
        const JUMBOEN = 1 << 2;
        /// Short frames are padded to 64 bytes; needs TXCRCEN.
        const TXPADEN = 1 << 10;
        /// Loops transmitted frames back at the MAC.
        const LPBK = 1 << 15;
        /// MDC runs at 24 MHz at 10 Gb/s.
        const MDCSPD = 1 << 16;
        /// MDC runs all the time.
        const CONTMDC = 1 << 17;
        /// Frames whose length field disagrees with their length are errors.
        const RXLNGTHERREN = 1 << 27;
        /// The MAC strips padding of short frames.
        const RXPADSTRIPEN = 1 << 28;
        const _ = !0;
    }
}

bitflags! {
    /// Bits of [`LINKS`] (8.2.3.22.20).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Links: u32 {
        /// Link_Status: whether the link is up, zero if it was down since the last read.
        const LINK_STATUS = 1 << 7;
        /// X550: LINK_SPEED names one of the speeds between, 2.5 and 5 Gb/s.
        const SPEED_BETWEEN = 1 << 27;
        /// Link up: the link is up now.
        const LINK_UP = 1 << 30;
        /// Auto-negotiation completed.
        const AN_COMPLETED = 1 << 31;
        const _ = !0;
    }
}

impl Links {
    /// LINK_SPEED: 1 is 100 Mb/s, 2 is 1 Gb/s, 3 is 10 Gb/s.
    pub const fn link_speed(self) -> u32 {
        field(self.bits(), 28, 2)
    }

    /// Replaces LINK_SPEED.
    pub const fn with_link_speed(self, speed: u32) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 28, 2, speed))
    }

    /// The speed in Mb/s, 0 if the field is reserved.
    pub const fn megabits(self) -> u32 {
        match self.link_speed() {
            1 => 100,
            2 => 1_000,
            3 => 10_000,
            _ => 0,
        }
    }

    /// The same on an X550, which knows more speeds.
    pub const fn megabits_x550(self) -> u32 {
        match (self.contains(Self::SPEED_BETWEEN), self.link_speed()) {
            (true, 3) => 2_500,
            (true, 1) => 5_000,
            _ => self.megabits(),
        }
    }
}

bitflags! {
    /// Bits of [`AUTOC`] (8.2.3.22.19).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Autoc: u32 {
        /// Force link up: the link state does not wait for a peer.
        const FLU = 1 << 0;
        /// Restarts auto-negotiation and applies the other fields. Clears itself.
        const RESTART_AN = 1 << 12;
        /// 1 Gb/s over KX is offered.
        const KX_SUPPORT = 1 << 30;
        /// 10 Gb/s over KX4 is offered.
        const KX4_SUPPORT = 1 << 31;
        const _ = !0;
    }
}

/// Link mode select of [`Autoc`] (8.2.3.22.19).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum LinkMode {
    /// 1 GbE without backplane auto-negotiation.
    OneGigabit = 0,
    /// 10 GbE over four lanes (KX4, CX4, XAUI) without auto-negotiation.
    TenGigabitParallel = 1,
    /// 1 GbE with clause 37 auto-negotiation.
    OneGigabitClause37 = 2,
    /// 10 GbE over one lane (SFI, KR) without auto-negotiation.
    TenGigabitSerial = 3,
    /// KX, KX4 and KR with auto-negotiation.
    Backplane = 4,
    /// 100 Mb/s or 1 Gb/s over SGMII.
    Sgmii = 5,
    /// KX, KX4 and KR with auto-negotiation, 1 Gb/s by clause 37.
    BackplaneClause37 = 6,
    /// KX, KX4 and KR with auto-negotiation, SGMII below.
    BackplaneSgmii = 7,
}

impl Autoc {
    /// LMS: link mode select.
    pub const fn link_mode(self) -> LinkMode {
        match field(self.bits(), 13, 3) {
            0 => LinkMode::OneGigabit,
            1 => LinkMode::TenGigabitParallel,
            2 => LinkMode::OneGigabitClause37,
            3 => LinkMode::TenGigabitSerial,
            4 => LinkMode::Backplane,
            5 => LinkMode::Sgmii,
            6 => LinkMode::BackplaneClause37,
            _ => LinkMode::BackplaneSgmii,
        }
    }

    /// Replaces LMS.
    pub const fn with_link_mode(self, mode: LinkMode) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 13, 3, mode as u32))
    }

    /// 10G_PMA_PMD_PARALLEL: 0 XAUI, 1 KX4, 2 CX4.
    pub const fn parallel_pma(self) -> u32 {
        field(self.bits(), 7, 2)
    }
}

bitflags! {
    /// Bits of [`MSCA`] (8.2.3.22.11).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Msca: u32 {
        /// MDICMD: starts the access. Clears itself.
        const MDICMD = 1 << 30;
        const _ = !0;
    }
}

impl Msca {
    /// OPCODE value: the address of the access that follows.
    pub const OPCODE_ADDRESS: u32 = 0;
    /// OPCODE value: writes MSRWD.
    pub const OPCODE_WRITE: u32 = 1;
    /// OPCODE value: reads into MSRWD.
    pub const OPCODE_READ: u32 = 3;

    /// NP_ADDR: the register, in an address cycle.
    pub const fn np_addr(self) -> u32 {
        field(self.bits(), 0, 16)
    }

    /// Replaces NP_ADDR.
    pub const fn with_np_addr(self, register: u32) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 0, 16, register))
    }

    /// DEV_TYPE: the device in the PHY.
    pub const fn devtype(self) -> u32 {
        field(self.bits(), 16, 5)
    }

    /// Replaces DEV_TYPE.
    pub const fn with_devtype(self, device: u32) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 16, 5, device))
    }

    /// PHY_ADDR: the PHY.
    pub const fn phy_addr(self) -> u32 {
        field(self.bits(), 21, 5)
    }

    /// Replaces PHY_ADDR.
    pub const fn with_phy_addr(self, phy: u32) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 21, 5, phy))
    }

    /// OPCODE.
    pub const fn opcode(self) -> u32 {
        field(self.bits(), 26, 2)
    }

    /// Replaces OPCODE.
    pub const fn with_opcode(self, opcode: u32) -> Self {
        Self::from_bits_retain(with_field(self.bits(), 26, 2, opcode))
    }
}

/// MAXFRS.MFS: the longest frame in bytes, FCS included (8.2.3.22.13).
pub const fn maxfrs_mfs(register: u32) -> u32 {
    field(register, 16, 16)
}

/// `register` with MAXFRS.MFS replaced (8.2.3.22.13).
pub const fn with_maxfrs_mfs(register: u32, bytes: u32) -> u32 {
    with_field(register, 16, 16, bytes)
}

bitflags! {
    /// Bits of [`MFLCN`] (8.2.3.22.34).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Mflcn: u32 {
        /// Pass MAC control frames to the host.
        const PMCF = 1 << 0;
        /// Discard pause frames.
        const DPF = 1 << 1;
        /// Obey priority flow control.
        const RPFCE = 1 << 2;
        /// Obey pause frames.
        const RFCE = 1 << 3;
        const _ = !0;
    }
}

bitflags! {
    /// Bits of [`SECTXCTRL`] (8.2.3.12.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Sectxctrl: u32 {
        /// The block is off and frames pass through.
        const SECTX_DIS = 1 << 0;
        /// Stops the transmit path, so that the block can be changed.
        const TX_DIS = 1 << 1;
        /// Frames are stored whole before they are forwarded.
        const STORE_FORWARD = 1 << 2;
        const _ = !0;
    }
}

bitflags! {
    /// Bits of [`SECRXCTRL`] (8.2.3.12.5).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Secrxctrl: u32 {
        /// The block is off and frames pass through.
        const SECRX_DIS = 1 << 0;
        /// Stops the receive path, so that it can be changed.
        const RX_DIS = 1 << 1;
        const _ = !0;
    }
}

bitflags! {
    /// Bits of [`SECRXSTAT`] and [`SECTXSTAT`] (8.2.3.12.2, 8.2.3.12.6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SecurityStatus: u32 {
        /// The path is stopped and empty.
        const RDY = 1 << 0;
        /// The block is fused off.
        const OFF_DIS = 1 << 1;
        /// A memory error in the block.
        const ECC_ERR = 1 << 2;
        const _ = !0;
    }
}
