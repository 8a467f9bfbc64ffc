//! Which values a rule needs next, and reading them.
//!
//! Promise: a batch has all values after the last one that the rule took, up to its `until`; so the analytics may let time
//! pass until then. Values are read once each, in order of time.
//!
//! Limits: at most [`BATCH`] values at a time; nothing older than the look-back. A value that arrives after a later one of the
//! same field was taken is not looked at any more.

use crate::config::PricesConfig;
use crate::definition::{Definition, QualityWindow};
use crate::readings::{FieldOf, Readings, ReadingsError};
use std::ops::Range;
use wattlog_analytics::alert::{Input, PriceFigure, QualityFigure, Sample, State, StorageFigure};
use wattlog_analytics::quality::{FieldChecks, FieldName, assess};
use wattlog_model::{TagSet, Timestamp};

/// Values since the last question.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Batch {
    /// In order of time.
    pub(crate) samples: Vec<Sample>,
    /// All values up to here are in it.
    pub(crate) until: Timestamp,
    /// Whether `until` is now.
    pub(crate) is_last: bool,
}

/// Most values that are read at a time.
pub(crate) const BATCH: usize = 5_000;
/// Storage is looked at so often: a disk does not fill in less, and the question walks over files.
const STORAGE_EVERY_NS: i64 = 60_000_000_000;
/// A figure of quality is made so long after its window ended, so that what was polled last has arrived.
const QUALITY_SETTLES_NS: i64 = 60_000_000_000;
/// Most figures of quality at a time: each reads a window. After a longer stop the older ones are left out.
const MAX_FIGURES: i64 = 12;
/// Most values of one window of quality.
const MAX_WINDOW_VALUES: usize = 4 * QualityWindow::MAX_POINTS as usize;

/// Reads what `definition` needs after `state`.
pub(crate) async fn read(
    readings: &dyn Readings,
    definition: &Definition,
    prices: &PricesConfig,
    state: &State,
    look_back_ns: i64,
    now: Timestamp,
) -> Result<Batch, ReadingsError> {
    let back = |ns: i64| Timestamp(now.0.saturating_sub(ns));
    let end = Timestamp(now.0.saturating_add(1));
    // A rule that knows nothing begins with the newest value, or with as many as its first judgement needs.
    let begun = state.last.map(|last| Timestamp(last.time.0.saturating_add(1)).max(back(look_back_ns)));
    let range = begun.unwrap_or(back(definition.first_look_ns().unwrap_or(look_back_ns)))..end;
    let is_first = begun.is_none() && definition.first_look_ns().is_none();
    if range.start >= range.end {
        return Ok(Batch { samples: Vec::new(), until: now, is_last: true });
    }
    match &definition.input {
        Input::Field { measurement, tags, field } => {
            values(readings, &field_of(measurement, tags, field), range, is_first, now).await
        }
        Input::Price { figure } => match price_field(*figure, prices) {
            Some(of) => values(readings, &of, range, is_first, now).await,
            None => {
                let mut found = readings.prices(*figure, range, BATCH).await?;
                if is_first {
                    found.drain(..found.len().saturating_sub(1));
                }
                Ok(batch(found, now))
            }
        },
        Input::Storage { figure } => {
            let is_due = state.last.is_none_or(|last| now.0.saturating_sub(last.time.0) >= STORAGE_EVERY_NS);
            let samples = if is_due { vec![storage(readings, *figure, now).await?] } else { Vec::new() };
            Ok(Batch { samples, until: now, is_last: true })
        }
        Input::Quality { measurement, tags, field, figure } => {
            let of = field_of(measurement, tags, field);
            // The definition was checked: a rule about quality has a window.
            let Some(window) = definition.quality else {
                return Ok(Batch { samples: Vec::new(), until: now, is_last: true });
            };
            qualities(readings, &of, *figure, window, range.start, is_first, now).await
        }
    }
}

/// Values of a field; only the newest for a rule that knows nothing yet.
async fn values(
    readings: &dyn Readings,
    of: &FieldOf,
    range: Range<Timestamp>,
    is_first: bool,
    now: Timestamp,
) -> Result<Batch, ReadingsError> {
    if is_first {
        let newest = readings.newest(of, range).await?;
        return Ok(Batch { samples: newest.into_iter().collect(), until: now, is_last: true });
    }
    Ok(batch(readings.values(of, range, BATCH).await?, now))
}

