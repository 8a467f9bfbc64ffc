//! Prices over time and what they are made of: energy, fixed component, distribution.
//!
//! Promise: the total is that of [`StoredTariff::pieces`], which costs are computed with; energy is the same tariff's price
//! without distribution and fixed component. Where a price is not known there is none; a step that a price does not cover
//! whole has no mean.
//!
//! Hours of a tariff are those of the home. No VAT and no monthly fees: tariffs have none.

use crate::energy::number;
use crate::price::{MARKET_PRICE, PRICES, PriceError, PricePiece, StoredTariff, told_by};
use crate::series::{Tags, lost_of, times};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Range;
use wattlog_analytics::tariff::{
    Kompas, KompasHour, LONGEST_PRICE_NS, Tariff, TariffDefinition, builtin, price_ends,
};
use wattlog_engine::Engine;
use wattlog_engine::query::{
    Aggregate, Buckets, Every, GroupBy, QueryControl, QueryError, QueryRequest, TagFilter, TagPredicate, Zone,
};
use wattlog_model::Timestamp;

/// Most steps of an answer: a year of quarters of an hour.
pub const MOST_STEPS: usize = 366 * 96;
/// Most series of market prices of an answer.
pub const MOST_SERIES: usize = 20;
/// Most steps of all series of market prices together.
pub const MOST_TOLD: usize = 2 * MOST_STEPS;

/// A tariff and when it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Holding {
    /// First instant.
    pub start: i64,
    /// First instant after it.
    pub end: i64,
    /// As the ledger has it.
    pub definition: Value,
}

/// A stretch with one price; what is not known is none.
#[derive(Debug, Clone, PartialEq)]
pub struct PartsPiece {
    /// Its times.
    pub range: Range<i64>,
    /// Of the energy alone, PLN/kWh.
    pub energy: Option<f64>,
    /// What no hour changes; none for energy that is sold.
    pub fixed: Option<f64>,
    /// Of distribution; none for energy that is sold, and where it is not known.
    pub distribution: Option<f64>,
    /// All together.
    pub total: Option<f64>,
    /// Zone of the tariff.
    pub zone: Option<String>,
    /// Whether the energy's price is that of the market.
    pub is_market: bool,
}

/// A step of the answer.
#[derive(Debug, Clone, PartialEq)]
pub struct PriceStep {
    /// Its times.
    pub range: Range<i64>,
    /// The market's price, if the tariff goes by it.
    pub market: Option<f64>,
    /// Of the energy alone, PLN/kWh: means over the step, as are those below.
    pub energy: Option<f64>,
    /// What no hour changes.
    pub fixed: Option<f64>,
    /// Of distribution.
    pub distribution: Option<f64>,
    /// All together.
    pub total: Option<f64>,
    /// Zone of the tariff, if it is one all through.
    pub zone: Option<String>,
}

/// Market prices of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct MarketSeries {
    /// Its tags.
    pub tags: Tags,
    /// Mean of each step, PLN/kWh; none where it is not known all through.
    pub steps: Vec<(Range<i64>, Option<f64>)>,
}

/// The steps of `every` by the clock of `zone` that meet `range`; none if there are more than [`MOST_STEPS`].
pub fn steps(range: &Range<i64>, every: Every, zone: &Zone) -> Option<Vec<Range<i64>>> {
    let rule = Aggregate { every: Some(every), zone: zone.clone(), ..Aggregate::default() };
    let buckets = Buckets::new(&rule, range.clone())?;
    let mut steps = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let end = buckets.of(at).end.min(range.end);
        if steps.len() >= MOST_STEPS {
            return None;
        }
        steps.push(at..end);
        at = end;
    }
    Some(steps)
}

