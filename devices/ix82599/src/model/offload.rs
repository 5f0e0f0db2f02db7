//! What the transmit path does to a frame before it goes out (7.2.4, 7.2.5): checksums, TCP
//! segmentation, VLAN tags. Offsets come from descriptors, so each is checked against the frame.

use ixgbe_spec::{L4Type, TxContext, TxOptions};

use super::checksum;

/// Why a frame cannot be sent as its descriptors ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The context is missing, or its offsets do not fit the frame.
    BadContext,
    /// An offload that is not modelled.
    Unsupported,
}

/// Inserts the checksums that `options` ask for.
pub(super) fn insert_checksums(
    frame: &mut [u8],
    context: &TxContext,
    options: TxOptions,
) -> Result<(), Fault> {
    if options.contains(TxOptions::IPSEC) {
        return Err(Fault::Unsupported);
    }
    let ip = usize::from(context.mac_length);
    let transport = ip + usize::from(context.ip_length);
    if options.contains(TxOptions::IXSM) && context.ipv4 {
        insert_ip(frame, ip, transport)?;
    }
    if options.contains(TxOptions::TXSM) {
        let field = match context.l4_type {
            Some(L4Type::Tcp) => transport + 16,
            Some(L4Type::Udp) => transport + 6,
            Some(L4Type::Sctp) | None => return Err(Fault::Unsupported),
        };
        insert_sum(frame, transport, field)?;
        if context.l4_type == Some(L4Type::Udp) && frame[field..field + 2] == [0, 0] {
            // RFC 768: a sum of zero goes out as all ones, zero means no checksum.
            frame[field..field + 2].fill(0xff);
        }
    }
    Ok(())
}

/// The IPv4 header checksum, over a field that counts as zero.
fn insert_ip(frame: &mut [u8], start: usize, end: usize) -> Result<(), Fault> {
    let header = frame.get_mut(start..end).ok_or(Fault::BadContext)?;
    header.get_mut(10..12).ok_or(Fault::BadContext)?.fill(0);
    let sum = !checksum::sum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    Ok(())
}

/// Replaces the two bytes at `field` by the checksum from `start` to the end, in which they count:
/// software left the sum of the pseudo header there (7.2.5.2).
pub(super) fn insert_sum(frame: &mut [u8], start: usize, field: usize) -> Result<(), Fault> {
    let covered = frame.get(start..).ok_or(Fault::BadContext)?;
    let sum = !checksum::sum(covered);
    frame
        .get_mut(field..field + 2)
        .ok_or(Fault::BadContext)?
        .copy_from_slice(&sum.to_be_bytes());
    Ok(())
}

/// Inserts a VLAN tag after the addresses of a frame of at least 12 bytes.
pub(super) fn insert_vlan(frame: &mut Vec<u8>, tag: u16) {
    let [high, low] = tag.to_be_bytes();
    frame.splice(12..12, [0x81, 0x00, high, low]);
}

/// TCP flags that each kind of segment keeps: registers DTXTCPFLGL and DTXTCPFLGH (8.2.3.9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FlagMasks {
    pub(super) low: u32,
    pub(super) high: u32,
}

/// Cuts a large TCP frame into segments (7.2.4): headers once, then payload of up to MSS bytes each. It
/// can stop after any of them, and is shown the same frame each time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segmenter {
    context: TxContext,
    options: TxOptions,
    masks: FlagMasks,
    header: usize,
    next: usize,
    index: u32,
}

impl Segmenter {
    /// Checks that headers and MSS make sense for the frame.
    pub(super) fn new(
        frame: &[u8],
        context: TxContext,
        options: TxOptions,
        masks: FlagMasks,
    ) -> Result<Self, Fault> {
        if context.l4_type != Some(L4Type::Tcp) || options.contains(TxOptions::IPSEC) {
            return Err(Fault::Unsupported);
        }
        let [mac, ip, tcp] = [
            usize::from(context.mac_length),
            usize::from(context.ip_length),
            usize::from(context.l4_length),
        ];
        let header = mac + ip + tcp;
        let ip_minimum = if context.ipv4 { 20 } else { 40 };
        let fits = mac >= 14 && ip >= ip_minimum && tcp >= 20 && header < frame.len();
        if !fits || context.mss == 0 {
            return Err(Fault::BadContext);
        }
        Ok(Self {
            context,
            options,
            masks,
            header,
            next: header,
            index: 0,
        })
    }

