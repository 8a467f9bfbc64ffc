//! What fields are held against: the rules that find what is suspicious in a home, and name nothing in a healthy one.
//!
//! The numbers are of the trade and not of a standard: a plant whose rated power is told is judged by it.

use jiff::tz::TimeZone;
use std::ops::Range;
use wattlog_analytics::quality::{
    BalanceTolerance, FieldChecks, Limits, PlantChecks, Rest, SpikeRule, StuckRule, ranges_where,
};
use wattlog_engine::FieldInfo;
use wattlog_engine::query::{Aggregate, Buckets, Every, Zone};
use wattlog_model::{FieldKind, FieldType, Timestamp};

/// The error of the balance, as an expression of a query.
pub const BALANCE: &str = "pv_power+battery_power-grid_power-consumption";
/// The same of a plant without a battery.
pub const BALANCE_WITHOUT_BATTERY: &str = "pv_power-grid_power-consumption";

const MINUTE_NS: i64 = 60_000_000_000;
pub(super) const HOUR_NS: i64 = 60 * MINUTE_NS;
/// So many intervals without a point are a gap.
const GAP_INTERVALS: i64 = 5;
/// A power that does not move for so long is stuck: registers count single watts.
const POWER_STANDS_NS: i64 = 2 * HOUR_NS;
/// A state of charge of whole percents needs its time: 1 % of 30 kWh at [`MOVING_W`] is an hour and a half.
const CHARGE_STANDS_NS: i64 = 3 * HOUR_NS;
/// Any other measured value.
const VALUE_STANDS_NS: i64 = 24 * HOUR_NS;
/// A row that stands still has at least so many intervals.
const STANDS_INTERVALS: i64 = 12;
/// Below this the state of charge may stand still.
const MOVING_W: f64 = 200.0;
/// PV is expected between these hours of the clock, on any day of the year.
pub(super) const LIGHT_HOURS: Range<i8> = 10..15;
/// Power of the largest plant of a home, if none is told; and what a single reading may be off its neighbours then.
const LARGEST_W: f64 = 50_000.0;
const LARGEST_JUMP_W: f64 = 10_000.0;
/// What the connection of a house is rated for: 3 x 25 A at 230 V.
const SUPPLY_W: f64 = 17_250.0;
/// What inverters measure at rest.
pub(super) const NOISE_W: f64 = 100.0;

/// A power that a plant is rated for, in W.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Rated {
    /// Of all that is there, as somebody said who asked.
    Plant(f64),
    /// Of the inverter alone: the house may take more from the grid.
    Inverter(f64),
}

impl Rated {
    fn of(self, role: Role) -> f64 {
        self.at_least(role, SUPPLY_W)
    }

    fn jump_of(self, role: Role) -> f64 {
        self.at_least(role, LARGEST_JUMP_W)
    }

    /// What the house takes from the grid is not bounded by the inverter.
    fn at_least(self, role: Role, house_w: f64) -> f64 {
        match (self, role) {
            (Self::Inverter(watts), Role::Grid | Role::Consumption) => watts.max(house_w),
            (Self::Plant(watts) | Self::Inverter(watts), _) => watts,
        }
    }
}

/// What a field is of a plant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Pv,
    Battery,
    Grid,
    Consumption,
    Charge,
    /// Measured on a smooth scale.
    Measured,
    /// Counters, states and codes: they may stand still and jump.
    Counted,
}

impl Role {
    pub(super) fn of(measurement: &str, field: &FieldInfo) -> Self {
        if measurement == crate::energy::RAW {
            match field.name.as_str() {
                "pv_power" => return Self::Pv,
                "battery_power" => return Self::Battery,
                "grid_power" => return Self::Grid,
                "consumption" => return Self::Consumption,
                "battery_soc" => return Self::Charge,
                _ => {}
            }
        }
        match (field.kind, field.field_type) {
            (FieldKind::Linear, FieldType::Float) => Self::Measured,
            _ => Self::Counted,
        }
    }

