//! The peer: makes the frames of its side of many connections, without anybody to talk to.

use crate::trace::{Kind, MAGIC};

const FIN: u8 = 1;
/// SYN bit of a segment.
pub const SYN: u8 = 2;
const PSH: u8 = 8;
/// ACK bit of a segment.
pub const ACK: u8 = 16;

/// Bytes of a request, and of a response.
pub const REQUEST: usize = 64;
/// The port that the peer connects to.
pub const PORT: u16 = 80;
/// MAC address of the stack.
pub const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// MAC address of the peer.
pub const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// IPv4 address of the stack, in a prefix of 8 bits.
pub const ADDRESS: [u8; 4] = [10, 0, 0, 2];
/// IPv6 address of the stack, in a prefix of 64 bits.
pub const ADDRESS6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
/// First IPv4 address of the peer; it has as many as its ports need.
pub const PEER_ADDRESS: u32 = 0x0a01_0000;
/// Connections of one address of the peer.
pub const PORTS: u32 = 50_000;

const FIRST_PORT: u16 = 1024;
const FIRST_SEQ: u32 = 1000;
/// What the peer's clock of timestamps moves on by with each step.
const TICKS: u32 = 1;
/// From one connection to the next, far enough that nothing is in the cache at many connections.
const STRIDE: usize = 7919;

/// What is to be in the trace.
#[derive(Debug, Clone, clap::Args)]
pub struct Plan {
    /// Connections that are open all the time.
    #[arg(long)]
    pub connections: u32,
    /// Counted rounds: of a request on each connection of a batch, or of set-up and teardown.
    #[arg(long)]
    pub rounds: u32,
    /// Requests that arrive together; none for steps in which nothing arrives.
    #[arg(long, default_value_t = 1)]
    pub batch: u8,
    /// Count the set-up and teardown of further connections instead of requests.
    #[arg(long)]
    pub churn: bool,
    /// Have each response acknowledged by a segment of its own, and be silent before and after.
    #[arg(long)]
    pub silent: bool,
    /// Use timestamps, as Linux does (RFC 7323).
    #[arg(long)]
    pub timestamps: bool,
    /// Over IPv6; only the engine is played that.
    #[arg(long)]
    pub ipv6: bool,
}

struct Recorder {
    bytes: Vec<u8>,
    has_timestamps: bool,
    is_ipv6: bool,
    clock: u32,
}

/// The peer's side of a connection.
#[derive(Clone, Copy)]
struct Peer {
    number: u32,
    seq: u32,
    /// Counted from the stack's initial sequence number.
    ack: u32,
}

/// Makes a trace.
pub fn record(plan: &Plan) -> Vec<u8> {
    let further = if plan.churn { plan.rounds } else { 0 };
    let mut recorder = Recorder {
        bytes: MAGIC.to_vec(),
        has_timestamps: plan.timestamps,
        is_ipv6: plan.ipv6,
        clock: 1,
    };
    for number in [
        plan.connections + further,
        plan.connections + u32::from(plan.churn),
    ] {
        recorder.bytes.extend_from_slice(&number.to_le_bytes());
    }
    let mut peers = Vec::new();
    for number in 0..plan.connections {
        let mut peer = recorder.open(Kind::Setup, number);
        if !plan.churn {
            // So that each counted request acknowledges a response.
            recorder.step(Kind::Setup, 1);
            recorder.request(&mut peer);
        }
        if plan.silent {
            // Or a segment of its own, before the first silence.
            recorder.step(Kind::Setup, 1);
            recorder.frame(&peer, ACK, 0);
        }
        peers.push(peer);
    }
    if plan.churn {
        for number in 0..plan.rounds {
            recorder.open_and_close(plan.connections + number);
        }
    } else {
        recorder.requests(&mut peers, plan);
    }
    recorder.bytes
}

impl Recorder {
    fn open(&mut self, kind: Kind, number: u32) -> Peer {
        let mut peer = Peer {
            number,
            seq: FIRST_SEQ,
            ack: 0,
        };
        self.step(kind, 1);
        self.frame(&peer, SYN, 0);
        peer.seq += 1;
        peer.ack += 1;
        self.step(kind, 1);
        self.frame(&peer, ACK, 0);
        peer
    }

    /// The peer opens a connection, closes it, and acknowledges that the stack closes it too.
    fn open_and_close(&mut self, number: u32) {
        let mut peer = self.open(Kind::Counted, number);
        self.step(Kind::Counted, 1);
        self.frame(&peer, FIN | ACK, 0);
        peer.seq += 1;
        peer.ack += 1;
        self.step(Kind::Counted, 1);
        self.frame(&peer, ACK, 0);
    }

    /// Requests, a batch a step, going round the connections.
    fn requests(&mut self, peers: &mut [Peer], plan: &Plan) {
        let mut turn = 0;
        for _ in 0..plan.rounds {
            let first = turn;
            self.step(Kind::Counted, plan.batch);
            for _ in 0..plan.batch {
                self.request(&mut peers[turn]);
                turn = (turn + STRIDE) % peers.len();
            }
            if plan.silent {
                self.step(Kind::Silence, 0);
                self.acknowledgements(peers, first, plan.batch);
                self.step(Kind::Silence, 0);
            }
        }
    }

    /// The responses to a batch of requests are acknowledged.
    fn acknowledgements(&mut self, peers: &[Peer], first: usize, batch: u8) {
        let mut turn = first;
        self.step(Kind::Counted, batch);
        for _ in 0..batch {
            self.frame(&peers[turn], ACK, 0);
            turn = (turn + STRIDE) % peers.len();
        }
    }

