//! A line on the terminal that says how far a long run is.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Runs shorter than this show nothing.
const SILENT_FOR: Duration = Duration::from_secs(2);

/// Time between two updates.
const UPDATE_INTERVAL: Duration = Duration::from_millis(250);

/// Counts what is done; prints while it lives, if standard error is a terminal.
pub(crate) struct Progress {
    shared: Arc<Shared>,
    printer: Option<JoinHandle<()>>,
}

struct Shared {
    done: AtomicU64,
    is_over: AtomicBool,
}

impl Progress {
    /// `unit` is what is counted; `total` of them is everything, if that is known.
    pub fn start(unit: &'static str, total: Option<u64>) -> Self {
        let shared = Arc::new(Shared {
            done: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let printer = stderr().is_terminal().then(|| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || print(&shared, unit, total))
        });
        Self { shared, printer }
    }

    /// So many more are done.
    pub fn add(&self, count: u64) {
        self.shared.done.fetch_add(count, Relaxed);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Relaxed);
        if let Some(printer) = self.printer.take() {
            printer.thread().unpark();
            // It can only have failed to print.
            let _ = printer.join();
        }
    }
}

fn print(shared: &Shared, unit: &str, total: Option<u64>) {
    let start = Instant::now();
    let mut is_shown = false;
    while !shared.is_over.load(Relaxed) {
        thread::park_timeout(UPDATE_INTERVAL);
        let elapsed = start.elapsed();
        if elapsed < SILENT_FOR || shared.is_over.load(Relaxed) {
            continue;
        }
        let done = shared.done.load(Relaxed);
        let rate = done as f64 / elapsed.as_secs_f64();
        let seconds = elapsed.as_secs();
        let part = total.map_or(String::new(), |total| {
            format!(" ({:.0} %)", 100.0 * done as f64 / total.max(1) as f64)
        });
        let _ = write!(
            stderr(),
            "\r\x1b[K{seconds} s: {done} {unit}{part}, {rate:.0} {unit}/s"
        );
        is_shown = true;
    }
    if is_shown {
        let _ = write!(stderr(), "\r\x1b[K");
    }
}
