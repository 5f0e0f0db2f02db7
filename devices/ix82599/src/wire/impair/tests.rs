use super::super::Cable;
use super::lane::{HOLD_NS, QUEUE_FRAMES};
use super::*;

fn wire(impairment: Impairment) -> (Cable, Impaired<Cable>) {
    impairment.check().unwrap();
    let (far, near) = Cable::pair(2 * QUEUE_FRAMES);
    (far, Impaired::new(near, impairment))
}

fn run(impairment: Impairment, frames: u8) -> Vec<u8> {
    let (mut far, mut wire) = wire(impairment);
    for number in 0..frames {
        wire.send(&[number; 60]).unwrap();
    }
    wire.advance(HOLD_NS);
    std::iter::from_fn(|| far.take())
        .map(|frame| frame[0])
        .collect()
}

#[test]
fn a_good_wire_changes_nothing() {
    let good = Impairment::default();
    assert!(good.is_none());
    assert_eq!(run(good, 100), (0..100).collect::<Vec<u8>>());
}

#[test]
fn the_same_seed_does_the_same_harm() {
    let bad = Impairment {
        loss: 0.1,
        reorder: 0.1,
        duplicate: 0.1,
        seed: 7,
        ..Impairment::default()
    };
    let arrived = run(bad, 250);
    assert_eq!(arrived, run(bad, 250));
    assert_ne!(arrived, run(Impairment { seed: 8, ..bad }, 250));
}

#[test]
fn loss_is_near_its_probability() {
    let bad = Impairment {
        loss: 0.2,
        ..Impairment::default()
    };
    let arrived = run(bad, 250).len();
    assert!((170..=230).contains(&arrived), "{arrived} of 250 arrived");
}

#[test]
fn bursts_are_longer_than_single_losses() {
    let bursts = Impairment {
        burst_enter: 0.02,
        burst_leave: 0.2,
        ..Impairment::default()
    };
    let (mut far, mut wire) = wire(bursts);
    let mut lost = Vec::new();
    for _ in 0..5000 {
        wire.send(&[1; 60]).unwrap();
        lost.push(far.take().is_none());
    }
    let count = lost.iter().filter(|lost| **lost).count();
    let runs = lost.windows(2).filter(|pair| !pair[0] && pair[1]).count();
    // In the bad state for 0.02 / 0.22 of the time, and for five frames at a time.
    assert!((300..=620).contains(&count), "{count} lost");
    assert!(
        (3.0..=7.0).contains(&(count as f64 / runs as f64)),
        "{count} in {runs}"
    );
    assert_eq!(wire.counts().lost_in_bursts, count as u64);
}

#[test]
fn reordering_loses_nothing_and_the_last_frame_is_not_held_for_ever() {
    let bad = Impairment {
        reorder: 0.5,
        seed: 3,
        ..Impairment::default()
    };
    let mut arrived = run(bad, 200);
    assert!(!arrived.is_sorted());
    arrived.sort_unstable();
    assert_eq!(arrived, (0..200).collect::<Vec<u8>>());
}

#[test]
fn duplicates_arrive_twice_on_the_way_in_too() {
    let (mut far, mut wire) = wire(Impairment {
        duplicate: 1.0,
        ..Impairment::default()
    });
    far.send(&[9; 70]).unwrap();
    let mut frame = [0; 128];
    assert_eq!(wire.receive(&mut frame).unwrap(), Some(70));
    assert!(wire.deadline_ns().is_some());
    assert_eq!(wire.receive(&mut frame).unwrap(), Some(70));
    assert_eq!(wire.receive(&mut frame).unwrap(), None);
}

#[test]
fn one_bit_is_wrong() {
    let (mut far, mut wire) = wire(Impairment {
        corrupt: 1.0,
        ..Impairment::default()
    });
    wire.send(&[0; 60]).unwrap();
    let frame = far.take().unwrap();
    let ones: u32 = frame.iter().map(|byte| byte.count_ones()).sum();
    assert_eq!((ones, wire.counts().corrupted), (1, 1));
}

