//! One host: an engine with everything that it needs around it.

use crate::packet::{Packet, pseudo_sum};
use crate::seq::Seq;
use crate::tcp::connection::{Flags, State};
use crate::testing::segmenter::segments;
use crate::wire::{self, ETHERNET, Ipv4Packet};
use crate::{Assembly, Config, Context, Engine, Event, Events};
use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;
use ix_abi::Handle;
use ix_hal::{
    Fragment, HEADER_ROOM, Instant, MAX_FRAGMENTS, MbufGeometry, MbufId, MbufPool, Release,
    RxChecksum, RxFrame, Transmit, TxChecksum, TxFrame,
};

/// Bus address of the application's memory.
pub const APP_BUS: u64 = 0x1_0000_0000;
/// Bus address of the mbuf pool.
const MBUF_BUS: u64 = 0x2_0000_0000;
/// Size of a buffer unless frames are longer.
const MBUF_BYTES: usize = 2048;
/// As much payload as a large frame may have.
const LARGEST: u32 = 65_408;

/// The transmit side of a NIC, and the memory that it reads.
pub struct Wire {
    /// The application's memory.
    pub app: Vec<u8>,
    /// The mbufs.
    pub mbufs: Vec<u8>,
    /// Frames sent and not yet taken.
    pub sent: VecDeque<Vec<u8>>,
    /// Frames that `sent` may hold before the ring counts as full.
    pub capacity: usize,
    /// Whether frames are assembled and kept; off for benchmarks.
    pub keeps: bool,
    /// Most payload of a frame that this NIC cuts into segments; 0 if it does not.
    pub segmentation: u32,
    /// Frames sent in all, those cut into segments counting once.
    pub frames: u64,
    header: [u8; HEADER_ROOM],
    has_room: bool,
    released: Vec<MbufId>,
    /// Frames sent that refer to the application's memory, and say when it is free.
    pub user_frames: u64,
}

impl Wire {
    /// A wire that takes 256 frames, with that memory of the application and these mbufs.
    pub fn new(app: Vec<u8>, mbufs: Vec<u8>) -> Self {
        Self {
            app,
            mbufs,
            sent: VecDeque::new(),
            capacity: 256,
            keeps: true,
            segmentation: LARGEST,
            frames: 0,
            header: [0; HEADER_ROOM],
            has_room: false,
            released: Vec::new(),
            user_frames: 0,
        }
    }

    fn read(&self, piece: &Fragment) -> &[u8] {
        let len = piece.len as usize;
        let (memory, at) = match piece.bus {
            MBUF_BUS.. => (&self.mbufs, piece.bus - MBUF_BUS),
            _ => (&self.app, piece.bus - APP_BUS),
        };
        &memory[at as usize..at as usize + len]
    }
}

impl Wire {
    /// Sends a frame, or the segments that it is to be cut into.
    fn launch(&mut self, bytes: Vec<u8>, frame: &TxFrame<'_>) {
        let header_len = usize::from(frame.header_len);
        let mut frames = match frame.segment_size {
            0 => vec![bytes],
            size => {
                assert!(bytes.len() - header_len <= self.segmentation as usize);
                segments(&bytes, header_len, usize::from(size))
            }
        };
        for frame_bytes in &mut frames {
            insert_checksums(frame_bytes, frame.checksum);
        }
        self.sent.extend(frames);
    }
}

impl Transmit for Wire {
    fn segmentation(&self) -> u32 {
        self.segmentation
    }

    fn header(&mut self) -> Option<&mut [u8; HEADER_ROOM]> {
        self.has_room = self.sent.len() < self.capacity;
        self.has_room.then_some(&mut self.header)
    }

    fn send(&mut self, frame: &TxFrame<'_>) {
        self.frames += 1;
        if !self.keeps {
            return;
        }
        assert!(self.has_room, "a frame was sent without header room");
        self.has_room = false;
        assert!(frame.fragments.len() <= MAX_FRAGMENTS);
        let mut bytes = self.header[..usize::from(frame.header_len)].to_vec();
        for piece in frame.fragments {
            assert!(piece.len != 0, "an empty fragment");
            bytes.extend_from_slice(self.read(piece));
        }
        self.launch(bytes, frame);
        match frame.release {
            Some(Release::Mbuf(mbuf)) => self.released.push(mbuf),
            Some(Release::User) => self.user_frames += 1,
            None => {}
        }
        // Stale contents must not matter.
        self.header = [0xa5; HEADER_ROOM];
    }
}

