//! Everything that can be done to dataplanes, one thing at a time: whoever holds the controller is
//! the only one who changes anything. How hardware threads go to and fro is in `hand_over`.

mod hand_over;

use std::path::PathBuf;

use ix_api::{
    CoreMap, Dataplane, Definition, EventKind, GrantRequest, Holder, Kind, MigrateRequest, Mode,
    Moved, Policy, Refusal, RevokeRequest, State,
};
use ix_machine::Artifacts;
use ix_policy::Assignment;
use ix_policy::groups::Move;

use crate::dataplane::Managed;
use crate::journal::Journal;
use crate::sight::{Board, Sights};
use crate::store::{Folder, Placement, Store};
use crate::{keeper, machine, now_ms};

/// All dataplanes, and the machine's hardware threads.
#[derive(Debug)]
pub struct Controller {
    /// What has happened.
    pub journal: Journal,
    /// What can be seen of all that without the controller.
    pub board: Board,
    pub(crate) dataplanes: Vec<Managed>,
    pub(crate) assignment: Assignment,
    store: Store,
    artifacts: Artifacts,
    /// This program, which is also the keepers'.
    program: PathBuf,
    /// Whether hardware threads are made up, so that nothing is pinned.
    emulated: bool,
    /// Whether what policies see is written down.
    pub(crate) records_loads: bool,
}

/// What a controller is made of.
#[derive(Debug)]
pub struct Parts {
    /// The folders.
    pub store: Store,
    /// Kernel, applications and NIC model.
    pub artifacts: Artifacts,
    /// The program to run as keeper.
    pub program: PathBuf,
    /// The machine's hardware threads.
    pub assignment: Assignment,
    /// Whether they are made up.
    pub emulated: bool,
    /// Whether what policies see is written down, in `loads.csv` in each dataplane's folder.
    pub records_loads: bool,
}

impl Controller {
    /// A controller of the dataplanes that are there already, and of those to come.
    pub fn new(parts: Parts) -> std::io::Result<Controller> {
        let mut controller = Controller {
            journal: Journal::default(),
            board: Board::default(),
            dataplanes: Vec::new(),
            assignment: parts.assignment,
            store: parts.store,
            artifacts: parts.artifacts,
            program: parts.program,
            emulated: parts.emulated,
            records_loads: parts.records_loads,
        };
        for name in controller.store.names()? {
            controller.adopt(&name);
        }
        controller.show();
        Ok(controller)
    }

    /// Shows how things stand to those who only look.
    pub fn show(&self) {
        self.board.show(Sights {
            cores: self.cores(),
            dataplanes: self.dataplanes.iter().map(Managed::sight).collect(),
        });
    }

    /// One dataplane.
    pub fn view(&self, name: &str) -> Result<Dataplane, Refusal> {
        self.get(name).map(Managed::view)
    }

    /// The machine's hardware threads.
    pub fn cores(&self) -> CoreMap {
        self.assignment.map(self.emulated)
    }

    /// Starts a dataplane. It serves a while later.
    pub fn start(&mut self, definition: Definition) -> Result<Dataplane, Refusal> {
        let name = definition.name.clone();
        let folder = self.store.folder(&name);
        machine::config(&definition, &self.artifacts, folder.file("ivshmem.sock"))?;
        match self.find(&name).map(|place| self.dataplanes[place].state) {
            Some(State::Ended) => self.remove(&name)?,
            Some(_) => {
                return Err(Refusal::new(
                    Kind::Conflict,
                    format!("{name} runs already"),
                    format!("`ixctl stop {name}` stops it; or choose another name"),
                ));
            }
            None => {}
        }
        let (cores, background) = self.place(&definition)?;
        let placement = Placement {
            cores,
            background,
            policy: definition.policy.clone(),
            started_ms: now_ms(),
        };
        let made = folder
            .create(&definition, &placement)
            .and_then(|()| keeper::spawn(&folder, &self.program, &self.artifacts));
        if let Err(error) = made {
            self.assignment.release_all(&name);
            // What of it was made is in the way of the next start, which will say so.
            let _ = folder.remove();
            return Err(failed(
                format!("{name}: cannot start its keeper: {error}"),
                format!("check {}", folder.path().display()),
            ));
        }
        let text = format!(
            "starts {} with {} threads",
            definition.app, definition.threads
        );
        self.journal.record(EventKind::Started, &name, text);
        let managed = Managed::new(definition, placement, folder);
        let view = managed.view();
        self.dataplanes.push(managed);
        Ok(view)
    }

    /// Begins to stop a dataplane; [`Controller::is_gone`] says when it has ended.
    pub fn begin_stop(&mut self, name: &str) -> Result<(), Refusal> {
        let managed = self.get_mut(name)?;
        match managed.refresh() {
            State::Ended => Ok(()),
            _ => managed.with_keeper(keeper::client::Keeper::stop),
        }
    }

