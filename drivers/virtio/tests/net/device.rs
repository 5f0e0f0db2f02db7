//! A network device for tests, written from the standard and apart from the driver: registers, split
//! virtqueues, checksums, cutting, hashing. It does what the standard lets a device do and a driver
//! may not expect, such as finishing buffers in another order, and panics when the driver breaks a
//! rule: a descriptor given twice, a chain that never ends, a queue used before the device is live.

use std::cell::RefCell;
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use ix82599::memory::SharedMemory;
use virtio_net::Window;

use crate::wire;

/// Where memory lies for the device.
pub const BUS: u64 = 0x2_8000_0000;
/// Queue pairs of the device.
pub const PAIRS: u16 = 4;
const QUEUES: usize = 2 * PAIRS as usize + 1;
const LONGEST_QUEUE: u16 = 1024;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const MQ: u64 = 1 << 22;
const HASH_REPORT: u64 = 1 << 57;
const RSS: u64 = 1 << 60;

/// What the device is asked to be.
#[derive(Clone, Copy, Debug)]
pub struct Traits {
    /// Features on offer.
    pub features: u64,
    /// Whether it takes what it has offered.
    pub is_agreeable: bool,
    /// Whether it acknowledges commands.
    pub is_obedient: bool,
}

impl Default for Traits {
    fn default() -> Self {
        Self {
            // All that the driver knows.
            features: 0x1200_0003_0047_3829,
            is_agreeable: true,
            is_obedient: true,
        }
    }
}

/// One virtqueue as the device knows it.
#[derive(Clone, Debug, Default)]
struct Queue {
    size: u16,
    vector: u16,
    is_enabled: bool,
    /// Descriptors, available ring, used ring.
    parts: [u64; 3],
    seen: u16,
    used: u16,
    /// Chains that the device has taken and not used, by their heads.
    heads: VecDeque<u16>,
    /// Descriptors of those.
    owned: HashSet<u16>,
}

/// Spreading as the driver has asked for it.
#[derive(Clone, Debug, Default)]
struct Spreading {
    types: u32,
    table: Vec<u16>,
    key: Vec<u8>,
}

/// The device.
pub struct Device {
    memory: Rc<SharedMemory>,
    traits: Traits,
    status: u8,
    feature_select: [u32; 2],
    accepted: u64,
    queue_select: u16,
    queues: Vec<Queue>,
    spreading: Option<Spreading>,
    /// Frames on their way in.
    pub incoming: VecDeque<Vec<u8>>,
    /// Frames that have left.
    pub outgoing: Vec<Vec<u8>>,
    /// Interrupts by vector.
    pub interrupts: [u32; 16],
    /// Receive modes by their number, as commanded.
    pub modes: [Option<u8>; 2],
    turn: u32,
}

/// Which of its structures.
#[derive(Clone, Copy)]
pub enum Structure {
    Common,
    Own,
    Notify,
}

/// The way to the device's registers.
#[derive(Clone)]
pub struct Registers(pub Rc<RefCell<Device>>, pub Structure);

impl Registers {
    fn read(&self, offset: u32, bytes: u32) -> u32 {
        self.0.borrow().read(self.1, offset, bytes)
    }

    fn write(&self, offset: u32, bytes: u32, value: u32) {
        self.0.borrow_mut().write(self.1, offset, bytes, value);
    }
}

impl Window for Registers {
    fn read8(&self, offset: u32) -> u8 {
        self.read(offset, 1) as u8
    }

    fn read16(&self, offset: u32) -> u16 {
        self.read(offset, 2) as u16
    }

    fn read32(&self, offset: u32) -> u32 {
        self.read(offset, 4)
    }

    fn write8(&self, offset: u32, value: u8) {
        self.write(offset, 1, value.into());
    }

    fn write16(&self, offset: u32, value: u16) {
        self.write(offset, 2, value.into());
    }

    fn write32(&self, offset: u32, value: u32) {
        self.write(offset, 4, value);
    }
}

impl Device {
    pub fn new(memory: Rc<SharedMemory>, traits: Traits) -> Self {
        Self {
            memory,
            traits,
            status: 0,
            feature_select: [0; 2],
            accepted: 0,
            queue_select: 0,
            queues: vec![Queue::default(); QUEUES],
            spreading: None,
            incoming: VecDeque::new(),
            outgoing: Vec::new(),
            interrupts: [0; 16],
            modes: [None; 2],
            turn: 0,
        }
    }

