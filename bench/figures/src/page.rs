//! The report as one HTML file that needs nothing else.

use std::fmt::Write as _;

use anyhow::Result;

use crate::plot::{self, short};
use crate::report::{Failure, Figure, Point, Report, Spread};
use crate::targets::{Measured, Row, Verdict};

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;max-width:980px;margin:2em auto;padding:0 1em;color:#222}\
h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2.2em}table{border-collapse:collapse;margin:.8em 0}\
td,th{border-bottom:1px solid #ddd;padding:.25em .8em;text-align:right;font-variant-numeric:tabular-nums}\
td:first-child,th:first-child{text-align:left}.met{color:#00734f}.missed{color:#b54100}\
.small{color:#555;font-size:.9em}svg{max-width:100%;height:auto}";

/// The page.
pub fn render(report: &Report) -> Result<String> {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Evaluation</title>\
         <style>{STYLE}</style></head><body>\n<h1>This dataplane and Linux, side by side</h1>\n"
    );
    targets(&mut page, report)?;
    conditions(&mut page, report)?;
    for figure in &report.figures {
        one_figure(&mut page, figure)?;
    }
    page.push_str("</body></html>\n");
    Ok(page)
}

/// The table of what is wanted.
fn targets(page: &mut String, report: &Report) -> Result<()> {
    page.push_str(
        "<table><tr><th>target</th><th>this dataplane</th><th>Linux guest</th><th>ratio</th>\
         <th>wanted</th><th></th></tr>\n",
    );
    for row in &report.targets {
        one_target(page, row)?;
    }
    page.push_str("</table>\n");
    for Failure { figure, part, why } in &report.failures {
        let (part, why) = (escape(part), escape(why));
        writeln!(
            page,
            "<p class=\"missed\">Figure {figure}, {part}, is missing: {why}</p>"
        )?;
    }
    Ok(())
}

fn one_target(page: &mut String, row: &Row) -> Result<()> {
    let class = match row.verdict {
        Verdict::Open => "open",
        Verdict::Met => "met",
        Verdict::MissedBy(_) => "missed",
    };
    let measured = row.measured.as_ref();
    let note = measured.and_then(|measured| measured.note.as_deref());
    let number = |value: Option<Spread>| value.map_or("".to_owned(), spread);
    writeln!(
        page,
        "<tr><td>{}, {}<br><span class=\"small\">{}</span></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
         <td class=\"{class}\">{}</td></tr>",
        escape(row.what),
        row.unit,
        escape(note.unwrap_or_default()),
        number(measured.map(|measured| measured.ours)),
        number(measured.and_then(|measured| measured.linux)),
        measured
            .and_then(Measured::ratio)
            .map_or("".to_owned(), |ratio| format!("{ratio:.3}")),
        row.wanted.text(),
        row.verdict
    )?;
    match measured {
        Some(measured) if class == "missed" => profile(page, measured),
        _ => Ok(()),
    }
}

/// Where the instructions of what was missed go.
fn profile(page: &mut String, measured: &Measured) -> Result<()> {
    for cost in &measured.profile {
        let mode = if cost.kernel { "kernel" } else { "user" };
        writeln!(
            page,
            "<tr class=\"small\"><td>{}</td><td>{:.1}</td><td>{mode}</td></tr>",
            escape(&cost.function),
            cost.instructions
        )?;
    }
    Ok(())
}

fn conditions(page: &mut String, report: &Report) -> Result<()> {
    let conditions = &report.conditions;
    let accelerator = conditions.accelerator.as_deref().unwrap_or("tcg");
    writeln!(
        page,
        "<p class=\"small\">Both are guests of QEMU {} ({accelerator}) on the same emulated 82599, with one \
         processor each, on {} ({} hardware threads, Linux {}). Client, emulated card and guest share these \
         threads. Load average before {:.1}, after {:.1}: what is above three is other work. Under emulation \
         only ratios and instruction counts carry over to hardware.</p>",
        escape(&conditions.qemu),
        escape(&conditions.processor),
        conditions.hardware_threads,
        escape(&conditions.kernel),
        conditions.load_before,
        conditions.load_after.unwrap_or_default()
    )?;
    Ok(())
}

fn one_figure(page: &mut String, figure: &Figure) -> Result<()> {
    writeln!(
        page,
        "<h2>{}. {}</h2>\n{}\n<p class=\"small\">{} Bars reach from the lowest to the highest measurement.</p>",
        figure.number,
        escape(&figure.title),
        plot::draw(figure)?,
        escape(&figure.caption)
    )?;
    write!(page, "<table><tr><th>{}</th>", escape(figure.x.label))?;
    for series in &figure.series {
        write!(page, "<th>{}</th>", escape(&series.name))?;
    }
    if figure.series.len() == 2 {
        page.push_str("<th>ratio</th>");
    }
    page.push_str("</tr>\n");
    for x in values(figure) {
        one_row(page, figure, x)?;
    }
    page.push_str("</table>\n");
    Ok(())
}

/// Where any of the lines has a point, from left to right.
fn values(figure: &Figure) -> Vec<f64> {
    let points = figure.series.iter().flat_map(|series| &series.points);
    let mut values: Vec<f64> = points.map(|point| point.x).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    values
}

fn one_row(page: &mut String, figure: &Figure, x: f64) -> Result<()> {
    let text = figure.x.text(x, |x| x.to_string());
    write!(page, "<tr><td>{}</td>", escape(&text))?;
    let points: Vec<Option<&Point>> = figure
        .series
        .iter()
        .map(|series| series.points.iter().find(|point| point.x == x))
        .collect();
    for point in &points {
        let Some(point) = point else {
            page.push_str("<td></td>");
            continue;
        };
        let note = point.note.as_deref().unwrap_or_default();
        write!(
            page,
            "<td>{} <span class=\"small\">{}</span></td>",
            spread(point.y),
            escape(note)
        )?;
    }
    if let [Some(ours), Some(linux)] = points[..] {
        write!(page, "<td>{:.2}</td>", ours.y.median / linux.y.median)?;
    }
    page.push_str("</tr>\n");
    Ok(())
}

fn spread(spread: Spread) -> String {
    format!(
        "{} ({} to {})",
        short(spread.median),
        short(spread.min),
        short(spread.max)
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conditions::tests::conditions;
    use crate::report::{Axis, Series};
    use crate::targets::Goal;

    #[test]
    fn the_page_leads_with_ratios_and_has_every_figure() {
        let mut report = Report::new(conditions());
        let spread = |value| Spread::of(&[value]);
        let measured = Measured::new(spread(90_000.0)).beside(spread(6_000.0));
        report.reach(Goal::EchoRate, measured);
        let point = |y| Point {
            x: 64.0,
            y: Spread::of(&[y]),
            note: Some("engine".to_owned()),
        };
        let series = |name: &str, y| Series {
            name: name.to_owned(),
            points: vec![point(y)],
        };
        report.figures.push(Figure {
            number: 2,
            title: "Echo".to_owned(),
            caption: "Said & done.".to_owned(),
            x: Axis::logarithmic("bytes"),
            y: Axis::logarithmic("messages/s"),
            series: vec![
                series("this dataplane", 90_000.0),
                series("Linux guest", 6_000.0),
            ],
        });
        let page = render(&report).expect("it is rendered");
        for part in [
            "<td>15.000</td>",
            "met",
            "A &lt;fast&gt; one",
            "<svg",
            "Said &amp; done.",
            "<td>15.00</td>",
        ] {
            assert!(page.contains(part), "no {part} in {page}");
        }
    }
}
