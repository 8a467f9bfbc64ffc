//! What a kilowatt-hour costs, and for how long it does.

use super::{check_after, check_currency, check_name, check_object, usual_currency};
use crate::record::{Invalid, record, words};
use serde_json::Value;
use wattlog_model::Timestamp;

words! {
    /// Which way the energy goes.
    pub enum Direction {
        /// From the grid.
        Import = "import",
        /// To the grid.
        Export = "export",
    }
}

record! {
    /// A tariff and when it holds; two of one direction never hold at once.
    pub struct Tariff in "tariffs"
    key [] time "valid_from_ns" filters ["name", "direction"] history true
    {
        /// `g12`, or one's own.
        name: String => "name",
        /// Which way the energy goes.
        direction: Direction => "direction",
        /// First instant.
        #[serde(with = "crate::instant")] valid_from: Timestamp => "valid_from_ns",
        /// End of it, not part of it; none: until further notice.
        #[serde(default, with = "crate::instant::maybe")] valid_until: Option<Timestamp> => "valid_until_ns",
        /// ISO 4217.
        #[serde(default = "usual_currency")] currency: String => "currency",
        /// Its rules, a JSON object.
        definition: Value => "definition",
        /// For people.
        #[serde(default)] note: String => "note",
    }
}

impl Tariff {
    fn check_meaning(&self) -> Result<(), Invalid> {
        check_name("name", &self.name)?;
        check_currency(&self.currency)?;
        check_object("definition", &self.definition)?;
        check_after("valid_until", self.valid_from, self.valid_until)
    }

    /// True if it holds at `at`.
    pub fn holds_at(&self, at: Timestamp) -> bool {
        self.valid_from <= at && self.valid_until.is_none_or(|end| at < end)
    }
}
