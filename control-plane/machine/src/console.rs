//! The serial console: kept line by line, printed or logged as it comes, and waited on.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Lines that are kept; when there are more, the oldest go.
const KEPT_LINES: usize = 20_000;
/// A longer line is cut in two, so that a guest that never ends its line cannot fill the memory.
const LINE_BYTES: usize = 4096;
/// Lines that a report of a missing one shows.
const REPORTED_LINES: usize = 12;

/// A view of the console; clones see the same lines.
#[derive(Debug, Clone, Default)]
pub struct Console {
    shared: Arc<Shared>,
}

/// Why a line did not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoLine {
    /// Time ran out.
    Timeout,
    /// The console closed.
    Closed,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<String>,
    /// Number of the line at the front of `lines`.
    first: usize,
    closed: bool,
}

impl Console {
    /// Reads `stream` to its end on a thread of its own.
    pub(crate) fn follow(
        &self,
        stream: impl Read + Send + 'static,
        log_file: Option<File>,
        echo: bool,
    ) -> JoinHandle<()> {
        let console = self.clone();
        thread::spawn(move || {
            console.read_lines(stream, log_file, echo);
            console.lock().closed = true;
            console.shared.changed.notify_all();
        })
    }

    /// First line that contains `needle`, among those that came and those that come within `timeout`.
    pub fn wait_for(&self, needle: &str, timeout: Duration) -> Result<String, NoLine> {
        self.wait_for_after(0, needle, timeout)
    }

    /// As [`Console::wait_for`], but of lines from number `mark` on; see [`Console::mark`].
    pub fn wait_for_after(
        &self,
        mark: usize,
        needle: &str,
        timeout: Duration,
    ) -> Result<String, NoLine> {
        let deadline = Instant::now() + timeout;
        let mut next = mark;
        let mut state = self.lock();
        loop {
            let unseen = next.saturating_sub(state.first);
            if let Some(line) = state
                .lines
                .iter()
                .skip(unseen)
                .find(|line| line.contains(needle))
            {
                return Ok(line.clone());
            }
            next = state.first + state.lines.len();
            if state.closed {
                return Err(NoLine::Closed);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(NoLine::Timeout);
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Number of the line that comes next.
    pub fn mark(&self) -> usize {
        let state = self.lock();
        state.first + state.lines.len()
    }

    /// The lines that are kept.
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.iter().cloned().collect()
    }

    /// The last few lines.
    pub fn last_lines(&self) -> Vec<String> {
        let state = self.lock();
        let skipped = state.lines.len().saturating_sub(REPORTED_LINES);
        state.lines.iter().skip(skipped).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn read_lines(&self, mut stream: impl Read, mut log_file: Option<File>, echo: bool) {
        let mut line = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let length = match stream.read(&mut chunk) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) | Err(_) => break,
                Ok(length) => length,
            };
            for &byte in &chunk[..length] {
                if byte != b'\n' {
                    line.push(byte);
                }
                if byte == b'\n' || line.len() == LINE_BYTES {
                    self.end_line(&mut line, log_file.as_mut(), echo);
                }
            }
        }
        if !line.is_empty() {
            self.end_line(&mut line, log_file.as_mut(), echo);
        }
    }

    fn end_line(&self, line: &mut Vec<u8>, log_file: Option<&mut File>, echo: bool) {
        let text = String::from_utf8_lossy(line)
            .trim_end_matches('\r')
            .to_owned();
        line.clear();
        // A full disk or a closed terminal must not stop the guest's console from being read.
        if let Some(file) = log_file {
            let _ = writeln!(file, "{text}");
        }
        if echo {
            let _ = writeln!(io::stdout(), "{text}");
        }
        let mut state = self.lock();
        if state.lines.len() == KEPT_LINES {
            state.lines.pop_front();
            state.first += 1;
        }
        state.lines.push_back(text);
        self.shared.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    const LONG: Duration = Duration::from_secs(10);

    fn followed() -> (Console, UnixStream, JoinHandle<()>) {
        let (guest, host) = UnixStream::pair().unwrap();
        let console = Console::default();
        let reader = console.follow(host, None, false);
        (console, guest, reader)
    }

    #[test]
    fn a_line_is_found_before_and_after_it_comes() {
        let (console, mut guest, reader) = followed();
        guest.write_all(b"ix: kernel up\r\nix: serv").unwrap();
        assert_eq!(
            console.wait_for("kernel up", LONG).unwrap(),
            "ix: kernel up"
        );
        assert_eq!(
            console.wait_for("serving", Duration::from_millis(10)),
            Err(NoLine::Timeout)
        );
        guest.write_all(b"ing 10.9.0.2\n").unwrap();
        assert_eq!(
            console.wait_for("serving", LONG).unwrap(),
            "ix: serving 10.9.0.2"
        );
        drop(guest);
        reader.join().unwrap();
    }

    #[test]
    fn an_unfinished_last_line_is_kept_and_closing_ends_the_wait() {
        let (console, mut guest, reader) = followed();
        guest.write_all(b"ix: panic: half a li").unwrap();
        drop(guest);
        assert_eq!(console.wait_for("never", LONG), Err(NoLine::Closed));
        assert_eq!(console.lines(), ["ix: panic: half a li"]);
        reader.join().unwrap();
    }

    #[test]
    fn a_mark_hides_older_lines() {
        let (console, mut guest, reader) = followed();
        guest.write_all(b"again\n").unwrap();
        console.wait_for("again", LONG).unwrap();
        let mark = console.mark();
        assert_eq!(
            console.wait_for_after(mark, "again", Duration::from_millis(10)),
            Err(NoLine::Timeout)
        );
        guest.write_all(b"and again\n").unwrap();
        assert_eq!(
            console.wait_for_after(mark, "again", LONG).unwrap(),
            "and again"
        );
        drop(guest);
        reader.join().unwrap();
    }

    #[test]
    fn memory_is_bounded_by_lines_and_by_line_length() {
        let (console, mut guest, reader) = followed();
        let flood = "x".repeat(LINE_BYTES + 1) + "\n" + &"y\n".repeat(KEPT_LINES + 5);
        guest.write_all(flood.as_bytes()).unwrap();
        drop(guest);
        reader.join().unwrap();
        assert_eq!(console.lines().len(), KEPT_LINES);
        assert_eq!(console.mark(), KEPT_LINES + 7);
        assert!(console.lines().iter().all(|line| line.len() <= LINE_BYTES));
    }
}
