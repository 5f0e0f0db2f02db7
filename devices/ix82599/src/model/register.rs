//! Which register lies at which offset of BAR 0.
//!
//! [`Register`] names every register that the model knows; what a read or a write of it does is
//! decided in `access`, by matches that name each of them, so that a new register does not compile
//! before both are decided. Offsets come from the vocabulary crate, with the sections of the
//! datasheet.

use std::sync::LazyLock;

use ixgbe_spec::register as reg;

use super::flow_director::FlowRegister;
use super::statistics::{Counter, WideCounter};

/// A register; the number tells which of several alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    // Control, status, EEPROM, semaphores (8.2.3.1, 8.2.3.2, 8.2.3.4).
    Ctrl,
    Status,
    CtrlExt,
    Esdp,
    I2cctl,
    Ledctl,
    Tcptimer,
    Eec,
    Eerd,
    Fla,
    Eemngctl,
    Grc,
    Swsm,
    Fwsm,
    SwFwSync,
    Factps,
    Gcr,
    GcrExt,
    DcaId,
    DcaCtrl,
    // Interrupts (8.2.3.5).
    Eicr,
    Eics,
    Eims,
    Eimc,
    Eiac,
    Eiam,
    Eitrsel,
    IvarMisc,
    Gpie,
    Pbacl(u8),
    EicsEx(u8),
    EimsEx(u8),
    EimcEx(u8),
    EiamEx(u8),
    Eitr(u8),
    Ivar(u8),
    // Receive (8.2.3.7, 8.2.3.8, 8.2.3.21, 8.2.3.27).
    Fctrl,
    Vlnctrl,
    Mcstctrl,
    Rxcsum,
    Rfctl,
    Mrqc,
    Synqf,
    Flow(FlowRegister),
    Psrtype(u8),
    Mta(u8),
    Ral(u8),
    Rah(u8),
    Mpsar(u8),
    Vfta(u8),
    Rssrk(u8),
    Reta(u8),
    Ftqf(u8),
    Etqf(u8),
    Etqs(u8),
    Rdrxctl,
    Rxpbsize(u8),
    Rxctrl,
    Rxmemwrap,
    Rscdbu,
    Rtrup2tc,
    Pfvtctl,
    Pfvlvf(u8),
    Pfvlvfb(u8),
    Pfuta(u8),
    Rx(RxRegister, u8),
    // Transmit (8.2.3.9, 8.2.3.10).
    Dtxmxszrq,
    Dmatxctl,
    Dtxtcpflgl,
    Dtxtcpflgh,
    Mtqc,
    Rttdcs,
    Rttdqsel,
    Rttdt1c,
    Rttbcnrc,
    Txpbsize(u8),
    Txpbthresh(u8),
    Tx(TxRegister, u8),
    // MAC, link, flow control (8.2.3.22, 8.2.3.3), security (8.2.3.12).
    Hlreg0,
    Hlreg1,
    Msca,
    Msrwd,
    Maxfrs,
    Autoc,
    Links,
    Links2,
    Autoc2,
    Macc,
    Mflcn,
    Fcttv(u8),
    Fcrtl(u8),
    Fcrth(u8),
    Fcrtv,
    Pfctop,
    Anlp1,
    Tfcs,
    Fccfg,
    Sectxctrl,
    Sectxstat,
    Sectxbuffaf,
    Sectxminifg,
    Secrxctrl,
    Secrxstat,
    // Statistics (8.2.3.23).
    Count(Counter),
    CountLow(WideCounter),
    CountHigh(WideCounter),
    QueueCount(QueueCounter, u8),
    Rqsmr(u8),
    Tqsm(u8),
}

/// A register of a receive queue (8.2.3.8, 8.2.3.11.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RxRegister {
    Rdbal,
    Rdbah,
    Rdlen,
    DcaRxctrl,
    Rdh,
    Srrctl,
    Rdt,
    Rxdctl,
    Rscctl,
}

/// A register of a transmit queue (8.2.3.9, 8.2.3.11.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TxRegister {
    Tdbal,
    Tdbah,
    Tdlen,
    DcaTxctrl,
    Tdh,
    Tdt,
    Txdctl,
    Tdwbal,
    Tdwbah,
}

/// A statistics register of one of the 16 sets that queues are mapped to (8.2.3.23).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueCounter {
    Qprc,
    Qprdc,
    QbrcLow,
    QbrcHigh,
    Qptc,
    QbtcLow,
    QbtcHigh,
}