    /// Whether nothing of a dataplane runs any more; if so, it is forgotten.
    pub fn is_gone(&mut self, name: &str) -> Result<bool, Refusal> {
        if self.get(name)?.folder.is_kept() {
            return Ok(false);
        }
        self.remove(name).map(|()| true)
    }

    /// Grants hardware threads to a dataplane: all that were asked for, or none.
    pub fn grant(&mut self, name: &str, request: &GrantRequest) -> Result<Dataplane, Refusal> {
        self.get(name)?.must_run()?;
        self.must_be_changeable(name)?;
        let count = match (request.count, request.core) {
            (Some(count), Some(_)) if count != 1 => return Err(one_core()),
            (count, _) => count.unwrap_or(1) as usize,
        };
        let managed = self.get(name)?;
        let parked = managed.definition.threads as usize - managed.serving().len();
        if count > parked {
            return Err(Refusal::new(
                Kind::Conflict,
                format!(
                    "{name} has {} threads, of which {parked} are parked: it cannot be granted {count}",
                    managed.definition.threads
                ),
                "define it with more `threads`",
            ));
        }
        if request.core.is_none() && count > self.assignment.free() {
            return Err(self.assignment.over_asked(count));
        }
        for _ in 0..count {
            self.grant_one(name, request.core)?;
        }
        self.view(name)
    }

    /// Takes hardware threads back from a dataplane.
    pub fn revoke(&mut self, name: &str, request: &RevokeRequest) -> Result<Dataplane, Refusal> {
        self.get(name)?.must_run()?;
        self.must_be_changeable(name)?;
        let count = match (request.count, request.core) {
            (Some(count), Some(_)) if count != 1 => return Err(one_core()),
            (count, _) => count.unwrap_or(1) as usize,
        };
        let serving = self.get(name)?.serving().len();
        if count >= serving {
            return Err(Refusal::new(
                Kind::Conflict,
                format!("{name} has {serving}: its last hardware thread is not revoked"),
                format!("revoke fewer, or stop it with `ixctl stop {name}`"),
            ));
        }
        for _ in 0..count {
            self.revoke_one(name, request.core)?;
        }
        self.view(name)
    }

    /// Moves flow groups of a dataplane to one of its threads.
    pub fn migrate(&mut self, name: &str, request: &MigrateRequest) -> Result<Moved, Refusal> {
        let managed = self.get(name)?;
        managed.must_run()?;
        let to = request.to as usize;
        if !managed.serving().contains(&to) {
            return Err(Refusal::new(
                Kind::Conflict,
                format!("thread {to} of {name} does not serve"),
                format!("`ixctl stats {name}` lists its threads"),
            ));
        }
        let moves = moves_to(&managed.owners(), request, to)?;
        let groups = moves.iter().map(|step| step.groups.count_ones()).sum();
        self.give(name, &moves)?;
        Ok(Moved { groups })
    }

    /// Changes the policy of a dataplane.
    pub fn set_policy(&mut self, name: &str, policy: Policy) -> Result<Policy, Refusal> {
        let managed = self.get_mut(name)?;
        let mut definition = managed.definition.clone();
        definition.policy = policy.clone();
        machine::check_policy(&definition)?;
        managed.placement.policy = policy.clone();
        self.save(name)?;
        let mode = format!("{:?}", policy.mode).to_lowercase();
        self.journal
            .record(EventKind::Policy, name, format!("policy is now {mode}"));
        Ok(policy)
    }

    /// Chooses the hardware threads that a dataplane starts with: those of its elastic threads, and
    /// that of its background threads.
    fn place(
        &mut self,
        definition: &Definition,
    ) -> Result<(Vec<Option<u32>>, Option<u32>), Refusal> {
        let granted = definition.granted.unwrap_or(definition.threads) as usize;
        let wanted = granted + usize::from(definition.background);
        if wanted > self.assignment.free() {
            return Err(self.assignment.over_asked(wanted));
        }
        let mut take = |holder: Holder| {
            let next = self.assignment.next_for(&definition.name);
            let next = next.ok_or_else(|| self.assignment.over_asked(wanted))?;
            self.assignment.take(next, holder)?;
            Ok(next)
        };
        let mut cores = vec![None; definition.threads as usize];
        for (thread, core) in cores.iter_mut().enumerate().take(granted) {
            *core = Some(take(holder(&definition.name, thread))?);
        }
        let background = definition
            .background
            .then(|| background_of(&definition.name));
        Ok((cores, background.map(take).transpose()?))
    }

