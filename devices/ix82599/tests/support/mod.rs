//! A machine in a test: the model on a cable, memory, and just enough of a driver to write rings by
//! hand. The layout of memory is fixed, see the constants.

#![allow(dead_code, reason = "each test program uses a part of it")]

use ix82599::memory::SharedMemory;
use ix82599::model::{InterruptCounts, Model, ModelConfig};
use ix82599::wire::{Cable, Wire};
use ixgbe_spec::register::{self as reg, Dmatxctl, Fctrl, Rxctrl, Rxdctl, Srrctl, Txdctl};
use ixgbe_spec::{RxWriteBack, TxCommand, TxContext, TxData, TxOptions, TxWriteBack};

pub const BUS: u64 = 0x1_2000_0000;
pub const MEMORY_BYTES: usize = 1 << 20;
/// Descriptors of each ring.
pub const RING: u32 = 32;
/// Ring of queue q.
pub const fn rx_ring(queue: u32) -> usize {
    0x1000 * queue as usize
}
pub const fn tx_ring(queue: u32) -> usize {
    0x1_0000 + 0x1000 * queue as usize
}
/// Buffer n of receive queue q, 2 KiB each.
pub const fn rx_buffer(queue: u32, n: u32) -> usize {
    0x2_0000 + 0x1_0000 * queue as usize + 0x800 * n as usize
}
/// Where tests put frames to send.
pub const TX_DATA: usize = 0x8_0000;

pub const MAC: [u8; 6] = [0x52, 0x54, 0, 0x82, 0x59, 0x99];

pub struct Machine {
    pub model: Model<Cable, InterruptCounts>,
    pub memory: SharedMemory,
    pub far: Cable,
    pub interrupts: InterruptCounts,
}

/// Shared memory is never freed, so the machines that a thread makes one after the other, of which
/// property tests make thousands, use the same, cleared.
fn memory() -> SharedMemory {
    thread_local! {
        static MEMORY: SharedMemory = SharedMemory::new(MEMORY_BYTES, BUS);
    }
    let memory = MEMORY.with(|memory| *memory);
    for at in (0..MEMORY_BYTES).step_by(ZEROES.len()) {
        memory.write(at, &ZEROES);
    }
    memory
}

const ZEROES: [u8; 4096] = [0; 4096];

impl Machine {
    pub fn new() -> Self {
        Self::with_config(ModelConfig::default())
    }

    pub fn with_config(config: ModelConfig) -> Self {
        let memory = memory();
        let (near, far) = Cable::pair(4096);
        let interrupts = InterruptCounts::new();
        let mut model = Model::new(config, memory.memory(), near, interrupts.clone());
        model.set_bus_master(true);
        Self {
            model,
            memory,
            far,
            interrupts,
        }
    }

    /// Receive and transmit are on, broadcasts pass, and `queues` queue pairs have rings.
    pub fn started(queues: u32) -> Self {
        let mut machine = Self::new();
        for queue in 0..queues {
            machine.start_rx(queue, Srrctl::DESCTYPE_ADVANCED);
            machine.start_tx(queue);
        }
        machine.write(reg::FCTRL, Fctrl::BAM.bits());
        machine.write(reg::RXCTRL, Rxctrl::RXEN.bits());
        machine.write(reg::DMATXCTL, Dmatxctl::TE.bits());
        machine
    }

    pub fn read(&mut self, offset: u32) -> u32 {
        self.model.bar0_read32(offset)
    }

    pub fn write(&mut self, offset: u32, value: u32) {
        self.model.bar0_write32(offset, value);
    }

    fn base(&mut self, low: u32, high: u32, offset: usize) {
        let bus = BUS + offset as u64;
        self.write(low, bus as u32);
        self.write(high, (bus >> 32) as u32);
    }

    pub fn start_rx(&mut self, queue: u32, desctype: u32) {
        for n in 0..RING {
            self.give_buffer(queue, n);
        }
        self.base(reg::rdbal(queue), reg::rdbah(queue), rx_ring(queue));
        self.write(reg::rdlen(queue), RING * 16);
        let srrctl = Srrctl::empty().with_bsizepacket(2).with_desctype(desctype);
        self.write(reg::srrctl(queue), srrctl.bits());
        self.write(reg::rxdctl(queue), Rxdctl::ENABLE.bits());
        assert_ne!(self.read(reg::rxdctl(queue)) & Rxdctl::ENABLE.bits(), 0);
        self.write(reg::rdt(queue), RING - 1);
    }

    pub fn give_buffer(&self, queue: u32, n: u32) {
        let buffer = BUS + rx_buffer(queue, n) as u64;
        self.put_descriptor(rx_ring(queue), n, [buffer, 0]);
    }

