//! Sequence numbers: 32 bits that wrap (RFC 9293 3.4).

use core::ops::{Add, AddAssign, Sub};

/// A sequence number. Comparisons hold for numbers less than 2^31 apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Seq(pub u32);

impl Seq {
    /// `self < other`.
    #[inline]
    pub fn lt(self, other: Seq) -> bool {
        (self.0.wrapping_sub(other.0) as i32) < 0
    }

    /// `self <= other`.
    #[inline]
    pub fn le(self, other: Seq) -> bool {
        !other.lt(self)
    }

    /// `self > other`.
    #[inline]
    pub fn gt(self, other: Seq) -> bool {
        other.lt(self)
    }

    /// `self >= other`.
    #[inline]
    pub fn ge(self, other: Seq) -> bool {
        !self.lt(other)
    }

    /// The later of the two.
    #[inline]
    pub fn max(self, other: Seq) -> Seq {
        if self.lt(other) { other } else { self }
    }
}

impl Add<u32> for Seq {
    type Output = Seq;
    #[inline]
    fn add(self, bytes: u32) -> Seq {
        Seq(self.0.wrapping_add(bytes))
    }
}

impl AddAssign<u32> for Seq {
    #[inline]
    fn add_assign(&mut self, bytes: u32) {
        *self = *self + bytes;
    }
}

impl Sub<u32> for Seq {
    type Output = Seq;
    #[inline]
    fn sub(self, bytes: u32) -> Seq {
        Seq(self.0.wrapping_sub(bytes))
    }
}

impl Sub<Seq> for Seq {
    type Output = u32;
    /// Bytes from `earlier` to `self`; meaningful only if `earlier <= self`.
    #[inline]
    fn sub(self, earlier: Seq) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparison_survives_the_wrap() {
        let before = Seq(0xffff_fff0);
        let after = before + 0x20;
        assert_eq!(after, Seq(0x10));
        assert!(before.lt(after) && before.le(after) && after.gt(before) && after.ge(before));
        assert!(before.le(before) && before.ge(before) && !before.lt(before));
        assert_eq!(after - before, 0x20);
        assert_eq!(before.max(after), after);
    }
}
