//! Rows of quarters from points of power.

use super::{DEVICE, EnergyOptions, FIELDS, QUARTER_NS, RAW, Values};
use std::ops::Range;
use wattlog_analytics::energy::{
    Flows, PartialSample, PowerSample, Powers, integrate_flows, integrate_totals,
};
use wattlog_engine::Engine;
use wattlog_engine::query::{
    GroupBy, QueryControl, QueryError, QueryRequest, QueryResult, ResultSeries, ResultValues, Shape,
    TagFilter, TagPredicate,
};
use wattlog_model::Timestamp;

/// Rows of quarters, and where there may be more.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Quarters {
    /// By device.
    pub devices: Vec<DeviceQuarters>,
    /// Times of which points cannot be read: no row was computed that may rest on one.
    pub lost: Vec<Range<i64>>,
}

/// Rows of one device, by rising time; quarters without any covered time have none.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceQuarters {
    /// Value of the tag [`DEVICE`]; empty for points that have none.
    pub device: String,
    /// Its rows.
    pub rows: Vec<QuarterRow>,
}

/// One quarter of an hour of one device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuarterRow {
    /// Its first instant.
    pub start: i64,
    /// By [`FIELDS`]; what is not known is none.
    pub values: Values,
}

/// Why energies could not be computed.
#[derive(Debug, thiserror::Error)]
pub enum EnergyError {
    /// The points could not be asked for.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// What came out of the store is no series of powers.
    #[error("points of {RAW} of device {device:?}: {reason}")]
    Points {
        /// Whose.
        device: String,
        /// What is wrong with them.
        reason: String,
    },
}

const POWERS: [&str; 4] = ["pv_power", "battery_power", "grid_power", "consumption"];
/// Who tells one of these has a battery.
const OF_BATTERY: [&str; 2] = ["battery_power", "battery_soc"];

/// Computes the quarters that begin in `range`, of one device or all. Reads points up to [`EnergyOptions::max_gap`] beyond it.
pub fn quarters(
    engine: &Engine,
    options: &EnergyOptions,
    range: &Range<i64>,
    device: Option<&str>,
    control: &QueryControl,
) -> Result<Quarters, EnergyError> {
    let gap = options.max_gap_ns();
    let asked = range.start.saturating_sub(gap)..range.end.saturating_add(QUARTER_NS).saturating_add(gap);
    let result = engine.query(&request(options, &asked, device, Shape::Raw), control)?;
    let lost = lost_of(&result);
    let near = |start: i64, lost: &Range<i64>| {
        start.saturating_sub(gap) < lost.end
            && lost.start < start.saturating_add(QUARTER_NS).saturating_add(gap)
    };
    let mut devices = Vec::new();
    for series in &result.series {
        let device = series.tags.first().map(|(_, value)| value.clone()).unwrap_or_default();
        let mut samples = samples_of(series);
        if samples.iter().any(|sample| sample.battery_w.is_none()) {
            // Before it ever told of a battery it had none; one whose battery did not answer today has one, and so has one of
            // which nothing but the state of charge was kept.
            let first = first_battery(engine, options, &device, control)?;
            for sample in samples.iter_mut().filter(|sample| sample.time.0 < first) {
                sample.battery_w = Some(0.0);
            }
        }
        let mut rows = rows_of(&samples, range, gap)
            .map_err(|error| EnergyError::Points { device: device.clone(), reason: error.to_string() })?;
        rows.retain(|row| !lost.iter().any(|lost| near(row.start, lost)));
        if !rows.is_empty() {
            devices.push(DeviceQuarters { device, rows });
        }
    }
    Ok(Quarters { devices, lost })
}

fn request(options: &EnergyOptions, range: &Range<i64>, device: Option<&str>, shape: Shape) -> QueryRequest {
    QueryRequest {
        fields: Some(POWERS.map(str::to_owned).to_vec()),
        shape,
        tags: device.map(of_device).into_iter().collect(),
        group_by: GroupBy::Keys(vec![DEVICE.to_owned()]),
        ..QueryRequest::raw(&options.database, RAW, Timestamp(range.start), Timestamp(range.end))
    }
}

pub(crate) fn of_device(device: &str) -> TagFilter {
    TagFilter { key: DEVICE.to_owned(), predicate: TagPredicate::In(vec![device.to_owned()]) }
}

/// Times in which something that belongs to an answer could not be read.
pub(super) fn lost_of(result: &QueryResult) -> Vec<Range<i64>> {
    result.partial.iter().map(|lost| lost.first..lost.last.saturating_add(1)).collect()
}

/// The first instant at which the device told of a battery, or may have, where points cannot be read; the end of time if never.
fn first_battery(
    engine: &Engine,
    options: &EnergyOptions,
    device: &str,
    control: &QueryControl,
) -> Result<i64, EnergyError> {
    let mut request = request(options, &(i64::MIN..i64::MAX), Some(device), Shape::Raw);
    request.fields = Some(OF_BATTERY.map(str::to_owned).to_vec());
    request.limit = Some(1);
    let result = engine.query(&request, control)?;
    let told = result.series.iter().flat_map(times);
    let lost = result.partial.iter().map(|lost| lost.first);
    Ok(told.chain(lost).min().unwrap_or(i64::MAX))
}