    pub fn start_tx(&mut self, queue: u32) {
        self.base(reg::tdbal(queue), reg::tdbah(queue), tx_ring(queue));
        self.write(reg::tdlen(queue), RING * 16);
        self.write(reg::txdctl(queue), Txdctl::ENABLE.bits());
        assert_ne!(self.read(reg::txdctl(queue)) & Txdctl::ENABLE.bits(), 0);
    }

    pub fn put_descriptor(&self, ring: usize, n: u32, words: [u64; 2]) {
        let at = ring + 16 * n as usize;
        self.memory.write(at, &words[0].to_le_bytes());
        self.memory.write(at + 8, &words[1].to_le_bytes());
    }

    pub fn descriptor(&self, ring: usize, n: u32) -> [u64; 2] {
        let mut bytes = [0; 16];
        self.memory.read(ring + 16 * n as usize, &mut bytes);
        let (low, high) = bytes.split_at(8);
        [low, high].map(|half| u64::from_le_bytes(half.try_into().unwrap()))
    }

    /// The write-back of a receive descriptor, if it is done.
    pub fn received(&self, queue: u32, n: u32) -> Option<RxWriteBack> {
        let words = self.descriptor(rx_ring(queue), n);
        RxWriteBack::is_done(words[1]).then_some(RxWriteBack(words))
    }

    pub fn buffer(&self, queue: u32, n: u32, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.read(rx_buffer(queue, n), &mut bytes);
        bytes
    }

    /// A frame comes in over the cable.
    pub fn arrives(&mut self, frame: &[u8]) {
        self.far.send(frame).unwrap();
        self.model.poll();
    }

    pub fn transmitted(&self, queue: u32, n: u32) -> bool {
        TxWriteBack::is_done(self.descriptor(tx_ring(queue), n)[1])
    }
}

/// A data descriptor for the bytes at an offset of memory.
pub fn data(offset: usize, length: usize, command: TxCommand) -> TxData {
    TxData {
        address: BUS + offset as u64,
        length: length as u16,
        command: command | TxCommand::IFCS,
        options: TxOptions::empty(),
        context: 0,
        check_context: false,
        payload_length: length as u32,
    }
}

pub const WHOLE: TxCommand = TxCommand::EOP.union(TxCommand::RS);

/// A context for TCP over IPv4 without options.
pub fn tcp_context() -> TxContext {
    TxContext {
        mac_length: 14,
        ip_length: 20,
        vlan: 0x2064,
        ipv4: true,
        l4_type: Some(ixgbe_spec::L4Type::Tcp),
        index: 0,
        l4_length: 20,
        mss: 100,
    }
}

/// A frame to us with `length` bytes and a recognisable content.
pub fn frame(length: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..length).map(|n| (n * 7) as u8).collect();
    frame[..6].copy_from_slice(&MAC);
    frame[6..14].copy_from_slice(&[2, 0, 0, 0, 0, 1, 0x88, 0xb5]);
    frame
}

/// The Internet checksum of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from))
        .sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !(sum as u16)
}

/// A TCP segment to us over IPv4, checksums right.
pub fn tcp_frame(source_port: u16, payload: usize) -> Vec<u8> {
    let mut tcp = source_port.to_be_bytes().to_vec();
    tcp.extend([
        0x1f, 0x90, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 0x18, 0x20, 0, 0, 0, 0, 0,
    ]);
    tcp.extend((0..payload).map(|n| n as u8));
    let addresses = [10, 9, 0, 1, 10, 9, 0, 2];
    let mut pseudo = addresses.to_vec();
    pseudo.extend([0, 6]);
    pseudo.extend((tcp.len() as u16).to_be_bytes());
    pseudo.extend(&tcp);
    tcp[16..18].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    let mut ip = vec![0x45, 0];
    ip.extend((20 + tcp.len() as u16).to_be_bytes());
    ip.extend([0, 1, 0x40, 0, 64, 6, 0, 0]);
    ip.extend(addresses);
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    let mut frame = MAC.to_vec();
    frame.extend([2, 0, 0, 0, 0, 1, 0x08, 0x00]);
    frame.extend(ip);
    frame.extend(tcp);
    frame
}

/// The TCP pseudo header sum of [`tcp_frame`], folded and not complemented, as a driver leaves it;
/// `length` is that of header and payload, or 0 for segmentation.
pub fn pseudo_sum(length: u16) -> u16 {
    let mut pseudo = vec![10, 9, 0, 1, 10, 9, 0, 2, 0, 6];
    pseudo.extend(length.to_be_bytes());
    !checksum(&pseudo)
}
