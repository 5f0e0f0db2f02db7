# From the startup IPI to 64-bit Rust, for every processor but the first.
#
# The first part is copied to a page below 1 MiB, where the processor starts in real mode with
# CS:IP = page:0. It switches to long mode at once, on boot's tables and segments (boot.s), which map
# that page and the kernel where they are; the kernel's own tables never map the page as code.

.set KERNEL_BASE, 0xffffffff80000000

.section .rodata.trampoline, "a"
.code16
.global trampoline_start
trampoline_start:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    lgdtl trampoline_gdt_pointer - trampoline_start
    movl $0x20, %eax                    # CR4.PAE
    movl %eax, %cr4
    movl $(boot_root - KERNEL_BASE), %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx              # EFER: SCE, LME, NXE
    rdmsr
    orl $0x901, %eax
    wrmsr
    movl $0x80010033, %eax              # CR0: PG, WP, NE, ET, MP, PE
    movl %eax, %cr0
    ljmpl $8, $(trampoline_long - KERNEL_BASE)
    .balign 4
trampoline_gdt_pointer:
    .word 3 * 8 - 1
    .long boot_gdt - KERNEL_BASE
.global trampoline_end
trampoline_end:

.section .text
.code64
trampoline_long:
    movabsq $trampoline_high, %rax
    jmpq *%rax
trampoline_high:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    xorl %eax, %eax
    movl %eax, %fs
    movl %eax, %gs
    # The kernel's tables, then the block that the boot processor laid out for whoever comes first.
    # One that comes too late finds none, and stops for good.
    movq {tables}(%rip), %rax
    movq %rax, %cr3
    xorl %edi, %edi
    xchgq %rdi, {ticket}(%rip)
    testq %rdi, %rdi
    jz 1f
    leaq {main_stack_top}(%rdi), %rsp
    # A zero frame pointer and return address end every backtrace.
    xorl %ebp, %ebp
    pushq $0
    jmp {main}
1:  cli
    hlt
    jmp 1b