    fn limits(self, rated: Option<Rated>) -> Option<Limits> {
        // What a plant gives for a moment is more than its plate says.
        let most = rated.map_or(LARGEST_W, |rated| 1.5 * rated.of(self));
        match self {
            Self::Pv | Self::Consumption => Some(Limits { low: -NOISE_W, high: most }),
            Self::Battery | Self::Grid => Some(Limits { low: -most, high: most }),
            Self::Charge => Some(Limits { low: 0.0, high: 100.0 }),
            Self::Measured | Self::Counted => None,
        }
    }

    fn spikes(self, rated: Option<Rated>, points: &[(Timestamp, f64)]) -> Option<SpikeRule> {
        let (spreads, least) = match self {
            // Light changes, but not to and back by half of what a day reaches.
            Self::Pv => {
                (4.0, rated.map_or_else(|| usual_span(points), |rated| rated.of(self)).max(1000.0) / 2.0)
            }
            // A kettle is no fault.
            Self::Battery | Self::Grid | Self::Consumption => {
                (4.0, rated.map_or(LARGEST_JUMP_W, |rated| rated.jump_of(self)))
            }
            Self::Charge => (8.0, 10.0),
            Self::Measured => (8.0, usual_span(points)),
            Self::Counted => return None,
        };
        (least > 0.0).then_some(SpikeRule { side: 7, spreads, least })
    }

    fn stands_ns(self) -> Option<i64> {
        match self {
            Self::Pv | Self::Battery | Self::Grid | Self::Consumption => Some(POWER_STANDS_NS),
            Self::Charge => Some(CHARGE_STANDS_NS),
            Self::Measured => Some(VALUE_STANDS_NS),
            Self::Counted => None,
        }
    }
}

/// A longer time without a point is a gap.
pub(super) fn longest_gap_ns(interval_ns: i64) -> i64 {
    interval_ns.saturating_mul(GAP_INTERVALS)
}

/// The rules for a field.
pub(super) fn of_field(
    role: Role,
    points: &[(Timestamp, f64)],
    interval_ns: i64,
    rated: Option<Rated>,
    rests: Vec<Rest>,
    asleep: Vec<Range<Timestamp>>,
) -> FieldChecks {
    let longest_gap_ns = longest_gap_ns(interval_ns);
    let stuck = role.stands_ns().map(|stands_ns| StuckRule {
        longest_ns: stands_ns.max(interval_ns.saturating_mul(STANDS_INTERVALS)),
        max_gap_ns: longest_gap_ns,
    });
    FieldChecks {
        interval_ns,
        longest_gap_ns,
        asleep,
        limits: role.limits(rated),
        stuck,
        rests,
        spikes: role.spikes(rated, points),
    }
}

/// The rules for a plant.
pub(super) fn of_plant(interval_ns: i64) -> PlantChecks {
    let gap_ns = longest_gap_ns(interval_ns);
    PlantChecks {
        balance: BalanceTolerance {
            absolute_w: 150.0,
            share: 0.1,
            shortest_ns: (5 * MINUTE_NS).max(interval_ns.saturating_mul(3)),
        },
        sign_window_ns: (30 * MINUTE_NS).max(interval_ns.saturating_mul(3)),
        max_gap_ns: gap_ns,
        clock_step_ns: MINUTE_NS,
    }
}

/// Where a field may stand still. `battery` is the power of the battery.
pub(super) fn rests(
    role: Role,
    range: &Range<i64>,
    home: &Zone,
    battery: &[(Timestamp, f64)],
    max_gap_ns: i64,
) -> Vec<Rest> {
    let anywhere = |low, high| Rest { low, high, within: None };
    match role {
        Role::Pv => vec![Rest { low: 0.0, high: 0.0, within: Some(dark(range, home)) }],
        // A battery that is full, empty or not wanted.
        Role::Battery => vec![anywhere(0.0, 0.0)],
        Role::Charge if battery.is_empty() => vec![anywhere(0.0, 100.0)],
        Role::Charge => {
            let still = ranges_where(battery, max_gap_ns, |power| power.abs() < MOVING_W);
            vec![anywhere(99.5, 100.0), Rest { low: 0.0, high: 100.0, within: Some(still) }]
        }
        // No rain, no fault.
        Role::Measured => vec![anywhere(0.0, 0.0)],
        Role::Grid | Role::Consumption | Role::Counted => Vec::new(),
    }
}

