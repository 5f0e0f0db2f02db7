//! `ixctl capture`: frames of a dataplane into a file. The daemon sends pcapng, of which this reads
//! only where blocks begin, what kind they are, and how many frames were left out.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use ix_api::{Kind, Refusal};
use serde::Serialize;

use crate::client::{Client, escaped};
use crate::command::show;

/// Kinds of blocks (draft-ietf-opsawg-pcapng 4.3, 4.6).
const ENHANCED_PACKET: u32 = 6;
const INTERFACE_STATISTICS: u32 = 5;
/// Option `isb_ifdrop`, and where the options of statistics begin: after head, interface and time.
const ISB_IFDROP: u16 = 5;
const STATISTICS_OPTIONS: usize = 20;
/// Least and most bytes of a block: a frame has at most 16 KiB.
const BLOCK_BYTES: std::ops::RangeInclusive<usize> = 12..=1 << 20;
/// Frames are in the file at the latest after this time.
const FLUSH_PERIOD: Duration = Duration::from_millis(500);

/// When a capture ends by itself.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    count: u64,
    time: Option<Duration>,
}

/// What was captured.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
struct Tally {
    /// Frames in the file.
    frames: u64,
    /// Frames that the card left out, since they were not taken fast enough.
    dropped: u64,
}

impl Limits {
    /// After so many frames, after so many seconds; for ever unless given.
    pub fn new(count: Option<u64>, seconds: Option<f64>) -> Result<Limits, Refusal> {
        let time = seconds.map(Duration::try_from_secs_f64).transpose();
        let time = time.map_err(|_| {
            let reason = "that is no number of seconds";
            Refusal::new(Kind::Invalid, reason, "use one like 10 or 0.5")
        })?;
        Ok(Limits {
            count: count.unwrap_or(u64::MAX),
            time,
        })
    }
}

/// Writes frames until a limit is reached, the user has enough, or the dataplane ends.
pub async fn run(
    client: &Client,
    name: &str,
    to: &Path,
    limits: Limits,
    filter: &str,
    as_json: bool,
) -> Result<()> {
    let path = format!(
        "/v1/dataplanes/{}/capture?filter={}",
        escaped(name),
        escaped(filter)
    );
    // Asked before a file is made, so that a refusal leaves none.
    let mut stream = client.open(&path).await?;
    let cannot_write = || format!("cannot write {}", to.display());
    let mut sink = Sink::new(open(to).with_context(cannot_write)?, limits.count);
    let until = async {
        match limits.time {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(until);
    let mut flush = tokio::time::interval(FLUSH_PERIOD);
    while !sink.is_full() {
        tokio::select! {
            piece = stream.next() => match piece? {
                Some(piece) => match sink.add(&piece) {
                    // Whoever reads it has seen enough.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                    added => added.with_context(cannot_write)?,
                },
                None => break,
            },
            _ = flush.tick() => sink.out.flush().with_context(cannot_write)?,
            () = &mut until => break,
            stopped = tokio::signal::ctrl_c() => {
                stopped?;
                break;
            }
        }
    }
    sink.out.flush().with_context(cannot_write)?;
    report(&sink.tally, to, as_json)
}

/// Standard output may be the capture itself.
fn report(tally: &Tally, to: &Path, as_json: bool) -> Result<()> {
    let Tally { frames, dropped } = tally;
    let missed = match dropped {
        0 => String::new(),
        dropped => format!("; {dropped} more came too fast and are not in it"),
    };
    if to == Path::new("-") {
        eprintln!("{frames} frames{missed}");
        return Ok(());
    }
    if as_json {
        return show::json(tally);
    }
    println!("{frames} frames in {}{missed}", to.display());
    Ok(())
}

fn open(to: &Path) -> io::Result<Box<dyn Write>> {
    if to == Path::new("-") {
        return Ok(Box::new(io::stdout()));
    }
    Ok(Box::new(File::create(to)?))
}

/// Takes whole blocks to the file.
struct Sink<W: Write> {
    out: BufWriter<W>,
    /// The beginning of a block whose end has not come.
    rest: Vec<u8>,
    most: u64,
    tally: Tally,
}

impl<W: Write> Sink<W> {
    fn new(out: W, most: u64) -> Sink<W> {
        Sink {
            out: BufWriter::new(out),
            rest: Vec::new(),
            most,
            tally: Tally::default(),
        }
    }

    fn is_full(&self) -> bool {
        self.tally.frames >= self.most
    }

    fn add(&mut self, piece: &[u8]) -> io::Result<()> {
        self.rest.extend_from_slice(piece);
        let mut start = 0;
        while !self.is_full()
            && let Some(length) = block_length(&self.rest[start..])?
        {
            let block = &self.rest[start..start + length];
            match word(block, 0) {
                ENHANCED_PACKET => self.tally.frames += 1,
                INTERFACE_STATISTICS => self.tally.dropped = dropped(block),
                _ => {}
            }
            self.out.write_all(block)?;
            start += length;
        }
        self.rest.drain(..start);
        Ok(())
    }
}

/// The length of the block at the start of `bytes`, if all of it is there.
fn block_length(bytes: &[u8]) -> io::Result<Option<usize>> {
    if bytes.len() < *BLOCK_BYTES.start() {
        return Ok(None);
    }
    let length = word(bytes, 4) as usize;
    if !BLOCK_BYTES.contains(&length) || !length.is_multiple_of(4) {
        return Err(io::Error::other("what the daemon sends is not pcapng"));
    }
    Ok((length <= bytes.len()).then_some(length))
}

/// The card writes this option first.
fn dropped(block: &[u8]) -> u64 {
    let options = block.get(STATISTICS_OPTIONS..).unwrap_or_default();
    let value = options.get(4..12).and_then(|value| value.try_into().ok());
    let is_drops = options.starts_with(&ISB_IFDROP.to_le_bytes());
    value.filter(|_| is_drops).map_or(0, u64::from_le_bytes)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32 + 12).to_le_bytes();
        [&kind.to_le_bytes(), &length, body, &length].concat()
    }

    fn stream() -> Vec<u8> {
        let mut statistics = vec![0; 12];
        statistics.extend([5, 0, 8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        [
            block(0x0a0d_0d0a, &[1; 16]),
            block(ENHANCED_PACKET, &[2; 80]),
            block(INTERFACE_STATISTICS, &statistics),
            block(ENHANCED_PACKET, &[3; 60]),
        ]
        .concat()
    }

    #[test]
    fn blocks_are_counted_in_any_pieces() {
        for size in [1, 7, 100, 1000] {
            let mut sink = Sink::new(Vec::new(), u64::MAX);
            for piece in stream().chunks(size) {
                sink.add(piece).unwrap();
            }
            let expected = Tally {
                frames: 2,
                dropped: 9,
            };
            assert_eq!(sink.tally, expected);
            assert_eq!(sink.out.into_inner().unwrap(), stream());
        }
    }

    #[test]
    fn the_last_frame_wanted_is_the_last_one() {
        let mut sink = Sink::new(Vec::new(), 1);
        sink.add(&stream()).unwrap();
        assert!(sink.is_full());
        let written = sink.out.into_inner().unwrap();
        assert_eq!(written, stream()[..28 + 92]);
    }

    #[test]
    fn what_is_no_pcapng_is_refused() {
        let mut sink = Sink::new(Vec::new(), 1);
        assert!(sink.add(b"HTTP/1.1 200 OK\r\n").is_err());
    }

    #[test]
    fn limits_are_numbers() {
        assert!(Limits::new(None, Some(-1.0)).is_err());
        assert_eq!(Limits::new(Some(3), None).unwrap().count, 3);
    }
}
