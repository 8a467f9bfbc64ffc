//! What a kilowatt hour costs or brings over time, and what that is made of.

use crate::answer::{Answer, AnswerWatch};
use crate::asked::{self, csv_line};
use crate::budget::Peer;
use crate::error::ApiError;
use crate::state::ServerState;
use crate::url::QueryPairs;
use crate::wire::time::parse_every;
use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use serde_json::{Map, Value, json};
use std::ops::Range;
use wattlog_derived::price::{MARKET_PRICE, PRICES, PriceError};
use wattlog_derived::prices::{Holding, MOST_STEPS, MarketSeries, PriceStep, by_step, market, parts, steps};
use wattlog_engine::query::{Aggregate, Buckets, Every, TagFilter, Zone};
use wattlog_ledger::schema::{Direction, Tariff};
use wattlog_ledger::{Ledger, Listing};
use wattlog_model::Timestamp;
use wattlog_wire::shortened;

/// Market price and total price by hour or quarter, with the parts of the total.
#[utoipa::path(get, path = "/api/v1/prices", tag = "meaning",
    params(
        ("start" = Option<String>, Query, description = "Beginning, as for /api/v1/query; default: today's midnight in the zone"),
        ("end" = Option<String>, Query, description = "End, not included; default: the end of the day after that of start"),
        ("tariff" = Option<String>, Query, description = "Name of a tariff of the ledger; without it market prices alone"),
        ("direction" = Option<String>, Query, description = "import (default) or export; without tariff: the tariffs of that direction, each while it holds"),
        ("device_id" = Option<String>, Query, description = "As tag.device_id"),
        ("tag.KEY" = Option<String>, Query, description = "Which market prices, as for /api/v1/query; without tariff and direction"),
        ("every" = Option<String>, Query, description = "Length of a step: 15m or 1h (default)"),
        ("tz" = Option<String>, Query, description = "IANA zone of steps and times; default the home zone"),
        ("format" = Option<String>, Query, description = "json (default), csv")),
    responses(
        (status = 200, description = "`{\"tariff\",\"direction\",\"unit\",\"steps\":[{\"start\",\"end\",\"market\",\"energy\",\"fixed\",\"distribution\",\"total\",\"zone\"}],\"summary\",\"notes\"}`, or `{\"unit\",\"series\":[{\"tags\",\"steps\"}]}`"),
        (status = 400, description = "A parameter is wrong; the message names it"),
        (status = 404, description = "No tariff of that name and direction"),
        (status = 422, description = "Prices that cannot be told: too many series fit, or a part is damaged"),
        (status = 503, description = "Too many queries at a time, out of time, or the ledger does not answer")))]
pub(crate) async fn prices(
    State(state): State<ServerState>,
    peer: Peer,
    query: QueryPairs,
) -> Result<Response<Body>, ApiError> {
    let now = state.shared.clock.wall();
    let home = state.shared.bucket_zone.clone();
    let asked = Asked::parse(query, &home, now)?;
    let is_csv = asked.is_csv;
    let held = match asked.direction {
        Some(direction) => Some(held(state.ledger()?, asked.tariff.as_deref(), direction).await?),
        None => None,
    };
    let database = state.shared.options.default_database.clone();
    let text = format!("prices {:?} {:?}", asked.tariff.as_deref().unwrap_or_default(), asked.range());
    let shared = state.clone();
    let body = state
        .query("prices", text, move |engine, control, _| {
            let out = Writing::new(AnswerWatch::new(&shared, peer, control));
            let Some(held) = held else {
                let found = market(engine, &database, &asked.tags, &asked.steps, control).map_err(refusal)?;
                return asked.market(&found, out);
            };
            let range = asked.range();
            let mut pieces = Vec::new();
            for holding in &held {
                let found = parts(engine, &database, holding, &range, &home, control).map_err(refusal)?;
                pieces.extend(found);
            }
            pieces.sort_by_key(|piece| piece.range.start);
            asked.total(&by_step(&asked.steps, &pieces), out)
        })
        .await?;
    Ok(asked::told(body, is_csv))
}

/// When the tariff of that name holds, or without one any of that direction, and what it says then.
async fn held(ledger: &Ledger, name: Option<&str>, direction: Direction) -> Result<Vec<Holding>, ApiError> {
    let word = direction.as_str();
    let mut listing = Listing::all().with_text("direction", word);
    if let Some(name) = name {
        listing = listing.with_text("name", name);
    }
    let mut held = Vec::new();
    loop {
        let page = ledger.list::<Tariff>(&listing).await?;
        held.extend(page.records.into_iter().map(|stored| Holding {
            start: stored.record.valid_from.0,
            end: stored.record.valid_until.map_or(i64::MAX, |end| end.0),
            definition: stored.record.definition,
        }));
        let Some(next) = page.next else { break };
        listing.after = Some(next);
    }
    if held.is_empty() {
        let text = format!(
            "the ledger has no tariff {}with direction {word}: GET /api/v1/tariffs lists them, POST makes one",
            name.map(|name| format!("{:?} ", shortened(name))).unwrap_or_default()
        );
        return Err(ApiError::not_found(text));
    }
    Ok(held)
}

