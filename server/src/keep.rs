//! For how long points are kept, in the words of InfluxDB: `30d`, `2d12h`, `52w`, `inf`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use wattlog_engine::{Options, Rule};

/// A retention; none is for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Keep(Option<Duration>);

/// A text that is no retention.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKeep {
    /// It cannot be read.
    #[error(
        "{0:?} is no retention: write `inf`, or whole numbers with their units (w, d, h, m, s), as in 30d or 2d12h"
    )]
    NotUnderstood(String),
    /// It is shorter than [`Keep::LEAST`].
    #[error("{0:?} is too short a retention: at least 2d")]
    TooShort(String),
}

const UNITS: [(&str, u64); 8] = [
    ("w", 7 * 24 * 3600 * 1_000_000_000),
    ("d", 24 * 3600 * 1_000_000_000),
    ("h", 3600 * 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl Keep {
    /// Kept for ever.
    pub const FOREVER: Self = Self(None);
    /// The shortest that the store takes, 2 d.
    pub const LEAST: Duration = Options::MIN_RETENTION;

    /// The rule of the store that it means.
    pub fn rule(self) -> Rule {
        match self.0 {
            None => Rule::Forever,
            Some(time) => Rule::Keep { ns: u64::try_from(time.as_nanos()).unwrap_or(u64::MAX) },
        }
    }

    /// What a rule of the store is called; none for one that is its database's.
    pub fn of(rule: Rule) -> Option<Self> {
        match rule {
            Rule::Inherited => None,
            Rule::Forever => Some(Self::FOREVER),
            Rule::Keep { ns } => Some(Self(Some(Duration::from_nanos(ns)))),
        }
    }
}

impl FromStr for Keep {
    type Err = InvalidKeep;

    fn from_str(text: &str) -> Result<Self, InvalidKeep> {
        if text.eq_ignore_ascii_case("inf") {
            return Ok(Self::FOREVER);
        }
        let invalid = || InvalidKeep::NotUnderstood(text.to_owned());
        let (mut total, mut rest) = (0_u64, text);
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (number, behind) = rest.split_at(digits);
            let letters = behind.bytes().take_while(u8::is_ascii_alphabetic).count();
            let (unit, after) = behind.split_at(letters);
            let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(invalid)?;
            let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
            total = part.and_then(|part| total.checked_add(part)).ok_or_else(invalid)?;
            rest = after;
        }
        let time = Duration::from_nanos(total);
        match text {
            "" => Err(invalid()),
            _ if time < Self::LEAST => Err(InvalidKeep::TooShort(text.to_owned())),
            _ => Ok(Self(Some(time))),
        }
    }
}

impl TryFrom<String> for Keep {
    type Error = InvalidKeep;

    fn try_from(text: String) -> Result<Self, InvalidKeep> {
        text.parse()
    }
}

impl From<Keep> for String {
    fn from(keep: Keep) -> Self {
        keep.to_string()
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(time) = self.0 else { return f.write_str("inf") };
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // The last unit divides every number.
        let (name, factor) =
            UNITS.iter().find(|(_, factor)| ns.is_multiple_of(*factor)).unwrap_or(&("ns", 1));
        write!(f, "{}{name}", ns / factor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_influxdb_writes_them() {
        for (text, shown) in [
            ("inf", "inf"),
            ("INF", "inf"),
            ("30d", "30d"),
            ("720h0m0s", "30d"),
            ("52w", "52w"),
            ("2d1h30m", "2970m"),
            ("172800s", "2d"),
            ("172800001ms", "172800001ms"),
        ] {
            let keep: Keep = text.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(keep.to_string(), shown, "{text}");
            assert_eq!(Keep::of(keep.rule()), Some(keep));
        }
        for text in ["", "30", "d", "-1d", "1.5d", "30 d", "1y", "99999999999w", "infinite", "1h30"] {
            assert!(matches!(text.parse::<Keep>(), Err(InvalidKeep::NotUnderstood(_))), "{text}");
        }
        for text in ["0s", "59m", "1h30m", "47h59m", "172799999999999ns"] {
            assert!(matches!(text.parse::<Keep>(), Err(InvalidKeep::TooShort(_))), "{text}");
        }
    }
}
