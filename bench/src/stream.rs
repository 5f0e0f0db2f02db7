//! Bulk transfer: every connection sends as fast as it can and receives at the same time.

use std::net::Shutdown;
use std::time::Instant;

use mio::{Events, Token};

use crate::connections::{Arrival, Connections, SCRATCH_BYTES, allow_open_files, end_points};
use crate::cpu::CpuMeter;
use crate::error::LoadError;
use crate::options::{self, Side};
use crate::progress::Progress;
use crate::report::StreamReport;
use crate::unacknowledged;

/// Carries out `ixload stream`.
pub fn run(options: &options::Stream) -> Result<StreamReport, LoadError> {
    let count = options.connections.get();
    allow_open_files(count)?;
    let cpu = CpuMeter::start();
    let connections = Connections::open(&options.target, 0, count)?;
    let total = options.bytes.get().checked_mul(count);
    let start = Instant::now();
    let mut transfer = Transfer {
        bytes: options.bytes.get(),
        half_close: options.half_close,
        progress: Progress::start("bytes", total),
        states: vec![State::Sending; connections.all.len()],
        connections,
        scratch: vec![0; SCRATCH_BYTES],
    };
    transfer.run(options)?;
    let seconds = start.elapsed().as_secs_f64();
    let all = &transfer.connections.all;
    let bytes_sent = all.iter().map(|connection| connection.sent).sum::<u64>();
    let bytes_received = all
        .iter()
        .map(|connection| connection.received)
        .sum::<u64>();
    Ok(StreamReport {
        server: options.target.connect,
        connections: count,
        bytes_per_connection: options.bytes.get(),
        bytes_sent,
        bytes_received,
        seconds,
        megabytes_per_second: bytes_sent.max(bytes_received) as f64 / 1e6 / seconds.max(1e-9),
        half_close: options.half_close.map(|side| {
            let name = match side {
                Side::Client => "client",
                Side::Server => "server",
            };
            name.to_owned()
        }),
        client_cpu_share: cpu.share(),
    })
}

struct Transfer {
    bytes: u64,
    half_close: Option<Side>,
    progress: Progress,
    connections: Connections,
    states: Vec<State>,
    scratch: Vec<u8>,
}

/// Where a connection is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Bytes are still to be sent; some may have come back.
    Sending,
    /// Everything is sent, FIN too if it is asked for; bytes or FIN are still to come.
    Receiving,
    /// Everything has come, but the peer may not have acknowledged everything.
    Acknowledging,
    Done,
}

impl Transfer {
    fn run(&mut self, options: &options::Stream) -> Result<(), LoadError> {
        let mut events = Events::with_capacity(1024);
        for index in 0..self.states.len() {
            self.advance(index)?;
        }
        while self.states.iter().any(|&state| state != State::Done) {
            self.connections.wait(&mut events)?;
            for event in &events {
                let Token(index) = event.token();
                self.advance(index)?;
            }
            let now = Instant::now();
            for index in 0..self.states.len() {
                match self.states[index] {
                    State::Done => continue,
                    State::Acknowledging => self.check_acknowledged(index)?,
                    State::Sending | State::Receiving => {}
                }
                let timeout = options.target.timeout;
                self.connections.all[index].check_silence(now, timeout)?;
            }
        }
        Ok(())
    }

    /// Does what one connection can do now.
    fn advance(&mut self, index: usize) -> Result<(), LoadError> {
        // Taking turns keeps both directions full.
        loop {
            let mut is_moving = false;
            if self.states[index] == State::Sending {
                is_moving |= self.send(index)?;
            }
            if self.states[index] != State::Done {
                is_moving |= self.receive(index)?;
            }
            if !is_moving || self.states[index] == State::Done {
                return Ok(());
            }
        }
    }

    fn send(&mut self, index: usize) -> Result<bool, LoadError> {
        let connection = &mut self.connections.all[index];
        let goal = self.bytes.min(connection.sent + SCRATCH_BYTES as u64);
        let count = connection.send_up_to(goal, &mut self.scratch)?;
        if connection.sent == self.bytes {
            if self.half_close.is_some() {
                connection
                    .stream
                    .shutdown(Shutdown::Write)
                    .map_err(|error| connection.broken(error))?;
            }
            self.states[index] = State::Receiving;
        }
        Ok(count > 0)
    }

    fn receive(&mut self, index: usize) -> Result<bool, LoadError> {
        let connection = &mut self.connections.all[index];
        match connection.receive(self.bytes, &mut self.scratch)? {
            Arrival::Nothing => Ok(false),
            Arrival::Bytes { count, .. } => {
                self.progress.add(count as u64);
                let is_whole = connection.received == self.bytes;
                if is_whole && self.half_close.is_none() {
                    self.states[index] = State::Done;
                }
                Ok(true)
            }
            Arrival::End => {
                self.ended(index)?;
                Ok(false)
            }
        }
    }

    /// The server's FIN came.
    fn ended(&mut self, index: usize) -> Result<(), LoadError> {
        let connection = &self.connections.all[index];
        let is_whole = connection.received == self.bytes;
        match (self.half_close, self.states[index]) {
            (Some(Side::Client), State::Receiving) if is_whole => {
                self.states[index] = State::Done;
                Ok(())
            }
            (Some(Side::Server), _) if is_whole => Err(LoadError::NotClosed {
                connection: connection.number,
                expected: self.bytes,
            }),
            (Some(Side::Server), State::Receiving) if connection.received > 0 => {
                self.states[index] = State::Acknowledging;
                Ok(())
            }
            // It goes on sending; every later read says again that the server is done.
            (Some(Side::Server), State::Sending | State::Acknowledging)
                if connection.received > 0 =>
            {
                Ok(())
            }
            _ => Err(connection.closed_early(self.bytes)),
        }
    }

    fn check_acknowledged(&mut self, index: usize) -> Result<(), LoadError> {
        let connection = &self.connections.all[index];
        let failed = |error| connection.broken(error);
        if let Some(error) = connection.stream.take_error().map_err(failed)? {
            return Err(failed(error));
        }
        let unacknowledged = match end_points(&connection.stream) {
            Ok((local, remote)) => unacknowledged::bytes(local, remote).map_err(failed)?,
            // No longer connected, and without an error: closed in order.
            Err(error) if error.kind() == std::io::ErrorKind::NotConnected => 0,
            Err(error) => return Err(failed(error)),
        };
        if unacknowledged == 0 {
            self.states[index] = State::Done;
        }
        Ok(())
    }
}
