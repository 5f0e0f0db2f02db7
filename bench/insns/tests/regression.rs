//! The gate: a request may not cost more than the checked-in baseline allows, nor more on several threads.

use ix_insns::{Options, bench};

#[test]
#[ignore = "boots virtual machines: run by `cargo xtask test`"]
fn a_request_costs_no_more_than_the_baseline_allows() {
    let options = Options {
        boots: 1,
        connections: vec![1, 64],
        threads: vec![1, 4],
        json: None,
        update: false,
        profile: None,
        annotate: None,
    };
    bench(&options, || Ok(())).unwrap();
}
