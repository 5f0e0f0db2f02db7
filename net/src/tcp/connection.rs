//! The transmission control block.
//!
//! A [`Connection`] is laid out by use: the first four cache lines hold what a request and its
//! response touch, in the order in which they touch it; what only set-up, loss and close need
//! comes after.

use crate::flow::FlowKey;
use crate::records::NONE;
use crate::seq::Seq;
use crate::tcp::congestion::Control;
use crate::wheel::NEVER;
use ix_abi::Handle;

/// Bytes of the prebuilt header, rounded up to what is copied without a call: Ethernet, IPv4, TCP
/// and the first word of the timestamps option; or Ethernet, IPv6 and both ports.
pub(crate) const TEMPLATE_BYTES: usize = 64;

/// State of a connection (RFC 9293 3.3.2). LISTEN, TIME-WAIT and CLOSED have no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum State {
    /// The slot is not in use.
    Free,
    /// Over and reported; the application has not released the handle yet.
    Dead,
    /// A SYN came, and the application has not answered the knock: SYN-RECEIVED without SYN-ACK.
    Knocking,
    /// SYN-SENT.
    SynSent,
    /// SYN-RECEIVED.
    SynReceived,
    /// ESTABLISHED.
    Established,
    /// FIN-WAIT-1.
    FinWait1,
    /// FIN-WAIT-2.
    FinWait2,
    /// CLOSE-WAIT.
    CloseWait,
    /// CLOSING.
    Closing,
    /// LAST-ACK.
    LastAck,
}

bitflags::bitflags! {
    /// Reasons why a segment may not take the fast path.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub(crate) struct Slow: u16 {
        /// Out-of-order segments are kept, or a FIN behind a gap.
        const OUT_OF_ORDER = 1;
        /// Loss recovery is under way, or something is marked sacked or lost.
        const RECOVERY = 2;
        /// The application has closed: payload is not wanted.
        const CLOSED = 4;
        /// The send window is shut and is being probed.
        const PERSIST = 8;
        /// A duplicate is to be reported (RFC 2883).
        const REPORT = 0x10;
        /// Something is to be said about explicit congestion notification.
        const ECN = 0x20;
        /// It runs over IPv6: nothing slow, but the fast path for IPv4 is not for it.
        const IPV6 = 0x40;
        /// The next acknowledgement of new data brings the retransmission timer much nearer: there was no
        /// round-trip time yet, or backoff ends.
        const TIMER_MOVES = 0x80;
        /// In any state but ESTABLISHED.
        const UNESTABLISHED = 0x100;
    }
}

bitflags::bitflags! {
    /// What else is true of a connection.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
    pub(crate) struct Flags: u32 {
        /// May have something to send; it is listed then.
        const DIRTY = 1;
        /// Waits for its neighbour's address instead.
        const AWAITING_NEIGHBOR = 2;
        /// An acknowledgement is owed; it may wait for data or the timer.
        const ACK_OWED = 4;
        /// An acknowledgement is owed now.
        const ACK_NOW = 8;
        /// FIN follows the queued data.
        const FIN_QUEUED = 0x10;
        /// FIN was sent.
        const FIN_SENT = 0x20;
        /// FIN was sent and is taken for lost.
        const FIN_LOST = 0x40;
        /// A FIN came behind a gap; its place is `fin_at`.
        const FIN_WAITS = 0x80;
        /// The peer's SYN asked for, or answered with, window scaling.
        const WINDOW_SCALE = 0x100;
        /// Timestamps are in use (RFC 7323).
        const TIMESTAMPS = 0x200;
        /// Selective acknowledgements are in use (RFC 2018).
        const SACK = 0x400;
        /// `dead` was reported, or never will be (a refused knock).
        const REPORTED = 0x800;
        /// The application has called `close` or `abort`.
        const RELEASED = 0x1000;
        /// Its neighbour did not answer.
        const NEIGHBOR_FAILED = 0x2000;
        /// Counted among the half-open ones.
        const HALF_OPEN = 0x4000;
        /// In the list of those with out-of-order data that has become deliverable.
        const DELIVERING = 0x8000;
        /// The peer's FIN is in.
        const FIN_RECEIVED = 0x1_0000;
        /// No longer in the flow table.
        const UNLISTED = 0x2_0000;
        /// The first retransmission of a recovery goes out whatever the window says.
        const RETRANSMIT_NOW = 0x4_0000;
        /// The RACK timer stands for the reordering window, not for a tail probe.
        const REORDER_TIMER = 0x10_0000;
        /// Reordering was seen.
        const REORDERING_SEEN = 0x20_0000;
        /// A tail probe was sent.
        const PROBED = 0x40_0000;
        /// The probe repeated a segment.
        const PROBE_REPEATS = 0x80_0000;
        /// Two tail probes were sent, or more.
        const PROBED_TWICE = 0x4000_0000;
        /// What is known of tail probes.
        const PROBES = Self::PROBED.bits() | Self::PROBE_REPEATS.bits() | Self::PROBED_TWICE.bits();
        /// A SYN cookie has proven the handshake; `accept` completes it.
        const PROVEN = 0x100_0000;
        /// Congestion is notified explicitly (RFC 3168).
        const ECN = 0x200_0000;
        /// Waits for send records.
        const STARVED = 0x1000_0000;
        /// A mark is to be echoed.
        const ECN_ECHO = 0x400_0000;
        /// The window was reduced for an echo, and the peer is to be told.
        const ECN_REDUCED = 0x800_0000;
        /// A segment of the size that may be too long for the path is to be sent.
        const SIZE_PROBE_DUE = 0x2000_0000;
        /// Has an entry in the output queue. Survives the connection: the entry is the slot's.
        const LISTED = 0x8_0000;
    }
}

