//! Which memory an application may send from, and where the device finds it.

use alloc::boxed::Box;

use ix_hal::Fragment;

/// A piece of the application's address space, contiguous there and on the bus.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserRange {
    /// First address in the application's address space.
    pub user: u64,
    /// Bus address of the same byte.
    pub bus: u64,
    /// Length in bytes; 0 for an unused range.
    pub bytes: u64,
}

/// The ranges that one application may send from: the mbuf pool (so that received data can go out
/// again without a copy), its heap and stack, and its image.
#[derive(Debug)]
pub struct Sendable {
    /// Behind a pointer, lest the compiler copy all nine words to the stack before it looks at the calls
    /// of a round, which may be one.
    ranges: Box<[UserRange; 3]>,
}

impl Sendable {
    /// The ranges given, which are looked at in this order; they must not overlap.
    pub fn new(ranges: [UserRange; 3]) -> Self {
        Self {
            ranges: Box::new(ranges),
        }
    }

    /// Where the device finds `len` bytes at the application's `address`, or `None` if any of
    /// them lies outside of what it may send from. `len` must not be zero.
    #[inline]
    pub fn translate(&self, address: u64, len: u64) -> Option<Fragment> {
        let len = u32::try_from(len).ok().filter(|&len| len != 0)?;
        for range in &*self.ranges {
            let offset = address.wrapping_sub(range.user);
            if offset < range.bytes && u64::from(len) <= range.bytes - offset {
                return Some(Fragment {
                    bus: range.bus + offset,
                    len,
                });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sendable() -> Sendable {
        Sendable::new([
            UserRange {
                user: 0x40_0000,
                bus: 0x80_0000,
                bytes: 0x1000,
            },
            UserRange {
                user: 0x1000_0000,
                bus: 0x0,
                bytes: 0x20_0000,
            },
            UserRange::default(),
        ])
    }

    #[test]
    fn a_range_is_translated_to_its_last_byte() {
        let last = sendable().translate(0x40_0fff, 1);
        assert_eq!(
            last,
            Some(Fragment {
                bus: 0x80_0fff,
                len: 1
            })
        );
        assert_eq!(sendable().translate(0x40_0fff, 2), None);
    }

    #[test]
    fn what_is_outside_wraps_or_is_empty_is_refused() {
        for (address, len) in [
            (0, 1),
            (0x3f_ffff, 2),
            (0x40_0000, 0x1001),
            (0x40_0000, u64::MAX),
            (u64::MAX, 2),
            (0x40_0000, 0),
            (0xffff_8000_0000_0000, 64),
            (0x1000_0000, 1 << 32),
        ] {
            assert_eq!(
                sendable().translate(address, len),
                None,
                "{address:#x} + {len:#x}"
            );
        }
    }
}
