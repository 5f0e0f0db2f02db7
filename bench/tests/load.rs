//! `ixload load` against servers on the loopback interface. The machine may be slow and busy, so that the
//! client may well be the bottleneck: what is tested holds all the same.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use ix_load::report::{LoadReport, Report};

/// A server that treats every connection in this way, each on a thread of its own.
fn server(serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
    let address = listener.local_addr().expect("it listens");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, serve) = (stream.expect("a connection"), serve.clone());
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn echo_server() -> SocketAddr {
    server(|mut stream| {
        stream.set_nodelay(true).expect("set TCP_NODELAY");
        let mut writer = stream.try_clone().expect("another handle");
        // Ends with a reset, by the client's wish.
        let _ = std::io::copy(&mut stream, &mut writer);
    })
}

type Store = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// The two commands of memcached's text protocol that are needed; `change` spoils values.
fn key_value_server(change: fn(&mut Vec<u8>)) -> SocketAddr {
    let store = Store::default();
    server(move |stream| {
        // The same end.
        let _ = serve_key_value(stream, &store, change);
    })
}

fn serve_key_value(
    stream: TcpStream,
    store: &Store,
    change: fn(&mut Vec<u8>),
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut answer = Vec::new();
        match words[..] {
            ["set", key, "0", "0", len] => {
                let mut value = vec![0; len.parse::<usize>().expect("a length") + 2];
                reader.read_exact(&mut value)?;
                assert!(value.ends_with(b"\r\n"));
                value.truncate(value.len() - 2);
                store
                    .lock()
                    .expect("no panic")
                    .insert(key.to_owned(), value);
                answer.extend_from_slice(b"STORED\r\n");
            }
            ["get", key] => {
                if let Some(mut value) = store.lock().expect("no panic").get(key).cloned() {
                    change(&mut value);
                    write!(answer, "VALUE {key} 0 {}\r\n", value.len())?;
                    answer.extend_from_slice(&value);
                    answer.extend_from_slice(b"\r\n");
                }
                answer.extend_from_slice(b"END\r\n");
            }
            _ => answer.extend_from_slice(b"ERROR\r\n"),
        }
        writer.write_all(&answer)?;
        line.clear();
    }
    Ok(())
}

fn ixload(server: SocketAddr, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ixload"))
        .args(["load", "--connect", &server.to_string()])
        .args(arguments.split_whitespace())
        .output()
        .expect("ixload starts")
}

