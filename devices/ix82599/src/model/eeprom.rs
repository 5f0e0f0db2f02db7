//! The EEPROM (6.1, 6.4): a signature, a checksum that adds up, and otherwise nothing. Pointers to
//! sections are 0xffff, which means that there is no such section. What silicon loads from the
//! sections after a reset (the MAC address, AUTOC) the model takes from its configuration.

use ixgbe_spec::{EEPROM_CHECKSUM, EEPROM_CHECKSUM_WORD};

/// Words of the EEPROM; EEC.EE_Size says 2^(4 + 6).
const WORDS: usize = 1024;
/// EEC.EE_Size for [`WORDS`].
pub(super) const EE_SIZE: u32 = 4;
/// Words 0x03 to 0x0e point at sections (6.2).
const POINTERS: std::ops::RangeInclusive<usize> = 0x03..=0x0e;

/// The EEPROM's words.
#[derive(Debug)]
pub(super) struct Eeprom {
    words: Box<[u16; WORDS]>,
}

impl Eeprom {
    pub(super) fn new() -> Self {
        let mut words = Box::new([0; WORDS]);
        // EEPROM control word 1: the signature 01b in bits 7:6 and EE_Size in bits 11:8 (6.3.1.1).
        words[0] = 0x0040 | (EE_SIZE as u16) << 8;
        words[POINTERS].fill(0xffff);
        let checksum_word = usize::from(EEPROM_CHECKSUM_WORD);
        let sum = words[..checksum_word]
            .iter()
            .fold(0, |sum: u16, word| sum.wrapping_add(*word));
        words[checksum_word] = EEPROM_CHECKSUM.wrapping_sub(sum);
        Self { words }
    }

    /// The word at `address`; addresses beyond the end wrap, as the chip's do.
    pub(super) fn word(&self, address: u16) -> u16 {
        self.words[usize::from(address) % WORDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_adds_up() {
        let eeprom = Eeprom::new();
        let sum = (0..=EEPROM_CHECKSUM_WORD)
            .fold(0u16, |sum, address| sum.wrapping_add(eeprom.word(address)));
        assert_eq!(sum, EEPROM_CHECKSUM);
    }
}