    /// Writes the next segment to `segment`; `false` after the last.
    pub(super) fn next(&mut self, frame: &[u8], segment: &mut Vec<u8>) -> Result<bool, Fault> {
        if self.next >= frame.len() {
            return Ok(false);
        }
        let end = frame.len().min(self.next + usize::from(self.context.mss));
        segment.clear();
        segment.extend_from_slice(&frame[..self.header]);
        segment.extend_from_slice(&frame[self.next..end]);
        self.patch_ip(segment);
        self.patch_tcp(segment, end == frame.len());
        self.next = end;
        self.index += 1;
        insert_checksums(segment, &self.context, self.options)?;
        Ok(true)
    }

    /// Lengths, and for IPv4 the identification, which counts up (7.2.4.4).
    fn patch_ip(&self, segment: &mut [u8]) {
        let at = usize::from(self.context.mac_length);
        // Segments have at most 14 + 511 + 255 + 65535 bytes; a length that does not fit the field
        // is cut, as it is on the wire.
        let datagram = segment.len() - at;
        if self.context.ipv4 {
            segment[at + 2..at + 4].copy_from_slice(&(datagram as u16).to_be_bytes());
            let identification = u16::from_be_bytes([segment[at + 4], segment[at + 5]]);
            let identification = identification.wrapping_add(self.index as u16);
            segment[at + 4..at + 6].copy_from_slice(&identification.to_be_bytes());
        } else {
            segment[at + 4..at + 6].copy_from_slice(&((datagram - 40) as u16).to_be_bytes());
        }
    }

