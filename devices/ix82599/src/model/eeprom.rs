//! The EEPROM (6.1, 6.4): a signature, a checksum that adds up, the version of the firmware, the SFP+
//! modules that it can start, and otherwise nothing. Pointers to other sections are 0xffff, which means
//! that there is no such section. What silicon loads from the sections after a reset (the MAC address,
//! AUTOC) the model takes from its configuration.

use ixgbe_spec::{EEPROM_CHECKSUM, EEPROM_CHECKSUM_WORD};

/// Words of the EEPROM; EEC.EE_Size says 2^(4 + 6).
const WORDS: usize = 1024;
/// EEC.EE_Size for [`WORDS`].
pub(super) const EE_SIZE: u32 = 4;
/// Word that points at the firmware module (6.2), and where that is here.
const FIRMWARE_POINTER: usize = 0x0f;
const FIRMWARE: usize = 0x80;
/// Word of the firmware module that points at its pass-through patch configuration, where that is
/// here, and the word of it that holds the version of the patch.
const PATCH_POINTER: usize = 0x04;
const PATCH: usize = 0x90;
const PATCH_VERSION: usize = 0x07;
/// Drivers take a device whose patch version is 5 or less for a prototype.
const PRODUCTION_VERSION: u16 = 6;
/// Word that points at the list of start-up sequences for SFP+ modules: after a header word,
/// pairs of a module's type and where its sequence is. Here all sequences are empty.
const SFP_POINTER: usize = 0x2b;
const SFP_LIST: usize = 0xa0;
const SFP_SEQUENCE: usize = 0xc0;
/// Types of modules: direct attach, short and long reach, active direct attach; each for either port.
const SFP_TYPES: std::ops::RangeInclusive<u16> = 3..=8;
const END: u16 = 0xffff;
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
        words[FIRMWARE_POINTER] = FIRMWARE as u16;
        words[FIRMWARE + PATCH_POINTER] = PATCH as u16;
        words[PATCH + PATCH_VERSION] = PRODUCTION_VERSION;
        words[SFP_POINTER] = SFP_LIST as u16;
        let mut at = SFP_LIST + 1;
        for kind in SFP_TYPES {
            words[at] = kind;
            words[at + 1] = SFP_SEQUENCE as u16;
            at += 2;
        }
        words[at] = END;
        words[SFP_SEQUENCE + 1] = END;
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

    #[test]
    fn each_kind_of_module_has_a_sequence_that_ends() {
        let eeprom = Eeprom::new();
        let list = eeprom.word(SFP_POINTER as u16) + 1;
        let kinds: Vec<u16> = (0..)
            .map(|pair| list + 2 * pair)
            .take_while(|at| eeprom.word(*at) != END)
            .inspect(|at| assert_eq!(eeprom.word(eeprom.word(at + 1) + 1), END))
            .map(|at| eeprom.word(at))
            .collect();
        assert_eq!(kinds, SFP_TYPES.collect::<Vec<_>>());
    }
}
