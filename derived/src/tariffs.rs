//! Prices by the tariffs of the ledger: which of them hold when, and what they come to.
//!
//! Invariant: where no tariff holds, or one cannot be reckoned with, there is no piece; why is told.

use crate::price::{PriceError, PricePiece, StoredTariff, join};
use serde_json::Value;
use std::ops::Range;
use wattlog_engine::Engine;
use wattlog_engine::query::{QueryControl, QueryError, Zone};
use wattlog_ledger::schema::{Direction, Tariff};
use wattlog_ledger::{Ledger, LedgerError, Listing, Stored};

/// Prices over a range, and why they are not whole.
#[derive(Debug, Default)]
pub struct Priced {
    /// By rising time; none if no tariff gives any.
    pub pieces: Option<Vec<PricePiece>>,
    /// Some tariff holds within the range, whether or not it could be reckoned with.
    pub is_held: bool,
    /// What is wrong with tariffs or market prices, for people.
    pub notes: Vec<String>,
    /// A question to the store that failed: prices may be missing that are there.
    pub failed: Option<QueryError>,
    /// Market prices that are there cannot be read.
    pub is_lost: bool,
}

/// All tariffs of the ledger.
///
/// # Errors
/// The ledger's.
pub async fn stored_tariffs(ledger: &Ledger) -> Result<Vec<Stored<Tariff>>, LedgerError> {
    let mut listing = Listing { limit: Listing::MAX_LIMIT, ..Listing::all() };
    let mut found = Vec::new();
    loop {
        let page = ledger.list::<Tariff>(&listing).await?;
        found.extend(page.records);
        let Some(next) = page.next else { return Ok(found) };
        listing.after = Some(next);
    }
}

/// When a tariff holds.
pub(crate) fn times_of(tariff: &Tariff) -> Range<i64> {
    tariff.valid_from.0..tariff.valid_until.map_or(i64::MAX, |end| end.0)
}

/// Prices of one tariff over some times, as the store has them.
///
/// # Errors
/// See [`PriceError`].
pub(crate) fn pieces_of(
    definition: &Value,
    (engine, database): (&Engine, &str),
    times: &Range<i64>,
    home: &Zone,
    control: &QueryControl,
) -> Result<Vec<PricePiece>, PriceError> {
    StoredTariff::parse(definition)?.pieces(engine, database, times, home, control)
}

/// What energy of that direction costs or brings over the range; `pieces` gives the prices of a tariff's definition.
pub fn priced(
    tariffs: &[Stored<Tariff>],
    direction: Direction,
    range: &Range<i64>,
    pieces: impl Fn(&Value, &Range<i64>) -> Result<Vec<PricePiece>, PriceError>,
) -> Priced {
    let mut priced = Priced::default();
    let mut found = Vec::new();
    for tariff in tariffs.iter().map(|stored| &stored.record).filter(|tariff| tariff.direction == direction) {
        let held = times_of(tariff);
        let times = held.start.max(range.start)..held.end.min(range.end);
        if times.start >= times.end {
            continue;
        }
        priced.is_held = true;
        match pieces(&tariff.definition, &times) {
            Ok(pieces) => found.push(pieces),
            Err(error) => {
                priced.notes.push(format!("tariff {:?}: {error}", tariff.name));
                match error {
                    PriceError::Query(error) => priced.failed = Some(error),
                    PriceError::Damaged(_) => priced.is_lost = true,
                    _ => {}
                }
            }
        }
    }
    priced.pieces = (!found.is_empty()).then(|| join(found));
    priced
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattlog_model::Timestamp;

    #[test]
    fn prices_that_cannot_be_read_are_not_taken_for_none() {
        let tariff = Tariff {
            name: "night".to_owned(),
            direction: Direction::Import,
            valid_from: Timestamp(0),
            valid_until: None,
            currency: "PLN".to_owned(),
            definition: Value::Null,
            note: String::new(),
        };
        let made = wattlog_ledger::Changed { at: Timestamp(0), by: String::new() };
        let stored = [Stored { id: 1, version: 1, created: made.clone(), updated: made, record: tariff }];
        let ask =
            |error: fn() -> PriceError| priced(&stored, Direction::Import, &(0..10), |_, _| Err(error()));
        let lost = ask(|| PriceError::Damaged("block 3".to_owned()));
        assert!(
            lost.is_lost && lost.is_held && lost.pieces.is_none() && lost.notes[0].contains("block 3"),
            "{lost:?}"
        );
        assert!(!ask(|| PriceError::Definition("no tariff".to_owned())).is_lost);
    }
}
