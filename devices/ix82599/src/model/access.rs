//! What reading and writing each register does (8.2.3). Both matches name every register.
//!
//! Registers that are stored and read back without further effect fall into two kinds: those that
//! tune what the model does not have to tune (thresholds, DCA, arbitration, flow control on a wire
//! that knows no pause frames), and filters of features that the model does not have (five-tuple
//! filters, pools), of which none ever matches.

use ixgbe_spec::register::{
    Autoc, Ctrl, Eec, Eemngctl, Eerd, Eicr, Esdp, Fwsm, Msca, Rdrxctl, Rxdctl, SecurityStatus,
    Status, SwFwSync, Swsm, Txdctl,
};

use super::eeprom::EE_SIZE;
use super::interrupts::InterruptSink;
use super::receive::RxQueue;
use super::register::{Register, RxRegister, TxRegister};
use super::transmit::TxQueue;
use super::{Card, Model};
use crate::wire::Wire;

/// I2CCTL: outputs of the device; the bit below each is the same line as an input (8.2.3.1.5).
const I2C_CLOCK_OUT: u32 = 1 << 1;
const I2C_DATA_OUT: u32 = 1 << 3;
/// ANLP1: the state of auto-negotiation, bits 19:16, is not 0: drivers wait for that after a restart.
const ANLP1_STATE_LEFT_IDLE: u32 = 1 << 16;
/// RXMEMWRAP: all packet buffers are empty (8.2.3.8.11).
const RXMEMWRAP_EMPTY: u32 = 0x8888_8888;
const RXMEMWRAP_EMPTY_0: u32 = 1 << 3;

impl<W: Wire, I: InterruptSink> Model<W, I> {
    /// The link follows the wire.
    pub(super) fn follow_link(&mut self) {
        let link_up = self.wire.link_up();
        if link_up != self.state.link_up {
            self.state.link_up = link_up;
            self.state.link_was_down = true;
            if self.config.virtual_function.is_some() {
                self.state.mailbox.announce();
                self.answer_guest();
            } else {
                self.state.interrupts.raise_other(Eicr::LSC);
            }
        }
    }

