//! What a seed does.

use ix_net::testing::{Faults, Role, Script};

/// What one seed does.
pub struct Plan {
    pub seed: u64,
    pub threads: usize,
    pub connections: u64,
    /// Connections that the threads open.
    pub outbound: u32,
    pub bytes: u64,
    pub faults: Faults,
    /// Latest that a frame comes out of the packet buffer once it is steered.
    pub steering_ns: u64,
    /// Most by which what a thread takes for the time lags behind.
    pub lag_ns: u64,
    /// Chance in thousandths of a command at each step.
    pub commands: u32,
    /// Chance in thousandths that a router cuts a frame into fragments, which have no ports and all
    /// come to queue 0.
    pub fragments: u32,
    /// Whether some threads start parked.
    pub parks: bool,
    /// Least time that a cycle takes, its round included.
    pub cycle_ns: u64,
}

impl Plan {
    /// Two threads that nobody commands, and a wire that keeps everything as it is.
    pub fn quiet(seed: u64) -> Self {
        Self {
            seed,
            threads: 2,
            connections: 1,
            outbound: 0,
            bytes: 20_000,
            faults: Faults::default(),
            steering_ns: 1,
            lag_ns: 0,
            commands: 0,
            fragments: 0,
            parks: false,
            cycle_ns: 0,
        }
    }
    /// How the peer, and how the service ends its streams.
    pub fn roles(&self) -> [Role; 2] {
        match self.seed % 3 {
            0 => [Role::Closes, Role::Follows],
            1 => [Role::Follows, Role::Closes],
            _ => [Role::ShutsDown, Role::ShutsDown],
        }
    }

    /// What either side does with a connection.
    pub fn script(&self, role: Role) -> Script {
        Script {
            send: self.bytes,
            expect: self.bytes,
            write: 5000,
            lazy: 300,
            role,
        }
    }
}
