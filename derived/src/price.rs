//! What a kilowatt hour costs at each instant: a tariff as the ledger holds it, and the market prices it may need.
//!
//! A stored tariff is a JSON object with
//! - `builtin`: a name that `wattlog-analytics` knows (`g11`, `g12` ...), or `tariff`: a whole definition;
//! - `energy`: `{"fixed_pln_kwh": 0.62}`, or `{"market": {"source": "pse", "product": "csdac-pln"}}` with the tags of the
//!   series in the measurement `prices` whose `market_price` (PLN/kWh) is meant; of a list the first that has a price at an
//!   instant counts. Left out: `{"market": {}}`, the only series there is;
//! - for energy that is sold, `sold: true`: the price is the energy's alone, without distribution and fixed parts.
//!
//! A tariff that goes by the code of the hour (`g14dynamic`) needs the series `pse`, `pdgsz` too.
//!
//! Invariant: where no price is known there is no piece; a price is never made up.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;
use wattlog_analytics::tariff::{
    Kompas, KompasHour, LONGEST_PRICE_NS, MAX_PRICE_PLN_KWH, MAX_RANGE_NS, MarketPrices, Tariff,
    TariffDefinition, TariffError, builtin, price_ends,
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
/// The field with the codes of hours (PSE Kompas), of the product `pdgsz`.
const USAGE_FORECAST: &str = "usage_forecast";

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
    /// Some of them cannot be read.
    #[error("{PRICES} cannot be read in part: {0}")]
    Damaged(String),
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
    /// More than an answer takes.
    #[error("{what}: {found}, at most {most} are told at a time; {advice}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many may be.
        most: usize,
        /// What to do.
        advice: &'static str,
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
    Market(Series),
}

/// Tags of one series, or of several in the order in which they count.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
enum Series {
    One(BTreeMap<String, String>),
    Several(Vec<BTreeMap<String, String>>),
}

impl Series {
    fn list(&self) -> &[BTreeMap<String, String>] {
        match self {
            Self::One(tags) => std::slice::from_ref(tags),
            Self::Several(list) => list,
        }
    }
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
        let energy = written.energy.unwrap_or_else(|| Energy::Market(Series::One(BTreeMap::new())));
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
        let kompas = self.kompas(engine, database, range, control)?;
        let sources = match &self.energy {
            Energy::FixedPlnKwh(price) => {
                let points = vec![(Timestamp(range.start), price * 1000.0)];
                return self.over(&points, range.end.saturating_sub(range.start), range, zone, &kompas);
            }
            Energy::Market(series) => series.list(),
        };
        let mut out = Vec::new();
        for tags in sources {
            let found = field_of(engine, &request(database, tags, MARKET_PRICE, range), control)?;
            let points: Vec<_> = found.into_iter().map(|(time, price)| (time, price * 1000.0)).collect();
            out = filled(out, self.over(&points, LONGEST_PRICE_NS, range, zone, &kompas)?);
        }
        Ok(out)
    }

    /// A number that is the same in one run of the process only if [`StoredTariff::pieces`] are.
    pub(crate) fn version(
        &self,
        engine: &Engine,
        database: &str,
        range: &Range<i64>,
    ) -> Result<u64, QueryError> {
        let mut requests = Vec::new();
        if let Energy::Market(series) = &self.energy {
            requests.extend(series.list().iter().map(|tags| request(database, tags, MARKET_PRICE, range)));
        }
        if self.goes_by_kompas() {
            requests.push(request(database, &kompas_tags(), USAGE_FORECAST, range));
        }
        let mut version = DefaultHasher::new();
        for request in requests {
            engine.query_version(&request)?.hash(&mut version);
        }
        Ok(version.finish())
    }

    fn goes_by_kompas(&self) -> bool {
        !self.sold && self.tariff.needs_kompas()
    }

    /// Codes of the hours, for a tariff that goes by them.
    fn kompas(
        &self,
        engine: &Engine,
        database: &str,
        range: &Range<i64>,
        control: &QueryControl,
    ) -> Result<Vec<KompasHour>, PriceError> {
        if !self.goes_by_kompas() {
            return Ok(Vec::new());
        }
        let found = field_of(engine, &request(database, &kompas_tags(), USAGE_FORECAST, range), control)?;
        let hour = |(start, code): (Timestamp, f64)| {
            let code = (code.fract() == 0.0 && (0.0..=255.0).contains(&code)).then_some(code as u8)?;
            Some(KompasHour { start, code: Kompas::from_code(code)? })
        };
        Ok(found.into_iter().filter_map(hour).collect())
    }

    /// Prices where `points` (PLN/MWh) hold.
    fn over(
        &self,
        points: &[(Timestamp, f64)],
        max_age_ns: i64,
        range: &Range<i64>,
        zone: &Zone,
        kompas: &[KompasHour],
    ) -> Result<Vec<PricePiece>, PriceError> {
        let mut out = Vec::new();
        if self.sold {
            for (place, (time, pln_mwh)) in points.iter().enumerate() {
                let at = |place: usize| points.get(place).map(|(time, _)| time.0);
                let before = place.checked_sub(1).and_then(at);
                let start = time.0.max(range.start);
                let end = price_ends(before, time.0, at(place + 1), max_age_ns).min(range.end);
                if start < end {
                    out.push(PricePiece { start, end, pln_kwh: pln_mwh / 1000.0 });
                }
            }
            return Ok(out);
        }
        let market = MarketPrices { points, max_age_ns };
        let piece = |p: &wattlog_analytics::tariff::TotalPiece<'_>| PricePiece {
            start: p.start.0,
            end: p.end.0,
            pln_kwh: p.total_pln_kwh,
        };
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start.saturating_add(MAX_RANGE_NS));
            let times = Timestamp(start)..Timestamp(end);
            let pieces = self.tariff.total_prices(market, times, zone.time_zone(), kompas)?;
            // What is assumed is not known.
            out.extend(pieces.iter().filter(|piece| !piece.assumed).map(piece));
            start = end;
        }
        Ok(out)
    }
}