    /// Takes up a dataplane that an earlier daemon has started.
    fn adopt(&mut self, name: &str) {
        let folder = self.store.folder(name);
        let known = folder
            .definition()
            .and_then(|it| Ok((it, folder.placement()?)));
        let (definition, placement) = match known {
            Ok(known) => known,
            Err(error) => {
                self.discard(&folder, &error);
                return;
            }
        };
        let mut managed = Managed::new(definition, placement, folder);
        if managed.refresh() != State::Ended {
            let cores = managed.placement.cores.iter().enumerate();
            let elastic = cores.filter_map(|(thread, core)| Some((holder(name, thread), (*core)?)));
            let background = managed.placement.background;
            let background = background.map(|core| (background_of(name), core));
            for (holder, core) in elastic.chain(background) {
                if let Err(refusal) = self.assignment.take(core, holder) {
                    log::error!(
                        "{name} goes on with a hardware thread it should not have: {refusal}"
                    );
                }
            }
            self.journal
                .record(EventKind::Adopted, name, "found, and managed again");
        }
        self.dataplanes.push(managed);
    }

    /// Removes the folder of a dataplane that cannot be read, such as one that a daemon was about to make
    /// when it was killed, lest it be in the way of the next one of that name.
    fn discard(&self, folder: &Folder, error: &std::io::Error) {
        let path = folder.path().display();
        if folder.is_kept() {
            log::error!("{path}: cannot be adopted, and has a keeper: {error}");
            return;
        }
        match folder.remove() {
            Ok(()) => log::warn!("{path}: removed, since it cannot be adopted: {error}"),
            Err(removal) => {
                log::error!("{path}: cannot be adopted: {error}; nor removed: {removal}")
            }
        }
    }

    /// Forgets a dataplane that has ended.
    fn remove(&mut self, name: &str) -> Result<(), Refusal> {
        let managed = self.get(name)?;
        managed.folder.remove().map_err(|error| {
            failed(
                format!("{name}: cannot remove its folder: {error}"),
                format!("remove {}", managed.folder.path().display()),
            )
        })?;
        // A keeper that was killed could not remove its machine's namespace.
        ix_machine::run_dir::remove_all_abandoned();
        self.dataplanes.retain(|managed| managed.name() != name);
        self.assignment.release_all(name);
        self.journal
            .record(EventKind::Removed, name, "stopped and removed");
        Ok(())
    }

    pub(crate) fn save(&mut self, name: &str) -> Result<(), Refusal> {
        let managed = self.get(name)?;
        managed.folder.save(&managed.placement).map_err(|error| {
            failed(
                format!("{name}: cannot remember its hardware threads: {error}"),
                format!("check {}", managed.folder.path().display()),
            )
        })
    }

    fn changed(&mut self, name: &str) -> Result<(), Refusal> {
        self.get_mut(name)?.changed_ms = now_ms();
        self.show();
        Ok(())
    }

    fn must_be_changeable(&self, name: &str) -> Result<(), Refusal> {
        if self.get(name)?.policy().mode != Mode::Static {
            return Ok(());
        }
        Err(Refusal::new(
            Kind::Conflict,
            format!("the policy of {name} is static: it keeps what it started with"),
            format!("`ixctl policy {name} manual` changes that"),
        ))
    }

    fn find(&self, name: &str) -> Option<usize> {
        let mut dataplanes = self.dataplanes.iter();
        dataplanes.position(|managed| managed.name() == name)
    }

    pub(crate) fn get(&self, name: &str) -> Result<&Managed, Refusal> {
        let place = self.find(name).ok_or_else(|| absent(name))?;
        Ok(&self.dataplanes[place])
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Result<&mut Managed, Refusal> {
        let place = self.find(name).ok_or_else(|| absent(name))?;
        Ok(&mut self.dataplanes[place])
    }
}

pub(crate) fn holder(name: &str, thread: usize) -> Holder {
    Holder {
        dataplane: name.to_owned(),
        thread: Some(thread as u32),
    }
}

fn background_of(name: &str) -> Holder {
    Holder {
        dataplane: name.to_owned(),
        thread: None,
    }
}

/// The moves that a request asks for, without groups that are where they should be.
fn moves_to(owners: &[u8], request: &MigrateRequest, to: usize) -> Result<Vec<Move>, Refusal> {
    let mut moves: Vec<Move> = Vec::new();
    for group in &request.groups {
        let Some(owner) = owners.get(*group as usize) else {
            return Err(Refusal::new(
                Kind::Invalid,
                format!("there is no flow group {group}"),
                format!("use 0 to {}", owners.len().saturating_sub(1)),
            ));
        };
        let (from, bit) = (usize::from(*owner), 1u128 << group);
        match moves.iter_mut().find(|step| step.from == from) {
            _ if from == to => {}
            Some(step) => step.groups |= bit,
            None => moves.push(Move {
                from,
                to,
                groups: bit,
            }),
        }
    }
    Ok(moves)
}

pub(crate) fn absent(name: &str) -> Refusal {
    Refusal::new(
        Kind::Absent,
        format!("there is no dataplane {name}"),
        "`ixctl ps` lists those that there are",
    )
}

fn one_core() -> Refusal {
    Refusal::new(
        Kind::Invalid,
        "a number of hardware threads together with a certain one",
        "give one of both",
    )
}

fn failed(reason: impl Into<String>, remedy: impl Into<String>) -> Refusal {
    Refusal::new(Kind::Failed, reason, remedy)
}