/// The field that the configuration names for a price.
fn price_field(figure: PriceFigure, prices: &PricesConfig) -> Option<FieldOf> {
    let named = match figure {
        PriceFigure::Total => &prices.total,
        PriceFigure::Market => &prices.market,
        PriceFigure::Export => &prices.export,
    };
    named.as_ref().map(|price| field_of(&price.measurement, &price.tags, &price.field))
}

/// The field whose unit a message tells.
pub(crate) fn field_with_unit(definition: &Definition) -> Option<FieldOf> {
    match &definition.input {
        Input::Field { measurement, tags, field } => Some(field_of(measurement, tags, field)),
        _ => None,
    }
}

fn field_of(measurement: &str, tags: &std::collections::BTreeMap<String, String>, field: &str) -> FieldOf {
    FieldOf { measurement: measurement.to_owned(), tags: tags.clone(), field: field.to_owned() }
}

/// A batch that is as full as it may be ends at its last value.
fn batch(samples: Vec<Sample>, now: Timestamp) -> Batch {
    match samples.last() {
        Some(last) if samples.len() >= BATCH => Batch { until: last.time, is_last: false, samples },
        _ => Batch { samples, until: now, is_last: true },
    }
}

async fn storage(
    readings: &dyn Readings,
    figure: StorageFigure,
    now: Timestamp,
) -> Result<Sample, ReadingsError> {
    let figures = readings.storage().await?;
    let value = match figure {
        StorageFigure::FreeBytes => figures.free_bytes as f64,
        StorageFigure::FreeShare => figures.free_bytes as f64 / figures.disk_bytes.max(1) as f64,
        StorageFigure::StoreBytes => figures.store_bytes as f64,
    };
    Ok(Sample { time: now, value })
}

/// Figures at whole multiples of `every_ns`, so that they do not depend on when the question came.
async fn qualities(
    readings: &dyn Readings,
    of: &FieldOf,
    figure: QualityFigure,
    window: QualityWindow,
    from: Timestamp,
    is_first: bool,
    now: Timestamp,
) -> Result<Batch, ReadingsError> {
    let newest = now.0.saturating_sub(QUALITY_SETTLES_NS).div_euclid(window.every_ns);
    let next = if is_first { newest } else { from.0.div_euclid(window.every_ns).saturating_add(1) };
    let mut samples = Vec::new();
    for number in next.max(newest.saturating_sub(MAX_FIGURES - 1))..=newest {
        let time = Timestamp(number.saturating_mul(window.every_ns));
        if let Some(value) = quality(readings, of, figure, window, time).await? {
            samples.push(Sample { time, value });
        }
    }
    Ok(Batch { samples, until: now, is_last: true })
}

/// The figure of the window that ends at `end`; none if it is not known (accuracy without points).
async fn quality(
    readings: &dyn Readings,
    of: &FieldOf,
    figure: QualityFigure,
    window: QualityWindow,
    end: Timestamp,
) -> Result<Option<f64>, ReadingsError> {
    let range = Timestamp(end.0.saturating_sub(window.window_ns))..end;
    let values = readings.values(of, range.clone(), MAX_WINDOW_VALUES).await?;
    if values.len() >= MAX_WINDOW_VALUES {
        let reason =
            format!("more than {MAX_WINDOW_VALUES} values in one window: take a shorter quality.window_ns");
        return Err(ReadingsError::Unknown { reason });
    }
    let points: Vec<(Timestamp, f64)> =
        values.iter().filter(|one| one.value.is_finite()).map(|one| (one.time, one.value)).collect();
    let unusable = |reason: String| ReadingsError::Unknown { reason };
    let tags = TagSet::new(of.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    let tags = tags.map_err(|error| unusable(format!("the tags of the rule: {error}")))?;
    let name = FieldName { measurement: of.measurement.clone(), tags, field: of.field.clone() };
    let checks = FieldChecks {
        asleep: Vec::new(),
        interval_ns: window.interval_ns,
        longest_gap_ns: window.window_ns,
        limits: window.limits,
        stuck: None,
        rests: Vec::new(),
        spikes: None,
    };
    let report = assess(&name, &points, &range, &checks).map_err(|error| unusable(error.to_string()))?;
    Ok(match figure {
        QualityFigure::Completeness => Some(report.completeness.value.share),
        QualityFigure::Accuracy => report.accuracy.map(|accuracy| accuracy.value),
        QualityFigure::Score => Some(report.score.value),
    })
}
