//! What the control plane does: moves at random, parks, wakes, and takes the answers.

use std::sync::atomic::Ordering::Relaxed;

use ix_abi::Error;
use ix_abi::control::ThreadState;
use ix_core::Command;

use crate::world::World;

impl World {
    /// Tells a thread that does nothing else to do something.
    pub fn command_something(&mut self) {
        let count = self.members.len() as u64;
        let index = self.random.below(count) as usize;
        let to = self.random.below(count) as usize;
        if index == to || self.members[index].command.is_some() {
            return;
        }
        let is_target_sure = self.members[to]
            .command
            .is_none_or(|command| matches!(command, Command::Give { .. }))
            && self.members[to].state == ThreadState::Running;
        let owned = self.members[index].thread.engine().flow_groups();
        let command = match self.members[index].state {
            ThreadState::Parked => Command::Run,
            _ if owned == 0 => Command::Park { to: to as u32 },
            _ if is_target_sure => Command::Give {
                groups: self.some_of(owned),
                to: to as u32,
            },
            _ => return,
        };
        self.tell(index, command);
    }

    /// Gives a thread a command.
    pub fn tell(&mut self, index: usize, command: Command) {
        let member = &mut self.members[index];
        member.command = Some(command);
        member.thread.command(command);
        // The doorbell.
        self.fixtures.switch.awake[index].store(true, Relaxed);
    }

    /// Has a thread execute a command, which succeeds.
    pub fn execute(&mut self, index: usize, command: Command) {
        let (gives, parks) = (self.gives, self.parks);
        self.tell(index, command);
        self.step_until(|world| world.members[index].command.is_none());
        let is_done = match command {
            Command::Give { .. } => self.gives == gives + 1,
            Command::Park { .. } => self.parks == parks + 1,
            Command::Run => self.members[index].state == ThreadState::Running,
        };
        assert!(is_done, "{command:?} was refused");
    }

    /// Has a thread give everything that it has to another one.
    pub fn give_all(&mut self, from: usize, to: u32) {
        let groups = self.members[from].thread.engine().flow_groups();
        self.execute(from, Command::Give { groups, to });
    }

    fn some_of(&mut self, owned: u128) -> u128 {
        if self.random.chance(300) {
            return owned;
        }
        let random = u128::from(self.random.word()) << 64 | u128::from(self.random.word());
        match owned & random {
            0 => owned,
            some => some,
        }
    }

    pub fn command_ended(&mut self, index: usize, outcome: Result<(), Error>) {
        let member = &mut self.members[index];
        let command = member.command.take().expect("a command was given");
        match (command, outcome) {
            (Command::Give { groups, to }, Ok(())) => {
                self.gives += 1;
                for (group, owner) in self.owners.iter_mut().enumerate() {
                    if groups >> group & 1 != 0 {
                        assert_eq!(*owner, index);
                        *owner = to as usize;
                    }
                }
            }
            (Command::Park { .. }, Ok(())) => {
                self.parks += 1;
                member.state = ThreadState::Parked;
            }
            (Command::Run, Ok(())) => member.state = ThreadState::Running,
            // The other one parked in the meantime, is full, or there is something left.
            (Command::Give { .. }, Err(Error::BadState | Error::Exhausted))
            | (Command::Park { .. }, Err(Error::TryAgain | Error::BadState | Error::Invalid)) => {}
            (command, Err(error)) => panic!("{command:?} was refused: {error:?}"),
        }
        assert_eq!(
            self.members[index].thread.state(),
            self.members[index].state
        );
    }
}