#[test]
fn frames_arrive_after_their_delay_in_order() {
    let (mut far, mut wire) = wire(Impairment {
        delay_us: 100,
        jitter_us: 50,
        ..Impairment::default()
    });
    for number in 0..20 {
        wire.send(&[number; 60]).unwrap();
    }
    assert_eq!(far.waiting(), 0);
    assert!(wire.deadline_ns().is_some_and(|due| due >= 100_000));
    wire.advance(99_999);
    assert_eq!(far.waiting(), 0);
    wire.advance(150_000);
    let arrived: Vec<u8> = std::iter::from_fn(|| far.take()).map(|it| it[0]).collect();
    assert_eq!(arrived, (0..20).collect::<Vec<u8>>());
    assert_eq!(wire.deadline_ns(), None);
}

#[test]
fn a_slow_wire_takes_its_time_and_drops_what_does_not_fit() {
    // 100 bytes with what is around them take 8 us.
    let (mut far, mut wire) = wire(Impairment {
        rate_mbit: 100.0,
        ..Impairment::default()
    });
    for _ in 0..QUEUE_FRAMES + 3 {
        wire.send(&[1; 76]).unwrap();
    }
    assert_eq!(wire.counts().overflowed, 3);
    wire.advance(8_000 * 10);
    assert_eq!(far.waiting(), 10);
    wire.advance(8_000 * QUEUE_FRAMES as u64);
    assert_eq!(far.waiting(), QUEUE_FRAMES);
    far.take();
}

#[test]
fn one_direction_may_be_good() {
    let (mut far, mut wire) = wire(Impairment {
        direction: Affected::In,
        loss: 1.0,
        ..Impairment::default()
    });
    wire.watch(true);
    wire.send(&[1; 60]).unwrap();
    assert_eq!(far.waiting(), 1);
    far.send(&[2; 60]).unwrap();
    assert_eq!(wire.receive(&mut [0; 64]).unwrap(), None);
    let dropped = wire.next_dropped().expect("somebody watches");
    assert_eq!(dropped.frame, [2; 60]);
    assert_eq!(dropped.direction, Direction::Inbound);
    assert!(dropped.reason.contains("lost"));
    assert!(wire.next_dropped().is_none());
}

#[test]
fn it_changes_as_told_and_says_what_it_does() {
    let (mut far, mut wire) = wire(Impairment::default());
    let answer = wire.request("impair", r#"{"delay_us": 1000}"#);
    assert!(answer.unwrap().unwrap().contains(r#""delay_us":1000"#));
    wire.send(&[1; 60]).unwrap();
    let healed = wire.request("impair", "{}").unwrap().unwrap();
    assert!(healed.contains(r#""frames":1"#), "{healed}");
    // What is under way stays so, and is not overtaken.
    wire.send(&[2; 60]).unwrap();
    assert_eq!(far.waiting(), 0);
    wire.advance(1_000_000);
    assert_eq!(far.take(), Some(vec![1; 60]));
    assert_eq!(far.take(), Some(vec![2; 60]));
    wire.send(&[3; 60]).unwrap();
    assert_eq!(far.waiting(), 1);
    for (nonsense, expected) in [
        ("{", "EOF"),
        (r#"{"lose":1}"#, "unknown field"),
        (r#"{"loss":1.5}"#, "from 0 to 1"),
        (r#"{"burst_enter":0.1}"#, "burst_leave"),
        (r#"{"delay_us":99999999}"#, "shorter"),
        (r#"{"rate_mbit":-1}"#, "no bound"),
    ] {
        let refusal = wire.request("impair", nonsense).unwrap().unwrap_err();
        assert!(refusal.contains(expected), "{nonsense}: {refusal}");
    }
    assert!(wire.request("frogs", "").is_none());
}
