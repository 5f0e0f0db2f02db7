//! Echo requests against the fake kernel, to count what a request costs in user mode:
//!
//! ```sh
//! cargo build --release -p libix --example echo_instructions
//! valgrind --tool=callgrind --toggle-collect='*run_io*' --collect-atstart=yes \
//!     target/release/examples/echo_instructions 64 2000
//! ```
//!
//! `--toggle-collect` stops counting inside the kernel. Subtract a run with half the rounds, and
//! divide by the requests that the other half made.

use std::process::ExitCode;

use libix::fake::FakeKernel;
use libix::{Connection, Context, Knock, Received, Runtime, Service};

struct Echo;

impl Service for Echo {
    type State = ();

    fn on_start(&mut self, cx: &mut Context<()>) {
        cx.listen(7);
    }

    fn on_knock(&mut self, _: &mut Context<()>, _: &Knock) -> Option<()> {
        Some(())
    }

    fn on_data(&mut self, connection: &mut Connection<'_, ()>, data: Received) {
        if connection.send(data).is_err() {
            connection.abort();
        }
    }
}

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let (Some(Ok(connections)), Some(Ok(rounds))) = (numbers.next(), numbers.next()) else {
        eprintln!("usage: echo_instructions CONNECTIONS ROUNDS");
        return ExitCode::from(2);
    };
    let mut kernel = FakeKernel::new();
    kernel.requests_per_round = Some(vec![0x5a; 64]);
    let mut runtime = Runtime::new(Echo, kernel);
    runtime.round();
    for _ in 0..connections {
        runtime.kernel().knock(7);
    }
    for _ in 0..rounds {
        runtime.round();
    }
    let echoed = runtime.kernel().bytes_acknowledged() / 64;
    println!(
        "{echoed} requests of 64 bytes echoed, {:?}",
        runtime.context().statistics()
    );
    ExitCode::SUCCESS
}
