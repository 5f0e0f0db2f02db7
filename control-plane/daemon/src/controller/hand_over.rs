//! How hardware threads and flow groups go to and fro: the steps of a grant and a revoke, in an order
//! in which a daemon that dies between two of them leaves a state that the next one can mend.

use ix_api::{EventKind, Kind, Refusal};
use ix_channel::Command;
use ix_policy::groups::{Move, spread};

use super::{Controller, failed, holder};

impl Controller {
    /// Gives one more hardware thread to a dataplane, this one or the best one that is free.
    pub(crate) fn grant_one(&mut self, name: &str, core: Option<u32>) -> Result<(), Refusal> {
        let managed = self.get(name)?;
        let cores = managed.placement.cores.iter();
        let thread = cores.clone().position(Option::is_none);
        let Some(thread) = thread else {
            return Err(failed(
                format!("{name} has no parked thread"),
                "ask for fewer",
            ));
        };
        let core = core
            .or_else(|| self.assignment.next_for(name))
            .ok_or_else(|| self.assignment.over_asked(1))?;
        self.assignment.take(core, holder(name, thread))?;
        self.get_mut(name)?.placement.cores[thread] = Some(core);
        let result = self
            .pin(name)
            .and_then(|()| self.get_mut(name)?.command(thread, Command::Run));
        if let Err(refusal) = result {
            self.unplace(name, thread)?;
            return Err(refusal);
        }
        self.save(name)?;
        self.changed(name)?;
        let text = format!("granted hardware thread {core} for thread {thread}");
        self.journal.record(EventKind::Granted, name, text);
        let moves = spread(&self.get(name)?.owners(), &self.get(name)?.serving());
        let dealt = self.give(name, &moves);
        if dealt.is_err() && !self.get(name)?.owners().contains(&(thread as u8)) {
            // Whoever does not get flow groups is of no use.
            self.get_mut(name)?
                .command(thread, Command::Park { to: 0 })?;
            self.unplace(name, thread)?;
            let text = format!("revoked hardware thread {core} again: no flow group can move");
            self.journal.record(EventKind::Revoked, name, text);
        }
        dealt
    }

    /// Takes one hardware thread back, this one or that of the last thread that serves. What the
    /// thread serves goes to the others first.
    pub(crate) fn revoke_one(&mut self, name: &str, core: Option<u32>) -> Result<(), Refusal> {
        let managed = self.get(name)?;
        if core.is_some() && core == managed.placement.background {
            return Err(Refusal::new(
                Kind::Conflict,
                format!("the background threads of {name} keep their hardware thread"),
                format!("revoke another one, or stop it with `ixctl stop {name}`"),
            ));
        }
        let mut serving = managed.serving();
        let thread = match core {
            None => serving.last().copied(),
            Some(_) => managed.placement.cores.iter().position(|own| *own == core),
        };
        let Some(thread) = thread else {
            let core = core.unwrap_or_default();
            return Err(Refusal::new(
                Kind::Absent,
                format!("{name} does not hold hardware thread {core}"),
                "`ixctl cores` shows who holds what",
            ));
        };
        if thread == 0 {
            return Err(Refusal::new(
                Kind::Conflict,
                format!("thread 0 of {name} serves always: what belongs to no flow comes to it"),
                "revoke the hardware thread of another one",
            ));
        }
        serving.retain(|other| *other != thread);
        let Some(heir) = serving.first().copied() else {
            return Err(failed(
                format!("{name} has only one thread"),
                "stop it instead",
            ));
        };
        let moves: Vec<Move> = spread(&managed.owners(), &serving);
        self.give(name, &moves)?;
        let park = Command::Park { to: heir };
        if let Err(refusal) = self.get_mut(name)?.command(thread, park) {
            // It serves on, so it gets its share back.
            let managed = self.get(name)?;
            let moves = spread(&managed.owners(), &managed.serving());
            self.give(name, &moves)?;
            return Err(refusal);
        }
        let core = self.get(name)?.placement.cores[thread].unwrap_or_default();
        self.unplace(name, thread)?;
        self.changed(name)?;
        let text = format!("revoked hardware thread {core} of thread {thread}");
        self.journal.record(EventKind::Revoked, name, text);
        Ok(())
    }

    /// Takes the hardware thread of an elastic thread back, and lets its virtual CPU, which halts, have
    /// Linux's.
    pub(crate) fn unplace(&mut self, name: &str, thread: usize) -> Result<(), Refusal> {
        let core = self.get_mut(name)?.placement.cores[thread].take();
        if let Some(core) = core {
            self.assignment.release(core);
        }
        self.save(name)?;
        self.pin(name)
    }

    /// Binds the virtual CPUs of a dataplane to their hardware threads, and what is parked, and what
    /// is no virtual CPU, to those of Linux.
    pub(crate) fn pin(&mut self, name: &str) -> Result<(), Refusal> {
        if self.emulated {
            return Ok(());
        }
        let mut linux: Vec<u32> = self.assignment.reserved().collect();
        if linux.is_empty() {
            let map = self.cores();
            linux.extend(map.threads.iter().map(|thread| thread.id));
        }
        let managed = self.get_mut(name)?;
        let cores = managed.placement.cores.iter();
        // The kernel runs background threads on the last CPU.
        let vcpus = cores
            .chain(managed.placement.background.map(Some).iter())
            .map(|core| core.map_or_else(|| linux.clone(), |core| vec![core]))
            .collect();
        managed.with_keeper(|keeper| keeper.pin(vcpus, linux))
    }

    /// Has threads hand flow groups over.
    pub(super) fn give(&mut self, name: &str, moves: &[Move]) -> Result<(), Refusal> {
        for step in moves {
            let give = Command::Give {
                groups: step.groups,
                to: step.to,
            };
            self.get_mut(name)?.command(step.from, give)?;
            let text = format!(
                "{} flow groups went from thread {} to thread {}",
                step.groups.count_ones(),
                step.from,
                step.to
            );
            self.journal.record(EventKind::Migrated, name, text);
            // A grant of many steps is seen step by step.
            self.show();
        }
        Ok(())
    }
}
