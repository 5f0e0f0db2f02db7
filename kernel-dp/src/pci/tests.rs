//! Against configuration spaces made up here: registers that remember what they are told, except
//! for the bits that a BAR's size holds at zero.

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

#[derive(Default)]
struct Bus {
    words: HashMap<(u8, u8, u8, u16), u32>,
    /// Writable bits; all where nothing is said.
    masks: HashMap<(u8, u8, u8, u16), u32>,
}

fn key(address: Address, offset: u16) -> (u8, u8, u8, u16) {
    (address.bus, address.device, address.function, offset)
}

fn at(bus: u8, device: u8, function: u8) -> Address {
    Address {
        bus,
        device,
        function,
    }
}

impl Bus {
    fn set(&mut self, address: Address, offset: u16, value: u32) {
        self.words.insert(key(address, offset), value);
    }

    /// A BAR of `bytes` with the given low bits and address.
    fn set_bar(&mut self, address: Address, index: u16, low: u32, base: u64, bytes: u64) {
        let offset = BAR0 + 4 * index;
        let mask = !(bytes - 1);
        self.set(address, offset, base as u32 | low);
        self.masks.insert(key(address, offset), mask as u32 & !0xf);
        if low & 0b100 != 0 {
            self.set(address, offset + 4, (base >> 32) as u32);
            self.masks
                .insert(key(address, offset + 4), (mask >> 32) as u32);
        }
    }
}

impl ConfigSpace for Bus {
    fn read(&self, address: Address, offset: u16) -> u32 {
        let present = self.words.contains_key(&key(address, 0));
        let absent = if present { 0 } else { u32::MAX };
        self.words
            .get(&key(address, offset))
            .copied()
            .unwrap_or(absent)
    }
    fn write(&mut self, address: Address, offset: u16, value: u32) {
        let mask = self
            .masks
            .get(&key(address, offset))
            .copied()
            .unwrap_or(u32::MAX);
        let old = self.read(address, offset);
        self.set(address, offset, (value & mask) | (old & !mask));
    }
}

const NIC: u32 = 0x10fb_8086;

fn is_nic(vendor: u16, device: u16) -> bool {
    (vendor, device) == (0x8086, 0x10fb)
}

/// A root port at 0:3.0 (function 0 of a multi-function device) leads to bus 5, a switch there to
/// bus 9, where the NIC sits as function 1.
fn machine() -> Bus {
    let mut bus = Bus::default();
    bus.set(at(0, 0, 0), ID, 0x29c0_8086);
    bus.set(at(0, 3, 0), ID, 0x000c_1b36);
    bus.set(at(0, 3, 0), HEADER_TYPE, 0x81_0000);
    bus.set(at(0, 3, 0), BUS_NUMBERS, 0x0009_0500);
    bus.set(at(5, 0, 0), ID, 0x0001_1b36);
    bus.set(at(5, 0, 0), HEADER_TYPE, 0x01_0000);
    bus.set(at(5, 0, 0), BUS_NUMBERS, 0x0009_0905);
    bus.set(at(9, 0, 0), ID, NIC + 1);
    bus.set(at(9, 0, 0), HEADER_TYPE, 0x80_0000);
    bus.set(at(9, 0, 1), ID, NIC);
    bus
}

#[test]
fn a_function_behind_two_bridges_is_found() {
    let found = find(&machine(), is_nic).unwrap();
    assert_eq!((found.address, found.device), (at(9, 0, 1), 0x10fb));
    assert_eq!(&*found.bridges, [at(5, 0, 0), at(0, 3, 0)]);
    assert!(find(&machine(), |_, device| device == 0x1234).is_none());
}

#[test]
fn functions_of_a_single_function_device_are_not_believed() {
    let mut bus = machine();
    bus.set(at(9, 0, 0), HEADER_TYPE, 0);
    assert!(find(&bus, is_nic).is_none());
}

#[test]
fn bridges_in_a_circle_end() {
    let mut bus = machine();
    bus.set(at(5, 0, 0), BUS_NUMBERS, 0x0009_0505);
    assert!(find(&bus, is_nic).is_none());
}

#[test]
fn bars_of_both_widths_are_decoded_and_left_as_they_were() {
    let mut bus = machine();
    let nic = at(9, 0, 1);
    bus.set_bar(nic, 0, 0b1100, 0x38_0000_0000, 128 << 10);
    bus.set_bar(nic, 2, 0, 0xfe00_0000, 4096);
    let before = bus.words.clone();
    let expected = Bar {
        address: 0x38_0000_0000,
        bytes: 128 << 10,
    };
    assert_eq!(memory_bar(&mut bus, nic, 0), Ok(expected));
    let expected = Bar {
        address: 0xfe00_0000,
        bytes: 4096,
    };
    assert_eq!(memory_bar(&mut bus, nic, 2), Ok(expected));
    for (place, value) in before {
        assert_eq!(bus.words[&place], value);
    }
}

