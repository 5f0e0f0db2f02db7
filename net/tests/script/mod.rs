//! Reads a packet script line by line and carries it out.

mod icmp;
mod segment;

use core::net::{IpAddr, Ipv4Addr};
use ix_abi::{DeadReason, Error, Handle};
use ix_hal::{Duration, Fragment, Instant};
use ix_net::testing::{Host, Situation};
use ix_net::{Config, CongestionControl, Ecn, Endpoint, Event, Ipv6Config, Refusal};
use segment::{Expected, Family, Fields, Numbers};
use std::collections::BTreeSet;

const START: Instant = Instant(1 << 40);
const PORT: u16 = 80;
/// As much as a NIC may cut into segments.
const LARGEST: u32 = 65_408;
/// The largest that a configuration may say.
const LONGEST_MTU: u16 = 9000;

/// The state of a running script.
struct Run {
    host: Host,
    numbers: Numbers,
    handle: Option<Handle>,
    /// Bytes of the peer's stream that were delivered.
    received: u64,
    /// Bytes of ours that were queued.
    queued: u64,
    /// The cases of RFC 9293 3.10.7 that the peer's segments were.
    met: BTreeSet<Situation>,
}

/// Carries a script out and returns the cases that it covers; the error names the line and what was
/// wrong. Unless it says how much payload the NIC cuts into segments, it has to hold both with a NIC
/// that cuts and with one that does not; unless it names its family, over IPv4 and over IPv6.
pub fn run(text: &str) -> Result<BTreeSet<Situation>, String> {
    let named = text.lines().find_map(|line| line.strip_prefix("family "));
    let families = match named {
        None => &[Family::Ipv4, Family::Ipv6][..],
        Some("ipv4") => &[Family::Ipv4],
        Some("ipv6") => &[Family::Ipv6],
        Some(other) => return Err(format!("{other} is no family")),
    };
    let mut met = BTreeSet::new();
    for family in families {
        let over = |error| format!("{error}\n  (over {family:?})");
        // So that segments are as long as over IPv4, where the script does not choose.
        let longer_mtu = match (named, family) {
            (None, Family::Ipv6) => 20,
            _ => 0,
        };
        run_on(text, *family, longer_mtu, 0).map_err(over)?;
        met = run_on(text, *family, longer_mtu, LARGEST)
            .map_err(over)
            .map_err(|error| format!("{error}\n  (the NIC makes the segments)"))?;
    }
    Ok(met)
}

/// The same over one family, on a NIC that cuts up to `segmentation` bytes into segments.
fn run_on(
    text: &str,
    family: Family,
    longer_mtu: u16,
    mut segmentation: u32,
) -> Result<BTreeSet<Situation>, String> {
    let mut config = Config {
        ipv6: Some(Ipv6Config {
            address: Some(segment::LOCAL6),
            duplicate_probes: 0,
            ..Ipv6Config::default()
        }),
        mac: [2, 0, 0, 0, 0, 1],
        ipv4: Ipv4Addr::new(10, 0, 0, 1),
        // So that initial sequence numbers are not always in the same half.
        secret: [if segmentation == 0 { 7 } else { 6 }; 16],
        connections: 8,
        half_open: 4,
        time_wait: 4,
        mbufs: 512,
        mbufs_held: 400,
        rx_window: 60_000,
        initial_window: 10,
        // Whose numbers a reader can follow; scripts about others name them.
        congestion: CongestionControl::NewReno,
        rto_min_us: 60_000,
        ..Config::default()
    };
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.peek() {
        match line.strip_prefix("config ") {
            Some(setting) => configure(&mut config, &mut segmentation, setting)
                .map_err(|error| format!("{}: {line}: {error}", number + 1))?,
            None if is_blank(line) || line.starts_with("family ") => {}
            None => break,
        }
        lines.next();
    }
    // As far as there is a longer one.
    config.mtu = (config.mtu + longer_mtu).min(LONGEST_MTU);
    let mut run = Run {
        host: Host::new(config, START, 1 << 17),
        numbers: Numbers::of(family),
        handle: None,
        received: 0,
        queued: 0,
        met: BTreeSet::new(),
    };
    run.host.wire.segmentation = segmentation;
    for (position, byte) in run.host.wire.app.iter_mut().enumerate() {
        *byte = position as u8;
    }
    run.host.receive(&segment::introduction(family));
    run.host.wire.sent.clear();
    for (number, line) in lines {
        if !is_blank(line) {
            run.line(line)
                .map_err(|error| format!("{}: {line}\n  {error}", number + 1))?;
        }
    }
    run.finish().map_err(|error| format!("end: {error}"))?;
    Ok(run.met)
}

