//! A client of `ixnicd` that knows the protocol by its numbers, and the program itself.

use std::io::{BufRead, BufReader, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// A running `ixnicd`, killed if the test forgets it.
pub struct Nicd {
    pub process: Child,
    pub folder: tempfile::TempDir,
}

impl Nicd {
    pub fn start(arguments: &[&str]) -> Self {
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
    pub fn switched() -> Self {
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

    pub fn connect(&self) -> Client {
        self.connect_to("nic")
    }

    pub fn connect_to(&self, function: &str) -> Client {
        let socket = UnixStream::connect(self.folder.path().join(function)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        Client { socket, next_id: 1 }
    }

    /// Waits for the end; what was written to standard error.
    pub fn end(mut self) -> (ExitStatus, String) {
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

    pub fn signal(&self, signal: &str) {
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

pub struct Client {
    pub socket: UnixStream,
    next_id: u16,
}

#[derive(Debug)]
pub struct Reply {
    pub error: u32,
    pub payload: Vec<u8>,
    pub fds: Vec<OwnedFd>,
}

pub fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

pub fn message(id: u16, command: u16, flags: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = id.to_ne_bytes().to_vec();
    bytes.extend(command.to_ne_bytes());
    bytes.extend(words(&[16 + payload.len() as u32, flags, 0]));
    bytes.extend(payload);
    bytes
}

pub fn access(region: u32, offset: u64, count: u32, data: &[u8]) -> Vec<u8> {
    let mut payload = offset.to_ne_bytes().to_vec();
    payload.extend(words(&[region, count]));
    payload.extend(data);
    payload
}

impl Client {
    /// A connection that has said hello.
    pub fn greeted(nicd: &Nicd) -> Self {
        nicd.connect().greets()
    }

    pub fn greets(self) -> Self {
        let mut client = self;
        let reply = client.call(1, b"\0\0\x01\0{\"capabilities\":{\"max_msg_fds\":8}}\0");
        assert_eq!(reply.error, 0);
        assert_eq!(reply.payload[..4], [0, 0, 1, 0]);
        assert_eq!(reply.payload.last(), Some(&0));
        client
    }

    pub fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let bytes = [IoSlice::new(bytes)];
        sendmsg(&self.socket, &bytes, &mut control, SendFlags::empty()).unwrap();
    }

    pub fn call(&mut self, command: u16, payload: &[u8]) -> Reply {
        self.call_with(command, payload, &[])
    }

    pub fn call_with(&mut self, command: u16, payload: &[u8], fds: &[BorrowedFd<'_>]) -> Reply {
        let id = self.next_id;
        self.next_id += 1;
        self.send(&message(id, command, 0, payload), fds);
        let (header, reply) = self.receive();
        assert_eq!(header[0..2], id.to_ne_bytes());
        assert_eq!(header[2..4], command.to_ne_bytes());
        reply
    }

    /// The next reply: header, and what it says.
    pub fn receive(&mut self) -> ([u8; 16], Reply) {
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

    pub fn read32(&mut self, region: u32, offset: u64) -> u32 {
        let reply = self.call(9, &access(region, offset, 4, &[]));
        assert_eq!((reply.error, reply.payload.len()), (0, 20));
        u32::from_ne_bytes(reply.payload[16..].try_into().unwrap())
    }

    pub fn write32(&mut self, region: u32, offset: u64, value: u32) {
        let reply = self.call(10, &access(region, offset, 4, &value.to_ne_bytes()));
        assert_eq!((reply.error, reply.payload.len()), (0, 16));
    }

    /// Sends a write that nobody answers.
    pub fn post32(&self, offset: u64, value: u32) {
        let payload = access(0, offset, 4, &value.to_ne_bytes());
        self.send(&message(0, 10, 0x10, &payload), &[]);
    }

    pub fn map(
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

    pub fn unmap(&mut self, address: u64, size: u64) -> u32 {
        let mut payload = words(&[24, 0]);
        payload.extend(address.to_ne_bytes());
        payload.extend(size.to_ne_bytes());
        self.call(3, &payload).error
    }
}