/// Place in a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    /// The connection before.
    pub prev: u32,
    /// The connection behind.
    pub next: u32,
}

/// A connection. Times are nanoseconds, `NEVER` if unset. Plain data: it goes to another thread as it is.
#[repr(C, align(64))]
pub(crate) struct Connection {
    /// Peer and ports.
    pub key: FlowKey,
    /// What the application calls it by: the name of this block, and which of the connections that used
    /// the block it is.
    pub handle: Handle,
    /// The application's name for it.
    pub cookie: u64,
    /// State.
    pub state: State,
    /// Duplicate acknowledgements in a row.
    pub duplicate_acks: u8,
    /// Reasons against the fast path.
    pub slow: Slow,
    /// Everything else that is true or false.
    pub flags: Flags,
    /// Next sequence number expected.
    pub rcv_nxt: Seq,
    /// Right edge of the window that was advertised.
    pub rcv_adv: Seq,
    /// What was acknowledged last.
    pub rcv_acked: Seq,
    /// Bytes delivered and not yet given back.
    pub rx_owed: u32,
    /// First mbuf delivered and not yet given back.
    pub rx_head: u32,

    /// Last of those mbufs, if there is any.
    pub rx_tail: u32,
    /// How many mbufs are held, in order and out of order.
    pub rx_held: u16,
    /// Bytes of the first mbuf given back already.
    pub rx_consumed: u16,
    /// Oldest unacknowledged sequence number.
    pub snd_una: Seq,
    /// Next sequence number to send.
    pub snd_nxt: Seq,
    /// Sequence number behind the last byte queued (where FIN goes).
    pub snd_end: Seq,
    /// Send window in bytes.
    pub snd_wnd: u32,
    /// The window field that this came from, as it stands in a segment, read as a little-endian number;
    /// [`NONE`] before the first scaled one.
    pub snd_wnd_word: u32,
    /// First unacknowledged record.
    pub send_head: u32,
    /// Last record.
    pub send_tail: u32,
    /// First record not yet sent.
    pub send_cursor: u32,
    /// Length of the piece that is queued alone and has no record (see `single`), if it was not sent
    /// yet; else 0.
    pub single_unsent: u32,
    /// Its length, if it was sent; else 0.
    pub single_sent: u32,
    /// Congestion window in bytes.
    pub cwnd: u32,
    /// The bus address of the single piece.
    pub single_bus: u64,
    /// Slow start threshold in bytes.
    pub ssthresh: u32,
    /// Most payload in one segment.
    pub mss: u16,
    /// Shift of the windows that the peer advertises.
    pub snd_scale: u8,
    /// Shift of the windows that we advertise.
    pub rcv_scale: u8,
    /// Smoothed round-trip time times 8, in units of 1.024 us; 0 before the first sample.
    pub srtt8: u32,
    /// Round-trip time variation times 4, in units of 1.024 us.
    pub rttvar4: u32,