/// `first`, and where it has nothing, `second`; both rise.
fn filled(first: Vec<PricePiece>, second: Vec<PricePiece>) -> Vec<PricePiece> {
    if first.is_empty() {
        return second;
    }
    let mut out = first.clone();
    let mut at = 0;
    for piece in second {
        let mut start = piece.start;
        while first.get(at).is_some_and(|held| held.end <= start) {
            at += 1;
        }
        for held in first[at..].iter().take_while(|held| held.start < piece.end) {
            if start < held.start {
                out.push(PricePiece { start, end: held.start, ..piece });
            }
            start = start.max(held.end);
        }
        if start < piece.end {
            out.push(PricePiece { start, ..piece });
        }
    }
    out.sort_by_key(|piece| piece.start);
    out
}

fn kompas_tags() -> BTreeMap<String, String> {
    let tags = [("source", "pse"), ("product", "pdgsz")];
    tags.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Times of the prices that say what holds in `range`: the one it begins in, and the neighbours of the first and the last, which tell
/// how long each holds.
pub(crate) fn told_by(range: &Range<i64>) -> Range<Timestamp> {
    let start = range.start.saturating_sub(2 * LONGEST_PRICE_NS);
    Timestamp(start)..Timestamp(range.end.saturating_add(LONGEST_PRICE_NS))
}

/// Times in which a price may hold that is new, changed or gone within `times`, or that has a neighbour there.
pub(crate) fn touched_by(times: &Range<i64>) -> Range<i64> {
    times.start.saturating_sub(LONGEST_PRICE_NS)..times.end.saturating_add(2 * LONGEST_PRICE_NS)
}

/// Asks for a field of one series of [`PRICES`].
fn request(database: &str, tags: &BTreeMap<String, String>, field: &str, range: &Range<i64>) -> QueryRequest {
    let filter = |(key, value): (&String, &String)| TagFilter {
        key: key.clone(),
        predicate: TagPredicate::In(vec![value.clone()]),
    };
    let told = told_by(range);
    QueryRequest {
        fields: Some(vec![field.to_owned()]),
        tags: tags.iter().map(filter).collect(),
        group_by: GroupBy::All,
        ..QueryRequest::raw(database, PRICES, told.start, told.end)
    }
}

/// Values of the one series that is asked for, by rising time.
fn field_of(
    engine: &Engine,
    request: &QueryRequest,
    control: &QueryControl,
) -> Result<Vec<(Timestamp, f64)>, PriceError> {
    let result = engine.query(request, control)?;
    if let Some(lost) = result.partial.first() {
        return Err(PriceError::Damaged(lost.reason.clone()));
    }
    if result.series.len() > 1 {
        return Err(PriceError::Ambiguous { count: result.series.len(), tags: told(&request.tags) });
    }
    let Some(series) = result.series.first() else { return Ok(Vec::new()) };
    let prices = series.columns.get(1).map(|column| &column.values);
    let times = series.columns.first().map(|column| &column.values);
    let (Some(ResultValues::Time(times)), Some(prices)) = (times, prices) else {
        return Ok(Vec::new());
    };
    let mut points = Vec::with_capacity(times.len());
    for (row, time) in times.iter().enumerate() {
        if let (Some(time), Some(price)) = (time, crate::energy::number(prices, row)) {
            points.push((Timestamp(*time), price));
        }
    }
    Ok(points)
}

/// Tags as they stand in a definition.
fn told(tags: &[TagFilter]) -> String {
    let value = |filter: &TagFilter| match &filter.predicate {
        TagPredicate::In(values) => values.join(","),
        _ => String::new(),
    };
    let tags: BTreeMap<&str, String> =
        tags.iter().map(|filter| (filter.key.as_str(), value(filter))).collect();
    format!("{tags:?}")
}

/// The pieces that meet `times`; pieces rise.
pub(crate) fn within<'p>(pieces: &'p [PricePiece], times: &Range<i64>) -> &'p [PricePiece] {
    let first = pieces.partition_point(|piece| piece.end <= times.start);
    let end = pieces.partition_point(|piece| piece.start < times.end);
    &pieces[first..end.max(first)]
}

/// Joins the pieces of tariffs that follow each other.
pub fn join(pieces: impl IntoIterator<Item = Vec<PricePiece>>) -> Vec<PricePiece> {
    let mut out: Vec<PricePiece> = pieces.into_iter().flatten().collect();
    out.sort_by_key(|piece| piece.start);
    out
}