    fn read(&self, structure: Structure, offset: u32, bytes: u32) -> u32 {
        let queue = self.queues.get(usize::from(self.queue_select));
        let of_queue = |field: fn(&Queue) -> u16| queue.map_or(0, field).into();
        match (structure, offset, bytes) {
            (Structure::Common, 4, 4) => {
                (self.traits.features >> (32 * self.feature_select[0])) as u32
            }
            (Structure::Common, 20, 1) => self.status.into(),
            (Structure::Common, 24, 2) => match queue {
                Some(queue) if queue.size != 0 => queue.size.into(),
                Some(_) => LONGEST_QUEUE.into(),
                None => 0,
            },
            (Structure::Common, 26, 2) => of_queue(|queue| queue.vector),
            // Each queue has a register of its own, in another order than the queues.
            (Structure::Common, 30, 2) => (QUEUES as u32) - u32::from(self.queue_select),
            (Structure::Own, 0..6, 1) => ix_conformance::MAC[offset as usize].into(),
            (Structure::Own, 6, 2) => 1,
            (Structure::Own, 8, 2) => PAIRS.into(),
            (Structure::Own, 10, 2) => 9000,
            (Structure::Own, 17, 1) => 40,
            (Structure::Own, 18, 2) => 128,
            (Structure::Own, 20, 4) => 0x1ff,
            _ => panic!("{bytes} bytes read at {offset}: no such field"),
        }
    }

    fn write(&mut self, structure: Structure, offset: u32, bytes: u32, value: u32) {
        let selected = usize::from(self.queue_select);
        match (structure, offset, bytes) {
            (Structure::Common, 0, 4) => self.feature_select[0] = value,
            (Structure::Common, 8, 4) => self.feature_select[1] = value,
            (Structure::Common, 12, 4) => {
                self.accepted |= u64::from(value) << (32 * self.feature_select[1]);
            }
            // No interrupts of the configuration.
            (Structure::Common, 16, 2) => assert_eq!(value, 0xffff),
            (Structure::Common, 20, 1) => self.set_status(value as u8),
            (Structure::Common, 22, 2) => self.queue_select = value as u16,
            (Structure::Common, 24, 2) => self.queues[selected].size = value as u16,
            (Structure::Common, 26, 2) => {
                let is_there = value < 16 || value == 0xffff;
                self.queues[selected].vector = if is_there { value as u16 } else { 0xffff };
            }
            (Structure::Common, 28, 2) => {
                assert_eq!(value, 1);
                self.queues[selected].is_enabled = true;
            }
            (Structure::Common, 32..56, 4) => {
                let (part, half) = ((offset as usize - 32) / 8, offset % 8 / 4);
                self.queues[selected].parts[part] |= u64::from(value) << (32 * half);
            }
            (Structure::Notify, _, 2) => {
                assert_ne!(self.status & DRIVER_OK, 0, "a notice before DRIVER_OK");
                assert_eq!(offset, 4 * (QUEUES as u32 - value), "a notice at another's");
                if value as usize == self.control() {
                    self.command();
                }
            }
            _ => panic!("{bytes} bytes written at {offset}: no such field"),
        }
    }

    fn set_status(&mut self, status: u8) {
        if status == 0 {
            let (memory, traits) = (Rc::clone(&self.memory), self.traits);
            let interrupts = self.interrupts;
            *self = Self {
                interrupts,
                ..Self::new(memory, traits)
            };
            return;
        }
        assert_eq!(self.status & !status, 0, "a status bit taken back");
        self.status = status;
        let is_refused = self.accepted & !self.traits.features != 0 || !self.traits.is_agreeable;
        if is_refused {
            self.status &= !FEATURES_OK;
        }
    }

    /// Does all there is to do.
    pub fn run(&mut self) {
        if self.status & DRIVER_OK == 0 {
            return;
        }
        for pair in 0..self.control() / 2 {
            self.transmit(2 * pair + 1);
            self.take_chains(2 * pair);
        }
        while let Some(frame) = self.incoming.pop_front() {
            let (queue, hash) = self.queue_of(&frame);
            if self.queues[queue].heads.is_empty() {
                self.incoming.push_front(frame);
                break;
            }
            self.receive(queue, &frame, hash);
        }
    }

