//! The NIC of a machine that is to have none.

use ix_hal::{HEADER_ROOM, MbufPool, Nic, NicStatistics, RxFrame, Transmit, TxFrame};

/// No network: nothing comes in, and what goes out is dropped and counted.
pub struct NullNic {
    room: [u8; HEADER_ROOM],
    statistics: NicStatistics,
}

impl NullNic {
    /// A NIC without a wire.
    pub fn new() -> Self {
        Self {
            room: [0; HEADER_ROOM],
            statistics: NicStatistics::default(),
        }
    }
}

impl Transmit for NullNic {
    fn header(&mut self) -> Option<&mut [u8; HEADER_ROOM]> {
        Some(&mut self.room)
    }

    /// No mbuf can be in the frame: none ever left the pool.
    fn send(&mut self, _frame: &TxFrame<'_>) {
        self.statistics.tx_drops += 1;
    }
}

impl Nic for NullNic {
    fn mac(&self) -> [u8; 6] {
        [0x02, 0, 0, 0, 0, 1]
    }

    fn link_up(&mut self) -> bool {
        false
    }

    fn receive(&mut self, _frames: &mut [RxFrame], _pool: &mut MbufPool) -> usize {
        0
    }

    fn refill(&mut self, _pool: &mut MbufPool) {}

    fn reclaim(&mut self, _pool: &mut MbufPool) -> u32 {
        0
    }

    fn flush(&mut self) {}

    fn queued(&self) -> u32 {
        0
    }

    fn has_sent(&mut self, _mark: u32) -> bool {
        true
    }

    fn arm_interrupt(&mut self) {}

    fn disarm_interrupt(&mut self) {}

    fn statistics(&mut self) -> NicStatistics {
        self.statistics
    }

    fn counts(&self) -> NicStatistics {
        self.statistics
    }

    fn waiting(&self) -> u32 {
        0
    }
}
