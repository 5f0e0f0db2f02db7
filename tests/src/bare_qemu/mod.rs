//! A card of QEMU's own without a guest: nothing runs on the machine's processor, and a test in this process
//! is in its place. It reaches registers by QEMU's `qtest` protocol and the machine's memory by mapping the
//! same file, and holds the far end of the card's wire. So a driver meets a device that another hand has
//! modelled, under the same tests as in one process with a model.

#[expect(unsafe_code, reason = "maps the machine's memory")]
mod memory;
mod qtest;
mod wire;

use std::cell::Cell;
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::rc::Rc;

use ix_machine::qemu::Qemu;

pub use memory::Memory;
use qtest::Qtest;
pub use qtest::Registers;
pub use wire::FarEnd;

/// Each test takes some of it for good; what is not touched is not there.
const MEMORY_BYTES: usize = 512 << 20;
/// The first MiB has holes for the firmware.
const MEMORY_START: usize = 1 << 20;
/// Where the card's BARs are put, above memory.
const BARS: u32 = 0xe000_0000;
const BAR_SPACING: u32 = 0x10_0000;
/// The slot of the card.
const SLOT: u32 = 4;

/// Registers of a function's configuration space (PCI Local Bus Specification 3.0, 6.1 and 6.8.2).
const COMMAND: u32 = 0x04;
const MEMORY_AND_MASTER: u32 = 0x06;
const BAR_0: u32 = 0x10;
const CAPABILITIES: u32 = 0x34;
const MSIX: u32 = 0x11;
const MSIX_ENABLE: u32 = 1 << 31;

/// The machine: QEMU, and what this process has of it. It ends with this.
pub struct BareMachine {
    _process: Process,
    qtest: Rc<Qtest>,
    memory: Memory,
    far: FarEnd,
    /// Where vector 0 writes to.
    bell: usize,
    interrupts: Cell<u32>,
    _folder: tempfile::TempDir,
}

impl BareMachine {
    /// A machine with that card, whose BAR 0 has registers and BAR `table_bar` the vectors' table.
    pub fn start(device: &str, table_bar: u32) -> Self {
        let folder = tempfile::tempdir().expect("make a folder");
        let ram = folder.path().join("ram");
        let file = File::create_new(&ram).expect("make the machine's memory");
        file.set_len(MEMORY_BYTES as u64).expect("size it");
        drop(file);
        let memory = Memory::map(&ram, MEMORY_BYTES, MEMORY_START);
        let (far, theirs) = FarEnd::pair();
        let listener = Qtest::listen(&folder.path().join("qtest"));
        let backend = format!(
            "memory-backend-file,id=ram,size={MEMORY_BYTES},share=on,mem-path={}",
            ram.display()
        );
        let control = format!("unix:{}", folder.path().join("qtest").display());
        let card = format!("{device},netdev=wire,bus=pcie.0,addr={SLOT}.0");
        let qemu = Qemu::locate().expect("a QEMU");
        let process = Command::new(&qemu.program)
            .args(["-machine", "q35,memory-backend=ram", "-accel", "qtest"])
            .args(["-m", &format!("{}M", MEMORY_BYTES >> 20)])
            .args(["-object", &backend, "-qtest", &control])
            .args(["-qtest-log", "/dev/null", "-nodefaults", "-display", "none"])
            // The wire is its standard input.
            .args(["-netdev", "stream,id=wire,addr.type=fd,addr.str=0"])
            .args(["-device", &card])
            .stdin(theirs)
            .stdout(Stdio::null())
            .spawn()
            .expect("start QEMU");
        let bell = memory.allocate(8);
        let process = Process(process);
        let machine = Self {
            qtest: Rc::new(Qtest::accept(&listener)),
            _process: process,
            memory,
            far,
            bell,
            interrupts: Cell::new(0),
            _folder: folder,
        };
        machine.enable(table_bar);
        machine
    }

    /// The card's registers.
    pub fn registers(&self) -> Registers {
        Registers::new(Rc::clone(&self.qtest), BARS)
    }

    /// The machine's memory, whose addresses are those on the bus.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The far end of the wire.
    pub fn far(&self) -> &FarEnd {
        &self.far
    }

    /// Lets time pass, which nothing else does.
    pub fn advance(&self, micros: u32) {
        self.qtest.step(u64::from(micros) * 1000);
    }

    /// Lets QEMU do all that it has to do. One question and its answer are a turn of its loop, or two, and
    /// a turn takes in so many bytes from the wire.
    pub fn settle(&self) {
        const TURN_BYTES: usize = 32 << 10;
        const TURNS: usize = 4;
        const TURN_NS: u64 = 1_000;
        for _ in 0..TURNS + self.far.take_injected() / TURN_BYTES {
            self.qtest.step(TURN_NS);
        }
        if self.memory.swap(self.bell, 0) != 0 {
            self.interrupts.set(self.interrupts.get() + 1);
        }
    }

    /// Interrupts of vector 0 that settling has found, two at once being one.
    pub fn interrupts(&self) -> u32 {
        self.interrupts.get()
    }

    /// Gives the card addresses, and vector 0 a word of memory to write to. Tables of vectors begin where
    /// their BAR does.
    fn enable(&self, table_bar: u32) {
        let qtest = &self.qtest;
        for bar in [0, table_bar] {
            qtest.config_write(SLOT, BAR_0 + 4 * bar, BARS + bar * BAR_SPACING);
        }
        qtest.config_write(SLOT, COMMAND, MEMORY_AND_MASTER);
        let mut place = qtest.config_read(SLOT, CAPABILITIES) & 0xff;
        let control = loop {
            assert_ne!(place, 0, "the card has no MSI-X");
            let header = qtest.config_read(SLOT, place);
            if header & 0xff == MSIX {
                break header;
            }
            place = header >> 8 & 0xff;
        };
        qtest.config_write(SLOT, place, control | MSIX_ENABLE);
        let table = BARS + table_bar * BAR_SPACING;
        let entry = [self.bell as u32, 0, 1, 0];
        for (word, value) in (0..).zip(entry) {
            qtest.write(table + 4 * word, value);
        }
    }
}

/// QEMU, which ends with this.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // What is left after a failure goes with the process.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
