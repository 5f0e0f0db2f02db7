//! `memcpy` and its kin, which the compiler calls and which no C library provides in an image.
//!
//! Copies of up to 32 bytes, the common ones, take two overlapping moves; longer ones go in
//! blocks of 16 bytes. Not `rep movsb`: its start-up cost is high on small copies, and an
//! emulator executes it byte by byte. Written in assembler, because the compiler would turn a
//! loop in Rust into a call of the function that the loop implements.
//!
//! The functions have names of their own, under which the host's tests call them; only an image
//! gives them those that the compiler looks for.

use core::arch::global_asm;

global_asm!(
    r#"
    .section .text.ix_memory, "ax", @progbits
    .globl ix_memmove, ix_memset, ix_memcmp
    .hidden ix_memmove, ix_memset, ix_memcmp

    .balign 16
ix_memmove:
    mov rax, rdi
    cmp rdx, 16
    jb 3f
    cmp rdx, 32
    ja 1f
    movups xmm0, [rsi]
    movups xmm1, [rsi + rdx - 16]
    movups [rdi], xmm0
    movups [rdi + rdx - 16], xmm1
    ret

1:  // More than 32 bytes: backwards only if the destination starts inside the source.
    mov rcx, rdi
    sub rcx, rsi
    cmp rcx, rdx
    jb 2f
    // The last 16 bytes are loaded first, since the loop may overwrite them.
    movups xmm1, [rsi + rdx - 16]
    lea r8, [rdi + rdx - 16]
7:  movups xmm0, [rsi]
    movups [rdi], xmm0
    add rsi, 16
    add rdi, 16
    cmp rdi, r8
    jb 7b
    movups [r8], xmm1
    ret
2:  movups xmm1, [rsi]
    lea r8, [rdi + 16]
    lea rcx, [rdi + rdx]
    add rsi, rdx
8:  movups xmm0, [rsi - 16]
    movups [rcx - 16], xmm0
    sub rsi, 16
    sub rcx, 16
    cmp rcx, r8
    ja 8b
    movups [rdi], xmm1
    ret

3:  // Fewer than 16 bytes: everything is loaded before anything is stored.
    cmp rdx, 8
    jb 4f
    mov rcx, [rsi]
    mov r8, [rsi + rdx - 8]
    mov [rdi], rcx
    mov [rdi + rdx - 8], r8
    ret
4:  cmp rdx, 4
    jb 5f
    mov ecx, [rsi]
    mov r8d, [rsi + rdx - 4]
    mov [rdi], ecx
    mov [rdi + rdx - 4], r8d
    ret
5:  test rdx, rdx
    jz 6f
    // One to three bytes: first, middle and last, some of which may be the same.
    mov r10, rdx
    shr r10
    movzx ecx, byte ptr [rsi]
    movzx r9d, byte ptr [rsi + r10]
    movzx r8d, byte ptr [rsi + rdx - 1]
    mov [rdi], cl
    mov [rdi + r10], r9b
    mov [rdi + rdx - 1], r8b
6:  ret

    .balign 16
ix_memset:
    mov rax, rdi
    movzx ecx, sil
    mov r8, 0x0101010101010101
    imul rcx, r8
    cmp rdx, 16
    jb 2f
    movq xmm0, rcx
    punpcklqdq xmm0, xmm0
    lea r8, [rdi + rdx - 16]
    movups [r8], xmm0
3:  movups [rdi], xmm0
    add rdi, 16
    cmp rdi, r8
    jb 3b
    ret
2:  test rdx, rdx
    jz 5f
4:  mov [rdi], cl
    inc rdi
    dec rdx
    jnz 4b
5:  ret

    .balign 16
ix_memcmp:
    cmp rdx, 8
    jb 3f
    // Word by word, but for the last one, which may overlap the one before it.
    lea r8, [rdx - 8]
    xor r9d, r9d
    jmp 5f
2:  mov rax, [rdi + r9]
    mov rcx, [rsi + r9]
    cmp rax, rcx
    jne 6f
    add r9, 8
5:  cmp r9, r8
    jb 2b
    mov rax, [rdi + r8]
    mov rcx, [rsi + r8]
    cmp rax, rcx
    jne 6f
    xor eax, eax
    ret
3:  cmp rdx, 4
    jb 4f
    // The same with two half words.
    mov eax, [rdi]
    mov ecx, [rsi]
    cmp eax, ecx
    jne 6f
    mov eax, [rdi + rdx - 4]
    mov ecx, [rsi + rdx - 4]
    cmp eax, ecx
    jne 6f
    xor eax, eax
    ret
4:  test rdx, rdx
    jz 8f
7:  movzx eax, byte ptr [rdi]
    movzx ecx, byte ptr [rsi]
    sub eax, ecx
    jne 9f
    inc rdi
    inc rsi
    dec rdx
    jnz 7b
8:  xor eax, eax
9:  ret
6:  // As big-endian numbers, the words compare like the byte strings.
    bswap rax
    bswap rcx
    xor edx, edx
    cmp rax, rcx
    seta dl
    lea eax, [rdx + rdx - 1]
    ret

    .text
    "#
);

#[cfg(bare)]
global_asm!(
    r#"
    .globl memcpy, memmove, memset, memcmp, bcmp
    .set memcpy, ix_memmove
    .set memmove, ix_memmove
    .set memset, ix_memset
    .set memcmp, ix_memcmp
    .set bcmp, ix_memcmp
    "#
);

#[cfg(test)]
mod tests {
    unsafe extern "sysv64" {
        fn ix_memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8;
        fn ix_memset(to: *mut u8, value: i32, bytes: usize) -> *mut u8;
        fn ix_memcmp(left: *const u8, right: *const u8, bytes: usize) -> i32;
    }

    fn pattern(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|index| (index * 31 + 7) as u8).collect()
    }

    #[test]
    fn moves_of_every_length_and_overlap_are_right() {
        for bytes in 0..100 {
            for from in 0..40 {
                for to in 0..40 {
                    let mut memory = pattern(160);
                    let mut expected = memory.clone();
                    expected.copy_within(from..from + bytes, to);
                    let base = memory.as_mut_ptr();
                    // SAFETY: both ranges lie in `memory`.
                    let returned = unsafe { ix_memmove(base.add(to), base.add(from), bytes) };
                    assert_eq!(returned as usize, base as usize + to);
                    assert_eq!(memory, expected, "{bytes} bytes from {from} to {to}");
                }
            }
        }
    }

    #[test]
    fn fills_touch_exactly_what_they_should() {
        for bytes in 0..100 {
            let mut memory = pattern(140);
            let mut expected = memory.clone();
            expected[20..20 + bytes].fill(0xa5);
            // SAFETY: the range lies in `memory`.
            unsafe { ix_memset(memory.as_mut_ptr().add(20), 0x1a5, bytes) };
            assert_eq!(memory, expected, "{bytes} bytes");
        }
    }

    #[test]
    fn comparisons_agree_with_slices() {
        for bytes in 1..40 {
            let left = pattern(bytes);
            for position in 0..bytes {
                for change in [0x01_u8, 0x80, 0xff] {
                    let mut right = left.clone();
                    right[position] ^= change;
                    right[bytes - 1] ^= 0x40;
                    // SAFETY: both are `bytes` long.
                    let order = unsafe { ix_memcmp(left.as_ptr(), right.as_ptr(), bytes) };
                    assert_eq!(order.signum(), left.cmp(&right) as i32);
                }
            }
            // SAFETY: both are `bytes` long.
            assert_eq!(unsafe { ix_memcmp(left.as_ptr(), left.as_ptr(), bytes) }, 0);
        }
    }
}
