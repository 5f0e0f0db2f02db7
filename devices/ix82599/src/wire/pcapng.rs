//! Blocks of the pcapng format (draft-ietf-opsawg-pcapng): frames with their direction, and how many were
//! left out, which the older pcap format cannot say.

use std::time::Duration;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
const LINKTYPE_ETHERNET: u16 = 1;
/// Option `opt_comment`, of any block.
const COMMENT: u16 = 1;
/// Option `if_name`.
const IF_NAME: u16 = 2;
/// Option `if_tsresol`: the exponent of ten of a unit of time.
const IF_TSRESOL: u16 = 9;
const NANOSECONDS: u8 = 9;
/// Option `epb_flags`, whose lowest bits are the direction.
const EPB_FLAGS: u16 = 2;
/// Option `isb_ifdrop`.
const ISB_IFDROP: u16 = 5;

/// Longest comment.
pub(super) const COMMENT_BYTES: usize = 128;
/// Bytes of a packet's block beside its frame, at most.
pub(super) const PACKET_OVERHEAD: usize = 32 + 12 + 3 + 4 + COMMENT_BYTES;

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the device.
    Inbound = 1,
    /// From the device.
    Outbound = 2,
}

/// Begins a file: a section, and its one interface.
pub(super) fn begin(out: &mut Vec<u8>, name: &str) {
    block(out, SECTION_HEADER, |out| {
        out.extend(BYTE_ORDER_MAGIC.to_le_bytes());
        // Version 1.0, and a section whose length is not known yet.
        out.extend(1u16.to_le_bytes());
        out.extend(0u16.to_le_bytes());
        out.extend(u64::MAX.to_le_bytes());
    });
    block(out, INTERFACE_DESCRIPTION, |out| {
        out.extend(LINKTYPE_ETHERNET.to_le_bytes());
        out.extend([0; 2]);
        // No limit of a frame's length.
        out.extend(0u32.to_le_bytes());
        option(out, IF_NAME, name.as_bytes());
        option(out, IF_TSRESOL, &[NANOSECONDS]);
        end_of_options(out);
    });
}

/// A frame that was seen at `time` since 1970; if it was dropped, the comment says why.
pub(super) fn packet(
    out: &mut Vec<u8>,
    time: Duration,
    direction: Direction,
    frame: &[u8],
    comment: Option<&str>,
) {
    block(out, ENHANCED_PACKET, |out| {
        interface_and_time(out, time);
        // Nothing is cut off: captured and original length.
        out.extend((frame.len() as u32).to_le_bytes());
        out.extend((frame.len() as u32).to_le_bytes());
        padded(out, frame);
        option(out, EPB_FLAGS, &(direction as u32).to_le_bytes());
        if let Some(comment) = comment {
            let length = comment.floor_char_boundary(COMMENT_BYTES);
            option(out, COMMENT, &comment.as_bytes()[..length]);
        }
        end_of_options(out);
    });
}

/// How many frames were left out so far.
pub(super) fn statistics(out: &mut Vec<u8>, time: Duration, dropped: u64) {
    block(out, INTERFACE_STATISTICS, |out| {
        interface_and_time(out, time);
        option(out, ISB_IFDROP, &dropped.to_le_bytes());
        end_of_options(out);
    });
}

/// A block has its length at both ends.
fn block(out: &mut Vec<u8>, kind: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(kind.to_le_bytes());
    out.extend([0; 4]);
    body(out);
    let length = (out.len() - start + 4) as u32;
    out[start + 4..start + 8].copy_from_slice(&length.to_le_bytes());
    out.extend(length.to_le_bytes());
}

fn interface_and_time(out: &mut Vec<u8>, time: Duration) {
    let nanoseconds = time.as_nanos() as u64;
    out.extend(0u32.to_le_bytes());
    out.extend(((nanoseconds >> 32) as u32).to_le_bytes());
    out.extend((nanoseconds as u32).to_le_bytes());
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    out.extend(code.to_le_bytes());
    out.extend((value.len() as u16).to_le_bytes());
    padded(out, value);
}

fn end_of_options(out: &mut Vec<u8>) {
    out.extend([0; 4]);
}

/// Everything begins at a multiple of four bytes.
fn padded(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(bytes);
    out.extend(std::iter::repeat_n(0, bytes.len().wrapping_neg() % 4));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    #[test]
    fn blocks_have_their_length_at_both_ends() {
        let mut out = Vec::new();
        begin(&mut out, "nic0");
        packet(
            &mut out,
            Duration::from_nanos(5 << 32 | 7),
            Direction::Outbound,
            &[1; 61],
            Some("for the test"),
        );
        statistics(&mut out, Duration::ZERO, 3);
        let mut kinds = Vec::new();
        let mut at = 0;
        while at < out.len() {
            let length = word(&out, at + 4) as usize;
            assert_eq!(length % 4, 0);
            assert_eq!(word(&out, at + length - 4) as usize, length);
            if word(&out, at) == ENHANCED_PACKET {
                assert!(length <= 61 + PACKET_OVERHEAD);
                assert_eq!((word(&out, at + 12), word(&out, at + 16)), (5, 7));
                assert_eq!((word(&out, at + 20), word(&out, at + 24)), (61, 61));
                // The flags follow 61 bytes and three of padding.
                assert_eq!(word(&out, at + 28 + 64), 4 << 16 | u32::from(EPB_FLAGS));
                assert_eq!(word(&out, at + 28 + 68), 2);
                assert_eq!(word(&out, at + 28 + 72), 12 << 16 | u32::from(COMMENT));
                assert_eq!(&out[at + 28 + 76..][..12], b"for the test");
            }
            kinds.push(word(&out, at));
            at += length;
        }
        let expected = [
            SECTION_HEADER,
            INTERFACE_DESCRIPTION,
            ENHANCED_PACKET,
            INTERFACE_STATISTICS,
        ];
        assert_eq!(kinds, expected);
    }
}