fn refusal(error: PriceError) -> ApiError {
    let text = error.to_string();
    match error {
        PriceError::Query(error) => error.into(),
        PriceError::Ambiguous { .. } | PriceError::TooMany { .. } => ApiError::beyond("prices", text),
        _ => ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "unusable_points", text),
    }
}

struct Asked {
    tariff: Option<String>,
    /// Of a tariff, or of all; none: the market alone.
    direction: Option<Direction>,
    tags: Vec<TagFilter>,
    steps: Vec<Range<i64>>,
    every: &'static str,
    zone: Zone,
    is_csv: bool,
}

impl Asked {
    fn parse(mut query: QueryPairs, home: &Zone, now: Timestamp) -> Result<Self, ApiError> {
        let tags = asked::tags(&mut query.0)?;
        let [start, end, tariff, direction, every, tz, format] =
            query.only(["start", "end", "tariff", "direction", "every", "tz", "format"])?;
        let bad = |text: String| ApiError::bad_request(text);
        let is_market = tariff.is_none() && direction.is_none();
        if !is_market && !tags.is_empty() {
            let text = "tag: a tariff names its own market prices; leave tags, or tariff and direction, out";
            return Err(bad(text.to_owned()));
        }
        let zone = asked::zone(tz.as_deref(), home)?;
        let every = asked::word("every", every.as_deref(), &[("1h", "1h"), ("15m", "15m")])?;
        let days = Aggregate { every: Some(Every::Days(1)), zone: zone.clone(), ..Aggregate::default() };
        let day_of = |time: i64| Buckets::new(&days, time..time.saturating_add(1)).map(|days| days.of(time));
        let start = match asked::time("start", start.as_deref(), now)? {
            Some(start) => start,
            None => day_of(now.0).map_or(now.0, |day| day.start),
        };
        let end = match asked::time("end", end.as_deref(), now)? {
            Some(end) => end,
            None => {
                let next = day_of(start).map_or(start, |day| day.end);
                day_of(next).map_or(next, |day| day.end)
            }
        };
        // Where time ends there is no tomorrow.
        let end = end.min(Timestamp::MAX.0);
        if start >= end {
            return Err(bad("start: must be before end".to_owned()));
        }
        let length = parse_every(every).map_err(|error| bad(format!("every: {error}")))?;
        let too_many = || bad(format!("start: at most {MOST_STEPS} steps of {every} before end"));
        let steps = steps(&(start..end), length, &zone).ok_or_else(too_many)?;
        let directions = [("import", Direction::Import), ("export", Direction::Export)];
        let direction = asked::word("direction", direction.as_deref(), &directions)?;
        let direction = (!is_market).then_some(direction);
        let is_csv = asked::is_csv(format.as_deref())?;
        Ok(Self { tariff, direction, tags, steps, every, zone, is_csv })
    }

    fn range(&self) -> Range<i64> {
        let start = self.steps.first().map_or(0, |step| step.start);
        start..self.steps.last().map_or(start, |step| step.end)
    }

    fn time(&self, ns: i64) -> String {
        asked::clock(ns, &self.zone)
    }

    fn market(&self, found: &[MarketSeries], mut out: Writing) -> Result<Answer, ApiError> {
        let times = |range: &Range<i64>| [self.time(range.start), self.time(range.end)];
        if self.is_csv {
            out.line(["series", "start", "end", "market"].map(str::to_owned))?;
            for series in found {
                let tags: Vec<String> =
                    series.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
                let tags = tags.join(";");
                for (range, price) in &series.steps {
                    let [start, end] = times(range);
                    out.line([tags.clone(), start, end, number(*price)])?;
                }
            }
            return out.finish();
        }
        let head = json!({
            "measurement": PRICES, "field": MARKET_PRICE, "unit": "PLN/kWh", "every": self.every,
            "tz": self.zone.name(),
        });
        out.begin(&head, "series");
        for series in found {
            out.next();
            let tags: Map<String, Value> =
                series.tags.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
            let known: Vec<_> =
                series.steps.iter().filter_map(|(range, price)| Some((range, (*price)?))).collect();
            out.begin(&json!({ "tags": tags, "summary": self.summary(&known) }), "steps");
            for (range, price) in &series.steps {
                let [start, end] = times(range);
                out.item(&json!({ "start": start, "end": end, "market": price.map(rounded) }))?;
            }
            out.end();
        }
        out.end();
        out.finish()
    }

