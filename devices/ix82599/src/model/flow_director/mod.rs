//! The flow director (7.1.2.7): filters that send single flows to queues, ahead of RSS.
//!
//! A filter lies in a bucket, by a hash of the fields of its flow that software computes and the
//! device computes again for each frame. With perfect matching the filter holds the fields
//! themselves, some of them masked for all filters alike; otherwise a signature, which is the same
//! hash under another key. Linux uses signatures to have a flow arrive where it is sent from (ATR),
//! and perfect matching for `ethtool -N`.
//!
//! IPv6 destinations are not compared in perfect matching: silicon does so with the station's table
//! of own IPv6 addresses, which is not modelled, nor are pools.

mod flow;

use std::collections::HashMap;

use ixgbe_spec::RssType;
use ixgbe_spec::register::{Fdircmd, Fdirctrl};

use super::parse::Parsed;
use super::rss::Steering;
use super::state::State;
use flow::{Flow, HASH_BITS, Input, Masks};

/// Filters with the smallest table, which PBALLOC doubles: signatures take less room.
const SIGNATURE_FILTERS: u32 = 8 << 10;
const PERFECT_FILTERS: u32 = 2 << 10;
/// Entries of the table that are the device's own.
const RESERVED: u32 = 2;
/// Filters that a bucket holds at most: FDIRLEN.MAXLEN has six bits. So no guest can make a frame cost
/// more than so many comparisons.
const LIST_LIMIT: usize = 64;

/// A register of the flow director.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlowRegister {
    Control,
    SourceIpv6(u8),
    Source,
    Destination,
    Ports,
    Vlan,
    Hash,
    Command,
    Free,
    DestinationMask,
    SourceMask,
    TcpMask,
    UdpMask,
    Length,
    Updates,
    Failures,
    Matches,
    Misses,
    HashKey,
    SignatureKey,
    Mask,
}

/// What the filters say of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlowMatch {
    /// They were not asked.
    Off,
    Miss,
    Hit,
}

/// Registers and filters.
#[derive(Debug)]
pub(super) struct FlowDirector {
    control: Fdirctrl,
    input: Input,
    masks: Masks,
    hash_key: u32,
    signature_key: u32,
    buckets: HashMap<u16, Vec<Filter>>,
    filters: u32,
    /// FDIRLEN.
    longest: u32,
    updates: Pair,
    failures: Pair,
    matches: u32,
    misses: u32,
}

/// Two counters of 16 bits in one register, which reading clears: additions and removals.
#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    added: u16,
    removed: u16,
}

impl Pair {
    fn take(&mut self) -> u32 {
        let Self { added, removed } = std::mem::take(self);
        u32::from(added) | u32::from(removed) << 16
    }
}

#[derive(Clone, Copy, Debug)]
struct Filter {
    flow: Flow,
    /// Software index with perfect matching, else signature.
    identity: u16,
    command: Fdircmd,
}

impl State {
    /// Chooses a queue: by a filter of the flow director, else by RSS.
    pub(super) fn steer(&mut self, parsed: &Parsed, frame: &[u8]) -> Steering {
        let steering = self.rss.steer(parsed, frame);
        self.flow_director.steer(steering, parsed, frame)
    }
}

impl FlowDirector {
    pub(super) fn new() -> Self {
        Self {
            control: Fdirctrl::empty(),
            input: Input::default(),
            masks: Masks::default(),
            hash_key: 0,
            signature_key: 0,
            buckets: HashMap::new(),
            filters: 0,
            longest: 0,
            updates: Pair::default(),
            failures: Pair::default(),
            matches: 0,
            misses: 0,
        }
    }

    fn steer(&self, steering: Steering, parsed: &Parsed, frame: &[u8]) -> Steering {
        if self.control.pballoc() == 0 {
            return steering;
        }
        let Some((bucket, filter)) = self.find(parsed, frame) else {
            let flow = FlowMatch::Miss;
            return Steering { flow, ..steering };
        };
        let mut steering = Steering {
            flow: FlowMatch::Hit,
            ..steering
        };
        if filter.command.contains(Fdircmd::DROP) {
            steering.queue = self.control.drop_queue() as usize;
        } else if filter.command.contains(Fdircmd::QUEUE_EN) {
            steering.queue = filter.command.rx_queue() as usize;
        }
        if self.control.contains(Fdirctrl::REPORT_STATUS) {
            steering.rss_type = RssType::FlowDirector;
            steering.hash = u32::from(bucket) | u32::from(filter.identity) << 16;
        }
        steering
    }

