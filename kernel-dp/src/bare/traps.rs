//! Traps: exceptions of the user stop the application, exceptions of the kernel are a panic. The
//! timer's interrupt ends user mode; all others, and that one in the kernel, only acknowledge: they
//! exist to end a halt. The kernel lets them in only there.

use core::arch::asm;
use core::fmt;
use core::sync::atomic::Ordering;

use super::apic;
use super::percpu::{Fault, PerCpu, UserRegisters};
use super::privacy::Trespass;

/// Vector of the LAPIC timer.
pub const TIMER_VECTOR: u8 = 0x40;
/// Vector of the NIC queue's MSI-X interrupt.
pub const NIC_VECTOR: u8 = 0x41;
/// Vector that tells a waiting CPU of a job.
pub const WAKE_VECTOR: u8 = 0x42;
/// Vector of the control plane's doorbell.
pub const CONTROL_VECTOR: u8 = 0x43;
/// Vector of LAPIC errors.
pub const APIC_ERROR_VECTOR: u8 = 0xfe;
/// Vector of spurious LAPIC interrupts, which want no end-of-interrupt.
pub const SPURIOUS_VECTOR: u8 = 0xff;
/// The 16 vectors that the masked 8259s were moved to; a spurious one may still come.
pub const LEGACY_VECTOR: u8 = 0x20;

const EXCEPTIONS: u64 = 32;
const DEBUG: u64 = 1;
const NMI: u64 = 2;
const DOUBLE_FAULT: u64 = 8;
const PAGE_FAULT: u64 = 14;
const MACHINE_CHECK: u64 = 18;

/// What `entry.s` leaves on the stack, from the last pushed up.
#[repr(C)]
#[derive(Debug)]
pub struct TrapFrame {
    r15: u64,
    r14: u64,
    r13: u64,
    r12: u64,
    r11: u64,
    r10: u64,
    r9: u64,
    r8: u64,
    rbp: u64,
    rdi: u64,
    rsi: u64,
    rdx: u64,
    rcx: u64,
    rbx: u64,
    rax: u64,
    vector: u64,
    error_code: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

core::arch::global_asm!(include_str!("stubs.s"), options(att_syntax));

unsafe extern "C" {
    /// Makes the pending entry into user mode return `reason`; in `entry.s`.
    fn abandon_user(reason: u32) -> !;
}

/// All traps end up here, with interrupts off and the kernel's GS.base.
pub extern "C" fn handle_trap(frame: &mut TrapFrame) {
    match frame.vector {
        EXCEPTIONS.. => handle_interrupt(frame),
        NMI => {
            super::smp::stop_if_ending();
            log::warn!("NMI at {:#x}, ignored", frame.rip);
        }
        DOUBLE_FAULT | MACHINE_CHECK => stop_kernel(frame),
        _ if frame.is_of_user() => stop_user(frame),
        // A debug exception that the user provoked may be put off into `syscall` by `mov ss`.
        DEBUG => clear_debug_status(),
        _ => stop_kernel(frame),
    }
}

fn handle_interrupt(frame: &TrapFrame) {
    let cpu = PerCpu::get();
    cpu.interrupts.fetch_add(1, Ordering::Relaxed);
    let vector = frame.vector as u8;
    match vector {
        SPURIOUS_VECTOR => {}
        LEGACY_VECTOR.. if vector < LEGACY_VECTOR + 16 => {}
        _ => apic::end_of_interrupt(),
    }
    if vector == TIMER_VECTOR && frame.is_of_user() {
        leave_user(frame);
    }
}

fn leave_user(frame: &TrapFrame) -> ! {
    let cpu = PerCpu::get();
    // SAFETY: the user was interrupted, so that the kernel waits in `enter_user` and nothing else
    // touches the registers; `abandon_user` resumes it and leaves this stack for good.
    unsafe {
        *cpu.user.get() = frame.registers();
        abandon_user(super::user::TICKED)
    }
}

fn stop_user(frame: &TrapFrame) -> ! {
    let cpu = PerCpu::get();
    // SAFETY: the user trapped, so that the kernel waits in `enter_user` and nothing else touches
    // the registers or the fault; `abandon_user` resumes it and leaves this stack for good.
    unsafe {
        *cpu.user.get() = frame.registers();
        *cpu.fault.get() = Fault {
            vector: frame.vector,
            error_code: frame.error_code,
            address: fault_address(),
        };
        abandon_user(super::user::FAULTED)
    }
}

fn stop_kernel(frame: &TrapFrame) -> ! {
    let fault = Fault {
        vector: frame.vector,
        error_code: frame.error_code,
        address: fault_address(),
    };
    super::panic::stop(
        format_args!(
            "{fault} in the kernel at {:#x}\n{}",
            frame.rip,
            frame.registers()
        ),
        frame.rbp,
    )
}

impl TrapFrame {
    fn is_of_user(&self) -> bool {
        self.cs & 3 == 3
    }

