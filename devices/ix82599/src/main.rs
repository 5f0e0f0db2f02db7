//! `ixnicd`: serves an emulated Intel 82599 to a virtual machine over vfio-user, or several behind a switch.
//!
//! This file holds the order of start and end for one device, `switched` that for several, `options` the
//! command line; the work is in the library's `daemon` module. Exit codes: 0 after SIGTERM, SIGINT or the client's end, 1 after a failure, 2 for a
//! bad command line or a place that cannot be used (one line on standard error says which).

#![forbid(unsafe_code)]

mod options;
mod port;
mod switched;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use ix82599::daemon::{self, End, Endpoint};
use ix82599::model::{ModelConfig, VirtualConfig};
use ix82599::wire::{AccessPort, Captured, Impaired, Observed, PcapWriter};
use options::{Doorbells, Kind, Options};
use port::Port;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// The wire of `ixnicd`: frames are captured as the device sees them, so outside of what harms them.
type Plug = Observed<Captured<Impaired<AccessPort<Port>>, BufWriter<File>>>;

fn main() -> ExitCode {
    let options = match Options::from_command_line() {
        Ok(options) => options,
        Err(code) => return code,
    };
    options::Logger::install(options.log);
    let served = match &options.socket {
        Some(socket) => prepare(&options, socket).map(serve),
        None => switched::prepare(&options).map(switched::serve),
    };
    served.unwrap_or_else(|error| {
        eprintln!("ixnicd: {error:#}");
        ExitCode::from(2)
    })
}

/// Everything that has to be there before a client may come.
struct Prepared {
    listener: UnixListener,
    /// Remove the sockets in the end, whatever happens.
    _socket_files: Vec<SocketFile>,
    endpoint: Endpoint<Plug>,
    /// Becomes readable when a signal asks to stop.
    stop: UnixStream,
    /// How long to look for what comes next.
    spin: Duration,
}

/// Opens the wire, then the socket, and says that it is ready.
fn prepare(options: &Options, socket: &Path) -> anyhow::Result<Prepared> {
    let stop = stop_signal().context("cannot handle signals")?;
    let port = AccessPort::new(Port::open(&options.plugged)?, options.access_vlan);
    let writer = match &options.pcap {
        Some(path) => Some(capture(path)?),
        None => None,
    };
    let impairment = options.impairment.impairment();
    let impairment = impairment.map_err(anyhow::Error::msg)?;
    let captured = Captured::new(Impaired::new(port, impairment), writer);
    let door = options.control_socket.as_deref().map(SocketFile::bind);
    let (door, door_file) = door.transpose()?.unzip();
    let wire = Observed::new(captured, &options.mac.to_string(), door)
        .context("cannot let requests in")?;
    if options.trust && options.kind != Kind::Vf {
        bail!("--trust is for a virtual function: add --kind vf");
    }
    let config = ModelConfig {
        mac: options.mac.0,
        queues: options
            .kind
            .queues(options.queues)
            .map_err(anyhow::Error::msg)?,
        // A TAP device keeps what the guest has no room for; it drops by itself when full.
        pause_wire: true,
        msix: !options.no_msix,
        card: options.kind.card(),
        virtual_function: (options.kind == Kind::Vf).then_some(VirtualConfig {
            trusted: options.trust,
            port_vlan: false,
        }),
    };
    let mut endpoint = Endpoint::new(config, wire);
    if options.doorbells == Doorbells::Mapped {
        endpoint
            .map_doorbells()
            .context("cannot get memory for the doorbell pages")?;
    }
    let (listener, socket_file) = SocketFile::bind(socket)?;
    say_ready(socket)?;
    Ok(Prepared {
        listener,
        _socket_files: door_file.into_iter().chain([socket_file]).collect(),
        endpoint,
        stop,
        spin: options.spin(),
    })
}

fn capture(path: &Path) -> anyhow::Result<PcapWriter<BufWriter<File>>> {
    File::create(path)
        .and_then(|file| PcapWriter::new(BufWriter::new(file)))
        .with_context(|| {
            format!(
                "cannot write the capture `{}`: choose a file that can be created",
                path.display()
            )
        })
}

/// Says that a client may connect.
fn say_ready(socket: &Path) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "ready {}", socket.display())
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}

/// A stream that becomes readable on SIGTERM and SIGINT.
fn stop_signal() -> std::io::Result<UnixStream> {
    let (stop, signal) = UnixStream::pair()?;
    for number in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::low_level::pipe::register(number, signal.try_clone()?)?;
    }
    Ok(stop)
}

/// The listening socket's file.
struct SocketFile(std::path::PathBuf);

impl SocketFile {
    fn bind(path: &Path) -> anyhow::Result<(UnixListener, Self)> {
        let listener = UnixListener::bind(path).map_err(|error| {
            let hint = match error.kind() {
                std::io::ErrorKind::AddrInUse => "it exists already: remove it or choose another",
                std::io::ErrorKind::NotFound => "its folder does not exist: create it",
                std::io::ErrorKind::InvalidInput => "the path is too long: choose a shorter one",
                _ => "choose a place where it can be created",
            };
            anyhow::anyhow!("cannot listen on `{}` ({error}): {hint}", path.display())
        })?;
        Ok((listener, Self(path.to_owned())))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Somebody may have removed it already, which is as good.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn serve(prepared: Prepared) -> ExitCode {
    let Prepared {
        listener,
        _socket_files,
        mut endpoint,
        stop,
        spin,
    } = prepared;
    let result = match accept(&listener, &stop) {
        Ok(Some(client)) => {
            log::info!("a client connected");
            daemon::serve(client, &mut endpoint, &stop, spin).map_err(anyhow::Error::from)
        }
        Ok(None) => Ok(End::Stopped),
        Err(error) => Err(error),
    };
    log::info!("{}", endpoint.model().counters());
    match result {
        Ok(End::Disconnected) => log::info!("the client disconnected"),
        Ok(End::Stopped) => log::info!("told to stop"),
        Err(error) => {
            eprintln!("ixnicd: {error:#}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Waits for the client; `None` if told to stop before.
fn accept(listener: &UnixListener, stop: &UnixStream) -> anyhow::Result<Option<OwnedFd>> {
    loop {
        let mut fds = [
            PollFd::new(listener, PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error).context("waiting for a client failed"),
        }
        if !fds[1].revents().is_empty() {
            return Ok(None);
        }
        let client = rustix::net::accept_with(listener.as_fd(), rustix::net::SocketFlags::CLOEXEC);
        return Ok(Some(client.context("accepting the client failed")?));
    }
}
