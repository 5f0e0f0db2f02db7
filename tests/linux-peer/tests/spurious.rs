//! Where nothing is lost, nothing is sent again: neither by the engine to a stock Linux, which delays its
//! acknowledgements by up to 40 ms whenever its application has not read, nor by Linux to the engine.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use ix_abi::{DeadReason, Handle};
use ix_hal::Fragment;
use ix_linux_peer::stream::{self, Ends};
use ix_linux_peer::transfer::{LIMIT, Opens, PORT, exchange, linux_connects, script};
use ix_linux_peer::{Application, Path, Station};
use ix_net::Event;
use ix_net::testing::{APP_BUS, Host, Role};

const MIB: u64 = 1 << 20;

/// Linux repeats what is not acknowledged for two of its ticks, 2 ms or 8. So it has a reason to if this
/// process, and the engine in it, got no processor for so long.
const PATIENCE: Duration = Duration::from_millis(2);
/// Attempts to find the machine idle enough to say something of Linux.
const ATTEMPTS: u32 = 4;

/// Asserts that the engine repeats nothing, however busy the machine is, and Linux neither unless it was
/// kept waiting.
fn assert_nothing_is_repeated(mut attempt: impl FnMut() -> Station) {
    for _ in 0..ATTEMPTS {
        let station = attempt();
        assert_engine_repeated_nothing(&station);
        let linux = station.wire.linux();
        let repeated = linux.counter("Tcp", "RetransSegs");
        let reported = linux.counter("TcpExt", "TCPDSACKRecv");
        if (repeated, reported) == (0, 0) {
            return;
        }
        let absence = station.longest_absence;
        println!("Linux repeated {repeated} segments; it was kept waiting for {absence:?}");
        assert!(absence > PATIENCE, "Linux repeated {repeated} segments");
    }
}

fn assert_engine_repeated_nothing(station: &Station) {
    let engine = station.host.engine.counters();
    let repeated = (
        engine.tcp_retransmits,
        engine.tcp_timeouts,
        engine.tcp_fast_recoveries,
        engine.tcp_dsack_received,
    );
    assert_eq!(repeated, (0, 0, 0, 0), "the engine sent again");
    let linux = station.wire.linux();
    for name in ["TCPDSACKOldSent", "TCPDSACKOfoSent", "TCPFastRetrans"] {
        assert_eq!(linux.counter("TcpExt", name), 0, "Linux counts {name}");
    }
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn streams_to_and_from_linux_are_sent_once() {
    assert_nothing_is_repeated(|| {
        let mut station = Station::new(Path::default());
        for (send, expect) in [(8, 0), (0, 8), (8, 8)] {
            for opens in [Opens::Linux, Opens::Engine] {
                for _ in 0..2 {
                    let script = script(send * MIB, expect * MIB, Role::ShutsDown);
                    exchange(&mut station, opens, &script, Ends::First);
                    let _ = station.host.engine.unlisten(PORT);
                }
            }
        }
        station
    });
}

/// Answers each request, of one byte, with as many bytes as it is told.
struct Server {
    answer: u32,
    handle: Option<Handle>,
    dead: Option<DeadReason>,
}

impl Application for Server {
    fn turn(&mut self, host: &mut Host) {
        while let Some(event) = host.queue.events.pop_front() {
            match event {
                Event::Knock { handle, .. } => {
                    self.handle = Some(handle);
                    let accepted = host.with(|engine, cx| engine.accept(cx, handle, 1));
                    accepted.expect("accept");
                }
                Event::Recv { len, .. } => self.answer(host, len),
                Event::Dead { reason, .. } => self.dead = Some(reason),
                Event::EndOfStream { .. } => {
                    let handle = self.handle();
                    let closed = host.with(|engine, cx| engine.close(cx, handle));
                    closed.expect("close");
                }
                _ => {}
            }
        }
    }
}

impl Server {
    fn handle(&self) -> Handle {
        self.handle.expect("a connection")
    }

    fn answer(&self, host: &mut Host, requests: u16) {
        assert_eq!(requests, 1, "one request at a time");
        let handle = self.handle();
        let piece = Fragment {
            bus: APP_BUS,
            len: self.answer,
        };
        let sent = host.with(|engine, cx| {
            engine
                .recv_done(cx, handle, 1)
                .expect("give back what came");
            engine.send(cx, handle, &[piece]).expect("send")
        });
        assert_eq!(sent, self.answer);
    }
}

/// Makes requests, and sleeps before it reads each answer.
fn ask(mut stream: &TcpStream, requests: u32, answer: u32, sleep: Duration) {
    let mut buffer = vec![0; answer as usize];
    for _ in 0..requests {
        stream.write_all(b"?").expect("Linux asks");
        thread::sleep(sleep);
        stream.read_exact(&mut buffer).expect("Linux is answered");
    }
    stream::shut_down(stream);
}

/// Has `requests` made by a Linux that sleeps before it reads each answer.
fn ask_and_answer(answer: u32, requests: u32, sleep: Duration) -> Station {
    let mut station = Station::new(Path::default());
    station.host.engine.listen(PORT).expect("listen");
    let mut server = Server {
        answer,
        handle: None,
        dead: None,
    };
    let linux = station.wire.linux();
    thread::scope(|scope| {
        let client = scope.spawn(move || {
            let stream = linux.inside(linux_connects);
            ask(&stream, requests, answer, sleep);
        });
        station.run(&mut server, LIMIT, |server, _| server.dead.is_some());
        client.join().expect("Linux's side ends well");
    });
    assert_eq!(server.dead, Some(DeadReason::Closed));
    station
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn answers_are_sent_once() {
    for answer in [1, 64, 1448, 4000, 60_000] {
        assert_nothing_is_repeated(|| ask_and_answer(answer, 2000, Duration::ZERO));
    }
}

#[test]
#[ignore = "makes a network namespace: cargo xtask test linux-peer"]
fn answers_are_sent_once_to_an_application_that_sleeps() {
    for answer in [64, 4000, 60_000] {
        let sleep = Duration::from_millis(30);
        assert_nothing_is_repeated(|| ask_and_answer(answer, 30, sleep));
    }
}
