//! What is known of a dataplane that runs, and what can be asked of it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::definition::Mode;

/// A dataplane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Dataplane {
    /// Its name.
    pub name: String,
    /// What it does.
    pub state: State,
    /// How it ended, if it did.
    pub ended: Option<String>,
    /// Its application.
    pub app: String,
    /// Its address and prefix length.
    pub ip: String,
    /// Elastic threads.
    pub threads: u32,
    /// The hardware thread of each elastic thread that serves; none for a parked one.
    pub cores: Vec<Option<u32>>,
    /// The hardware thread of its background threads, if it can have any.
    pub background: Option<u32>,
    /// Elastic threads whose application stays in user mode longer than it may.
    #[serde(default)]
    pub absent: Vec<u32>,
    /// Who decides how many it has.
    pub policy: Mode,
    /// Who executes its instructions.
    pub accel: Option<String>,
    /// The network namespace with the host's end of its wire.
    pub netns: Option<String>,
    /// Process of its keeper.
    pub keeper_pid: Option<u32>,
    /// Process of its virtual machine.
    pub vm_pid: Option<u32>,
    /// When it was started, in milliseconds since 1970.
    pub started_ms: u64,
}

impl Dataplane {
    /// Elastic threads that serve.
    pub fn granted(&self) -> usize {
        self.cores.iter().flatten().count()
    }
}

/// What a dataplane does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Its machine comes up.
    Starting,
    /// It serves.
    Running,
    /// Its machine has ended.
    Ended,
}

/// The numbers of a dataplane.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    /// One for each elastic thread; empty as long as its kernel has not come up.
    pub threads: Vec<ThreadStats>,
}

impl Stats {
    /// Part of the time since `before` in which the threads that serve had something to do, 0 to 1. A
    /// thread that has written nothing since has halted all the time.
    pub fn busy_since(&self, before: &Stats) -> f64 {
        let pairs = self.threads.iter().zip(&before.threads);
        let parts: Vec<f64> = pairs
            .filter(|(after, _)| after.serves())
            .map(|(after, before)| {
                let elapsed_ns = after.now_ns.saturating_sub(before.now_ns);
                let idle_ns = after.idle_ns.saturating_sub(before.idle_ns);
                match elapsed_ns {
                    0 => 0.0,
                    elapsed_ns => (1.0 - idle_ns as f64 / elapsed_ns as f64).clamp(0.0, 1.0),
                }
            })
            .collect();
        parts.iter().sum::<f64>() / parts.len().max(1) as f64
    }
}

impl ThreadStats {
    /// Whether it has a hardware thread, and takes frames.
    pub fn serves(&self) -> bool {
        self.state == "running"
    }
}

/// What an elastic thread says of itself. Counts are since boot; averages are over about 1 ms, 32 ms
/// and 1 s.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ThreadStats {
    /// Number.
    pub thread: u32,
    /// `running`, `parked` or `absent`.
    pub state: String,
    /// When it wrote this, in nanoseconds since boot.
    pub now_ns: u64,
    /// Cycles.
    pub cycles: u64,
    /// Cycles that found frames.
    pub busy_cycles: u64,
    /// Rounds of the application.
    pub rounds: u64,
    /// Events handed to the application.
    pub events: u64,
    /// Calls that it made.
    pub calls: u64,
    /// Frames received.
    pub rx_frames: u64,
    /// Bytes in them.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Bytes in them.
    pub tx_bytes: u64,
    /// Connections.
    pub connections: u64,
    /// Free frame buffers.
    pub mbufs_free: u64,
    /// Nanoseconds without anything to do.
    pub idle_ns: u64,
    /// Nanoseconds in the application.
    pub user_ns: u64,
    /// Frames in a batch.
    pub batch: [f64; 3],
    /// Frames that wait in the RX ring.
    pub queue_depth: [f64; 3],
    /// Nanoseconds of a busy cycle.
    pub loop_ns: [f64; 3],
    /// Frames lost for want of a descriptor.
    pub rx_missed: u64,
    /// Frames refused.
    pub rx_errors: u64,
    /// Payload dropped because too many buffers are held.
    pub rx_no_buffers: u64,
    /// Frames not sent.
    pub tx_drops: u64,
    /// TCP segments sent again.
    pub retransmits: u64,
    /// Connections that came from another thread.
    pub migrated_in: u64,
    /// Connections that went to another thread.
    pub migrated_out: u64,
    /// Frames kept while their flow group was on its way.
    pub parked_frames: u64,
    /// Connections refused because a table was full.
    pub refused: u64,
    /// Rounds in which the application stayed in user mode longer than it may (`limit_ms`).
    pub overstays: u64,
    /// Whether it does now; the network is looked after meanwhile.
    pub is_absent: bool,
}

/// A flow group: the flows that one entry of the NIC's redirection table stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlowGroup {
    /// Number.
    pub group: u32,
    /// The elastic thread that serves it.
    pub thread: u32,
    /// Frames that this thread has received of it.
    pub frames: u64,
}

/// Grant hardware threads: `count` of them, or a certain one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrantRequest {
    /// How many; one unless given.
    pub count: Option<u32>,
    /// This one.
    pub core: Option<u32>,
}

/// Revoke hardware threads: `count` of them, or a certain one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RevokeRequest {
    /// How many; one unless given.
    pub count: Option<u32>,
    /// This one.
    pub core: Option<u32>,
}

/// Move flow groups to another elastic thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MigrateRequest {
    /// The flow groups.
    pub groups: Vec<u32>,
    /// The elastic thread that gets them.
    pub to: u32,
}

/// What a migration did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Moved {
    /// Flow groups that have moved; those that were there already do not count.
    pub groups: u32,
}
