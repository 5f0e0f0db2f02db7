//! A connection that must be refused.

use std::io::ErrorKind;
use std::time::Instant;

use crate::connections::Connections;
use crate::error::LoadError;
use crate::options;
use crate::report::RefuseReport;

/// Carries out `ixload refuse`.
pub fn run(options: &options::Refuse) -> Result<RefuseReport, LoadError> {
    let start = Instant::now();
    match Connections::open(&options.target, 0, 1) {
        Ok(_) => Err(LoadError::NotRefused {
            target: options.target.connect,
        }),
        Err(LoadError::Connect { source, .. }) if source.kind() == ErrorKind::ConnectionRefused => {
            Ok(RefuseReport {
                server: options.target.connect,
                refused_after_us: start.elapsed().as_secs_f64() * 1e6,
            })
        }
        Err(error) => Err(error),
    }
}
