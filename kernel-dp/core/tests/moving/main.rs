//! Up to 64 elastic threads in virtual time, whose flow groups move at random, and which park and
//! run, while connections exchange verified streams with a peer. Everything follows from the seed;
//! `IX_SIM_SEEDS` says how many there are.
//!
//! | room | what |
//! |---|---|
//! | `machine` | NIC, buffers, clock; `wire`: what happens to frames on the way |
//! | `service` | the application of all threads |
//! | `world` | all of that together with a peer; `commands`: the control plane; `check`: the end |
//! | `late` | frames that come when their flow group has long left |
//! | `pace` | how long connections are out of service |

mod check;
mod commands;
mod late;
mod machine;
mod member;
mod pace;
mod plan;
mod service;
mod wire;
mod world;

use ix_net::testing::{Faults, Random, STREAM_PERIOD};

use member::APP_BYTES;
use plan::Plan;
use world::World;

fn seeds(default: u64) -> u64 {
    match std::env::var("IX_SIM_SEEDS") {
        Ok(text) => text.parse().expect("IX_SIM_SEEDS is a number of seeds"),
        Err(_) => default,
    }
}

fn run(plan: &Plan) -> World {
    assert!(APP_BYTES as u64 >= STREAM_PERIOD * 2);
    let mut world = World::new(plan);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        world.run(plan);
        world.check(plan);
    }));
    if let Err(panic) = outcome {
        eprintln!("seed {} with {} threads failed", plan.seed, plan.threads);
        std::panic::resume_unwind(panic);
    }
    world
}

/// What many seeds did together, so that a test can tell that it tried what it is for.
#[derive(Debug, Default)]
struct Totals {
    moves: u64,
    gives: u64,
    parks: u64,
    frames_kept: u64,
    frames_forwarded: u64,
    /// Datagrams put together on another thread than that of their connection.
    elsewhere: u64,
}

impl Totals {
    fn add(&mut self, world: &World) {
        self.moves += world.service.moves;
        self.gives += world.gives;
        self.parks += world.parks;
        for member in &world.members {
            self.frames_kept += member.thread.counters().frames_kept;
            self.frames_forwarded += member.thread.counters().frames_forwarded;
            self.elsewhere += member.thread.engine().counters().rx_elsewhere;
        }
    }
}

#[test]
fn groups_move_while_streams_flow() {
    let mut totals = Totals::default();
    let seeds = seeds(300);
    for seed in 0..seeds {
        let mut random = Random::new(seed ^ 0x77);
        let plan = Plan {
            seed,
            threads: 2 + random.below(7) as usize,
            connections: 1 + random.below(40),
            outbound: random.below(10) as u32,
            bytes: random.below(60_000),
            faults: Faults {
                delay: random.below(20_000),
                ..Faults::default()
            },
            steering_ns: 1_500,
            lag_ns: 0,
            commands: random.below(200) as u32,
            fragments: 0,
            parks: true,
            cycle_ns: 0,
        };
        totals.add(&run(&plan));
    }
    println!("{totals:?}");
    assert!(
        totals.moves > 10 * seeds && totals.parks > seeds,
        "{totals:?}"
    );
    assert!(totals.frames_kept > 10 * seeds, "{totals:?}");
}

/// What a thread takes for the time is when its cycle began, which may be long ago on a processor that
/// did something else meanwhile. Time must not go back for a connection that comes to it.
#[test]
fn groups_move_to_threads_that_are_behind() {
    let mut totals = Totals::default();
    let seeds = seeds(100);
    for seed in 0..seeds {
        let mut random = Random::new(seed ^ 0x79);
        let plan = Plan {
            seed,
            threads: 2 + random.below(3) as usize,
            connections: 1 + random.below(10),
            outbound: random.below(4) as u32,
            bytes: 20_000 + random.below(20_000),
            faults: Faults {
                delay: random.below(20_000),
                ..Faults::default()
            },
            steering_ns: 1_500,
            lag_ns: 4_000_000,
            fragments: 0,
            commands: random.below(200) as u32,
            parks: true,
            cycle_ns: 0,
        };
        totals.add(&run(&plan));
    }
    println!("{totals:?}");
    assert!(totals.moves > 2 * seeds, "{totals:?}");
}

/// Losses, duplicates and reordering on the wire: retransmission timers, out-of-order segments and
/// recoveries move too.
#[test]
fn groups_move_while_the_wire_loses_frames() {
    let mut totals = Totals::default();
    let seeds = seeds(100);
    for seed in 0..seeds {
        let mut random = Random::new(seed ^ 0x78);
        let plan = Plan {
            seed,
            threads: 2 + random.below(3) as usize,
            connections: 1 + random.below(20),
            outbound: random.below(5) as u32,
            bytes: random.below(100_000),
            faults: Faults {
                loss: random.below(50) as u32,
                duplication: random.below(20) as u32,
                reordering: random.below(50) as u32,
                delay: random.below(50_000),
                reorder_delay: 100_000,
                ..Faults::default()
            },
            steering_ns: 10_000,
            lag_ns: 0,
            commands: random.below(200) as u32,
            fragments: random.below(50) as u32,
            parks: true,
            cycle_ns: 0,
        };
        totals.add(&run(&plan));
    }
    println!("{totals:?}");
    assert!(
        totals.moves > 10 * seeds && totals.frames_forwarded > seeds,
        "{totals:?}"
    );
    assert!(totals.elsewhere > 2 * seeds, "{totals:?}");
}

#[test]
fn sixty_four_threads_hand_groups_around() {
    let mut totals = Totals::default();
    let seeds = seeds(100) / 10;
    for seed in 0..seeds {
        let plan = Plan {
            seed,
            threads: 64,
            connections: 64,
            outbound: 8,
            bytes: 20_000,
            faults: Faults {
                delay: 5_000,
                ..Faults::default()
            },
            steering_ns: 1_500,
            lag_ns: 0,
            commands: 900,
            fragments: 0,
            parks: true,
            cycle_ns: 0,
        };
        totals.add(&run(&plan));
    }
    println!("{totals:?}");
    assert!(totals.moves >= 10 * seeds, "{totals:?}");
}
