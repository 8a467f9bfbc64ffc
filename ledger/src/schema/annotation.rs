//! What a person wants to remember of a moment.

use super::{check_device, check_end, check_name};
use crate::record::{Invalid, record};
use wattlog_model::Timestamp;

record! {
    /// A remark on a moment or a range.
    pub struct Annotation in "annotations"
    key [] time "start_ns" filters ["device_id", "title"] history true
    {
        /// The moment, or where the range begins.
        #[serde(with = "crate::instant")] start: Timestamp => "start_ns",
        /// Where the range ends.
        #[serde(default, with = "crate::instant::maybe")] end: Option<Timestamp> => "end_ns",
        /// In a few words.
        title: String => "title",
        /// In more.
        #[serde(default)] text: String => "text",
        /// As in the tag `device_id`.
        #[serde(default)] device_id: Option<String> => "device_id",
        /// Words to find it by.
        #[serde(default)] tags: Vec<String> => "tags",
    }
}

impl Annotation {
    fn check_meaning(&self) -> Result<(), Invalid> {
        check_name("title", &self.title)?;
        check_device(self.device_id.as_deref())?;
        check_end("end", self.start, self.end)
    }
}
