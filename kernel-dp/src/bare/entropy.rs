//! The secret behind flow hash and sequence numbers.

use core::arch::asm;

use super::cpu::{Features, rdtsc};

/// Tries of RDRAND before it counts as failed (Intel's guide for the generator says 10).
const TRIES: u32 = 10;

/// 128 bits, from the processor's generator where it has one that works. Else they come from the
/// TSC alone, which an attacker may guess: that is said in the log.
pub fn secret(features: &Features) -> [u8; 16] {
    let random = || features.rdrand.then(rdrand).flatten();
    let halves = [random(), random()];
    if halves.contains(&None) {
        log::warn!("no random numbers from this CPU: sequence numbers can be guessed");
    }
    let mut secret = [0; 16];
    for (bytes, half) in secret.chunks_exact_mut(8).zip(halves) {
        let mixed = scramble(rdtsc()) ^ half.unwrap_or(0);
        bytes.copy_from_slice(&mixed.to_le_bytes());
    }
    secret
}

fn rdrand() -> Option<u64> {
    for _ in 0..TRIES {
        let (value, good): (u64, u8);
        // SAFETY: the caller probed for the instruction, which writes a register and flags.
        unsafe {
            asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) good, options(nomem, nostack))
        };
        if good != 0 {
            return Some(value);
        }
        core::hint::spin_loop();
    }
    None
}

/// Spreads a counter over 64 bits (the finaliser of MurmurHash3).
fn scramble(mut value: u64) -> u64 {
    value = (value ^ value >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    value = (value ^ value >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ value >> 33
}
