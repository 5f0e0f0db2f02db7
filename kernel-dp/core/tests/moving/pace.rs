//! How long connections are out of service while their flow groups move.

use ix_core::Command;
use ix_net::testing::{Faults, Random};

use crate::plan::Plan;
use crate::world::World;
use crate::{run, seeds};

/// A cycle is as long as the NIC may take to bring a frame to its ring, and the threads keep up with their
/// rings: then nothing but the two threads' cycles is between the last one that serves a connection here
/// and the first one there.
#[test]
fn no_connection_waits_longer_than_two_cycles_of_each_side() {
    let seeds = seeds(60);
    let (mut gives, mut moves) = (0, 0);
    for seed in 0..seeds {
        let mut random = Random::new(seed ^ 0x7a);
        let plan = Plan {
            threads: 2 + random.below(4) as usize,
            connections: 1 + random.below(4),
            outbound: random.below(3) as u32,
            bytes: random.below(5_000),
            faults: Faults {
                delay: random.below(20_000),
                ..Faults::default()
            },
            steering_ns: 1_500,
            cycle_ns: 5_000,
            commands: 20 + random.below(100) as u32,
            ..Plan::quiet(seed)
        };
        let world = run(&plan);
        gives += world.gives;
        moves += world.service.moves;
        for member in &world.members {
            let counters = member.thread.counters();
            let cycles = (counters.giving_cycles_most, counters.taking_cycles_most);
            assert!(cycles.0 <= 2 && cycles.1 <= 2, "seed {seed}: {cycles:?}");
            assert_eq!(counters.moves_overtaking, 0);
        }
    }
    println!("{gives} commands, {moves} connections moved");
    assert!(gives > seeds && moves > seeds, "{gives} {moves}");
}

/// Without a link nothing leaves. Connections move all the same, later, and it is counted; what comes twice
/// or late then, the peer sorts out.
#[test]
fn groups_move_although_nothing_can_be_sent() {
    let plan = Plan {
        cycle_ns: 100_000,
        ..Plan::quiet(3)
    };
    let mut world = World::new(&plan);
    world.begin(&plan);
    world.pass(1_000_000);
    world.give_all(0, 1);
    world.open(plan.script(plan.roles()[0]));
    world.step_until(|world| world.service.connected == 1);
    world.is_link_up = false;
    world.step_until(|world| world.waits_to_send(1));
    let groups = world.members[1].thread.engine().flow_groups();
    let since = world.now();
    world.execute(1, Command::Give { groups, to: 0 });
    assert!(world.now() - since >= 1_000_000_000);
    assert_eq!(world.members[1].thread.counters().moves_overtaking, 1);
    world.is_link_up = true;
    world.finish(&plan);
    world.check(&plan);
}
