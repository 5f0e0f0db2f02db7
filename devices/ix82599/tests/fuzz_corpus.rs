//! Replays the corpora of the fuzz targets `messages` and `guest`, and some noise, on the stable
//! toolchain; and checks how far the corpora get.

use std::path::Path;

use ix82599::model::Counters;
use ix82599::testing::{Answers, guest, messages};

/// Runs every input of a target.
fn replay<T>(target: &str, run: impl Fn(&[u8]) -> T) -> Vec<T> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let folder = folder.join(target);
    let entries = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("read {}: {error}", folder.display()));
    let inputs = entries.map(|entry| {
        let path = entry.expect("a folder entry").path();
        println!("{}", path.display());
        std::fs::read(&path).expect("a readable input")
    });
    inputs.map(|input| run(&input)).collect()
}

#[test]
fn a_hostile_client_is_answered_each_way() {
    let answers: Vec<Answers> = replay("messages", messages);
    let sum = |pick: &dyn Fn(&Answers) -> u64| answers.iter().map(pick).sum::<u64>();
    // Greeting, map, unmap, device, region, interrupts (get and set), read, write, reset, many writes.
    for command in [1, 2, 3, 4, 5, 7, 8, 9, 10, 13, 15] {
        let done = sum(&|answers| answers.done[command]);
        assert!(done > 0, "command {command} is never done");
    }
    // Only a reset and a question without a number cannot be wrong, but for coming before the greeting.
    for command in 0..20 {
        let refused = sum(&|answers| answers.refused[command]);
        assert!(refused > 0, "command {command} is never refused");
    }
    assert!(sum(&|answers| answers.ended) > 0, "nobody is hung up on");
    assert!(sum(&|answers| answers.frames) > 0, "no frame goes through");
}

#[test]
fn a_hostile_guest_meets_every_way_to_drop() {
    let counters: Vec<Counters> = replay("guest", guest);
    let reached = |name: &str, pick: fn(&Counters) -> u64| {
        assert!(counters.iter().any(|one| pick(one) > 0), "{name}: never");
    };
    reached("frames in", |it| it.rx_frames);
    reached("frames out", |it| it.tx_frames);
    reached("interrupts", |it| it.interrupts);
    reached("resets", |it| it.resets);
    reached("in: disabled", |it| it.rx_disabled);
    reached("in: filtered", |it| it.rx_filtered);
    reached("in: length", |it| it.rx_bad_length);
    reached("in: queue disabled", |it| it.rx_queue_disabled);
    reached("in: no descriptor", |it| it.rx_no_descriptor);
    reached("in: unusable ring", |it| it.rx_unusable_ring);
    reached("out: reserved descriptor", |it| it.tx_bad_descriptor);
    reached("out: length", |it| it.tx_bad_length);
    reached("out: context", |it| it.tx_bad_context);
    reached("out: unsupported", |it| it.tx_unsupported);
    reached("out: unreadable", |it| it.tx_unreadable);
    reached("ring faults", |it| it.ring_faults);
    reached("write faults", |it| it.write_faults);
    reached("bad tails", |it| it.bad_tails);
    reached("unknown writes", |it| it.unknown_writes);
    reached("messages", |it| it.mailbox_messages);
    reached("messages: unknown", |it| it.mailbox_unknown);
    reached("messages: unheard", |it| it.mailbox_unheard);
    reached("messages: forbidden", |it| it.mailbox_forbidden);
    reached("messages: senseless", |it| it.mailbox_senseless);
}

#[test]
fn noise_is_survived() {
    // SplitMix64.
    let mut state = 0u64;
    let mut random = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    for _ in 0..150 {
        let length = 1 + random() as usize % 1500;
        let noise: Vec<u8> = (0..length).map(|_| random() as u8).collect();
        messages(&noise);
        guest(&noise);
    }
}
