//! What has happened, for whoever asks later and for whoever listens, and what policies decided.

use std::collections::VecDeque;

use ix_api::{Action, Decision, Event, EventKind};
use tokio::sync::broadcast;

use crate::now_ms;

/// Events that are kept.
const EVENTS: usize = 1000;
/// Events that a listener may be behind before it misses some.
const BACKLOG: usize = 256;
/// Decisions that are kept of each dataplane.
const DECISIONS: usize = 100;

/// The events of all dataplanes.
#[derive(Debug)]
pub struct Journal {
    ids: Ids,
    events: VecDeque<Event>,
    last: u64,
    listeners: broadcast::Sender<Event>,
}

/// Names of events among those of all daemons: when this one began, and the event's number.
#[derive(Debug, Clone, Copy)]
pub struct Ids(u64);

impl Ids {
    /// The name of an event.
    pub fn id(self, number: u64) -> String {
        format!("{}-{number}", self.0)
    }

    /// The number of the event of that name; 0, the one before the first, if another daemon gave it.
    pub fn number(self, id: &str) -> u64 {
        let parts = id.split_once('-');
        let own = parts.filter(|(began, _)| *began == self.0.to_string());
        own.and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
    }
}

impl Default for Journal {
    fn default() -> Self {
        Journal {
            ids: Ids(now_ms()),
            events: VecDeque::new(),
            last: 0,
            listeners: broadcast::channel(BACKLOG).0,
        }
    }
}

impl Journal {
    /// Something has happened.
    pub fn record(&mut self, kind: EventKind, dataplane: &str, text: impl Into<String>) {
        self.last += 1;
        let event = Event {
            number: self.last,
            at_ms: now_ms(),
            kind,
            dataplane: dataplane.to_owned(),
            text: text.into(),
        };
        log::info!("{}: {}", event.dataplane, event.text);
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event.clone());
        // An error means that nobody listens.
        let _ = self.listeners.send(event);
    }

    /// The names of its events.
    pub fn ids(&self) -> Ids {
        self.ids
    }

    /// What has happened since event number `after`, as far as it is kept.
    pub fn since(&self, after: u64) -> Vec<Event> {
        let events = self.events.iter();
        events
            .filter(|event| event.number > after)
            .cloned()
            .collect()
    }

    /// What has happened, and a way to hear of what will happen, with nothing lost in between.
    pub fn listen(&self, after: u64) -> (Vec<Event>, broadcast::Receiver<Event>) {
        (self.since(after), self.listeners.subscribe())
    }
}

/// Why the policy of one dataplane decided as it did: all changes, and what it decided last.
#[derive(Debug, Default)]
pub struct Reasons(VecDeque<Decision>);

impl Reasons {
    /// The policy has decided. A decision to leave things as they are replaces the one before.
    pub fn record(&mut self, decision: Decision) {
        let is_same =
            |last: &Decision| last.action == Action::Keep && decision.action == last.action;
        if self.0.back().is_some_and(is_same) {
            self.0.pop_back();
        }
        if self.0.len() == DECISIONS {
            self.0.pop_front();
        }
        self.0.push_back(decision);
    }

    /// All of them, the latest one last.
    pub fn all(&self) -> Vec<Decision> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_hears_everything_once() {
        let mut journal = Journal::default();
        journal.record(EventKind::Started, "a", "one");
        journal.record(EventKind::Running, "a", "two");
        let (past, mut future) = journal.listen(1);
        assert_eq!(past.len(), 1);
        assert_eq!(past[0].text, "two");
        journal.record(EventKind::Ended, "a", "three");
        assert_eq!(future.try_recv().unwrap().number, 3);
        assert!(future.try_recv().is_err());
    }

    #[test]
    fn an_event_of_another_daemon_says_nothing_about_these() {
        let (own, other) = (Ids(5), Ids(4));
        assert_eq!(own.number(&own.id(7)), 7);
        for id in [other.id(7), "7".to_owned(), "5-x".to_owned()] {
            assert_eq!(own.number(&id), 0, "{id}");
        }
    }

    #[test]
    fn the_oldest_events_go() {
        let mut journal = Journal::default();
        for _ in 0..EVENTS + 5 {
            journal.record(EventKind::Granted, "a", "x");
        }
        let kept = journal.since(0);
        assert_eq!((kept.len(), kept[0].number), (EVENTS, 6));
    }

    #[test]
    fn only_the_last_of_several_decisions_to_do_nothing_is_kept() {
        let mut reasons = Reasons::default();
        let decision = |action, reason: &str| Decision {
            at_ms: 0,
            dataplane: "a".to_owned(),
            action,
            granted: 1,
            reason: reason.to_owned(),
        };
        for (action, reason) in [
            (Action::Keep, "a"),
            (Action::Keep, "b"),
            (Action::Grow, "c"),
            (Action::Grow, "d"),
            (Action::Keep, "e"),
            (Action::Keep, "f"),
        ] {
            reasons.record(decision(action, reason));
        }
        let kept: Vec<String> = reasons.all().into_iter().map(|it| it.reason).collect();
        assert_eq!(kept, ["b", "c", "d", "f"]);
    }
}
