//! User mode as a function call: [`User::enter`] runs the application until it makes a system
//! call, faults, or is interrupted by this CPU's timer. After a tick the next `enter` goes on where
//! the user was, with all its registers; they stay in [`PerCpu::user`] meanwhile.

use core::mem::offset_of;

use kernel_dp::application::ThreadPlaces;

use super::cpu::{msr, wrmsr};
use super::descriptors::{KERNEL_CODE, KERNEL_DATA, USER_CODE, USER_DATA};
use super::percpu::{Fault, PerCpu, UserRegisters};

macro_rules! entry_code {
    ($($register:ident)*) => {
        core::arch::global_asm!(
            include_str!("entry.s"),
            kernel_rsp = const offset_of!(PerCpu, kernel_rsp),
            user = const offset_of!(PerCpu, user),
            user_cs = const USER_CODE,
            user_ss = const USER_DATA,
            handle_trap = sym super::traps::handle_trap,
            $($register = const offset_of!(UserRegisters, $register),)*
        );
    };
}

entry_code!(rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip rflags);

/// What `enter_user` returns for a system call.
const CALLED: u32 = 0;
/// What `enter_user` returns for an exception.
pub const FAULTED: u32 = 1;
/// What `enter_user` returns for an interrupt of the timer.
pub const TICKED: u32 = 2;

/// Vector of a general protection fault.
const GENERAL_PROTECTION: u64 = 13;

/// TF, IF, DF, IOPL, NT, AC: the kernel runs with none of the user's modes.
const SYSCALL_MASK: u64 = 1 << 8 | 1 << 9 | 1 << 10 | 3 << 12 | 1 << 14 | 1 << 18;
/// RFLAGS at the start: interrupts on.
const START_FLAGS: u64 = 1 << 9 | 1 << 1;

unsafe extern "C" {
    fn syscall_entry();
    fn start_user() -> u32;
    fn enter_user() -> u32;
    fn resume_user() -> u32;
}

/// Why the kernel runs again.
#[derive(Debug)]
pub enum UserExit {
    /// A `syscall`, with its number and two arguments.
    Call(u64, [u64; 2]),
    /// An exception, with the registers as they were.
    Fault(Fault, UserRegisters),
    /// The timer fired.
    Tick,
}

/// The application's thread on this CPU.
pub struct User {
    enter: unsafe extern "C" fn() -> u32,
}

impl User {
    /// Prepares the processor for `syscall`, and a thread that will begin at `entry`.
    ///
    /// # Safety
    /// GDT, IDT and per-CPU block are loaded, and the address space that is loaded maps nothing of
    /// the kernel's for the user. There is no other `User` on this CPU.
    pub unsafe fn new(entry: u64, places: &ThreadPlaces) -> Self {
        let selectors = u64::from(USER_DATA - 8) << 48 | u64::from(KERNEL_CODE) << 32;
        const { assert!(KERNEL_DATA == KERNEL_CODE + 8 && USER_CODE == USER_DATA + 8) };
        // SAFETY: boot checked for SYSCALL; the selectors are those of the GDT, and the entry
        // point takes over from any state that user mode can be in.
        unsafe {
            wrmsr(msr::STAR, selectors);
            wrmsr(msr::LSTAR, syscall_entry as *const () as u64);
            wrmsr(msr::SFMASK, SYSCALL_MASK);
            wrmsr(msr::FS_BASE, places.area);
            let registers = &mut *PerCpu::get().user.get();
            registers.rip = entry;
            registers.rsp = places.stack_top();
            registers.rdi = places.area;
            registers.rflags = START_FLAGS;
        }
        Self { enter: start_user }
    }

    /// Runs the application. The result of the last system call must be set.
    #[inline]
    pub fn enter(&mut self) -> UserExit {
        let enter = core::mem::replace(&mut self.enter, enter_user);
        // SAFETY: `new` set up the registers, of which the user can have changed only its own; no
        // reference into the per-CPU registers is held across the call.
        let reason = unsafe { enter() };
        // SAFETY: the user trapped; nothing writes its registers until the next call.
        let registers = unsafe { &*PerCpu::get().user.get() };
        match reason {
            CALLED => UserExit::Call(registers.rax, [registers.rdi, registers.rsi]),
            TICKED => self.ticked(registers),
            _ => {
                // SAFETY: as above.
                let fault = unsafe { *PerCpu::get().fault.get() };
                UserExit::Fault(fault, *registers)
            }
        }
    }

    /// The user will go on with all its registers, unless it has jumped to where nothing can be: some
    /// processors fault on that jump only when they fetch from there.
    #[cold]
    fn ticked(&mut self, registers: &UserRegisters) -> UserExit {
        if registers.rip >> 47 != 0 {
            let fault = Fault {
                vector: GENERAL_PROTECTION,
                error_code: 0,
                address: 0,
            };
            return UserExit::Fault(fault, *registers);
        }
        self.enter = resume_user;
        UserExit::Tick
    }

    /// Sets the result of the system call that the user waits in.
    #[inline]
    pub fn set_result(&mut self, result: i64) {
        // SAFETY: the user does not run, and `&mut self` is the only way to its registers.
        unsafe { (*PerCpu::get().user.get()).rax = result as u64 };
    }
}
