//! Sums of the kept rows by day, a month at a time; months asked for lately are remembered.

use super::answer::{EnergyRequest, Pricing, Sum};
use super::compute::{lost_of, number, of_device, times};
use super::{DEVICE, EnergyError, EnergyOptions, FIELDS, PRICED, QUARTERS};
use crate::price::{PricePiece, within};
use crate::remembered::Remembered;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::ops::Range;
use std::sync::Arc;
use wattlog_engine::Engine;
use wattlog_engine::query::{
    Aggregate, Buckets, Every, Function, GroupBy, QueryControl, QueryError, QueryRequest, Shape,
};
use wattlog_model::Timestamp;

/// Bytes of day sums that are kept: some two years of ten devices, or many years of one.
const MOST_BYTES: usize = 4 << 20;

/// Months that were added up lately.
#[derive(Debug)]
pub struct EnergyCache(Remembered<Key, Month>);

impl Default for EnergyCache {
    fn default() -> Self {
        Self(Remembered::new(MOST_BYTES))
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    database: String,
    device: Option<String>,
    zone: String,
    times: Range<i64>,
    has_prices: [bool; 2],
}

impl Key {
    fn bytes(&self) -> usize {
        let device = self.device.as_ref().map_or(0, String::len);
        size_of::<Self>() + self.database.len() + self.zone.len() + device
    }
}

impl Month {
    fn bytes(&self) -> usize {
        let of_device = |of: &DeviceDays| {
            size_of::<DeviceDays>() + of.device.len() + of.days.capacity() * size_of::<(i64, Sum)>()
        };
        size_of::<Self>() + self.devices.iter().map(of_device).sum::<usize>()
    }
}

/// Days of a month, of every device.
#[derive(Debug, Default)]
pub(super) struct Month {
    pub(super) devices: Vec<DeviceDays>,
    /// Times of which rows cannot be read.
    pub(super) lost: Vec<Range<i64>>,
}

/// Days of one device, by rising time.
#[derive(Debug)]
pub(super) struct DeviceDays {
    pub(super) device: String,
    /// An instant of the day, and its sums.
    pub(super) days: Vec<(i64, Sum)>,
}

impl DeviceDays {
    /// The sums of the day that `time` lies in; times rise from call to call but for the first.
    fn at<'a>(&'a mut self, place: &mut Place, buckets: &Buckets, time: i64) -> &'a mut Sum {
        if !place.times.contains(&time) {
            place.times = buckets.of(time);
            let start = place.times.start;
            place.index = self.days.partition_point(|(known, _)| *known < start);
            if self.days.get(place.index).is_none_or(|(known, _)| *known != start) {
                self.days.insert(place.index, (start, Sum::default()));
            }
        }
        &mut self.days[place.index].1
    }
}

/// The day that was at hand last.
#[derive(Debug, Default)]
struct Place {
    times: Range<i64>,
    index: usize,
}

/// Days of `times`, a part of the range that was asked for.
pub(super) fn month(
    engine: &Engine,
    options: &EnergyOptions,
    request: &EnergyRequest,
    (times, cache): (&Range<i64>, Option<&EnergyCache>),
    control: &QueryControl,
) -> Result<Arc<Month>, EnergyError> {
    let Some(cache) = cache else { return read(engine, options, request, times, control).map(Arc::new) };
    let key = Key {
        database: options.database.clone(),
        device: request.device.clone(),
        zone: request.zone.name().to_owned(),
        times: times.clone(),
        has_prices: [request.import_prices.is_some(), request.export_prices.is_some()],
    };
    // Before the rows are read: what is read may be newer, and is then found to be of another version.
    let mut version = DefaultHasher::new();
    engine.query_version(&rows(options, request, times, Shape::Raw))?.hash(&mut version);
    for prices in [&request.import_prices, &request.export_prices].into_iter().flatten() {
        let pieces = within(prices, times);
        // Where one list ends and the other begins counts too: the same prices may be of the other direction.
        pieces.len().hash(&mut version);
        for PricePiece { start, end, pln_kwh } in pieces {
            (start, end, pln_kwh.to_bits()).hash(&mut version);
        }
    }
    let version = version.finish();
    if let Some(known) = cache.0.get(&key, version) {
        return Ok(known);
    }
    let month = Arc::new(read(engine, options, request, times, control)?);
    // Of what is not there, a list of names could be asked for that has no end.
    if month.lost.is_empty() && !month.devices.is_empty() {
        let bytes = key.bytes() + month.bytes();
        cache.0.put(key, version, Arc::clone(&month), bytes);
    }
    Ok(month)
}

fn rows(options: &EnergyOptions, request: &EnergyRequest, times: &Range<i64>, shape: Shape) -> QueryRequest {
    QueryRequest {
        fields: Some(FIELDS.map(str::to_owned).to_vec()),
        tags: request.device.as_deref().map(of_device).into_iter().collect(),
        shape,
        group_by: GroupBy::Keys(vec![DEVICE.to_owned()]),
        ..QueryRequest::raw(&options.database, QUARTERS, Timestamp(times.start), Timestamp(times.end))
    }
}

fn read(
    engine: &Engine,
    options: &EnergyOptions,
    request: &EnergyRequest,
    times_asked: &Range<i64>,
    control: &QueryControl,
) -> Result<Month, EnergyError> {
    let shape = Aggregate {
        functions: vec![Function::Sum],
        every: Some(Every::Days(1)),
        zone: request.zone.clone(),
        ..Aggregate::default()
    };
    let buckets = Buckets::new(&shape, times_asked.clone()).ok_or(QueryError::BadBucket)?;
    let mut month = Month::default();
    let sums = engine.query(&rows(options, request, times_asked, Shape::Aggregate(shape)), control)?;
    month.lost.extend(lost_of(&sums));
    for series in &sums.series {
        let device = series.tags.first().map(|(_, value)| value.clone()).unwrap_or_default();
        let columns = FIELDS.map(|name| series.column(&format!("{name}_sum")).map(|column| &column.values));
        let mut of_device = DeviceDays { device, days: Vec::with_capacity(series.rows()) };
        let mut place = Place::default();
        for (row, time) in times(series).enumerate() {
            let values = columns.map(|values| values.and_then(|values| number(values, row)));
            // The first day may have begun before the range.
            let time = time.clamp(times_asked.start, times_asked.end - 1);
            of_device.at(&mut place, &buckets, time).add_values(&values);
        }
        month.devices.push(of_device);
    }
    if request.import_prices.is_some() || request.export_prices.is_some() {
        let mut wanted = rows(options, request, times_asked, Shape::Raw);
        wanted.fields = Some(PRICED.map(str::to_owned).to_vec());
        let result = engine.query(&wanted, control)?;
        month.lost.extend(lost_of(&result));
        for series in &result.series {
            let device = series.tags.first().map(|(_, value)| value.as_str()).unwrap_or_default();
            let columns = PRICED.map(|name| series.column(name).map(|column| &column.values));
            let mut money = Pricing::new(request);
            let mut place = Place::default();
            // A device that came between the two questions is there the next time: the version is older than its rows.
            let Some(of_device) = month.devices.iter_mut().find(|known| known.device == device) else {
                continue;
            };
            for (row, time) in times(series).enumerate() {
                let kwh = columns.map(|values| values.and_then(|values| number(values, row)));
                of_device.at(&mut place, &buckets, time).add_money(money.of(time, kwh));
            }
        }
    }
    Ok(month)
}
