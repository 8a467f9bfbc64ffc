//! What a kWh costs or brings, for rules about prices: by the tariffs of the ledger, or the market price itself.
//!
//! Promise: a price by tariffs is told for each quarter of an hour (UTC) at whose start it holds, so that the same instants and
//! prices come whatever range is asked for; where none is known there is none. Prices that may be missing because a part of the
//! store cannot be read are an error.

use super::{EngineReadings, off_the_loop};
use crate::import::OPTIMISER;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;
use wattlog_alerts::{FieldOf, PriceFigure, ReadingsError, Sample};
use wattlog_derived::price::{MARKET_PRICE, PRICES, PricePiece, StoredTariff};
use wattlog_derived::tariffs::{Priced, priced, stored_tariffs};
use wattlog_engine::query::{Order, QueryControl, TagFilter, TagPredicate};
use wattlog_ledger::schema::Direction;
use wattlog_model::Timestamp;

/// Tariffs change their prices, and markets theirs, with a quarter of an hour.
const QUARTER_NS: i64 = 900_000_000_000;

impl EngineReadings {
    pub(super) async fn prices_of(
        &self,
        figure: PriceFigure,
        range: Range<Timestamp>,
        limit: usize,
    ) -> Result<Vec<Sample>, ReadingsError> {
        let direction = match figure {
            PriceFigure::Total => Direction::Import,
            PriceFigure::Export => Direction::Export,
            PriceFigure::Market => return self.market(range, limit).await,
        };
        let quarters = quarters(&range);
        if quarters.is_empty() {
            return Ok(Vec::new());
        }
        let unavailable = |reason: String| ReadingsError::Unavailable { reason };
        let tariffs = stored_tariffs(&self.ledger).await.map_err(|error| unavailable(error.to_string()))?;
        let (engine, database, home) = (self.engine.clone(), self.database.clone(), self.home.clone());
        let control =
            QueryControl { deadline: Some(Instant::now() + self.query_time), ..QueryControl::default() };
        let asked = quarters.start * QUARTER_NS..quarters.end * QUARTER_NS;
        let found = off_the_loop(move || {
            priced(&tariffs, direction, &asked, |definition, times| {
                StoredTariff::parse(definition)?.pieces(&engine, &database, times, &home, &control)
            })
        })
        .await?;
        let Priced { pieces, notes, failed, is_lost, .. } = found;
        if let Some(error) = failed {
            return Err(unavailable(error.to_string()));
        }
        if is_lost {
            return Err(unavailable(notes.join("; ")));
        }
        let Some(pieces) = pieces else {
            return Err(ReadingsError::Unknown { reason: why(direction, &notes) });
        };
        Ok(by_quarter(&pieces, quarters).take(limit).collect())
    }

    /// The one series of market prices that the feeds keep.
    async fn market(&self, range: Range<Timestamp>, limit: usize) -> Result<Vec<Sample>, ReadingsError> {
        let of = FieldOf { measurement: PRICES.into(), tags: BTreeMap::new(), field: MARKET_PRICE.into() };
        let told = TagFilter {
            key: "source".to_owned(),
            predicate: TagPredicate::NotIn(vec![OPTIMISER.to_owned()]),
        };
        let found = self.ask_where(&of, vec![told], range, Order::Ascending, limit).await;
        found.map_err(|error| match error {
            ReadingsError::Ambiguous { count, example } => ReadingsError::Unknown {
                reason: format!(
                    "{count} market prices are kept ({example}): name the one that is meant in the configuration, alerts.prices.market"
                ),
            },
            other => other,
        })
    }
}

fn why(direction: Direction, notes: &[String]) -> String {
    if !notes.is_empty() {
        return notes.join("; ");
    }
    let (word, key) = match direction {
        Direction::Import => ("import", "total"),
        Direction::Export => ("export", "export"),
    };
    format!(
        "the ledger has no {word} tariff for that time: POST /api/v1/tariffs makes one, or name a field that holds the price in the configuration, alerts.prices.{key}"
    )
}

/// Numbers of the quarters that begin in `range`.
fn quarters(range: &Range<Timestamp>) -> Range<i64> {
    let first_from =
        |time: Timestamp| time.0.div_euclid(QUARTER_NS) + i64::from(time.0.rem_euclid(QUARTER_NS) > 0);
    first_from(range.start)..first_from(range.end)
}

