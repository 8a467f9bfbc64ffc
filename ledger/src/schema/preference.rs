//! What somebody likes to have: units, first page, language.

use super::check_name;
use crate::record::{Invalid, record};
use serde_json::Value;

record! {
    /// One wish of one owner.
    pub struct Preference in "preferences"
    key ["owner", "name"] time "created_ns" filters ["owner", "name"] history true
    {
        /// Name of a user; empty for the household.
        #[serde(default)] owner: String => "owner",
        /// What it is about.
        name: String => "name",
        /// Any JSON.
        value: Value => "value",
    }
}

impl Preference {
    fn check_meaning(&self) -> Result<(), Invalid> {
        check_name("name", &self.name)?;
        if self.owner.is_empty() { Ok(()) } else { check_name("owner", &self.owner) }
    }
}
