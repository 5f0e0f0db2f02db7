//! The few ACPI tables that the kernel needs (ACPI 6.5, chapter 5.2): processors (MADT), PCI
//! Express configuration space (MCFG), and the power-management timer (FADT), which is the
//! reference clock.

use thiserror::Error;

use crate::PhysicalRead;
use crate::list::List;

/// Most processors that are kept.
pub const CPUS_MAX: usize = 256;
/// Longest table that is believed.
const TABLE_MAX: u32 = 1 << 20;
/// Most tables that are looked at.
const TABLES_MAX: u64 = 256;
/// Bytes of the header that all tables share.
const HEADER_BYTES: u64 = 36;

/// What the tables say about the machine.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// APIC numbers of the enabled processors, in the firmware's order.
    pub cpus: List<u32, CPUS_MAX>,
    /// Memory-mapped PCI configuration space.
    pub ecam: Option<Ecam>,
    /// The power-management timer.
    pub pm_timer: Option<PmTimer>,
}

/// Memory-mapped configuration space of PCI segment 0 (PCI Firmware Specification 3.3, 4.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ecam {
    /// Address of bus 0, whether or not the range includes it.
    pub base: u64,
    /// First bus in the range.
    pub first_bus: u8,
    /// Last bus in the range.
    pub last_bus: u8,
}

/// The ACPI power-management timer: 3.579545 MHz, never stops (ACPI 6.5, 4.8.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PmTimer {
    /// I/O port of its 32-bit register.
    pub port: u16,
    /// Bits that count: 24 or 32.
    pub mask: u32,
}

/// Why the tables were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AcpiError {
    /// No root pointer at the address given.
    #[error("no ACPI root pointer at {0:#x}")]
    NoRootPointer(u64),
    /// A table that cannot be read or whose checksum is wrong.
    #[error("the ACPI table at {0:#x} is unreadable or damaged")]
    Damaged(u64),
}

impl Machine {
    /// Reads the tables that the root pointer at `rsdp` leads to. Tables of other kinds are not
    /// looked at beyond their signature.
    pub fn parse(memory: &impl PhysicalRead, rsdp: u64) -> Result<Self, AcpiError> {
        let (root, entry_bytes) = root_table(memory, rsdp)?;
        let root = Table::open(memory, root)?;
        let mut machine = Self::default();
        let entries = (root.bytes - HEADER_BYTES) / entry_bytes;
        for index in 0..entries.min(TABLES_MAX) {
            let at = root.address + HEADER_BYTES + index * entry_bytes;
            let address = match entry_bytes {
                8 => memory.read_u64(at),
                _ => memory.read_u32(at).map(u64::from),
            };
            let address = address.ok_or(AcpiError::Damaged(root.address))?;
            let mut signature = [0; 4];
            if !memory.read(address, &mut signature) {
                return Err(AcpiError::Damaged(address));
            }
            match &signature {
                b"APIC" => machine.read_madt(&Table::open(memory, address)?),
                b"MCFG" => machine.read_mcfg(&Table::open(memory, address)?),
                b"FACP" => machine.read_fadt(&Table::open(memory, address)?),
                _ => {}
            }
        }
        Ok(machine)
    }

    /// Processors: local APIC (type 0) and local x2APIC (type 9) structures (ACPI 6.5, 5.2.12).
    fn read_madt(&mut self, madt: &Table<'_, impl PhysicalRead>) {
        let mut at = 44;
        while let Some([kind, bytes]) = madt.array(at) {
            let cpu = match kind {
                0 => madt
                    .u32(at + 4)
                    .zip(madt.array::<4>(at))
                    .map(|(flags, [.., id])| (flags, u32::from(id))),
                9 => madt.u32(at + 8).zip(madt.u32(at + 4)),
                _ => None,
            };
            if let Some((flags, id)) = cpu
                && flags & 1 != 0
                && !self.cpus.contains(&id)
            {
                // A processor beyond the capacity is one that stays unused.
                let _ = self.cpus.push(id);
            }
            if bytes < 2 {
                return;
            }
            at += u64::from(bytes);
        }
    }

