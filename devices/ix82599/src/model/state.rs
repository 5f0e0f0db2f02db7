//! Everything that a reset resets, with the values it resets to.

use std::collections::VecDeque;

use ixgbe_spec::QUEUES;
use ixgbe_spec::register::{
    self as reg, Autoc, Ctrl, Dmatxctl, Hlreg0, LinkMode, Links, Rdrxctl, Rxctrl, Secrxctrl,
    Sectxctrl,
};

use super::ModelConfig;
use super::filters::Filters;
use super::flow_director::FlowDirector;
use super::interrupts::Interrupts;
use super::packet_buffer::PacketBuffer;
use super::receive::{Blocked, RxQueue};
use super::rss::Rss;
use super::statistics::Statistics;
use super::transmit::TxQueue;
use super::virtual_function::{Guest, Mailbox};

/// The device apart from its configuration space, EEPROM and surroundings.
#[derive(Debug)]
pub(super) struct State {
    pub(super) ctrl: u32,
    pub(super) eerd: u32,
    pub(super) swsm: u32,
    pub(super) autoc: u32,
    pub(super) dmatxctl: u32,
    pub(super) rxctrl: u32,
    pub(super) sectxctrl: u32,
    pub(super) secrxctrl: u32,
    pub(super) link_up: bool,
    /// The link was down since LINKS was last read.
    pub(super) link_was_down: bool,
    pub(super) hlreg0: u32,
    pub(super) maxfrs: u32,
    pub(super) rxcsum: u32,
    pub(super) dtxtcpflgl: u32,
    pub(super) dtxtcpflgh: u32,
    pub(super) filters: Filters,
    pub(super) flow_director: FlowDirector,
    pub(super) rss: Rss,
    pub(super) interrupts: Interrupts,
    pub(super) statistics: Statistics,
    pub(super) rx: Vec<RxQueue>,
    pub(super) tx: Vec<TxQueue>,
    /// Transmit queues that may have something to send.
    pub(super) tx_ready: u128,
    /// The queue whose turn it is first.
    pub(super) tx_first: u32,
    /// Room for a segment of a large frame.
    pub(super) tx_segment: Vec<u8>,
    /// Frames that the MAC sends back to itself, with HLREG0.LPBK (3.7.9.1).
    pub(super) looped: VecDeque<Vec<u8>>,
    pub(super) packet_buffer: PacketBuffer,
    pub(super) blocked: Option<Blocked>,
    /// Of a virtual function.
    pub(super) mailbox: Mailbox,
    pub(super) guest: Guest,
    /// Registers without effect, by offset.
    stored: Vec<u32>,
}

impl State {
    /// Reset values are those of 8.2.3; AUTOC and RAL0 are loaded from the EEPROM.
    pub(super) fn new(config: &ModelConfig, link_up: bool) -> Self {
        let queue = RxQueue {
            // 2 KB buffers, 256-byte headers.
            srrctl: reg::Srrctl::empty()
                .with_bsizepacket(2)
                .with_bsizeheader(4)
                .bits(),
            ..RxQueue::default()
        };
        let mut state = Self {
            ctrl: 0,
            eerd: 0,
            swsm: 0,
            autoc: Autoc::empty()
                .with_link_mode(LinkMode::TenGigabitSerial)
                .bits(),
            dmatxctl: 0,
            rxctrl: 0,
            sectxctrl: Sectxctrl::SECTX_DIS.bits(),
            secrxctrl: Secrxctrl::SECRX_DIS.bits(),
            link_up,
            link_was_down: false,
            hlreg0: (Hlreg0::TXCRCEN
                | Hlreg0::RXCRCSTRP
                | Hlreg0::TXPADEN
                | Hlreg0::MDCSPD
                | Hlreg0::RXLNGTHERREN)
                .bits(),
            maxfrs: reg::with_maxfrs_mfs(0, 1518),
            rxcsum: 0,
            dtxtcpflgl: 0x0ff6_0ff6,
            dtxtcpflgh: 0x0000_0f7f,
            filters: Filters::new(config.mac),
            flow_director: FlowDirector::new(),
            rss: Rss::new(),
            interrupts: Interrupts::new(),
            statistics: Statistics::new(),
            rx: vec![queue; QUEUES as usize],
            tx: (0..QUEUES).map(|_| TxQueue::default()).collect(),
            tx_ready: 0,
            tx_first: 0,
            tx_segment: Vec::new(),
            looped: VecDeque::new(),
            packet_buffer: PacketBuffer::default(),
            blocked: None,
            mailbox: Mailbox::new(),
            guest: Guest::new(),
            stored: vec![0; reg::BAR0_BYTES as usize / 4],
        };
        state.store(reg::rxpbsize(0), reg::rxpbsize_of(512));
        state.store(reg::txpbsize(0), reg::txpbsize_of(160));
        let rdrxctl = Rdrxctl::empty().with_rscfrstsize(8);
        state.store(reg::RDRXCTL, rdrxctl.bits());
        state
    }

    /// Whether frames from the wire go on at all.
    pub(super) fn receive_enabled(&self) -> bool {
        self.rxctrl & Rxctrl::RXEN.bits() != 0
            && self.secrxctrl & Secrxctrl::RX_DIS.bits() == 0
            && !self.master_disabled()
    }

    /// Whether frames go out at all.
    pub(super) fn transmit_enabled(&self) -> bool {
        self.dmatxctl & Dmatxctl::TE.bits() != 0
            && self.sectxctrl & Sectxctrl::TX_DIS.bits() == 0
            && !self.master_disabled()
    }

    pub(super) fn master_disabled(&self) -> bool {
        self.ctrl & Ctrl::PCIE_MASTER_DISABLE.bits() != 0
    }

    /// Whether the packet buffer takes a frame of `bytes` more.
    pub(super) fn packet_buffer_has_room(&self, bytes: usize) -> bool {
        let kilobytes = reg::rxpbsize_kilobytes(self.stored(reg::rxpbsize(0)));
        self.packet_buffer
            .has_room(bytes, kilobytes as usize * 1024)
    }

    /// All enabled transmit queues are looked at again: something that held them up has changed.
    pub(super) fn retry_transmit(&mut self) {
        self.tx_ready = u128::MAX;
    }

    pub(super) fn stored(&self, offset: u32) -> u32 {
        self.stored
            .get(offset as usize / 4)
            .copied()
            .unwrap_or_default()
    }

    pub(super) fn store(&mut self, offset: u32, value: u32) {
        if let Some(place) = self.stored.get_mut(offset as usize / 4) {
            *place = value;
        }
    }

    pub(super) fn links(&mut self) -> u32 {
        let mut links = Links::empty();
        if self.link_up {
            links |= Links::LINK_UP.with_link_speed(3);
            links.set(Links::LINK_STATUS, !self.link_was_down);
        }
        self.link_was_down = !self.link_up;
        let mode = Autoc::from_bits_retain(self.autoc).link_mode();
        let negotiates = matches!(
            mode,
            LinkMode::Backplane | LinkMode::BackplaneClause37 | LinkMode::BackplaneSgmii
        );
        links.set(Links::AN_COMPLETED, negotiates && self.link_up);
        links.bits()
    }
}
