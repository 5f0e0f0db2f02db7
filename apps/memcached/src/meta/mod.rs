//! The meta commands: two letters, a key, and flags of one letter each that say what to do and what to
//! answer. Answers repeat what was asked for in the order in which it was.
//!
//! `flags` is what a command says, `line` what is answered; `get`, `set` and `change` execute the commands.

mod change;
mod flags;
mod get;
mod line;
mod set;

use crate::classic::Tokens;
use crate::output::Output;
use crate::server::Worker;
use crate::session::Session;

pub use set::Stored;

const BAD_FORMAT: &str = "CLIENT_ERROR bad command line format\r\n";
const BAD_FLAG: &str = "CLIENT_ERROR invalid or duplicate flag\r\n";
const OPAQUE_TOO_LONG: &str = "CLIENT_ERROR opaque token too long\r\n";
const TOO_MANY_FLAGS: &str = "CLIENT_ERROR options flags too long\r\n";

/// Longest opaque word, with its letter.
const OPAQUE_MAX: usize = 32;

/// What is wrong with a command.
type Refused = &'static str;

/// Executes a meta command.
pub fn execute(session: &mut Session, worker: &Worker, tokens: &Tokens<'_>, out: &mut impl Output) {
    let words = tokens.all();
    let done = match (words[0][1], words.len()) {
        (b'n', _) => {
            out.fixed("MN\r\n");
            Ok(())
        }
        (b'e', _) => return get::debug(session, worker, words, out),
        (b'g' | b's' | b'd' | b'a', ..2) => return session.say("ERROR\r\n", out),
        (b'g', _) => get::get(session, worker, words, out),
        (b's', _) => set::set(session, worker, words),
        (b'd', _) => change::delete(session, worker, words, out),
        (b'a', _) => change::arithmetic(session, worker, words, out),
        _ => return session.say("ERROR\r\n", out),
    };
    if let Err(refused) = done {
        session.complain(refused, out);
    }
}
