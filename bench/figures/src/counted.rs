//! A Linux guest whose instructions are counted, as `ix-insns` counts those of the dataplane.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use ix_insns::exchange::Application;
use ix_insns::run::{self, Clock};
use ix_insns::sample::{Counts, KERNEL_HALF, Sampler};
use ix_linux_guest::LinuxGuest;
use ix_machine::{Machine, MachineConfig};
use tempfile::TempDir;

use crate::bed::{serve, tuned_linux};

/// How long the plugin may take to answer.
const SAMPLER_TIMEOUT: Duration = Duration::from_secs(10);

/// How often the same is counted.
pub const WINDOWS: usize = 3;

/// Guest instructions by mode.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Parts {
    /// Of the kernel.
    pub kernel: f64,
    /// Of programs.
    pub user: f64,
}

impl Parts {
    /// Of each of so many requests.
    fn of(counts: &Counts, requests: u64) -> Self {
        let in_kernel = counts.iter().filter(|(address, _)| *address >= KERNEL_HALF);
        let kernel: u64 = in_kernel.map(|(_, count)| count).sum();
        let of_one = |count: u64| count as f64 / requests as f64;
        Self {
            kernel: of_one(kernel),
            user: of_one(counts.total() - kernel),
        }
    }

    /// Of both.
    pub fn total(self) -> f64 {
        self.kernel + self.user
    }
}

/// A tuned Linux guest with the plugin in it. It halts when idle, so that there are no polls to take out.
pub struct CountedLinux {
    guest: LinuxGuest,
    sampler: Sampler,
    /// Of the plugin's socket.
    _folder: TempDir,
}

impl CountedLinux {
    /// Boots it, after `change` has had its way with its machine.
    pub fn boot(plugin: &Path, change: impl FnOnce(&mut MachineConfig)) -> Result<Self> {
        let folder =
            tempfile::tempdir().context("cannot create a folder for the plugin's socket")?;
        let socket = folder.path().join("insns");
        let arguments = run::counting_args(plugin, &socket, Clock::InstructionsUnlessHalted)?;
        let guest = tuned_linux(|config| {
            config.qemu_args.extend(arguments);
            change(config);
        })?;
        Ok(Self {
            guest,
            sampler: Sampler::connect(&socket, SAMPLER_TIMEOUT).context("the plugin is silent")?,
            _folder: folder,
        })
    }

    /// The same, with the echo server running, whose address is returned.
    pub fn boot_echo(
        plugin: &Path,
        change: impl FnOnce(&mut MachineConfig),
    ) -> Result<(Self, SocketAddr)> {
        let mut linux = Self::boot(plugin, change)?;
        let server = linux.serve(Application::Echo)?;
        Ok((linux, server))
    }

    /// Starts a server and returns its address.
    pub fn serve(&mut self, application: Application) -> Result<SocketAddr> {
        serve(&mut self.guest, application)?;
        Ok((self.guest.address(), application.port()).into())
    }

    /// The guest.
    pub fn guest(&mut self) -> &mut LinuxGuest {
        &mut self.guest
    }

    /// Its machine.
    pub fn machine(&self) -> &Machine {
        self.guest.machine()
    }

    /// Guest instructions of each of `requests`, which `act` makes: once to warm up, then once in each window.
    pub fn count(
        &mut self,
        requests: u64,
        mut act: impl FnMut(&Machine) -> Result<()>,
    ) -> Result<[Parts; WINDOWS]> {
        act(self.guest.machine())?;
        let mut windows = [Parts::default(); WINDOWS];
        let mut before = self.sampler.sample()?;
        for window in &mut windows {
            act(self.guest.machine())?;
            let after = self.sampler.sample()?;
            *window = Parts::of(&after.since(&before), requests);
            before = after;
        }
        Ok(windows)
    }

    /// Ends it.
    pub fn stop(self) -> Result<()> {
        self.guest.try_stop()
    }
}
