//! `ixctl impair`: what the wire of a dataplane does to frames.

use anyhow::Result;
use clap::Args;
use ix_api::{Affected, Impairment, Wire};
use ix_impairment::probability;

use crate::client::{Client, escaped};
use crate::command::show;

/// What the wire is to do; what is not given is good. Probabilities are like 0.01 or 1%.
#[derive(Debug, Clone, Args)]
pub struct Changes {
    /// Let frames pass unharmed from now on.
    #[arg(long)]
    off: bool,
    #[command(flatten)]
    harm: Harm,
}

/// Numbers of an impairment.
#[derive(Debug, Clone, Args)]
#[group(id = "harm", multiple = true, conflicts_with = "off")]
struct Harm {
    /// Only frames to the dataplane, or from it.
    #[arg(long, value_enum)]
    direction: Option<Affected>,
    /// Probability that a frame is lost.
    #[arg(long, value_name = "P", value_parser = probability)]
    loss: Option<f64>,
    /// Probability that a burst of losses begins with a frame.
    #[arg(long, value_name = "P", value_parser = probability, requires = "burst_leave")]
    burst_enter: Option<f64>,
    /// Probability that a burst ends with a frame.
    #[arg(long, value_name = "P", value_parser = probability, requires = "burst_enter")]
    burst_leave: Option<f64>,
    /// Probability that a frame within a burst is lost; 1 unless given.
    #[arg(long, value_name = "P", value_parser = probability, requires = "burst_enter")]
    burst_loss: Option<f64>,
    /// Probability that a frame is put behind the next one.
    #[arg(long, value_name = "P", value_parser = probability)]
    reorder: Option<f64>,
    /// Probability that a frame arrives twice.
    #[arg(long, value_name = "P", value_parser = probability)]
    duplicate: Option<f64>,
    /// Probability that a bit of a frame is wrong.
    #[arg(long, value_name = "P", value_parser = probability)]
    corrupt: Option<f64>,
    /// How long a frame takes, in microseconds.
    #[arg(long, value_name = "US")]
    delay_us: Option<u64>,
    /// How much longer a frame may take, in microseconds; frames keep their order.
    #[arg(long, value_name = "US")]
    jitter_us: Option<u64>,
    /// Megabits a second in each direction.
    #[arg(long, value_name = "MBIT")]
    rate_mbit: Option<f64>,
    /// Seed of what happens at random; 1 unless given.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

impl Changes {
    /// What the wire is to become; `None` if nothing is said.
    fn impairment(&self) -> Option<Impairment> {
        let harm = &self.harm;
        let good = Impairment::default();
        let numbers = [
            harm.loss,
            harm.burst_enter,
            harm.reorder,
            harm.duplicate,
            harm.corrupt,
            harm.rate_mbit,
        ];
        let is_said = self.off
            || numbers.iter().any(Option::is_some)
            || harm.delay_us.or(harm.jitter_us).or(harm.seed).is_some()
            || harm.direction.is_some();
        is_said.then(|| Impairment {
            direction: harm.direction.unwrap_or_default(),
            loss: harm.loss.unwrap_or(good.loss),
            burst_enter: harm.burst_enter.unwrap_or(good.burst_enter),
            burst_leave: harm.burst_leave.unwrap_or(good.burst_leave),
            burst_loss: harm.burst_loss.unwrap_or(good.burst_loss),
            reorder: harm.reorder.unwrap_or(good.reorder),
            duplicate: harm.duplicate.unwrap_or(good.duplicate),
            corrupt: harm.corrupt.unwrap_or(good.corrupt),
            delay_us: harm.delay_us.unwrap_or(good.delay_us),
            jitter_us: harm.jitter_us.unwrap_or(good.jitter_us),
            rate_mbit: harm.rate_mbit.unwrap_or(good.rate_mbit),
            seed: harm.seed.unwrap_or(good.seed),
        })
    }
}

/// Changes the wire, if something is said, and shows it.
pub async fn run(client: &Client, name: &str, changes: &Changes, as_json: bool) -> Result<()> {
    let path = format!("/v1/dataplanes/{}/wire", escaped(name));
    let wire: Wire = match changes.impairment() {
        Some(impairment) => client.put(&path, &impairment).await?,
        None => client.get(&path).await?,
    };
    if as_json {
        return show::json(&wire);
    }
    print!("{}", described(&wire));
    Ok(())
}

/// A line of what it does, and one of what it has done.
fn described(wire: &Wire) -> String {
    let it = &wire.impairment;
    let percent = |name: &str, probability: f64| {
        (probability > 0.0).then(|| format!("{name} {}%", rounded(100.0 * probability)))
    };
    let burst = (it.burst_enter > 0.0).then(|| {
        let [enter, leave, loss] =
            [it.burst_enter, it.burst_leave, it.burst_loss].map(|it| rounded(100.0 * it));
        format!("bursts (enter {enter}%, leave {leave}%, lose {loss}%)")
    });
    let time = |name: &str, us: u64| (us > 0).then(|| format!("{name} {us} us"));
    let harm: Vec<String> = [
        percent("loss", it.loss),
        burst,
        percent("reorder", it.reorder),
        percent("duplicate", it.duplicate),
        percent("corrupt", it.corrupt),
        time("delay", it.delay_us),
        time("jitter", it.jitter_us),
        (it.rate_mbit > 0.0).then(|| format!("rate {} Mbit/s", it.rate_mbit)),
    ]
    .into_iter()
    .flatten()
    .collect();
    let to_whom = match it.direction {
        Affected::Both => "frames of both directions",
        Affected::In => "frames to it",
        Affected::Out => "frames from it",
    };
    let now = if harm.is_empty() {
        "frames pass unharmed".to_owned()
    } else {
        format!("{to_whom}: {}; seed {}", harm.join(", "), it.seed)
    };
    let counts = &wire.counts;
    format!(
        "{now}\nof {} frames so far: {} lost, {} lost in bursts, {} reordered, {} duplicated, \
         {} corrupted, {} too many\n",
        counts.frames,
        counts.lost,
        counts.lost_in_bursts,
        counts.reordered,
        counts.duplicated,
        counts.corrupted,
        counts.overflowed
    )
}

/// Without the noise of binary fractions.
fn rounded(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        changes: Changes,
    }