    fn registers(&self) -> UserRegisters {
        UserRegisters {
            rax: self.rax,
            rbx: self.rbx,
            rcx: self.rcx,
            rdx: self.rdx,
            rsi: self.rsi,
            rdi: self.rdi,
            rbp: self.rbp,
            rsp: self.rsp,
            r8: self.r8,
            r9: self.r9,
            r10: self.r10,
            r11: self.r11,
            r12: self.r12,
            r13: self.r13,
            r14: self.r14,
            r15: self.r15,
            rip: self.rip,
            rflags: self.rflags,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (vector {}, error code {:#x}",
            name(self.vector),
            self.vector,
            self.error_code
        )?;
        if self.vector == PAGE_FAULT {
            let what = match self.error_code {
                code if code & 1 << 4 != 0 => "fetch from",
                code if code & 1 << 1 != 0 => "write to",
                _ => "read of",
            };
            let thread = PerCpu::get().thread();
            let address = self.address;
            write!(f, ", {what} {address:#x}{}", Trespass { thread, address })?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for UserRegisters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rip, rsp, rflags, ..
        } = self;
        writeln!(f, "ix:   rip {rip:016x} rsp {rsp:016x} rflags {rflags:08x}")?;
        let Self {
            rax,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rbp,
            ..
        } = self;
        writeln!(
            f,
            "ix:   rax {rax:016x} rbx {rbx:016x} rcx {rcx:016x} rdx {rdx:016x}"
        )?;
        writeln!(f, "ix:   rsi {rsi:016x} rdi {rdi:016x} rbp {rbp:016x}")?;
        let Self {
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            ..
        } = self;
        writeln!(
            f,
            "ix:   r8  {r8:016x} r9  {r9:016x} r10 {r10:016x} r11 {r11:016x}"
        )?;
        write!(
            f,
            "ix:   r12 {r12:016x} r13 {r13:016x} r14 {r14:016x} r15 {r15:016x}"
        )
    }
}

fn name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error",
        DEBUG => "debug exception",
        3 => "breakpoint",
        4 => "overflow",
        5 => "bound range exceeded",
        6 => "invalid opcode",
        7 => "device not available",
        DOUBLE_FAULT => "double fault",
        10 => "invalid TSS",
        11 => "segment not present",
        12 => "stack fault",
        13 => "general protection fault",
        PAGE_FAULT => "page fault",
        16 => "x87 floating-point error",
        17 => "alignment check",
        MACHINE_CHECK => "machine check",
        19 => "SIMD floating-point error",
        _ => "exception",
    }
}

fn fault_address() -> u64 {
    let address;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr2", out(reg) address, options(nomem, nostack, preserves_flags)) };
    address
}

fn clear_debug_status() {
    // SAFETY: DR6 only reports; zero is no less valid than its reset value.
    unsafe { asm!("mov dr6, {}", in(reg) 0u64, options(nomem, nostack, preserves_flags)) };
}
