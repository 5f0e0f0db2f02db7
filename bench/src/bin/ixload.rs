//! See `ixload --help`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use ix_load::Verdict;
use ix_load::options::Options;

/// Exit code of a run whose latencies are withheld.
const WITHHELD: u8 = 3;

fn main() -> ExitCode {
    // Bad usage ends here, with exit code 2.
    let options = Options::parse();
    match ix_load::run(&options) {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Withheld) => ExitCode::from(WITHHELD),
        Err(error) => {
            eprintln!("ixload: {error}");
            ExitCode::FAILURE
        }
    }
}
