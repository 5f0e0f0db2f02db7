//! Tables for people: columns as wide as their widest cell, two spaces apart.

/// Lines of a table with these headings.
pub fn render(headings: &[&str], rows: &[Vec<String>]) -> String {
    let headings: Vec<String> = headings
        .iter()
        .map(|heading| (*heading).to_owned())
        .collect();
    let all = || std::iter::once(&headings).chain(rows);
    let widths: Vec<usize> = (0..headings.len())
        .map(|column| all().map(|row| width(row, column)).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in all() {
        let cells = row.iter().zip(&widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn width(row: &[String], column: usize) -> usize {
    row.get(column).map_or(0, |cell| cell.chars().count())
}

/// A number of things for people: 1234567 is 1.2M.
pub fn short(number: f64) -> String {
    for (unit, size) in [("G", 1e9), ("M", 1e6), ("k", 1e3)] {
        if number >= size {
            return format!("{:.1}{unit}", number / size);
        }
    }
    match number {
        number if number < 0.05 => "0".to_owned(),
        number if number < 10.0 && number.fract() != 0.0 => format!("{number:.1}"),
        number => format!("{number:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["kv".to_owned(), "running".to_owned()],
            vec!["longer".to_owned(), "up".to_owned()],
        ];
        let text = render(&["NAME", "STATE"], &rows);
        assert_eq!(text, "NAME    STATE\nkv      running\nlonger  up\n");
    }

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (0.25, "0.2"),
            (7.0, "7"),
            (999.4, "999"),
            (1_234.0, "1.2k"),
            (5.6e6, "5.6M"),
            (7e9, "7.0G"),
        ] {
            assert_eq!(short(number), text);
        }
    }
}
