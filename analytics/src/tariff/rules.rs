//! A tariff that was checked, as a table: 366 days x two kinds of day x 24 hours.

use super::definition::{
    Days, Distribution, KompasRates, MAX_PRICE_PLN_KWH, MAX_RULES, MAX_ZONES, MonthDay, Rule,
};
use super::{Kompas, TariffDefinition, TariffError};
use crate::calendar::instant;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use wattlog_model::Timestamp;

/// A definition that has been checked: it has a price for every hour of every day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "TariffDefinition", into = "TariffDefinition")]
pub struct Tariff {
    definition: TariffDefinition,
    schedule: Schedule,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Schedule {
    Clock {
        /// Name and price.
        zones: Vec<(String, f64)>,
        /// Index into `zones`, by day of a leap year (workday, then free day) and hour.
        table: Vec<[u8; 24]>,
    },
    Kompas(KompasRates),
}

/// What distribution costs at an instant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DistributionPrice<'t> {
    /// Name of the zone.
    pub zone: &'t str,
    /// PLN/kWh.
    pub pln_kwh: f64,
    /// True if the tariff goes by Kompas and no code was given, so that the price for "unknown" stands.
    pub assumed: bool,
}

impl Tariff {
    /// Checks a definition.
    ///
    /// # Errors
    /// [`TariffError::Definition`] and [`TariffError::Uncovered`] say what is wrong and what to do.
    pub fn new(definition: TariffDefinition) -> Result<Self, TariffError> {
        let refuse =
            |problem: String| TariffError::Definition { tariff: shortened(&definition.name), problem };
        if definition.name.is_empty() || definition.name.len() > 64 {
            return Err(refuse("the name must have 1 to 64 bytes".to_owned()));
        }
        let price = |what: &str, price: f64| {
            if price.is_finite() && price.abs() <= MAX_PRICE_PLN_KWH {
                return Ok(());
            }
            let limit = MAX_PRICE_PLN_KWH;
            Err(refuse(format!(
                "{what} costs {price}: a price is a number of PLN/kWh between -{limit} and {limit}"
            )))
        };
        price("sc_component_pln_kwh", definition.sc_component_pln_kwh)?;
        let schedule = match &definition.distribution {
            Distribution::Kompas(rates) => {
                for (name, rate) in Kompas::rates(rates) {
                    price(name, rate)?;
                }
                Schedule::Kompas(*rates)
            }
            Distribution::Clock { zones, rules } => {
                if zones.is_empty() || zones.len() > MAX_ZONES {
                    return Err(refuse(format!("{} zones: give 1 to {MAX_ZONES}", zones.len())));
                }
                if rules.len() > MAX_RULES {
                    return Err(refuse(format!("{} rules: give at most {MAX_RULES}", rules.len())));
                }
                for (name, rate) in zones {
                    if name.is_empty() || name.len() > 64 {
                        return Err(refuse("the name of a zone must have 1 to 64 bytes".to_owned()));
                    }
                    price(&format!("zone {name:?}"), *rate)?;
                }
                let zones: Vec<(String, f64)> =
                    zones.iter().map(|(name, rate)| (name.clone(), *rate)).collect();
                let mut named = Vec::with_capacity(rules.len());
                for rule in rules {
                    let zone = zones.iter().position(|(name, _)| *name == rule.zone);
                    let zone = zone.ok_or_else(|| {
                        refuse(format!(
                            "a rule names zone {:?}, which has no price under zones",
                            shortened(&rule.zone)
                        ))
                    })?;
                    if rule.hours.as_ref().is_some_and(Vec::is_empty) {
                        return Err(refuse(
                            "a rule has an empty list of hours: leave `hours` out for all hours".to_owned(),
                        ));
                    }
                    // At most MAX_ZONES.
                    named.push((rule, zone as u8));
                }
                let table = table(&definition.name, &named)?;
                Schedule::Clock { zones, table }
            }
        };
        Ok(Self { definition, schedule })
    }

    /// The definition it was made of.
    pub fn definition(&self) -> &TariffDefinition {
        &self.definition
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.definition.name
    }

    /// True if prices depend on the Kompas code of the hour.
    pub fn needs_kompas(&self) -> bool {
        matches!(self.schedule, Schedule::Kompas(_))
    }

