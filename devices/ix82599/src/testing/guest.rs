//! A hostile guest of a physical or virtual function: any register writes, messages, ring contents, frames and
//! doorbells, trapped and mapped.
//!
//! Around and between what the guest handed over lies memory that it did not, and some that the device
//! may only read: both must be as they were.

use ixgbe_spec::register as reg;
use ixgbe_spec::virtual_function::mailbox::{RESET, with_argument};
use ixgbe_spec::virtual_function::{self as virtual_reg, Vfmailbox};
use ixgbe_spec::{TxCommand, TxContext, TxData, TxOptions};

use super::Input;
use crate::memory::{GuestMemory, HostMemory, Protection, SharedMemory};
use crate::model::{Counters, DOORBELL_PAGES, InterruptCounts, Model, ModelConfig, VirtualConfig};
use crate::wire::{Cable, MAX_FRAME_BYTES, Wire};

const BUS: u64 = 0x1_2000_0000;
const PAGE: usize = 4096;
/// What the device may reach: pages of the memory, and whether it may write there.
const REGIONS: [(std::ops::Range<usize>, bool); 3] =
    [(2..10, true), (10..12, false), (14..18, true)];
const MEMORY_BYTES: usize = 20 * PAGE;
/// Where rings begin by themselves: they reach into the pages that can be read only.
const RX_RING: usize = 2 * PAGE;
const TX_RING: usize = 9 * PAGE;
const BUFFERS: usize = 14 * PAGE;
/// What is in memory that must not change.
const UNTOUCHED: u8 = 0xa5;
/// Frames that the cable holds.
const CABLE_FRAMES: usize = 512;
/// Interrupts, and other events, are over after so long.
const LATER_NS: u64 = 1 << 30;

/// Runs `data`; returns what the device has counted.
///
/// # Panics
/// If the device does what it must not.
pub fn guest(data: &[u8]) -> Counters {
    let mut input = Input(data);
    let mut run = Run::new(input.byte());
    while !input.is_empty() {
        run.act(&mut input);
        run.settle();
    }
    run.end()
}

/// Memory is shared for ever, so all runs of a thread use the same.
fn memories() -> (SharedMemory, SharedMemory) {
    thread_local! {
        static MEMORY: SharedMemory = SharedMemory::new(MEMORY_BYTES, BUS);
        static DOORBELLS: SharedMemory = SharedMemory::new(8 * PAGE, 0);
    }
    let memory = MEMORY.with(|memory| *memory);
    let doorbells = DOORBELLS.with(|doorbells| *doorbells);
    for page in 0..MEMORY_BYTES / PAGE {
        let fill = if is_writable(page) { 0 } else { UNTOUCHED };
        memory.write(page * PAGE, &[fill; PAGE]);
    }
    for (offset, length) in DOORBELL_PAGES.into_iter().chain([(0x2000, PAGE as u64)]) {
        doorbells.write(offset as usize, &[0; PAGE][..length as usize]);
    }
    (memory, doorbells)
}

fn is_writable(page: usize) -> bool {
    REGIONS
        .iter()
        .any(|(pages, writable)| *writable && pages.contains(&page))
}

struct Run {
    model: Model<Cable, InterruptCounts>,
    memory: SharedMemory,
    doorbells: Option<SharedMemory>,
    far: Cable,
    now_ns: u64,
    is_virtual: bool,
}