    /// Bytes of the header before each frame.
    fn header_bytes(&self) -> usize {
        if self.accepted & HASH_REPORT != 0 {
            20
        } else {
            12
        }
    }

    /// The control queue: behind the queue pairs that the driver can see (5.1.2).
    fn control(&self) -> usize {
        match self.accepted & (MQ | RSS) {
            0 => 2,
            _ => QUEUES - 1,
        }
    }

    /// Takes the chains that the driver has made available.
    fn take_chains(&mut self, number: usize) {
        let queue = &self.queues[number];
        if !queue.is_enabled {
            return;
        }
        let [_, available, _] = queue.parts;
        let idx = self.read16(available + 2);
        let fresh = idx.wrapping_sub(queue.seen);
        assert!(
            fresh <= queue.size,
            "queue {number}: {fresh} chains at once"
        );
        for _ in 0..fresh {
            let queue = &self.queues[number];
            let entry = available + 4 + 2 * u64::from(queue.seen % queue.size);
            let head = self.read16(entry);
            let chain = self.chain(number, head);
            let queue = &mut self.queues[number];
            for (descriptor, ..) in chain {
                assert!(
                    queue.owned.insert(descriptor),
                    "descriptor {descriptor} twice"
                );
            }
            queue.seen = queue.seen.wrapping_add(1);
            queue.heads.push_back(head);
        }
    }

    /// The descriptors of a chain: number, address, length, and whether the device writes to it.
    fn chain(&self, number: usize, head: u16) -> Vec<(u16, u64, u32, bool)> {
        let queue = &self.queues[number];
        let (mut chain, mut next) = (Vec::new(), Some(head));
        while let Some(index) = next {
            assert!(index < queue.size && chain.len() < usize::from(queue.size));
            let at = queue.parts[0] + 16 * u64::from(index);
            let mut descriptor = [0; 16];
            self.read_bytes(at, &mut descriptor);
            let [a, b, c, d, e, f, g, h, l0, l1, l2, l3, f0, f1, n0, n1] = descriptor;
            let flags = u16::from_le_bytes([f0, f1]);
            let address = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
            let length = u32::from_le_bytes([l0, l1, l2, l3]);
            chain.push((index, address, length, flags & 2 != 0));
            next = (flags & 1 != 0).then(|| u16::from_le_bytes([n0, n1]));
        }
        chain
    }

    /// Gives a chain back.
    fn give_back(&mut self, number: usize, head: u16, len: u32) {
        let chain = self.chain(number, head);
        let queue = &mut self.queues[number];
        for (descriptor, ..) in chain {
            assert!(queue.owned.remove(&descriptor));
        }
        self.report(number, head.into(), len);
    }

    /// Writes an entry of the used ring, whatever it says.
    pub fn report(&mut self, number: usize, id: u32, len: u32) {
        let queue = &self.queues[number];
        let [_, available, used] = queue.parts;
        let entry = used + 4 + 8 * u64::from(queue.used % queue.size);
        self.write_bytes(entry, &id.to_le_bytes());
        self.write_bytes(entry + 4, &len.to_le_bytes());
        let queue = &mut self.queues[number];
        queue.used = queue.used.wrapping_add(1);
        let (idx, vector) = (queue.used, usize::from(queue.vector));
        self.write_bytes(used + 2, &idx.to_le_bytes());
        if self.read16(available) & 1 == 0 && vector != 0xffff {
            self.interrupts[vector] += 1;
        }
    }

    /// Sends what a transmit queue has, and finishes it in another order.
    fn transmit(&mut self, number: usize) {
        self.take_chains(number);
        let mut heads: Vec<u16> = self.queues[number].heads.drain(..).collect();
        for &head in &heads {
            let mut frame = Vec::new();
            for (_, address, length, is_written) in self.chain(number, head) {
                assert!(!is_written && length != 0);
                let start = frame.len();
                frame.resize(start + length as usize, 0);
                self.read_bytes(address, &mut frame[start..]);
            }
            let (header, frame) = frame.split_at(self.header_bytes());
            self.outgoing.extend(wire::sent(header, frame));
        }
        if heads.len() > 2 {
            heads.rotate_left(1);
        }
        for head in heads {
            self.give_back(number, head, 0);
        }
    }

