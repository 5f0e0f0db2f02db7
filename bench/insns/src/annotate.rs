//! Disassembly with the executions per request in front of each instruction, for the functions
//! whose name contains a given text. `objdump` does the disassembly.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::work::Work;

/// Listings of the matching functions in `image`; those that were not executed are left out.
pub fn annotate(image: &Path, function: &str, work: &Work) -> Result<String> {
    let output = Command::new("objdump")
        .args([
            "--disassemble",
            "--demangle",
            "--no-show-raw-insn",
            "--line-numbers",
        ])
        .arg(image)
        .output()
        .context("cannot start objdump: install binutils")?;
    ensure!(
        output.status.success(),
        "objdump failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let listing = String::from_utf8_lossy(&output.stdout);
    Ok(listing
        .split("\n\n")
        .filter(|block| header(block).is_some_and(|name| name.contains(function)))
        .filter_map(|block| annotate_function(block, work))
        .collect())
}

/// The function's name in the first line of its block, `address <name>:`.
fn header(block: &str) -> Option<&str> {
    block
        .trim_start()
        .lines()
        .next()?
        .strip_suffix(">:")?
        .split_once(" <")
        .map(|(_, name)| name)
}

fn annotate_function(block: &str, work: &Work) -> Option<String> {
    let mut text = String::new();
    let mut executed = false;
    for line in block.lines() {
        let executions = address(line).and_then(|address| {
            let found = work
                .by_address
                .binary_search_by_key(&address, |entry| entry.0)
                .ok()?;
            Some(work.by_address[found].1)
        });
        match executions {
            Some(count) if count > 0.0 => {
                executed = true;
                text.push_str(&format!("{count:10.3} "));
            }
            _ => text.push_str("           "),
        }
        text.push_str(line);
        text.push('\n');
    }
    executed.then_some(text + "\n")
}

/// The address in a line such as `  40101a:\tpush %rbp`.
fn address(line: &str) -> Option<u64> {
    let (address, _) = line.trim_start().split_once(":\t")?;
    u64::from_str_radix(address, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_stand_before_their_instructions() {
        let block =
            "0000000000401000 <app::main>:\napp.rs:3\n  401000:\tpush   %rbp\n  401001:\tret";
        assert_eq!(header(block), Some("app::main"));
        let work = Work {
            by_address: vec![(0x40_1000, 3.0)],
            idle: 0.0,
        };
        let text = annotate_function(block, &work).unwrap();
        let lines = text.lines().map(str::trim_end).collect::<Vec<_>>();
        assert_eq!(lines[2], "     3.000   401000:\tpush   %rbp");
        assert_eq!(lines[3], "             401001:\tret");
        let elsewhere = Work {
            by_address: vec![(1, 3.0)],
            idle: 0.0,
        };
        assert!(annotate_function(block, &elsewhere).is_none());
    }
}
