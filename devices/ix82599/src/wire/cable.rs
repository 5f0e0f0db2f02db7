//! Wires within one process: a cable with two ends, and a loopback plug.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Wire, WireError};

/// Frames on their way, in one direction.
#[derive(Debug, Default)]
struct Lane {
    frames: VecDeque<Vec<u8>>,
}

/// One end of a cable. Each direction holds a bounded number of frames.
#[derive(Debug)]
pub struct Cable {
    outgoing: Arc<Mutex<Lane>>,
    incoming: Arc<Mutex<Lane>>,
    capacity: usize,
}

impl Cable {
    /// A cable that holds up to `capacity` frames in each direction, as its two ends.
    pub fn pair(capacity: usize) -> (Self, Self) {
        let lanes: [Arc<Mutex<Lane>>; 2] = Default::default();
        let end = |outgoing: &Arc<Mutex<Lane>>, incoming: &Arc<Mutex<Lane>>| Self {
            outgoing: Arc::clone(outgoing),
            incoming: Arc::clone(incoming),
            capacity,
        };
        (end(&lanes[0], &lanes[1]), end(&lanes[1], &lanes[0]))
    }

    /// Frames that wait for this end.
    pub fn waiting(&self) -> usize {
        lock(&self.incoming).frames.len()
    }

    /// Takes the next frame that waits for this end.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        lock(&self.incoming).frames.pop_front()
    }
}

impl Wire for Cable {
    fn send(&mut self, frame: &[u8]) -> Result<(), WireError> {
        let mut lane = lock(&self.outgoing);
        if lane.frames.len() >= self.capacity {
            return Err(WireError::Full);
        }
        lane.frames.push_back(frame.to_vec());
        Ok(())
    }

    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>, WireError> {
        Ok(first_that_fits(&mut lock(&self.incoming), frame))
    }

    /// Down once the other end is gone.
    fn link_up(&self) -> bool {
        Arc::strong_count(&self.outgoing) > 1
    }
}

/// A plug that leads what is sent back to the sender.
#[derive(Debug)]
pub struct Loopback {
    lane: Lane,
    capacity: usize,
}

impl Loopback {
    /// A plug in which up to `capacity` frames may be under way.
    pub fn new(capacity: usize) -> Self {
        Self {
            lane: Lane::default(),
            capacity,
        }
    }
}

impl Wire for Loopback {
    fn send(&mut self, frame: &[u8]) -> Result<(), WireError> {
        if self.lane.frames.len() >= self.capacity {
            return Err(WireError::Full);
        }
        self.lane.frames.push_back(frame.to_vec());
        Ok(())
    }

    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>, WireError> {
        Ok(first_that_fits(&mut self.lane, frame))
    }
}

fn first_that_fits(lane: &mut Lane, into: &mut [u8]) -> Option<usize> {
    while let Some(frame) = lane.frames.pop_front() {
        if let Some(room) = into.get_mut(..frame.len()) {
            room.copy_from_slice(&frame);
            return Some(frame.len());
        }
    }
    None
}

/// A lane stays usable whatever its other user died of: it is a queue of whole frames.
fn lock(lane: &Mutex<Lane>) -> std::sync::MutexGuard<'_, Lane> {
    lane.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_cross_in_order_and_not_back() {
        let (mut left, mut right) = Cable::pair(8);
        left.send(&[1; 60]).unwrap();
        left.send(&[2; 61]).unwrap();
        let mut frame = [0; 128];
        assert_eq!(left.receive(&mut frame).unwrap(), None);
        assert_eq!(right.receive(&mut frame).unwrap(), Some(60));
        assert_eq!(right.take(), Some(vec![2; 61]));
    }

    #[test]
    fn a_full_lane_refuses_and_an_unplugged_one_is_down() {
        let (mut left, right) = Cable::pair(1);
        left.send(&[1; 60]).unwrap();
        assert!(matches!(left.send(&[2; 60]), Err(WireError::Full)));
        assert!(left.link_up());
        drop(right);
        assert!(!left.link_up());
    }

    #[test]
    fn a_frame_longer_than_the_room_is_lost_and_the_next_comes() {
        let mut plug = Loopback::new(4);
        plug.send(&[1; 200]).unwrap();
        plug.send(&[2; 60]).unwrap();
        assert_eq!(plug.receive(&mut [0; 100]).unwrap(), Some(60));
        assert_eq!(plug.receive(&mut [0; 100]).unwrap(), None);
    }
}