/// What a tariff costs while it holds, within `range`.
///
/// # Errors
/// See [`PriceError`].
pub fn parts(
    engine: &Engine,
    database: &str,
    holding: &Holding,
    range: &Range<i64>,
    home: &Zone,
    control: &QueryControl,
) -> Result<Vec<PartsPiece>, PriceError> {
    let range = holding.start.max(range.start)..holding.end.min(range.end);
    if range.start >= range.end {
        return Ok(Vec::new());
    }
    let stored = StoredTariff::parse(&holding.definition)?;
    let member = |name: &str| holding.definition.get(name).filter(|value| !value.is_null());
    let is_sold = member("sold").and_then(Value::as_bool).unwrap_or_default();
    let is_market = member("energy").is_none_or(|energy| energy.get("market").is_some());
    // The same without what is paid for the way: a tariff of energy that is sold has its price alone.
    let mut alone = serde_json::json!({ "sold": true });
    if let Some(energy) = member("energy") {
        alone["energy"] = energy.clone();
    }
    let pieces = |tariff: &StoredTariff| match tariff.pieces(engine, database, &range, home, control) {
        // Before the first point there is no market either.
        Err(PriceError::Query(QueryError::DatabaseNotFound(_))) => Ok(Vec::new()),
        found => found,
    };
    let energy = pieces(&StoredTariff::parse(&alone)?)?;
    let total = pieces(&stored)?;
    let tariff = if is_sold { None } else { tariff(&holding.definition)? };
    let kompas = match &tariff {
        Some(tariff) if tariff.needs_kompas() => kompas(engine, database, &range, control)?,
        _ => Vec::new(),
    };
    let ways = match &tariff {
        Some(tariff) => {
            let times = Timestamp(range.start)..Timestamp(range.end);
            tariff.pieces(times, home.time_zone(), &kompas)?
        }
        None => Vec::new(),
    };
    let fixed = tariff.as_ref().map(|tariff| tariff.definition().sc_component_pln_kwh);
    let mut borders: Vec<i64> = vec![range.start, range.end];
    borders.extend(energy.iter().chain(&total).flat_map(|piece| [piece.start, piece.end]));
    borders.extend(ways.iter().flat_map(|way| [way.start.0, way.end.0]));
    borders.sort_unstable();
    borders.dedup();
    let (mut energy, mut total) = (Reading::new(&energy), Reading::new(&total));
    let mut ways = ways.iter().peekable();
    let mut out = Vec::new();
    for pair in borders.windows(2) {
        while ways.peek().is_some_and(|way| way.end.0 <= pair[0]) {
            ways.next();
        }
        let way = ways.peek().filter(|way| way.start.0 <= pair[0]).map(|way| way.distribution);
        let known = way.filter(|way| !way.assumed);
        out.push(PartsPiece {
            range: pair[0]..pair[1],
            energy: energy.at(pair[0]),
            fixed,
            distribution: known.map(|way| way.pln_kwh),
            total: total.at(pair[0]),
            zone: known.map(|way| way.zone.to_owned()),
            is_market,
        });
    }
    Ok(out)
}

/// The rules of a definition that was understood.
fn tariff(definition: &Value) -> Result<Option<Tariff>, PriceError> {
    let member = |name: &str| definition.get(name).filter(|value| !value.is_null());
    if let Some(name) = member("builtin").and_then(Value::as_str) {
        return Ok(Some(builtin(name)?));
    }
    let Some(written) = member("tariff") else { return Ok(None) };
    let written: TariffDefinition =
        serde_json::from_value(written.clone()).map_err(|error| PriceError::Definition(error.to_string()))?;
    Ok(Some(Tariff::new(written)?))
}

/// Codes of the hours, for a tariff that goes by them.
fn kompas(
    engine: &Engine,
    database: &str,
    range: &Range<i64>,
    control: &QueryControl,
) -> Result<Vec<KompasHour>, PriceError> {
    let tags = [("source", "pse"), ("product", "pdgsz")].map(|(key, value)| TagFilter {
        key: key.to_owned(),
        predicate: TagPredicate::In(vec![value.to_owned()]),
    });
    let found = series_of(engine, database, ("usage_forecast", &tags), range, control)?;
    let mut hours = Vec::new();
    for (start, code) in found.into_values().next().unwrap_or_default() {
        let code = (code.fract() == 0.0 && (0.0..=255.0).contains(&code)).then_some(code as u8);
        if let Some(code) = code.and_then(Kompas::from_code) {
            hours.push(KompasHour { start: Timestamp(start), code });
        }
    }
    Ok(hours)
}

/// Means of what pieces say, by step. Pieces rise and do not overlap.
pub fn by_step(steps: &[Range<i64>], pieces: &[PartsPiece]) -> Vec<PriceStep> {
    let mut at = 0;
    let mut out = Vec::with_capacity(steps.len());
    for step in steps {
        while pieces.get(at).is_some_and(|piece| piece.range.end <= step.start) {
            at += 1;
        }
        let within: Vec<&PartsPiece> =
            pieces[at..].iter().take_while(|piece| piece.range.start < step.end).collect();
        let mean = |of: &dyn Fn(&PartsPiece) -> Option<f64>| {
            mean(step, within.iter().map(|piece| (piece.range.clone(), of(piece))))
        };
        let zone = within.first().and_then(|piece| piece.zone.clone());
        let mut covered = step.start;
        let is_one = within.iter().all(|piece| {
            let is_next = piece.range.start <= covered;
            covered = piece.range.end;
            is_next && piece.zone == zone
        });
        let is_one = is_one && covered >= step.end;
        out.push(PriceStep {
            range: step.clone(),
            market: mean(&|piece| piece.energy.filter(|_| piece.is_market)),
            energy: mean(&|piece| piece.energy),
            fixed: mean(&|piece| piece.fixed),
            distribution: mean(&|piece| piece.distribution),
            total: mean(&|piece| piece.total),
            zone: zone.filter(|_| is_one),
        });
    }
    out
}

