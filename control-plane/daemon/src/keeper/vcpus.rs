//! Virtual CPUs are threads of QEMU's process: which ones, and where they run.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, anyhow};
use ix_machine::Machine;
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::{Value, json};

/// Binds virtual CPU `n` to the hardware threads in `vcpus[n]`, and all other threads of the machine's
/// processes to `rest`.
pub fn pin(machine: &Machine, vcpus: &[Vec<u32>], rest: &[u32]) -> Result<()> {
    let threads = threads(machine)?;
    for (thread, hardware) in threads.iter().zip(vcpus) {
        bind(*thread, hardware)?;
    }
    let (vm, nic) = machine.pids();
    let known: BTreeSet<i32> = threads.into_iter().collect();
    for process in [Some(vm), nic].into_iter().flatten() {
        for thread in threads_of(process)?.difference(&known) {
            bind(*thread, rest)?;
        }
    }
    Ok(())
}

/// The threads of the virtual CPUs, by their numbers.
pub fn threads(machine: &Machine) -> Result<Vec<i32>> {
    let answer = machine.qmp("query-cpus-fast", json!({}))?;
    thread_ids(&answer).ok_or_else(|| anyhow!("QEMU lists no virtual CPUs"))
}

/// The threads of the virtual CPUs, by their numbers, from QEMU's answer to `query-cpus-fast`.
fn thread_ids(answer: &Value) -> Option<Vec<i32>> {
    let mut cpus = Vec::new();
    for cpu in answer.as_array()? {
        let index = cpu.get("cpu-index")?.as_u64()?;
        let thread = i32::try_from(cpu.get("thread-id")?.as_i64()?).ok()?;
        cpus.push((index, thread));
    }
    cpus.sort_unstable();
    Some(cpus.into_iter().map(|(_, thread)| thread).collect())
}

fn threads_of(process: u32) -> Result<BTreeSet<i32>> {
    let folder = format!("/proc/{process}/task");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

/// A thread that has just ended needs no place.
fn bind(thread: i32, hardware: &[u32]) -> Result<()> {
    let mut set = CpuSet::new();
    for id in hardware {
        let id = usize::try_from(*id).ok();
        let id = id.filter(|id| *id < CpuSet::MAX_CPU);
        set.set(id.ok_or_else(|| anyhow!("a hardware thread beyond {}", CpuSet::MAX_CPU))?);
    }
    let pid = Pid::from_raw(thread).ok_or_else(|| anyhow!("thread 0 cannot be bound"))?;
    match sched_setaffinity(Some(pid), &set) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| {
            format!("cannot bind thread {thread} to hardware threads {hardware:?}")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_cpus_are_ordered_by_number() {
        let answer = json!([
            {"cpu-index": 1, "thread-id": 500, "qom-path": "/machine/b"},
            {"cpu-index": 0, "thread-id": 700, "qom-path": "/machine/a"},
        ]);
        assert_eq!(thread_ids(&answer), Some(vec![700, 500]));
        assert_eq!(thread_ids(&json!({})), None);
        assert_eq!(thread_ids(&json!([{"cpu-index": 0}])), None);
    }

    #[test]
    fn a_thread_is_bound_and_one_that_is_gone_is_no_error() {
        let own = rustix::thread::gettid().as_raw_nonzero().get();
        let before = rustix::thread::sched_getaffinity(None).unwrap();
        let first = (0..1024).find(|id| before.is_set(*id)).unwrap();
        bind(own, &[first as u32]).unwrap();
        let bound = rustix::thread::sched_getaffinity(None).unwrap();
        assert_eq!(bound.count(), 1);
        sched_setaffinity(None, &before).unwrap();
        bind(i32::MAX, &[first as u32]).unwrap();
        assert!(bind(own, &[100_000]).is_err());
    }
}
