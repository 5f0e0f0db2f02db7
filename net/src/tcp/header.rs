//! The header of an outgoing segment: a template per connection, a copy of it with what changes
//! filled in; and the receive window that it announces.

use crate::address::IpAddress;
use crate::engine::Local;
use crate::ipv6::header::IPV6;
use crate::packet::pseudo_sum;
use crate::seq::Seq;
use crate::tcp::connection::{Connection, Flags, Slow, TEMPLATE_BYTES};
use crate::tcp::ecn;
use crate::wheel::NEVER;
use crate::wire::{
    ETHERNET, IPV4, PROTOCOL_TCP, TCP, TIMESTAMPS_PADDED, be16, control, emit_ip, emit_ipv4, fold,
    put16, put32,
};
use ix_hal::{HEADER_ROOM, Instant, TxChecksum};

/// Bytes of the timestamps option with its padding.
pub(crate) const TIMESTAMPS_LEN: u8 = 12;

/// Where the headers of one family's segments have their fields, and what else differs.
pub(crate) trait Family {
    /// Where the TCP header starts in a frame.
    const TCP: usize;
    /// Where the IP header says its length.
    const LENGTH: usize;
    /// Bytes before the TCP header that this length counts.
    const COUNTED: u32;
    /// What is always said of its connections.
    const SLOW: Slow;
    /// What the NIC inserts.
    const CHECKSUM: TxChecksum;
}

/// Segments over IPv4.
pub(crate) struct Ipv4;

impl Family for Ipv4 {
    const TCP: usize = ETHERNET + IPV4;
    const LENGTH: usize = ETHERNET + 2;
    const COUNTED: u32 = IPV4 as u32;
    const SLOW: Slow = Slow::empty();
    const CHECKSUM: TxChecksum = TxChecksum::Ipv4Tcp;
}

/// Segments over IPv6.
pub(crate) struct Ipv6;

impl Family for Ipv6 {
    const TCP: usize = ETHERNET + IPV6;
    const LENGTH: usize = ETHERNET + 4;
    const COUNTED: u32 = 0;
    const SLOW: Slow = Slow::IPV6;
    const CHECKSUM: TxChecksum = TxChecksum::Ipv6Tcp;
}

/// What the headers of all segments of an engine over IPv4 have in common.
pub(crate) struct Prototype {
    template: [u8; TEMPLATE_BYTES],
    /// Folded sum of the TCP pseudo-header without the length and the peer's address.
    pseudo_sum: u32,
}

impl Prototype {
    /// For segments from that station, with timestamps.
    pub fn new(mac: [u8; 6], own: u32) -> Self {
        let mut template = [0; TEMPLATE_BYTES];
        template[6..12].copy_from_slice(&mac);
        emit_ipv4(&mut template, own, 0, PROTOCOL_TCP, 0);
        template[Ipv4::TCP + 12] = data_offset_field(TCP as u32 + u32::from(TIMESTAMPS_LEN));
        template[Ipv4::TCP + 13] = control::ACK;
        put32(&mut template, Ipv4::TCP + TCP, TIMESTAMPS_PADDED);
        let [own, nobody] = [own, 0].map(IpAddress::from_ipv4);
        Self {
            template,
            pseudo_sum: pseudo_sum(PROTOCOL_TCP, own, nobody),
        }
    }
}

impl Connection {
    /// Writes the parts of the header template that stay the same, for segments with timestamps.
    #[inline(always)]
    pub(crate) fn build_template(&mut self, prototype: &Prototype, own: IpAddress) {
        self.neighbor_epoch = 0;
        let Some(remote) = self.key.remote.ipv4() else {
            return self.build_template6(prototype, own);
        };
        self.template = prototype.template;
        put32(&mut self.template, ETHERNET + 16, remote);
        let ports = self.key.ports().rotate_left(16);
        put32(&mut self.template, Ipv4::TCP, ports);
        self.template_len = (Ipv4::TCP + TCP) as u8 + TIMESTAMPS_LEN;
        let sum = prototype.pseudo_sum + (remote >> 16) + (remote & 0xffff);
        self.pseudo_sum = u32::from(fold_once((sum >> 16) + (sum & 0xffff)));
    }

    /// The same over IPv6, where not even our own address is always the same.
    fn build_template6(&mut self, prototype: &Prototype, own: IpAddress) {
        self.template = [0; TEMPLATE_BYTES];
        let room = &mut self.template;
        room[6..12].copy_from_slice(&prototype.template[6..12]);
        emit_ip(room, own, self.key.remote, PROTOCOL_TCP, 0);
        put32(room, Ipv6::TCP, self.key.ports().rotate_left(16));
        self.slow.insert(Slow::IPV6);
        self.template_len = (Ipv6::TCP + TCP) as u8 + TIMESTAMPS_LEN;
        self.pseudo_sum = pseudo_sum(PROTOCOL_TCP, own, self.key.remote);
    }