    /// Counts a frame that has gone its way.
    pub(super) fn count(&mut self, flow: FlowMatch) {
        let counter = match flow {
            FlowMatch::Off => return,
            FlowMatch::Miss => &mut self.misses,
            FlowMatch::Hit => &mut self.matches,
        };
        *counter = counter.saturating_add(1);
    }

    /// The filter of a frame, and its bucket. Frames without an IP header have none.
    fn find(&self, parsed: &Parsed, frame: &[u8]) -> Option<(u16, &Filter)> {
        let flex_at = 2 * self.control.flex_offset() as usize;
        let flow = Flow::of_frame(parsed, frame, flex_at)?.masked(&self.masks, self.is_perfect());
        let bucket = self.bucket(flow.hash(self.hash_key));
        let filters = self.buckets.get(&bucket)?;
        let found = if self.is_perfect() {
            filters.iter().find(|filter| filter.flow == flow)
        } else {
            let signature = flow.hash(self.signature_key) as u16;
            let kind = flow.kind();
            let mut filters = filters.iter();
            filters.find(|filter| filter.identity == signature && filter.flow.kind() == kind)
        };
        found.map(|filter| (bucket, filter))
    }

    fn is_perfect(&self) -> bool {
        self.control.contains(Fdirctrl::PERFECT_MATCH)
    }

    /// Entries of the table, of which there are as many buckets.
    fn entries(&self) -> u32 {
        let smallest = if self.is_perfect() {
            PERFECT_FILTERS
        } else {
            SIGNATURE_FILTERS
        };
        match self.control.pballoc() {
            0 => 0,
            pballoc => smallest << (pballoc - 1),
        }
    }

    fn bucket(&self, hash: u32) -> u16 {
        // At most 15 bits: the largest table has 32 K entries.
        (hash & HASH_BITS & self.entries().saturating_sub(1)) as u16
    }

    fn capacity(&self) -> u32 {
        self.entries().saturating_sub(RESERVED)
    }

    pub(super) fn read(&mut self, register: FlowRegister) -> u32 {
        match register {
            FlowRegister::Control => (self.control | Fdirctrl::INIT_DONE).bits(),
            FlowRegister::SourceIpv6(n) => self.input.source_ipv6[usize::from(n) % 3],
            FlowRegister::Source => self.input.source,
            FlowRegister::Destination => self.input.destination,
            FlowRegister::Ports => self.input.ports,
            FlowRegister::Vlan => self.input.vlan,
            FlowRegister::Hash => self.input.hash,
            FlowRegister::Command => self.input.command,
            FlowRegister::Free => self.capacity() - self.filters,
            FlowRegister::DestinationMask => self.masks.destination,
            FlowRegister::SourceMask => self.masks.source,
            FlowRegister::TcpMask => self.masks.tcp,
            FlowRegister::UdpMask => self.masks.udp,
            FlowRegister::Length => std::mem::take(&mut self.longest),
            FlowRegister::Updates => self.updates.take(),
            FlowRegister::Failures => self.failures.take(),
            FlowRegister::Matches => std::mem::take(&mut self.matches),
            FlowRegister::Misses => std::mem::take(&mut self.misses),
            FlowRegister::HashKey => self.hash_key,
            FlowRegister::SignatureKey => self.signature_key,
            FlowRegister::Mask => self.masks.fields,
        }
    }

