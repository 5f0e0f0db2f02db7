//! What a frame costs the model, without sockets and system calls: `cargo bench -p ix82599`.
//!
//! Prints nanoseconds of processor time a frame for each direction and two sizes. Numbers for people: machines differ,
//! so nothing is compared with them.

use std::time::Duration;

use ix82599::memory::SharedMemory;
use ix82599::model::{InterruptCounts, Model, ModelConfig};
use ix82599::testing::Source;
use ixgbe_spec::register as reg;
use ixgbe_spec::{L4Type, TxCommand, TxContext, TxData, TxOptions};

const BUS: u64 = 0x1_0000_0000;
const RING: u32 = 512;
const RX_RING: usize = 0;
const TX_RING: usize = 0x1_0000;
const BUFFERS: usize = 0x10_0000;
const ROUNDS: u32 = 4000;
/// Frames between two doorbells.
const BATCH: u32 = 64;

struct Bench {
    model: Model<Source, InterruptCounts>,
    memory: SharedMemory,
}

impl Bench {
    fn new(length: usize) -> Self {
        let memory = SharedMemory::new(4 << 20, BUS);
        let source = Source::new(tcp_frame(length));
        let config = ModelConfig::default();
        let interrupts = InterruptCounts::new();
        let mut model = Model::new(config, memory.memory(), source, interrupts);
        model.set_bus_master(true);
        let write = |model: &mut Model<_, _>, offset, value| model.bar0_write32(offset, value);
        for (ring, base, control) in [
            (RX_RING, reg::rdbal(0), reg::rxdctl(0)),
            (TX_RING, reg::tdbal(0), reg::txdctl(0)),
        ] {
            write(&mut model, base, (BUS + ring as u64) as u32);
            write(&mut model, base + 4, 1);
            write(&mut model, base + 8, RING * 16);
            write(&mut model, control, 1 << 25);
        }
        let srrctl = reg::Srrctl::empty().with_bsizepacket(2).with_desctype(1);
        write(&mut model, reg::srrctl(0), srrctl.bits());
        write(&mut model, reg::RXCTRL, 1);
        write(&mut model, reg::DMATXCTL, 1);
        let mrqc = (reg::Mrqc::TCP_IPV4).with_mrqe(reg::Mrqc::MRQE_RSS);
        write(&mut model, reg::MRQC, mrqc.bits());
        memory.write(BUFFERS, &tcp_frame(length));
        Self { model, memory }
    }

    fn put(&self, ring: usize, n: u32, words: [u64; 2]) {
        let at = ring + 16 * (n % RING) as usize;
        self.memory.write(at, &words[0].to_le_bytes());
        self.memory.write(at + 8, &words[1].to_le_bytes());
    }

    /// Nanoseconds a frame on the way in.
    fn receive(&mut self) -> f64 {
        let mut tail = 0;
        let start = cpu_time();
        for _ in 0..ROUNDS {
            for n in tail..tail + BATCH {
                let buffer = BUS + (BUFFERS + 2048 * (n % RING) as usize) as u64;
                self.put(RX_RING, n, [buffer, 0]);
            }
            tail = (tail + BATCH) % RING;
            self.model.bar0_write32(reg::rdt(0), tail);
            self.model.wire_mut().give(BATCH as usize);
            self.model.poll();
        }
        self.finish(start, self.model.counters().rx_frames)
    }

    /// Nanoseconds a frame on the way out, of two descriptors, with checksums inserted.
    fn transmit(&mut self, length: usize) -> f64 {
        let context = TxContext {
            mac_length: 14,
            ip_length: 20,
            vlan: 0,
            ipv4: true,
            l4_type: Some(L4Type::Tcp),
            index: 0,
            l4_length: 20,
            mss: 0,
        };
        self.put(TX_RING, 0, context.encode());
        let mut tail = 1;
        let start = cpu_time();
        for _ in 0..ROUNDS {
            for _ in 0..BATCH {
                let header = TxData {
                    address: BUS + BUFFERS as u64,
                    length: 54,
                    command: TxCommand::IFCS,
                    options: TxOptions::IXSM | TxOptions::TXSM,
                    context: 0,
                    check_context: false,
                    payload_length: length as u32,
                };
                let payload = TxData {
                    address: header.address + 54,
                    length: (length - 54) as u16,
                    command: header.command | TxCommand::EOP | TxCommand::RS,
                    ..header
                };
                self.put(TX_RING, tail, header.encode());
                self.put(TX_RING, tail + 1, payload.encode());
                tail = (tail + 2) % RING;
            }
            self.model.bar0_write32(reg::tdt(0), tail);
            self.model.poll();
        }
        self.finish(start, self.model.counters().tx_frames)
    }

    fn finish(&self, start: Duration, frames: u64) -> f64 {
        assert_eq!(
            frames,
            u64::from(ROUNDS * BATCH),
            "{}",
            self.model.counters()
        );
        (cpu_time() - start).as_nanos() as f64 / frames as f64
    }
}

/// Processor time of this thread, which others on the machine do not lengthen.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// A TCP segment over IPv4; its checksums are wrong, which costs the same.
fn tcp_frame(length: usize) -> Vec<u8> {
    let mut frame = vec![
        0x52, 0x54, 0, 0x82, 0x59, 0x99, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0,
    ];
    frame.extend(((length - 14) as u16).to_be_bytes());
    frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2]);
    frame.resize(length, 0x50);
    frame
}

fn main() {
    // `cargo test --benches` only wants to know whether it runs.
    for length in [118, 1514] {
        println!(
            "receive {length} bytes: {:.0} ns",
            Bench::new(length).receive()
        );
        println!(
            "transmit {length} bytes: {:.0} ns",
            Bench::new(length).transmit(length)
        );
    }
}
