//! One dataplane as the daemon sees it: its folder, its keeper, its control page.

use std::path::PathBuf;

use ix_abi::control::ThreadState;
use ix_api::{Dataplane, Definition, FlowGroup, Kind, Policy, Refusal, State, Stats, ThreadStats};
use ix_channel::{Command, ControlPage, ThreadReport};

use crate::journal::Reasons;
use crate::keeper::client::{Keeper, KeeperError};
use crate::keeper::protocol::{Phase, Status};
use crate::overstays::Overstays;
use crate::past::Past;
use crate::store::{Folder, Placement};

/// A dataplane.
#[derive(Debug)]
pub struct Managed {
    /// What it is made of.
    pub definition: Definition,
    /// Where its threads are.
    pub placement: Placement,
    /// Its folder.
    pub folder: Folder,
    /// What it does.
    pub state: State,
    /// How it ended, if it did.
    pub ended: Option<String>,
    /// What its policy decided.
    pub reasons: Reasons,
    /// What it did over the last minutes.
    pub past: Past,
    /// What was said of its overstays.
    pub overstays: Overstays,
    /// When it last grew or shrank, in milliseconds since 1970.
    pub changed_ms: u64,
    /// What the policy saw of each thread the last time: time and idle time, in nanoseconds.
    pub seen: Vec<(u64, u64)>,
    keeper: Option<Keeper>,
    status: Option<Status>,
    page: Option<ControlPage>,
}

