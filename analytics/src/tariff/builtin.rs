//! The tariffs of a Polish household that are known by name.
//!
//! Prices are those of the optimiser that wattlog takes over from, net, of 2025. Two things are as they are there, not
//! as the price list of a supplier has them: `g12w` has its peak on every day (the weekend rule is not in the prices that
//! are to be compared), and `g13` has no rates. Both can be written out as a definition; see [`super::TariffDefinition`].

use super::definition::{Days, Distribution, HourRange, KompasRates, MonthDay, Rule, Season};
use super::{Holidays, SC_COMPONENT_PLN_KWH, Tariff, TariffDefinition, TariffError};

/// Names that [`builtin`] knows.
pub const BUILTIN_NAMES: [&str; 6] = ["g11", "g12", "g12w", "g12as", "g13s", "g14dynamic"];

/// The tariff of that name.
///
/// # Errors
/// [`TariffError::NoRates`] for `g13`, [`TariffError::UnknownTariff`] for a name that is none.
pub fn builtin(name: &str) -> Result<Tariff, TariffError> {
    let distribution = match name {
        "g11" => clock(&[("all", 0.3125)], vec![rule("all")]),
        "g12" => {
            clock(&[("peak", 0.3566), ("off", 0.0749)], vec![at("peak", &[(7, 13), (15, 22)]), rule("off")])
        }
        "g12w" => clock(&[("peak", 0.3566), ("off", 0.0749)], vec![at("peak", &[(6, 22)]), rule("off")]),
        "g12as" => clock(&[("peak", 0.3125), ("off", 0.0312)], vec![at("peak", &[(7, 13)]), rule("off")]),
        "g13s" => g13s(),
        "g14dynamic" => Distribution::Kompas(KompasRates {
            recommended_use: 0.0145,
            normal: 0.0578,
            recommended_saving: 0.4339,
            required_limiting: 2.8931,
            unknown: 0.0578,
        }),
        "g13" => return Err(TariffError::NoRates { name: name.to_owned() }),
        _ => {
            let name = name.chars().take(64).collect();
            return Err(TariffError::UnknownTariff { name, known: BUILTIN_NAMES.join(", ") });
        }
    };
    Tariff::new(TariffDefinition {
        name: name.to_owned(),
        sc_component_pln_kwh: SC_COMPONENT_PLN_KWH,
        holidays: Holidays::Poland,
        distribution,
    })
}

fn g13s() -> Distribution {
    let summer = season((4, 1), (9, 30));
    let winter = season((10, 1), (3, 31));
    let workday = |part: Option<Season>, zone: &str, hours: &[(u8, u8)]| Rule {
        season: part,
        days: Days::Workday,
        ..at(zone, hours)
    };
    clock(
        &[
            ("free_day", 0.110),
            ("summer_peak", 0.290),
            ("summer_day", 0.100),
            ("winter_peak", 0.340),
            ("winter_day", 0.200),
            ("night", 0.110),
        ],
        vec![
            Rule { days: Days::FreeDay, ..rule("free_day") },
            workday(summer, "summer_peak", &[(7, 9), (17, 21)]),
            workday(summer, "summer_day", &[(9, 17)]),
            workday(winter, "winter_peak", &[(7, 10), (15, 21)]),
            workday(winter, "winter_day", &[(10, 15)]),
            workday(None, "night", &[(21, 7)]),
        ],
    )
}

fn clock(zones: &[(&str, f64)], rules: Vec<Rule>) -> Distribution {
    let zones = zones.iter().map(|(name, price)| ((*name).to_owned(), *price)).collect();
    Distribution::Clock { zones, rules }
}

/// All hours of all days.
fn rule(zone: &str) -> Rule {
    Rule { season: None, days: Days::Every, hours: None, zone: zone.to_owned() }
}

/// These hours of all days.
fn at(zone: &str, hours: &[(u8, u8)]) -> Rule {
    let hours = hours.iter().filter_map(|(from, to)| HourRange::new(*from, *to)).collect();
    Rule { hours: Some(hours), ..rule(zone) }
}

fn season(from: (u8, u8), to: (u8, u8)) -> Option<Season> {
    let day = |(month, day)| MonthDay::new(month, day);
    Some(Season { from: day(from)?, to: day(to)? })
}
