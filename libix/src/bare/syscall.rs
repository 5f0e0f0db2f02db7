//! The unbatched system calls.

use core::arch::asm;

use ix_abi::syscall::{EXIT, LOG, LOG_MAX, RUN_IO};

use crate::area::{Area, Kernel};
use crate::ledger::Crew;

/// The dataplane kernel, by way of the `syscall` instruction.
pub(crate) struct Syscalls {
    pub area: Area,
}

// SAFETY: the events come from the dataplane kernel, which keeps the contract of `ix_abi`.
unsafe impl Kernel for Syscalls {
    fn area(&self) -> Area {
        self.area
    }

    fn crew(&self) -> &'static Crew {
        static CREW: Crew = Crew::new();
        &CREW
    }

    #[inline]
    fn run_io(&mut self) {
        system_call(RUN_IO, 0, 0);
    }
}

/// Writes a line to the kernel log; what is longer than the kernel takes is cut at a character
/// boundary.
pub fn log(line: &str) {
    let line = &line[..line.floor_char_boundary(LOG_MAX as usize)];
    system_call(LOG, line.as_ptr() as u64, line.len() as u64);
}

/// Ends the application.
pub fn exit(code: i32) -> ! {
    system_call(EXIT, code as u32 as u64, 0);
    unreachable!("the kernel returned from the exit call");
}

/// The kernel keeps rbx, rbp, rsp, r12 to r15 and the SSE state.
#[inline]
pub(super) fn system_call(number: u64, first: u64, second: u64) -> i64 {
    let result;
    // SAFETY: the calls read memory that their callers pass as a `&str`, or the thread area,
    // whose words are atomics; they write to nothing but the thread area. Without `nomem`, the
    // compiler assumes that memory changed.
    unsafe {
        asm!(
            "syscall",
            inout("rax") number => result,
            inout("rdi") first => _,
            inout("rsi") second => _,
            out("rdx") _,
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result
}

/// The same with a third argument.
pub(super) fn wait_call(number: u64, first: u64, second: u64, third: u64) -> i64 {
    let result;
    // SAFETY: as above.
    unsafe {
        asm!(
            "syscall",
            inout("rax") number => result,
            inout("rdi") first => _,
            inout("rsi") second => _,
            in("r12") third,
            out("rdx") _,
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result
}
