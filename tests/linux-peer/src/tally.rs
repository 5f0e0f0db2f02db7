//! What was seen on a wire in one direction, read without the engine's help.

/// Options of a SYN or SYN-ACK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynOptions {
    /// Maximum segment size.
    pub mss: Option<u16>,
    /// Shift of the windows that follow.
    pub window_scale: Option<u8>,
    /// Whether SACK blocks may be sent.
    pub sack_permitted: bool,
    /// Whether there were timestamps.
    pub timestamps: bool,
    /// ECE, and CWR: what is said about ECN.
    pub ecn: (bool, bool),
}

/// Counts of TCP segments in one direction.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Options of the last SYN or SYN-ACK.
    pub syn: Option<SynOptions>,
    /// Segments.
    pub segments: u64,
    /// Segments with payload.
    pub with_payload: u64,
    /// Segments with timestamps.
    pub with_timestamps: u64,
    /// Segments with SACK blocks.
    pub with_sack: u64,
    /// Segments that offer no window.
    pub zero_windows: u64,
    /// Segments with RST.
    pub resets: u64,
    /// Segments with FIN.
    pub fins: u64,
    /// Segments that may be marked, and those that are (RFC 3168).
    pub ecn_capable: u64,
    /// See there.
    pub ecn_marked: u64,
    /// Segments without payload among them, which may not be.
    pub ecn_capable_empty: u64,
    /// Segments after the handshake that echo a mark.
    pub ecn_echoes: u64,
    /// Segments after the handshake that say that the window was reduced.
    pub ecn_reductions: u64,
    /// Bytes of the longest IP packet.
    pub longest: usize,
}

const ETHERNET: usize = 14;
const IPV6_HEADER: usize = 40;

impl Tally {
    /// Looks at a frame.
    pub fn read(&mut self, frame: &[u8]) {
        let Some((packet, header_len)) = tcp_packet(frame) else {
            return;
        };
        let tcp = &packet[header_len..];
        let options_end = usize::from(tcp[12] >> 4) * 4;
        let control = tcp[13];
        let payload = tcp.len() - options_end;
        self.segments += 1;
        self.longest = self.longest.max(packet.len());
        self.with_payload += u64::from(payload != 0);
        self.fins += u64::from(control & 1 != 0);
        self.resets += u64::from(control & 4 != 0);
        let is_silent = control & 0x17 == 0x10;
        self.zero_windows += u64::from(is_silent && tcp[14..16] == [0, 0]);
        let (options, has_sack) = read_options(&tcp[20..options_end]);
        self.with_timestamps += u64::from(options.timestamps);
        self.with_sack += u64::from(has_sack);
        let (echo, reduced) = (control & 0x40 != 0, control & 0x80 != 0);
        if control & 2 != 0 {
            self.syn = Some(SynOptions {
                ecn: (echo, reduced),
                ..options
            });
        } else {
            self.ecn_echoes += u64::from(echo);
            self.ecn_reductions += u64::from(reduced);
        }
        let codepoint = match packet[0] >> 4 {
            4 => packet[1] & 3,
            // The traffic class begins amid the first byte (RFC 8200 3).
            _ => packet[1] >> 4 & 3,
        };
        self.ecn_capable += u64::from(codepoint != 0);
        self.ecn_marked += u64::from(codepoint == 3);
        self.ecn_capable_empty += u64::from(codepoint != 0 && payload == 0);
    }
}

/// The IP packet of a frame, without padding, if it carries TCP, and where its header ends.
fn tcp_packet(frame: &[u8]) -> Option<(&[u8], usize)> {
    let word = |at: usize| {
        Some(usize::from(u16::from_be_bytes([
            *frame.get(at)?,
            *frame.get(at + 1)?,
        ])))
    };
    let (len, protocol, header_len) = match frame.get(12..14)? {
        [0x08, 0x00] => (word(16)?, *frame.get(23)?, usize::from(frame[14] & 15) * 4),
        [0x86, 0xdd] => (IPV6_HEADER + word(18)?, *frame.get(20)?, IPV6_HEADER),
        _ => return None,
    };
    let packet = frame.get(ETHERNET..ETHERNET + len)?;
    (protocol == 6).then_some((packet, header_len))
}

fn read_options(mut bytes: &[u8]) -> (SynOptions, bool) {
    let (mut options, mut has_sack) = (SynOptions::default(), false);
    while let [kind, rest @ ..] = bytes {
        let len = match (kind, rest) {
            (0, _) => break,
            (1, _) => 1,
            (_, [len, ..]) => usize::from(*len),
            (_, []) => panic!("an option without length"),
        };
        let value = &bytes[2.min(len)..len];
        match (kind, value) {
            (2, [high, low]) => options.mss = Some(u16::from_be_bytes([*high, *low])),
            (3, [shift]) => options.window_scale = Some(*shift),
            (4, []) => options.sack_permitted = true,
            (5, _) => has_sack = true,
            (8, [..]) => options.timestamps = value.len() == 8,
            _ => {}
        }
        bytes = &bytes[len..];
    }
    (options, has_sack)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let bytes = [
            2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7,
        ];
        let expected = SynOptions {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamps: true,
            ecn: (false, false),
        };
        assert_eq!(read_options(&bytes), (expected, false));
        assert!(read_options(&[1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2]).1);
    }
}
