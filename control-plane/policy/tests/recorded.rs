//! Loads that were recorded under `cargo xtask demo --scenario elastic --record`, replayed: what the
//! decision function made of them is in the file beside, and has to come out again.
//!
//! A change of the policy that is meant changes those files: `IX_UPDATE_GOLDEN=1` writes them anew, and
//! the difference shows what the change does to real loads.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use ix_api::Action;
use ix_policy::{decide, trace};

/// The decisions over a trace, a line each; looks that lead to nothing for the same reason, but for its
/// numbers, are one line.
fn decisions(samples: &[trace::Sample]) -> String {
    let start_ms = samples.first().map_or(0, |sample| sample.at_ms);
    let mut text = String::new();
    let mut last = None;
    for sample in samples {
        let verdict = &decide(std::slice::from_ref(&sample.load), sample.free)[0];
        let plain: String = verdict
            .reason
            .chars()
            .filter(|it| !it.is_ascii_digit())
            .collect();
        let kind = (verdict.action, plain);
        if verdict.action == Action::Keep && last.as_ref() == Some(&kind) {
            continue;
        }
        last = Some(kind);
        let at_s = (sample.at_ms - start_ms) as f64 / 1_000.0;
        let action = format!("{:?}", verdict.action).to_lowercase();
        let (granted, reason) = (sample.load.granted, &verdict.reason);
        writeln!(text, "{at_s:7.1} s  {action:6} at {granted}: {reason}").expect("a string");
    }
    text
}

/// Replays a trace, and returns its samples.
fn replayed(name: &str) -> Vec<trace::Sample> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces");
    let text = fs::read_to_string(folder.join(format!("{name}.csv"))).unwrap();
    let samples = trace::parse(&text).unwrap();
    let golden = folder.join(format!("{name}.decisions"));
    let decisions = decisions(&samples);
    if std::env::var_os("IX_UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &decisions).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap();
    assert_eq!(decisions, expected, "other decisions over {name}");
    samples
}

/// The most threads that were granted, and those at the end.
fn most_and_last(samples: &[trace::Sample]) -> (u32, u32) {
    let granted = || samples.iter().map(|sample| sample.load.granted);
    (granted().max().unwrap(), granted().next_back().unwrap())
}

#[test]
fn a_diurnal_load_is_decided_as_when_it_was_recorded() {
    let (most, last) = most_and_last(&replayed("diurnal"));
    assert!(most > 1 && last < most, "{most} {last}");
}

#[test]
fn a_square_load_is_decided_as_when_it_was_recorded() {
    let (most, last) = most_and_last(&replayed("square"));
    assert!(most > 1 && last < most, "{most} {last}");
}

#[test]
fn a_spike_is_decided_as_when_it_was_recorded() {
    let samples = replayed("spike");
    let (_, last) = most_and_last(&samples);
    assert_eq!(last, 1);
    assert!(samples.iter().any(|sample| sample.load.queue_short > 1.0));
}