/// Runs it whoever is the bottleneck, and reads its report.
fn report(server: SocketAddr, arguments: &str) -> LoadReport {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let json = folder.path().join("report.json");
    let hdr = folder.path().join("latencies.hlog");
    let files = format!("--force --json {} --hdr {}", json.display(), hdr.display());
    let output = ixload(server, &format!("{arguments} {files}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    let log = std::fs::read_to_string(hdr).expect("the log is there");
    assert!(log.contains("Tag=load,"), "{log}");
    let text = std::fs::read_to_string(json).expect("the report is there");
    match serde_json::from_str(&text).expect("the report is what its types say") {
        Report::Load(report) => *report,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_closed_loop_keeps_the_depth_and_reconnects() {
    let arguments = "--connections 6 --threads 2 --depth 4 --requests-per-connection 8 \
                     --warmup 0.1 --duration 0.5";
    for close in ["--close reset", "--close fin"] {
        let report = report(echo_server(), &format!("{arguments} {close}"));
        assert!(report.requests > 0 && report.connections_per_second > 0.0);
        // Each connection that ended had eight requests, but for those that were cut by either end.
        let connections = report.connections_per_second * report.seconds;
        assert!(
            report.requests as f64 + 96.0 >= 8.0 * connections,
            "{report:?}"
        );
        assert!(report.connect_us.is_some());
        assert_eq!((report.never_sent, report.offered_per_second), (0, None));
    }
}

#[test]
fn those_that_are_open_in_time_have_to_do() {
    let report = report(
        echo_server(),
        "--connections 2000 --opening 0.001 --at-once 4 --warmup 0 --duration 1 --parts 4",
    );
    assert!((1..2000).contains(&report.connections), "{report:?}");
    let parts = &report.requests_per_second_by_part;
    let mean = parts.iter().sum::<f64>() / 4.0;
    assert!(report.requests > 0 && parts.len() == 4);
    assert!(
        (mean - report.requests_per_second).abs() < 1e-6 * mean,
        "{report:?}"
    );
}

#[test]
fn large_messages_are_verified_whole() {
    let report = report(
        echo_server(),
        "--connections 2 --size 512k --duration 0.3 --warmup 0",
    );
    assert!(report.requests > 0);
    assert!(report.megabytes_received_per_second > 0.0);
}

#[test]
fn an_open_loop_sends_what_is_offered() {
    let arguments = "--connections 16 --depth 64 --rate 500 --duration 1 --warmup 0.1";
    for arrivals in ["poisson", "uniform"] {
        let report = report(echo_server(), &format!("{arguments} --arrivals {arrivals}"));
        assert_eq!(report.offered_per_second, Some(500.0));
        // A Poisson process of 500 has a deviation of 22. What was under way in the end is in neither number.
        let answered = report.requests + report.never_sent;
        assert!((1..=650).contains(&answered), "{report:?}");
    }
}

/// A server that stops for a while: what was due meanwhile has waited, although hardly anything was sent.
#[test]
fn a_stall_shows_in_all_that_was_due_meanwhile() {
    let stalling = server(|mut stream| {
        let mut bytes = [0; 4096];
        let mut total = 0;
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            if total < 20_000 && total + count >= 20_000 {
                thread::sleep(Duration::from_millis(400));
            }
            total += count;
            if stream.write_all(&bytes[..count]).is_err() {
                return;
            }
        }
    });
    let arguments = "--connections 1 --rate 1000 --arrivals uniform --duration 1 --warmup 0";
    let report = report(stalling, arguments);
    // 313 messages precede it, and of the 400 ms two thirds wait for 133 ms or more. A closed loop would
    // have seen one such message.
    let latency = report.latency_us.expect("it is forced");
    assert!(latency.p90 > 100_000.0, "{latency:?}");
}

#[test]
fn an_agent_measures_beside_the_load() {
    let arguments = "--connections 8 --duration 0.5 --warmup 0.1 --agent 200";
    let agent = report(echo_server(), arguments).agent.expect("an agent");
    assert!((1..300).contains(&agent.requests), "{agent:?}");
    assert!(agent.latency_us.is_some());
}

#[test]
fn keys_are_set_and_found() {
    let address = key_value_server(|_| {});
    let arguments = "--protocol text --connections 4 --duration 0.4 --warmup 0 --keys 300";
    let mixed = report(address, &format!("{arguments} --get-share 0.5"));
    let answers = mixed.answers;
    assert!(answers.hits > 0 && answers.sets > 0, "{answers:?}");
    assert_eq!(answers.misses, 0);
    // The keys are there now; others are not.
    let loaded = report(address, &format!("{arguments} --no-preload --depth 8"));
    assert_eq!(loaded.answers.misses, 0);
    let empty = report(
        key_value_server(|_| {}),
        &format!("{arguments} --no-preload --workload usr --get-share 1"),
    );
    assert!(empty.answers.misses > 0 && empty.answers.hits == 0);
}

#[test]
fn a_wrong_value_ends_the_run() {
    let address = key_value_server(|value| {
        if let Some(byte) = value.last_mut() {
            *byte ^= 1;
        }
    });
    let output = ixload(address, "--protocol text --keys 50 --duration 0.3");
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("came back as"), "{errors}");
}

#[test]
fn an_error_of_the_server_is_shown() {
    let address = server(|mut stream| {
        let _ = stream.write_all(b"SERVER_ERROR busy\r\n");
        thread::sleep(Duration::from_secs(1));
    });
    let output = ixload(address, "--protocol text --no-preload --duration 0.3");
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        errors.contains("the server answers `SERVER_ERROR busy`"),
        "{errors}"
    );
}

/// How the server's end of a connection saw it end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    ByFin,
    ByReset,
}

#[test]
fn connections_that_are_open_in_the_end_are_closed_as_asked() {
    for (close, expected) in [("reset", Ended::ByReset), ("fin", Ended::ByFin)] {
        let (tell, told) = mpsc::channel();
        let server = server(move |mut stream| {
            let mut writer = stream.try_clone().expect("another handle");
            let ended = match std::io::copy(&mut stream, &mut writer) {
                Ok(_) => Ended::ByFin,
                Err(_) => Ended::ByReset,
            };
            tell.send(ended).expect("the test listens");
        });
        let arguments = format!("--connections 100 --warmup 0 --duration 0.1 --close {close}");
        report(server, &arguments);
        for _ in 0..100 {
            let ended = told.recv_timeout(Duration::from_secs(60));
            assert_eq!(ended, Ok(expected), "--close {close}");
        }
    }
}

#[test]
fn where_few_requests_are_under_way_connections_take_turns() {
    let busy = Arc::new(AtomicUsize::new(0));
    let served = Arc::new(Mutex::new(HashMap::<SocketAddr, usize>::new()));
    let (counter, counts) = (Arc::clone(&busy), Arc::clone(&served));
    let server = server(move |mut stream| {
        let peer = stream.peer_addr().expect("connected");
        let mut message = [0; 64];
        while stream.read_exact(&mut message).is_ok() {
            let others = counter.fetch_add(1, SeqCst);
            assert!(others < 3, "{others} others are under way");
            *counts.lock().expect("no panic").entry(peer).or_default() += 1;
            counter.fetch_sub(1, SeqCst);
            stream.write_all(&message).expect("the client reads");
        }
    });
    let report = report(
        server,
        "--connections 12 --at-once 3 --warmup 0 --duration 0.5",
    );
    let served = served.lock().expect("no panic");
    assert!(report.requests >= 12, "{report:?}");
    assert_eq!(served.len(), 12, "{served:?}");
}