    pub(super) fn read_register(&mut self, offset: u32) -> u32 {
        if self.config.virtual_function.is_some() {
            return self.read_virtual_register(offset);
        }
        let Some(register) = Register::at(offset) else {
            return 0;
        };
        let state = &mut self.state;
        match register {
            Register::Ctrl => state.ctrl,
            Register::Status => {
                let mut status = Status::empty();
                status.set(Status::LINK_UP, state.link_up);
                status.set(Status::PCIE_MASTER_ENABLE, !state.master_disabled());
                status.bits()
            }
            Register::Esdp => state.stored(offset) | Esdp::SDP2_DATA.bits(),
            // The lines are open-drain: high where neither end pulls.
            Register::I2cctl => {
                let outputs = state.stored(offset) & (I2C_CLOCK_OUT | I2C_DATA_OUT);
                let mut lines = outputs >> 1;
                if !self.sfp.releases_data() {
                    lines &= !(I2C_DATA_OUT >> 1);
                }
                outputs | lines
            }
            Register::Eec => {
                let requested = Eec::from_bits_retain(state.stored(offset)) & Eec::EE_REQ;
                let mut eec = Eec::EE_PRES | Eec::AUTO_RD | requested;
                eec.set(Eec::EE_GNT, !requested.is_empty());
                eec.with_ee_size(EE_SIZE).bits()
            }
            Register::Eerd => state.eerd,
            Register::Eemngctl => (Eemngctl::CFG_DONE0 | Eemngctl::CFG_DONE1).bits(),
            Register::Swsm => {
                let swsm = state.swsm;
                state.swsm |= Swsm::SMBI.bits();
                swsm
            }
            // Firmware that is well and does nothing: mode "none", no error.
            Register::Fwsm => Fwsm::FW_VAL.bits(),
            // No DCA requester, no congestion, no partner, no PHY; and registers only written.
            Register::Factps
            | Register::DcaId
            | Register::Links2
            | Register::Hlreg1
            | Register::Tfcs
            | Register::Eimc
            | Register::EimcEx(_) => 0,
            // An 82599 is modelled without a PHY.
            Register::Msrwd => match self.config.card {
                Card::I82599 => u32::MAX,
                Card::X540 => self.phy.data(),
            },
            Register::SwFwSync => {
                let value = state.stored(offset);
                if self.config.card == Card::X540 {
                    state.store(offset, value | SwFwSync::REGSMP.bits());
                }
                value
            }
            Register::Anlp1 => ANLP1_STATE_LEFT_IDLE,
            Register::Eicr => state.interrupts.read_eicr(),
            Register::Eics => state.interrupts.causes(),
            Register::EicsEx(n) => state.interrupts.causes_ex(n),
            Register::Eims => state.interrupts.eims(),
            Register::Eiac => state.interrupts.eiac(),
            Register::Eiam => state.interrupts.eiam(),
            Register::Gpie => state.interrupts.gpie(),
            Register::IvarMisc => *state.interrupts.ivar_misc(),
            Register::EimsEx(n) => state.interrupts.eims_ex(n),
            Register::EiamEx(n) => state.interrupts.eiam_ex(n),
            Register::Eitr(n) => state.interrupts.eitr(n),
            Register::Ivar(n) => *state.interrupts.ivar(n),
            Register::Fctrl => state.filters.fctrl,
            Register::Vlnctrl => state.filters.vlnctrl,
            Register::Mcstctrl => state.filters.mcstctrl,
            Register::Mta(n) => *state.filters.mta(n),
            Register::Vfta(n) => *state.filters.vfta(n),
            Register::Ral(n) => state.filters.ral(n),
            Register::Rah(n) => state.filters.rah(n),
            Register::Rxcsum => state.rxcsum,
            Register::Mrqc => state.rss.mrqc,
            Register::Rssrk(n) => state.rss.rssrk(n),
            Register::Reta(n) => state.rss.reta(n),
            Register::Flow(register) => state.flow_director.read(register),
            Register::Rdrxctl => state.stored(offset) | Rdrxctl::DMAIDONE.bits(),
            Register::Rxctrl => state.rxctrl,
            Register::Rxmemwrap if state.packet_buffer.is_empty() => RXMEMWRAP_EMPTY,
            Register::Rxmemwrap => RXMEMWRAP_EMPTY & !RXMEMWRAP_EMPTY_0,
            Register::Rx(register, n) => state.rx[usize::from(n)].read(register),
            Register::Dmatxctl => state.dmatxctl,
            Register::Dtxtcpflgl => state.dtxtcpflgl,
            Register::Dtxtcpflgh => state.dtxtcpflgh,
            Register::Tx(register, n) => state.tx[usize::from(n)].read(register),
            Register::Hlreg0 => state.hlreg0,
            Register::Maxfrs => state.maxfrs,
            Register::Autoc => state.autoc,
            Register::Links => state.links(),
            Register::Sectxctrl => state.sectxctrl,
            Register::Secrxctrl => state.secrxctrl,
            // The paths are empty between two register accesses.
            Register::Sectxstat | Register::Secrxstat => SecurityStatus::RDY.bits(),
            Register::Count(counter) => state.statistics.take(counter),
            Register::CountLow(counter) => state.statistics.low(counter),
            Register::CountHigh(counter) => state.statistics.take_high(counter),
            Register::QueueCount(counter, set) => state.statistics.take_queue(counter, set),
            Register::Rqsmr(n) => *state.statistics.rqsmr(n),
            Register::Tqsm(n) => *state.statistics.tqsm(n),
            Register::CtrlExt
            | Register::Ledctl
            | Register::Tcptimer
            | Register::Fla
            | Register::Grc
            | Register::Gcr
            | Register::GcrExt
            | Register::DcaCtrl
            | Register::Eitrsel
            | Register::Pbacl(_)
            | Register::Rfctl
            | Register::Synqf
            | Register::Psrtype(_)
            | Register::Mpsar(_)
            | Register::Ftqf(_)
            | Register::Etqf(_)
            | Register::Etqs(_)
            | Register::Rxpbsize(_)
            | Register::Rscdbu
            | Register::Rtrup2tc
            | Register::Pfvtctl
            | Register::Pfvlvf(_)
            | Register::Pfvlvfb(_)
            | Register::Pfuta(_)
            | Register::Dtxmxszrq
            | Register::Mtqc
            | Register::Rttdcs
            | Register::Rttdqsel
            | Register::Rttdt1c
            | Register::Rttbcnrc
            | Register::Txpbsize(_)
            | Register::Txpbthresh(_)
            | Register::Msca
            | Register::Autoc2
            | Register::Macc
            | Register::Mflcn
            | Register::Fcttv(_)
            | Register::Fcrtl(_)
            | Register::Fcrth(_)
            | Register::Fcrtv
            | Register::Pfctop
            | Register::Fccfg
            | Register::Sectxbuffaf
            | Register::Sectxminifg => state.stored(offset),
        }
    }

