//! Return codes of batched calls and reasons of `dead` events: integers on the border, enums
//! inside.

/// Why a call was refused. A call's result is the negative of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Error {
    /// No such call, or an argument out of its range.
    Invalid = 1,
    /// The handle names no connection of this thread.
    BadHandle = 2,
    /// A scatter-gather entry lies outside of the memory that the application may send from.
    BadAddress = 3,
    /// The connection's state does not allow the call.
    BadState = 4,
    /// A table or pool is full.
    Exhausted = 5,
    /// The port is already listened on, or the pair of end points is in use.
    InUse = 6,
    /// No local port is free for this destination.
    NoPort = 7,
    /// No route to the destination.
    Unreachable = 8,
    /// The peer answered with RST.
    Refused = 9,
    /// The peer did not answer in time.
    TimedOut = 10,
    /// The connection was reset.
    Reset = 11,
    /// Not now: no room in the TX ring, or the station address of the next hop is being asked for.
    TryAgain = 12,
    /// The datagram does not fit into one packet.
    TooLong = 13,
}

impl Error {
    /// The error of a call's result, or `None` if the result is no error of this version.
    #[inline]
    pub const fn from_result(result: i64) -> Option<Self> {
        Some(match result {
            -1 => Self::Invalid,
            -2 => Self::BadHandle,
            -3 => Self::BadAddress,
            -4 => Self::BadState,
            -5 => Self::Exhausted,
            -6 => Self::InUse,
            -7 => Self::NoPort,
            -8 => Self::Unreachable,
            -9 => Self::Refused,
            -10 => Self::TimedOut,
            -11 => Self::Reset,
            -12 => Self::TryAgain,
            -13 => Self::TooLong,
            _ => return None,
        })
    }

    /// The result word that stands for this error.
    #[inline]
    pub const fn to_result(self) -> i64 {
        -(self as i64)
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum DeadReason {
    /// Both sides closed in order and all data was acknowledged.
    Closed = 1,
    /// The peer reset it.
    Reset = 2,
    /// Retransmissions, probes or the handshake went unanswered too long.
    TimedOut = 3,
    /// The peer refused to open it.
    Refused = 4,
    /// This side aborted it.
    Aborted = 5,
    /// A pool ran out in a way that this connection could not survive.
    Exhausted = 6,
}

impl DeadReason {
    /// The reason of that number, if there is one.
    #[inline]
    pub const fn from_raw(raw: u64) -> Option<Self> {
        Some(match raw {
            1 => Self::Closed,
            2 => Self::Reset,
            3 => Self::TimedOut,
            4 => Self::Refused,
            5 => Self::Aborted,
            6 => Self::Exhausted,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_survive_a_round_trip() {
        for raw in -20..=20 {
            if let Some(error) = Error::from_result(raw) {
                assert_eq!(error.to_result(), raw);
            } else {
                assert!(!(-13..0).contains(&raw));
            }
        }
    }
}