    pub(super) fn write(&mut self, register: FlowRegister, value: u32) {
        match register {
            // Writing starts the initialisation, which is over at once.
            FlowRegister::Control => {
                self.control = Fdirctrl::from_bits_retain(value) - Fdirctrl::INIT_DONE;
                self.clear();
            }
            FlowRegister::SourceIpv6(n) => self.input.source_ipv6[usize::from(n) % 3] = value,
            FlowRegister::Source => self.input.source = value,
            FlowRegister::Destination => self.input.destination = value,
            FlowRegister::Ports => self.input.ports = value,
            FlowRegister::Vlan => self.input.vlan = value,
            FlowRegister::Hash => self.input.hash = value,
            FlowRegister::Command => self.command(Fdircmd::from_bits_retain(value)),
            FlowRegister::DestinationMask => self.masks.destination = value,
            FlowRegister::SourceMask => self.masks.source = value,
            FlowRegister::TcpMask => self.masks.tcp = value,
            FlowRegister::UdpMask => self.masks.udp = value,
            FlowRegister::HashKey => self.hash_key = value,
            FlowRegister::SignatureKey => self.signature_key = value,
            FlowRegister::Mask => self.masks.fields = value,
            // Read only.
            FlowRegister::Free
            | FlowRegister::Length
            | FlowRegister::Updates
            | FlowRegister::Failures
            | FlowRegister::Matches
            | FlowRegister::Misses => {}
        }
    }

    fn clear(&mut self) {
        self.buckets.clear();
        self.filters = 0;
    }

    /// FDIRCMD: what is asked for is done at once, and CMD reads zero.
    fn command(&mut self, command: Fdircmd) {
        if command.contains(Fdircmd::CLEARHT) {
            self.clear();
        }
        let mut answer = (command - Fdircmd::FILTER_VALID).with_cmd(0);
        match command.cmd() {
            Fdircmd::CMD_ADD => self.add(command),
            Fdircmd::CMD_REMOVE => self.remove(),
            Fdircmd::CMD_QUERY => {
                if let Some(filter) = self.named() {
                    answer = filter.command.with_cmd(0) | Fdircmd::FILTER_VALID;
                }
            }
            _ => {}
        }
        self.input.command = answer.bits();
    }

    fn add(&mut self, command: Fdircmd) {
        let (bucket, identity) = (self.bucket(self.input.hash), self.identity());
        let perfect = self.is_perfect();
        let flow = Flow::of_filter(&self.input, command).masked(&self.masks, perfect);
        let filter = Filter {
            flow,
            identity,
            command,
        };
        let is_same = |known: &&mut Filter| {
            if perfect {
                known.flow == flow
            } else {
                known.identity == identity && known.flow.kind() == flow.kind()
            }
        };
        let is_full = self.filters >= self.capacity();
        let list = self.buckets.get_mut(&bucket);
        let length = list.as_ref().map_or(0, |list| list.len());
        match list.and_then(|list| list.iter_mut().find(is_same)) {
            Some(known) if command.contains(Fdircmd::FILTER_UPDATE) => *known = filter,
            None if !is_full && length < LIST_LIMIT => {
                self.buckets.entry(bucket).or_default().push(filter);
                self.filters += 1;
                // MAXLEN counts what comes behind the first.
                if length as u32 > self.longest & 0x3f {
                    self.longest = length as u32 | u32::from(bucket) << 16;
                }
            }
            Some(_) | None => {
                self.failures.added = self.failures.added.saturating_add(1);
                return;
            }
        }
        self.updates.added = self.updates.added.saturating_add(1);
    }

    fn remove(&mut self) {
        let (bucket, identity) = (self.bucket(self.input.hash), self.identity());
        let list = self.buckets.get_mut(&bucket);
        let at = list.as_ref().and_then(|list| {
            let mut list = list.iter();
            list.position(|filter| filter.identity == identity)
        });
        let (Some(list), Some(at)) = (list, at) else {
            self.failures.removed = self.failures.removed.saturating_add(1);
            return;
        };
        list.remove(at);
        if list.is_empty() {
            self.buckets.remove(&bucket);
        }
        self.filters -= 1;
        self.updates.removed = self.updates.removed.saturating_add(1);
    }

    /// The filter that FDIRHASH names.
    fn named(&self) -> Option<&Filter> {
        let identity = self.identity();
        let mut list = self.buckets.get(&self.bucket(self.input.hash))?.iter();
        list.find(|filter| filter.identity == identity)
    }

    fn identity(&self) -> u16 {
        (self.input.hash >> 16 & HASH_BITS) as u16
    }
}

#[cfg(test)]
mod tests;
