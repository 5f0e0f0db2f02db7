use std::string::ToString;

use ix_nic::testing::{FakeRegisters, HEADERS_BUS, headers, pool, ring};

use ix_nic::{QueueConfig, QueueMemory, Redirect};

use super::*;
use crate::Igb;

/// Registers that let initialisation succeed.
fn registers() -> FakeRegisters {
    FakeRegisters::new(&[(ral(0), 0x1200_5452), (ral(0) + 4, RAH_AV | 0x5634)])
        .force(CTRL, !Ctrl::RST.bits(), 0)
        .force(MDIC, !0, Mdic::READY.bits())
}

/// Brings a device up; what became of it, and how long it waited.
fn bring_up(registers: &FakeRegisters) -> (Result<Igb<FakeRegisters>, Error>, u64) {
    let mut waited_us = 0;
    let outcome = Igb::new(I82576, registers.clone(), Config::new(2), &mut |us| {
        waited_us += u64::from(us);
    });
    (outcome, waited_us)
}

fn queue_memory() -> QueueMemory {
    QueueMemory {
        rx_ring: ring(64),
        tx_ring: ring(64),
        headers: headers(64),
        headers_bus: HEADERS_BUS,
    }
}

#[test]
fn bring_up_resets_before_it_sets_anything() {
    let registers = registers();
    let device = bring_up(&registers).0.unwrap();
    assert_eq!(device.mac(), [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    let masked = registers.written(0, EIMC, ALL_VECTORS);
    let reset = registers.written(masked, CTRL, Ctrl::RST.bits());
    let again = registers.written(reset, EIMC, ALL_VECTORS);
    let link = registers.written(again, MDIC, Mdic::OP_WRITE.bits() | 1 << 12 | 1 << 9);
    // Without this mode the registers of vectors mean something else.
    let mode = registers.written(link, GPIE, Gpie::MULTIPLE_MSIX.bits());
    let clearing = registers.written(mode, EIAC, ALL_VECTORS);
    let tags = registers.written(clearing, CTRL, Ctrl::VME.bits());
    let spread = registers.written(tags, reta(0), 0x0100_0100);
    let hash = registers.written(spread, MRQC, Mrqc::RSS.bits());
    registers.written(hash, TCTL, Tctl::EN.bits());
    assert_eq!(registers.read32(DTXTCPFLGL), 0x0f76_0ff6);
    assert_eq!(registers.read32(DTXTCPFLGH), 0xf7f);
}

#[test]
fn queues_are_enabled_with_empty_rings() {
    let registers = registers();
    let mut device = bring_up(&registers).0.unwrap();
    let start = registers.log.borrow().len();
    let config = QueueConfig {
        vector: 3,
        interrupt_interval_us: 10,
        pool: *pool(64).geometry(),
    };
    let open = |device: &mut Igb<FakeRegisters>, queue, config| {
        device
            .open(queue, config, queue_memory(), &mut |_| {})
            .map(drop)
    };
    assert_eq!(open(&mut device, 1, config), Ok(()));
    let length = registers.written(start, rdbal(1) + 8, 1024);
    let tail = registers.written(length, rdbal(1) + 0x18, 0);
    registers.written(tail, rxdctl(1), Xdctl::ENABLE.bits());
    assert_eq!(registers.read32(srrctl(1)), 1 << 31 | 1 << 25 | 2);
    registers.written(start, txdctl(1), Xdctl::ENABLE.bits());
    // Vector 3 for receive queue 1, none for its transmit queue; 10 us are ten units.
    assert_eq!(registers.read32(ivar(1)), 0x83);
    assert_eq!(registers.read32(eitr(3)), EITR_CNT_IGNR | 10 << 2);

    assert_eq!(open(&mut device, 1, config), Err(Error::QueueInUse(1)));
    let beyond = Error::NoSuchQueue {
        queue: 2,
        queues: 2,
    };
    assert_eq!(open(&mut device, 2, config), Err(beyond));
    let vector = QueueConfig {
        vector: 10,
        ..config
    };
    let refused = open(&mut device, 0, vector);
    assert_eq!(
        refused,
        Err(Error::Vector {
            vector: 10,
            max: 10
        })
    );
    device.start(&mut |_| {}).unwrap();
    assert_ne!(registers.read32(RCTL) & Rctl::EN.bits(), 0);
}

#[test]
fn flow_groups_move_and_only_to_queues_that_are_there() {
    let registers = registers();
    let mut device = bring_up(&registers).0.unwrap();
    device.redirect(0b101, 1).unwrap();
    assert_eq!(registers.read32(reta(0)), 0x0101_0101);
    assert!(device.redirect(1, 2).is_err());
    assert_eq!(registers.read32(reta(0)), 0x0101_0101);
}

#[test]
fn groups_are_found_in_the_table_and_stations_are_no_groups() {
    let registers = registers();
    let mut device = bring_up(&registers).0.unwrap();
    device
        .join_multicast([0x33, 0x33, 0, 0, 0x34, 0x12], &mut |_| {})
        .unwrap();
    // Bits 47 to 36 of the address: 0x123.
    assert_eq!(registers.read32(mta(9)), 1 << 3);
    let station = [0x52, 0x54, 0, 0, 0, 1];
    assert_eq!(
        device.join_multicast(station, &mut |_| {}),
        Err(Error::NotMulticast(station))
    );
}

#[test]
fn what_never_happens_is_waited_for_with_a_bound() {
    let gone = registers().force(STATUS, !0, !0);
    assert!(matches!(bring_up(&gone).0, Err(Error::Gone)));
    let in_reset = registers().force(CTRL, !0, Ctrl::RST.bits());
    let deaf = registers().force(MDIC, !Mdic::READY.bits(), 0);
    let broken = registers().force(MDIC, !0, (Mdic::READY | Mdic::ERROR).bits());
    for (registers, name) in [(in_reset, "CTRL"), (deaf, "MDIC"), (broken, "MDIC")] {
        let (outcome, waited_us) = bring_up(&registers);
        let error = outcome.map(drop).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
        assert!(waited_us < 3_000_000, "waited {waited_us} us");
    }
    let nobody = registers().force(ral(0), 0, 0).force(ral(0) + 4, 0, 0);
    assert!(matches!(bring_up(&nobody).0, Err(Error::StationAddress(_))));
}

#[test]
fn a_link_without_the_internal_phy_is_left_to_the_eeprom() {
    let serdes = registers().force(CTRL_EXT, !0, CtrlExt::LINK_MODE.bits());
    assert!(bring_up(&serdes).0.is_ok());
    let log = serdes.log.borrow();
    assert!(log.iter().all(|&(offset, _)| offset != MDIC));
}
