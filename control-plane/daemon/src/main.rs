//! `ixcpd`: the control plane daemon, and with `keep` the keeper of one dataplane.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use ix_machine::Artifacts;
use ix_policy::Assignment;
use ixcpd::config::Config;
use ixcpd::controller::{Controller, Parts};
use ixcpd::http::{Access, Shared, Token};
use ixcpd::store::{Folder, Store};
use ixcpd::{http, keeper, logger, watch};
use log::LevelFilter;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Starts, watches and stops dataplanes, and hands hardware threads to them and takes them back.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Configuration; /etc/ix/ixcpd.toml unless given.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How much to say: off, error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "info", global = true, value_parser = level)]
    log: LevelFilter,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Keep one dataplane: own its virtual machine until it ends. The daemon starts this itself.
    Keep {
        /// The dataplane's folder.
        #[arg(long, value_name = "FOLDER")]
        folder: PathBuf,
        /// Where kernel, applications and the NIC model are.
        #[arg(long, value_name = "FOLDER")]
        artifacts: PathBuf,
    },
}

fn level(text: &str) -> Result<LevelFilter, String> {
    let level = text.parse();
    level.map_err(|_| "use off, error, warn, info, debug or trace".to_owned())
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    logger::install(cli.log);
    let result = match cli.role {
        Some(Role::Keep { folder, artifacts }) => {
            keeper::run(&Folder::at(folder), &Artifacts::at(artifacts))
        }
        None => serve(cli.config),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(file: Option<PathBuf>) -> Result<()> {
    let config = Config::read(file.as_deref())?;
    let folder = || format!("state folder {}", config.folder.display());
    let store = Store::open(&config.folder).with_context(folder)?;
    let Some(_only) = store.lock().with_context(folder)? else {
        bail!(
            "another ixcpd runs with {}; stop it, or give this one another `folder`",
            config.folder.display()
        );
    };
    let (topology, reserved) = config.topology()?;
    let program = std::env::current_exe().context("cannot find its own program")?;
    let parts = Parts {
        store,
        artifacts: config
            .artifacts
            .clone()
            .map(Artifacts::at)
            .or_else(|| Artifacts::beside(&program))
            .unwrap_or_else(Artifacts::of_workspace),
        program,
        assignment: Assignment::new(topology, reserved),
        emulated: config.emulate_cores.is_some(),
        records_loads: config.record_loads,
    };
    let controller = Controller::new(parts).with_context(folder)?;
    controller.board.spawn_sampler();
    let controller = Arc::new(Mutex::new(controller));
    let period = Duration::from_millis(config.policy_period_ms);
    watch::spawn(Arc::clone(&controller), period);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(listen(&config, Shared::new(Arc::clone(&controller))));
    // What is being done is done to its end; nothing begins any more.
    let _last = controller.lock().unwrap_or_else(PoisonError::into_inner);
    let socket = config.socket();
    if let Err(error) = std::fs::remove_file(&socket) {
        log::warn!("cannot remove {}: {error}", socket.display());
    }
    log::info!("ends; dataplanes go on");
    result
}

async fn listen(config: &Config, shared: Shared) -> Result<()> {
    let path = config.socket();
    let access = Access::new(config.group.as_deref())?;
    let socket = http::bind_socket(&path, access.group)
        .with_context(|| format!("cannot listen at {}", path.display()))?;
    let tcp = match (config.tcp, &config.token_file) {
        (Some(address), Some(file)) => {
            let listener = TcpListener::bind(address).await;
            let listener = listener.with_context(|| format!("cannot listen at {address}"))?;
            Some((listener, Token::read(file)?))
        }
        _ => None,
    };
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    log::info!("listens at {}", path.display());
    let over_tcp = async {
        match tcp {
            Some((listener, token)) => http::serve_tcp(shared.clone(), listener, token).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        result = http::serve_socket(shared.clone(), socket, access) => result?,
        result = over_tcp => result?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
