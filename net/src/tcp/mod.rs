//! TCP (RFC 9293). In the order of a segment's way: `fast` predicts the common case; `input` finds
//! the connection of any other segment and holds the steps that both share; `ends` predicts the
//! segments that open and close a connection; `segment` is the full processing of RFC 9293 3.10.7;
//! `handshake`, `receive`, `recovery`, `scoreboard`, `rack`, `probe`, `prr`, `undo`, `ecn` and
//! `close` are its parts; `output` and `header` make segments of what `gather` brings together;
//! `timers` acts on silence, `black_hole` on that of a path; `moving` hands connections to another
//! engine; `calls` is what the application asks for, by
//! handles that `names` finds. Stateless answers are in `reply` and `cookies`.

mod black_hole;
mod calls;
mod close;
mod congestion;
pub(crate) mod connection;
pub(crate) mod connections;
mod cookies;
mod cubic;
mod dctcp;
mod ecn;
mod ends;
pub(crate) mod episode;
mod fast;
mod gather;
pub(crate) mod handshake;
pub(crate) mod header;
mod input;
pub(crate) mod moving;
pub(crate) mod names;
pub(crate) mod options;
mod output;
pub(crate) mod probe;
mod prr;
mod rack;
mod receive;
mod recovery;
mod reply;
mod rtt;
mod scoreboard;
mod segment;
mod single;
pub(crate) mod starved;
pub(crate) mod time_wait;
mod timers;
mod undo;
