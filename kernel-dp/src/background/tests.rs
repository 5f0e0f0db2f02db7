//! Turns, sleep, waiting, and what no sequence of calls may break.

use super::*;
use proptest::prelude::*;
use std::vec::Vec;

const WORD: u64 = 0x40_0000_0000;

fn at(ns: u64) -> Instant {
    Instant(ns)
}

fn start(argument: u64) -> Start {
    Start {
        entry: 0x40_0200,
        argument,
    }
}

/// A scheduler with that many threads.
fn with_threads(count: usize) -> Scheduler {
    let mut scheduler = Scheduler::new();
    for number in 0..count {
        assert_eq!(scheduler.spawn(start(number as u64)), Ok(number));
    }
    scheduler
}

fn run(scheduler: &mut Scheduler, now: u64) -> (usize, Turn) {
    match scheduler.next(at(now)) {
        Next::Run(thread, turn) => (thread, turn),
        Next::Halt(until) => panic!("halts until {until:?}"),
    }
}

#[test]
fn spinning_threads_take_turns() {
    let mut scheduler = with_threads(3);
    for number in 0..3 {
        let begins = (number, Turn::Begin(start(number as u64)));
        assert_eq!(run(&mut scheduler, 0), begins);
        scheduler.interrupt(at(0));
    }
    for turn in 0..30 {
        assert_eq!(run(&mut scheduler, turn), (turn as usize % 3, Turn::Resume));
        scheduler.interrupt(at(turn));
    }
    assert_eq!(scheduler.counters().interrupted, 33);
}

#[test]
fn a_full_table_refuses_until_a_thread_ends() {
    let mut scheduler = with_threads(BACKGROUND_MAX);
    assert_eq!(scheduler.spawn(start(9)), Err(Error::Exhausted));
    assert_eq!(scheduler.counters().refused, 1);
    let (thread, _) = run(&mut scheduler, 0);
    scheduler.end();
    assert_eq!(scheduler.spawn(start(9)), Ok(thread));
}

#[test]
fn without_threads_it_halts_until_it_is_told() {
    let mut scheduler = Scheduler::new();
    assert!(!scheduler.must_be_told());
    assert_eq!(scheduler.next(at(0)), Next::Halt(None));
    assert!(!scheduler.must_be_told(), "nothing to be told of");
    scheduler.spawn(start(0)).unwrap();
    assert!(scheduler.must_be_told());
    assert!(!scheduler.must_be_told(), "it is told once");
    run(&mut scheduler, 0);
    scheduler.spawn(start(0)).unwrap();
    assert!(!scheduler.must_be_told(), "it does not halt");
}

#[test]
fn sleepers_wake_in_the_order_of_their_times() {
    let mut scheduler = with_threads(3);
    for until in [300, 100, 200] {
        run(&mut scheduler, 0);
        scheduler.sleep(at(until));
    }
    assert_eq!(scheduler.next(at(50)), Next::Halt(Some(at(100))));
    assert_eq!(run(&mut scheduler, 250), (1, Turn::Return(250)));
    scheduler.end();
    assert_eq!(run(&mut scheduler, 251), (2, Turn::Return(250)));
    scheduler.end();
    assert_eq!(scheduler.next(at(299)), Next::Halt(Some(at(300))));
    assert_eq!(run(&mut scheduler, 300), (0, Turn::Return(300)));
}

#[test]
fn a_sleeper_whose_time_came_runs_before_the_one_that_was_interrupted() {
    let mut scheduler = with_threads(2);
    run(&mut scheduler, 0);
    scheduler.sleep(at(100));
    assert_eq!(run(&mut scheduler, 0).0, 1);
    scheduler.interrupt(at(100));
    assert_eq!(run(&mut scheduler, 100), (0, Turn::Return(100)));
}

