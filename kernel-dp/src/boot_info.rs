//! What the boot loader tells a PVH guest: the `hvm_start_info` structure of Xen's public
//! interface (`arch-x86/hvm/start_info.h`), version 1, copied once out of low memory that the
//! kernel does not own.

use thiserror::Error;

use crate::PhysicalRead;
use crate::list::List;

/// `XEN_HVM_START_MAGIC_VALUE`.
const MAGIC: u32 = 0x336e_c578;
/// The first version that has a memory map.
const VERSION: u32 = 1;
/// Longest command line that is accepted, in bytes, without its terminating zero.
pub const COMMAND_LINE_MAX: usize = 4095;
/// Most modules that are looked at.
pub const MODULES_MAX: usize = 8;
/// Most entries of the memory map.
pub const MEMORY_MAP_MAX: usize = 128;

/// A range of physical memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// The byte after the last one.
    pub end: u64,
}

impl Range {
    /// `bytes` from `start` on, cut off at the end of the address space.
    pub const fn of(start: u64, bytes: u64) -> Self {
        Self {
            start,
            end: start.saturating_add(bytes),
        }
    }

    /// Length in bytes.
    pub const fn bytes(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// What an entry of the memory map says about its range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemoryKind {
    /// Usable RAM.
    Ram,
    /// Anything else: firmware, devices, ACPI tables, bad memory.
    #[default]
    Reserved,
}

/// An entry of the memory map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryEntry {
    /// Where.
    pub range: Range,
    /// What.
    pub kind: MemoryKind,
}

/// Everything that the boot loader said.
#[derive(Debug)]
pub struct BootInfo {
    command_line: List<u8, COMMAND_LINE_MAX>,
    /// Boot modules in order; the first one is the application image.
    pub modules: List<Range, MODULES_MAX>,
    /// The memory map as given: unsorted, possibly overlapping.
    pub memory_map: List<MemoryEntry, MEMORY_MAP_MAX>,
    /// Address of ACPI's root pointer, 0 if there is none.
    pub rsdp: u64,
}

