//! The Unix socket on which a reader asks for the counters while the guest runs.
//!
//! The reader sends one byte, any byte. The answer is a 64-bit number of entries, then for each
//! entry address and count, all 64-bit little-endian. It was taken when the byte arrived.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use crate::counters::Counters;

/// Listens at `path` and answers readers, one at a time, for as long as QEMU runs.
pub fn start(path: &str, counters: &'static Counters) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    thread::Builder::new()
        .name("insns".to_owned())
        .spawn(move || {
            for reader in listener.incoming().map_while(Result::ok) {
                // A reader that goes away is no error: the next one is served.
                let _ = answer(reader, counters);
            }
        })?;
    Ok(())
}

fn answer(mut reader: UnixStream, counters: &Counters) -> io::Result<()> {
    loop {
        reader.read_exact(&mut [0])?;
        let entries = counters.snapshot();
        let mut reply = Vec::with_capacity(8 + 16 * entries.len());
        reply.extend((entries.len() as u64).to_le_bytes());
        for (address, count) in entries {
            reply.extend(address.to_le_bytes());
            reply.extend(count.to_le_bytes());
        }
        reader.write_all(&reply)?;
    }
}