    fn parse(words: &[&str]) -> Result<Changes, clap::Error> {
        let words = ["impair"].iter().chain(words);
        Line::try_parse_from(words).map(|line| line.changes)
    }

    #[test]
    fn nothing_said_changes_nothing_and_off_heals() {
        assert_eq!(parse(&[]).unwrap().impairment(), None);
        let off = parse(&["--off"]).unwrap().impairment();
        assert_eq!(off, Some(Impairment::default()));
    }

    #[test]
    fn what_is_said_is_sent() {
        let words = ["--loss", "1%", "--delay-us", "200", "--direction", "in"];
        let impairment = parse(&words).unwrap().impairment().unwrap();
        let expected = Impairment {
            direction: Affected::In,
            loss: 0.01,
            delay_us: 200,
            ..Impairment::default()
        };
        assert_eq!(impairment, expected);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for words in [
            &["--loss", "2"][..],
            &["--off", "--loss", "0.1"],
            &["--burst-enter", "1%"],
            &["--burst-loss", "1%"],
            &["--delay-us", "-1"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn a_wire_is_described_in_two_lines() {
        let mut wire = Wire::default();
        assert!(described(&wire).starts_with("frames pass unharmed\nof 0 frames so far: 0 lost"));
        wire.impairment = Impairment {
            loss: 0.011,
            burst_enter: 0.01,
            burst_leave: 0.25,
            rate_mbit: 100.0,
            ..Impairment::default()
        };
        wire.counts.lost = 3;
        let text = described(&wire);
        let expected = "frames of both directions: loss 1.1%, bursts (enter 1%, leave 25%, lose 100%), \
                        rate 100 Mbit/s; seed 1\nof 0 frames so far: 3 lost, ";
        assert!(text.starts_with(expected), "{text}");
    }
}