fn is_blank(line: &str) -> bool {
    line.trim().is_empty() || line.starts_with('#')
}

fn configure(config: &mut Config, segmentation: &mut u32, setting: &str) -> Result<(), String> {
    let words: Vec<&str> = setting.split_whitespace().collect();
    let [key, value] = words[..] else {
        return Err("a setting is a key and a value".into());
    };
    let number: u32 = value.parse().map_err(|_| format!("{value} is no number"))?;
    let millis = Duration::from_millis(number.into());
    match key {
        "rx_window" => config.rx_window = number,
        "rx_mbufs" => config.rx_mbufs = number as u16,
        "rx_out_of_order" => config.rx_out_of_order = number as u16,
        "send_limit" => config.send_limit = number,
        "mtu" => config.mtu = number as u16,
        "nagle" => config.nagle = number != 0,
        "initial_window" => config.initial_window = number as u16,
        "rto_min_us" => config.rto_min_us = number,
        "delayed_ack_us" => config.delayed_ack_us = number,
        "syn_cookies" => config.syn_cookies = number != 0,
        "congestion" => {
            config.congestion = match number {
                0 => CongestionControl::NewReno,
                1 => CongestionControl::Cubic,
                _ => CongestionControl::Dctcp,
            }
        }
        "ecn" => {
            config.ecn = match number {
                0 => Ecn::Off,
                1 => Ecn::Accept,
                _ => Ecn::Request,
            }
        }
        "segmentation" => *segmentation = number,
        "send_fragments" => config.send_fragments = number,
        "half_open" => config.half_open = number,
        "connections" => config.connections = number,
        "refuse_by_reset" => {
            config.refusal = match number {
                0 => Refusal::Silence,
                _ => Refusal::Reset,
            }
        }
        "time_wait" => config.time_wait = number,
        "challenge_acks" => config.challenge_acks = number,
        "resets" => config.resets = number,
        "user_timeout_ms" => config.user_timeout = millis,
        "handshake_timeout_ms" => config.handshake_timeout = millis,
        "fin_timeout_ms" => config.fin_timeout = millis,
        "time_wait_ms" => config.time_wait_length = millis,
        "keepalive_ms" => config.keepalive = Some(millis),
        _ => return Err(format!("no setting {key}")),
    }
    Ok(())
}

