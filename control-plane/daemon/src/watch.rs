//! What happens without being asked for: dataplanes come up and end, and policies decide.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use ix_abi::control::ThreadState;
use ix_api::{Action, Decision, EventKind, Mode, State};
use ix_policy::{Load, Verdict, decide};

use crate::controller::{Controller, holder};
use crate::load;
use crate::now_ms;

/// Looks after all dataplanes once in a `period`, on a thread of its own, until the process ends.
pub fn spawn(controller: Arc<Mutex<Controller>>, period: Duration) {
    thread::spawn(move || {
        loop {
            {
                let mut controller = controller.lock().unwrap_or_else(PoisonError::into_inner);
                controller.look_after();
                controller.apply_policies();
                controller.show();
            }
            thread::sleep(period);
        }
    });
}

impl Controller {
    /// Notices which dataplanes have come up or ended.
    pub fn look_after(&mut self) {
        let names: Vec<String> = self
            .dataplanes
            .iter()
            .map(|it| it.name().to_owned())
            .collect();
        for name in names {
            let Ok(managed) = self.get_mut(&name) else {
                continue;
            };
            let before = managed.state;
            let now = managed.refresh();
            match (before, now) {
                (State::Starting, State::Running) => self.on_running(&name),
                (State::Starting | State::Running, State::Ended) => self.on_ended(&name),
                _ => {}
            }
            if now == State::Running {
                self.reconcile(&name);
                self.report_overstays(&name);
            }
        }
    }

    fn on_running(&mut self, name: &str) {
        if let Err(refusal) = self.pin(name) {
            self.journal.record(EventKind::Failed, name, refusal.reason);
        }
        let serving = self.get(name).map_or(0, |managed| managed.serving().len());
        let text = format!("serves on {serving} hardware threads");
        self.journal.record(EventKind::Running, name, text);
    }

    fn on_ended(&mut self, name: &str) {
        self.assignment.release_all(name);
        let how = self
            .get(name)
            .ok()
            .and_then(|managed| managed.ended.clone());
        let text = format!("ended: {}", how.unwrap_or_default());
        self.journal.record(EventKind::Ended, name, text);
    }

    fn report_overstays(&mut self, name: &str) {
        let Ok(managed) = self.get_mut(name) else {
            return;
        };
        let reports = managed.reports();
        let threads: Vec<(u64, bool)> = reports
            .iter()
            .map(|report| (report.overstays, report.is_absent))
            .collect();
        if let Some(text) = managed.overstays.news(&threads, now_ms()) {
            self.journal.record(EventKind::Overstayed, name, text);
        }
    }

    /// Makes the assignment agree with what the threads do, should a daemon have died halfway through
    /// a grant or a revoke.
    fn reconcile(&mut self, name: &str) {
        let Ok(managed) = self.get(name) else { return };
        let states: Vec<ThreadState> = managed.reports().iter().map(|it| it.state).collect();
        let cores = managed.placement.cores.clone();
        for (thread, (state, core)) in states.into_iter().zip(cores).enumerate() {
            let result = match (state, core) {
                (ThreadState::Parked, Some(_)) => self.unplace(name, thread),
                (ThreadState::Running, None) => self.place_running(name, thread),
                _ => continue,
            };
            if let Err(refusal) = result {
                log::warn!("{name}: thread {thread}: {}", refusal.reason);
            }
        }
    }

    fn place_running(&mut self, name: &str, thread: usize) -> Result<(), ix_api::Refusal> {
        let next = self.assignment.next_for(name);
        let core = next.ok_or_else(|| self.assignment.over_asked(1))?;
        self.assignment.take(core, holder(name, thread))?;
        self.get_mut(name)?.placement.cores[thread] = Some(core);
        self.save(name)?;
        self.pin(name)
    }

    /// Lets policies decide, and does what they say.
    pub fn apply_policies(&mut self) {
        let running = self.dataplanes.iter_mut();
        let loads: Vec<Load> = running
            .filter(|managed| managed.state == State::Running)
            .map(load::observe)
            .collect();
        let free = self.assignment.free();
        if self.records_loads {
            self.record(&loads, free);
        }
        let verdicts = decide(&loads, free);
        for (load, verdict) in loads.iter().zip(verdicts) {
            if matches!(load.policy.mode, Mode::Elastic | Mode::Fair) {
                self.obey(load, verdict);
            }
        }
    }

    /// Writes down what policies see, to be replayed.
    fn record(&self, loads: &[Load], free: usize) {
        for load in loads {
            let Ok(managed) = self.get(&load.name) else {
                continue;
            };
            let file = managed.folder.file("loads.csv");
            if let Err(error) = load::record(&file, load, free) {
                log::warn!("{}: cannot record its load: {error}", load.name);
            }
        }
    }

    fn obey(&mut self, load: &Load, verdict: Verdict) {
        let name = load.name.as_str();
        let result = match verdict.action {
            Action::Grow => self.grant_one(name, None),
            Action::Shrink => self.revoke_one(name, None),
            Action::Keep => Ok(()),
        };
        let mut reason = verdict.reason;
        if let Err(refusal) = result {
            reason = format!("{reason}; not done: {}", refusal.reason);
            self.journal.record(EventKind::Failed, name, refusal.reason);
            // Not again at once.
            if let Ok(managed) = self.get_mut(name) {
                managed.changed_ms = now_ms();
            }
        }
        if let Ok(managed) = self.get_mut(name) {
            managed.reasons.record(Decision {
                at_ms: now_ms(),
                dataplane: name.to_owned(),
                action: verdict.action,
                granted: load.granted,
                reason,
            });
        }
    }
}