    /// Gives the template the length that the options of every segment make up.
    pub(crate) fn settle_options(&mut self) {
        let options_len = match self.flags.contains(Flags::TIMESTAMPS) {
            true => TIMESTAMPS_LEN,
            false => 0,
        };
        self.template_len = (self.tcp_offset() + TCP) as u8 + options_len;
        // The template ends before it over IPv6.
        if !self.is_ipv6() {
            self.template[Ipv4::TCP + 12] = data_offset_field(TCP as u32 + u32::from(options_len));
        }
    }

    /// Where the TCP header starts in its frames.
    pub(crate) fn tcp_offset(&self) -> usize {
        match self.is_ipv6() {
            false => Ipv4::TCP,
            true => Ipv6::TCP,
        }
    }

    /// What the NIC inserts into its frames.
    #[inline]
    pub(crate) fn checksum(&self) -> TxChecksum {
        match self.is_ipv6() {
            false => Ipv4::CHECKSUM,
            true => Ipv6::CHECKSUM,
        }
    }

    /// Writes the header of a segment of a connection of either family; returns its length.
    #[inline]
    pub(crate) fn fill_any_header(
        &self,
        room: &mut [u8; HEADER_ROOM],
        now: Instant,
        seq: Seq,
        control: u8,
        payload: u32,
    ) -> u16 {
        match self.is_ipv6() {
            false => self.fill_header::<Ipv4>(room, now, seq, control, payload),
            true => self.fill_header::<Ipv6>(room, now, seq, control, payload),
        }
    }

    /// Copies the template and fills in what changes; returns the header's length.
    #[inline(always)]
    pub(crate) fn fill_header<F: Family>(
        &self,
        room: &mut [u8; HEADER_ROOM],
        now: Instant,
        seq: Seq,
        control: u8,
        payload: u32,
    ) -> u16 {
        room[..TEMPLATE_BYTES].copy_from_slice(&self.template);
        let header_len = u32::from(self.template_len);
        let segment_len = header_len + payload - F::TCP as u32;
        put16(room, F::LENGTH, (segment_len + F::COUNTED) as u16);
        put32(room, F::TCP + 4, seq.0);
        put32(room, F::TCP + 8, self.rcv_nxt.0);
        room[F::TCP + 13] = control;
        put16(room, F::TCP + 14, self.window_field());
        let (sum, carry) = (self.pseudo_sum as u16).overflowing_add(segment_len as u16);
        put16(room, F::TCP + 16, sum + u16::from(carry));
        if F::TCP + TCP > TEMPLATE_BYTES {
            // What the template has no room for.
            room[F::TCP + 12] = data_offset_field(header_len - F::TCP as u32);
            put16(room, F::TCP + 18, 0);
            put32(room, F::TCP + TCP, TIMESTAMPS_PADDED);
        }
        if self.flags.contains(Flags::TIMESTAMPS) {
            put32(room, F::TCP + TCP + 4, self.timestamp(now));
            put32(room, F::TCP + TCP + 8, self.ts_recent);
        }
        header_len as u16
    }

    /// Writes the header of a SYN or SYN-ACK around its options, which it has more of than any other
    /// segment.
    #[inline(always)]
    pub(crate) fn fill_syn_header<F: Family>(
        &self,
        room: &mut [u8; HEADER_ROOM],
        control: u8,
        window: u16,
        options_len: usize,
    ) {
        room[..F::TCP].copy_from_slice(&self.template[..F::TCP]);
        ecn::unmark(room);
        let segment_len = (TCP + options_len) as u32;
        put16(room, F::LENGTH, (segment_len + F::COUNTED) as u16);
        put32(room, F::TCP, self.key.ports().rotate_left(16));
        put32(room, F::TCP + 4, self.iss.0);
        put32(room, F::TCP + 8, self.rcv_nxt.0);
        room[F::TCP + 12] = data_offset_field(segment_len);
        room[F::TCP + 13] = control;
        put16(room, F::TCP + 14, window);
        put16(room, F::TCP + 16, fold_once(self.pseudo_sum + segment_len));
        put16(room, F::TCP + 18, 0);
    }

    /// Turns a header into that of segments whose lengths the device fills in.
    pub(crate) fn leave_length_out(&self, room: &mut [u8; HEADER_ROOM]) {
        let length = match self.is_ipv6() {
            false => Ipv4::LENGTH,
            true => Ipv6::LENGTH,
        };
        put16(room, length, 0);
        put16(room, self.tcp_offset() + 16, fold_once(self.pseudo_sum));
    }