    pub(super) fn write_register(&mut self, offset: u32, value: u32) {
        if self.config.virtual_function.is_some() {
            return self.write_virtual_register(offset, value);
        }
        let Some(register) = Register::at(offset) else {
            self.counters.unknown_writes += 1;
            log::debug!("write of {value:#x} to unknown register {offset:#x}");
            return;
        };
        let now_ns = self.now_ns;
        let state = &mut self.state;
        match register {
            Register::Ctrl => self.write_ctrl(value),
            Register::Eerd => {
                let eerd = Eerd::from_bits_retain(value);
                if eerd.contains(Eerd::START) {
                    let data = self.eeprom.word(eerd.addr());
                    state.eerd = ((eerd - Eerd::START).with_data(data) | Eerd::DONE).bits();
                }
            }
            Register::Swsm => state.swsm = value & (Swsm::SMBI | Swsm::SWESMBI).bits(),
            Register::Eicr => state.interrupts.write_eicr(value),
            Register::Eics => state.interrupts.write_eics(value),
            Register::Eims => state.interrupts.write_eims(value),
            Register::Eimc => state.interrupts.write_eimc(value),
            Register::Eiac => state.interrupts.write_eiac(value),
            Register::Eiam => state.interrupts.write_eiam(value),
            Register::Gpie => state.interrupts.write_gpie(value),
            Register::IvarMisc => *state.interrupts.ivar_misc() = value,
            Register::EicsEx(n) => state.interrupts.write_eics_ex(n, value),
            Register::EimsEx(n) => state.interrupts.write_eims_ex(n, value),
            Register::EimcEx(n) => state.interrupts.write_eimc_ex(n, value),
            Register::EiamEx(n) => state.interrupts.write_eiam_ex(n, value),
            Register::Eitr(n) => state.interrupts.write_eitr(n, value, now_ns),
            Register::Ivar(n) => *state.interrupts.ivar(n) = value,
            Register::Fctrl => state.filters.fctrl = value,
            Register::Vlnctrl => state.filters.vlnctrl = value,
            Register::Mcstctrl => state.filters.mcstctrl = value,
            Register::Mta(n) => *state.filters.mta(n) = value,
            Register::Vfta(n) => *state.filters.vfta(n) = value,
            Register::Ral(n) => state.filters.set_ral(n, value),
            Register::Rah(n) => state.filters.set_rah(n, value),
            Register::Rxcsum => state.rxcsum = value,
            Register::Mrqc => state.rss.mrqc = value,
            Register::Rssrk(n) => state.rss.set_rssrk(n, value),
            Register::Reta(n) => state.rss.set_reta(n, value),
            Register::Flow(register) => state.flow_director.write(register, value),
            Register::Rxctrl => state.rxctrl = value,
            Register::Rx(register, n) => self.write_rx(register, usize::from(n), value),
            Register::Dmatxctl => {
                state.dmatxctl = value;
                state.retry_transmit();
            }
            Register::Dtxtcpflgl => state.dtxtcpflgl = value,
            Register::Dtxtcpflgh => state.dtxtcpflgh = value,
            Register::Tx(register, n) => self.write_tx(register, usize::from(n), value),
            Register::Hlreg0 => state.hlreg0 = value,
            Register::Maxfrs => state.maxfrs = value,
            Register::Autoc => self.write_autoc(value),
            Register::Sectxctrl => {
                state.sectxctrl = value;
                state.retry_transmit();
            }
            Register::Secrxctrl => state.secrxctrl = value,
            Register::Rqsmr(n) => *state.statistics.rqsmr(n) = value,
            Register::Tqsm(n) => *state.statistics.tqsm(n) = value,
            Register::Msca => {
                let command = Msca::from_bits_retain(value);
                state.store(offset, (command - Msca::MDICMD).bits());
                if command.contains(Msca::MDICMD) {
                    self.phy.access(command, state.link_up);
                }
            }
            Register::Msrwd => self.phy.set_data(value),
            Register::I2cctl => {
                state.store(offset, value);
                self.sfp
                    .drive(value & I2C_CLOCK_OUT != 0, value & I2C_DATA_OUT != 0);
            }
            // Read only.
            Register::Status
            | Register::Eemngctl
            | Register::Fwsm
            | Register::Factps
            | Register::DcaId
            | Register::Links
            | Register::Links2
            | Register::Hlreg1
            | Register::Anlp1
            | Register::Tfcs
            | Register::Rxmemwrap
            | Register::Sectxstat
            | Register::Secrxstat
            | Register::Count(_)
            | Register::CountLow(_)
            | Register::CountHigh(_)
            | Register::QueueCount(..) => {}
            Register::CtrlExt
            | Register::Esdp
            | Register::Ledctl
            | Register::Tcptimer
            | Register::Eec
            | Register::Fla
            | Register::Grc
            | Register::SwFwSync
            | Register::Gcr
            | Register::GcrExt
            | Register::DcaCtrl
            | Register::Eitrsel
            | Register::Pbacl(_)
            | Register::Rfctl
            | Register::Synqf
            | Register::Psrtype(_)
            | Register::Mpsar(_)
            | Register::Ftqf(_)
            | Register::Etqf(_)
            | Register::Etqs(_)
            | Register::Rdrxctl
            | Register::Rxpbsize(_)
            | Register::Rscdbu
            | Register::Rtrup2tc
            | Register::Pfvtctl
            | Register::Pfvlvf(_)
            | Register::Pfvlvfb(_)
            | Register::Pfuta(_)
            | Register::Dtxmxszrq
            | Register::Mtqc
            | Register::Rttdcs
            | Register::Rttdqsel
            | Register::Rttdt1c
            | Register::Rttbcnrc
            | Register::Txpbsize(_)
            | Register::Txpbthresh(_)
            | Register::Autoc2
            | Register::Macc
            | Register::Mflcn
            | Register::Fcttv(_)
            | Register::Fcrtl(_)
            | Register::Fcrth(_)
            | Register::Fcrtv
            | Register::Pfctop
            | Register::Fccfg
            | Register::Sectxbuffaf
            | Register::Sectxminifg => state.store(offset, value),
        }
    }

