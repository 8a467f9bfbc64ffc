//! A plot made of characters: one frame per numeric column, dots of braille, time to the right.
//!
//! Every pixel column shows the lowest and the highest value that falls into it, so a spike is never averaged away.

use super::{Answer, Series};
use crate::failure::{Failure, Kind};
use serde_json::Value;
use std::fmt::Write as _;

/// Cells of the drawing; each holds 2 x 4 dots.
const WIDTH: usize = 72;
const HEIGHT: usize = 12;

pub(super) fn plot(answer: &Answer) -> Result<String, Failure> {
    let mut out = String::new();
    for series in &answer.series {
        for column in 1..series.columns.len() {
            let Some(frame) = frame(series, column) else { continue };
            let name = if series.tags.is_empty() { String::new() } else { format!("  {}", series.name()) };
            let _ = writeln!(out, "{}{name}", series.title(column));
            out.push_str(&frame);
        }
    }
    if out.is_empty() {
        return Err(Failure::new(Kind::Usage, "nothing to plot: no numeric column in the answer"));
    }
    Ok(out)
}

fn frame(series: &Series, column: usize) -> Option<String> {
    let times: Vec<f64> = series.values.first()?.iter().map(seconds).collect::<Option<_>>()?;
    let points: Vec<(f64, f64)> = times
        .into_iter()
        .zip(series.values.get(column)?)
        .filter_map(|(time, value)| Some((time, value.as_f64()?)))
        .collect();
    let (first, last) = bounds(points.iter().map(|point| point.0))?;
    let (low, high) = bounds(points.iter().map(|point| point.1))?;
    let mut canvas = Canvas::new();
    let share = |value: f64, from: f64, to: f64| if to > from { (value - from) / (to - from) } else { 0.5 };
    let place = |(time, value): (f64, f64)| {
        let x = (share(time, first, last) * (WIDTH * 2 - 1) as f64).round() as usize;
        let y = ((1.0 - share(value, low, high)) * (HEIGHT * 4 - 1) as f64).round() as usize;
        (x, y)
    };
    // Dots of one pixel column are joined, so steep edges stay lines; columns apart are not: a gap is a gap.
    let mut before: Option<(usize, usize)> = None;
    for point in points {
        let (x, y) = place(point);
        let from =
            before.filter(|(x_before, _)| x.abs_diff(*x_before) <= 1).map_or(y, |(_, y_before)| y_before);
        (from.min(y)..=from.max(y)).for_each(|y| canvas.set(x, y));
        before = Some((x, y));
    }
    Some(canvas.draw(low, high, series.values.first()?))
}

fn bounds(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    values.fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    })
}

/// A time of the answer, as RFC 3339 text or a number, on one axis.
fn seconds(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => {
            text.parse::<jiff::Timestamp>().ok().map(|time| time.as_millisecond() as f64 / 1e3)
        }
        other => other.as_f64(),
    }
}

struct Canvas {
    cells: Vec<u8>,
}

impl Canvas {
    fn new() -> Self {
        Self { cells: vec![0; WIDTH * HEIGHT] }
    }

    fn set(&mut self, x: usize, y: usize) {
        // Bits of a braille cell: 1 2 3 7 down the left, 4 5 6 8 down the right.
        const BITS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
        self.cells[(y / 4) * WIDTH + x / 2] |= BITS[x % 2][y % 4];
    }

    fn draw(&self, low: f64, high: f64, times: &[Value]) -> String {
        let (top, bottom) = (label(high), label(low));
        let margin = top.len().max(bottom.len());
        let mut out = String::new();
        for (row, cells) in self.cells.chunks(WIDTH).enumerate() {
            let text = match row {
                0 => top.as_str(),
                _ if row == HEIGHT - 1 => bottom.as_str(),
                _ => "",
            };
            let dots: String =
                cells.iter().filter_map(|bits| char::from_u32(0x2800 + u32::from(*bits))).collect();
            let _ = writeln!(out, "{text:>margin$} |{dots}");
        }
        let (first, last) = (super::cell(times.first()), super::cell(times.last()));
        let width = WIDTH.saturating_sub(first.len()).max(last.len() + 1);
        let _ = writeln!(out, "{:margin$}  {first}{last:>width$}", "");
        out
    }
}

fn label(value: f64) -> String {
    let digits = if value.abs() >= 100.0 { 0 } else { 2 };
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(values: &str) -> Answer {
        let text = format!(
            r#"{{"measurement":"m","series":[{{"columns":["time","v"],"units":[null,"W"],"values":[{values}]}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn the_lowest_and_highest_value_reach_the_edges() {
        let text = plot(&answer(
            r#"["2026-03-01T00:00:00Z","2026-03-01T12:00:00Z","2026-03-02T00:00:00Z"],[0.0,null,5000.0]"#,
        ))
        .unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), HEIGHT + 2);
        assert_eq!(lines[0], "v (W)");
        assert!(lines[1].starts_with("5000 |") && lines[1].ends_with('\u{2808}'), "{text}");
        assert!(lines[HEIGHT].starts_with("0.00 |\u{2840}"), "{text}");
        assert!(lines[HEIGHT + 1].contains("2026-03-01T00:00:00Z"));
    }

    #[test]
    fn text_alone_cannot_be_plotted() {
        assert!(plot(&answer(r#"["2026-03-01T00:00:00Z"],["on"]"#)).is_err());
    }
}