#[test]
fn waiting_threads_are_woken_longest_first_and_by_their_word_alone() {
    let mut scheduler = with_threads(4);
    for word in [WORD, WORD + 8, WORD, WORD] {
        run(&mut scheduler, 0);
        scheduler.wait(word, None);
    }
    assert_eq!(scheduler.next(at(0)), Next::Halt(None));
    assert_eq!(scheduler.wake(WORD + 16, 9), 0);
    assert_eq!(scheduler.wake(WORD, 0), 0);
    assert_eq!(scheduler.wake(WORD, 2), 2);
    assert_eq!(run(&mut scheduler, 0), (0, Turn::Return(0)));
    scheduler.end();
    assert_eq!(run(&mut scheduler, 0), (2, Turn::Return(0)));
    scheduler.end();
    assert_eq!(scheduler.wake(WORD, u64::MAX), 1);
    assert_eq!(scheduler.wake(WORD + 8, u64::MAX), 1);
    assert_eq!(scheduler.counters().woken, 4);
}

#[test]
fn a_wait_that_nobody_ends_times_out() {
    let mut scheduler = with_threads(1);
    run(&mut scheduler, 0);
    scheduler.wait(WORD, Some(at(70)));
    assert_eq!(scheduler.next(at(0)), Next::Halt(Some(at(70))));
    let timed_out = Turn::Return(Error::TimedOut.to_result());
    assert_eq!(run(&mut scheduler, 70), (0, timed_out));
    assert_eq!(scheduler.wake(WORD, 1), 0);
}

/// What a thread or another processor may do.
#[derive(Clone, Copy, Debug)]
enum Step {
    Spawn,
    Wake(u64, u64),
    Run(Leave),
}

/// Why a thread does not go on.
#[derive(Clone, Copy, Debug)]
enum Leave {
    Interrupt,
    Yield,
    Sleep(u64),
    Wait(u64, Option<u64>),
    End,
}

fn leave() -> impl Strategy<Value = Leave> {
    prop_oneof![
        Just(Leave::Interrupt),
        Just(Leave::Yield),
        (0u64..20).prop_map(Leave::Sleep),
        (0u64..3, proptest::option::of(0u64..20)).prop_map(|(word, time)| Leave::Wait(word, time)),
        Just(Leave::End),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Spawn),
        1 => (0u64..3, 0u64..4).prop_map(|(word, most)| Step::Wake(word, most)),
        6 => leave().prop_map(Step::Run),
    ]
}

fn alive(scheduler: &Scheduler) -> usize {
    let threads = scheduler.threads.iter();
    threads
        .filter(|thread| !matches!(thread, Thread::Free))
        .count()
}

proptest! {
    /// No thread is lost or doubled, none that can run waits for more turns than there are others,
    /// and it halts only when none can.
    #[test]
    fn every_thread_that_can_run_has_its_turn(steps in proptest::collection::vec(step(), 1..400)) {
        let mut scheduler = Scheduler::new();
        for (now, step) in steps.into_iter().enumerate() {
            let now = at(now as u64);
            match step {
                Step::Spawn => drop(scheduler.spawn(start(0))),
                Step::Wake(word, most) => drop(scheduler.wake(word, most)),
                Step::Run(leave) => match scheduler.next(now) {
                    Next::Halt(until) => {
                        prop_assert!(until.is_none_or(|until| until > now));
                        let can_run = |thread: &Thread| matches!(thread, Thread::Ready(_));
                        prop_assert!(!scheduler.threads.iter().any(can_run));
                    }
                    Next::Run(..) => match leave {
                        Leave::Interrupt => scheduler.interrupt(now),
                        Leave::Yield => scheduler.yield_turn(now),
                        Leave::Sleep(time) => scheduler.sleep(at(now.0 + time)),
                        Leave::Wait(word, time) => {
                            scheduler.wait(word, time.map(|time| at(now.0 + time)));
                        }
                        Leave::End => scheduler.end(),
                    },
                },
            }
            let Counters { spawned, ended, .. } = *scheduler.counters();
            prop_assert_eq!(alive(&scheduler) as u64, spawned - ended);
            let mut queued: Vec<usize> = (0..scheduler.queue.count)
                .map(|turn| scheduler.queue.threads[(scheduler.queue.first + turn) % BACKGROUND_MAX])
                .collect();
            queued.sort_unstable();
            let ready = (0..BACKGROUND_MAX)
                .filter(|&thread| matches!(scheduler.threads[thread], Thread::Ready(_)));
            prop_assert!(queued.into_iter().eq(ready));
        }
    }
}
