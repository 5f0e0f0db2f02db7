//! TCP (RFC 9293). In the order of a segment's way: `input` finds its connection and predicts the
//! common case; `segment` is the full processing of RFC 9293 3.10.7; `handshake`, `receive`,
//! `recovery` and `close` are its parts; `output` makes segments; `timers` acts on silence;
//! `calls` is what the application asks for. Stateless answers are in `reply`.

mod calls;
mod close;
mod congestion;
pub(crate) mod connection;
mod handshake;
mod input;
mod options;
mod output;
mod receive;
mod recovery;
mod reply;
mod rtt;
mod segment;
pub(crate) mod time_wait;
mod timers;