impl Run {
    fn new(choices: u8) -> Self {
        let (memory, doorbells) = memories();
        let mut guest_memory = GuestMemory::new();
        for (pages, writable) in REGIONS {
            let (at, length) = (pages.start * PAGE, pages.len() * PAGE);
            let part = HostMemory::from_words(memory.words(at, length));
            let protection = Protection {
                readable: true,
                writable,
            };
            guest_memory
                .map(BUS + at as u64, length as u64, protection, Some(part))
                .expect("regions apart from each other");
        }
        let (near, far) = Cable::pair(CABLE_FRAMES);
        let config = ModelConfig {
            queues: [64, 1, 4, 128][usize::from(choices & 3)],
            pause_wire: choices & 4 != 0,
            virtual_function: (choices & 0x20 != 0).then_some(VirtualConfig {
                trusted: choices & 0x40 != 0,
                port_vlan: false,
            }),
            ..ModelConfig::default()
        };
        let mut model = Model::new(config, guest_memory, near, InterruptCounts::new());
        let is_mapped = choices & 8 != 0;
        if is_mapped {
            model.map_doorbells(doorbells.host());
        }
        let mut run = Self {
            model,
            memory,
            doorbells: is_mapped.then_some(doorbells),
            far,
            now_ns: 0,
            is_virtual: config.virtual_function.is_some(),
        };
        if choices & 0x10 == 0 {
            run.start(0);
            run.start(1);
        }
        run
    }

    /// What a driver does, up to the doorbells.
    fn start(&mut self, queue: u32) {
        self.model.set_bus_master(true);
        if self.is_virtual {
            self.tell(&[RESET]);
        }
        let ring = queue as usize * 0x200;
        for n in 0..16 {
            let buffer = BUS + (BUFFERS + 0x400 * n) as u64;
            self.memory
                .write(RX_RING + ring + 16 * n, &buffer.to_le_bytes());
        }
        for (register, value) in [
            (reg::rdbal(queue), BUS as u32 + (RX_RING + ring) as u32),
            (reg::rdbah(queue), (BUS >> 32) as u32),
            (reg::rdlen(queue), 0x100),
            (reg::srrctl(queue), 1 << 25 | 1),
            (reg::rxdctl(queue), 1 << 25),
            (reg::rdt(queue), 15),
            (reg::tdbal(queue), BUS as u32 + (TX_RING + ring) as u32),
            (reg::tdbah(queue), (BUS >> 32) as u32),
            (reg::tdlen(queue), 0x100),
            (reg::FCTRL, reg::Fctrl::BAM.bits()),
            (reg::RXCTRL, 1),
            (reg::DMATXCTL, 1),
            (reg::txdctl(queue), 1 << 25),
        ] {
            let offset = self.place_of(register);
            self.model.bar0_write32(offset, value);
        }
    }

    /// Where the function has that register of a physical one. Those that a virtual one lacks do nothing.
    fn place_of(&self, register: u32) -> u32 {
        match register {
            0x6000..0x7000 if self.is_virtual => register - virtual_reg::TRANSMIT_DISTANCE,
            _ => register,
        }
    }

    /// A message of the mailbox.
    fn tell(&mut self, message: &[u32]) {
        for (n, word) in (0..virtual_reg::VFMBMEM_WORDS).zip(message) {
            self.model.bar0_write32(virtual_reg::vfmbmem(n), *word);
        }
        let request = Vfmailbox::REQ.bits();
        self.model.bar0_write32(virtual_reg::VFMAILBOX, request);
    }

