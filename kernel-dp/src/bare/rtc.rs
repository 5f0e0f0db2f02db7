//! Reads the PC's real-time clock, once, at boot.

use kernel_dp::calendar::Reading;

use super::cpu::{inb, outb};

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;
/// In register A: the registers change now.
const UPDATE_IN_PROGRESS: u8 = 1 << 7;
/// Readings until two agree. An update takes 2 ms, a reading microseconds.
const TRIES: usize = 10_000;

/// Seconds since 1970; `None` if there is no clock, or it shows no date.
pub fn unix_seconds() -> Option<u64> {
    let mut before = None;
    for _ in 0..TRIES {
        if register(0x0a) & UPDATE_IN_PROGRESS != 0 {
            before = None;
            continue;
        }
        let now = reading();
        if before == Some(now) {
            return now.unix_seconds();
        }
        before = Some(now);
    }
    None
}

fn reading() -> Reading {
    Reading {
        second: register(0x00),
        minute: register(0x02),
        hour: register(0x04),
        day: register(0x07),
        month: register(0x08),
        year: register(0x09),
        status_b: register(0x0b),
    }
}

fn register(number: u8) -> u8 {
    // SAFETY: these ports are the real-time clock's on a PC, and nobody's otherwise. Selecting and
    // reading the registers of time has no effect.
    unsafe {
        outb(INDEX, number);
        inb(DATA)
    }
}
