//! Saturation, made exact: the guest is held while the requests of a round arrive in its ring, so
//! that it finds all of them whenever it looks.
//!
//! Left to itself, a guest that is faster than the client and the NIC model together finds a batch of
//! any size, as the host's scheduler has it, and what a request costs depends on that.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ix_machine::Machine;
use ix_machine::command::TAP;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

/// The NIC model takes this long for the requests of a round at most, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// From the model's reading a frame to its writing it to the guest's memory. Far longer than needed.
const DELIVERY: Duration = Duration::from_micros(500);

/// A machine whose QEMU stands still; it goes on when this is dropped.
pub struct Held<'a> {
    machine: &'a Machine,
    qemu: Pid,
    frames_before: u64,
}

impl<'a> Held<'a> {
    /// Stops the machine's processors. The NIC model goes on.
    pub fn stop(machine: &'a Machine) -> Result<Self> {
        let qemu = i32::try_from(machine.pids().0).ok().and_then(Pid::from_raw);
        let qemu = qemu.context("QEMU has no process id")?;
        kill_process(qemu, Signal::STOP).context("cannot stop QEMU")?;
        let mut held = Self {
            machine,
            qemu,
            frames_before: 0,
        };
        // Its threads stop one after the other; QEMU is this process's child.
        waitid(WaitId::Pid(qemu), WaitIdOptions::STOPPED)
            .context("cannot wait for QEMU to stop")?;
        held.frames_before = frames_taken(machine)?;
        Ok(held)
    }

    /// Frames from now on are those that [`Held::release_after`] waits for.
    pub fn count_from_now(&mut self) -> Result<()> {
        self.frames_before = frames_taken(self.machine)?;
        Ok(())
    }

    /// Waits until the NIC model has taken `frames` frames from the wire since the stop, and lets
    /// the machine go on.
    pub fn release_after(self, frames: u64) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while frames_taken(self.machine)? < self.frames_before + frames {
            ensure!(Instant::now() < deadline, "the NIC model takes no frames");
            thread::sleep(Duration::from_micros(200));
        }
        thread::sleep(DELIVERY);
        Ok(())
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // It fails only if QEMU has ended, and then nothing needs to go on.
        let _ = kill_process(self.qemu, Signal::CONT);
    }
}

/// Frames that the NIC model has read from the TAP: Linux counts them as sent when it reads them.
fn frames_taken(machine: &Machine) -> Result<u64> {
    let namespace = machine.netns().context("the machine has no wire")?;
    let table = namespace.run(|| fs::read_to_string("/proc/thread-self/net/dev"))??;
    sent_packets(&table, TAP).with_context(|| format!("no counters of {TAP} in {table}"))
}

/// Column 10 of the interface's line in `/proc/net/dev` (proc_pid_net(5)).
fn sent_packets(table: &str, interface: &str) -> Option<u64> {
    let mut lines = table
        .lines()
        .filter_map(|line| line.trim_start().split_once(':'));
    let (_, counters) = lines.find(|(name, _)| *name == interface)?;
    counters.split_whitespace().nth(9)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::sent_packets;

    #[test]
    fn sent_packets_are_found_in_their_column() {
        let table = "Inter-|   Receive    |  Transmit\n face |bytes    packets errs ...\n\
                     \x20   lo:  1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n\
                     \x20  ix0: 10 11 0 0 0 0 0 0 12 13 0 0 0 0 0 0\n";
        assert_eq!(sent_packets(table, "ix0"), Some(13));
        assert_eq!(sent_packets(table, "lo"), Some(4));
        assert_eq!(sent_packets(table, "ix"), None);
    }
}
