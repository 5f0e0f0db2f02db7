//! The PHY's semaphore, which the drivers of both ports and the firmware of an X540 or X550 share.
//!
//! SWSM.SMBI keeps the drivers apart and SW_FW_SYNC.REGSMP drivers and firmware, each taken by being
//! read as zero; whoever has both may look whether the PHY is taken, and take it.

use ix_hal::Mmio;
use ix_nic::registers::{Delay, clear, set};
use ixgbe_spec::register::*;

/// How long others may hold all of them together. Who holds one for longer has died with it: nobody is
/// known to need more than some milliseconds.
const PATIENCE_US: u32 = 1_000_000;
const INTERVAL_US: u32 = 50;

/// Runs `work` while nobody else uses the PHY of this port.
pub(crate) fn with_phy<R: Mmio, T>(
    registers: &R,
    delay: Delay<'_>,
    work: impl FnOnce(&R, Delay<'_>) -> T,
) -> T {
    let (ours, theirs) = match Status::from_bits_retain(registers.read32(STATUS)).lan_id() {
        0 => (SwFwSync::SW_PHY0, SwFwSync::FW_PHY0),
        _ => (SwFwSync::SW_PHY1, SwFwSync::FW_PHY1),
    };
    let taken = (ours | theirs).bits();
    let mut patience = Patience(PATIENCE_US);
    while !synchronised(registers, &mut patience, delay, |registers, is_over| {
        let is_ours = registers.read32(SW_FW_SYNC) & taken == 0 || is_over;
        if is_ours {
            set(registers, SW_FW_SYNC, ours.bits());
        }
        is_ours
    }) {
        patience.pause(delay);
    }
    let result = work(registers, &mut *delay);
    synchronised(registers, &mut patience, delay, |registers, _| {
        clear(registers, SW_FW_SYNC, ours.bits());
    });
    result
}

/// Runs `change` while nobody else looks at SW_FW_SYNC. It is told whether patience is over.
fn synchronised<R: Mmio, T>(
    registers: &R,
    patience: &mut Patience,
    delay: Delay<'_>,
    change: impl FnOnce(&R, bool) -> T,
) -> T {
    let smbi = Swsm::SMBI.bits();
    let regsmp = SwFwSync::REGSMP.bits();
    while registers.read32(SWSM) & smbi != 0 && patience.pause(delay) {}
    while registers.read32(SW_FW_SYNC) & regsmp != 0 && patience.pause(delay) {}
    let result = change(registers, patience.is_over());
    clear(registers, SW_FW_SYNC, regsmp);
    clear(registers, SWSM, smbi);
    result
}

/// Microseconds that are left to wait.
struct Patience(u32);

impl Patience {
    /// Waits a little; false if it is over.
    fn pause(&mut self, delay: Delay<'_>) -> bool {
        if self.is_over() {
            return false;
        }
        delay(INTERVAL_US);
        self.0 -= INTERVAL_US;
        true
    }

    fn is_over(&self) -> bool {
        self.0 == 0
    }
}