/// Where no light is expected, by the clock of the home.
pub(super) fn dark(range: &Range<i64>, home: &Zone) -> Vec<Range<Timestamp>> {
    let mut dark = Vec::new();
    let mut from = range.start;
    for day in days(range, home) {
        let noon = home.time_zone().to_datetime(jiff_time(day.start.midpoint(day.end))).date();
        let light = LIGHT_HOURS.start..LIGHT_HOURS.end;
        let (Some(start), Some(end)) =
            (instant(noon, light.start, home.time_zone()), instant(noon, light.end, home.time_zone()))
        else {
            continue;
        };
        if from < start {
            dark.push(Timestamp(from)..Timestamp(start));
        }
        from = from.max(end);
    }
    if from < range.end {
        dark.push(Timestamp(from)..Timestamp(range.end));
    }
    dark
}

fn instant(date: jiff::civil::Date, hour: i8, zone: &TimeZone) -> Option<i64> {
    let time = zone.to_timestamp(date.at(hour, 0, 0, 0)).ok()?;
    i64::try_from(time.as_nanosecond()).ok()
}

pub(super) fn jiff_time(ns: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_nanosecond(i128::from(ns)).expect("the years 1677 to 2262 are within -9999 to 9999")
}

/// The days of `zone` that meet `range`, cut by it.
pub(super) fn days(range: &Range<i64>, zone: &Zone) -> Vec<Range<i64>> {
    let rule = Aggregate { every: Some(Every::Days(1)), zone: zone.clone(), ..Aggregate::default() };
    let Some(buckets) = Buckets::new(&rule, range.clone()) else { return vec![range.clone()] };
    let mut days = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let end = buckets.of(at).end.min(range.end);
        days.push(at..end);
        at = end;
    }
    days
}

/// From the least to the greatest value, a hundredth of each left out.
fn usual_span(points: &[(Timestamp, f64)]) -> f64 {
    let mut values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    if values.is_empty() {
        return 0.0;
    }
    let mut at = |place: usize| *values.select_nth_unstable_by(place, f64::total_cmp).1;
    let last = points.len() - 1;
    let span = at(last - last / 100) - at(last / 100);
    if span.is_finite() { span } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn light_is_expected_from_ten_to_three_by_the_clock_of_the_home() {
        let warsaw = Zone::named("Europe/Warsaw").unwrap();
        let hour = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_nanosecond() as i64;
        // The clock goes forward on the 29th.
        let range = hour("2026-03-27T23:00:00Z")..hour("2026-03-29T22:00:00Z");
        let found: Vec<(i64, i64)> =
            dark(&range, &warsaw).iter().map(|dark| (dark.start.0, dark.end.0)).collect();
        let expected = [
            (range.start, hour("2026-03-28T09:00:00Z")),
            (hour("2026-03-28T14:00:00Z"), hour("2026-03-29T08:00:00Z")),
            (hour("2026-03-29T13:00:00Z"), range.end),
        ];
        assert_eq!(found, expected);
        assert_eq!(days(&range, &warsaw).len(), 2);
        assert_eq!(days(&(range.start + 1..range.end - 1), &warsaw).len(), 2);
    }

    #[test]
    fn a_span_leaves_out_the_hundredth_at_both_ends() {
        let points: Vec<(Timestamp, f64)> = (0..101).map(|i| (Timestamp(i), (100 - i) as f64)).collect();
        assert_eq!(usual_span(&points), 98.0);
        assert_eq!((usual_span(&points[..1]), usual_span(&[])), (0.0, 0.0));
        assert_eq!(usual_span(&[(Timestamp(0), -f64::MAX), (Timestamp(1), f64::MAX)]), 0.0);
    }
}
