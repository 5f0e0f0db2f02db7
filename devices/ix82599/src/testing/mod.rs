//! The bodies of the fuzz targets (`fuzz/`): bytes are read as what a hostile client sends
//! ([`messages`]), and as what a hostile guest does ([`guest`]). Nothing may panic, hang, or reach memory
//! that was not handed over. And the wire of measurements ([`Source`]).

mod guest;
mod messages;
mod source;

pub use guest::guest;
pub use messages::{Answers, messages};
pub use source::Source;

/// The input, taken from the front. Behind its end everything is zero.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn array<const BYTES: usize>(&mut self) -> [u8; BYTES] {
        let mut array = [0; BYTES];
        let bytes = self.bytes(BYTES);
        array[..bytes.len()].copy_from_slice(bytes);
        array
    }

    fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    fn half(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// As many as there are, up to `count`.
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}
