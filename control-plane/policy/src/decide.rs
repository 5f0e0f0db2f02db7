//! Whether a dataplane grows or shrinks: a pure function of its load, its policy, what is free, and
//! the time since its last change.
//!
//! A dataplane grows when frames wait or cycles take too long over the short horizon, which is when
//! its clients notice. It shrinks when hardly any frame has waited over the long horizon and the
//! threads that would remain could carry its load with room to spare. Both wait for a while after a
//! change, shrinking longer than growing, and the load that lets it shrink is well below the one
//! that makes it grow, so that a steady load leads to no changes. A host that lets virtual CPUs wait makes
//! them look idle; that time counts as busy for who thinks of shrinking.

use ix_api::{Action, Mode, Policy};

/// From this part of the time on, it is said that the host lets virtual CPUs wait.
const DELAYED_SAID: f64 = 0.05;

/// How a dataplane is doing.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Its name.
    pub name: String,
    /// Its policy.
    pub policy: Policy,
    /// Elastic threads that it has.
    pub threads: u32,
    /// Those that serve.
    pub granted: u32,
    /// Frames waiting at a serving thread, average over the short horizon.
    pub queue_short: f64,
    /// The same over the long horizon.
    pub queue_long: f64,
    /// Microseconds of a busy cycle, average over the short horizon.
    pub loop_us: f64,
    /// Part of the time in which the serving threads had something to do, 0 to 1.
    pub busy: f64,
    /// Part of the time in which their virtual CPUs could have run and the host let them wait, 0 to 1. A
    /// guest takes that for idle when it comes at the end of a halt.
    pub delayed: f64,
    /// Milliseconds since it last grew or shrank.
    pub since_change_ms: u64,
}

/// What is to be done about a dataplane.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What.
    pub action: Action,
    /// Why.
    pub reason: String,
}

impl Load {
    fn most(&self) -> u32 {
        self.policy.max.unwrap_or(self.threads).min(self.threads)
    }

    fn least(&self) -> u32 {
        self.policy.min.max(1)
    }

    fn is_automatic(&self) -> bool {
        matches!(self.policy.mode, Mode::Elastic | Mode::Fair)
    }
}

/// A verdict on each of `loads`, in their order. `free` is the number of hardware threads that
/// nobody holds; no more dataplanes are told to grow than that.
pub fn decide(loads: &[Load], free: usize) -> Vec<Verdict> {
    let mut left = free;
    let mut verdicts: Vec<Verdict> = loads.iter().map(alone).collect();
    let mut wanting: Vec<usize> = (0..loads.len())
        .filter(|place| verdicts[*place].action == Action::Grow)
        .collect();
    // Whoever has least of its share comes first.
    wanting.sort_by(|a, b| {
        let fill = |place: usize| loads[place].granted as f64 / share(loads, place, free);
        fill(*a).total_cmp(&fill(*b))
    });
    for place in wanting {
        if verdicts[place].action != Action::Grow {
            // It has had to give one to another.
            continue;
        }
        if left > 0 {
            left -= 1;
            continue;
        }
        let reason = std::mem::take(&mut verdicts[place].reason);
        verdicts[place] = keep(format!("{reason}, but no hardware thread is free"));
        if loads[place].policy.mode == Mode::Fair
            && let Some(donor) = donor(loads, &verdicts, place, free)
        {
            verdicts[donor] = Verdict {
                action: Action::Shrink,
                reason: format!(
                    "it has {} of a share of {:.1}, and {} needs one",
                    loads[donor].granted,
                    share(loads, donor, free),
                    loads[place].name
                ),
            };
        }
    }
    verdicts
}

/// The verdict on a dataplane that has the machine to itself.
fn alone(load: &Load) -> Verdict {
    if !load.is_automatic() {
        return keep("its policy leaves that to others");
    }
    if load.granted < load.least() {
        return grow(format!("it has fewer than its minimum of {}", load.least()));
    }
    match need(load) {
        Some(why) if load.granted >= load.most() => {
            keep(format!("{why}, but it has its maximum of {}", load.most()))
        }
        Some(why) if load.since_change_ms < load.policy.grow_hold_ms => keep(format!(
            "{why}, but it changed {} ms ago",
            load.since_change_ms
        )),
        Some(why) => grow(why),
        None => shrink_if_idle(load),
    }
}