    fn total(&self, found: &[PriceStep], mut out: Writing) -> Result<Answer, ApiError> {
        if self.is_csv {
            let head = ["start", "end", "market", "energy", "fixed", "distribution", "total", "zone"];
            out.line(head.map(str::to_owned))?;
            for step in found {
                let prices = [step.market, step.energy, step.fixed, step.distribution, step.total];
                let times = [self.time(step.range.start), self.time(step.range.end)];
                let zone = step.zone.clone().unwrap_or_default();
                out.line(times.into_iter().chain(prices.map(number)).chain([zone]))?;
            }
            return out.finish();
        }
        let known: Vec<_> = found.iter().filter_map(|step| Some((&step.range, step.total?))).collect();
        let mut notes = Vec::new();
        let unknown = found.len() - known.len();
        if unknown > 0 {
            notes.push(format!(
                "{unknown} of {} steps have no total: the tariff does not hold all through, or a price it needs is not known",
                found.len()
            ));
        }
        let direction = self.direction.map(Direction::as_str);
        let head = json!({
            "tariff": self.tariff, "direction": direction, "unit": "PLN/kWh", "includes_vat": false,
            "every": self.every, "tz": self.zone.name(), "summary": self.summary(&known), "notes": notes,
        });
        out.begin(&head, "steps");
        for step in found {
            out.item(&json!({
                "start": self.time(step.range.start), "end": self.time(step.range.end),
                "market": step.market.map(rounded), "energy": step.energy.map(rounded),
                "fixed": step.fixed.map(rounded), "distribution": step.distribution.map(rounded),
                "total": step.total.map(rounded), "zone": step.zone,
            }))?;
        }
        out.end();
        out.finish()
    }

    /// Mean by time, and the cheapest and the dearest step; of several the first.
    fn summary(&self, known: &[(&Range<i64>, f64)]) -> Value {
        let length = |range: &Range<i64>| (range.end - range.start) as f64;
        let all: f64 = known.iter().map(|(range, _)| length(range)).sum();
        let mean: f64 = known.iter().map(|(range, price)| price * length(range) / all).sum();
        let step = |found: Option<&(&Range<i64>, f64)>| {
            found.map(|(range, price)| json!({ "start": self.time(range.start), "price": rounded(*price) }))
        };
        let least = known.iter().min_by(|a, b| a.1.total_cmp(&b.1));
        let greatest = known.iter().rev().max_by(|a, b| a.1.total_cmp(&b.1));
        json!({
            "mean": (!known.is_empty()).then(|| rounded(mean)),
            "cheapest": step(least), "dearest": step(greatest),
        })
    }
}

/// An answer that is written step by step and watched while it grows.
struct Writing {
    bytes: Vec<u8>,
    watch: AnswerWatch,
    /// Length at which it is looked at next.
    look_at: usize,
}

/// An answer is looked at each time it has grown by so much.
const LOOK_BYTES: usize = 64 << 10;

impl Writing {
    fn new(watch: AnswerWatch) -> Self {
        Self { bytes: Vec::new(), watch, look_at: LOOK_BYTES }
    }

    /// An object with the members of `head`, and a list as its last.
    fn begin(&mut self, head: &Value, list: &str) {
        let head = head.to_string();
        // A head has members, so one more follows a comma.
        let open = head.strip_suffix('}').unwrap_or(&head);
        self.bytes.extend_from_slice(format!("{open},\"{list}\":[").as_bytes());
    }

    /// Before each item of a list.
    fn next(&mut self) {
        if self.bytes.last() != Some(&b'[') {
            self.bytes.push(b',');
        }
    }

    fn item(&mut self, item: &Value) -> Result<(), ApiError> {
        self.next();
        self.bytes.extend_from_slice(item.to_string().as_bytes());
        self.grown()
    }

    fn end(&mut self) {
        self.bytes.extend_from_slice(b"]}");
    }

    fn line(&mut self, cells: impl IntoIterator<Item = String>) -> Result<(), ApiError> {
        csv_line(&mut self.bytes, cells);
        self.grown()
    }

    fn grown(&mut self) -> Result<(), ApiError> {
        if self.bytes.len() >= self.look_at {
            self.look_at = self.bytes.len() + LOOK_BYTES;
            self.watch.look(&self.bytes)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Answer, ApiError> {
        self.watch.look(&self.bytes)?;
        Ok(self.watch.finish(self.bytes))
    }
}

/// To a millionth of a zloty: what is left out is rounding.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

fn number(value: Option<f64>) -> String {
    value.map(|value| rounded(value).to_string()).unwrap_or_default()
}
