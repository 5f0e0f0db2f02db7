//! `ixctl` where no daemon runs.

use std::process::{Command, Output};

use serde_json::Value;

/// All commands.
const COMMANDS: [&str; 17] = [
    "run",
    "ps",
    "stop",
    "grant",
    "revoke",
    "cores",
    "groups",
    "migrate",
    "stats",
    "top",
    "policy",
    "logs",
    "capture",
    "impair",
    "events",
    "doctor",
    "completions",
];

fn ixctl(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ixctl"));
    let folder = tempfile::tempdir().unwrap();
    command.arg("--socket").arg(folder.path().join("socket"));
    command.args(words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn each_command_explains_itself_and_is_completed_in_each_shell() {
    for command in COMMANDS {
        let help = ixctl(&[command, "--help"]);
        assert!(
            help.status.success() && text(&help.stdout).contains("Usage:"),
            "{command}"
        );
    }
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = ixctl(&["completions", shell]);
        assert!(script.status.success(), "{shell}");
        let script = text(&script.stdout);
        for word in COMMANDS.into_iter().chain(["explain", "elastic", "fair"]) {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn the_doctor_names_what_it_looked_at_and_what_to_do() {
    let seen = ixctl(&["doctor", "--json"]);
    let findings: Value = serde_json::from_slice(&seen.stdout).unwrap();
    let findings = findings.as_array().unwrap();
    let looked_at: Vec<&str> = findings
        .iter()
        .map(|it| it["what"].as_str().unwrap())
        .collect();
    for what in [
        "KVM",
        "IOMMU",
        "QEMU",
        "posted interrupts",
        "huge pages",
        "isolated CPUs",
        "daemon",
    ] {
        assert!(looked_at.contains(&what), "{what}: {looked_at:?}");
    }
    for finding in findings {
        let is_good = finding["verdict"] == "good";
        assert_eq!(
            finding["remedy"].as_str().unwrap().is_empty(),
            is_good,
            "{finding}"
        );
    }
    let is_bad = findings.iter().any(|it| it["verdict"] == "bad");
    assert_eq!(seen.status.success(), !is_bad);
}

#[test]
fn without_a_daemon_it_is_said_how_to_start_one() {
    let refused = ixctl(&["ps"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("ixcpd"),
        "{}",
        text(&refused.stderr)
    );
}