    fn read_mcfg(&mut self, mcfg: &Table<'_, impl PhysicalRead>) {
        let mut at = 44;
        while let Some(entry) = mcfg.array::<16>(at) {
            let [
                b0,
                b1,
                b2,
                b3,
                b4,
                b5,
                b6,
                b7,
                s0,
                s1,
                first_bus,
                last_bus,
                ..,
            ] = entry;
            if [s0, s1] == [0, 0] && self.ecam.is_none() {
                self.ecam = Some(Ecam {
                    base: u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]),
                    first_bus,
                    last_bus,
                });
            }
            at += 16;
        }
    }

    /// `PM_TMR_BLK` at 76, `PM_TMR_LEN` at 91, `TMR_VAL_EXT` is bit 8 of the flags at 112.
    fn read_fadt(&mut self, fadt: &Table<'_, impl PhysicalRead>) {
        let port = fadt.u32(76).and_then(|port| u16::try_from(port).ok());
        let length = fadt.array::<1>(91);
        let flags = fadt.u32(112).unwrap_or(0);
        if let (Some(port @ 1..), Some([4])) = (port, length) {
            let mask = if flags & 1 << 8 != 0 {
                u32::MAX
            } else {
                0xff_ffff
            };
            self.pm_timer = Some(PmTimer { port, mask });
        }
    }
}

/// Address of the root table and the size of its entries: XSDT if there is one, else RSDT.
fn root_table(memory: &impl PhysicalRead, rsdp: u64) -> Result<(u64, u64), AcpiError> {
    let refused = AcpiError::NoRootPointer(rsdp);
    let mut bytes = [0; 36];
    if !memory.read(rsdp, &mut bytes[..20]) || !bytes.starts_with(b"RSD PTR ") || sum(&bytes) != 0 {
        return Err(refused);
    }
    if bytes[15] >= 2 {
        if !memory.read(rsdp, &mut bytes) || sum(&bytes) != 0 {
            return Err(refused);
        }
        let [.., x0, x1, x2, x3, x4, x5, x6, x7, _, _, _, _] = bytes;
        let xsdt = u64::from_le_bytes([x0, x1, x2, x3, x4, x5, x6, x7]);
        if xsdt != 0 {
            return Ok((xsdt, 8));
        }
    }
    let rsdt = u32::from_le_bytes([bytes[16], bytes[17], bytes[18], bytes[19]]);
    Ok((u64::from(rsdt), 4))
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// A table whose length and checksum were checked.
struct Table<'a, M> {
    memory: &'a M,
    address: u64,
    bytes: u64,
}

impl<'a, M: PhysicalRead> Table<'a, M> {
    fn open(memory: &'a M, address: u64) -> Result<Self, AcpiError> {
        let damaged = AcpiError::Damaged(address);
        let bytes = memory.read_u32(address.saturating_add(4)).ok_or(damaged)?;
        if u64::from(bytes) < HEADER_BYTES || bytes > TABLE_MAX {
            return Err(damaged);
        }
        let bytes = u64::from(bytes);
        let end = address.checked_add(bytes).ok_or(damaged)?;
        let mut total = 0u8;
        for at in address..end {
            let mut byte = [0];
            if !memory.read(at, &mut byte) {
                return Err(damaged);
            }
            total = total.wrapping_add(byte[0]);
        }
        match total {
            0 => Ok(Self {
                memory,
                address,
                bytes,
            }),
            _ => Err(damaged),
        }
    }

