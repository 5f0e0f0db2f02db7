//! Steps of a task: each says what it does, shows a sign of life when it takes long, and ends with the
//! time that it took.

use std::io::{self, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

/// First sign of life, and then every so often.
const FIRST_SIGN: Duration = Duration::from_secs(2);
const NEXT_SIGN: Duration = Duration::from_secs(5);
const DETAIL_CHARS: usize = 70;

/// A running step.
#[derive(Debug)]
pub struct Step {
    name: String,
    started: Instant,
    detail: Arc<Mutex<String>>,
    ticker: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Step {
    /// Runs `work`, which returns its result and how it went in a few words.
    pub fn run<T>(
        name: impl Into<String>,
        work: impl FnOnce(&Step) -> Result<(T, String)>,
    ) -> Result<T> {
        let mut step = Step {
            name: name.into(),
            started: Instant::now(),
            detail: Arc::default(),
            ticker: None,
        };
        step.tick();
        let result = work(&step);
        step.stop_ticking();
        let seconds = step.started.elapsed().as_secs_f64();
        match result {
            Ok((value, how)) => {
                say(&format!("{}: {how} ({seconds:.1} s)", step.name));
                Ok(value)
            }
            Err(error) => {
                say(&format!("{}: failed ({seconds:.1} s)", step.name));
                Err(error)
            }
        }
    }

    /// What it is at just now, for the next sign of life.
    pub fn at(&self, detail: &str) {
        let detail = detail.trim();
        if !detail.is_empty() {
            *self.detail.lock().unwrap_or_else(PoisonError::into_inner) =
                detail.chars().take(DETAIL_CHARS).collect();
        }
    }

    fn tick(&mut self) {
        let (stop, stopped) = mpsc::channel();
        let (name, detail, started) = (self.name.clone(), Arc::clone(&self.detail), self.started);
        let ticker = thread::spawn(move || {
            let mut pause = FIRST_SIGN;
            while stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let detail = detail
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone();
                say(&format!(
                    "{name}: {} s ... {detail}",
                    started.elapsed().as_secs()
                ));
                pause = NEXT_SIGN;
            }
        });
        self.ticker = Some((stop, ticker));
    }

    fn stop_ticking(&mut self) {
        if let Some((stop, ticker)) = self.ticker.take() {
            drop(stop);
            // It has nothing to return.
            let _ = ticker.join();
        }
    }
}

/// Prints a line of progress. A closed terminal is no reason to stop working.
pub fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}
