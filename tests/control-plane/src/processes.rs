//! Processes of a control plane, as `/proc` shows them.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Its program's name, as far as the system keeps it.
    pub name: String,
    /// Its command line, its words separated by spaces.
    pub command_line: String,
}

impl Process {
    /// Kills it. It may have ended already.
    pub fn kill(&self) {
        let pid = Pid::from_raw(self.pid).unwrap();
        let _ = kill_process(pid, Signal::KILL);
    }

    /// Whether it is still there; one that nobody has waited for is not.
    pub fn is_alive(&self) -> bool {
        read(self.pid).is_some_and(|now| now.command_line == self.command_line)
    }
}

/// All processes, but for those that have ended and are still waited for.
pub fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| read(entry.file_name().to_str()?.parse().ok()?))
        .collect()
}

/// The keepers of the daemon that works in `folder`.
pub fn keepers(folder: &Path) -> Vec<Process> {
    let folder = folder.to_str().unwrap();
    let is_keeper = |it: &Process| it.command_line.contains("ixcpd keep --folder");
    let mut found = all();
    found.retain(|it| is_keeper(it) && it.command_line.contains(folder));
    found
}

/// The processes that `parent` has started.
pub fn children(parent: &Process) -> Vec<Process> {
    let mut found = all();
    found.retain(|it| it.parent == parent.pid);
    found
}

fn read(pid: i32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses, and may hold some.
    let (before, after) = stat.rsplit_once(')')?;
    let mut fields = after.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    let command_line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    Some(Process {
        pid,
        parent,
        name: before.split_once('(')?.1.to_owned(),
        command_line: command_line.replace('\0', " "),
    })
}
