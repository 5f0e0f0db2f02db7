//! A wire that ends in an access port of a switch: the device belongs to a VLAN and speaks tagged
//! frames; what is plugged in behind knows of no VLAN.
//!
//! So a device with a VLAN meets a host that has none, wherever that host comes from.

use std::os::fd::BorrowedFd;

use super::{Claim, Direction, Dropped, MAX_FRAME_BYTES, Wire, WireError};

/// Destination and source address, which come before the tag.
const ADDRESSES: usize = 12;
/// EtherType of a tag, and its tag control information (IEEE 802.1Q-2022 9.6).
const TAG: usize = 4;
const ETHERTYPE: [u8; 2] = [0x81, 0x00];
/// VID in the tag control information.
const VLAN: u16 = 0x0fff;

/// A wire behind an access port.
#[derive(Debug)]
pub struct AccessPort<W> {
    inner: W,
    /// `None`: frames pass as they are.
    vlan: Option<u16>,
    scratch: Vec<u8>,
    foreign: u64,
    is_watched: bool,
    dropped: Option<Dropped>,
}

impl<W: Wire> AccessPort<W> {
    /// Puts `inner` behind an access port of that VLAN, if there is one.
    pub fn new(inner: W, vlan: Option<u16>) -> Self {
        Self {
            inner,
            vlan,
            scratch: vec![0; MAX_FRAME_BYTES],
            foreign: 0,
            is_watched: false,
            dropped: None,
        }
    }

    /// Frames of the device that were dropped because they are not of the VLAN.
    pub fn foreign(&self) -> u64 {
        self.foreign
    }
}

impl<W> Drop for AccessPort<W> {
    fn drop(&mut self) {
        if let Some(vlan) = self.vlan {
            let foreign = self.foreign;
            log::info!("access port of VLAN {vlan}: {foreign} frames of other VLANs dropped");
        }
    }
}

impl<W: Wire> Wire for AccessPort<W> {
    /// Takes the tag off. A frame of another VLAN, or without a tag, goes nowhere.
    fn send(&mut self, frame: &[u8]) -> Result<(), WireError> {
        let Some(vlan) = self.vlan else {
            return self.inner.send(frame);
        };
        let is_ours = match frame.get(ADDRESSES..ADDRESSES + TAG) {
            Some(&[a, b, high, low]) => {
                [a, b] == ETHERTYPE && u16::from_be_bytes([high, low]) & VLAN == vlan
            }
            _ => false,
        };
        if !is_ours {
            self.foreign += 1;
            self.dropped = self.is_watched.then(|| Dropped {
                direction: Direction::Outbound,
                reason: "dropped by the access port: not of its VLAN",
                frame: frame.to_vec(),
            });
            return Ok(());
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(&frame[..ADDRESSES]);
        self.scratch.extend_from_slice(&frame[ADDRESSES + TAG..]);
        self.inner.send(&self.scratch)
    }

    /// Puts the tag on, with priority 0.
    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>, WireError> {
        let Some(vlan) = self.vlan else {
            return self.inner.receive(frame);
        };
        let room = frame.len().saturating_sub(TAG);
        let Some(length) = self.inner.receive(&mut frame[..room])? else {
            return Ok(None);
        };
        if length < ADDRESSES {
            // Too short to be a frame, tag or not.
            return Ok(Some(length));
        }
        frame.copy_within(ADDRESSES..length, ADDRESSES + TAG);
        frame[ADDRESSES..ADDRESSES + 2].copy_from_slice(&ETHERTYPE);
        frame[ADDRESSES + 2..ADDRESSES + TAG].copy_from_slice(&vlan.to_be_bytes());
        Ok(Some(length + TAG))
    }

    fn link_up(&self) -> bool {
        self.inner.link_up()
    }

    fn advance(&mut self, now_ns: u64) {
        self.inner.advance(now_ns);
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.inner.deadline_ns()
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.inner.readiness()
    }

    fn claim(&mut self, claim: Claim) -> bool {
        self.inner.claim(claim)
    }

    fn request(&mut self, what: &str, argument: &str) -> Option<Result<String, String>> {
        self.inner.request(what, argument)
    }

    fn watch(&mut self, watched: bool) {
        self.is_watched = watched;
        self.inner.watch(watched);
    }

    fn next_dropped(&mut self) -> Option<Dropped> {
        self.dropped.take().or_else(|| self.inner.next_dropped())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cable;
    use super::*;

    fn frame(tag: &[u8]) -> Vec<u8> {
        let mut frame: Vec<u8> = (0..12).collect();
        frame.extend(tag);
        frame.extend([0x08, 0x00, 1, 2, 3]);
        frame
    }

    #[test]
    fn tags_come_off_on_the_way_out_and_strangers_stay_in() {
        let (mut far, near) = Cable::pair(8);
        let mut port = AccessPort::new(near, Some(100));
        for tag in [
            &[0x81, 0x00, 0xa0, 100][..],
            &[],
            &[0x81, 0x00, 0, 101],
            &[0x88, 0xa8, 0, 100],
        ] {
            port.send(&frame(tag)).unwrap();
        }
        port.send(&[0; 13]).unwrap();
        assert_eq!(far.take(), Some(frame(&[])));
        assert_eq!(far.take(), None);
        assert_eq!(port.foreign(), 4);
    }

    #[test]
    fn tags_go_on_on_the_way_in() {
        let (mut far, near) = Cable::pair(8);
        let mut port = AccessPort::new(near, Some(100));
        far.send(&frame(&[])).unwrap();
        let mut room = [0; 64];
        let length = port.receive(&mut room).unwrap().expect("a frame");
        assert_eq!(room[..length], frame(&[0x81, 0x00, 0, 100]));
        assert_eq!(port.receive(&mut room).unwrap(), None);
    }

    #[test]
    fn without_a_vlan_nothing_changes() {
        let (mut far, near) = Cable::pair(8);
        let mut port = AccessPort::new(near, None);
        port.send(&frame(&[0x81, 0x00, 0, 5])).unwrap();
        assert_eq!(far.take(), Some(frame(&[0x81, 0x00, 0, 5])));
        far.send(&frame(&[])).unwrap();
        let mut room = [0; 64];
        assert_eq!(port.receive(&mut room).unwrap(), Some(17));
    }
}
