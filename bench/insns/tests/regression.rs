//! The gate: a request may not cost more than the checked-in baseline allows, nor more on several threads.

use ix_insns::exchange::Application;
use ix_insns::{Options, bench};

fn options(app: Application, threads: &[u32]) -> Options {
    Options {
        app,
        boots: 1,
        connections: vec![1, 64],
        threads: threads.to_vec(),
        crowd: Vec::new(),
        json: None,
        update: false,
        profile: None,
        annotate: None,
    }
}

#[test]
#[ignore = "boots virtual machines: run by `cargo xtask test`"]
fn a_request_costs_no_more_than_the_baseline_allows() {
    bench(&options(Application::Echo, &[1, 4]), || Ok(())).unwrap();
}

#[test]
#[ignore = "boots a virtual machine: run by `cargo xtask test`"]
fn a_request_of_memcached_costs_no_more_than_the_baseline_allows() {
    bench(&options(Application::Memcached, &[]), || Ok(())).unwrap();
}
