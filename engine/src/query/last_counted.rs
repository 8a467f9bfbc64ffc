//! The newest value of each field among the rows that satisfy a condition: from the newest part of history backwards,
//! until every field has one.
//!
//! Unlike `last`, rows have to be whole before they can be judged, so parts are scanned as for points. What is scanned at a
//! time doubles; groups that statistics rule out cost nothing.

use super::error::QueryError;
use super::last::{Newest, newest_of};
use super::raw::{cuts, newest_part};
use super::request::Order;
use super::scan::{Block, GroupSource, Scan, Sink};
use crate::column::SeriesRows;
use crate::ids::SeriesId;
use std::ops::Range;

/// Rows that the first part is about to have.
const FIRST_ROWS: usize = 1024;

/// The newest value of each field of `series` in the range of the plan, of the rows that count.
pub(super) fn newest(scan: Scan<'_>, series: SeriesId) -> Result<Newest, QueryError> {
    let whole = &scan.plan.range;
    let mut all: Newest = vec![None; scan.plan.ids.len()];
    let (mut end, mut wanted) = (whole.end, FIRST_ROWS);
    for cut in cuts(scan, series, Order::Descending).into_iter().chain([whole.start]) {
        while cut < end && all.iter().any(Option::is_none) {
            let pieces = scan.pieces(series, &(cut..end))?;
            let start = newest_part(&pieces, wanted, cut..end);
            wanted = wanted.saturating_mul(2);
            let mut sink = NewestSink { scan, found: vec![None; all.len()], block: Block::default() };
            if start == cut {
                scan.sweep(pieces, &(start..end), &mut sink)?;
            } else {
                // Rows from memory are in hand once.
                drop(pieces);
                scan.run(series, &(start..end), &mut sink)?;
            }
            for (known, found) in all.iter_mut().zip(sink.found).filter(|(known, _)| known.is_none()) {
                *known = found;
            }
            end = start;
        }
    }
    Ok(all)
}

/// Keeps the last value of each field: rows arrive in the order of time.
struct NewestSink<'a> {
    scan: Scan<'a>,
    found: Newest,
    block: Block,
}

impl Sink for NewestSink<'_> {
    fn rows(&mut self, rows: &SeriesRows, range: Range<usize>) -> Result<(), QueryError> {
        for (field, column) in &rows.columns {
            let newest = newest_of(&rows.times, column, range.end);
            let newest = newest.filter(|(time, _)| *time >= rows.times[range.start]);
            if let (Some(slot), Some(newest)) = (self.scan.plan.slot(*field), newest) {
                self.found[slot] = Some(newest);
            }
        }
        Ok(())
    }

    fn groups(&mut self, source: GroupSource<'_>, range: &Range<i64>) -> Result<(), QueryError> {
        // Backwards: of all but the newest groups nothing is wanted once every field has a value of this batch.
        let mut missing: Vec<usize> = (0..self.found.len()).collect();
        for group in source.groups.iter().rev() {
            self.scan.budget.check()?;
            let slots = missing.iter().copied();
            self.scan.decode(source.source, source.open, group, slots, &mut self.block, |_| {})?;
            let rows = self.block.rows_in(range);
            missing.retain(|slot| {
                let column = self.block.present[*slot].then(|| &self.block.columns[*slot]);
                let newest = column.and_then(|column| newest_of(&self.block.times, column, rows.end));
                match newest.filter(|(time, _)| *time >= range.start) {
                    Some(newest) => self.found[*slot] = Some(newest),
                    None => return true,
                }
                false
            });
            if missing.is_empty() {
                break;
            }
        }
        Ok(())
    }
}
