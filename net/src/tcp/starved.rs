//! Connections whose `send` was accepted in no part because the pool of records was empty. One that
//! has data queued hears of its acknowledgement in any case; one that has not is told once there
//! are records again. They are found by going round the table a few slots at a time, so that being
//! starved, which is rare, costs no memory.

use crate::context::{Context, Event, Events};
use crate::engine::{EVENTS_AT_ONCE, Engine};
use crate::tcp::connection::{Flags, State};
use ix_hal::Transmit;

/// Slots looked at in one go.
const SLOTS_AT_ONCE: u32 = 64;

/// How many starved connections there are, and where the search for them goes on.
#[derive(Default)]
pub(crate) struct Starved {
    count: u32,
    next: u32,
}

impl Engine {
    /// There was no record for a piece of data.
    #[cold]
    pub(crate) fn lacks_record(&mut self, index: u32) {
        self.counters.tcp_send_records_exhausted += 1;
        self.starve(index);
    }

    /// A connection without queued data is to be told when there are records again.
    pub(crate) fn starve(&mut self, index: u32) {
        let connection = &mut self.connections[index];
        if connection.is_queue_empty() && !connection.flags.contains(Flags::STARVED) {
            connection.flags.insert(Flags::STARVED);
            self.starved.count += 1;
        }
    }

    /// No longer to be told.
    pub(crate) fn leave_starved(&mut self, index: u32) {
        let flags = &mut self.connections[index].flags;
        if flags.contains(Flags::STARVED) {
            flags.remove(Flags::STARVED);
            self.starved.count -= 1;
        }
    }

    /// Whether somebody can be told that there are records again.
    #[inline]
    pub(crate) fn can_feed(&self) -> bool {
        self.starved.count != 0 && self.send_records.has_room()
    }

    /// Tells starved connections that `send` would be accepted now.
    #[cold]
    pub(crate) fn feed_starved<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>) {
        for _ in 0..SLOTS_AT_ONCE {
            if !self.can_feed() || cx.events.room() < EVENTS_AT_ONCE {
                return;
            }
            let index = self.starved.next;
            let Some(connection) = self.connections.get_mut(index) else {
                self.starved.next = 0;
                continue;
            };
            self.starved.next += 1;
            if connection.state <= State::Dead || !connection.flags.contains(Flags::STARVED) {
                continue;
            }
            // Data queued since then is going to be acknowledged.
            if connection.may_send() && connection.is_queue_empty() {
                cx.events.push(Event::Sent {
                    cookie: connection.cookie,
                    bytes: 0,
                    window: self.local.send_limit,
                });
            }
            self.leave_starved(index);
        }
    }
}
