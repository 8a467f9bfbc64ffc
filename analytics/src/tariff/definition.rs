//! A tariff as it is written down: zones with prices, and rules that choose the zone. Plain data, not yet checked.
//!
//! ```yaml
//! name: weekend
//! distribution:
//!   clock:
//!     zones: { peak: 0.3566, off: 0.0749 }
//!     rules:
//!       - { days: workday, hours: ["6-13", "15-22"], zone: peak }
//!       - { zone: off }
//! ```

use super::{Holidays, SC_COMPONENT_PLN_KWH};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Most zones of a tariff.
pub const MAX_ZONES: usize = 16;
/// Most rules of a tariff.
pub const MAX_RULES: usize = 64;
/// A price beyond this, either way, is a mistake in the unit (PLN/MWh for PLN/kWh).
pub const MAX_PRICE_PLN_KWH: f64 = 100.0;

/// A tariff as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TariffDefinition {
    /// Its name, 1 to 64 bytes.
    pub name: String,
    /// The part that no hour changes, PLN/kWh.
    #[serde(default = "sc_component")]
    pub sc_component_pln_kwh: f64,
    /// Which days besides Saturday and Sunday are free.
    #[serde(default)]
    pub holidays: Holidays,
    /// How the price of distribution is found.
    pub distribution: Distribution,
}

fn sc_component() -> f64 {
    SC_COMPONENT_PLN_KWH
}

/// How the price of distribution is found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Distribution {
    /// By the clock on the wall.
    Clock {
        /// Price of each zone, PLN/kWh.
        zones: BTreeMap<String, f64>,
        /// Which zone holds when; the first rule that fits counts.
        rules: Vec<Rule>,
    },
    /// By the code that the grid operator publishes for the hour (PSE Kompas).
    Kompas(KompasRates),
}

/// Prices by Kompas code, PLN/kWh.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KompasRates {
    /// Code 0.
    pub recommended_use: f64,
    /// Code 1.
    pub normal: f64,
    /// Code 2.
    pub recommended_saving: f64,
    /// Code 3.
    pub required_limiting: f64,
    /// Where no code is known.
    pub unknown: f64,
}

/// Gives hours a zone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Part of the year; all of it if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub season: Option<Season>,
    /// Kind of day.
    #[serde(default)]
    pub days: Days,
    /// Hours of the local clock; all of them if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Vec<HourRange>>,
    /// The zone these hours have.
    pub zone: String,
}

/// Kind of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Days {
    /// All days.
    #[default]
    Every,
    /// Monday to Friday, holidays left out.
    Workday,
    /// Saturday, Sunday, holiday.
    FreeDay,
}

/// Days of the year from one to another, both included; goes over New Year's Eve if `to` lies before `from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Season {
    /// First day.
    pub from: MonthDay,
    /// Last day.
    pub to: MonthDay,
}

impl Season {
    /// True if `day` lies in it.
    pub fn contains(self, day: MonthDay) -> bool {
        if self.from <= self.to {
            self.from <= day && day <= self.to
        } else {
            self.from <= day || day <= self.to
        }
    }
}

/// A day of the year without a year; written `04-01`. 29 February is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MonthDay {
    month: u8,
    day: u8,
}

/// Days of each month in a leap year.
const MONTH_DAYS: [u8; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

impl MonthDay {
    /// Days of a leap year.
    pub(super) const COUNT: usize = 366;

    /// Month 1..=12 and a day that this month has in a leap year.
    pub fn new(month: u8, day: u8) -> Option<Self> {
        let days = MONTH_DAYS.get(usize::from(month).checked_sub(1)?)?;
        (1..=*days).contains(&day).then_some(Self { month, day })
    }

    /// Month, 1..=12.
    pub fn month(self) -> u8 {
        self.month
    }

    /// Day of the month, 1..=31.
    pub fn day(self) -> u8 {
        self.day
    }

    /// Place in a leap year, 0..366.
    pub(super) fn index(self) -> usize {
        let before = &MONTH_DAYS[..usize::from(self.month) - 1];
        before.iter().map(|days| usize::from(*days)).sum::<usize>() + usize::from(self.day) - 1
    }

    /// All days of a leap year in order.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        (1..=12).flat_map(|month| (1..=31).filter_map(move |day| Self::new(month, day)))
    }
}

impl TryFrom<String> for MonthDay {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts = text.split_once('-').and_then(|(m, d)| Some((number(m)?, number(d)?)));
        parts
            .and_then(|(month, day)| Self::new(month, day))
            .ok_or_else(|| format!("{text:?} is no day of a year: write month and day, as 04-01"))
    }
}

impl From<MonthDay> for String {
    fn from(day: MonthDay) -> Self {
        day.to_string()
    }
}

impl fmt::Display for MonthDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}-{:02}", self.month, self.day)
    }
}

/// Hours of the local clock, start inclusive, end exclusive; written `7-13`. `21-7` are the hours from 21 to midnight and
/// from midnight to 7 of the same date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HourRange {
    from: u8,
    to: u8,
}

impl HourRange {
    /// `from` 0..=23, `to` 1..=24, not equal.
    pub fn new(from: u8, to: u8) -> Option<Self> {
        (from < 24 && (1..=24).contains(&to) && from != to).then_some(Self { from, to })
    }

    /// True if the hour `hour` of the clock lies in it.
    pub fn contains(self, hour: u8) -> bool {
        let (from, to) = (self.from, self.to);
        if from < to { (from..to).contains(&hour) } else { (from..24).contains(&hour) || hour < to }
    }
}

impl TryFrom<String> for HourRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts = text.split_once('-').and_then(|(from, to)| Some((number(from)?, number(to)?)));
        parts.and_then(|(from, to)| Self::new(from, to)).ok_or_else(|| {
            format!(
                "{text:?} is no range of hours: write the first hour and the end, as 7-13 or 21-7 (0 to 24)"
            )
        })
    }
}

impl From<HourRange> for String {
    fn from(hours: HourRange) -> Self {
        hours.to_string()
    }
}

impl fmt::Display for HourRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.from, self.to)
    }
}

/// One or two digits and nothing else.
fn number(text: &str) -> Option<u8> {
    let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}
