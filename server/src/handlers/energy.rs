//! Energy and money by day, month and year.

use super::query::{PARTIAL, partial_text};
use crate::answer::AnswerWatch;
use crate::asked::{self, csv_line};
use crate::budget::Peer;
use crate::error::ApiError;
use crate::state::ServerState;
use crate::url::QueryPairs;
use crate::wire::time::{parse_query_time, write_rfc3339_in};
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::ops::Range;
use std::sync::Arc;
use wattlog_derived::PriceCache;
use wattlog_derived::energy::{
    self, EnergyAnswer, EnergyError, EnergyKeeper, EnergyRequest, FIELDS, Period, QUARTER_NS, coverage,
    energies, quarter_of, rounded, shares,
};
use wattlog_derived::price::{PriceError, PricePiece, StoredTariff};
use wattlog_derived::tariffs::{priced, stored_tariffs};
use wattlog_engine::Engine;
use wattlog_engine::query::{Aggregate, Buckets, Every, QueryControl, Zone};
use wattlog_ledger::Stored;
use wattlog_ledger::schema::{Direction, Tariff};
use wattlog_model::Timestamp;
use wattlog_wire::shortened;

/// Energy of days, months or years: by source and sink, with costs, revenues and shares.
#[utoipa::path(get, path = "/api/v1/energy", tag = "meaning",
    params(
        ("period" = Option<String>, Query, description = "day (default), month or year"),
        ("start" = Option<String>, Query, description = "Beginning, as for /api/v1/query; default: of 31 days, 12 months or 20 years, at the beginning of the first"),
        ("end" = Option<String>, Query, description = "End, not included; default now"),
        ("tz" = Option<String>, Query, description = "IANA zone of the periods; default the home zone"),
        ("device_id" = Option<String>, Query, description = "Only this device"),
        ("format" = Option<String>, Query, description = "json (default), csv")),
    responses(
        (status = 200, description = "`{\"period\",\"tz\",\"currency\",\"devices\":[{\"device_id\",\"periods\":[{\"start\",\"end\",\"coverage\",\"pv_kwh\",..,\"cost\",\"revenue\"}]}],\"pending\",\"lost\",\"notes\"}`"),
        (status = 400, description = "A parameter is wrong; the message names it"),
        (status = 503, description = "Too many queries at a time, or out of time")))]
pub(crate) async fn energy(
    State(state): State<ServerState>,
    peer: Peer,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let now = state.shared.clock.wall();
    let home = state.shared.bucket_zone.clone();
    let asked = Asked::parse(query, &home, now)?;
    let keeper = state.energy()?;
    // Without the ledger there are energies all the same.
    let tariffs = match state.ledger() {
        Ok(ledger) => stored_tariffs(ledger).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.message.clone()),
    };
    let text = format!("energy {} {}", asked.period.name(), asked.zone.name());
    let (shared, counted) = (Arc::clone(&state.shared), state.clone());
    let is_csv = asked.is_csv;
    let (body, is_partial) = state
        .query("energy", text, move |engine, control, _| {
            let (months, known_prices) = &shared.months;
            let Prices { pieces: [import_prices, export_prices], mut notes, is_lost } =
                prices((engine, known_prices), &keeper, &tariffs, (&asked.range, &home), control);
            let status = keeper.status();
            if let Some(error) = &status.error {
                notes.push(format!("energies are not kept at present: {error}"));
            }
            let request = EnergyRequest {
                range: asked.range.clone(),
                now: now.0,
                every: asked.period.every(),
                zone: asked.zone.clone(),
                device: asked.device.clone(),
                import_prices,
                export_prices,
            };
            let answer = energy::answer(engine, keeper.options(), (&status, Some(months)), &request, control)
                .map_err(refusal)?;
            let body = if asked.is_csv { csv(&answer, &asked) } else { told(&answer, &asked, &notes)? };
            let body = AnswerWatch::new(&counted, peer, control).written(body)?;
            Ok((body, is_lost || !answer.lost.is_empty() || !answer.pending.is_empty()))
        })
        .await?;
    let mut response = asked::told(body, is_csv);
    // A table has no place for it.
    response.headers_mut().insert(PARTIAL, partial_text(is_partial));
    Ok(response)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PeriodLength {
    Day,
    Month,
    Year,
}

impl PeriodLength {
    const ALL: [Self; 3] = [Self::Day, Self::Month, Self::Year];

    fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    fn every(self) -> Every {
        match self {
            Self::Day => Every::Days(1),
            Self::Month => Every::Months(1),
            Self::Year => Every::Months(12),
        }
    }

