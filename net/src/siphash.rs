//! SipHash-1-3 (Aumasson, Bernstein 2012) of messages whose length is known when this is compiled,
//! with the key worked in beforehand: the pseudorandom function behind what every new connection
//! needs. `secret` says what for; what is not needed by every connection is hashed by SipHash-2-4.

/// A key, as the state that hashing starts from.
#[derive(Clone, Copy)]
pub(crate) struct SipHash13 {
    start: [u64; 4],
}

impl SipHash13 {
    /// Works a key in.
    pub fn new(key: [u64; 2]) -> Self {
        let [k0, k1] = key;
        Self {
            start: [
                k0 ^ 0x736f_6d65_7073_6575,
                k1 ^ 0x646f_7261_6e64_6f6d,
                k0 ^ 0x6c79_6765_6e65_7261,
                k1 ^ 0x7465_6462_7974_6573,
            ],
        }
    }

    /// The hash of some words and seven more bytes, the low ones of `tail`, all in little-endian
    /// order: together with the length they fill the last block.
    #[inline(always)]
    pub fn hash<const WORDS: usize>(&self, words: [u64; WORDS], tail: u64) -> u64 {
        let mut state = self.start;
        for word in words {
            compress(&mut state, word);
        }
        let len = (WORDS * 8 + 7) as u64;
        compress(&mut state, len << 56 | tail & ((1 << 56) - 1));
        state[2] ^= 0xff;
        round(&mut state);
        round(&mut state);
        round(&mut state);
        state[0] ^ state[1] ^ state[2] ^ state[3]
    }
}

#[inline(always)]
fn compress(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    round(state);
    state[0] ^= word;
}

#[inline(always)]
fn round(state: &mut [u64; 4]) {
    let [mut a, mut b, mut c, mut d] = *state;
    a = a.wrapping_add(b);
    b = b.rotate_left(13) ^ a;
    a = a.rotate_left(32);
    c = c.wrapping_add(d);
    d = d.rotate_left(16) ^ c;
    a = a.wrapping_add(d);
    d = d.rotate_left(21) ^ a;
    c = c.wrapping_add(b);
    b = b.rotate_left(17) ^ c;
    c = c.rotate_left(32);
    *state = [a, b, c, d];
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::hash::Hasher;
    use siphasher::sip::SipHasher13;

    #[test]
    fn hash_is_that_of_another_implementation() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let own = SipHash13::new(key);
        let mut word = 1u64;
        for _ in 0..100 {
            word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let words = [word, word.rotate_left(29)];
            let tail = word.rotate_left(51) >> 8;
            let mut other = SipHasher13::new_with_keys(key[0], key[1]);
            other.write(&words[0].to_le_bytes());
            other.write(&tail.to_le_bytes()[..7]);
            assert_eq!(own.hash([words[0]], tail), other.finish());
            let mut other = SipHasher13::new_with_keys(key[0], key[1]);
            other.write(&words[0].to_le_bytes());
            other.write(&words[1].to_le_bytes());
            other.write(&tail.to_le_bytes()[..7]);
            assert_eq!(own.hash(words, tail), other.finish());
        }
    }
}
