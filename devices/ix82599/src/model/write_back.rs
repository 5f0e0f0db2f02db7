//! What the device writes over a receive descriptor, in either format.

use ixgbe_spec::{PacketType, RssType, RxError, RxStatus, RxWriteBack};

use super::flow_director::FlowMatch;
use super::header_split::Split;
use super::rss::Steering;

/// What is written back to a descriptor, apart from the length.
#[derive(Clone, Copy)]
pub(super) struct WriteBack {
    pub(super) steering: Steering,
    pub(super) packet_type: PacketType,
    pub(super) vlan: Option<u16>,
    pub(super) status: RxStatus,
    pub(super) error: RxError,
}

impl WriteBack {
    /// Of a descriptor that does not end its frame: only DD and the length count.
    pub(super) const MIDDLE: Self = Self {
        steering: Steering {
            queue: 0,
            hash: 0,
            rss_type: RssType::None,
            flow: FlowMatch::Off,
        },
        packet_type: PacketType::empty(),
        vlan: None,
        status: RxStatus::empty(),
        error: RxError::empty(),
    };

    /// Advanced format (7.1.6.2); `split` in the first descriptor of a frame.
    pub(super) fn advanced(&self, length: usize, split: Option<&Split>) -> [u64; 2] {
        let mut write_back = RxWriteBack::new(
            self.steering.rss_type,
            self.steering.hash,
            self.packet_type,
            length as u16,
            self.status | RxStatus::DD,
            self.error,
        );
        if let Some(split) = split {
            write_back = write_back.with_header(split.reported_bytes as u16, split.is_split);
        }
        match self.vlan {
            Some(tag) => write_back.with_vlan(tag).0,
            None => write_back.0,
        }
    }

    /// Legacy format (7.1.5): the address stays; length, status, errors and tag follow. Its status
    /// and error bits are the low and the high ones of the advanced format.
    pub(super) fn legacy(&self, address: u64, length: usize) -> [u64; 2] {
        let vlan = self.vlan.map_or(0, |_| RxStatus::VP.bits());
        let status = (self.status | RxStatus::DD).bits() | vlan;
        let error = self.error.bits() >> 4;
        let tag = u64::from(self.vlan.unwrap_or(0));
        [
            address,
            length as u64 & 0xffff
                | u64::from(status & 0xff) << 32
                | u64::from(error & 0xff) << 40
                | tag << 48,
        ]
    }
}
