//! What can be seen of dataplanes while somebody changes them, which may take long: the controller's last
//! word on each, and its control page, on which threads say at any moment how they are.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use ix_abi::control::ThreadState;
use ix_api::{CoreMap, Dataplane, FlowGroup, History, Refusal, State, Stats, ThreadStats};
use ix_channel::{ControlPage, ThreadReport};

use crate::controller::absent;
use crate::now_ms;
use crate::past::Past;

/// How often it is asked whether a sample is due.
const SAMPLER_PERIOD: Duration = Duration::from_millis(100);

/// What everybody may look at, at any time.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<RwLock<Arc<Sights>>>);

impl Board {
    /// What is to be seen from now on.
    pub fn show(&self, sights: Sights) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(sights);
    }

    /// What is to be seen.
    pub fn look(&self) -> Arc<Sights> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes samples of all dataplanes, on a thread of its own, until the process ends.
    pub fn spawn_sampler(&self) {
        let board = self.clone();
        thread::spawn(move || {
            loop {
                board.look().dataplanes.iter().for_each(Sight::remember);
                thread::sleep(SAMPLER_PERIOD);
            }
        });
    }
}

/// The machine and all dataplanes.
#[derive(Debug, Default)]
pub struct Sights {
    /// The machine's hardware threads.
    pub cores: CoreMap,
    /// All dataplanes.
    pub dataplanes: Vec<Sight>,
}

impl Sights {
    /// A dataplane.
    pub fn get(&self, name: &str) -> Result<&Sight, Refusal> {
        let mut all = self.dataplanes.iter();
        all.find(|sight| sight.view.name == name)
            .ok_or_else(|| absent(name))
    }
}

/// One dataplane.
#[derive(Debug)]
pub struct Sight {
    /// The controller's last word on it.
    pub view: Dataplane,
    /// Its control page, once there is one.
    pub page: Option<Arc<ControlPage>>,
    /// What it did over the last minutes.
    pub past: Arc<Mutex<Past>>,
}

impl Sight {
    /// Its flow groups.
    pub fn groups(&self) -> Vec<FlowGroup> {
        groups(self.page.as_deref())
    }

    /// Its numbers.
    pub fn stats(&self) -> Stats {
        let reports = reports(self.page.as_deref());
        let threads = (0..).zip(&reports);
        Stats {
            threads: threads
                .map(|(index, report)| thread_stats(index, report))
                .collect(),
        }
    }

    /// The samples taken after `after_ms`.
    pub fn history(&self, after_ms: u64) -> History {
        self.past().since(after_ms)
    }

    /// Takes a sample of its numbers, once in a while.
    fn remember(&self) {
        let now_ms = now_ms();
        let mut past = self.past();
        if self.view.state == State::Running && past.is_due(now_ms) {
            past.add(now_ms, self.stats());
        }
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the kernel says on its page of all its threads; none as long as it has not come up.
pub fn reports(page: Option<&ControlPage>) -> Vec<ThreadReport> {
    let Some(page) = page else {
        return Vec::new();
    };
    let threads = page.header().map_or(0, |header| header.threads);
    (0..threads)
        .filter_map(|index| page.thread(index))
        .collect()
}

/// The flow groups on that page.
pub fn groups(page: Option<&ControlPage>) -> Vec<FlowGroup> {
    let Some((page, header)) = page.and_then(|page| Some((page, page.header()?))) else {
        return Vec::new();
    };
    let group = |index: usize| {
        let group = page.group(index)?;
        Some(FlowGroup {
            group: index as u32,
            thread: u32::from(group.owner),
            frames: group.frames,
        })
    };
    (0..header.groups).filter_map(group).collect()
}

fn thread_stats(index: u32, report: &ThreadReport) -> ThreadStats {
    ThreadStats {
        thread: index,
        state: match report.state {
            ThreadState::Running => "running",
            ThreadState::Parked => "parked",
            ThreadState::Absent => "absent",
        }
        .to_owned(),
        now_ns: report.now_ns,
        cycles: report.cycles,
        busy_cycles: report.busy_cycles,
        rounds: report.rounds,
        events: report.events,
        calls: report.calls,
        rx_frames: report.rx_frames,
        rx_bytes: report.rx_bytes,
        tx_frames: report.tx_frames,
        tx_bytes: report.tx_bytes,
        connections: report.connections,
        mbufs_free: report.mbufs_free,
        idle_ns: report.idle_ns,
        user_ns: report.user_ns,
        batch: report.batch,
        queue_depth: report.queue_depth,
        loop_ns: report.loop_ns,
        rx_missed: report.rx_missed,
        rx_errors: report.rx_errors,
        rx_no_buffers: report.rx_no_buffers,
        tx_drops: report.tx_drops,
        retransmits: report.retransmits,
        migrated_in: report.migrated_in,
        migrated_out: report.migrated_out,
        parked_frames: report.parked_frames,
        refused: report.refused,
        overstays: report.overstays,
        is_absent: report.is_absent,
    }
}
