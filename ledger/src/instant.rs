//! Instants in JSON: RFC 3339 in UTC, any offset understood.

use serde::{Deserialize as _, Deserializer, Serializer};
use wattlog_model::Timestamp;

/// The instant as text, to the nanosecond where it has one.
pub(crate) fn text(at: Timestamp) -> String {
    // Every i64 of nanoseconds is an instant of jiff.
    jiff::Timestamp::from_nanosecond(i128::from(at.0)).map(|at| at.to_string()).unwrap_or_default()
}

pub(crate) fn parse(text: &str) -> Result<Timestamp, String> {
    let told =
        text.parse::<jiff::Timestamp>().map_err(|error| format!("{text:?} is no RFC 3339 time: {error}"))?;
    let ns = i64::try_from(told.as_nanosecond())
        .map_err(|_| format!("{text:?} is outside the years 1678 to 2261"))?;
    Timestamp::from_units(ns, 1).map_err(|_| format!("{text:?} is outside the years 1678 to 2261"))
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
pub(crate) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(*at))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// The same for an instant that may be unknown: null.
pub(crate) mod maybe {
    use super::{parse, text};
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use wattlog_model::Timestamp;

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(crate) fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        at.map(text).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        let told = Option::<String>::deserialize(deserializer)?;
        told.map(|told| parse(&told)).transpose().map_err(serde::de::Error::custom)
    }
}
