//! Which thread gets which flow groups, and how one thread wakes another: the machine's side of
//! [`ix_hal::Steer`]. All threads share the registers of the redirection table, behind a lock that
//! is taken only when groups move.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use ix_abi::control::GROUPS_MAX;
use ix_hal::Steer;
use ix_nic::Redirect;
use spin::Mutex;

use super::smp;

/// The NIC's redirection table.
pub struct Crossbar<D> {
    nic: Mutex<D>,
    /// What it says, for those who only want to know.
    owners: [AtomicU8; GROUPS_MAX],
}

impl<D: Redirect> Crossbar<D> {
    /// Takes the device, whose queue pairs have gone to their threads.
    pub fn new(nic: D) -> Self {
        Self {
            owners: nic.rss().reta.map(AtomicU8::new),
            nic: Mutex::new(nic),
        }
    }
}

impl<D: Redirect + Send> Steer for Crossbar<D> {
    fn assign(&self, groups: u128, thread: u32) {
        if let Err(error) = self.nic.lock().redirect(groups, thread) {
            // The cycle checks the thread: there is a queue for each.
            log::error!("flow groups {groups:#x} stay where they are: {error}");
            return;
        }
        for (group, owner) in self.owners.iter().enumerate() {
            if groups >> group & 1 != 0 {
                owner.store(thread as u8, Relaxed);
            }
        }
    }

    fn owner(&self, group: u8) -> u32 {
        let owner = &self.owners[usize::from(group) % GROUPS_MAX];
        u32::from(owner.load(Relaxed))
    }

    fn wake(&self, thread: u32) {
        smp::wake(thread);
    }
}
