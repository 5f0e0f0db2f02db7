//! The report as one HTML file that needs nothing else.

use std::fmt::Write as _;

use anyhow::Result;

use crate::plot::{self, short};
use crate::report::{Failure, Figure, Point, Report, Spread};
use crate::targets::{Goal, Measured, Row, Verdict};

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:1040px;margin:2.5em auto;padding:0 1.2em;color:#1c2330}\
h1{font-size:1.7em;margin:0 0 .2em}h2{font-size:1.2em;margin:0 0 .6em}\
table{border-collapse:collapse;margin:.8em 0;width:100%}\
td,th{border-bottom:1px solid #e3e6ea;padding:.35em .7em;text-align:right;vertical-align:top;\
font-variant-numeric:tabular-nums}th{font-weight:600;color:#4a5464;font-size:.9em}\
td:first-child,th:first-child{text-align:left}\
.range{white-space:nowrap}.verdict{white-space:nowrap;font-weight:600}.met{color:#00734f}.missed{color:#b54100}.open{color:#6b7480}\
.small{color:#5b6573;font-size:.85em}.sum{font-size:1.1em;margin:.2em 0 1.2em}\
section{border:1px solid #e3e6ea;border-radius:8px;padding:1.2em 1.4em;margin:1.6em 0}\
svg{max-width:100%;height:auto;display:block;margin:0 auto}\
details{margin:.8em 0}summary{cursor:pointer}.bar{display:inline-block;height:.7em;background:#0072b2}\
.user .bar{background:#d55e00}";

/// The page.
pub fn render(report: &Report) -> Result<String> {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Evaluation</title>\
         <style>{STYLE}</style></head><body>\n<h1>This dataplane and Linux, side by side</h1>\n"
    );
    targets(&mut page, report)?;
    conditions(&mut page, report)?;
    for row in report
        .targets
        .iter()
        .filter(|row| row.goal != Goal::EchoShare)
    {
        // That one has the profile of the next.
        profile(&mut page, row)?;
    }
    for figure in &report.figures {
        one_figure(&mut page, figure)?;
    }
    page.push_str("</body></html>\n");
    Ok(page)
}

/// The table of what is wanted.
fn targets(page: &mut String, report: &Report) -> Result<()> {
    let count = |is_such: fn(&Verdict) -> bool| {
        let verdicts = report.targets.iter().map(|row| row.verdict);
        verdicts.filter(is_such).count()
    };
    writeln!(
        page,
        "<p class=\"sum\">{} of {} targets <span class=\"met\">met</span>, {} \
         <span class=\"missed\">missed</span>, {} <span class=\"open\">not measured</span> in this run</p>",
        count(|verdict| *verdict == Verdict::Met),
        report.targets.len(),
        count(|verdict| matches!(verdict, Verdict::MissedBy(_))),
        count(|verdict| *verdict == Verdict::Open)
    )?;
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
        "<tr><td>{}, {}<br><span class=\"small\">figure {}{}</span></td><td>{}</td><td>{}</td>\
         <td><b>{}</b></td><td>{}</td><td class=\"verdict {class}\">{}</td></tr>",
        escape(row.what),
        row.unit,
        row.figure,
        note.map_or("".to_owned(), |note| format!("; {}", escape(note))),
        number(measured.map(|measured| measured.ours)),
        number(measured.and_then(|measured| measured.linux)),
        measured
            .and_then(Measured::ratio)
            .map_or("".to_owned(), ratio),
        row.wanted.text(),
        row.verdict
    )?;
    Ok(())
}

/// Three digits of a ratio, or two of a small one.
fn ratio(ratio: f64) -> String {
    match ratio {
        10.0.. => format!("{ratio:.1}"),
        1.0.. => format!("{ratio:.2}"),
        0.01.. => format!("{ratio:.3}"),
        _ => format!("{ratio:.4}"),
    }
}

/// Where the instructions of a target go; open where it is missed.
fn profile(page: &mut String, row: &Row) -> Result<()> {
    let costs = row.measured.iter().flat_map(|measured| &measured.profile);
    let most = costs.clone().map(|cost| cost.instructions).reduce(f64::max);
    let Some(most) = most else {
        return Ok(());
    };
    let open = match row.verdict {
        Verdict::MissedBy(_) => " open",
        Verdict::Open | Verdict::Met => "",
    };
    writeln!(
        page,
        "<details{open}><summary>Where the instructions of \u{201c}{}\u{201d} go, figure {}: the costliest \
         functions, <span style=\"color:#0072b2\">kernel</span> and \
         <span style=\"color:#d55e00\">application</span></summary><table>",
        escape(row.what),
        row.figure
    )?;
    for cost in costs {
        let class = if cost.kernel { "kernel" } else { "user" };
        writeln!(
            page,
            "<tr class=\"{class}\"><td class=\"small\">{}</td><td>{:.1}</td><td style=\"text-align:left;width:45%\">\
             <span class=\"bar\" style=\"width:{:.1}%\"></span></td></tr>",
            escape(&cost.function),
            cost.instructions,
            100.0 * cost.instructions.max(0.0) / most
        )?;
    }
    page.push_str("</table></details>\n");
    Ok(())
}

fn conditions(page: &mut String, report: &Report) -> Result<()> {
    let conditions = &report.conditions;
    let accelerator = conditions.accelerator.as_deref().unwrap_or("tcg");
    writeln!(
        page,
        "<p class=\"small\"><b>Conditions.</b> Both are guests of QEMU {} ({accelerator}) on the same emulated \
         82599, with one processor each unless a figure says otherwise, on {} ({} hardware threads, Linux {}). \
         Client, emulated card and guest share these threads. Load average before {:.1}, after {:.1}: what is \
         above three is other work. Numbers are medians, with the lowest and the highest. Under emulation only \
         ratios and instruction counts carry over to hardware.</p>",
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
        "<section><h2>{}. {}</h2>\n{}\n<p class=\"small\">{} Bars reach from the lowest to the highest measurement.</p>",
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
    page.push_str("</table></section>\n");
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
            "<td>{}<br><span class=\"small\">{}</span></td>",
            spread(point.y),
            escape(note)
        )?;
    }
    if let [Some(ours), Some(linux)] = points[..] {
        write!(
            page,
            "<td><b>{}</b></td>",
            ratio(ours.y.median / linux.y.median)
        )?;
    } else if points.len() == 2 {
        page.push_str("<td></td>");
    }
    page.push_str("</tr>\n");
    Ok(())
}

fn spread(spread: Spread) -> String {
    let [median, min, max] = [spread.median, spread.min, spread.max].map(short);
    if min == max {
        return median;
    }
    format!("{median}<br><span class=\"small range\">{min} to {max}</span>")
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
            "1 of 12 targets",
            "<td><b>15.0</b></td>",
            "met",
            "A &lt;fast&gt; one",
            "<svg",
            "Said &amp; done.",
        ] {
            assert!(page.contains(part), "no {part} in {page}");
        }
    }
}
