//! TCP options (RFC 9293 3.1, RFC 7323, RFC 2018): reading them all, and writing those of a SYN.

use crate::seq::Seq;
use crate::wire::{TIMESTAMPS_PADDED, be32, put32};

/// Most blocks that fit in one SACK option.
const SACK_BLOCKS: usize = 4;
/// A shift above this counts as this (RFC 7323 2.3).
const SCALE_MAX: u8 = 14;

/// Kind and length of the maximum segment size.
const MSS: u32 = 0x0204;
/// SACK permitted in place of the padding before timestamps.
const SACK_PERMITTED_TIMESTAMPS: u32 = 0x0402_080a;
/// SACK permitted behind two NOPs.
const SACK_PERMITTED_PADDED: u32 = 0x0101_0402;
/// A NOP, and kind and length of the window scale.
const WINDOW_SCALE_PADDED: u32 = 0x01_0303;

/// What the options of a segment say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Maximum segment size.
    pub mss: Option<u16>,
    /// Window scale.
    pub window_scale: Option<u8>,
    /// SACK permitted.
    pub sack_permitted: bool,
    /// TSval and TSecr.
    pub timestamps: Option<(u32, u32)>,
    /// SACK blocks: left and right edges.
    sack: [(Seq, Seq); SACK_BLOCKS],
    sack_count: usize,
}

impl Options {
    /// Reads options; unknown ones are stepped over, and at a malformed one reading ends.
    #[inline(always)]
    pub fn parse(bytes: &[u8]) -> Self {
        let mut options = Self::default();
        // What nearly every segment has, and nothing else (RFC 7323 appendix A).
        if let Some(option) = bytes.as_array::<12>()
            && be32(option, 0) == TIMESTAMPS_PADDED
        {
            options.timestamps = Some((be32(option, 4), be32(option, 8)));
        } else if !options.take_usual_syn(bytes) {
            options.take_bytes(bytes);
        }
        options
    }

    /// Reads the options of a SYN of Linux or FreeBSD: MSS, then SACK permitted and timestamps, and the
    /// window scale behind or before these; or those of a Linux without timestamps. Otherwise returns
    /// `false`, and nothing was read.
    #[inline(always)]
    fn take_usual_syn(&mut self, bytes: &[u8]) -> bool {
        let Some(bytes) = bytes.as_array::<20>() else {
            return self.take_syn_without_timestamps(bytes);
        };
        let mss = be32(bytes, 0);
        let (times, scale) = match be32(bytes, 4) == SACK_PERMITTED_TIMESTAMPS {
            true => ([be32(bytes, 8), be32(bytes, 12)], be32(bytes, 16)),
            false => ([be32(bytes, 12), be32(bytes, 16)], be32(bytes, 4)),
        };
        if mss >> 16 != MSS
            || scale >> 8 != WINDOW_SCALE_PADDED
            || be32(bytes, 4) != SACK_PERMITTED_TIMESTAMPS
                && be32(bytes, 8) != SACK_PERMITTED_TIMESTAMPS
        {
            return false;
        }
        self.mss = Some(mss as u16);
        self.window_scale = Some((scale as u8).min(SCALE_MAX));
        self.sack_permitted = true;
        self.timestamps = Some((times[0], times[1]));
        true
    }

    /// Reads MSS, SACK permitted and the window scale, if that is what stands there.
    #[inline(always)]
    fn take_syn_without_timestamps(&mut self, bytes: &[u8]) -> bool {
        let Some(bytes) = bytes.as_array::<12>() else {
            return false;
        };
        let (mss, scale) = (be32(bytes, 0), be32(bytes, 8));
        if mss >> 16 != MSS
            || be32(bytes, 4) != SACK_PERMITTED_PADDED
            || scale >> 8 != WINDOW_SCALE_PADDED
        {
            return false;
        }
        self.mss = Some(mss as u16);
        self.window_scale = Some((scale as u8).min(SCALE_MAX));
        self.sack_permitted = true;
        true
    }

    /// Reads options that stand anyhow.
    #[inline(never)]
    fn take_bytes(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        loop {
            rest = match *rest {
                [] | [0, ..] => break,
                [1, ref rest @ ..] => rest,
                [2, 4, a, b, ref rest @ ..] => {
                    self.mss = Some(u16::from_be_bytes([a, b]));
                    rest
                }
                [3, 3, scale, ref rest @ ..] => {
                    self.window_scale = Some(scale.min(SCALE_MAX));
                    rest
                }
                [4, 2, ref rest @ ..] => {
                    self.sack_permitted = true;
                    rest
                }
                [8, 10, a, b, c, d, e, f, g, h, ref rest @ ..] => {
                    let value = u32::from_be_bytes([a, b, c, d]);
                    self.timestamps = Some((value, u32::from_be_bytes([e, f, g, h])));
                    rest
                }
                [kind, len, ..] => {
                    let Some((value, rest)) = rest.split_at_checked(usize::from(len)) else {
                        break;
                    };
                    let Some(value) = value.get(2..) else { break };
                    if kind == 5 {
                        self.take_sack(value);
                    }
                    rest
                }
                [_] => break,
            };
        }
    }

