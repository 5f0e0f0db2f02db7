//! `ixctl top`: all dataplanes at a glance, twice a second, with the traffic of the last minute.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::Result;
use ix_api::{Dataplane, Stats};
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Sparkline};

use crate::client::{Client, escaped};
use crate::table::short;

/// Time between two looks.
const PERIOD: Duration = Duration::from_millis(500);
/// Points of a sparkline that are kept: the width of a wide terminal.
const POINTS: usize = 240;
/// Fewest and most lines of a dataplane on the screen: frame, numbers, graph.
const HEIGHT: std::ops::RangeInclusive<u16> = 5..=11;

/// Shows it until `q`, Escape or Ctrl-C.
pub async fn run(client: &Client) -> Result<()> {
    let mut board = Board::default();
    // Before the screen is taken, so that a refusal can be read.
    board.look(client).await?;
    let mut terminal = ratatui::try_init()?;
    let result = async {
        loop {
            terminal.draw(|frame| board.draw(frame))?;
            if is_end(PERIOD)? {
                return Ok(());
            }
            board.look(client).await?;
        }
    }
    .await;
    ratatui::restore();
    result
}

/// Whether the user wants to leave, waiting for that at most `patience`.
fn is_end(patience: Duration) -> Result<bool> {
    if !event::poll(patience)? {
        return Ok(false);
    }
    let Event::Key(key) = event::read()? else {
        return Ok(false);
    };
    let is_interrupt = key.modifiers == KeyModifiers::CONTROL && key.code == KeyCode::Char('c');
    Ok(is_interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

/// What is known of all dataplanes.
#[derive(Default)]
struct Board {
    dataplanes: Vec<Dataplane>,
    histories: BTreeMap<String, History>,
}

/// What a dataplane did since the first look.
#[derive(Default)]
struct History {
    last: Option<(Instant, Stats)>,
    /// Frames per second, in both directions.
    frames: VecDeque<u64>,
    /// Part of the time in which its serving threads had something to do.
    busy: f64,
}

impl Board {
    async fn look(&mut self, client: &Client) -> Result<()> {
        self.dataplanes = client.get("/v1/dataplanes").await?;
        for dataplane in &self.dataplanes {
            let path = format!("/v1/dataplanes/{}/stats", escaped(&dataplane.name));
            let stats: Stats = client.get(&path).await?;
            if !self.histories.contains_key(&dataplane.name) {
                let path = format!("/v1/dataplanes/{}/history", escaped(&dataplane.name));
                let past: ix_api::History = client.get(&path).await?;
                let history = History::of(&past);
                self.histories.insert(dataplane.name.clone(), history);
            }
            let history = self.histories.entry(dataplane.name.clone()).or_default();
            history.add(Instant::now(), stats);
        }
        let names: Vec<&str> = self.dataplanes.iter().map(|it| it.name.as_str()).collect();
        self.histories
            .retain(|name, _| names.contains(&name.as_str()));
        Ok(())
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let room = usize::from(area.height.saturating_sub(1));
        let shown = self
            .dataplanes
            .len()
            .min(room / usize::from(*HEIGHT.start()));
        let each = room.checked_div(shown).unwrap_or(0);
        let each = (each as u16).clamp(*HEIGHT.start(), *HEIGHT.end());
        let lines = (0..shown).map(|_| Constraint::Length(each));
        let constraints: Vec<Constraint> = lines
            .chain([Constraint::Min(0), Constraint::Length(1)])
            .collect();
        let areas = Layout::vertical(constraints).split(area);
        for (dataplane, area) in self.dataplanes.iter().zip(areas.iter()).take(shown) {
            self.draw_dataplane(frame, *area, dataplane);
        }
        let help = match (self.dataplanes.len(), self.dataplanes.len() - shown) {
            (0, _) => "no dataplanes; `ixctl run` starts one.  q leaves".to_owned(),
            (_, 0) => "frames per second, in both directions.  q leaves".to_owned(),
            (_, hidden) => format!("{hidden} more do not fit: `ixctl ps` lists all.  q leaves"),
        };
        let help = Paragraph::new(help).style(Style::new().add_modifier(Modifier::DIM));
        if let Some(last) = areas.last() {
            frame.render_widget(help, *last);
        }
    }

    fn draw_dataplane(&self, frame: &mut Frame<'_>, area: Rect, dataplane: &Dataplane) {
        let history = &self.histories[&dataplane.name];
        let block = Block::bordered().title(Line::from(format!(" {} ", title(dataplane))));
        let inner = block.inner(area);
        frame.render_widget(block, area);
        let [numbers, graph] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(inner);
        frame.render_widget(Paragraph::new(history.numbers()), numbers);
        let points = usize::from(graph.width);
        let skipped = history.frames.len().saturating_sub(points);
        let data: Vec<u64> = history.frames.iter().skip(skipped).copied().collect();
        let graph_style = Style::new().fg(Color::Green);
        frame.render_widget(Sparkline::default().data(data).style(graph_style), graph);
    }
}

impl History {
    /// What the daemon remembers, at the pace of this program.
    fn of(past: &ix_api::History) -> History {
        let looks = (past.period_ms / PERIOD.as_millis() as u64).max(1) as usize;
        let rates = past.samples.iter().flat_map(|sample| {
            let rate = (sample.rx_frames + sample.tx_frames).round() as u64;
            std::iter::repeat_n(rate, looks)
        });
        let mut frames: VecDeque<u64> = rates.collect();
        frames.drain(..frames.len().saturating_sub(POINTS));
        History {
            frames,
            ..History::default()
        }
    }

    fn add(&mut self, now: Instant, stats: Stats) {
        if let Some((then, before)) = &self.last {
            let seconds = now.duration_since(*then).as_secs_f64().max(0.001);
            let frames = frames(&stats).saturating_sub(frames(before)) as f64 / seconds;
            if self.frames.len() == POINTS {
                self.frames.pop_front();
            }
            self.frames.push_back(frames.round() as u64);
            self.busy = stats.busy_since(before);
        }
        self.last = Some((now, stats));
    }

    fn numbers(&self) -> String {
        let Some((_, stats)) = &self.last else {
            return String::new();
        };
        let threads = || stats.threads.iter();
        let connections: u64 = threads().map(|it| it.connections).sum();
        let waiting: f64 = threads().map(|it| it.queue_depth[2]).sum();
        let retransmits: u64 = threads().map(|it| it.retransmits).sum();
        let rate = self.frames.back().copied().unwrap_or(0) as f64;
        let peak = self.frames.iter().max().copied().unwrap_or(0) as f64;
        format!(
            "{} frames/s (peak {})   {connections} connections   busy {:.0} %   {} waiting   \
             {retransmits} retransmits",
            short(rate),
            short(peak),
            self.busy * 100.0,
            short(waiting),
        )
    }
}

fn title(dataplane: &Dataplane) -> String {
    let cores: Vec<String> = dataplane
        .cores
        .iter()
        .flatten()
        .map(u32::to_string)
        .collect();
    format!(
        "{}  {}  {}/{} threads on {}  {}",
        dataplane.name,
        format!("{:?}", dataplane.state).to_lowercase(),
        dataplane.granted(),
        dataplane.threads,
        cores.join(","),
        format!("{:?}", dataplane.policy).to_lowercase(),
    )
}

fn frames(stats: &Stats) -> u64 {
    stats
        .threads
        .iter()
        .map(|it| it.rx_frames + it.tx_frames)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ix_api::ThreadStats;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    fn stats(rx_frames: u64, now_ns: u64, idle_ns: u64) -> Stats {
        Stats {
            threads: vec![ThreadStats {
                state: "running".to_owned(),
                rx_frames,
                now_ns,
                idle_ns,
                connections: 3,
                ..ThreadStats::default()
            }],
        }
    }

    #[test]
    fn rates_come_from_two_looks() {
        let mut history = History::default();
        let start = Instant::now();
        history.add(start, stats(100, 1_000, 1_000));
        history.add(start + Duration::from_secs(2), stats(5_100, 5_000, 4_000));
        assert_eq!(history.frames, [2_500]);
        assert!((history.busy - 0.25).abs() < 1e-9, "{}", history.busy);
        history.add(start + Duration::from_secs(3), stats(5_100, 5_000, 4_000));
        assert_eq!((history.frames[1], history.busy), (0, 0.0));
    }

    #[test]
    fn the_screen_shows_each_dataplane() {
        let dataplane: Dataplane = serde_json::from_value(serde_json::json!({
            "name": "kv", "state": "running", "ended": null, "app": "echo", "ip": "10.9.0.2/24",
            "threads": 4, "cores": [1, null, 3, null], "policy": "elastic", "accel": null,
            "netns": null, "keeper_pid": null, "vm_pid": null, "started_ms": 0,
        }))
        .unwrap();
        let mut board = Board {
            dataplanes: vec![dataplane],
            ..Board::default()
        };
        let history = board.histories.entry("kv".to_owned()).or_default();
        let start = Instant::now();
        *history = History::of(&ix_api::History {
            period_ms: 1_000,
            capacity: 600,
            samples: vec![ix_api::Sample {
                rx_frames: 9_000.0,
                ..ix_api::Sample::default()
            }],
        });
        assert_eq!(history.frames, [9_000, 9_000]);
        history.add(start, stats(0, 0, 0));
        history.add(start + Duration::from_secs(1), stats(7_000, 1_000, 400));
        let mut terminal = Terminal::new(TestBackend::new(80, 8)).unwrap();
        terminal.draw(|frame| board.draw(frame)).unwrap();
        let screen = terminal.backend().to_string();
        assert!(!screen.contains("do not fit"), "{screen}");
        for part in [
            "kv  running  2/4 threads on 1,3  elastic",
            "7.0k frames/s (peak 9.0k)   3 connections   busy 60 %",
            "q leaves",
        ] {
            assert!(screen.contains(part), "{screen}");
        }
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let dataplane = |name: &str| -> Dataplane {
            serde_json::from_value(serde_json::json!({
                "name": name, "state": "starting", "ended": null, "app": "echo",
                "ip": "10.9.0.2/24", "threads": 1, "cores": [null], "policy": "manual",
                "accel": null, "netns": null, "keeper_pid": null, "vm_pid": null, "started_ms": 0,
            }))
            .unwrap()
        };
        let mut board = Board {
            dataplanes: ["a", "b", "c"].map(dataplane).to_vec(),
            ..Board::default()
        };
        for name in ["a", "b", "c"] {
            board.histories.insert(name.to_owned(), History::default());
        }
        let mut terminal = Terminal::new(TestBackend::new(80, 14)).unwrap();
        terminal.draw(|frame| board.draw(frame)).unwrap();
        let screen = terminal.backend().to_string();
        assert!(screen.contains("1 more do not fit"), "{screen}");
    }
}