impl Managed {
    /// A dataplane whose keeper was just started, or was found.
    pub fn new(definition: Definition, placement: Placement, folder: Folder) -> Managed {
        let changed_ms = placement.started_ms;
        Managed {
            definition,
            placement,
            folder,
            state: State::Starting,
            ended: None,
            reasons: Reasons::default(),
            past: Past::default(),
            overstays: Overstays::default(),
            changed_ms,
            seen: Vec::new(),
            keeper: None,
            status: None,
            page: None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.definition.name
    }

    /// Its policy.
    pub fn policy(&self) -> &Policy {
        &self.placement.policy
    }

    /// Looks after its keeper, and says what it does now.
    pub fn refresh(&mut self) -> State {
        if self.state == State::Ended {
            return State::Ended;
        }
        if !self.folder.is_kept() {
            self.state = self.without_keeper();
            return self.state;
        }
        match self.with_keeper(Keeper::status) {
            Ok(status) => self.status = Some(status),
            // It has just begun, or is about to end; the lock tells.
            Err(refusal) => log::debug!("{}", refusal.reason),
        }
        if self.page.is_none() {
            self.page = ControlPage::open(&self.folder.file("control")).ok();
        }
        let is_up = self.header().is_some();
        let is_running = self
            .status
            .as_ref()
            .is_some_and(|status| status.phase == Phase::Running);
        self.state = if is_up && is_running {
            State::Running
        } else {
            State::Starting
        };
        self.state
    }

    /// A keeper that was just started may not hold its lock yet.
    fn without_keeper(&mut self) -> State {
        const PATIENCE_MS: u64 = 5_000;
        let age_ms = crate::now_ms().saturating_sub(self.placement.started_ms);
        let end = self.folder.end();
        if end.is_none() && self.status.is_none() && age_ms < PATIENCE_MS {
            return State::Starting;
        }
        self.keeper = None;
        self.ended = Some(match end {
            Some(end) => end.report,
            None => "its keeper was killed, and its machine with it".to_owned(),
        });
        State::Ended
    }

    /// The connection to its keeper, a new one if the last one broke.
    fn keeper(&mut self) -> Result<&mut Keeper, KeeperError> {
        let keeper = match self.keeper.take() {
            Some(keeper) => keeper,
            None => Keeper::connect(&self.folder)?,
        };
        Ok(self.keeper.insert(keeper))
    }

    /// Asks the keeper for something; a broken connection is given up.
    pub fn with_keeper<T>(
        &mut self,
        ask: impl FnOnce(&mut Keeper) -> Result<T, KeeperError>,
    ) -> Result<T, Refusal> {
        let name = self.definition.name.clone();
        let result = self.keeper().and_then(ask);
        if matches!(result, Err(KeeperError::Unreachable(_))) {
            self.keeper = None;
        }
        result.map_err(|error| {
            let kind = match error {
                KeeperError::Refused(_) => Kind::Conflict,
                _ => Kind::Failed,
            };
            let remedy = format!("`ixctl logs {name}` may say more");
            Refusal::new(kind, format!("{name}: {error}"), remedy)
        })
    }

    /// Has an elastic thread execute a command.
    pub fn command(&mut self, thread: usize, command: Command) -> Result<(), Refusal> {
        self.with_keeper(|keeper| keeper.command(thread, command))
    }

    /// Refuses unless it serves.
    pub fn must_run(&self) -> Result<(), Refusal> {
        let why = match self.state {
            State::Running => return Ok(()),
            State::Starting => "is still starting",
            State::Ended => "has ended",
        };
        Err(Refusal::new(
            Kind::Conflict,
            format!("{} {why}", self.name()),
            "`ixctl ps` shows what it does",
        ))
    }

    /// What the kernel says of all its threads; none as long as it has not come up.
    pub fn reports(&self) -> Vec<ThreadReport> {
        let Some(page) = &self.page else {
            return Vec::new();
        };
        let threads = page.header().map_or(0, |header| header.threads);
        (0..threads)
            .filter_map(|index| page.thread(index))
            .collect()
    }

    /// The owners of all flow groups.
    pub fn owners(&self) -> Vec<u8> {
        self.groups()
            .iter()
            .map(|group| group.thread as u8)
            .collect()
    }

    /// All flow groups.
    pub fn groups(&self) -> Vec<FlowGroup> {
        let Some((page, header)) = self.page.as_ref().zip(self.header()) else {
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

    /// The elastic threads that serve.
    pub fn serving(&self) -> Vec<usize> {
        let cores = self.placement.cores.iter().enumerate();
        cores
            .filter_map(|(thread, core)| core.map(|_| thread))
            .collect()
    }

    /// Where its wire can be listened to and changed.
    pub fn wire_socket(&self) -> Result<PathBuf, Refusal> {
        self.must_run()?;
        let status = self.status.as_ref();
        let socket = status.and_then(|status| status.wire_socket.clone());
        socket.ok_or_else(|| {
            Refusal::new(
                Kind::Conflict,
                format!("{} has no wire", self.name()),
                "run it with the model that `ixnicd` serves, `nic = \"82599\"`",
            )
        })
    }

    /// What a user sees of it.
    pub fn view(&self) -> Dataplane {
        let status = self.status.as_ref();
        Dataplane {
            name: self.definition.name.clone(),
            state: self.state,
            ended: self.ended.clone(),
            app: self.definition.app.clone(),
            ip: self.definition.ip.clone(),
            threads: self.definition.threads,
            cores: self.placement.cores.clone(),
            background: self.placement.background,
            absent: (0..)
                .zip(self.reports())
                .filter_map(|(thread, report)| report.is_absent.then_some(thread))
                .collect(),
            policy: self.placement.policy.mode,
            accel: status.and_then(|status| status.accel.clone()),
            netns: status.and_then(|status| status.netns.clone()),
            keeper_pid: self.keeper.as_ref().map(|keeper| keeper.pid),
            vm_pid: status.and_then(|status| status.vm_pid),
            started_ms: self.placement.started_ms,
        }
    }

    /// Takes a sample of its numbers, once in a while.
    pub fn remember(&mut self) {
        let now_ms = crate::now_ms();
        if self.past.is_due(now_ms) {
            self.past.add(now_ms, self.stats());
        }
    }

    /// Its numbers.
    pub fn stats(&self) -> Stats {
        let reports = self.reports();
        let threads = reports.iter().enumerate();
        Stats {
            threads: threads
                .map(|(index, report)| stats(index, report))
                .collect(),
        }
    }

    fn header(&self) -> Option<ix_channel::Header> {
        self.page.as_ref().and_then(ControlPage::header)
    }
}

fn stats(index: usize, report: &ThreadReport) -> ThreadStats {
    ThreadStats {
        thread: index as u32,
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
