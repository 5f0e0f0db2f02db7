//! Runs the packet scripts in `tests/packets/`: one connection, a scripted peer and a scripted
//! application around one engine, in virtual time. The grammar is in `tests/packets/README.md`.

mod script;

use ix_net::testing::Situation;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/packets")
}

fn scripts(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("read {}: {error}", folder.display()))
        .map(|entry| entry.expect("a folder entry").path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            scripts(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "script")
        {
            found.push(path);
        }
    }
}

#[test]
fn every_packet_script_holds() {
    let mut found = Vec::new();
    scripts(&folder(), &mut found);
    assert!(!found.is_empty(), "no scripts in {}", folder().display());
    let wanted = std::env::var("IX_PACKETS").unwrap_or_default();
    let mut failures = Vec::new();
    let mut count = 0;
    for path in found
        .iter()
        .filter(|path| path.to_string_lossy().contains(&wanted))
    {
        let text = std::fs::read_to_string(path).expect("a readable script");
        count += 1;
        if let Err(failure) = script::run(&text) {
            failures.push(format!("{}:{failure}", path.display()));
        }
    }
    println!("{count} scripts");
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn wrong_expectations_fail() {
    let opening = "listen\n< S seq 0 win 1000 mss 1000\n! knock\ncall accept\n";
    for wrong in [
        "> S. seq 0 ack 2\n",
        "> S. seq 0 ack 1 win 1\n",
        "> . seq 0 ack 1\n",
        "> nothing\n",
        "> S. seq 0 ack 1\n! recv 1\n",
        "> S. seq 0 ack 1\ncall accept\n",
        "> S. seq 0 ack 1\n< . seq 1 ack 1 win 1000\n",
    ] {
        let text = format!("{opening}{wrong}");
        assert!(script::run(&text).is_err(), "{wrong}");
    }
    let text = format!("{opening}> S. seq 0 ack 1\n");
    assert!(script::run(&text).is_ok());
}

/// Every state x {SYN, FIN, RST, ACK, data} x {in the window, out of it, at its edges}, and every
/// place of an acknowledgement number. `--nocapture` shows the table.
#[test]
fn every_case_of_the_state_machine_has_a_script() {
    let mut found = Vec::new();
    scripts(&folder(), &mut found);
    let mut table: BTreeMap<Situation, u32> = BTreeMap::new();
    for path in &found {
        let text = std::fs::read_to_string(path).expect("a readable script");
        // One that fails covers nothing; the other test says why.
        for situation in script::run(&text).unwrap_or_default() {
            *table.entry(situation).or_default() += 1;
        }
    }
    let all = Situation::all();
    let mut missing = Vec::new();
    let mut row = ("", "");
    for situation in &all {
        let Situation { state, kind, place } = situation;
        let count = table.get(situation).copied().unwrap_or(0);
        if row != (state, kind) {
            print!("\n{state:<13}{kind:<8}");
            row = (state, kind);
        }
        print!(" {place} {count:<4}");
        if count == 0 {
            missing.push(format!("{state}, {kind}: {place}"));
        }
    }
    println!("\n{} cases, scripts of each", all.len());
    assert!(missing.is_empty(), "no script:\n{}", missing.join("\n"));
}
