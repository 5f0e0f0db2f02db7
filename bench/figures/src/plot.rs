//! Figures as SVG.

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::report::{Axis, Figure, Series};

const SIZE: (u32, u32) = (640, 400);
/// Colours that differ for most kinds of colour blindness (Okabe and Ito 2008).
const COLOURS: [RGBColor; 4] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
];
/// Factors of room around the outermost points of logarithmic axes.
const MARGIN: f64 = 1.5;
/// Room above the highest point, for the legend: a share of the axis for each line if that is logarithmic, else
/// a factor.
const LEGEND_LOGARITHMIC: f64 = 0.1;
const LEGEND_LINEAR: f64 = 1.35;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws one figure.
pub fn draw(figure: &Figure) -> Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let drawn = area
            .fill(&WHITE)
            .and_then(|()| draw_on(&area, figure))
            .and_then(|()| area.present());
        drawn.map_err(|error| anyhow!("cannot draw figure {}: {error}", figure.number))?;
    }
    Ok(svg)
}

type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

fn draw_on(area: &Area, figure: &Figure) -> Drawn {
    let points = || figure.series.iter().flat_map(|series| &series.points);
    let xs = range(&figure.x, points().map(|point| point.x));
    let mut ys = range(
        &figure.y,
        points().flat_map(|point| [point.y.min, point.y.max]),
    );
    ys.end *= match figure.y.is_logarithmic {
        true => (ys.end / ys.start).powf(LEGEND_LOGARITHMIC * figure.series.len() as f64),
        false => LEGEND_LINEAR,
    };
    match (figure.x.is_logarithmic, figure.y.is_logarithmic) {
        (true, true) => chart(area, figure, xs.log_scale(), ys.log_scale()),
        (true, false) => chart(area, figure, xs.log_scale(), ys),
        (false, true) => chart(area, figure, xs, ys.log_scale()),
        (false, false) => chart(area, figure, xs, ys),
    }
}

/// From below the lowest to above the highest value; linear axes begin at 0.
fn range(axis: &Axis, values: impl Iterator<Item = f64>) -> std::ops::Range<f64> {
    let (mut low, mut high) = (f64::INFINITY, 0f64);
    for value in values.filter(|value| *value > 0.0) {
        low = low.min(value);
        high = high.max(value);
    }
    match (axis.is_logarithmic, low.is_finite()) {
        (_, false) => 0.1..1.0,
        (true, true) => low / MARGIN..high * MARGIN,
        (false, true) => 0.0..high * 1.1,
    }
}

fn chart<X, Y>(area: &Area, figure: &Figure, xs: X, ys: Y) -> Drawn
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .x_label_area_size(44)
        .y_label_area_size(72)
        .build_cartesian_2d(xs, ys)?;
    chart
        .configure_mesh()
        .x_desc(figure.x.label)
        .y_desc(figure.y.label)
        .x_labels(figure.x.kinds.len().max(10))
        .x_label_formatter(&|value| figure.x.text(*value, short))
        .y_label_formatter(&|value| short(*value))
        .label_style(("sans-serif", 13))
        .light_line_style(RGBColor(240, 240, 240))
        .draw()?;
    for (series, colour) in figure.series.iter().zip(COLOURS.iter().cycle()) {
        let colour = *colour;
        let Series { name, points } = series;
        // There is nothing between kinds.
        let line = if figure.x.kinds.is_empty() { 2 } else { 0 };
        chart
            .draw_series(LineSeries::new(
                points.iter().map(|point| (point.x, point.y.median)),
                colour.stroke_width(line),
            ))?
            .label(name.as_str())
            .legend(move |(x, y)| {
                PathElement::new(vec![(x, y), (x + 18, y)], colour.stroke_width(3))
            });
        chart.draw_series(points.iter().map(|point| {
            let spread = point.y;
            ErrorBar::new_vertical(
                point.x,
                spread.min,
                spread.median,
                spread.max,
                colour.filled(),
                8,
            )
        }))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .label_font(("sans-serif", 13))
        .background_style(WHITE.mix(0.8))
        .border_style(RGBColor(200, 200, 200))
        .draw()
}

/// A number in few characters.
pub fn short(value: f64) -> String {
    let units = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    let (scaled, unit) = units
        .iter()
        .find(|(unit, _)| value.abs() >= *unit)
        .map_or((value, ""), |(unit, name)| (value / unit, *name));
    let digits = match scaled.abs() {
        size if size >= 100.0 || scaled.fract() == 0.0 => 0,
        size if size >= 10.0 => 1,
        _ => 2,
    };
    format!("{scaled:.digits$}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Point, Spread};

    fn figure(x: Axis, y: Axis) -> Figure {
        let point = |x| Point {
            x,
            y: Spread::of(&[10.0 * x, 11.0 * x, 12.0 * x]),
            note: None,
        };
        let points = [1.0, 8.0, 64.0].map(point).to_vec();
        let series = ["ours", "theirs"].map(|name| Series {
            name: name.to_owned(),
            points: points.clone(),
        });
        Figure {
            number: 2,
            title: "A figure".to_owned(),
            caption: String::new(),
            x,
            y,
            series: series.to_vec(),
        }
    }

    #[test]
    fn every_kind_of_axes_is_drawn_with_both_lines() {
        let axes = [Axis::linear("along"), Axis::logarithmic("along")];
        for x in &axes {
            for y in &axes {
                let svg = draw(&figure(x.clone(), y.clone())).expect("it is drawn");
                for part in ["<svg", "along", "ours", "theirs", "</svg>"] {
                    assert!(svg.contains(part), "no {part} in {svg}");
                }
            }
        }
    }

    #[test]
    fn a_figure_without_points_is_drawn_too() {
        let mut empty = figure(Axis::linear("x"), Axis::logarithmic("y"));
        empty.series.clear();
        assert!(draw(&empty).is_ok());
    }

    #[test]
    fn numbers_are_short() {
        let texts = [0.5, 1.0, 64.0, 1024.0, 94_754.0, 2_500_000.0].map(short);
        assert_eq!(texts, ["0.50", "1", "64", "1.02k", "94.8k", "2.50M"]);
    }
}
