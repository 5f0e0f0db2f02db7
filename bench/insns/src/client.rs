//! The client of a measurement. It works in rounds: one request on each connection, then all
//! replies. So between rounds nothing is under way, and what is complete is exactly known.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;
use rustix::net::{self, sockopt};

use crate::exchange::Exchange;

/// A reply that takes longer ends the measurement: something in the machine has stopped.
const PATIENCE: Duration = Duration::from_secs(20);

/// Asked again and again while something takes long; an error ends it.
pub type Check = fn() -> Result<()>;

/// Open connections to a service, of echo unless told otherwise.
pub struct Client {
    connections: Vec<Connection>,
    exchange: Exchange,
    epoll: OwnedFd,
}

impl Client {
    /// Opens `count` connections to `server`.
    pub fn connect(server: SocketAddr, count: usize) -> Result<Self> {
        let streams = (0..count).map(|index| {
            TcpStream::connect_timeout(&server, PATIENCE)
                .with_context(|| format!("cannot open connection {index} to {server}"))
        });
        Self::new(streams)
    }

    /// Opens a connection to `server` from each of these ports of `host`.
    pub fn connect_from(host: Ipv4Addr, ports: &[u16], server: SocketAddr) -> Result<Self> {
        let streams = ports.iter().map(|&port| {
            let from = SocketAddr::from((host, port));
            connect_from(from, server).with_context(|| format!("cannot open {from} to {server}"))
        });
        Self::new(streams)
    }

