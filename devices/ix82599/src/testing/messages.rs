//! A hostile client: any messages, and bytes that are none, over a real socket, with descriptors of
//! files that can be memory, events, or neither.

use std::fs::File;
use std::io::{ErrorKind, IoSlice, PipeReader, PipeWriter, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use ixgbe_spec::register as reg;
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::Input;
use crate::daemon::{Conversation, Endpoint, Turn};
use crate::memory::MAX_REGIONS;
use crate::model::{ModelConfig, VirtualConfig};
use crate::vfio_user::message::{HEADER_BYTES, MAX_MESSAGE_BYTES};
use crate::wire::Loopback;

/// Commands that the protocol has numbers for, and a few more.
pub const COMMANDS: usize = 20;
const PAGE: u64 = 4096;
/// Pages of the file that is offered as memory.
const MEMORY_PAGES: u64 = 64;
/// Rounds in which a reader that reads gets everything.
const ROUNDS: usize = 1000;

/// Replies by command: how many said that it is done, and how many gave an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// By number of the command.
    pub done: [u64; COMMANDS],
    /// By number of the command.
    pub refused: [u64; COMMANDS],
    /// Conversations that the server ended.
    pub ended: u64,
    /// Frames that went through the device, in either direction.
    pub frames: u64,
}

/// Runs `data`; returns how it was answered.
///
/// # Panics
/// If the server does what it must not.
pub fn messages(data: &[u8]) -> Answers {
    let mut input = Input(data);
    let mut run = Run::new(input.byte());
    while !input.is_empty() {
        run.act(&mut input);
        run.check();
    }
    run.end()
}

/// What the client may hand over.
struct Files {
    memory: File,
    event: OwnedFd,
    /// Neither memory nor an event, and a write to it would wait for ever.
    full_pipe: (PipeReader, PipeWriter),
}

impl Files {
    fn new() -> std::io::Result<Self> {
        let memory = rustix::fs::memfd_create("fuzz", rustix::fs::MemfdFlags::CLOEXEC)?;
        rustix::fs::ftruncate(&memory, MEMORY_PAGES * PAGE)?;
        let full_pipe = std::io::pipe()?;
        rustix::io::ioctl_fionbio(&full_pipe.1, true)?;
        while rustix::io::write(&full_pipe.1, &[0; 4096]).is_ok() {}
        rustix::io::ioctl_fionbio(&full_pipe.1, false)?;
        Ok(Self {
            memory: memory.into(),
            event: eventfd(0, EventfdFlags::NONBLOCK)?,
            full_pipe,
        })
    }

    fn choose(&self, choice: u8) -> BorrowedFd<'_> {
        match choice % 8 {
            0..=3 => self.memory.as_fd(),
            4..=6 => self.event.as_fd(),
            _ => self.full_pipe.1.as_fd(),
        }
    }
}

struct Run {
    endpoint: Endpoint<Loopback>,
    conversation: Conversation,
    client: UnixStream,
    files: Rc<Files>,
    /// Replies so far that are not complete.
    replies: Vec<u8>,
    answers: Answers,
    next_id: u16,
    now_ns: u64,
    /// Lets replies lie for a while.
    reads: bool,
}

impl Run {
    fn new(choices: u8) -> Self {
        let config = ModelConfig {
            virtual_function: (choices & 4 != 0).then_some(VirtualConfig {
                trusted: choices & 8 != 0,
                port_vlan: false,
            }),
            ..ModelConfig::default()
        };
        let mut endpoint = Endpoint::new(config, Loopback::new(16));
        if choices & 1 != 0 {
            endpoint.map_doorbells().expect("memory for doorbells");
        }
        let (client, conversation) = connect();
        let mut run = Self {
            endpoint,
            conversation,
            client,
            files: Rc::new(Files::new().expect("a few descriptors")),
            replies: Vec::new(),
            answers: Answers::default(),
            next_id: 0,
            now_ns: 0,
            reads: true,
        };
        if choices & 2 == 0 {
            run.message(1, 0, b"\0\0\x01\0{\"capabilities\":{}}\0", &[]);
        }
        run
    }