    /// Sequence number, flags, and the length that software left out of the pseudo header sum.
    fn patch_tcp(&self, segment: &mut [u8], last: bool) {
        let at = usize::from(self.context.mac_length) + usize::from(self.context.ip_length);
        let length = (segment.len() - at) as u16;
        let tcp = &mut segment[at..];
        let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        let sequence = sequence.wrapping_add((self.next - self.header) as u32);
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        let mask = match (self.index, last) {
            (_, true) => self.masks.high,
            (0, false) => self.masks.low,
            (_, false) => self.masks.low >> 16,
        } as u16
            & 0xfff;
        let flags = u16::from_be_bytes([tcp[12], tcp[13]]) & (0xf000 | mask);
        tcp[12..14].copy_from_slice(&flags.to_be_bytes());
        let pseudo = checksum::add(u16::from_be_bytes([tcp[16], tcp[17]]), length);
        tcp[16..18].copy_from_slice(&pseudo.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::Parsed;
    use super::super::testing::{ipv4_frame, ipv6_frame};
    use super::*;
    use ixgbe_spec::RxError;
    use proptest::prelude::*;

    const MASKS: FlagMasks = FlagMasks {
        low: 0x0ff6_0ff6,
        high: 0x0000_0f7f,
    };

    fn context(ipv4: bool, l4_type: L4Type) -> TxContext {
        TxContext {
            mac_length: 14,
            ip_length: if ipv4 { 20 } else { 40 },
            vlan: 0,
            ipv4,
            l4_type: Some(l4_type),
            index: 0,
            l4_length: 20,
            mss: 100,
        }
    }

    /// Leaves the pseudo header sum in the TCP or UDP checksum field, as a driver does.
    fn with_pseudo_sum(mut frame: Vec<u8>, field: usize, addresses: &[u8], rest: u16) -> Vec<u8> {
        let sum = checksum::add(checksum::sum(addresses), rest);
        frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    #[test]
    fn inserted_checksums_are_those_a_receiver_finds_right() {
        for (protocol, l4_type, field) in [(6, L4Type::Tcp, 50), (17, L4Type::Udp, 40)] {
            let good = ipv4_frame(protocol, 77);
            let length = (good.len() - 34) as u16;
            let rest = u16::from(protocol) + length;
            let mut frame = with_pseudo_sum(good.clone(), field, &good[26..34], rest);
            frame[24..26].fill(0);
            let both = TxOptions::IXSM | TxOptions::TXSM;
            insert_checksums(&mut frame, &context(true, l4_type), both).unwrap();
            assert_eq!(frame, good);
        }
    }

    #[test]
    fn large_frames_become_segments_that_a_receiver_finds_right() {
        for ipv4 in [true, false] {
            let (good, ip, addresses) = if ipv4 {
                (ipv4_frame(6, 250), 20, 26..34)
            } else {
                (ipv6_frame(6, 250), 40, 22..54)
            };
            let field = 14 + ip + 16;
            let frame = with_pseudo_sum(good.clone(), field, &good[addresses], 6);
            let context = context(ipv4, L4Type::Tcp);
            let options = TxOptions::IXSM | TxOptions::TXSM;
            let mut segmenter = Segmenter::new(&frame, context, options, MASKS).unwrap();
            let (mut segment, mut payload, mut flags) = (Vec::new(), Vec::new(), Vec::new());
            let mut sequences = Vec::new();
            while segmenter.next(&frame, &mut segment).unwrap() {
                let parsed = Parsed::new(&segment);
                assert!(parsed.transport.is_some());
                assert_eq!(parsed.check(&segment).1, RxError::empty());
                payload.extend_from_slice(&segment[14 + ip + 20..]);
                flags.push(segment[14 + ip + 13]);
                let at = 14 + ip + 4;
                sequences.push(u32::from_be_bytes(segment[at..at + 4].try_into().unwrap()));
            }
            assert_eq!(payload, good[14 + ip + 20..]);
            assert_eq!(flags, [0x10, 0x10, 0x18], "PSH on the last only");
            assert_eq!(sequences, [0x1000, 0x1064, 0x10c8]);
        }
    }

    #[test]
    fn a_tag_goes_after_the_addresses() {
        let mut frame: Vec<u8> = (0..20).collect();
        insert_vlan(&mut frame, 0x2064);
        assert_eq!(frame[10..18], [10, 11, 0x81, 0, 0x20, 0x64, 12, 13]);
    }

    #[test]
    fn offsets_beyond_the_frame_are_a_bad_context() {
        let mut frame = [0; 40];
        let context = TxContext {
            mac_length: 127,
            ip_length: 511,
            ..context(true, L4Type::Tcp)
        };
        for options in [TxOptions::IXSM, TxOptions::TXSM] {
            assert_eq!(
                insert_checksums(&mut frame, &context, options),
                Err(Fault::BadContext)
            );
        }
    }

    proptest! {
        #[test]
        fn any_context_is_survived(
            frame in proptest::collection::vec(any::<u8>(), 0..300),
            words in any::<[u64; 2]>(),
            options in 0..64u32,
        ) {
            let dext = 1 << 29 | 2 << 20;
            let words = [words[0], words[1] & !(0xf << 20) | dext];
            let decoded = ixgbe_spec::TxDescriptor::decode(words);
            let Ok(ixgbe_spec::TxDescriptor::Context(context)) = decoded else {
                panic!("not a context: {decoded:?}");
            };
            let options = TxOptions::from_bits_retain(options);
            let _ = insert_checksums(&mut frame.clone(), &context, options);
            if let Ok(mut segmenter) = Segmenter::new(&frame, context, options, MASKS) {
                let mut segment = Vec::new();
                let mut count = 0;
                while segmenter.next(&frame, &mut segment) == Ok(true) {
                    count += 1;
                }
                prop_assert!(count <= frame.len());
            }
        }
    }
}
