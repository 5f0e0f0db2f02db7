//! The program over its socket: a client of this test's own, which knows the protocol by its
//! numbers and shares no code with the server.

use std::io::{BufRead, BufReader, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

const EINVAL: u32 = 22;
const ENOSYS: u32 = 38;

/// A running `ixnicd`, killed if the test forgets it.
struct Nicd {
    process: Child,
    folder: tempfile::TempDir,
}

impl Nicd {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("nic");
        let mut process = Command::new(env!("CARGO_BIN_EXE_ixnicd"))
            .arg("--socket")
            .arg(&socket)
            .arg("--loopback")
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = process.stdout.as_mut().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), format!("ready {}", socket.display()));
        Self { process, folder }
    }

    /// Two functions, `a` and `b`, behind a switch.
    fn switched() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let function = |name: &str| {
            let path = |end: &str| folder.path().join(format!("{name}{end}"));
            let (socket, control) = (path(""), path(".control"));
            let (socket, control) = (socket.display(), control.display());
            format!("socket={socket},mac=52:54:00:00:00:0{name},control-socket={control}")
        };
        let mut process = Command::new(env!("CARGO_BIN_EXE_ixnicd"))
            .args(["--loopback", "--function", &function("a")])
            .args(["--function", &function("b")])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.as_mut().unwrap());
        for line in output.lines().take(2) {
            assert!(line.unwrap().starts_with("ready "));
        }
        Self { process, folder }
    }

    fn connect(&self) -> Client {
        self.connect_to("nic")
    }

    fn connect_to(&self, function: &str) -> Client {
        let socket = UnixStream::connect(self.folder.path().join(function)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        Client { socket, next_id: 1 }
    }

    /// Waits for the end; what was written to standard error.
    fn end(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + Duration::from_secs(5);
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "ixnicd does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut errors = String::new();
        let output = self.process.stderr.as_mut().unwrap();
        output.read_to_string(&mut errors).unwrap();
        assert!(!self.folder.path().join("nic").exists(), "socket is left");
        (status, errors)
    }

    fn signal(&self, signal: &str) {
        // The shell's own: the program of this name is not on every machine.
        let line = format!("kill {signal} {}", self.process.id());
        let status = Command::new("sh").args(["-c", &line]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Nicd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Client {
    socket: UnixStream,
    next_id: u16,
}

#[derive(Debug)]
struct Reply {
    error: u32,
    payload: Vec<u8>,
    fds: Vec<OwnedFd>,
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn message(id: u16, command: u16, flags: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = id.to_ne_bytes().to_vec();
    bytes.extend(command.to_ne_bytes());
    bytes.extend(words(&[16 + payload.len() as u32, flags, 0]));
    bytes.extend(payload);
    bytes
}

fn access(region: u32, offset: u64, count: u32, data: &[u8]) -> Vec<u8> {
    let mut payload = offset.to_ne_bytes().to_vec();
    payload.extend(words(&[region, count]));
    payload.extend(data);
    payload
}

impl Client {
    /// A connection that has said hello.
    fn greeted(nicd: &Nicd) -> Self {
        nicd.connect().greets()
    }

    fn greets(self) -> Self {
        let mut client = self;
        let reply = client.call(1, b"\0\0\x01\0{\"capabilities\":{\"max_msg_fds\":8}}\0");
        assert_eq!(reply.error, 0);
        assert_eq!(reply.payload[..4], [0, 0, 1, 0]);
        assert_eq!(reply.payload.last(), Some(&0));
        client
    }

    fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let bytes = [IoSlice::new(bytes)];
        sendmsg(&self.socket, &bytes, &mut control, SendFlags::empty()).unwrap();
    }

    fn call(&mut self, command: u16, payload: &[u8]) -> Reply {
        self.call_with(command, payload, &[])
    }

    fn call_with(&mut self, command: u16, payload: &[u8], fds: &[BorrowedFd<'_>]) -> Reply {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&message(id, command, 0, payload), fds);
        let (header, reply) = self.receive();
        assert_eq!(header[0..2], id.to_ne_bytes());
        assert_eq!(header[2..4], command.to_ne_bytes());
        reply
    }

    /// The next reply: header, and what it says.
    fn receive(&mut self) -> ([u8; 16], Reply) {
        let mut header = [0; 16];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut room = [IoSliceMut::new(&mut header)];
        let got = recvmsg(&self.socket, &mut room, &mut control, RecvFlags::WAITALL).unwrap();
        assert_eq!(got.bytes, 16);
        let fds = control
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .collect();
        let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
        assert_eq!(word(8) & 0xf, 1, "not a reply");
        assert_eq!(word(8) & 0x20 != 0, word(12) != 0, "error flag and number");
        let mut payload = vec![0; word(4) as usize - 16];
        self.socket.read_exact(&mut payload).unwrap();
        let error = word(12);
        (
            header,
            Reply {
                error,
                payload,
                fds,
            },
        )
    }

    fn read32(&mut self, region: u32, offset: u64) -> u32 {
        let reply = self.call(9, &access(region, offset, 4, &[]));
        assert_eq!((reply.error, reply.payload.len()), (0, 20));
        u32::from_ne_bytes(reply.payload[16..].try_into().unwrap())
    }

    fn write32(&mut self, region: u32, offset: u64, value: u32) {
        let reply = self.call(10, &access(region, offset, 4, &value.to_ne_bytes()));
        assert_eq!((reply.error, reply.payload.len()), (0, 16));
    }

    /// Sends a write that nobody answers.
    fn post32(&self, offset: u64, value: u32) {
        let payload = access(0, offset, 4, &value.to_ne_bytes());
        self.send(&message(0, 10, 0x10, &payload), &[]);
    }

    fn map(
        &mut self,
        flags: u32,
        offset: u64,
        address: u64,
        size: u64,
        fd: &[BorrowedFd<'_>],
    ) -> u32 {
        let mut payload = words(&[32, flags]);
        for word in [offset, address, size] {
            payload.extend(word.to_ne_bytes());
        }
        self.call_with(2, &payload, fd).error
    }

    fn unmap(&mut self, address: u64, size: u64) -> u32 {
        let mut payload = words(&[24, 0]);
        payload.extend(address.to_ne_bytes());
        payload.extend(size.to_ne_bytes());
        self.call(3, &payload).error
    }
}

#[test]
fn a_client_finds_the_device() {
    let nicd = Nicd::start(&[]);
    let mut client = Client::greeted(&nicd);
    let info = client.call(4, &words(&[16, 0, 0, 0]));
    assert_eq!(info.payload, words(&[16, 3, 9, 5]));
    for (index, size) in [(0, 0x2_0000u64), (1, 0), (4, 0x4000), (7, 4096), (8, 0)] {
        let reply = client.call(5, &words(&[32, 0, index, 0, 0, 0, 0, 0]));
        assert_eq!(reply.payload.len(), 32);
        assert_eq!(reply.payload[16..24], size.to_ne_bytes(), "region {index}");
    }
    let msix = client.call(7, &words(&[16, 0, 2, 0]));
    assert_eq!(msix.payload[12..], 64u32.to_ne_bytes());
    assert_eq!(client.read32(7, 0), 0x10fb_8086);
    assert_eq!(client.read32(0, 0x42a4) >> 30, 1, "link is up");
    drop(client);
    let (status, errors) = nicd.end();
    assert_eq!((status.code(), &errors[..]), (Some(0), ""));
}

#[test]
fn errors_are_answered_and_the_conversation_goes_on() {
    let nicd = Nicd::start(&[]);
    let mut early = nicd.connect();
    assert_eq!(early.call(4, &words(&[16, 0, 0, 0])).error, EINVAL);
    let hello = early.call(1, b"\0\0\0\0{}\0");
    assert_eq!(hello.error, 0);
    let mut client = early;
    assert_eq!(
        client.call(1, b"\0\0\0\0{}\0").error,
        EINVAL,
        "a second hello"
    );
    for command in [0, 6, 11, 14, 16, 999] {
        assert_eq!(client.call(command, &[0; 40]).error, ENOSYS);
    }
    assert_eq!(client.call(9, &[0; 3]).error, EINVAL);
    assert_eq!(client.call(9, &access(0, 0x1_fffe, 4, &[])).error, EINVAL);
    assert_eq!(client.call(9, &access(0, u64::MAX, 4, &[])).error, EINVAL);
    assert_eq!(client.call(9, &access(2, 0, 4, &[])).error, EINVAL);
    assert_eq!(client.call(9, &access(7, 0, 1 << 30, &[])).error, EINVAL);
    assert_eq!(client.call(10, &access(0, 2, 2, &[0; 2])).error, EINVAL);
    assert_eq!(client.call(8, &words(&[20, 0x24, 2, 60, 5])).error, EINVAL);
    assert_eq!(client.unmap(0x1000, 0x1000), 2);
    // A command that wants no answer gets none, not even an error.
    client.send(&message(7, 999, 0x10, &[]), &[]);
    assert_eq!(client.read32(7, 0), 0x10fb_8086);
}

#[test]
fn an_impossible_size_ends_the_connection_with_a_reason() {
    let nicd = Nicd::start(&[]);
    let client = Client::greeted(&nicd);
    client.send(&[0xff; 16], &[]);
    let (status, errors) = nicd.end();
    assert_eq!(status.code(), Some(1));
    assert!(errors.contains("4294967295 bytes"), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

#[test]
fn signals_end_it_well_with_and_without_a_client() {
    for signal in ["-TERM", "-INT"] {
        let nicd = Nicd::start(&["--log", "info"]);
        let client = Client::greeted(&nicd);
        nicd.signal(signal);
        let (status, errors) = nicd.end();
        assert_eq!(status.code(), Some(0));
        assert!(errors.contains("told to stop"), "{errors}");
        drop(client);
    }
    let nicd = Nicd::start(&[]);
    nicd.signal("-TERM");
    assert_eq!(nicd.end().0.code(), Some(0));
}

/// Guest memory of 64 KiB in a file, as both sides see it.
struct Memory(std::fs::File);

impl Memory {
    fn new() -> Self {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 16).unwrap();
        Self(file)
    }

    fn store(&self, offset: u64, bytes: &[u8]) {
        std::os::unix::fs::FileExt::write_all_at(&self.0, bytes, offset).unwrap();
    }

    fn load<const BYTES: usize>(&self, offset: u64) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        std::os::unix::fs::FileExt::read_exact_at(&self.0, &mut bytes, offset).unwrap();
        bytes
    }
}

fn readable(fd: impl AsFd) -> bool {
    let five_seconds = Timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut fds, Some(&five_seconds)).unwrap() == 1
}

/// Bus address of the memory; the file's first page is not mapped, so that offset and address
/// differ.
const BUS: u64 = 0x1_0000_0000;
const FRAME: u64 = 0x4000;
const BUFFER: u64 = 0x5000;

/// Rings of eight descriptors, vector 3 for receive queue 0, frames pass to anybody.
fn set_up(client: &mut Client, memory: &Memory, interrupt: &OwnedFd) {
    let fd = [memory.0.as_fd()];
    assert_eq!(client.map(3, 0x1000, BUS, 0xf000, &fd), 0);
    assert_eq!(
        client.map(3, 0, 0xfee0_0000, 0x1000, &[]),
        0,
        "without a file"
    );
    let assign = words(&[20, 0x24, 2, 3, 1]);
    assert_eq!(client.call_with(8, &assign, &[interrupt.as_fd()]).error, 0);
    client.write32(7, 4, 0x0006);
    client.write32(0, 0x898, 1 << 4);
    client.write32(0, 0x900, 0x83);
    client.write32(0, 0x880, 1 << 3);
    client.write32(0, 0x5080, 1 << 9);
    for (base, ring) in [(0x1000, 0), (0x6000, 0x1000)] {
        client.write32(0, base, ring);
        client.write32(0, base + 4, 1);
        client.write32(0, base + 8, 128);
        client.write32(0, base + 0x28, 1 << 25);
    }
    client.write32(0, 0x1014, 2 | 1 << 25);
    client.write32(0, 0x3000, 1);
    client.write32(0, 0x4a80, 1);
    memory.store(0x1000, &(BUS + BUFFER - 0x1000).to_ne_bytes());
    client.post32(0x1018, 1);
    memory.store(FRAME, &[0x5a; 100]);
    memory.store(0x2000, &(BUS + FRAME - 0x1000).to_ne_bytes());
    memory.store(0x2008, &(100u64 | 0x2b30_0000).to_ne_bytes());
}

#[test]
fn a_frame_goes_round_the_loopback_plug() {
    let nicd = Nicd::start(&["--log", "info"]);
    let mut client = Client::greeted(&nicd);
    let memory = Memory::new();
    let interrupt = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
    set_up(&mut client, &memory, &interrupt);
    client.post32(0x6018, 1);
    assert!(readable(&interrupt), "no interrupt");
    assert_eq!(memory.load::<100>(BUFFER), [0x5a; 100]);
    let status: [u8; 8] = memory.load(0x1008);
    assert_eq!((status[0] & 3, status[4]), (3, 100), "done, and its length");
    assert_eq!(memory.load::<8>(0x2008)[4] & 1, 1, "transmission reported");
    assert_eq!(client.read32(0, 0x4074), 1, "one good frame received");

    // Reset by the client: the rings are gone, memory stays mapped.
    assert_eq!(client.call(13, &[]).error, 0);
    assert_eq!(client.read32(0, 0x1008), 0);
    assert_eq!(client.unmap(BUS, 0xf000), 0);
    drop(client);
    let (status, errors) = nicd.end();
    assert_eq!(status.code(), Some(0));
    assert!(errors.contains("frames in 1, bytes in 100"), "{errors}");
}

#[test]
fn several_writes_in_one_message_ring_several_doorbells() {
    let nicd = Nicd::start(&[]);
    let mut client = Client::greeted(&nicd);
    let mut payload = 2u64.to_ne_bytes().to_vec();
    for (offset, value) in [(0x1008, 256u32), (0x6008, 384)] {
        payload.extend(access(0, offset, 4, &value.to_ne_bytes()));
        payload.extend([0; 4]);
    }
    let reply = client.call(15, &payload);
    assert_eq!(reply.payload, 2u64.to_ne_bytes());
    assert_eq!(client.read32(0, 0x1008), 256);
    assert_eq!(client.read32(0, 0x6008), 384);
}

#[test]
fn doorbells_can_be_mapped_and_need_no_message() {
    let nicd = Nicd::start(&["--doorbells", "mapped"]);
    let mut client = Client::greeted(&nicd);
    // Without room for the capability the client is told how much it needs.
    let short = client.call(5, &words(&[32, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(short.payload[..16], words(&[80, 0xf, 0, 32]));
    assert!(short.fds.is_empty());
    let info = client.call(5, &words(&[80, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(info.payload.len(), 80);
    let areas: Vec<u64> = info.payload[48..]
        .chunks(8)
        .map(|word| u64::from_ne_bytes(word.try_into().unwrap()))
        .collect();
    assert_eq!(areas, [0x1000, 0x1000, 0x6000, 0x1000]);
    let doorbells = Memory(info.fds.into_iter().next().unwrap().into());

    let memory = Memory::new();
    let interrupt = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
    set_up(&mut client, &memory, &interrupt);
    doorbells.store(0x6018, &1u32.to_ne_bytes());
    assert!(readable(&interrupt), "no interrupt");
    assert_eq!(memory.load::<100>(BUFFER), [0x5a; 100]);
    assert_eq!(
        doorbells.load::<4>(0x6010),
        1u32.to_ne_bytes(),
        "head is shown"
    );
}

#[test]
fn loss_is_injected_by_seed() {
    let nicd = Nicd::start(&["--loss", "1", "--log", "info"]);
    let mut client = Client::greeted(&nicd);
    let memory = Memory::new();
    let interrupt = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
    set_up(&mut client, &memory, &interrupt);
    client.post32(0x6018, 1);
    // The answer comes after the doorbell was handled.
    assert_eq!(client.read32(0, 0x4074), 0);
    drop(client);
    let errors = nicd.end().1;
    assert!(errors.contains("frames out 1"), "{errors}");
    assert!(!errors.contains("frames in"), "{errors}");
}

#[test]
fn a_capture_has_both_directions() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("frames.pcap");
    let nicd = Nicd::start(&["--pcap", file.to_str().unwrap()]);
    let mut client = Client::greeted(&nicd);
    let memory = Memory::new();
    let interrupt = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
    set_up(&mut client, &memory, &interrupt);
    client.post32(0x6018, 1);
    assert!(readable(&interrupt));
    drop(client);
    assert_eq!(nicd.end().0.code(), Some(0));
    let bytes = std::fs::read(&file).unwrap();
    assert_eq!(bytes.len(), 24 + 2 * (16 + 100));
}

#[test]
fn a_client_that_fails_leaves_the_others_and_its_function_alone() {
    let nicd = Nicd::switched();
    let mut good = nicd.connect_to("b").greets();
    // One that sends what cannot be followed, ...
    let bad = nicd.connect_to("a").greets();
    bad.send(&[0xff; 16], &[]);
    assert_eq!((&bad.socket).read(&mut [0; 1]).unwrap(), 0, "hung up on");
    // ... one that reads none of its replies, which is no longer heard, ...
    let deaf = nicd.connect_to("a").greets();
    deaf.socket.set_nonblocking(true).unwrap();
    let question = message(7, 9, 0, &access(0, 0, 0x1_0000, &[]));
    while rustix::io::write(&deaf.socket, &question).is_ok() {}
    assert_eq!(good.read32(7, 0), 0x10fb_8086);
    drop(deaf);
    // ... and one whose memory may vanish.
    let mut next = nicd.connect_to("a").greets();
    let memory = rustix::fs::memfd_create("open", rustix::fs::MemfdFlags::empty()).unwrap();
    rustix::fs::ftruncate(&memory, 0x1000).unwrap();
    assert_eq!(
        next.map(3, 0, 0x1000, 0x1000, &[memory.as_fd()]),
        1,
        "EPERM"
    );
    assert_eq!(next.read32(7, 0), 0x10fb_8086);
    assert_eq!(good.read32(7, 0), 0x10fb_8086);
    let mut asks = UnixStream::connect(nicd.folder.path().join("a.control")).unwrap();
    asks.write_all(b"switch\n").unwrap();
    let mut answer = String::new();
    asks.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("ok {\"functions\":[{\"name\":\"52:54:00:00:00:0a\""),
        "{answer}"
    );
    nicd.signal("-TERM");
    assert_eq!(nicd.end().0.code(), Some(0));
}

#[test]
fn bad_usage_is_one_line_and_code_two() {
    let taken = tempfile::NamedTempFile::new().unwrap();
    let taken = taken.path().to_str().unwrap();
    let cases: [(&[&str], &str); 4] = [
        (&["--loopback"], "--socket"),
        (
            &["--loopback", "--socket", taken],
            "remove it or choose another",
        ),
        (&["--socket", "/nonexistent/s", "--loopback"], "create it"),
        (&["--socket", "s", "--tap", "ixnosuchtap"], "--create-tap"),
    ];
    for (arguments, expected) in cases {
        let output = Command::new(env!("CARGO_BIN_EXE_ixnicd"))
            .args(arguments)
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{errors}");
        assert!(errors.contains(expected), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Random payloads behind well-formed headers: each is answered, and the device still works.
    #[test]
    fn any_message_is_answered(
        messages in prop::collection::vec(
            (0..20u16, prop::collection::vec(any::<u8>(), 0..80), 0..3u8),
            1..60,
        ),
    ) {
        let nicd = Nicd::start(&["--log", "off"]);
        let mut client = Client::greeted(&nicd);
        let stray = eventfd(0, EventfdFlags::NONBLOCK).unwrap();
        for (command, payload, fds) in &messages {
            let mut payload = payload.clone();
            // A region that exists and a short count make more of them pass.
            if let Some(field) = payload.get_mut(4..8) && *fds == 0 {
                field.fill(0);
            }
            let fds = vec![stray.as_fd(); usize::from(*fds)];
            client.call_with(*command, &payload, &fds);
        }
        prop_assert_eq!(client.read32(7, 0), 0x10fb_8086);
        drop(client);
        prop_assert_eq!(nicd.end().0.code(), Some(0));
    }

    /// Bytes that are no messages at all: it ends or waits, but it does not crash.
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 1..400)) {
        let nicd = Nicd::start(&["--log", "off"]);
        let client = nicd.connect();
        client.send(&bytes, &[]);
        drop(client);
        let code = nicd.end().0.code();
        prop_assert!(code == Some(0) || code == Some(1), "{:?}", code);
    }
}
