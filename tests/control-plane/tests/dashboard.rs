//! The dashboard in a browser, with a booted dataplane behind it. `cargo xtask test dashboard` runs it where
//! Chromium is installed.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::OpenOptionsExt;

use ix_control_plane_tests::chromium::Page;
use ix_control_plane_tests::{ControlPlane, wait_until};

const TOKEN: &str = "a token of some length";

/// A control plane with a dataplane, and the address of its dashboard. The folder holds the token.
fn start() -> (ControlPlane, String, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    let mut options = OpenOptions::new();
    let file = options
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&token);
    file.unwrap().write_all(TOKEN.as_bytes()).unwrap();
    // Free now, and nobody else asks the system for this very one.
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let plane = ControlPlane::start(&format!("tcp = '{address}'\ntoken_file = {token:?}\n"));
    let run = [
        "run",
        "echo",
        "--name",
        "e",
        "--threads",
        "2",
        "--granted",
        "1",
    ];
    plane.done(&[&run[..], &["--", "7"]].concat());
    (plane, format!("http://{address}/"), folder)
}

#[test]
#[ignore = "boots a machine and needs a browser: cargo xtask test dashboard"]
fn the_board_shows_what_there_is_and_grants_and_revokes() {
    let (mut plane, address, _folder) = start();

    let mut page = Page::open(&address);
    page.wait_for("!document.getElementById('login').hidden");
    let log_in = |token: &str| {
        format!(
            "document.getElementById('token').value = '{token}'; \
             document.getElementById('login').requestSubmit()"
        )
    };
    page.value(&log_in("wrong"));
    page.wait_for("document.getElementById('login-problem').textContent !== ''");
    assert_eq!(page.value("document.getElementById('board').hidden"), true);
    page.complaints();
    page.value(&log_in(TOKEN));
    page.wait_for("document.getElementById('link').textContent === 'live'");

    // What there is: eight hardware threads, one dataplane on one of them, its flow groups.
    let held = |count| format!("document.querySelectorAll('#cores .held').length === {count}");
    let owners = |count| {
        format!(
            "new Set([...document.querySelectorAll('[data-name=e] .groups i')]\
             .map((it) => it.dataset.thread)).size === {count}"
        )
    };
    page.wait_for("document.querySelectorAll('#cores .thread').length === 8");
    page.wait_for("document.querySelectorAll('[data-name=e] .groups i').length === 128");
    page.wait_for("document.querySelectorAll('[data-name=e] .threads td').length === 14");
    page.wait_for("document.querySelectorAll('#events li.running').length === 1");
    page.wait_for(&held(1));
    page.wait_for(&owners(1));

    // A chosen hardware thread is granted, and revoked again, with its share of the flow groups.
    let chosen = "document.querySelectorAll('#cores .thread')[5].click()";
    let button = |what: &str| format!("document.querySelector('[data-name=e] .{what}')");
    page.value(chosen);
    page.value(&format!("{}.click()", button("grant")));
    page.wait_for(&held(2));
    page.wait_for(&owners(2));
    assert_eq!(plane.view("e").unwrap()["cores"], serde_json::json!([1, 5]));
    page.wait_for(&format!("!{}.disabled", button("revoke")));
    page.value(&format!("{}.click()", button("revoke")));
    page.wait_for(&held(1));
    page.wait_for(&owners(1));

    // Load is seen: the line of the throughput leaves the ground.
    let netns = plane.view("e").unwrap()["netns"].clone();
    let words = [
        "echo",
        "--connect",
        "10.9.0.2:7",
        "--connections",
        "4",
        "--messages",
        "2000",
    ];
    wait_until("load is seen", || {
        let load = plane.load(netns.as_str().unwrap(), &words).status();
        assert!(load.unwrap().success());
        let frames = "document.querySelector('[data-name=e] .chart path.line').getAttribute('d')";
        let line = page.value(frames);
        let heights = line.as_str().unwrap().split('L').filter_map(|point| {
            let (_, height) = point.rsplit_once(' ')?;
            height.parse::<f64>().ok()
        });
        heights.fold(f64::MAX, f64::min) < 40.0
    });

    // Both schemes are drawn, everything comes from the daemon, and nothing was forbidden.
    let ground = "getComputedStyle(document.body).backgroundColor";
    page.prefer("light");
    let light = page.value(ground);
    page.prefer("dark");
    assert_ne!(light, page.value(ground));
    let foreign = "performance.getEntriesByType('resource')\
        .filter((it) => !it.name.startsWith(location.origin)).length";
    assert_eq!(page.value(foreign), 0);
    assert_eq!(page.complaints(), Vec::<String>::new());

    // A refusal is shown in the daemon's words.
    page.wait_for(&format!("!{}.disabled", button("grant")));
    plane.done(&["policy", "e", "static"]);
    page.value(&format!(
        "{0}.disabled = false, {0}.click()",
        button("grant")
    ));
    page.wait_for("document.querySelector('.toast')?.textContent.includes('static') === true");

    // The next daemon is found, and its events are shown, from the first.
    plane.kill_daemon();
    page.wait_for("document.getElementById('link').textContent.includes('does not answer')");
    plane.start_daemon();
    page.wait_for("document.getElementById('link').textContent === 'live'");
    page.wait_for("document.querySelectorAll('#events li.adopted').length === 1");

    plane.done(&["stop", "e"]);
    page.wait_for("document.querySelector('[data-name=e]') === null");
}

#[test]
#[ignore = "needs a browser: cargo xtask test dashboard"]
fn the_token_in_the_address_does_not_stay_there() {
    let (plane, address, _folder) = start();
    let token = TOKEN.replace(' ', "%20");
    let mut page = Page::open(&format!("{address}#token={token}"));
    page.wait_for("document.getElementById('link').textContent === 'live'");
    assert_eq!(page.value("location.href"), address);
    plane.done(&["stop", "e"]);
}
