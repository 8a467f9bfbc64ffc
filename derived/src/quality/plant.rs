//! The fields of a plant against each other.

use super::checks::{jiff_time, of_plant};
use super::{Part, cut};
use crate::series::Rows;
use jiff::tz::AmbiguousOffset;
use wattlog_analytics::energy::{PowerSample, Powers};
use wattlog_analytics::quality::{
    BatteryReading, ClockReading, FieldName, PlantData, PlantFields, PlantReport, QualityError, assess_plant,
};
use wattlog_engine::query::Zone;
use wattlog_model::Timestamp;

/// What a plant tells: four powers and the state of charge.
pub(super) const PLANT: [&str; 5] = ["pv_power", "battery_power", "grid_power", "consumption", "battery_soc"];
/// Where the power of the battery stands in it.
pub(super) const BATTERY: usize = 1;
/// Where its state of charge stands.
pub(super) const CHARGE: usize = 4;
/// The device's own clock, as seconds since 1970-01-01 00:00 of that clock.
pub(super) const CLOCK: &str = "inverter_clock";

/// Judges the rows of [`PLANT`] and [`CLOCK`] over a part. Without a battery its power is 0.
pub(super) fn judge(
    rows: &Rows,
    name: FieldName,
    part: &Part,
    home: &Zone,
    interval_ns: i64,
) -> Result<PlantReport, QualityError> {
    let [pv, battery, grid, consumption, soc] = PLANT.map(str::to_owned);
    let clock = CLOCK.to_owned();
    let FieldName { measurement, tags, .. } = name;
    let fields = PlantFields { measurement, tags, pv, battery, grid, consumption, soc, clock };
    let mut powers = Vec::new();
    let mut readings = Vec::new();
    let mut clocks = Vec::new();
    for (row, time) in rows.times.iter().enumerate() {
        let time = Timestamp(*time);
        let [pv, battery, grid, consumption, soc, clock] =
            std::array::from_fn(|field| rows.value(field, row));
        let battery = battery.or((!part.has_battery).then_some(0.0));
        if let (Some(pv_w), Some(battery_w), Some(grid_w), Some(consumption_w)) =
            (pv, battery, grid, consumption)
        {
            powers.push(PowerSample { time, powers: Powers { pv_w, battery_w, grid_w, consumption_w } });
        }
        if let (Some(battery_w), Some(soc_percent), true) = (battery, soc, part.has_battery) {
            readings.push(BatteryReading { time, battery_w, soc_percent });
        }
        if let Some(device) = clock.and_then(|seconds| wall(seconds, time, home)) {
            clocks.push(ClockReading { received: time, device });
        }
    }
    let data = PlantData { powers: &powers, battery: &readings, clock: &clocks };
    let times = Timestamp(part.range.start)..Timestamp(part.range.end);
    let mut report = assess_plant(&fields, data, &times, &of_plant(interval_ns))?;
    cut(&mut report.balance.value.stretches);
    if let Some(clock) = &mut report.clock {
        cut(&mut clock.value.steps);
    }
    Ok(report)
}

/// The instant at which a clock in the home shows `seconds`; in an hour that comes twice the one nearer to `received`.
fn wall(seconds: f64, received: Timestamp, home: &Zone) -> Option<Timestamp> {
    // A clock that is centuries away tells nothing but that it is wrong.
    let within = seconds.is_finite() && seconds.abs() < 9e9;
    let shown = jiff::Timestamp::from_second(within.then_some(seconds as i64)?).ok()?;
    let shown = jiff::tz::TimeZone::UTC.to_datetime(shown);
    let ambiguous = home.time_zone().to_ambiguous_timestamp(shown);
    let ns = |time: Result<jiff::Timestamp, jiff::Error>| i64::try_from(time.ok()?.as_nanosecond()).ok();
    let twice = matches!(ambiguous.offset(), AmbiguousOffset::Fold { .. });
    let (earlier, later) = (ns(ambiguous.earlier())?, ns(ambiguous.later())?);
    if !twice {
        return ns(ambiguous.compatible()).map(Timestamp);
    }
    let received_ns = jiff_time(received.0).as_nanosecond();
    let off = |time: i64| (i128::from(time) - received_ns).abs();
    Some(Timestamp(if off(later) < off(earlier) { later } else { earlier }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_on_the_wall_is_read_by_the_zone_of_the_home() {
        let warsaw = Zone::named("Europe/Warsaw").unwrap();
        let at = |text: &str| Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_nanosecond() as i64);
        // What the clock shows, as if it were UTC.
        let shows = |text: &str| at(text).0 as f64 / 1e9;
        let read = |shown: &str, received: &str| wall(shows(shown), at(received), &warsaw);
        assert_eq!(read("2026-07-01T12:00:00Z", "2026-07-01T10:00:03Z"), Some(at("2026-07-01T10:00:00Z")));
        // Half past two comes twice on 25 October 2026.
        for received in ["2026-10-25T00:30:01Z", "2026-10-25T01:30:01Z"] {
            let device = read("2026-10-25T02:30:00Z", received).unwrap();
            assert_eq!(device.0, at(received).0 - 1_000_000_000);
        }
        assert_eq!(wall(f64::NAN, Timestamp(0), &warsaw), None);
        assert_eq!(wall(1e300, Timestamp(0), &warsaw), None);
        assert_eq!(wall(-1e12, Timestamp(i64::MIN), &warsaw), None);
    }
}
