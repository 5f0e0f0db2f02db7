//! Messages of the mailbox: what Intel's drivers of both sides say to each other. The datasheet gives the memory
//! only (7.10.2.9); the words are the drivers' own convention, in numbered versions.
//!
//! The first word of a message is its kind, with an argument in bits 23:16. The answer begins with the same word,
//! and whether it was done.

use super::VFMBMEM_WORDS;

/// A message, or its answer.
pub type Words = [u32; VFMBMEM_WORDS as usize];

/// Of an answer: it was done.
pub const ACK: u32 = 1 << 31;
/// Of an answer: it was refused.
pub const NACK: u32 = 1 << 30;
/// Of an answer: the virtual function may go on; without, it has to begin with [`RESET`].
pub const CTS: u32 = 1 << 29;

/// Begins anew; the answer has the station address in words 1 and 2, and in word 3 which bits of a
/// group's address the multicast table looks at ([`crate::register::Mcstctrl`]).
pub const RESET: u32 = 0x01;
/// Asks for another station address, in words 1 and 2.
pub const SET_MAC_ADDR: u32 = 0x02;
/// Sets the multicast table: as many entries as the argument says, two in a word.
pub const SET_MULTICAST: u32 = 0x03;
/// Joins the VLAN of word 1 (argument 1), or leaves it (0).
pub const SET_VLAN: u32 = 0x04;
/// Sets the length of the longest frame, with FCS, to word 1.
pub const SET_LPE: u32 = 0x05;
/// Adds the station address of words 1 and 2 to a list; argument 1 begins it, 0 empties it.
pub const SET_MACVLAN: u32 = 0x06;
/// Asks for the version of word 1, see [`Api`].
pub const API_NEGOTIATE: u32 = 0x08;
/// From 1.1: asks for the numbers of queues, see [`queues`].
pub const GET_QUEUES: u32 = 0x09;
/// From 1.2: asks for the redirection table, 128 entries of two bits from word 1.
pub const GET_RETA: u32 = 0x0a;
/// From 1.2: asks for the key of the hash, 40 bytes from word 1.
pub const GET_RSS_KEY: u32 = 0x0b;
/// From 1.2: asks to receive what word 1 says, see [`Xcast`]; the answer says what it got.
pub const UPDATE_XCAST_MODE: u32 = 0x0c;
/// From 1.2: asks whether the link is administratively there: word 1 of the answer is 0 or 1.
pub const GET_LINK_STATE: u32 = 0x10;
/// From the physical function: something has changed, look at the link.
pub const PF_CONTROL: u32 = 0x0100;

/// What a message is, without its argument and an answer's bits.
pub const fn kind(word: u32) -> u32 {
    word & 0xffff
}

/// The argument of a message.
pub const fn argument(word: u32) -> u32 {
    word >> 16 & 0xff
}

/// The first word of a message with an argument.
pub const fn with_argument(kind: u32, argument: u32) -> u32 {
    kind | (argument & 0xff) << 16
}

/// Versions, by the numbers that [`API_NEGOTIATE`] has for them. They are ordered by what they offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Api {
    /// 1.0, which is not asked for.
    V1_0 = 0,
    /// 1.1: numbers of queues, longer frames.
    V1_1 = 2,
    /// 1.2: redirection table and key.
    V1_2 = 3,
    /// 1.3: promiscuous modes.
    V1_3 = 4,
    /// 1.4: security associations, which no physical function here has.
    V1_4 = 5,
}

impl Api {
    /// The version of a number.
    pub const fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::V1_0,
            2 => Self::V1_1,
            3 => Self::V1_2,
            4 => Self::V1_3,
            5 => Self::V1_4,
            _ => return None,
        })
    }
}

/// Words of the answer to [`GET_QUEUES`].
pub mod queues {
    /// Transmit queues.
    pub const TX: usize = 1;
    /// Receive queues.
    pub const RX: usize = 2;
    /// Not 0: the port puts a VLAN tag on and takes it off.
    pub const PORT_VLAN: usize = 3;
    /// The queue of what is not spread.
    pub const DEFAULT: usize = 4;
}

/// What a function receives beside its own addresses, as [`UPDATE_XCAST_MODE`] asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Xcast {
    /// Nothing.
    None = 0,
    /// Broadcast, and groups of the multicast table.
    Multi = 1,
    /// Broadcast, and all groups.
    AllMulti = 2,
    /// Everything.
    Promiscuous = 3,
}

impl Xcast {
    /// The mode of a number.
    pub const fn of(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::Multi,
            2 => Self::AllMulti,
            3 => Self::Promiscuous,
            _ => return None,
        })
    }
}

/// The station address in words 1 and 2 of a message.
pub const fn address(words: &Words) -> [u8; 6] {
    let [a, b, c, d] = words[1].to_le_bytes();
    let [e, f, ..] = words[2].to_le_bytes();
    [a, b, c, d, e, f]
}

/// Puts a station address into words 1 and 2.
pub const fn put_address(words: &mut Words, mac: [u8; 6]) {
    let [a, b, c, d, e, f] = mac;
    words[1] = u32::from_le_bytes([a, b, c, d]);
    words[2] = u32::from_le_bytes([e, f, 0, 0]);
}

/// Entries of the redirection table in a word of the answer to [`GET_RETA`].
const RETA_ENTRIES_PER_WORD: usize = 16;
/// Words of the table.
pub const RETA_WORDS: usize = crate::RETA_ENTRIES / RETA_ENTRIES_PER_WORD;

/// Word `n` (0 to 7) of a redirection table as [`GET_RETA`] gives it: two bits an entry.
pub fn reta_word(reta: &[u8; crate::RETA_ENTRIES], n: usize) -> u32 {
    let (words, _) = reta.as_chunks::<RETA_ENTRIES_PER_WORD>();
    let entries = words[n % RETA_WORDS].iter().rev();
    entries.fold(0, |word, entry| word << 2 | u32::from(entry & 3))
}

/// The redirection table that an answer to [`GET_RETA`] holds.
pub fn reta(words: &Words) -> [u8; crate::RETA_ENTRIES] {
    core::array::from_fn(|entry| {
        let word = words[1 + entry / RETA_ENTRIES_PER_WORD];
        (word >> (2 * (entry % RETA_ENTRIES_PER_WORD)) & 3) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_its_first_byte_lowest() {
        let mut words = Words::default();
        put_address(&mut words, [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        assert_eq!(words[1..3], [0x1200_5452, 0x5634]);
        assert_eq!(address(&words), [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    }

    #[test]
    fn a_table_survives_its_two_bits_an_entry() {
        let table: [u8; crate::RETA_ENTRIES] = core::array::from_fn(|n| (n * 7 % 4) as u8);
        let mut words = Words::default();
        for n in 0..RETA_WORDS {
            words[1 + n] = reta_word(&table, n);
        }
        assert_eq!(reta(&words), table);
        let mut first = [0; crate::RETA_ENTRIES];
        first[1] = 3;
        assert_eq!(reta_word(&first, 0), 0b1100);
    }

    #[test]
    fn kind_and_argument_are_apart() {
        let word = with_argument(SET_VLAN, 1) | ACK | CTS;
        assert_eq!((kind(word), argument(word)), (SET_VLAN, 1));
    }
}