/// Why the boot information was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BootInfoError {
    /// Not a start-info structure.
    #[error("no PVH start info at {0:#x}: boot this image by its PVH entry point (QEMU: -kernel)")]
    Magic(u64),
    /// A version without memory map.
    #[error("PVH start info version {0} has no memory map: a loader of version 1 is needed")]
    Version(u32),
    /// A pointer leads out of readable memory.
    #[error("PVH start info: {0} at {1:#x} cannot be read")]
    Unreadable(&'static str, u64),
    /// More than the kernel keeps.
    #[error("PVH start info: {0} exceeds the limit of {1}")]
    TooMany(&'static str, usize),
}

impl BootInfo {
    /// Copies the structure at `address` and all that it points to.
    pub fn parse(memory: &impl PhysicalRead, address: u64) -> Result<Self, BootInfoError> {
        let mut header = [0; 56];
        if !memory.read(address, &mut header) || word(&header, 0) != MAGIC {
            return Err(BootInfoError::Magic(address));
        }
        if word(&header, 4) < VERSION {
            return Err(BootInfoError::Version(word(&header, 4)));
        }
        Ok(Self {
            command_line: command_line(memory, double_word(&header, 24))?,
            modules: modules(memory, double_word(&header, 16), word(&header, 12))?,
            memory_map: memory_map(memory, double_word(&header, 40), word(&header, 48))?,
            rsdp: double_word(&header, 32),
        })
    }

    /// The command line without its terminating zero.
    pub fn command_line(&self) -> &[u8] {
        &self.command_line
    }
}

fn command_line(
    memory: &impl PhysicalRead,
    address: u64,
) -> Result<List<u8, COMMAND_LINE_MAX>, BootInfoError> {
    let mut line = List::new();
    if address == 0 {
        return Ok(line);
    }
    for at in address.. {
        let mut byte = [0];
        if !memory.read(at, &mut byte) {
            return Err(BootInfoError::Unreadable("the command line", address));
        }
        if byte == [0] {
            break;
        }
        line.push(byte[0])
            .map_err(|_| BootInfoError::TooMany("the command line in bytes", COMMAND_LINE_MAX))?;
    }
    Ok(line)
}

/// `hvm_modlist_entry`: address, size, command line, reserved; 64 bits each.
fn modules(
    memory: &impl PhysicalRead,
    address: u64,
    count: u32,
) -> Result<List<Range, MODULES_MAX>, BootInfoError> {
    let mut modules = List::new();
    for index in 0..u64::from(count) {
        let mut entry = [0; 32];
        if !memory.read(address.saturating_add(index * 32), &mut entry) {
            return Err(BootInfoError::Unreadable("the module list", address));
        }
        modules
            .push(Range::of(double_word(&entry, 0), double_word(&entry, 8)))
            .map_err(|_| BootInfoError::TooMany("the number of boot modules", MODULES_MAX))?;
    }
    Ok(modules)
}

/// `hvm_memmap_table_entry`: address and size of 64 bits, type and padding of 32 bits; the types
/// are those of E820.
fn memory_map(
    memory: &impl PhysicalRead,
    address: u64,
    count: u32,
) -> Result<List<MemoryEntry, MEMORY_MAP_MAX>, BootInfoError> {
    let mut map = List::new();
    for index in 0..u64::from(count) {
        let mut entry = [0; 24];
        if !memory.read(address.saturating_add(index * 24), &mut entry) {
            return Err(BootInfoError::Unreadable("the memory map", address));
        }
        let entry = MemoryEntry {
            range: Range::of(double_word(&entry, 0), double_word(&entry, 8)),
            kind: match word(&entry, 16) {
                1 => MemoryKind::Ram,
                _ => MemoryKind::Reserved,
            },
        };
        map.push(entry)
            .map_err(|_| BootInfoError::TooMany("the memory map in entries", MEMORY_MAP_MAX))?;
    }
    Ok(map)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn double_word(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_memory::TestMemory;
    use proptest::prelude::*;
    use std::vec;

    const BASE: u64 = 0x1000;

    /// A start info with one module, two memory entries and the command line `a=b`.
    fn memory() -> TestMemory {
        let mut memory = TestMemory {
            base: BASE,
            bytes: vec![0; 0x4000],
        };
        memory.put(BASE, &MAGIC.to_le_bytes());
        memory.put(BASE + 4, &1u32.to_le_bytes());
        memory.put(BASE + 12, &1u32.to_le_bytes());
        memory.put(BASE + 16, &0x1100u64.to_le_bytes());
        memory.put(BASE + 24, &0x1200u64.to_le_bytes());
        memory.put(BASE + 32, &0xf_5ae0u64.to_le_bytes());
        memory.put(BASE + 40, &0x1300u64.to_le_bytes());
        memory.put(BASE + 48, &2u32.to_le_bytes());
        memory.put(0x1100, &0x70_0000u64.to_le_bytes());
        memory.put(0x1108, &0x1234u64.to_le_bytes());
        memory.put(0x1200, b"a=b\0");
        memory.put(0x1300, &0x10_0000u64.to_le_bytes());
        memory.put(0x1308, &0xff0_0000u64.to_le_bytes());
        memory.put(0x1310, &1u32.to_le_bytes());
        memory.put(0x1318, &u64::MAX.to_le_bytes());
        memory.put(0x1320, &u64::MAX.to_le_bytes());
        memory.put(0x1328, &2u32.to_le_bytes());
        memory
    }

    #[test]
    fn a_start_info_is_copied_whole() {
        let info = BootInfo::parse(&memory(), BASE).unwrap();
        assert_eq!(info.command_line(), b"a=b");
        assert_eq!(&*info.modules, [Range::of(0x70_0000, 0x1234)]);
        assert_eq!(info.rsdp, 0xf_5ae0);
        assert_eq!(info.memory_map.len(), 2);
        assert_eq!(info.memory_map[0].kind, MemoryKind::Ram);
        assert_eq!(info.memory_map[0].range.end, 0x1000_0000);
        assert_eq!(info.memory_map[1].kind, MemoryKind::Reserved);
        assert_eq!(info.memory_map[1].range.bytes(), 0);
    }

    #[test]
    fn a_wrong_magic_version_or_pointer_is_refused() {
        let mut wrong = memory();
        wrong.put(BASE, &[0]);
        assert_eq!(
            BootInfo::parse(&wrong, BASE).unwrap_err(),
            BootInfoError::Magic(BASE)
        );
        let mut wrong = memory();
        wrong.put(BASE + 4, &0u32.to_le_bytes());
        assert_eq!(
            BootInfo::parse(&wrong, BASE).unwrap_err(),
            BootInfoError::Version(0)
        );
        for pointer in [16, 24, 40] {
            let mut wrong = memory();
            wrong.put(BASE + pointer, &(u64::MAX - 3).to_le_bytes());
            assert!(matches!(
                BootInfo::parse(&wrong, BASE),
                Err(BootInfoError::Unreadable(..))
            ));
        }
    }

    #[test]
    fn an_overlong_command_line_is_refused() {
        let mut wrong = memory();
        wrong.put(0x1400, &vec![b'x'; COMMAND_LINE_MAX + 1]);
        wrong.put(BASE + 24, &0x1400u64.to_le_bytes());
        assert!(matches!(
            BootInfo::parse(&wrong, BASE),
            Err(BootInfoError::TooMany(..))
        ));
        wrong.put(0x1400 + COMMAND_LINE_MAX as u64, &[0]);
        assert_eq!(
            BootInfo::parse(&wrong, BASE).unwrap().command_line().len(),
            COMMAND_LINE_MAX
        );
    }

    proptest! {
        #[test]
        fn no_start_info_makes_it_panic(patches in prop::collection::vec((0u64..0x400, any::<u8>()), 0..24)) {
            let mut memory = memory();
            for (at, byte) in patches {
                memory.put(BASE + at, &[byte]);
            }
            if let Ok(info) = BootInfo::parse(&memory, BASE) {
                prop_assert!(info.command_line().len() <= COMMAND_LINE_MAX);
            }
        }
    }
}