    /// Puts a frame into a buffer, now the oldest and now the newest.
    fn receive(&mut self, number: usize, frame: &[u8], hash: u32) {
        self.turn += 1;
        let heads = &mut self.queues[number].heads;
        let head = match self.turn % 3 {
            0 => heads.pop_back(),
            _ => heads.pop_front(),
        };
        let head = head.expect("a buffer");
        let mut bytes = vec![0; self.header_bytes()];
        bytes[10] = 1;
        if bytes.len() == 20 {
            bytes[12..16].copy_from_slice(&hash.to_le_bytes());
            bytes[16] = u8::from(hash != 0);
        }
        bytes.extend(frame);
        let chain = self.chain(number, head);
        let room: u32 = chain.iter().map(|it| it.2).sum();
        if bytes.len() > room as usize {
            // It fits no buffer: dropped, and the buffer stays.
            self.queues[number].heads.push_front(head);
            return;
        }
        let mut rest = &bytes[..];
        for (_, address, length, is_written) in chain {
            assert!(is_written);
            let (piece, left) = rest.split_at(rest.len().min(length as usize));
            self.write_bytes(address, piece);
            rest = left;
        }
        self.give_back(number, head, bytes.len() as u32);
    }

    /// Where a frame goes, and its hash.
    fn queue_of(&self, frame: &[u8]) -> (usize, u32) {
        let Some(spreading) = &self.spreading else {
            return (0, 0);
        };
        let hash = wire::hash(frame, spreading.types, &spreading.key);
        hash.map_or((0, 0), |hash| {
            let entry = hash as usize % spreading.table.len();
            (2 * usize::from(spreading.table[entry]), hash)
        })
    }

    /// Runs the commands of the control queue.
    fn command(&mut self) {
        let number = self.control();
        self.take_chains(number);
        while let Some(head) = self.queues[number].heads.pop_front() {
            let chain = self.chain(number, head);
            let Some(((_, ack, 1, true), readable)) = chain.split_last() else {
                panic!("a command without acknowledgement: {chain:?}");
            };
            let mut bytes = Vec::new();
            for &(_, address, length, is_written) in readable {
                assert!(!is_written);
                let start = bytes.len();
                bytes.resize(start + length as usize, 0);
                self.read_bytes(address, &mut bytes[start..]);
            }
            if !self.traits.is_obedient {
                return;
            }
            let answer = u8::from(!self.obey(&bytes));
            self.write_bytes(*ack, &[answer]);
            self.give_back(number, head, 1);
        }
    }

    fn obey(&mut self, bytes: &[u8]) -> bool {
        match *bytes {
            [0, mode @ 0..2, on] => {
                self.modes[usize::from(mode)] = Some(on);
                true
            }
            [4, 1, ref config @ ..] if self.accepted & RSS != 0 => self.spread(config),
            _ => false,
        }
    }

    /// `struct virtio_net_rss_config`.
    fn spread(&mut self, config: &[u8]) -> bool {
        let (head, rest) = config.split_at(8);
        let length = usize::from(u16::from_le_bytes([head[4], head[5]])) + 1;
        let unclassified = u16::from_le_bytes([head[6], head[7]]);
        let (table, tail) = rest.split_at(2 * length);
        let table: Vec<u16> = table
            .as_chunks::<2>()
            .0
            .iter()
            .map(|it| u16::from_le_bytes(*it))
            .collect();
        let key_bytes = usize::from(tail[2]);
        if unclassified != 0 || table.iter().any(|&it| it >= PAIRS) || tail.len() != 3 + key_bytes {
            return false;
        }
        self.spreading = Some(Spreading {
            types: u32::from_le_bytes([head[0], head[1], head[2], head[3]]),
            table,
            key: tail[3..].to_vec(),
        });
        true
    }

    fn read16(&self, bus: u64) -> u16 {
        let mut bytes = [0; 2];
        self.read_bytes(bus, &mut bytes);
        u16::from_le_bytes(bytes)
    }

    fn read_bytes(&self, bus: u64, bytes: &mut [u8]) {
        self.memory.read((bus - BUS) as usize, bytes);
    }

    fn write_bytes(&self, bus: u64, bytes: &[u8]) {
        self.memory.write((bus - BUS) as usize, bytes);
    }
}
