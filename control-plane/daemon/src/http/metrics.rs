//! Numbers in the text format of Prometheus.

use std::fmt::Write;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use ix_api::{CoreMap, Dataplane, Stats, ThreadStats, Use};

use super::Shared;

/// A number of each elastic thread.
struct Metric {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    value: fn(&ThreadStats) -> f64,
}

const fn counter(name: &'static str, help: &'static str, value: fn(&ThreadStats) -> f64) -> Metric {
    Metric {
        name,
        kind: "counter",
        help,
        value,
    }
}

const fn gauge(name: &'static str, help: &'static str, value: fn(&ThreadStats) -> f64) -> Metric {
    Metric {
        name,
        kind: "gauge",
        help,
        value,
    }
}

const METRICS: [Metric; 27] = [
    counter("ix_thread_cycles_total", "Cycles.", |it| it.cycles as f64),
    counter(
        "ix_thread_busy_cycles_total",
        "Cycles that found frames.",
        |it| it.busy_cycles as f64,
    ),
    counter(
        "ix_thread_rounds_total",
        "Rounds of the application.",
        |it| it.rounds as f64,
    ),
    counter(
        "ix_thread_events_total",
        "Events handed to the application.",
        |it| it.events as f64,
    ),
    counter("ix_thread_calls_total", "Calls of the application.", |it| {
        it.calls as f64
    }),
    counter("ix_thread_rx_frames_total", "Frames received.", |it| {
        it.rx_frames as f64
    }),
    counter("ix_thread_rx_bytes_total", "Bytes received.", |it| {
        it.rx_bytes as f64
    }),
    counter("ix_thread_tx_frames_total", "Frames sent.", |it| {
        it.tx_frames as f64
    }),
    counter("ix_thread_tx_bytes_total", "Bytes sent.", |it| {
        it.tx_bytes as f64
    }),
    counter(
        "ix_thread_idle_seconds_total",
        "Time with nothing to do.",
        |it| it.idle_ns as f64 / 1e9,
    ),
    counter(
        "ix_thread_user_seconds_total",
        "Time in the application.",
        |it| it.user_ns as f64 / 1e9,
    ),
    counter(
        "ix_thread_rx_missed_total",
        "Frames lost for want of a descriptor.",
        |it| it.rx_missed as f64,
    ),
    counter("ix_thread_rx_errors_total", "Frames refused.", |it| {
        it.rx_errors as f64
    }),
    counter(
        "ix_thread_rx_no_buffers_total",
        "Payload dropped, too many buffers held.",
        |it| it.rx_no_buffers as f64,
    ),
    counter("ix_thread_tx_drops_total", "Frames not sent.", |it| {
        it.tx_drops as f64
    }),
    counter(
        "ix_thread_retransmits_total",
        "TCP segments sent again.",
        |it| it.retransmits as f64,
    ),
    counter(
        "ix_thread_migrated_in_total",
        "Connections that came from another thread.",
        |it| it.migrated_in as f64,
    ),
    counter(
        "ix_thread_migrated_out_total",
        "Connections that went to another thread.",
        |it| it.migrated_out as f64,
    ),
    counter(
        "ix_thread_parked_frames_total",
        "Frames kept while their flow group was on its way.",
        |it| it.parked_frames as f64,
    ),
    counter(
        "ix_thread_refused_total",
        "Connections refused, a table was full.",
        |it| it.refused as f64,
    ),
    counter(
        "ix_thread_overstays_total",
        "Rounds in which the application stayed in user mode longer than it may.",
        |it| it.overstays as f64,
    ),
    gauge(
        "ix_thread_absent",
        "1 while the application stays in user mode longer than it may.",
        |it| f64::from(it.is_absent),
    ),
    gauge("ix_thread_connections", "Connections.", |it| {
        it.connections as f64
    }),
    gauge("ix_thread_mbufs_free", "Free frame buffers.", |it| {
        it.mbufs_free as f64
    }),
    gauge(
        "ix_thread_batch_frames",
        "Frames in a batch, average over 1 s.",
        |it| it.batch[2],
    ),
    gauge(
        "ix_thread_queue_frames",
        "Frames waiting, average over 1 s.",
        |it| it.queue_depth[2],
    ),
    gauge(
        "ix_thread_loop_seconds",
        "Length of a busy cycle, average over 1 s.",
        |it| it.loop_ns[2] / 1e9,
    ),
];

