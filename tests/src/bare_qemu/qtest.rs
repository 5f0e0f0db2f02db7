//! QEMU's `qtest` protocol: a line for each access, and a line in return.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use ix_hal::Mmio;

use crate::EXCHANGE_TIMEOUT;

/// The ports of PCI's first configuration mechanism (PCI Local Bus Specification 3.0, 3.2.2.3.2).
const CONFIG_ADDRESS: u32 = 0xcf8;
const CONFIG_DATA: u32 = 0xcfc;
const CONFIG_ENABLE: u32 = 1 << 31;

/// A machine that is told what to do.
pub(super) struct Qtest(RefCell<BufReader<UnixStream>>);

impl Qtest {
    /// Where QEMU is to call.
    pub(super) fn listen(path: &Path) -> UnixListener {
        let listener = UnixListener::bind(path).expect("listen for QEMU");
        listener.set_nonblocking(true).expect("wait with a bound");
        listener
    }

    /// Waits for its call.
    pub(super) fn accept(listener: &UnixListener) -> Self {
        let deadline = Instant::now() + EXCHANGE_TIMEOUT;
        let stream = loop {
            match listener.accept() {
                Ok((stream, _)) => break stream,
                Err(error) => {
                    assert!(Instant::now() < deadline, "QEMU does not call: {error}");
                    thread::sleep(Duration::from_millis(5));
                }
            }
        };
        stream.set_nonblocking(false).expect("block again");
        stream
            .set_read_timeout(Some(EXCHANGE_TIMEOUT))
            .expect("set a bound");
        Self(RefCell::new(BufReader::new(stream)))
    }

    pub(super) fn read(&self, address: u32) -> u32 {
        self.ask(&format!("readl {address:#x}")) as u32
    }

    pub(super) fn write(&self, address: u32, value: u32) {
        self.ask(&format!("writel {address:#x} {value:#x}"));
    }

    /// Lets the machine's clock go on.
    pub(super) fn step(&self, nanos: u64) {
        self.ask(&format!("clock_step {nanos}"));
    }

    pub(super) fn config_read(&self, slot: u32, register: u32) -> u32 {
        self.select(slot, register);
        self.ask(&format!("inl {CONFIG_DATA:#x}")) as u32
    }

    pub(super) fn config_write(&self, slot: u32, register: u32, value: u32) {
        self.select(slot, register);
        self.ask(&format!("outl {CONFIG_DATA:#x} {value:#x}"));
    }

    fn select(&self, slot: u32, register: u32) {
        let address = CONFIG_ENABLE | slot << 11 | register & 0xfc;
        self.ask(&format!("outl {CONFIG_ADDRESS:#x} {address:#x}"));
    }

    /// Asks, and gives the number in the answer, if there is one.
    fn ask(&self, question: &str) -> u64 {
        let mut connection = self.0.borrow_mut();
        writeln!(connection.get_mut(), "{question}").expect("tell QEMU");
        let mut answer = String::new();
        connection.read_line(&mut answer).expect("QEMU's answer");
        let mut words = answer.split_whitespace();
        assert_eq!(words.next(), Some("OK"), "{question}: {answer}");
        let Some(number) = words.next() else {
            return 0;
        };
        let parsed = match number.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => number.parse(),
        };
        parsed.unwrap_or_else(|_| panic!("{question}: {answer}"))
    }
}

/// A card's registers.
#[derive(Clone)]
pub struct Registers {
    qtest: Rc<Qtest>,
    base: u32,
}

impl Registers {
    pub(super) fn new(qtest: Rc<Qtest>, base: u32) -> Self {
        Self { qtest, base }
    }
}

impl Mmio for Registers {
    fn read32(&self, offset: u32) -> u32 {
        self.qtest.read(self.base + offset)
    }

    fn write32(&self, offset: u32, value: u32) {
        self.qtest.write(self.base + offset, value);
    }
}
