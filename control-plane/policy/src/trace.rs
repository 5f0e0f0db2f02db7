//! What a policy saw over time, as a file that can be replayed: the policy in a line of JSON, names of
//! columns, and a line for each look at the load.

use ix_api::Policy;
use serde::{Deserialize, Serialize};

use crate::decide::Load;

/// The columns.
const COLUMNS: &str =
    "at_ms,free,granted,queue_short,queue_long,loop_us,busy,delayed,since_change_ms";

/// One look.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// Hardware threads that nobody held.
    pub free: usize,
    /// The load.
    pub load: Load,
}

/// Why a file is no trace.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The first line is no policy.
    #[error("the first line is not the policy: {0}")]
    Policy(#[from] serde_json::Error),
    /// The second line names other columns.
    #[error("the second line has to be {COLUMNS}")]
    Columns,
    /// A line has something else than numbers, or too few or too many.
    #[error("line {line} is not one number for each column")]
    Numbers {
        /// Which line, from 1.
        line: usize,
    },
}

/// What stays the same.
#[derive(Serialize, Deserialize)]
struct Header {
    name: String,
    threads: u32,
    policy: Policy,
}

/// The first lines of the file for a dataplane.
pub fn header(load: &Load) -> String {
    let header = serde_json::json!(Header {
        name: load.name.clone(),
        threads: load.threads,
        policy: load.policy.clone(),
    });
    format!("{header}\n{COLUMNS}\n")
}

/// The line of one look.
pub fn line(at_ms: u64, free: usize, load: &Load) -> String {
    format!(
        "{at_ms},{free},{},{:.2},{:.2},{:.1},{:.3},{:.3},{}\n",
        load.granted,
        load.queue_short,
        load.queue_long,
        load.loop_us,
        load.busy,
        load.delayed,
        load.since_change_ms
    )
}

/// Reads a file.
pub fn parse(text: &str) -> Result<Vec<Sample>, TraceError> {
    let mut lines = text.lines();
    let header: Header = serde_json::from_str(lines.next().unwrap_or_default())?;
    if lines.next() != Some(COLUMNS) {
        return Err(TraceError::Columns);
    }
    let samples = (3..)
        .zip(lines)
        .map(|(number, line)| sample(&header, line).ok_or(TraceError::Numbers { line: number }));
    samples.collect()
}

fn sample(header: &Header, line: &str) -> Option<Sample> {
    let mut cells = line.split(',');
    let mut cell = || cells.next();
    let sample = Sample {
        at_ms: cell()?.parse().ok()?,
        free: cell()?.parse().ok()?,
        load: Load {
            name: header.name.clone(),
            policy: header.policy.clone(),
            threads: header.threads,
            granted: cell()?.parse().ok()?,
            queue_short: cell()?.parse().ok()?,
            queue_long: cell()?.parse().ok()?,
            loop_us: cell()?.parse().ok()?,
            busy: cell()?.parse().ok()?,
            delayed: cell()?.parse().ok()?,
            since_change_ms: cell()?.parse().ok()?,
        },
    };
    cell().is_none().then_some(sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_trace_is_refused_with_the_line() {
        let policy = "{\"name\":\"a\",\"threads\":4,\"policy\":{}}";
        for (text, part) in [
            (String::new(), "first line"),
            (format!("{policy}\nat_ms\n"), "second line"),
            (format!("{policy}\n{COLUMNS}\n1,2,3\n"), "line 3"),
            (
                format!("{policy}\n{COLUMNS}\n1,2,3,4,5,6,7,8,9,10\n"),
                "line 3",
            ),
            (
                format!("{policy}\n{COLUMNS}\n1,2,3,x,5,6,7,8,9\n"),
                "line 3",
            ),
        ] {
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        let good = parse(&format!("{policy}\n{COLUMNS}\n1,2,3,4,5,6,0.7,0.8,9\n")).unwrap();
        assert_eq!((good[0].load.busy, good[0].load.since_change_ms), (0.7, 9));
    }
}
