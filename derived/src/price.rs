//! What a kilowatt hour costs at each instant: a tariff as the ledger holds it, and the market prices it may need.
//!
//! A stored tariff is a JSON object with
//! - `builtin`: a name that `wattlog-analytics` knows (`g11`, `g12` ...), or `tariff`: a whole definition;
//! - `energy`: `{"fixed_pln_kwh": 0.62}`, or `{"market": {"source": "pse", "product": "csdac-pln"}}` with the tags of the
//!   series in the measurement `prices` whose `market_price` (PLN/kWh) is meant. Left out: `{"market": {}}`, the only series
//!   there is;
//! - for energy that is sold, `sold: true`: the price is the energy's alone, without distribution and fixed parts.
//!
//! Invariant: where no price is known there is no piece; a price is never made up.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Range;
use wattlog_analytics::tariff::{
    MAX_PRICE_PLN_KWH, MAX_RANGE_NS, MarketPrices, Tariff, TariffDefinition, TariffError, builtin,
};
use wattlog_engine::Engine;
use wattlog_engine::query::{
    GroupBy, QueryControl, QueryError, QueryRequest, ResultValues, TagFilter, TagPredicate, Zone,
};
use wattlog_model::Timestamp;

/// Where market prices are.
pub const PRICES: &str = "prices";
/// Their field, PLN/kWh.
pub const MARKET_PRICE: &str = "market_price";
/// A market price holds for as long as its period, and no period is longer.
const LONGEST_PERIOD_NS: i64 = 3_600_000_000_000;

/// Why there is no price.
#[derive(Debug, thiserror::Error)]
pub enum PriceError {
    /// The object is no tariff.
    #[error("the tariff's definition: {0}")]
    Definition(String),
    /// The rules are not sound, or do not cover the time.
    #[error(transparent)]
    Tariff(#[from] TariffError),
    /// Market prices could not be asked for.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// Several series of market prices fit.
    #[error(
        "{count} series of {PRICES} fit the tariff's energy.market {tags}: name source and product so that one does"
    )]
    Ambiguous {
        /// How many.
        count: usize,
        /// What was asked for.
        tags: String,
    },
}

/// A tariff that was understood.
#[derive(Debug, Clone)]
pub struct StoredTariff {
    tariff: Tariff,
    energy: Energy,
    sold: bool,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Energy {
    /// The same at any time.
    FixedPlnKwh(f64),
    /// Tags of the series.
    Market(BTreeMap<String, String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    builtin: Option<String>,
    tariff: Option<TariffDefinition>,
    energy: Option<Energy>,
    #[serde(default)]
    sold: bool,
}

/// A stretch of time with one price.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PricePiece {
    /// First instant.
    pub start: i64,
    /// First instant after it.
    pub end: i64,
    /// PLN/kWh; may be negative.
    pub pln_kwh: f64,
}

impl StoredTariff {
    /// Understands what the ledger holds.
    ///
    /// # Errors
    /// [`PriceError::Definition`] or [`PriceError::Tariff`], saying what is wrong.
    pub fn parse(definition: &Value) -> Result<Self, PriceError> {
        let written: Written = serde_json::from_value(definition.clone())
            .map_err(|error| PriceError::Definition(error.to_string()))?;
        let energy = written.energy.unwrap_or_else(|| Energy::Market(BTreeMap::new()));
        if let Energy::FixedPlnKwh(price) = energy
            && !(price.is_finite() && price.abs() <= MAX_PRICE_PLN_KWH)
        {
            return Err(PriceError::Definition(format!(
                "energy.fixed_pln_kwh: at most {MAX_PRICE_PLN_KWH} PLN/kWh"
            )));
        }
        let tariff = match (written.builtin, written.tariff) {
            (Some(name), None) => builtin(&name)?,
            (None, Some(definition)) => Tariff::new(definition)?,
            // What is sold pays no distribution: its tariff is never asked.
            (None, None) if written.sold => builtin("g11")?,
            _ => return Err(PriceError::Definition("either `builtin` or `tariff` is wanted".to_owned())),
        };
        Ok(Self { tariff, energy, sold: written.sold })
    }

