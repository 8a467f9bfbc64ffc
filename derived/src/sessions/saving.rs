//! What a charge saved: against what its energy would have cost at the mean price of its day.

use super::samples::Source;
use crate::energy::rounded;
use crate::price::PricePiece;
use crate::tariffs::{pieces_of, priced};
use std::collections::BTreeMap;
use std::ops::Range;
use wattlog_analytics::session::{Kind, Session};
use wattlog_engine::query::{Aggregate, Buckets, Every, QueryError, Zone};
use wattlog_ledger::schema::Direction;

/// Energy in milliwatt hours is told: so much may be missing by rounding, kWh.
const ROUNDED_KWH: f64 = 1e-6;

/// The days of the home that meet `times`, whole: a price counts for all sessions that begin on its day.
pub(crate) fn days_of(times: &Range<i64>, home: &Zone) -> Range<i64> {
    let last = times.end.saturating_sub(1).max(times.start);
    let rule = Aggregate { every: Some(Every::Days(1)), zone: home.clone(), ..Aggregate::default() };
    let Some(days) = Buckets::new(&rule, times.start..last.saturating_add(1)) else { return times.clone() };
    days.of(times.start).start.min(times.start)..days.of(last).end.max(times.end)
}

/// What came out of prices.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Reckoned {
    /// None where a price is missing.
    Known(Option<f64>),
    /// Prices are there that cannot be read.
    Lost,
}

/// What each session saved, PLN: its energy from the grid at the mean total price of the day on which it began, less what it cost.
/// None where a price of the energy or of the day is missing, where nothing was bought, and for energy that was sold.
///
/// `notes` gets why prices of a day cannot be read.
///
/// # Errors
/// Of questions to the store that failed.
pub(super) fn savings(
    source: &Source<'_>,
    sessions: &[Session],
    notes: &mut Vec<String>,
) -> Result<Vec<Reckoned>, QueryError> {
    let mut means: BTreeMap<i64, Reckoned> = BTreeMap::new();
    let mut saved = Vec::with_capacity(sessions.len());
    for session in sessions {
        let is_bought = session.kind == Kind::Charging && session.grid_kwh > ROUNDED_KWH;
        let is_priced = session.grid_kwh - session.priced_kwh <= ROUNDED_KWH;
        let cost = session.cost_pln.filter(|_| is_bought && is_priced);
        let Some(cost) = cost else {
            saved.push(Reckoned::Known(None));
            continue;
        };
        let day = days_of(&(session.start.0..session.start.0.saturating_add(1)), source.zone);
        let mean = match means.get(&day.start) {
            Some(known) => *known,
            None => *means.entry(day.start).or_insert(mean_of(source, &day, notes)?),
        };
        saved.push(match mean {
            Reckoned::Known(mean) => {
                Reckoned::Known(mean.map(|mean| rounded(session.grid_kwh * mean - cost)))
            }
            Reckoned::Lost => Reckoned::Lost,
        });
    }
    Ok(saved)
}

/// Mean over time of what bought energy costs on a day, if that is known all through.
fn mean_of(source: &Source<'_>, day: &Range<i64>, notes: &mut Vec<String>) -> Result<Reckoned, QueryError> {
    let found = priced(source.tariffs, Direction::Import, day, |definition, times| {
        pieces_of(definition, (source.engine, source.database), times, source.zone, source.control)
    });
    if let Some(error) = found.failed {
        return Err(error);
    }
    if found.is_lost {
        notes.extend(found.notes.into_iter().map(|note| format!("savings are not known: {note}")));
        return Ok(Reckoned::Lost);
    }
    Ok(Reckoned::Known(mean(day, &found.pieces.unwrap_or_default())))
}

/// Pieces rise and do not overlap.
fn mean(day: &Range<i64>, pieces: &[PricePiece]) -> Option<f64> {
    let (mut covered, mut sum) = (day.start, 0.0);
    for piece in pieces {
        if piece.start > covered {
            return None;
        }
        let end = piece.end.min(day.end);
        sum += piece.pln_kwh * (end - covered) as f64;
        covered = end;
    }
    (covered >= day.end).then(|| sum / (day.end - day.start) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_that_of_the_home() {
        let warsaw = Zone::named("Europe/Warsaw").unwrap();
        let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_nanosecond() as i64;
        // 25 October 2026 has 25 hours.
        let day = at("2026-10-24T22:00:00Z")..at("2026-10-25T23:00:00Z");
        assert_eq!(days_of(&(day.start..day.start + 1), &warsaw), day);
        assert_eq!(days_of(&(day.end - 1..day.end), &warsaw), day);
        let two = days_of(&(day.start..day.end + 1), &warsaw);
        assert_eq!(two, day.start..at("2026-10-26T23:00:00Z"));
        assert_eq!(days_of(&(i64::MIN..i64::MAX), &warsaw), i64::MIN..i64::MAX);
    }

    #[test]
    fn a_mean_needs_all_of_its_day() {
        let of = |pieces: &[(i64, i64, f64)]| {
            let piece = |(start, end, pln_kwh): &(i64, i64, f64)| PricePiece {
                start: *start,
                end: *end,
                pln_kwh: *pln_kwh,
            };
            mean(&(0..100), &pieces.iter().map(piece).collect::<Vec<_>>())
        };
        assert_eq!(of(&[(0, 25, 1.0), (25, 100, 5.0)]), Some(4.0));
        assert_eq!(of(&[(0, 25, 1.0), (26, 100, 5.0)]), None);
        assert_eq!(of(&[(0, 99, 1.0)]), None);
        assert_eq!(of(&[]), None);
    }
}