    fn act(&mut self, input: &mut Input<'_>) {
        match input.byte() % 16 {
            0 => {
                let count = usize::from(input.byte());
                let bytes = input.bytes(count);
                self.send(bytes, &[]);
            }
            1 | 2 => {
                let [command, flags, count, fds] = input.array();
                let payload = input.bytes(usize::from(count));
                let fds = vec![fds >> 3; usize::from(fds & 7)];
                let command = u16::from(command) % COMMANDS as u16;
                self.message(command, u32::from(flags), payload, &fds);
            }
            3 | 4 => self.map(input),
            5 => {
                let [flags, address, pages, _] = input.array();
                let payload = [
                    &words(&[24, u32::from(flags & 3)])[..],
                    &(PAGE * u64::from(address)).to_ne_bytes(),
                    &(PAGE * u64::from(pages)).to_ne_bytes(),
                ];
                self.message(3, 0, &payload.concat(), &[]);
            }
            6..=8 => self.write(input),
            9 => {
                let [region, high, low, count] = input.array();
                let offset = u64::from(u16::from_be_bytes([high, low]));
                let payload = access(u32::from(region % 10), offset, u32::from(count) << 4, &[]);
                self.message(9, 0, &payload, &[]);
            }
            10 => {
                let [flags, index, start, count, fds] = input.array();
                let (flags, index) = (u32::from(flags), u32::from(index % 6));
                let mut payload = words(&[20, flags, index, start.into(), count.into()]);
                payload.extend(input.bytes(usize::from(count & 7)));
                self.message(8, 0, &payload, &vec![fds >> 3; usize::from(fds & 7)]);
            }
            11 => self.write_multi(input),
            12 => self.script(input),
            13 => self.store(input),
            14 => self.message(13, u32::from(input.byte()), &[], &[]),
            _ => {
                self.now_ns += u64::from(input.word());
                self.endpoint.model_mut().advance(self.now_ns);
                self.endpoint.model_mut().step();
            }
        }
    }

    /// Puts bytes into the file that may be memory, or stops or goes on reading replies.
    fn store(&mut self, input: &mut Input<'_>) {
        let [choice, page, at] = input.array();
        if choice & 1 != 0 {
            self.reads = !self.reads;
            return;
        }
        let place = PAGE * (u64::from(page) % MEMORY_PAGES) + 16 * u64::from(at);
        let bytes = input.bytes(usize::from(choice >> 1));
        let room = (MEMORY_PAGES * PAGE - place).min(bytes.len() as u64) as usize;
        let stored = self.files.memory.write_at(&bytes[..room], place);
        assert_eq!(stored.ok(), Some(room), "a memory file takes bytes");
    }

    fn map(&mut self, input: &mut Input<'_>) {
        let [flags, offset, address, pages, fds] = input.array();
        let mut payload = words(&[32, u32::from(flags)]);
        for page in [offset, address, pages % 16] {
            payload.extend((PAGE * u64::from(page)).to_ne_bytes());
        }
        let fds = vec![fds >> 2; usize::from(fds & 3)];
        self.message(2, 0, &payload, &fds);
    }

    /// A register, or some of the configuration space.
    fn write(&mut self, input: &mut Input<'_>) {
        let [choice, high, low] = input.array();
        let offset = u64::from(u16::from_be_bytes([high, low]));
        let (region, offset) = match choice % 4 {
            0 => (7, offset % 256),
            1 => (4, offset),
            _ => (0, offset & !3),
        };
        let value = input.array::<4>();
        let flags = if choice & 0x10 == 0 { 0 } else { 0x10 };
        self.message(10, flags, &access(region, offset, 4, &value), &[]);
    }

    fn write_multi(&mut self, input: &mut Input<'_>) {
        let count = input.byte();
        let mut payload = u64::from(count).to_ne_bytes().to_vec();
        for _ in 0..count % 16 {
            let [size, high, low] = input.array();
            let offset = u64::from(u16::from_be_bytes([high, low]));
            payload.extend(access(0, offset, u32::from(size % 10), &input.array::<8>()));
        }
        self.message(15, 0, &payload, &[]);
    }

    /// What a driver does to have a frame sent, so that the way to guest memory is walked.
    fn script(&mut self, input: &mut Input<'_>) {
        self.message(10, 0, &access(7, 4, 2, &[6, 0]), &[]);
        let tail = u32::from(input.byte());
        for (register, value) in [
            (reg::HLREG0, input.word()),
            (reg::rdbal(0), 0x1000),
            (reg::rdlen(0), 0x100),
            (reg::rxdctl(0), 1 << 25),
            (reg::rdt(0), 8),
            (reg::FCTRL, u32::MAX),
            (reg::RXCTRL, 1),
            (reg::tdbal(0), 0x2000),
            (reg::tdlen(0), 0x100),
            (reg::DMATXCTL, 1),
            (reg::txdctl(0), 1 << 25),
            (reg::tdt(0), tail),
        ] {
            let payload = access(0, register.into(), 4, &value.to_ne_bytes());
            self.message(10, 0x10, &payload, &[]);
        }
        self.endpoint.model_mut().step();
    }

    fn message(&mut self, command: u16, flags: u32, payload: &[u8], fds: &[u8]) {
        self.next_id = self.next_id.wrapping_add(1);
        let mut bytes = self.next_id.to_ne_bytes().to_vec();
        bytes.extend(command.to_ne_bytes());
        bytes.extend(words(&[(HEADER_BYTES + payload.len()) as u32, flags, 0]));
        bytes.extend(payload);
        self.send(&bytes, fds);
    }