    fn act(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0..=2 => {
                let (offset, value) = (self.place_of(register(input)), value(input));
                self.model.bar0_write32(offset, value);
            }
            3 => {
                let offset = register(input);
                self.model.bar0_read32(offset);
            }
            4 | 5 => self.store(input),
            6 | 7 => self.describe(input),
            8 => {
                let [queue, tail] = input.array();
                self.ring(reg::tdt(u32::from(queue % 4)), u32::from(tail));
            }
            9 => {
                let [queue, tail] = input.array();
                self.ring(reg::rdt(u32::from(queue % 4)), u32::from(tail));
            }
            10 | 11 => self.arrive(input),
            12 => {
                let [offset, count] = input.array();
                let bytes = input.bytes(usize::from(count % 8));
                self.model.config_write(usize::from(offset), bytes);
            }
            13 if self.is_virtual => {
                let [kind, argument, words] = input.array();
                let first = with_argument(u32::from(kind % 32), argument.into());
                let words = (0..words % 4).map(|_| input.word());
                let message: Vec<u32> = [first].into_iter().chain(words).collect();
                self.tell(&message);
            }
            13 => self.start(u32::from(input.byte() % 4)),
            14 => {
                let offset = u32::from(input.half()) & !3;
                let value = input.word();
                self.ring(offset, value);
            }
            _ => {
                self.now_ns = self.now_ns.saturating_add(input.word().into());
                self.model.advance(self.now_ns);
            }
        }
    }

    /// Words where rings and buffers are.
    fn store(&mut self, input: &mut Input<'_>) {
        let [page, at, count] = input.array();
        let pages = REGIONS.into_iter().filter(|(_, writable)| *writable);
        let pages: Vec<usize> = pages.flat_map(|(pages, _)| pages).collect();
        let page = pages[usize::from(page) % pages.len()];
        let at = page * PAGE + 8 * usize::from(at);
        for n in 0..usize::from(count % 8) {
            self.memory.write(at + 8 * n, &input.array::<8>());
        }
    }

    /// A transmit descriptor that makes some sense.
    fn describe(&mut self, input: &mut Input<'_>) {
        let [kind, at, length, options] = input.array();
        let context = kind & 4 != 0;
        let address = if context {
            // Lengths of headers, and a tag.
            u64::from(input.half()) | u64::from(input.half()) << 16
        } else {
            BUS + (BUFFERS as u64 + 0x100 * u64::from(input.byte())) % MEMORY_BYTES as u64
        };
        let dtyp = if context { 2u64 } else { 3 } << 20 | 1 << 29;
        let low = if context {
            u64::from(options) << 9
        } else {
            u64::from(length) << (kind >> 5)
        };
        let high = if context {
            // Segment size and transport header.
            u64::from(length) << 48 | u64::from(input.byte()) << 40
        } else {
            u64::from(options) << 36 | u64::from(input.half()) << 46
        };
        let command = u64::from(kind & 0x0b) << 24 | u64::from(kind >> 4 & 1) << 31;
        let at = TX_RING + 16 * usize::from(at % 32);
        self.memory.write(at, &address.to_le_bytes());
        let word = low | dtyp | if context { 0 } else { command } | high;
        self.memory.write(at + 8, &word.to_le_bytes());
    }

    /// A doorbell as a message or as a store, which both reach any register of the pages.
    fn ring(&mut self, offset: u32, value: u32) {
        let offset = self.place_of(offset);
        let pages = self.model.doorbell_pages();
        let mapped = pages
            .iter()
            .any(|(start, length)| (*start..start + length).contains(&u64::from(offset)));
        match &self.doorbells {
            Some(pages) if mapped => pages.host().store32(offset as usize & !3, value),
            _ => self.model.bar0_write32(offset, value),
        }
    }

    fn arrive(&mut self, input: &mut Input<'_>) {
        let [shape, length, ethertype] = input.array();
        let mut frame = vec![0x52, 0x54, 0, 0x82, 0x59, 0x99, 2, 0, 0, 0, 0, 1];
        if shape & 1 != 0 {
            frame[..6].fill(0xff);
        }
        if shape & 2 != 0 {
            frame.extend([0x81, 0, 0, shape]);
        }
        let ethertypes = [[8, 0], [0x86, 0xdd], [8, 6], [0x88, 0xf7]];
        frame.extend(ethertypes[usize::from(ethertype & 3)]);
        frame.extend(input.bytes(usize::from(length)));
        if shape & 4 != 0 {
            frame.resize(frame.len() + 64 * usize::from(shape), shape);
        }
        frame.truncate(MAX_FRAME_BYTES - 4);
        // A full cable loses it.
        let _ = self.far.send(&frame);
    }

    /// Moves frames. What comes out is a frame, and what may not change has not.
    fn settle(&mut self) {
        self.model.poll();
        while let Some(frame) = self.far.take() {
            assert!((14..=MAX_FRAME_BYTES).contains(&frame.len()), "not a frame");
        }
        let counters = self.model.counters();
        assert!(counters.rx_bytes >= 14 * counters.rx_frames);
        assert!(counters.tx_bytes >= 14 * counters.tx_frames);
    }

    fn check_memory(&self) {
        let mut bytes = [0; PAGE];
        for page in (0..MEMORY_BYTES / PAGE).filter(|page| !is_writable(*page)) {
            self.memory.read(page * PAGE, &mut bytes);
            assert_eq!(bytes, [UNTOUCHED; PAGE], "page {page} was written to");
        }
    }

    /// Whatever happened, after a reset a frame comes in and one goes out.
    fn end(mut self) -> Counters {
        self.model.advance(self.now_ns.saturating_add(LATER_NS));
        self.settle();
        self.check_memory();
        let counters = *self.model.counters();
        self.model.power_on_reset();
        self.model.poll();
        while self.far.take().is_some() {}
        self.start(0);
        let before = *self.model.counters();
        let mut frame = vec![0xff; 64];
        frame[6..12].fill(2);
        self.far.send(&frame).expect("an empty cable");
        for (n, words) in (0..).zip(sound_frame()) {
            for (half, word) in (0..).zip(words) {
                self.memory
                    .write(TX_RING + 16 * n + 8 * half, &word.to_le_bytes());
            }
        }
        self.ring(reg::tdt(0), 2);
        self.model.poll();
        let after = self.model.counters();
        assert_eq!(after.rx_frames, before.rx_frames + 1, "{after}");
        assert_eq!(after.tx_frames, before.tx_frames + 1, "{after}");
        assert!(self.far.take().is_some());
        counters
    }
}