/// Mean over a step, weighted by time; none unless it is known all through.
fn mean(step: &Range<i64>, pieces: impl Iterator<Item = (Range<i64>, Option<f64>)>) -> Option<f64> {
    let (mut covered, mut sum, mut only) = (step.start, 0.0, None);
    let mut differ = false;
    for (range, value) in pieces {
        let (start, end) = (range.start.max(step.start), range.end.min(step.end));
        if start > covered {
            return None;
        }
        let value = value?;
        differ |= only.is_some_and(|only| only != value);
        only = Some(value);
        sum += value * (end - start) as f64;
        covered = end;
    }
    let mean = sum / (step.end - step.start) as f64;
    // One price all through is that price, to the bit.
    if covered < step.end {
        None
    } else if differ {
        Some(mean)
    } else {
        only
    }
}

/// Market prices of all series that `tags` fit, by step.
///
/// # Errors
/// See [`PriceError`].
pub fn market(
    engine: &Engine,
    database: &str,
    tags: &[TagFilter],
    steps: &[Range<i64>],
    control: &QueryControl,
) -> Result<Vec<MarketSeries>, PriceError> {
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return Ok(Vec::new()) };
    let range = first.start..last.end;
    let found = series_of(engine, database, (MARKET_PRICE, tags), &range, control)?;
    let too_many = |what, found, most, advice| Err(PriceError::TooMany { what, found, most, advice });
    if found.len() > MOST_SERIES {
        return too_many(
            "series of market prices",
            found.len(),
            MOST_SERIES,
            "name tag.source or tag.product",
        );
    }
    let told = found.len() * steps.len();
    if told > MOST_TOLD {
        let advice = "name tag.source or tag.product, or ask for less time or longer steps";
        return too_many("steps of all series together", told, MOST_TOLD, advice);
    }
    let told = |(tags, points): (Tags, Vec<(i64, f64)>)| {
        let mut pieces = Vec::with_capacity(points.len());
        for (place, (start, price)) in points.iter().enumerate() {
            let at = |place: usize| points.get(place).map(|(time, _)| *time);
            let before = place.checked_sub(1).and_then(at);
            pieces.push((*start..price_ends(before, *start, at(place + 1), LONGEST_PRICE_NS), *price));
        }
        let mut at = 0;
        let by_step = steps.iter().map(|step| {
            while pieces.get(at).is_some_and(|(range, _)| range.end <= step.start) {
                at += 1;
            }
            let within = pieces[at..].iter().take_while(|(range, _)| range.start < step.end);
            let price = mean(step, within.map(|(range, price)| (range.clone(), Some(*price))));
            (step.clone(), price)
        });
        MarketSeries { steps: by_step.collect(), tags }
    };
    Ok(found.into_iter().map(told).collect())
}

/// Values of a field of [`PRICES`] by series: all that say what holds in `range`.
fn series_of(
    engine: &Engine,
    database: &str,
    (field, tags): (&str, &[TagFilter]),
    range: &Range<i64>,
    control: &QueryControl,
) -> Result<BTreeMap<Tags, Vec<(i64, f64)>>, PriceError> {
    let told = told_by(range);
    let request = QueryRequest {
        fields: Some(vec![field.to_owned()]),
        tags: tags.to_vec(),
        group_by: GroupBy::All,
        ..QueryRequest::raw(database, PRICES, told.start, told.end)
    };
    let result = match engine.query(&request, control) {
        Err(QueryError::DatabaseNotFound(_)) => return Ok(BTreeMap::new()),
        asked => asked?,
    };
    if !lost_of(&result).is_empty() {
        let reason = result.partial.first().map(|lost| lost.reason.clone());
        return Err(PriceError::Damaged(reason.unwrap_or_default()));
    }
    let mut all = BTreeMap::new();
    for series in &result.series {
        let Some(column) = series.column(field) else { continue };
        let known = times(series).enumerate();
        let points: Vec<(i64, f64)> =
            known.filter_map(|(row, time)| Some((time, number(&column.values, row)?))).collect();
        all.insert(series.tags.clone(), points);
    }
    Ok(all)
}

/// Pieces, read at times that rise.
struct Reading<'a> {
    pieces: &'a [PricePiece],
    at: usize,
}

impl<'a> Reading<'a> {
    fn new(pieces: &'a [PricePiece]) -> Self {
        Self { pieces, at: 0 }
    }

    fn at(&mut self, time: i64) -> Option<f64> {
        while self.pieces.get(self.at).is_some_and(|piece| piece.end <= time) {
            self.at += 1;
        }
        self.pieces.get(self.at).filter(|piece| piece.start <= time).map(|piece| piece.pln_kwh)
    }
}

#[cfg(test)]
mod tests;
