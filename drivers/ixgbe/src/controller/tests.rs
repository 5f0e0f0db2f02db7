use super::*;
use crate::testing::registers;
use crate::{Config, Ixgbe, QueueConfig, QueueMemory};
use alloc::string::ToString;
use ix_nic::testing::{FakeRegisters, HEADERS_BUS, headers, pool, ring};

type Outcome = Result<Ixgbe<FakeRegisters>, Error>;

/// Brings a device up; what became of it, and how long it waited.
fn bring_up(registers: FakeRegisters) -> (FakeRegisters, Outcome, u64) {
    bring_up_card(Card::I82599Sfp, registers)
}

fn bring_up_card(card: Card, registers: FakeRegisters) -> (FakeRegisters, Outcome, u64) {
    let mut waited_us = 0;
    let outcome = Ixgbe::new(card, registers.clone(), Config::new(2), &mut |us| {
        waited_us += u64::from(us);
    });
    (registers, outcome, waited_us)
}

fn failure(registers: FakeRegisters) -> Error {
    let (_, outcome, waited_us) = bring_up(registers);
    assert!(waited_us < 3_000_000, "waited {waited_us} us");
    outcome.expect_err("bring-up of a broken device")
}

fn queue_memory(tx_descriptors: usize, rooms: usize) -> QueueMemory {
    QueueMemory {
        rx_ring: ring(64),
        tx_ring: ring(tx_descriptors),
        headers: headers(rooms),
        headers_bus: HEADERS_BUS,
    }
}

fn queue_config() -> QueueConfig {
    QueueConfig {
        vector: 3,
        interrupt_interval_us: 10,
        pool: *pool(64).geometry(),
    }
}