/// Descriptors of a frame of 64 bytes, with the context that a virtual function's frames must name.
fn sound_frame() -> [[u64; 2]; 2] {
    let context = TxContext {
        mac_length: 14,
        ip_length: 20,
        vlan: 0,
        ipv4: true,
        l4_type: None,
        index: 0,
        l4_length: 0,
        mss: 0,
    };
    let data = TxData {
        address: BUS + BUFFERS as u64,
        length: 64,
        command: TxCommand::EOP | TxCommand::IFCS | TxCommand::RS | TxCommand::DEXT,
        options: TxOptions::empty(),
        context: 0,
        check_context: true,
        payload_length: 64,
    };
    [context.encode(), data.encode()]
}

/// Registers that matter most come up most often.
fn register(input: &mut Input<'_>) -> u32 {
    const QUEUE: [fn(u32) -> u32; 14] = [
        reg::rdbal,
        reg::rdbah,
        reg::rdlen,
        reg::rdh,
        reg::rdt,
        reg::rxdctl,
        reg::srrctl,
        reg::rscctl,
        reg::tdbal,
        reg::tdbah,
        reg::tdlen,
        reg::tdh,
        reg::tdt,
        reg::txdctl,
    ];
    let choice = input.byte();
    match choice {
        0..=111 => QUEUE[usize::from(choice) % QUEUE.len()](u32::from(choice / 14) % 4),
        112..=143 => {
            const CONTROL: [u32; 16] = [
                reg::CTRL,
                reg::RXCTRL,
                reg::DMATXCTL,
                reg::HLREG0,
                reg::MAXFRS,
                reg::MRQC,
                reg::FCTRL,
                reg::GPIE,
                reg::EIMS,
                reg::EICS,
                reg::ivar(0),
                reg::rxpbsize(0),
                reg::reta(0),
                reg::eitr(0),
                reg::VLNCTRL,
                reg::RXCSUM,
            ];
            CONTROL[usize::from(choice) % CONTROL.len()]
        }
        _ => u32::from(input.half()) << 1 & !3,
    }
}

/// Values that lead somewhere come up most often.
fn value(input: &mut Input<'_>) -> u32 {
    let choice = input.byte();
    match choice % 8 {
        0 => input.word(),
        1 => BUS as u32 + u32::from(input.byte()) * 0x400,
        2 => (BUS >> 32) as u32,
        3 => 1 << 25 | u32::from(choice >> 3),
        4 => u32::MAX,
        5 => 0x80 * u32::from(choice >> 3),
        6 => 1 << (choice >> 3),
        _ => u32::from(choice >> 3),
    }
}