    /// Days back from now in which the first period begins that is shown if no other is asked for.
    fn shown_days(self) -> i64 {
        match self {
            Self::Day => 30,
            Self::Month => 335,
            Self::Year => 19 * 365,
        }
    }
}

/// Most periods of an answer, of each device.
const MOST_PERIODS: i64 = 40_000;

struct Asked {
    period: PeriodLength,
    /// Whole quarters.
    range: Range<i64>,
    /// Where the last period ends as it is told.
    end: i64,
    zone: Zone,
    device: Option<String>,
    is_csv: bool,
}

impl Asked {
    fn parse(query: QueryPairs, home: &Zone, now: Timestamp) -> Result<Self, ApiError> {
        let [period, start, end, tz, device, format] =
            query.only(["period", "start", "end", "tz", "device_id", "format"])?;
        let bad = |text: String| ApiError::bad_request(text);
        let period = match period.as_deref() {
            None => PeriodLength::Day,
            Some(text) => PeriodLength::ALL
                .into_iter()
                .find(|known| known.name() == text)
                .ok_or_else(|| bad(format!("period: day, month or year, not {:?}", shortened(text))))?,
        };
        let zone = match tz.as_deref() {
            None => home.clone(),
            Some(name) => Zone::named(name).ok_or_else(|| {
                bad(format!("tz: {:?} is no IANA time zone: write one like Europe/Warsaw", shortened(name)))
            })?,
        };
        let time = |name: &str, text: Option<String>| {
            text.map(|text| parse_query_time(&text, now).map_err(|error| bad(format!("{name}: {error}"))))
                .transpose()
        };
        let end = time("end", end)?.unwrap_or(now).0;
        let start = match time("start", start)? {
            Some(start) => start.0,
            None => {
                let back = end.saturating_sub(period.shown_days() * Timestamp::DAY_NS);
                let rule =
                    Aggregate { every: Some(period.every()), zone: zone.clone(), ..Aggregate::default() };
                Buckets::new(&rule, back..end).map_or(back, |buckets| buckets.of(back).start)
            }
        };
        if start >= end {
            return Err(bad("start: must be before end".to_owned()));
        }
        if end.saturating_sub(start) / Timestamp::DAY_NS > MOST_PERIODS {
            return Err(bad(format!("start: at most {MOST_PERIODS} days before end")));
        }
        // Quarters are what there is; the last one may not be over.
        let start = quarter_of(start);
        let last = quarter_of(end - 1).saturating_add(QUARTER_NS);
        let shown_end = if end <= now.0 { last.min(now.0) } else { end };
        let is_csv = match format.as_deref() {
            None | Some("json") => false,
            Some("csv") => true,
            Some(other) => return Err(bad(format!("format: json or csv, not {:?}", shortened(other)))),
        };
        Ok(Self { period, range: start..last, end: shown_end, zone, device, is_csv })
    }

    /// By the clock of the zone, with its offset.
    fn time(&self, ns: i64) -> String {
        let mut out = Vec::new();
        write_rfc3339_in(&mut out, ns, &self.zone);
        out.into_iter().map(char::from).collect()
    }
}

/// Prices of what is bought and sold, and why they are not whole.
#[derive(Default)]
struct Prices {
    pieces: [Option<Vec<PricePiece>>; 2],
    notes: Vec<String>,
    /// Some that are there could not be read.
    is_lost: bool,
}

/// Prices over the range.
fn prices(
    (engine, known): (&Engine, &PriceCache),
    keeper: &Arc<EnergyKeeper>,
    tariffs: &Result<Vec<Stored<Tariff>>, String>,
    (range, home): (&Range<i64>, &Zone),
    control: &QueryControl,
) -> Prices {
    let tariffs = match tariffs {
        Ok(tariffs) => tariffs,
        Err(error) => return Prices { notes: vec![format!("no money: {error}")], ..Prices::default() },
    };
    let (mut notes, mut is_lost) = (Vec::new(), false);
    let mut of = |direction: Direction, what: &str| {
        let found = priced(tariffs, direction, range, |definition, times| {
            // Hours of a tariff are those of the home, whoever asks.
            let database = &keeper.options().database;
            known.pieces(definition, (engine, database), times, home, control)
        });
        notes.extend(found.notes);
        is_lost |= found.is_lost || found.failed.is_some();
        if !found.is_held {
            notes.push(format!("no {what}: the ledger has no tariff for that time (POST /api/v1/tariffs)"));
        } else if found.pieces.as_ref().is_some_and(Vec::is_empty) {
            notes.push(format!(
                "no {what}: no price is known at any time of it (/api/v1/prices?direction={} tells each hour)",
                direction.as_str()
            ));
        }
        found.pieces
    };
    let pieces = [of(Direction::Import, "cost"), of(Direction::Export, "revenue")];
    Prices { pieces, notes, is_lost }
}