    fn new(streams: impl Iterator<Item = Result<TcpStream>>) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut connections = Vec::new();
        for (index, stream) in streams.enumerate() {
            let connection = Connection::new(stream?, index)?;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, &connection.stream, data, epoll::EventFlags::IN)?;
            connections.push(connection);
        }
        Ok(Self {
            connections,
            exchange: Exchange::Echo,
            epoll,
        })
    }

    /// Has requests be such ones from now on. None may be under way.
    pub fn speak(&mut self, exchange: Exchange) {
        self.exchange = exchange;
    }

    /// Number of connections.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Sends one request on each connection.
    pub fn send_all(&mut self) -> Result<()> {
        let mut connections = self.connections.iter_mut();
        connections.try_for_each(|connection| connection.send(self.exchange))
    }

    /// Waits for the reply on each connection, and verifies every byte. An error of `check` ends
    /// the wait.
    pub fn receive_all(&mut self, check: Check) -> Result<()> {
        let mut unanswered = self.connections.len();
        let mut ready = Vec::with_capacity(unanswered);
        while unanswered > 0 {
            check()?;
            self.wait(&mut ready)?;
            for event in ready.drain(..) {
                let connection = &mut self.connections[event.data.u64() as usize];
                unanswered -= usize::from(connection.receive()?);
            }
        }
        Ok(())
    }

    /// Resets all connections.
    pub fn reset(self) -> Result<()> {
        for connection in &self.connections {
            // Closing with a linger time of zero resets (tcp(7), SO_LINGER).
            sockopt::set_socket_linger(&connection.stream, Some(Duration::ZERO))?;
        }
        Ok(())
    }

    /// Says by FIN on all connections that no more requests come.
    pub fn shut_down(&self) -> Result<()> {
        let mut connections = self.connections.iter();
        connections.try_for_each(|connection| Ok(connection.stream.shutdown(Shutdown::Write)?))
    }

    /// Waits until the server, too, has ended all connections, without having said anything more.
    pub fn wait_for_end(mut self, check: Check) -> Result<()> {
        let mut open = self.connections.len();
        let mut ready = Vec::with_capacity(open);
        while open > 0 {
            check()?;
            self.wait(&mut ready)?;
            for event in ready.drain(..) {
                let connection = &mut self.connections[event.data.u64() as usize];
                match connection.stream.read(&mut [0]) {
                    Ok(0) => {
                        epoll::delete(&self.epoll, &connection.stream)?;
                        open -= 1;
                    }
                    Ok(_) => bail!("connection {} got more than replies", connection.number),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn wait(&self, ready: &mut Vec<epoll::Event>) -> Result<()> {
        let timeout = Timespec::try_from(PATIENCE)?;
        epoll::wait(&self.epoll, spare_capacity(ready), Some(&timeout))?;
        ensure!(
            !ready.is_empty(),
            "no reply within {} s",
            PATIENCE.as_secs()
        );
        Ok(())
    }
}

/// Connections that are being opened at the same time.
pub struct Opening(Vec<TcpStream>);

impl Opening {
    /// Sends a SYN for each of `count` connections to `server`.
    pub fn begin(server: SocketAddr, count: usize) -> Result<Self> {
        let begin_one = || {
            let flags = net::SocketFlags::CLOEXEC | net::SocketFlags::NONBLOCK;
            let (family, kind) = (net::AddressFamily::INET, net::SocketType::STREAM);
            let socket = net::socket_with(family, kind, flags, None)?;
            match net::connect(&socket, &server) {
                Ok(()) | Err(Errno::INPROGRESS) => Ok(socket.into()),
                Err(error) => Err(error).context("cannot begin to open a connection"),
            }
        };
        let streams = (0..count).map(|_| begin_one());
        Ok(Self(streams.collect::<Result<_>>()?))
    }

    /// Waits until all are open.
    pub fn complete(self) -> Result<Client> {
        let timeout = Timespec::try_from(PATIENCE)?;
        for stream in &self.0 {
            let mut writable = [PollFd::new(stream, PollFlags::OUT)];
            let count = poll(&mut writable, Some(&timeout))?;
            ensure!(
                count == 1,
                "a connection is not open after {} s",
                PATIENCE.as_secs()
            );
            if let Some(error) = stream.take_error()? {
                return Err(error).context("a connection cannot be opened");
            }
        }
        Client::new(self.0.into_iter().map(Ok))
    }
}

/// Connects from an address of choice. Of a crew of threads, one may not listen yet.
fn connect_from(from: SocketAddr, to: SocketAddr) -> Result<TcpStream> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let socket = net::socket_with(
            net::AddressFamily::INET,
            net::SocketType::STREAM,
            net::SocketFlags::CLOEXEC,
            None,
        )?;
        // It bounds the time that it takes to connect as well (socket(7)).
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE))?;
        net::bind(&socket, &from)?;
        match net::connect(&socket, &to) {
            Ok(()) => return Ok(socket.into()),
            Err(Errno::CONNREFUSED) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

struct Connection {
    stream: TcpStream,
    number: usize,
    requests: u64,
    /// The reply that has to come, and what has come of it.
    expected: Vec<u8>,
    reply: Vec<u8>,
    received: usize,
}

impl Connection {
    fn new(stream: TcpStream, number: usize) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            number,
            requests: 0,
            expected: Vec::new(),
            reply: Vec::new(),
            received: 0,
        })
    }

    /// Sends the next request. The socket has room for it, because the one before it is answered.
    fn send(&mut self, exchange: Exchange) -> Result<()> {
        self.requests += 1;
        let (request, expected) = exchange.message(self.number, self.requests);
        self.reply.resize(expected.len(), 0);
        self.expected = expected;
        self.received = 0;
        Ok(self.stream.write_all(&request)?)
    }

    /// Reads what has come; true if that completes the reply.
    fn receive(&mut self) -> Result<bool> {
        match self.stream.read(&mut self.reply[self.received..]) {
            Ok(0) => bail!(
                "connection {} was closed in the middle of a reply",
                self.number
            ),
            Ok(length) => self.received += length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        if self.received < self.expected.len() {
            return Ok(false);
        }
        ensure!(
            self.reply == self.expected,
            "connection {} got a wrong reply: {:?}",
            self.number,
            String::from_utf8_lossy(&self.reply)
        );
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::MESSAGE_BYTES;
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// A server that answers with `change(bytes)` and counts the bytes it got.
    fn server(change: fn(&mut [u8])) -> (SocketAddr, Arc<AtomicU64>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let total = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&total);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, counter) = (stream.unwrap(), Arc::clone(&counter));
                thread::spawn(move || {
                    let mut bytes = [0; 100];
                    while let Ok(length @ 1..) = stream.read(&mut bytes) {
                        counter.fetch_add(length as u64, Ordering::SeqCst);
                        change(&mut bytes[..length]);
                        stream.write_all(&bytes[..length]).unwrap();
                    }
                });
            }
        });
        (address, total)
    }

    #[test]
    fn a_round_is_one_request_on_each_connection() {
        let (address, total) = server(|_| {});
        let mut client = Client::connect(address, 5).unwrap();
        for round in 1..200 {
            client.send_all().unwrap();
            client.receive_all(|| Ok(())).unwrap();
            let expected = 5 * round * MESSAGE_BYTES as u64;
            assert_eq!(total.load(Ordering::SeqCst), expected);
        }
    }

    #[test]
    fn connections_come_from_the_ports_asked_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // A port that is free at this moment.
        let port = {
            let listener = TcpListener::bind("127.0.0.2:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let host = Ipv4Addr::new(127, 0, 0, 2);
        let client = Client::connect_from(host, &[port], address).unwrap();
        assert_eq!(client.connections(), 1);
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer, SocketAddr::from((host, port)));
    }

    #[test]
    fn connections_opened_together_serve_rounds_until_they_are_reset() {
        let (address, total) = server(|_| {});
        let mut client = Opening::begin(address, 7).unwrap().complete().unwrap();
        client.send_all().unwrap();
        client.receive_all(|| Ok(())).unwrap();
        assert_eq!(total.load(Ordering::SeqCst), 7 * MESSAGE_BYTES as u64);
        client.reset().unwrap();
    }

    #[test]
    fn connections_end_by_fin_from_both_sides() {
        let (address, total) = server(|_| {});
        let mut client = Client::connect(address, 5).unwrap();
        client.send_all().unwrap();
        client.receive_all(|| Ok(())).unwrap();
        client.shut_down().unwrap();
        client.wait_for_end(|| Ok(())).unwrap();
        assert_eq!(total.load(Ordering::SeqCst), 5 * MESSAGE_BYTES as u64);
    }

    #[test]
    fn a_corrupted_reply_is_noticed() {
        let (address, _) = server(|bytes| bytes[0] ^= 1);
        let mut client = Client::connect(address, 1).unwrap();
        client.send_all().unwrap();
        let error = client.receive_all(|| Ok(())).unwrap_err();
        assert!(error.to_string().contains("wrong reply"), "{error}");
    }

    #[test]
    fn an_interruption_ends_the_wait() {
        let (address, _) = server(|_| {});
        let mut client = Client::connect(address, 1).unwrap();
        let error = client.receive_all(|| bail!("interrupted")).unwrap_err();
        assert_eq!(error.to_string(), "interrupted");
    }
}