    /// Makes a header of this connection count `bytes` more of options.
    pub(crate) fn grow_options(&self, room: &mut [u8], bytes: u16) {
        let (length, tcp) = match self.is_ipv6() {
            false => (Ipv4::LENGTH, Ipv4::TCP),
            true => (Ipv6::LENGTH, Ipv6::TCP),
        };
        let total = be16(room, length) + bytes;
        put16(room, length, total);
        room[tcp + 12] += (bytes as u8 / 4) << 4;
        let sum = u64::from(be16(room, tcp + 16)) + u64::from(bytes);
        put16(room, tcp + 16, fold(sum));
    }

    /// A segment went out, and with it all acknowledgement that was owed; removes `also` too.
    #[inline]
    pub(crate) fn acknowledged(&mut self, also: Flags) {
        self.flags.remove(Flags::ACK_OWED | Flags::ACK_NOW | also);
        self.rcv_acked = self.rcv_nxt;
        self.ack_deadline = NEVER;
    }

    /// Our timestamp: milliseconds, nearly, with an offset that outsiders do not know.
    #[inline]
    pub(crate) fn timestamp(&self, now: Instant) -> u32 {
        ((now.0 >> 20) as u32).wrapping_add(self.ts_offset)
    }

    /// The window field for the window that is open.
    #[inline]
    fn window_field(&self) -> u16 {
        let open = self.rcv_adv - self.rcv_nxt;
        // Rounded up, so that scaling never takes back what was offered. Signed, since it may be shut.
        // It fits: no more than that is ever offered.
        let field = ((open as i32 - 1) >> self.rcv_scale) + 1;
        debug_assert!(field <= 0xffff);
        field as u16
    }

    /// Where payload has to end: at the edge that the peer may know. A shut window is shut.
    #[inline]
    pub(crate) fn rcv_edge(&self) -> Seq {
        match self.rcv_adv == self.rcv_nxt {
            true => self.rcv_adv,
            false => self.rounded_edge(),
        }
    }

    /// The right edge of the window as the peer may know it: beyond `rcv_adv` by what scaling has
    /// rounded an offer up by.
    #[inline]
    pub(crate) fn rounded_edge(&self) -> Seq {
        self.rcv_adv + ((1 << self.rcv_scale) - 1)
    }

    /// Opens the receive window by what the application gave back, if that is worth it (RFC 9293
    /// 3.8.6.2.2).
    #[inline(always)]
    pub(crate) fn open_window(&mut self, local: &Local) {
        if self.window_gain(local, local.window_step) {
            self.rcv_adv = self.rcv_nxt + self.receive_room(local.rx_window, local.rx_mbufs);
        }
    }

    /// Whether the right edge of the window could move by at least `worth`.
    #[inline(always)]
    pub(crate) fn window_gain(&self, local: &Local, worth: u32) -> bool {
        let open = self.rcv_adv - self.rcv_nxt;
        // Mostly it is as open as it can be.
        open + worth <= local.rx_window
            && open + worth <= self.receive_room(local.rx_window, local.rx_mbufs)
    }

    /// Bytes that may still come, by what is held.
    #[inline]
    pub(crate) fn receive_room(&self, rx_window: u32, rx_mbufs: u16) -> u32 {
        let by_bytes = rx_window.saturating_sub(self.rx_owed);
        let by_count = u32::from(rx_mbufs.saturating_sub(self.rx_held)) * u32::from(self.rcv_mss);
        let largest = 0xffff << self.rcv_scale;
        by_bytes.min(by_count).min(largest)
    }

    /// After a long silence the network is no longer known: start over (RFC 5681 4.1).
    #[inline]
    pub(crate) fn restart_if_idle(&mut self, now: Instant, initial_window: u16) {
        let initial = self.initial_cwnd(initial_window);
        if self.cwnd > initial && now.0.saturating_sub(self.sent_at) > self.rto {
            self.cwnd = initial;
        }
    }

    /// What may be sent into a network that is not known, in bytes.
    #[inline]
    pub(crate) fn initial_cwnd(&self, initial_window: u16) -> u32 {
        u32::from(self.mss) * u32::from(initial_window)
    }
}

/// Data offset, in words in the high half of its byte, of a TCP header of that many bytes.
#[inline]
fn data_offset_field(len: u32) -> u8 {
    (len << 2) as u8
}

/// Folds the sum of two 16-bit numbers.
#[inline]
fn fold_once(sum: u32) -> u16 {
    ((sum >> 16) + (sum & 0xffff)) as u16
}