    /// `N` bytes at an offset, or `None` beyond the table's end.
    fn array<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        let inside = offset.checked_add(N as u64)? <= self.bytes;
        (inside && self.memory.read(self.address + offset, &mut bytes)).then_some(bytes)
    }

    fn u32(&self, offset: u64) -> Option<u32> {
        self.array(offset).map(u32::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_memory::TestMemory;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    const RSDP: u64 = 0x1000;
    const ROOT: u64 = 0x1100;

    fn table(signature: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut bytes = signature.to_vec();
        bytes.extend_from_slice(&(HEADER_BYTES as u32 + body.len() as u32).to_le_bytes());
        bytes.resize(HEADER_BYTES as usize, 0);
        bytes.extend_from_slice(body);
        bytes[9] = sum(&bytes).wrapping_neg();
        bytes
    }

    /// Processors 0, 7 (disabled), 2 and x2APIC 300; ECAM at 0xb0000000; timer at port 0x608.
    fn memory(revision: u8) -> TestMemory {
        let mut memory = TestMemory {
            base: RSDP,
            bytes: vec![0; 0x1000],
        };
        let mut madt = vec![0; 8];
        for (id, flags) in [(0, 1), (7, 0), (2, 1)] {
            madt.extend_from_slice(&[0, 8, id, id, flags, 0, 0, 0]);
        }
        madt.extend_from_slice(&[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        madt.extend_from_slice(&[9, 16, 0, 0, 44, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        let mut mcfg = vec![0; 8];
        mcfg.extend_from_slice(&[0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0, 0, 0, 0]);
        let mut fadt = vec![0; 80];
        fadt[40..42].copy_from_slice(&[8, 6]);
        fadt[55] = 4;
        memory.put(0x1200, &table(b"APIC", &madt));
        memory.put(0x1300, &table(b"MCFG", &mcfg));
        memory.put(0x1400, &table(b"FACP", &fadt));
        memory.put(0x1500, &table(b"HPET", &[0xff; 4]));
        let mut root = Vec::new();
        for address in [0x1500u64, 0x1400, 0x1300, 0x1200] {
            let bytes = address.to_le_bytes();
            root.extend_from_slice(if revision >= 2 { &bytes } else { &bytes[..4] });
        }
        let signature = if revision >= 2 { b"XSDT" } else { b"RSDT" };
        memory.put(ROOT, &table(signature, &root));
        let mut rsdp = b"RSD PTR \0IXTEST".to_vec();
        rsdp.push(revision);
        rsdp[15] = revision;
        rsdp.extend_from_slice(&(ROOT as u32).to_le_bytes());
        rsdp[8] = sum(&rsdp).wrapping_neg();
        if revision >= 2 {
            rsdp.extend_from_slice(&36u32.to_le_bytes());
            rsdp.extend_from_slice(&ROOT.to_le_bytes());
            rsdp.extend_from_slice(&[0; 4]);
            rsdp[32] = sum(&rsdp).wrapping_neg();
        }
        memory.put(RSDP, &rsdp);
        memory
    }

    #[test]
    fn both_root_tables_lead_to_the_machine() {
        for revision in [0, 2] {
            let machine = Machine::parse(&memory(revision), RSDP).unwrap();
            assert_eq!(&*machine.cpus, [0, 2, 300]);
            let ecam = machine.ecam.unwrap();
            assert_eq!(
                (ecam.base, ecam.first_bus, ecam.last_bus),
                (0xb000_0000, 0, 255)
            );
            let timer = machine.pm_timer.unwrap();
            assert_eq!((timer.port, timer.mask), (0x608, 0xff_ffff));
        }
    }

    #[test]
    fn damage_is_noticed() {
        let mut wrong = memory(0);
        wrong.put(RSDP + 9, b"Z");
        assert_eq!(
            Machine::parse(&wrong, RSDP).unwrap_err(),
            AcpiError::NoRootPointer(RSDP)
        );
        let mut wrong = memory(2);
        wrong.put(0x1210, b"Z");
        assert_eq!(
            Machine::parse(&wrong, RSDP).unwrap_err(),
            AcpiError::Damaged(0x1200)
        );
        let nowhere = u64::MAX - 4;
        assert_eq!(
            Machine::parse(&memory(0), nowhere).unwrap_err(),
            AcpiError::NoRootPointer(nowhere)
        );
    }

    proptest! {
        #[test]
        fn no_table_body_makes_it_panic_or_loop(
            signature in prop::sample::select(vec![b"APIC", b"MCFG", b"FACP"]),
            body in prop::collection::vec(any::<u8>(), 0..256),
        ) {
            let mut memory = memory(2);
            memory.put(0x1600, &table(signature, &body));
            memory.put(ROOT, &table(b"XSDT", &0x1600u64.to_le_bytes()));
            prop_assert!(Machine::parse(&memory, RSDP).is_ok());
        }

        #[test]
        fn no_damage_makes_it_panic(patches in prop::collection::vec((0u64..0x700, any::<u8>()), 0..12)) {
            let mut memory = memory(2);
            for (at, byte) in patches {
                memory.put(RSDP + at, &[byte]);
            }
            let _ = Machine::parse(&memory, RSDP);
        }
    }
}
