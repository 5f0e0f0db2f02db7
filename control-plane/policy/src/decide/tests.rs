//! The decision function under synthetic loads: a diurnal one, a square one, a spike.

use super::*;

const STEP_MS: u64 = 50;

/// A dataplane with a queue: `demand` is the load in threads, and what its threads cannot carry waits.
struct Plant {
    load: Load,
    waiting: f64,
    grants: Vec<u32>,
    changes: usize,
}

impl Plant {
    fn new(name: &str, mode: Mode, threads: u32) -> Plant {
        let policy = Policy {
            mode,
            ..Policy::default()
        };
        Plant {
            load: Load {
                name: name.to_owned(),
                policy,
                threads,
                granted: 1,
                queue_short: 0.0,
                queue_long: 0.0,
                loop_us: 10.0,
                busy: 0.0,
                delayed: 0.0,
                since_change_ms: 1_000_000,
            },
            waiting: 0.0,
            grants: Vec::new(),
            changes: 0,
        }
    }

    /// One step under that demand: frames that are not served wait, at most a ring of them.
    fn observe(&mut self, demand: f64) {
        let granted = f64::from(self.load.granted);
        let per_step = 400.0;
        self.waiting = (self.waiting + (demand - granted) * per_step).clamp(0.0, 2048.0 * granted);
        let queue = self.waiting / granted;
        self.load.queue_short = queue;
        let weight = STEP_MS as f64 / 1_000.0;
        self.load.queue_long += (queue - self.load.queue_long) * weight;
        let backlog = if self.waiting > 0.0 { 1.0 } else { 0.0 };
        self.load.busy = (demand / granted).min(1.0).max(backlog);
    }

    fn obey(&mut self, verdict: &Verdict) {
        match verdict.action {
            Action::Grow => self.load.granted += 1,
            Action::Shrink => self.load.granted -= 1,
            Action::Keep => {}
        }
        if verdict.action == Action::Keep {
            self.load.since_change_ms += STEP_MS;
        } else {
            self.load.since_change_ms = 0;
            self.changes += 1;
        }
        self.grants.push(self.load.granted);
    }

    fn run(mut self, demand: impl Fn(f64) -> f64, seconds: u64) -> Plant {
        for step in 0..seconds * 1_000 / STEP_MS {
            self.observe(demand(step as f64 * STEP_MS as f64 / 1_000.0));
            let verdict = decide(std::slice::from_ref(&self.load), 8);
            self.obey(&verdict[0]);
        }
        self
    }

    fn granted_at(&self, second: f64) -> u32 {
        self.grants[(second * 1_000.0) as usize / STEP_MS as usize]
    }
}

#[test]
fn a_diurnal_load_is_followed_up_and_down_without_flapping() {
    let day = |second: f64| 0.3 + 3.0 * (second * std::f64::consts::PI / 120.0).sin().powi(2);
    let plant = Plant::new("a", Mode::Elastic, 8).run(day, 120);
    assert_eq!(plant.granted_at(1.0), 1);
    assert!(
        (4..=5).contains(&plant.granted_at(62.0)),
        "{:?}",
        plant.grants
    );
    assert!(plant.granted_at(119.0) <= 2);
    let most = *plant.grants.iter().max().unwrap() as usize;
    assert!(plant.changes <= 2 * most, "{} changes", plant.changes);
}

#[test]
fn a_square_load_is_met_within_two_seconds_and_left_within_ten() {
    let square = |second: f64| {
        if (second as u64 / 20).is_multiple_of(2) {
            0.2
        } else {
            3.5
        }
    };
    let plant = Plant::new("a", Mode::Elastic, 8).run(square, 60);
    assert_eq!(plant.granted_at(19.9), 1);
    assert!(plant.granted_at(22.0) >= 4, "{}", plant.granted_at(22.0));
    assert_eq!(plant.granted_at(55.0), 1);
}

#[test]
fn a_spike_shorter_than_the_hold_grants_little() {
    let spike = |second: f64| {
        if (10.0..10.3).contains(&second) {
            4.0
        } else {
            0.2
        }
    };
    let plant = Plant::new("a", Mode::Elastic, 8).run(spike, 30);
    assert!(
        *plant.grants.iter().max().unwrap() <= 4,
        "{:?}",
        plant.grants
    );
    assert_eq!(plant.granted_at(29.0), 1);
}

#[test]
fn a_steady_load_changes_nothing_in_the_end() {
    for tenths in 1..40 {
        let plant = Plant::new("a", Mode::Elastic, 8).run(|_| f64::from(tenths) / 10.0, 120);
        let late = &plant.grants[plant.grants.len() / 2..];
        assert!(
            late.iter().all(|granted| *granted == late[0]),
            "{tenths}: {late:?}"
        );
        assert!(
            f64::from(late[0]) >= f64::from(tenths) / 10.0,
            "{tenths}: {}",
            late[0]
        );
    }
}

