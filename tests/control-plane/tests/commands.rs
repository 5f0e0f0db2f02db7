//! What each command of `ixctl` says about a dataplane that serves, to people and as JSON; and what of it
//! the daemon tells Prometheus.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};
use std::sync::mpsc;
use std::thread;

use ix_control_plane_tests::{ControlPlane, wait_until};
use serde_json::{Value, json};

/// It grows as soon as anything waits, and shrinks soon after nothing does, however busy others keep the
/// host's processors.
const EAGER: &str = "
[policy]
mode = 'elastic'
min = 1
grow_queue = 0.05
shrink_queue = 1.0
shrink_busy = 3.0
grow_hold_ms = 100
shrink_hold_ms = 500
";

/// A dataplane of two threads, one of which serves, and the namespace of its wire.
fn start(plane: &ControlPlane) -> String {
    let definition = plane.folder().with_file_name("e.toml");
    let text = format!("name = 'e'\napp = 'echo'\nthreads = 2\ngranted = 1\n{EAGER}");
    fs::write(&definition, text).unwrap();
    plane.done(&["run", definition.to_str().unwrap()]);
    let view = plane.view("e").unwrap();
    view["netns"].as_str().unwrap().to_owned()
}

/// Whether its policy has decided that once, and said why.
fn decided(plane: &ControlPlane, action: &str) -> bool {
    let decisions = plane.json(&["policy", "e", "explain"]);
    let mut decisions = decisions.as_array().unwrap().iter();
    decisions.any(|it| it["action"] == action && !it["reason"].as_str().unwrap().is_empty())
}

fn granted(plane: &ControlPlane) -> usize {
    let view = plane.view("e").unwrap();
    let cores = view["cores"].as_array().unwrap().iter();
    cores.filter(|core| !core.is_null()).count()
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn a_policy_follows_the_load_and_explains_itself() {
    let plane = ControlPlane::start("");
    let netns = start(&plane);
    let words = ["echo", "--connect", "10.9.0.2:7", "--connections", "64"];
    let words = [&words[..], &["--messages", "1000000000"]].concat();
    let mut load = plane.load(&netns, &words).spawn().unwrap();
    wait_until("it has grown", || granted(&plane) == 2);
    assert!(decided(&plane, "grow"));
    load.kill().unwrap();
    load.wait().unwrap();
    wait_until("it has shrunk", || granted(&plane) == 1);
    assert!(decided(&plane, "shrink"));
    let explained = plane.done(&["policy", "e", "explain"]);
    for part in ["grow    at 1: ", "shrink  at 2: with one less"] {
        assert!(explained.contains(part), "{part}: {explained}");
    }
    plane.done(&["stop", "e"]);
}

#[test]
#[ignore = "boots a machine: cargo xtask test boot"]
fn every_command_says_what_it_did_and_what_there_is() {
    let plane = ControlPlane::start("");
    let netns = start(&plane);
    assert!(
        plane
            .done(&["policy", "e", "manual"])
            .contains("mode = \"manual\"")
    );
    assert_eq!(plane.json(&["policy", "e"])["mode"], "manual");
    assert_eq!(plane.json(&["grant", "e"])["cores"], json!([1, 2]));

    plane.done(&["migrate", "e", "0-127", "--to", "0"]);
    let moved = plane.done(&["migrate", "e", "0-15,127", "--to", "1"]);
    assert_eq!(moved, "17 flow groups moved\n");
    // There it is already.
    let moved = plane.json(&["migrate", "e", "0", "--to", "1"]);
    assert_eq!(moved["groups"], 0);
    let groups = plane.json(&["groups", "e"]);
    for (number, group) in groups.as_array().unwrap().iter().enumerate() {
        let owner = usize::from(number < 16 || number == 127);
        assert_eq!(group["thread"], owner, "{group}");
    }
    let said = plane.refused(&["migrate", "e", "0", "--to", "5"]);
    assert!(said.contains("thread 5 of e does not serve"), "{said}");

    let words = ["echo", "--connect", "10.9.0.2:7", "--connections", "16"];
    let words = [&words[..], &["--messages", "1600"]].concat();
    assert!(plane.load(&netns, &words).status().unwrap().success());
    wait_until("what came for the flow groups is told", || {
        let groups = plane.json(&["groups", "e"]);
        let frames = groups.as_array().unwrap().iter();
        frames.map(|it| it["frames"].as_u64().unwrap()).sum::<u64>() >= 1600
    });
    let stats = plane.done(&["stats", "e"]);
    assert!(
        stats.contains("THREAD 0") && stats.contains("THREAD 1"),
        "{stats}"
    );
    let rx_frames = |it: &Value| it["rx_frames"].as_u64().unwrap();
    let stats = plane.json(&["stats", "e"]);
    let told: Vec<u64> = stats["threads"]
        .as_array()
        .unwrap()
        .iter()
        .map(rx_frames)
        .collect();
    assert!(told.iter().sum::<u64>() >= 1600, "{told:?}");

    let metrics = get(&plane, "/metrics");
    assert!(metrics.contains("ix_granted{dataplane=\"e\"} 2\n"));
    for (thread, before) in told.iter().enumerate() {
        let name = format!("ix_thread_rx_frames_total{{dataplane=\"e\",thread=\"{thread}\"}} ");
        let mut lines = metrics.lines().filter_map(|line| line.strip_prefix(&name));
        let frames: f64 = lines.next().expect(&name).parse().unwrap();
        assert!(frames >= *before as f64, "{name}{frames}");
    }

    let mut logs = Follower::new(&plane, &["logs", "--follow", "e"]);
    wait_until("the log is told", || logs.has_said("ix: serving"));
    let mut events = Follower::new(&plane, &["events", "--follow"]);
    // It hears of what comes after it has begun to listen, and nothing says when that is.
    wait_until("a listener hears of it", || {
        plane.done(&["revoke", "e"]);
        plane.done(&["grant", "e"]);
        events.has_said("granted hardware thread")
    });
    for words in [&["ps"][..], &["cores"], &["events"]] {
        let listed = plane.json(words);
        assert!(listed.is_array() || listed.is_object(), "{words:?}");
    }
    plane.done(&["stop", "e"]);
}

/// A command that goes on until it is dropped.
struct Follower {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Follower {
    fn new(plane: &ControlPlane, words: &[&str]) -> Follower {
        let mut child = plane.command(words).stdout(Stdio::piped()).spawn().unwrap();
        let printed = BufReader::new(child.stdout.take().unwrap()).lines();
        let (said, lines) = mpsc::channel();
        // It ends with the command, or when nobody listens any more.
        thread::spawn(move || {
            printed
                .map_while(Result::ok)
                .try_for_each(|it| said.send(it))
        });
        Follower { child, lines }
    }

    /// Whether a line that it printed since the last time has these words.
    fn has_said(&mut self, words: &str) -> bool {
        self.lines.try_iter().any(|line| line.contains(words))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the daemon answers over its socket.
fn get(plane: &ControlPlane, path: &str) -> String {
    let mut stream = UnixStream::connect(plane.folder().join("ixcpd.sock")).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: ixcpd\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}
