//! The server side of QEMU's inter-VM shared memory protocol, version 0 (QEMU, `ivshmem-spec`), for
//! one guest: words of 64 bits over a Unix socket, least significant byte first, some of them with a
//! file descriptor.
//!
//! The guest is told the protocol's version, its own number, the shared memory, and then its own
//! number again with an event counter for each interrupt vector. There is no other guest, so that is
//! all there ever is to say; the connection stays open for as long as the guest lives.

use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::doorbell::Doorbells;
use crate::page::ControlPage;

const PROTOCOL_VERSION: i64 = 0;
/// Number of the only guest.
const GUEST: i64 = 0;
/// What stands for the shared memory in place of a guest's number.
const SHARED_MEMORY: i64 = -1;

/// Serves the shared memory and the doorbells of one dataplane to its guest.
#[derive(Debug)]
pub struct Ivshmem {
    listener: UnixListener,
    page: Arc<ControlPage>,
    doorbells: Arc<Doorbells>,
}

impl Ivshmem {
    /// Listens at `socket`, which must not exist.
    pub fn bind(
        socket: &Path,
        page: Arc<ControlPage>,
        doorbells: Arc<Doorbells>,
    ) -> io::Result<Ivshmem> {
        Ok(Ivshmem {
            listener: UnixListener::bind(socket)?,
            page,
            doorbells,
        })
    }

    /// Serves one guest at a time, on a thread of its own, until the process ends.
    pub fn spawn(self) {
        thread::spawn(move || {
            for stream in self.listener.incoming().flatten() {
                // A guest that goes away during the handshake is the machine's end, which its owner
                // hears of.
                let _ = self.greet(&stream).and_then(|()| await_end(stream));
            }
        });
    }

    fn greet(&self, stream: &UnixStream) -> io::Result<()> {
        send(stream, PROTOCOL_VERSION, None)?;
        send(stream, GUEST, None)?;
        send(stream, SHARED_MEMORY, Some(self.page.file()))?;
        self.doorbells
            .fds()
            .try_for_each(|doorbell| send(stream, GUEST, Some(doorbell)))
    }
}

/// A guest has nothing to say.
fn await_end(mut stream: UnixStream) -> io::Result<()> {
    let mut byte = [0];
    while stream.read(&mut byte)? != 0 {}
    Ok(())
}

fn send(stream: &UnixStream, word: i64, fd: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let bytes = word.to_le_bytes();
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        let fits = control.push(SendAncillaryMessage::ScmRights(&fds));
        debug_assert!(fits, "there is space for one descriptor");
    }
    let sent = sendmsg(
        stream,
        &[io::IoSlice::new(&bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    match sent {
        8 => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use std::os::fd::OwnedFd;

    fn receive(stream: &UnixStream) -> (i64, Option<OwnedFd>) {
        let mut bytes = [0; 8];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let buffers = &mut [io::IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(stream, buffers, &mut control, flags).unwrap();
        assert_eq!(received.bytes, 8);
        let fd = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        (i64::from_le_bytes(bytes), fd)
    }

    #[test]
    fn a_guest_gets_the_page_and_a_doorbell_for_each_thread() {
        let folder = tempfile::tempdir().unwrap();
        let page = Arc::new(ControlPage::create(&folder.path().join("control")).unwrap());
        let doorbells = Arc::new(Doorbells::new(3).unwrap());
        let socket = folder.path().join("ivshmem.sock");
        let server = Ivshmem::bind(&socket, Arc::clone(&page), Arc::clone(&doorbells)).unwrap();
        server.spawn();
        // A guest that leaves is no reason not to serve the next one.
        drop(UnixStream::connect(&socket).unwrap());
        let guest = UnixStream::connect(&socket).unwrap();
        assert!(matches!(receive(&guest), (0, None)));
        assert!(matches!(receive(&guest), (0, None)));
        let (number, memory) = receive(&guest);
        let memory = std::fs::File::from(memory.unwrap());
        assert_eq!(number, -1);
        assert_eq!(
            memory.metadata().unwrap().len(),
            ix_abi::control::BYTES as u64
        );
        let mut vectors = Vec::new();
        for _ in 0..3 {
            let (number, vector) = receive(&guest);
            assert_eq!(number, 0);
            vectors.push(vector.unwrap());
        }
        doorbells.ring(1);
        doorbells.ring(1);
        doorbells.ring(9);
        let mut count = [0; 8];
        assert!(rustix::io::read(&vectors[0], &mut count).is_err());
        rustix::io::read(&vectors[1], &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 2);
    }
}
