//! Commands that show something.

use std::io::{self, Write};

use anyhow::Result;
use ix_api::{
    Action, CoreMap, Dataplane, Decision, Event, FlowGroup, Lagged, Policy, State, Stats,
    ThreadStats, Use,
};
use serde::Serialize;

use crate::client::{Client, escaped};
use crate::table::{render, short};

/// Prints an answer as it came.
pub fn json(value: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Lists dataplanes.
pub async fn ps(client: &Client, as_json: bool) -> Result<()> {
    let dataplanes: Vec<Dataplane> = client.get("/v1/dataplanes").await?;
    if as_json {
        return json(&dataplanes);
    }
    print!("{}", ps_table(&dataplanes));
    Ok(())
}

fn ps_table(dataplanes: &[Dataplane]) -> String {
    let rows: Vec<Vec<String>> = dataplanes
        .iter()
        .map(|dataplane| {
            let cores = list(dataplane.cores.iter().flatten());
            vec![
                dataplane.name.clone(),
                match dataplane.state {
                    State::Ended => {
                        format!("ended: {}", first_line(dataplane.ended.as_deref()))
                    }
                    State::Running if !dataplane.absent.is_empty() => {
                        format!(
                            "running, thread {} does not return",
                            list(&dataplane.absent)
                        )
                    }
                    state => format!("{state:?}").to_lowercase(),
                },
                dataplane.app.clone(),
                dataplane.ip.clone(),
                format!("{}/{}", dataplane.granted(), dataplane.threads),
                match dataplane.background {
                    Some(core) => format!("{cores}; background {core}"),
                    None => cores,
                },
                format!("{:?}", dataplane.policy).to_lowercase(),
                dataplane.netns.clone().unwrap_or_default(),
            ]
        })
        .collect();
    let headings = [
        "NAME",
        "STATE",
        "APP",
        "ADDRESS",
        "THREADS",
        "CORES",
        "POLICY",
        "NAMESPACE",
    ];
    render(&headings, &rows)
}

fn list<'a>(numbers: impl IntoIterator<Item = &'a u32>) -> String {
    let numbers: Vec<String> = numbers.into_iter().map(u32::to_string).collect();
    numbers.join(",")
}

fn first_line(text: Option<&str>) -> &str {
    text.and_then(|text| text.lines().next())
        .unwrap_or_default()
}

/// Shows who holds which hardware thread.
pub async fn cores(client: &Client, as_json: bool) -> Result<()> {
    let map: CoreMap = client.get("/v1/cores").await?;
    if as_json {
        return json(&map);
    }
    print!("{}", cores_table(&map));
    Ok(())
}

fn cores_table(map: &CoreMap) -> String {
    let rows: Vec<Vec<String>> = map
        .threads
        .iter()
        .map(|thread| {
            let used = match &thread.used {
                Use::Reserved => "reserved for Linux".to_owned(),
                Use::Free => "free".to_owned(),
                Use::Granted(holder) => holder.to_string(),
            };
            let numbers = [thread.package, thread.core, thread.id];
            let mut row: Vec<String> = numbers.map(|number| number.to_string()).to_vec();
            row.push(used);
            row
        })
        .collect();
    let mut text = render(&["PACKAGE", "CORE", "THREAD", "USE"], &rows);
    if map.emulated {
        text.push_str("made up by `emulate_cores`: nothing is pinned\n");
    }
    text
}

/// Shows who serves which flow groups.
pub async fn groups(client: &Client, name: &str, as_json: bool) -> Result<()> {
    let path = format!("/v1/dataplanes/{}/groups", escaped(name));
    let groups: Vec<FlowGroup> = client.get(&path).await?;
    if as_json {
        return json(&groups);
    }
    let rows: Vec<Vec<String>> = groups
        .iter()
        .map(|group| {
            vec![
                group.group.to_string(),
                group.thread.to_string(),
                group.frames.to_string(),
            ]
        })
        .collect();
    print!("{}", render(&["GROUP", "THREAD", "FRAMES"], &rows));
    Ok(())
}

/// Shows the numbers of a dataplane.
pub async fn stats(client: &Client, name: &str, as_json: bool) -> Result<()> {
    let path = format!("/v1/dataplanes/{}/stats", escaped(name));
    let stats: Stats = client.get(&path).await?;
    if as_json {
        return json(&stats);
    }
    print!("{}", stats_table(&stats));
    Ok(())
}

