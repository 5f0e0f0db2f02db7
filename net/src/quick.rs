//! A TCP segment in a frame of the usual shape over IPv4, as the fast path takes it: looked at in as few
//! words as will do. The counterpart for IPv6 is in `ipv6::quick`.

use crate::address::IpAddress;
use crate::flow::{FlowKey, FlowTable, OWN_IPV4};
use crate::seq::Seq;
use crate::tcp::connection::TEMPLATE_BYTES;
use crate::wire::{
    ETHERNET, PROTOCOL_TCP, Segment, TCP, TCP_HEADERS, TIMESTAMPS_PADDED, be16, be32, control,
    le16, le32,
};

/// The fields of a segment of the usual shape, in a frame of either family.
pub(crate) trait Quick: Copy {
    /// The hash of the flow that it belongs to.
    fn hash(&self, flows: &FlowTable) -> u32;
    /// Whether it belongs to a flow of its family.
    fn is_of(&self, key: &FlowKey) -> bool;
    /// Bytes of payload, if the control bits are ACK and perhaps PSH, and all headers are as long as
    /// those of the template, of which `headers` bytes are used.
    fn payload_behind(&self, template: &[u8; TEMPLATE_BYTES], headers: u8) -> Option<u32>;
    /// The control bits, if there is no payload, and all headers are as long as those of the template.
    fn control_alone(&self, template: &[u8; TEMPLATE_BYTES], headers: u8) -> Option<u8>;
    /// SEG.SEQ
    fn seq(&self) -> Seq;
    /// SEG.ACK
    fn ack(&self) -> Seq;
    /// SEG.WND as it stands, unscaled.
    fn window(&self) -> u16;
    /// The same, read as a little-endian number.
    fn window_word(&self) -> u16;
    /// TSval, if the timestamps option is in its usual place.
    fn timestamp(&self) -> Option<u32>;
}

/// A TCP segment in a frame of the usual shape: IPv4 without options, and TCP. Fields are read when
/// asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuickSegment<'a> {
    header: &'a [u8; TCP_HEADERS],
    frame: &'a [u8],
    /// Where in the frame the IP packet ends.
    end: u32,
}

/// The first six bytes of a frame to a MAC address, as one little-endian word shifted left by 16.
pub(crate) fn mac_word(mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_le_bytes([0, 0, a, b, c, d, e, f])
}

impl<'a> QuickSegment<'a> {
    /// Looks at a frame to the given addresses; `None` if it is not of the usual shape.
    #[inline(always)]
    pub fn parse(frame: &'a [u8], mac_word: u64, address_word: u32) -> Option<Self> {
        // Shorter ones would have been padded to 60 bytes.
        let header = frame.first_chunk::<TCP_HEADERS>()?;
        let destination_mac = u64::from_le_bytes(*header.first_chunk::<8>()?) << 16;
        let end = ETHERNET as u32 + u32::from(be16(header, 16));
        let shape = le32(header, 12).rotate_left(8);
        let fragment_and_protocol = le32(header, 20);
        // EtherType, version and header length in one word, and last in it the traffic class, which
        // may be any but for a mark of congestion (RFC 3168); fragment and protocol in another,
        // whatever the time to live.
        if destination_mac != mac_word
            || (shape & 0xffff_ff03).wrapping_sub(u32::from_le_bytes([0, 0x08, 0x00, 0x45])) > 2
            || fragment_and_protocol & 0xff00_ff3f != u32::from_le_bytes([0, 0, 0, PROTOCOL_TCP])
            || le32(header, 30) != address_word
            || end > frame.len() as u32
        {
            return None;
        }
        Some(Self { header, frame, end })
    }

    /// The whole frame.
    pub fn frame(&self) -> &'a [u8] {
        self.frame
    }

    /// All of it; `None` if the TCP header is malformed.
    #[inline(always)]
    pub fn segment(&self) -> Option<Segment<'a>> {
        let header = self.header;
        let payload = TCP_HEADERS - TCP + usize::from(header[46] >> 4) * 4;
        let options = self.frame.get(TCP_HEADERS..payload)?;
        let len = self.end.checked_sub(payload as u32)?;
        let source = IpAddress::from_ipv4(be32(header, 26));
        Some(Segment {
            frame: self.frame,
            key: FlowKey::from_wire(source, OWN_IPV4, le32(header, 34)),
            seq: self.seq(),
            ack: self.ack(),
            control: header[47],
            window: self.window(),
            options,
            payload: payload as u16,
            len: len as u16,
        })
    }
}

impl Quick for QuickSegment<'_> {
    #[inline(always)]
    fn hash(&self, flows: &FlowTable) -> u32 {
        flows.hash_ipv4(be32(self.header, 26), le32(self.header, 34))
    }

    #[inline(always)]
    fn is_of(&self, key: &FlowKey) -> bool {
        key.is_ipv4(be32(self.header, 26), le32(self.header, 34))
    }

    #[inline(always)]
    fn payload_behind(&self, template: &[u8; TEMPLATE_BYTES], headers: u8) -> Option<u32> {
        // Data offset and control bits; the template has ACK.
        let push = u16::from_le_bytes([0, control::PSH]);
        if le16(self.header, 46) & !push != le16(template, 46) {
            return None;
        }
        self.end.checked_sub(u32::from(headers))
    }

    #[inline(always)]
    fn control_alone(&self, template: &[u8; TEMPLATE_BYTES], headers: u8) -> Option<u8> {
        let is_alone = self.end == u32::from(headers) && self.header[46] == template[46];
        is_alone.then_some(self.header[47])
    }

    #[inline(always)]
    fn seq(&self) -> Seq {
        Seq(be32(self.header, 38))
    }

    #[inline(always)]
    fn ack(&self) -> Seq {
        Seq(be32(self.header, 42))
    }

    #[inline(always)]
    fn window(&self) -> u16 {
        be16(self.header, 48)
    }

    #[inline(always)]
    fn window_word(&self) -> u16 {
        le16(self.header, 48)
    }

    #[inline(always)]
    fn timestamp(&self) -> Option<u32> {
        let option = self.frame.get(TCP_HEADERS..)?.first_chunk::<8>()?;
        (be32(option, 0) == TIMESTAMPS_PADDED).then(|| be32(option, 4))
    }
}