    /// CTRL (8.2.3.1.1): both resets are over at once, and read as such. A device reset takes the
    /// other bits of the same write with it, above all the master disable that precedes it.
    fn write_ctrl(&mut self, value: u32) {
        let ctrl = Ctrl::from_bits_retain(value);
        if ctrl.contains(Ctrl::RST) {
            self.reset();
            return;
        }
        if ctrl.contains(Ctrl::LRST) {
            self.restart_link();
        }
        self.state.ctrl = (ctrl - Ctrl::LRST).bits();
        self.state.retry_transmit();
    }

    fn write_autoc(&mut self, value: u32) {
        let autoc = Autoc::from_bits_retain(value);
        self.state.autoc = (autoc - Autoc::RESTART_AN).bits();
        if autoc.contains(Autoc::RESTART_AN) {
            self.restart_link();
        }
    }

    /// The link goes down and comes back at once.
    fn restart_link(&mut self) {
        self.state.link_was_down = true;
        self.state.interrupts.raise_other(Eicr::LSC);
    }

    pub(super) fn write_rx(&mut self, register: RxRegister, number: usize, value: u32) {
        let queue = &mut self.state.rx[number];
        match register {
            RxRegister::Rdbal => queue.ring.set_base_low(value),
            RxRegister::Rdbah => queue.ring.set_base_high(value),
            RxRegister::Rdlen => queue.ring.set_length(value),
            RxRegister::DcaRxctrl => queue.dca_rxctrl = value,
            RxRegister::Rdh => queue.ring.set_head(value),
            RxRegister::Srrctl => queue.srrctl = value,
            RxRegister::Rdt => {
                if !queue.ring.set_tail(value) {
                    self.counters.bad_tails += 1;
                }
            }
            RxRegister::Rxdctl => {
                let rxdctl = Rxdctl::from_bits_retain(value);
                let enable =
                    rxdctl.contains(Rxdctl::ENABLE) && number < self.config.queues as usize;
                queue.rxdctl = (rxdctl - Rxdctl::ENABLE).bits();
                queue.ring.set_enabled(enable);
            }
            RxRegister::Rscctl => queue.rscctl = value,
        }
    }

