//! The serial console: a 16550 at COM1, polled, and the `log` back end on it.
//!
//! Each access is an exit to the hypervisor, so the state is read once for each burst of the FIFO's
//! length. (`rep outsb` would make one exit of a burst, but QEMU 11 under `-icount` dies of it.)

use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::cpu::{inb, outb};
use super::percpu::PerCpu;

const PORT: u16 = 0x3f8;
const INTERRUPT_ENABLE: u16 = PORT + 1;
const FIFO_CONTROL: u16 = PORT + 2;
const LINE_CONTROL: u16 = PORT + 3;
const MODEM_CONTROL: u16 = PORT + 4;
const LINE_STATUS: u16 = PORT + 5;
const TRANSMITTER_EMPTY: u8 = 1 << 5;
const FIFO_BYTES: usize = 16;
/// Polls of a transmitter that does not empty before its bytes are given up: at 115200 baud a
/// full FIFO takes 1.4 ms.
const PATIENCE: u32 = 20_000;

/// The thread whose CPU writes a line, plus one; 0 if none does.
static WRITER: AtomicU32 = AtomicU32::new(0);
/// Set while a line is being written, so that a trap in between is noticed.
static IN_LINE: AtomicBool = AtomicBool::new(false);
/// Looks at a console that another CPU does not leave before it is taken all the same: far longer
/// than the longest line takes.
const LOCK_PATIENCE: u32 = 100_000_000;

/// Prints a line with the prefix `ix: `, whatever the log level.
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::bare::console::line(format_args!($($argument)*))
    };
}
pub(crate) use say;

/// Sets up the UART: 115200 baud, 8N1, FIFO on, no interrupts.
pub fn init() {
    let settings = [
        (INTERRUPT_ENABLE, 0),
        (LINE_CONTROL, 0x80),
        (PORT, 1),
        (INTERRUPT_ENABLE, 0),
        (LINE_CONTROL, 0x03),
        (FIFO_CONTROL, 0x07),
        (MODEM_CONTROL, 0x03),
    ];
    for (port, value) in settings {
        // SAFETY: these are the UART's registers, which the kernel alone uses.
        unsafe { outb(port, value) };
    }
}

/// Sends `log` records at or above `level` to the console.
pub fn init_log(level: log::LevelFilter) {
    static LOGGER: Logger = Logger;
    // Set only once; a second call would change nothing but the level.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(level);
}

/// Prints a line with the prefix `ix: `.
pub fn line(arguments: fmt::Arguments<'_>) {
    let is_kept = seize();
    let nested = IN_LINE.swap(true, Ordering::Relaxed);
    let mut serial = Serial::new();
    if nested {
        serial.put(b"\n");
    }
    // The serial console cannot fail; a formatting error is the argument's own and loses its line.
    let _ = writeln!(serial, "ix: {arguments}");
    serial.flush();
    IN_LINE.store(nested, Ordering::Relaxed);
    if !is_kept {
        WRITER.store(0, Ordering::Release);
    }
}

/// Makes the console this CPU's alone until it ends a line. Returns whether it was before: then it
/// stays so.
pub fn seize() -> bool {
    let own = PerCpu::get().thread() + 1;
    for _ in 0..LOCK_PATIENCE {
        match WRITER.compare_exchange(0, own, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => return false,
            Err(writer) if writer == own => return true,
            Err(_) => core::hint::spin_loop(),
        }
    }
    // Whoever has it is stuck: better two lines in one than none.
    WRITER.store(own, Ordering::Relaxed);
    false
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = match record.level() {
                log::Level::Error => "error: ",
                log::Level::Warn => "warning: ",
                log::Level::Info => "",
                log::Level::Debug => "debug: ",
                log::Level::Trace => "trace: ",
            };
            say!("{level}{}", record.args());
        }
    }

    fn flush(&self) {}
}

/// Bytes on their way to the FIFO.
struct Serial {
    bytes: [u8; FIFO_BYTES],
    len: usize,
}

impl Serial {
    fn new() -> Self {
        Self {
            bytes: [0; FIFO_BYTES],
            len: 0,
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if self.len == FIFO_BYTES {
                self.flush();
            }
            self.bytes[self.len] = byte;
            self.len += 1;
        }
    }

    /// Waits until the FIFO is empty and fills it.
    fn flush(&mut self) {
        for _ in 0..PATIENCE {
            // SAFETY: reading the line status has no effect but to clear error bits.
            if unsafe { inb(LINE_STATUS) } & TRANSMITTER_EMPTY != 0 {
                break;
            }
            core::hint::spin_loop();
        }
        for &byte in &self.bytes[..self.len] {
            // SAFETY: the transmitter's FIFO takes 16 bytes; a UART that is stuck drops them.
            unsafe { outb(PORT, byte) };
        }
        self.len = 0;
    }
}

impl Write for Serial {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}