/// Rows of a series as samples; of rows at one time the first that has a value gives it.
fn samples_of(series: &ResultSeries) -> Vec<PartialSample> {
    let [pv, battery, grid, house] = POWERS.map(|name| series.column(name).map(|column| &column.values));
    let value = |of: Option<&ResultValues>, row| of.and_then(|values| number(values, row));
    let mut samples: Vec<PartialSample> = Vec::with_capacity(series.rows());
    for (row, time) in times(series).enumerate() {
        let sample = PartialSample {
            time: Timestamp(time),
            pv_w: value(pv, row),
            battery_w: value(battery, row),
            grid_w: value(grid, row),
            consumption_w: value(house, row),
        };
        match samples.last_mut().filter(|last| last.time == sample.time) {
            None => samples.push(sample),
            Some(last) => {
                last.pv_w = last.pv_w.or(sample.pv_w);
                last.battery_w = last.battery_w.or(sample.battery_w);
                last.grid_w = last.grid_w.or(sample.grid_w);
                last.consumption_w = last.consumption_w.or(sample.consumption_w);
            }
        }
    }
    samples
}

/// Times of the rows of a series.
pub(crate) fn times(series: &ResultSeries) -> impl Iterator<Item = i64> {
    let times = match series.columns.first().map(|column| &column.values) {
        Some(ResultValues::Time(times)) => times.as_slice(),
        _ => &[],
    };
    times.iter().map(|time| time.unwrap_or_default())
}

/// A value as a number; none for booleans and texts.
pub(crate) fn number(values: &ResultValues, row: usize) -> Option<f64> {
    match values {
        ResultValues::Float(values) => values[row],
        ResultValues::Integer(values) => values[row].map(|value| value as f64),
        ResultValues::Unsigned(values) => values[row].map(|value| value as f64),
        _ => None,
    }
}

fn rows_of(
    samples: &[PartialSample],
    range: &Range<i64>,
    max_gap_ns: i64,
) -> Result<Vec<QuarterRow>, wattlog_analytics::energy::EnergyError> {
    let whole: Vec<PowerSample> = samples.iter().filter_map(whole_sample).collect();
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return Ok(Vec::new()) };
    let start = range.start.max(super::quarter_of(first.time.0));
    let end = range.end.min(last.time.0.saturating_add(1));
    let mut rows = Vec::new();
    for start in (start..end).step_by(QUARTER_NS as usize) {
        let quarter = Timestamp(start)..Timestamp(start.saturating_add(QUARTER_NS));
        let near = |time: Timestamp| {
            quarter.start.0.saturating_sub(max_gap_ns) <= time.0
                && time.0 <= quarter.end.0.saturating_add(max_gap_ns)
        };
        let part = part_of(samples, |sample| near(sample.time), |sample| sample.time < quarter.start);
        let total = integrate_totals(part, quarter.clone(), max_gap_ns)?;
        let part = part_of(&whole, |sample| near(sample.time), |sample| sample.time < quarter.start);
        let flows = integrate_flows(part, quarter, max_gap_ns)?;
        let covered_ns = if flows.covered_ns > 0 {
            flows.covered_ns
        } else {
            *total.covered_ns.iter().max().unwrap_or(&0)
        };
        if covered_ns > 0 {
            let flows = (flows.covered_ns > 0).then_some(&flows.kwh);
            rows.push(QuarterRow { start, values: values_of(&total.energy, flows, covered_ns) });
        }
    }
    Ok(rows)
}

/// The samples that are near, which stand together; `before` is true for those of them and others that come first.
fn part_of<T>(samples: &[T], near: impl Fn(&T) -> bool, before: impl Fn(&T) -> bool) -> &[T] {
    let middle = samples.partition_point(before);
    let start = samples[..middle].partition_point(|sample| !near(sample));
    let end = middle + samples[middle..].partition_point(near);
    &samples[start..end]
}

fn whole_sample(sample: &PartialSample) -> Option<PowerSample> {
    Some(PowerSample {
        time: sample.time,
        powers: Powers {
            pv_w: sample.pv_w?,
            battery_w: sample.battery_w?,
            grid_w: sample.grid_w?,
            consumption_w: sample.consumption_w?,
        },
    })
}

fn values_of(
    total: &wattlog_analytics::energy::PeriodEnergy,
    flows: Option<&Flows>,
    covered_ns: i64,
) -> Values {
    let flow = |of: fn(&Flows) -> f64| flows.map(of);
    let values = [
        total.pv_kwh,
        total.charge_kwh,
        total.discharge_kwh,
        total.import_kwh,
        total.export_kwh,
        total.consumption_kwh,
        flow(|f| f.pv_to_house),
        flow(|f| f.pv_to_battery),
        flow(|f| f.pv_to_grid),
        flow(|f| f.battery_to_house),
        flow(|f| f.battery_to_grid),
        flow(|f| f.grid_to_house),
        flow(|f| f.grid_to_battery),
        flow(|f| f.source_left),
        flow(|f| f.sink_left),
        Some(covered_ns as f64 / 1e9),
    ];
    const { assert!(FIELDS.len() == 16) };
    values.map(|value| value.map(|value| (value * 1e6).round() / 1e6))
}