/// Does what the NIC does: inserts the checksums that the frame asks for, after checking that the
/// fields hold what the NIC wants to find there.
fn insert_checksums(bytes: &mut [u8], checksum: TxChecksum) {
    if checksum == TxChecksum::None {
        return;
    }
    let packet = Packet::in_frame(bytes).expect("a well-formed packet is sent");
    assert_eq!(packet.end, bytes.len(), "IP length is not the frame's");
    let is_ipv6 = matches!(checksum, TxChecksum::Ipv6Tcp | TxChecksum::Ipv6Udp);
    assert_eq!(packet.is_ipv6(), is_ipv6, "the other family");
    if !is_ipv6 {
        assert_eq!(wire::be16(bytes, 24), 0, "IPv4 checksum field is not zero");
        assert_eq!(bytes[14], 0x45, "IPv4 header is not 20 bytes long");
        let ip = !wire::fold(wire::sum(&bytes[ETHERNET..packet.payload]));
        wire::put16(bytes, 24, ip);
    }
    match checksum {
        TxChecksum::Ipv4Tcp | TxChecksum::Ipv6Tcp => {
            insert_transport_checksum(bytes, &packet, wire::PROTOCOL_TCP, 16);
        }
        TxChecksum::Ipv4Udp | TxChecksum::Ipv6Udp => {
            insert_transport_checksum(bytes, &packet, wire::PROTOCOL_UDP, 6);
        }
        TxChecksum::None | TxChecksum::Ipv4 => {}
    }
}

fn insert_transport_checksum(bytes: &mut [u8], packet: &Packet, protocol: u8, offset: usize) {
    let at = packet.payload + offset;
    let pseudo = pseudo_sum(protocol, packet.source, packet.destination);
    let expected = wire::fold(u64::from(pseudo) + (packet.end - packet.payload) as u64);
    assert_eq!(
        wire::be16(bytes, at),
        expected,
        "pseudo-header sum is wrong"
    );
    let checksum = !wire::fold(wire::sum(&bytes[packet.payload..]));
    // RFC 768: zero would mean that there is no checksum.
    let is_udp_zero = checksum == 0 && protocol == wire::PROTOCOL_UDP;
    wire::put16(bytes, at, if is_udp_zero { 0xffff } else { checksum });
}

/// Whether a frame's checksums are right, for those that a NIC checks.
pub fn checked_frame(bytes: &[u8]) -> bool {
    if bytes.len() < ETHERNET {
        return true;
    }
    if wire::be16(bytes, 12) == wire::ETHERTYPE_IPV4
        && let Some(packet) = Ipv4Packet::parse(bytes)
        && !wire::ipv4_checksum_is_good(bytes, &packet)
    {
        return false;
    }
    // No NIC looks into fragments.
    let Some(packet) = Packet::in_frame(bytes) else {
        return true;
    };
    let lacks_checksum = bytes[packet.payload..packet.end].get(6..8) == Some(&[0, 0]);
    match packet.protocol {
        wire::PROTOCOL_UDP if lacks_checksum => true,
        wire::PROTOCOL_TCP | wire::PROTOCOL_UDP => {
            packet.checksum_is_good(bytes, packet.protocol, packet.end)
        }
        _ => true,
    }
}

/// An event queue of bounded size.
pub struct Queue {
    /// Events not yet taken.
    pub events: VecDeque<Event>,
    /// How many fit.
    pub capacity: usize,
}

impl Events for Queue {
    fn push(&mut self, event: Event) {
        assert!(self.room() != 0, "an event was pushed without room");
        self.events.push_back(event);
    }

    fn room(&self) -> usize {
        self.capacity - self.events.len()
    }
}

/// An engine and its surroundings.
pub struct Host {
    /// The engine.
    pub engine: Engine,
    /// Frame buffers.
    pub pool: MbufPool,
    /// The way out, and the memory.
    pub wire: Wire,
    /// What came up.
    pub queue: Queue,
    /// The time.
    pub now: Instant,
    mbufs: usize,
    received: u64,
}

