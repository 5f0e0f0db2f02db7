//! When to say that an application stays in user mode for longer than it may: soon, and not all the
//! time, since one that does it in every round does it many times a second.

/// Time between two events about the same dataplane.
const QUIET_MS: u64 = 10_000;

/// What was said about one dataplane.
#[derive(Debug, Default)]
pub struct Overstays {
    said: u64,
    said_ms: u64,
}

impl Overstays {
    /// What there is to say now, if anything: `threads` are the overstays of each thread so far, and
    /// whether one goes on.
    pub fn news(&mut self, threads: &[(u64, bool)], now_ms: u64) -> Option<String> {
        let total: u64 = threads.iter().map(|(overstays, _)| overstays).sum();
        let new = total.saturating_sub(self.said);
        if new == 0 || now_ms.saturating_sub(self.said_ms) < QUIET_MS {
            return None;
        }
        (self.said, self.said_ms) = (total, now_ms);
        let away: Vec<String> = threads
            .iter()
            .enumerate()
            .filter(|(_, (_, is_absent))| *is_absent)
            .map(|(thread, _)| thread.to_string())
            .collect();
        let away = match away.as_slice() {
            [] => "it has come back since".to_owned(),
            away => format!("it still does on thread {}", away.join(", ")),
        };
        Some(format!(
            "the application did not return from user mode within its limit, {new} times more; {away}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_and_then_not_for_a_while() {
        let mut overstays = Overstays::default();
        let idle = [(0, false); 3];
        assert_eq!(overstays.news(&idle, 50_000), None);
        let away = [(0, false), (2, true), (0, false)];
        let text = overstays.news(&away, 50_000).unwrap();
        assert!(
            text.contains("2 times") && text.ends_with("thread 1"),
            "{text}"
        );
        let back = [(0, false), (2, false), (40, false)];
        assert_eq!(overstays.news(&back, 50_000 + QUIET_MS - 1), None);
        let text = overstays.news(&back, 50_000 + QUIET_MS).unwrap();
        assert!(
            text.contains("40 times") && text.ends_with("since"),
            "{text}"
        );
        assert_eq!(overstays.news(&back, 90_000), None);
    }
}
