//! Counters: one for each drop and each decision. Where Linux has one, the second name is the one
//! that its `nstat` prints.

/// Declares [`Counters`] with one documented field per counter and its printed name.
macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident $name:literal,)*) => {
        /// What happened in an engine so far; monotonic since its start.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Counters {
            /// Every counter with its printed name.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$(($name, self.$field),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Frames that came in.
    rx_frames "IxRxFrames",
    /// Frames whose buffer number is outside of the configured pool.
    rx_foreign_mbuf "IxRxForeignMbuf",
    /// Frames too short or of a protocol that is not spoken here.
    eth_unknown "IxEthUnknown",
    /// Frames for another station.
    eth_other_host "IxEthOtherHost",
    /// Packets set aside, since another engine serves the connection that they are about.
    rx_elsewhere "IxRxElsewhere",
    /// Such packets for which there was no room.
    rx_elsewhere_drops "IxRxElsewhereDrops",
    /// Frames that the NIC marked as having a wrong checksum.
    rx_bad_checksum "IxRxBadChecksum",
    /// ARP packets that make no sense or ask for somebody else.
    arp_ignored "IxArpIgnored",
    /// ARP requests for this host.
    arp_in_requests "IxArpInRequests",
    /// ARP requests and probes sent.
    arp_out_requests "IxArpOutRequests",
    /// Announcements of the own address.
    arp_out_announcements "IxArpOutAnnouncements",
    /// Neighbours that stayed silent.
    arp_failures "IxArpFailures",
    /// Neighbours that gave way in a full cache.
    arp_evictions "IxArpEvictions",
    /// Peers that had proven nothing, and whose MAC address was not asked for since the cache has no room.
    neighbor_refusals "IxNeighborRefusals",
    /// What was heard of a neighbour and did not fit into another engine's mailbox.
    arp_untold "IxArpUntold",
    /// IP packets that came in.
    ip_in_receives "IpInReceives",
    /// IP packets with a malformed header.
    ip_in_header_errors "IpInHdrErrors",
    /// IP packets for another address.
    ip_in_address_errors "IpInAddrErrors",
    /// IP packets with a wrong header checksum.
    ip_in_checksum_errors "IpExtInCsumErrors",
    /// IP packets of a protocol that is not spoken here.
    ip_in_unknown_protocols "IpInUnknownProtos",
    /// IPv6 packets that came in, but for TCP segments without extension headers.
    ip6_in_receives "Ip6InReceives",
    /// IPv6 packets with a malformed header, or headers that lead nowhere.
    ip6_in_header_errors "Ip6InHdrErrors",
    /// IPv6 packets for another address, or from one that can be nobody's.
    ip6_in_address_errors "Ip6InAddrErrors",
    /// IPv6 packets with a header that is not known here.
    ip6_in_unknown_protocols "Ip6InUnknownProtos",
    /// IPv6 fragments that came in.
    ip6_fragments "Ip6ReasmReqds",
    /// IPv6 packets put together from fragments.
    ip6_reassembled "Ip6ReasmOKs",
    /// IPv6 fragments and incomplete packets dropped, for whatever reason.
    ip6_fragments_dropped "Ip6ReasmFails",
    /// Incomplete IPv6 packets given up because a fragment did not come in time.
    ip6_reassembly_timeouts "Ip6ReasmTimeout",
    /// IP fragments that came in.
    ip_fragments "IpReasmReqds",
    /// IP datagrams put together from fragments.
    ip_reassembled "IpReasmOKs",
    /// IP fragments and incomplete datagrams dropped, for whatever reason.
    ip_fragments_dropped "IpReasmFails",
    /// Incomplete datagrams given up because a fragment did not come in time.
    ip_reassembly_timeouts "IpReasmTimeout",
    /// Datagrams dropped because their fragments overlap, contradict each other, or are too many.
    ip_reassembly_overlaps "IpReasmOverlaps",
    /// Incomplete datagrams that gave way in a full table.
    ip_reassembly_evictions "IxIpReasmEvictions",
    /// ICMP messages that came in.
    icmp_in_messages "IcmpInMsgs",
    /// ICMP messages that are malformed or have a wrong checksum.
    icmp_in_errors "IcmpInErrors",
    /// ICMP messages that ask for nothing that is done here.
    icmp_ignored "IxIcmpIgnored",
    /// ICMP echo requests answered.
    icmp_echo_replies "IcmpOutEchoReps",
    /// Destination unreachable messages that came in.
    icmp_in_unreachables "IcmpInDestUnreachs",
    /// Time exceeded messages that came in.
    icmp_in_time_exceeded "IcmpInTimeExcds",
    /// Parameter problem messages that came in.
    icmp_in_parameter_problems "IcmpInParmProbs",
    /// ICMP errors about segments that are not under way.
    icmp_out_of_window "TcpExtOutOfWindowIcmps",
    /// Connections whose segments became shorter because an ICMP error said so.
    tcp_path_mtu_lowered "IxTcpPathMtuLowered",
    /// Connections whose segments became shorter because long ones seem to vanish.
    tcp_black_holes_suspected "IxTcpBlackHolesSuspected",
    /// Suspicions given up because short segments vanished too.
    tcp_black_holes_refuted "IxTcpBlackHolesRefuted",
    /// Segments of the old size that arrived after such a suspicion.
    tcp_size_probes_passed "TcpExtTCPMTUPSuccess",
    /// Those that were lost: the path is remembered as narrow.
    tcp_size_probes_failed "TcpExtTCPMTUPFail",
    /// Destination unreachable messages sent.
    icmp_out_unreachables "IcmpOutDestUnreachs",
    /// ICMP errors not sent because of the rate limit.
    icmp_limited "IcmpOutRateLimitGlobal",
    /// Time exceeded messages sent.
    icmp_out_time_exceeded "IcmpOutTimeExcds",
    /// ICMPv6 messages that came in.
    icmp6_in_messages "Icmp6InMsgs",
    /// ICMPv6 messages that are malformed or have a wrong checksum.
    icmp6_in_errors "Icmp6InErrors",
    /// ICMPv6 messages sent, but for echo replies.
    icmp6_out_messages "Icmp6OutMsgs",
    /// ICMPv6 echo requests that came in.
    icmp6_in_echos "Icmp6InEchos",
    /// ICMPv6 echo requests answered.
    icmp6_echo_replies "Icmp6OutEchoReplies",
    /// ICMPv6 destination unreachable messages that came in.
    icmp6_in_unreachables "Icmp6InDestUnreachs",
    /// ICMPv6 packet too big messages that came in.
    icmp6_in_too_bigs "Icmp6InPktTooBigs",
    /// ICMPv6 time exceeded messages that came in.
    icmp6_in_time_exceeded "Icmp6InTimeExcds",
    /// ICMPv6 parameter problem messages that came in.
    icmp6_in_parameter_problems "Icmp6InParmProblems",
    /// ICMPv6 destination unreachable messages sent.
    icmp6_out_unreachables "Icmp6OutDestUnreachs",
    /// ICMPv6 time exceeded messages sent.
    icmp6_out_time_exceeded "Icmp6OutTimeExcds",
    /// ICMPv6 parameter problem messages sent.
    icmp6_out_parameter_problems "Icmp6OutParmProblems",
    /// Neighbour solicitations that came in.
    ndp_in_solicitations "Icmp6InNeighborSolicits",
    /// Neighbour solicitations sent.
    ndp_out_solicitations "Icmp6OutNeighborSolicits",
    /// Neighbour advertisements that came in.
    ndp_in_advertisements "Icmp6InNeighborAdvertisements",
    /// Neighbour advertisements sent.
    ndp_out_advertisements "Icmp6OutNeighborAdvertisements",
    /// Router advertisements that came in.
    ndp_in_routers "Icmp6InRouterAdvertisements",
    /// Router solicitations sent.
    ndp_out_router_solicitations "Icmp6OutRouterSolicits",
    /// Multicast listener queries that came in and are answered.
    mld_in_queries "Icmp6InGroupMembQueries",
    /// Multicast listener reports sent.
    mld_out_reports "Icmp6OutMLDv2Reports",
    /// Redirects that came in, none of which is followed.
    ndp_in_redirects "Icmp6InRedirects",
    /// Neighbour discovery messages that are not valid, not wanted, or about nobody here.
    ndp_ignored "IxNdpIgnored",
    /// Own addresses given up because another station has them.
    ndp_duplicates "IxNdpDuplicateAddresses",
    /// Prefixes, routers and addresses advertised that found no room.
    ndp_refused "IxNdpRefused",
    /// Datagrams delivered.
    udp_in_datagrams "UdpInDatagrams",
    /// Datagrams sent.
    udp_out_datagrams "UdpOutDatagrams",
    /// ICMP errors about datagrams from a bound port.
    udp_icmp_errors "IxUdpIcmpErrors",
    /// Datagrams to a port that nobody bound.
    udp_no_ports "UdpNoPorts",
    /// Datagrams that are malformed, have a wrong checksum, or found no room.
    udp_in_errors "UdpInErrors",
    /// Datagrams with a wrong checksum.
    udp_in_checksum_errors "UdpInCsumErrors",
    /// Datagrams dropped because the application holds too many buffers.
    udp_receive_full "UdpRcvbufErrors",
    /// `udp_send` calls that found no room in the TX ring.
    udp_send_full "UdpSndbufErrors",
    /// `udp_send` calls to a next hop whose station address is being asked for.
    udp_unresolved "IxUdpUnresolved",
    /// Replies that found no room in the TX ring.
    tx_full_drops "IxTxFullDrops",
    /// TCP segments that came in.
    tcp_in_segments "TcpInSegs",
    /// TCP segments sent, without retransmissions.
    tcp_out_segments "TcpOutSegs",
    /// Frames sent that the device was to cut into segments.
    tcp_large_frames "IxTcpLargeFrames",
    /// Records cut because SACK blocks cover a part of them.
    tcp_sack_cuts "IxTcpSackCuts",
    /// Retransmissions of the first segment of a record that could not be cut for want of records.
    tcp_uncut_retransmits "IxTcpUncutRetransmits",
    /// TCP segments that are malformed.
    tcp_in_errors "TcpInErrs",
    /// TCP segments with a wrong checksum.
    tcp_in_checksum_errors "TcpInCsumErrors",
    /// Segments that took the fast path.
    tcp_header_prediction "TcpExtTCPHPHits",
    /// Connections opened by this side.
    tcp_active_opens "TcpActiveOpens",
    /// Connections opened by a peer.
    tcp_passive_opens "TcpPassiveOpens",
    /// Handshakes that failed.
    tcp_attempt_fails "TcpAttemptFails",
    /// Established connections that were reset.
    tcp_established_resets "TcpEstabResets",
    /// RST segments sent.
    tcp_out_resets "TcpOutRsts",
    /// RSTs not sent because of the rate limit.
    tcp_resets_limited "IxTcpResetsLimited",
    /// SYNs dropped, or answered with a cookie, because the half-open or the connection table is
    /// full.
    tcp_listen_overflows "TcpExtListenOverflows",
    /// SYNs dropped for any reason.
    tcp_listen_drops "TcpExtListenDrops",
    /// SYNs answered with a cookie.
    tcp_cookies_sent "TcpExtSyncookiesSent",
    /// Cookies that came back.
    tcp_cookies_received "TcpExtSyncookiesRecv",
    /// Segments that should have held a cookie and did not.
    tcp_cookies_failed "TcpExtSyncookiesFailed",
    /// Knocks that the application refused.
    tcp_knocks_refused "IxTcpKnocksRefused",
    /// Handshakes that timed out.
    tcp_handshake_timeouts "IxTcpHandshakeTimeouts",
    /// `connect` calls that found no free port.
    tcp_ports_exhausted "IxTcpPortsExhausted",
    /// Segments retransmitted.
    tcp_retransmits "TcpRetransSegs",
    /// Retransmission timeouts.
    tcp_timeouts "TcpExtTCPTimeouts",
    /// Timeouts that were not called for: what they took for lost was only late.
    tcp_spurious_timeouts "TcpExtTCPSpuriousRTOs",
    /// Fast recoveries undone since nothing that was sent again had been lost, by timestamps.
    tcp_full_undos "TcpExtTCPFullUndo",
    /// Recoveries undone since the peer reported all that was sent again as duplicates.
    tcp_dsack_undos "TcpExtTCPDSACKUndo",
    /// Fast recoveries entered.
    tcp_fast_recoveries "IxTcpFastRecoveries",
    /// Segments retransmitted in fast recovery.
    tcp_fast_retransmits "TcpExtTCPFastRetrans",
    /// Connections that use explicit congestion notification.
    tcp_ecn_connections "IxTcpEcnConnections",
    /// Segments with payload that the network has marked.
    tcp_in_marked "IpExtInCEPkts",
    /// Acknowledgements of new data that echo a mark.
    tcp_delivered_marked "TcpExtTCPDeliveredCE",
    /// Reductions of a congestion window because of an echo.
    tcp_ecn_reductions "IxTcpEcnReductions",
    /// Tail probes sent.
    tcp_loss_probes "TcpExtTCPLossProbes",
    /// Losses that a tail probe repaired.
    tcp_loss_probe_recoveries "TcpExtTCPLossProbeRecovery",
    /// Duplicates that the peer reported.
    tcp_dsack_received "TcpExtTCPDSACKRecv",
    /// Duplicate acknowledgements that came in.
    tcp_duplicate_acks "IxTcpDuplicateAcks",
    /// Pure acknowledgements that came in.
    tcp_pure_acks "TcpExtTCPPureAcks",
    /// Pure acknowledgements sent.
    tcp_acks_sent "IxTcpAcksSent",
    /// Acknowledgements sent by the delayed ACK timer.
    tcp_delayed_acks "TcpExtDelayedACKs",
    /// Challenge acknowledgements sent (RFC 5961).
    tcp_challenge_acks "TcpExtTCPChallengeACK",
    /// Challenge acknowledgements not sent because of the rate limit.
    tcp_challenge_limited "IxTcpChallengeLimited",
    /// SYNs within an established connection.
    tcp_syn_challenges "TcpExtTCPSYNChallenge",
    /// Segments entirely outside of the receive window.
    tcp_out_of_window "TcpExtBeyondWindow",
    /// Segments refused because their timestamp is old (PAWS).
    tcp_paws_rejected "TcpExtPAWSEstab",
    /// Segments without the timestamp that was agreed on.
    tcp_timestamp_missing "IxTcpTimestampMissing",
    /// Segments whose acknowledgement is for data not sent.
    tcp_ack_unsent "IxTcpAckUnsentData",
    /// Acknowledgements too old to be believed (RFC 5961 5.2).
    tcp_ack_too_old "TcpExtTCPAckTooOld",
    /// Segments without ACK where one is required.
    tcp_no_ack "IxTcpNoAck",
    /// Segments kept out of order.
    tcp_ofo_queued "TcpExtTCPOFOQueue",
    /// Segments out of order dropped for want of room.
    tcp_ofo_dropped "TcpExtTCPOFODrop",
    /// Segments out of order given up so that the next one in order found a buffer.
    tcp_ofo_pruned "TcpExtOfoPruned",
    /// Segments out of order that held nothing new.
    tcp_ofo_duplicates "TcpExtTCPOFOMerge",
    /// In-order segments dropped because too many buffers are held.
    tcp_rcv_dropped "TcpExtTCPRcvQDrop",
    /// Segments that held nothing new.
    tcp_duplicates "IxTcpDuplicateSegments",
    /// Bytes past the window that were cut off.
    tcp_trimmed_bytes "IxTcpTrimmedBytes",
    /// Window updates sent because the application gave memory back.
    tcp_window_updates "IxTcpWindowUpdates",
    /// Zero-window probes sent.
    tcp_window_probes "TcpExtTCPWinProbe",
    /// Keepalive probes sent.
    tcp_keepalives "TcpExtTCPKeepAlive",
    /// Connections given up because the peer stayed silent.
    tcp_aborts_on_timeout "TcpExtTCPAbortOnTimeout",
    /// Connections reset because data came after `close`.
    tcp_aborts_on_data "TcpExtTCPAbortOnData",
    /// Connections aborted by the application.
    tcp_aborts_by_call "TcpExtTCPAbortOnClose",
    /// Connections given up because their neighbour stayed silent.
    tcp_aborts_on_neighbor "IxTcpAbortOnNeighbor",
    /// Connections given up because the address of ours that they had is gone.
    tcp_aborts_on_address "IxTcpAbortOnAddress",
    /// Connections that entered TIME-WAIT.
    tcp_time_waits "TcpExtTW",
    /// TIME-WAIT entries that gave way in a full table.
    tcp_time_wait_overflows "TcpExtTCPTimeWaitOverflow",
    /// TIME-WAIT entries reused by a new SYN.
    tcp_time_wait_recycled "TcpExtTWRecycled",
    /// `send` calls that accepted less for want of fragment records.
    tcp_send_records_exhausted "IxTcpSendRecordsExhausted",
    /// Connections that came from another engine.
    tcp_moved_in "IxTcpMovedIn",
    /// Connections that went to another engine.
    tcp_moved_out "IxTcpMovedOut",
    /// Connections that were reset instead of moved: they had come to need more room than the other engine
    /// had promised, or it did not know their address of ours.
    tcp_moves_refused "IxTcpMovesRefused",
    /// Segments that came when their flow group was another engine's already, set aside for that one.
    tcp_in_late "IxTcpInLate",
    /// RTT measurements taken.
    tcp_rtt_samples "IxTcpRttSamples",
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;

    #[test]
    fn printed_names_are_unique() {
        let counters = Counters::default();
        let names: BTreeSet<_> = counters.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), counters.iter().count());
    }
}
