//! An echo server on Linux, one thread unless told otherwise: the peer of `ixload`'s own tests, and a
//! yardstick for what the client itself can do.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::thread;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

use crate::connections::{SCRATCH_BYTES, wait_at_most};
use crate::error::LoadError;
use crate::options;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

const LISTENER: Token = Token(usize::MAX);

/// Carries out `ixload serve-echo`: serves until it is killed.
pub fn run(options: &options::ServeEcho) -> Result<(), LoadError> {
    let first = Server::bind(options)?;
    let options = options::ServeEcho {
        // The others listen where the first one found a port.
        listen: first.address,
        ..options.clone()
    };
    let mut servers = vec![first];
    for _ in 1..options.threads.get() {
        servers.push(Server::bind(&options)?);
    }
    println!("listening on {}", options.listen);
    thread::scope(|scope| {
        let threads: Vec<_> = servers
            .into_iter()
            .map(|server| scope.spawn(|| server.serve()))
            .collect();
        let mut ends = threads.into_iter().map(|thread| thread.join());
        ends.try_for_each(|end| end.expect("no panic"))
    })
}

/// The server and its connections.
pub struct Server {
    address: SocketAddr,
    listener: TcpListener,
    poll: Poll,
    events: Events,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// What every connection reads into: one of its own each would cost the system pages for it.
    scratch: Vec<u8>,
    half_close_after: u64,
}

struct Connection {
    stream: TcpStream,
    /// What was received and could not be sent yet.
    pending: Vec<u8>,
    received: u64,
    is_shut_down: bool,
}

impl Server {
    /// Listens as the options say.
    pub fn bind(options: &options::ServeEcho) -> Result<Self, LoadError> {
        let failed = || LoadError::system(format!("listen on {}", options.listen));
        let mut listener = listen(options).map_err(failed())?;
        let poll = Poll::new().map_err(failed())?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)
            .map_err(failed())?;
        Ok(Self {
            address: listener.local_addr().map_err(failed())?,
            listener,
            poll,
            events: Events::with_capacity(1024),
            connections: Vec::new(),
            free: Vec::new(),
            scratch: vec![0; SCRATCH_BYTES],
            half_close_after: options
                .half_close_after
                .map_or(u64::MAX, |bytes| bytes.get()),
        })
    }

    fn serve(mut self) -> Result<(), LoadError> {
        loop {
            self.round()?;
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until there is something, and serves it.
    pub fn round(&mut self) -> Result<(), LoadError> {
        // As a yardstick it has no timer to set at each wait.
        wait_at_most(&mut self.poll, &mut self.events, None)?;
        let events = self.events.iter();
        let events: Vec<_> = events
            .map(|event| (event.token(), event.is_read_closed()))
            .collect();
        for (token, is_ending) in events {
            if token == LISTENER {
                self.accept()?;
            } else if let Some(connection) = &mut self.connections[token.0] {
                // A connection's failure is its own.
                let advanced =
                    connection.advance(&mut self.scratch, self.half_close_after, is_ending);
                let is_over = advanced.unwrap_or(true);
                if is_over {
                    self.connections[token.0] = None;
                    self.free.push(token.0);
                }
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<(), LoadError> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(LoadError::system("accept a connection")(error)),
            };
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let both = Interest::READABLE | Interest::WRITABLE;
            stream
                .set_nodelay(true)
                .and_then(|()| {
                    let registry = self.poll.registry();
                    registry.register(&mut stream, Token(index), both)
                })
                .map_err(LoadError::system("set a connection up"))?;
            self.connections[index] = Some(Connection {
                stream,
                pending: Vec::new(),
                received: 0,
                is_shut_down: false,
            });
        }
    }
}

/// A listener, which shares its address if there are to be several.
fn listen(options: &options::ServeEcho) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(options.listen), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(options.threads.get() > 1)?;
    socket.bind(&options.listen.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into()))
}

impl Connection {
    /// Echoes what there is; what cannot be sent holds the receiving side up. A short read means that
    /// there is nothing more, unless the peer has closed (`is_ending`). Returns whether the connection is
    /// over.
    fn advance(
        &mut self,
        scratch: &mut [u8],
        half_close_after: u64,
        is_ending: bool,
    ) -> io::Result<bool> {
        let unsent = std::mem::take(&mut self.pending);
        if !self.send(&unsent)? {
            return Ok(false);
        }
        let mut is_drained = false;
        loop {
            if self.received >= half_close_after && !self.is_shut_down {
                self.stream.shutdown(Shutdown::Write)?;
                self.is_shut_down = true;
            }
            if is_drained && !is_ending {
                return Ok(false);
            }
            let count = match self.stream.read(scratch) {
                Ok(0) => return Ok(true),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
            is_drained = count < scratch.len();
            let wanted = half_close_after.saturating_sub(self.received);
            self.received += count as u64;
            let echoed = count.min(usize::try_from(wanted).unwrap_or(usize::MAX));
            if !self.send(&scratch[..echoed])? {
                return Ok(false);
            }
        }
    }

    /// Sends; what does not go is kept. Returns whether everything went.
    fn send(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        self.pending.extend_from_slice(&bytes[sent..]);
        Ok(sent == bytes.len())
    }
}