    /// What distribution costs at `time` where clocks are those of `zone`. `kompas` is the code of the hour, if it is
    /// known; a tariff by the clock does not look at it.
    pub fn distribution(
        &self,
        time: Timestamp,
        zone: &TimeZone,
        kompas: Option<Kompas>,
    ) -> DistributionPrice<'_> {
        match &self.schedule {
            Schedule::Clock { .. } => {
                let local = zone.to_datetime(instant(time));
                self.by_clock(local.date(), local.hour().unsigned_abs())
            }
            Schedule::Kompas(rates) => by_kompas(rates, kompas),
        }
    }

    /// Price of a kilowatt-hour, PLN/kWh, at `time`: market price (PLN/MWh, as the exchange gives it) over 1000, the fixed
    /// component and distribution.
    pub fn total_pln_kwh(
        &self,
        market_pln_mwh: f64,
        time: Timestamp,
        zone: &TimeZone,
        kompas: Option<Kompas>,
    ) -> f64 {
        self.total_of(market_pln_mwh, self.distribution(time, zone, kompas).pln_kwh)
    }

    pub(super) fn total_of(&self, market_pln_mwh: f64, distribution_pln_kwh: f64) -> f64 {
        market_pln_mwh / 1000.0 + self.definition.sc_component_pln_kwh + distribution_pln_kwh
    }

    pub(super) fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The price of an hour of a date; for tariffs by the clock.
    pub(super) fn by_clock(&self, date: Date, hour: u8) -> DistributionPrice<'_> {
        match &self.schedule {
            Schedule::Kompas(rates) => by_kompas(rates, None),
            Schedule::Clock { zones, table } => {
                let day = MonthDay::new(date.month().unsigned_abs(), date.day().unsigned_abs());
                let day = day.expect("every date of the calendar is a day of a leap year");
                let free = usize::from(self.definition.holidays.is_free_day(date));
                let index = table[2 * day.index() + free][usize::from(hour)];
                let (name, price) = &zones[usize::from(index)];
                DistributionPrice { zone: name, pln_kwh: *price, assumed: false }
            }
        }
    }
}

/// The price of a code, or of none.
pub(super) fn by_kompas(rates: &KompasRates, kompas: Option<Kompas>) -> DistributionPrice<'static> {
    let (zone, pln_kwh) = Kompas::rate(rates, kompas);
    DistributionPrice { zone, pln_kwh, assumed: kompas.is_none() }
}

impl TryFrom<TariffDefinition> for Tariff {
    type Error = TariffError;

    fn try_from(definition: TariffDefinition) -> Result<Self, TariffError> {
        Self::new(definition)
    }
}

impl From<Tariff> for TariffDefinition {
    fn from(tariff: Tariff) -> Self {
        tariff.definition
    }
}

/// Zone of each hour by the first rule that fits.
fn table(tariff: &str, rules: &[(&Rule, u8)]) -> Result<Vec<[u8; 24]>, TariffError> {
    let mut table = Vec::with_capacity(2 * MonthDay::COUNT);
    for day in MonthDay::all() {
        for kind in [Days::Workday, Days::FreeDay] {
            let of_day: Vec<&(&Rule, u8)> = rules
                .iter()
                .filter(|(rule, _)| rule.days == Days::Every || rule.days == kind)
                .filter(|(rule, _)| rule.season.is_none_or(|season| season.contains(day)))
                .collect();
            let mut row = [0; 24];
            for (hour, place) in (0_u8..).zip(row.iter_mut()) {
                let fits = |rule: &Rule| {
                    rule.hours.as_ref().is_none_or(|ranges| ranges.iter().any(|range| range.contains(hour)))
                };
                let zone = of_day.iter().find(|(rule, _)| fits(rule)).map(|(_, zone)| *zone);
                *place = zone.ok_or_else(|| TariffError::Uncovered {
                    tariff: tariff.to_owned(),
                    month: day.month(),
                    day: day.day(),
                    kind: if kind == Days::Workday { "a workday" } else { "a free day" },
                    hour,
                })?;
            }
            table.push(row);
        }
    }
    Ok(table)
}

/// At most 64 characters, for messages.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}
