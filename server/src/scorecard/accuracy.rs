//! How many of the newest points are faulty, by the quality report.

use super::Asked;
use std::ops::Range;
use wattlog_derived::energy::RAW;
use wattlog_derived::quality::{QualityRequest, report};
use wattlog_derived::series::Selection;
use wattlog_engine::Engine;
use wattlog_engine::query::{QueryControl, Zone};
use wattlog_model::Timestamp;

/// How far back points of devices are judged.
const ACCURACY_NS: i64 = 7 * Timestamp::DAY_NS;

/// What was judged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Accuracy {
    pub(crate) range: Range<Timestamp>,
    pub(crate) points: u64,
    pub(crate) faulty: u64,
    /// Stretches of time that could not be judged.
    pub(crate) unread: usize,
}

impl Accuracy {
    /// Judges `energy_data` of the last days; the error says why that cannot be.
    pub(super) fn of(
        engine: &Engine,
        asked: &Asked,
        home: &Zone,
        control: &QueryControl,
    ) -> Result<Self, String> {
        let range = Timestamp(asked.now.0.saturating_sub(ACCURACY_NS))..asked.now;
        let devices = asked.devices.iter().filter_map(|(device, interval)| {
            let interval_ns = i64::try_from(interval.as_nanos()).ok().filter(|ns| *ns > 0)?;
            Some((device.clone(), interval_ns))
        });
        let request = QualityRequest {
            selection: Selection {
                database: asked.database.clone(),
                measurement: RAW.to_owned(),
                tags: Vec::new(),
            },
            fields: None,
            range: range.start.0..range.end.0,
            zone: home.clone(),
            home: home.clone(),
            interval_ns: None,
            devices: devices.collect(),
            rated_w: None,
        };
        let found = report(engine, &request, control).map_err(|error| error.to_string())?;
        let mut accuracy = Self { range, points: 0, faulty: 0, unread: 0 };
        for series in &found {
            // A field with a point or two is nothing to judge by.
            accuracy.unread += series.unread.iter().filter(|unread| unread.field.is_none()).count();
            for field in series.parts.iter().flat_map(|part| &part.fields) {
                let share = field.report.accuracy.as_ref().map_or(1.0, |share| share.value);
                accuracy.points += field.points;
                accuracy.faulty += ((1.0 - share) * field.points as f64).round() as u64;
            }
        }
        if accuracy.points == 0 {
            return Err(format!("no points of {RAW} in the last 7 days that can be judged"));
        }
        Ok(accuracy)
    }

    pub(crate) fn share(&self) -> f64 {
        1.0 - self.faulty as f64 / self.points as f64
    }
}