    /// When the connection's timer goes off, or earlier than any deadline below.
    pub timer_at: u64,
    /// When to retransmit or to probe.
    pub rto_deadline: u64,
    /// When an owed acknowledgement may wait no longer.
    pub ack_deadline: u64,
    /// When something came from the peer last.
    pub heard_at: u64,
    /// When data was sent last.
    pub sent_at: u64,
    /// Retransmission timeout in nanoseconds, without backoff.
    pub rto: u64,
    /// Largest payload seen from the peer.
    pub rcv_mss: u16,
    /// Bytes used of the header template.
    pub template_len: u8,
    /// Timeouts in a row.
    pub backoff: u8,
    /// Folded sum of the TCP pseudo-header without the length.
    pub pseudo_sum: u32,
    /// State of the neighbour table when the template's MAC address was looked up.
    pub neighbor_epoch: u32,

    /// Latest timestamp of the peer (RFC 7323 4.3).
    pub ts_recent: u32,
    /// What is added to the clock in our timestamps.
    pub ts_offset: u32,
    /// Bytes acknowledged towards the next growth of the congestion window.
    pub cwnd_credit: u32,
    /// Header of outgoing segments.
    pub template: [u8; TEMPLATE_BYTES],

    /// Links of the lists that it may be in, see [`crate::list`].
    pub links: [Link; 2],
    /// Largest window that the peer ever advertised.
    pub max_snd_wnd: u32,
    /// Our first sequence number.
    pub iss: Seq,
    /// When the state itself times out: a handshake, FIN-WAIT-2, keepalive.
    pub state_deadline: u64,
    /// When the current series of timeouts or probes began.
    pub silence_since: u64,
    /// Recovery ends when this is acknowledged (RFC 6582).
    pub recover: Seq,
    /// Bytes sent that the peer is known to hold out of order.
    pub sacked_bytes: u32,
    /// Bytes taken for lost and not sent again.
    pub lost_bytes: u32,
    /// Sequence number of the segment that last updated the window.
    pub snd_wl1: Seq,
    /// Acknowledgement number of the latest window update.
    pub snd_wl2: Seq,
    /// First out-of-order mbuf.
    pub ofo_head: u32,
    /// Last out-of-order mbuf.
    pub ofo_tail: u32,
    /// The out-of-order segment that came last, for the first SACK block.
    pub ofo_latest: Seq,
    /// How many there are.
    pub ofo_count: u16,
    /// Whether recovery was entered by a timeout.
    pub recovery: Recovery,
    /// Where the peer's FIN is, if it waits.
    pub fin_at: Seq,
    /// The duplicate to be reported.
    pub dsack: (Seq, Seq),
    /// When the reordering window is over, or a tail probe due.
    pub rack_deadline: u64,
    /// Send time of the latest record delivered, in units of 1.024 us.
    pub rack_sent_at: u32,
    /// Its end.
    pub rack_end: Seq,
    /// Its round-trip time.
    pub rack_rtt: u32,
    /// Highest sequence number delivered.
    pub rack_fack: Seq,
    /// A duplicate report counts once until this is acknowledged.
    pub dsack_round: Seq,
    /// Congestion control.
    pub control: Control,
    /// An echoed mark counts once until this is acknowledged.
    pub ecn_round: Seq,
    /// The probe is answered when this is acknowledged.
    pub tlp_end: Seq,
    /// Quarters of a round trip in the reordering window.
    pub reo_wnd_mult: u8,
    /// Recoveries until it shrinks back.
    pub reo_wnd_persist: u8,
    /// Entry of the neighbour cache that it waits for.
    pub awaited_neighbor: u16,
    /// Its latest recovery, if that is still remembered (see `episode`); 0 if there was none.
    pub episode: u16,
    /// The segment size before a path was suspected to be narrower; 0 if none is.
    pub wide_mss: u16,
    /// The hash of its key.
    pub flow_hash: u32,
}

/// How a connection deals with loss at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Recovery {
    /// No loss known.
    Open,
    /// Fast recovery.
    Fast,
    /// Recovery after a timeout.
    Timeout,
    /// The same as long as nothing says whether the timeout was called for (RFC 5682).
    Doubt,
    /// Something arrived that should have been lost.
    Unfounded,
}

const _: () = assert!(core::mem::offset_of!(Connection, state_deadline) <= 5 * 64);
const _: () = assert!(core::mem::size_of::<Connection>() <= 448);

