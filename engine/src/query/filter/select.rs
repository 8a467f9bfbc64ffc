//! Rows picked out of columns.

use super::Mask;
use crate::column::{Column, Presence, SeriesRows, Values};
use crate::ids::FieldId;

/// The rows of `mask`.
pub(super) fn select<'a>(
    times: &[i64],
    columns: impl Iterator<Item = (FieldId, &'a Column)>,
    mask: &Mask,
) -> SeriesRows {
    let times: Vec<i64> = mask.rows().map(|row| times[row]).collect();
    let columns = columns.filter_map(|(field, column)| {
        let positions: Vec<usize> = match &column.presence {
            Presence::All => mask.rows().collect(),
            Presence::Rows(present) => {
                let kept = present.iter().enumerate().filter(|(_, row)| mask.contains(**row as usize));
                kept.map(|(position, _)| position).collect()
            }
        };
        if positions.is_empty() {
            return None;
        }
        let presence = match &column.presence {
            Presence::All => Presence::All,
            Presence::Rows(present) => {
                // New numbers of the rows: how many that count stand before.
                let mut kept = Vec::with_capacity(positions.len());
                let (mut counted, mut next) = (0_u32, mask.rows().peekable());
                for position in &positions {
                    let row = present[*position] as usize;
                    while next.next_if(|before| *before < row).is_some() {
                        counted += 1;
                    }
                    kept.push(counted);
                }
                crate::rows::all_if_full(kept, times.len())
            }
        };
        Some((field, Column { presence, values: pick(&column.values, &positions) }))
    });
    let columns = columns.collect();
    SeriesRows { times, columns }
}

fn pick(values: &Values, positions: &[usize]) -> Values {
    fn of<T: Clone>(values: &[T], positions: &[usize]) -> Vec<T> {
        positions.iter().map(|position| values[*position].clone()).collect()
    }
    match values {
        Values::Float(v) => Values::Float(of(v, positions)),
        Values::Integer(v) => Values::Integer(of(v, positions)),
        Values::Unsigned(v) => Values::Unsigned(of(v, positions)),
        Values::Boolean(v) => Values::Boolean(of(v, positions)),
        Values::String(v) => Values::String(of(v, positions)),
    }
}
