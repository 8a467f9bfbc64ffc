//! The clock of a device against the time its readings were received.

use super::{MAX_FINDINGS, QualityError, check_order, median, rule};
use serde::{Deserialize, Serialize};
use wattlog_model::Timestamp;

/// What a device said the time was, and when it was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockReading {
    /// When it was received.
    pub received: Timestamp,
    /// What the clock of the device showed, as an instant (its zone settled by the reader).
    pub device: Timestamp,
}

/// The clock was set, or jumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockStep {
    /// When the first reading after it was received.
    pub received: Timestamp,
    /// By how much, in nanoseconds; + = forward.
    pub by_ns: i64,
}

/// How a clock goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockDrift {
    /// Median of device time less time of receipt, in seconds; + = the clock is ahead.
    pub offset_s: f64,
    /// Seconds a day that it gains (+) or loses, over the longest stretch without a step. None if that has fewer than
    /// eight readings.
    pub drift_s_per_day: Option<f64>,
    /// Steps, in order; the first 1000.
    pub steps: Vec<ClockStep>,
    /// Number of steps, those left out of the list included.
    pub step_count: u64,
    /// Number of readings.
    pub count: u64,
}

/// Offset, drift and steps of a clock from readings that rise in time of receipt; none without readings. A change of the
/// offset by more than `step_ns` from one reading to the next is a step (an hour at a change to summer time).
///
/// Drift is the median of the slopes between readings half the stretch apart: no few wild readings move it.
///
/// # Errors
/// See [`QualityError`].
pub fn clock_drift(readings: &[ClockReading], step_ns: i64) -> Result<Option<ClockDrift>, QualityError> {
    rule(step_ns > 0, "clock", "a step must be more than 0")?;
    check_order(readings.iter().map(|reading| reading.received))?;
    let offset = |reading: &ClockReading| reading.device.0.saturating_sub(reading.received.0);
    let mut offsets: Vec<f64> = readings.iter().map(|reading| offset(reading) as f64 / 1e9).collect();
    let Some(offset_s) = median(&mut offsets) else { return Ok(None) };

    let mut steps = Vec::new();
    let mut step_count = 0;
    let mut longest = 0..0;
    let mut start = 0;
    for (index, pair) in readings.windows(2).enumerate() {
        let by_ns = offset(&pair[1]).saturating_sub(offset(&pair[0]));
        if by_ns.unsigned_abs() > step_ns.unsigned_abs() {
            step_count += 1;
            if steps.len() < MAX_FINDINGS {
                steps.push(ClockStep { received: pair[1].received, by_ns });
            }
            longest = longer(longest, start..index + 1);
            start = index + 1;
        }
    }
    longest = longer(longest, start..readings.len());
    let steady = &readings[longest];
    let drift_s_per_day =
        if steady.len() < 8 { None } else { slope(steady, offset).map(|slope| slope * 86_400.0) };
    Ok(Some(ClockDrift { offset_s, drift_s_per_day, steps, step_count, count: readings.len() as u64 }))
}

fn longer(a: std::ops::Range<usize>, b: std::ops::Range<usize>) -> std::ops::Range<usize> {
    if b.len() > a.len() { b } else { a }
}

/// Seconds of offset per second.
fn slope(readings: &[ClockReading], offset: impl Fn(&ClockReading) -> i64) -> Option<f64> {
    let half = readings.len() / 2;
    let mut slopes: Vec<f64> = readings
        .iter()
        .zip(&readings[half..])
        .map(|(early, late)| {
            let run = late.received.0.saturating_sub(early.received.0);
            offset(late).saturating_sub(offset(early)) as f64 / run as f64
        })
        .collect();
    median(&mut slopes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000_000;

    /// Readings of `days`, one a minute, of a clock with whole seconds that gains two seconds a day.
    fn readings(days: i64, ahead_s: i64) -> Vec<ClockReading> {
        (0..days * 1440)
            .map(|minute| {
                let received = minute * 60 * SECOND;
                let device = received + ahead_s * SECOND + minute * 2 * SECOND / 1440;
                ClockReading { received: Timestamp(received), device: Timestamp(device / SECOND * SECOND) }
            })
            .collect()
    }

    #[test]
    fn offset_and_drift_of_a_clock_with_whole_seconds() {
        let drift = clock_drift(&readings(10, 30), 60 * SECOND).unwrap().unwrap();
        assert!((drift.offset_s - 39.5).abs() < 1.0, "{drift:?}");
        assert!((drift.drift_s_per_day.unwrap() - 2.0).abs() < 0.15, "{drift:?}");
        assert_eq!((drift.steps.len(), drift.count), (0, 14_400));
    }

    #[test]
    fn a_clock_that_is_set_has_a_step_and_its_drift_all_the_same() {
        let mut list = readings(10, 0);
        for reading in &mut list[9000..] {
            reading.device.0 += 3600 * SECOND;
        }
        let drift = clock_drift(&list, 60 * SECOND).unwrap().unwrap();
        assert_eq!(drift.steps, [ClockStep { received: list[9000].received, by_ns: drift.steps[0].by_ns }]);
        assert!((drift.steps[0].by_ns - 3600 * SECOND).abs() <= SECOND);
        assert!((drift.drift_s_per_day.unwrap() - 2.0).abs() < 0.3, "{drift:?}");
    }

    #[test]
    fn the_list_of_steps_is_bounded_and_their_count_is_of_all() {
        let mut list = readings(2, 0);
        for reading in list.iter_mut().step_by(2) {
            reading.device.0 += 3600 * SECOND;
        }
        let drift = clock_drift(&list, 60 * SECOND).unwrap().unwrap();
        assert_eq!((drift.steps.len(), drift.step_count), (MAX_FINDINGS, 2879));
    }

    #[test]
    fn few_readings_have_no_drift_and_none_have_nothing() {
        assert_eq!(clock_drift(&[], 1).unwrap(), None);
        assert_eq!(clock_drift(&readings(1, 0)[..7], 60 * SECOND).unwrap().unwrap().drift_s_per_day, None);
        assert!(clock_drift(&[], 0).is_err());
        let far = [
            ClockReading { received: Timestamp(i64::MIN), device: Timestamp(i64::MAX) },
            ClockReading { received: Timestamp(i64::MAX), device: Timestamp(i64::MIN) },
        ];
        assert_eq!(clock_drift(&far, 1).unwrap().unwrap().steps.len(), 1);
    }
}