    /// Prices over `range`, rising and not overlapping, by the clock of `zone`.
    ///
    /// # Errors
    /// See [`PriceError`].
    pub fn pieces(
        &self,
        engine: &Engine,
        database: &str,
        range: &Range<i64>,
        zone: &Zone,
        control: &QueryControl,
    ) -> Result<Vec<PricePiece>, PriceError> {
        if range.start >= range.end {
            return Ok(Vec::new());
        }
        let (points, max_age_ns) = match &self.energy {
            Energy::FixedPlnKwh(price) => {
                (vec![(Timestamp(range.start), price * 1000.0)], range.end.saturating_sub(range.start))
            }
            Energy::Market(tags) => market(engine, database, tags, range, control)?,
        };
        let market = MarketPrices { points: &points, max_age_ns };
        if self.sold {
            let mut out = Vec::new();
            for (place, (time, pln_mwh)) in points.iter().enumerate() {
                let next = points.get(place + 1).map_or(i64::MAX, |(time, _)| time.0);
                let start = time.0.max(range.start);
                let end = time.0.saturating_add(max_age_ns).min(next).min(range.end);
                if start < end {
                    out.push(PricePiece { start, end, pln_kwh: pln_mwh / 1000.0 });
                }
            }
            return Ok(out);
        }
        let piece = |p: &wattlog_analytics::tariff::TotalPiece<'_>| PricePiece {
            start: p.start.0,
            end: p.end.0,
            pln_kwh: p.total_pln_kwh,
        };
        let mut out = Vec::new();
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start.saturating_add(MAX_RANGE_NS));
            let times = Timestamp(start)..Timestamp(end);
            let pieces = self.tariff.total_prices(market, times, zone.time_zone(), &[])?;
            out.extend(pieces.iter().map(piece));
            start = end;
        }
        Ok(out)
    }
}

/// Market prices in PLN/MWh, and how long one holds at most.
fn market(
    engine: &Engine,
    database: &str,
    tags: &BTreeMap<String, String>,
    range: &Range<i64>,
    control: &QueryControl,
) -> Result<(Vec<(Timestamp, f64)>, i64), PriceError> {
    let filter = |(key, value): (&String, &String)| TagFilter {
        key: key.clone(),
        predicate: TagPredicate::In(vec![value.clone()]),
    };
    let start = Timestamp(range.start.saturating_sub(LONGEST_PERIOD_NS));
    let request = QueryRequest {
        fields: Some(vec![MARKET_PRICE.to_owned()]),
        tags: tags.iter().map(filter).collect(),
        group_by: GroupBy::All,
        ..QueryRequest::raw(database, PRICES, start, Timestamp(range.end))
    };
    let result = engine.query(&request, control)?;
    if result.series.len() > 1 {
        let tags = format!("{tags:?}");
        return Err(PriceError::Ambiguous { count: result.series.len(), tags });
    }
    let Some(series) = result.series.first() else { return Ok((Vec::new(), LONGEST_PERIOD_NS)) };
    let prices = series.column(MARKET_PRICE).map(|column| &column.values);
    let times = series.columns.first().map(|column| &column.values);
    let (Some(ResultValues::Time(times)), Some(prices)) = (times, prices) else {
        return Ok((Vec::new(), LONGEST_PERIOD_NS));
    };
    let mut points = Vec::with_capacity(times.len());
    for (row, time) in times.iter().enumerate() {
        if let (Some(time), Some(price)) = (time, crate::energy::number(prices, row)) {
            points.push((Timestamp(*time), price * 1000.0));
        }
    }
    Ok((points, LONGEST_PERIOD_NS))
}

/// Joins the pieces of tariffs that follow each other.
pub fn join(pieces: impl IntoIterator<Item = Vec<PricePiece>>) -> Vec<PricePiece> {
    let mut out: Vec<PricePiece> = pieces.into_iter().flatten().collect();
    out.sort_by_key(|piece| piece.start);
    out
}
