//! One record of the optimiser: the points and the record of the ledger that it becomes.
//!
//! Promise: the same records in the same order give the same. What neither store could hold is refused here, before any
//! is asked, so a dry run and a second run tell the same refusals.

use super::done;
use super::names::Names;
use super::points::{self, Place};
use super::records;
use jiff::tz::TimeZone;
use wattlog_ledger::schema::{Decision, Report, Session};
use wattlog_ledger::{Record as Entity, Value};
use wattlog_migrate::{Body, Record};
use wattlog_model::{FieldValue, MAX_STRING_LEN_BYTES, Point, Timestamp};

/// What a record becomes.
#[derive(Debug, Default)]
pub(super) struct Mapped {
    pub(super) points: Vec<Point>,
    pub(super) entry: Option<Entry>,
    /// Why parts of it, or all of it, cannot be stored.
    pub(super) refused: Vec<String>,
    /// Its instant, if it tells that the optimiser ran then.
    pub(super) ran_at: Option<Timestamp>,
}

impl Mapped {
    /// Hashes of where it goes: series and instant of each point, table and key of the record. What is stored later at the
    /// same place takes the place of what was there.
    pub(super) fn places(&self) -> Vec<u64> {
        let of_point = |point: &Point| {
            let at = point.time.map_or(0, |time| time.0).to_le_bytes();
            let mut parts = vec![point.measurement.as_bytes(), at.as_slice()];
            parts.extend(point.tags.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_bytes()]));
            done::hash(&parts)
        };
        let entry = self.entry.as_ref().map(|entry| {
            let key = format!("{:?}", entry.key());
            done::hash(&[entry.table().as_bytes(), key.as_bytes()])
        });
        self.points.iter().map(of_point).chain(entry).collect()
    }
}

/// A record of the ledger.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Entry {
    Decision(Box<Decision>),
    Session(Box<Session>),
    Report(Box<Report>),
}

/// Knows the home and the words used so far.
#[derive(Debug)]
pub(super) struct Mapping {
    place: Place,
    zone: TimeZone,
    sources: Names,
    fields: Names,
}

impl Mapping {
    pub(super) fn new(place: Place, zone: TimeZone) -> Self {
        Self { place, zone, sources: Names::default(), fields: Names::default() }
    }

    pub(super) fn map(&mut self, record: &Record) -> Mapped {
        let mut mapped = Mapped::default();
        let outcome = self.fill(record, &mut mapped);
        mapped.refused.extend(outcome.err());
        for point in &mut mapped.points {
            drop_long_texts(point, &mut mapped.refused);
        }
        mapped.points.retain(|point| !point.fields.is_empty());
        let storable = match &mapped.entry {
            Some(Entry::Decision(decision)) => storable(&**decision),
            Some(Entry::Session(session)) => storable(&**session),
            Some(Entry::Report(report)) => storable(&**report),
            None => Ok(()),
        };
        if let Err(reason) = storable {
            mapped.refused.push(reason);
            mapped.entry = None;
        }
        mapped
    }

    fn fill(&mut self, record: &Record, mapped: &mut Mapped) -> Result<(), String> {
        let place = &self.place;
        match &record.body {
            Body::Reading(reading) => {
                mapped.ran_at = Some(reading.at);
                mapped.points.push(points::reading(reading, place)?);
            }
            Body::Decision(decision) => {
                mapped.ran_at = Some(decision.at);
                let entry = records::decision(record, decision, place);
                mapped.entry = Some(Entry::Decision(Box::new(entry)));
                // Its repairs stand in the ledger.
                mapped.points = points::decision(decision, place)?;
                return Ok(());
            }
            Body::Session(session) => {
                let entry = records::session(record, session, place);
                mapped.entry = Some(Entry::Session(Box::new(entry)));
                return Ok(());
            }
            Body::MarketPrice(price) => mapped.points.push(points::market_price(price)?),
            Body::PriceForecast(forecast) => {
                mapped.points.push(points::price_forecast(forecast, &mut self.sources)?);
            }
            Body::PvForecast(forecast) => mapped.points.push(points::pv_forecast(forecast)?),
            Body::SystemState(state) => mapped.points.push(points::state(state)?),
            Body::Weather(weather) => mapped.points.push(points::weather(weather, place, &mut self.sources)?),
            Body::DailyPlan(_)
            | Body::PriceSchedule(_)
            | Body::DailyStats(_)
            | Body::Snapshot(_)
            | Body::SocDrop(_) => {
                mapped.entry =
                    records::report(record, &self.zone)?.map(|report| Entry::Report(Box::new(report)));
                return Ok(());
            }
        }
        if let Some(beside) = mapped.points.last() {
            let repairs = points::repairs(record, beside, &mut self.fields)?;
            mapped.points.extend(repairs);
        }
        Ok(())
    }
}

/// The store holds no text beyond a length.
fn drop_long_texts(point: &mut Point, refused: &mut Vec<String>) {
    let measurement = &point.measurement;
    point.fields.retain(|(name, value)| match value {
        FieldValue::String(text) if text.len() > MAX_STRING_LEN_BYTES => {
            let len = text.len();
            refused.push(format!(
                "{measurement} {name}: {len} bytes of text, the store takes {MAX_STRING_LEN_BYTES}"
            ));
            false
        }
        _ => true,
    });
}

/// What the ledger will ask of a record, asked before.
fn storable<R: Entity>(record: &R) -> Result<(), String> {
    record.check().map_err(|invalid| format!("{}: {invalid}", R::TABLE))?;
    for (column, value) in R::COLUMNS.iter().zip(record.values()) {
        let Value::Text(Some(text)) = value else { continue };
        if text.contains('\0') {
            return Err(format!("{}: {column}: the text holds a NUL character", R::TABLE));
        }
        if text.len() > Value::MAX_TEXT_BYTES {
            let (len, most) = (text.len(), Value::MAX_TEXT_BYTES);
            return Err(format!("{}: {column}: {len} bytes, the ledger takes {most}", R::TABLE));
        }
    }
    Ok(())
}
