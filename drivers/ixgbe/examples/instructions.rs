//! Counts the driver's instructions per received and per transmitted frame, under callgrind:
//!
//! ```text
//! cargo run --release -p ixgbe --example instructions
//! ```
//!
//! The device side is played by this program and is not counted; neither is what the protocol
//! engine would do, such as writing headers. Doorbells count as one store.

use std::cell::Cell;
use std::process::{Command, ExitCode};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use ix_hal::{
    DmaSlice, Fragment, HEADER_ROOM, MbufGeometry, MbufPool, Mmio, Nic, RxFrame, Transmit,
    TxChecksum, TxFrame,
};
use ixgbe::{Card, Config, Ixgbe, QueueConfig, QueueMemory, QueuePair};
use ixgbe_spec::register::*;
use ixgbe_spec::{PacketType, RssType, RxError, RxStatus, RxWriteBack, TxDescriptor, TxWriteBack};

const DESCRIPTORS: usize = 512;
const ROUNDS: usize = 2_000;
/// Name, and what does it in batches of that many frames.
type Measurement = (&'static str, fn(usize));

const MEASUREMENTS: [Measurement; 4] = [
    ("receive", receive),
    ("transmit", transmit),
    ("poll_idle", poll_idle),
    ("flush_idle", flush_idle),
];
const BATCHES: [usize; 3] = [64, 16, 1];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    if let (Some(name), Some(batch)) = (arguments.next(), arguments.next()) {
        let wanted = MEASUREMENTS.iter().find(|it| it.0 == name);
        let (Some((_, run)), Ok(batch)) = (wanted, batch.parse()) else {
            eprintln!("unknown measurement {name} {batch}; run without arguments");
            return ExitCode::from(2);
        };
        run(batch);
        return ExitCode::SUCCESS;
    }
    println!("instructions of the driver, by callgrind, over {ROUNDS} rounds");
    println!(
        "{:<12} {:>6} {:>10} {:>10}",
        "", "batch", "a round", "a frame"
    );
    for (name, _) in MEASUREMENTS {
        for batch in BATCHES {
            match count(name, batch) {
                Ok(total) => {
                    let round = total as f64 / ROUNDS as f64;
                    let frame = round / batch as f64;
                    println!("{name:<12} {batch:>6} {round:>10.1} {frame:>10.1}");
                }
                Err(reason) => {
                    eprintln!("{name}: {reason}");
                    return ExitCode::FAILURE;
                }
            }
            if name.ends_with("idle") {
                break;
            }
        }
    }
    ExitCode::SUCCESS
}

/// Runs one measurement of this program under callgrind; the instructions in `measured_*`.
fn count(name: &str, batch: usize) -> Result<u64, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let file = std::env::temp_dir().join(format!("ixgbe-instructions.{}", std::process::id()));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*measured_*"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args([name, &batch.to_string()])
        .output()
        .map_err(|error| format!("cannot run valgrind ({error}); install it"))?;
    let profile = std::fs::read_to_string(&file);
    // There is none after a failed run.
    let _ = std::fs::remove_file(&file);
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    profile
        .map_err(|error| error.to_string())?
        .lines()
        .find_map(|line| line.strip_prefix("totals: "))
        .and_then(|total| total.trim().parse().ok())
        .ok_or_else(|| "callgrind wrote no total".to_owned())
}

#[inline(never)]
fn measured_receive(bench: &mut Bench, frames: &mut [RxFrame]) -> usize {
    let count = bench.pair.receive(frames, &mut bench.pool);
    bench.pair.refill(&mut bench.pool);
    count
}

#[inline(never)]
fn measured_transmit(bench: &mut Bench, fragments: &[Fragment], batch: usize) {
    bench.pair.reclaim(&mut bench.pool);
    for _ in 0..batch {
        if bench.pair.header().is_some() {
            bench.pair.send(&TxFrame {
                header_len: 54,
                fragments,
                checksum: TxChecksum::Ipv4Tcp,
                segment_size: 0,
                release: None,
            });
        }
    }
    bench.pair.flush();
}

fn receive(batch: usize) {
    let mut bench = Bench::new();
    let mut frames = [RxFrame::default(); 64];
    for _ in 0..ROUNDS {
        for _ in 0..batch {
            bench.complete_receive();
        }
        let count = measured_receive(&mut bench, &mut frames);
        assert_eq!(count, batch);
        for frame in &frames[..count] {
            bench.pool.give(frame.mbuf);
        }
    }
}

fn transmit(batch: usize) {
    let mut bench = Bench::new();
    let fragments = [Fragment {
        bus: 0x9000_0000,
        len: 64,
    }];
    for _ in 0..ROUNDS {
        measured_transmit(&mut bench, &fragments, batch);
        bench.complete_transmit();
    }
    let sent = bench.pair.statistics().tx_frames;
    assert_eq!(sent, (ROUNDS * batch) as u64);
}

