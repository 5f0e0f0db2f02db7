//! Latencies in the format that HdrHistogram's tools read.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use super::Outcome;
use crate::error::LoadError;

/// Writes an interval log: one interval, a tag for each histogram, values in nanoseconds.
pub(crate) fn write(outcome: &Outcome, path: &Path) -> Result<(), LoadError> {
    write_log(outcome, path).map_err(|source| LoadError::Output {
        path: path.to_owned(),
        source,
    })
}

fn write_log(outcome: &Outcome, path: &Path) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut serializer = V2DeflateSerializer::new();
    let duration = Duration::from_secs_f64(outcome.load.seconds);
    let mut histograms = vec![
        ("load", &outcome.load.latency),
        ("connect", &outcome.load.connect),
        ("lateness", &outcome.load.lateness),
    ];
    histograms.extend(
        outcome
            .agent
            .as_ref()
            .map(|agent| ("agent", &agent.latency)),
    );
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("ixload: nanoseconds")
        .with_start_time(SystemTime::now())
        .with_max_value_divisor(1e9)
        .begin_log_with(&mut file, &mut serializer)?;
    for (name, histogram) in histograms {
        let tag = Tag::new(name).expect("names have no separators");
        log.write_histogram(histogram, Duration::ZERO, duration, Some(tag))
            .map_err(io::Error::other)?;
    }
    file.flush()
}
