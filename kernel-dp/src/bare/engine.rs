//! What each engine is told, and how large its tables are: by the command line, by memory, and by the
//! place of its thread among the others.

use core::net::{IpAddr, Ipv4Addr};

use alloc::boxed::Box;

use ix_core::Crew;
use ix_net::{Endpoint, FlowGroups, Names, Neighborhood, Sharing};
use ix_nic::{Rss, Steering};
use kernel_dp::application::{MemoryPlan, Processors};
use kernel_dp::command_line::Options;

use super::load;
use super::{Machine, Shared};

/// How often a machine says at its start that it is there (ANNOUNCE_NUM of RFC 5227 1.1).
const ANNOUNCEMENTS: u8 = 2;

/// How memory is divided.
pub fn plan_memory(
    free: u64,
    processors: Processors,
    mbuf_shift: u32,
    connections: Option<u32>,
) -> Result<MemoryPlan, TooLittle> {
    let tables = connections.map_or(0, table_bytes);
    let plan = match connections {
        Some(_) => MemoryPlan::with_tables(free, processors, mbuf_shift, tables),
        None => MemoryPlan::of(free, processors, mbuf_shift),
    };
    plan.ok_or(TooLittle {
        free,
        processors,
        mbuf_shift,
        tables,
    })
}

/// Memory does not suffice.
#[derive(Debug, thiserror::Error)]
#[error(
    "{} MiB free are too little for {} CPUs, which need {} MiB: give the machine more \
     memory, fewer CPUs, fewer connections or a smaller MTU",
    free >> 20,
    processors.all(),
    (MemoryPlan::least(*processors, *mbuf_shift) + processors.threads as u64 * tables) >> 20
)]
pub struct TooLittle {
    free: u64,
    processors: Processors,
    mbuf_shift: u32,
    /// Of each thread, beside what it has in any case.
    tables: u64,
}

/// Connections of each thread.
fn connections(options: &Options<'_>, plan: &MemoryPlan) -> u32 {
    let by_memory = (plan.kernel_heap / HEAP_PER_CONNECTION) as u32;
    let by_memory = by_memory.clamp(CONNECTIONS_LEAST, CONNECTIONS_MOST);
    options.connections.unwrap_or(by_memory)
}

/// Bytes of heap for what all threads use: inboxes, mailboxes and lists, and where connections are.
pub fn shared_heap(options: &Options<'_>, plan: &MemoryPlan, processors: Processors) -> u64 {
    let blocks = connections(options, plan) + LUGGAGE;
    let names = Names::bytes(processors.threads as u64, blocks.into());
    SHARED_HEAP_PER_THREAD * processors.all() as u64 + names
}

