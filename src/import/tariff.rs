//! The optimiser's `electricity_tariff` as a tariff of ours: for the repair of stored prices, and as a record of the ledger.
//!
//! Promise: what the section says is taken as it says it; what it cannot say here is an error with the reason. Nothing is
//! taken from price lists instead.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};
use wattlog_analytics::tariff::Tariff;
use wattlog_ledger::schema::{self, Direction};
use wattlog_ledger::{Actor, Ledger, LedgerError, Listing};
use wattlog_model::Timestamp;

/// A tariff that the optimiser's settings describe.
#[derive(Debug, Clone)]
pub(crate) struct KnownTariff(Tariff);

/// What became of it in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LedgerTariff {
    Made,
    There,
}

impl KnownTariff {
    /// Reads the section `electricity_tariff`.
    ///
    /// # Errors
    /// What is missing, in a sentence.
    pub(super) fn of_section(section: &Value) -> Result<Self, String> {
        let name = section["tariff_type"].as_str().ok_or("electricity_tariff.tariff_type names none")?;
        let name = name.to_ascii_lowercase();
        let rates = &section["distribution_pricing"][name.as_str()];
        if !rates.is_object() {
            return Err(format!("electricity_tariff.distribution_pricing has no {name}"));
        }
        let distribution = match rates["type"].as_str() {
            Some("static") => flat(&name, rates)?,
            Some("time_based") => by_hour(rates)?,
            Some("seasonal_time_based") => by_season(rates)?,
            Some("kompas_based") => by_kompas(rates)?,
            other => return Err(format!("{name} has the unknown type {:?}", other.unwrap_or("none"))),
        };
        let mut definition = json!({ "name": name, "distribution": distribution });
        if let Some(component) = section["sc_component_pln_kwh"].as_f64() {
            definition["sc_component_pln_kwh"] = json!(component);
        }
        let tariff: Tariff = serde_json::from_value(definition).map_err(|error| error.to_string())?;
        Ok(Self(tariff))
    }

    pub(crate) fn name(&self) -> &str {
        self.0.name()
    }

    /// For the reader, which asks by the local clock.
    pub(super) fn in_zone(&self, zone: TimeZone) -> LocalTariff {
        LocalTariff { tariff: self.0.clone(), zone }
    }

    /// Puts it into the ledger as in force from `from` on, unless the same one is there.
    pub(super) async fn keep(
        &self,
        ledger: &Ledger,
        from: Timestamp,
        actor: &Actor,
    ) -> Result<LedgerTariff, LedgerError> {
        // The prices of a feed, and where it has none those that the optimiser kept.
        let market = [json!({ "source": "pse", "product": "csdac-pln" }), json!({ "source": "optimiser" })];
        let rules = serde_json::to_value(self.0.definition()).unwrap_or_default();
        let definition = json!({ "tariff": rules, "energy": { "market": market } });
        let mut listing = Listing::all().with_text("direction", "import").with_text("name", self.name());
        loop {
            let page = ledger.list::<schema::Tariff>(&listing).await?;
            if page.records.iter().any(|stored| stored.record.definition == definition) {
                return Ok(LedgerTariff::There);
            }
            let Some(next) = page.next else { break };
            listing.after = Some(next);
        }
        let tariff = schema::Tariff {
            name: self.name().to_owned(),
            direction: Direction::Import,
            valid_from: from,
            valid_until: None,
            currency: "PLN".to_owned(),
            definition,
            note: "from the optimiser's settings; in force since its first record, as far as is known"
                .to_owned(),
        };
        ledger.insert(tariff, actor).await.map(|_| LedgerTariff::Made)
    }
}

/// A tariff and whose clock its hours are of.
#[derive(Debug, Clone)]
pub(super) struct LocalTariff {
    tariff: Tariff,
    zone: TimeZone,
}

impl wattlog_migrate::Tariff for LocalTariff {
    fn added_pln_kwh(&self, local: DateTime) -> f64 {
        let instant = self.zone.to_ambiguous_zoned_datetime(local).compatible();
        let ns = instant.map_or(0, |instant| instant.timestamp().as_nanosecond());
        let at = Timestamp(i64::try_from(ns).unwrap_or(0));
        self.tariff.definition().sc_component_pln_kwh + self.tariff.distribution(at, &self.zone, None).pln_kwh
    }
}

fn flat(name: &str, rates: &Value) -> Result<Value, String> {
    let price = number(rates, "price")?;
    if price == 0.0 {
        return Err(format!("{name} has the price 0, which stood in for rates that nobody had filled in"));
    }
    Ok(json!({ "clock": { "zones": { "all": price }, "rules": [{ "zone": "all" }] } }))
}

fn by_hour(rates: &Value) -> Result<Value, String> {
    let prices = &rates["prices"];
    let zones = json!({ "peak": number(prices, "peak")?, "off": number(prices, "off_peak")? });
    let mut rules = Vec::new();
    for window in rates["off_peak_windows"].as_array().into_iter().flatten() {
        rules.push(json!({ "hours": [hours(window)?], "zone": "off" }));
    }
    rules.push(json!({ "hours": [hours(&rates["peak_hours"])?], "zone": "peak" }));
    rules.push(json!({ "zone": "off" }));
    Ok(json!({ "clock": { "zones": zones, "rules": rules } }))
}

fn by_kompas(rates: &Value) -> Result<Value, String> {
    let prices = &rates["prices"];
    let normal = number(prices, "normal_usage")?;
    Ok(json!({ "kompas": {
        "recommended_use": number(prices, "recommended_usage")?,
        "normal": normal,
        "recommended_saving": number(prices, "recommended_saving")?,
        "required_limiting": number(prices, "required_reduction")?,
        "unknown": rates["fallback_price"].as_f64().unwrap_or(normal),
    } }))
}

