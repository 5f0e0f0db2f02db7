//! Lines that the application writes to the log.

use core::fmt::{self, Write};

use ix_abi::{Error, syscall};

use super::console::say;
use super::load::UserMemory;

/// Prints the text at that address line by line, without control characters.
pub fn log(memory: &UserMemory, address: u64, len: u64) -> i64 {
    let mut buffer = [0; syscall::LOG_MAX as usize];
    if len > syscall::LOG_MAX {
        return Error::Invalid.to_result();
    }
    let bytes = &mut buffer[..len as usize];
    if !memory.read(address, bytes) {
        return Error::BadAddress.to_result();
    }
    for line in bytes.split(|byte| *byte == b'\n') {
        say!("app: {}", Printable(line));
    }
    0
}

/// Text of any kind, with what is not UTF-8 or not printable replaced.
struct Printable<'a>(&'a [u8]);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                let printable = !character.is_control() || character == '\t';
                f.write_char(if printable { character } else { '\u{fffd}' })?;
            }
            if !chunk.invalid().is_empty() {
                f.write_char('\u{fffd}')?;
            }
        }
        Ok(())
    }
}
