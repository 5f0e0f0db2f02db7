//! See `ixload --help`.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use ix_load::options::Options;

fn main() -> ExitCode {
    // Bad usage ends here, with exit code 2.
    let options = Options::parse();
    match ix_load::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ixload: {error}");
            ExitCode::FAILURE
        }
    }
}
