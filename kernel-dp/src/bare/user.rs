//! User mode as a function call: [`User::enter`] runs the application until it makes a system
//! call, faults, or is interrupted by this CPU's timer. After a tick the next `enter` goes on where
//! the user was, with all its registers; they stay in [`PerCpu::user`] meanwhile. [`SharedUser`] is
//! for the processor whose user threads take turns: it puts the state of one away for that of another.

use core::arch::asm;
use core::mem::offset_of;

use kernel_dp::application::{END, ThreadPlaces};

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
        // SAFETY: the caller's promise; no user runs yet, and nothing else refers to its registers.
        unsafe {
            prepare_processor(places.area);
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

    /// The registers that the user goes on with.
    pub fn registers(&self) -> UserRegisters {
        // SAFETY: the user does not run, and nothing else writes its registers.
        unsafe { *PerCpu::get().user.get() }
    }

    /// Sets the result of the system call that the user waits in.
    #[inline]
    pub fn set_result(&mut self, result: i64) {
        // SAFETY: the user does not run, and `&mut self` is the only way to its registers.
        unsafe { (*PerCpu::get().user.get()).rax = result as u64 };
    }
}

/// Prepares this processor for `syscall`, and FS.base for a thread with that area.
///
/// # Safety
/// As for [`User::new`].
unsafe fn prepare_processor(area: u64) {
    let selectors = u64::from(USER_DATA - 8) << 48 | u64::from(KERNEL_CODE) << 32;
    const { assert!(KERNEL_DATA == KERNEL_CODE + 8 && USER_CODE == USER_DATA + 8) };
    // SAFETY: boot checked for SYSCALL; the selectors are those of the GDT, and the entry point takes
    // over from any state that user mode can be in.
    unsafe {
        wrmsr(msr::STAR, selectors);
        wrmsr(msr::LSTAR, syscall_entry as *const () as u64);
        wrmsr(msr::SFMASK, SYSCALL_MASK);
        wrmsr(msr::FS_BASE, area);
    }
}

/// Everything of user mode that belongs to one of several threads.
pub struct UserState {
    registers: UserRegisters,
    extended: ExtendedState,
}

impl UserState {
    /// That of no thread.
    pub const NONE: Self = Self {
        registers: UserRegisters::ZERO,
        extended: ExtendedState([0; 512]),
    };
}

/// What FXSAVE saves: x87 and SSE, which is all that user mode has, since CR4.OSXSAVE is off.
#[repr(C, align(16))]
#[derive(Clone)]
struct ExtendedState([u8; 512]);

/// Where registers begin behind the control words (AMD64 Architecture Programmer's Manual, volume 2,
/// 11.4.4).
const EXTENDED_REGISTERS: usize = 32;

/// The threads on a processor that they share.
pub struct SharedUser {
    user: User,
    /// What FS.base is for each of them.
    area: u64,
    /// SSE and x87 state of a thread that begins.
    initial: ExtendedState,
}

impl SharedUser {
    /// Prepares the processor for `syscall`, and for threads with that area.
    ///
    /// # Safety
    /// As for [`User::new`]. No user mode has run on this processor yet.
    pub unsafe fn new(area: u64) -> Self {
        let mut initial = ExtendedState([0; 512]);
        // SAFETY: the caller's promise; the place for the state is as long and aligned as FXSAVE asks
        // for, and CR4.OSFXSR is on.
        unsafe {
            prepare_processor(area);
            asm!("fxsave64 [{}]", in(reg) &raw mut initial, options(nostack, preserves_flags));
        }
        initial.0[EXTENDED_REGISTERS..].fill(0);
        let user = User { enter: resume_user };
        Self {
            user,
            area,
            initial,
        }
    }

    /// The state of a thread that begins at `entry`, below [`END`].
    pub fn begin(&self, entry: u64, argument: u64, stack_top: u64) -> UserState {
        assert!(entry < END, "IRETQ faults on other addresses");
        UserState {
            registers: UserRegisters {
                rip: entry,
                rsp: stack_top,
                rdi: argument,
                rflags: START_FLAGS,
                ..UserRegisters::ZERO
            },
            extended: self.initial.clone(),
        }
    }

    /// Makes `state` that of user mode.
    pub fn load(&mut self, state: &UserState) {
        // SAFETY: no user runs, and `&mut self` is the only way to its registers. FXSAVE made the
        // state on this processor. FS.base is set anew, since a thread can load FS.
        unsafe {
            *PerCpu::get().user.get() = state.registers;
            let extended = &raw const state.extended;
            asm!("fxrstor64 [{}]", in(reg) extended, options(nostack, preserves_flags));
            wrmsr(msr::FS_BASE, self.area);
        }
    }

    /// Puts the state of user mode away.
    pub fn save(&mut self, state: &mut UserState) {
        // SAFETY: no user runs, and `&mut self` is the only way to its registers; the kernel itself
        // touches neither SSE nor x87, so that they are still the thread's.
        unsafe {
            state.registers = *PerCpu::get().user.get();
            let extended = &raw mut state.extended;
            asm!("fxsave64 [{}]", in(reg) extended, options(nostack, preserves_flags));
        }
    }

    /// Runs what is loaded, from where it left off.
    pub fn enter(&mut self) -> UserExit {
        self.user.enter = resume_user;
        self.user.enter()
    }

    /// The third argument of the system call that the user waits in.
    pub fn third_argument(&self) -> u64 {
        // SAFETY: the user does not run, so that nothing writes its registers.
        unsafe { (*PerCpu::get().user.get()).r12 }
    }

    /// See [`User::set_result`].
    pub fn set_result(&mut self, result: i64) {
        self.user.set_result(result);
    }
}
