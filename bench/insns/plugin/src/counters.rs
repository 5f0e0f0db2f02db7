//! The counters: one 64-bit word for each instruction address and virtual CPU.
//!
//! Every address that is ever translated gets a slot, the same slot at each translation. QEMU adds
//! to the slot of the executing CPU inline, in the generated code: no call, no lock, no shared
//! cache line. Addresses that find no free slot are counted together, separately for the two halves
//! of the address space, so that totals stay exact and the reader sees what has no address.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::api::{
    Block, Entry, INLINE_ADD_U64, Scoreboard, qemu_plugin_insn_vaddr, qemu_plugin_num_vcpus,
    qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu, qemu_plugin_scoreboard_find,
    qemu_plugin_scoreboard_new, qemu_plugin_tb_get_insn, qemu_plugin_tb_n_insns,
};

/// Slots for each CPU: room for every instruction of the dataplane and its application, firmware
/// included; a Linux guest overflows it.
const SLOTS: usize = 1 << 18;

/// Addresses that stand for "any address without a slot" in the lower and the upper half.
const OVERFLOW: [u64; 2] = [0, u64::MAX];

/// Counters of all CPUs.
pub struct Counters {
    scoreboard: *mut Scoreboard,
    vcpus: u32,
    addresses: Mutex<Addresses>,
}

// SAFETY: the scoreboard is never freed and its address is fixed; what may be done with it from
// which thread is decided where it is used.
unsafe impl Send for Counters {}
// SAFETY: as above.
unsafe impl Sync for Counters {}

impl Counters {
    /// Counters for a machine that will have `vcpus` virtual CPUs.
    pub fn new(vcpus: u32) -> Self {
        Self {
            scoreboard: qemu_plugin_scoreboard_new(SLOTS * size_of::<u64>()),
            vcpus,
            addresses: Mutex::new(Addresses::new()),
        }
    }

    /// Has every instruction of the block counted.
    ///
    /// # Safety
    /// `block` is the handle of the translation callback that is running.
    pub unsafe fn count_block(&self, block: *mut Block) {
        let mut addresses = self.addresses();
        // SAFETY: the handle is valid, by contract, and so are the instruction handles taken from
        // it at indices below its length; the entry lies inside the scoreboard's elements.
        unsafe {
            for index in 0..qemu_plugin_tb_n_insns(block) {
                let instruction = qemu_plugin_tb_get_insn(block, index);
                let slot = addresses.slot(qemu_plugin_insn_vaddr(instruction));
                let entry = Entry {
                    scoreboard: self.scoreboard,
                    offset: slot * size_of::<u64>(),
                };
                qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(
                    instruction,
                    INLINE_ADD_U64,
                    entry,
                    1,
                );
            }
        }
    }

    /// Address and count of each slot, summed over the CPUs; empty until all CPUs are there.
    pub fn snapshot(&self) -> Vec<(u64, u64)> {
        // QEMU moves the scoreboard when a CPU is added, and only then.
        if qemu_plugin_num_vcpus() < self.vcpus.cast_signed() {
            return Vec::new();
        }
        let used = self.addresses().by_slot.len();
        let mut counts = vec![0; used];
        for vcpu in 0..self.vcpus {
            // SAFETY: all CPUs exist and none is added (the runner plugs none), so the element
            // stays where it is. It holds SLOTS aligned words, `used` is at most that, and all
            // accesses from here are atomic; the generated code stores whole aligned words.
            let slots = unsafe {
                let element = qemu_plugin_scoreboard_find(self.scoreboard, vcpu);
                core::slice::from_raw_parts(element.cast::<AtomicU64>(), used)
            };
            for (count, slot) in counts.iter_mut().zip(slots) {
                *count += slot.load(Ordering::Relaxed);
            }
        }
        self.addresses()
            .by_slot
            .iter()
            .copied()
            .zip(counts)
            .collect()
    }

    fn addresses(&self) -> MutexGuard<'_, Addresses> {
        self.addresses
            .lock()
            .expect("no thread panics with the lock held")
    }
}

/// Which address has which slot.
struct Addresses {
    by_slot: Vec<u64>,
    slots: HashMap<u64, usize>,
}

impl Addresses {
    fn new() -> Self {
        Self {
            by_slot: OVERFLOW.to_vec(),
            slots: HashMap::new(),
        }
    }

    fn slot(&mut self, address: u64) -> usize {
        if let Some(&slot) = self.slots.get(&address) {
            return slot;
        }
        if self.by_slot.len() == SLOTS {
            return (address >> 63) as usize;
        }
        let slot = self.by_slot.len();
        self.by_slot.push(address);
        self.slots.insert(address, slot);
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_slot_and_what_finds_none_is_counted_by_half() {
        let mut addresses = Addresses::new();
        let first = addresses.slot(0x1000);
        assert_eq!(addresses.slot(0x1000), first);
        assert_eq!(addresses.by_slot[first], 0x1000);
        for address in 0x2000.. {
            if addresses.slot(address) < OVERFLOW.len() {
                break;
            }
        }
        assert_eq!(addresses.by_slot.len(), SLOTS);
        let [lower, upper] = [0x7fff_ffff_f000, 0xffff_ffff_8000_0000].map(|at| addresses.slot(at));
        assert_eq!(
            [addresses.by_slot[lower], addresses.by_slot[upper]],
            OVERFLOW
        );
        assert_eq!(addresses.slot(0x1000), first, "known addresses go on");
    }
}
