//! A wire whose frames are also written to a pcap file (classic format, nanosecond time stamps).
//!
//! Capturing never disturbs the traffic: when the file cannot be written any more, a warning is
//! logged once and the frames go on without it.

use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Claim, Dropped, MAX_FRAME_BYTES, Wire, WireError};

/// Magic number of a pcap file with nanosecond time stamps, in the writer's byte order.
const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
/// Link type of Ethernet.
const LINKTYPE_ETHERNET: u32 = 1;
/// Frames written by then are in the file after this time at the latest.
const FLUSH_INTERVAL_NS: u64 = 500_000_000;

/// Writes frames in the pcap format.
#[derive(Debug)]
pub struct PcapWriter<F: Write> {
    file: F,
}

impl<F: Write> PcapWriter<F> {
    /// Starts a file.
    ///
    /// # Errors
    /// What writing the header gave.
    pub fn new(mut file: F) -> io::Result<Self> {
        let mut header = [0; 24];
        header[0..4].copy_from_slice(&MAGIC_NANOSECONDS.to_le_bytes());
        header[4..6].copy_from_slice(&2u16.to_le_bytes());
        header[6..8].copy_from_slice(&4u16.to_le_bytes());
        header[16..20].copy_from_slice(&(MAX_FRAME_BYTES as u32).to_le_bytes());
        header[20..24].copy_from_slice(&LINKTYPE_ETHERNET.to_le_bytes());
        file.write_all(&header)?;
        Ok(Self { file })
    }

    /// Writes one frame seen at `since_epoch`.
    ///
    /// # Errors
    /// What writing gave.
    pub fn frame(&mut self, since_epoch: Duration, frame: &[u8]) -> io::Result<()> {
        let mut header = [0; 16];
        // The format's seconds end in 2106.
        header[0..4].copy_from_slice(&(since_epoch.as_secs() as u32).to_le_bytes());
        header[4..8].copy_from_slice(&since_epoch.subsec_nanos().to_le_bytes());
        header[8..12].copy_from_slice(&(frame.len() as u32).to_le_bytes());
        header[12..16].copy_from_slice(&(frame.len() as u32).to_le_bytes());
        self.file.write_all(&header)?;
        self.file.write_all(frame)
    }

    /// Makes sure that everything so far is in the file.
    ///
    /// # Errors
    /// What flushing gave.
    pub fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A wire with an optional capture of both directions, in the order in which the device sees them.
#[derive(Debug)]
pub struct Captured<W, F: Write> {
    inner: W,
    writer: Option<PcapWriter<F>>,
    /// Wall-clock time of `now_ns` = 0.
    epoch: Duration,
    now_ns: u64,
    unflushed_since_ns: Option<u64>,
}

impl<W: Wire, F: Write> Captured<W, F> {
    /// Captures the frames of `inner`, if there is a writer.
    pub fn new(inner: W, writer: Option<PcapWriter<F>>) -> Self {
        Self {
            inner,
            writer,
            epoch: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            now_ns: 0,
            unflushed_since_ns: None,
        }
    }

    fn record(&mut self, frame: &[u8]) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        let time = self.epoch + Duration::from_nanos(self.now_ns);
        if let Err(error) = writer.frame(time, frame) {
            self.give_up(&error);
        } else {
            self.unflushed_since_ns.get_or_insert(self.now_ns);
        }
    }

    fn give_up(&mut self, error: &io::Error) {
        log::warn!("the capture ends here, its file cannot be written: {error}");
        self.writer = None;
        self.unflushed_since_ns = None;
    }

    fn flush(&mut self) {
        self.unflushed_since_ns = None;
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.flush()
        {
            self.give_up(&error);
        }
    }
}

impl<W: Wire, F: Write> Wire for Captured<W, F> {
    fn send(&mut self, frame: &[u8]) -> Result<(), WireError> {
        self.record(frame);
        self.inner.send(frame)
    }

    fn receive(&mut self, frame: &mut [u8]) -> Result<Option<usize>, WireError> {
        let length = self.inner.receive(frame)?;
        if let Some(length) = length {
            self.record(&frame[..length]);
        }
        Ok(length)
    }

    fn link_up(&self) -> bool {
        self.inner.link_up()
    }

    fn advance(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.inner.advance(now_ns);
        if self
            .unflushed_since_ns
            .is_some_and(|since| now_ns.saturating_sub(since) >= FLUSH_INTERVAL_NS)
        {
            self.flush();
        }
    }

    fn deadline_ns(&self) -> Option<u64> {
        let flush = self
            .unflushed_since_ns
            .map(|since| since.saturating_add(FLUSH_INTERVAL_NS));
        flush.into_iter().chain(self.inner.deadline_ns()).min()
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
        self.inner.watch(watched);
    }

    fn next_dropped(&mut self) -> Option<Dropped> {
        self.inner.next_dropped()
    }
}

impl<W, F: Write> Drop for Captured<W, F> {
    fn drop(&mut self) {
        if let Some(writer) = &mut self.writer
            && let Err(error) = writer.flush()
        {
            log::warn!("the end of the capture is lost, its file cannot be written: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Loopback;
    use super::*;

    #[test]
    fn both_directions_are_in_the_file_with_their_times() {
        let mut file = Vec::new();
        let mut frame = [0; 128];
        {
            let writer = PcapWriter::new(&mut file).unwrap();
            let mut wire = Captured::new(Loopback::new(4), Some(writer));
            wire.advance(5);
            wire.send(&[7; 60]).unwrap();
            wire.receive(&mut frame).unwrap();
            assert_eq!(wire.deadline_ns(), Some(5 + FLUSH_INTERVAL_NS));
            wire.advance(5 + FLUSH_INTERVAL_NS);
            assert_eq!(wire.deadline_ns(), None);
        }
        assert_eq!(file.len(), 24 + 2 * (16 + 60));
        assert_eq!(file[..4], MAGIC_NANOSECONDS.to_le_bytes());
        assert_eq!(file[24 + 8..24 + 16], [60, 0, 0, 0, 60, 0, 0, 0]);
        assert_eq!(file[24 + 16..24 + 76], [7; 60]);
        let time = |record: &[u8]| u32::from_le_bytes(record[0..4].try_into().unwrap());
        assert!(time(&file[24..]) > 1_700_000_000);
        assert_eq!(file[24..32], file[100..108]);
    }

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_ends_the_capture_and_not_the_traffic() {
        let writer = PcapWriter { file: Full };
        let mut wire = Captured::new(Loopback::new(4), Some(writer));
        wire.send(&[7; 60]).unwrap();
        assert!(wire.writer.is_none());
        assert_eq!(wire.receive(&mut [0; 64]).unwrap(), Some(60));
    }
}