#[test]
fn static_and_manual_are_left_alone() {
    for mode in [Mode::Static, Mode::Manual] {
        let plant = Plant::new("a", mode, 8).run(|_| 5.0, 10);
        assert_eq!(plant.changes, 0);
    }
}

#[test]
fn bounds_are_kept_and_named() {
    let mut plant = Plant::new("a", Mode::Elastic, 8);
    plant.load.policy.max = Some(2);
    let plant = plant.run(|_| 6.0, 10);
    assert_eq!(*plant.grants.iter().max().unwrap(), 2);
    let verdict = alone(&plant.load);
    assert!(
        verdict.reason.contains("maximum of 2"),
        "{}",
        verdict.reason
    );
    let mut plant = Plant::new("a", Mode::Elastic, 8);
    plant.load.policy.min = 3;
    let plant = plant.run(|_| 0.0, 10);
    assert_eq!(plant.granted_at(9.0), 3);
}

#[test]
fn nobody_grows_when_nothing_is_free() {
    let mut plant = Plant::new("a", Mode::Elastic, 8);
    plant.observe(5.0);
    let verdict = &decide(&[plant.load], 0)[0];
    assert_eq!(verdict.action, Action::Keep);
    assert!(
        verdict.reason.contains("no hardware thread is free"),
        "{}",
        verdict.reason
    );
}

#[test]
fn one_free_thread_goes_to_one_dataplane() {
    let mut a = Plant::new("a", Mode::Elastic, 8);
    let mut b = Plant::new("b", Mode::Elastic, 8);
    a.observe(5.0);
    b.observe(5.0);
    let verdicts = decide(&[a.load, b.load], 1);
    let growing = verdicts
        .iter()
        .filter(|verdict| verdict.action == Action::Grow);
    assert_eq!(growing.count(), 1);
}

/// Both want everything; six hardware threads end up by weight.
#[test]
fn fair_dataplanes_share_by_weight_under_contention() {
    let mut a = Plant::new("a", Mode::Fair, 8);
    let mut b = Plant::new("b", Mode::Fair, 8);
    (a.load.policy.weight, a.load.granted) = (2, 1);
    (b.load.policy.weight, b.load.granted) = (1, 5);
    for _ in 0..400 {
        a.observe(8.0);
        b.observe(8.0);
        let free = 6 - (a.load.granted + b.load.granted) as usize;
        let verdicts = decide(&[a.load.clone(), b.load.clone()], free);
        a.obey(&verdicts[0]);
        b.obey(&verdicts[1]);
        assert!(a.load.granted + b.load.granted <= 6);
    }
    assert_eq!((a.load.granted, b.load.granted), (4, 2));
    let late = a.grants[300..].iter().all(|granted| *granted == 4);
    assert!(late, "no flapping: {:?}", a.grants);
}

#[test]
fn what_one_fair_dataplane_does_not_use_the_other_one_gets() {
    let mut a = Plant::new("a", Mode::Fair, 8);
    let mut b = Plant::new("b", Mode::Fair, 8);
    for _ in 0..400 {
        a.observe(0.2);
        b.observe(8.0);
        let free = 6 - (a.load.granted + b.load.granted) as usize;
        let verdicts = decide(&[a.load.clone(), b.load.clone()], free);
        a.obey(&verdicts[0]);
        b.obey(&verdicts[1]);
    }
    assert_eq!((a.load.granted, b.load.granted), (1, 5));
}

/// Two threads that look idle, on a host that runs them for half of the time only.
#[test]
fn what_an_overloaded_host_makes_look_idle_is_not_taken_away() {
    let mut plant = Plant::new("a", Mode::Elastic, 8);
    plant.load.granted = 2;
    plant.load.busy = 0.1;
    plant.load.delayed = 0.5;
    let verdict = alone(&plant.load);
    assert_eq!(verdict.action, Action::Keep);
    assert!(
        verdict.reason.ends_with("let them wait for 50 %"),
        "{}",
        verdict.reason
    );
    plant.load.delayed = 0.02;
    assert_eq!(alone(&plant.load).action, Action::Shrink);
}

/// It does not grow for that reason either: a further thread would wait as well.
#[test]
fn a_host_that_lets_it_wait_is_no_reason_to_grow() {
    let mut plant = Plant::new("a", Mode::Elastic, 8);
    plant.load.busy = 0.1;
    plant.load.delayed = 1.0;
    plant.load.loop_us = 10_000.0;
    assert_eq!(alone(&plant.load).action, Action::Keep);
}
