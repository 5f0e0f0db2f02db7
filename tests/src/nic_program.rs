//! An `ixnicd` that a test starts by itself, where it wants it and with what it wants.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use ix_machine::{Artifacts, Netns};

/// A running `ixnicd`, which ends with this.
pub struct NicProgram {
    process: Child,
}

impl NicProgram {
    /// Starts it in a namespace, and waits until it serves that many sockets.
    pub fn start<A: AsRef<OsStr>>(
        netns: &Netns,
        sockets: usize,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        let program = Artifacts::of_workspace().nic_program();
        let mut command = netns.command(&program).expect("prepare ixnicd");
        command.args(arguments).stdout(Stdio::piped());
        let mut process = command.spawn().expect("start ixnicd");
        let output = process.stdout.take().expect("its output");
        let program = Self { process };
        let mut lines = BufReader::new(output).lines();
        for _ in 0..sockets {
            let line = lines.next().expect("a line").expect("readable output");
            assert!(line.starts_with("ready "), "{line}");
        }
        program
    }
}

impl Drop for NicProgram {
    fn drop(&mut self) {
        // What is left after a failure goes with the process.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
