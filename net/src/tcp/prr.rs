//! Proportional rate reduction (RFC 9937): while fast recovery lasts, what is delivered clocks out what
//! is sent, so that the flight shrinks to the new threshold evenly over one round trip, and grows back
//! to it when more was lost than the threshold asks for. Only with SACK, which says what is delivered.

use crate::engine::Engine;
use crate::tcp::connection::Recovery;

impl Engine {
    /// Fast recovery begins; the threshold is set.
    pub(crate) fn prr_begin(&mut self, index: u32) {
        let connection = &mut self.connections[index];
        let Some(episode) = self.episodes.get_mut(connection) else {
            return;
        };
        let flight = u64::from(connection.in_flight().max(1));
        let threshold = u64::from(connection.ssthresh).min(flight);
        // Rounded up, as the standard does each time.
        episode.rate_16 = (threshold << 16).div_ceil(flight) as u32;
        // The first retransmission leaves whatever the window says.
        connection.cwnd = connection.pipe();
    }

    /// `delivered` bytes more have arrived; `is_safe` if the acknowledgement moved on and showed no
    /// further loss.
    pub(crate) fn prr_deliver(&mut self, index: u32, delivered: u32, is_safe: bool) {
        let connection = &mut self.connections[index];
        if connection.recovery != Recovery::Fast {
            return;
        }
        let Some(episode) = self.episodes.get_mut(connection) else {
            connection.cwnd = connection.ssthresh;
            return;
        };
        episode.delivered = episode.delivered.saturating_add(delivered);
        let sent = (connection.snd_nxt - episode.last).saturating_add(episode.retransmitted);
        let (pipe, threshold) = (connection.pipe(), connection.ssthresh);
        let more = if pipe > threshold {
            let due = u64::from(episode.delivered) * u64::from(episode.rate_16);
            ((due >> 16) as u32).saturating_sub(sent)
        } else {
            let growth = match is_safe {
                true => u32::from(connection.mss),
                false => 0,
            };
            let clocked = episode.delivered.saturating_sub(sent).max(delivered);
            (threshold - pipe).min(clocked + growth)
        };
        connection.cwnd = pipe + more;
    }
}
