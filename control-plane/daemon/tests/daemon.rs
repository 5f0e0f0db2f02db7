//! The daemon as a process, without a virtual machine: what it answers, what it refuses, how it ends,
//! and what the next one finds.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

/// A daemon with a folder of its own, killed when dropped.
struct Daemon {
    child: Child,
    socket: PathBuf,
}

impl Daemon {
    /// Starts it with four made-up hardware threads, and images that are ELF files and nothing else.
    fn start(folder: &Path) -> Daemon {
        Daemon::start_with(folder, "")
    }

    /// The same with more lines in its configuration.
    fn start_with(folder: &Path, more: &str) -> Daemon {
        let artifacts = folder.join("artifacts");
        fs::create_dir_all(&artifacts).unwrap();
        let elf = fs::read("/proc/self/exe").unwrap();
        for name in ["ixkernel.elf", "broken.elf", "ixnicd"] {
            fs::write(artifacts.join(name), &elf[..64]).unwrap();
        }
        let run = folder.join("run");
        let text = format!(
            "folder = {run:?}\nartifacts = {artifacts:?}\nemulate_cores = 4\nreserved = '0'\n{more}"
        );
        fs::write(folder.join("ixcpd.toml"), text).unwrap();
        let child = command(folder).spawn().unwrap();
        let socket = run.join("ixcpd.sock");
        wait_until("the daemon answers", || {
            UnixStream::connect(&socket).is_ok()
        });
        Daemon { child, socket }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: ixcpd\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    /// The names and contents of the next `count` events, as a browser would get them that has seen
    /// `last` already.
    fn events(&self, last: Option<&str>, count: usize) -> Vec<(String, String)> {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let last = last.map_or(String::new(), |id| format!("last-event-id: {id}\r\n"));
        write!(
            stream,
            "GET /v1/events HTTP/1.1\r\nhost: ixcpd\r\n{last}\r\n"
        )
        .unwrap();
        let mut events = Vec::new();
        let mut id = String::new();
        for line in BufReader::new(stream).lines() {
            let line = line.unwrap();
            if let Some(text) = line.strip_prefix("id: ") {
                id = text.to_owned();
            } else if let Some(text) = line.strip_prefix("data: ") {
                events.push((id.clone(), text.to_owned()));
            }
            if events.len() == count {
                break;
            }
        }
        events
    }

    fn signal(&mut self, signal: Signal) -> std::process::ExitStatus {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ixcpd"));
    command
        .arg("--config")
        .arg(folder.join("ixcpd.toml"))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "still not: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn definition(name: &str, threads: u32) -> String {
    json!({ "name": name, "app": "broken", "nic": "none", "threads": threads }).to_string()
}

#[test]
fn what_makes_no_sense_is_refused_with_reason_and_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    for (method, path, body, status, part) in [
        ("GET", "/v1/dataplanes/kv", "", 404, "no dataplane kv"),
        ("DELETE", "/v1/dataplanes/kv", "", 404, "no dataplane kv"),
        ("GET", "/nothing", "", 404, "nothing at this path"),
        ("POST", "/v1/dataplanes", "{", 400, "JSON"),
        (
            "POST",
            "/v1/dataplanes",
            r#"{"name":"a","app":"x","cpus":1}"#,
            400,
            "cpus",
        ),
        (
            "POST",
            "/v1/dataplanes",
            r#"{"name":"a","app":"x"}"#,
            400,
            "application image",
        ),
        (
            "POST",
            "/v1/dataplanes",
            &definition("a", 5),
            409,
            "5 hardware threads asked for, 3 free: Linux keeps 0",
        ),
        (
            "POST",
            "/v1/dataplanes/kv/grant",
            "{}",
            404,
            "no dataplane kv",
        ),
    ] {
        let (got, refusal) = daemon.ask(method, path, body);
        assert_eq!(got, status, "{method} {path}: {refusal}");
        let reason = refusal["reason"].as_str().unwrap();
        assert!(reason.contains(part), "{method} {path}: {reason}");
        assert!(!refusal["remedy"].as_str().unwrap().is_empty());
    }
    assert_eq!(daemon.ask("GET", "/v1/dataplanes", "").1, json!([]));
}

#[test]
fn the_interface_describes_itself() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    let (status, description) = daemon.ask("GET", "/openapi.json", "");
    assert_eq!(status, 200);
    for path in ["/v1/dataplanes/{name}/grant", "/v1/events", "/metrics"] {
        assert!(description["paths"][path].is_object(), "{path}");
    }
    assert!(description["components"]["schemas"]["Refusal"].is_object());
    let (_, cores) = daemon.ask("GET", "/v1/cores", "");
    assert_eq!(cores["threads"][0]["use"], "reserved");
    assert_eq!(cores["threads"][3]["use"], "free");
}

