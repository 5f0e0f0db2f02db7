//! The vocabulary against a table typed anew from section 8.2.2 (register summary) of the
//! datasheet: in tens of registers copied by hand, a slip in one place must not be believed
//! because another copied it.

use ixgbe_spec::register as r;

/// Registers that come once.
const SINGLE: &[(&str, u32, u32)] = &[
    ("CTRL", r::CTRL, 0x00000),
    ("CTRL (alias)", r::CTRL_ALIAS, 0x00004),
    ("STATUS", r::STATUS, 0x00008),
    ("CTRL_EXT", r::CTRL_EXT, 0x00018),
    ("ESDP", r::ESDP, 0x00020),
    ("I2CCTL", r::I2CCTL, 0x00028),
    ("LEDCTL", r::LEDCTL, 0x00200),
    ("TCPTIMER", r::TCPTIMER, 0x0004c),
    ("EEC", r::EEC, 0x10010),
    ("EERD", r::EERD, 0x10014),
    ("FLA", r::FLA, 0x1001c),
    ("EEMNGCTL", r::EEMNGCTL, 0x10110),
    ("GRC", r::GRC, 0x10200),
    ("SWSM", r::SWSM, 0x10140),
    ("FWSM", r::FWSM, 0x10148),
    ("GSSR", r::SW_FW_SYNC, 0x10160),
    ("FACTPS", r::FACTPS, 0x10150),
    ("GCR", r::GCR, 0x11000),
    ("GCR_EXT", r::GCR_EXT, 0x11050),
    ("DCA_ID", r::DCA_ID, 0x11070),
    ("DCA_CTRL", r::DCA_CTRL, 0x11074),
    ("EICR", r::EICR, 0x00800),
    ("EICS", r::EICS, 0x00808),
    ("EIMS", r::EIMS, 0x00880),
    ("EIMC", r::EIMC, 0x00888),
    ("EIAC", r::EIAC, 0x00810),
    ("EIAM", r::EIAM, 0x00890),
    ("EITRSEL", r::EITRSEL, 0x00894),
    ("IVAR_MISC", r::IVAR_MISC, 0x00a00),
    ("GPIE", r::GPIE, 0x00898),
    ("HLREG0", r::HLREG0, 0x04240),
    ("HLREG1", r::HLREG1, 0x04244),
    ("MSCA", r::MSCA, 0x0425c),
    ("MSRWD", r::MSRWD, 0x04260),
    ("MAXFRS", r::MAXFRS, 0x04268),
    ("AUTOC", r::AUTOC, 0x042a0),
    ("LINKS", r::LINKS, 0x042a4),
    ("LINKS2", r::LINKS2, 0x04324),
    ("AUTOC2", r::AUTOC2, 0x042a8),
    ("MACC", r::MACC, 0x04330),
    ("MFLCN", r::MFLCN, 0x04294),
    ("ANLP1", r::ANLP1, 0x042b0),
    ("PFCTOP", r::PFCTOP, 0x03008),
    ("FCRTV", r::FCRTV, 0x032a0),
    ("TFCS", r::TFCS, 0x0ce00),
    ("FCCFG", r::FCCFG, 0x03d00),
    ("SECTXCTRL", r::SECTXCTRL, 0x08800),
    ("SECTXSTAT", r::SECTXSTAT, 0x08804),
    ("SECTXBUFFAF", r::SECTXBUFFAF, 0x08808),
    ("SECTXMINIFG", r::SECTXMINIFG, 0x08810),
    ("SECRXCTRL", r::SECRXCTRL, 0x08d00),
    ("SECRXSTAT", r::SECRXSTAT, 0x08d04),
    ("FCTRL", r::FCTRL, 0x05080),
    ("VLNCTRL", r::VLNCTRL, 0x05088),
    ("MCSTCTRL", r::MCSTCTRL, 0x05090),
    ("RXCSUM", r::RXCSUM, 0x05000),
    ("RFCTL", r::RFCTL, 0x05008),
    ("MRQC", r::MRQC, 0x0ec80),
    ("MRQC (alias)", r::MRQC_ALIAS, 0x05818),
    ("SYNQF", r::SYNQF, 0x0ec30),
    ("FDIRCTRL", r::FDIRCTRL, 0x0ee00),
    ("FDIRIPSA", r::FDIRIPSA, 0x0ee18),
    ("FDIRIPDA", r::FDIRIPDA, 0x0ee1c),
    ("FDIRPORT", r::FDIRPORT, 0x0ee20),
    ("FDIRVLAN", r::FDIRVLAN, 0x0ee24),
    ("FDIRHASH", r::FDIRHASH, 0x0ee28),
    ("FDIRCMD", r::FDIRCMD, 0x0ee2c),
    ("FDIRFREE", r::FDIRFREE, 0x0ee38),
    ("FDIRDIP4M", r::FDIRDIP4M, 0x0ee3c),
    ("FDIRSIP4M", r::FDIRSIP4M, 0x0ee40),
    ("FDIRTCPM", r::FDIRTCPM, 0x0ee44),
    ("FDIRUDPM", r::FDIRUDPM, 0x0ee48),
    ("FDIRLEN", r::FDIRLEN, 0x0ee4c),
    ("FDIRUSTAT", r::FDIRUSTAT, 0x0ee50),
    ("FDIRFSTAT", r::FDIRFSTAT, 0x0ee54),
    ("FDIRMATCH", r::FDIRMATCH, 0x0ee58),
    ("FDIRMISS", r::FDIRMISS, 0x0ee5c),
    ("FDIRHKEY", r::FDIRHKEY, 0x0ee68),
    ("FDIRSKEY", r::FDIRSKEY, 0x0ee6c),
    ("FDIRM", r::FDIRM, 0x0ee70),
    ("RDRXCTL", r::RDRXCTL, 0x02f00),
    ("RXCTRL", r::RXCTRL, 0x03000),
    ("RXMEMWRAP", r::RXMEMWRAP, 0x03190),
    ("RSCDBU", r::RSCDBU, 0x03028),
    ("RTRUP2TC", r::RTRUP2TC, 0x03020),
    ("PFVTCTL", r::PFVTCTL, 0x051b0),
    ("DTXMXSZRQ", r::DTXMXSZRQ, 0x08100),
    ("DMATXCTL", r::DMATXCTL, 0x04a80),
    ("DTXTCPFLGL", r::DTXTCPFLGL, 0x04a88),
    ("DTXTCPFLGH", r::DTXTCPFLGH, 0x04a8c),
    ("MTQC", r::MTQC, 0x08120),
    ("RTTDCS", r::RTTDCS, 0x04900),
    ("RTTDQSEL", r::RTTDQSEL, 0x04904),
    ("RTTDT1C", r::RTTDT1C, 0x04908),
    ("RTTBCNRC", r::RTTBCNRC, 0x04984),
    ("CRCERRS", r::CRCERRS, 0x04000),
    ("ILLERRC", r::ILLERRC, 0x04004),
    ("ERRBC", r::ERRBC, 0x04008),
    ("MSPDC", r::MSPDC, 0x04010),
    ("MLFC", r::MLFC, 0x04034),
    ("MRFC", r::MRFC, 0x04038),
    ("RLEC", r::RLEC, 0x04040),
    ("SSVPC", r::SSVPC, 0x08780),
    ("LXONTXC", r::LXONTXC, 0x03f60),
    ("LXOFFTXC", r::LXOFFTXC, 0x03f68),
    ("LXONRXCNT", r::LXONRXCNT, 0x041a4),
    ("LXOFFRXCNT", r::LXOFFRXCNT, 0x041a8),
    ("PRC64", r::PRC64, 0x0405c),
    ("PRC127", r::PRC127, 0x04060),
    ("PRC255", r::PRC255, 0x04064),
    ("PRC511", r::PRC511, 0x04068),
    ("PRC1023", r::PRC1023, 0x0406c),
    ("PRC1522", r::PRC1522, 0x04070),
    ("GPRC", r::GPRC, 0x04074),
    ("BPRC", r::BPRC, 0x04078),
    ("MPRC", r::MPRC, 0x0407c),
    ("GPTC", r::GPTC, 0x04080),
    ("GORCL", r::GORCL, 0x04088),
    ("GORCH", r::GORCH, 0x0408c),
    ("GOTCL", r::GOTCL, 0x04090),
    ("GOTCH", r::GOTCH, 0x04094),
    ("RUC", r::RUC, 0x040a4),
    ("RFC", r::RFC, 0x040a8),
    ("ROC", r::ROC, 0x040ac),
    ("RJC", r::RJC, 0x040b0),
    ("MNGPRC", r::MNGPRC, 0x040b4),
    ("MNGPDC", r::MNGPDC, 0x040b8),
    ("MNGPTC", r::MNGPTC, 0x0cf90),
    ("TORL", r::TORL, 0x040c0),
    ("TORH", r::TORH, 0x040c4),
    ("TPR", r::TPR, 0x040d0),
    ("TPT", r::TPT, 0x040d4),
    ("PTC64", r::PTC64, 0x040d8),
    ("PTC127", r::PTC127, 0x040dc),
    ("PTC255", r::PTC255, 0x040e0),
    ("PTC511", r::PTC511, 0x040e4),
    ("PTC1023", r::PTC1023, 0x040e8),
    ("PTC1522", r::PTC1522, 0x040ec),
    ("MPTC", r::MPTC, 0x040f0),
    ("BPTC", r::BPTC, 0x040f4),
    ("XEC", r::XEC, 0x04120),
    ("RXDGPC", r::RXDGPC, 0x02f50),
    ("RXDGBCL", r::RXDGBCL, 0x02f54),
    ("RXDGBCH", r::RXDGBCH, 0x02f58),
    ("RXNFGPC", r::RXNFGPC, 0x041b0),
    ("RXNFGBCL", r::RXNFGBCL, 0x041b4),
    ("RXNFGBCH", r::RXNFGBCH, 0x041b8),
    ("TXDGPC", r::TXDGPC, 0x087a0),
    ("TXDGBCL", r::TXDGBCL, 0x087a4),
    ("TXDGBCH", r::TXDGBCH, 0x087a8),
    ("FCCRC", r::FCCRC, 0x05118),
    ("FCOERPDC", r::FCOERPDC, 0x0241c),
];

