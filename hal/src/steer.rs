//! What elastic threads ask of the machine about each other. Not for the packet path.

/// Redirects flow groups and wakes threads.
pub trait Steer: Sync {
    /// Sends the frames of flow groups (a bit each) to the queue of that thread from now on, and
    /// returns once the NIC has taken note of it.
    fn assign(&self, groups: u128, thread: u32);

    /// The thread whose queue gets the frames of a flow group. Cheap: packets can ask for it.
    fn owner(&self, group: u8) -> u32;

    /// Wakes a thread in case it halts.
    fn wake(&self, thread: u32);
}
