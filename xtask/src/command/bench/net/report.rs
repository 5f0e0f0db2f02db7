//! The measurements as a table and as JSON.

use serde_json::{Value, json};

use super::stacks::Player;
use super::{Plan, Work};

/// A measurement.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub player: Player,
    pub plan: Plan,
    /// How often the work was done.
    pub times: u32,
    /// Instructions each time.
    pub instructions: f64,
}

/// A plan in a few words.
pub fn describe(plan: &Plan) -> String {
    let work = match plan.work {
        Work::Exchange { batch } => format!("request-response, {batch} at a time"),
        Work::Silent { batch } => format!("request-response-silence, {batch} at a time"),
        Work::Churn => "set-up and teardown".to_owned(),
        Work::Nothing => "empty step".to_owned(),
    };
    let timestamps = if plan.has_timestamps {
        ", timestamps"
    } else {
        ""
    };
    format!("{work}, {} connections{timestamps}", plan.connections)
}

/// A line for each work and number of connections, a column for each stack.
pub fn table(rows: &[Row]) -> String {
    let mut lines = vec![format!(
        "{:<20} {:>11} {:>5} {:>12} {:>12} {:>12} {:>12}",
        "instructions", "connections", "batch", "engine (TS)", "engine", "smoltcp", "lwIP"
    )];
    let compared = rows
        .iter()
        .filter(|row| row.player == Player::Engine && !row.plan.has_timestamps);
    for row in compared {
        let (work, batch) = match row.plan.work {
            Work::Exchange { batch } => ("request-response", batch.to_string()),
            Work::Silent { batch } => ("with silence", batch.to_string()),
            Work::Churn => ("set-up and teardown", "1".to_owned()),
            Work::Nothing => ("empty step", "-".to_owned()),
        };
        let cell = |player, has_timestamps| {
            rows.iter()
                .find(|other| {
                    other.player == player
                        && other.plan.work == row.plan.work
                        && other.plan.connections == row.plan.connections
                        && other.plan.has_timestamps == has_timestamps
                })
                .map_or("-".to_owned(), |found| format!("{:.0}", found.instructions))
        };
        lines.push(format!(
            "{work:<20} {:>11} {batch:>5} {:>12} {:>12} {:>12} {:>12}",
            row.plan.connections,
            cell(Player::Engine, true),
            cell(Player::Engine, false),
            cell(Player::Smoltcp, false),
            cell(Player::Lwip, false),
        ));
    }
    lines.push("(TS): with timestamps, as Linux talks to it; -: not measured".to_owned());
    lines.join("\n")
}

/// All measurements.
pub fn json(rows: &[Row]) -> Value {
    let row = |row: &Row| {
        let (work, batch) = match row.plan.work {
            Work::Exchange { batch } => ("request-response", batch),
            Work::Silent { batch } => ("request-response with silence", batch),
            Work::Churn => ("set-up and teardown", 1),
            Work::Nothing => ("empty step", 0),
        };
        json!({
            "stack": row.player.name(),
            "work": work,
            "connections": row.plan.connections,
            "batch": batch,
            "timestamps": row.plan.has_timestamps,
            "times": row.times,
            "instructions": row.instructions,
        })
    };
    Value::Array(rows.iter().map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(player: Player, work: Work, has_timestamps: bool, instructions: f64) -> Row {
        Row {
            player,
            plan: Plan {
                work,
                connections: 1000,
                has_timestamps,
            },
            times: 10,
            instructions,
        }
    }

    #[test]
    fn table_has_a_column_for_each_stack() {
        let work = Work::Exchange { batch: 16 };
        let text = table(&[
            row(Player::Engine, work, true, 500.4),
            row(Player::Engine, work, false, 480.0),
            row(Player::Smoltcp, work, false, 9000.0),
        ]);
        let words: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            words,
            ["request-response", "1000", "16", "500", "480", "9000", "-"]
        );
    }

    #[test]
    fn json_names_stack_and_work() {
        let value = json(&[row(Player::Lwip, Work::Churn, false, 9564.5)]);
        assert_eq!(value[0]["stack"], "lwip");
        assert_eq!(value[0]["work"], "set-up and teardown");
        assert_eq!(value[0]["instructions"], 9564.5);
    }
}
