//! Text for the kernel log. Every `print!` or `println!` is one line there.

use core::fmt::{self, Write};

use ix_abi::syscall::LOG_MAX;

/// Writes a line to the kernel log; the same as [`println!`](crate::println).
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::log_line(::core::format_args!($($argument)*)) };
}

/// Writes a line to the kernel log. What is longer than the kernel takes in one line
/// ([`ix_abi::syscall::LOG_MAX`]) is cut. Formatting costs thousands of instructions: not for the
/// path of a request.
#[macro_export]
macro_rules! println {
    () => { $crate::log_line(::core::format_args!("")) };
    ($($argument:tt)*) => { $crate::log_line(::core::format_args!($($argument)*)) };
}

/// Formats a line and writes it to the kernel log; in a host process, to standard output.
pub fn log_line(arguments: fmt::Arguments<'_>) {
    let mut line = Line::new();
    // Writing to a `Line` cuts instead of failing; what is left is an error of a `Display`.
    if line.write_fmt(arguments).is_err() {
        line.write_str("(formatting failed)").ok();
    }
    #[cfg(bare)]
    crate::bare::log(line.as_str());
    #[cfg(not(bare))]
    std::println!("{}", line.as_str());
}

/// A line in the making, on the stack: a panic for want of memory must be printable too.
pub(crate) struct Line {
    bytes: [u8; LOG_MAX as usize],
    used: usize,
}

impl Line {
    pub fn new() -> Self {
        Self {
            bytes: [0; LOG_MAX as usize],
            used: 0,
        }
    }

    pub fn as_str(&self) -> &str {
        let text = str::from_utf8(&self.bytes[..self.used]).unwrap_or("");
        text.strip_suffix('\n').unwrap_or(text)
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - self.used;
        let text = &text[..text.floor_char_boundary(room)];
        self.bytes[self.used..][..text.len()].copy_from_slice(text.as_bytes());
        self.used += text.len();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        let mut line = Line::new();
        for _ in 0..LOG_MAX {
            line.write_str("\u{20ac}").unwrap();
        }
        let expected = LOG_MAX as usize / 3;
        assert_eq!(line.as_str().chars().count(), expected);
        assert!(
            line.as_str()
                .chars()
                .all(|character| character == '\u{20ac}')
        );
    }

    #[test]
    fn one_line_end_is_left_to_the_kernel() {
        let mut line = Line::new();
        writeln!(line, "hello").unwrap();
        assert_eq!(line.as_str(), "hello");
    }
}
