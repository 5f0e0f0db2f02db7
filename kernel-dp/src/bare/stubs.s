.section .text

# One stub of 16 bytes per vector: all vectors look alike behind it, with an error code. AT&T syntax,
# in which a symbol can be an immediate.
.global trap_stubs
.balign 16
trap_stubs:
.set vector, 0
.rept 256
    .balign 16
    .if (vector != 8) && (vector != 17) && (vector != 21) && (vector != 29) && (vector != 30) && ((vector < 10) || (vector > 14))
    pushq $0
    .endif
    pushq $vector
    .if (vector == 1) || (vector == 2) || (vector == 8) || (vector == 18)
    jmp trap_anywhere
    .else
    jmp trap
    .endif
    .set vector, vector + 1
.endr
