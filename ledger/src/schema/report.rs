//! What was reckoned for a day, a month, a year.

use super::{check_after, check_device, check_name};
use crate::record::{Invalid, record, words};
use serde_json::Value;
use wattlog_model::Timestamp;

words! {
    /// Where a report is from.
    pub enum ReportOrigin {
        /// Reckoned here.
        Computed = "computed",
        /// Read from the optimiser's files.
        Imported = "imported",
    }
}

record! {
    /// One report about one period.
    pub struct Report in "reports"
    key ["report_type", "device_id", "start_ns", "origin"] time "start_ns"
    filters ["report_type", "device_id", "origin"] history true
    {
        /// `daily`, `monthly`, `yearly`, `quality`, ...
        report_type: String => "report_type",
        /// Which device; empty for all.
        #[serde(default)] device_id: String => "device_id",
        /// Start of the period.
        #[serde(with = "crate::instant")] start: Timestamp => "start_ns",
        /// End of it, not part of it.
        #[serde(with = "crate::instant")] end: Timestamp => "end_ns",
        /// IANA name of the zone whose midnights part the periods.
        time_zone: String => "time_zone",
        /// The numbers.
        data: Value => "data",
        /// What it was reckoned from; other inputs make it due again.
        #[serde(default)] inputs: Option<String> => "inputs",
        /// Where it is from.
        origin: ReportOrigin => "origin",
    }
}

impl Report {
    fn check_meaning(&self) -> Result<(), Invalid> {
        check_name("report_type", &self.report_type)?;
        check_device(Some(self.device_id.as_str()).filter(|device| !device.is_empty()))?;
        check_name("time_zone", &self.time_zone)?;
        check_after("end", self.start, Some(self.end))
    }
}
