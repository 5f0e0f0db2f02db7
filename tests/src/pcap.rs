//! What was on the wire, from the capture of the NIC model.

use std::fs;
use std::path::Path;

/// Bytes of a capture's header, and of a frame's.
const FILE_HEADER: usize = 24;
const FRAME_HEADER: usize = 16;

/// The frames of a capture, in both directions, in order. One that is cut off at the end, as it was
/// being written, is left out.
pub fn captured_frames(path: &Path) -> Vec<Vec<u8>> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    let mut rest = bytes.get(FILE_HEADER..).unwrap_or_default();
    let mut frames = Vec::new();
    while let Some((header, behind)) = rest.split_at_checked(FRAME_HEADER) {
        let length = [header[8], header[9], header[10], header[11]];
        let Some((frame, behind)) = behind.split_at_checked(u32::from_le_bytes(length) as usize)
        else {
            break;
        };
        frames.push(frame.to_vec());
        rest = behind;
    }
    frames
}
