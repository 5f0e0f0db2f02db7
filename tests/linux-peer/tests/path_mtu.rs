//! Paths to Linux that are narrower than both ends believe, and say nothing.

use ix_linux_peer::transfer::{engine_to_linux, goodput};
use ix_linux_peer::{Path, Station};

const BYTES: u64 = 8 << 20;

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn a_black_hole_on_the_way_to_linux_is_found_out() {
    for longest in [1450, 1300, 1100] {
        let mut station = Station::new(Path {
            longest,
            ..Path::default()
        });
        let time = engine_to_linux(&mut station, BYTES);
        let counters = station.host.engine.counters();
        assert_eq!(counters.tcp_black_holes_suspected, 1, "{longest}");
        assert_eq!(counters.tcp_size_probes_failed, 1, "{longest}");
        assert!(station.wire.tap.eaten > 0, "{longest}");
        println!(
            "{longest} bytes pass: {} were eaten, {:.0} MiB/s",
            station.wire.tap.eaten,
            goodput(BYTES, time)
        );
    }
}
