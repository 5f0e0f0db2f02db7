//! One dataplane as the daemon sees it: its folder, its keeper, its control page.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use ix_api::{Dataplane, Definition, FlowGroup, Kind, Policy, Refusal, State};
use ix_channel::{Command, ControlPage, ThreadReport};

use crate::journal::Reasons;
use crate::keeper::client::{Keeper, KeeperError};
use crate::keeper::protocol::{Phase, Status};
use crate::load::Seen;
use crate::overstays::Overstays;
use crate::past::Past;
use crate::sight::{self, Sight};
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
    pub past: Arc<Mutex<Past>>,
    /// What was said of its overstays.
    pub overstays: Overstays,
    /// When it last grew or shrank, in milliseconds since 1970.
    pub changed_ms: u64,
    /// What the policy saw of its threads the last time.
    pub seen: Seen,
    keeper: Option<Keeper>,
    status: Option<Status>,
    page: Option<Arc<ControlPage>>,
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
            past: Arc::default(),
            overstays: Overstays::default(),
            changed_ms,
            seen: Seen::default(),
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
            let page = ControlPage::open(&self.folder.file("control"));
            self.page = page.ok().map(Arc::new);
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
        sight::reports(self.page.as_deref())
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
        sight::groups(self.page.as_deref())
    }

    /// The elastic threads that serve.
    pub fn serving(&self) -> Vec<usize> {
        let cores = self.placement.cores.iter().enumerate();
        cores
            .filter_map(|(thread, core)| core.map(|_| thread))
            .collect()
    }

    /// The process of its machine, and the thread in it that is the virtual CPU of an elastic thread.
    pub fn vcpu(&self, thread: usize) -> Option<(u32, i32)> {
        let status = self.status.as_ref()?;
        Some((status.vm_pid?, *status.vcpu_threads.get(thread)?))
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

    /// What can be seen of it while somebody changes it.
    pub fn sight(&self) -> Sight {
        Sight {
            view: self.view(),
            page: self.page.clone(),
            past: Arc::clone(&self.past),
        }
    }

    fn header(&self) -> Option<ix_channel::Header> {
        self.page.as_deref().and_then(ControlPage::header)
    }
}
