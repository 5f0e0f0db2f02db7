//! Linux's TCP.
//!
//! Epoll is used directly: `mio` waits in whole milliseconds, which an open loop cannot.

use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroU64;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;
use socket2::{Domain, SockRef, Socket, Type};

use super::{Ready, Received, Transport};
use crate::options::load::{Close, Sources};

/// Events taken at a time.
const EVENTS: usize = 256;
/// How late a wait may end: the least that Linux takes for a wish.
const TIMER_SLACK_NS: NonZeroU64 = NonZeroU64::MIN;

/// Nonblocking sockets and the queue that tells of them. Belongs to the thread that made it.
#[derive(Debug)]
pub(crate) struct Sockets {
    server: SocketAddr,
    sources: Option<Sources>,
    epoll: OwnedFd,
    streams: Vec<Option<TcpStream>>,
}

impl Sockets {
    /// Of connections to `server`.
    pub fn new(server: SocketAddr, sources: Option<Sources>) -> io::Result<Self> {
        Ok(Self {
            server,
            sources,
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            streams: Vec::new(),
        })
    }

    fn stream(&self, slot: usize) -> io::Result<&TcpStream> {
        self.streams[slot]
            .as_ref()
            .ok_or(ErrorKind::NotConnected.into())
    }
}

impl Transport for Sockets {
    fn open(&mut self, slot: usize, number: u64) -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(self.server), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(sources) = &self.sources {
            // The port is chosen when the peer is known, so that ports may be shared.
            socket.set_reuse_address(true)?;
            socket.bind(&SocketAddr::new(sources.of(number), 0).into())?;
        }
        match socket.connect(&self.server.into()) {
            Err(error)
                if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
            {
                return Err(error);
            }
            _ => {}
        }
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, &socket, EventData::new_u64(slot as u64), flags)?;
        if self.streams.len() <= slot {
            self.streams.resize_with(slot + 1, || None);
        }
        self.streams[slot] = Some(socket.into());
        Ok(())
    }

    fn is_open(&mut self, slot: usize) -> io::Result<bool> {
        let stream = self.stream(slot)?;
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn close(&mut self, slot: usize, how: Close) -> io::Result<()> {
        let Some(stream) = self.streams[slot].take() else {
            return Ok(());
        };
        if how == Close::Reset {
            // Closing with a linger time of zero resets (tcp(7), SO_LINGER).
            SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        }
        Ok(())
    }

    fn send(&mut self, slot: usize, bytes: &[u8]) -> io::Result<usize> {
        let mut stream = self.stream(slot)?;
        let mut sent = 0;
        while sent < bytes.len() {
            match stream.write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    fn receive(&mut self, slot: usize, buffer: &mut [u8]) -> io::Result<Received> {
        let mut stream = self.stream(slot)?;
        loop {
            return match stream.read(buffer) {
                Ok(0) => Ok(Received::End),
                Ok(count) => Ok(Received::Bytes(count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Received::Nothing),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
        }
    }

    fn wait(&mut self, at_most: Duration, ready: &mut Vec<Ready>) -> io::Result<()> {
        let timeout = Timespec {
            tv_sec: at_most.as_secs() as i64,
            tv_nsec: i64::from(at_most.subsec_nanos()),
        };
        let mut events = [const { MaybeUninit::<Event>::uninit() }; EVENTS];
        let (events, _) = match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
            Ok(events) => events,
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let ending = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        // Fields of a packed struct are copied, not borrowed.
        ready.extend(events.iter().map(|event| {
            let (flags, data) = (event.flags, event.data);
            Ready {
                slot: data.u64() as usize,
                is_ending: flags.intersects(ending),
            }
        }));
        Ok(())
    }
}

/// Has this thread wait no longer than it asks for.
pub(crate) fn wait_precisely() -> io::Result<()> {
    rustix::thread::set_current_timer_slack(Some(TIMER_SLACK_NS)).map_err(io::Error::from)
}
