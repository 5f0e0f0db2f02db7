//! Ctrl-C, SIGTERM and SIGHUP: remembered here, and asked for wherever something takes long. The
//! second one ends the program at once, for the case that the first one is not heard.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static REQUESTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Starts to remember. To be called once, before anything is started.
pub fn watch() -> Result<()> {
    let requested = REQUESTED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: the first signal finds the flag unset and sets it.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(requested))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(requested)))
            .context("cannot watch for signals")?;
    }
    Ok(())
}

/// Whether the user wants it to end.
pub fn requested() -> bool {
    REQUESTED
        .get()
        .is_some_and(|requested| requested.load(Ordering::SeqCst))
}

/// An error if the user wants it to end.
pub fn check() -> Result<()> {
    if requested() {
        bail!("interrupted");
    }
    Ok(())
}
