//! Runs the packet scripts in `tests/packets/`: one connection, a scripted peer and a scripted
//! application around one engine, in virtual time. The grammar is in `tests/packets/README.md`.

mod script;

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
    assert_eq!(script::run(&text), Ok(()));
}
