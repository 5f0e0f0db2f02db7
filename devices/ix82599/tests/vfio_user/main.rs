//! The program over its socket: a client of this test's own, which knows the protocol by its
//! numbers and shares no code with the server.

mod client;

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;

use client::{Client, Nicd, access, message, words};
use proptest::prelude::*;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

const EINVAL: u32 = 22;
const ENOSYS: u32 = 38;

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
fn a_client_finds_a_virtual_function() {
    let nicd = Nicd::start(&["--kind", "vf"]);
    let mut client = Client::greeted(&nicd);
    for (index, size) in [(0, 0x4000u64), (3, 0x4000), (4, 0), (7, 4096)] {
        let reply = client.call(5, &words(&[32, 0, index, 0, 0, 0, 0, 0]));
        assert_eq!(reply.payload[16..24], size.to_ne_bytes(), "region {index}");
    }
    for (kind, vectors) in [(1, 0u32), (2, 3)] {
        let info = client.call(7, &words(&[16, 0, kind, 0]));
        assert_eq!(info.payload[12..], vectors.to_ne_bytes(), "kind {kind}");
    }
    assert_eq!(client.read32(7, 0), 0x10ed_8086);
    // The mailbox: RESET, and its answer with the station address of the command line's default.
    client.write32(0, 0x200, 1);
    client.write32(0, 0x2fc, 1);
    let answer = [0x200, 0x204, 0x208].map(|offset| client.read32(0, offset));
    assert_eq!(answer, [0x8000_0001, 0x8200_5452, 0x9959]);
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