/// One column a thread, one row a number: there are few threads and many numbers.
fn stats_table(stats: &Stats) -> String {
    type Cell = fn(&ThreadStats) -> String;
    let averages: fn([f64; 3]) -> String = |values| values.map(short).join(" / ");
    let rows: [(&str, Cell); 24] = [
        ("state", |it| it.state.clone()),
        ("connections", |it| it.connections.to_string()),
        ("frames received", |it| it.rx_frames.to_string()),
        ("bytes received", |it| it.rx_bytes.to_string()),
        ("frames sent", |it| it.tx_frames.to_string()),
        ("bytes sent", |it| it.tx_bytes.to_string()),
        ("cycles", |it| it.cycles.to_string()),
        ("cycles with frames", |it| it.busy_cycles.to_string()),
        ("events", |it| it.events.to_string()),
        ("calls", |it| it.calls.to_string()),
        ("seconds idle", |it| seconds(it.idle_ns)),
        ("seconds in the application", |it| seconds(it.user_ns)),
        ("free buffers", |it| it.mbufs_free.to_string()),
        ("retransmits", |it| it.retransmits.to_string()),
        ("connections that came", |it| it.migrated_in.to_string()),
        ("connections that went", |it| it.migrated_out.to_string()),
        ("frames kept in moves", |it| it.parked_frames.to_string()),
        ("frames missed", |it| it.rx_missed.to_string()),
        ("frames refused", |it| it.rx_errors.to_string()),
        ("payload dropped", |it| it.rx_no_buffers.to_string()),
        ("frames not sent", |it| it.tx_drops.to_string()),
        ("connections refused", |it| it.refused.to_string()),
        ("overstays", |it| it.overstays.to_string()),
        ("application returns", |it| {
            if it.is_absent { "no" } else { "yes" }.to_owned()
        }),
    ];
    let mut table: Vec<Vec<String>> = rows
        .iter()
        .map(|(name, cell)| row(name, stats.threads.iter().map(cell)))
        .collect();
    let threads = || stats.threads.iter();
    table.push(row(
        "frames in a batch",
        threads().map(|it| averages(it.batch)),
    ));
    table.push(row(
        "frames waiting",
        threads().map(|it| averages(it.queue_depth)),
    ));
    let micros = |it: &ThreadStats| averages(it.loop_ns.map(|ns| ns / 1_000.0));
    table.push(row("us a busy cycle", threads().map(micros)));
    let headings: Vec<String> = threads()
        .map(|it| format!("THREAD {}", it.thread))
        .collect();
    let headings: Vec<&str> = std::iter::once("")
        .chain(headings.iter().map(String::as_str))
        .collect();
    render(&headings, &table) + "averages are over about 1 ms / 32 ms / 1 s\n"
}

fn row(name: &str, cells: impl Iterator<Item = String>) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(cells).collect()
}

fn seconds(ns: u64) -> String {
    format!("{:.3}", ns as f64 / 1e9)
}

/// Shows the policy.
pub async fn policy(client: &Client, name: &str, as_json: bool) -> Result<()> {
    let path = format!("/v1/dataplanes/{}/policy", escaped(name));
    print_policy(&client.get(&path).await?, as_json)
}

/// Prints a policy.
pub fn print_policy(policy: &Policy, as_json: bool) -> Result<()> {
    if as_json {
        return json(policy);
    }
    print!("{}", toml::to_string(policy)?);
    Ok(())
}

/// Shows why a policy decided as it did.
pub async fn explain(client: &Client, name: &str, as_json: bool) -> Result<()> {
    let path = format!("/v1/dataplanes/{}/decisions", escaped(name));
    let decisions: Vec<Decision> = client.get(&path).await?;
    if as_json {
        return json(&decisions);
    }
    if decisions.is_empty() {
        println!("nothing has been decided yet: only `elastic` and `fair` policies do");
    }
    for decision in &decisions {
        let action = match decision.action {
            Action::Grow => "grow",
            Action::Shrink => "shrink",
            Action::Keep => "keep",
        };
        let (at, granted, reason) = (clock(decision.at_ms), decision.granted, &decision.reason);
        println!("{at}  {action:6}  at {granted}: {reason}");
    }
    Ok(())
}

/// Shows what a dataplane says.
pub async fn logs(client: &Client, name: &str, follow: bool, keeper: bool) -> Result<()> {
    let name = escaped(name);
    let path = format!("/v1/dataplanes/{name}/logs?follow={follow}&keeper={keeper}");
    let mut out = io::stdout().lock();
    client
        .stream(&path, |bytes| {
            out.write_all(bytes).and_then(|()| out.flush())
        })
        .await
}

/// Shows what has happened, and with `follow` what happens.
pub async fn events(client: &Client, follow: bool, as_json: bool) -> Result<()> {
    if !follow {
        let events: Vec<Event> = client.get("/v1/events?past=true").await?;
        if as_json {
            return json(&events);
        }
        events
            .iter()
            .for_each(|event| println!("{}", event_line(event)));
        return Ok(());
    }
    let mut out = io::stdout().lock();
    let mut messages = Messages::default();
    client
        .stream("/v1/events", |bytes| {
            for data in messages.add(bytes) {
                match as_json {
                    true => writeln!(out, "{data}")?,
                    false => writeln!(out, "{}", message_line(&data))?,
                }
            }
            out.flush()
        })
        .await
}

/// The data of server-sent events, which may come in any pieces.
#[derive(Default)]
struct Messages(Vec<u8>);