/// The price at the start of each quarter; `pieces` rise and do not overlap.
fn by_quarter(pieces: &[PricePiece], quarters: Range<i64>) -> impl Iterator<Item = Sample> {
    quarters.filter_map(|quarter| {
        let time = quarter * QUARTER_NS;
        let next = pieces.partition_point(|piece| piece.start <= time);
        let piece = pieces[..next].last().filter(|piece| time < piece.end)?;
        Some(Sample { time: Timestamp(time), value: piece.pln_kwh })
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{engine, ledger, readings, write_as};
    use super::*;
    use serde_json::{Value, json};
    use wattlog_alerts::Readings as _;
    use wattlog_ledger::schema::Tariff;
    use wattlog_ledger::{Actor, Ledger};

    /// 2026-03-02T09:00:00Z, a Monday.
    const NINE: i64 = 1_772_442_000;

    async fn tell(ledger: &Ledger, direction: Direction, definition: Value) {
        let tariff = Tariff {
            name: "ours".to_owned(),
            direction,
            valid_from: Timestamp(0),
            valid_until: None,
            currency: "PLN".to_owned(),
            definition,
            note: String::new(),
        };
        ledger.insert(tariff, &Actor::new("test")).await.unwrap();
    }

    /// Minutes after nine, and the price in hundredths of a grosz.
    async fn told(
        readings: &EngineReadings,
        figure: PriceFigure,
        minutes: Range<i64>,
    ) -> Result<Vec<(i64, i64)>, ReadingsError> {
        let at = |minutes: i64| Timestamp((NINE + minutes * 60) * 1_000_000_000);
        let found = readings.prices(figure, at(minutes.start)..at(minutes.end), 100).await?;
        let rounded = |price: f64| (price * 10_000.0).round() as i64;
        Ok(found.iter().map(|one| ((one.time.0 / 1_000_000_000 - NINE) / 60, rounded(one.value))).collect())
    }

    #[tokio::test]
    async fn prices_are_those_of_the_tariffs_at_each_quarter() {
        let (engine, folder) = (engine(), tempfile::tempdir().unwrap());
        let ledger = ledger(&folder);
        let readings = readings(&engine, ledger.clone());
        let none = told(&readings, PriceFigure::Total, 0..60).await.unwrap_err();
        assert!(none.to_string().contains("alerts.prices.total"), "{none}");

        let market = json!({ "market": { "source": "pse", "product": "csdac-pln" } });
        tell(&ledger, Direction::Import, json!({ "builtin": "g11", "energy": market })).await;
        tell(&ledger, Direction::Export, json!({ "sold": true, "energy": { "fixed_pln_kwh": 0.25 } })).await;
        let pse = [("source", "pse"), ("product", "csdac-pln")];
        let quarters = [(0, 0.5), (15, 0.4), (30, -0.1)].map(|(minute, price)| (NINE + minute * 60, price));
        write_as(&engine, "prices", &pse, "market_price", &quarters);
        // G11 adds 0.0892 and 0.3125 PLN/kWh.
        let total = told(&readings, PriceFigure::Total, 1..40).await;
        assert_eq!(total, Ok(vec![(15, 8017), (30, 3017)]));
        assert_eq!(told(&readings, PriceFigure::Total, 0..1).await, Ok(vec![(0, 9017)]));
        // Nobody knows one for the next day.
        assert_eq!(told(&readings, PriceFigure::Total, 1440..1500).await, Ok(vec![]));
        // One price that never changes is told all the same.
        assert_eq!(
            told(&readings, PriceFigure::Export, -20..16).await,
            Ok(vec![(-15, 2500), (0, 2500), (15, 2500)])
        );
        assert_eq!(told(&readings, PriceFigure::Export, 1..15).await, Ok(vec![]));

        // The market alone, which an import does not double.
        write_as(&engine, "prices", &[("source", OPTIMISER)], "market_price", &quarters);
        let only = told(&readings, PriceFigure::Market, 0..60).await;
        assert_eq!(only, Ok(vec![(0, 5000), (15, 4000), (30, -1000)]));
        write_as(&engine, "prices", &[("source", "pse"), ("product", "rce-pln")], "market_price", &quarters);
        let both = told(&readings, PriceFigure::Market, 0..60).await.unwrap_err();
        assert!(both.to_string().contains("alerts.prices.market"), "{both}");
    }

    #[tokio::test]
    async fn prices_of_a_part_that_cannot_be_read_are_not_missing() {
        let (engine, folder) = (engine(), tempfile::tempdir().unwrap());
        let ledger = ledger(&folder);
        let market = json!({ "market": { "source": "pse" } });
        tell(&ledger, Direction::Import, json!({ "builtin": "g11", "energy": market })).await;
        write_as(&engine, "prices", &[("source", "pse")], "market_price", &[(NINE, 0.5), (NINE + 900, 0.4)]);
        engine.seal().unwrap();
        let segment = engine.snapshot().segments().iter().next().unwrap().entry().id;
        engine.quarantine(segment).unwrap();
        let lost = told(&readings(&engine, ledger), PriceFigure::Total, 0..60).await.unwrap_err();
        assert!(matches!(&lost, ReadingsError::Unavailable { .. }), "{lost}");
    }
}
