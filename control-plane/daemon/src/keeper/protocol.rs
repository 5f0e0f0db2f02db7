//! What daemon and keeper say to each other: JSON, one line a message, over a Unix socket. The keeper
//! begins with [`Hello`]; then each [`Request`] gets one [`Reply`].
//!
//! A daemon may be newer than the keepers that it finds, so the version is checked before anything
//! else is read.

use std::path::PathBuf;

use ix_channel::Command;
use serde::{Deserialize, Serialize};

/// Version of the protocol.
pub const PROTOCOL: u32 = 1;

/// The keeper's first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the protocol.
    pub protocol: u32,
    /// The dataplane.
    pub name: String,
    /// The keeper's process.
    pub pid: u32,
}

/// What a keeper is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// How is the machine?
    Status,
    /// Have an elastic thread execute a command.
    Command {
        /// The thread.
        thread: usize,
        /// The command.
        command: WireCommand,
    },
    /// Bind virtual CPU `n` to the `n`th list of hardware threads, and all other threads of the machine
    /// to the `rest`.
    Pin {
        /// Hardware threads of each virtual CPU.
        vcpus: Vec<Vec<u32>>,
        /// Hardware threads of everything else.
        rest: Vec<u32>,
    },
    /// Stop the machine.
    Stop,
}

/// [`Command`], with the groups in two halves, since JSON has no integers of 128 bits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WireCommand {
    /// Hand flow groups over.
    Give {
        /// The lower 64 groups.
        low: u64,
        /// The upper 64 groups.
        high: u64,
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

/// What a keeper answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It was done.
    Ok(Answer),
    /// It was not.
    Refused {
        /// Why.
        reason: String,
    },
}

/// What a keeper answers when it has done what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// How the machine is.
    Status(Status),
    /// Done.
    Done {
        /// The kernel's result of a command.
        value: u64,
    },
}

/// How a machine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What it does.
    pub phase: Phase,
    /// Who executes the guest's instructions.
    pub accel: Option<String>,
    /// The network namespace with the host's end of its wire.
    pub netns: Option<String>,
    /// Process of the virtual machine.
    pub vm_pid: Option<u32>,
    /// Process of the NIC model.
    pub nic_pid: Option<u32>,
    /// Where the wire can be listened to. Keepers did not always say so.
    #[serde(default)]
    pub wire_socket: Option<PathBuf>,
    /// The threads of the virtual machine's process that are its virtual CPUs, by their numbers. Keepers
    /// did not always say so.
    #[serde(default)]
    pub vcpu_threads: Vec<i32>,
}

/// What a machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It is being put together.
    Starting,
    /// It runs; its kernel may still boot.
    Running,
}

impl From<Command> for WireCommand {
    fn from(command: Command) -> WireCommand {
        match command {
            Command::Give { groups, to } => WireCommand::Give {
                low: groups as u64,
                high: (groups >> 64) as u64,
                to,
            },
            Command::Park { to } => WireCommand::Park { to },
            Command::Run => WireCommand::Run,
        }
    }
}

impl From<WireCommand> for Command {
    fn from(command: WireCommand) -> Command {
        match command {
            WireCommand::Give { low, high, to } => Command::Give {
                groups: u128::from(high) << 64 | u128::from(low),
                to,
            },
            WireCommand::Park { to } => Command::Park { to },
            WireCommand::Run => Command::Run,
        }
    }
}

impl From<Result<Answer, String>> for Reply {
    fn from(result: Result<Answer, String>) -> Reply {
        match result {
            Ok(answer) => Reply::Ok(answer),
            Err(reason) => Reply::Refused { reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_survive_the_way() {
        for command in [
            Command::Give {
                groups: u128::MAX - 5,
                to: 63,
            },
            Command::Park { to: 2 },
            Command::Run,
        ] {
            let request = Request::Command {
                thread: 1,
                command: command.into(),
            };
            let line = serde_json::to_string(&request).unwrap();
            let Request::Command { command: back, .. } = serde_json::from_str(&line).unwrap()
            else {
                panic!("{line}");
            };
            assert_eq!(Command::from(back), command);
        }
    }
}
