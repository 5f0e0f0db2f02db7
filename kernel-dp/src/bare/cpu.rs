//! The processor: identification, control and model-specific registers, I/O ports, and what the
//! kernel switches on at boot.

use core::arch::asm;
use core::arch::x86_64::{__cpuid_count, _rdtsc};
use core::fmt;

/// Model-specific registers.
pub mod msr {
    /// Local APIC base and mode.
    pub const APIC_BASE: u32 = 0x1b;
    /// TSC value at which the LAPIC timer fires.
    pub const TSC_DEADLINE: u32 = 0x6e0;
    /// First of the x2APIC's registers; their memory offset / 16 is added.
    pub const X2APIC: u32 = 0x800;
    /// Selectors of `syscall` and `sysret`.
    pub const STAR: u32 = 0xc000_0081;
    /// Entry point of `syscall`.
    pub const LSTAR: u32 = 0xc000_0082;
    /// Flags that `syscall` clears.
    pub const SFMASK: u32 = 0xc000_0084;
    /// Base of FS, which the kernel leaves to the user.
    pub const FS_BASE: u32 = 0xc000_0100;
    /// Base of GS.
    pub const GS_BASE: u32 = 0xc000_0101;
    /// What `swapgs` exchanges with it.
    pub const KERNEL_GS_BASE: u32 = 0xc000_0102;
    /// KVM: address of the clock page, bit 0 enables it.
    pub const KVM_SYSTEM_TIME: u32 = 0x4b56_4d01;
}

const CR0_MONITOR: u64 = 1 << 1;
const CR0_EMULATION: u64 = 1 << 2;
const CR0_TASK_SWITCHED: u64 = 1 << 3;
const CR0_NUMERIC_ERROR: u64 = 1 << 5;
const CR0_WRITE_PROTECT: u64 = 1 << 16;
const CR4_PAE: u64 = 1 << 5;
const CR4_GLOBAL_PAGES: u64 = 1 << 7;
const CR4_FXSR: u64 = 1 << 9;
const CR4_SIMD_EXCEPTIONS: u64 = 1 << 10;
const CR4_UMIP: u64 = 1 << 11;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;

/// What the processor has of what the kernel can use.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// Supervisor-mode execution prevention.
    pub smep: bool,
    /// Supervisor-mode access prevention.
    pub smap: bool,
    /// User-mode instruction prevention.
    pub umip: bool,
    /// x2APIC mode.
    pub x2apic: bool,
    /// LAPIC timer by TSC deadline.
    pub tsc_deadline: bool,
    /// RDRAND.
    pub rdrand: bool,
    /// KVM's clock page at [`msr::KVM_SYSTEM_TIME`].
    pub kvm_clock: bool,
}

impl Features {
    /// Asks the processor.
    pub fn probe() -> Self {
        let has = |word: u32, bit: u32| word & 1 << bit != 0;
        let basic = cpuid(1);
        let extended = (cpuid(0).eax >= 7).then(|| cpuid(7));
        let (ebx, ecx) = extended.map_or((0, 0), |leaf| (leaf.ebx, leaf.ecx));
        Self {
            smep: has(ebx, 7),
            smap: has(ebx, 20),
            umip: has(ecx, 2),
            x2apic: has(basic.ecx, 21),
            tsc_deadline: has(basic.ecx, 24),
            rdrand: has(basic.ecx, 30),
            kvm_clock: has(basic.ecx, 31) && has_kvm_clock(),
        }
    }

    /// Switches on what protects the kernel and what the application's code needs: write
    /// protection in ring 0, SMEP, SMAP and UMIP where present, global pages, and SSE, which the
    /// kernel itself never touches. User mode may not read performance counters, nor write GS.base.
    pub fn enable(&self) {
        let mut cr4 = CR4_PAE | CR4_GLOBAL_PAGES | CR4_FXSR | CR4_SIMD_EXCEPTIONS;
        for (present, bit) in [
            (self.smep, CR4_SMEP),
            (self.smap, CR4_SMAP),
            (self.umip, CR4_UMIP),
        ] {
            if present {
                cr4 |= bit;
            }
        }
        // SAFETY: paging stays on; every bit set was probed or is part of long mode; no user
        // mapping exists yet that the kernel relies on.
        unsafe {
            let mut cr0: u64;
            asm!("mov {}, cr0", out(reg) cr0, options(nomem, nostack, preserves_flags));
            cr0 |= CR0_MONITOR | CR0_NUMERIC_ERROR | CR0_WRITE_PROTECT;
            cr0 &= !(CR0_EMULATION | CR0_TASK_SWITCHED);
            asm!("mov cr0, {}", in(reg) cr0, options(nostack, preserves_flags));
            asm!("mov cr4, {}", in(reg) cr4, options(nostack, preserves_flags));
            asm!("fninit", options(nomem, nostack));
        }
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.x2apic { "x2APIC" } else { "xAPIC" })?;
        for (present, name) in [
            (self.tsc_deadline, " TSC-deadline"),
            (self.smep, " SMEP"),
            (self.smap, " SMAP"),
            (self.umip, " UMIP"),
        ] {
            f.write_str(if present { name } else { "" })?;
        }
        Ok(())
    }
}