/// A daemon that also listens on a loopback address, and that address.
fn start_with_tcp(folder: &Path, token: &str) -> (Daemon, SocketAddr) {
    use std::os::unix::fs::OpenOptionsExt;
    // Free now, and nobody else asks the system for this very one.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let token_file = folder.join("token");
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600);
    file.open(&token_file)
        .unwrap()
        .write_all(token.as_bytes())
        .unwrap();
    let more = format!("tcp = '{address}'\ntoken_file = {token_file:?}\n");
    (Daemon::start_with(folder, &more), address)
}

#[test]
fn over_tcp_the_page_is_everybodys_and_the_rest_needs_the_token() {
    const TOKEN: &str = "0123456789abcdef";
    let folder = tempfile::tempdir().unwrap();
    let (_daemon, address) = start_with_tcp(folder.path(), TOKEN);
    let get = |path: &str, token: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: ixcpd\r\nconnection: close\r\n\
             authorization: Bearer {token}\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let page = get("/", "");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    assert!(page.contains("content-security-policy: default-src 'none'"));
    // What the page asks for is there, and nothing comes from elsewhere.
    let assets = page.split('"').filter(|it| it.starts_with("/dashboard/"));
    let mut count = 0;
    for path in assets {
        assert!(get(path, "").starts_with("HTTP/1.1 200"), "{path}");
        count += 1;
    }
    assert!(count >= 3 && !page.contains("://"), "{page}");
    for path in ["/v1/cores", "/v1/events?past=true", "/metrics", "/nothing"] {
        for token in ["", "0123456789abcdeX"] {
            let answer = get(path, token);
            assert!(answer.starts_with("HTTP/1.1 403"), "{path}: {answer}");
        }
    }
    assert!(get("/v1/cores", TOKEN).contains("\"reserved\""));
}

#[test]
fn a_listener_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(folder.path());
    daemon.ask("POST", "/v1/dataplanes", &definition("a", 1));
    let first = daemon.events(None, 2);
    assert!(first[0].1.contains("\"started\"") && first[1].1.contains("\"ended\""));
    assert_eq!(daemon.ask("DELETE", "/v1/dataplanes/a", "").0, 204);
    let later = daemon.events(Some(&first[1].0), 1);
    assert!(later[0].1.contains("\"removed\""), "{later:?}");

    // The next daemon counts from one again, and nothing of it is missed.
    daemon.signal(Signal::KILL);
    let daemon = Daemon::start(folder.path());
    daemon.ask("POST", "/v1/dataplanes", &definition("b", 1));
    let next = daemon.events(Some(&later[0].0), 1);
    assert!(next[0].1.contains("\"started\""), "{next:?}");
}

#[test]
fn a_machine_that_fails_is_reported_and_its_hardware_threads_are_free_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(folder.path());
    let (status, view) = daemon.ask("POST", "/v1/dataplanes", &definition("a", 2));
    assert_eq!((status, &view["cores"]), (200, &json!([1, 2])), "{view}");
    let state = |daemon: &Daemon| daemon.ask("GET", "/v1/dataplanes/a", "").1["state"].clone();
    wait_until("it has ended", || state(&daemon) == "ended");
    let (_, view) = daemon.ask("GET", "/v1/dataplanes/a", "");
    assert!(view["ended"].as_str().unwrap().contains("QEMU"), "{view}");
    let (_, cores) = daemon.ask("GET", "/v1/cores", "");
    assert_eq!(cores["threads"][1]["use"], "free");
    let (_, events) = daemon.ask("GET", "/v1/events?past=true", "");
    let kinds: Vec<&str> = events
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["started", "ended"]);

    // The next daemon knows of it, too.
    daemon.signal(Signal::KILL);
    let daemon = Daemon::start(folder.path());
    assert_eq!(state(&daemon), "ended");
    assert_eq!(daemon.ask("DELETE", "/v1/dataplanes/a", "").0, 204);
    assert_eq!(daemon.ask("GET", "/v1/dataplanes/a", "").0, 404);
    let left = fs::read_dir(folder.path().join("run/dataplanes")).unwrap();
    assert_eq!(left.count(), 0);
}

#[test]
fn what_a_killed_daemon_began_is_not_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let begun = folder.path().join("run/dataplanes/a");
    fs::create_dir_all(&begun).unwrap();
    fs::write(begun.join("definition.json.new"), "{").unwrap();
    let daemon = Daemon::start(folder.path());
    assert!(!begun.exists());
    assert_eq!(daemon.ask("GET", "/v1/dataplanes", "").1, json!([]));
    let (status, view) = daemon.ask("POST", "/v1/dataplanes", &definition("a", 1));
    assert_eq!(status, 200, "{view}");
}

#[test]
fn one_daemon_a_folder_and_a_clean_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(folder.path());
    let mode = fs::metadata(&daemon.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let second = command(folder.path()).output().unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another ixcpd runs"), "{said}");
    assert!(daemon.signal(Signal::TERM).success());
    assert!(!daemon.socket.exists());
}
