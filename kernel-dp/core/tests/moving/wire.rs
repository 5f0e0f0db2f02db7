//! What a router does to TCP segments: fragments.

pub fn is_tcp(frame: &[u8]) -> bool {
    frame.len() >= 54 && frame[12..14] == [8, 0] && frame[23] == 6
}

/// A TCP segment over IPv4 in two fragments, if it is long enough.
pub fn fragments(frame: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
    /// Length of the IP packet, from the start of the frame, that the first one holds.
    const FIRST: usize = 34 + 40;
    let end = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
    if end <= FIRST {
        return (frame.to_vec(), None);
    }
    let mut first = frame[..FIRST].to_vec();
    let mut second = frame[..34].to_vec();
    second.extend_from_slice(&frame[FIRST..end]);
    // More fragments; and the offset in units of eight bytes.
    let heads = [(&mut first, 0x2000u16), (&mut second, 40 / 8)];
    for (piece, field) in heads {
        let len = piece.len() as u16 - 14;
        piece[16..18].copy_from_slice(&len.to_be_bytes());
        piece[20..22].copy_from_slice(&field.to_be_bytes());
    }
    (first, Some(second))
}
