//! The part of the dataplane kernel that knows no hardware: everything that reads untrusted bytes
//! or makes a decision, so that it runs under test on the host.
//!
//! The ring-0 binary beside it (`main.rs` and `bare/`) supplies registers, ports and memory
//! through the small traits here: [`PhysicalRead`], [`page_table::TableMemory`],
//! [`pci::ConfigSpace`]. Nothing in this crate trusts the boot loader, the firmware's tables, a
//! device's configuration space or the application image: each is an allegation until checked,
//! and what does not check is an error with a message, never a panic.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod acpi;
pub mod application;
pub mod background;
pub mod boot_info;
pub mod calendar;
pub mod clock;
pub mod command_line;
pub mod elf;
pub mod list;
pub mod page_table;
pub mod pci;
pub mod regions;

/// Bytes of a small page.
pub const PAGE: u64 = 4096;
/// Bytes of a large page, the unit of all memory that the kernel hands out.
pub const LARGE_PAGE: u64 = 2 << 20;

/// Reads physical memory at any address, before anything is known about it.
pub trait PhysicalRead {
    /// Fills `bytes` from `address` on. False, with `bytes` unspecified, if not all of it can be
    /// read.
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool;

    /// The little-endian word at `address`.
    fn read_u32(&self, address: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        self.read(address, &mut bytes)
            .then(|| u32::from_le_bytes(bytes))
    }

    /// The little-endian double word at `address`.
    fn read_u64(&self, address: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes)
            .then(|| u64::from_le_bytes(bytes))
    }
}

#[cfg(test)]
mod test_memory {
    use super::PhysicalRead;
    use std::vec::Vec;

    /// Physical memory of a test: `bytes` from `base` on, nothing elsewhere.
    pub struct TestMemory {
        pub base: u64,
        pub bytes: Vec<u8>,
    }

    impl TestMemory {
        pub fn put(&mut self, address: u64, bytes: &[u8]) {
            let at = (address - self.base) as usize;
            self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        }
    }

    impl PhysicalRead for TestMemory {
        fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
            let source = address
                .checked_sub(self.base)
                .and_then(|at| self.bytes.get(usize::try_from(at).ok()?..))
                .and_then(|rest| rest.get(..bytes.len()));
            source.is_some_and(|source| {
                bytes.copy_from_slice(source);
                true
            })
        }
    }
}