/// Numbers of all dataplanes.
#[utoipa::path(get, path = "/metrics", responses(
    (status = 200, body = String, content_type = "text/plain")
))]
pub async fn metrics(State(shared): State<Shared>) -> Response {
    let sights = shared.look();
    let seen = sights.dataplanes.iter();
    let (dataplanes, stats): (Vec<Dataplane>, Vec<Stats>) =
        seen.map(|it| (it.view.clone(), it.stats())).unzip();
    let text = render(&sights.cores, &dataplanes, &stats);
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, text).into_response()
}

/// Writing to a string does not fail.
fn render(cores: &CoreMap, dataplanes: &[Dataplane], stats: &[Stats]) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "# HELP ix_hardware_threads Hardware threads by use.");
    let _ = writeln!(text, "# TYPE ix_hardware_threads gauge");
    for (name, count) in uses(cores) {
        let _ = writeln!(text, "ix_hardware_threads{{use=\"{name}\"}} {count}");
    }
    let _ = writeln!(text, "# HELP ix_granted Hardware threads of a dataplane.");
    let _ = writeln!(text, "# TYPE ix_granted gauge");
    for dataplane in dataplanes {
        let (name, granted) = (&dataplane.name, dataplane.granted());
        let _ = writeln!(text, "ix_granted{{dataplane=\"{name}\"}} {granted}");
    }
    for metric in METRICS {
        let Metric {
            name, kind, help, ..
        } = metric;
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (dataplane, stats) in dataplanes.iter().zip(stats) {
            for thread in &stats.threads {
                let (owner, number) = (&dataplane.name, thread.thread);
                let value = (metric.value)(thread);
                let _ = writeln!(
                    text,
                    "{name}{{dataplane=\"{owner}\",thread=\"{number}\"}} {value}"
                );
            }
        }
    }
    text
}

fn uses(cores: &CoreMap) -> [(&'static str, usize); 3] {
    let count = |wanted: fn(&Use) -> bool| {
        let threads = cores.threads.iter();
        threads.filter(|thread| wanted(&thread.used)).count()
    };
    [
        ("reserved", count(|it| matches!(it, Use::Reserved))),
        ("free", count(|it| matches!(it, Use::Free))),
        ("granted", count(|it| matches!(it, Use::Granted(_)))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use ix_policy::{Assignment, Topology};

    #[test]
    fn numbers_have_names_and_labels() {
        let assignment = Assignment::new(Topology::emulated(2), [0]);
        let dataplane: Dataplane = serde_json::from_value(serde_json::json!({
            "name": "kv", "state": "running", "ended": null, "app": "echo", "ip": "10.9.0.2/24",
            "threads": 1, "cores": [1], "policy": "manual", "accel": null, "netns": null,
            "keeper_pid": null, "vm_pid": null, "started_ms": 0,
        }))
        .unwrap();
        let thread = ThreadStats {
            rx_frames: 42,
            idle_ns: 1_500_000_000,
            ..ThreadStats::default()
        };
        let stats = Stats {
            threads: vec![thread],
        };
        let text = render(&assignment.map(true), &[dataplane], &[stats]);
        for line in [
            "ix_hardware_threads{use=\"free\"} 1",
            "ix_granted{dataplane=\"kv\"} 1",
            "# TYPE ix_thread_rx_frames_total counter",
            "ix_thread_rx_frames_total{dataplane=\"kv\",thread=\"0\"} 42",
            "ix_thread_idle_seconds_total{dataplane=\"kv\",thread=\"0\"} 1.5",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }
}
