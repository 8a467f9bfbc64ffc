//! When power is a session: thresholds, times, and their checks.

use super::{Kind, Sample};
use serde::{Deserialize, Serialize};

const SECOND_NS: i64 = 1_000_000_000;

/// Power at which something starts, and below which it stops; W, `start >= stop > 0`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// On at or above.
    pub start_w: f64,
    /// Off below.
    pub stop_w: f64,
}

impl Thresholds {
    fn reached(self, power_w: f64, was_on: bool) -> bool {
        power_w >= if was_on { self.stop_w } else { self.start_w }
    }

    fn is_sound(self) -> bool {
        self.start_w.is_finite() && self.stop_w > 0.0 && self.start_w >= self.stop_w
    }
}

/// Rules of detection. Checked whenever they are read or used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    /// Power of the battery, in the direction of the kind.
    pub battery: Thresholds,
    /// Export; for selling only.
    pub export: Thresholds,
    /// Shorter ones are no sessions; at least 1.
    pub min_duration_ns: i64,
    /// Longest pause within a session; 0 or more.
    pub merge_pause_ns: i64,
    /// Readings further apart are not joined; at least 1.
    pub max_gap_ns: i64,
    /// How long a price holds if no other follows; at least 1.
    pub price_max_age_ns: i64,
}

impl Default for Params {
    /// 200 / 100 W for both, 2 min, pauses of 5 min, gaps of 15 min (a home polled every 5 min is joined), prices of an
    /// hour.
    fn default() -> Self {
        let thresholds = Thresholds { start_w: 200.0, stop_w: 100.0 };
        Self {
            battery: thresholds,
            export: thresholds,
            min_duration_ns: 120 * SECOND_NS,
            merge_pause_ns: 300 * SECOND_NS,
            max_gap_ns: 900 * SECOND_NS,
            price_max_age_ns: 3600 * SECOND_NS,
        }
    }
}

/// Rules without sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("rules of sessions: {problem}")]
pub struct InvalidParams {
    /// What is wrong, and what to do.
    pub problem: &'static str,
}

impl Params {
    /// Checks them.
    ///
    /// # Errors
    /// [`InvalidParams`] for thresholds that are no numbers, not above 0 or crossed, and times that are negative, zero
    /// where that has no sense, or longer than 366 days.
    pub fn check(&self) -> Result<(), InvalidParams> {
        let longest = 366 * 86_400 * SECOND_NS;
        let span = |ns: i64, least: i64| (least..=longest).contains(&ns);
        let problem = if !self.battery.is_sound() || !self.export.is_sound() {
            "a start threshold must be a number at or above its stop threshold, and that above 0 W"
        } else if !span(self.min_duration_ns, 1) {
            "min_duration_ns must be at least 1 and at most 366 days"
        } else if !span(self.merge_pause_ns, 0) {
            "merge_pause_ns must be at least 0 and at most 366 days"
        } else if !span(self.max_gap_ns, 1) {
            "max_gap_ns must be at least 1 and at most 366 days"
        } else if !span(self.price_max_age_ns, 1) {
            "price_max_age_ns must be at least 1 and at most 366 days"
        } else {
            return Ok(());
        };
        Err(InvalidParams { problem })
    }

    /// How far a sample can reach: no run begins or ends, and no pause is bridged, over more than this.
    pub(super) fn reach_ns(&self) -> i64 {
        // Both are at most 366 days.
        self.merge_pause_ns + self.max_gap_ns
    }
}

impl Kind {
    /// Power of the battery in the direction of the kind, if the sample is a reading of it.
    pub(super) fn power_w(self, sample: &Sample) -> Option<f64> {
        match self {
            Self::Charging => sample.battery_w.map(|power| -power),
            Self::Selling => sample.grid_w.and(sample.battery_w),
        }
    }

    /// Whether the sample can be on, whatever was before it. Prices count between readings that are joined to such a one, and in
    /// pauses between them.
    pub fn can_be_on(self, params: &Params, sample: &Sample) -> bool {
        self.is_on(params, sample, true)
    }

    /// Whether a reading is on.
    pub(super) fn is_on(self, params: &Params, sample: &Sample, was_on: bool) -> bool {
        let battery = self.power_w(sample).is_some_and(|power| params.battery.reached(power, was_on));
        match self {
            Self::Charging => battery,
            Self::Selling => {
                battery && sample.grid_w.is_some_and(|power| params.export.reached(power, was_on))
            }
        }
    }

    /// The price that its grid part is counted with.
    pub(super) fn price(self, sample: &Sample) -> Option<f64> {
        match self {
            Self::Charging => sample.import_price_pln_kwh,
            Self::Selling => sample.export_price_pln_kwh,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_without_sense_are_refused() {
        let good = Params::default();
        assert_eq!(good.check(), Ok(()));
        let crossed = Thresholds { start_w: 100.0, stop_w: 200.0 };
        let zero = Thresholds { start_w: 0.0, stop_w: 0.0 };
        let nan = Thresholds { start_w: f64::NAN, stop_w: 1.0 };
        for bad in [
            Params { battery: crossed, ..good },
            Params { export: zero, ..good },
            Params { battery: nan, ..good },
            Params { min_duration_ns: 0, ..good },
            Params { merge_pause_ns: -1, ..good },
            Params { max_gap_ns: 0, ..good },
            Params { price_max_age_ns: i64::MAX, ..good },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_part_of_the_rules_may_be_written() {
        let params: Params = serde_json::from_str(r#"{"merge_pause_ns": 5}"#).unwrap();
        assert_eq!(params, Params { merge_pause_ns: 5, ..Params::default() });
        assert!(serde_json::from_str::<Params>(r#"{"merge": 5}"#).is_err());
    }
}