/// A register that comes in many: name, function, offset of the first, distance, how many.
type Indexed = (&'static str, fn(u32) -> u32, u32, u32, u32);

const INDEXED: &[Indexed] = &[
    ("TDBAL", r::tdbal, 0x06000, 0x40, 128),
    ("TDBAH", r::tdbah, 0x06004, 0x40, 128),
    ("TDLEN", r::tdlen, 0x06008, 0x40, 128),
    ("DCA_TXCTRL", r::dca_txctrl, 0x0600c, 0x40, 128),
    ("TDH", r::tdh, 0x06010, 0x40, 128),
    ("TDT", r::tdt, 0x06018, 0x40, 128),
    ("TXDCTL", r::txdctl, 0x06028, 0x40, 128),
    ("TDWBAL", r::tdwbal, 0x06038, 0x40, 128),
    ("TDWBAH", r::tdwbah, 0x0603c, 0x40, 128),
    ("TXPBSIZE", r::txpbsize, 0x0cc00, 4, 8),
    ("TXPBTHRESH", r::txpbthresh, 0x04950, 4, 8),
    ("RXPBSIZE", r::rxpbsize, 0x03c00, 4, 8),
    ("FCTTV", r::fcttv, 0x03200, 4, 4),
    ("FCRTL", r::fcrtl, 0x03220, 4, 8),
    ("FCRTH", r::fcrth, 0x03260, 4, 8),
    ("PSRTYPE", r::psrtype, 0x0ea00, 4, 64),
    ("MTA", r::mta, 0x05200, 4, 128),
    ("RAL", r::ral, 0x0a200, 8, 128),
    ("RAH", r::rah, 0x0a204, 8, 128),
    ("RAL (alias)", r::ral_alias, 0x05400, 8, 16),
    ("MPSAR", r::mpsar, 0x0a600, 4, 256),
    ("VFTA", r::vfta, 0x0a000, 4, 128),
    ("RSSRK", r::rssrk, 0x0eb80, 4, 10),
    ("RSSRK (alias)", r::rssrk_alias, 0x05c80, 4, 10),
    ("RETA", r::reta, 0x0eb00, 4, 32),
    ("RETA (alias)", r::reta_alias, 0x05c00, 4, 32),
    ("FTQF", r::ftqf, 0x0e600, 4, 128),
    ("ETQF", r::etqf, 0x05128, 4, 8),
    ("ETQS", r::etqs, 0x0ec00, 4, 8),
    ("SRRCTL (alias)", r::srrctl_alias, 0x02100, 4, 16),
    ("PFVLVF", r::pfvlvf, 0x0f100, 4, 64),
    ("PFVLVFB", r::pfvlvfb, 0x0f200, 4, 128),
    ("PFUTA", r::pfuta, 0x0f400, 4, 128),
    ("EICS_EX", r::eics_ex, 0x00a90, 4, 2),
    ("EIMS_EX", r::eims_ex, 0x00aa0, 4, 2),
    ("EIMC_EX", r::eimc_ex, 0x00ab0, 4, 2),
    ("EIAM_EX", r::eiam_ex, 0x00ad0, 4, 2),
    ("IVAR", r::ivar, 0x00900, 4, 64),
    ("PBACL", r::pbacl, 0x110c0, 4, 8),
    ("RXMPC", r::rxmpc, 0x03fa0, 4, 8),
    ("RQSMR", r::rqsmr, 0x02300, 4, 32),
    ("TQSM", r::tqsm, 0x08600, 4, 32),
    ("QPRC", r::qprc, 0x01030, 0x40, 16),
    ("QPRDC", r::qprdc, 0x01430, 0x40, 16),
    ("QBRC_L", r::qbrc_l, 0x01034, 0x40, 16),
    ("QBRC_H", r::qbrc_h, 0x01038, 0x40, 16),
    ("QPTC", r::qptc, 0x08680, 4, 16),
    ("QPTC (alias)", r::qptc_alias, 0x06030, 0x40, 16),
    ("QBTC_L", r::qbtc_l, 0x08700, 8, 16),
    ("QBTC_H", r::qbtc_h, 0x08704, 8, 16),
];

/// Receive queue registers: name, function, offset for queue 0, offset for queue 64.
type RxQueue = (&'static str, fn(u32) -> u32, u32, u32);

const RX_QUEUE: &[RxQueue] = &[
    ("RDBAL", r::rdbal, 0x01000, 0x0d000),
    ("RDBAH", r::rdbah, 0x01004, 0x0d004),
    ("RDLEN", r::rdlen, 0x01008, 0x0d008),
    ("DCA_RXCTRL", r::dca_rxctrl, 0x0100c, 0x0d00c),
    ("RDH", r::rdh, 0x01010, 0x0d010),
    ("SRRCTL", r::srrctl, 0x01014, 0x0d014),
    ("RDT", r::rdt, 0x01018, 0x0d018),
    ("RXDCTL", r::rxdctl, 0x01028, 0x0d028),
    ("RSCCTL", r::rscctl, 0x0102c, 0x0d02c),
];

#[test]
fn single_registers_are_where_the_datasheet_has_them() {
    for (name, actual, expected) in SINGLE {
        assert_eq!(actual, expected, "{name}");
    }
}

#[test]
fn indexed_registers_are_where_the_datasheet_has_them() {
    for (name, function, first, distance, count) in INDEXED {
        for n in 0..*count {
            assert_eq!(function(n), first + distance * n, "{name}[{n}]");
        }
    }
}

#[test]
fn receive_queues_from_64_on_lie_apart() {
    for (name, function, first, upper) in RX_QUEUE {
        for n in 0..64 {
            assert_eq!(function(n), first + 0x40 * n, "{name}[{n}]");
            assert_eq!(function(n + 64), upper + 0x40 * n, "{name}[{}]", n + 64);
        }
    }
}

#[test]
fn moderation_registers_from_vector_24_on_lie_apart() {
    assert_eq!(r::eitr(0), 0x00820);
    assert_eq!(r::eitr(23), 0x0087c);
    assert_eq!(r::eitr(24), 0x12300);
    assert_eq!(r::eitr(128), 0x124a0);
}

#[test]
fn no_two_names_share_an_offset() {
    // QPRDC[n] is QPRC's place in the stride of queue 16 + n, which has no QPRC: no overlap.
    let mut offsets: Vec<(u32, String)> = SINGLE
        .iter()
        .map(|(name, offset, _)| (*offset, (*name).to_owned()))
        .collect();
    for (name, function, _, _, count) in INDEXED {
        offsets.extend((0..*count).map(|n| (function(n), format!("{name}[{n}]"))));
    }
    for (name, function, _, _) in RX_QUEUE {
        offsets.extend((0..128).map(|n| (function(n), format!("{name}[{n}]"))));
    }
    offsets.extend((0..129).map(|n| (r::eitr(n), format!("EITR[{n}]"))));
    offsets.sort();
    for pair in offsets.windows(2) {
        assert_ne!(pair[0].0, pair[1].0, "{} and {}", pair[0].1, pair[1].1);
        assert!(pair[1].0 < r::BAR0_BYTES, "{}", pair[1].1);
    }
}

/// Bits by number, retyped from the tables of sections 8.2.3.1 to 8.2.3.27.
#[test]
fn bits_are_where_the_datasheet_has_them() {
    let bits: &[(&str, u32, u32)] = &[
        (
            "CTRL.PCIe Master Disable",
            r::Ctrl::PCIE_MASTER_DISABLE.bits(),
            2,
        ),
        ("CTRL.LRST", r::Ctrl::LRST.bits(), 3),
        ("CTRL.RST", r::Ctrl::RST.bits(), 26),
        (
            "STATUS.PCIe Master Enable",
            r::Status::PCIE_MASTER_ENABLE.bits(),
            19,
        ),
        ("CTRL_EXT.NS_DIS", r::CtrlExt::NS_DIS.bits(), 16),
        ("CTRL_EXT.DRV_LOAD", r::CtrlExt::DRV_LOAD.bits(), 28),
        ("ESDP.SDP2_DATA", r::Esdp::SDP2_DATA.bits(), 2),
        ("ESDP.SDP3_DATA", r::Esdp::SDP3_DATA.bits(), 3),
        ("MSCA.MDICMD", r::Msca::MDICMD.bits(), 30),
        // Of the X540's and the X550's.
        ("SW_FW_SYNC.REGSMP", r::SwFwSync::REGSMP.bits(), 31),
        ("LINKS, 2.5 and 5 Gb/s", r::Links::SPEED_BETWEEN.bits(), 27),
        ("EEC.EE_PRES", r::Eec::EE_PRES.bits(), 8),
        ("EEC.Auto_RD", r::Eec::AUTO_RD.bits(), 9),
        ("RDRXCTL.CRCStrip", r::Rdrxctl::CRC_STRIP.bits(), 1),
        ("RDRXCTL.DMAIDONE", r::Rdrxctl::DMAIDONE.bits(), 3),
        ("RDRXCTL.RSCACKC", r::Rdrxctl::RSCACKC.bits(), 25),
        ("RDRXCTL.FCOE_WRFIX", r::Rdrxctl::FCOE_WRFIX.bits(), 26),
        ("RXDCTL.ENABLE", r::Rxdctl::ENABLE.bits(), 25),
        ("SRRCTL.Drop_En", r::Srrctl::DROP_EN.bits(), 28),
        ("TXDCTL.ENABLE", r::Txdctl::ENABLE.bits(), 25),
        ("DMATXCTL.TE", r::Dmatxctl::TE.bits(), 0),
        ("RTTDCS.ARBDIS", r::Rttdcs::ARBDIS.bits(), 6),
        ("LINKS.Link_Status", r::Links::LINK_STATUS.bits(), 7),
        ("LINKS.Link up", r::Links::LINK_UP.bits(), 30),
        ("AUTOC.Restart_AN", r::Autoc::RESTART_AN.bits(), 12),
        ("HLREG0.JUMBOEN", r::Hlreg0::JUMBOEN.bits(), 2),
        ("HLREG0.TXPADEN", r::Hlreg0::TXPADEN.bits(), 10),
        ("FCTRL.MPE", r::Fctrl::MPE.bits(), 8),
        ("FCTRL.UPE", r::Fctrl::UPE.bits(), 9),
        ("FCTRL.BAM", r::Fctrl::BAM.bits(), 10),
        ("RXCSUM.PCSD", r::Rxcsum::PCSD.bits(), 13),
        ("MRQC.TcpIPv4", r::Mrqc::TCP_IPV4.bits(), 16),
        ("MRQC.UdpIPv6", r::Mrqc::UDP_IPV6.bits(), 23),
        ("GPIE.Multiple_MSIX", r::Gpie::MULTIPLE_MSIX.bits(), 4),
        ("GPIE.EIAME", r::Gpie::EIAME.bits(), 30),
        ("EICR.LSC", r::Eicr::LSC.bits(), 20),
        ("EITR.CNT_WDIS", r::Eitr::CNT_WDIS.bits(), 31),
        ("SECRXCTRL.RX_DIS", r::Secrxctrl::RX_DIS.bits(), 1),
        ("SECRXSTAT.SECRX_RDY", r::SecurityStatus::RDY.bits(), 0),
        ("RAH.AV", r::RAH_AV, 31),
    ];
    for (name, actual, bit) in bits {
        assert_eq!(*actual, 1 << bit, "{name}");
    }
}