    /// The SACK blocks.
    pub fn sack(&self) -> &[(Seq, Seq)] {
        &self.sack[..self.sack_count]
    }

    fn take_sack(&mut self, blocks: &[u8]) {
        if !blocks.len().is_multiple_of(8) || blocks.len() / 8 > SACK_BLOCKS {
            return;
        }
        for (block, edges) in self.sack.iter_mut().zip(blocks.chunks_exact(8)) {
            *block = (Seq(be32(edges, 0)), Seq(be32(edges, 4)));
        }
        self.sack_count = blocks.len() / 8;
    }
}

/// Options of a SYN or SYN-ACK.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SynOptions {
    /// Maximum segment size.
    pub mss: u16,
    /// Window scale.
    pub window_scale: Option<u8>,
    /// SACK permitted.
    pub sack_permitted: bool,
    /// TSval and TSecr.
    pub timestamps: Option<(u32, u32)>,
}

impl SynOptions {
    /// Writes them; returns their length, a multiple of 4, at most 20.
    #[inline(always)]
    pub fn emit(&self, room: &mut [u8]) -> usize {
        put32(room, 0, MSS << 16 | u32::from(self.mss));
        if let (Some(scale), true, Some((value, echo)), Some(room)) = (
            self.window_scale,
            self.sack_permitted,
            self.timestamps,
            room.first_chunk_mut::<20>(),
        ) {
            // What is mostly agreed on.
            put32(room, 4, SACK_PERMITTED_TIMESTAMPS);
            put32(room, 8, value);
            put32(room, 12, echo);
            put32(room, 16, WINDOW_SCALE_PADDED << 8 | u32::from(scale));
            return 20;
        }
        let mut len = 4;
        if let Some((value, echo)) = self.timestamps {
            // In a SYN the two bytes of padding have a better use.
            let kinds = match self.sack_permitted {
                true => SACK_PERMITTED_TIMESTAMPS,
                false => TIMESTAMPS_PADDED,
            };
            put32(room, len, kinds);
            put32(room, len + 4, value);
            put32(room, len + 8, echo);
            len += 12;
        } else if self.sack_permitted {
            put32(room, len, SACK_PERMITTED_PADDED);
            len += 4;
        }
        if let Some(scale) = self.window_scale {
            put32(room, len, WINDOW_SCALE_PADDED << 8 | u32::from(scale));
            len += 4;
        }
        len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syn_options_survive_a_round_trip_in_every_combination() {
        for pick in 0..8 {
            let emitted = SynOptions {
                mss: 1460,
                window_scale: (pick & 1 != 0).then_some(7),
                sack_permitted: pick & 2 != 0,
                timestamps: (pick & 4 != 0).then_some((1, 2)),
            };
            let mut room = [0xff; 40];
            let len = emitted.emit(&mut room);
            assert!(len.is_multiple_of(4) && len <= 20);
            let parsed = Options::parse(&room[..len]);
            assert_eq!(parsed.mss, Some(1460));
            assert_eq!(parsed.window_scale, emitted.window_scale);
            assert_eq!(parsed.sack_permitted, emitted.sack_permitted);
            assert_eq!(parsed.timestamps, emitted.timestamps);
        }
    }

    #[test]
    fn sack_blocks_are_read() {
        let bytes = [1, 1, 5, 18, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4];
        let options = Options::parse(&bytes);
        assert_eq!(options.sack(), [(Seq(1), Seq(2)), (Seq(3), Seq(4))]);
    }

    /// What is read at once must be what is read byte by byte, whatever stands there.
    #[test]
    fn options_read_at_once_mean_what_they_mean_one_by_one() {
        let words: [&[u8]; 9] = [
            &[2, 4, 5, 0xb4],
            &[4, 2, 8, 10],
            &[1, 1, 8, 10],
            &[1, 3, 3, 200],
            &[1, 1, 4, 2],
            &[1, 1, 5, 10],
            &[0, 0, 0, 1],
            &[3, 3, 7, 1],
            &[8, 10, 1, 2],
        ];
        let count = words.len();
        for pick in 0..count.pow(4) {
            let at = |place: u32| words[pick / count.pow(place) % count];
            let bytes = [at(0), at(1), at(2), at(3), &[4, 2]].concat();
            for len in 0..=bytes.len() {
                let mut expected = Options::default();
                expected.take_bytes(&bytes[..len]);
                assert_eq!(
                    Options::parse(&bytes[..len]),
                    expected,
                    "{:?}",
                    &bytes[..len]
                );
            }
        }
    }

    #[test]
    fn malformed_options_end_the_reading_and_nothing_else() {
        for bytes in [
            &[2u8, 4, 5, 0xb4, 3, 0][..],
            &[2, 4, 5, 0xb4, 3, 1, 7],
            &[2, 4, 5, 0xb4, 3, 9, 7],
            &[2, 4, 5, 0xb4, 3],
            &[2, 4, 5, 0xb4, 0, 3, 3, 7],
        ] {
            let options = Options::parse(bytes);
            assert_eq!((options.mss, options.window_scale), (Some(1460), None));
        }
        assert_eq!(Options::parse(&[3, 3, 200]).window_scale, Some(14));
    }
}
