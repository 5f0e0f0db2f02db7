//! The way from the PVH entry point to [`super::kernel_main`], and where the image lies.

use core::mem::offset_of;

use kernel_dp::boot_info::Range;

use super::stacks::{STACKS, Stacks};

core::arch::global_asm!(
    include_str!("boot.s"),
    stacks = sym STACKS,
    main_stack_top = const offset_of!(Stacks, main) + Stacks::MAIN_BYTES,
    main = sym super::kernel_main,
    options(att_syntax)
);

/// Virtual address of physical address 0 in the image's mapping.
pub const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;

unsafe extern "C" {
    static kernel_start: u8;
    static kernel_constants: u8;
    static kernel_data: u8;
    static kernel_end: u8;
}

/// The image's parts by virtual address; each begins at a 2 MiB boundary.
pub struct ImageLayout {
    /// Code.
    pub code: Range,
    /// Constants.
    pub constants: Range,
    /// Data, zeroed data, stacks.
    pub data: Range,
}

impl ImageLayout {
    /// The layout that the linker chose.
    pub fn get() -> Self {
        let [start, constants, data, end] = [
            &raw const kernel_start,
            &raw const kernel_constants,
            &raw const kernel_data,
            &raw const kernel_end,
        ]
        .map(|symbol| symbol as u64);
        let range = |start, end| Range { start, end };
        Self {
            code: range(start, constants),
            constants: range(constants, data),
            data: range(data, end),
        }
    }

    /// The whole image in physical memory.
    pub fn physical(&self) -> Range {
        Range {
            start: self.code.start - KERNEL_BASE,
            end: self.data.end - KERNEL_BASE,
        }
    }
}
