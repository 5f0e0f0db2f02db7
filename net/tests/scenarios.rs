//! Whole simulations from seeds (`ix_net::testing::Scenario`): some here, ten thousand in `cargo xtask
//! test simulation`, any number in `cargo xtask sim`.

use ix_net::testing::Scenario;

fn holds(seed: u64) {
    if let Err(wrong) = Scenario::new(seed).run(None) {
        panic!("seed {seed}: {wrong}");
    }
}

#[test]
fn scenarios_hold() {
    (0..300).for_each(holds);
}

#[test]
fn a_scenario_is_the_same_each_time() {
    let outcome = |seed| Scenario::new(seed).run(None);
    for seed in [3, 11, 196] {
        assert_eq!(outcome(seed), outcome(seed), "seed {seed}");
    }
    assert_ne!(outcome(3), outcome(11));
}
