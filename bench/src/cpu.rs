//! How busy this process was: a client that saturates its core measures itself.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Measures CPU time from its making on.
pub(crate) struct CpuMeter {
    start: Instant,
    cpu_start: Duration,
}

impl CpuMeter {
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
            cpu_start: cpu_time(),
        }
    }

    /// CPU time used per time passed; 1 is one core.
    pub fn share(&self) -> f64 {
        let passed = self.start.elapsed().as_secs_f64();
        (cpu_time() - self.cpu_start).as_secs_f64() / passed.max(1e-9)
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
