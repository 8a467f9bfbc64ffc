//! Durations as people write them in a configuration.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A length of time written with its unit: `500ms`, `10s`, `10m`, `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Interval(pub Duration);

/// A text that is no [`Interval`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no duration: write a whole number and a unit (ms, s, m, h), as in 10s")]
pub struct InvalidInterval(pub String);

impl Interval {
    /// So many whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// So many whole milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }
}

impl std::str::FromStr for Interval {
    type Err = InvalidInterval;

    fn from_str(text: &str) -> Result<Self, InvalidInterval> {
        let invalid = || InvalidInterval(text.to_owned());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| invalid())?;
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(invalid()),
        };
        number.checked_mul(unit_ms).map(Self::from_millis).ok_or_else(invalid)
    }
}

impl TryFrom<String> for Interval {
    type Error = InvalidInterval;

    fn try_from(text: String) -> Result<Self, InvalidInterval> {
        text.parse()
    }
}

impl From<Interval> for String {
    fn from(interval: Interval) -> Self {
        interval.to_string()
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0.as_millis();
        match () {
            () if ms == 0 => f.write_str("0s"),
            () if ms.is_multiple_of(3_600_000) => write!(f, "{}h", ms / 3_600_000),
            () if ms.is_multiple_of(60_000) => write!(f, "{}m", ms / 60_000),
            () if ms.is_multiple_of(1_000) => write!(f, "{}s", ms / 1_000),
            () => write!(f, "{ms}ms"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_show_the_largest_whole_unit() {
        for text in ["0s", "500ms", "1500ms", "10s", "10m", "1h", "90m"] {
            assert_eq!(text.parse::<Interval>().unwrap().to_string(), text);
        }
    }
}
