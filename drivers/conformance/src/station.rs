//! A bed with what the tests do again and again.

use ix_hal::{
    Fragment, MbufId, Nic, NicStatistics, Release, RxFrame, Transmit, TxChecksum, TxFrame,
};

use crate::{Bed, Setup};

/// A bed under test.
pub struct Station<B> {
    /// The bed itself.
    pub bed: B,
}

impl<B: Bed> Station<B> {
    /// Of that size.
    pub fn new(setup: &Setup) -> Self {
        Self { bed: B::new(setup) }
    }

    /// Of the usual size.
    pub fn usual() -> Self {
        Self::new(&Setup::default())
    }

    /// The queue pair.
    pub fn nic(&mut self) -> &mut B::Nic {
        self.bed.port().0
    }

    /// Takes up to 64 frames.
    pub fn receive(&mut self) -> Vec<RxFrame> {
        let mut frames = [RxFrame::default(); 64];
        let (nic, pool) = self.bed.port();
        let count = nic.receive(&mut frames, pool);
        frames[..count].to_vec()
    }

    /// Sends a frame from the far end and takes what comes in.
    pub fn take(&mut self, frame: &[u8]) -> Vec<RxFrame> {
        self.bed.inject(frame);
        self.bed.run();
        self.receive()
    }

    /// Gives the buffers of frames back, and the ring what it can take.
    pub fn give_back(&mut self, frames: &[RxFrame]) {
        let (nic, pool) = self.bed.port();
        for frame in frames {
            pool.give(frame.mbuf);
        }
        nic.refill(pool);
    }

    /// Takes a buffer from the pool.
    pub fn mbuf(&mut self) -> MbufId {
        self.bed.port().1.take().expect("a buffer")
    }

    /// Free buffers.
    pub fn available(&mut self) -> usize {
        self.bed.port().1.available()
    }

    /// Queues a frame that fits a header room as it stands, if the ring takes it.
    pub fn queue_short(&mut self, frame: &[u8]) -> bool {
        self.queue(frame, &[], TxChecksum::None, 0, None)
    }

    /// Queues a frame, if the ring takes it.
    pub fn queue(
        &mut self,
        header: &[u8],
        fragments: &[Fragment],
        checksum: TxChecksum,
        segment_size: u16,
        release: Option<Release>,
    ) -> bool {
        let nic = self.nic();
        let Some(room) = nic.header() else {
            return false;
        };
        room[..header.len()].copy_from_slice(header);
        nic.send(&TxFrame {
            header_len: header.len() as u16,
            fragments,
            checksum,
            segment_size,
            release,
        });
        true
    }

    /// Tells the device of what is queued; what came to the far end.
    pub fn flush(&mut self) -> Vec<Vec<u8>> {
        self.nic().flush();
        self.bed.run();
        self.bed.arrived()
    }

    /// Takes back what the device has sent; how many frames with memory of the application.
    pub fn reclaim(&mut self) -> u32 {
        let (nic, pool) = self.bed.port();
        nic.reclaim(pool)
    }

    /// What the queue pair counted.
    pub fn statistics(&mut self) -> NicStatistics {
        self.nic().statistics()
    }
}