#[test]
fn bars_without_memory_or_address_are_refused() {
    let mut bus = machine();
    let nic = at(9, 0, 1);
    bus.set_bar(nic, 0, 0b0100, 0, 16384);
    bus.set(nic, BAR0 + 8, 0xc001);
    bus.masks.insert(key(nic, BAR0 + 12), 0);
    bus.set_bar(nic, 4, 0b100, 1 << 60, 4096);
    assert_eq!(
        memory_bar(&mut bus, nic, 0),
        Err(PciError::Unassigned(nic, 0, 16384))
    );
    for index in [2, 3, 6, 255] {
        assert_eq!(
            memory_bar(&mut bus, nic, index),
            Err(PciError::NotMemory(nic, index))
        );
    }
    assert_eq!(
        memory_bar(&mut bus, nic, 4),
        Err(PciError::Implausible(nic, 4, 1 << 60))
    );
}

#[test]
fn msix_is_found_behind_other_capabilities_and_switched_on() {
    let mut bus = machine();
    let nic = at(9, 0, 1);
    assert_eq!(msix(&bus, nic), Err(PciError::NoMsix(nic)));
    bus.set(nic, COMMAND, STATUS_CAPABILITIES);
    bus.set(nic, CAPABILITIES, 0x40);
    bus.set(nic, 0x40, 0x0003_7001);
    bus.set(nic, 0x70, 0x403f_0011);
    bus.set(nic, 0x74, 0x2004);
    let capability = msix(&bus, nic).unwrap();
    assert_eq!(
        (
            capability.vectors,
            capability.table_bar,
            capability.table_offset
        ),
        (64, 4, 0x2000)
    );
    enable_msix(&mut bus, nic, &capability);
    assert_eq!(bus.read(nic, 0x70), 0x803f_0011);
}

#[test]
fn enabling_writes_no_ones_to_the_status_half() {
    let mut bus = machine();
    let nic = at(9, 0, 1);
    bus.set(nic, COMMAND, 0xffff_0001);
    enable(&mut bus, nic);
    assert_eq!(bus.read(nic, COMMAND), 0x0407);
    disable(&mut bus, nic);
    assert_eq!(bus.read(nic, COMMAND), 0x0400);
}

proptest! {
    #[test]
    fn no_configuration_space_makes_it_panic_or_loop(
        words in prop::collection::vec((0u8..4, 0u8..32, 0u8..8, 0u16..64, any::<u32>()), 0..200),
    ) {
        let mut bus = Bus::default();
        for (number, device, function, word, value) in words {
            bus.set(at(number, device, function), word * 4, value);
        }
        if let Some(found) = find(&bus, is_nic) {
            prop_assert_eq!(bus.read(found.address, ID), NIC);
        }
        let nic = at(1, 0, 0);
        let _ = msix(&bus, nic);
        for index in 0..6 {
            if let Ok(bar) = memory_bar(&mut bus, nic, index) {
                prop_assert!(bar.bytes.is_power_of_two() && bar.address % bar.bytes == 0);
            }
        }
    }
}

/// A VIRTIO device with its capabilities in a row from 0x40 on: kind, BAR, offset and length each.
fn virtio(capabilities: &[(u32, u32, u32, u32)]) -> (Bus, Address) {
    let (mut bus, address) = (Bus::default(), at(0, 4, 0));
    bus.set(address, ID, 0x1041_1af4);
    bus.set(address, COMMAND, STATUS_CAPABILITIES);
    bus.set(address, CAPABILITIES, 0x40);
    for (n, &(kind, bar, offset, bytes)) in (0..).zip(capabilities) {
        let place = 0x40 + 0x14 * n;
        let last = usize::from(n) + 1 == capabilities.len();
        let next = if last { 0 } else { u32::from(place) + 0x14 };
        bus.set(address, place, kind << 24 | 0x14 << 16 | next << 8 | 9);
        bus.set(address, place + 4, bar);
        bus.set(address, place + 8, offset);
        bus.set(address, place + 12, bytes);
        bus.set(address, place + 16, 4);
    }
    (bus, address)
}

#[test]
fn virtio_structures_are_the_first_of_their_kinds() {
    let (bus, address) = virtio(&[
        (5, 0, 0, 0),
        (2, 4, 0x3000, 0x1000),
        (4, 4, 0x2000, 0x1000),
        (1, 4, 0, 0x38),
        (1, 2, 0x500, 0x38),
    ]);
    let found = VirtioStructures::find(&bus, address).unwrap();
    let structure = |offset, bytes| Structure {
        bar: 4,
        offset,
        bytes,
    };
    assert_eq!(found.common, structure(0, 0x38));
    assert_eq!(found.device, structure(0x2000, 0x1000));
    assert_eq!(found.notify, structure(0x3000, 0x1000));
    assert_eq!(found.notify_off_multiplier, 4);
}

#[test]
fn virtio_structures_that_are_missing_or_crooked_are_named() {
    for (capabilities, name) in [
        (&[(2, 4, 0, 8), (4, 4, 0, 8)][..], "common"),
        (&[(1, 4, 0, 8), (4, 4, 0, 8)], "notification"),
        (&[(1, 4, 0, 8), (2, 4, 0, 8)], "device"),
        (&[(1, 4, u32::MAX, 8), (2, 4, 0, 8), (4, 4, 0, 8)], "common"),
        (&[(1, 4, 0, 8), (2, 4, 0, 0), (4, 4, 0, 8)], "notification"),
    ] {
        let (bus, address) = virtio(capabilities);
        let missing = PciError::NoStructure(address, name);
        assert_eq!(VirtioStructures::find(&bus, address), Err(missing));
    }
}
