//! Lengths of time as people write them in a configuration: `500ms`, `10s`, `5m`, `24h`, `730d`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A length of time written with its unit. A day is 24 hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Interval(pub Duration);

/// A text that is no [`Interval`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no duration: write a whole number and a unit (ms, s, m, h, d), as in 10s")]
pub struct InvalidInterval(String);

/// Characters of a wrong text that an error repeats.
const SHOWN_CHARS: usize = 40;

impl Interval {
    /// So many whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// So many whole milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// In nanoseconds, as far as an instant can be apart from another.
    pub fn ns(self) -> i64 {
        i64::try_from(self.0.as_nanos()).unwrap_or(i64::MAX)
    }
}

impl std::str::FromStr for Interval {
    type Err = InvalidInterval;

    fn from_str(text: &str) -> Result<Self, InvalidInterval> {
        let invalid = || InvalidInterval(text.chars().take(SHOWN_CHARS).collect());
        let (number, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
        let number: u64 = number.parse().map_err(|_| invalid())?;
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
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
            // One day is said as everybody says it: 24h.
            () if ms.is_multiple_of(86_400_000) && ms > 86_400_000 => write!(f, "{}d", ms / 86_400_000),
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
    fn durations_are_read_and_show_their_largest_whole_unit() {
        for text in ["0s", "500ms", "1500ms", "10s", "10m", "1h", "90m", "24h", "25h", "2d", "730d"] {
            assert_eq!(text.parse::<Interval>().unwrap().to_string(), text);
        }
        for (text, shown) in [("3600s", "1h"), ("1d", "24h"), ("168h", "7d")] {
            assert_eq!(text.parse::<Interval>().unwrap().to_string(), shown);
        }
        assert_eq!("730d".parse::<Interval>().unwrap().ns(), 730 * 86_400_000_000_000);
        assert_eq!("18446744073709551615ms".parse::<Interval>().unwrap().ns(), i64::MAX);
    }

    #[test]
    fn other_texts_are_refused() {
        let wrong = ["", "10", "s", "-1s", "1.5s", "1w", "99999999999999999999s", "18446744073709551615h"];
        for text in wrong {
            assert!(text.parse::<Interval>().is_err(), "{text}");
        }
        assert!("x".repeat(1000).parse::<Interval>().unwrap_err().to_string().len() < 200);
    }
}
