//! How long a request is within the guest: from when its frame enters the NIC model until the frame of
//! the reply leaves it, by the time stamps of the model's own captures. What the client and the host's
//! network cost is not in it.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::Run;
use crate::bed::{Bed, Transport};

/// Block of a packet in pcapng (draft-ietf-opsawg-pcapng, 4.3).
const ENHANCED_PACKET: u32 = 6;
/// Direction in the flags of a packet: 1 to the device, 2 from it.
const INBOUND: u32 = 1;
/// Where the IPv4 header begins.
const ETHERNET: usize = 14;
/// How long the stream may be silent before it is taken for complete.
const SILENCE: Duration = Duration::from_millis(500);

/// The median over the requests of a load of one connection, in microseconds.
pub fn median_us(run: Run, bed: &Bed, arguments: &str) -> Result<f64> {
    let socket = bed
        .machine()
        .wire_socket()
        .context("the machine has no card")?;
    let mut stream = UnixStream::connect(socket).context("cannot reach the NIC model")?;
    writeln!(stream, "capture tcp")?;
    stream.set_read_timeout(Some(SILENCE))?;
    let mut reader = BufReader::new(stream);
    let mut answer = String::new();
    reader.read_line(&mut answer)?;
    ensure!(
        answer.trim() == "ok",
        "the NIC model refuses a capture: {answer}"
    );
    let bytes = thread::scope(|scope| {
        let load = scope.spawn(|| bed.load(run, arguments, Transport::Sockets));
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 64 << 10];
        loop {
            match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if load.is_finished() {
                        break;
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        load.join().expect("no panic").map(|_| bytes)
    })?;
    let mut times = residences_ns(&bytes);
    ensure!(
        !times.is_empty(),
        "the NIC model captured no request and reply"
    );
    times.sort_unstable();
    Ok(times[times.len() / 2] as f64 / 1e3)
}

/// Times from a frame with payload to the device until the next one from it.
fn residences_ns(pcapng: &[u8]) -> Vec<u64> {
    let mut entered = None;
    let mut times = Vec::new();
    for packet in packets(pcapng).filter(|packet| payload_len(packet.frame) > 0) {
        if packet.is_inbound {
            entered = Some(packet.time_ns);
        } else if let Some(entered_ns) = entered.take() {
            times.push(packet.time_ns.saturating_sub(entered_ns));
        }
    }
    times
}

struct Packet<'a> {
    time_ns: u64,
    is_inbound: bool,
    frame: &'a [u8],
}

/// The packets of a stream, which may end in the middle of a block.
fn packets(mut rest: &[u8]) -> impl Iterator<Item = Packet<'_>> {
    let mut next_block = move || {
        let len = word(rest, 4)? as usize;
        let block = rest.get(..len).filter(|block| block.len() >= 12)?;
        rest = &rest[len..];
        Some(block)
    };
    std::iter::from_fn(move || {
        loop {
            let block = next_block()?;
            if word(block, 0)? == ENHANCED_PACKET {
                return packet(block);
            }
        }
    })
}

fn packet(block: &[u8]) -> Option<Packet<'_>> {
    let len = word(block, 20)? as usize;
    let frame = block.get(28..28 + len)?;
    // The only option is the direction.
    let flags = word(block, 28 + len.next_multiple_of(4) + 4)?;
    Some(Packet {
        time_ns: u64::from(word(block, 12)?) << 32 | u64::from(word(block, 16)?),
        is_inbound: flags & 3 == INBOUND,
        frame,
    })
}

/// Bytes of TCP payload in a frame of IPv4.
fn payload_len(frame: &[u8]) -> usize {
    let payload = || {
        let ip_header = usize::from(frame.get(ETHERNET)? & 15) * 4;
        let total = usize::from(u16::from_be_bytes([*frame.get(16)?, *frame.get(17)?]));
        let tcp_header = usize::from(frame.get(ETHERNET + ip_header + 12)? >> 4) * 4;
        total.checked_sub(ip_header + tcp_header)
    };
    payload().unwrap_or(0)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..at + 4)?;
    Some(u32::from_le_bytes(word.try_into().expect("four bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(payload: usize) -> Vec<u8> {
        let mut frame = vec![0; 54 + payload];
        frame[14] = 0x45;
        frame[16..18].copy_from_slice(&(40 + payload as u16).to_be_bytes());
        frame[46] = 5 << 4;
        frame
    }

    fn block(time_ns: u64, direction: u32, payload: usize) -> Vec<u8> {
        let mut frame = frame(payload);
        let len = frame.len() as u32;
        frame.resize(frame.len().next_multiple_of(4), 0);
        let total = 28 + frame.len() as u32 + 12 + 4;
        let mut words = vec![
            ENHANCED_PACKET,
            total,
            0,
            (time_ns >> 32) as u32,
            time_ns as u32,
            len,
            len,
        ];
        let mut block: Vec<u8> = words.drain(..).flat_map(u32::to_le_bytes).collect();
        block.extend(frame);
        block.extend([2, 0, 4, 0]);
        block.extend(direction.to_le_bytes());
        block.extend([0; 4]);
        block.extend(total.to_le_bytes());
        block
    }

    #[test]
    fn a_request_is_within_from_its_frame_to_the_replys() {
        let base = 5 << 32;
        let stream = [
            // The handshake, a request, its acknowledgement, its reply; a request that is cut off.
            block(base, 1, 0),
            block(base + 10, 2, 0),
            block(base + 100, 1, 64),
            block(base + 130, 2, 0),
            block(base + 175, 2, 64),
            block(base + 200, 1, 63),
            block(base + 300, 2, 63)[..50].to_vec(),
        ];
        assert_eq!(residences_ns(&stream.concat()), [75]);
    }

    #[test]
    fn what_is_no_tcp_has_no_payload() {
        assert_eq!(payload_len(&[]), 0);
        assert_eq!(payload_len(&frame(0)), 0);
        assert_eq!(payload_len(&frame(100)), 100);
    }
}