    fn request(&mut self, peer: &mut Peer) {
        self.frame(peer, ACK | PSH, REQUEST);
        peer.seq = peer.seq.wrapping_add(REQUEST as u32);
        peer.ack = peer.ack.wrapping_add(REQUEST as u32);
    }

    fn step(&mut self, kind: Kind, frames: u8) {
        self.clock += TICKS;
        self.bytes.extend_from_slice(&[kind as u8, frames]);
    }

    fn frame(&mut self, peer: &Peer, control: u8, payload: usize) {
        let options = self.options(control);
        let tcp_len = 20 + options.len() + payload;
        let number = peer.number;
        let address = PEER_ADDRESS + number / PORTS;
        let port = FIRST_PORT + (number % PORTS) as u16;
        self.bytes.extend_from_slice(&number.to_le_bytes());
        let ip = match self.is_ipv6 {
            false => ipv4_header(address, tcp_len as u16),
            true => ipv6_header(&ipv6_address(address), tcp_len as u16, 6, 64),
        };
        let len = (12 + ip.len() + tcp_len) as u16;
        self.bytes.extend_from_slice(&len.to_le_bytes());
        let parts: [&[u8]; 11] = [
            &MAC,
            &PEER_MAC,
            &ip,
            &port.to_be_bytes(),
            &PORT.to_be_bytes(),
            &peer.seq.to_be_bytes(),
            &peer.ack.to_be_bytes(),
            &[(5 + options.len() as u8 / 4) << 4, control],
            &[0xff, 0xff, 0, 0, 0, 0],
            &options,
            &[0x55; REQUEST][..payload],
        ];
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
    }

    /// The options of a segment, laid out as Linux does: MSS, SACK permitted and window scale in a SYN,
    /// timestamps wherever they are used.
    fn options(&self, control: u8) -> Vec<u8> {
        let is_syn = control & SYN != 0;
        let kinds: (&[u8], &[u8]) = match (is_syn, self.has_timestamps) {
            (true, true) => (&[2, 4, 5, 0xb4, 4, 2], &[1, 3, 3, 7]),
            (true, false) => (&[2, 4, 5, 0xb4, 1, 1, 4, 2], &[1, 3, 3, 7]),
            (false, true) => (&[1, 1], &[]),
            (false, false) => (&[], &[]),
        };
        let mut options = kinds.0.to_vec();
        if self.has_timestamps {
            options.extend_from_slice(&[8, 10]);
            options.extend_from_slice(&self.clock.to_be_bytes());
            options.extend_from_slice(&[0; 4]);
        }
        options.extend_from_slice(kinds.1);
        options
    }
}

/// EtherType and IPv4 header of a segment from an address of the peer.
fn ipv4_header(address: u32, tcp_len: u16) -> Vec<u8> {
    let [high, low] = (20 + tcp_len).to_be_bytes();
    let mut header = vec![8, 0, 0x45, 0, high, low, 0, 0, 0x40, 0, 64, 6, 0, 0];
    header.extend_from_slice(&address.to_be_bytes());
    header.extend_from_slice(&ADDRESS);
    header
}

/// EtherType and IPv6 header of a packet from an address of the peer.
fn ipv6_header(address: &[u8; 16], len: u16, next_header: u8, hop_limit: u8) -> Vec<u8> {
    let [high, low] = len.to_be_bytes();
    let mut header = vec![0x86, 0xdd, 0x60, 0, 0, 0, high, low, next_header, hop_limit];
    header.extend_from_slice(address);
    header.extend_from_slice(&ADDRESS6);
    header
}

/// The IPv6 address that stands for an IPv4 address of the peer.
fn ipv6_address(address: u32) -> [u8; 16] {
    let mut bytes = ADDRESS6;
    bytes[12..].copy_from_slice(&address.to_be_bytes());
    bytes
}

/// Requests of the peer's MAC addresses, one for each of its IPv6 addresses.
pub fn introductions6(connections: usize) -> impl Iterator<Item = Vec<u8>> {
    let addresses = (connections as u32).div_ceil(PORTS);
    (0..addresses).map(|number| {
        let source = ipv6_address(PEER_ADDRESS + number);
        // A neighbour solicitation with the source's MAC address (RFC 4861 4.3).
        let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
        message.extend_from_slice(&ADDRESS6);
        message.extend_from_slice(&[1, 1]);
        message.extend_from_slice(&PEER_MAC);
        let pseudo = [&source[..], &ADDRESS6, &[0, 32, 0, 58], &message].concat();
        let words = pseudo.chunks_exact(2);
        let sum: u32 = words
            .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]))
            .sum();
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        message[2..4].copy_from_slice(&(!sum as u16).to_be_bytes());
        let header = ipv6_header(&source, 32, 58, 255);
        [&MAC[..], &PEER_MAC, &header, &message].concat()
    })
}

/// Requests of the peer's MAC addresses, one for each of its IPv4 addresses, so that a stack learns
/// them before the first segment.
pub fn introductions(connections: usize) -> impl Iterator<Item = Vec<u8>> {
    let addresses = (connections as u32).div_ceil(PORTS);
    (0..addresses).map(|number| {
        let mut bytes = MAC.to_vec();
        bytes.extend_from_slice(&PEER_MAC);
        bytes.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        bytes.extend_from_slice(&PEER_MAC);
        bytes.extend_from_slice(&(PEER_ADDRESS + number).to_be_bytes());
        bytes.extend_from_slice(&[0; 6]);
        bytes.extend_from_slice(&ADDRESS);
        bytes
    })
}
