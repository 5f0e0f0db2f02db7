//! Under which conditions a run took place: what a reader needs to weigh its numbers.

use std::fs;
use std::thread;

use anyhow::{Context, Result};
use ix_machine::qemu::Qemu;
use serde::Serialize;

/// The host, and what else it did.
#[derive(Clone, Debug, Serialize)]
pub struct Conditions {
    /// Its processor.
    pub processor: String,
    /// Hardware threads.
    pub hardware_threads: usize,
    /// Its kernel.
    pub kernel: String,
    /// The emulator.
    pub qemu: String,
    /// Who executed guests, as soon as one was booted.
    pub accelerator: Option<String>,
    /// Load averages over a minute, before and after: what is above the run's own share is others'.
    pub load_before: f64,
    /// See `load_before`.
    pub load_after: Option<f64>,
}

impl Conditions {
    /// At the beginning of a run.
    pub fn now() -> Result<Self> {
        let kernel = read("/proc/sys/kernel/osrelease")?;
        Ok(Self {
            processor: processor(&read("/proc/cpuinfo")?),
            hardware_threads: thread::available_parallelism()?.get(),
            kernel: kernel.trim().to_owned(),
            qemu: Qemu::locate()?.version.to_string(),
            accelerator: None,
            load_before: load()?,
            load_after: None,
        })
    }

    /// At its end.
    pub fn end(&mut self) -> Result<()> {
        self.load_after = Some(load()?);
        Ok(())
    }
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}

fn load() -> Result<f64> {
    let text = read("/proc/loadavg")?;
    let first = text.split(' ').next().unwrap_or_default();
    first
        .parse()
        .with_context(|| format!("`{text}` is no load"))
}

fn processor(cpuinfo: &str) -> String {
    let name = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    name.map_or("unknown", |name| name.trim_start_matches(['\t', ' ', ':']))
        .to_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Some.
    pub(crate) fn conditions() -> Conditions {
        Conditions {
            processor: "A <fast> one".to_owned(),
            hardware_threads: 2,
            kernel: "6.1".to_owned(),
            qemu: "11.1".to_owned(),
            accelerator: Some("tcg".to_owned()),
            load_before: 0.5,
            load_after: Some(2.5),
        }
    }

    #[test]
    fn the_processor_is_named() {
        let text = "processor\t: 0\nmodel name\t: A Processor @ 2 GHz\nflags\t: fpu\n";
        assert_eq!(processor(text), "A Processor @ 2 GHz");
        assert_eq!(processor(""), "unknown");
    }
}
