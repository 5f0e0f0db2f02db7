# From the PVH entry point to 64-bit Rust.
#
# On entry (Xen's x86/HVM direct boot ABI): 32-bit protected mode with flat segments, paging and
# interrupts off, %ebx = physical address of the start info. The kernel is linked at KERNEL_BASE
# plus its physical address, so until paging is on, symbols need KERNEL_BASE taken off.

.set KERNEL_BASE, 0xffffffff80000000

.section .note.ix.pvh, "a", @note
    .balign 4
    .long 4, 8, 18                      # name and descriptor size, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad boot_entry - KERNEL_BASE

.section .text.boot, "ax"
.code32
.global boot_entry
boot_entry:
    cli
    cld
    # Long mode and NX are indispensable (CPUID 0x80000001 EDX bits 29 and 20). SYSCALL comes with
    # long mode; Intel's processors own up to it only once they are in it.
    movl $0x80000001, %eax
    movl %ebx, %ebp
    cpuid
    movl %ebp, %ebx
    andl $0x20100000, %edx
    cmpl $0x20100000, %edx
    jne boot_unsuitable

    # The first 4 GiB in 2 MiB pages. They appear three times: where they are, so that the next
    # instruction is found; as direct map; and their first GiB at KERNEL_BASE.
    movl $(boot_directories - KERNEL_BASE), %edi
    movl $0x83, %eax                    # large, writable, present
    movl $2048, %ecx
1:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    decl %ecx
    jnz 1b

    movl $(boot_pointers_low - KERNEL_BASE), %edi
    movl $(boot_directories - KERNEL_BASE + 3), %eax
    movl $4, %ecx
2:  movl %eax, (%edi)
    addl $0x1000, %eax
    addl $8, %edi
    decl %ecx
    jnz 2b

    movl $(boot_directories - KERNEL_BASE + 3), boot_pointers_high - KERNEL_BASE + 510 * 8
    movl $(boot_pointers_low - KERNEL_BASE + 3), boot_root - KERNEL_BASE
    movl $(boot_pointers_low - KERNEL_BASE + 3), boot_root - KERNEL_BASE + 256 * 8
    movl $(boot_pointers_high - KERNEL_BASE + 3), boot_root - KERNEL_BASE + 511 * 8

    movl $(boot_root - KERNEL_BASE), %eax
    movl %eax, %cr3
    movl $0x20, %eax                    # CR4.PAE
    movl %eax, %cr4
    movl $0xc0000080, %ecx              # EFER: SCE, LME, NXE
    rdmsr
    orl $0x901, %eax
    wrmsr
    movl $0x80010033, %eax              # CR0: PG, WP, NE, ET, MP, PE
    movl %eax, %cr0
    lgdtl boot_gdt_pointer - KERNEL_BASE
    ljmpl $8, $(boot_long - KERNEL_BASE)

# No CPU for this kernel: say so, exit with the code for a bad machine (DebugExit::BadBoot).
boot_unsuitable:
    movl $(boot_message - KERNEL_BASE), %esi
    movw $0x3f8, %dx
3:  lodsb
    testb %al, %al
    jz 4f
    outb %al, %dx
    jmp 3b
4:  movl $0x14, %eax
    movw $0xf4, %dx
    outl %eax, %dx
5:  hlt
    jmp 5b

.code64
boot_long:
    movabsq $boot_high, %rax
    jmpq *%rax
boot_high:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    movq ${stacks} + {main_stack_top}, %rsp
    # A zero frame pointer and return address end every backtrace.
    xorl %ebp, %ebp
    movl %ebx, %edi
    pushq $0
    jmp {main}

.section .rodata.boot, "a"
    .balign 8
.global boot_gdt
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff            # 64-bit code
    .quad 0x00cf93000000ffff            # data
boot_gdt_pointer:
    .word . - boot_gdt - 1
    .long boot_gdt - KERNEL_BASE
boot_message:
    .asciz "ix: this CPU has no long mode or NX: a 64-bit x86 CPU is needed\n"

.section .bss.boot, "aw", @nobits
    .balign 4096
.global boot_root
boot_root:
    .skip 4096
boot_pointers_low:
    .skip 4096
boot_pointers_high:
    .skip 4096
boot_directories:
    .skip 4 * 4096
