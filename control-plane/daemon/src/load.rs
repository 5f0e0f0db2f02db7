//! How a dataplane is doing, as its policy sees it: by what its threads report, and by how long the host
//! made their virtual CPUs wait for a processor.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use ix_channel::ThreadReport;
use ix_policy::{Load, trace};

use crate::dataplane::Managed;
use crate::now_ms;

/// Averages of the control page: the horizon at which clients notice, and that of habits.
const SHORT: usize = 1;
const LONG: usize = 2;

/// Over about this time the host's delays are averaged: a look may fall between two of them.
const DELAY_HORIZON: Duration = Duration::from_secs(2);

/// What was seen of the threads the last time.
#[derive(Debug, Default)]
pub struct Seen {
    threads: Vec<Then>,
    at: Option<Instant>,
    /// Average part of the time in which the host let them wait.
    delayed: f64,
}

/// Sums of one thread at that time.
#[derive(Debug, Clone, Default)]
struct Then {
    now_ns: u64,
    idle_ns: u64,
    run_delay_ns: Option<u64>,
}

/// How a dataplane is doing, since the last look at it.
pub fn observe(managed: &mut Managed) -> Load {
    let serving = managed.serving();
    let reports = managed.reports();
    let mut seen = std::mem::take(&mut managed.seen);
    seen.threads.resize(reports.len(), Then::default());
    let at = Instant::now();
    let elapsed = seen.at.replace(at).map_or(Duration::ZERO, |then| at - then);
    let mut load = Load {
        name: managed.name().to_owned(),
        policy: managed.policy().clone(),
        threads: managed.definition.threads,
        granted: serving.len() as u32,
        queue_short: 0.0,
        queue_long: 0.0,
        loop_us: 0.0,
        busy: 0.0,
        delayed: 0.0,
        since_change_ms: now_ms().saturating_sub(managed.changed_ms),
    };
    for thread in serving {
        let Some(report) = reports.get(thread) else {
            continue;
        };
        let run_delay_ns = managed
            .vcpu(thread)
            .and_then(|(process, vcpu)| run_delay_ns(process, vcpu));
        let then = &mut seen.threads[thread];
        let before = then.run_delay_ns.take();
        then.run_delay_ns = run_delay_ns;
        if let (Some(before), Some(after)) = (before, run_delay_ns)
            && !elapsed.is_zero()
        {
            let waited_ns = after.saturating_sub(before) as f64;
            load.delayed += part(waited_ns, elapsed.as_nanos() as f64);
        }
        add(&mut load, then, report);
    }
    let threads = f64::from(load.granted.max(1));
    for sum in [
        &mut load.busy,
        &mut load.delayed,
        &mut load.queue_short,
        &mut load.queue_long,
    ] {
        *sum /= threads;
    }
    seen.delayed = averaged(seen.delayed, load.delayed, elapsed);
    load.delayed = seen.delayed;
    managed.seen = seen;
    load
}

/// An average that `now` has joined, which held for the time that has elapsed.
fn averaged(before: f64, now: f64, elapsed: Duration) -> f64 {
    let old = (-elapsed.as_secs_f64() / DELAY_HORIZON.as_secs_f64()).exp();
    before * old + now * (1.0 - old)
}

/// Adds what a thread reports.
fn add(load: &mut Load, then: &mut Then, report: &ThreadReport) {
    let elapsed_ns = report.now_ns.saturating_sub(then.now_ns);
    let idle_ns = report.idle_ns.saturating_sub(then.idle_ns);
    (then.now_ns, then.idle_ns) = (report.now_ns, report.idle_ns);
    if elapsed_ns == 0 {
        // It has halted all the time, and wrote nothing.
        return;
    }
    load.busy += 1.0 - part(idle_ns as f64, elapsed_ns as f64);
    load.queue_short += report.queue_depth[SHORT];
    load.queue_long += report.queue_depth[LONG];
    load.loop_us = load.loop_us.max(report.loop_ns[SHORT] / 1_000.0);
}

fn part(of: f64, whole: f64) -> f64 {
    (of / whole).clamp(0.0, 1.0)
}

/// How long a thread of a process could have run and did not, since it began: the second number of its
/// `schedstat` (Linux, Documentation/scheduler/sched-stats.rst). `None` if it is gone, or if Linux was
/// built without.
fn run_delay_ns(process: u32, thread: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/task/{thread}/schedstat")).ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Appends what a policy sees to a file.
pub fn record(file: &Path, load: &Load, free: usize) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    if file.metadata()?.len() == 0 {
        file.write_all(trace::header(load).as_bytes())?;
    }
    file.write_all(trace::line(now_ms(), free, load).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::thread;

    #[test]
    fn a_thread_that_has_to_wait_for_its_processor_is_delayed() {
        let cpus = rustix::thread::sched_getaffinity(None).unwrap();
        let first = (0..rustix::thread::CpuSet::MAX_CPU).find(|id| cpus.is_set(*id));
        let mut one = rustix::thread::CpuSet::new();
        one.set(first.unwrap());
        let over = AtomicBool::new(false);
        let (sender, threads) = mpsc::channel();
        thread::scope(|scope| {
            // Both want the same processor all the time, so that each waits for the other.
            for sender in [sender.clone(), sender] {
                let (over, one) = (&over, &one);
                scope.spawn(move || {
                    rustix::thread::sched_setaffinity(None, one).unwrap();
                    let own = rustix::thread::gettid().as_raw_nonzero().get();
                    sender.send(own).unwrap();
                    while !over.load(Ordering::Relaxed) {
                        std::hint::spin_loop();
                    }
                });
            }
            let deadline = Instant::now() + Duration::from_secs(60);
            let was_delayed = threads.iter().take(2).all(|thread| {
                // Where Linux does not count it, there is nothing to see.
                let delay = || run_delay_ns(std::process::id(), thread);
                let before = delay();
                while before.is_some() && delay() <= before {
                    if Instant::now() > deadline {
                        return false;
                    }
                    thread::sleep(Duration::from_millis(1));
                }
                true
            });
            over.store(true, Ordering::Relaxed);
            assert!(was_delayed);
        });
        assert_eq!(run_delay_ns(std::process::id(), i32::MAX), None);
    }

    #[test]
    fn a_moment_without_delay_does_not_end_the_average() {
        let moment = Duration::from_millis(100);
        let delayed = averaged(0.5, 0.0, moment);
        assert!((0.45..0.5).contains(&delayed), "{delayed}");
        let delayed = (0..100).fold(delayed, |average, _| averaged(average, 0.0, moment));
        assert!(delayed < 0.01, "{delayed}");
    }

    #[test]
    fn what_is_recorded_can_be_replayed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("loads.csv");
        let mut load = Load {
            name: "a".to_owned(),
            policy: ix_api::Policy::default(),
            threads: 4,
            granted: 2,
            queue_short: 1.5,
            queue_long: 0.25,
            loop_us: 12.0,
            busy: 0.5,
            delayed: 0.125,
            since_change_ms: 7,
        };
        record(&file, &load, 3).unwrap();
        load.granted = 3;
        record(&file, &load, 2).unwrap();
        let trace = trace::parse(&fs::read_to_string(&file).unwrap()).unwrap();
        let granted: Vec<u32> = trace.iter().map(|sample| sample.load.granted).collect();
        assert_eq!(granted, [2, 3]);
        assert_eq!(trace[1].free, 2);
        assert_eq!(trace[1].load.policy, load.policy);
    }
}