    pub(super) fn write_tx(&mut self, register: TxRegister, number: usize, value: u32) {
        let queue = &mut self.state.tx[number];
        match register {
            TxRegister::Tdbal => queue.ring.set_base_low(value),
            TxRegister::Tdbah => queue.ring.set_base_high(value),
            TxRegister::Tdlen => queue.ring.set_length(value),
            TxRegister::DcaTxctrl => queue.dca_txctrl = value,
            TxRegister::Tdh => queue.ring.set_head(value),
            TxRegister::Tdt => {
                if !queue.ring.set_tail(value) {
                    self.counters.bad_tails += 1;
                }
                self.state.tx_ready |= 1 << number;
            }
            TxRegister::Txdctl => {
                let txdctl = Txdctl::from_bits_retain(value);
                let enable =
                    txdctl.contains(Txdctl::ENABLE) && number < self.config.queues as usize;
                queue.txdctl = (txdctl - Txdctl::ENABLE - Txdctl::SWFLSH).bits();
                if enable != queue.ring.enabled() {
                    queue.stop();
                }
                queue.ring.set_enabled(enable);
                self.state.tx_ready |= 1 << number;
            }
            TxRegister::Tdwbal => queue.tdwbal = value,
            TxRegister::Tdwbah => queue.tdwbah = value,
        }
    }
}

impl RxQueue {
    pub(super) fn read(&self, register: RxRegister) -> u32 {
        match register {
            RxRegister::Rdbal => self.ring.base_low(),
            RxRegister::Rdbah => self.ring.base_high(),
            RxRegister::Rdlen => self.ring.length(),
            RxRegister::DcaRxctrl => self.dca_rxctrl,
            RxRegister::Rdh => u32::from(self.ring.head()),
            RxRegister::Srrctl => self.srrctl,
            RxRegister::Rdt => u32::from(self.ring.tail()),
            RxRegister::Rxdctl => {
                let mut rxdctl = Rxdctl::from_bits_retain(self.rxdctl);
                rxdctl.set(Rxdctl::ENABLE, self.ring.enabled());
                rxdctl.bits()
            }
            RxRegister::Rscctl => self.rscctl,
        }
    }
}

impl TxQueue {
    pub(super) fn read(&self, register: TxRegister) -> u32 {
        match register {
            TxRegister::Tdbal => self.ring.base_low(),
            TxRegister::Tdbah => self.ring.base_high(),
            TxRegister::Tdlen => self.ring.length(),
            TxRegister::DcaTxctrl => self.dca_txctrl,
            TxRegister::Tdh => u32::from(self.ring.head()),
            TxRegister::Tdt => u32::from(self.ring.tail()),
            TxRegister::Txdctl => {
                let mut txdctl = Txdctl::from_bits_retain(self.txdctl);
                txdctl.set(Txdctl::ENABLE, self.ring.enabled());
                txdctl.bits()
            }
            TxRegister::Tdwbal => self.tdwbal,
            TxRegister::Tdwbah => self.tdwbah,
        }
    }
}