/// A leaf of CPUID.
pub struct Cpuid {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
}

/// Subleaf 0 of a leaf of CPUID.
pub fn cpuid(leaf: u32) -> Cpuid {
    let result = __cpuid_count(leaf, 0);
    Cpuid {
        eax: result.eax,
        ebx: result.ebx,
        ecx: result.ecx,
    }
}

/// KVM signs its leaves with "KVMKVMKVM"; its clock at the newer MSRs is feature bit 3.
fn has_kvm_clock() -> bool {
    let signature = cpuid(0x4000_0000);
    let kvm = [0x4b4d_564b, 0x564b_4d56] == [signature.ebx, signature.ecx];
    kvm && cpuid(0x4000_0001).eax & 1 << 3 != 0
}

/// Loads the page tables whose root is at that physical address, and forgets all translations made so
/// far, those of global pages too (Intel SDM volume 3, 4.10.4.1).
///
/// # Safety
/// The tables map whatever runs and is referred to, as it is mapped now.
pub unsafe fn load_page_tables(root: u64) {
    // SAFETY: the caller vouches for the tables; CR4 ends as it was.
    unsafe {
        let mut cr4: u64;
        asm!("mov cr3, {}", in(reg) root, options(nostack, preserves_flags));
        asm!("mov {}, cr4", out(reg) cr4, options(nomem, nostack, preserves_flags));
        cr4 ^= CR4_GLOBAL_PAGES;
        asm!("mov cr4, {}", in(reg) cr4, options(nostack, preserves_flags));
        cr4 ^= CR4_GLOBAL_PAGES;
        asm!("mov cr4, {}", in(reg) cr4, options(nostack, preserves_flags));
    }
}

/// The time-stamp counter.
#[inline]
pub fn rdtsc() -> u64 {
    // SAFETY: reads a counter; no kernel of ours sets CR4.TSD.
    unsafe { _rdtsc() }
}

/// Reads a model-specific register.
///
/// # Safety
/// The processor must have the register.
pub unsafe fn rdmsr(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller vouches for the register; reading has no effect on memory.
    unsafe {
        asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high,
            options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Writes a model-specific register.
///
/// # Safety
/// The processor must have the register, and the value must uphold what the kernel relies on.
pub unsafe fn wrmsr(register: u32, value: u64) {
    // SAFETY: the caller vouches for register and value.
    unsafe {
        asm!("wrmsr", in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags));
    }
}

/// Reads a byte from an I/O port.
///
/// # Safety
/// Reading the port must have no effect that the kernel does not expect.
pub unsafe fn inb(port: u16) -> u8 {
    let value: u8;
    // SAFETY: the caller vouches for the port.
    unsafe {
        asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags));
    }
    value
}

/// Writes a byte to an I/O port.
///
/// # Safety
/// As for [`inb`].
pub unsafe fn outb(port: u16, value: u8) {
    // SAFETY: the caller vouches for the port.
    unsafe {
        asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags));
    }
}

/// Reads 32 bits from an I/O port.
///
/// # Safety
/// As for [`inb`].
pub unsafe fn inl(port: u16) -> u32 {
    let value: u32;
    // SAFETY: the caller vouches for the port.
    unsafe {
        asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack, preserves_flags));
    }
    value
}

/// Writes 32 bits to an I/O port.
///
/// # Safety
/// As for [`inb`].
pub unsafe fn outl(port: u16, value: u32) {
    // SAFETY: the caller vouches for the port.
    unsafe {
        asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags));
    }
}

/// Stops for good, with interrupts off.
pub fn halt_forever() -> ! {
    loop {
        // SAFETY: nothing runs after this; interrupts are off, so that nothing can.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) };
    }
}
