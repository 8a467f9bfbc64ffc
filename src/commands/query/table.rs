//! An answer as a table: one block per series, columns aligned, numbers to the right.

use super::{Answer, Series, cell};
use serde_json::Value;
use std::fmt::Write as _;

pub(super) fn table(answer: &Answer) -> String {
    let blocks = answer.series.iter().map(|series| {
        let name = if series.tags.is_empty() { String::new() } else { format!(" {}", series.name()) };
        format!("{}{name}\n{}", answer.measurement, block(series))
    });
    blocks.collect::<Vec<_>>().join("\n")
}

fn block(series: &Series) -> String {
    let rows = series.rows();
    let columns: Vec<Vec<String>> = (0..series.columns.len())
        .map(|column| {
            let values = series.values.get(column);
            let cells = (0..rows).map(|row| cell(values.and_then(|values| values.get(row))));
            std::iter::once(series.title(column)).chain(cells).collect()
        })
        .collect();
    let widths: Vec<usize> = columns
        .iter()
        .map(|cells| cells.iter().map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let numeric: Vec<bool> = (0..columns.len())
        .map(|column| {
            let values = series.values.get(column).into_iter().flatten();
            column > 0 && values.filter(|value| !value.is_null()).all(Value::is_number)
        })
        .collect();
    let mut out = String::new();
    for row in 0..=rows {
        let mut line = String::new();
        for (column, cells) in columns.iter().enumerate() {
            let width = widths[column];
            let _ = if numeric[column] {
                write!(line, "{:>width$}  ", cells[row])
            } else {
                write!(line, "{:<width$}  ", cells[row])
            };
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_missing_is_empty() {
        let answer: Answer = serde_json::from_str(
            r#"{"measurement":"m","partial":false,"series":[{"tags":{"d":"a"},"columns":["time","v","s"],"units":[null,"W",null],
                "values":[["t1","t2"],[1.5,null],["x","long"]]}]}"#,
        )
        .unwrap();
        assert_eq!(table(&answer), "m d=a\ntime  v (W)  s\nt1      1.5  x\nt2           long\n");
    }
}
