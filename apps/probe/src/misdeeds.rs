//! What safe code cannot do: each of these, the kernel must answer or stop the application for.

use alloc::format;
use alloc::string::String;
use core::arch::asm;
use core::hint::black_box;

use ix_abi::Error;
use ix_abi::syscall::{LOG, LOG_MAX};
use libix::{BootBlock, Kernel, println};

/// An address in the kernel's image (kernel-dp is linked at -2 GiB).
pub const KERNEL_ADDRESS: u64 = 0xffff_ffff_8020_0000;

/// Where the kernel maps the thread area of thread 1 (kernel-dp, `application`), and its stack.
const SECOND_AREA: u64 = 0x10_0040_0000;
const SECOND_STACK: u64 = 0x30_0060_0000;

/// Exit code of a misdeed that had no consequences.
const UNPUNISHED: i32 = 1;

/// Never yields.
pub fn spin() -> i32 {
    println!("spinning");
    loop {
        core::hint::spin_loop();
    }
}

/// Reads through a null pointer.
pub fn fault() -> i32 {
    read(0)
}

/// Reads kernel memory.
pub fn read_kernel() -> i32 {
    read(KERNEL_ADDRESS)
}

/// Disables interrupts.
pub fn cli() -> i32 {
    // SAFETY: none; it faults.
    unsafe { asm!("cli") };
    unpunished("cli was executed")
}

/// Jumps into the kernel.
pub fn jump_to_kernel() -> i32 {
    // SAFETY: none; it faults.
    unsafe { asm!("call {}", in(reg) KERNEL_ADDRESS, clobber_abi("sysv64")) };
    unpunished("the kernel returned from a call")
}

/// Writes to a received frame's buffer.
pub fn write_mbuf() -> i32 {
    let kernel = match libix::kernel() {
        Ok(kernel) => kernel,
        Err(error) => return unpunished(error),
    };
    let address = BootBlock::new(kernel.area()).mbuf_base();
    // SAFETY: none; it faults.
    unsafe { asm!("mov byte ptr [{}], 1", in(reg) address) };
    unpunished("an mbuf was written to")
}

/// Thread 0 reads the thread area of thread 1; all others wait for the end.
pub fn read_area_of_another_thread() -> i32 {
    let block = match libix::kernel() {
        Ok(kernel) => BootBlock::new(kernel.area()),
        Err(error) => return unpunished(error),
    };
    match block.thread() {
        0 => read(SECOND_AREA),
        _ => spin(),
    }
}

/// Thread 0 writes to the stack of thread 1; all others wait for the end.
pub fn write_stack_of_another_thread() -> i32 {
    let block = match libix::kernel() {
        Ok(kernel) => BootBlock::new(kernel.area()),
        Err(error) => return unpunished(error),
    };
    if block.thread() != 0 {
        return spin();
    }
    // SAFETY: none; it faults.
    unsafe { asm!("mov byte ptr [{}], 1", in(reg) SECOND_STACK) };
    unpunished("the stack of another thread was written to")
}

/// Recurses until the stack's guard page.
pub fn overflow_stack() -> i32 {
    fn descend(depth: u64) -> u64 {
        let frame = black_box([depth; 64]);
        if depth == u64::MAX {
            return 0;
        }
        descend(depth + 1) + frame[0]
    }
    unpunished(descend(0))
}

/// Passes memory to the log call that is not there, or not the application's.
pub fn log_what_is_not_ours() -> Result<(), String> {
    let ours = USABLE.as_ptr() as u64;
    for (address, bytes, expected) in [
        (0, 8, Error::BadAddress),
        (KERNEL_ADDRESS, 8, Error::BadAddress),
        (0x8000_0000_0000, 8, Error::BadAddress),
        (u64::MAX - 3, 8, Error::BadAddress),
        (0x7fff_ffff_f000, LOG_MAX, Error::BadAddress),
        (ours, LOG_MAX + 1, Error::Invalid),
        (ours, u64::MAX, Error::Invalid),
    ] {
        let result = system_call(LOG, address, bytes);
        if result != expected.to_result() {
            return Err(format!(
                "log of {address:#x} + {bytes:#x} gave {result}, expected {expected:?}"
            ));
        }
    }
    Ok(())
}

/// Executes `syscall` with numbers that mean nothing.
pub fn call_numbers_that_do_not_exist() -> Result<(), String> {
    for number in [99, u64::from(u32::MAX), 1 << 32, u64::MAX] {
        let result = system_call(number, 0, 0);
        if result != Error::Invalid.to_result() {
            return Err(format!("system call {number:#x} gave {result}"));
        }
    }
    Ok(())
}

static USABLE: [u8; 8] = *b"not much";

fn read(address: u64) -> i32 {
    let value: u64;
    // SAFETY: none; it faults.
    unsafe { asm!("mov {}, qword ptr [{}]", out(reg) value, in(reg) address) };
    unpunished(value)
}

fn unpunished(what: impl core::fmt::Display) -> i32 {
    println!("probe: went unpunished: {what}");
    UNPUNISHED
}

/// Makes an unbatched system call with two arguments, and zero for the third.
pub fn system_call(number: u64, first: u64, second: u64) -> i64 {
    let result;
    // SAFETY: the kernel reads memory at most, and only what the application may read.
    unsafe {
        asm!(
            "syscall",
            inout("rax") number => result,
            in("rdi") first,
            in("rsi") second,
            in("r12") 0u64,
            clobber_abi("sysv64"),
        );
    }
    result
}
