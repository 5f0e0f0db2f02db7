//! The counters: one 64-bit word for each instruction address.
//!
//! Every address that is ever translated gets a slot, the same slot at each translation. Addresses
//! that find no free slot are counted together, separately for the two halves of the address space,
//! so that totals stay exact and the reader sees what has no address.
//!
//! On one virtual CPU, QEMU adds to the slot inline, in the generated code: no call, no lock. On
//! several, a callback adds. QEMU 11 knows inline additions for several CPUs as well, but where one
//! thread runs them all in turn, as under icount, it takes the index of the CPU that it translates for
//! as a constant, multiplies it in place, and so changes that constant for all the rest of the block:
//! a 1 that allows for input and output becomes a 0, and the machine ends with "Bad icount read".

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::api::{
    Block, Entry, INLINE_ADD_U64, Instruction, NO_REGISTERS, Scoreboard, qemu_plugin_insn_vaddr,
    qemu_plugin_num_vcpus, qemu_plugin_register_vcpu_insn_exec_cb,
    qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu, qemu_plugin_scoreboard_find,
    qemu_plugin_scoreboard_new, qemu_plugin_tb_get_insn, qemu_plugin_tb_n_insns,
};

/// Slots: room for every instruction of the dataplane and its application, firmware included; a Linux
/// guest overflows it.
const SLOTS: usize = 1 << 18;

/// Addresses that stand for "any address without a slot" in the lower and the upper half.
const OVERFLOW: [u64; 2] = [0, u64::MAX];

/// Counters of all CPUs.
pub struct Counters {
    slots: Slots,
    addresses: Mutex<Addresses>,
}

impl Counters {
    /// Counters for a machine that will have `vcpus` virtual CPUs.
    pub fn new(vcpus: u32) -> Self {
        Self {
            slots: match vcpus {
                1 => Slots::Inline(qemu_plugin_scoreboard_new(SLOTS * size_of::<u64>())),
                _ => Slots::Called((0..SLOTS).map(|_| AtomicU64::new(0)).collect()),
            },
            addresses: Mutex::new(Addresses::new()),
        }
    }

    /// Has every instruction of the block counted.
    ///
    /// # Safety
    /// `block` is the handle of the translation callback that is running.
    pub unsafe fn count_block(&'static self, block: *mut Block) {
        let mut addresses = self.addresses();
        // SAFETY: the handle is valid, by contract, and so are the instruction handles taken from
        // it at indices below its length; every slot is below SLOTS.
        unsafe {
            for index in 0..qemu_plugin_tb_n_insns(block) {
                let instruction = qemu_plugin_tb_get_insn(block, index);
                let slot = addresses.slot(qemu_plugin_insn_vaddr(instruction));
                self.slots.count(instruction, slot);
            }
        }
    }

    /// Address and count of each slot; empty until the CPU whose slots they are is there.
    pub fn snapshot(&self) -> Vec<(u64, u64)> {
        let addresses = self.addresses();
        let counts = self.slots.read(addresses.by_slot.len());
        addresses.by_slot.iter().copied().zip(counts).collect()
    }

    fn addresses(&self) -> MutexGuard<'_, Addresses> {
        self.addresses
            .lock()
            .expect("no thread panics with the lock held")
    }
}

/// Where it is counted, and how.
enum Slots {
    /// By generated code, on the only CPU.
    Inline(*mut Scoreboard),
    /// By [`add`].
    Called(Box<[AtomicU64]>),
}

// SAFETY: the scoreboard is never freed and its address is fixed; what may be done with it from
// which thread is decided where it is used.
unsafe impl Send for Slots {}
// SAFETY: as above.
unsafe impl Sync for Slots {}

impl Slots {
    /// Has each execution counted in a slot.
    ///
    /// # Safety
    /// The handle is that of an instruction of the block that is being translated, and `slot` is
    /// below [`SLOTS`].
    unsafe fn count(&'static self, instruction: *mut Instruction, slot: usize) {
        match self {
            Self::Inline(scoreboard) => {
                let entry = Entry {
                    scoreboard: *scoreboard,
                    offset: slot * size_of::<u64>(),
                };
                // SAFETY: the handle is valid, by contract, and the entry lies in the element.
                unsafe {
                    qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(
                        instruction,
                        INLINE_ADD_U64,
                        entry,
                        1,
                    );
                }
            }
            Self::Called(slots) => {
                let slot = (&raw const slots[slot]).cast_mut().cast::<c_void>();
                // SAFETY: the handle is valid, by contract; `add` gets a slot that is never freed.
                unsafe {
                    qemu_plugin_register_vcpu_insn_exec_cb(instruction, add, NO_REGISTERS, slot);
                }
            }
        }
    }

    /// The first `used` counts; none if the CPU is not there yet.
    fn read(&self, used: usize) -> Vec<u64> {
        let slots = match self {
            Self::Called(slots) => &slots[..used],
            // QEMU moves the scoreboard when a CPU is added, and only then.
            Self::Inline(_) if qemu_plugin_num_vcpus() < 1 => &[],
            // SAFETY: the only CPU exists and none is added (the runner plugs none), so its element
            // stays where it is. It holds SLOTS aligned words, `used` is at most that, and all
            // accesses from here are atomic; the generated code stores whole aligned words.
            Self::Inline(scoreboard) => unsafe {
                let element = qemu_plugin_scoreboard_find(*scoreboard, 0);
                core::slice::from_raw_parts(element.cast::<AtomicU64>(), used)
            },
        };
        slots
            .iter()
            .map(|slot| slot.load(Ordering::Relaxed))
            .collect()
    }
}

/// Adds one to a slot of [`Slots::Called`].
unsafe extern "C" fn add(_vcpu: u32, slot: *mut c_void) {
    // SAFETY: QEMU calls it with what it was registered with, a slot that lives for ever.
    let slot = unsafe { &*slot.cast::<AtomicU64>() };
    slot.fetch_add(1, Ordering::Relaxed);
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
