//! What one elastic thread has done so far.

use ix_hal::NicStatistics;

/// Counters of the cycle and of the border to the application; monotonic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreadCounters {
    /// Kernel half-cycles run.
    pub cycles: u64,
    /// Half-cycles that took at least one frame.
    pub busy_cycles: u64,
    /// Half-cycles that took as many frames as the batch bound allows.
    pub full_batches: u64,
    /// Frames taken from the NIC.
    pub frames: u64,
    /// Times the application was given events.
    pub rounds: u64,
    /// Events given to the application.
    pub events: u64,
    /// Batched calls executed.
    pub calls: u64,
    /// Batched calls that got an error.
    pub calls_refused: u64,
    /// Frames that came while their flow group was on its way here, and were kept.
    pub frames_kept: u64,
    /// Frames that came when their flow group had left, sent after it.
    pub frames_forwarded: u64,
    /// Moves whose connections went on before their last frames had left.
    pub moves_overtaking: u64,
    /// Most cycles from the one that took in the last frames of flow groups until their connections were
    /// handed over.
    pub giving_cycles_most: u64,
    /// Most cycles from the one that heard of connections which came until they were served.
    pub taking_cycles_most: u64,
    /// Frames of moving flow groups for which there was no room.
    pub moving_drops: u64,
    /// Calls claimed beyond the call array's capacity, not looked at.
    pub calls_beyond_capacity: u64,
    /// Rounds in which the application stayed in user mode longer than it may.
    pub overstays: u64,
    /// Times that the network was looked after while it did.
    pub attended: u64,
    /// Those without room for the events of a frame, so that frames stayed in the NIC's ring.
    pub attended_without_room: u64,
}

/// Everything counted on one elastic thread, except for the protocol counters
/// ([`ix_net::Engine::counters`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Cycle and border.
    pub thread: ThreadCounters,
    /// The queue pair.
    pub nic: NicStatistics,
    /// Mbufs free now.
    pub mbufs_free: usize,
    /// Connections now.
    pub connections: usize,
}