impl Messages {
    fn add(&mut self, bytes: &[u8]) -> Vec<String> {
        self.0.extend_from_slice(bytes);
        let mut data = Vec::new();
        while let Some(end) = self.0.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.0.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            if let Some(text) = line.trim_end().strip_prefix("data:") {
                data.push(text.trim_start().to_owned());
            }
        }
        data
    }
}

/// A message in words; one of a later daemon's as it is. Which one it is, its fields say as well.
fn message_line(data: &str) -> String {
    if let Ok(event) = serde_json::from_str::<Event>(data) {
        return event_line(&event);
    }
    match serde_json::from_str::<Lagged>(data) {
        Ok(Lagged { missed }) => format!(
            "({missed} events came too fast to be shown; `ixctl events` has those that are kept)"
        ),
        Err(_) => data.to_owned(),
    }
}

fn event_line(event: &Event) -> String {
    format!(
        "{}  {:10}  {}",
        clock(event.at_ms),
        event.dataplane,
        event.text
    )
}

/// Time of day in UTC.
fn clock(at_ms: u64) -> String {
    let seconds = at_ms / 1_000 % 86_400;
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    format!(
        "{hours:02}:{minutes:02}:{:02}.{:03}Z",
        seconds % 60,
        at_ms % 1_000
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use ix_api::{HardwareThread, Holder};

    #[test]
    fn a_dataplane_is_a_line() {
        let dataplane: Dataplane = serde_json::from_value(serde_json::json!({
            "name": "kv", "state": "running", "ended": null, "app": "echo", "ip": "10.9.0.2/24",
            "threads": 4, "cores": [1, null, 3, null], "policy": "elastic", "accel": "tcg",
            "netns": "ix-1-0", "keeper_pid": 5, "vm_pid": 6, "started_ms": 0,
        }))
        .unwrap();
        let expected = "\
NAME  STATE    APP   ADDRESS      THREADS  CORES  POLICY   NAMESPACE
kv    running  echo  10.9.0.2/24  2/4      1,3    elastic  ix-1-0
";
        assert_eq!(ps_table(std::slice::from_ref(&dataplane)), expected);
        let with_background = Dataplane {
            background: Some(5),
            ..dataplane.clone()
        };
        assert!(ps_table(&[with_background]).contains("2/4      1,3; background 5  elastic"));
        let absent = Dataplane {
            absent: vec![0, 2],
            ..dataplane
        };
        let text = ps_table(&[absent]);
        assert!(
            text.contains("running, thread 0,2 does not return"),
            "{text}"
        );
    }

    #[test]
    fn hardware_threads_are_listed_with_their_holders() {
        let thread = |id, used| HardwareThread {
            id,
            core: id % 2,
            package: 0,
            used,
        };
        let holder = Holder {
            dataplane: "kv".to_owned(),
            thread: Some(2),
        };
        let background = Holder {
            thread: None,
            ..holder.clone()
        };
        let map = CoreMap {
            emulated: false,
            threads: vec![
                thread(0, Use::Reserved),
                thread(1, Use::Granted(holder)),
                thread(2, Use::Free),
                thread(3, Use::Granted(background)),
            ],
        };
        let expected = "\
PACKAGE  CORE  THREAD  USE
0        0     0       reserved for Linux
0        1     1       kv (thread 2)
0        0     2       free
0        1     3       kv (background)
";
        assert_eq!(cores_table(&map), expected);
    }

    #[test]
    fn numbers_of_threads_stand_beside_each_other() {
        let thread = |thread, idle_ns| ThreadStats {
            thread,
            state: "running".to_owned(),
            now_ns: 1_000,
            idle_ns,
            loop_ns: [1_500.0, 0.0, 2e6],
            ..ThreadStats::default()
        };
        let text = stats_table(&Stats {
            threads: vec![thread(0, 250_000_000), thread(1, 0)],
        });
        let line = |start: &str| text.lines().find(|line| line.starts_with(start)).unwrap();
        let idle: Vec<&str> = line("seconds idle").split_whitespace().collect();
        assert_eq!(idle, ["seconds", "idle", "0.250", "0.000"]);
        assert!(line("us a busy cycle").contains("1.5 / 0 / 2.0k"), "{text}");
    }

    #[test]
    fn events_are_found_in_any_pieces() {
        let mut lines = Messages::default();
        assert!(lines.add(b"id: 1\ndata: {\"a\"").is_empty());
        assert_eq!(
            lines.add(b": 1}\n\n: keep alive\n\ndata: b\n"),
            ["{\"a\": 1}", "b"]
        );
    }

    #[test]
    fn a_gap_in_the_events_is_said() {
        let line = message_line("{\"missed\":44}");
        assert!(line.starts_with("(44 events"), "{line}");
        let event = r#"{"number":1,"at_ms":0,"kind":"granted","dataplane":"a","text":"granted"}"#;
        assert!(message_line(event).ends_with("a           granted"));
        assert_eq!(message_line("{}"), "{}");
    }

    #[test]
    fn times_of_day_are_read_from_milliseconds() {
        assert_eq!(clock(86_400_000 + 3_723_004), "01:02:03.004Z");
    }
}
