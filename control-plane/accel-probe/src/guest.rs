//! The probe guest: one ELF image, assembled into this program's read-only data.
//!
//! It is a PVH kernel of a few hundred bytes. It enters long mode as the dataplane does, goes to
//! ring 3 with `sysretq`, comes back with `syscall`, checks what ring 3 handed over, and leaves
//! through isa-debug-exit. A KVM that only emulates ring 0 never reaches that exit.
//!
//! The image has a fixed load address, so every address in it is `BASE` plus a distance between
//! two labels, which the assembler knows; the host's linker relocates nothing.

use core::arch::global_asm;

/// What the guest writes to isa-debug-exit after the round trip.
const EXIT_CODE: u8 = 0x5a;

/// QEMU's exit status after a completed round trip: isa-debug-exit reports `code << 1 | 1`.
pub const EXIT_STATUS: i32 = (EXIT_CODE as i32) << 1 | 1;

/// Port of isa-debug-exit that the guest writes to.
pub const EXIT_PORT: u16 = 0xf4;

/// The ELF image, ready to be given to QEMU's `-kernel`.
pub fn image() -> &'static [u8] {
    unsafe extern "C" {
        static ix_accel_probe_start: u8;
        static ix_accel_probe_end: u8;
    }
    // SAFETY: the assembly below defines both symbols as the two ends of one read-only object in
    // one section, so the range is initialised, constant and as long as their distance.
    unsafe {
        let start = &raw const ix_accel_probe_start;
        let end = &raw const ix_accel_probe_end;
        core::slice::from_raw_parts(start, end.offset_from_unsigned(start))
    }
}

global_asm!(
    r#"
    .pushsection .rodata.ix_accel_probe, "a", @progbits
    .balign 16
    .globl ix_accel_probe_start, ix_accel_probe_end
    .hidden ix_accel_probe_start, ix_accel_probe_end

    .set BASE, 0x100000
    .set PML4, BASE + 0x1000
    .set PDPT, BASE + 0x2000
    .set PD, BASE + 0x3000
    .set STACK_TOP, BASE + 0x5000

ix_accel_probe_start:
    # ELF header: 64-bit little-endian executable for x86-64 with two program headers.
    .byte 0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0
    .quad 0
    .short 2, 62
    .long 1
    .quad BASE + 10f - ix_accel_probe_start
    .quad 64, 0
    .long 0
    .short 64, 56, 2, 0, 0, 0
    # PT_LOAD, rwx: the whole file, then page tables and stack, zeroed by the loader.
    .long 1, 7
    .quad 0, BASE, BASE, ix_accel_probe_end - ix_accel_probe_start, 0x5000, 0x1000
    # PT_NOTE with the PVH entry point (Xen note type 18).
    .long 4, 4
    .quad 2f - ix_accel_probe_start
    .quad BASE + 2f - ix_accel_probe_start, BASE + 2f - ix_accel_probe_start
    .quad 3f - 2f, 3f - 2f, 4
2:  .long 4, 8, 18
    .asciz "Xen"
    .quad BASE + 10f - ix_accel_probe_start
3:
    # Selectors in the order that syscall and sysret derive from STAR.
    .balign 8
4:  .quad 0
    .quad 0x00af9b000000ffff    # 0x08: ring 0, 64-bit code
    .quad 0x00cf93000000ffff    # 0x10: ring 0, data
    .quad 0x00cffb000000ffff    # 0x18: ring 3, 32-bit code (base of the SYSRET selectors)
    .quad 0x00cff3000000ffff    # 0x20: ring 3, data
    .quad 0x00affb000000ffff    # 0x28: ring 3, 64-bit code
5:  .short 5b - 4b - 1
    .long BASE + 4b - ix_accel_probe_start

    .code32
10: cld
    movl $STACK_TOP, %esp
    # The first 2 MiB, identity-mapped by one large page that ring 3 may use.
    movl $(PDPT + 7), PML4
    movl $(PD + 7), PDPT
    movl $0x87, PD
    movl $PML4, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $0x20, %eax             # CR4.PAE
    movl %eax, %cr4
    movl $0xc0000080, %ecx      # IA32_EFER
    rdmsr
    orl $0x101, %eax            # LME, SCE
    wrmsr
    movl %cr0, %eax
    orl $0x80000000, %eax       # CR0.PG
    movl %eax, %cr0
    lgdtl BASE + 5b - ix_accel_probe_start
    ljmpl $0x08, $(BASE + 20f - ix_accel_probe_start)

    .code64
20: movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $0xc0000081, %ecx      # IA32_STAR: SYSRET base 0x18 with RPL 3, SYSCALL base 0x08
    xorl %eax, %eax
    movl $0x001b0008, %edx
    wrmsr
    movl $0xc0000082, %ecx      # IA32_LSTAR
    movl $(BASE + 40f - ix_accel_probe_start), %eax
    xorl %edx, %edx
    wrmsr
    movl $0xc0000084, %ecx      # IA32_FMASK: interrupts stay off
    movl $0x200, %eax
    wrmsr
    movl $(BASE + 30f - ix_accel_probe_start), %ecx
    movl $2, %r11d
    sysretq

    # Ring 3: hand over the code selector as proof of where this ran, and a word from memory.
30: movl %cs, %ebx
    pushq $0x1234
    popq %rbp
    syscall
    ud2

    # Ring 0 again. Anything unexpected triple-faults, and the VM ends without the exit code.
40: cmpl $0x2b, %ebx
    jne 50f
    cmpl $0x1234, %ebp
    jne 50f
    movl %cs, %eax
    cmpl $0x08, %eax
    jne 50f
    movl ${exit_code}, %eax
    movl ${exit_port}, %edx
    outl %eax, %dx
50: ud2
ix_accel_probe_end:
    .popsection
    "#,
    exit_code = const EXIT_CODE,
    exit_port = const EXIT_PORT,
    options(att_syntax)
);

#[cfg(test)]
mod tests {
    use super::image;

    fn word(offset: usize) -> u64 {
        u64::from_le_bytes(image()[offset..offset + 8].try_into().unwrap())
    }

    #[test]
    fn image_is_an_executable_whose_headers_describe_it() {
        let image = image();
        assert_eq!(&image[..6], b"\x7fELF\x02\x01");
        let (load, note) = (64, 64 + 56);
        let (base, file_bytes) = (word(load + 16), word(load + 32));
        assert_eq!(file_bytes as usize, image.len());
        assert!(word(load + 40) >= file_bytes);
        assert!(
            (base..base + file_bytes).contains(&word(24)),
            "entry point inside"
        );
        let note_offset = word(note + 8) as usize;
        assert_eq!(&image[note_offset + 12..note_offset + 16], b"Xen\0");
        assert_eq!(
            word(note_offset + 16),
            word(24),
            "PVH entry is the ELF entry"
        );
    }
}
