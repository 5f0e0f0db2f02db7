//! QEMU's plugin interface, as far as this plugin uses it (QEMU `include/plugins/qemu-plugin.h`).
//!
//! All of it exists unchanged from version 4 of the interface (QEMU 10.0) on, with one exception:
//! version 7 (QEMU 11) gave the translation callback a user pointer and took its plugin identifier
//! away. [`register_translation`] hides that. QEMU 11 refuses plugins for older versions, and
//! older QEMU newer ones, so whoever builds the plugin says which it is for: feature `api-4`.

use core::ffi::{c_char, c_int, c_void};

/// The interface version that the plugin declares. QEMU accepts those between the oldest that it
/// supports and its own.
pub const DECLARED_VERSION: c_int = if cfg!(feature = "api-4") {
    4
} else {
    USER_POINTERS
};

/// First version whose callbacks carry a user pointer.
const USER_POINTERS: c_int = 7;

/// `qemu_info_t`: what QEMU tells about itself at installation.
#[repr(C)]
pub struct Info {
    /// Name of the guest architecture.
    pub target_name: *const c_char,
    /// Oldest interface version that this QEMU supports.
    pub oldest_version: c_int,
    /// Interface version of this QEMU.
    pub version: c_int,
    /// Whether this is a whole system; then the two following are valid.
    pub system_emulation: bool,
    /// Virtual CPUs at start.
    pub smp_vcpus: c_int,
    /// Most virtual CPUs there can be.
    pub max_vcpus: c_int,
}

/// A translation block, valid inside the translation callback.
#[repr(C)]
pub struct Block {
    _opaque: [u8; 0],
}

/// An instruction of a block, valid inside the translation callback.
#[repr(C)]
pub struct Instruction {
    _opaque: [u8; 0],
}

/// An array with one element for each virtual CPU.
#[repr(C)]
pub struct Scoreboard {
    _opaque: [u8; 0],
}

/// `qemu_plugin_u64`: one 64-bit word at an offset in each element of a scoreboard.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Entry {
    /// The scoreboard.
    pub scoreboard: *mut Scoreboard,
    /// Offset of the word in an element, in bytes.
    pub offset: usize,
}

/// `QEMU_PLUGIN_INLINE_ADD_U64`.
pub const INLINE_ADD_U64: c_int = 0;
/// `QEMU_PLUGIN_CB_NO_REGS`: the callback reads no register of the guest.
pub const NO_REGISTERS: c_int = 0;

/// `qemu_plugin_vcpu_udata_cb_t`: called with the CPU's index and the pointer given.
pub type ExecutionCallback = unsafe extern "C" fn(u32, *mut c_void);

unsafe extern "C" {
    /// Number of virtual CPUs initialised so far.
    pub safe fn qemu_plugin_num_vcpus() -> c_int;
    /// Makes a scoreboard of zeroed elements of that size.
    pub safe fn qemu_plugin_scoreboard_new(element_bytes: usize) -> *mut Scoreboard;
    /// The element of one virtual CPU.
    pub fn qemu_plugin_scoreboard_find(scoreboard: *mut Scoreboard, vcpu_index: u32)
    -> *mut c_void;
    /// Number of instructions in the block.
    pub fn qemu_plugin_tb_n_insns(block: *const Block) -> usize;
    /// An instruction of the block.
    pub fn qemu_plugin_tb_get_insn(block: *const Block, index: usize) -> *mut Instruction;
    /// The instruction's virtual address.
    pub fn qemu_plugin_insn_vaddr(instruction: *const Instruction) -> u64;
    /// Has `operand` added to the entry of the executing CPU each time the instruction executes.
    pub fn qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(
        instruction: *mut Instruction,
        operation: c_int,
        entry: Entry,
        operand: u64,
    );
    /// Has the callback called each time before the instruction executes.
    pub fn qemu_plugin_register_vcpu_insn_exec_cb(
        instruction: *mut Instruction,
        callback: ExecutionCallback,
        flags: c_int,
        user_pointer: *mut c_void,
    );
    fn qemu_plugin_register_vcpu_tb_trans_cb(
        id: u64,
        callback: *const c_void,
        user_pointer: *const c_void,
    );
}

/// Has `HANDLER` called for each block that QEMU translates.
pub fn register_translation<H: TranslationHandler>(id: u64, version: c_int) {
    let callback = if version < USER_POINTERS {
        with_identifier::<H> as *const c_void
    } else {
        with_user_pointer::<H> as *const c_void
    };
    // SAFETY: the callback has the signature that this version of the interface calls. Versions
    // before 7 take two arguments here; the third is in a register that they do not read.
    unsafe { qemu_plugin_register_vcpu_tb_trans_cb(id, callback, core::ptr::null()) }
}

/// Receives translated blocks.
pub trait TranslationHandler {
    /// Called for each block, with a handle that is valid during the call.
    fn translated(block: *mut Block);
}

extern "C" fn with_identifier<H: TranslationHandler>(_id: u64, block: *mut Block) {
    H::translated(block);
}

extern "C" fn with_user_pointer<H: TranslationHandler>(block: *mut Block, _user: *mut c_void) {
    H::translated(block);
}
