//! A TCP segment in a frame of the usual shape over IPv6: no extension headers. The counterpart of
//! `quick::QuickSegment`.

use crate::address::IpAddress;
use crate::flow::{FlowKey, FlowTable};
use crate::ipv6::header::IPV6;
use crate::ipv6::own_addresses::OwnAddresses;
use crate::quick::Quick;
use crate::seq::Seq;
use crate::tcp::connection::TEMPLATE_BYTES;
use crate::wire::{
    ETHERNET, ETHERTYPE_IPV6, PROTOCOL_TCP, TCP, TIMESTAMPS_PADDED, be16, be32, be64, control,
    le16, le32,
};

/// Bytes of all headers without options.
const HEADERS: usize = ETHERNET + IPV6 + TCP;
/// EtherType and version in one word, and what is not the flow label of the first word.
const SHAPE: u32 = (ETHERTYPE_IPV6 as u32) << 16 | 0x6000;
/// Where the TCP header starts.
const TCP_AT: usize = ETHERNET + IPV6;

/// Such a segment. Fields are read when asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuickSegment6<'a> {
    header: &'a [u8; HEADERS],
    frame: &'a [u8],
    /// Where in the frame the IP packet ends.
    end: u32,
    /// The number of our address.
    own: u32,
}

impl<'a> QuickSegment6<'a> {
    /// Looks at a frame to one of the given addresses; `None` if it is not of the usual shape.
    #[inline(always)]
    pub fn parse(frame: &'a [u8], mac_word: u64, own: &OwnAddresses) -> Option<Self> {
        let header = frame.first_chunk::<HEADERS>()?;
        let shape = be32(header, 12);
        let destination_mac = u64::from_le_bytes(*header.first_chunk::<8>()?) << 16;
        let end = (ETHERNET + IPV6) as u32 + u32::from(be16(header, 18));
        // The traffic class may be any but for a mark of congestion (RFC 3168).
        if shape & 0xffff_f000 != SHAPE
            || shape & 0x30 == 0x30
            || destination_mac != mac_word
            || header[20] != PROTOCOL_TCP
            || end > frame.len() as u32
        {
            return None;
        }
        let destination = IpAddress::from_words(be64(header, 38), be64(header, 46));
        let own = own.number(destination)?;
        Some(Self {
            header,
            frame,
            end,
            own,
        })
    }
}

impl QuickSegment6<'_> {
    /// Flow that it belongs to.
    #[inline(always)]
    fn key(&self) -> FlowKey {
        let remote = IpAddress::from_words(be64(self.header, 22), be64(self.header, 30));
        FlowKey::from_wire(remote, self.own, le32(self.header, TCP_AT))
    }
}

impl Quick for QuickSegment6<'_> {
    #[inline(always)]
    fn hash(&self, flows: &FlowTable) -> u32 {
        flows.hash(&self.key())
    }

    #[inline(always)]
    fn is_of(&self, key: &FlowKey) -> bool {
        self.key() == *key
    }

    #[inline(always)]
    fn payload_behind(&self, _template: &[u8; TEMPLATE_BYTES], headers: u8) -> Option<u32> {
        let headers = u32::from(headers);
        // The data offset counts words, in the high half of its byte. The template ends before it.
        let data_offset = headers.checked_sub(TCP_AT as u32)? << 2;
        let control = self.header[TCP_AT + 13] & !control::PSH;
        if u32::from(self.header[TCP_AT + 12]) != data_offset || control != control::ACK {
            return None;
        }
        self.end.checked_sub(headers)
    }

    #[inline(always)]
    fn control_alone(&self, _template: &[u8; TEMPLATE_BYTES], headers: u8) -> Option<u8> {
        let headers = u32::from(headers);
        let data_offset = headers.checked_sub(TCP_AT as u32)? << 2;
        let is_alone = self.end == headers && u32::from(self.header[TCP_AT + 12]) == data_offset;
        is_alone.then_some(self.header[TCP_AT + 13])
    }

    #[inline(always)]
    fn seq(&self) -> Seq {
        Seq(be32(self.header, TCP_AT + 4))
    }

    #[inline(always)]
    fn ack(&self) -> Seq {
        Seq(be32(self.header, TCP_AT + 8))
    }

    #[inline(always)]
    fn window(&self) -> u16 {
        be16(self.header, TCP_AT + 14)
    }

    #[inline(always)]
    fn window_word(&self) -> u16 {
        le16(self.header, TCP_AT + 14)
    }

    #[inline(always)]
    fn timestamp(&self) -> Option<u32> {
        let option = self.frame.get(HEADERS..)?.first_chunk::<8>()?;
        (be32(option, 0) == TIMESTAMPS_PADDED).then(|| be32(option, 4))
    }
}
