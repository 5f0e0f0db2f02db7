//! What must hold when everything is over.

use crate::machine::MBUFS;
use crate::plan::Plan;
use crate::world::World;
use ix_net::testing::Station;

impl World {
    pub fn describe(&self) -> String {
        let threads = self.members.iter().enumerate().map(|(index, member)| {
            let counters = member.thread.engine().counters().iter();
            let counters: Vec<_> = counters.filter(|(_, value)| *value != 0).collect();
            format!(
                "thread {index} {:?} command {:?} groups {:#x} {:?} {counters:?}\n",
                member.state,
                member.command,
                member.thread.engine().flow_groups(),
                member.thread.counters()
            )
        });
        let threads: String = threads.collect();
        format!(
            "{}{threads}{}",
            self.service.describe(),
            self.peer.describe()
        )
    }

    /// What must hold when everything is over.
    pub fn check(&mut self, plan: &Plan) {
        let description = self.describe();
        let all = plan.connections + u64::from(plan.outbound);
        assert_eq!(self.service.open(), 0, "{description}");
        assert_eq!(self.service.connected, all);
        assert_eq!(self.service.verified, all * plan.bytes, "{description}");
        assert_eq!(self.peer.app.verified, all * plan.bytes, "{description}");
        for (index, member) in self.members.iter_mut().enumerate() {
            let thread = &mut member.thread;
            thread
                .engine()
                .check()
                .unwrap_or_else(|wrong| panic!("thread {index}: {wrong}"));
            assert_eq!(thread.engine().connections(), 0, "{description}");
            let free = thread.statistics().mbufs_free;
            assert_eq!(
                free, MBUFS as usize,
                "thread {index} lacks mbufs: {description}"
            );
            assert_eq!(member.queue.borrow().missed, 0, "{description}");
            assert_eq!(thread.counters().moving_drops, 0, "{description}");
            let owned = self
                .owners
                .iter()
                .enumerate()
                .filter(|(_, owner)| **owner == index);
            let owned: u128 = owned.fold(0, |mask, (group, _)| mask | 1 << group);
            assert_eq!(thread.engine().flow_groups(), owned, "{description}");
            assert_eq!(thread.engine().counters().tcp_moves_refused, 0);
        }
        if plan.faults.is_perfect() && !self.has_held {
            let engines = self.members.iter().map(|member| member.thread.engine());
            for engine in engines.chain([&self.peer.host.engine]) {
                // A clock that leaps ahead lets probes be due before there can be an answer, and the
                // duplicate may come when the connection is over.
                if plan.lag_ns == 0 {
                    assert_eq!(engine.counters().tcp_retransmits, 0, "{description}");
                    assert_eq!(engine.counters().tcp_out_resets, 0, "{description}");
                }
                assert_eq!(engine.counters().tcp_timeouts, 0, "{description}");
                assert_eq!(engine.counters().tcp_paws_rejected, 0, "{description}");
            }
        }
    }
}