impl Machine<'_> {
    /// The engine's configuration: addresses by the command line, capacities by memory.
    pub(super) fn net_config(
        &self,
        mac: [u8; 6],
        part: &load::Thread,
        shared: &Shared<'_>,
    ) -> ix_net::Config {
        let options = self.options;
        let (ipv4, ipv4_prefix) = options.address_and_prefix();
        let mbufs = part.mbufs.count;
        let connections = connections(options, &self.plan);
        // Of very many, few are in any of these states at a time.
        let busy = connections.min(CONNECTIONS_MOST);
        let mut config = ix_net::Config {
            mac,
            ipv4,
            ipv4_prefix,
            ipv4_announcements: ANNOUNCEMENTS,
            gateway: options.gateway.map(Ipv4Addr::from),
            ipv6: options.ipv6(),
            mtu: options.mtu,
            secret: shared.secret,
            connections,
            half_open: busy / 4,
            time_wait: busy * 2,
            send_fragments: busy * 8,
            mbufs,
            // The rest is for the receive ring and for frames on their way.
            mbufs_held: mbufs / 4 * 3,
            out_of_order: mbufs / 4,
            udp_mbufs: mbufs / 16,
            udp_port_mbufs: (mbufs / 32).min(u32::from(u16::MAX)) as u16,
            sharing: self.sharing(part.index, mbufs, shared),
            neighborhood: self.neighborhood(part.index, shared),
            ..ix_net::Config::default()
        };
        options.tcp.apply(&mut config);
        config
    }

    /// Where the connections of all threads are.
    pub(super) fn names(&self) -> Names {
        let blocks = connections(self.options, &self.plan) + LUGGAGE;
        Names::new(self.processors.threads as u32, blocks)
    }

    /// The flow groups of that thread, where there are more threads.
    fn sharing(&self, index: usize, mbufs: u32, shared: &Shared<'_>) -> Option<Sharing> {
        let (rss, _) = shared.steering?;
        // Where each entry of the redirection table names itself, the "queue" is the flow group.
        let steering = Steering::new(&Rss {
            key: rss.key,
            reta: core::array::from_fn(|group| group as u8),
        });
        let group_of = move |remote: Endpoint, own: ix_net::IpAddress, port| {
            match (remote.address.into(), own.into()) {
                (IpAddr::V4(source), IpAddr::V4(own)) => {
                    let (source, own) = (source.to_bits(), own.to_bits());
                    steering.queue_of_tcp((source, remote.port), (own, port))
                }
                (IpAddr::V6(source), IpAddr::V6(own)) => {
                    let (source, own) = (source.octets(), own.octets());
                    steering.queue_of_tcp_ipv6((source, remote.port), (own, port))
                }
                // The families differ: there is no such segment.
                _ => 0,
            }
        };
        let owners = rss.reta.iter().enumerate();
        let owned = owners.filter(|(_, queue)| usize::from(**queue) == index);
        Some(Sharing {
            thread: index as u32,
            groups: FlowGroups(Box::leak(Box::new(group_of))),
            owned: owned.fold(0, |mask, (group, _)| mask | 1 << group),
            loans: mbufs / 2,
            luggage: LUGGAGE,
            names: shared.names?,
        })
    }

    /// The place of that thread among the others, where there are any.
    pub(super) fn crew(&self, index: usize, shared: &Shared<'_>) -> Option<Crew> {
        let (_, steer) = shared.steering?;
        let granted = self.options.granted.unwrap_or(u32::MAX);
        Some(Crew {
            thread: index as u32,
            inboxes: shared.inboxes,
            steer,
            is_parked: index as u32 >= granted,
        })
    }

    /// Queue 0 gets whatever has no ports, so its thread hears of neighbours for all.
    fn neighborhood(&self, index: usize, shared: &Shared<'_>) -> Neighborhood {
        match index
            .checked_sub(1)
            .map(|listener| &shared.mailboxes[listener])
        {
            Some(mailbox) => Neighborhood::Listener(mailbox),
            None if self.processors.threads > 1 => Neighborhood::Speaker(shared.mailboxes),
            None => Neighborhood::Alone,
        }
    }
}

/// Bytes of the heap that all threads share, for each of them, names aside.
const SHARED_HEAP_PER_THREAD: u64 = 256 << 10;
/// Connections that go from one thread to another at a time.
const LUGGAGE: u32 = 1024;
/// Bytes of the kernel's heap for each connection: its own state, two entries of the TIME-WAIT
/// table, eight of the send records and its share of the flow table are half of this; the other
/// half is for the tables that do not depend on it.
const HEAP_PER_CONNECTION: u64 = 2048;
/// Bytes of one idle connection, its share of the tables included (`net` holds itself to it).
const IDLE_CONNECTION: u64 = 512;
/// Bytes of heap for the tables that do not depend on them.
const OTHER_TABLES: u64 = 16 << 20;
const CONNECTIONS_LEAST: u32 = 1024;
const CONNECTIONS_MOST: u32 = 65_536;

/// Bytes of heap for the tables of so many connections, and for those that do not depend on them.
fn table_bytes(connections: u32) -> u64 {
    let busy = u64::from(connections.min(CONNECTIONS_MOST));
    u64::from(connections) * IDLE_CONNECTION + busy * HEAP_PER_CONNECTION / 2 + OTHER_TABLES
}
