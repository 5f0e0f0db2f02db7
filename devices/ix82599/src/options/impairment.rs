//! The flags that say what the wire does to frames.

use clap::Args;
use ix_impairment::{Affected, Impairment, probability};

/// What the wire does to frames, from the start; a request can change it later.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "The wire")]
pub(crate) struct ImpairmentOptions {
    /// Frames that the wire harms.
    #[arg(long, value_enum, default_value_t = Affected::Both)]
    impair: Affected,

    /// Probability that it loses a frame, like 0.01 or 1%.
    #[arg(long, value_name = "P", default_value = "0", value_parser = probability)]
    loss: f64,

    /// Probability that it begins to lose frames in a burst.
    #[arg(long, value_name = "P", default_value = "0", value_parser = probability)]
    burst_enter: f64,

    /// Probability that a burst ends with a frame.
    #[arg(long, value_name = "P", default_value = "0", value_parser = probability)]
    burst_leave: f64,

    /// Probability that it loses a frame within a burst.
    #[arg(long, value_name = "P", default_value = "1", value_parser = probability)]
    burst_loss: f64,

    /// Probability that it swaps a frame with the next.
    #[arg(long, value_name = "P", default_value = "0", value_parser = probability)]
    reorder: f64,

    /// Probability that it delivers a frame twice.
    #[arg(long, value_name = "P", default_value = "0", value_parser = probability)]
    duplicate: f64,

    /// Probability that a bit of a frame is wrong.
    #[arg(long, value_name = "P", default_value = "0", value_parser = probability)]
    corrupt: f64,

    /// How long a frame takes, in microseconds.
    #[arg(long, value_name = "US", default_value_t = 0)]
    delay_us: u64,

    /// How much longer a frame may take, in microseconds; frames keep their order.
    #[arg(long, value_name = "US", default_value_t = 0)]
    jitter_us: u64,

    /// Megabits a second that it carries in each direction; 0 for no bound.
    #[arg(long, value_name = "MBIT", default_value_t = 0.0)]
    rate_mbit: f64,

    /// Seed of what it does at random.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

impl ImpairmentOptions {
    /// The numbers, unless they make no sense together.
    pub(crate) fn impairment(&self) -> Result<Impairment, String> {
        let impairment = Impairment {
            direction: self.impair,
            loss: self.loss,
            burst_enter: self.burst_enter,
            burst_leave: self.burst_leave,
            burst_loss: self.burst_loss,
            reorder: self.reorder,
            duplicate: self.duplicate,
            corrupt: self.corrupt,
            delay_us: self.delay_us,
            jitter_us: self.jitter_us,
            rate_mbit: self.rate_mbit,
            seed: self.seed,
        };
        impairment.check()?;
        Ok(impairment)
    }
}
