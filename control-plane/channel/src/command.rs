//! Commands: posted in the control page, announced by the doorbell, acknowledged by the thread.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ix_abi::control::Opcode;

use crate::doorbell::Doorbells;
use crate::page::ControlPage;

/// The first waits for an acknowledgement are short, since a thread that polls answers at once.
const FIRST_WAIT: Duration = Duration::from_micros(20);
const LONGEST_WAIT: Duration = Duration::from_millis(2);

/// What a thread is to do; see [`Opcode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Hand flow groups, one a bit, to another running thread.
    Give {
        /// The groups.
        groups: u128,
        /// The thread that gets them.
        to: usize,
    },
    /// Halt.
    Park {
        /// The thread that takes what belongs to no flow group.
        to: usize,
    },
    /// Serve again.
    Run,
}

/// Why a command was not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// There is no such thread.
    #[error("there is no thread {0}")]
    NoThread(usize),
    /// The kernel's own answer.
    #[error("the dataplane kernel refused it: {0:?}")]
    Refused(ix_abi::Error),
    /// An answer that is none.
    #[error("the dataplane kernel answered {0}, which means nothing")]
    Nonsense(i64),
    /// No answer. The command may still be executed later.
    #[error("thread {0} did not answer within {1:?}")]
    Timeout(usize, Duration),
}

/// The writer of all commands of one dataplane. There must be only one.
#[derive(Debug)]
pub struct Commander {
    page: Arc<ControlPage>,
    doorbells: Arc<Doorbells>,
    /// One command at a time, for all threads: they depend on each other.
    turn: Mutex<()>,
}

impl Commander {
    /// The commander of that page, which must be writable.
    pub fn new(page: Arc<ControlPage>, doorbells: Arc<Doorbells>) -> Commander {
        Commander {
            page,
            doorbells,
            turn: Mutex::new(()),
        }
    }

    /// Has `thread` execute a command, and waits for its answer at most `patience`.
    pub fn execute(
        &self,
        thread: usize,
        command: Command,
        patience: Duration,
    ) -> Result<u64, CommandError> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let threads = self.page.header().map_or(0, |header| header.threads);
        if thread >= threads {
            return Err(CommandError::NoThread(thread));
        }
        let (opcode, arguments) = encode(command);
        let posted = self.page.post(thread, opcode as u64, arguments);
        let sequence = posted.ok_or(CommandError::NoThread(thread))?;
        self.doorbells.ring(thread);
        let deadline = Instant::now() + patience;
        let mut wait = FIRST_WAIT;
        loop {
            if let Some((acknowledged, result)) = self.page.acknowledgement(thread)
                && acknowledged == sequence
            {
                return outcome(result);
            }
            if Instant::now() >= deadline {
                return Err(CommandError::Timeout(thread, patience));
            }
            thread::sleep(wait);
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

fn encode(command: Command) -> (Opcode, [u64; 3]) {
    match command {
        Command::Give { groups, to } => (
            Opcode::Give,
            [groups as u64, (groups >> 64) as u64, to as u64],
        ),
        Command::Park { to } => (Opcode::Park, [to as u64, 0, 0]),
        Command::Run => (Opcode::Run, [0; 3]),
    }
}

fn outcome(result: i64) -> Result<u64, CommandError> {
    match u64::try_from(result) {
        Ok(value) => Ok(value),
        Err(_) => Err(ix_abi::Error::from_result(result)
            .map_or(CommandError::Nonsense(result), CommandError::Refused)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::testing::{read, up, write};
    use ix_abi::control::{COMMANDS, THREADS, command, thread as report};

    const LONG: Duration = Duration::from_secs(10);

    struct Bench {
        _folder: tempfile::TempDir,
        page: Arc<ControlPage>,
        commander: Commander,
    }

    fn bench() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let page = Arc::new(up(&folder.path().join("control"), 2, 128));
        let doorbells = Arc::new(Doorbells::new(2).unwrap());
        Bench {
            commander: Commander::new(Arc::clone(&page), doorbells),
            page,
            _folder: folder,
        }
    }

    /// A kernel whose thread 1 executes one command, with that result; gives the command's words.
    fn answer(page: &Arc<ControlPage>, result: i64) -> thread::JoinHandle<Vec<u64>> {
        let page = Arc::clone(page);
        let last = read(&page, COMMANDS + command::WORDS + command::SEQUENCE);
        thread::spawn(move || {
            let block = COMMANDS + command::WORDS;
            while read(&page, block + command::SEQUENCE) == last {
                thread::sleep(Duration::from_millis(1));
            }
            let words = (1..5).map(|word| read(&page, block + word)).collect();
            write(
                &page,
                THREADS + report::WORDS + report::RESULT,
                result as u64,
            );
            write(
                &page,
                THREADS + report::WORDS + report::ACKNOWLEDGED,
                last + 1,
            );
            words
        })
    }

    #[test]
    fn a_command_reaches_its_thread_and_its_result_comes_back() {
        let bench = bench();
        let kernel = answer(&bench.page, 5);
        let give = Command::Give {
            groups: 1 << 64 | 0b101,
            to: 0,
        };
        assert_eq!(bench.commander.execute(1, give, LONG), Ok(5));
        assert_eq!(kernel.join().unwrap(), [Opcode::Give as u64, 0b101, 1, 0]);
        let kernel = answer(&bench.page, 0);
        assert_eq!(bench.commander.execute(1, Command::Run, LONG), Ok(0));
        assert_eq!(kernel.join().unwrap()[0], Opcode::Run as u64);
    }

    #[test]
    fn refusals_and_nonsense_are_told_apart() {
        let bench = bench();
        let park = Command::Park { to: 0 };
        let kernel = answer(&bench.page, ix_abi::Error::BadState.to_result());
        let refused = CommandError::Refused(ix_abi::Error::BadState);
        assert_eq!(bench.commander.execute(1, park, LONG), Err(refused));
        assert_eq!(kernel.join().unwrap()[..2], [Opcode::Park as u64, 0]);
        let kernel = answer(&bench.page, -999);
        let nonsense = CommandError::Nonsense(-999);
        assert_eq!(bench.commander.execute(1, park, LONG), Err(nonsense));
        kernel.join().unwrap();
    }

    #[test]
    fn a_thread_that_is_silent_or_absent_is_an_error() {
        let bench = bench();
        let patience = Duration::from_millis(10);
        let late = CommandError::Timeout(1, patience);
        assert_eq!(
            bench.commander.execute(1, Command::Run, patience),
            Err(late)
        );
        let absent = CommandError::NoThread(2);
        assert_eq!(bench.commander.execute(2, Command::Run, LONG), Err(absent));
    }
}