#[test]
fn bring_up_follows_the_order_of_the_datasheet() {
    let (registers, outcome, _) = bring_up(registers());
    assert_eq!(outcome.unwrap().mac(), [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    let masked = registers.written(0, EIMC, 0x7fff_ffff);
    let reset = registers.written(masked, CTRL, Ctrl::RST.bits());
    let again = registers.written(reset, EIMC, 0x7fff_ffff);
    let threshold = registers.written(again, fcrth(0), 512 * 1024 - 0x6000);
    let link = registers.written(threshold, AUTOC, Autoc::RESTART_AN.bits());
    let counters = registers.written(link, rqsmr(0), 0x0302_0100);
    let interrupts = registers.written(counters, GPIE, Gpie::MULTIPLE_MSIX.bits());
    let receive = registers.written(interrupts, RXCSUM, Rxcsum::PCSD.bits());
    let arbiter = registers.written(receive, RTTDCS, Rttdcs::ARBDIS.bits());
    let buffer = registers.written(arbiter, txpbsize(0), txpbsize_of(160));
    registers.cleared(buffer, RTTDCS, Rttdcs::ARBDIS.bits());
}

#[test]
fn queues_are_enabled_in_the_order_of_the_datasheet() {
    let (registers, outcome, _) = bring_up(registers());
    let mut device = outcome.unwrap();
    let start = registers.log.borrow().len();
    device
        .open(1, queue_config(), queue_memory(64, 64), &mut |_| {})
        .unwrap();
    let length = registers.written(start, rdlen(1), 1024);
    registers.written(length, rxdctl(1), Rxdctl::ENABLE.bits());
    let srrctl_value = registers.read32(srrctl(1));
    assert_eq!(srrctl_value, 1 << 28 | 1 << 25 | 2);
    let base = registers.written(start, tdbal(1), ring(64).bus() as u32);
    let global = registers.written(base, DMATXCTL, Dmatxctl::TE.bits());
    let enable = Txdctl::ENABLE.bits() | 8 << 8 | 36;
    registers.written(global, txdctl(1), enable);
    // Vector 3 for receive queue 1, none for its transmit queue; 10 us are 5 units.
    assert_eq!(registers.read32(ivar(0)), 0x0083_0000);
    assert_eq!(registers.read32(eitr(3)), 1 << 31 | 5 << 3);

    let start = registers.log.borrow().len();
    device.start(&mut |_| {}).unwrap();
    let halted = registers.written(start, SECRXCTRL, Secrxctrl::RX_DIS.bits());
    let enabled = registers.written(halted, RXCTRL, Rxctrl::RXEN.bits());
    registers.cleared(enabled, SECRXCTRL, Secrxctrl::RX_DIS.bits());
}

#[test]
fn a_device_that_is_gone_is_named_so() {
    let gone = registers().force(STATUS, !0, !0);
    assert_eq!(failure(gone), Error::Gone);
}

#[test]
fn registers_that_never_change_are_waited_for_with_a_bound() {
    let in_reset = registers().force(CTRL, !0, Ctrl::RST.bits());
    let no_eeprom_read = registers().force(EEC, 0, Eec::EE_PRES.bits());
    let no_dma = registers().force(RDRXCTL, 0, 0);
    for (registers, name) in [
        (in_reset, "CTRL"),
        (no_eeprom_read, "EEC"),
        (no_dma, "RDRXCTL"),
    ] {
        let error = failure(registers);
        assert!(
            matches!(error, Error::Timeout { register, .. } if register == name),
            "{error}"
        );
        assert!(error.to_string().contains(name));
    }
}

#[test]
fn requests_that_never_complete_take_a_second_reset() {
    let busy = registers().force(STATUS, !0, Status::PCIE_MASTER_ENABLE.bits());
    let (registers, outcome, _) = bring_up(busy);
    assert!(outcome.is_ok());
    let looped = registers.written(0, HLREG0, Hlreg0::LPBK.bits());
    let flushed = registers.written(looped, GCR_EXT, GcrExt::BUFFERS_CLEAR_FUNC.bits());
    let open = registers.cleared(flushed, HLREG0, Hlreg0::LPBK.bits());
    let first = registers.written(open, CTRL, Ctrl::RST.bits());
    registers.written(first + 1, CTRL, Ctrl::RST.bits());
}

#[test]
fn a_missing_eeprom_and_a_bad_address_are_refused() {
    let missing = registers().force(EEC, 0, Eec::AUTO_RD.bits());
    assert!(matches!(failure(missing), Error::NoEeprom { .. }));
    let zero = registers().force(ral(0), 0, 0).force(rah(0), 0, 0);
    assert_eq!(failure(zero), Error::StationAddress([0; 6]));
    let group = registers().force(ral(0), !0, 1);
    assert!(matches!(failure(group), Error::StationAddress(_)));
}

#[test]
fn queues_that_cannot_be_are_refused() {
    let (_, outcome, _) = bring_up(registers());
    let mut device = outcome.unwrap();
    let mut open = |queue, config: QueueConfig, memory| {
        device.open(queue, config, memory, &mut |_| {}).map(drop)
    };
    let good = || queue_memory(64, 64);
    assert_eq!(
        open(2, queue_config(), good()),
        Err(Error::NoSuchQueue {
            queue: 2,
            queues: 2
        })
    );
    let mut vector = queue_config();
    vector.vector = 64;
    assert_eq!(
        open(0, vector, good()),
        Err(Error::Vector {
            vector: 64,
            max: 64
        })
    );
    let mut small = queue_config();
    small.pool.size_shift = 10;
    assert!(matches!(
        open(0, small, good()),
        Err(Error::BufferSize { bytes: 1024, .. })
    ));
    assert!(matches!(
        open(0, queue_config(), queue_memory(96, 96)),
        Err(Error::RingLength { words: 192, .. })
    ));
    assert!(matches!(
        open(0, queue_config(), queue_memory(64, 63)),
        Err(Error::HeaderRooms { rooms: 63, .. })
    ));
    let mut crooked = good();
    crooked.headers_bus += 64;
    assert!(matches!(
        open(0, queue_config(), crooked),
        Err(Error::Alignment { .. })
    ));
    assert_eq!(open(0, queue_config(), good()), Ok(()));
    assert_eq!(open(0, queue_config(), good()), Err(Error::QueueInUse(0)));
}

#[test]
fn a_queue_that_does_not_start_or_stop_is_named() {
    let dead = registers().force(rxdctl(0), !Rxdctl::ENABLE.bits(), 0);
    let (_, outcome, _) = bring_up(dead);
    let opened = outcome
        .unwrap()
        .open(0, queue_config(), queue_memory(64, 64), &mut |_| {});
    assert!(matches!(
        opened.map(drop),
        Err(Error::Timeout {
            register: "RXDCTL",
            ..
        })
    ));
    let stuck = registers().force(txdctl(0), !0, Txdctl::ENABLE.bits());
    let (_, outcome, _) = bring_up(stuck);
    let mut device = outcome.unwrap();
    let pair = device
        .open(0, queue_config(), queue_memory(64, 64), &mut |_| {})
        .unwrap();
    let closed = device.close(pair, &mut pool(64), &mut |_| {});
    assert!(matches!(
        closed.map(drop),
        Err(Error::Timeout {
            register: "TXDCTL",
            ..
        })
    ));
}

#[test]
fn lasers_are_switched_on_where_there_are_some() {
    let dark = || registers().force(ESDP, !0, Esdp::SDP3_DATA.bits());
    let (sfp, outcome, _) = bring_up_card(Card::I82599Sfp, dark());
    assert!(outcome.is_ok());
    sfp.cleared(0, ESDP, Esdp::SDP3_DATA.bits());
    let (backplane, outcome, _) = bring_up_card(Card::I82599, dark());
    assert!(outcome.is_ok());
    assert!(!backplane.touched(ESDP));
}

#[test]
fn a_reset_beside_firmware_takes_the_phy_s_semaphore_and_leaves_the_link() {
    for card in [Card::X540, Card::X550] {
        // No EEPROM, and a second port's number.
        let port = registers()
            .force(EEC, !0, Eec::AUTO_RD.bits())
            .force(STATUS, !0, 1 << 2);
        let (registers, outcome, _) = bring_up_card(card, port);
        assert!(outcome.is_ok());
        let taken = registers.written(0, SW_FW_SYNC, SwFwSync::SW_PHY1.bits());
        let reset = registers.written(taken, CTRL, Ctrl::RST.bits());
        assert_eq!(registers.log.borrow()[reset].1 & Ctrl::LRST.bits(), 0);
        let given = registers.cleared(reset, SW_FW_SYNC, SwFwSync::SW_PHY1.bits());
        registers.cleared(given, SWSM, Swsm::SMBI.bits());
        assert!(!registers.touched(AUTOC), "copper has none");
        assert_eq!(registers.read32(rxpbsize(0)), rxpbsize_of(384));
        assert_eq!(registers.read32(fcrth(0)), 384 * 1024 - 0x6000);
    }
}

#[test]
fn semaphores_that_nobody_gives_back_are_taken_after_a_while() {
    let all = SwFwSync::REGSMP | SwFwSync::FW_PHY0;
    let stuck = [
        registers().force(SWSM, !0, Swsm::SMBI.bits()),
        registers().force(SW_FW_SYNC, !0, SwFwSync::REGSMP.bits()),
        registers().force(SW_FW_SYNC, !0, SwFwSync::FW_PHY0.bits()),
        registers()
            .force(SWSM, !0, Swsm::SMBI.bits())
            .force(SW_FW_SYNC, !0, all.bits()),
    ];
    for registers in stuck {
        let (registers, outcome, waited_us) = bring_up_card(Card::X540, registers);
        assert!(outcome.is_ok());
        assert!(
            (1_000_000..1_500_000).contains(&waited_us),
            "{waited_us} us"
        );
        registers.written(0, SW_FW_SYNC, SwFwSync::SW_PHY0.bits());
    }
}

#[test]
fn an_x550_has_speeds_between() {
    let speeds = |card, bits: u32| {
        let up = Links::LINK_UP.bits() | bits;
        let (_, outcome, _) = bring_up_card(card, registers().force(LINKS, !0, up));
        outcome.unwrap().link().megabits
    };
    let between = Links::SPEED_BETWEEN.bits();
    assert_eq!(speeds(Card::X550, 3 << 28 | between), 2_500);
    assert_eq!(speeds(Card::X550, 1 << 28 | between), 5_000);
    assert_eq!(speeds(Card::X550, 3 << 28), 10_000);
    assert_eq!(speeds(Card::X540, 2 << 28), 1_000);
    assert_eq!(speeds(Card::X540, 1 << 28), 100);
}

#[test]
fn a_link_is_waited_for_with_a_bound() {
    let (_, outcome, _) = bring_up(registers());
    let mut waited_us = 0;
    let link = outcome
        .unwrap()
        .wait_for_link(5_000, &mut |us| waited_us += us);
    assert_eq!(link, Err(Error::LinkDown { waited_us: 5_000 }));
    assert_eq!(waited_us, 5_000);
}
