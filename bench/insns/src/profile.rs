//! Instructions per request by function and by line, with inlining undone.
//!
//! With link-time optimisation most of the packet path is inlined into a few functions, so symbols
//! alone say little. Each instruction counts for the innermost inlined function of our own (`self`),
//! not for the helper of the standard library inside it, and for every function around it (`with
//! inlined`). What is called, not inlined, stands on its own.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;

use crate::code::{Code, Frame};
use crate::sample::KERNEL_HALF;
use crate::work::Work;

/// Instructions per request of one function or line.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Function or line.
    pub name: String,
    /// Whether it runs in the kernel.
    pub kernel: bool,
    /// Instructions of its own.
    pub own: f64,
    /// With those of what was inlined into it.
    pub inclusive: f64,
}

/// Where the instructions of a request go.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Functions, the costliest first.
    pub functions: Vec<Row>,
    /// Source lines, the costliest first.
    pub lines: Vec<Row>,
    /// Kernel and user instructions per request.
    pub total: f64,
    /// Instructions of empty polls per request.
    pub idle: f64,
}

impl Profile {
    /// Attributes `work` to the functions in `code`.
    pub fn new(work: &Work, code: &Code) -> Self {
        Self::attribute(work, |address| code.frames(address))
    }

    fn attribute(work: &Work, frames: impl Fn(u64) -> Vec<Frame>) -> Self {
        let mut functions = Table::default();
        let mut lines = Table::default();
        for &(address, cost) in &work.by_address {
            let kernel = address >= KERNEL_HALF;
            let frames = frames(address);
            let own = frames
                .iter()
                .find(|frame| !frame.is_library)
                .or(frames.first());
            let own_function = own.map_or("(no image here)".to_owned(), function_name);
            let own_line = own.map_or(String::new(), line_name);
            lines.row(&own_line, kernel).own += cost;
            functions.row(&own_function, kernel).own += cost;
            let around = frames.iter().map(function_name);
            for function in around.chain([own_function]).collect::<BTreeSet<_>>() {
                functions.row(&function, kernel).inclusive += cost;
            }
        }
        Self {
            functions: functions.by_own_cost(),
            lines: lines.by_own_cost(),
            total: work.total(),
            idle: work.idle,
        }
    }

    /// The `limit` costliest functions and lines as text.
    pub fn render(&self, limit: usize) -> String {
        let mut text = String::new();
        let share = |cost: f64| 100.0 * cost / self.total;
        let mut line = |row: std::fmt::Arguments<'_>| {
            text.write_fmt(row)
                .and_then(|()| text.write_char('\n'))
                .expect("strings take any text");
        };
        line(format_args!("     self          inlined incl.  function"));
        for row in self
            .functions
            .iter()
            .filter(|row| row.own > 0.05)
            .take(limit)
        {
            let Row {
                name,
                own,
                inclusive,
                ..
            } = row;
            let mode = mode(row);
            line(format_args!(
                "{own:9.1} {:5.1}% {inclusive:9.1} {:5.1}%  {mode}  {name}",
                share(*own),
                share(*inclusive)
            ));
        }
        line(format_args!(
            "{:9.1}                        idle: empty polls, not counted above",
            self.idle
        ));
        line(format_args!("     self          line"));
        for row in self.lines.iter().take(limit) {
            line(format_args!(
                "{:9.1} {:5.1}%  {}  {}",
                row.own,
                share(row.own),
                mode(row),
                row.name
            ));
        }
        text
    }
}

fn mode(row: &Row) -> &'static str {
    if row.kernel { "kernel" } else { "user  " }
}

fn function_name(frame: &Frame) -> String {
    format!("{}: {}", frame.file, frame.function)
}

fn line_name(frame: &Frame) -> String {
    format!("{}:{} ({})", frame.file, frame.line, frame.function)
}

/// Rows by name; a function may exist in the kernel and in the application.
#[derive(Default)]
struct Table {
    rows: HashMap<(String, bool), Row>,
}

impl Table {
    fn row(&mut self, name: &str, kernel: bool) -> &mut Row {
        self.rows
            .entry((name.to_owned(), kernel))
            .or_insert_with(|| Row {
                name: name.to_owned(),
                kernel,
                own: 0.0,
                inclusive: 0.0,
            })
    }

    fn by_own_cost(self) -> Vec<Row> {
        let mut rows = self.rows.into_values().collect::<Vec<_>>();
        rows.sort_by(|a, b| b.own.total_cmp(&a.own).then_with(|| a.name.cmp(&b.name)));
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(function: &str, is_library: bool) -> Frame {
        Frame {
            function: function.to_owned(),
            file: "x.rs".to_owned(),
            line: 7,
            is_library,
        }
    }

    #[test]
    fn library_helpers_count_for_the_function_around_them() {
        let work = Work {
            by_address: vec![(0x10, 10.0), (0x20, 5.0), (KERNEL_HALF, 3.0)],
            idle: 0.7,
        };
        let profile = Profile::attribute(&work, |address| match address {
            0x10 => vec![
                frame("read", true),
                frame("parse", false),
                frame("main", false),
            ],
            0x20 => vec![frame("main", false)],
            _ => vec![frame("memcpy", true)],
        });
        let rows = profile
            .functions
            .iter()
            .map(|row| (row.name.as_str(), row.own, row.inclusive));
        assert_eq!(
            rows.collect::<Vec<_>>(),
            [
                ("x.rs: parse", 10.0, 10.0),
                ("x.rs: main", 5.0, 15.0),
                ("x.rs: memcpy", 3.0, 3.0),
                ("x.rs: read", 0.0, 10.0),
            ]
        );
        assert_eq!(profile.total, 18.0);
        assert_eq!(profile.lines[0].name, "x.rs:7 (parse)");
        let text = profile.render(2);
        assert!(text.contains("main") && !text.contains("memcpy"), "{text}");
        assert!(text.contains("0.7"), "idle: {text}");
    }
}
