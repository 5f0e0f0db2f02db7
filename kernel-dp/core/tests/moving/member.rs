//! An elastic thread on its queue pair.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use core::net::Ipv4Addr;
use ix_abi::control::ThreadState;
use ix_core::{Command, Crew, ElasticThread, ThreadConfig, ThreadParts, UserRange};
use ix_hal::{Duration, Instant, MbufPool};
use ix_net::testing::{APP_BUS, Wire, stream_byte};
use ix_net::{Config, Endpoint, FlowGroups, IpAddress, Movable, Neighborhood, Sharing};

use crate::machine::{self, Buffers, Fixtures, GROUPS, MBUFS, Memory, Queue, QueuePair, geometry};
use crate::service::HEAP;

/// When time begins.
pub const START: u64 = 1 << 40;
const RECORDS: u32 = 2048;
/// Bytes that both sides send from.
pub const APP_BYTES: usize = 1 << 18;

/// A thread among the others.
pub struct Place {
    pub index: usize,
    pub is_parked: bool,
    /// The flow groups that it begins with, a bit each.
    pub owned: u128,
    pub neighborhood: Neighborhood,
}

pub struct Member {
    pub thread: ElasticThread<QueuePair, Memory>,
    pub queue: Rc<RefCell<Queue>>,
    /// When it has something to do, if nothing comes.
    pub wake: Option<u64>,
    /// When its last cycle is over.
    pub free_at: u64,
    /// What it took for the time when it last looked.
    pub clock: u64,
    pub command: Option<Command>,
    pub state: ThreadState,
}

impl Member {
    /// The thread before its first cycle.
    pub fn new(
        place: Place,
        fixtures: &Fixtures,
        clock: &Rc<Cell<u64>>,
        buffers: &Rc<Buffers>,
    ) -> Self {
        let Place {
            index,
            is_parked,
            owned,
            neighborhood,
        } = place;
        let sharing = Sharing {
            thread: index as u32,
            groups: FlowGroups(&group_of),
            owned,
            loans: MBUFS,
            luggage: 16,
            names: fixtures.names,
        };
        let net = Config {
            mbufs: MBUFS,
            mbufs_held: MBUFS / 4 * 3,
            sharing: Some(sharing),
            neighborhood,
            ..base_config(2)
        };
        let queue = Rc::new(RefCell::new(Queue::default()));
        let app = (0..APP_BYTES as u64).map(stream_byte).collect();
        let nic = QueuePair {
            thread: index,
            queue: Rc::clone(&queue),
            buffers: Rc::clone(buffers),
            wire: Wire::new(app, Vec::new()),
            clock: Rc::clone(clock),
            left: 0,
        };
        let parts = ThreadParts {
            nic,
            memory: Memory {
                thread: index,
                buffers: Rc::clone(buffers),
            },
            pool: MbufPool::with_loans(geometry(index), index as u32, MBUFS),
            area: fixtures.areas[index],
            sendable: [
                UserRange {
                    user: HEAP,
                    bus: APP_BUS,
                    bytes: APP_BYTES as u64,
                },
                UserRange::default(),
                UserRange::default(),
            ],
            crew: Some(Crew {
                thread: index as u32,
                inboxes: fixtures.inboxes,
                steer: fixtures.switch,
                is_parked,
            }),
            movable: Movable::new(&net),
        };
        let config = ThreadConfig {
            net,
            batch_bound: 32,
        };
        Self {
            thread: ElasticThread::new(config, parts, Instant(START)).expect("a configuration"),
            queue,
            wake: Some(START),
            free_at: START,
            clock: START,
            command: None,
            state: match is_parked {
                true => ThreadState::Parked,
                false => ThreadState::Running,
            },
        }
    }
}

/// What the engines of both sides have in common.
pub fn base_config(last: u8) -> Config {
    Config {
        mac: [2, 0, 0, 0, 0, last],
        ipv4: Ipv4Addr::new(10, 0, 0, last),
        secret: [last; 16],
        connections: 128,
        half_open: 128,
        time_wait: 128,
        neighbors: 8,
        send_fragments: RECORDS,
        rx_window: 32 << 10,
        send_limit: 32 << 10,
        // Round trips are so short here that a delayed acknowledgement draws a tail probe.
        delayed_ack_us: 0,
        // What is incomplete at the end gives its buffers back.
        reassembly_timeout: Duration::from_millis(5),
        ..Config::default()
    }
}

fn group_of(peer: Endpoint, _own: IpAddress, port: u16) -> u8 {
    (machine::rss_hash(peer.port, port) as usize % GROUPS) as u8
}