/// Why it needs one more thread, if it does.
fn need(load: &Load) -> Option<String> {
    let policy = &load.policy;
    // A queue that is mostly gone is no reason any more.
    if load.queue_short > policy.grow_queue && load.queue_short >= load.queue_long / 2.0 {
        return Some(format!(
            "{:.1} frames wait, more than {:.1}",
            load.queue_short, policy.grow_queue
        ));
    }
    if load.loop_us > policy.target_loop_us && load.busy > policy.shrink_busy {
        return Some(format!(
            "a cycle takes {:.0} us, more than {:.0}",
            load.loop_us, policy.target_loop_us
        ));
    }
    None
}

fn shrink_if_idle(load: &Load) -> Verdict {
    let policy = &load.policy;
    if load.granted > load.most() {
        return shrink(format!("it has more than its maximum of {}", load.most()));
    }
    if load.granted <= load.least() {
        return keep(format!("it has its minimum of {}", load.least()));
    }
    if load.queue_long >= policy.shrink_queue {
        return keep(format!(
            "{:.1} frames have waited, not fewer than {:.1}",
            load.queue_long, policy.shrink_queue
        ));
    }
    // What was delayed in the middle of work is counted twice: rather too busy than too idle.
    let wanted = (load.busy + load.delayed).min(1.0);
    let remaining = f64::from(load.granted - 1);
    let busy_then = wanted * f64::from(load.granted) / remaining;
    if busy_then >= policy.shrink_busy {
        let mut reason = format!(
            "with one less, the others would be busy for {:.0} %",
            busy_then * 100.0
        );
        if load.delayed >= DELAYED_SAID {
            let percent = load.delayed * 100.0;
            reason += &format!(" if the host did not let them wait for {percent:.0} %");
        }
        return keep(reason);
    }
    if load.since_change_ms < policy.shrink_hold_ms {
        return keep(format!(
            "it could shrink, but it changed {} ms ago",
            load.since_change_ms
        ));
    }
    shrink(format!(
        "with one less, the others would be busy for {:.0} % only",
        busy_then * 100.0
    ))
}

/// The fair dataplane that is farthest above its share and may give one thread to `receiver`, which
/// must be below its own.
fn donor(loads: &[Load], verdicts: &[Verdict], receiver: usize, free: usize) -> Option<usize> {
    let surplus = |place: usize| f64::from(loads[place].granted) - share(loads, place, free);
    if surplus(receiver) > -1.0 {
        return None;
    }
    (0..loads.len())
        .filter(|place| loads[*place].policy.mode == Mode::Fair)
        .filter(|place| loads[*place].granted > loads[*place].least())
        .filter(|place| verdicts[*place].action != Action::Shrink)
        .filter(|place| surplus(*place) > 0.0)
        .max_by(|a, b| surplus(*a).total_cmp(&surplus(*b)))
}

/// The hardware threads that a fair dataplane is entitled to: its weight's part of what fair
/// dataplanes hold and what is free, between its bounds.
fn share(loads: &[Load], place: usize, free: usize) -> f64 {
    let fair = || loads.iter().filter(|load| load.policy.mode == Mode::Fair);
    let pool = fair().map(|load| load.granted).sum::<u32>() as f64 + free as f64;
    let weights = fair()
        .map(|load| f64::from(load.policy.weight))
        .sum::<f64>();
    let own = &loads[place];
    let part = if weights > 0.0 {
        pool * f64::from(own.policy.weight) / weights
    } else {
        pool
    };
    part.clamp(
        f64::from(own.least()),
        f64::from(own.most().max(own.least())),
    )
}

fn keep(reason: impl Into<String>) -> Verdict {
    Verdict {
        action: Action::Keep,
        reason: reason.into(),
    }
}

fn grow(reason: String) -> Verdict {
    Verdict {
        action: Action::Grow,
        reason,
    }
}

fn shrink(reason: String) -> Verdict {
    Verdict {
        action: Action::Shrink,
        reason,
    }
}

#[cfg(test)]
mod tests;