impl Run {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        if let Some(span) = words[0].strip_prefix('+') {
            let millis: f64 = span
                .parse()
                .map_err(|_| format!("{span} is no time in ms"))?;
            self.advance((millis * 1e6) as u64);
            words.remove(0);
        }
        match words[..] {
            [] => Ok(()),
            ["listen"] => self
                .host
                .engine
                .listen(PORT)
                .map_err(|error| format!("{error:?}")),
            ["unlisten"] => self
                .host
                .engine
                .unlisten(PORT)
                .map_err(|error| format!("{error:?}")),
            ["established", ..] => self.establish(&words[1..].join(" ")),
            ["<", "too_long", ref words @ ..] => {
                let frame = icmp::too_long(words, &self.numbers)?;
                self.host.receive(&frame);
                Ok(())
            }
            ["<", ..] => self.inject(&words[1..]),
            [">", "nothing"] => self.expect_no_frame(),
            [">", ..] => self.expect_frame(&words[1..]),
            ["!", "nothing"] => self.expect_no_event(),
            ["!", ..] => self.expect_event(&words[1..]),
            ["call", ..] => self.call(&words[1..]),
            ["counter", name, value] => self.expect_counter(name, value),
            _ => Err("no such action".into()),
        }
    }

    /// Lets time pass, timer by timer.
    fn advance(&mut self, span: u64) {
        let end = Instant(self.host.now.0 + span);
        loop {
            self.turn();
            match self.host.engine.next_deadline() {
                Some(deadline) if deadline <= end => {
                    self.host.now = Instant(deadline.0.max(self.host.now.0 + 1));
                }
                _ => break,
            }
        }
        self.host.now = end;
        self.turn();
    }

    /// Timers and output; the peer answers when it is asked for its MAC address.
    fn turn(&mut self) {
        self.host.turn();
        let before = self.host.wire.sent.len();
        self.host
            .wire
            .sent
            .retain(|frame| !segment::is_discovery(frame));
        if self.host.wire.sent.len() != before {
            let frames = std::mem::take(&mut self.host.wire.sent);
            self.host
                .receive(&segment::introduction(self.numbers.family));
            self.host.wire.sent = frames;
            self.host.turn();
        }
    }

    /// A passive open whose SYN carries these options; `rtt MS` first is how long it takes.
    fn establish(&mut self, options: &str) -> Result<(), String> {
        let words: Vec<&str> = options.split_whitespace().collect();
        let (rtt, options) = match words[..] {
            ["rtt", rtt, ref options @ ..] => (rtt, options.join(" ")),
            _ => ("0", words.join(" ")),
        };
        let stamp = if options.contains("ts ") {
            "ts 101 *"
        } else {
            ""
        };
        for line in [
            "listen",
            &format!("< S seq 0 win 50000 {options}"),
            "! knock",
            "call accept",
            "> S. seq 0 ack 1",
            &format!("+{rtt} < . seq 1 ack 1 win 50000 {stamp}"),
            "! connected",
        ] {
            self.line(line)
                .map_err(|error| format!("{line}: {error}"))?;
        }
        Ok(())
    }

    fn inject(&mut self, words: &[&str]) -> Result<(), String> {
        let fields = Fields::parse(words)?;
        let frame = fields.build(&mut self.numbers);
        self.met.extend(self.host.engine.situations(&frame));
        self.host.receive(&frame);
        Ok(())
    }

    fn expect_no_frame(&mut self) -> Result<(), String> {
        self.turn();
        match self.host.wire.sent.pop_front() {
            None => Ok(()),
            Some(frame) => Err(format!("sent {}", segment::text(&frame, &self.numbers))),
        }
    }

    fn expect_frame(&mut self, words: &[&str]) -> Result<(), String> {
        self.turn();
        let expected = Expected::parse(words)?;
        match self.host.wire.sent.pop_front() {
            None => Err("nothing was sent".into()),
            Some(frame) => expected.check(&frame, &mut self.numbers),
        }
    }

    fn expect_no_event(&mut self) -> Result<(), String> {
        self.turn();
        match self.host.queue.events.pop_front() {
            None => Ok(()),
            Some(event) => Err(format!("got {event:?}")),
        }
    }

    fn expect_event(&mut self, words: &[&str]) -> Result<(), String> {
        self.turn();
        let event = self
            .host
            .queue
            .events
            .pop_front()
            .ok_or("there is no event")?;
        let got = self.event_text(event)?;
        let wanted = words.join(" ");
        if got == wanted || got.starts_with(&format!("{wanted} ")) {
            Ok(())
        } else {
            Err(format!("got {got}"))
        }
    }

    /// An event as scripts write it; checks what scripts do not say.
    fn event_text(&mut self, event: Event) -> Result<String, String> {
        Ok(match event {
            Event::Knock { handle, .. } => {
                self.handle = Some(handle);
                "knock".into()
            }
            Event::Connected { outcome, .. } => match outcome {
                Ok(()) => "connected".into(),
                Err(error) => format!("failed {error:?}"),
            },
            Event::Recv {
                mbuf, offset, len, ..
            } => {
                for byte in self.host.mbuf_bytes(mbuf, offset, len) {
                    if *byte != segment::peer_byte(self.received) {
                        return Err(format!("wrong byte at {}", self.received));
                    }
                    self.received += 1;
                }
                format!("recv {len}")
            }
            Event::EndOfStream { .. } => "eos".into(),
            Event::Sent { bytes, window, .. } => format!("sent {bytes} window {window}"),
            Event::Dead { reason, .. } => match reason {
                DeadReason::Closed => "dead closed".into(),
                other => format!("dead {other:?}").to_lowercase(),
            },
            Event::Datagram { .. } => "datagram".into(),
            Event::Migrated { .. } => "migrated".into(),
        })
    }

    /// `call NAME [ARGUMENT] [= RESULT]`: without a result the call must succeed.
    fn call(&mut self, words: &[&str]) -> Result<(), String> {
        let split = words
            .iter()
            .position(|word| *word == "=")
            .unwrap_or(words.len());
        let (call, wanted) = (
            &words[..split],
            words.get(split + 1..).unwrap_or(&[]).join(" "),
        );
        let outcome = self.make_call(call)?;
        let got = match outcome {
            Ok(value) => value.to_string(),
            Err(error) => format!("{error:?}"),
        };
        let is_good = match wanted.is_empty() {
            true => outcome.is_ok(),
            false => got == wanted,
        };
        is_good.then_some(()).ok_or(format!("result is {got}"))
    }

    fn make_call(&mut self, words: &[&str]) -> Result<Result<u64, Error>, String> {
        let number = |at: usize| -> Result<u64, String> {
            let word = words.get(at).ok_or("a number is missing")?;
            word.parse().map_err(|_| format!("{word} is no number"))
        };
        if words[0] == "connect" {
            return Ok(self.connect());
        }
        let handle = self.handle.ok_or("there is no handle yet")?;
        let pieces = match words[0] {
            "send" => self.pieces(&words[1..], 0)?,
            "scatter" => self.pieces(&words[1..], 65_536)?,
            _ => Vec::new(),
        };
        let bytes = if words[0] == "recv_done" {
            number(1)?
        } else {
            0
        };
        let outcome = self.host.with(|engine, cx| match words[0] {
            "accept" => Some(engine.accept(cx, handle, 1).map(|()| 0)),
            "send" | "scatter" => Some(engine.send(cx, handle, &pieces).map(u64::from)),
            "recv_done" => Some(engine.recv_done(cx, handle, bytes).map(|()| 0)),
            "shutdown" => Some(engine.shutdown(cx, handle).map(|()| 0)),
            "close" => Some(engine.close(cx, handle).map(|()| 0)),
            "abort" => Some(engine.abort(cx, handle).map(|()| 0)),
            _ => None,
        });
        let outcome = outcome.ok_or("no such call")?;
        if !pieces.is_empty() {
            self.queued += outcome.unwrap_or(0);
        }
        Ok(outcome)
    }

    fn connect(&mut self) -> Result<u64, Error> {
        let remote = Endpoint {
            address: match self.numbers.family.peer() {
                IpAddr::V4(address) => address.into(),
                IpAddr::V6(address) => address.into(),
            },
            port: segment::PEER_PORT,
        };
        let handle = self.host.with(|engine, cx| engine.connect(cx, 1, remote))?;
        self.handle = Some(handle);
        self.numbers.connects = true;
        Ok(0)
    }

    /// The next bytes of our stream, in pieces of the given lengths. Every other one lies `apart`
    /// bytes behind its place in memory, where the same bytes are.
    fn pieces(&self, lengths: &[&str], apart: u64) -> Result<Vec<Fragment>, String> {
        let mut at = self.queued;
        lengths
            .iter()
            .zip([0, apart].into_iter().cycle())
            .map(|(word, apart)| {
                let len: u32 = word.parse().map_err(|_| format!("{word} is no length"))?;
                let piece = Fragment {
                    bus: ix_net::testing::APP_BUS + at % 65_536 + apart,
                    len,
                };
                at += u64::from(len);
                Ok(piece)
            })
            .collect()
    }

    fn expect_counter(&mut self, name: &str, value: &str) -> Result<(), String> {
        let mut counters = self.host.engine.counters().iter();
        let (_, got) = counters
            .find(|(found, _)| *found == name)
            .ok_or("no such counter")?;
        (got.to_string() == value)
            .then_some(())
            .ok_or(format!("it is {got}"))
    }

    /// Nothing that the script did not expect may be left.
    fn finish(&mut self) -> Result<(), String> {
        self.expect_no_frame()?;
        self.expect_no_event()
    }
}
