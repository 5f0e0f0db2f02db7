//! Messages on stderr, where the system's journal or a keeper's log takes them.

use std::io::Write;

use log::{LevelFilter, Log, Metadata, Record};

struct Logger;

/// Begins to log what is at least that important. The second call changes only that.
pub fn install(level: LevelFilter) {
    // It fails only when it was done before.
    let _ = log::set_logger(&Logger);
    log::set_max_level(level);
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let level = record.level().as_str().to_lowercase();
        // Nobody to tell when stderr is closed.
        let _ = writeln!(std::io::stderr(), "ixcpd: {level}: {}", record.args());
    }

    fn flush(&self) {}
}
