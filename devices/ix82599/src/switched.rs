//! Several devices behind a switch: the order of start and end.

use std::fs::File;
use std::io::BufWriter;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use ix82599::daemon::{Endpoint, Function, serve_functions};
use ix82599::model::ModelConfig;
use ix82599::wire::{Captured, Impaired, Impairment, Observed, Switch, SwitchPort};

use crate::options::{Doorbells, FunctionOptions, Options};
use crate::port::Port;
use crate::{SocketFile, say_ready, stop_signal};

/// The wire of a function. Files with captures are for single devices.
type Plug = Observed<Captured<Impaired<SwitchPort<Port>>, BufWriter<File>>>;

/// Everything that has to be there before clients may come.
pub(crate) struct Prepared {
    functions: Vec<Function<Plug>>,
    switch: Switch<Port>,
    /// Remove the sockets in the end, whatever happens.
    socket_files: Vec<SocketFile>,
    /// Becomes readable when a signal asks to stop.
    stop: UnixStream,
    /// How long to look for what comes next.
    spin: Duration,
}

/// Opens the uplink, then the sockets, and says that they are ready.
pub(crate) fn prepare(options: &Options) -> anyhow::Result<Prepared> {
    let stop = stop_signal().context("cannot handle signals")?;
    check(&options.function)?;
    let impairment = options.impairment.impairment();
    let impairment = impairment.map_err(anyhow::Error::msg)?;
    let mut prepared = Prepared {
        functions: Vec::new(),
        switch: Switch::new(Port::open(&options.plugged)?),
        socket_files: Vec::new(),
        stop,
        spin: options.spin(),
    };
    for function in &options.function {
        prepared.add(function, impairment)?;
    }
    for function in &options.function {
        say_ready(&function.socket)?;
    }
    Ok(prepared)
}

/// Two devices with one address would take each other's frames.
fn check(functions: &[FunctionOptions]) -> anyhow::Result<()> {
    for (number, function) in functions.iter().enumerate() {
        let twin = functions[..number]
            .iter()
            .any(|other| other.mac == function.mac && other.vlan == function.vlan);
        if twin {
            bail!(
                "two functions have the address {}: give each its own",
                function.mac
            );
        }
    }
    Ok(())
}

impl Prepared {
    fn add(&mut self, options: &FunctionOptions, impairment: Impairment) -> anyhow::Result<()> {
        let name = options.mac.to_string();
        let port = self.switch.port(&name, options.rule());
        let door = options.control_socket.as_deref().map(SocketFile::bind);
        let (door, door_file) = door.transpose()?.unzip();
        let captured = Captured::new(Impaired::new(port, impairment), None);
        let wire = Observed::new(captured, &name, door).context("cannot let requests in")?;
        let config = ModelConfig {
            mac: options.mac.0,
            queues: options.queues,
            // The switch keeps what the guest has no room for; it drops by itself when full.
            pause_wire: true,
            card: options.kind.card(),
            virtual_function: options.virtual_function(),
            ..ModelConfig::default()
        };
        let mut endpoint = Endpoint::new(config, wire);
        endpoint.require_sealed_memory();
        if options.doorbells == Doorbells::Mapped {
            endpoint
                .map_doorbells()
                .context("cannot get memory for the doorbell pages")?;
        }
        let (listener, socket_file) = SocketFile::bind(&options.socket)?;
        self.socket_files.extend(door_file);
        self.socket_files.push(socket_file);
        let function = Function::new(&name, listener, endpoint);
        self.functions
            .push(function.context("cannot listen for clients")?);
        Ok(())
    }
}

/// Serves until a signal asks to stop.
pub(crate) fn serve(mut prepared: Prepared) -> ExitCode {
    let Prepared {
        functions,
        switch,
        stop,
        spin,
        ..
    } = &mut prepared;
    let served = serve_functions(functions, switch, stop, *spin);
    for (number, function) in prepared.functions.iter().enumerate() {
        let counters = function.endpoint().model().counters();
        let port = prepared.switch.counts(Some(number));
        log::info!("{}: {counters}; {port:?}", function.name());
    }
    log::info!("uplink: {:?}", prepared.switch.counts(None));
    match served {
        Ok(()) => {
            log::info!("told to stop");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ixnicd: {error}");
            ExitCode::FAILURE
        }
    }
}