impl Register {
    /// The register at `offset`; `None` if the model knows none there.
    pub(super) fn at(offset: u32) -> Option<Self> {
        if !offset.is_multiple_of(4) {
            return None;
        }
        *MAP.get(offset as usize / 4)?
    }
}

static MAP: LazyLock<Vec<Option<Register>>> = LazyLock::new(|| {
    let mut map = Map(vec![None; reg::BAR0_BYTES as usize / 4]);
    map.general();
    map.interrupts();
    map.receive();
    map.flow_director();
    map.transmit();
    map.mac();
    map.statistics();
    map.0
});

struct Map(Vec<Option<Register>>);

impl Map {
    fn one(&mut self, offset: u32, register: Register) {
        let place = &mut self.0[offset as usize / 4];
        assert_eq!(*place, None, "two registers at {offset:#x}");
        *place = Some(register);
    }

    fn many(&mut self, offset: fn(u32) -> u32, count: u32, register: impl Fn(u8) -> Register) {
        for number in 0..count {
            // The datasheet's arrays have at most 256 registers.
            self.one(offset(number), register(number as u8));
        }
    }

    fn general(&mut self) {
        self.one(reg::CTRL, Register::Ctrl);
        self.one(reg::CTRL_ALIAS, Register::Ctrl);
        self.one(reg::STATUS, Register::Status);
        self.one(reg::CTRL_EXT, Register::CtrlExt);
        self.one(reg::ESDP, Register::Esdp);
        self.one(reg::I2CCTL, Register::I2cctl);
        self.one(reg::LEDCTL, Register::Ledctl);
        self.one(reg::TCPTIMER, Register::Tcptimer);
        self.one(reg::EEC, Register::Eec);
        self.one(reg::EERD, Register::Eerd);
        self.one(reg::FLA, Register::Fla);
        self.one(reg::EEMNGCTL, Register::Eemngctl);
        self.one(reg::GRC, Register::Grc);
        self.one(reg::SWSM, Register::Swsm);
        self.one(reg::FWSM, Register::Fwsm);
        self.one(reg::SW_FW_SYNC, Register::SwFwSync);
        self.one(reg::FACTPS, Register::Factps);
        self.one(reg::GCR, Register::Gcr);
        self.one(reg::GCR_EXT, Register::GcrExt);
        self.one(reg::DCA_ID, Register::DcaId);
        self.one(reg::DCA_CTRL, Register::DcaCtrl);
    }

    fn interrupts(&mut self) {
        self.one(reg::EICR, Register::Eicr);
        self.one(reg::EICS, Register::Eics);
        self.one(reg::EIMS, Register::Eims);
        self.one(reg::EIMC, Register::Eimc);
        self.one(reg::EIAC, Register::Eiac);
        self.one(reg::EIAM, Register::Eiam);
        self.one(reg::EITRSEL, Register::Eitrsel);
        self.one(reg::IVAR_MISC, Register::IvarMisc);
        self.one(reg::GPIE, Register::Gpie);
        self.many(reg::pbacl, 8, Register::Pbacl);
        self.many(reg::eics_ex, 2, Register::EicsEx);
        self.many(reg::eims_ex, 2, Register::EimsEx);
        self.many(reg::eimc_ex, 2, Register::EimcEx);
        self.many(reg::eiam_ex, 2, Register::EiamEx);
        self.many(reg::eitr, 129, Register::Eitr);
        self.many(reg::ivar, 64, Register::Ivar);
    }

