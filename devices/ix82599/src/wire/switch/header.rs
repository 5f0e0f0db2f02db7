//! What the way of a frame depends on.

use super::table::Mac;

/// Addresses up to here are for the neighbour on the link only (IEEE 802.1Q 8.6.3).
const RESERVED_GROUP: [u8; 5] = [0x01, 0x80, 0xc2, 0x00, 0x00];
const HEADER_BYTES: usize = 14;
/// Destination and source address, which come before a tag.
const ADDRESSES: usize = 12;
const TAG_BYTES: usize = 4;
/// EtherType of a tag, and VID in what follows (IEEE 802.1Q 9.6).
pub(super) const TAG: [u8; 2] = [0x81, 0x00];
const VID: u16 = 0x0fff;
/// EtherTypes of service tags and their forerunners: of VLANs around VLANs, which no function has.
const SERVICE_TAGS: [[u8; 2]; 3] = [[0x88, 0xa8], [0x91, 0x00], [0x92, 0x00]];

/// Addresses and VLAN of a frame.
pub(super) struct Header {
    pub(super) destination: Mac,
    pub(super) source: Mac,
    /// 0 without a tag.
    pub(super) vlan: u16,
    /// It has a service tag, or a tag behind one that names no VLAN: whoever takes the outer one off would
    /// find a VLAN that is not the one above.
    pub(super) hides_vlan: bool,
}

impl Header {
    /// `None` for what no switch forwards.
    pub(super) fn read(frame: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_BYTES] = frame.first_chunk()?;
        let (destination, rest) = header.split_first_chunk()?;
        let (source, ethertype) = rest.split_first_chunk()?;
        let is_reserved = destination.starts_with(&RESERVED_GROUP) && destination[5] < 0x10;
        if is_reserved || source[0] & 1 != 0 {
            return None;
        }
        let (vlan, inner) = if ethertype == TAG {
            let (tag, inner) = frame.get(HEADER_BYTES..)?.split_first_chunk()?;
            (u16::from_be_bytes(*tag) & VID, inner.first_chunk())
        } else {
            (0, ethertype.first_chunk())
        };
        let is_tag = |kind: &[u8; 2]| *kind == TAG || SERVICE_TAGS.contains(kind);
        Some(Self {
            destination: *destination,
            source: *source,
            vlan,
            hides_vlan: vlan == 0 && inner.is_some_and(is_tag),
        })
    }
}

/// Copies a frame of no VLAN into `tagged`, with a tag of `vlan`; a tag that it has for its priority keeps that.
pub(super) fn tag(frame: &[u8], vlan: u16, tagged: &mut Vec<u8>) {
    let (addresses, mut rest) = frame.split_at(ADDRESSES.min(frame.len()));
    let mut control = vlan;
    if let Some([a, b, high, low, ..]) = rest.first_chunk::<TAG_BYTES>()
        && [*a, *b] == TAG
    {
        control |= u16::from_be_bytes([*high, *low]) & !VID;
        rest = &rest[TAG_BYTES..];
    }
    tagged.clear();
    tagged.extend_from_slice(addresses);
    tagged.extend(TAG);
    tagged.extend(control.to_be_bytes());
    tagged.extend_from_slice(rest);
}

/// Takes the tag off a frame that has one.
pub(super) fn untag(frame: &mut Vec<u8>) {
    if frame.get(ADDRESSES..ADDRESSES + 2) == Some(&TAG) && frame.len() >= ADDRESSES + TAG_BYTES {
        frame.drain(ADDRESSES..ADDRESSES + TAG_BYTES);
    }
}