/// A poll that finds nothing.
fn poll_idle(_: usize) {
    let mut bench = Bench::new();
    let mut frames = [RxFrame::default(); 64];
    for _ in 0..ROUNDS {
        assert_eq!(measured_receive(&mut bench, &mut frames), 0);
    }
}

/// A round without anything to send or to reclaim.
fn flush_idle(_: usize) {
    let mut bench = Bench::new();
    for _ in 0..ROUNDS {
        measured_transmit(&mut bench, &[], 0);
    }
}

/// A queue pair, its memory, and the device's positions in its rings.
struct Bench {
    pair: QueuePair<Registers>,
    pool: MbufPool,
    rx_ring: &'static [AtomicU64],
    tx_ring: &'static [AtomicU64],
    rx_head: usize,
    tx_head: usize,
    registers: Registers,
}

impl Bench {
    fn new() -> Self {
        let registers = Registers::new();
        let geometry = MbufGeometry {
            count: 2048,
            size_shift: 11,
            bus: 0x4000_0000,
            user: 0x7000_0000,
        };
        let mut pool = MbufPool::new(geometry);
        let (rx_ring, tx_ring) = (ring(), ring());
        let memory = QueueMemory {
            rx_ring: DmaSlice::new(rx_ring, 0x10_0000),
            tx_ring: DmaSlice::new(tx_ring, 0x20_0000),
            headers: Box::leak(vec![[0; HEADER_ROOM]; DESCRIPTORS].into_boxed_slice()),
            headers_bus: 0x30_0000,
        };
        let config = QueueConfig {
            vector: 0,
            interrupt_interval_us: 0,
            pool: geometry,
        };
        let mut device = Ixgbe::new(Card::I82599, registers.clone(), Config::new(1), &mut |_| {})
            .expect("bring-up");
        let mut pair = device
            .open(0, config, memory, &mut |_| {})
            .expect("a queue pair");
        pair.refill(&mut pool);
        Self {
            pair,
            pool,
            rx_ring,
            tx_ring,
            rx_head: 0,
            tx_head: 0,
            registers,
        }
    }

    /// A 64-byte TCP frame comes in.
    fn complete_receive(&mut self) {
        let status = RxStatus::DD | RxStatus::EOP | RxStatus::L4I | RxStatus::IPCS;
        let tcp = PacketType::IPV4 | PacketType::TCP;
        let hash = self.rx_head as u32;
        let write_back =
            RxWriteBack::new(RssType::TcpIpv4, hash, tcp, 64, status, RxError::empty());
        for (word, value) in write_back.0.into_iter().enumerate() {
            self.rx_ring[2 * self.rx_head + word].store(value, Ordering::Release);
        }
        self.rx_head = (self.rx_head + 1) % DESCRIPTORS;
    }

    /// Everything up to the tail leaves.
    fn complete_transmit(&mut self) {
        let tail = self.registers.read32(tdt(0)) as usize;
        while self.tx_head != tail {
            let [first, second] = [0, 1].map(|word| &self.tx_ring[2 * self.tx_head + word]);
            let words = [first, second].map(|word| word.load(Ordering::Acquire));
            let descriptor = TxDescriptor::decode(words).expect("a valid descriptor");
            if descriptor.segment().is_some_and(|it| it.report_status) {
                second.store(words[1] | TxWriteBack::DD, Ordering::Release);
            }
            self.tx_head = (self.tx_head + 1) % DESCRIPTORS;
        }
    }
}

fn ring() -> &'static [AtomicU64] {
    let words: Vec<AtomicU64> = (0..2 * DESCRIPTORS).map(|_| AtomicU64::new(0)).collect();
    Box::leak(words.into_boxed_slice())
}

/// Registers that keep what is written and say what bring-up wants to hear.
#[derive(Clone)]
struct Registers(Rc<[Cell<u32>]>);

impl Registers {
    fn new() -> Self {
        let registers = Self(vec![Cell::new(0); BAR0_BYTES as usize / 4].into());
        registers.write32(ral(0), 0x1200_5452);
        registers.write32(rah(0), RAH_AV | 0x5634);
        registers
    }
}

impl Mmio for Registers {
    fn read32(&self, offset: u32) -> u32 {
        match offset {
            CTRL => 0,
            EEC => (Eec::AUTO_RD | Eec::EE_PRES).bits(),
            RDRXCTL => Rdrxctl::DMAIDONE.bits(),
            _ => self.0[offset as usize / 4].get(),
        }
    }

    fn write32(&self, offset: u32, value: u32) {
        self.0[offset as usize / 4].set(value);
    }
}
