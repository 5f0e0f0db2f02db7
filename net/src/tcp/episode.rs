//! What is remembered of a recovery: how fast data may leave while it lasts (`prr`), and what to return
//! to should it turn out to be unfounded (`undo`).
//!
//! Few connections recover at a time, and an idle one shall be small. So episodes are in a ring of
//! their own, whose oldest one gives way; a recovery that has lost its episode goes on without both.

use crate::seq::Seq;
use crate::tcp::connection::Connection;
use alloc::vec::Vec;
use ix_abi::Handle;

/// The owner of an episode that nobody has.
const NOBODY: Handle = Handle(u64::MAX);

/// One recovery of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Episode {
    /// The connection.
    owner: Handle,
    /// Congestion window and threshold before it.
    pub cwnd: u32,
    pub ssthresh: u32,
    /// What CUBIC remembered before it.
    pub w_max: u32,
    /// What was unacknowledged first, and what was sent when it began.
    pub first: Seq,
    pub last: Seq,
    /// Our timestamp when it first sent something again.
    pub stamp: u32,
    /// Bytes sent again.
    pub retransmitted: u32,
    /// Of these, how many the peer has reported as duplicates.
    pub reported: u32,
    /// Bytes delivered since it began.
    pub delivered: u32,
    /// Bytes that may be sent for each byte delivered, times 2^16.
    pub rate_16: u32,
}

/// The ring. Its numbers begin at 1: 0 is nobody's.
pub(crate) struct Episodes {
    episodes: Vec<Episode>,
    next: u16,
}

impl Episodes {
    /// A ring of `count` episodes.
    pub fn new(count: u16) -> Self {
        let unused = Episode {
            owner: NOBODY,
            cwnd: 0,
            ssthresh: 0,
            w_max: 0,
            first: Seq(0),
            last: Seq(0),
            stamp: 0,
            retransmitted: 0,
            reported: 0,
            delivered: 0,
            rate_16: 0,
        };
        Self {
            episodes: (0..count.clamp(1, u16::MAX - 1) + 1)
                .map(|_| unused)
                .collect(),
            next: 1,
        }
    }

    /// Begins an episode of a connection, whose window has not been touched yet.
    pub fn begin(&mut self, connection: &mut Connection) {
        let episode = Episode {
            owner: connection.handle,
            cwnd: connection.cwnd,
            ssthresh: connection.ssthresh,
            w_max: connection.w_max(),
            first: connection.snd_una,
            last: connection.snd_nxt,
            stamp: 0,
            retransmitted: 0,
            reported: 0,
            delivered: 0,
            rate_16: 0,
        };
        self.adopt(connection, episode);
    }

    /// Goes on with the episode that a connection has had in another engine.
    pub fn adopt(&mut self, connection: &mut Connection, episode: Episode) {
        connection.episode = self.next;
        self.episodes[usize::from(self.next)] = Episode {
            owner: connection.handle,
            ..episode
        };
        self.next += 1;
        if usize::from(self.next) == self.episodes.len() {
            self.next = 1;
        }
    }

    /// The episode of a connection, the last one that it had, unless that has given way.
    pub fn get_mut(&mut self, connection: &Connection) -> Option<&mut Episode> {
        let episode = &mut self.episodes[usize::from(connection.episode)];
        (episode.owner == connection.handle).then_some(episode)
    }

    /// Forgets a connection's episode.
    pub fn end(&mut self, connection: &Connection) {
        if let Some(episode) = self.get_mut(connection) {
            episode.owner = NOBODY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::connections::Connections;

    #[test]
    fn the_oldest_episode_gives_way_and_none_outlives_its_connection() {
        let mut connections = Connections::with_slots(3);
        let [first, second, third] = [(); 3].map(|()| connections.take().unwrap());
        let mut episodes = Episodes::new(2);
        for index in [first, second] {
            connections[index].cwnd = 1000 + index;
            episodes.begin(&mut connections[index]);
        }
        let cwnd = |episodes: &mut Episodes, connections: &Connections, index: u32| {
            let episode = episodes.get_mut(&connections[index]);
            episode.map(|episode| episode.cwnd)
        };
        assert_eq!(cwnd(&mut episodes, &connections, first), Some(1000 + first));
        assert_eq!(cwnd(&mut episodes, &connections, third), None);
        episodes.begin(&mut connections[third]);
        assert_eq!(cwnd(&mut episodes, &connections, first), None);
        assert_eq!(
            cwnd(&mut episodes, &connections, second),
            Some(1000 + second)
        );
        connections.release(second);
        assert_eq!(cwnd(&mut episodes, &connections, second), None);
        episodes.end(&connections[third]);
        assert_eq!(cwnd(&mut episodes, &connections, third), None);
    }
}
