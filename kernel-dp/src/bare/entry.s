# The border between ring 3 and ring 0: traps, `syscall`, and the way into user mode.
#
# In user mode GS.base belongs to the user; `swapgs` brings the per-CPU block (PerCpu) in. Registers
# of the user live in the per-CPU block while the kernel runs. To the kernel, user mode is a
# function call: enter_user saves the callee-saved registers and returns when the user traps.

.section .text

# Goes on where the user's `syscall` left off, with what a function call preserves, its result, and
# zeroes: nothing of the kernel shows. Interrupts are off. The return address in RCX came from a `syscall`
# at an address below application::END, so SYSRET finds it canonical.
.global enter_user
.balign 64
enter_user:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov gs:[{kernel_rsp}], rsp
    mov rax, gs:[{user} + {rax}]
    mov rbx, gs:[{user} + {rbx}]
    mov rbp, gs:[{user} + {rbp}]
    mov r12, gs:[{user} + {r12}]
    mov r13, gs:[{user} + {r13}]
    mov r14, gs:[{user} + {r14}]
    mov r15, gs:[{user} + {r15}]
    mov rcx, gs:[{user} + {rip}]
    mov r11, gs:[{user} + {rflags}]
    mov rsp, gs:[{user} + {rsp}]
    xor edx, edx
    xor esi, esi
    xor edi, edi
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    swapgs
    sysretq

# The first entry: RIP, RSP, RDI and RFLAGS from the per-CPU block, all else zero.
.global start_user
start_user:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov gs:[{kernel_rsp}], rsp
    push {user_ss}
    push qword ptr gs:[{user} + {rsp}]
    push qword ptr gs:[{user} + {rflags}]
    push {user_cs}
    push qword ptr gs:[{user} + {rip}]
    mov rdi, gs:[{user} + {rdi}]
    xor eax, eax
    xor ebx, ebx
    xor ecx, ecx
    xor edx, edx
    xor esi, esi
    xor ebp, ebp
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r11d, r11d
    xor r12d, r12d
    xor r13d, r13d
    xor r14d, r14d
    xor r15d, r15d
    swapgs
    iretq

# Goes on where an interrupt took the processor from the user, with all its registers; the SSE state is
# still there, since the kernel never touches it. RIP must be canonical: IRETQ faults on any other.
.global resume_user
resume_user:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov gs:[{kernel_rsp}], rsp
    push {user_ss}
    push qword ptr gs:[{user} + {rsp}]
    push qword ptr gs:[{user} + {rflags}]
    push {user_cs}
    push qword ptr gs:[{user} + {rip}]
    mov rax, gs:[{user} + {rax}]
    mov rbx, gs:[{user} + {rbx}]
    mov rcx, gs:[{user} + {rcx}]
    mov rdx, gs:[{user} + {rdx}]
    mov rsi, gs:[{user} + {rsi}]
    mov rdi, gs:[{user} + {rdi}]
    mov rbp, gs:[{user} + {rbp}]
    mov r8, gs:[{user} + {r8}]
    mov r9, gs:[{user} + {r9}]
    mov r10, gs:[{user} + {r10}]
    mov r11, gs:[{user} + {r11}]
    mov r12, gs:[{user} + {r12}]
    mov r13, gs:[{user} + {r13}]
    mov r14, gs:[{user} + {r14}]
    mov r15, gs:[{user} + {r15}]
    swapgs
    iretq

# LSTAR. IF, TF, DF, NT and AC are off by SFMASK; RCX = user RIP, R11 = user RFLAGS.
.global syscall_entry
.balign 64
syscall_entry:
    swapgs
    mov gs:[{user} + {rsp}], rsp
    mov gs:[{user} + {rip}], rcx
    mov gs:[{user} + {rflags}], r11
    mov gs:[{user} + {rax}], rax
    mov gs:[{user} + {rbx}], rbx
    mov gs:[{user} + {rsi}], rsi
    mov gs:[{user} + {rdi}], rdi
    mov gs:[{user} + {rbp}], rbp
    mov gs:[{user} + {r12}], r12
    mov gs:[{user} + {r13}], r13
    mov gs:[{user} + {r14}], r14
    mov gs:[{user} + {r15}], r15
    xor eax, eax
# Makes the pending enter_user, start_user or resume_user return EAX.
return_to_kernel:
    mov rsp, gs:[{kernel_rsp}]
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

# The user faulted or was interrupted: its registers are in the per-CPU block, RDI is what enter_user
# returns. A trap leaves AC and the like as the user had them.
.global abandon_user
abandon_user:
    push 2
    popfq
    mov eax, edi
    jmp return_to_kernel

.macro save_registers
    push rax
    push rbx
    push rcx
    push rdx
    push rsi
    push rdi
    push rbp
    push r8
    push r9
    push r10
    push r11
    push r12
    push r13
    push r14
    push r15
.endm

.macro restore_registers
    pop r15
    pop r14
    pop r13
    pop r12
    pop r11
    pop r10
    pop r9
    pop r8
    pop rbp
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rbx
    pop rax
    add rsp, 16
.endm

# Traps that cannot hit between `syscall` and `swapgs`: the saved CS tells whose GS.base it is.
.global trap
trap:
    cld
    test byte ptr [rsp + 24], 3
    jz 1f
    swapgs
1:  save_registers
    mov rdi, rsp
    call {handle_trap}
    restore_registers
    test byte ptr [rsp + 8], 3
    jz 2f
    swapgs
2:  iretq

# #DB, NMI, #DF and #MC may hit anywhere: GS.base itself tells. The kernel's is in the upper half,
# the user's cannot be (CR4.FSGSBASE is off). RBX remembers, since the handler preserves it.
.global trap_anywhere
trap_anywhere:
    cld
    save_registers
    mov ecx, 0xc0000101
    rdmsr
    mov ebx, edx
    test edx, edx
    js 3f
    swapgs
3:  mov rdi, rsp
    call {handle_trap}
    test ebx, ebx
    js 4f
    swapgs
4:  restore_registers
    iretq