impl Host {
    /// A host with `app_bytes` of application memory.
    pub fn new(config: Config, now: Instant, app_bytes: usize) -> Self {
        let mbufs = config.mbufs;
        // A frame is one buffer, jumbo frames included.
        let frame_bytes = usize::from(config.mtu) + ETHERNET;
        let geometry = MbufGeometry {
            count: mbufs,
            size_shift: frame_bytes.next_power_of_two().max(MBUF_BYTES).ilog2(),
            bus: MBUF_BUS,
            user: 0,
        };
        let pool = match config.sharing {
            Some(sharing) => MbufPool::with_loans(geometry, sharing.thread, sharing.loans),
            None => MbufPool::new(geometry),
        };
        Self {
            engine: Engine::new(config, now).expect("a configuration"),
            pool,
            wire: Wire::new(vec![0; app_bytes], vec![0; geometry.bytes() as usize]),
            queue: Queue {
                events: VecDeque::new(),
                capacity: 1024,
            },
            now,
            mbufs: mbufs as usize,
            received: 0,
        }
    }

    /// Calls the engine with a context.
    pub fn with<R>(
        &mut self,
        call: impl FnOnce(&mut Engine, &mut Context<'_, Wire, Queue>) -> R,
    ) -> R {
        let mut cx = Context {
            now: self.now,
            tx: &mut self.wire,
            events: &mut self.queue,
            pool: &mut self.pool,
        };
        let result = call(&mut self.engine, &mut cx);
        for mbuf in self.wire.released.drain(..) {
            self.pool.give(mbuf);
        }
        result
    }

    /// Receives a frame as a NIC does that reports its checksums, every fourth time as one that
    /// does not. Dropped if the pool is empty.
    pub fn receive(&mut self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(self.pool.geometry().size())];
        self.received += 1;
        let checksum = match (self.received % 4, checked_frame(bytes)) {
            (0, _) => RxChecksum::Unchecked,
            (_, true) => RxChecksum::Good,
            (_, false) => RxChecksum::Bad,
        };
        self.receive_as(bytes, checksum);
    }

    /// Receives a frame with this verdict on its checksums. Dropped if the pool is empty.
    pub fn receive_as(&mut self, bytes: &[u8], checksum: RxChecksum) {
        let Some(mbuf) = self.pool.take() else {
            return;
        };
        let at = self.start_of(mbuf);
        let bytes = &bytes[..bytes.len().min(self.pool.geometry().size())];
        self.wire.mbufs[at..at + bytes.len()].copy_from_slice(bytes);
        let frame = RxFrame {
            mbuf,
            len: bytes.len() as u16,
            checksum,
            rss_hash: 0,
        };
        self.with(|engine, cx| engine.ingress(cx, &frame, bytes));
        while let Some(assembly) = self.engine.take_assembly() {
            self.assemble(&assembly);
        }
    }

    fn assemble(&mut self, assembly: &Assembly) {
        let start = self.start_of(assembly.mbuf());
        for (piece, at) in assembly.copies() {
            let from = self.start_of(piece.mbuf) + usize::from(piece.offset);
            let from = from..from + usize::from(piece.len);
            self.wire.mbufs.copy_within(from, start + at);
        }
        let bytes = self.wire.mbufs[start..start + assembly.len()].to_vec();
        self.with(|engine, cx| engine.assembled(cx, assembly, &bytes));
    }

    /// Timers and output: the end of a half-cycle.
    pub fn turn(&mut self) {
        self.with(|engine, cx| {
            engine.timers(cx);
            engine.output(cx);
        });
    }

    /// Bytes of an mbuf.
    pub fn mbuf_bytes(&self, mbuf: MbufId, offset: u16, len: u16) -> &[u8] {
        let at = self.start_of(mbuf) + usize::from(offset);
        &self.wire.mbufs[at..at + usize::from(len)]
    }

    /// Where an mbuf begins in their memory.
    fn start_of(&self, mbuf: MbufId) -> usize {
        (mbuf.0 as usize) << self.pool.geometry().size_shift
    }

    /// Mbufs that are not in the pool.
    pub fn mbufs_out(&self) -> usize {
        self.mbufs - self.pool.available()
    }
}

impl Engine {
    /// Has a connection count its bytes from `iss`, as long as its SYN was not sent. Without effect on
    /// one whose SYN-ACK was a cookie.
    pub fn set_initial_sequence(&mut self, handle: Handle, iss: u32) {
        let index = self
            .connections
            .find(handle)
            .expect("a handle that is good");
        let connection = &mut self.connections[index];
        if !connection.flags.contains(Flags::PROVEN) {
            assert!(connection.state <= State::SynSent && connection.snd_nxt == connection.iss);
            connection.set_iss(Seq(iss));
        }
    }

    /// Send records that are free.
    pub fn free_send_records(&self) -> u32 {
        self.send_records.available()
    }
}
