//! An echo server that stays in user mode when it is told to: for some milliseconds, or for ever.

use core::str::{FromStr, from_utf8};

use libix::{Connection, Context, Knock, Received, Service, println};

use crate::misdeeds;

/// Sent by a client, with milliseconds behind it, this keeps the application busy for so long.
const AWAY: &str = "away ";
/// Sent by a client, this keeps the application busy for ever.
const FOR_EVER: &[u8] = b"for ever";

/// TSC ticks in a millisecond on a fast processor; a slow one stays away for longer.
const TICKS_PER_MS: u64 = 5_000_000;

/// The server.
pub struct Away {
    /// Port that it serves.
    pub port: u16,
}

impl Service for Away {
    type State = ();

    fn on_start(&mut self, cx: &mut Context<()>) {
        cx.listen(self.port);
        println!("probe: away on port {}", self.port);
    }

    fn on_knock(&mut self, _: &mut Context<()>, _: &Knock) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: Received) {
        let text = from_utf8(&data).unwrap_or_default();
        let ms = text.strip_prefix(AWAY).map(u64::from_str);
        match ms {
            _ if *data == *FOR_EVER => drop(misdeeds::spin()),
            Some(Ok(ms)) => stay_away(ms),
            _ => {}
        }
        if connection.send(data).is_err() {
            connection.abort();
        }
    }
}

fn stay_away(ms: u64) {
    let start = libix::ticks();
    while libix::ticks() - start < ms * TICKS_PER_MS {
        core::hint::spin_loop();
    }
}
