//! Multicast listener discovery (RFC 3810), as far as a host needs it that is in no group but those
//! of its addresses: it tells switches that look, so that questions for its addresses get through.

use crate::address::IpAddress;
use crate::context::{Context, Events};
use crate::engine::Engine;
use crate::ipv6::header::IPV6;
use crate::packet::{Packet, pseudo_sum};
use crate::wheel::NEVER;
use crate::wire::{
    ETHERNET, PROTOCOL_ICMPV6, be16, be64, emit_ipv6, fold, put_address, put16, sum,
};
use ix_hal::{HEADER_ROOM, Instant, Transmit, TxChecksum, TxFrame};

/// Types of messages.
pub(crate) const QUERY: u8 = 130;
const REPORT: u8 = 143;
/// Where reports go: all routers that speak version 2.
const ROUTERS: IpAddress = IpAddress::from_words(0xff02 << 48, 0x16);
/// Hop-by-hop options: router alert (RFC 2711), and two bytes of padding.
const OPTIONS: [u8; 8] = [PROTOCOL_ICMPV6, 0, 5, 2, 0, 0, 1, 0];
const HOP_BY_HOP: u8 = 0;
/// Bytes of a report before its records, and of a record without sources.
const HEAD: usize = 8;
const RECORD: usize = 20;
/// Groups that own addresses make at most: those from the MAC address share one, one is given.
const MOST_GROUPS: usize = 2;
/// A report is sent so many times, this far apart (RFC 3810 9.1, 9.11).
const ROBUSTNESS: u8 = 2;
const REPORT_INTERVAL: u64 = 1_000_000_000;
/// Least length of a query.
const QUERY_LEN: usize = 24;

const _: () = assert!(ETHERNET + IPV6 + OPTIONS.len() + HEAD + MOST_GROUPS * RECORD <= HEADER_ROOM);

/// What a record says of a group (RFC 3810 5.2.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// We are in it.
    IsExclude = 2,
    /// We have joined it.
    ToExclude = 4,
}

/// What is to be reported, and when.
pub(crate) struct Reports {
    /// How many more times that the groups were joined.
    joined: u8,
    join_at: u64,
    /// When a query is to be answered.
    answer_at: u64,
    /// What is to be sent now.
    pub due: Option<Record>,
}

impl Reports {
    /// Nothing is to be reported.
    pub fn none() -> Self {
        Self {
            joined: 0,
            join_at: NEVER,
            answer_at: NEVER,
            due: None,
        }
    }

    /// The groups of the own addresses are joined now.
    pub fn of_joining(now: Instant) -> Self {
        Self {
            joined: ROBUSTNESS,
            join_at: now.0,
            ..Self::none()
        }
    }

    /// A querier wants an answer before so many nanoseconds are over; `random` spreads the answers.
    pub fn asked(&mut self, now: Instant, within: u64, random: u32) {
        let delay = (u128::from(within) * u128::from(random)) >> 32;
        self.answer_at = self.answer_at.min(now.0 + delay as u64);
    }

    /// Finds out what is due.
    pub fn advance(&mut self, now: Instant) {
        if self.answer_at <= now.0 {
            self.answer_at = NEVER;
            self.due = Some(Record::IsExclude);
        }
        if self.join_at <= now.0 {
            self.joined -= 1;
            self.join_at = match self.joined {
                0 => NEVER,
                _ => now.0 + REPORT_INTERVAL,
            };
            self.due = Some(Record::ToExclude);
        }
    }

    /// When that has to be done next.
    pub fn deadline(&self) -> u64 {
        self.join_at.min(self.answer_at)
    }
}

impl Engine {
    /// A query (RFC 3810 6.2): answered with all groups, whichever it asks for, if we are in that.
    pub(crate) fn query_arrives(&mut self, now: Instant, bytes: &[u8], packet: &Packet) {
        let message = &bytes[packet.payload..packet.end];
        let has_come_far = bytes[ETHERNET + 7] != 1 || !packet.source.is_link_local();
        if message.len() < QUERY_LEN || has_come_far || !self.ipv6.hears_alone() {
            self.counters.icmp_ignored += 1;
            return;
        }
        let group = IpAddress::from_words(be64(message, 8), be64(message, 16));
        if !group.is_unspecified() && !self.ipv6.own.is_in_group(group) {
            self.counters.icmp_ignored += 1;
            return;
        }
        self.counters.mld_in_queries += 1;
        let random = self.secret.spread(now);
        let within = response_delay_ms(be16(message, 4)) * 1_000_000;
        self.ipv6.reports.asked(now, within, random);
        self.schedule_ipv6(now);
    }