    /// Sends bytes, and has the server take its turns until it took them all. A client that does not
    /// read its replies is stopped by that at the latest.
    fn send(&mut self, mut bytes: &[u8], fds: &[u8]) {
        let files = Rc::clone(&self.files);
        let fds: Vec<_> = fds.iter().map(|fd| files.choose(*fd)).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(&fds));
        }
        let mut rounds = 0;
        while !bytes.is_empty() {
            rounds += 1;
            assert!(rounds < ROUNDS, "the server takes nothing");
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(&self.client, &[IoSlice::new(bytes)], &mut control, flags) {
                Ok(count) => {
                    bytes = &bytes[count..];
                    control.clear();
                }
                Err(Errno::AGAIN) => self.reads = true,
                Err(error) => panic!("a connected socket: {error}"),
            }
            if !turns(&mut self.conversation, &mut self.endpoint) {
                self.reconnect();
                return;
            }
            if self.reads {
                self.read();
            }
        }
    }

    /// Takes what there is of replies.
    fn read(&mut self) {
        let mut bytes = [0; 1 << 16];
        for _ in 0..ROUNDS {
            match self.client.read(&mut bytes) {
                Ok(count) => self.replies.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.conversation.state() == Turn::Idle {
                        return;
                    }
                }
                Err(error) => panic!("a connected socket: {error}"),
            }
            self.check_replies();
            if !turns(&mut self.conversation, &mut self.endpoint) {
                self.reconnect();
                return;
            }
        }
        panic!("the replies do not end");
    }

    /// Each is a reply, of a length that can be, and an error has no payload.
    fn check_replies(&mut self) {
        let mut rest = &self.replies[..];
        while let Some(header) = rest.first_chunk::<HEADER_BYTES>() {
            let word = |at: usize| u32::from_ne_bytes(std::array::from_fn(|n| header[at + n]));
            let (size, flags, error) = (word(4) as usize, word(8), word(12));
            assert!((HEADER_BYTES..=MAX_MESSAGE_BYTES).contains(&size));
            assert_eq!(flags & 0xf, 1, "not a reply");
            assert_eq!(flags & 0x20 != 0, error != 0, "error flag and number");
            assert!(
                error == 0 || size == HEADER_BYTES,
                "an error with a payload"
            );
            if rest.len() < size {
                break;
            }
            let command = usize::from(u16::from_ne_bytes([header[2], header[3]]));
            let by_command = if error == 0 {
                &mut self.answers.done
            } else {
                &mut self.answers.refused
            };
            if let Some(count) = by_command.get_mut(command) {
                *count += 1;
            }
            rest = &rest[size..];
        }
        let taken = self.replies.len() - rest.len();
        self.replies.drain(..taken);
    }

    /// The server hung up, which is its right; the next client finds a device in order.
    fn reconnect(&mut self) {
        self.answers.ended += 1;
        self.replies.clear();
        self.endpoint.release();
        assert_eq!(self.endpoint.model_mut().memory_mut().regions(), 0);
        (self.client, self.conversation) = connect();
        self.message(1, 0, b"\0\0\x01\0", &[]);
    }

    fn check(&mut self) {
        let regions = self.endpoint.model_mut().memory_mut().regions();
        assert!(regions <= MAX_REGIONS);
    }

    /// Whatever happened, the next client finds the device.
    fn end(mut self) -> Answers {
        let ended = self.answers.ended;
        self.reads = true;
        self.read();
        self.reconnect();
        let done = self.answers.done[9];
        self.message(9, 0, &access(7, 0, 4, &[]), &[]);
        assert_eq!(self.answers.done[9], done + 1, "a later client is served");
        self.answers.ended = ended;
        let counters = self.endpoint.model().counters();
        self.answers.frames = counters.tx_frames + counters.rx_frames;
        self.answers
    }
}

fn connect() -> (UnixStream, Conversation) {
    let (client, server) = UnixStream::pair().expect("a pair of sockets");
    client.set_nonblocking(true).expect("a fresh socket");
    let conversation = Conversation::new(server.into()).expect("a fresh socket");
    (client, conversation)
}

/// Turns until the server waits for the client. False if it ended the conversation.
fn turns(conversation: &mut Conversation, endpoint: &mut Endpoint<Loopback>) -> bool {
    for _ in 0..ROUNDS {
        match conversation.turn(endpoint) {
            Ok(Turn::More) => {}
            Ok(Turn::Idle | Turn::Blocked) => return true,
            Err(error) => {
                log::debug!("{error}");
                return false;
            }
        }
    }
    panic!("the server has no end of turns");
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn access(region: u32, offset: u64, count: u32, data: &[u8]) -> Vec<u8> {
    let mut payload = offset.to_ne_bytes().to_vec();
    payload.extend(words(&[region, count]));
    payload.extend(data);
    payload
}
