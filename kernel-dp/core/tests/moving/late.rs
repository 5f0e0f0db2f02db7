//! Frames that the NIC has steered before their flow group left, and that come out of its packet buffer
//! when everybody has forgotten the move.

use ix_core::Command;

use crate::plan::Plan;
use crate::world::World;

/// Longer than anything of a move takes.
const LATE_NS: u64 = 50_000_000;

fn has_payload(frame: &[u8]) -> bool {
    frame.len() > 200
}

fn is_syn(frame: &[u8]) -> bool {
    frame[47] & 0x3f == 2
}

/// A connection to thread 1, which has all flow groups, a frame of which is kept back; then its groups
/// go to thread 0.
fn left_behind(plan: &Plan, which: fn(&[u8]) -> bool) -> World {
    let mut world = World::new(plan);
    world.begin(plan);
    world.pass(10_000);
    world.give_all(0, 1);
    world.hold = Some(which);
    world.service.rests = true;
    world.open(plan.script(plan.roles()[0]));
    world.step_until(|world| world.held.is_some());
    world.give_all(1, 0);
    world
}

/// The frame arrives in the end, and all goes on to the end.
fn arrives(mut world: World, plan: &Plan) {
    world.pass(LATE_NS);
    world.release();
    world.pass(10_000);
    world.service.rests = false;
    world.finish(plan);
    world.check(plan);
    let late = world.members[1].thread.engine().counters().tcp_in_late;
    assert!(late >= 1, "{}", world.describe());
    for engine in world.members.iter().map(|member| member.thread.engine()) {
        assert_eq!(engine.counters().tcp_out_resets, 0, "{}", world.describe());
    }
    assert!(world.members[1].thread.counters().frames_forwarded >= late);
    assert_eq!(world.peer.host.engine.counters().tcp_out_resets, 0);
}

#[test]
fn late_segment_of_a_moved_connection_is_taken_to_it() {
    for seed in 0..20 {
        let plan = Plan::quiet(seed);
        let world = left_behind(&plan, has_payload);
        assert_eq!(world.service.moves, 1);
        arrives(world, &plan);
    }
}

#[test]
fn late_syn_opens_its_connection_where_its_group_is() {
    let plan = Plan::quiet(1);
    let mut world = left_behind(&plan, is_syn);
    world.pass(LATE_NS);
    world.release();
    world.step_until(|world| world.service.open() != 0);
    assert_eq!(world.members[1].thread.engine().connections(), 0);
    assert_eq!(world.members[0].thread.engine().connections(), 1);
}

/// Its ring is looked at when it halts for good, and its interrupt armed.
#[test]
fn parked_thread_hands_on_what_comes_to_its_ring() {
    let plan = Plan::quiet(2);
    let mut world = left_behind(&plan, has_payload);
    world.execute(1, Command::Park { to: 0 });
    arrives(world, &plan);
}