    fn receive(&mut self) {
        self.one(reg::FCTRL, Register::Fctrl);
        self.one(reg::VLNCTRL, Register::Vlnctrl);
        self.one(reg::MCSTCTRL, Register::Mcstctrl);
        self.one(reg::RXCSUM, Register::Rxcsum);
        self.one(reg::RFCTL, Register::Rfctl);
        self.one(reg::MRQC, Register::Mrqc);
        self.one(reg::MRQC_ALIAS, Register::Mrqc);
        self.one(reg::SYNQF, Register::Synqf);
        self.many(reg::psrtype, 64, Register::Psrtype);
        self.many(reg::mta, 128, Register::Mta);
        self.many(reg::ral, 128, Register::Ral);
        self.many(reg::rah, 128, Register::Rah);
        self.many(reg::ral_alias, 16, Register::Ral);
        self.many(|n| reg::ral_alias(n) + 4, 16, Register::Rah);
        self.many(reg::mpsar, 256, Register::Mpsar);
        self.many(reg::vfta, 128, Register::Vfta);
        self.many(reg::rssrk, 10, Register::Rssrk);
        self.many(reg::rssrk_alias, 10, Register::Rssrk);
        self.many(reg::reta, 32, Register::Reta);
        self.many(reg::reta_alias, 32, Register::Reta);
        self.many(reg::ftqf, 128, Register::Ftqf);
        self.many(reg::etqf, 8, Register::Etqf);
        self.many(reg::etqs, 8, Register::Etqs);
        self.one(reg::RDRXCTL, Register::Rdrxctl);
        self.many(reg::rxpbsize, 8, Register::Rxpbsize);
        self.one(reg::RXCTRL, Register::Rxctrl);
        self.one(reg::RXMEMWRAP, Register::Rxmemwrap);
        self.one(reg::RSCDBU, Register::Rscdbu);
        self.one(reg::RTRUP2TC, Register::Rtrup2tc);
        self.one(reg::PFVTCTL, Register::Pfvtctl);
        self.many(reg::pfvlvf, 64, Register::Pfvlvf);
        self.many(reg::pfvlvfb, 128, Register::Pfvlvfb);
        self.many(reg::pfuta, 128, Register::Pfuta);
        let queue = |register| move |queue| Register::Rx(register, queue);
        let queues = ixgbe_spec::QUEUES;
        self.many(reg::rdbal, queues, queue(RxRegister::Rdbal));
        self.many(reg::rdbah, queues, queue(RxRegister::Rdbah));
        self.many(reg::rdlen, queues, queue(RxRegister::Rdlen));
        self.many(reg::dca_rxctrl, queues, queue(RxRegister::DcaRxctrl));
        self.many(reg::rdh, queues, queue(RxRegister::Rdh));
        self.many(reg::srrctl, queues, queue(RxRegister::Srrctl));
        self.many(reg::srrctl_alias, 16, queue(RxRegister::Srrctl));
        self.many(reg::rdt, queues, queue(RxRegister::Rdt));
        self.many(reg::rxdctl, queues, queue(RxRegister::Rxdctl));
        self.many(reg::rscctl, queues, queue(RxRegister::Rscctl));
    }

    fn flow_director(&mut self) {
        let registers = [
            (reg::FDIRCTRL, FlowRegister::Control),
            (reg::FDIRIPSA, FlowRegister::Source),
            (reg::FDIRIPDA, FlowRegister::Destination),
            (reg::FDIRPORT, FlowRegister::Ports),
            (reg::FDIRVLAN, FlowRegister::Vlan),
            (reg::FDIRHASH, FlowRegister::Hash),
            (reg::FDIRCMD, FlowRegister::Command),
            (reg::FDIRFREE, FlowRegister::Free),
            (reg::FDIRDIP4M, FlowRegister::DestinationMask),
            (reg::FDIRSIP4M, FlowRegister::SourceMask),
            (reg::FDIRTCPM, FlowRegister::TcpMask),
            (reg::FDIRUDPM, FlowRegister::UdpMask),
            (reg::FDIRLEN, FlowRegister::Length),
            (reg::FDIRUSTAT, FlowRegister::Updates),
            (reg::FDIRFSTAT, FlowRegister::Failures),
            (reg::FDIRMATCH, FlowRegister::Matches),
            (reg::FDIRMISS, FlowRegister::Misses),
            (reg::FDIRHKEY, FlowRegister::HashKey),
            (reg::FDIRSKEY, FlowRegister::SignatureKey),
            (reg::FDIRM, FlowRegister::Mask),
        ];
        for (offset, register) in registers {
            self.one(offset, Register::Flow(register));
        }
        let source = |n| Register::Flow(FlowRegister::SourceIpv6(n));
        self.many(reg::fdirsipv6, 3, source);
    }

    fn transmit(&mut self) {
        self.one(reg::DTXMXSZRQ, Register::Dtxmxszrq);
        self.one(reg::DMATXCTL, Register::Dmatxctl);
        self.one(reg::DTXTCPFLGL, Register::Dtxtcpflgl);
        self.one(reg::DTXTCPFLGH, Register::Dtxtcpflgh);
        self.one(reg::MTQC, Register::Mtqc);
        self.one(reg::RTTDCS, Register::Rttdcs);
        self.one(reg::RTTDQSEL, Register::Rttdqsel);
        self.one(reg::RTTDT1C, Register::Rttdt1c);
        self.one(reg::RTTBCNRC, Register::Rttbcnrc);
        self.many(reg::txpbsize, 8, Register::Txpbsize);
        self.many(reg::txpbthresh, 8, Register::Txpbthresh);
        let queue = |register| move |queue| Register::Tx(register, queue);
        let queues = ixgbe_spec::QUEUES;
        self.many(reg::tdbal, queues, queue(TxRegister::Tdbal));
        self.many(reg::tdbah, queues, queue(TxRegister::Tdbah));
        self.many(reg::tdlen, queues, queue(TxRegister::Tdlen));
        self.many(reg::dca_txctrl, queues, queue(TxRegister::DcaTxctrl));
        self.many(reg::tdh, queues, queue(TxRegister::Tdh));
        self.many(reg::tdt, queues, queue(TxRegister::Tdt));
        self.many(reg::txdctl, queues, queue(TxRegister::Txdctl));
        self.many(reg::tdwbal, queues, queue(TxRegister::Tdwbal));
        self.many(reg::tdwbah, queues, queue(TxRegister::Tdwbah));
    }