    /// Sends the report that is due.
    pub(crate) fn send_report<T: Transmit, E: Events>(&mut self, cx: &mut Context<'_, T, E>) {
        let Some(record) = self.ipv6.reports.due else {
            return;
        };
        let Some(room) = cx.tx.header() else {
            return;
        };
        self.ipv6.reports.due = None;
        // One who has no address yet is nobody (RFC 3590).
        let own = self.ipv6.link_local_in_use();
        let source = own.unwrap_or(IpAddress::UNSPECIFIED);
        let at = ETHERNET + IPV6 + OPTIONS.len();
        let mut len = HEAD;
        room[at..at + HEAD].copy_from_slice(&[REPORT, 0, 0, 0, 0, 0, 0, 0]);
        for group in self.ipv6.own.groups().take(MOST_GROUPS) {
            let place = &mut room[at + len..at + len + RECORD];
            place[..4].copy_from_slice(&[record as u8, 0, 0, 0]);
            put_address(place, 4, group);
            room[at + 7] += 1;
            len += RECORD;
        }
        let pseudo = pseudo_sum(PROTOCOL_ICMPV6, source, ROUTERS);
        let total = sum(&room[at..at + len]) + u64::from(pseudo) + len as u64;
        put16(room, at + 2, !fold(total));
        room[..6].copy_from_slice(&ROUTERS.multicast_mac());
        room[6..12].copy_from_slice(&self.local.mac);
        let payload_len = (OPTIONS.len() + len) as u16;
        emit_ipv6(room, source, ROUTERS, HOP_BY_HOP, payload_len);
        room[ETHERNET + 7] = 1;
        room[ETHERNET + IPV6..at].copy_from_slice(&OPTIONS);
        cx.tx.send(&TxFrame {
            header_len: (at + len) as u16,
            fragments: &[],
            checksum: TxChecksum::None,
            segment_size: 0,
            release: None,
        });
        self.counters.icmp6_out_messages += 1;
        self.counters.mld_out_reports += 1;
    }
}

/// Milliseconds that a maximum response code stands for (RFC 3810 5.1.3).
fn response_delay_ms(code: u16) -> u64 {
    let (exponent, mantissa) = (code >> 12 & 7, u64::from(code & 0xfff));
    match code {
        0..0x8000 => code.into(),
        _ => (mantissa | 0x1000) << (exponent + 3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_codes_are_read_as_numbers_and_as_floating_point() {
        assert_eq!(response_delay_ms(10_000), 10_000);
        assert_eq!(response_delay_ms(0x7fff), 32_767);
        assert_eq!(response_delay_ms(0x8000), 32_768);
        assert_eq!(response_delay_ms(0xffff), 0x1fff << 10);
    }

    #[test]
    fn groups_are_reported_twice_and_queries_answered_in_time() {
        let mut reports = Reports::of_joining(Instant(5));
        let taken = |reports: &mut Reports, now| {
            reports.advance(Instant(now));
            reports.due.take()
        };
        assert_eq!(taken(&mut reports, 5), Some(Record::ToExclude));
        assert_eq!(reports.deadline(), 5 + REPORT_INTERVAL);
        assert_eq!(taken(&mut reports, 6), None);
        assert_eq!(
            taken(&mut reports, 5 + REPORT_INTERVAL),
            Some(Record::ToExclude)
        );
        assert_eq!(reports.deadline(), NEVER);
        for random in [0, u32::MAX] {
            reports.asked(Instant(100), 50, random);
            assert!((100..150).contains(&reports.deadline()));
        }
        reports.asked(Instant(100), 1000, u32::MAX);
        assert_eq!(reports.deadline(), 100, "the earlier one");
        assert_eq!(taken(&mut reports, 100), Some(Record::IsExclude));
    }
}