impl Connection {
    /// One that is not in use, and will be called so when it is.
    pub(crate) fn unused(handle: Handle) -> Self {
        Self {
            key: FlowKey::default(),
            handle,
            cookie: 0,
            state: State::Free,
            slow: Slow::UNESTABLISHED,
            flags: Flags::empty(),
            rcv_nxt: Seq(0),
            rcv_adv: Seq(0),
            rcv_acked: Seq(0),
            rx_owed: 0,
            rx_head: NONE,
            rx_tail: NONE,
            rx_held: 0,
            rx_consumed: 0,
            snd_una: Seq(0),
            snd_nxt: Seq(0),
            snd_end: Seq(0),
            snd_wnd: 0,
            snd_wnd_word: NONE,
            send_head: NONE,
            send_tail: NONE,
            send_cursor: NONE,
            single_unsent: 0,
            single_bus: 0,
            single_sent: 0,
            cwnd: 0,
            ssthresh: u32::MAX >> 1,
            cwnd_credit: 0,
            mss: 536,
            snd_scale: 0,
            rcv_scale: 0,
            srtt8: 0,
            timer_at: NEVER,
            rto_deadline: NEVER,
            ack_deadline: NEVER,
            heard_at: 0,
            rto: 0,
            rttvar4: 0,
            rcv_mss: 536,
            template_len: 0,
            backoff: 0,
            pseudo_sum: 0,
            neighbor_epoch: 0,
            ts_recent: 0,
            ts_offset: 0,
            links: [Link {
                prev: NONE,
                next: NONE,
            }; 2],
            template: [0; TEMPLATE_BYTES],
            state_deadline: NEVER,
            silence_since: NEVER,
            sent_at: 0,
            max_snd_wnd: 0,
            iss: Seq(0),
            recover: Seq(0),
            sacked_bytes: 0,
            lost_bytes: 0,
            snd_wl1: Seq(0),
            snd_wl2: Seq(0),
            ofo_head: NONE,
            ofo_tail: NONE,
            ofo_latest: Seq(0),
            ofo_count: 0,
            duplicate_acks: 0,
            recovery: Recovery::Open,
            fin_at: Seq(0),
            dsack: (Seq(0), Seq(0)),
            rack_deadline: NEVER,
            rack_sent_at: 0,
            rack_end: Seq(0),
            rack_rtt: 0,
            rack_fack: Seq(0),
            dsack_round: Seq(0),
            control: Control::NewReno,
            ecn_round: Seq(0),
            tlp_end: Seq(0),
            reo_wnd_mult: 1,
            reo_wnd_persist: 0,
            awaited_neighbor: 0,
            episode: 0,
            wide_mss: 0,
            flow_hash: 0,
        }
    }

    /// Enters a state.
    pub fn enter(&mut self, state: State) {
        self.state = state;
        self.slow
            .set(Slow::UNESTABLISHED, state != State::Established);
    }

    /// Whether it runs over IPv6.
    #[inline]
    pub fn is_ipv6(&self) -> bool {
        self.slow.contains(Slow::IPV6)
    }

    /// Bytes accepted by `send` and not yet acknowledged.
    #[inline]
    pub fn queued(&self) -> u32 {
        // A FIN or SYN that was acknowledged lets snd_una run ahead of or behind the data by one.
        let queued = self.snd_end - self.snd_una;
        if (queued as i32) < 0 { 0 } else { queued }
    }

    /// Sequence numbers sent and not yet acknowledged.
    #[inline]
    pub fn in_flight(&self) -> u32 {
        self.snd_nxt - self.snd_una
    }

    /// Bytes taken to be in the network (RFC 6675 "pipe").
    #[inline]
    pub fn pipe(&self) -> u32 {
        self.in_flight()
            .saturating_sub(self.sacked_bytes + self.lost_bytes)
    }

    /// Whether our FIN was acknowledged.
    #[inline]
    pub fn fin_acked(&self) -> bool {
        self.flags.contains(Flags::FIN_SENT) && self.snd_una.gt(self.snd_end)
    }

    /// The retransmission timeout with its backoff, within `max` nanoseconds.
    #[inline]
    pub fn backed_off_rto(&self, max: u64) -> u64 {
        (self.rto << self.backoff.min(16)).min(max)
    }

    /// When something is to be done unless something happens.
    #[inline]
    pub fn earliest_deadline(&self) -> u64 {
        self.ack_deadline
            .min(self.rack_deadline)
            .min(self.rto_deadline)
            .min(self.state_deadline)
    }

    /// Whether the application may still send.
    #[inline]
    pub fn may_send(&self) -> bool {
        matches!(
            self.state,
            State::SynSent | State::SynReceived | State::Established | State::CloseWait
        ) && !self.flags.contains(Flags::FIN_QUEUED)
    }

    /// Whether the peer may still send data.
    #[inline]
    pub fn may_receive(&self) -> bool {
        matches!(
            self.state,
            State::Established | State::FinWait1 | State::FinWait2
        )
    }
}