    fn mac(&mut self) {
        self.one(reg::HLREG0, Register::Hlreg0);
        self.one(reg::HLREG1, Register::Hlreg1);
        self.one(reg::MSCA, Register::Msca);
        self.one(reg::MSRWD, Register::Msrwd);
        self.one(reg::MAXFRS, Register::Maxfrs);
        self.one(reg::AUTOC, Register::Autoc);
        self.one(reg::LINKS, Register::Links);
        self.one(reg::LINKS2, Register::Links2);
        self.one(reg::AUTOC2, Register::Autoc2);
        self.one(reg::MACC, Register::Macc);
        self.one(reg::MFLCN, Register::Mflcn);
        self.many(reg::fcttv, 4, Register::Fcttv);
        self.many(reg::fcrtl, 8, Register::Fcrtl);
        self.many(reg::fcrth, 8, Register::Fcrth);
        self.one(reg::FCRTV, Register::Fcrtv);
        self.one(reg::ANLP1, Register::Anlp1);
        self.one(reg::PFCTOP, Register::Pfctop);
        self.one(reg::TFCS, Register::Tfcs);
        self.one(reg::FCCFG, Register::Fccfg);
        self.one(reg::SECTXCTRL, Register::Sectxctrl);
        self.one(reg::SECTXSTAT, Register::Sectxstat);
        self.one(reg::SECTXBUFFAF, Register::Sectxbuffaf);
        self.one(reg::SECTXMINIFG, Register::Sectxminifg);
        self.one(reg::SECRXCTRL, Register::Secrxctrl);
        self.one(reg::SECRXSTAT, Register::Secrxstat);
    }

    fn statistics(&mut self) {
        for counter in Counter::ALL {
            self.one(counter.offset(), Register::Count(counter));
        }
        for counter in WideCounter::ALL {
            let (low, high) = counter.offsets();
            self.one(low, Register::CountLow(counter));
            self.one(high, Register::CountHigh(counter));
        }
        let set = |counter| move |set| Register::QueueCount(counter, set);
        let sets = reg::QUEUE_COUNTERS;
        self.many(reg::qprc, sets, set(QueueCounter::Qprc));
        self.many(reg::qprdc, sets, set(QueueCounter::Qprdc));
        self.many(reg::qbrc_l, sets, set(QueueCounter::QbrcLow));
        self.many(reg::qbrc_h, sets, set(QueueCounter::QbrcHigh));
        self.many(reg::qptc, sets, set(QueueCounter::Qptc));
        self.many(reg::qptc_alias, sets, set(QueueCounter::Qptc));
        self.many(reg::qbtc_l, sets, set(QueueCounter::QbtcLow));
        self.many(reg::qbtc_h, sets, set(QueueCounter::QbtcHigh));
        self.many(reg::rqsmr, 32, Register::Rqsmr);
        self.many(reg::tqsm, 32, Register::Tqsm);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_are_found_at_the_offsets_of_the_datasheet() {
        let known = [
            (0x00000, Register::Ctrl),
            (0x01018, Register::Rx(RxRegister::Rdt, 0)),
            (0x0d058, Register::Rx(RxRegister::Rdt, 65)),
            (0x06018 + 0x40 * 127, Register::Tx(TxRegister::Tdt, 127)),
            (0x00820, Register::Eitr(0)),
            (0x12300, Register::Eitr(24)),
            (0x05404, Register::Rah(0)),
            (0x0a204, Register::Rah(0)),
            (0x10014, Register::Eerd),
        ];
        for (offset, register) in known {
            assert_eq!(Register::at(offset), Some(register), "{offset:#x}");
        }
        assert_eq!(Register::at(0x1ffff), None);
        assert_eq!(Register::at(0x1), None);
        assert_eq!(Register::at(u32::MAX - 3), None);
    }
}
