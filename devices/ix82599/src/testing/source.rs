use crate::wire::{Wire, WireError};

/// A wire for measurements: it gives as many frames as asked for, all the same, and swallows what it gets.
#[derive(Debug)]
pub struct Source {
    frame: Vec<u8>,
    left: usize,
}

impl Source {
    /// Gives none yet.
    pub fn new(frame: Vec<u8>) -> Self {
        Self { frame, left: 0 }
    }

    /// Gives so many from now on.
    pub fn give(&mut self, frames: usize) {
        self.left = frames;
    }
}

impl Wire for Source {
    fn send(&mut self, frame: &[u8]) -> Result<(), WireError> {
        std::hint::black_box(frame);
        Ok(())
    }

    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>, WireError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        frame[..self.frame.len()].copy_from_slice(&self.frame);
        Ok(Some(self.frame.len()))
    }
}
