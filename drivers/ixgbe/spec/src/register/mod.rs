//! Registers in BAR 0, by their names in the datasheet: an offset in bytes (a function where the
//! register comes in many), and a flags type where bits have names.
//!
//! Fields wider than a bit have a pair of functions on the flags type: one that reads the field,
//! and a `with_` that replaces it. Bits without a name here are kept by `from_bits_retain`, so that
//! a driver may write back what it read.

mod flow_director;
mod general;
mod interrupt;
mod mac;
mod receive;
mod statistics;
mod transmit;

pub use flow_director::*;
pub use general::*;
pub use interrupt::*;
pub use mac::*;
pub use receive::*;
pub use statistics::*;
pub use transmit::*;

/// Bytes of BAR 0 (9.3.6.1).
pub const BAR0_BYTES: u32 = 0x2_0000;

/// Reads `bits` bits at `shift`.
const fn field(value: u32, shift: u32, bits: u32) -> u32 {
    (value >> shift) & ((1 << bits) - 1)
}

/// Replaces `bits` bits at `shift`, cutting `field` to that width.
const fn with_field(value: u32, shift: u32, bits: u32, field: u32) -> u32 {
    let mask = (1 << bits) - 1;
    (value & !(mask << shift)) | ((field & mask) << shift)
}

/// A register of one receive or transmit queue, found by its offset: which queue, and which
/// register as the offset it has for queue 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueRegister {
    /// Queue number, 0 to 127.
    pub queue: u32,
    /// Offset of the same register of queue 0.
    pub register: u32,
}

/// The receive queue register at `offset`, if it is one: 0x1000.. for queues 0 to 63 and 0xd000..
/// for 64 to 127 (8.2.3.8). Statistics counters lie in the gaps: register 0x1030 of queue `n` is
/// [`qprc`] for `n` below 16 and [`qprdc`] of `n - 16` from there, 0x1034 and 0x1038 are [`qbrc_l`]
/// and [`qbrc_h`].
pub const fn rx_queue_register(offset: u32) -> Option<QueueRegister> {
    let (first, base) = match offset {
        0x1000..=0x1fff => (0, 0x1000),
        0xd000..=0xdfff => (64, 0xd000),
        _ => return None,
    };
    Some(QueueRegister {
        queue: first + (offset - base) / QUEUE_STRIDE,
        register: 0x1000 + (offset - base) % QUEUE_STRIDE,
    })
}

/// The transmit queue register at `offset`, if it is one (8.2.3.9).
pub const fn tx_queue_register(offset: u32) -> Option<QueueRegister> {
    match offset {
        0x6000..=0x7fff => Some(QueueRegister {
            queue: (offset - 0x6000) / QUEUE_STRIDE,
            register: 0x6000 + (offset - 0x6000) % QUEUE_STRIDE,
        }),
        _ => None,
    }
}

/// Distance between the same register of two neighbouring queues.
pub const QUEUE_STRIDE: u32 = 0x40;

/// Offset of a receive queue register whose offset for queue 0 is `base`.
const fn rx_queue(base: u32, queue: u32) -> u32 {
    if queue < 64 {
        base + QUEUE_STRIDE * queue
    } else {
        base + 0xc000 + QUEUE_STRIDE * (queue - 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_registers_are_found_again_by_their_offset() {
        for queue in 0..crate::QUEUES {
            for (offset, register) in [
                (rdbal(queue), rdbal(0)),
                (rdt(queue), rdt(0)),
                (rxdctl(queue), rxdctl(0)),
            ] {
                let found = rx_queue_register(offset);
                assert_eq!(found, Some(QueueRegister { queue, register }));
            }
            let found = tx_queue_register(tdt(queue));
            let register = tdt(0);
            assert_eq!(found, Some(QueueRegister { queue, register }));
        }
        assert_eq!(rx_queue_register(0x0fff), None);
        assert_eq!(rx_queue_register(0x2000), None);
        assert_eq!(rx_queue_register(0xe000), None);
        assert_eq!(tx_queue_register(0x8000), None);
    }

    #[test]
    fn a_field_is_replaced_within_its_bits_only() {
        assert_eq!(with_field(0xffff_ffff, 8, 6, 0), 0xffff_c0ff);
        assert_eq!(with_field(0, 8, 6, 0xfff), 0x3f00);
        assert_eq!(field(0x0000_2a00, 8, 6), 0x2a);
    }
}