/// Free days flat; working days by season, by hour. The zone `day_peak_morning` has the price `day_peak`.
fn by_season(rates: &Value) -> Result<Value, String> {
    let prices = &rates["prices"];
    let mut zones = Map::new();
    zones.insert("free_day".to_owned(), json!(number(&prices["free_days"], "all_hours")?));
    let mut rules = vec![json!({ "days": "free_day", "zone": "free_day" })];
    let seasons = rates["seasons"].as_object().ok_or("no seasons")?;
    for (season, dates) in seasons {
        let day = |month: &str, day: &str| -> Result<String, String> {
            Ok(format!("{:02}-{:02}", whole(dates, month)?, whole(dates, day)?))
        };
        let part = json!({ "from": day("start_month", "start_day")?, "to": day("end_month", "end_day")? });
        let of_season = prices["working_days"][season.as_str()].as_object();
        let of_season = of_season.ok_or_else(|| format!("no prices of working days in {season}"))?;
        for (word, window) in dates["time_zones"].as_object().into_iter().flatten() {
            let fitting = of_season.iter().filter(|(price, _)| word.starts_with(price.as_str()));
            let (price_word, price) = fitting
                .max_by_key(|(price, _)| price.len())
                .ok_or_else(|| format!("no price for {word} in {season}"))?;
            let price =
                price.as_f64().ok_or_else(|| format!("the price of {word} in {season} is no number"))?;
            let zone = format!("{season}_{price_word}");
            zones.insert(zone.clone(), json!(price));
            rules.push(json!({ "season": part, "days": "workday", "hours": [hours(window)?], "zone": zone }));
        }
    }
    Ok(json!({ "clock": { "zones": zones, "rules": rules } }))
}

fn hours(window: &Value) -> Result<String, String> {
    Ok(format!("{}-{}", whole(window, "start")?, whole(window, "end")?))
}

fn number(section: &Value, key: &str) -> Result<f64, String> {
    section[key].as_f64().ok_or_else(|| format!("{key} is no number"))
}

fn whole(section: &Value, key: &str) -> Result<u64, String> {
    section[key]
        .as_u64()
        .filter(|number| *number < 100)
        .ok_or_else(|| format!("{key} is no hour, day or month"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use wattlog_migrate::{G12, Tariff as _};

    fn warsaw(section: &Value) -> LocalTariff {
        let zone = TimeZone::get("Europe/Warsaw").unwrap();
        KnownTariff::of_section(section).unwrap().in_zone(zone)
    }

    #[test]
    fn g12_of_the_settings_adds_what_the_reader_assumes() {
        let section = json!({ "tariff_type": "G12", "sc_component_pln_kwh": 0.0892, "distribution_pricing": { "g12": {
            "type": "time_based", "peak_hours": { "start": 7, "end": 22 }, "off_peak_windows": [{ "start": 13, "end": 15 }],
            "prices": { "peak": 0.3566, "off_peak": 0.0749 } } } });
        let (known, usual) = (warsaw(&section), G12::default());
        for hour in 0..24 {
            let local = date(2025, 11, 15).at(hour, 30, 0, 0);
            assert!((known.added_pln_kwh(local) - usual.added_pln_kwh(local)).abs() < 1e-12, "{hour}");
        }
    }

    #[test]
    fn a_season_has_its_own_hours_and_a_free_day_none() {
        let zones = json!({ "day_peak_morning": { "start": 7, "end": 10 }, "day_off_peak": { "start": 10, "end": 21 },
            "night": { "start": 21, "end": 7 } });
        let season = |from: u8, to: u8, last: u8| {
            json!({ "start_month": from, "start_day": 1, "end_month": to,
            "end_day": last, "time_zones": zones })
        };
        let section = json!({ "tariff_type": "g13s", "distribution_pricing": { "g13s": { "type": "seasonal_time_based",
            "seasons": { "summer": season(4, 9, 30), "winter": season(10, 3, 31) },
            "prices": { "free_days": { "all_hours": 0.11 }, "working_days": {
                "summer": { "day_peak": 0.29, "day_off_peak": 0.1, "night": 0.11 },
                "winter": { "day_peak": 0.34, "day_off_peak": 0.2, "night": 0.11 } } } } } });
        let tariff = warsaw(&section);
        for (day, hour, expected) in [
            (date(2025, 7, 1), 8, 0.29),
            (date(2025, 12, 2), 8, 0.34),
            (date(2025, 12, 2), 12, 0.2),
            (date(2025, 12, 2), 23, 0.11),
            // A Saturday.
            (date(2025, 12, 6), 8, 0.11),
        ] {
            let added = tariff.added_pln_kwh(day.at(hour, 0, 0, 0));
            assert!((added - 0.0892 - expected).abs() < 1e-12, "{day} {hour}: {added}");
        }
    }

    #[test]
    fn what_is_no_tariff_says_why() {
        for (section, reason) in [
            (json!({}), "names none"),
            (json!({ "tariff_type": "g11" }), "has no g11"),
            (
                json!({ "tariff_type": "g13", "distribution_pricing": { "g13": { "type": "static", "price": 0.0 } } }),
                "the price 0",
            ),
            (
                json!({ "tariff_type": "x", "distribution_pricing": { "x": { "type": "time_based", "prices": {} } } }),
                "peak is no number",
            ),
        ] {
            let told = KnownTariff::of_section(&section).unwrap_err();
            assert!(told.contains(reason), "{told}");
        }
    }
}
