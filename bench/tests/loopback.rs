//! `ixload` against servers on the loopback interface: a good one, and some that each do one thing
//! wrong, since a verifier is worth what it finds.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread;

use clap::Parser;
use ix_load::options::{self, Options};
use ix_load::report::Report;
use ix_load::serve::Server;

/// An echo server for the rest of the test process's life.
fn echo_server(arguments: &[&str]) -> SocketAddr {
    let line = ["ixload", "serve-echo", "--listen", "127.0.0.1:0"];
    let options = Options::parse_from(line.iter().chain(arguments));
    let options::Command::ServeEcho(options) = options.command else {
        panic!("another command was parsed");
    };
    let mut server = Server::bind(&options).expect("loopback can be listened on");
    let address = server.address();
    thread::spawn(move || while server.round().is_ok() {});
    address
}

/// A server that treats every connection in this way.
fn bad_server(serve: impl Fn(TcpStream) + Send + Sync + Copy + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
    let address = listener.local_addr().expect("it listens");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("a connection");
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn ixload(command: &str, server: SocketAddr, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ixload"))
        .args([command, "--connect", &server.to_string()])
        .args(arguments)
        .output()
        .expect("ixload starts")
}

fn succeeds(command: &str, server: SocketAddr, arguments: &[&str]) -> String {
    let output = ixload(command, server, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    assert_eq!(errors, "");
    String::from_utf8(output.stdout).expect("reports are UTF-8")
}

/// Runs it, and expects exit code 1 and this on standard error.
fn fails(command: &str, server: SocketAddr, arguments: &[&str], expected: &str) {
    let output = ixload(command, server, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains(expected), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

/// Runs it with a report file, and reads that.
fn reports(command: &str, server: SocketAddr, arguments: &[&str]) -> Report {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    let path = file.path().to_str().expect("an UTF-8 path");
    let arguments = [arguments, &["--json", path]].concat();
    succeeds(command, server, &arguments);
    let text = std::fs::read_to_string(file.path()).expect("the report is there");
    serde_json::from_str(&text).expect("the report is what its types say")
}

#[test]
fn every_message_is_counted_once() {
    let server = echo_server(&[]);
    let arguments = ["--connections", "7", "--messages", "50", "--size", "64"];
    let Report::Echo(report) = reports("echo", server, &arguments) else {
        panic!("another report");
    };
    assert_eq!((report.connections, report.messages), (7, 350));
    assert_eq!(report.warmup_messages, 0);
    let latency = report.latency_us;
    assert!(0.0 < latency.p50 && latency.p50 <= latency.p99 && latency.p99 <= latency.max);
    let rate = report.messages as f64 / report.seconds;
    assert!((report.messages_per_second - rate).abs() < rate / 1e3);
}

#[test]
fn large_messages_and_threads_and_warmup() {
    let server = echo_server(&[]);
    let arguments = [
        "--connections",
        "5",
        "--threads",
        "2",
        "--size",
        "1M",
        "--duration",
        "0.3",
        "--warmup",
        "0.2",
    ];
    let Report::Echo(report) = reports("echo", server, &arguments) else {
        panic!("another report");
    };
    assert!(report.warmup_messages > 0 && report.messages > 0);
    assert!(report.seconds <= 0.301, "{}", report.seconds);
}

#[test]
fn the_table_says_what_was_done() {
    let table = succeeds("echo", echo_server(&[]), &["--messages", "10"]);
    assert!(
        table.contains("1 connections x 64 bytes, 10 messages verified"),
        "{table}"
    );
    assert!(table.contains("p99.9"), "{table}");
}

#[test]
fn streams_are_whole_in_both_directions() {
    let server = echo_server(&[]);
    for half_close in [&[][..], &["--half-close", "client"]] {
        let arguments = [&["--connections", "3", "--bytes", "3M"], half_close].concat();
        let Report::Stream(report) = reports("stream", server, &arguments) else {
            panic!("another report");
        };
        assert_eq!(report.bytes_sent, 3 * (3 << 20));
        assert_eq!(report.bytes_received, 3 * (3 << 20));
    }
}

#[test]
fn a_server_may_half_close_first() {
    let server = echo_server(&["--half-close-after", "100k"]);
    let arguments = [
        "--bytes",
        "2M",
        "--half-close",
        "server",
        "--connections",
        "2",
    ];
    let Report::Stream(report) = reports("stream", server, &arguments) else {
        panic!("another report");
    };
    assert_eq!(report.bytes_sent, 2 * (2 << 20));
    assert_eq!(report.bytes_received, 2 * (100 << 10));
    assert_eq!(report.half_close.as_deref(), Some("server"));
}

#[test]
fn a_server_that_does_not_half_close_is_found_out() {
    let arguments = ["--bytes", "200k", "--half-close", "server"];
    fails("stream", echo_server(&[]), &arguments, "sent no FIN before");
}

#[test]
fn an_early_end_is_no_half_close() {
    let server = echo_server(&["--half-close-after", "100k"]);
    for half_close in [&[][..], &["--half-close", "client"]] {
        let arguments = [&["--bytes", "1M"], half_close].concat();
        let expected = "closed it after 102400 of 1048576 bytes";
        fails("stream", server, &arguments, expected);
    }
}

#[test]
fn many_connections_are_open_at_once() {
    let arguments = ["--connections", "500"];
    let Report::Echo(report) = reports("open", echo_server(&[]), &arguments) else {
        panic!("another report");
    };
    assert_eq!((report.connections, report.messages), (500, 500));
}

#[test]
fn refusal_is_told_from_acceptance() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
    let address = listener.local_addr().expect("it listens");
    fails("refuse", address, &[], "accepted a connection");
    drop(listener);
    succeeds("refuse", address, &[]);
    fails(
        "echo",
        address,
        &[],
        "could not be opened: Connection refused",
    );
}

#[test]
fn killed_transfers_leave_the_server_alive() {
    let server = echo_server(&[]);
    for after in ["10k", "64M"] {
        succeeds("kill", server, &["--connections", "3", "--after", after]);
    }
    succeeds("echo", server, &["--messages", "10"]);
}

/// Echoes, with every byte through `change`.
fn echo_changed(mut stream: TcpStream, mut change: impl FnMut(u64, u8) -> Option<u8>) {
    let mut buffer = [0; 4096];
    let mut position = 0;
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        let mut echo = Vec::new();
        for &byte in &buffer[..count] {
            echo.extend(change(position, byte));
            position += 1;
        }
        if stream.write_all(&echo).is_err() {
            return;
        }
    }
}

#[test]
fn a_changed_byte_is_found() {
    let server = bad_server(|stream| {
        echo_changed(stream, |position, byte| match position {
            5000 => Some(byte ^ 1),
            _ => Some(byte),
        });
    });
    let expected = "connection 0: byte 5000 came back as";
    fails("echo", server, &[], expected);
    fails("stream", server, &["--bytes", "10k"], expected);
}

#[test]
fn a_lost_byte_is_found() {
    let server = bad_server(|stream| {
        echo_changed(stream, |position, byte| (position != 777).then_some(byte));
    });
    fails(
        "stream",
        server,
        &["--bytes", "10k"],
        "byte 777 came back as",
    );
}

#[test]
fn bytes_of_another_connection_are_found() {
    let server = bad_server(|mut stream| {
        let mut message = [0; 64];
        ix_load::pattern::fill(&mut message, 99, 0);
        let _ = stream.write_all(&message);
        echo_changed(stream, |_, _| None);
    });
    fails("echo", server, &[], "connection 0: byte 0 came back as");
}

#[test]
fn bytes_beyond_the_last_are_found() {
    let server = bad_server(|mut stream| {
        let mut bytes = [0; 128];
        ix_load::pattern::fill(&mut bytes, 0, 0);
        let _ = stream.write_all(&bytes);
        echo_changed(stream, |_, _| None);
    });
    fails(
        "echo",
        server,
        &["--messages", "1"],
        "beyond the 64 expected",
    );
}

#[test]
fn silence_ends_after_the_timeout() {
    let server = bad_server(|stream| echo_changed(stream, |_, _| None));
    let arguments = ["--timeout", "0.3"];
    fails(
        "echo",
        server,
        &arguments,
        "nothing moved for 0.3 s, after 64 bytes",
    );
    let arguments = ["--timeout", "0.3", "--bytes", "10k"];
    fails("stream", server, &arguments, "nothing moved for 0.3 s");
}

#[test]
fn a_server_that_closes_is_found_out() {
    let server = bad_server(|mut stream| {
        let mut message = [0; 64];
        let _ = stream.read_exact(&mut message);
        let _ = stream.write_all(&message[..10]);
        let _ = stream.shutdown(Shutdown::Both);
    });
    fails(
        "echo",
        server,
        &[],
        "closed it after 10 bytes, with 1 replies still to come",
    );
}

#[test]
fn a_server_that_resets_is_found_out() {
    let server = bad_server(|mut stream| {
        let mut message = [0; 32];
        let _ = stream.read_exact(&mut message);
        // Closing with unread bytes resets (RFC 2525 2.17).
        drop(stream);
    });
    fails(
        "echo",
        server,
        &["--size", "64k"],
        "connection 0 failed after 0 bytes",
    );
}

#[test]
fn bad_usage_has_its_own_exit_code() {
    let server = "127.0.0.1:7".parse().expect("an address");
    for arguments in [
        &["--size", "0"][..],
        &["--connections", "0"],
        &["--duration", "-1"],
        &["--no-such-flag"],
    ] {
        let output = ixload("echo", server, arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn an_echo_server_may_have_several_threads() {
    let mut server = Command::new(env!("CARGO_BIN_EXE_ixload"))
        .args(["serve-echo", "--listen", "127.0.0.1:0", "--threads", "3"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("ixload starts");
    let mut line = String::new();
    let mut output = BufReader::new(server.stdout.take().expect("it is a pipe"));
    output
        .read_line(&mut line)
        .expect("it says where it listens");
    let address = line.trim_end().strip_prefix("listening on ");
    let address = address.and_then(|address| address.parse().ok());
    let report = succeeds(
        "echo",
        address.expect("an address"),
        &["--connections", "32", "--messages", "20"],
    );
    server.kill().expect("it still runs");
    server.wait().expect("it has ended");
    assert!(report.contains("640 messages"), "{report}");
}