fn refusal(error: EnergyError) -> ApiError {
    match error {
        EnergyError::Query(error) => error.into(),
        error @ EnergyError::Points { .. } => {
            ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "unusable_points", error.to_string())
        }
    }
}

/// A tariff that can be reckoned with, before it is stored.
///
/// # Errors
/// 400 that says what is wrong with its definition.
pub(super) fn check_tariff(tariff: &Tariff) -> Result<(), ApiError> {
    if tariff.currency != "PLN" {
        let text = format!(
            "currency: {:?}, but what a definition says is PLN/kWh: say PLN",
            shortened(&tariff.currency)
        );
        return Err(ApiError::bad_request(text));
    }
    let checked = StoredTariff::parse(&tariff.definition);
    checked.map(drop).map_err(|error| match error {
        PriceError::Definition(text) => ApiError::bad_request(format!("definition: {text}")),
        other => ApiError::bad_request(format!("definition: {other}")),
    })
}

fn told(answer: &EnergyAnswer, asked: &Asked, notes: &[String]) -> Result<Vec<u8>, ApiError> {
    let range =
        |range: &Range<i64>| json!({ "start": asked.time(range.start), "end": asked.time(range.end) });
    let told = Told {
        currency: "PLN",
        devices: answer
            .devices
            .iter()
            .map(|device| DeviceTold {
                device_id: &device.device,
                periods: Periods { asked, list: &device.periods },
            })
            .collect(),
        lost: answer.lost.iter().map(range).collect(),
        notes,
        pending: answer.pending.iter().map(range).collect(),
        period: asked.period.name(),
        tz: asked.zone.name(),
    };
    let bytes = serde_json::to_vec(&told);
    bytes.map_err(|error| ApiError::internal(error.to_string()))
}

/// Periods are made one by one while they are written: of a year of days there are thousands.
#[derive(Serialize)]
struct Told<'a> {
    currency: &'static str,
    devices: Vec<DeviceTold<'a>>,
    lost: Vec<Value>,
    notes: &'a [String],
    pending: Vec<Value>,
    period: &'static str,
    tz: &'a str,
}

#[derive(Serialize)]
struct DeviceTold<'a> {
    device_id: &'a str,
    periods: Periods<'a>,
}

struct Periods<'a> {
    asked: &'a Asked,
    list: &'a [Period],
}

impl Serialize for Periods<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.list.iter().map(|period| period_json(period, self.asked)))
    }
}

fn period_json(period: &Period, asked: &Asked) -> Value {
    let mut out = Map::new();
    out.insert("start".into(), asked.time(period.times.start).into());
    out.insert("end".into(), asked.time(period.times.end.min(asked.end)).into());
    out.extend(energy::figures(period, asked.end));
    Value::Object(out)
}

fn csv(answer: &EnergyAnswer, asked: &Asked) -> Vec<u8> {
    let mut out = Vec::new();
    let names = FIELDS.into_iter().filter(|name| name.ends_with("_kwh"));
    let head = ["device_id", "start", "end", "coverage"].into_iter().chain(names);
    let tail = ["self_consumption", "self_sufficiency", "cost_pln", "revenue_pln"];
    let priced = ["cost_priced_kwh", "revenue_priced_kwh"];
    csv_line(&mut out, head.chain(tail).chain(priced).map(str::to_owned));
    let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
    for device in &answer.devices {
        for period in &device.periods {
            let head = [
                device.device.clone(),
                asked.time(period.times.start),
                asked.time(period.times.end.min(asked.end)),
            ];
            let money = [period.cost, period.revenue];
            let pln = money.map(|money| money.map(|money| rounded(money.pln)));
            let priced = money.map(|money| money.map(|money| rounded(money.priced_kwh)));
            let tail = shares(&period.values).into_iter().chain(pln).chain(priced);
            let values = std::iter::once(Some(coverage(period, asked.end)))
                .chain(energies(&period.values).map(|(_, value)| value))
                .chain(tail);
            csv_line(&mut out, head.into_iter().chain(values.map(number)));
        }
    }
    out
}
