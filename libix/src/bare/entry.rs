//! From the kernel's jump to the application's start function, and the last words of a panic.

use alloc::string::String;
use alloc::vec::Vec;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU64, Ordering};

use ix_abi::{THREADS_MAX, area, boot};

use super::{exit, heap, log};
use crate::area::Area;
use crate::boot::BootBlock;
use crate::log::Line;

/// Address of each thread's area, until that thread takes it.
static AREAS: [AtomicU64; THREADS_MAX] = [const { AtomicU64::new(0) }; THREADS_MAX];

/// The note by which the kernel knows an application image and its ABI version.
#[repr(C, align(4))]
struct ImageNote {
    name_bytes: u32,
    descriptor_bytes: u32,
    kind: u32,
    name: [u8; 4],
    version: u32,
}

#[used]
// SAFETY: `.note.ix` is kept by the linker script and read by the kernel's loader alone.
#[unsafe(link_section = ".note.ix")]
static IMAGE_NOTE: ImageNote = ImageNote {
    name_bytes: ix_abi::note::NAME.len() as u32,
    descriptor_bytes: 4,
    kind: ix_abi::note::TYPE,
    name: {
        let [first, second, zero] = *ix_abi::note::NAME;
        [first, second, zero, 0]
    },
    version: ix_abi::VERSION,
};

/// The ELF entry point of every thread: `rdi` = FS.base = thread area, `rsp` = top of the stack, aligned to 16 bytes.
///
/// # Safety
/// Only the kernel enters here, once on each thread, as `ix_abi::boot` says.
#[unsafe(naked)]
// SAFETY: no other symbol of this name can be linked, since there is no C runtime in the image.
#[unsafe(no_mangle)]
unsafe extern "sysv64" fn _start() -> ! {
    core::arch::naked_asm!(
        "xor ebp, ebp",
        "call {enter}",
        "ud2",
        enter = sym enter,
    )
}

// The precompiled `alloc` refers to the unwinder, which an image does not have: a panic ends the
// application before anything unwinds.
core::arch::global_asm!(
    ".globl _Unwind_Resume, rust_eh_personality",
    "_Unwind_Resume:",
    "rust_eh_personality:",
    "ud2",
);

unsafe extern "Rust" {
    /// Defined by `libix::main!`.
    safe fn ix_image_main(arguments: &[&str]) -> i32;
}

extern "sysv64" fn enter(address: u64) -> ! {
    // SAFETY: the kernel passes the address of the thread area, which stays mapped, and which
    // nothing but the kernel and this thread accesses, word by word.
    let area = match unsafe { Area::from_address(address) } {
        Ok(area) => area,
        Err(_) => exit(EXIT_BAD_AREA),
    };
    AREAS[thread()].store(address, Ordering::Relaxed);
    let boot = BootBlock::new(area);
    // SAFETY: the boot block names memory that is this thread's alone, and that the allocator gets
    // once, here.
    unsafe { heap::set_up(boot.heap_base(), boot.heap_bytes()) };
    let arguments = boot.arguments();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    exit(ix_image_main(&arguments))
}

/// Number of the thread that this runs on: FS.base is the address of its area. Background threads
/// have one together.
#[inline]
pub(crate) fn thread() -> usize {
    const OFFSET: usize = (area::BOOT + boot::THREAD) * 8;
    let thread: usize;
    // SAFETY: the kernel points FS.base at the thread area for good, whose boot block nobody changes
    // while the thread runs.
    unsafe {
        core::arch::asm!("mov {}, fs:[{offset}]", out(reg) thread, offset = const OFFSET,
            options(pure, readonly, nostack, preserves_flags));
    }
    thread % THREADS_MAX
}

/// The thread area, the first time that a thread asks.
pub(crate) fn take_area() -> Option<Area> {
    match AREAS[thread()].swap(0, Ordering::Relaxed) {
        0 => None,
        // SAFETY: `enter` stored the address that the kernel gave.
        address => unsafe { Area::from_address(address) }.ok(),
    }
}

/// Exit code when the kernel's side of the start is not as this ABI version has it.
pub(super) const EXIT_BAD_AREA: i32 = 102;

/// Exit code after a panic, as in Rust programs elsewhere.
const EXIT_PANIC: i32 = 101;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let mut line = Line::new();
    // Writing to a `Line` cuts instead of failing.
    let _ = core::fmt::Write::write_fmt(&mut line, format_args!("{info}"));
    log(line.as_str());
    exit(EXIT_PANIC)
}
